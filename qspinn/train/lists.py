"""A neuron's list on floating-point tensors that hold whole numbers, and the gradients through it.

Forward, every operation gives the integer that `interp.step_program` gives: the type is so wide
that sums, products by powers of two and roundings are exact. Backward, a rounding is taken for
the identity, a store that clips stops the gradient, and a comparison with a threshold passes it
on through a surrogate. Imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from qspinn.fixed import Overflow, Rounding, hash32
from qspinn.ir import Shape
from qspinn.program import TypedOp

torch: Any = import_module("torch")

Tensor = Any
Tensors = Mapping[str, Tensor]

SLOPE = 5.0
"""The surrogate falls to a quarter where the potential is a fifth of the threshold away from it."""

_SAME = ("add", "sub", "mul", "min", "max")


@dataclass(frozen=True, eq=False)
class List:
    """What a layer of neurons does in a step.

    Attributes:
        ops: The operations, every store included.
        finals: For each state, the operation that is kept.
        output: The operation that is sent.
        shape: Of the layer.
        kind: The type of its tensors.
    """

    ops: tuple[TypedOp, ...]
    finals: Mapping[str, int]
    output: int
    shape: Shape
    kind: Any
    draws: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def noise(self, key: int, step: int, like: Tensor) -> Tensor:
        """The 32 random bits of each neuron in a step."""
        if (key, step) not in self.draws:
            size = int(np.prod(self.shape, dtype=np.int64))
            bits = hash32(key, step, np.arange(size)).astype(np.int64).reshape(self.shape)
            self.draws[key, step] = torch.from_numpy(bits).to(like.device)
        return self.draws[key, step]


def evaluated(what: List, leaves: Tensors, step: int) -> list[Tensor]:
    """The value of every operation in one step; masks are truth values."""
    values: list[Tensor] = []
    for op in what.ops:
        if op.kind in ("input", "state", "param"):
            values.append(leaves[op.name])
        elif op.kind == "const":
            values.append(torch.full((), op.value, dtype=what.kind, device=leaves["a"].device))
        else:
            values.append(_made(what, op, [values[i] for i in op.args], step))
    return values


def _made(what: List, op: TypedOp, args: list[Tensor], step: int) -> Tensor:
    if op.kind == "shl":
        return args[0] * 2.0**op.value
    if op.kind == "shr":
        return _shifted(what, op, args, step)
    if op.kind == "fit":
        if op.overflow is Overflow.WRAP:
            length = op.high - op.low + 1
            moved = args[0] - op.low
            return moved - torch.floor(moved / length) * length + op.low
        return args[0].clamp(op.low, op.high)
    made: Tensor = _ELEMENTWISE[op.kind](*args)
    return made


_ELEMENTWISE: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "min": torch.minimum,
    "max": torch.maximum, "gt": torch.gt, "ge": torch.ge, "and": torch.logical_and,
    "or": torch.logical_or, "not": torch.logical_not, "select": torch.where,
}  # fmt: skip

_HALVINGS = tuple(2.0**-k for k in range(64))


def _unit(op: TypedOp, args: list[Tensor]) -> Any:
    """What a shift multiplies by; a table, since powers of two must be exact."""
    if len(args) == 1:
        return _HALVINGS[op.value]
    table = torch.tensor(_HALVINGS, dtype=args[0].dtype, device=args[0].device)
    return table[args[1].to(torch.int64)]


def _shifted(what: List, op: TypedOp, args: list[Tensor], step: int) -> Tensor:
    """`fixed.shr`."""
    x, unit = args[0], _unit(op, args)
    if op.rounding is Rounding.STOCHASTIC:
        count = op.value if len(args) == 1 else args[1].to(torch.int64)
        noise = what.noise(op.key, step, x) >> (32 - count)
        return torch.floor((x + noise.to(x.dtype)) * unit)
    x = x * unit
    if op.rounding is Rounding.FLOOR:
        return torch.floor(x)
    if op.rounding is Rounding.ZERO:
        return torch.trunc(x)
    if op.rounding is Rounding.NEAREST_EVEN:
        return torch.round(x)
    return torch.copysign(torch.floor(x.abs() + 0.5), x)


def pushed(op: TypedOp, counts: int) -> int:
    """How far beyond its operand a shift by up to ``counts`` reaches before it divides."""
    if op.rounding is Rounding.STOCHASTIC or op.rounding is Rounding.NEAREST_AWAY:
        return 1 << counts
    return 0


def needed(ops: Sequence[TypedOp], wanted: frozenset[str]) -> list[bool]:
    """Which operations a gradient must reach: those that states, input or wanted leaves enter."""
    found: list[bool] = []
    for op in ops:
        leaf = op.kind in ("input", "state") or (op.kind == "param" and op.name in wanted)
        found.append(leaf or any(found[i] for i in op.args))
    return found


class Gradients:
    """The gradients of one step, operation by operation, the last first."""

    def __init__(self, what: List, values: Sequence[Tensor], need: Sequence[bool]) -> None:
        self.what, self.values, self.need = what, values, need
        self.sums: list[Tensor | None] = [None] * len(what.ops)

    def add(self, i: int, gradient: Tensor | None) -> None:
        """Add to what is known of the gradient of a value."""
        if gradient is None or not self.need[i]:
            return
        before = self.sums[i]
        self.sums[i] = gradient if before is None else before + gradient

    def leaves(self) -> dict[str, Tensor]:
        """Go through the list; the gradients of its leaves, not yet summed over samples."""
        ops = self.what.ops
        found: dict[str, Tensor] = {}
        for i in reversed(range(len(ops))):
            gradient = self.sums[i]
            if gradient is None:
                continue
            if ops[i].kind in ("input", "state", "param"):
                found[ops[i].name] = gradient
            else:
                self.pull(i, ops[i], gradient)
        return found

    def pull(self, i: int, op: TypedOp, g: Tensor) -> None:
        """Hand the gradient of one value on to its operands."""
        if op.kind in ("gt", "ge"):
            self.compared(op, g)
        elif op.kind in ("and", "or", "not"):
            self.joined(op, g)
        elif op.kind == "select":
            self.selected(op, g)
        elif op.kind in _SAME:
            self.arithmetic(op, g)
        else:
            self.moved(op, g)

    def arithmetic(self, op: TypedOp, g: Tensor) -> None:
        """Sums, products, and the larger or the smaller of two."""
        i, j = op.args
        x, y = self.values[i], self.values[j]
        if op.kind in ("add", "sub"):
            self.add(i, g)
            self.add(j, (g if op.kind == "add" else -g) if self.need[j] else None)
        elif op.kind == "mul":
            self.add(i, g * y if self.need[i] else None)
            self.add(j, g * x if self.need[j] else None)
        else:
            first = x <= y if op.kind == "min" else x >= y
            self.add(i, g * first)
            self.add(j, g * ~first)

    def moved(self, op: TypedOp, g: Tensor) -> None:
        """Shifts and stores."""
        i = op.args[0]
        if op.kind == "shl":
            self.add(i, g * 2.0**op.value)
        elif op.kind == "shr":
            args = [self.values[k] for k in op.args]
            self.add(i, g * _unit(op, args))
            if len(op.args) > 1:  # x * (1 - decay), as a function of the decay
                self.add(op.args[1], -g * args[0])
        elif op.overflow is Overflow.WRAP:
            self.add(i, g)
        else:
            x = self.values[i]
            self.add(i, g * ((x >= op.low) & (x <= op.high)))

    def selected(self, op: TypedOp, g: Tensor) -> None:
        """The arm taken. What counts spikes, a choice between constants, asks the mask as well.

        Through the mask of any other no gradient flows: a reset is no way to be right.
        """
        mask, yes, no = op.args
        held = self.values[mask]
        self.add(yes, g * held)
        self.add(no, g * ~held)
        ops = self.what.ops
        if ops[yes].kind == ops[no].kind == "const":
            self.add(mask, g * float(ops[yes].value - ops[no].value))

    def joined(self, op: TypedOp, g: Tensor) -> None:
        """Masks, as the products and complements that they are."""
        if op.kind == "not":
            self.add(op.args[0], -g)
            return
        for own, other in (op.args, op.args[::-1]):
            held = self.values[other]
            self.add(own, g * (held if op.kind == "and" else ~held))

    def compared(self, op: TypedOp, g: Tensor) -> None:
        """A fast sigmoid's derivative, as wide as the threshold; none against a constant."""
        i, j = op.args
        if "const" in (self.what.ops[i].kind, self.what.ops[j].kind):
            return
        x, y = self.values[i], self.values[j]
        width = (x if self.still(i) and not self.still(j) else y).abs().clamp(min=1e-6)
        passed = g / (width * (1.0 + SLOPE * (x - y).abs() / width) ** 2)
        self.add(i, passed)
        self.add(j, -passed if self.need[j] else None)

    def still(self, i: int) -> bool:
        """Whether a value is the same in every step."""
        op = self.what.ops[i]
        if op.kind in ("input", "state"):
            return False
        return all(self.still(k) for k in op.args)
