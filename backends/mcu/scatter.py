"""Convolutions that add rows of weights to sums whose channels lie side by side.

With channels last, the places that an event reaches in a row of the image are one run of sums, and
the taps that lead there are one run of weights: what is left of a convolution is a few runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qspinn.ir import Array, Conv1d, Conv2d

from .kernels import RowKernel
from .layout import CType, rows_for
from .storage import stored_as
from .windows import Image, Reach, Window, quotient, reach_of

PAIR = CType(32, signed=True)
"""A word that holds two sums of 16 bits, each plus `BIAS`."""
BIAS = 0x8000
"""What a sum in half a word is kept with: then no sum borrows from its neighbour."""
LANES = 4
"""Weights in a word."""
CHUNKS = (4, 3, 2, 1)
PAIRS = ("half", *(f"pairs_{n}" for n in CHUNKS), *(f"pairs_x_{n}" for n in CHUNKS))
"""The emitted functions that templates/mcu/pairs.c.j2 prints."""


def tap_order(window: Window) -> slice:
    """How the taps of a row lie: last first where windows that see an element are neighbours."""
    return slice(None, None, -1 if window.stride == 1 else None)


def runs(node: Conv1d | Conv2d) -> bool:
    """Whether the sums that an event reaches in a row of the image lie side by side."""
    dilation = node.dilation if isinstance(node, Conv2d) else (node.dilation,)
    return node.groups == 1 and set(dilation) == {1}


def pairable(node: Conv1d | Conv2d) -> bool:
    """Whether it can add to sums of which two share a word."""
    values = node.weight.values
    rows = rows_for(values.reshape(-1, len(values)))
    if not (runs(node) and rows.count % LANES == 0 and (values != values.flat[0]).any()):
        return False
    # Narrower ones save too much memory, and wider ones do not fit.
    bytewide = 4 < rows.bits <= 8 and values.min() >= -128 and values.max() <= 127
    return bool(bytewide) and stored_as(in_order(values, node.groups), droppable=False)[1] is None


def in_order(weights: Array, groups: int) -> Array:
    """Rows in the order of events: input channel, then place in the kernel, then output."""
    outs, inner = weights.shape[:2]
    grouped = weights.reshape(groups, outs // groups, inner, -1)
    return grouped.transpose(0, 2, 3, 1).reshape(-1, outs // groups)


def words_of(values: Array) -> Array:
    """Rows of 8-bit weights as words: of four channels the first two are every second byte.

    A byte holds a weight plus 128; the macro around the word makes of it what the core adds best.
    """
    lanes = (values.reshape(-1, LANES) + 128).astype(np.int64)
    return lanes[:, 0] | lanes[:, 2] << 8 | lanes[:, 1] << 16 | lanes[:, 3] << 24


def chunk(count: int) -> int:
    """How many words of weights are added at once: a part of what a place has."""
    return next(n for n in CHUNKS if count // LANES % n == 0)


@dataclass(frozen=True, slots=True)
class Axis:
    """The windows of one axis that see an element, as C: window ``last``, and those before it.

    Attributes:
        name: ``y`` or ``x``.
        window: Its geometry.
        at: C for the padded coordinate of the element.
        prefix: The network's.
    """

    name: str
    window: Window
    at: str
    prefix: str

    @property
    def last(self) -> str:
        """C for the last window that starts at or before the element, in the image or not."""
        window = self.window
        return quotient(self.at, window.stride, window.size + window.padding, self.prefix)

    @property
    def ends(self) -> bool:
        """Whether that may be behind the image."""
        window = self.window
        return (window.size + window.padding - 1) // window.stride >= window.places

    @property
    def runs(self) -> bool:
        """Whether the windows of an element are one run of sums and its taps one of weights."""
        return self.window.stride == 1

    @property
    def misses(self) -> bool:
        """Whether some element is in no window."""
        window = self.window
        lasts = range(window.padding, window.size + window.padding)
        return any(max(at + 1 - window.kernel, 0) >= min(at + 1, window.places) for at in lasts)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScatterKernel(RowKernel):
    """Event i adds a run of weights to a run of sums, for each row of the image it reaches.

    Attributes:
        image: Its geometry.
        pairs: Whether two sums share a word.
    """

    template: ClassVar[str] = "scatter"
    image: Image
    pairs: bool

    @property
    def by_row(self) -> bool:
        """Whether it calls the function that adds one row."""
        return not self.pairs

    @property
    def reach(self) -> Reach:
        """The rows that a band sees."""
        return reach_of(self.image.y, self.band)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns."""
        y, x, prefix = self.image.y, self.image.x, self.image.prefix
        return (
            Axis("y", y, "at_y" if y.padding else "row", prefix),
            Axis("x", x, "at_x" if x.padding else "column", prefix),
        )

    @property
    def unit(self) -> int:
        """Elements of the array of sums that a place has."""
        return self.rows.count // 2 if self.pairs else self.rows.count

    @property
    def stride(self) -> int:
        """Elements of the table that a tap has."""
        return self.rows.count // LANES if self.pairs else self.rows.stride

    @property
    def whole(self) -> bool:
        """Whether a run of taps is a run of weights, without unused bits between."""
        return self.rows.count % self.rows.lanes == 0

    @property
    def adder(self) -> str:
        """The function that adds words of weights to words of sums, without the prefix."""
        return f"pairs_{'x_' if self.factor else ''}{chunk(self.rows.count)}"
