"""What of a typed list is code, and what are numbers that one compiled loop takes as arguments.

Formats, ranges, shift counts and constants are numbers; kinds of operations, roundings and the
choice between 32 and 64 bits are code. So the hundreds of formats that a search tries need a
handful of compiled loops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qspinn.fixed import IntArray, Interval, Overflow, Rounding
from qspinn.printer import fits_int32
from qspinn.program import Program, TypedOp

LANES = 16
"""Neurons in a vector; lanes of a row come in multiples of it."""

Operands = tuple[int, ...]


class Line(NamedTuple):
    """One operation as code.

    Attributes:
        word: Its kind; of a shift with its rounding, of a store with what it does beyond its range;
            ``number`` for a constant or a parameter that is equal for all neurons.
        args: Lines of its operands; a leaf has its position among the states or parameters.
        bits: In which its value is held: 32, 64, or 1 for a truth value.
        work: In which it is computed.
        slot: The first of its numbers; -1: it has none.
    """

    word: str
    args: Operands
    bits: int
    work: int = 0
    slot: int = -1


@dataclass(frozen=True, eq=False)
class Structure:
    """A typed list as code and numbers.

    Attributes:
        lines: The code.
        states: For each state, in order, the line whose value is kept.
        output: The line whose value is sent.
        numbers: The numbers.
        params: Names of the parameters that differ between neurons, in order.
    """

    lines: tuple[Line, ...]
    states: tuple[int, ...]
    output: int
    numbers: IntArray
    params: tuple[str, ...]

    @property
    def stochastic(self) -> bool:
        """Whether a step draws random numbers."""
        return any(line.word.endswith(Rounding.STOCHASTIC.value) for line in self.lines)


def structure(program: Program, states: tuple[str, ...]) -> Structure:
    """Part a list into code and numbers; ``states`` gives the order of the states."""
    build = _Build(program, states)
    for i in range(len(program.ops)):
        build.add(i)
    finals = tuple(program.finals[name] for name in states)
    numbers = np.array(build.numbers, np.int64)
    return Structure(tuple(build.lines), finals, program.output, numbers, build.params)


def bits_of(span: Interval | None) -> int:
    """The bits a value is held in; 1 for a truth value."""
    if span is None:
        return 1
    return 32 if fits_int32(span) else 64


class _Build:
    """The lines under construction, one for each operation."""

    def __init__(self, program: Program, states: tuple[str, ...]) -> None:
        self.ops, self.params_of = program.ops, program.params
        self.places: Mapping[str, int] = {name: i for i, name in enumerate(states)}
        uneven = [name for name, p in program.params.items() if p.values.min() != p.values.max()]
        self.params = tuple(uneven)
        self.numbers: list[int] = []
        self.lines: list[Line] = []
        self.split = _split(program)

    def add(self, i: int) -> None:
        op = self.ops[i]
        bits = bits_of(op.span)
        if op.kind in ("input", "state", "param", "const"):
            self.lines.append(self.leaf(op, bits))
        elif op.kind == "shr":
            self.lines.append(self.shift(op, bits))
        elif op.kind == "fit":
            self.lines.append(self.fit(op, bits))
        elif i in self.split:
            self.lines.append(Line("split", op.args, bits))
        else:
            work = max(self.work(op), bits)
            slot = self.take(min(op.value, work - 1)) if op.kind == "shl" else -1
            self.lines.append(Line(op.kind, op.args, bits, work, slot))

    def take(self, *values: int) -> int:
        self.numbers += values
        return len(self.numbers) - len(values)

    def work(self, op: TypedOp) -> int:
        return max(bits_of(self.ops[j].span) for j in op.args)

    def leaf(self, op: TypedOp, bits: int) -> Line:
        if op.kind == "input":
            return Line("input", (), bits)
        if op.kind == "state":
            return Line("state", (self.places[op.name],), bits)
        if op.kind == "param" and op.name in self.params:
            return Line("param", (self.params.index(op.name),), bits)
        value = op.value if op.kind == "const" else int(self.params_of[op.name].values.flat[0])
        # A zero is the model's own, whatever the formats; known to the compiler, it costs nothing.
        return Line("number", (), bits, slot=self.take(value) if value else -1)

    def shift(self, op: TypedOp, bits: int) -> Line:
        word, source = f"shr_{op.rounding.value}", op.args[0]
        count = self.ops[op.args[1]].span if len(op.args) > 1 else Interval(op.value, op.value)
        span = self.ops[source].span
        assert span is not None, "a shift reads a value"
        assert count is not None, "a count is a value"
        # The push that rounds is added before the shift, and is smaller than what is dropped.
        pushed = Interval(span.lo, span.hi + (1 << count.hi) - 1)
        work = 32 if count.hi <= 31 and fits_int32(pushed) else 64
        draws = op.rounding is Rounding.STOCHASTIC
        if source in self.split:
            key = (op.key,) if draws else ()
            factors = self.lines[source].args
            return Line(f"mul_{word}", factors, bits, 32, self.take(op.value, *key))
        if len(op.args) > 1:
            return Line(word, op.args, bits, work, self.take(op.key) if draws else -1)
        return Line(word, op.args, bits, work, self.take(op.value, *((op.key,) if draws else ())))

    def fit(self, op: TypedOp, bits: int) -> Line:
        work = max(self.work(op), bits)
        if op.overflow is Overflow.WRAP:
            return Line("wrap", op.args, bits, work, self.take(op.low, op.high - op.low))
        half = 1 << (work - 1)  # an end beyond the type clips nothing
        ends = max(op.low, -half), min(op.high, half - 1)
        return Line("saturate", op.args, bits, work, self.take(*ends))


def _split(program: Program) -> set[int]:
    """Wide products that are computed in 32 bits, in two parts, by the shift that reads them.

    With x = h * 2**k + l the low part l * c and the push that rounds it must fit 31 bits.
    """
    found = set()
    for op in program.ops:
        if op.kind != "shr" or len(op.args) > 1:
            continue
        source = op.args[0]
        product = program.ops[source]
        kept = source in program.finals.values() or source == program.output
        readers = sum(other.args.count(source) for other in program.ops)
        if product.kind != "mul" or fits_int32(product.span) or kept or readers > 1:
            continue
        value, factor = (program.ops[j].span for j in product.args)
        assert factor is not None, "a factor is a value"
        narrow = fits_int32(value) and fits_int32(op.span) and factor.lo >= 0
        if narrow and op.value + factor.hi.bit_length() <= 31:
            found.add(source)
    return found
