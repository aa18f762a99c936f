"""How pictures look, and how they become bytes: the same ones always, without a screen."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qspinn.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#22303c", "#a9b4be", "#e6eaee"
FRONT, WINNER, LIMIT = "#1f6f8b", "#d1495b", "#8a6d00"
LAYERS = ("#1f6f8b", "#d1495b", "#6a8532", "#7a5195", "#c77f1a", "#3a5a9b", "#9a6b4f", "#4c4c4c")
_STYLE = {
    "svg.hashsalt": "qspinn",
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
PAPER = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8}
POINTS = 400
"""From so many candidates on their cloud is one picture inside the SVG."""
_DPI = 160


@contextmanager
def style() -> Iterator[None]:
    """The library's own defaults and ours, whatever the user's are."""
    from matplotlib import style as styles

    with styles.context(["default", _STYLE]):
        yield


def saved(figure: Figure, form: str, metadata: dict[str, Any]) -> bytes:
    """The picture as bytes."""
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=_DPI, metadata=metadata)
    return content.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty picture of a size in inches; it has a canvas that needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def measured(estimate: Estimate | None) -> Estimate:
    """An estimate that is there."""
    assert estimate is not None, "only measured candidates are drawn"
    return estimate
