"""The typed list: a neuron's step in integers, with nothing implied.

Every shift, rounding, range and interval is written down. The reference interprets it; C, Lava
and the fast loops are printed from it. No executor reads a format, except to store a leaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.ir import Param, State

TYPED_KINDS = (
    "input", "state", "param", "const", "add", "sub", "mul", "shl", "shr", "min", "max",
    "gt", "ge", "and", "or", "not", "select", "fit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TypedOp:
    """One integer operation.

    Attributes:
        kind: One of `TYPED_KINDS`.
        args: Operands by position. ``shr`` may have a second one: a count per neuron.
        name: The leaf's name.
        value: The constant, or the literal count of a shift.
        rounding: Of ``shr``.
        key: The stream of a stochastic ``shr``: its noise is hash32(key, step, neuron).
        low: Of ``fit``: the smallest integer kept.
        high: Of ``fit``: the largest.
        overflow: Of ``fit``: saturate or wrap.
        frac: The binary point; None for a mask.
        span: The proved interval; None for a mask.
    """

    kind: str
    args: tuple[int, ...] = ()
    name: str = ""
    value: int = 0
    rounding: Rounding = Rounding.FLOOR
    key: int = 0
    low: int = 0
    high: int = 0
    overflow: Overflow = Overflow.SATURATE
    frac: int | None = None
    span: Interval | None = None

    @property
    def is_mask(self) -> bool:
        """Whether the value is a truth value."""
        return self.span is None


@dataclass(frozen=True)
class Program:
    """A neuron's step on integers.

    Attributes:
        ops: The list, in order of evaluation.
        finals: For each state, the operation whose value is kept for the next step.
        output: The operation whose value is sent.
        sends: ``spike``, ``count`` or ``current``.
        params: The integer parameters, each broadcasting to the layer's shape.
        states: The stored formats and initial integers.
        input_span: The interval of the input current the proof rests on.
        steps: The number of steps since reset the intervals assume; None: they hold for ever.
    """

    ops: tuple[TypedOp, ...]
    finals: Mapping[str, int]
    output: int
    sends: str
    params: Mapping[str, Param]
    states: Mapping[str, State]
    input_span: Interval
    steps: int | None = None

    @property
    def stochastic(self) -> bool:
        """Whether a step draws random numbers."""
        return any(op.kind == "shr" and op.rounding is Rounding.STOCHASTIC for op in self.ops)

    def text(self) -> str:
        """The list, one operation a line, with binary points and intervals."""
        rows = [f"%{i} = {_text(op)}" for i, op in enumerate(self.ops)]
        ends = [f"{name}' = %{i}" for name, i in self.finals.items()]
        return "\n".join((*rows, *ends, f"{self.sends} = %{self.output}"))


def _text(op: TypedOp) -> str:
    parts = [op.name] if op.name else []
    parts += [f"%{i}" for i in op.args]
    if op.kind == "const" or (op.kind in ("shl", "shr") and len(op.args) == 1):
        parts.append(str(op.value))
    if op.kind == "shr":
        parts.append(str(op.rounding))
    if op.kind == "fit":
        parts.append(f"[{op.low}, {op.high}] {op.overflow}")
    return f"{op.kind} {', '.join(parts)}" + ("" if op.is_mask else f"  : f{op.frac} {op.span}")
