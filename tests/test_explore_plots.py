"""The pictures of an exploration: what they show, and that their bytes are always the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from explorations import exploration
from qspinn.explore.result import Entry, Exploration, Limits
from qspinn.report import plots

MADE = exploration()
NAMES = {f"{name}.{form}" for name in ("front", "significance", "bits") for form in ("svg", "png")}


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return plots.draw(MADE)


def winner(value: Exploration = MADE) -> Entry:
    assert value.winner is not None
    return value.winner


def texts(axis: object) -> list[str]:
    return [text.get_text() for text in axis.texts]  # type: ignore[attr-defined]


def test_names_are_no_formulas() -> None:
    assert plots.draw(replace(MADE, network="a $^$ b")).keys() == NAMES


def test_all_are_drawn(drawn: dict[str, bytes]) -> None:
    assert set(drawn) == NAMES
    for name, content in drawn.items():
        if name.endswith("svg"):
            assert ET.fromstring(content).tag.endswith("svg")
            assert b"<dc:date>" not in content
        else:
            assert content.startswith(b"\x89PNG")
            assert b"tEXt" not in content, "neither a version nor a date"


def test_the_same_bytes_elsewhere_without_a_screen(drawn: dict[str, bytes], tmp_path: Path) -> None:
    """Another process, other hashes, another style, and nothing that would open a window."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\nbackend: TkAgg\n")
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from explorations import exploration\n"
        "from qspinn.report import plots\n"
        "made = plots.draw(exploration())\n"
        "assert not {'matplotlib.pyplot', 'tkinter'} & set(sys.modules)\n"
        "for name in sorted(made): print(name, hashlib.sha256(made[name]).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], check=True, text=True,
        capture_output=True, cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "DISPLAY"} | {"PYTHONHASHSEED": "3"},
    )  # fmt: skip
    here = [f"{name} {hashlib.sha256(drawn[name]).hexdigest()}" for name in sorted(drawn)]
    assert run.stdout.splitlines() == here


def test_the_front_is_a_staircase_with_its_limits() -> None:
    figure = plots.front(MADE)
    assert figure is not None
    network, flash, ram = figure.axes
    (stairs,) = (line for line in network.lines if line.get_drawstyle() == "steps-post")
    x, y = stairs.get_data()
    front = [(e.memory.network, 100 * e.accuracy.value) for e in MADE.front]  # type: ignore[union-attr]
    assert list(zip(x, y, strict=True))[:-1] == front
    assert (x[-1], y[-1]) == (max(e.memory.network for e in MADE.entries if e.memory), front[-1][1])
    levels = {line.get_ydata()[0] for line in network.lines if len(set(line.get_ydata())) == 1}
    assert {100 * MADE.baseline.value, 100 * MADE.baseline.value - 1.5} <= levels
    size, right = front[[e.digest for e in MADE.front].index(MADE.selected)]
    assert f"{size:,} B\n{right:.2f} %" in texts(network)
    assert [size, right] in [[*line.get_xdata(), *line.get_ydata()] for line in network.lines]
    for panel, region in ((flash, "flash"), (ram, "ram")):
        limit = MADE.limits.budget[region]
        assert [limit, limit] in [list(line.get_xdata()) for line in panel.lines]
        assert f"budget {limit:,} B" in texts(panel)
        assert f"{winner().regions[region]:,} B" in texts(panel)


def test_every_candidate_is_shown_or_counted() -> None:
    figure = plots.front(MADE)
    assert figure is not None
    network = figure.axes[0]
    points = [tuple(point) for cloud in network.collections[:2] for point in cloud.get_offsets()]
    shown = [e for e in MADE.entries if e.accuracy and e.memory]
    assert len(points) == len(shown)
    low, high = network.get_ylim()
    below = sum(100 * e.accuracy.value < low for e in shown if e.accuracy)
    assert f"{below} candidates lie below" in texts(network)
    assert all(100 * e.accuracy.value <= high for e in shown if e.accuracy)
    assert low < 100 * winner().accuracy.low  # type: ignore[union-attr]


def test_significance_has_a_panel_a_kind_and_a_line_a_layer() -> None:
    figure = plots.significance(MADE)
    assert figure is not None
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_visible()}
    assert set(panels) == {"weight", "weight: rounding", "membrane", "decay"}
    weight = panels["weight"]
    ticks = [label.get_text() for label in weight.get_xticklabels()]
    assert ticks == ["16", "8", "6", "4", "3", "2", "ternary", "binary"]
    curves = {line.get_label(): line for line in weight.lines}
    for name in ("fc1.weight", "fc2.weight"):
        rows = [row for row in MADE.significance if row.knob == name]
        expected = [100 * row.accuracy.value for row in rows if row.accuracy]
        assert list(curves[name].get_ydata()) == expected
    assert len(weight.collections) == 2, "a band each"


def test_options_of_several_layers_are_in_one_order() -> None:
    rows = [row for row in MADE.significance if row.knob != "fc1.weight" or row.option != "6"]
    figure = plots.significance(replace(MADE, significance=tuple(rows)))
    assert figure is not None
    weight = figure.axes[0]
    curve = next(line for line in weight.lines if line.get_label() == "fc1.weight")
    assert list(curve.get_xdata()) == [0, 1, 3, 4, 5, 6, 7], "6 bits are only fc2's"


def test_bits_tells_the_width_of_each() -> None:
    figure = plots.bits(MADE)
    assert figure is not None
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["lif1", "lif2"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["weight", "membrane", "decay"]
    words = winner().words
    cells = [words["fc1.weight"], "nearest even", words["lif1.v"], words["lif1.decay"],
             words["fc2.weight"], words["lif2.v"], "–"]  # fmt: skip
    assert texts(axis) == cells
    assert axis.get_xlabel().endswith("25 steps, scheme ptq")


def cases() -> Iterator[object]:
    bare = replace(MADE, limits=Limits(), significance=(), attribution=())
    yield pytest.param(bare, {"front", "bits"}, id="no limits")
    yield pytest.param(replace(bare, selected=""), {"front"}, id="no winner")
    yield pytest.param(
        replace(MADE, entries=(winner(),)), {"front", "significance", "bits"}, id="one"
    )
    refused = tuple(e for e in MADE.entries if e.refused)
    yield pytest.param(replace(bare, entries=refused, selected=""), set(), id="all refused")
    right = replace(MADE.baseline, value=1.0, high=1.0)
    perfect = replace(winner(), accuracy=right)
    yield pytest.param(
        replace(MADE, entries=(perfect,), baseline=right, significance=()), {"front", "bits"},
        id="perfect",
    )  # fmt: skip
    cores = Limits(0.01, budget={"cores": 4, "flash": 1 << 20})
    yield pytest.param(replace(bare, limits=cores), {"front", "bits"}, id="cores")


@pytest.mark.parametrize(("value", "names"), list(cases()))
def test_little_to_draw(value: Exploration, names: set[str]) -> None:
    found = plots.draw(value)
    assert {name.partition(".")[0] for name in found} == names


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plots.note() == ""
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert plots.draw(MADE) == {}
    assert "pip install 'qspinn[explore]'" in plots.note()
