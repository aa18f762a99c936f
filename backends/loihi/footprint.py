"""The memory of a network on a chip's neuro cores, by Intel's published and inferred figures."""

from __future__ import annotations

import numpy as np

from qspinn.ir import Graph
from qspinn.memory import Device, Footprint, Line

from .lateral import Relay
from .layers import Layer, layers
from .reasons import Reasons
from .synapses import Kernel, Synapse
from .table import CORES, LOIHI2, WORD_BYTES, Core
from .unroll import Sparse

_STATE_BYTES, _BIAS_BYTES = 3, 2
_WORD_BITS, _KERNEL_BITS = 64, 8


def footprint(graph: Graph, device: Device) -> Footprint:
    """Synaptic memory, neuron state and cores of a legalized graph.

    A layer is cut over its neurons into equal slices that each fit a core; a core holds slices of
    one layer. Synapses are counted as Intel's compiler logs fully connected slices: per axon a row
    of (bits + 12) for every neuron and 10 more, in words of 64 bits, zeros included. Convolutions
    share their weights, 5 to 8 bits each in the logs; no formula is known, so 8 are counted, on
    every core anew. A layer with more inputs than a core has axons takes as many times the cores.
    A neuron that relays lateral weights has a core, too. The labels of a vote stay with the host.
    """
    core = CORES.get(device.name, LOIHI2)
    reasons = Reasons()
    found = layers(graph, reasons)
    reasons.raise_if_any(graph.name)
    lines: list[Line] = []
    for layer in found:
        owner, size = layer.neuron.path, neurons(layer)
        slices = cores(layer, core)
        lines += [
            Line("weights", owner, "synmem", words(layer, slices) * WORD_BYTES),
            Line("state", owner, "state", size * len(layer.neuron.states) * _STATE_BYTES),
            Line("constants", owner, "state", _BIAS_BYTES * size if _biased(layer) else 0),
            Line("cores", owner, "cores", slices),
        ]
        for synapse in layer.synapses:
            lines += _relay(graph, synapse, core)
    labels = graph.output.labels
    narrowest = np.min_scalar_type(-1 - max(labels, default=0)).itemsize
    lines.append(Line("constants", graph.output.path, "host", len(labels) * narrowest))
    return Footprint(tuple(line for line in lines if line.bytes))


def _relay(graph: Graph, synapse: Synapse, core: Core) -> tuple[Line, ...]:
    """What the neuron between lateral synapses takes, and those that lead to it."""
    if not isinstance(synapse.form, Relay):
        return ()
    owner, to = graph[synapse.name].path, synapse.packed[0]
    size = slice_words(synapse.form.size, 1, to.bits)
    return (
        Line("weights", owner, "synmem", size * WORD_BYTES),
        Line("state", owner, "state", _STATE_BYTES),
        Line("cores", owner, "cores", -(-synapse.form.size // core.axons)),
    )


def neurons(layer: Layer) -> int:
    """The neurons of a layer."""
    return int(np.prod(layer.neuron.shape, dtype=np.int64))


def slice_words(axons: int, reached: int, bits: int) -> int:
    """Words of ``axons`` that each reach as many neurons with weights of ``bits``."""
    return axons * -(-(reached * (bits + 12) + 10) // _WORD_BITS)


def axons(synapse: Synapse) -> int:
    """The input axons of a connection: the neurons of its source, and one from a relay."""
    if isinstance(synapse.form, Relay):
        return synapse.form.size + 1
    if isinstance(synapse.form, Kernel):
        return int(np.prod(synapse.form.image))
    return int(synapse.form.shape[1])


def core_words(layer: Layer, size: int) -> int:
    """The words of one core that holds ``size`` neurons of a layer."""
    total = sum(slice_words(1, size, packed.bits) for packed in layer.line)
    for synapse in layer.synapses:
        if isinstance(synapse.form, Relay):
            _, packed, own = synapse.packed
            total += slice_words(1, size, packed.bits) + slice_words(size, 1, own.bits)
            continue
        for packed in synapse.packed:
            total += _synapse_words(synapse, size, packed.bits)
    return total


def _synapse_words(synapse: Synapse, size: int, bits: int) -> int:
    form = synapse.form
    if isinstance(form, Kernel):
        return -(-int(form.weights.size) * _KERNEL_BITS // _WORD_BITS)
    reached = size
    if isinstance(form, Sparse):
        reached = min(size, -(-int(form.values.size) // form.shape[1]))
    return slice_words(axons(synapse), reached, bits)


def words(layer: Layer, slices: int) -> int:
    """The words of a layer in equal slices."""
    each, rest = divmod(neurons(layer), slices)
    return rest * core_words(layer, each + 1) + (slices - rest) * core_words(layer, each)


def cores(layer: Layer, core: Core) -> int:
    """The fewest equal slices of a layer that fit a core each; its neurons if none do."""
    size = neurons(layer)
    times = -(-sum(axons(synapse) for synapse in layer.synapses) // core.axons)
    for count in range(1, size + 1):
        each = -(-size // count)
        if each <= core.neurons and core_words(layer, each) <= core.words * times:
            return min(count * times, size)
    return size


def _biased(layer: Layer) -> bool:
    held = layer.registers
    return held is not None and bool((held.bias_mant != held.bias_mant.flat[0]).any())
