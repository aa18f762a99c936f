"""What accuracy to expect of a candidate that was only screened, and how far off that may be.

The expectation is a non-decreasing function of the unlabelled distance, corrected by what measured
candidates of similar choices had more or less (a Gaussian process over choices and distance).
Losses enter as logarithms, in which errors are about as large where networks are good as where
they are broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import erfc, pi, sqrt

import numpy as np

from qspinn.explore.problem import Score
from qspinn.explore.space import Candidate, Space
from qspinn.fixed import FloatArray

LEAST = 0.005
"""Added to a loss before the logarithm: errors of the best networks are not magnified further."""
REACHES = (1.0, 3.0, 8.0)
"""Steps of a knob over which corrections carry; the likeliest is taken."""
NOISE = 1e-4


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Expectations from what was measured so far.

    Attributes:
        space: What can be chosen.
        features: Of the measured candidates, see `_features`.
        places: Distances, ascending, between which to interpolate.
        values: The logarithms of loss expected there.
        reach: Over how many steps corrections carry.
        scale: The variance of the corrections.
        weights: The corrections, solved for the measured candidates.
        root: The Cholesky factor of their covariance.
        doubt: By how much errors are larger than the process says, at the measured candidates.
    """

    space: Space
    features: FloatArray
    places: FloatArray
    values: FloatArray
    reach: float
    scale: float
    weights: FloatArray
    root: FloatArray
    doubt: float

    @classmethod
    def fit(cls, space: Space, scores: Sequence[Score], distances: Sequence[float]) -> Surrogate:
        """Fit to measured candidates and their distances; incomplete scores count for less."""
        far = np.asarray(distances, float)
        losses = np.array([1 - score.accuracy for score in scores])
        counts = np.array([len(score.correct) for score in scores])
        logs = np.log(losses + LEAST)
        places, values = monotone(far, logs)
        rest = logs - np.interp(far, places, values)
        features = _features(space, [score.candidate for score in scores], far)
        # All see the same samples, so only what is missing of them adds noise.
        short = np.maximum(counts.max() / counts - 1, 0) / counts.max()
        noise = losses * (1 - losses) * short / (losses + LEAST) ** 2
        scale = max(float((rest**2).mean()), 1e-6)
        fits = [_solve(features, rest, reach, scale, noise) for reach in REACHES]
        best = int(np.argmax([fit[0] for fit in fits]))
        _, weights, root = fits[best]
        inverse = _forward(root, np.eye(len(root)))
        # Each left out in turn: how many times larger the misses were than expected.
        missed = weights / np.sqrt((inverse**2).sum(0))
        doubt = max(1.0, float(np.sqrt((missed**2).mean())))
        return cls(space, features, places, values, REACHES[best], scale, weights, root, doubt)

    def expect(
        self, candidates: Sequence[Candidate], distances: Sequence[float]
    ) -> tuple[FloatArray, FloatArray]:
        """The losses expected, and their standard errors."""
        far = np.asarray(distances, float)
        features = _features(self.space, candidates, far)
        near = self.scale * _alike(features, self.features, self.reach)
        logs = np.interp(far, self.places, self.values) + np.einsum("ij,j->i", near, self.weights)
        seen = _forward(self.root, near.T)
        spread = np.sqrt(np.maximum(self.scale - (seen**2).sum(0), NOISE * self.scale))
        losses = np.exp(logs)
        return losses - LEAST, losses * spread * self.doubt


def _features(space: Space, candidates: Sequence[Candidate], far: FloatArray) -> FloatArray:
    """A row for each candidate; unordered options as coordinates of their own, two steps apart."""
    table = np.array(candidates, float).reshape(len(candidates), len(space.knobs))
    columns = [np.log(far + 1e-9)[:, None]]
    for k, knob in enumerate(space.knobs):
        if knob.ordered:
            columns.append(table[:, k : k + 1])
        else:
            columns.append(table[:, k : k + 1] == np.arange(len(knob.options)))
    return np.concatenate(columns, 1).astype(float)


def _alike(a: FloatArray, b: FloatArray, reach: float) -> FloatArray:
    """How alike the rows are: 1 for equals, falling exponentially with the steps between them."""
    steps = np.zeros((len(a), len(b)))
    for left, right in zip(a.T, b.T, strict=True):
        steps += np.abs(left[:, None] - right)
    found: FloatArray = np.exp(-steps / reach)
    return found


def _solve(
    features: FloatArray, rest: FloatArray, reach: float, scale: float, noise: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """The log likelihood of a reach, the weights and the Cholesky factor."""
    covariance = scale * _alike(features, features, reach)
    covariance += np.diag(noise + NOISE + 0.01 * scale)
    root = _cholesky(covariance)
    half = _forward(root, rest[:, None])[:, 0]
    # Solving for the transpose is solving forward with both axes turned round.
    weights: FloatArray = _forward(root.T[::-1, ::-1], half[::-1, None])[::-1, 0]
    likelihood = -0.5 * float((half**2).sum()) - float(np.log(np.diag(root)).sum())
    return likelihood, weights, root


# Sums by einsum, in one fixed order on one thread: a BLAS may add in another order with another
# number of threads, and its threads wait for each other where cores are shared.


def _cholesky(a: FloatArray) -> FloatArray:
    """The lower triangle whose product with its transpose is ``a``."""
    root = np.zeros_like(a)
    for j in range(len(a)):
        column = a[j:, j] - np.einsum("ij,j->i", root[j:, :j], root[j, :j])
        root[j:, j] = column / np.sqrt(column[0])
    return root


def _forward(root: FloatArray, right: FloatArray) -> FloatArray:
    """The solution of a lower triangular system for each column of ``right``."""
    found = np.zeros_like(right, dtype=np.float64)
    for i in range(len(root)):
        known = np.einsum("j,jk->k", root[i, :i], found[:i])
        found[i] = (right[i] - known) / root[i, i]
    return found


def improvement(gains: FloatArray, spreads: FloatArray) -> FloatArray:
    """The expectation of what is positive of normal gains with these means and spreads."""
    ratio = gains / spreads
    below = np.array([0.5 * erfc(-r / sqrt(2)) for r in ratio])
    found: FloatArray = spreads * np.exp(-0.5 * ratio**2) / sqrt(2 * pi) + gains * below
    return found


def monotone(x: Iterable[float], y: Iterable[float]) -> tuple[FloatArray, FloatArray]:
    """The non-decreasing function closest to ``y`` over ``x``, by pooling adjacent violators.

    Returns the places and the values between which to interpolate.
    """
    xs, ys = np.fromiter(x, float), np.fromiter(y, float)
    order = np.lexsort((ys, xs))
    blocks: list[list[float]] = []  # sum of x, sum of y, count
    for i in order:
        blocks.append([xs[i], ys[i], 1])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] >= blocks[-1][1] * blocks[-2][2]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    table = np.array(blocks)
    return table[:, 0] / table[:, 2], table[:, 1] / table[:, 2]
