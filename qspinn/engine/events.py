"""Event lists: a data set of spikes, counts or values, sample after sample, built once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qspinn.errors import QspinnError
from qspinn.ir import Array, Shape

_SLICE = 1 << 22
"""Elements of a raster converted at a time: the positions found need 8 bytes each."""


@dataclass(frozen=True, eq=False)
class Events:
    """What enters in each step of each sample, without the zeros.

    Attributes:
        shape: Of the signal in one step.
        steps: Per sample.
        offsets: Row r, step ``r % steps`` of sample ``r // steps``, is ``offsets[r:r + 2]``.
        index: Flat positions, ascending in each row; uint16 where they fit, else uint32.
        values: What arrives there, in the order of ``index``; None: a 1 everywhere.

    Raises:
        QspinnError: The lists contradict each other.
    """

    shape: Shape
    steps: int
    offsets: Array
    index: Array
    values: Array | None = None

    def __post_init__(self) -> None:
        offsets, index = np.asarray(self.offsets, np.int64), np.asarray(self.index)
        if self.steps < 1 or offsets.size < 1 or (offsets.size - 1) % self.steps:
            raise QspinnError(f"{offsets.size - 1} rows are no multiple of {self.steps} steps")
        if offsets[0] != 0 or offsets[-1] != index.size or (np.diff(offsets) < 0).any():
            raise QspinnError(f"the offsets do not rise from 0 to the {index.size} events")
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self.size:
            raise QspinnError(
                f"events lie at {index.min()} to {index.max()}, the signal has {self.size} elements"
            )
        if self.values is not None:
            object.__setattr__(self, "values", _checked(np.asarray(self.values), index))
        index = index.astype(index_type(self.size), copy=False)
        rises = index[1:] > index[:-1]
        starts = offsets[1:-1]
        rises[starts[(starts > 0) & (starts < index.size)] - 1] = True
        if not rises.all():
            raise QspinnError("the events of a step are not in strictly ascending order")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "index", index)

    def __len__(self) -> int:
        return int(self.offsets.size - 1) // self.steps

    @property
    def size(self) -> int:
        """The number of elements of the signal."""
        return int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def constant(self) -> bool:
        """Whether each sample has the same events in every step, as directly encoded values do."""
        counts = np.diff(self.offsets).reshape(-1, self.steps)
        if self.steps == 1 or not counts.size or (counts != counts[:, :1]).any():
            return False
        later = np.arange(counts.size) % self.steps > 0
        at = np.flatnonzero(np.repeat(later, counts.ravel()))
        before = at - np.repeat(counts[:, 0], counts[:, 1:].sum(1))
        parts = (self.index,) if self.values is None else (self.index, self.values)
        return all(bool((part[at] == part[before]).all()) for part in parts)

    @classmethod
    def from_dense(cls, data: Array) -> Events:
        """The non-zero elements of (samples, steps, *shape) integers."""
        if data.ndim < 2 or not (np.issubdtype(data.dtype, np.integer) or data.dtype == np.bool_):
            raise QspinnError(
                f"events are made of integers (samples, steps, *shape), not of {data.dtype} "
                f"{data.shape}"
            )
        samples, steps, *shape = data.shape
        size = int(np.prod(shape, dtype=np.int64))
        rows = data.reshape(samples * steps, size)
        ones = data.dtype == np.bool_ or not data.size or (data.min() >= 0 and data.max() <= 1)
        height = max(1, _SLICE // max(size, 1))
        index, values = [np.zeros(0, index_type(size))], [np.zeros(0, np.int64)]
        counts = [np.zeros(1, np.int64)]
        for first in range(0, len(rows), height):
            part = rows[first : first + height]
            at = np.flatnonzero(part != 0)  # much faster than on integers
            ends = np.arange(len(part) + 1) * size
            counts.append(np.diff(np.searchsorted(at, ends)))
            index.append((at - np.repeat(ends[:-1], counts[-1])).astype(index_type(size)))
            if not ones:
                values.append(part.reshape(-1)[at].astype(np.int64))
        offsets = np.cumsum(np.concatenate(counts))
        joined = None if ones else np.concatenate(values)
        return cls(tuple(shape), steps, offsets, np.concatenate(index), joined)

    def to_dense(self) -> Array:
        """(samples, steps, *shape): uint8 for spikes, else int64."""
        rows = self.offsets.size - 1
        dense = np.zeros((rows, self.size), np.uint8 if self.values is None else np.int64)
        dense[np.repeat(np.arange(rows), np.diff(self.offsets)), self.index] = (
            1 if self.values is None else self.values
        )
        return dense.reshape(len(self), self.steps, *self.shape)

    def take(self, samples: Array) -> Events:
        """The samples with these indices, in this order."""
        rows = (np.asarray(samples, np.int64)[:, None] * self.steps + np.arange(self.steps)).ravel()
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], counts)
        values = None if self.values is None else self.values[at]
        return Events(self.shape, self.steps, offsets, self.index[at], values)


def _checked(values: Array, index: Array) -> Array:
    """The values of events in 32 bits, or 64 where they need them."""
    if values.shape != index.shape or not np.issubdtype(values.dtype, np.integer):
        raise QspinnError(f"{values.size} values ({values.dtype}) do not fit {index.size} events")
    if not values.all():
        raise QspinnError("an event has the value 0", hint="leave it out")
    limits = np.iinfo(np.int32)
    narrow = not values.size or limits.min <= values.min() <= values.max() <= limits.max
    return values.astype(np.int32 if narrow else np.int64, copy=False)


def index_type(size: int) -> type[np.unsignedinteger]:
    """The narrowest of the two types that positions are stored in."""
    return np.uint16 if size <= 1 << 16 else np.uint32
