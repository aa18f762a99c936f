"""How many weights a step adds at most: what bounds its time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.interp import apply
from qspinn.ir import (
    CONNECTIONS,
    Array,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Linear,
    Node,
    SumPool2d,
)
from qspinn.signals import Signal, signals


def worst_sops(graph: Graph) -> int:
    """The weights that are added where every input and every neuron has an event in one step.

    A pool sends the events of its windows on one by one. Inputs of linear layers whose weights
    are all zeros count for nothing; lateral connections add once for each event.
    """
    known = signals(graph)
    events: dict[str, Array] = {
        delay.name: np.ones((1, *delay.shape), np.int64) for delay in graph.of_type(Delay)
    }
    total = 0
    for node in graph.nodes:
        if isinstance(node, SumPool2d | Flatten):
            source = node.inputs[0]
            events[node.name] = apply(node, events[source], known[source])
            continue
        if isinstance(node, CONNECTIONS):
            source = node.inputs[0]
            total += _added(node, events[source], known[source])
        events[node.name] = np.ones((1, *known[node.name].shape), np.int64)
    return total


def _added(node: Node, x: Array, signal: Signal) -> int:
    """The weights that so many events of each element add."""
    if isinstance(node, Linear):
        return int((x.reshape(-1) * node.weight.values.any(0)).sum()) * len(node.weight.values)
    if isinstance(node, Conv1d | Conv2d):
        weight = replace(node.weight, values=np.ones_like(node.weight.values))
        ones = replace(node, weight=weight, bias=None)
        return int(apply(ones, x, signal).sum())
    return int(x.sum())
