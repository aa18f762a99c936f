"""Scales by channel of neurons that several connections feed."""

from __future__ import annotations

from itertools import product

import numpy as np

from qspinn.fixed import FloatArray, IntArray
from qspinn.ir import Array


def balanced(
    rows: list[Array], tops: IntArray, units: FloatArray, first: int, weakest: float
) -> FloatArray:
    """A factor for each channel at which no weight of it clips.

    A channel has one factor, and each connection one format, moved by a power of two: by those
    with which the rounding of all weights adds least to the squared errors of the channels.

    Args:
        rows: For each connection its weights (channels, inputs).
        tops: The largest magnitude of each connection's format, in units of its last place.
        units: That last place.
        first: The connection whose format is not moved.
        weakest: No factor is more than so many times the smallest.
    """
    filled = np.stack([np.abs(each).max(1) for each in rows]) / (tops * units)[:, None]
    widest = filled.max(1)
    apart = np.log2(np.where(widest > 0, widest, widest[first]) / widest[first])
    counts = np.array([each.shape[1] for each in rows])
    best, least = np.ones(filled.shape[1]), np.inf
    for moves in product(*((np.floor(by), np.ceil(by)) for by in apart)):
        steps = 2.0 ** np.array(moves)
        reach = (filled / steps[:, None]).max(0)
        reach = np.maximum(reach, reach.max() / weakest)
        lost = float((reach**2).sum() * (counts * (steps * units) ** 2).sum())
        if lost < least:
            best, least = 1.0 / reach, lost
    return best
