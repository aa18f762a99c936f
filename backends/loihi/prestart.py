"""Before its first step a layer already runs on Lava: whether anything of that is ever seen.

In a skewed start a layer with shift r runs r steps on its bias alone before its states are reset.
What it sends then reaches the layers downstream before they start, too, except through a delay of
the graph: of a delay of d, the spikes of the last d steps come out after the start. This module
runs that phase exactly, in integers. Where such a spike is found the biases are set only when
their layers start; without biases, at rest and without input, nothing fires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qspinn.interp import apply, step_program
from qspinn.ir import Array, Conv1d, Conv2d, Delay, Graph, Input, Linear, Neuron, Node, Output
from qspinn.signals import signals

from .layers import Layer


def late_biases(graph: Graph, found: tuple[Layer, ...]) -> frozenset[str]:
    """Layers whose membrane bias must wait for their start; none where the proof succeeds."""
    heard = _heard(found)
    if not heard:
        return frozenset()
    sent = _Early(graph, found).run()
    silent = all(
        not sent[name][k].any()
        for name, steps in heard.items()
        for k in range(-steps, 0)
        if k in sent[name]
    )
    if silent:
        return frozenset()
    return frozenset(
        layer.name
        for layer in found
        if layer.registers is not None and layer.shift and layer.registers.bias_mant.any()
    )


def _heard(found: tuple[Layer, ...]) -> Mapping[str, int]:
    """For each stock layer the number of early steps that a delay carries past the start."""
    early = {layer.name for layer in found if layer.registers is not None and layer.shift}
    heard: dict[str, int] = {}
    for layer in found:
        for synapse in layer.synapses:
            if synapse.delay and synapse.source in early:
                heard[synapse.source] = max(heard.get(synapse.source, 0), synapse.delay)
    return heard


class _Early:
    """The network in the reference's steps -r to -1, without input; biases of lines are silent."""

    def __init__(self, graph: Graph, found: tuple[Layer, ...]) -> None:
        self.graph, self.known = graph, signals(graph)
        self.layers = {layer.name: layer for layer in found}
        self.sent: dict[str, dict[int, Array]] = {node.name: {} for node in graph.nodes}
        self.states = {
            layer.name: dict.fromkeys("uv", np.zeros((1, *layer.neuron.shape), np.int64))
            for layer in found
        }

    def run(self) -> Mapping[str, Mapping[int, Array]]:
        """What every node sends, by step."""
        first = max(layer.shift for layer in self.layers.values())
        for k in range(-first, 0):
            for node in self.graph.nodes:
                if not isinstance(node, Output):
                    self.sent[node.name][k] = self.value(node, k)
        return self.sent

    def value(self, node: Node, k: int) -> Array:
        zero = np.zeros((1, *self.known[node.name].shape), np.int64)
        if isinstance(node, Delay):
            return self.sent[node.inputs[0]].get(k - node.steps, zero)
        if isinstance(node, Neuron):
            return self.neurons(node, k, zero)
        if isinstance(node, Input):
            return zero
        if isinstance(node, (Linear, Conv1d, Conv2d)) and node.bias is not None:
            silent = replace(node.bias, values=np.zeros_like(node.bias.values))
            node = replace(node, bias=silent)
        return apply(node, self.sent[node.inputs[0]][k], self.known[node.inputs[0]])

    def neurons(self, node: Neuron, k: int, zero: Array) -> Array:
        layer = self.layers[node.name]
        if layer.registers is None or k < -layer.shift:  # our own process models wait in silence
            return zero
        fracs = [self.known[i].frac for i in node.inputs]
        parts = [
            self.sent[i][k] * (1 << (max(fracs) - f))
            for i, f in zip(node.inputs, fracs, strict=True)
        ]
        leaves = {**self.states[node.name], "a": np.sum(parts, axis=0)}
        leaves |= {name: p.values for name, p in node.values.items()}
        after, sent = step_program(layer.program, leaves, 0, node.shape)
        self.states[node.name] = {
            name: np.broadcast_to(value, zero.shape) for name, value in after.items()
        }
        return np.broadcast_to(sent, zero.shape).astype(np.int64)
