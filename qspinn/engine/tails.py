"""Last layers side by side: graphs that differ in their last layer only become one wider graph.

A last layer of ten neurons leaves most lanes of a vector idle; six of them fill it. Layers are
joined only where that changes no integer: where their lists are equal once the binary points are
counted from the membrane's, and nothing is drawn, for draws are keyed by the number of a neuron.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qspinn.errors import QspinnError
from qspinn.fixed import IntArray, QFormat, Rounding
from qspinn.ir import Flatten, Graph, Linear, Neuron, Node, Output, Param, State
from qspinn.lowering import unproved
from qspinn.program import TypedOp

_SHIFT = 24
"""Weights are moved up by no more bits than that, so that sums stay far from 64."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The last layer of a graph, or several side by side.

    Attributes:
        linear: Its connection.
        neuron: Its neurons, which nothing but the output reads.
        rest: What follows them, up to the output.
    """

    linear: Linear
    neuron: Neuron
    rest: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of it, in the order of the graph."""
        return (self.linear, self.neuron, *self.rest)


@dataclass(frozen=True, eq=False)
class Form:
    """What decides whether tails can be joined.

    Attributes:
        key: Equal for tails that can.
        point: The binary point of the current, counted from the membrane's.
        origin: The binary point of the membrane.
    """

    key: Hashable
    point: int
    origin: int


def tail_of(graph: Graph) -> Tail | None:
    """The last layer, if the graph ends in a linear connection and a row of neurons."""
    k = len(graph.nodes) - 1
    while k > 1 and isinstance(graph.nodes[k], Output | Flatten):
        k -= 1
    linear, neuron, rest = graph.nodes[k - 1], graph.nodes[k], graph.nodes[k + 1 :]
    if not isinstance(linear, Linear) or not isinstance(neuron, Neuron):
        return None
    if len(rest) < 1 or not isinstance(rest[-1], Output) or len(neuron.shape) != 1:
        return None
    if len(graph.of_type(Output)) != 1:
        return None
    for before, node in zip((linear, neuron, *rest), (neuron, *rest), strict=False):
        if node.inputs != (before.name,):
            return None
    mine = {linear.name, neuron.name, *(node.name for node in rest)}
    if any(name in mine for node in graph.nodes[: k - 1] for name in node.inputs):
        return None
    return Tail(linear, neuron, rest)


def form_of(tail: Tail, frac: int) -> Form | None:
    """What a tail can be joined with; ``frac`` is the point of the signal it reads.

    None: it draws, or a finer current would change where its values or its sums are rounded.
    """
    neuron = tail.neuron
    scaled = [name for name in neuron.states if name in neuron.model.scaled]
    roundings = {state.rounding for state in neuron.states.values()}
    roundings |= {param.rounding for param in neuron.values.values()}
    if not scaled or Rounding.STOCHASTIC in roundings or neuron.input_format is not None:
        return None
    origin = _format(neuron.states[scaled[0]].fmt).frac
    point = _point(tail.linear, frac) - origin
    try:
        counted = _moved(neuron, -origin)
        own = _values(counted, point)
        if point < 0 and _values(counted, 0) != own:
            return None
    except QspinnError:
        return None
    return Form((neuron.model, own, max(point, 0)), point, origin)


def joined(tails: Sequence[Tail], forms: Sequence[Form], frac: int) -> Tail | None:
    """Tails with forms of one key as one, their neurons one after the other.

    None: they differ too much in their binary points for that.
    """
    first = max(range(len(tails)), key=lambda i: forms[i].point)
    lead, origin = tails[first], forms[first].origin
    point = forms[first].point + origin - frac
    pairs = list(zip(tails, forms, strict=True))
    moves = [forms[first].point - _products(t.linear, frac) + f.origin for t, f in pairs]
    if max(moves) > _SHIFT:
        return None
    weights = [t.linear.weight.values << k for t, k in zip(tails, moves, strict=True)]
    try:
        weight = Param(np.concatenate(weights), QFormat(32, point))
        bias = None
        if any(tail.linear.bias is not None for tail in tails):
            biases = [_bias(t, forms[first].point + f.origin) for t, f in pairs]
            bias = Param(np.concatenate(biases), QFormat(32, point + frac))
    except QspinnError:
        return None
    linear = replace(lead.linear, weight=weight, bias=bias)
    return Tail(linear, _side_by_side([tail.neuron for tail in tails], lead.neuron), lead.rest)


