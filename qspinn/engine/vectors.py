"""Vector code for typed lists: 16 neurons at a time, their states in registers for a whole block.

Importing this file imports numba. What a list computes is fixed by `qspinn.interp`; the formulas
of the roundings are those of `qspinn.fixed.shr`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qspinn.engine.kernels import cgutils, generated, ir, types
from qspinn.engine.structure import LANES, Line

UNITS = 4
"""Vectors that are stepped side by side, so that none waits for the result of another."""

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_SEED, _GOLDEN = 0x243F6A88, 0x9E3779B1
_LOWEST = -(1 << 63)


def steps(
    lines: Sequence[Line], states: Sequence[int], output: int, membrane: int, units: int
) -> Any:
    """What compiled loops call to step ``units`` vectors of neurons through a block.

    Args:
        lines: The structure of a typed list, as tuples.
        states: For each state, the line whose value is kept.
        output: The line whose value is sent.
        membrane: The state whose maximum a summary holds; -1: there is none.
        units: How many vectors.

    The arguments of what is returned are those of the loop that `qspinn.engine.printed` prints,
    after the first unit's number: units are counted through the vectors of a sample, sample after
    sample.
    """

    @generated
    def step(
        typing: Any, unit: Any, each: Any, start: Any, numbers: Any, current: Any, sent: Any,
        held: Any, traces: Any, params: Any, element: Any, summary: Any,
    ) -> Any:  # fmt: skip
        given = (unit, each, start, numbers, current, sent, held, traces, params, element, summary)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            block = _Block(context, builder, signature.args, args)
            made = [_Vector(block, tuple(Line(*line) for line in lines), i) for i in range(units)]
            with cgutils.for_range(builder, block.steps, intp=_I64) as loop:
                for vector in made:
                    vector.step(loop.index, states, output, membrane)
            for vector in made:
                vector.close()
            return context.get_dummy_value()

        return types.void(*given), generate

    return step


class _Block:
    """The arguments of a call, and how vectors are read, written and made of numbers."""

    def __init__(self, context: Any, builder: Any, kinds: Any, args: Any) -> None:
        self.context, self.builder = context, builder
        self.unit, self.each, self.start = args[:3]
        self.numbers, self.current, self.sent = (self.array(kinds[i], args[i]) for i in (3, 4, 5))
        self.held, self.traces, self.params = (self.arrays(kinds[i], args[i]) for i in (6, 7, 8))
        self.element = self.array(kinds[9], args[9])
        self.summary = self.arrays(kinds[10], args[10])
        shape = self.current[0].shape
        self.steps, self.width = (builder.extract_value(shape, i) for i in (1, 2))

    def array(self, kind: Any, value: Any) -> Any:
        """An array and the width of its elements; None for None."""
        if isinstance(kind, types.NoneType):
            return None
        return self.context.make_array(kind)(self.context, self.builder, value), kind.dtype.bitwidth

    def arrays(self, kind: Any, value: Any) -> list[Any]:
        """The arrays of a tuple; none for None."""
        if isinstance(kind, types.NoneType) or not len(kind):
            return []
        parts = cgutils.unpack_tuple(self.builder, value, len(kind))
        return [self.array(k, part) for k, part in zip(kind, parts, strict=True)]

    def pointer(self, array: Any, at: Any) -> Any:
        place = self.builder.gep(array[0].data, [at])
        return self.builder.bitcast(place, _vector(array[1]).as_pointer())

    def load(self, array: Any, at: Any, bits: int) -> Any:
        """The vector from ``at`` on, in lanes of ``bits``."""
        return self.resized(self.builder.load(self.pointer(array, at), align=1), bits)

    def store(self, value: Any, array: Any, at: Any) -> None:
        """Write a vector from ``at`` on, in the type of the array."""
        value = self.resized(value, array[1])
        self.builder.store(value, self.pointer(array, at), align=1)

    def number(self, slot: int, bits: int) -> Any:
        """One of the numbers in every lane, modulo their width."""
        value = self.builder.load(self.builder.gep(self.numbers[0].data, [_I64(slot)]))
        return self.splat(value, bits)

    def splat(self, value: Any, bits: int) -> Any:
        """A 64-bit value in every lane, modulo their width."""
        value = value if bits == 64 else self.builder.trunc(value, ir.IntType(bits))
        one = self.builder.insert_element(ir.Constant(_vector(bits), ir.Undefined), value, _I32(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(_vector(32), None))

    def resized(self, value: Any, bits: int) -> Any:
        """The same values in wider lanes, or their low bits in narrower ones."""
        have = value.type.element.width
        if have == bits:
            return value
        if have == 1:
            return self.builder.zext(value, _vector(bits))
        change = self.builder.sext if have < bits else self.builder.trunc
        return change(value, _vector(bits))


def _vector(bits: int) -> Any:
    return ir.VectorType(ir.IntType(bits), LANES)


def _all(value: int, bits: int) -> Any:
    """A constant in every lane."""
    return ir.Constant(_vector(bits), [value % (1 << bits)] * LANES)


class _Vector:
    """The neurons of one unit: what their steps need from before the first and leave behind."""

    def __init__(self, block: _Block, lines: tuple[Line, ...], nth: int) -> None:
        self.block, self.lines, self.b = block, lines, block.builder
        unit = self.b.add(block.unit, _I64(nth))
        self.sample = self.b.sdiv(unit, block.each)
        self.lane = self.b.mul(self.b.srem(unit, block.each), _I64(LANES))
        self.home = self.b.add(self.b.mul(self.sample, block.width), self.lane)
        self.fixed = [self.before(line) for line in lines]
        self.held = [self.variable(array, array[1]) for array in block.held]
        self.summary = [self.variable(array, array[1]) for array in block.summary]
        self.index: Any = None
        if block.element:
            self.index = block.load(block.element, self.lane, 32)

    def variable(self, array: Any, bits: int) -> Any:
        place = cgutils.alloca_once(self.b, _vector(bits))
        self.b.store(self.block.load(array, self.home, bits), place)
        return place

    def before(self, line: Line) -> tuple[Any, ...]:
        """The vectors that a line needs and that are the same in every step."""
        number = self.block.number
        if line.word == "number":
            zero = line.slot < 0
            return (_all(0, line.bits) if zero else number(line.slot, line.bits),)
        if line.word == "param":
            return (self.block.load(self.block.params[line.args[0]], self.lane, line.bits),)
        if line.word == "shl":
            return (number(line.slot, line.work),)
        if line.word in ("saturate", "wrap"):
            return (number(line.slot, line.work), number(line.slot + 1, line.work))
        if "shr_" not in line.word:
            return ()
        fixed = len(line.args) < 2 or line.word.startswith("mul_")
        count = number(line.slot, line.work) if fixed else None
        draws = line.word.endswith("stochastic")
        return (count, number(line.slot + fixed, 32) if draws else None)

    def step(self, t: Any, states: Sequence[int], output: int, membrane: int) -> None:
        """One step: read the current, compute, keep the states, write what is sent."""
        block, b = self.block, self.b
        row = b.add(b.mul(self.sample, block.steps), t)
        at = b.add(b.mul(row, block.width), self.lane)
        self.time = b.add(block.start, t)
        values: list[Any] = []
        for line, fixed in zip(self.lines, self.fixed, strict=True):
            values.append(self.value(line, fixed, values, at))
        for place, i in zip(self.held, states, strict=True):
            b.store(block.resized(values[i], place.type.pointee.element.width), place)
        for array, place in zip(block.traces, self.held, strict=False):
            block.store(b.load(place), array, at)
        if block.sent:
            block.store(values[output], block.sent, at)
        if block.summary:
            self.summarize(values[output], membrane)

    def close(self) -> None:
        """Write the states and the summary back."""
        for array, place in zip(self.block.held, self.held, strict=True):
            self.block.store(self.b.load(place), array, self.home)
        for array, place in zip(self.block.summary, self.summary, strict=True):
            self.block.store(self.b.load(place), array, self.home)

    def summarize(self, sent: Any, membrane: int) -> None:
        """Counts, the first step with a spike, and the highest membrane potential."""
        b = self.b
        counts, first = self.summary[:2]
        wide = counts.type.pointee.element.width
        value = self.block.resized(sent, wide)
        b.store(b.add(b.load(counts), value), counts)
        fired = sent if sent.type.element.width == 1 else b.icmp_signed(">", value, _all(0, wide))
        here = b.select(fired, self.block.splat(self.time, 32), b.load(first))
        b.store(self.smaller(b.load(first), here), first)
        if membrane >= 0:
            peak, now = self.summary[2], b.load(self.held[membrane])
            b.store(self.larger(b.load(peak), now), peak)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def larger(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_signed(">", x, y), x, y)

    def value(self, line: Line, fixed: tuple[Any, ...], values: list[Any], at: Any) -> Any:
        """What one line computes."""
        block, b, word = self.block, self.b, line.word
        if word in ("number", "param"):
            return fixed[0]
        if word == "input":
            return block.load(block.current, at, line.bits)
        if word == "state":
            return block.resized(b.load(self.held[line.args[0]]), line.bits)
        if word == "split":
            return None
        args = [values[j] for j in line.args]
        if word == "not":
            return b.not_(args[0])
        if word in ("and", "or"):
            return (b.and_ if word == "and" else b.or_)(*args)
        if word == "select":
            arms = (block.resized(x, line.bits) for x in args[1:])
            return b.select(args[0], *arms)
        args = [block.resized(x, line.work) for x in args]
        if word.startswith("mul_"):
            return self.split(line, args, *fixed)
        if word.startswith("shr_"):
            return block.resized(self.shift(line, args, *fixed), line.bits)
        return self.arithmetic(line, args, fixed)

    def arithmetic(self, line: Line, args: list[Any], fixed: tuple[Any, ...]) -> Any:
        b, word = self.b, line.word
        if word in ("gt", "ge"):
            return b.icmp_signed(">" if word == "gt" else ">=", *args)
        if word == "saturate":
            value = self.smaller(self.larger(args[0], fixed[0]), fixed[1])
        elif word == "wrap":
            low, size = fixed
            value = b.add(low, b.and_(b.sub(args[0], low), size))
        elif word == "shl":
            value = b.shl(args[0], fixed[0])
        else:
            made = {
                "add": b.add, "sub": b.sub, "mul": b.mul, "min": self.smaller, "max": self.larger,
            }[word]  # fmt: skip
            value = made(*args)
        return self.block.resized(value, line.bits)

    def shift(self, line: Line, args: list[Any], count: Any, key: Any) -> Any:
        """(x + push) >> k."""
        b, x, work = self.b, args[0], line.work
        variable = count is None
        k = args[1] if variable else count
        word = line.word.removeprefix("shr_")
        if word == "floor":
            return b.ashr(x, k)
        zero, one = _all(0, work), _all(1, work)
        negative = b.icmp_signed("<", x, zero)
        if word == "zero":
            push = b.select(negative, b.sub(b.shl(one, k), one), zero)
        elif word == "stochastic":
            push = self.draw(k, key, work)
        else:
            half = b.lshr(b.shl(one, k), one)
            if word == "nearest_even":
                push = b.add(b.sub(half, one), b.and_(b.ashr(x, k), one))
            else:
                push = b.sub(half, b.zext(negative, _vector(work)))
            if variable:
                push = b.select(b.icmp_signed(">", k, zero), push, zero)
        return b.ashr(b.add(x, push), k)

    def split(self, line: Line, args: list[Any], k: Any, key: Any) -> Any:
        """The shift of a product too wide for 32 bits, whose low part fits them."""
        b, (x, c) = self.b, args
        zero, one = _all(0, 32), _all(1, 32)
        mask = b.sub(b.shl(one, k), one)
        high, low = b.mul(b.ashr(x, k), c), b.mul(b.and_(x, mask), c)
        word = line.word.removeprefix("mul_shr_")
        # A product is negative where x is, or zero: there the pushes differ, but not the results.
        negative = b.icmp_signed("<", x, zero)
        if word == "zero":
            low = b.add(low, b.select(negative, mask, zero))
        elif word == "stochastic":
            low = b.add(low, self.draw(k, key, 32))
        elif word == "nearest_even":
            odd = b.and_(b.add(high, b.lshr(low, k)), one)
            low = b.add(low, b.add(b.lshr(mask, one), odd))
        elif word == "nearest_away":
            below = b.zext(negative, _vector(32))
            low = b.add(low, b.sub(b.add(b.lshr(mask, one), one), below))
        return b.add(high, b.lshr(low, k))

    def draw(self, k: Any, key: Any, work: int) -> Any:
        """``k`` random bits of this step and neuron."""
        b = self.b
        h = _all(_SEED, 32)
        for word in (key, self.block.splat(self.time, 32), self.index):
            h = self.mix(b.xor(h, b.mul(word, _all(_GOLDEN, 32))))
        # In two shifts: no lane can be shifted by its own width.
        if work == 32:
            return b.lshr(b.lshr(h, _all(1, 32)), b.sub(_all(31, 32), k))
        return b.lshr(b.zext(h, _vector(64)), b.sub(_all(32, 64), k))

    def mix(self, h: Any) -> Any:
        """The finalizer of `qspinn.fixed.hash32`."""
        b = self.b
        h = b.mul(b.xor(h, b.lshr(h, _all(16, 32))), _all(0x85EBCA6B, 32))
        h = b.mul(b.xor(h, b.lshr(h, _all(13, 32))), _all(0xC2B2AE35, 32))
        return b.xor(h, b.lshr(h, _all(16, 32)))
