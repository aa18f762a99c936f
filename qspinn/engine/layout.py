"""How an edge lies in memory, and the tables that connections become.

Lanes of an edge need not be in the order of its elements: a convolution's output keeps the
channels of a place together, so that an event adds to long runs. ``order`` says which element each
lane holds; every table is built for the order of what it reads, so nothing is ever transposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from qspinn.errors import QspinnError
from qspinn.fixed import IntArray, Interval
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Lateral,
    Linear,
    MaxPool2d,
    Node,
    Pair,
    Param,
    Scale,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal

TILE = 64
"""Lanes of a row come in multiples of this; `kernels`' code on disk is compiled for it."""

_LINE = 64
OFFSET = 128
"""Added to the weights in the lower halves of pairs, so that they have no sign."""


def lane_type(span: Interval, narrowest: int = 16) -> np.dtype[np.signedinteger]:
    """The narrowest signed type that holds an interval."""
    for bits in (8, 16, 32, 64):
        half = 1 << (bits - 1)
        if bits >= narrowest and span in Interval(-half, half - 1):
            return np.dtype(f"int{bits}")
    raise QspinnError(f"a value in {span} needs more than 64 bits")


def spanned(values: IntArray) -> Interval:
    """From the smallest to the largest of some integers."""
    return Interval(int(values.min()), int(values.max()))


