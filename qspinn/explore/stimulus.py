"""The encoded samples that every candidate sees: made once, the same spikes for all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.engine.events import Events
from qspinn.evaluate import chunks
from qspinn.fixed import Overflow, QFormat, to_int
from qspinn.ir import Array, Graph, Input
from qspinn.ports import entering, parts, together

_CHUNK = 250
Formats = tuple[QFormat | None, ...]


@dataclass(frozen=True, eq=False)
class Stimulus:
    """Samples of a data set as a network receives them, in the order of ``index``.

    Attributes:
        graph: The canonical float graph, whose input says what is received.
        dataset: Where the samples come from.
        encoder: With the most steps that are wanted; fewer are a prefix of them.
        index: The samples' positions in the data set, which key their random draws.
    """

    graph: Graph
    dataset: Dataset
    encoder: Encoder
    index: Array
    _made: dict[tuple[Formats, int, int], Events | Array] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The steps of a sample, as the data have them."""
        if self.encoder.steps:
            return self.encoder.steps
        data = self._whole(())
        return data.steps if isinstance(data, Events) else int(data.shape[1])

    def part(self, formats: Formats, first: int, last: int) -> Events | Array:
        """Samples ``first`` to ``last``; ``formats`` are the inputs', where values enter.

        Returns:
            Event lists of spikes or counts; integers (samples, steps, *shape) of values.
        """
        key = (formats, first, last)
        if key not in self._made:
            self._made[key] = _cut(self._whole(formats), first, last)
        return self._made[key]

    @cached_property
    def digest(self) -> str:
        """What identifies the encoded samples and their order."""
        h = hashlib.sha256(repr((self.encoder, entering(self.graph.of_type(Input)))).encode())
        data = self.dataset
        arrays = [self.index, *(data.events or data.arrays)]
        for array in arrays:
            held = np.ascontiguousarray(array)
            h.update(str((held.dtype.str, held.shape)).encode())
            h.update(held.tobytes())
        return h.hexdigest()

    def _whole(self, formats: Formats) -> Events | Array:
        key = (formats, 0, len(self.index))
        if key not in self._made:
            values = any(node.kind == "current" for node in self.graph.of_type(Input))
            self._made[key] = self._values(formats) if values else self._events()
        return self._made[key]

    def _events(self) -> Events:
        lists = [Events.from_dense(data) for data in self._chunks(self.encoder)]
        return joined(lists)

    def _chunks(self, encoder: Encoder) -> Iterator[Array]:
        for data, _ in chunks(self.graph, self.dataset, encoder, self.index, _CHUNK):
            yield data

    def _values(self, formats: Formats) -> Array:
        """One row of values a sample where all steps receive the same."""
        direct = self.encoder.kind == "direct"
        once = replace(self.encoder, steps=1) if direct else self.encoder
        rows = np.concatenate([self._whole_numbers(data, formats) for data in self._chunks(once)])
        if not direct:
            return rows
        return np.broadcast_to(rows, (len(rows), self.encoder.steps, *rows.shape[2:]))

    def _whole_numbers(self, data: Array, formats: Formats) -> Array:
        if not any(formats):
            return data
        received = parts(self.graph, data)
        for node, fmt in zip(self.graph.of_type(Input), formats, strict=True):
            if fmt is not None:
                received[node.name] = to_int(received[node.name], fmt, overflow=Overflow.SATURATE)
        return together(self.graph, received).astype(np.int32)


def _cut(data: Events | Array, first: int, last: int) -> Events | Array:
    if not isinstance(data, Events):
        return data[first:last]
    offsets = data.offsets[first * data.steps : last * data.steps + 1]
    part = slice(int(offsets[0]), int(offsets[-1]))
    values = None if data.values is None else data.values[part]
    return Events(data.shape, data.steps, offsets - offsets[0], data.index[part], values)


def joined(lists: list[Events]) -> Events:
    """Event lists one after the other."""
    if len(lists) == 1:
        return lists[0]
    ends = np.cumsum([0, *(events.offsets[-1] for events in lists)])
    offsets = [events.offsets[:-1] + end for events, end in zip(lists, ends, strict=False)]
    valued = any(events.values is not None for events in lists)
    values = [
        np.ones(events.index.size, np.int64) if events.values is None else events.values
        for events in lists
    ]
    return Events(
        lists[0].shape,
        lists[0].steps,
        np.concatenate([*offsets, ends[-1:]]),
        np.concatenate([events.index for events in lists]),
        np.concatenate(values) if valued else None,
    )
