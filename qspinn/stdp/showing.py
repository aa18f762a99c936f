"""The input spikes of samples as the kernels take them: listed, some samples at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qspinn import encode
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.engine import events
from qspinn.errors import FrontendError
from qspinn.ir import Array, Shape
from qspinn.stdp import kernels

_CHUNK = 500
"""Samples whose spikes are in memory at a time."""


def shown(
    shape: Shape, dataset: Dataset, encoder: Encoder, index: Array
) -> Iterator[tuple[kernels.Events, int]]:
    """The input spikes of samples, some at a time, and how many samples these are.

    Raises:
        FrontendError: The data do not fit the input, or are no spikes.
    """
    for first in range(0, len(index), _CHUNK):
        some = index[first : first + _CHUNK]
        encoded = encoder.kind == "none"
        x = dataset.samples(some, shape, encoded=encoded, steps=encoder.steps)
        make = _fired if encoder.kind == "rate" else _listed
        yield make(x, encoder, some, dataset.name), len(some)


def _listed(x: Array, encoder: Encoder, some: Array, name: str) -> kernels.Events:
    data = encode.encode(x, encoder, some)
    if data.size and not np.isin(data, (0, 1)).all():
        raise FrontendError(
            f"the data run from {data.min()} to {data.max()}, STDP learns from spikes, 0 or 1",
            at=name,
            hint="values become spikes with --encode rate, phase or latency",
        )
    made = events.Events.from_dense(data.astype(np.uint8))
    return kernels.Events(made.steps, made.offsets, made.index)


def _fired(x: Array, encoder: Encoder, some: Array, name: str) -> kernels.Events:
    """What `encode.encode` would draw, without a raster: a tenth of the time."""
    chance = encode.probabilities(encoder.received(x), encoder.gain).reshape(len(x), -1)
    row, pixel = np.nonzero(chance)
    ends = np.searchsorted(row, np.arange(len(x) + 1))
    offsets = np.zeros(len(x) * encoder.steps + 1, np.int64)
    out = np.zeros(len(row) * encoder.steps + 1, events.index_type(chance.shape[1]))
    size = kernels.fired(
        encode.keys(encoder, some), encoder.steps, pixel, chance[row, pixel], ends, out, offsets
    )
    return kernels.Events(encoder.steps, offsets, out[:size])
