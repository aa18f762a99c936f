"""What a slice of a layer takes of a core: neurons, groups, input and output axons, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Graph

from .chips import Amounts, Core
from .lateral import Relay
from .layers import Layer
from .signs import entries, most_parts
from .synapses import Kernel, Synapse
from .synmem import Row, least_words, loihi1_kernel, loihi2_kernel
from .unroll import Sparse
from .weights import Packed


@dataclass(frozen=True, eq=False)
class Rows:
    """Axons that reach every neuron of a layer; those of a bias line, a matrix or a relay."""

    axons: int
    bits: int
    delay: int
    row: Row
    fixed = True

    def need(self, start: int, stop: int) -> tuple[int, int]:
        """Axons and words of the neurons from ``start`` to ``stop``, as for every part."""
        return self.axons, self.axons * int(self.row(stop - start, self.bits, self.delay, 0))

    def least(self, size: int, most: int) -> int:
        """Words that all slices together take at least, if none has more neurons than ``most``."""
        return self.axons * int(least_words(self.row, size, self.bits, self.delay, most))


@dataclass(frozen=True, eq=False)
class Pairs:
    """An axon for each neuron, that reaches it alone."""

    bits: int
    delay: int
    row: Row
    fixed = True

    def need(self, start: int, stop: int) -> tuple[int, int]:
        """Axons and words of a slice."""
        size = stop - start
        return size, size * int(self.row(1, self.bits, self.delay, 0))

    def least(self, size: int, most: int) -> int:
        """The words of all slices, however they are cut."""
        return self.need(0, size)[1]


@dataclass(frozen=True, eq=False)
class Scattered:
    """A sparse matrix, its entries in the order of the layer's neurons.

    Attributes:
        columns: The input of each entry.
        starts: Where each neuron's entries begin, and the end.
    """

    columns: IntArray
    starts: IntArray
    bits: int
    delay: int
    row: Row
    fixed = False

    def need(self, start: int, stop: int) -> tuple[int, int]:
        """Axons and words of a slice: an axon without synapses there is none."""
        counts = np.bincount(self.columns[self.starts[start] : self.starts[stop]])
        counts = counts[counts > 0]
        return counts.size, int(self.row(counts, self.bits, self.delay, stop - start).sum())

    def least(self, size: int, most: int) -> int:
        """The words of all slices; smaller ones may need fewer bits of index, or none."""
        counts = np.bincount(self.columns)
        top = int(counts.max(initial=1))
        return int(least_words(self.row, counts, self.bits, self.delay, top).sum())


@dataclass(frozen=True, eq=False)
class Shared:
    """A convolution: a slice of pixels holds its weights once, for all channels or for some.

    Attributes:
        pixels: Of the layer's image.
        channels: Of the layer's image.
        by_channel: Whether the layer's neurons are ordered by channels; else by columns of pixels.
        words: Of so many output channels.
        axons: Of every slice; 0: one for each pixel that it sees.
        column: Pixels of a column of the layer.
        sight: Pixels of a column of the input, how many columns there are, those that one column
            of the layer sees, and those that each further one adds.
    """

    pixels: int
    channels: int
    by_channel: bool
    words: IntArray
    axons: int
    column: int
    sight: tuple[int, int, int, int]
    fixed = True

    def need(self, start: int, stop: int) -> tuple[int, int]:
        """Axons and words of a slice."""
        if self.by_channel:
            touched = (stop - 1) // self.pixels - start // self.pixels + 1
            return self.axons or self._seen(self.pixels), int(self.words[touched])
        first, last = start // self.channels, (stop - 1) // self.channels
        columns = last // self.column - first // self.column + 1
        return self.axons or self._seen(columns), int(self.words[self.channels])

    def least(self, size: int, most: int) -> int:
        """Each weight is somewhere."""
        return int(self.words[self.channels])

    def _seen(self, columns: int) -> int:
        height, width, one, step = self.sight
        return height * min(width, one + (columns - 1) * step)


Part = Rows | Pairs | Scattered | Shared

Feed = tuple[str, int, int]
"""A target, the output axons to each of its cores, and for a convolution, whose axons are those of
pixels, the columns of it that a pixel reaches; else 0."""


@dataclass(frozen=True, eq=False)
class Load:
    """A layer as the mapper sees it: neurons in a row, to be cut into slices.

    Attributes:
        name: The path of the neurons, or of the connection that a relaying neuron belongs to.
        size: How many neurons.
        grain: So many neighbours stay together where they fit: the channels of a pixel.
        parts: What feeds it.
        groups: For each neuron which group it belongs to; None: all to one.
        pixels: Of its image; 0: it is none.
        by_channel: The order of its neurons: whether channels or columns of pixels come first.
        feeds: What reads it.
        maps: Output axons of a neuron; see `reaching`.
        pixel_maps: Output axons of a pixel, beside those of its neurons.
    """

    name: str
    size: int
    grain: int
    parts: tuple[Part, ...]
    groups: IntArray | None = None
    pixels: int = 0
    by_channel: bool = False
    feeds: tuple[Feed, ...] = ()
    maps: int = 1
    pixel_maps: int = 0

    def need(self, start: int, stop: int) -> Amounts:
        """What the neurons from ``start`` to ``stop`` take of a core; never less than fewer do."""
        axons = words = 0
        for part in self.parts:
            a, w = part.need(start, stop)
            axons, words = axons + a, words + w
        maps = (stop - start) * self.maps
        if self.pixel_maps:
            maps += self._touched(start, stop) * self.pixel_maps
        return stop - start, self._kinds(start, stop), axons, maps, words

    @cached_property
    def even(self) -> bool:
        """Whether a slice's need depends on nothing but its size, if it begins with a grain."""
        return (
            self.groups is None
            and not self.by_channel
            and all(
                part.fixed and not (isinstance(part, Shared) and not part.axons)
                for part in self.parts
            )
        )

    @cached_property
    def kinds(self) -> int:
        """The different groups of its neurons."""
        return self._kinds(0, self.size)

    def _kinds(self, start: int, stop: int) -> int:
        return 1 if self.groups is None else len(np.unique(self.groups[start:stop]))

    def _touched(self, start: int, stop: int) -> int:
        if self.by_channel:
            return min(stop - start, self.pixels)
        return (stop - 1) // self.grain - start // self.grain + 1