def _point(linear: Linear, frac: int) -> int:
    """The binary point of the current: the finer of those of the products and of the bias."""
    products = _products(linear, frac)
    return products if linear.bias is None else max(products, _format(linear.bias.fmt).frac)


def _products(linear: Linear, frac: int) -> int:
    return _format(linear.weight.fmt).frac + frac


def _bias(tail: Tail, frac: int) -> IntArray:
    """The bias of every neuron at a finer point."""
    shape, bias = tail.neuron.shape, tail.linear.bias
    if bias is None:
        return np.zeros(shape, np.int64)
    return np.broadcast_to(bias.values << (frac - _format(bias.fmt).frac), shape)


def _format(fmt: QFormat | None) -> QFormat:
    assert fmt is not None, "the graph is integer"
    return fmt


def _side_by_side(parts: Sequence[Neuron], lead: Neuron) -> Neuron:
    """Neurons of one form as one node, at the binary points of ``lead``."""

    def row(params: Sequence[Param], fmt: QFormat | None) -> Param:
        rows = [
            np.broadcast_to(param.values, part.shape)
            for param, part in zip(params, parts, strict=True)
        ]
        return Param(np.concatenate(rows), fmt, params[0].rounding)

    values = {
        name: row([part.values[name] for part in parts], param.fmt)
        for name, param in lead.values.items()
    }
    states = {
        name: replace(state, init=row([part.states[name].init for part in parts], state.fmt))
        for name, state in lead.states.items()
    }
    shape = (sum(part.shape[0] for part in parts),)
    return replace(lead, shape=shape, values=values, states=states)


def _moved(neuron: Neuron, by: int) -> Neuron:
    """The neurons with every binary point of the current's scale group moved; no integer changes.

    Raises:
        PlanError: A point would leave the range of points.
    """

    def moved(param: Param) -> Param:
        fmt = _format(param.fmt)
        return replace(param, fmt=replace(fmt, frac=fmt.frac + by))

    def moved_state(state: State) -> State:
        fmt = _format(state.fmt)
        return replace(state, init=moved(state.init), fmt=replace(fmt, frac=fmt.frac + by))

    scaled = neuron.model.scaled
    values = {k: moved(p) if k in scaled else p for k, p in neuron.values.items()}
    states = {k: moved_state(s) if k in scaled else s for k, s in neuron.states.items()}
    return replace(neuron, values=values, states=states)


def _values(neuron: Neuron, point: int) -> Hashable:
    """The real-valued meaning of a list whose current has a binary point: where it rounds and fits.

    Operands are written without the exact shifts that align them, so lists that are equal here
    compute the same values, whatever point the current arrives with.
    """
    ops, finals, output = unproved(neuron, point)
    names: list[Hashable] = []
    lines: list[Hashable] = []
    for op in ops:
        names.append(_name(op, names, len(lines)))
        if op.kind not in ("input", "const", "shl"):
            lines.append(_line(op, names))
    ends = tuple((name, names[i]) for name, i in finals.items())
    return (tuple(lines), ends, names[output])


def _name(op: TypedOp, names: Sequence[Hashable], nth: int) -> Hashable:
    """What stands for a value where it is read."""
    if op.kind == "input":
        return "a"
    if op.kind == "shl":
        return names[op.args[0]]
    if op.kind == "const":
        value = op.value / 2.0 ** (op.frac or 0)  # exact: models have small constants
        return ("const", value)
    return nth


def _line(op: TypedOp, names: Sequence[Hashable]) -> Hashable:
    args = tuple(names[j] for j in op.args)
    return (op.kind, args, op.name, op.value, op.rounding, op.low, op.high, op.overflow, op.frac)
