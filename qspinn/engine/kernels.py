"""Compiled loops over events. Importing this file imports numba.

Rows are the steps of the samples of a chunk. A list of events is four arrays: row r holds
``index[lo[r]:hi[r]]`` and, where they are not all 1, the ``values`` beside them. Sums wrap in the
type of their lanes, so they are exact wherever their proved interval fits it. Loops over lanes
stand for slices, which take a second more to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np

from qspinn.engine.layout import OFFSET, TILE
from qspinn.ir import Array

# Of type Any, as where numba is not installed: which types it has depends on its version.
numba: Any = import_module("numba")
types: Any = import_module("numba.core.types")
cgutils: Any = import_module("numba.core.cgutils")
ir: Any = cgutils.ir

F = TypeVar("F", bound=Callable[..., Any])
_I64 = ir.IntType(64)
_RUN = 16
"""Lanes that are added at a time to a run, which is often as short as a window is wide."""
EIGHT = 8
"""Events that are listed at a time."""


def compiled(function: F) -> F:
    """Compile on first use; keep the machine code on disk where numba finds a place for it."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to write to
        return cast(F, numba.njit(nogil=True)(function))


def generated(function: Callable[..., Any]) -> Any:
    """Let compiled loops call what ``function`` generates: its signature and its code."""
    return numba.extending.intrinsic(function)


def _lanes(builder: Any, data: Any, at: Any, bits: int, count: int) -> Any:
    """A pointer to ``count`` neighbouring integers, from element ``at`` on."""
    vector = ir.VectorType(ir.IntType(bits), count)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


