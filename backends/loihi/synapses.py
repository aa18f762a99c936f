"""The way from a source of spikes to a layer of neurons: its delay, its matrix, its processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import (
    CONNECTIONS,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Pair,
    Param,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal, window

from .lateral import STAGES, Relay, relay, relayable
from .reasons import Unfit
from .table import GRADED_BITS, MOST_DELAY
from .unroll import Sparse, compose, diagonal, from_dense, unroll, unroll_pool
from .weights import Packed, pack, parts, signed

SMALL, _THIN = 4096, 8
"""Matrices up to this size, or with more than one in so many entries, are stored dense."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution: weights (out, in / groups, kh, kw) over an image (channels, height, width)."""

    weights: IntArray
    image: tuple[int, int, int]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    def matrix(self) -> Sparse:
        """The same connection written out."""
        node = Conv2d(
            name="", weight=Param(self.weights), stride=self.stride, padding=self.padding,
            dilation=self.dilation, groups=self.groups,
        )  # fmt: skip
        return unroll(node, self.weights, self.image)


Form = IntArray | Sparse | Kernel | Relay
"""A dense matrix (out, in), a sparse one, a convolution, or lateral weights by way of a neuron."""


@dataclass(frozen=True, eq=False)
class Synapse:
    """One connection of a layer, as synapses.

    Attributes:
        name: The connection node.
        source: The Input or Neuron node whose spikes it reads.
        target: The Neuron node it feeds.
        delay: Steps of delay in the graph.
        lag: Steps on the target beyond the one that every synapse takes.
        form: The integers, in units of the target's activation.
        packed: Mantissas that sum up to ``form``, one Lava process each; for a relay the synapses
            to it, from it and one to one.
        message_bits: 0 for spikes, the payload's width for counts and values.
        drop: Low bits that the exponent's shift drops of their sum, rounding down; ``form`` is that
            much finer than the activation.
    """

    name: str
    source: str
    target: str
    delay: int
    lag: int
    form: Form
    packed: tuple[Packed, ...]
    message_bits: int
    drop: int = 0


@dataclass(frozen=True)
class Way:
    """What lies between a node and the source it reads, nearest first."""

    source: Node
    between: tuple[Node, ...]

    @property
    def delay(self) -> int:
        """The total delay in steps."""
        return sum(node.steps for node in self.between if isinstance(node, Delay))


def way(graph: Graph, node: Node) -> Way:
    """Follow the input of ``node`` back to an Input or Neuron, or to what cannot be passed.

    Raises:
        Unfit: The way has no beginning.
    """
    between: list[Node] = []
    at = graph[node.inputs[0]]
    while isinstance(at, (Delay, Flatten, SumPool2d)):
        if at in between:
            raise Unfit("reads a cycle without neurons")
        between.append(at)
        at = graph[at.inputs[0]]
    return Way(at, tuple(between))


def source_of(graph: Graph, node: Node, known: dict[str, Signal]) -> Way:
    """The way from ``node`` to a source of spikes.

    Raises:
        Unfit: It reads something that synapses cannot.
    """
    found = way(graph, node)
    source = found.source
    if isinstance(source, CONNECTIONS):
        raise Unfit(f"reads the current of {source.name}", hint="put neurons between the two")
    if isinstance(source, MaxPool2d):
        raise Unfit(f"reads {source.name}, a maximum of counts", hint="use a SumPool2d")
    if not isinstance(source, (Input, Neuron)):
        raise Unfit(f"reads {source.name}, a {type(source).__name__}")
    if isinstance(source, Neuron) and source.model.sends == "current":
        raise Unfit(
            f"reads the membrane of {source.name}; between neurons only spikes travel",
            hint="read it with an Output",
        )
    span = known[source.name].interval
    if span is not None and span.bits > GRADED_BITS:
        raise Unfit(f"reads values of {span.bits} bits, a message holds {GRADED_BITS}")
    return found


def message_bits(signal: Signal) -> int:
    """The payload of a signal; spikes have none."""
    if signal.kind == "spike" or signal.interval is None:
        return 0
    return signal.interval.bits


def form_of(node: Node, weights: IntArray, found: Way, known: dict[str, Signal]) -> Form:
    """The integers between the source and the output of a connection, pools included."""
    shape = known[node.inputs[0]].shape
    pools = [p for p in found.between if isinstance(p, SumPool2d)]
    if isinstance(node, Linear) and not pools:
        return _thinned(from_dense(weights))
    kernel = _kernel(node, weights, shape)
    while kernel is not None and pools:
        larger = _pooled(kernel, pools[0], known) if _adjacent(found, pools[0]) else None
        if larger is None:
            break
        kernel, pools = larger, pools[1:]
    if kernel is not None and not pools:
        return kernel
    matrix = kernel.matrix() if kernel is not None else unroll(node, weights, shape)
    for pool in pools:
        matrix = compose(matrix, unroll_pool(pool, known[pool.inputs[0]].shape))
    return _thinned(matrix)


def _kernel(node: Node, weights: IntArray, shape: Shape) -> Kernel | None:
    if isinstance(node, Conv1d):
        return Kernel(
            weights[:, :, None, :], (shape[0], 1, shape[1]), (1, node.stride), (0, node.padding),
            (1, node.dilation), node.groups,
        )  # fmt: skip
    if isinstance(node, Conv2d):
        image = (shape[0], shape[1], shape[2])
        return Kernel(weights, image, node.stride, node.padding, node.dilation, node.groups)
    return None


