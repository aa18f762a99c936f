"""An exploration as pictures, for people and for papers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from qspinn.explore.result import Entry, Exploration, Significance
from qspinn.explore.space import KINDS, Knob
from qspinn.report.drawing import INK, LAYERS, measured, new_figure, saved, style
from qspinn.report.plot_front import front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def note() -> str:
    """Why there will be no plots; empty where there will."""
    if find_spec("matplotlib") is None:
        return "no plots, for matplotlib is not installed: pip install 'qspinn[explore]'"
    return ""


def draw(exploration: Exploration) -> dict[str, bytes]:
    """Every plot that the exploration has something for, as SVG and PNG; {} without matplotlib."""
    if note():
        return {}
    plots: dict[str, Callable[[Exploration], Figure | None]] = {
        "front": front,
        "significance": significance,
        "bits": bits,
    }
    files: dict[str, bytes] = {}
    for name, plot in plots.items():
        with style():
            figure = plot(exploration)
            if figure is not None:
                files[f"{name}.svg"] = saved(figure, "svg", {"Date": None, "Creator": None})
                files[f"{name}.png"] = saved(figure, "png", {"Software": None})
    return files


# --- significance ---


def significance(exploration: Exploration) -> Figure | None:
    """Accuracy against the option taken of one knob alone; a panel a kind, a line a layer."""
    rows = [row for row in exploration.significance if row.accuracy]
    if not rows:
        return None
    knobs = {knob.name: knob for knob in exploration.knobs}
    panels: dict[str, list[Significance]] = {}
    for row in sorted(rows, key=lambda r: KINDS.index(r.kind) if r.kind in KINDS else 99):
        panels.setdefault(_panel_name(row), []).append(row)
    across = 2 if len(panels) in (2, 4) else min(3, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(0.6 + 3.1 * across, 0.5 + 2.7 * down)
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for axis, (title, members) in zip(axes.flat, panels.items(), strict=False):
        _curves(axis, members, knobs)
        axis.set_title(title, loc="left")
        axis.axhline(100 * exploration.baseline.value, color=INK, lw=0.9, ls=(0, (6, 3)))
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    top = max(exploration.baseline.high, *(measured(r.accuracy).high for r in rows))
    found = min(measured(r.accuracy).low for r in rows)
    axes.flat[0].set_ylim(100 * max(found, top - 0.15) - 0.5, min(100.3, 100 * top + 0.5))
    figure.supylabel("accuracy on the selection part [%]", fontsize=9)
    figure.supxlabel("one choice alone, everything else at its finest; dashed: float32", fontsize=9)
    return figure


def _panel_name(row: Significance) -> str:
    aspect = row.knob.partition(":")[2]
    return f"{row.kind}: {aspect}" if aspect else row.kind


def _curves(axis: Axes, rows: list[Significance], knobs: dict[str, Knob]) -> None:
    names = list(dict.fromkeys(row.knob for row in rows))
    options = _options(rows, [knobs[name] for name in names if name in knobs])
    place = {option: i for i, option in enumerate(options)}
    for turn, name in enumerate(names):
        ordered = name not in knobs or knobs[name].ordered
        mine = sorted((r for r in rows if r.knob == name), key=lambda r: place[r.option])
        _curve(
            axis,
            mine,
            place,
            LAYERS[turn % len(LAYERS)],
            ordered,
            (turn + 0.5) / len(names) - 0.5,
        )
    crowded = len(options) * max(map(len, options)) > 30
    axis.set_xticks(range(len(options)), options)
    for label in axis.get_xticklabels() if crowded else ():
        label.set(rotation=35, ha="right", rotation_mode="anchor")
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(-0.5, len(options) - 0.5)
    axis.legend(loc="lower left", fontsize=7.5)


def _curve(
    axis: Axes, rows: list[Significance], place: dict[str, int], color: str, ordered: bool,
    shift: float,
) -> None:  # fmt: skip
    x = [place[row.option] + (0.0 if ordered else 0.3 * shift) for row in rows]
    estimates = [measured(row.accuracy) for row in rows]
    y = [100 * e.value for e in estimates]
    low, high = [100 * e.low for e in estimates], [100 * e.high for e in estimates]
    label = rows[0].knob.partition(":")[0]
    if ordered:
        axis.fill_between(x, low, high, color=color, alpha=0.13, lw=0)
        axis.plot(x, y, "o-", ms=3.2, lw=1.3, color=color, label=label)
        return
    below = [max(0.0, a - b) for a, b in zip(y, low, strict=True)]
    above = [max(0.0, b - a) for a, b in zip(y, high, strict=True)]
    axis.errorbar(x, y, yerr=[below, above], fmt="o", ms=4, capsize=2, elinewidth=1.0,
                  color=color, label=label)  # fmt: skip


def _options(rows: list[Significance], knobs: list[Knob]) -> list[str]:
    """The options of several knobs in one order: numbers from the finest, then words."""
    words = list(dict.fromkeys(option for knob in knobs for option in knob.options))
    words += [row.option for row in rows if row.option not in words]
    taken = {row.option for row in rows}
    words = [word for word in dict.fromkeys(words) if word in taken]
    if all(knob.ordered for knob in knobs):
        words.sort(key=lambda word: -_width(word) if _width(word) else 0.0)
    return words


def _width(word: str) -> float:
    """The bits that an option's word stands for; 0 where it stands for none."""
    if word in ("ternary", "binary"):
        return {"ternary": 1.6, "binary": 1.0}[word]
    return float(word) if word.isdigit() else 0.0


