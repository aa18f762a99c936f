"""Finds the leaky integrate-and-fire step with a shift for its decay in a typed list.

The match is on operations and proved intervals: whatever list says the same is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.program import Program, TypedOp

MOST_PLACES = 8
SHORT = Interval(-(1 << 15), (1 << 15) - 1)


@dataclass(frozen=True, slots=True)
class Leaky:
    """v = fit(v - (v >> places) + a); spikes where v >= level; then v is reset.

    Attributes:
        state: The name of v.
        places: The shift.
        saturates: Whether the sum may leave 16 bits, and is kept within.
        level: The least value that spikes.
        subtracts: Whether a reset takes ``reset`` from v; else v becomes ``reset``.
        reset: What it takes or leaves.
    """

    state: str
    places: int
    saturates: bool
    level: int
    subtracts: bool
    reset: int


def leaky(program: Program) -> Leaky | None:
    """What a list says, where it says this; every value but the sum has 16 bits."""
    fired = program.ops[program.output].kind
    if program.sends != "spike" or len(program.finals) != 1 or fired not in ("gt", "ge"):
        return None
    return _matched(program, 1 if fired == "gt" else 0)


def _matched(program: Program, above: int) -> Leaky | None:
    ops = program.ops
    ((state, final),) = program.finals.items()
    fired, chosen = ops[program.output], ops[final]
    reached, threshold = fired.args
    if chosen.kind != "select" or ops[threshold].kind != "const":
        return None
    mask, after, otherwise = chosen.args
    if mask != program.output or otherwise != reached:
        return None
    integrated = _integrated(program, reached, state)
    level = ops[threshold].value + above
    reset = _reset(ops, after, reached, level)
    if integrated is None or reset is None or level not in SHORT:
        return None
    places, saturates = integrated
    return Leaky(state, places, saturates, level, *reset)


def _integrated(program: Program, reached: int, state: str) -> tuple[int, bool] | None:
    """The shift of fit(v - (v >> shift) + a), and whether there is a fit."""
    ops = program.ops
    total = ops[reached]
    saturates = total.kind == "fit"
    if saturates:
        if (total.low, total.high, total.overflow) != (SHORT.lo, SHORT.hi, Overflow.SATURATE):
            return None
        total = ops[total.args[0]]
    elif not _is_short(total):
        return None
    if total.kind != "add":
        return None
    left, right = (ops[j] for j in total.args)
    kept, current = (left, right) if right.kind == "input" else (right, left)
    places = _decay(ops, kept, state) if current.kind == "input" and _is_short(current) else None
    return None if places is None else (places, saturates)


def _decay(ops: tuple[TypedOp, ...], kept: TypedOp, state: str) -> int | None:
    """The shift of v - (v >> shift)."""
    if kept.kind != "sub" or not _is_short(kept):
        return None
    v, lost = (ops[j] for j in kept.args)
    if v.kind != "state" or v.name != state or not _is_short(v):
        return None
    if lost.kind != "shr" or lost.args[0] != kept.args[0] or lost.rounding is not Rounding.FLOOR:
        return None
    counts = [ops[j] for j in lost.args[1:]]
    if any(count.kind != "const" for count in counts):
        return None
    places = counts[0].value if counts else lost.value
    return places if 1 <= places <= MOST_PLACES else None


def _reset(
    ops: tuple[TypedOp, ...], after: int, reached: int, level: int
) -> tuple[bool, int] | None:
    """Whether a reset subtracts, and what."""
    op = ops[after]
    if op.kind == "const" and op.value in SHORT:
        return False, op.value
    if op.kind == "sub" and op.args[0] == reached:
        amount, most = ops[op.args[1]], ops[reached].span
        # Only what reaches the level is reset: the rest of the proved interval does not matter.
        if amount.kind == "const" and amount.value in SHORT and most is not None:
            kept = {level - amount.value, max(level, most.hi) - amount.value}
            return (True, amount.value) if all(v in SHORT for v in kept) else None
    return None


def _is_short(op: TypedOp) -> bool:
    return op.span is not None and op.span in SHORT
