"""Paired racing: many candidates on few samples, and on more only those that may still win."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from qspinn.explore.problem import BoolArray, Problem, Score
from qspinn.explore.space import Candidate

STAGES = (250, 500, 750, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000)
"""Samples after which candidates are compared; then all."""
BATCH = 256
"""Candidates measured on all samples at a time, so that results come while others wait."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a candidate is given up.

    After each stage a candidate is dropped if, against some leader, one of these holds:

    * ``gain + z * error * sqrt(1 - n / N) < 0``: on all ``N`` samples the leader will still lead;
    * ``gain <= -eps / 2`` and ``gain + z * error < eps``: it is behind, and not believed to be
      better by ``eps`` in truth.

    Leaders are the candidates still in the race, and rivals, that need as little memory or less
    and that nothing as small beats so far. ``gain`` is the difference of the two accuracies on
    the ``n`` samples seen, ``error`` its paired standard error with half a sample added to both
    kinds of disagreement, so that never having disagreed is no proof. The root is the correction
    for a finite population: samples already seen cannot change. Whoever is ahead stays.

    Attributes:
        z: How many standard errors count as certain.
        eps: A gain in accuracy, as a share, that is not worth more memory.
    """

    z: float = 3.5
    eps: float = 0.0


EXACT = Rule()
CLOSE = Rule(3.5, 0.001)
COARSE = Rule(2.5, 0.001)


@dataclass(frozen=True, eq=False)
class _Runner:
    candidate: Candidate
    memory: int
    correct: BoolArray


def race(
    problem: Problem,
    candidates: Sequence[Candidate],
    rule: Rule = EXACT,
    *,
    stages: Sequence[int] = STAGES,
    rivals: Sequence[Score] = (),
) -> Iterator[Score]:
    """Measure candidates, the hopeless ones on few samples only.

    Each candidate that the problem accepts yields one score: the dropped ones as they are
    dropped, in order of memory and candidate, the others at the end. The samples used are the
    lengths of the scores. The order in which candidates are given does not matter.

    Args:
        problem: Gives memory and correctness.
        candidates: Whom to measure.
        rule: When to drop one.
        stages: Numbers of samples to compare after, ascending.
        rivals: Complete scores to compare with as well.
    """
    alive = []
    for candidate in sorted(set(candidates)):
        memory = problem.memory(candidate)
        if memory is not None:
            alive.append(_Runner(candidate, memory, np.zeros(0, bool)))
    for count in stages:
        if count >= problem.samples or not alive:
            break
        found = problem.correct([runner.candidate for runner in alive], count)
        pairs = zip(alive, found, strict=True)
        stage = [_Runner(runner.candidate, runner.memory, right) for runner, right in pairs]
        alive, dropped = _compare(stage, rule, rivals, count, 1 - count / problem.samples)
        yield from (Score(r.candidate, r.memory, r.correct, False) for r in dropped)
    for first in range(0, len(alive), BATCH):
        batch = alive[first : first + BATCH]
        found = problem.correct([runner.candidate for runner in batch], problem.samples)
        for runner, right in zip(batch, found, strict=True):
            yield Score(runner.candidate, runner.memory, right, True)


def samples_used(scores: Sequence[Score]) -> int:
    """How many samples the scores cost, each candidate's counted once."""
    return sum(len(score.correct) for score in scores)


def _compare(
    runners: list[_Runner], rule: Rule, rivals: Sequence[Score], count: int, left: float
) -> tuple[list[_Runner], list[_Runner]]:
    """Who stays, by candidate, and who is dropped, by memory and candidate."""
    field = [(r.memory, -int(r.correct.sum()), 1, r.candidate, r) for r in runners]
    for rival in rivals:
        seen = rival.correct[:count]
        standing = _Runner(rival.candidate, rival.memory, seen)
        field.append((rival.memory, -int(seen.sum()), 0, rival.candidate, standing))
    leaders = np.zeros((0, count), bool)
    best = 0
    kept, dropped = [], []
    # Cheapest first, of equals the most accurate: whoever can be a leader was judged before.
    for _, wrong, running, _, runner in sorted(field, key=lambda entry: entry[:4]):
        if running and _hopeless(runner.correct, leaders, rule, left):
            dropped.append(runner)
            continue
        if running:
            kept.append(runner)
        if -wrong > best:
            best = -wrong
            leaders = np.vstack([leaders, runner.correct])
    kept.sort(key=lambda r: r.candidate)
    dropped.sort(key=lambda r: (r.memory, r.candidate))
    return kept, dropped


def _hopeless(correct: BoolArray, leaders: BoolArray, rule: Rule, left: float) -> bool:
    """Whether some leader leaves no hope of beating it; ``left``: the share of samples to come."""
    if not len(leaders):
        return False
    n = len(correct)
    gained = np.count_nonzero(correct & ~leaders, axis=1)
    lost = np.count_nonzero(~correct & leaders, axis=1)
    # Half a sample in each cell, for the spread alone: the gain stays as it was observed.
    spread = gained + lost + 1.0 - (gained - lost) ** 2 / (n + 2.0)
    error = np.sqrt(spread) / (n + 2.0)
    gain, certain = (gained - lost) / n, rule.z * error
    beaten = gain + certain * sqrt(left) < 0
    idle = (gain <= -rule.eps / 2) & (gain + certain < rule.eps)
    return bool((beaten | (idle & (rule.eps > 0))).any())