# --- bits ---


def bits(exploration: Exploration) -> Figure | None:
    """The winner's width of each layer and kind, as a table whose colour is the width."""
    winner = exploration.winner
    knobs = [knob for knob in exploration.knobs if winner and knob.name in winner.words]
    local = [knob for knob in knobs if knob.layer]
    if winner is None or not local:
        return None
    layers = list(dict.fromkeys(knob.layer for knob in local))
    kinds = sorted({knob.kind for knob in local},
                   key=lambda k: KINDS.index(k) if k in KINDS else 99)  # fmt: skip
    figure = new_figure(1.5 + 1.25 * len(kinds), 1.15 + 0.62 * len(layers))
    axis = figure.subplots()
    for i, layer in enumerate(layers):
        for j, kind in enumerate(kinds):
            here = [knob for knob in local if (knob.layer, knob.kind) == (layer, kind)]
            _cell(axis, i, j, here, winner)
    axis.set_xlim(-0.5, len(kinds) - 0.5)
    axis.set_ylim(len(layers) - 0.5, -0.5)
    axis.set_xticks(range(len(kinds)), kinds)
    axis.set_yticks(range(len(layers)), layers)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    size = winner.memory.network if winner.memory else 0
    whole = [f"{knob.name} {winner.words[knob.name]}" for knob in knobs if not knob.layer]
    axis.set_xlabel(", ".join([f"{size:,} B", f"{winner.steps} steps", *whole]))
    axis.set_title(f"{exploration.network}: bits of the selected network", loc="left", pad=8)
    return figure


def _cell(axis: Axes, row: int, column: int, knobs: list[Knob], winner: Entry) -> None:
    from matplotlib.patches import Rectangle

    words = [winner.words[knob.name] for knob in knobs if ":" not in knob.name]
    more = [winner.words[knob.name].replace("_", " ") for knob in knobs if ":" in knob.name]
    widths = [_width(word) for word in words if _width(word)]
    share = min(1.0, max(widths) / 24) if widths else 0.0
    color = _mixed(share) if widths else "#f3f5f7"
    axis.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fc=color, ec="none"))
    ink = "white" if share > 0.4 else INK
    text = " · ".join(dict.fromkeys(words)) if words else "" if more else "–"
    axis.text(column, row - (0.12 if more and text else 0.0), text, ha="center", va="center",
              color=ink, fontweight="bold", fontsize=10)  # fmt: skip
    if more:
        axis.text(column, row + (0.24 if text else 0.0), ", ".join(dict.fromkeys(more)),
                  ha="center", va="center", color=ink, fontsize=7)  # fmt: skip


def _mixed(share: float) -> tuple[float, ...]:
    """From pale to the front's blue; few bits stay apart."""
    pale, deep = (0.87, 0.93, 0.95), (0.07, 0.33, 0.43)
    part = share**0.6
    return tuple(a + (b - a) * part for a, b in zip(pale, deep, strict=True))
