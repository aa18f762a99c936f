"""Neuron dynamics as data: a traced model is a short list of elementwise operations.

A model is written as a few lines of Python, ``n.v = n.beta * n.v + n.a``, and recorded once.
Reading an attribute is a leaf, an operator appends an operation, assigning to a state is the
store that fits its format. The list has real-valued meaning and no formats; `qspinn.lowering`
makes the integer list that every executor reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Union

from qspinn.errors import VerifyError

LEAVES = ("input", "state", "param", "const")
ARITHMETIC = ("add", "sub", "mul", "shr", "min", "max")
COMPARISONS = ("gt", "ge")
LOGIC = ("and", "or", "not")
KINDS = (*LEAVES, *ARITHMETIC, *COMPARISONS, *LOGIC, "select", "store")
MASKS = (*COMPARISONS, *LOGIC)


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: its kind, its operands by position in the list, and what the kind needs.

    ``name`` is the leaf's or the stored state's name, ``value`` a constant or a literal shift.
    """

    kind: str
    args: tuple[int, ...] = ()
    name: str = ""
    value: int = 0


@dataclass(frozen=True)
class Model:
    """A neuron model: what it reads, what it keeps, what it sends, and the list in between.

    Attributes:
        name: For people; identity is the list.
        states: State variables, in the order in which they are declared.
        params: Parameters; those used as a factor are coefficients.
        out: The name of what the neuron sends.
        sends: ``spike`` (0 or 1), ``count`` (0 to ``max_out``) or ``current`` (a scaled value).
    """

    name: str
    states: tuple[str, ...]
    params: tuple[str, ...]
    ops: tuple[Op, ...]
    output: int
    out: str = "s"
    sends: str = "spike"
    max_out: int = 1

    @cached_property
    def coefficients(self) -> frozenset[str]:
        """Parameters that scale a value, such as a decay."""
        return frozenset(self.ops[op.args[1]].name for op in self.ops if op.kind == "mul")

    @cached_property
    def scaled(self) -> frozenset[str]:
        """States and parameters in the scale group of the input current.

        Multiplying the current, these states and these parameters by one positive number changes
        no spike. Read off the list: operands of add, sub, min, max, comparison, select and store
        share a scale, coefficients stand outside, and a non-zero constant pins its group.
        """
        return frozenset(name for name in _group_of_input(self) if name != "a")

    def text(self) -> str:
        """The list, one operation a line."""
        head = f"({', '.join(self.states)}; {', '.join(self.params)}) -> {self.sends}"
        rows = (f"  %{i} = {_op_text(op)}" for i, op in enumerate(self.ops))
        return "\n".join((head, *rows, f"  {self.out} = %{self.output}"))


def _op_text(op: Op) -> str:
    parts = [f"%{i}" for i in op.args]
    if op.name:
        parts.insert(0, op.name)
    if op.kind == "const" or op.kind == "shr":
        parts.append(str(op.value))
    return f"{op.kind} {', '.join(parts)}"


_PINNED = "a non-zero constant"


def _group_of_input(model: Model) -> set[str]:
    parent: dict[object, object] = {}

    def find(x: object) -> object:
        while parent.setdefault(x, x) != x:
            x = parent[x]
        return x

    def join(x: object, y: object) -> None:
        parent[find(x)] = find(y)

    for i, op in enumerate(model.ops):
        members = _sharing(model, i, op)
        for other in members[1:]:
            join(members[0], other)
    if find("a") == find(_PINNED):
        raise VerifyError(f"{model.name}: a constant fixes the scale of the input current")
    names = (*model.states, *model.params)
    return {name for name in names if find(name) == find("a")}


def _sharing(model: Model, i: int, op: Op) -> list[object]:
    """What one operation forces to have the same scale."""
    if op.kind in ("input", "state", "param"):
        return [i, op.name]
    if op.kind == "const":
        return [i, _PINNED]
    if op.kind in ("mul", "shr"):
        return [i, op.args[0]]
    values = {"select": (i, *op.args[1:]), "store": (i, op.name, *op.args)}
    if op.kind in LOGIC:
        return []
    members = values.get(op.kind, op.args if op.kind in COMPARISONS else (i, *op.args))
    # A zero has every scale, so it must not tie the groups of its neighbours together.
    return [m for m in members if not (isinstance(m, int) and _is_zero(model.ops[m]))]


def _is_zero(op: Op) -> bool:
    return op.kind == "const" and op.value == 0


Operand = Union["Value", int]


