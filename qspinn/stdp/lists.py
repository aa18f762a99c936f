"""A neuron's list of operations as the tables that `machine` steps: real, or of integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qspinn.dynamics import Op
from qspinn.errors import QuantizeError, VerifyError
from qspinn.fixed import Interval, Overflow, Rounding
from qspinn.intervals import fixpoint
from qspinn.ir import Array, Neuron
from qspinn.lowering import unproved
from qspinn.program import TypedOp
from qspinn.stdp import machine
from qspinn.stdp.machine import Cell

_EXACT = 53
"""A float64 holds integers of that many bits."""
_ROUNDINGS = (
    Rounding.FLOOR,
    Rounding.ZERO,
    Rounding.NEAREST_EVEN,
    Rounding.NEAREST_AWAY,
    Rounding.STOCHASTIC,
)


@dataclass(frozen=True, eq=False)
class Lists:
    """The operations of one layer, before anything is learned; see `machine.Cell`."""

    ops: Sequence[Op | TypedOp]
    finals: Mapping[str, int]
    sent: int


def real(node: Neuron) -> Lists:
    """The list of a float node."""
    finals = {op.name: i for i, op in enumerate(node.model.ops) if op.kind == "store"}
    return Lists(node.model.ops, finals, node.model.output)


def whole(node: Neuron, frac: int, current: Interval) -> Lists:
    """The list of an integer node that is driven by currents of the point ``frac``.

    Raises:
        QuantizeError: A value may be too large to be exact.
    """
    ops, finals, sent = unproved(node, frac)
    leaves = {"a": current, **{name: _span(p.values) for name, p in node.values.items()}}
    if "threshold" in node.values:
        threshold = node.values["threshold"].fmt
        assert threshold is not None, "the node is one of integers"
        leaves["threshold"] = threshold.range
    start = {name: _span(state.init.values) for name, state in node.states.items()}
    spans, _ = fixpoint(ops, finals, start, leaves, None)
    most = max(span.signed_bits for span in spans if span is not None)
    if most > _EXACT:
        raise QuantizeError(
            f"a value needs {most} bits, learning is exact up to {_EXACT}",
            at=node.path,
            hint="give its states or its decays fewer",
        )
    return Lists(ops, finals, sent)


def cell_of(made: Lists, node: Neuron) -> Cell:
    """The tables of a list, with the leaves' values in their rows."""
    size = int(np.prod(node.shape))
    ops = np.zeros((len(made.ops), 6), np.int64)
    ends = np.zeros((len(made.ops), 2))
    rows = [np.zeros(size) for _ in made.ops]
    names = machine.kinds()
    leaf: dict[str, int] = {}
    first: list[int] = []
    for i, op in enumerate(made.ops):
        args = [first[a] for a in op.args]
        if op.kind == "store":
            args *= 2  # the smaller of it and itself
        if op.kind == "not":
            args = [len(rows), *args]  # 0 reaches what is 0
            rows.append(np.zeros(size))
        ops[i, 1 : 1 + len(args)] = args
        first.append(i)
        if op.kind in ("input", "state", "param"):
            first[i] = leaf.setdefault(op.name, i)
            if op.kind == "param":
                rows[i] = _row(node.values[op.name].values, node)
        elif op.kind == "const":
            rows[i] = np.full(size, float(op.value))
        elif op.kind == "fit":
            assert isinstance(op, TypedOp), "source lists store"
            ops[i, 0] = machine.WRAP if op.overflow is Overflow.WRAP else machine.CLIP
            ends[i] = op.low, op.high
        else:
            ops[i, 0] = names[op.kind]
        if op.kind in ("shl", "shr"):
            counts = rows[args[1]] if len(args) > 1 else np.full(size, float(op.value))
            ops[i, 2] = len(rows)
            rows.append(np.exp2(counts if op.kind == "shl" else -counts))
            if isinstance(op, TypedOp):
                ops[i, 4:] = rounding_of(op.rounding), op.key
            else:
                ops[i, 0] = machine.MUL
    states = list(node.states)
    return Cell(
        ops, ends, np.array(rows), leaf["a"],
        _places(leaf, node),
        np.array([made.finals[name] for name in states]),
        np.array([_row(node.states[name].init.values, node) for name in states]),
        made.sent, np.array(_comparison(made)), leaf["threshold"],
    )  # fmt: skip


def _places(leaf: Mapping[str, int], node: Neuron) -> Array:
    """The rows of the states."""
    if unread := [name for name in node.states if name not in leaf]:
        raise VerifyError(f"its state {unread[0]!r} is never read", at=node.name)
    return np.array([leaf[name] for name in node.states])


def _row(values: Array, node: Neuron) -> Array:
    return np.array(np.broadcast_to(values, node.shape), np.float64).reshape(-1)


def _comparison(made: Lists) -> tuple[int, int]:
    """The operands of the comparison that decides what is sent."""
    at = [made.sent]
    while at:
        op = made.ops[at.pop(0)]
        if op.kind in ("gt", "ge"):
            return op.args[0], op.args[1]
        at += op.args
    raise AssertionError("a spike is decided by a comparison")


def _span(values: Array) -> Interval:
    return Interval(int(values.min()), int(values.max()))


def rounding_of(rounding: Rounding) -> int:
    """What `machine` calls it."""
    return _ROUNDINGS.index(rounding)
