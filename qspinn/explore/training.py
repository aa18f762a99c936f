"""Which candidates are worth training: a few of those that are too small to be right untrained.

To train one costs as much as to measure a hundred others. So the search runs without training
first, and what it found says where training may pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from qspinn.explore.front import front_of
from qspinn.explore.guided import TINY, spread
from qspinn.explore.problem import Problem, Score
from qspinn.explore.significance import steps
from qspinn.explore.space import Candidate
from qspinn.explore.twins import sizes, twin

Accepts = Callable[[Score], bool]

ROUND = 4
"""Trained before the best of them is looked at."""


def smaller(problem: Problem, candidate: Candidate) -> list[Candidate]:
    """What is smaller by one step of a knob; sizes are those of the untrained twins."""
    cheap = sizes(problem)
    before = cheap.memory(twin(problem, candidate))
    return [
        step
        for step in steps(problem, candidate).values()
        if before is not None and (cheap.memory(twin(problem, step)) or before) < before
    ]


def trained(
    problem: Problem, knob: int, scores: Sequence[Score], *, accepts: Accepts | None, most: int
) -> Iterator[Score]:
    """Train and measure at most ``most`` candidates, evenly among the schemes that train.

    Where every accuracy is welcome, the measured front is trained, evenly. Else the smallest
    candidate that is accepted is made smaller, by a step of one knob or by taking another that
    was measured: those are trained first that save most memory for the distance they add
    untrained, and of each round the smallest that is accepted is the next to be made smaller.

    Args:
        problem: The network; the first scheme trains nothing.
        knob: The scheme's.
        scores: What was measured without training.
        accepts: Whether a score will do; None: every one will.
        most: Candidates to train.
    """
    known = [score for score in scores if score.candidate[knob] == 0]
    count = len(problem.space.knobs[knob].options)
    for option in range(1, count) if known else ():
        descent = _Descent(problem, knob, option, most // (count - 1))
        if accepts is None:
            front = [score.candidate for score in front_of(known).scores]
            yield from descent.measured(spread(front, descent.most))
        else:
            yield from descent.run(known, accepts)


class _Descent:
    """One scheme; ``done`` are the untrained twins of what was trained."""

    def __init__(self, problem: Problem, knob: int, option: int, most: int) -> None:
        self.problem, self.knob, self.option, self.most = problem, knob, option, most
        self.done: set[Candidate] = set()

    def run(self, known: Sequence[Score], accepts: Accepts) -> Iterator[Score]:
        """From the smallest that is accepted downwards."""
        good = [score for score in known if accepts(score)]
        start = min(good, key=lambda s: (s.memory, s.candidate), default=None)
        best = (start or max(known, key=lambda s: (s.complete, s.accuracy))).candidate
        if start is None:
            yield from self.measured([best])
        while len(self.done) < self.most:
            chosen = self.smaller(best, [score.candidate for score in known])
            if not chosen:
                return
            for score in self.measured(chosen[: min(ROUND, self.most - len(self.done))]):
                yield score
                twin = self.problem.space.moved(score.candidate, self.knob, 0)
                if accepts(score) and self.size(twin) < self.size(best):
                    best = twin

    def measured(self, candidates: Sequence[Candidate]) -> Iterator[Score]:
        """Train these, and measure them on all samples."""
        for candidate in candidates:
            self.done.add(candidate)
            taught = self.problem.space.moved(candidate, self.knob, self.option)
            memory = self.problem.memory(taught)
            if memory is not None:
                (right,) = self.problem.correct([taught], self.problem.samples)
                yield Score(taught, memory, right, complete=True)

    def smaller(self, best: Candidate, known: Sequence[Candidate]) -> list[Candidate]:
        """What may come next, the most memory saved for the distance added first."""
        space, size = self.problem.space, self.size(best)
        steps = [
            space.moved(best, k, taken + 1)
            for k, (knob, taken) in enumerate(zip(space.knobs, best, strict=True))
            if k != self.knob and knob.ordered and taken + 1 < len(knob.options)
        ]
        fresh = sorted({*steps, *known} - self.done - {best})
        found = [c for c in fresh if self.problem.memory(c) is not None and self.size(c) < size]
        if not found:
            return []
        far = self.problem.distance([best, *found])
        worth = [
            (size - self.size(c)) / (max(d - far[0], 0.0) + TINY)
            for c, d in zip(found, far[1:], strict=True)
        ]
        return [found[i] for i in np.lexsort((np.arange(len(found)), -np.array(worth)))]

    def size(self, candidate: Candidate) -> int:
        """The memory of a candidate that was accepted."""
        memory = self.problem.memory(candidate)
        assert memory is not None, "it was accepted"
        return memory
