"""Folding the input gains of neurons into the connections in front of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    nodes: Nodes, gains: Mapping[str, tuple[FloatArray, Shape]], *, sends_spikes: set[str]
) -> Nodes:
    """The graph with every current that enters a neuron node multiplied by that node's gain.

    A source that sends spikes gets a one-to-one connection of that strength; so does one whose
    weights cannot take the factor, because other nodes read it or its weights are shared in space.

    Args:
        nodes: The graph by name, in order.
        gains: By neuron node: a scalar, or one factor for each neuron; and the neurons' shape.
        sends_spikes: Nodes whose output is spikes or counts, not a current.
    """
    nodes = dict(nodes)
    readers = Counter(source for node in nodes.values() for source in node.inputs)
    taken = {name.lower() for name in nodes}
    links: dict[str, list[Node]] = {}
    for name, (gain, shape) in gains.items():
        inputs = list(nodes[name].inputs)
        for at, source in enumerate(inputs):
            if source not in sends_spikes and (
                np.all(gain == 1) or _into(nodes, source, gain, shape, readers)
            ):
                continue
            inputs[at] = _free(taken, f"{source}_to_{name}")
            link = Scale(name=inputs[at], inputs=(source,), scale=Param(gain))
            links.setdefault(name, []).append(link)
        nodes[name] = replace(nodes[name], inputs=tuple(inputs))
    found: Nodes = {}
    for name, node in nodes.items():
        found |= {link.name: link for link in links.get(name, ())}
        found[name] = node
    return found


def _into(
    nodes: Nodes, source: str, gain: FloatArray, shape: Shape, readers: Mapping[str, int]
) -> bool:
    """Fold into the weights of ``source``, or of what it passes on; whether that could be done."""
    node = nodes[source]
    if readers[source] != 1:
        return False
    if isinstance(node, _THROUGH):
        return gain.ndim == 0 and _into(nodes, node.inputs[0], gain, shape, readers)
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


def _free(taken: set[str], name: str) -> str:
    free, count = name, 1
    while free.lower() in taken:
        count += 1
        free = f"{name}_{count}"
    taken.add(free.lower())
    return free
