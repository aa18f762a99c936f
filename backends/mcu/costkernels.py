"""What events that enter a kernel cause, in counts of parts that `costmodel.COST` prices."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from .kernelparts import side_by_side
from .kernels import Kernel, LateralKernel, LinearKernel, RowKernel, ScaleKernel
from .running import Counts
from .sparse import SparseRow


@singledispatch
def event_parts(kernel: Kernel, heard: float) -> Counts:
    """What one event makes a kernel do in a call; of a layer in bands there are several.

    Args:
        kernel: The kernel.
        heard: The chance that weights are stored for the event.
    """
    wide = kernel.to.bits if kernel.valued else "one"
    return Counts.of([(f"{kernel.template} {wide}", 1)])


@event_parts.register
def _(kernel: LinearKernel, heard: float) -> Counts:
    share = heard if kernel.kept is not None else 1.0
    parts = [("linear", share)]
    if kernel.kept is not None:
        parts += [("kept check", 1), ("kept", share), ("kept ranks", share * _ranked(kernel))]
    return Counts.of(parts) + row_parts(kernel).times(share)


def _ranked(kernel: LinearKernel) -> bool:
    return kernel.kept is not None and kernel.kept.ranks is not None


def row_parts(kernel: RowKernel, count: int = 0) -> Counts:
    """What adding one row of weights takes, or a run of ``count`` of them."""
    row, alone, count = kernel.row, count == 0, count or kernel.rows.count
    if isinstance(row, SparseRow):
        return _sparse_parts(kernel, row)
    if not row.bits:
        return Counts.of([("even row", 1), (f"even {max(row.to.bits, 16)}", count)])
    at_once = max(row.lanes, 4)
    whole, rest = count // at_once, count % at_once
    # What compilers write out: it depends on all of this.
    of = f"to {row.to.bits}{_factor(kernel)}{'' if alone else ' run'}"
    turn = {1: "once", 2: "twice", 3: "thrice"}.get(whole, "often") if alone else "often"
    # What weights, sums and factors take is added up: not all of them were seen together.
    each = [
        (f"lane to {row.to.bits}", count if row.to.bits != 16 else 0),
        ("lane value", count if kernel.valued else 0),
        ("lane gain", count if row.scaled and not kernel.valued else 0),
    ]  # fmt: skip
    if row.lanes > 1:
        what = f"packed {row.name.split('_')[1]}"
        parts = [
            (what, 1), (f"{what} turn", whole), ("packed once", whole == 1),
            (f"{what} rest", rest > 0), (f"{what} rest lane", rest),
            (f"{what} turn: {of}", whole), (f"{what} turn: {turn}", whole),
            (f"{what}: {turn}", 1), (f"{what} rest: {rest} {of}", rest > 0),
            (f"{what} rest lane: {of}", rest), (f"{what}: {of}", 1),
        ]  # fmt: skip
        return Counts.of([*parts, *each])
    if row.assembled and side_by_side(kernel):
        parts = [
            ("quick row", 1), ("quick turn", whole), ("row rest", rest > 0),
            ("row rest turn", rest), (f"rest lane {row.bits}", rest), ("quick rest", rest),
        ]  # fmt: skip
        return Counts.of(parts)
    parts = [
        ("row", 1), ("row turn", whole if whole > 1 else 0), ("row once", whole == 1),
        (f"lane {row.bits}", whole * at_once), ("row rest", rest > 0), ("row rest turn", rest),
        (f"rest lane {row.bits}", rest), *each,
        (f"row: {row.bits} {of}", 1), (f"row: {turn}", 1),
        (f"row turn: {row.bits} {of}", whole), (f"row turn: {turn}", whole),
        (f"row rest: {rest} {of}", rest > 0), (f"row rest: {row.bits} {of}", rest),
    ]  # fmt: skip
    return Counts.of(parts)


def fours_busy(values: float, rate: float) -> float:
    """How many words of four counts are not 0."""
    return values / 4 * (1.0 - (1.0 - rate) ** 4)


def fours_parts(values: float, rate: float) -> Counts:
    """What finding the events takes in counts that lie in words of four."""
    busy = fours_busy(values, rate)
    return Counts.of(
        [
            ("four word", values / 4), ("four busy", busy), ("four value", 4 * busy),
            ("dense event", values * rate),
        ]
    )  # fmt: skip


def _factor(kernel: RowKernel) -> str:
    """What weights are multiplied by."""
    if kernel.valued:
        return " of values"
    return " shifted" if kernel.row.scaled else ""


def _sparse_parts(kernel: RowKernel, row: SparseRow) -> Counts:
    """What adding one row takes of which only the weights that are not 0 are stored."""
    assert kernel.table is not None, "coded rows are tables"
    assert kernel.starts is not None, "coded rows begin anywhere"
    starts, elements = kernel.starts.values, kernel.table.values
    if row.code.kind == "gaps":
        stored = len(elements) / (len(starts) - 1)
        return _times(row, stored) + Counts.of(
            [("gaps", 1), ("gap", stored), (f"gap: {row.code.gap_bits} {row.code.signed}", stored)]
        )
    marks = -(-kernel.rows.count // 8)
    maps = elements[starts[:, None] + np.arange(marks)]
    looked = np.ceil(np.log2(maps + 1)).sum() / len(starts)
    stored = np.unpackbits(maps.astype(np.uint8)).sum() / len(starts)
    packed = " packed" if row.code.bits < 8 else ""
    return _times(row, stored) + Counts.of(
        [("map", 1), ("map byte", marks), ("map bit", looked), (f"map weight{packed}", stored)]
    )


def _times(row: SparseRow, count: float) -> Counts:
    to = row.to.bits
    return Counts.of(
        [(f"sparse to {to}", count if to != 16 else 0), ("sparse times", row.scaled * count)]
    )


def quotient_parts(code: str) -> Counts:
    """What an index divided by a constant takes."""
    if "_divide(" in code:
        return Counts.of([("divide", 1)])
    return Counts.of([("quotient", " * " in code), ("shift", ">>" in code and " * " not in code)])


@event_parts.register
def _(kernel: LateralKernel, heard: float) -> Counts:
    parts = [
        (f"lateral {max(kernel.to.bits, 16)}", 1), ("lateral table", kernel.table is not None),
        ("lateral value", kernel.valued),
    ]  # fmt: skip
    return Counts.of(parts)


@event_parts.register
def _(kernel: ScaleKernel, heard: float) -> Counts:
    parts = [
        (f"scale {kernel.to.bits}", 1), ("scale table", kernel.table is not None),
        ("scale value", kernel.valued),
    ]  # fmt: skip
    return Counts.of(parts)
