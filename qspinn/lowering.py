"""Lowering: a neuron model and its formats become one typed list of integer operations.

Only leaves have formats. Precision is lost in three visible places: a coefficient's product, a
source shift and a store; range is lost in one, the store. Alignment shifts left and loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from qspinn.dynamics import COMPARISONS, LOGIC, Op
from qspinn.errors import QuantizeError, located
from qspinn.fixed import WORD, Interval, Overflow, QFormat, Rounding, text_key
from qspinn.intervals import Spans, fixpoint
from qspinn.ir import Graph, Neuron, Param
from qspinn.program import Program, TypedOp
from qspinn.signals import Signal, signals, summed

Programs = Mapping[str, Program]


def programs(graph: Graph, steps: int | None = None) -> dict[str, Program]:
    """The typed list of every neuron node of an integer graph.

    Args:
        graph: An integer graph.
        steps: Bound the intervals for that many steps since reset; None proves them for ever.

    Raises:
        QuantizeError: A state declared free of overflow may overflow, or a width exceeds 63 bits.
    """
    known = signals(graph)
    return {
        node.name: program(node, tuple(known[i] for i in node.inputs), steps)
        for node in graph.of_type(Neuron)
    }


def program(node: Neuron, args: tuple[Signal, ...], steps: int | None = None) -> Program:
    """The typed list of one neuron node that reads ``args``; see `programs`."""
    with located(node.path):
        current = summed(args)
        if current.interval is None:
            raise QuantizeError("the graph is not quantized")
        return _cached(node, current.interval, current.frac, steps)


@lru_cache(maxsize=4096)
def _cached(node: Neuron, span: Interval, frac: int, steps: int | None) -> Program:
    return lower(node, span, frac, steps)


def lower(node: Neuron, span: Interval, frac: int, steps: int | None = None) -> Program:
    """Lower one neuron node, whose input current has binary point ``frac`` and lies in ``span``."""
    ops, finals, output = unproved(node, frac)
    leaves = {"a": span, **{name: _values(p) for name, p in node.values.items()}}
    start = {name: _values(s.init) for name, s in node.states.items()}
    spans, forever = fixpoint(ops, finals, start, leaves, steps)
    _refuse_wide(node, span, frac)
    _refuse_overflow(ops, spans, node)
    kept, moved = _without_idle_fits(ops, spans)
    return Program(
        ops=kept,
        finals={name: moved[i] for name, i in finals.items()},
        output=moved[output],
        sends=node.model.sends,
        params=node.values,
        states=node.states,
        input_span=span,
        steps=None if forever else steps,
    )


def unproved(node: Neuron, frac: int) -> tuple[list[TypedOp], dict[str, int], int]:
    """The list of a node before intervals are known, with every store, and its results.

    Returns:
        The operations, the one that each state is kept from, and the one that is sent.
    """
    build = _Build(node, frac)
    for op in node.model.ops:
        build.add(op)
    finals = {name: build.stored[name] for name in node.model.states}
    return build.ops, finals, build.at[node.model.output]


def _values(param: Param) -> Interval:
    return Interval(int(param.values.min()), int(param.values.max()))


class _Build:
    """The typed list under construction."""

    def __init__(self, node: Neuron, frac: int) -> None:
        self.model, self.params, self.states = node.model, node.values, node.states
        self.frac, self.path, self.entry = frac, node.path, node.input_format
        self.ops: list[TypedOp] = []
        self.at: dict[int, int] = {}
        self.stored: dict[str, int] = {}
        self.draws = 0

    def emit(self, op: TypedOp) -> int:
        if op in self.ops and not (op.kind == "shr" and op.rounding is Rounding.STOCHASTIC):
            return self.ops.index(op)
        self.ops.append(op)
        return len(self.ops) - 1

    def add(self, op: Op) -> None:
        index = len(self.at)
        args = [self.at[i] for i in op.args]
        if op.kind in ("input", "state", "param"):
            leaf = self.emit(TypedOp(op.kind, name=op.name, frac=self._leaf(op)))
            self.at[index] = self.entered(leaf) if op.kind == "input" else leaf
        elif op.kind == "const":
            self.at[index] = self.emit(TypedOp("const", value=op.value, frac=0))
        elif op.kind in LOGIC:
            self.at[index] = self.emit(TypedOp(op.kind, tuple(args)))
        elif op.kind == "select":
            mask, *arms = args
            arms, frac = self.align(arms)
            self.at[index] = self.emit(TypedOp("select", (mask, *arms), frac=frac))
        elif op.kind == "store":
            self.at[index] = self.stored[op.name] = self.store(op.name, args[0])
        elif op.kind == "mul":
            self.at[index] = self.product(args[0], args[1], self.model.ops[op.args[1]].name)
        elif op.kind == "shr":
            frac = self.ops[args[0]].frac or 0
            self.at[index] = self.shift(args[0], op.value, self._state_rounding(), "shift", frac)
        else:
            args, frac = self.align(args)
            typed = TypedOp(op.kind, tuple(args), frac=None if op.kind in COMPARISONS else frac)
            self.at[index] = self.emit(typed)

    def entered(self, a: int) -> int:
        """The summed input at the point where it enters the neurons: finer bits are dropped."""
        if self.entry is None or self.entry.frac >= self.frac:
            return a
        places = self.frac - self.entry.frac
        return self.shift(a, places, Rounding.FLOOR, "input", self.entry.frac)

    def _leaf(self, op: Op) -> int:
        if op.kind == "input":
            return self.frac
        fmt = self.states[op.name].fmt if op.kind == "state" else self.params[op.name].fmt
        if fmt is None:
            raise QuantizeError(f"{op.name} has no format")
        return fmt.frac

    def _state_rounding(self) -> Rounding:
        return next(iter(self.states.values())).rounding

    def align(self, args: list[int]) -> tuple[list[int], int]:
        """Bring operands to the finest binary point by shifting left."""
        fracs = [self.ops[i].frac or 0 for i in args if self.ops[i].kind != "const"]
        frac = max(fracs, default=0)
        return [self.to(i, frac) for i in args], frac

    def to(self, i: int, frac: int) -> int:
        op = self.ops[i]
        move = frac - (op.frac or 0)
        if op.kind == "const":
            if move < 0 and op.value & ((1 << -move) - 1):
                raise QuantizeError(f"the constant {op.value} is no multiple of 2**{-move}")
            value = op.value << move if move >= 0 else op.value >> -move
            return self.emit(TypedOp("const", value=value, frac=frac))
        return self.emit(TypedOp("shl", (i,), value=move, frac=frac)) if move else i

    def shift(self, i: int, count: int, rounding: Rounding, what: str, frac: int) -> int:
        """Divide by 2**count, to the point ``frac``; each place that draws has its own stream."""
        if count == 0:
            return i
        most = 32 if rounding is Rounding.STOCHASTIC else WORD - 1
        if count > most:
            raise QuantizeError(
                f"{what} drops {count} bits at once, the limit is {most} ({rounding})",
                hint="give the state more fraction bits, or the decay or the weights fewer",
            )
        key = self._stream(what, rounding)
        return self.emit(TypedOp("shr", (i,), value=count, rounding=rounding, key=key, frac=frac))

    def _stream(self, what: str, rounding: Rounding) -> int:
        if rounding is not Rounding.STOCHASTIC:
            return 0
        self.draws += 1
        return text_key(f"{self.path}.{what}.{self.draws}")

    def product(self, x: int, c: int, name: str) -> int:
        param = self.params[name]
        assert param.fmt is not None, "checked by _leaf"
        frac = self.ops[x].frac or 0
        if param.fmt.leak:
            key = self._stream(name, param.rounding)
            part = TypedOp("shr", (x, c), rounding=param.rounding, key=key, frac=frac)
            part_at = self.emit(part)
            return self.emit(TypedOp("sub", (x, part_at), frac=frac))
        points = param.fmt.frac
        wide = self.emit(TypedOp("mul", (x, c), frac=frac + points))
        if points < 0:
            wide, points = self.emit(TypedOp("shl", (wide,), value=-points, frac=frac)), 0
        return self.shift(wide, points, param.rounding, name, frac)

    def store(self, name: str, x: int) -> int:
        state = self.states[name]
        fmt = state.fmt
        assert fmt is not None, "checked by _leaf"
        move = fmt.frac - (self.ops[x].frac or 0)
        if self.ops[x].kind == "const" or move > 0:
            x = self.to(x, fmt.frac)
        elif move < 0:
            x = self.shift(x, -move, state.rounding, name, fmt.frac)
        return self.emit(self.fitted(x, fmt, state.overflow))

    def fitted(self, x: int, fmt: QFormat, overflow: Overflow) -> TypedOp:
        span = fmt.range
        size = span.hi - span.lo + 1
        if overflow is Overflow.WRAP and size & (size - 1):
            raise QuantizeError(f"a wrapping range has 2**k values, not {size}")
        return TypedOp("fit", (x,), low=span.lo, high=span.hi, overflow=overflow, frac=fmt.frac)


def _refuse_wide(node: Neuron, span: Interval, frac: int) -> None:
    fmt = node.input_format
    if fmt is None:
        return
    places = frac - fmt.frac
    low, high = ((x >> places if places >= 0 else x << -places) for x in (span.lo, span.hi))
    if Interval(low, high) not in fmt.range:
        raise QuantizeError(
            f"its summed input may reach {Interval(low, high)}, the range of {fmt} is {fmt.range}",
            hint="give the input more bits in the plan, or the neurons a smaller scale",
        )


def _refuse_overflow(ops: list[TypedOp], spans: Spans, node: Neuron) -> None:
    names = {name for name, state in node.states.items() if state.overflow is Overflow.ERROR}
    if not names:
        return
    for op in ops:
        if op.kind != "fit" or op.overflow is not Overflow.ERROR:
            continue
        span = spans[op.args[0]]
        if span is not None and span not in Interval(op.low, op.high):
            raise QuantizeError(
                f"a state declared free of overflow may reach {span}, its range is "
                f"[{op.low}, {op.high}]",
                hint="widen it, or let the plan say saturate or wrap",
            )


def _without_idle_fits(
    ops: list[TypedOp], spans: Spans
) -> tuple[tuple[TypedOp, ...], dict[int, int]]:
    """Drop stores that can never clip, and write the intervals into the list."""
    kept: list[TypedOp] = []
    moved: dict[int, int] = {}
    for i, op in enumerate(ops):
        if op.kind == "fit":
            span = spans[op.args[0]]
            if span is not None and span in Interval(op.low, op.high):
                moved[i] = moved[op.args[0]]
                continue
        args = tuple(moved[j] for j in op.args)
        kept.append(replace(op, args=args, span=spans[i]))
        moved[i] = len(kept) - 1
    return tuple(kept), moved