@generated
def _sum_rows(
    typing: Any, weights: Any, tile: Any, start: Any, index: Any, values: Any, lo: Any, hi: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    """Make ``out[at:at + TILE]`` one tile of ``start`` and of the weights of ``index[lo:hi]``.

    The lanes stay in vector registers over all events: what a compiler does not find by itself,
    and 3 times as fast as a loop over lanes inside a loop over events.
    """
    signature = types.void(weights, tile, start, index, values, lo, hi, out, at)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def array(i: int) -> Any:
            return context.make_array(sig.args[i])(context, builder, args[i])

        def load(source: Any, at: Any, bits: int) -> Any:
            return builder.load(_lanes(builder, source.data, at, bits, lanes), align=1)

        w, begin, positions, target = array(0), array(2), array(3), array(7)
        tile, lo, hi, at = args[1], args[5], args[6], args[8]
        narrow, wide = sig.args[0].dtype.bitwidth, sig.args[7].dtype.bitwidth
        lanes = min(TILE, 512 // wide)
        vector = ir.VectorType(ir.IntType(wide), lanes)
        parts = [(_I64(k), cgutils.alloca_once(builder, vector)) for k in range(0, TILE, lanes)]
        for k, total in parts:
            first = builder.add(builder.mul(tile, _I64(TILE)), k)
            builder.store(load(begin, first, wide), total)
        row = builder.mul(tile, builder.extract_value(w.shape, 1))
        with cgutils.for_range_slice(builder, lo, hi, _I64(1), intp=_I64) as (e, _):
            i = builder.zext(builder.load(builder.gep(positions.data, [e])), _I64)
            first = builder.mul(builder.add(row, i), _I64(TILE))
            factor = None
            if not isinstance(sig.args[4], types.NoneType):
                factor = _splat(builder, builder.load(builder.gep(array(4).data, [e])), vector)
            for k, total in parts:
                x = load(w, builder.add(first, k), narrow)
                x = builder.sext(x, vector) if wide > narrow else x
                x = builder.mul(x, factor) if factor is not None else x
                builder.store(builder.add(builder.load(total), x), total)
        for k, total in parts:
            place = _lanes(builder, target.data, builder.add(at, k), wide, lanes)
            builder.store(builder.load(total), place, align=1)
        return context.get_dummy_value()

    return signature, generate


@generated
def _sum_pairs(
    typing: Any, weights: Any, tile: Any, start: Any, moves: Any, index: Any, lo: Any, hi: Any,
    out: Any, at: Any,
) -> Any:  # fmt: skip
    """What `_sum_rows` does with 8-bit weights in pairs (see `layout.Tiles`) and 16-bit sums.

    Adds whole words, and their upper halves alone: the lower halves follow from the two sums. Three
    instructions for 64 weights where widening them first takes four.
    """
    signature = types.void(weights, tile, start, moves, index, lo, hi, out, at)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w, begin, move, positions, target = (
            context.make_array(sig.args[i])(context, builder, args[i]) for i in (0, 2, 3, 4, 7)
        )
        tile, lo, hi, at = args[1], args[5], args[6], args[8]
        wide = sig.args[7].dtype.bitwidth
        vector = ir.VectorType(ir.IntType(16), TILE // 2)
        eight = ir.Constant(vector, [8] * vector.count)
        words, upper = (cgutils.alloca_once(builder, vector) for _ in range(2))
        builder.store(ir.Constant(vector, None), words)
        builder.store(ir.Constant(vector, None), upper)
        row = builder.mul(tile, builder.extract_value(w.shape, 1))
        with cgutils.for_range_slice(builder, lo, hi, _I64(1), intp=_I64) as (e, _):
            i = builder.zext(builder.load(builder.gep(positions.data, [e])), _I64)
            place = builder.gep(w.data, [builder.mul(builder.add(row, i), _I64(TILE))])
            x = builder.load(builder.bitcast(place, vector.as_pointer()), align=1)
            builder.store(builder.add(builder.load(words), x), words)
            builder.store(builder.add(builder.load(upper), builder.ashr(x, eight)), upper)
        high = builder.load(upper)
        shift = builder.mul(builder.sub(hi, lo), _I64(OFFSET))
        low = builder.sub(builder.load(words), builder.shl(high, eight))
        low = builder.sub(low, _splat(builder, shift, vector))
        first = builder.mul(tile, _I64(TILE))
        for k, total in ((_I64(0), low), (_I64(vector.count), high)):
            here = builder.add(first, k)
            if wide > 16:
                total = builder.sext(total, ir.VectorType(ir.IntType(wide), vector.count))
            up, from_ = (
                builder.load(_lanes(builder, held.data, here, wide, vector.count), align=1)
                for held in (move, begin)
            )
            total = builder.add(builder.shl(total, up), from_)
            place = _lanes(builder, target.data, builder.add(at, k), wide, vector.count)
            builder.store(total, place, align=1)
        return context.get_dummy_value()

    return signature, generate


@generated
def _add_run(
    typing: Any, out: Any, at: Any, weights: Any, source: Any, count: Any, values: Any, e: Any
) -> Any:
    """Add ``count`` weights, times ``values[e]`` if there are values, to ``out[at:at + count]``.

    A compiler that must allow for overlapping arrays makes this 5 times as slow.
    """
    signature = types.void(out, at, weights, source, count, values, e)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = context.make_array(sig.args[0])(context, builder, args[0])
        w = context.make_array(sig.args[2])(context, builder, args[2])
        wide, narrow = sig.args[0].dtype.bitwidth, sig.args[2].dtype.bitwidth

        def add(lanes: int, first: Any, last: Any) -> None:
            vector = ir.VectorType(ir.IntType(wide), lanes)
            factor = None
            if not isinstance(sig.args[5], types.NoneType):
                held = context.make_array(sig.args[5])(context, builder, args[5])
                value = builder.load(builder.gep(held.data, [args[6]]))
                factor = _splat(builder, value, vector)
            with cgutils.for_range_slice(builder, first, last, _I64(lanes), intp=_I64) as (k, _):
                place = _lanes(builder, target.data, builder.add(args[1], k), wide, lanes)
                run = _lanes(builder, w.data, builder.add(args[3], k), narrow, lanes)
                x = builder.load(run, align=1)
                x = builder.sext(x, vector) if wide > narrow else x
                x = builder.mul(x, factor) if factor is not None else x
                builder.store(builder.add(builder.load(place, align=1), x), place, align=1)

        whole = builder.and_(args[4], _I64(-_RUN))
        add(_RUN, _I64(0), whole)
        add(1, whole, args[4])
        return context.get_dummy_value()

    return signature, generate


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """``value``, modulo the lane's width, in every lane."""
    width = vector.element.width
    if value.type.width > width:
        value = builder.trunc(value, vector.element)
    elif value.type.width < width:
        value = builder.sext(value, vector.element)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, one, zeros)


@generated
def _nonzero(typing: Any, lanes: Any, at: Any) -> Any:
    """One bit for each of the lanes ``at`` to ``at + 63``: whether it is not 0."""
    signature = types.uint64(lanes, at)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        bits = sig.args[0].dtype.bitwidth
        x = builder.load(_lanes(builder, array.data, args[1], bits, TILE), align=1)
        return builder.bitcast(builder.icmp_unsigned("!=", x, ir.Constant(x.type, None)), _I64)

    return signature, generate


@generated
def _lowest(typing: Any, word: Any) -> Any:
    """The position of the lowest bit that is set; 64 where none is."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.int64(types.uint64), generate


@generated
def _ones(typing: Any, word: Any) -> Any:
    """The number of bits that are set."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


_ONE = np.uint64(1)


@compiled
def linear(
    lo: Array, hi: Array, index: Array, values: Any, weights: Array, start: Array, out: Array
) -> None:
    """``out[r] = start`` + the rows of weights of all events; weights are (tiles, inputs, TILE).

    A tile's weights stay in the first cache for all rows.
    """
    rows, width = out.shape
    flat = out.reshape(-1)
    for tile in range(weights.shape[0]):
        for r in range(rows):
            at = r * width + tile * TILE
            _sum_rows(weights, tile, start, index, values, lo[r], hi[r], flat, at)


@compiled
def linear_pairs(
    lo: Array, hi: Array, index: Array, values: Any, weights: Array, start: Array, moves: Array,
    out: Array,
) -> None:  # fmt: skip
    """What `linear` does, for events that are all 1 and weights in pairs."""
    rows, width = out.shape
    flat = out.reshape(-1)
    for tile in range(weights.shape[0]):
        for r in range(rows):
            at = r * width + tile * TILE
            _sum_pairs(weights, tile, start, moves, index, lo[r], hi[r], flat, at)


@compiled
def scatter(
    lo: Array,
    hi: Array,
    index: Array,
    values: Any,
    first: Array,
    to: Array,
    source: Array,
    length: Array,
    weights: Array,
    start: Array,
    out: Array,
) -> None:
    """``out[r] = start`` + runs of weights; element i has the runs ``first[i]:first[i + 1]``."""
    rows, width = out.shape
    flat = out.reshape(-1)
    for r in range(rows):
        for j in range(width):
            flat[r * width + j] = start[j]
        for e in range(lo[r], hi[r]):
            i = index[e]
            for q in range(first[i], first[i + 1]):
                at, w, count = np.int64(r * width + to[q]), np.int64(source[q]), np.int64(length[q])
                _add_run(flat, at, weights, w, count, values, e)


@compiled
def highest(
    lo: Array, hi: Array, index: Array, values: Any, first: Array, to: Array, out: Array
) -> None:
    """The maximum of what arrives at each element, at least 0."""
    for r in range(out.shape[0]):
        row = out[r]
        for j in range(row.size):
            row[j] = 0
        for e in range(lo[r], hi[r]):
            i = index[e]
            value = 1 if values is None else values[e]
            for q in range(first[i], first[i + 1]):
                row[to[q]] = max(row[to[q]], value)


@compiled
def compact(lanes: Array, size: int, offsets: Array, index: Array, values: Any) -> None:
    """List the non-zero lanes of each row; ``index`` has room for `EIGHT` more than there can be.

    Eight positions are written at a time, of which those count that the row has: a branch for
    each event would be guessed wrong too often.
    """
    rows, width = lanes.shape
    flat = lanes.reshape(-1)
    k = 0
    offsets[0] = 0
    for r in range(rows):
        for first in range(0, size, TILE):
            at = r * width + first
            word = _nonzero(flat, at)
            if size - first < TILE:  # lanes without an element hold anything
                word &= (_ONE << np.uint64(size - first)) - _ONE
            end = k + _ones(word)
            while k < end:
                for i in range(EIGHT):
                    j = _lowest(word)
                    index[k + i] = first + j
                    if values is not None and word != 0:
                        values[k + i] = flat[at + j]
                    word &= word - _ONE
                k += EIGHT
            k = end
        offsets[r + 1] = k


@compiled
def lateral(
    lo: Array, hi: Array, index: Array, values: Array | None, weights: Array, out: Array
) -> None:
    """Make each lane of a row its weight times the sum of all events but its own."""
    for r in range(lo.size):
        total = 0
        for e in range(lo[r], hi[r]):
            total += 1 if values is None else values[e]
        for j in range(weights.size):
            out[r, j] = weights[j] * total
        for e in range(lo[r], hi[r]):
            j = index[e]
            out[r, j] -= weights[j] * (1 if values is None else values[e])


@compiled
def reached(lo: Array, hi: Array, index: Array, fan: Array) -> int:
    """The sum of ``fan`` over all events."""
    total = 0
    for r in range(lo.size):
        for e in range(lo[r], hi[r]):
            total += fan[index[e]]
    return total


@compiled
def summarize(
    sent: Array,
    membrane: Array,
    step: int,
    steps: int,
    counts: Array,
    first: Array,
    last: Array,
    peak: Array,
) -> None:
    """Add a block of steps (samples, block, width) to what readouts need of each output."""
    samples, block = sent.shape[0], sent.shape[1]
    for s in range(samples):
        for t in range(block):
            for j in range(counts.shape[1]):
                value = sent[s, t, j]
                counts[s, j] += value
                if value > 0 and first[s, j] == steps:
                    first[s, j] = step + t
                last[s, j] = membrane[s, t, j]
                peak[s, j] = max(peak[s, j], last[s, j])
