"""Folding the input gains of neurons into the connections in front of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.fixed import FloatArray
from qspinn.ir import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Linear,
    Node,
    Param,
    Scale,
    Shape,
    SumPool2d,
)

Nodes = dict[str, Node]

_THROUGH = (Flatten, SumPool2d, AvgPool2d)
"""Linear nodes without weights: a factor common to all neurons passes through them."""


def fold(
    nodes: Nodes, name: str, gain: FloatArray, shape: Shape, *, sends_spikes: set[str]
) -> None:
    """Multiply every current that enters the neurons ``name`` by ``gain``.

    A source that sends spikes gets a one-to-one connection of that strength; so does one whose
    weights cannot take the factor, because other nodes read it or its weights are shared in space.

    Args:
        nodes: The graph by name, in order; changed.
        name: The neuron node.
        gain: A scalar, or one factor for each neuron.
        shape: Of the neurons.
        sends_spikes: Nodes whose output is spikes or counts, not a current.
    """
    neuron = nodes[name]
    inputs = list(neuron.inputs)
    for at, source in enumerate(inputs):
        if source not in sends_spikes and (np.all(gain == 1) or _into(nodes, source, gain, shape)):
            continue
        link = _free(nodes, f"{source}_to_{name}")
        inputs[at] = link
        _insert(nodes, Scale(name=link, inputs=(source,), scale=Param(gain)), before=name)
    nodes[name] = replace(neuron, inputs=tuple(inputs))


def _into(nodes: Nodes, source: str, gain: FloatArray, shape: Shape) -> bool:
    """Fold into the weights of ``source``, or of what it passes on; whether that could be done."""
    node = nodes[source]
    if sum(other.inputs.count(source) for other in nodes.values()) != 1:
        return False
    if isinstance(node, _THROUGH):
        return gain.ndim == 0 and _into(nodes, node.inputs[0], gain, shape)
    if isinstance(node, Scale):
        nodes[source] = replace(node, scale=Param(node.scale.values * gain))
        return True
    if not isinstance(node, (Linear, Conv1d, Conv2d)):
        return False
    rows = _by_row(gain, shape, len(node.weight.values))
    if rows is None:
        return False
    weight = node.weight.values
    nodes[source] = replace(
        node,
        weight=Param(weight * rows.reshape(-1, *[1] * (weight.ndim - 1))),
        bias=Param(node.bias.values * rows) if node.bias is not None else None,
    )
    return True


def _by_row(gain: FloatArray, shape: Shape, rows: int) -> FloatArray | None:
    """One factor for each output channel, if the neurons of a channel share it."""
    if gain.ndim == 0:
        return np.full(rows, float(gain))
    each = np.broadcast_to(gain, shape).reshape(rows, -1)
    return each[:, 0] if (each == each[:, :1]).all() else None


def _insert(nodes: Nodes, new: Node, *, before: str) -> None:
    items = list(nodes.items())
    at = [key for key, _ in items].index(before)
    items.insert(at, (new.name, new))
    nodes.clear()
    nodes.update(items)


def _free(nodes: Nodes, name: str) -> str:
    taken = {n.lower() for n in nodes}
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}_{count}"
    return free
