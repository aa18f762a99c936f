"""Confidence intervals for accuracies and for paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from qspinn.ir import Array

_Z = 1.959963984540054
"""Two-sided 95 %."""


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
    gained, lost = int((correct & ~baseline).sum()), int((~correct & baseline).sum())
    b, c, m = gained + 0.5, lost + 0.5, n + 2.0
    centre = (b - c) / m
    half = _Z * sqrt(max(b + c - (b - c) ** 2 / m, 0.0)) / m
    return Estimate((gained - lost) / n, centre - half, centre + half, n)
