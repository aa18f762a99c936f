"""Accuracy against memory: every candidate, the front, the limits and the winner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qspinn.explore.result import Entry, Exploration
from qspinn.memory import of_each_core
from qspinn.report.drawing import (
    FAINT,
    FRONT,
    INK,
    LIMIT,
    PAPER,
    POINTS,
    WINNER,
    measured,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_FAR = 16


def front(exploration: Exploration) -> Figure | None:
    """Accuracy against the network's memory, and against each region that has a budget."""
    shown = [e for e in exploration.entries if e.accuracy and e.memory]
    if not shown:
        return None
    regions = [
        region
        for region in exploration.limits.budget
        if region != "cores" and not of_each_core(region) and _matters(exploration, shown, region)
    ]
    figure = new_figure(6.8 + 2.7 * len(regions), 4.8)
    widths = [2.0, *(1.0 for _ in regions)]
    rows = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)
    panels = list(rows[0])
    _network_panel(panels[0], exploration, shown)
    for panel, region in zip(panels[1:], regions, strict=True):
        _region_panel(panel, exploration, shown, region)
    lowest = _lowest(exploration, shown)
    highest = max(e.accuracy.high for e in shown if e.accuracy)
    panels[0].set_ylim(lowest, min(100.3, 100 * max(highest, exploration.baseline.high) + 0.4))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    below = sum(100 * e.accuracy.value < lowest for e in shown if e.accuracy)
    if below:
        panels[0].annotate(f"{below} candidates lie below", (0.99, 0.012), color="#6b7782",
                           xycoords="axes fraction", ha="right", fontsize=7.5)  # fmt: skip
    return figure


def _matters(exploration: Exploration, shown: list[Entry], region: str) -> bool:
    """Whether a budget is anywhere near what the candidates need."""
    used = [e.regions[region] for e in shown if region in e.regions]
    return bool(used) and exploration.limits.budget[region] <= _FAR * max(used)


def _lowest(exploration: Exploration, shown: list[Entry]) -> float:
    """Where the accuracy axis starts, in percent: low enough for what can matter."""
    limit = exploration.limits.max_drop or 0.0
    room = max(4.0 * limit, 0.06)
    floor = exploration.baseline.value - room
    if winner := exploration.winner:
        floor = min(floor, measured(winner.accuracy).low - 0.02)
    found = min(measured(e.accuracy).value for e in shown) - 0.005
    return 100 * max(floor, found, 0.0)


def _network_panel(panel: Axes, exploration: Exploration, shown: list[Entry]) -> None:
    sizes = [e.memory.network for e in shown if e.memory]
    _cloud(panel, shown, sizes)
    best = exploration.front
    x = [e.memory.network for e in best if e.memory]
    _bars(panel, x, best)
    if best:
        # The front may be drawn in more than these two: the line is the best of what is as small.
        y = [100 * measured(e.accuracy).value for e in best]
        heights = [max(y[: i + 1]) for i in range(len(y))]
        panel.step([*x, max(*sizes, x[-1])], [*heights, heights[-1]], where="post", color=FRONT,
                   lw=1.4, label="front, with 95 % intervals", zorder=3)  # fmt: skip
    _levels(panel, exploration, words=True)
    _bytes_axis(panel, sizes)
    if winner := exploration.winner:
        assert winner.memory is not None, "checked when the exploration was made"
        _mark(panel, winner, winner.memory.network, words=True)
    title = f"{exploration.network} on {exploration.target} {exploration.device}"
    panel.set_title(f"{title}: accuracy against memory", loc="left")
    panel.set_ylabel("accuracy on the selection part [%]")
    panel.set_xlabel("weights + constants + state [B]")


