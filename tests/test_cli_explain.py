"""``qspinn explain`` and the tables of an exploration, as people read them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cli_runs import Run
from explorations import PLAN, exploration
from qspinn.explore import files
from qspinn.explore.result import Exploration
from qspinn.output import write_folder
from qspinn.report import exploration as pages

MADE = exploration()


@pytest.fixture
def explain(qspinn: Run) -> Run:
    return lambda *args: qspinn("explain", *args)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("explain") / "out"
    write_folder(place, files.render(MADE, PLAN, draw=False), {"name": "mnist"})
    return place


def test_it_says_what_the_next_narrower_one_would_break(explain: Run, folder: Path) -> None:
    code, out, err = explain(folder, "fc1.weight")
    assert (code, out) == (0, "")
    row = next(a for a in MADE.attribution if a.knob == "fc1.weight")
    assert row.next_cost is not None
    assert row.cost is not None
    assert "fc1.weight: 4 (s4f0 nearest_even saturate free)" in err
    assert f"costs {100 * row.cost.value:.2f} pt" in err
    assert f"3 would cost {100 * row.next_cost.value:.2f} pt and save {row.saved} B" in err
    assert "1.50 pt are allowed" in err
    marked = [line.split() for line in err.splitlines() if line.startswith("▶")]
    assert [line[1] for line in marked] == ["4", "nearest_even"]
    assert "fc1.weight:rounding: nearest_even" in err


def test_json_has_it_all(explain: Run, folder: Path) -> None:
    code, out, _ = explain(folder, "lif1.v", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["plan"]["fmt"] == "s12f1"
    (choice,) = found["choices"]
    assert choice["option"] == "12"
    assert choice["verdict"]["breaks"] == "accuracy"
    assert choice["attribution"]["saved"] == 64
    assert [row["option"] for row in choice["curve"]] == ["24", "16", "12", "8"]
    assert found["limits"]["max_drop"] == 0.015


def test_below_the_output_of_compile(explain: Run, tmp_path: Path) -> None:
    content = files.render(MADE, "", draw=False)
    inside = {f"explore/{name}": part for name, part in content.items()}
    write_folder(tmp_path / "out", {"plan.txt": PLAN.encode(), **inside}, {"name": "mnist"})
    code, _, err = explain(tmp_path / "out", "lif1.v")
    assert code == 0
    assert "lif1.v: 12 (s12f1 floor saturate free)" in err


def test_a_path_that_was_not_explored(explain: Run, folder: Path) -> None:
    code, out, err = explain(folder, "fc9.weight")
    assert (code, out) == (2, "")
    assert "nothing was explored at fc9.weight" in err
    for path in ("fc1.weight", "lif1.v", "lif1.decay", "fc2.weight", "lif2.v"):
        assert path in err
    code, _, err = explain(folder, "lif1.threshold")
    assert code == 2
    assert "the plan has it as s12f1, shared, with lif1.v" in err


def test_a_folder_without_an_exploration(explain: Run, tmp_path: Path) -> None:
    code, _, err = explain(tmp_path, "fc1.weight")
    assert code == 2
    assert "holds no front.json" in err


def test_a_plan_that_cannot_be_read(explain: Run, tmp_path: Path) -> None:
    for name, part in files.render(MADE, "fc1.weight maybe\n", draw=False).items():
        (tmp_path / name).write_bytes(part)
    code, _, err = explain(tmp_path, "fc1.weight")
    assert code == 2
    assert "plan.txt: line 1" in err


# --- tables ---


def shown(value: Exploration) -> str:
    screen = Console(file=io.StringIO(), width=140)
    for table in pages.result(value):
        screen.print(table)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_the_result_in_tables() -> None:
    text = shown(MADE)
    assert MADE.winner is not None
    assert MADE.winner.memory is not None
    assert MADE.report is not None
    used = MADE.winner.memory.network
    (marked,) = (line.split() for line in text.splitlines() if line.startswith("▶"))
    assert marked[1:5] == [str(used), *map(str, MADE.winner.regions.values()),
                           f"{MADE.float_bytes / used:.2f}x"]  # fmt: skip
    for words in (
        "Front: 41 of 683 candidates measured, 17 of them not shown",
        f"407632 B, {MADE.float_bytes / used:.2f} times as much",
        MADE.report.accuracy.percent() + ", 900 samples",
        "at most 1.25 pt with 95 % confidence, 1.50 pt allowed",
        "warning: 900 samples cannot tell",
        "the winner of 683 candidates flatters itself by about 0.40 pt",
    ):
        assert words in text, words


def test_significance_begins_with_the_cheapest_bytes() -> None:
    lines = shown(MADE).partition("Significance")[2].partition("Selected")[0].splitlines()
    prices = [float(line.split()[-2]) for line in lines[2:] if line.rstrip().endswith("pt")]
    assert prices == sorted(prices)
    assert len(prices) == 4
    assert all("B" not in line.split() for line in lines[-2:]), "what saves nothing comes last"


def test_results_with_less_in_them() -> None:
    empty = replace(MADE, entries=(), selected="", significance=(), attribution=(), report=None,
                    optimism=None, warnings=(), evaluations=0, complete=False)  # fmt: skip
    text = shown(empty)
    assert "no candidate that was measured meets the limits" in text
    assert "interrupted; this is the best of what was measured" in text
    active = replace(MADE, float_bytes_active=300_000)
    assert "300000 B without the dropped inputs, 5.86 times as much" in shown(active)
