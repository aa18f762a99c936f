"""The memory of a network on a chip's neuro cores, by Intel's published and inferred figures."""

from __future__ import annotations

import numpy as np

from qspinn.ir import Graph, Output
from qspinn.memory import Device, Footprint, Line

from .chips import RESOURCES, WORD_BYTES
from .lateral import Relay
from .layers import Layer, layers
from .mapping import Mapping, mapped
from .reasons import Reasons

_STATE_BYTES, _BIAS_BYTES = 3, 2


def footprint(graph: Graph, device: Device) -> Footprint:
    """Synaptic memory, neuron state and cores of a legalized graph, as `mapping` places it.

    A core belongs to the layer that takes most of it; ``core-words`` and the like are what the
    fullest core of a layer holds. A neuron that relays lateral weights is a layer, too. The labels
    of a vote stay with the host.
    """
    found = layers_of(graph)
    lines = _cores(mapped(graph, found, device))
    for layer in found:
        owner, size = layer.neuron.path, int(np.prod(layer.neuron.shape, dtype=np.int64))
        lines += [
            Line("state", owner, "state", size * len(layer.neuron.states) * _STATE_BYTES),
            Line("constants", owner, "state", _BIAS_BYTES * size if _biased(layer) else 0),
        ]
        lines += [
            Line("state", graph[synapse.name].path, "state", _STATE_BYTES)
            for synapse in layer.synapses
            if isinstance(synapse.form, Relay)
        ]
    for node in graph.of_type(Output):
        narrowest = np.min_scalar_type(-1 - max(node.labels, default=0)).itemsize
        lines.append(Line("constants", node.path, "host", len(node.labels) * narrowest))
    return Footprint(tuple(line for line in lines if line.bytes))


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a legalized graph.

    Raises:
        LegalizeError: It was not legalized.
    """
    reasons = Reasons()
    found = layers(graph, reasons)
    reasons.raise_if_any(graph.name)
    return found


def _cores(mapping: Mapping) -> list[Line]:
    """By layer: words, cores, and the most that one of its cores holds."""
    loads, most = mapping.high.loads, mapping.most
    words, cores = [0] * len(loads), [0] * len(loads)
    peaks = [[0] * len(RESOURCES) for _ in loads]
    for core in mapping.high.cores:
        owner = core.owner(most)
        cores[owner] += 1
        peaks[owner] = [max(pair) for pair in zip(peaks[owner], core.used, strict=True)]
        for piece in core.pieces:
            words[piece.load] += piece.need[-1]
    lines = []
    for i, load in enumerate(loads):
        lines += [
            Line("weights", load.name, "synmem", words[i] * WORD_BYTES),
            Line("cores", load.name, "cores", cores[i]),
        ]
    lines += [
        Line("core", load.name, f"core-{what}", peaks[i][k])
        for k, what in enumerate(RESOURCES)
        for i, load in enumerate(loads)
    ]
    return lines


def _biased(layer: Layer) -> bool:
    held = layer.registers
    return held is not None and bool((held.bias_mant != held.bias_mant.flat[0]).any())
