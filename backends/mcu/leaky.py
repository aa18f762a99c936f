"""Which typed lists are a leaky neuron's step, and what they do in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.program import Program, TypedOp

LANES16 = Interval(-(1 << 15), (1 << 15) - 1)
"""What 16 bits with a sign hold."""


@dataclass(frozen=True, slots=True)
class Decay:
    """How a membrane decays: v - (v >> shift), or (v * factor) >> shift where there is a factor.

    Without both it does not.
    """

    shift: int
    factor: int = 0

    def of(self, value: int) -> int:
        """A membrane after it."""
        if self.factor:
            return value * self.factor >> self.shift
        return value - (value >> self.shift) if self.shift else value


@dataclass(frozen=True, slots=True)
class LeakyStep:
    """What a typed list does, where it is a leaky neuron's.

    Attributes:
        decay: Of the membrane.
        gain: How far the input current is shifted to the left.
        fixed: The constant that is added.
        bias: The interval of the parameters that are added, and the constant.
        biases: The parameters' names.
        next: The interval of the next membrane before it is clipped.
        low: Where it is clipped, or the least that it is.
        high: The same at the other end.
        threshold: Its interval.
        name: The parameter's name.
        beyond: 1 where a membrane must exceed the threshold to spike; 0 where equality will do.
        reset: What the membrane becomes at a spike; None: less the threshold.
        held: The interval of a membrane between steps.
    """

    decay: Decay
    gain: int
    fixed: int
    bias: Interval
    biases: tuple[str, ...]
    next: Interval
    low: int
    high: int
    threshold: Interval
    name: str
    beyond: int
    reset: int | None
    held: Interval


def leaky_step(program: Program) -> LeakyStep | None:
    """What the list does; None where it is no leaky neuron's step with one threshold."""
    ops = program.ops
    if set(program.finals) != {"v"} or program.sends != "spike" or program.stochastic:
        return None
    end, spike = ops[program.finals["v"]], ops[program.output]
    if end.kind != "select" or end.args[0] != program.output or spike.kind not in ("gt", "ge"):
        return None
    _, yes, no = end.args
    if spike.args[0] != no:
        return None
    threshold = ops[spike.args[1]]
    reset = _reset_of(ops, yes, no, spike.args[1])
    held = next((op.span for op in ops if op.kind == "state"), None)
    if threshold.kind not in ("const", "param") or threshold.span is None or reset is False:
        return None
    clip = ops[no] if ops[no].kind == "fit" else None
    total = ops[ops[no].args[0]] if clip else ops[no]
    if clip and clip.overflow is not Overflow.SATURATE:
        return None
    terms = current_terms(ops, total)
    if terms is None or total.span is None or held is None or held not in LANES16:
        return None
    leak, gain, fixed, bias, names = terms
    bounds = (clip.low, clip.high) if clip else (total.span.lo, total.span.hi)
    return LeakyStep(
        leak, gain, fixed, bias, names, total.span, *bounds, threshold.span, threshold.name,
        int(spike.kind == "gt"), None if reset is True else int(reset), held,
    )  # fmt: skip


def _reset_of(ops: tuple[TypedOp, ...], yes: int, no: int, threshold: int) -> int | bool:
    """The value after a spike; True: less the threshold; False: something else."""
    end = ops[yes]
    if end.kind == "sub" and end.args == (no, threshold):
        return True
    if end.kind == "const" and end.span is not None and end.span in LANES16:
        return end.value
    return False


def current_terms(
    ops: tuple[TypedOp, ...], total: TypedOp
) -> tuple[Decay, int, int, Interval, tuple[str, ...]] | None:
    """Leak, shift of the current, and biases of a sum of the three; None if it is another."""
    leak: Decay | None = None
    gain: int | None = None
    names: list[str] = []
    fixed = low = high = 0
    for term in addends(ops, total):
        if (decay := decay_of(ops, term)) is not None and leak is None:
            leak = decay
        elif (found := current_shift(ops, term)) is not None and gain is None:
            gain = found
        elif term.kind in ("const", "param") and term.span is not None:
            if term.kind == "const":
                fixed += term.value
            else:
                names.append(term.name)
            low, high = low + term.span.lo, high + term.span.hi
        else:
            return None
    if leak is None or gain is None:
        return None
    return leak, gain, fixed, Interval(low, high), tuple(names)


def addends(ops: tuple[TypedOp, ...], op: TypedOp) -> Iterator[TypedOp]:
    """What a sum adds up, sums within it taken apart."""
    if op.kind == "add":
        for j in op.args:
            yield from addends(ops, ops[j])
    else:
        yield op


def decay_of(ops: tuple[TypedOp, ...], op: TypedOp) -> Decay | None:
    """How a term decays the membrane, rounding down; None where it is something else."""
    if op.kind == "state":
        return Decay(0)
    if op.kind == "sub" and ops[op.args[0]].kind == "state":
        shift = ops[op.args[1]]
        count = _shifted(ops, shift) if shift.args[:1] == op.args[:1] else None
        return Decay(count) if count is not None and 1 <= count <= 14 else None
    count = _shifted(ops, op)
    product = ops[op.args[0]] if op.kind == "shr" else op
    if product.kind != "mul" or count is None or not 1 <= count <= 15:
        return None
    kinds = {ops[j].kind: _constant(ops[j]) for j in product.args}
    factor = next((value for kind, value in kinds.items() if kind != "state"), None)
    if "state" not in kinds or factor is None or not 1 <= factor < 1 << 16:
        return None
    return Decay(count, factor)


def _shifted(ops: tuple[TypedOp, ...], op: TypedOp) -> int | None:
    """How far a value is shifted to the right, rounding down."""
    if op.kind != "shr" or op.rounding is not Rounding.FLOOR:
        return None
    return op.value if len(op.args) == 1 else _constant(ops[op.args[1]])


def _constant(op: TypedOp) -> int | None:
    if op.span is None or op.span.lo != op.span.hi:
        return None
    return op.span.lo


def current_shift(ops: tuple[TypedOp, ...], op: TypedOp) -> int | None:
    """How far the input current is shifted to the left."""
    if op.kind == "input":
        return 0
    if op.kind == "shl" and len(op.args) == 1 and ops[op.args[0]].kind == "input":
        return op.value
    return None
