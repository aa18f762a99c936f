"""Confidence intervals for accuracies and paired differences, and what choosing adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from qspinn.ir import Array

_Z = 1.959963984540054
"""Two-sided 95 %."""

_ROWS = 256
"""Outcomes taken as floating point at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A proportion or a difference of two, with its 95 % confidence interval."""

    value: float
    low: float
    high: float
    count: int

    def percent(self) -> str:
        """As people write it: ``97.4 % [96.0, 98.4]``."""
        return f"{100 * self.value:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"


def accuracy(correct: Array) -> Estimate:
    """The share of correct answers with Wilson's score interval (Wilson, 1927)."""
    n, p = len(correct), float(correct.mean())
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def paired_difference(correct: Array, baseline: Array) -> Estimate:
    """How much more often ``correct`` is right than ``baseline`` on the same samples.

    The interval is Agresti and Min's (2005): Wald's, after half a sample is added to each cell.
    """
    n = len(correct)
    gained, lost = discordant(correct, baseline)
    centre, error = _paired(gained, lost, n)
    return Estimate((gained - lost) / n, centre - _Z * error, centre + _Z * error, n)


def discordant(correct: Array, baseline: Array) -> tuple[int, int]:
    """How many samples only ``correct`` got right, and how many only ``baseline``."""
    return int((correct & ~baseline).sum()), int((~correct & baseline).sum())


def _paired(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Agresti and Min's centre and standard error of a paired difference."""
    b, c, m = gained + 0.5, lost + 0.5, n + 2.0
    return (b - c) / m, sqrt(max(b + c - (b - c) ** 2 / m, 0.0)) / m


def quantile(level: float) -> float:
    """The normal deviate that a share ``level`` stays below: 1.645 for 95 %."""
    return NormalDist().inv_cdf(level)


def drop_bound(correct: Array, baseline: Array, level: float = 0.95) -> float:
    """The largest drop of ``correct`` against ``baseline`` that the samples leave plausible.

    One-sided: the true drop exceeds it in ``1 - level`` of all cases. Of the same construction as
    `paired_difference`; its own 95 % interval ends at the bound with level 97.5 %.
    """
    return bound_of(paired_difference(correct, baseline), level)


def bound_of(difference: Estimate, level: float = 0.95) -> float:
    """The same from a `paired_difference`."""
    centre, error = (difference.low + difference.high) / 2, (difference.high - difference.low) / 2
    return -centre + quantile(level) / _Z * error


def samples_needed(
    difference: float, discordance: float, *, level: float = 0.95, power: float = 0.8
) -> int:
    """How many paired samples show a difference with this two-sided level and this power.

    Args:
        difference: The true difference of two accuracies, as a share: 0.0025 is a quarter point.
        discordance: The share of samples that one of the two gets right and the other wrong.
        level: Two-sided: how rarely equals may look different.
        power: How often the difference is to be seen.
    """
    deviate = quantile((1 + level) / 2) + quantile(power)
    variance = max(discordance, abs(difference)) - difference**2
    return ceil(deviate**2 * variance / difference**2)


def optimism(correct: Sequence[Array], *, rounds: int = 200, seed: int = 0) -> float:
    """By how much the best of several overstates its accuracy on the samples it was picked on.

    Picked on a random half of the samples and measured on the other, many times over: that is
    what half of the samples overstate, without bias. With all of them the errors are smaller by
    the square root of two, and so is what picking gains from them.

    Args:
        correct: What each gets right on the same samples.
        rounds: Random halves to average over.
        seed: Of the halves.
    """
    n = len(correct[0]) if correct else 0
    half = n // 2
    if len(correct) < 2 or half < 1:
        return 0.0
    rng = np.random.default_rng(seed)
    chosen = np.zeros((n, rounds), np.float32)
    for turn in range(rounds):
        chosen[rng.permutation(n)[:half], turn] = 1
    parts = [correct[first : first + _ROWS] for first in range(0, len(correct), _ROWS)]
    # Whole numbers below 2^24: exact in any order of summation.
    seen = np.concatenate([np.asarray(part, np.float32) @ chosen for part in parts])
    unseen = np.array([np.count_nonzero(row) for row in correct])[:, None] - seen
    best, turns = seen.argmax(0), np.arange(rounds)
    excess = seen[best, turns] / half - unseen[best, turns] / (n - half)
    return max(0.0, float(excess.mean(dtype=np.float64)) / sqrt(2))
