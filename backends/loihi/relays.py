"""Rewrites of the graph's structure: one connection for each layer, a relay for each maximum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.fixed import QFormat, Rounding
from qspinn.ir import CONNECTIONS, Conv2d, Graph, MaxPool2d, Neuron, Node, Param, State
from qspinn.signals import signals

from .reasons import Reasons, Unfit
from .stock import LIF
from .table import DECAY, INPUT_SHIFT, OVERFLOWS, current_format, membrane_format


def fresh(name: str, taken: set[str]) -> str:
    """A name that no node has yet; it is taken from then on."""
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name}{n}"
    taken.add(candidate)
    return candidate


def owned(graph: Graph) -> Graph:
    """Give every layer connections of its own: what two layers read is written twice."""
    taken = set(graph.by_name)
    copies: dict[tuple[str, str], str] = {}
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            readers = [u for u in graph.users(node.name) if isinstance(u, Neuron)]
            for reader in readers[1:]:
                copies[node.name, reader.name] = fresh(f"{node.name}_{reader.name}", taken)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Neuron):
            inputs = tuple(copies.get((i, node.name), i) for i in node.inputs)
            node = replace(node, inputs=inputs)
        nodes.append(node)
        for (name, _), copy in copies.items():
            if name == node.name:
                nodes.append(replace(node, name=copy, origin=node.path))
    return replace(graph, nodes=tuple(nodes))


def relayed(graph: Graph, reasons: Reasons) -> Graph:
    """A maximum of spikes says whether any arrived: a convolution of ones, neurons without memory.

    The neurons keep the pool's name and fire in the same step; only the target's pipeline grows.
    """
    known = signals(graph)
    taken = set(graph.by_name)
    nodes: list[Node] = []
    for node in graph.nodes:
        if not isinstance(node, MaxPool2d):
            nodes.append(node)
            continue
        below = known[node.inputs[0]]
        if below.kind != "spike":
            hint = "pool spikes, or use a SumPool2d"
            reasons.add(node.name, Unfit("is a maximum of counts", hint=hint))
            nodes.append(node)
            continue
        window = fresh(f"{node.name}_window", taken)
        ones = np.ones((below.shape[0], 1, *node.kernel), np.int64)
        conv = Conv2d(
            name=window, inputs=node.inputs, origin=node.path,
            weight=Param(ones, QFormat(1, 0, signed=False)), stride=node.stride,
            padding=node.padding, groups=below.shape[0],
        )  # fmt: skip
        nodes += [conv, _relay(node, window, known[node.name].shape)]
    return replace(graph, nodes=tuple(nodes))


def _relay(node: MaxPool2d, window: str, shape: tuple[int, ...]) -> Neuron:
    """Neurons that fire when anything arrives, and forget it."""
    zero = np.zeros((), np.int64)
    point = INPUT_SHIFT
    values = {
        "current_decay": Param(zero, DECAY, Rounding.ZERO),
        "decay": Param(zero, DECAY, Rounding.ZERO),
        "bias": Param(zero, QFormat(21, point)),
        "threshold": Param(zero, QFormat(17, 0, signed=False)),
    }
    states = {
        name: State(Param(zero, fmt), fmt, Rounding.ZERO, OVERFLOWS[name])
        for name, fmt in (("u", current_format(point)), ("v", membrane_format(point)))
    }
    return Neuron(
        name=node.name, inputs=(window,), origin=node.path, shape=shape, model=LIF,
        values=values, states=states,
    )  # fmt: skip
