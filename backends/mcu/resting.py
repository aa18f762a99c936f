"""Neurons of an image two at a time that add up what comes: the constants that it takes.

Both membranes lie in one word, offset so that a lane reaches its highest bit exactly where the
neuron sends something; what does not is clipped below, if at all. Most sums are 0 in most steps:
where that leaves a neuron as it is, a word of two such sums is not looked at further. What is
found by the highest bits, or has sums that might take a lane too far, is done exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qspinn.fixed import Interval, Overflow
from qspinn.interp import step_program
from qspinn.ir import Array
from qspinn.program import Program, TypedOp

from .leaky import Decay, current_terms
from .packedlif import FEWEST_SUMS, FULL, HALF
from .pairs import InPairs
from .quiet import HELD, LEAVES, Quiet, needed, quiet

MOST = 1 << 20
"""The values of which each is tried: what a step may make of a membrane is proved so."""


@dataclass(frozen=True, slots=True)
class Resting(InPairs):
    """The constants of the packed update, as lanes.

    A stored lane is the membrane plus `stored`; with the sum, `gain` and `add` it is the next one,
    plus the same, before it is compared and clipped.

    Attributes:
        gain: How far sums are shifted to the left.
        narrow: What is taken from a lane of the sums, which must lie below `span` then; 0: any may.
        span: See `narrow`.
        stored: What a membrane is offset by.
        add: What is added beside the sum.
        low: The least lane: what is below becomes it.
        rests: Whether a neuron whose sum is 0 stays as it is and sends nothing: ``always``;
            ``below``, if its lane is below the highest bit; or empty.
    """

    gain: int
    narrow: int
    span: int
    stored: int
    add: int
    low: int
    rests: str

    @property
    def constants(self) -> tuple[int, int]:
        """What is added, and the least lanes."""
        add, low = (lane * 0x10001 & 0xFFFFFFFF for lane in (self.add, self.low))
        return add, low


def resting(program: Program, reach: Interval) -> Resting | None:
    """The packed update of a layer; None where its typed list is another.

    Args:
        program: The typed list; its state is ``v`` alone, and its parameters are constants.
        reach: The interval of its input current.
    """
    found = None if program.stochastic else quiet(program)
    if found is None or set(program.finals) != {"v"}:
        return None
    drive = _drive(program, found.value)
    low = least(program, found)
    held = _held(program, found)
    if drive is None or low is None or held is None:
        return None
    gain, fixed = drive
    stored = HALF - found.below
    lowest, most = held.lo + stored + fixed, held.hi + stored + fixed
    if min(lowest, held.lo + stored) < 0 or max(most, held.hi + stored) >= FULL:
        return None
    limit = 0
    if lowest + (reach.lo << gain) < 0 or most + (reach.hi << gain) >= FULL:
        room = min(lowest, FULL - 1 - most) >> gain
        limit = 1 << (room.bit_length() - 1) if room > 0 else 0
        if limit < FEWEST_SUMS:
            return None
    lane = max(low + stored, 0)
    if lane >= HALF:
        return None
    return Resting(
        gain=gain, narrow=HALF - limit if limit else 0, span=2 * limit, stored=stored,
        add=fixed - ((limit or HALF) << gain), low=lane, rests=_rests(program, held, found.below),
    )  # fmt: skip


def _drive(program: Program, value: int) -> tuple[int, int] | None:
    """The shift of the current and the constant that are added to a membrane without a leak."""
    total = program.ops[value]
    if total.kind == "fit" and total.overflow is Overflow.SATURATE:
        total = program.ops[total.args[0]]
    terms = current_terms(program.ops, total)
    if terms is None:
        return None
    decay, gain, fixed, _, names = terms
    return None if decay != Decay(0) or names else (gain, fixed)


def least(program: Program, found: Quiet) -> int | None:
    """Where the membrane of a silent neuron is clipped; None where something else becomes of it."""
    ops = found.program.ops
    end, low = ops[found.program.finals["v"]], -FULL
    total = program.ops[found.value]
    if total.kind == "fit":
        low = total.low
    while end.name != HELD:
        if end.kind == "max":
            args = [ops[j] for j in end.args]
            constant = next((op for op in args if op.kind == "const"), None)
            others = [op for op in args if op is not constant]
            if constant is None or len(others) != 1:
                return None
            low, end = max(low, constant.value), others[0]
        elif end.kind == "fit" and end.overflow is Overflow.SATURATE and end.high >= found.below:
            low, end = max(low, end.low), ops[end.args[0]]
        else:
            return None
    return low


def _held(program: Program, found: Quiet) -> Interval | None:
    """What a membrane may be after a step, by trying every value that is compared."""
    op = program.ops[found.value]
    ops = list(program.ops)
    ops[found.value] = TypedOp("input", name=HELD, frac=op.frac, span=op.span)
    made = replace(program, ops=tuple(ops))
    kept = needed(made, made.finals["v"]) | needed(made, made.output)
    if any(ops[i].kind in LEAVES and ops[i].kind != "const" and ops[i].name != HELD for i in kept):
        return None
    assert op.span is not None, "values are compared"
    if op.span.hi - op.span.lo >= MOST:
        return None
    after, _ = _stepped(made, {HELD: np.arange(op.span.lo, op.span.hi + 1)})
    start = program.states["v"].init.values
    return Interval(int(after.min()), int(after.max())) | Interval(
        int(start.min()), int(start.max())
    )


def _rests(program: Program, held: Interval, below: int) -> str:
    """Which neurons nothing comes of without input, by trying every membrane."""
    calm = np.arange(held.lo, min(held.hi + 1, below))
    after, sent = _stepped(program, {"v": calm})
    if (after != calm).any() or sent.any() or not calm.size:
        return ""
    return "always" if held.hi < below else "below"


def _stepped(program: Program, leaves: dict[str, Array]) -> tuple[Array, Array]:
    """The membranes and what is sent, all other leaves 0."""
    (given,) = leaves.values()
    every = {op.name: np.zeros_like(given) for op in program.ops if op.kind in LEAVES}
    after, sent = step_program(program, {**every, **leaves}, 0, given.shape)
    return np.broadcast_to(after["v"], given.shape), np.broadcast_to(sent, given.shape)
