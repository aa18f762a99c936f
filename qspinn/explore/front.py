"""Pareto fronts: dominance for any number of objectives, ties, and the volume a front covers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qspinn.errors import PlanError
from qspinn.explore.problem import Score
from qspinn.fixed import FloatArray


@dataclass(frozen=True)
class Objective:
    """Something to make small, or large."""

    name: str
    of: Callable[[Score], float]
    maximize: bool = False

    def cost(self, score: Score) -> float:
        """The value, such that less is better."""
        value = float(self.of(score))
        return -value if self.maximize else value


ACCURACY = Objective("accuracy", lambda score: score.accuracy, maximize=True)
MEMORY = Objective("memory", lambda score: float(score.memory))
BOTH = (ACCURACY, MEMORY)


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether the costs ``a`` are nowhere larger than ``b`` and somewhere smaller."""
    pairs = list(zip(a, b, strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def nondominated(costs: FloatArray) -> list[int]:
    """The rows of ``costs`` that no other row dominates; of equal rows the first.

    The result is in lexicographic order of the rows.
    """
    costs = np.asarray(costs, np.float64)
    if not costs.size:
        return []
    # In lexicographic order only an earlier row can dominate a later one, or equal it.
    order = np.lexsort((np.arange(len(costs)), *costs.T[::-1]))
    kept: list[int] = []
    points = np.empty_like(costs)
    for i in order:
        if not (points[: len(kept)] <= costs[i]).all(1).any():
            points[len(kept)] = costs[i]
            kept.append(int(i))
    return kept


def hypervolume(costs: FloatArray, reference: Sequence[float]) -> float:
    """The volume that the rows of ``costs`` dominate, up to a reference point; exact.

    Two objectives take a sort; each further one multiplies the time by the number of points.
    """
    bound = np.asarray(reference, np.float64)
    costs = np.asarray(costs, np.float64).reshape(-1, len(bound))
    inside = costs[(costs < bound).all(1)]
    return _volume(inside[nondominated(inside)], bound)


def _volume(points: FloatArray, bound: FloatArray) -> float:
    """Of points in lexicographic order: slabs between neighbours in the first objective."""
    if not len(points):
        return 0.0
    if len(bound) == 1:
        return float(bound[0] - points[:, 0].min())
    edges = np.append(points[1:, 0], bound[0])
    if len(bound) == 2:
        heights = bound[1] - np.minimum.accumulate(points[:, 1])
        return float(((edges - points[:, 0]) * heights).sum())
    total = 0.0
    for i, (start, end) in enumerate(zip(points[:, 0], edges, strict=True)):
        if end > start:
            below = points[: i + 1, 1:]
            total += float(end - start) * _volume(below[nondominated(below)], bound[1:])
    return total


@dataclass(frozen=True, eq=False)
class Front:
    """The measured candidates that nothing measured beats in all objectives.

    Attributes:
        scores: By memory, smallest first.
        objectives: What they were compared in.
    """

    scores: tuple[Score, ...]
    objectives: tuple[Objective, ...] = BOTH

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    @property
    def costs(self) -> FloatArray:
        """A row for each score, a column for each objective, less is better."""
        return costs_of(self.scores, self.objectives)

    def hypervolume(self, reference: Sequence[float]) -> float:
        """What the front dominates up to a reference point, given in the objectives' own units."""
        signs = [-1.0 if objective.maximize else 1.0 for objective in self.objectives]
        bound = [sign * value for sign, value in zip(signs, reference, strict=True)]
        return hypervolume(self.costs, bound)

    def within(self, memory: int) -> Score | None:
        """The most accurate that needs at most so many bytes; of equals the smaller."""
        fits = [score for score in self.scores if score.memory <= memory]
        return min(fits, key=lambda s: (-s.accuracy, s.memory, s.candidate), default=None)

    def losses(self, other: Front) -> list[float]:
        """At each point of the front ``other``, what this one lacks in accuracy at that memory.

        Where nothing here is small enough, all of the accuracy is lacking.
        """
        held = Staircase(self.scores)
        return [point.accuracy - max(held.at(point.memory), 0.0) for point in other.scores]


def costs_of(scores: Sequence[Score], objectives: Sequence[Objective]) -> FloatArray:
    """A row for each score, a column for each objective, less is better."""
    rows = [[objective.cost(score) for objective in objectives] for score in scores]
    return np.array(rows, np.float64).reshape(len(scores), len(objectives))


def front_of(scores: Iterable[Score], objectives: Sequence[Objective] = BOTH) -> Front:
    """The front of all complete scores.

    Of scores that are equal in every objective the one with the smaller memory stays, then the
    lowest candidate. Incomplete scores take no part: they were seen to lose.

    Raises:
        PlanError: Complete scores were measured on different numbers of samples.
    """
    complete = [score for score in scores if score.complete]
    if len(counts := {len(score.correct) for score in complete}) > 1:
        raise PlanError(f"scores on {min(counts)} and on {max(counts)} samples cannot be compared")
    complete.sort(key=_order)
    kept = nondominated(costs_of(complete, objectives))
    return Front(tuple(sorted((complete[i] for i in kept), key=_order)), tuple(objectives))


def _order(score: Score) -> tuple[int, tuple[int, ...]]:
    return score.memory, score.candidate


class Staircase:
    """The best accuracy for each memory, as scores come in."""

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._memories: list[int] = []
        self._accuracies: list[float] = []
        for score in scores:
            self.add(score)

    def at(self, memory: int) -> float:
        """The best accuracy seen within so many bytes; -1: nothing is that small."""
        place = bisect_right(self._memories, memory)
        return self._accuracies[place - 1] if place else -1.0

    def add(self, score: Score) -> bool:
        """Take in a score; whether it is better than all that is as small."""
        memory, accuracy = score.memory, score.accuracy
        if self.at(memory) >= accuracy:
            return False
        start = end = bisect_right(self._memories, memory - 1)
        while end < len(self._memories) and self._accuracies[end] <= accuracy:
            end += 1
        self._memories[start:end] = [memory]
        self._accuracies[start:end] = [accuracy]
        return True