@dataclass(frozen=True)
class Cut:
    """How layers are prepared for the mapper.

    Attributes:
        core: The generation of cores.
        by_channel: The layers that are cut by channels; other images by columns of pixels.
        high: Whether convolutions take the upper end of what is known; else the lower.
    """

    core: Core
    by_channel: frozenset[str] = frozenset()
    high: bool = True


def loads(graph: Graph, found: tuple[Layer, ...], cut: Cut) -> tuple[Load, ...]:
    """The layers of a graph in its order, each followed by the relaying neurons that feed it."""
    made: list[Load] = []
    for layer in found:
        made.append(_load(layer, cut))
        for synapse in layer.synapses:
            if isinstance(synapse.form, Relay):
                part = Rows(synapse.form.size, synapse.packed[0].bits, 0, cut.core.row)
                name = graph[synapse.name].path
                made.append(Load(name, 1, 1, (part,), feeds=((layer.neuron.path, 1, 0),)))
    sent = {layer.neuron.path: _feeds(found, layer, cut.core) for layer in found}
    return tuple(replace(load, feeds=sent.get(load.name, load.feeds)) for load in made)


def is_image(layer: Layer) -> bool:
    """Whether pixels of a layer share weights."""
    kernels = any(isinstance(synapse.form, Kernel) for synapse in layer.synapses)
    return kernels and len(layer.neuron.shape) > 1


def _load(layer: Layer, cut: Cut) -> Load:
    kinds, shape = _kinds(layer, cut.core), layer.neuron.shape
    size = int(np.prod(shape, dtype=np.int64))
    image = is_image(layer)
    by_channel = image and layer.name in cut.by_channel
    if image:
        square = np.arange(size).reshape(shape[0], -1, shape[-1])
        order = (square if by_channel else square.transpose(2, 1, 0)).reshape(-1)
    else:
        order = np.argsort(kinds, kind="stable")
    return Load(
        layer.neuron.path,
        size,
        shape[0] if image and not by_channel else 1,
        tuple(part for s in layer.synapses for part in _parts(layer, s, cut, order))
        + tuple(Rows(1, packed.bits, 0, cut.core.row) for packed in layer.line),
        None if (kinds == kinds[0]).all() else kinds[order],
        pixels=size // shape[0] if image else 0,
        by_channel=by_channel,
    )


