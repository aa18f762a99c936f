"""What is expected of a count of independent events: blocks of them, and what is left over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from qspinn.fixed import FloatArray

from .running import Counts

Bursts = Sequence[tuple[float, float]]
"""How steps differ: in a share of them, the share of elements that hold an event."""


def mixed(bursts: Bursts, parts: Callable[[float], Counts]) -> Counts:
    """What steps run on average, each by its own rate."""
    found = Counts()
    for share, rate in bursts:
        found += parts(rate).times(share)
    return found


def mean(bursts: Bursts, value: Callable[[float], float]) -> float:
    """The same of a number."""
    return sum(share * value(rate) for share, rate in bursts)


def blocks(count: int, rate: float, most: int) -> float:
    """The expected number of blocks of so many events, the last of which may not be full."""
    return _expected(count, round(rate, 4), most)[0]


def rest(count: int, rate: float, most: int) -> float:
    """The expected number of events beyond whole blocks."""
    return _expected(count, round(rate, 4), most)[1]


@lru_cache(maxsize=4096)
def _expected(count: int, rate: float, most: int) -> tuple[float, float]:
    number = np.arange(count + 1)
    chance = _chances(count, rate)
    return float(chance @ -(-number // most)), float(chance @ (number % most))


def _chances(count: int, rate: float) -> FloatArray:
    """Of each number of events: a binomial distribution."""
    if rate <= 0.0 or rate >= 1.0:
        return np.asarray(np.arange(count + 1) == (count if rate >= 1.0 else 0), np.float64)
    at = np.arange(count)
    steps = np.log((count - at) / (at + 1)) + np.log(rate / (1.0 - rate))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) + count * np.log1p(-rate)
    return np.asarray(np.exp(logs), np.float64)