def _region_panel(panel: Axes, exploration: Exploration, shown: list[Entry], region: str) -> None:
    there = [e for e in shown if region in e.regions]
    sizes = [e.regions[region] for e in there]
    _cloud(panel, there, sizes)
    best = tuple(e for e in exploration.front if region in e.regions)
    _bars(panel, [e.regions[region] for e in best], best)
    _levels(panel, exploration, words=False)
    limit = exploration.limits.budget[region]
    _bytes_axis(panel, [*sizes, limit])
    winner = exploration.winner
    if winner and region in winner.regions:
        _mark(panel, winner, winner.regions[region], words=False)
    panel.axvline(limit, color=LIMIT, lw=1.3, zorder=2)
    right = panel.get_xlim()[1]
    if right > limit:
        panel.axvspan(limit, right, color=LIMIT, alpha=0.07, lw=0)
    panel.annotate(f"budget {limit:,} B", (limit, 0.02), xycoords=("data", "axes fraction"),
                   xytext=(-3, 0), textcoords="offset points", rotation=90, ha="right",
                   va="bottom", color=LIMIT, fontsize=8, bbox=PAPER, zorder=7)  # fmt: skip
    panel.set_title(region, loc="left")
    panel.set_xlabel(f"{region} [B]")


def _cloud(panel: Axes, shown: list[Entry], sizes: list[int]) -> None:
    for complete, alpha, label in ((True, 0.55, "candidates"), (False, 0.2, "dropped early")):
        points = [
            (size, 100 * measured(e.accuracy).value)
            for e, size in zip(shown, sizes, strict=True)
            if e.complete is complete
        ]
        if points:
            x, y = zip(*points, strict=True)
            panel.scatter(x, y, s=9, color=FAINT if complete else INK, alpha=alpha, lw=0,
                          rasterized=len(shown) > POINTS, label=label,
                          marker="o" if complete else "v")  # fmt: skip


def _bars(panel: Axes, sizes: list[int], best: tuple[Entry, ...]) -> None:
    estimates = [measured(e.accuracy) for e in best]
    y = [100 * e.value for e in estimates]
    below = [100 * max(0.0, e.value - e.low) for e in estimates]
    above = [100 * max(0.0, e.high - e.value) for e in estimates]
    panel.errorbar(sizes, y, yerr=[below, above], fmt="o", ms=3.6, color=FRONT, ecolor=FRONT,
                   elinewidth=0.9, alpha=0.75, zorder=4)  # fmt: skip


def _levels(panel: Axes, exploration: Exploration, *, words: bool) -> None:
    """The float network's accuracy, and what the winner may lose."""
    top = 100 * exploration.baseline.value
    label = f"float32: {top:.2f} %, {exploration.float_bytes:,} B" if words else None
    panel.axhline(top, color=INK, lw=1.0, ls=(0, (6, 3)), label=label, zorder=2)
    limit = exploration.limits.max_drop
    if limit is not None:
        label = f"largest drop allowed: {100 * limit:g} pt" if words else None
        panel.axhline(top - 100 * limit, color=LIMIT, lw=1.0, ls=(0, (1, 1.5)), label=label,
                      zorder=2)  # fmt: skip


def _mark(panel: Axes, winner: Entry, size: int, *, words: bool) -> None:
    y = 100 * measured(winner.accuracy).value
    panel.plot([size], [y], "o", ms=10, mfc="none", mec=WINNER, mew=2.0, zorder=6,
               label="selected" if words else None)  # fmt: skip
    text = f"{size:,} B\n{y:.2f} %" if words else f"{size:,} B"
    across = panel.transAxes.inverted().transform(panel.transData.transform((size, y)))[0]
    side = -11 if across > 0.75 else 11
    panel.annotate(text, (size, y), xytext=(side, -9), textcoords="offset points",
                   ha="left" if side > 0 else "right", va="top", color=WINNER, zorder=7,
                   fontweight="bold", bbox=PAPER)  # fmt: skip


def _bytes_axis(panel: Axes, sizes: list[int]) -> None:
    """Bytes, by powers of two where they span more than a few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(sizes), max(sizes)
    if low > 0 and high > 4 * low:
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlim(low / 1.15, high * 1.15)
    else:
        room = max(1.0, 0.06 * (high - low))
        panel.set_xlim(low - room, high + room)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))


def _size(value: float) -> str:
    """Bytes in few signs: 1536 is 1.5K."""
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"