def _adjacent(found: Way, pool: SumPool2d) -> bool:
    """Whether nothing but delays and pools lies between a pool and the connection."""
    return not any(isinstance(n, Flatten) for n in found.between[: found.between.index(pool)])


def _pooled(kernel: Kernel, pool: SumPool2d, known: dict[str, Signal]) -> Kernel | None:
    """The convolution over a pool's input, where borders allow one; otherwise None."""
    below = known[pool.inputs[0]].shape
    for axis in range(2):
        if not _clean(kernel, pool, axis, below[1 + axis]):
            return None
    outs, per_group, kh, kw = kernel.weights.shape
    step = tuple(kernel.dilation[i] * pool.stride[i] for i in range(2))
    size = tuple((k - 1) * step[i] + pool.kernel[i] for i, k in enumerate((kh, kw)))
    weights = np.zeros((outs, per_group, *size), np.int64)
    for i, j in np.ndindex(*pool.kernel):
        weights[:, :, i : i + (kh - 1) * step[0] + 1 : step[0],
                j : j + (kw - 1) * step[1] + 1 : step[1]] += kernel.weights  # fmt: skip
    return Kernel(
        weights,
        (below[0], below[1], below[2]),
        (kernel.stride[0] * pool.stride[0], kernel.stride[1] * pool.stride[1]),
        (kernel.padding[0] * pool.stride[0] + pool.padding[0],
         kernel.padding[1] * pool.stride[1] + pool.padding[1]),
        (1, 1),
        kernel.groups,
    )  # fmt: skip


def _clean(kernel: Kernel, pool: SumPool2d, axis: int, size: int) -> bool:
    """Whether the larger kernel sees zeros wherever the smaller one saw padding, on one axis."""
    k, s, p = pool.kernel[axis], pool.stride[axis], pool.padding[axis]
    pad, taps = kernel.padding[axis], kernel.weights.shape[2 + axis]
    pooled, step = kernel.image[1 + axis], kernel.dilation[axis]
    places = window(pooled, taps, kernel.stride[axis], pad, step)
    reach = (taps - 1) * step * s + k
    if window(size, reach, kernel.stride[axis] * s, pad * s + p) != places:
        return False
    before = pad == 0 or k <= s + p
    last = (places - 1) * kernel.stride[axis] - pad + (taps - 1) * step
    return before and (last < pooled or pooled * s - p >= size)


def _thinned(matrix: Sparse) -> IntArray | Sparse:
    size = matrix.shape[0] * matrix.shape[1]
    if size <= SMALL or matrix.values.size * _THIN > size:
        return matrix.dense()
    return matrix


def synapse(
    graph: Graph,
    node: Node,
    target: Neuron,
    weights: IntArray,
    known: dict[str, Signal],
    drop: int = 0,
) -> Synapse:
    """The synapses of a connection whose ``weights`` are in units of the target's activation.

    Or ``drop`` binary places finer, where so many low bits of their sum are dropped.

    Raises:
        Unfit: The chip cannot hold them, or not at that delay.
    """
    found = source_of(graph, node, known)
    late = graph.shifts.get(target.name, 0) - graph.shifts.get(found.source.name, 0)
    lag = found.delay + late - 1
    if lag > MOST_DELAY:
        raise Unfit(f"needs a delay of {lag} steps, synapses have at most {MOST_DELAY}")
    form: Form | None = None
    if not drop and lag + 1 >= STAGES and relayable(node, found.between, known):
        form = _storable(relay(weights, known[node.inputs[0]]))
    if form is None:
        form = form_of(node, weights, found, known)
    if isinstance(form, Kernel) and (lag > 0 or drop):  # Lava's Conv has no exponent
        form = _thinned(form.matrix())
    bits = message_bits(known[found.source.name])
    packed = (pack(integers(form), drop),) if drop else _packed(form, found)
    return Synapse(
        node.name, found.source.name, target.name, found.delay, lag, form, packed, bits, drop,
    )  # fmt: skip


def _storable(form: Relay) -> Relay | None:
    """The relay, if its weights fit: of both signs -128 fits, and what takes it back does not."""
    try:
        for part in form.parts():
            pack(part)
    except Unfit:
        return None
    return form


def own_form(form: Relay) -> IntArray | Sparse:
    """The synapses one to one beside a relay."""
    return _thinned(diagonal(form.parts()[-1]))


def _packed(form: Form, found: Way) -> tuple[Packed, ...]:
    """One mantissa, or one for each sign; sums over overlapping windows may take several."""
    if isinstance(form, Relay):
        to, back, _ = form.parts()
        return pack(to), pack(back), pack(integers(own_form(form)))
    values = integers(form)
    pooled = any(isinstance(node, SumPool2d) for node in found.between)
    return parts(values) if pooled else signed(values)


def integers(form: Form) -> IntArray:
    """The weights of a form, as an array."""
    if isinstance(form, (Kernel, Relay)):
        return form.weights
    if isinstance(form, Sparse):
        return form.values
    return form
