"""What a neuron's step comes to where nothing is sent: one comparison, and little after it.

Most neurons send nothing in most steps. Where one value below a constant proves that, the typed
list shrinks to what remains under that assumption, and the long way is taken by the others alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qspinn.fixed import Interval
from qspinn.printer import fits_int32
from qspinn.program import Program, TypedOp

from .network import Write
from .simplify import simplified

LEAVES = ("input", "state", "param", "const")
HELD = "@"
"""The name of the leaf that stands for the value that is compared."""


@dataclass(frozen=True)
class Quiet:
    """A shorter list for most neurons.

    Attributes:
        value: The operation that is compared.
        below: Nothing is sent where its value is less.
        program: The step of such a neuron; a leaf named `HELD` is the value.
    """

    value: int
    below: int
    program: Program


@dataclass(frozen=True, slots=True)
class Calm:
    """What a loop does for a neuron that sends nothing.

    Attributes:
        test: C that is true of such a neuron.
        before: The lines of the loop that the test needs.
        lines: The rest of the step.
        writes: What members keep.
    """

    test: str
    before: tuple[str, ...]
    lines: tuple[str, ...]
    writes: tuple[Write, ...]


def quiet(program: Program) -> Quiet | None:
    """The shortest list for neurons that send nothing, if one comparison is enough to tell them."""
    if program.sends == "current":
        return None
    found = [made for made in map(lambda at: _assume(program, *at), _tests(program)) if made]
    return min(found, key=lambda made: (len(made.program.ops), -made.below), default=None)


def _totalled(program: Program) -> Program:
    """The list with sums of constants made, whose intervals were those of all neurons."""
    ops: list[TypedOp] = []
    for op in program.ops:
        args = [ops[j] for j in op.args]
        if op.kind == "add" and all(a.kind == "const" for a in args):
            total = sum(a.value for a in args)
            op = TypedOp("const", value=total, frac=op.frac, span=Interval(total, total))
        ops.append(op)
    return replace(program, ops=tuple(ops))


def needed(program: Program, value: int) -> frozenset[int]:
    """The operations that a value depends on, itself included."""
    found = {value}
    for i in range(value, -1, -1):
        if i in found:
            found.update(program.ops[i].args)
    return frozenset(found)


def _tests(program: Program) -> list[tuple[int, int]]:
    """The values that are compared with constants first, each with the lowest of all constants."""
    limits: list[int] = []
    values: list[int] = []
    for op in program.ops:
        if op.kind not in ("gt", "ge"):
            continue
        span = program.ops[op.args[1]].span
        if span is not None and span.lo == span.hi:
            limits.append(span.lo + (op.kind == "gt"))
            values.append(op.args[0])
    return [(value, limit) for value in dict.fromkeys(values) for limit in dict.fromkeys(limits)]


def _assume(program: Program, value: int, below: int) -> Quiet | None:
    """The list under the assumption that a value is below a limit, if then nothing is sent."""
    op = program.ops[value]
    assert op.span is not None, "values are compared"
    if op.kind in LEAVES or not op.span.lo < below <= op.span.hi or not fits_int32(op.span):
        return None
    held = TypedOp("input", name=HELD, frac=op.frac, span=Interval(op.span.lo, below - 1))
    ops = list(program.ops)
    ops[value] = held
    made = simplified(_totalled(simplified(replace(program, ops=tuple(ops)))))
    output = made.ops[made.output]
    silent = output.kind == "const" and output.value == 0
    return Quiet(value, below, made) if silent else None
