"""Leaky neurons with membranes of a byte, four a word: the constants that it takes.

Every second byte of a word, as a lane of 16 bits, is decayed and driven as `packedlif` does it with
halves; there is room for the membrane before it is clipped. A lane reaches its highest bit exactly
where the neuron spikes, and what does not is clipped below. Spikes leave a membrane that is the
same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qspinn.fixed import Interval, Overflow
from qspinn.interp import step_program
from qspinn.ir import Neuron
from qspinn.program import Program, TypedOp

from .layout import CType, holding
from .leaky import Decay, addends, current_shift, decay_of
from .network import Start
from .packedlif import FULL, HALF
from .pairs import Quads, word
from .quiet import HELD, LEAVES, needed, quiet
from .resting import least

STORED = 128
"""What a membrane is offset by in its byte."""
BYTE = CType(8, signed=True)


@dataclass(frozen=True, slots=True)
class PackedFours:
    """The constants of the packed update, as lanes.

    Attributes:
        decay: What is left of a stored lane, as small a factor as can be.
        wide: What is added to a lane before, so that it decays exactly; 0: nothing.
        right: How far sums are shifted to the right, rounding down.
        gain: The same to the left.
        add: What is added beside the sum.
        low: The least lane: what is below becomes it.
        floor: What it is stored as.
        reset: What the membrane of a neuron that spiked is stored as.
    """

    lanes: ClassVar[int] = 4
    spikes: ClassVar[str] = "four"
    stored: ClassVar[int] = STORED

    decay: Decay
    wide: int
    right: int
    gain: int
    add: int
    low: int
    floor: int
    reset: int

    @property
    def held(self) -> Quads:
        """How membranes lie in words."""
        return Quads(self.stored)

    @staticmethod
    def code(lane: int) -> str:
        """C for a word with a value in both halves."""
        return word(lane)

    @property
    def constants(self) -> tuple[int, int, int]:
        """What is added, the least lanes, and what is left of sums that are shifted."""
        add, low = (lane * 0x10001 & 0xFFFFFFFF for lane in (self.add, self.low))
        return add, low, ((FULL - 1) >> self.right) * 0x10001


def takes_byte(node: Neuron) -> bool:
    """Whether a layer has no state but membranes of a byte, its channels in fours."""
    if set(node.states) != {"v"} or node.shape[0] % 4 or len(node.shape) < 2:
        return False
    held = node.states["v"]
    assert held.fmt is not None, "an integer graph"
    span = held.fmt.range | Interval(int(held.init.values.min()), int(held.init.values.max()))
    return holding(span) == BYTE and span.bits == BYTE.bits


def packed_fours(
    program: Program, reach: Interval, gain: int, added: tuple[Start, ...]
) -> PackedFours | None:
    """The packed update of a layer; None where its typed list is another.

    Args:
        program: The typed list; its state is ``v`` alone, and its parameters are constants.
        reach: The interval of its sums.
        gain: What they are multiplied by.
        added: What is added to that.
    """
    found = None if program.stochastic or program.sends != "spike" else quiet(program)
    if found is None or set(program.finals) != {"v"} or any(b.varies for b in added):
        return None
    bias = sum(b.literals[0] * b.factor for b in added)
    drive = _drive(program, found.value, gain, bias)
    low = least(program, found)
    reset = _reset(program, found.value, found.below)
    if drive is None or low is None or reset is None or low > BYTE.span.hi:
        return None
    low = max(low, BYTE.span.lo)  # no membrane is less
    decay, right, left, fixed = drive
    held = range(BYTE.span.lo, BYTE.span.hi + 1)
    exact, wide = _exact(decay)
    working, offset = HALF - found.below, exact.of(STORED + wide)
    lanes = [exact.of(v + STORED + wide) for v in held]
    if max(lanes) >= FULL or any(
        x - offset != decay.of(v) for v, x in zip(held, lanes, strict=True)
    ):
        return None
    beside = fixed + working - offset
    span = Interval(
        min(lanes) + (reach.lo >> right << left) + beside,
        max(lanes) + (reach.hi >> right << left) + beside,
    )
    if span not in Interval(0, FULL - 1) or not 0 <= low + working < HALF:
        return None
    return PackedFours(
        decay=exact, wide=wide, right=right, gain=left,
        add=beside - ((HALF >> right) << left), low=low + working,
        floor=low + STORED, reset=reset + STORED,
    )  # fmt: skip


def _drive(
    program: Program, value: int, gain: int, bias: int
) -> tuple[Decay, int, int, int] | None:
    """The decay, the shifts of sums to the right and to the left, and what is added."""
    ops = program.ops
    total = ops[value]
    if total.kind == "fit" and total.overflow is Overflow.SATURATE:
        total = ops[total.args[0]]
    right = 0
    if total.kind == "shr" and len(total.args) == 1 and total.rounding.value == "floor":
        right, total = total.value, ops[total.args[0]]
    decay: Decay | None = None
    left: int | None = None
    fixed = 0
    for term in addends(ops, total):
        if term.kind == "const":
            fixed += term.value
        elif (shift := current_shift(ops, term)) is not None and left is None:
            left = shift
        elif decay is None and (found := _decay(ops, term, right)) is not None:
            decay = found
        else:
            return None
    if decay is None or left is None or gain & (gain - 1):
        return None
    left += gain.bit_length() - 1
    fixed += bias << (left - gain.bit_length() + 1)
    if right and (left or fixed):
        return None
    return decay, right, left, fixed


def _decay(ops: tuple[TypedOp, ...], term: TypedOp, right: int) -> Decay | None:
    """The decay of a term that is shifted to the left as far as the sum is shifted back."""
    if right:
        if term.kind != "shl" or len(term.args) != 1 or term.value != right:
            return None
        term = ops[term.args[0]]
    return decay_of(ops, term)


def _exact(decay: Decay) -> tuple[Decay, int]:
    """The same decay with as small a factor as can be, and what makes lanes decay exactly."""
    while decay.factor and decay.factor % 2 == 0 and decay.shift > 1:
        decay = Decay(decay.shift - 1, decay.factor // 2)
    if not decay.shift:
        return decay, 0
    if decay.factor:
        small = decay.factor < 1 << decay.shift <= STORED
        return decay, 0 if small else HALF - STORED
    return decay, 0 if decay.shift <= 7 else HALF - STORED


def _reset(program: Program, value: int, below: int) -> int | None:
    """The membrane after a spike, by trying every value; None where it is not the same for all."""
    op = program.ops[value]
    ops = list(program.ops)
    ops[value] = TypedOp("input", name=HELD, frac=op.frac, span=op.span)
    made = replace(program, ops=tuple(ops))
    kept = needed(made, made.finals["v"]) | needed(made, made.output)
    if any(ops[i].kind in LEAVES and ops[i].kind != "const" and ops[i].name != HELD for i in kept):
        return None
    assert op.span is not None, "values are compared"
    if op.span.hi - op.span.lo >= FULL:
        return None
    values = np.arange(op.span.lo, op.span.hi + 1)
    every = {x.name: np.zeros_like(values) for x in ops if x.kind in LEAVES}
    after, sent = step_program(made, {**every, HELD: values}, 0, values.shape)
    ends = np.broadcast_to(after["v"], values.shape)[values >= below]
    spikes = np.broadcast_to(sent, values.shape)
    if not ends.size or not np.array_equal(spikes != 0, values >= below) or (ends != ends[0]).any():
        return None
    return int(ends[0]) if ends[0] in range(BYTE.span.lo, BYTE.span.hi + 1) else None