class Value:
    """A traced value; operators append to the list it belongs to."""

    def __init__(self, trace: _Trace, index: int) -> None:
        self.trace = trace
        self.index = index

    def _binary(self, kind: str, other: Operand, *, swap: bool = False) -> Value:
        left, right = self, self.trace.value(other)
        if swap:
            left, right = right, left
        return self.trace.append(kind, left, right)

    def __add__(self, other: Operand) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Operand) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Operand) -> Value:
        """A coefficient, always a parameter, times a value; the product keeps the value's point."""
        x, c = self, self.trace.value(other)
        if self.trace.ops[c.index].kind != "param":
            x, c = c, x
        if self.trace.ops[c.index].kind != "param":
            raise VerifyError("one factor of a product must be a parameter")
        return self.trace.append("mul", x, c)

    def __rshift__(self, count: int) -> Value:
        return self.trace.append("shr", self, value=count)

    def __gt__(self, other: Operand) -> Value:
        return self._binary("gt", other)

    def __ge__(self, other: Operand) -> Value:
        return self._binary("ge", other)

    def __lt__(self, other: Operand) -> Value:
        return self._binary("gt", other, swap=True)

    def __le__(self, other: Operand) -> Value:
        return self._binary("ge", other, swap=True)

    def __and__(self, other: Value) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value) -> Value:
        return self._binary("or", other)

    def __invert__(self) -> Value:
        return self.trace.append("not", self)

    def __bool__(self) -> bool:
        raise VerifyError("a neuron model cannot branch on a value", hint="use select()")


class _Trace:
    """The list under construction."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.seen: dict[Op, int] = {}

    def append(self, kind: str, *args: Value, name: str = "", value: int = 0) -> Value:
        op = Op(kind, tuple(a.index for a in args), name, value)
        # Equal operations are one operation; a store ends what was read before it by name.
        if op in self.seen and kind != "store":
            return Value(self, self.seen[op])
        self.ops.append(op)
        self.seen[op] = len(self.ops) - 1
        return Value(self, len(self.ops) - 1)

    def value(self, x: Operand) -> Value:
        return x if isinstance(x, Value) else self.append("const", value=int(x))


def select(mask: Value, chosen: Operand, otherwise: Operand) -> Value:
    """``chosen`` where ``mask`` holds, else ``otherwise``."""
    t = mask.trace
    return t.append("select", mask, t.value(chosen), t.value(otherwise))


def maximum(x: Value, y: Operand) -> Value:
    """The larger of two values."""
    return x._binary("max", y)


def minimum(x: Value, y: Operand) -> Value:
    """The smaller of two values."""
    return x._binary("min", y)


class Neuron:
    """What a model function sees: leaves to read, states and the output to assign."""

    def __init__(self, states: tuple[str, ...], params: tuple[str, ...], out: str) -> None:
        self.__dict__["_trace"] = _Trace()
        self.__dict__["_now"] = {}
        self.__dict__["_names"] = (states, params, out)

    def __getattr__(self, name: str) -> Value:
        states, params, _ = self.__dict__["_names"]
        if name in self.__dict__["_now"]:
            current: Value = self.__dict__["_now"][name]
            return current
        kinds = {"a": "input", **dict.fromkeys(states, "state"), **dict.fromkeys(params, "param")}
        if name not in kinds:
            raise VerifyError(f"the model reads {name!r}, which it does not declare")
        trace: _Trace = self.__dict__["_trace"]
        return trace.append(kinds[name], name=name)

    def __setattr__(self, name: str, value: Value) -> None:
        states, params, out = self.__dict__["_names"]
        trace: _Trace = self.__dict__["_trace"]
        if name in states:
            value = trace.append("store", trace.value(value), name=name)
        elif name != out:
            what = "a parameter" if name in params else "neither a state nor the output"
            raise VerifyError(f"the model assigns {name!r}, which is {what}")
        self.__dict__["_now"][name] = value


def trace(
    body: Callable[[Any], None],
    *,
    name: str,
    states: str,
    params: str,
    out: str = "s",
    sends: str = "spike",
    max_out: int = 1,
) -> Model:
    """Record ``body`` as a model.

    Args:
        body: A function of one argument that assigns every state and the output.
        name: What people call the model.
        states: State names, separated by spaces.
        params: Parameter names, separated by spaces.
        out: The output's name.
        sends: ``spike``, ``count`` or ``current``.
        max_out: The largest count that can be sent.

    Raises:
        VerifyError: The body breaks a rule of the language.
    """
    state_names, param_names = tuple(states.split()), tuple(params.split())
    neuron = Neuron(state_names, param_names, out)
    body(neuron)
    now, recorded = neuron.__dict__["_now"], neuron.__dict__["_trace"]
    if out not in now:
        raise VerifyError(f"{name}: the output {out!r} is never assigned")
    if missing := [s for s in state_names if s not in now]:
        raise VerifyError(f"{name}: the states {missing} are never assigned")
    ops = tuple(recorded.ops)
    index = now[out].index
    if (sends == "spike") != (ops[index].kind in MASKS):
        raise VerifyError(f"{name}: {out!r} is sent as a {sends}, but is something else")
    return Model(name, state_names, param_names, ops, index, out, sends, max_out)