def reaching(load: Load, core: Core, reached: Mapping[str, int]) -> Load:
    """A layer with output axons to the cores that its targets lie on.

    Args:
        load: The layer.
        core: The generation of cores; if an axon can reach several, one for each target will do.
        reached: By target, how many cores it lies on.
    """
    neuron = pixel = 0
    for target, axons, columns in load.feeds:
        copies = reached.get(target, 1) if core.copies else 1
        if columns:
            pixel += axons * (min(copies, columns) if core.copies else 1)
        else:
            neuron += axons * copies
    if not load.pixels:
        neuron, pixel = neuron + pixel, 0
    return replace(load, maps=neuron if neuron or pixel else 1, pixel_maps=pixel)


def _kinds(layer: Layer, core: Core) -> IntArray:
    """Which group each neuron belongs to, flat."""
    held, shape = layer.registers, layer.neuron.shape
    if held is not None:
        values = [held.du, held.dv, *([held.vth] if core.thresholds else ())]
    else:
        named = ("decay", "threshold") if core.thresholds else ("decay",)
        values = [p.values for name, p in layer.neuron.values.items() if name.endswith(named)]
    kinds = np.zeros(int(np.prod(shape, dtype=np.int64)), np.int64)
    for value in values:
        if (value == value.flat[0]).all():
            continue
        _, one = np.unique(np.broadcast_to(value, shape).reshape(-1), return_inverse=True)
        _, both = np.unique(kinds * (one.max() + 1) + one.reshape(-1), return_inverse=True)
        kinds = both.reshape(-1).astype(np.int64)
    return kinds


def _parts(layer: Layer, synapse: Synapse, cut: Cut, order: IntArray) -> tuple[Part, ...]:
    form, row, lag = synapse.form, cut.core.row, synapse.lag
    if isinstance(form, Relay):
        _, back, own = synapse.packed
        return Rows(1, back.bits, 0, row), Pairs(own.bits, lag, row)
    if isinstance(form, Kernel):
        return tuple(_shared(layer, form, packed.bits, cut) for packed in synapse.packed)
    if isinstance(form, Sparse):
        return tuple(_scattered(form, p, lag, row, order) for p in synapse.packed)
    return tuple(Rows(form.shape[1], packed.bits, lag, row) for packed in synapse.packed)


def _scattered(form: Sparse, part: Packed, lag: int, row: Row, order: IntArray) -> Scattered:
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    kept = entries(part)
    rows = places[form.rows[kept]]
    by_row = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[by_row], np.arange(order.size + 1))
    return Scattered(form.columns[kept][by_row], starts, part.bits, lag, row)


def _shared(layer: Layer, form: Kernel, bits: int, cut: Cut) -> Shared:
    shape = layer.neuron.shape
    pixels = int(np.prod(shape[1:], dtype=np.int64))
    words_of = loihi1_kernel if cut.core.copies else loihi2_kernel
    found = words_of(form, bits, np.arange(shape[0] + 1))
    words = found.high if cut.high else found.low
    _, height, width = form.image
    sees = (form.weights.shape[3] - 1) * form.dilation[1] + 1
    return Shared(
        pixels, shape[0], layer.name in cut.by_channel, words, cut.core.shared_axons,
        pixels // shape[-1], (height, width, sees, form.stride[1]),
    )  # fmt: skip


def _feeds(found: tuple[Layer, ...], layer: Layer, core: Core) -> tuple[Feed, ...]:
    """What reads a layer."""
    feeds: list[Feed] = []
    for target in found:
        name = target.neuron.path
        for synapse in target.synapses:
            if synapse.source != layer.name:
                continue
            if isinstance(synapse.form, Relay):
                feeds += [("", 1, 0), (name, 1, 0)]
            elif isinstance(synapse.form, Kernel):
                axons = core.pixel_slots * len(synapse.packed)
                feeds.append((name, axons, _columns(synapse.form)))
            elif isinstance(synapse.form, Sparse):
                feeds.append((name, most_parts(synapse.form, synapse.packed), 0))
            else:
                feeds.append((name, len(synapse.packed), 0))
    return tuple(feeds)


def _columns(form: Kernel) -> int:
    """The columns of its output that a pixel reaches, at most."""
    columns: int = (form.weights.shape[3] - 1) * form.dilation[1] // form.stride[1] + 1
    return columns