def aligned(size: int, dtype: Any) -> Array:
    """Zeros that start where a cache line does: a vector across two lines takes twice as long."""
    dtype = np.dtype(dtype)
    room = np.zeros(size * dtype.itemsize + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    return room[first : first + size * dtype.itemsize].view(dtype)


@dataclass(frozen=True, eq=False)
class Port:
    """An edge in memory: rows of ``width`` lanes, the first ``size`` of them in use.

    Attributes:
        size: The number of elements.
        width: The number of lanes.
        dtype: Of the lanes.
        order: The element that each lane holds; None: they lie in order.
        valued: Whether its events carry values, or are all 1.
    """

    size: int
    width: int
    dtype: np.dtype[np.signedinteger]
    order: IntArray | None = None
    valued: bool = True

    def elements(self, lanes: Array) -> Array:
        """(..., width) lanes as (..., size) elements, in their order."""
        if self.order is None:
            return lanes[..., : self.size]
        elements = np.empty((*lanes.shape[:-1], self.size), lanes.dtype)
        elements[..., self.order] = lanes[..., : self.size]
        return elements

    def lanes(self, elements: Array, dtype: np.dtype[np.signedinteger]) -> Array:
        """One value for each lane; 0 in those without an element."""
        lanes = np.zeros(self.width, dtype)
        flat = elements.reshape(-1)
        lanes[: self.size] = flat if self.order is None else flat[self.order]
        return lanes


def port(signal: Signal, order: IntArray | None = None, *, tile: int = TILE) -> Port:
    """The lanes of an integer signal."""
    assert signal.interval is not None, "the graph is integer"
    dtype = lane_type(signal.interval, 16 if signal.kind == "current" else 8)
    width = -(-signal.size // tile) * tile
    return Port(signal.size, width, dtype, order, signal.kind != "spike")


@dataclass(frozen=True, eq=False)
class Tiles:
    """A dense matrix for `kernels.linear`: (tiles, inputs, TILE), and the row it starts from.

    With ``moves`` it is for `kernels.linear_pairs`: weight i of a tile lies beside weight
    i + TILE / 2, in the lower half of a 16-bit word and `OFFSET` larger than it is, and the sum of
    a lane is moved up by so many bits before the start is added.
    """

    weights: Array
    start: Array
    moves: Array | None = None


@dataclass(frozen=True, eq=False)
class Runs:
    """For each element that arrives, runs of weights and where they are added.

    Element i has the runs ``first[i]`` to ``first[i + 1]``: ``length`` weights from ``source`` on
    are added to the lanes from ``to`` on.
    """

    first: Array
    to: Array
    source: Array
    length: Array
    weights: Array
    start: Array


@dataclass(frozen=True, eq=False)
class Even:
    """The weight, in each lane, of all elements but its own."""

    weights: Array


@dataclass(frozen=True, eq=False)
class Table:
    """What a node does to events, and how its result lies in memory."""

    port: Port
    body: Tiles | Runs | Even


@singledispatch
def table(node: Node, x: Signal, y: Signal, order: IntArray | None) -> Table:
    """The table of a node that reads the signal ``x``, with lanes in ``order``, and makes ``y``."""
    raise QspinnError(f"{type(node).__name__} has no table", at=node.name)


@table.register
def _(node: Linear, x: Signal, y: Signal, order: IntArray | None) -> Table:
    out = port(y)
    w, bias = scaled(node.weight, node.bias, x)
    start = out.lanes(every(bias, y), out.dtype)
    moves = _common_zeros(w)
    paired = x.kind == "spike" and out.dtype.itemsize <= 4 and _fits_pairs(w >> moves[:, None])
    w = w >> moves[:, None] if paired else w
    full = np.zeros((x.size, out.width), np.int8 if paired else _weight_type(w, out))
    full[:, : out.size] = (w if order is None else w[:, order]).T
    tiles = full.reshape(x.size, -1, TILE).transpose(1, 0, 2)
    held = aligned(tiles.size, tiles.dtype).reshape(tiles.shape)
    held[:] = _pairs(tiles) if paired else tiles
    return Table(out, Tiles(held, start, out.lanes(moves, out.dtype) if paired else None))


def _common_zeros(weights: IntArray) -> IntArray:
    """How many bits below all weights of each output are zero: those of a finer bias, say."""
    together = np.bitwise_or.reduce(weights, axis=1)
    lowest = together & -together
    found: IntArray = np.where(lowest > 0, np.log2(np.maximum(lowest, 1)), 0).astype(np.int64)
    return found


def _fits_pairs(weights: IntArray) -> bool:
    """Whether weights have 8 bits, and any sum of some of an output's 16."""
    if lane_type(spanned(weights), 8) != np.int8:
        return False
    most = max(int(np.maximum(weights, 0).sum(1).max()), -int(np.minimum(weights, 0).sum(1).min()))
    return most < 1 << 15


def _pairs(tiles: Array) -> Array:
    """Tiles of 8-bit weights with those of the two halves side by side."""
    low, high = tiles[..., : TILE // 2], tiles[..., TILE // 2 :]
    words: Array = (high.astype("<i2") << 8) | (low.astype("<i2") + OFFSET)
    return words.view(np.int8)


@table.register
def _(node: Scale, x: Signal, y: Signal, order: IntArray | None) -> Table:
    out = port(y, order)
    factors = np.broadcast_to(node.scale.values, x.shape).reshape(-1)
    factors = factors if order is None else factors[order]
    at = np.arange(x.size)
    return Table(out, _runs(x.size, at, at, at, 1, factors.astype(_weight_type(factors, out)),
                            np.zeros(out.width, out.dtype)))  # fmt: skip


@table.register
def _(node: Lateral, x: Signal, y: Signal, order: IntArray | None) -> Table:
    out = port(y, order)
    weights = np.broadcast_to(node.weight.values, x.shape)
    return Table(out, Even(out.lanes(weights, out.dtype)))


@table.register
def _(node: Conv1d, x: Signal, y: Signal, order: IntArray | None) -> Table:
    window = _Window((1, node.weight.values.shape[2]), (1, node.stride), (0, node.padding),
                     (1, node.dilation))  # fmt: skip
    weight = Param(node.weight.values[:, :, None, :], node.weight.fmt)
    image = (y.shape[0], 1, y.shape[1])
    return _convolution(weight, node.bias, node.groups, window, x, y, image, order)


@table.register
def _(node: Conv2d, x: Signal, y: Signal, order: IntArray | None) -> Table:
    w = node.weight.values
    window = _Window((w.shape[2], w.shape[3]), node.stride, node.padding, node.dilation)
    return _convolution(node.weight, node.bias, node.groups, window, x, y, y.shape, order)


@table.register(SumPool2d)
@table.register(MaxPool2d)
def _(node: SumPool2d | MaxPool2d, x: Signal, y: Signal, order: IntArray | None) -> Table:
    out = port(y)
    window = _Window(node.kernel, node.stride, node.padding, (1, 1))
    taps = window.taps(x.shape, y.shape, order)
    to = (taps.channel * y.shape[1] + taps.row) * y.shape[2] + taps.column
    ones = np.ones(1, np.int8)
    return Table(out, _runs(x.size, taps.lane, to, np.zeros_like(to), 1, ones,
                            np.zeros(out.width, out.dtype)))  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Taps:
    """Every pair of an input lane and a tap of the window that meet at a place of the output."""

    lane: IntArray
    channel: IntArray
    tap_row: IntArray
    tap_column: IntArray
    row: IntArray
    column: IntArray


@dataclass(frozen=True, slots=True)
class _Window:
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def taps(self, image: Shape, places: Shape, order: IntArray | None) -> _Taps:
        """Where each lane of an image (channels, height, width) meets each tap."""
        height, width = (1, image[1]) if len(image) == 2 else image[1:]
        element = np.arange(image[0] * height * width) if order is None else order
        channel, place = np.divmod(element, height * width)
        found = []
        for ky in range(self.kernel[0]):
            for kx in range(self.kernel[1]):
                row, fits = self._meet(0, place // width, ky, places[-2])
                column, fits_too = self._meet(1, place % width, kx, places[-1])
                lane = np.flatnonzero(fits & fits_too)
                tap = (np.full(lane.size, ky), np.full(lane.size, kx))
                found.append((lane, channel[lane], *tap, row[lane], column[lane]))
        return _Taps(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _meet(self, axis: int, at: IntArray, tap: int, places: int) -> tuple[IntArray, Array]:
        reach = at + self.padding[axis] - tap * self.dilation[axis]
        place = reach // self.stride[axis]
        return place, (reach % self.stride[axis] == 0) & (place >= 0) & (place < places)

    def rank(self) -> IntArray:
        """The order in which the columns of the window are stored.

        Taps that one element meets at neighbouring places lie side by side, in the order of the
        places: they share a remainder modulo the stride, and a later place meets an earlier tap.
        """
        tap = np.arange(self.kernel[1])
        stored = np.lexsort((-tap, tap * self.dilation[1] % self.stride[1]))
        return np.argsort(stored)


def _convolution(
    weight: Param, bias: Param | None, groups: int, window: _Window, x: Signal, y: Signal,
    image: Shape, order: IntArray | None,
) -> Table:  # fmt: skip
    w, b = scaled(weight, bias, x)
    channels, places = image[0], image[1] * image[2]
    lane = np.arange(channels * places)
    out = port(y, lane % channels * places + lane // channels)
    share, inputs = channels // groups, w.shape[1]
    taps = window.taps(x.shape, image, order)
    rank = window.rank()
    to = (taps.row * image[2] + taps.column) * channels + taps.channel // inputs * share
    tap = taps.tap_row * window.kernel[1] + rank[taps.tap_column]
    source = (taps.channel * (window.kernel[0] * window.kernel[1]) + tap) * share
    # Stored as (input channel, window row, rank of the column, output channel of the group).
    grouped = w.reshape(groups, share, *w.shape[1:])[..., rank.argsort()]
    flat = grouped.transpose(0, 2, 3, 4, 1).reshape(-1).astype(_weight_type(w, out))
    start = out.lanes(np.repeat(every(b, Signal((channels,), "current")), places), out.dtype)
    return Table(out, _runs(x.size, taps.lane, to, source, share, flat, start))


def _runs(
    inputs: int, lane: IntArray, to: IntArray, source: IntArray, length: int, weights: Array,
    start: Array,
) -> Runs:  # fmt: skip
    """Sort pieces of ``length`` by the element they belong to, and join those that touch."""
    by_lane = np.lexsort((to, lane))
    lane, to, source = lane[by_lane], to[by_lane], source[by_lane]
    touches = np.diff(lane) == 0
    touches &= (np.diff(to) == length) & (np.diff(source) == length)
    begins = np.flatnonzero(np.concatenate([np.ones(min(lane.size, 1), bool), ~touches]))
    pieces = np.diff(np.append(begins, lane.size))
    first = np.searchsorted(lane[begins], np.arange(inputs + 1))
    parts = (first, to[begins], source[begins], pieces * length)
    narrow = [part.astype(np.int32) for part in parts]
    return Runs(narrow[0], narrow[1], narrow[2], narrow[3], weights, start)


def scaled(weight: Param, bias: Param | None, x: Signal) -> tuple[IntArray, IntArray | None]:
    """Weights and bias at one binary point, the finer of the two."""
    if bias is None:
        return weight.values, None
    assert weight.fmt is not None, "the graph is integer"
    assert bias.fmt is not None, "the graph is integer"
    move = bias.fmt.frac - (weight.fmt.frac + x.frac)
    return weight.values << max(move, 0), bias.values << max(-move, 0)


def every(bias: IntArray | None, y: Signal) -> IntArray:
    """The bias of every output."""
    return np.broadcast_to(0 if bias is None else bias, y.shape).astype(np.int64)


def _weight_type(weights: IntArray, out: Port) -> np.dtype[np.signedinteger]:
    """The narrowest type that holds the weights, but none wider than the sums."""
    own = lane_type(spanned(weights), 8)
    # A weight can exceed its sum only where nothing ever arrives.
    return own if own.itemsize <= out.dtype.itemsize else out.dtype


def fan_out(node: Node, x: Signal, y: Signal) -> IntArray:
    """The weights that an event on each element of ``x`` adds, in the order of the elements.

    A linear connection keeps no column of zeros; of a convolution the places count that the
    window reaches.
    """
    if isinstance(node, Linear):
        used = (node.weight.values != 0).any(0)
        return np.where(used, len(node.weight.values), 0).astype(np.int64)
    if isinstance(node, Lateral):
        return np.full(x.size, x.size - 1, np.int64)
    body = table(node, x, y, None).body
    assert isinstance(body, Runs), "only the two above have others"
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(body.length, dtype=np.int64)])
    reached: IntArray = before[body.first[1:]] - before[body.first[:-1]]
    return reached
