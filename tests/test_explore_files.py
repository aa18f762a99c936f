"""What an exploration leaves behind, written and read back, and what it says of a choice."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorations import PLAN, exploration
from qspinn.errors import FrontendError, PlanError, QspinnError
from qspinn.explore import files
from qspinn.explore.result import (
    Attribution,
    Entry,
    Exploration,
    Limits,
    Memory,
    Part,
    Report,
    Significance,
    lost,
)
from qspinn.explore.space import Knob
from qspinn.explore.verdict import BREAKS, explain, verdict
from qspinn.output import write_folder
from qspinn.stats import Estimate

MADE = exploration()


def written(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in content.items():
        (folder / name).write_bytes(part)
    return folder


# --- there and back ---

words = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=9)
free = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30)
numbers = st.floats(-1, 1)
counts = st.integers(0, 10**12)
estimates = st.builds(Estimate, numbers, numbers, numbers, counts)
maybe_estimates = st.none() | estimates
memories = st.builds(Memory, counts, counts, counts)
mappings = st.dictionaries(words, words, max_size=3)
budgets = st.dictionaries(words, counts, max_size=3)
knobs = st.builds(Knob, words, words, free, st.lists(words, min_size=1).map(tuple), st.booleans())
entries = st.builds(
    Entry, words, mappings, free, counts, estimates, maybe_estimates, st.none() | numbers,
    st.booleans(), memories, budgets, st.none() | numbers, st.none() | numbers, st.booleans(), free,
) | st.builds(Entry, words, mappings, refused=free)  # fmt: skip
limits = st.builds(
    Limits, st.none() | numbers, st.floats(0.5, 0.999), budgets, st.none() | st.floats(0.001, 1e9)
)
explorations = st.builds(
    Exploration, free, free, free, free, counts,
    st.fixed_dictionaries({name: st.builds(Part, counts, free) for name in
                           ("calibrate", "select", "report")}),
    st.lists(knobs, max_size=3).map(tuple), estimates, counts, st.none() | counts, limits,
    st.lists(entries, max_size=5, unique_by=lambda e: e.digest).map(tuple),
    st.lists(st.builds(Significance, words, words, free, free, maybe_estimates, maybe_estimates,
                       st.none() | numbers, st.none() | counts), max_size=3).map(tuple),
    st.lists(st.builds(Attribution, words, words, free, free, free, maybe_estimates,
                       maybe_estimates, maybe_estimates, st.none() | numbers,
                       st.none() | st.integers(-99, 99), free), max_size=3).map(tuple),
    report=st.none() | st.builds(Report, estimates, estimates, estimates, numbers),
    optimism=st.none() | numbers, warnings=st.lists(free, max_size=2).map(tuple),
    evaluations=counts, samples=counts, complete=st.booleans(),
)  # fmt: skip


@settings(max_examples=60)
@given(explorations)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, value: Exploration
) -> None:
    measured = [e.digest for e in value.entries if e.accuracy]
    value = replace(value, selected=measured[0] if measured else "")
    content = files.render(value, "", draw=False)
    assert files.read(written(tmp_path_factory.mktemp("x"), content)) == value


def test_a_whole_exploration(tmp_path: Path) -> None:
    content = files.render(MADE, PLAN, draw=False)
    assert set(content) == {
        "front.json", "candidates.csv", "significance.csv", "order.csv",
        "attribution.csv", "plan.txt",
    }  # fmt: skip
    assert files.read(written(tmp_path, content)) == MADE
    steps = [line.split(",") for line in content["order.csv"].decode().splitlines()[1:]]
    prices = [float(loss) / int(saved) for _, _, _, saved, loss in steps]
    assert prices == sorted(prices)
    assert {step[0] for step in steps} <= {knob.name for knob in MADE.knobs}
    assert content["plan.txt"].decode() == PLAN
    assert all(b"\r" not in part and part.endswith(b"\n") for part in content.values())


def test_what_other_programs_find() -> None:
    content = files.render(MADE, PLAN, draw=False)
    front = json.loads(content["front.json"])
    assert front == files.summary(MADE) | json.loads(json.dumps(files.summary(MADE)))
    assert list(front) == sorted(front)
    assert front["winner"]["digest"] == front["selected"] == MADE.selected
    sizes = [row["network_bytes"] for row in front["front"]]
    right = [row["accuracy"]["value"] for row in front["front"]]
    assert (sizes, right) == (sorted(sizes), sorted(right))
    assert len(sizes) > 10
    assert front["parts"]["report"]["count"] == 900
    table = list(csv.DictReader(io.StringIO(content["candidates.csv"].decode())))
    assert len(table) == len(MADE.entries)
    (winner,) = (row for row in table if row["selected"] == "true")
    assert MADE.winner is not None
    assert winner["words:fc1.weight"] == MADE.winner.words["fc1.weight"]
    assert int(winner["network"]) == sum(int(winner[k]) for k in ("weights", "constants", "state"))
    assert int(winner["regions:flash"]) == MADE.winner.regions["flash"]
    assert float(winner["accuracy"]) == MADE.winner.accuracy.value  # type: ignore[union-attr]
    (refused,) = (row for row in table if row["refused"])
    assert (refused["accuracy"], refused["network"], refused["accuracy_samples"]) == ("", "", "")


def test_the_same_bytes_in_another_process() -> None:
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from explorations import PLAN, exploration\n"
        "from qspinn.explore import files\n"
        "made = files.render(exploration(), PLAN, draw=False)\n"
        "print(hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    seen = {
        subprocess.run(command, check=True, text=True, capture_output=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    winner = MADE.winner
    assert winner is not None
    assert winner.accuracy is not None
    typed = replace(winner.accuracy, value=np.float64(winner.accuracy.value))
    value = replace(MADE, entries=(replace(winner, accuracy=typed),))
    assert files.read(written(tmp_path, files.render(value, "", draw=False))) == value


# --- folders ---


def test_inside_the_output_of_compile(tmp_path: Path) -> None:
    content = files.render(MADE, PLAN, draw=False)
    inside = {f"explore/{name}": part for name, part in content.items()}
    write_folder(tmp_path / "out", {"net.h": b"", **inside}, {"name": "net"})
    assert files.read(tmp_path / "out") == MADE
    assert files.place(tmp_path / "out") == tmp_path / "out" / "explore"
    (tmp_path / "out" / "net.h").write_text("edited, which is not the explorer's to judge")
    assert files.read(tmp_path / "out") == MADE
    with (tmp_path / "out" / "explore" / "candidates.csv").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(FrontendError, match=r"explore/candidates\.csv not as qspinn wrote it"):
        files.read(tmp_path / "out")


def test_no_exploration_there(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match=r"holds no front\.json") as caught:
        files.read(tmp_path)
    assert "qspinn explore" in caught.value.hint


def spoilt(content: dict[str, bytes], how: str) -> dict[str, bytes]:
    front: dict[str, Any] = json.loads(content["front.json"])
    if how == "format":
        front["format"] = 99
    elif how == "lacks":
        del front["limits"]
    elif how == "type":
        front["seed"] = "three"
    elif how == "front":
        front["front"].pop()
    elif how == "winner":
        front["selected"] = "no one"
    content["front.json"] = json.dumps(front).encode()
    if how == "json":
        content["front.json"] = b"{"
    elif how == "missing":
        del content["significance.csv"]
    elif how == "cell":
        content["candidates.csv"] = content["candidates.csv"].replace(b",900,", b",many,", 1)
    elif how == "column":
        content["attribution.csv"] = content["attribution.csv"].replace(b"saved", b"sawed", 1)
    return content


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("format", "not of format 1"), ("lacks", "lacks 'limits'"), ("type", "'three' is no int"),
        ("front", "the fronts of"), ("winner", "no one is no candidate"), ("json", "Expecting"),
        ("missing", "No such file"), ("cell", "many"), ("column", "lacks 'saved'"),
    ],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, how: str, says: str) -> None:
    content = spoilt(files.render(MADE, PLAN, draw=False), how)
    with pytest.raises(QspinnError, match=says):
        files.read(written(tmp_path, content))


# --- the values themselves ---


def test_an_exploration_checks_itself() -> None:
    first = MADE.entries[0]
    with pytest.raises(QspinnError, match="entered twice"):
        replace(MADE, entries=(*MADE.entries, first))
    with pytest.raises(QspinnError, match="is no candidate"):
        replace(MADE, selected="0")
    with pytest.raises(QspinnError, match="calibrate, select, report"):
        replace(MADE, parts={})
    with pytest.raises(QspinnError, match="no memory or no accuracy"):
        replace(MADE, selected="f" * 64)  # it was refused


def test_a_part_is_its_samples_in_their_order() -> None:
    part = Part.of(np.array([3, 1, 2], np.int32))
    assert part == Part.of(np.array([3, 1, 2]))
    assert part.count == 3
    assert part.sha256 != Part.of(np.array([1, 2, 3])).sha256


def test_a_loss_is_a_gain_turned_round() -> None:
    assert lost(Estimate(-0.02, -0.03, 0.01, 50)) == Estimate(0.02, -0.01, 0.03, 50)
    assert str(lost(Estimate(0.0, 0.0, 0.0, 1)).value) == "0.0"


# --- verdicts ---

ROW = Attribution("fc1.weight", "weight", "lif1", "4", "3", Estimate(0.001, 0, 0.002, 9),
                  Estimate(0.011, 0, 0.02, 9), Estimate(0.012, 0, 0.02, 9), 0.018, 96)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "most", "breaks", "says"),
    [
        (ROW, 0.015, "accuracy", "3 would cost 1.10 pt and save 96 B: a drop of 1.20 pt, at most "
         "1.80 pt with 95 % confidence, where 1.50 pt are allowed"),
        (ROW, 0.018, "nothing", "3 would cost 1.10 pt and save 96 B: a drop of 1.20 pt, at most "
         "1.80 pt with 95 % confidence, within the limit on these samples"),
        (ROW, None, "nothing", "3 would cost 1.10 pt and save 96 B; no limit forbids it"),
        (replace(ROW, coarser=""), 0.015, "end", "nothing coarser than 4 was explored"),
        (replace(ROW, refused="lif1.v: 3 bits"), 0.015, "target", "3 is refused: lif1.v: 3 bits"),
        (replace(ROW, saved=0), 0.015, "memory", "3 would save no memory"),
        (replace(ROW, saved=-8), 0.015, "memory", "3 would save no memory (8 B more)"),
        (replace(ROW, next_cost=None), 0.015, "unknown", "3 was not measured beside the winner"),
    ],
)  # fmt: skip
def test_verdicts(row: Attribution, most: float | None, breaks: str, says: str) -> None:
    found = verdict(row, Limits(most))
    assert (found.breaks, found.words) == (breaks, says)
    assert breaks in BREAKS


def test_an_explanation_has_all_choices_at_a_path() -> None:
    width, rounding = explain(MADE, "fc1.weight")
    assert (width.knob.name, rounding.knob.name) == ("fc1.weight", "fc1.weight:rounding")
    assert MADE.winner is not None
    assert width.option == MADE.winner.words["fc1.weight"]
    assert tuple(row.option for row in width.curve) == width.knob.options
    (alone,) = explain(MADE, "fc1.weight:rounding")
    assert alone == rounding
    with pytest.raises(PlanError, match=r"nothing was explored at fc3\.weight") as caught:
        explain(MADE, "fc3.weight")
    assert "fc1.weight, lif1.v, lif1.decay, fc2.weight, lif2.v" in caught.value.hint


def test_an_explanation_without_a_winner() -> None:
    (found,) = explain(replace(MADE, selected="", attribution=()), "lif1.v")
    assert (found.option, found.attribution, found.verdict) == ("", None, None)
    assert len(found.curve) == 4
