"""The default strategy: enumerate while that is cheap; else predict a front, and repair it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from qspinn.explore.additive import predicted_front
from qspinn.explore.front import Front, Staircase, front_of, nondominated
from qspinn.explore.problem import Problem, Score
from qspinn.explore.race import EXACT, Rule, race
from qspinn.explore.significance import probes
from qspinn.explore.space import Candidate, Space
from qspinn.explore.surrogate import Surrogate, improvement

ENUMERATED = 20_000
"""A space of at most so many candidates is enumerated."""
LIMIT = 400
"""Distinct candidates measured with labels in a larger one."""
FIRST = 16
"""Of the screened front: measured first, evenly spread."""
ROUND = 8
"""Measured in each round of the repair."""
LEAPS = 2
"""Of each round: neighbours that might gain most, whatever is expected of them."""
BATCH = 96
"""Screened without labels at a time."""
ENOUGH = 192
"""Screened at least before anything is measured, while the screened front improves."""
TINY = 1e-9


def guided(
    problem: Problem,
    *,
    limit: int = LIMIT,
    enumerated: int = ENUMERATED,
    rule: Rule = EXACT,
    floor: float = 0.0,
) -> Iterator[Score]:
    """Search the front of accuracy over memory; scores come as they are measured.

    A space of at most ``enumerated`` candidates is raced as a whole. In a larger one

    1. every option is screened alone: the unlabelled distance that it adds to the base candidate,
       the finest that is accepted;
    2. an additive model of these predicts a front (see `additive`), and the front's candidates
       and their neighbours are screened until none of them improves it;
    3. that front is measured with labels, in a paired race;
    4. the neighbours of the measured front are screened, and those that promise most measured,
       round by round, until all of them were or ``limit`` candidates have been.

    A neighbour differs by one step of a knob, by one knob finer and another coarser by a step, or
    by any other option of a knob whose options have no order. Nothing depends on time: rounds are
    synchronous, and everything is sorted.

    Args:
        problem: The network.
        limit: Most candidates to measure with labels; to enumerate has no limit.
        enumerated: The largest space that is enumerated.
        rule: When a race gives a candidate up.
        floor: An accuracy below which nothing is of interest: measurements go where the front is
            above it.
    """
    space = problem.space
    if space.size <= enumerated:
        yield from race(problem, list(space.all()), rule)
        return
    base = finest_accepted(problem)
    if base is not None:
        yield from _Search(problem, rule, limit, floor).run(base)


def finest_accepted(problem: Problem) -> Candidate | None:
    """The finest candidate that the problem accepts, all ordered knobs lowered together.

    Where the unordered knobs' first options are refused at every precision, each of their other
    options is tried alone; None: all of that is refused.
    """
    space = problem.space
    loose = [k for k, knob in enumerate(space.knobs) if not knob.ordered]
    starts = [space.finest]
    starts += [space.moved(space.finest, k, o) for k in loose
               for o in range(1, len(space.knobs[k].options))]  # fmt: skip
    for level in range(max(len(knob.options) for knob in space.knobs)):
        for start in starts:
            candidate = tuple(
                min(level, len(knob.options) - 1) if knob.ordered else taken
                for knob, taken in zip(space.knobs, start, strict=True)
            )
            if problem.memory(candidate) is not None:
                return candidate
    return None


def neighbours(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """All that one step reaches, swaps of precision between two knobs included."""
    finer, coarser = [], []
    for k, (knob, taken) in enumerate(zip(space.knobs, candidate, strict=True)):
        if not knob.ordered:
            others = (o for o in range(len(knob.options)) if o != taken)
            yield from (space.moved(candidate, k, option) for option in others)
            continue
        if taken > 0:
            finer.append(k)
            yield space.moved(candidate, k, taken - 1)
        if taken + 1 < len(knob.options):
            coarser.append(k)
            yield space.moved(candidate, k, taken + 1)
    for up in finer:
        for down in coarser:
            if up != down:
                swapped = space.moved(candidate, up, candidate[up] - 1)
                yield space.moved(swapped, down, candidate[down] + 1)


class _Search:
    """What was screened and measured so far, and what to do next."""

    def __init__(self, problem: Problem, rule: Rule, limit: int, floor: float) -> None:
        self.problem = problem
        self.rule = rule
        self.limit = limit
        self.floor = floor
        self.effects: dict[tuple[int, int], float] = {}
        self.distances: dict[Candidate, float] = {}
        self.memories: dict[Candidate, int | None] = {}
        self.scores: dict[Candidate, Score] = {}

    def run(self, base: Candidate) -> Iterator[Score]:
        """The four steps of `guided`."""
        single = probes(self.problem.space, base)
        self.screen([base, *single.values()])
        self.effects = {
            key: self.distances[candidate] - self.distances[base]
            for key, candidate in single.items()
            if candidate in self.distances
        }
        self.screen(spread(predicted_front(self.problem, base, self.effects), BATCH))
        self.refine()
        yield from self.measure(spread(self.screened_front(), min(FIRST, self.limit)))
        while len(self.scores) < self.limit and (chosen := self.promising()):
            yield from self.measure(chosen[: self.limit - len(self.scores)])

    def memory(self, candidate: Candidate) -> int | None:
        """The problem's answer, asked for once."""
        if candidate not in self.memories:
            self.memories[candidate] = self.problem.memory(candidate)
        return self.memories[candidate]

    def size(self, candidate: Candidate) -> int:
        """The memory of an accepted candidate."""
        memory = self.memory(candidate)
        assert memory is not None, "it was accepted"
        return memory

    def screen(self, candidates: Iterable[Candidate]) -> None:
        """Take the distances of those that are accepted and not yet known."""
        unknown = sorted(set(candidates) - self.distances.keys())
        new = [c for c in unknown if self.memory(c) is not None]
        if new:
            self.distances.update(zip(new, self.problem.distance(new), strict=True))

    def measure(self, candidates: Sequence[Candidate]) -> Iterator[Score]:
        """Race newcomers against the front."""
        rivals = front_of(self.scores.values()).scores
        for score in race(self.problem, candidates, self.rule, rivals=rivals):
            self.scores[score.candidate] = score
            yield score

    def screened_front(self) -> list[Candidate]:
        """The front of distance over memory, the smallest first."""
        known = sorted(self.distances)
        costs = np.array([[self.size(c), self.distances[c]] for c in known], float)
        return [known[i] for i in nondominated(costs)]

    def around(self, candidates: Iterable[Candidate]) -> dict[Candidate, float]:
        """The accepted neighbours, and their distances: screened, or else estimated.

        The estimate adds to a candidate's distance what the changed options add to the base's;
        of several neighbours the lowest counts.
        """
        found: dict[Candidate, float] = {}
        for candidate in candidates:
            for near in neighbours(self.problem.space, candidate):
                if self.memory(near) is None:
                    continue
                guess = self.distances.get(near, self.estimate(candidate, near))
                found[near] = min(guess, found.get(near, guess))
        return found

    def estimate(self, known: Candidate, near: Candidate) -> float:
        """The distance of a candidate from that of a screened one."""
        added = sum(
            self.effects.get((k, new), 0.0) - self.effects.get((k, old), 0.0)
            for k, (old, new) in enumerate(zip(known, near, strict=True))
            if old != new
        )
        return max(0.0, self.distances[known] + added)

    def refine(self) -> None:
        """Screen neighbours of the screened front until they are done or enough were."""
        most = len(self.distances) + ENOUGH
        done: set[Candidate] = set()
        while len(self.distances) < most:
            front = self.screened_front()
            fresh = spread([c for c in front if c not in done], ROUND)
            if not fresh:
                return
            done.update(fresh)
            near = {c: d for c, d in self.around(fresh).items() if c not in self.distances}
            self.screen(self.closest(near, front)[:BATCH])

    def closest(self, near: Mapping[Candidate, float], front: list[Candidate]) -> list[Candidate]:
        """Neighbours by their distance relative to the screened front's at that memory."""
        sizes = [self.size(candidate) for candidate in front]
        ratios: dict[Candidate, float] = {}
        for candidate, distance in near.items():
            place = bisect_right(sizes, self.size(candidate))
            held = self.distances[front[place - 1]] if place else np.inf
            ratios[candidate] = distance / (held + TINY)
        return sorted(near, key=lambda c: (ratios[c], c))

    def promising(self) -> list[Candidate]:
        """Whom to measure next: at most a round of those that may improve the front."""
        front = front_of(self.scores.values())
        surrogate = self.surrogate()
        for centres in (front.scores, [s for s in self.scores.values() if s.complete]):
            near = self.around(score.candidate for score in centres)
            near.update((c, self.distances[c]) for c in self.screened_front())
            new = {c: near[c] for c in sorted(near.keys() - self.scores.keys())}
            if new:
                break
        else:
            return []
        held = Staircase(front)
        bars = {c: max(held.at(self.size(c)), self.floor) for c in new}
        leaps = self.leaps(front, bars)[:LEAPS]
        ranked = _ranked(surrogate, new, bars)
        self.screen([*leaps, *[c for c in ranked if c not in self.distances][:BATCH]])
        known = {c: self.distances[c] for c in ranked if c in self.distances}
        rest = [c for c in _ranked(surrogate, known, bars) if c not in leaps]
        return [*leaps, *rest][:ROUND]

    def leaps(self, front: Front, bars: Mapping[Candidate, float]) -> list[Candidate]:
        """Those that save memory against a point of the front by one knob: the widest gaps first.

        Such a one is hardly better than that point, but the point may be far above the bar: below
        a cliff the surrogate knows least.
        """
        tops: dict[Candidate, float] = {}
        for score in front:
            for moved in probes(self.problem.space, score.candidate).values():
                if moved in bars and self.size(moved) < score.memory:
                    tops[moved] = max(score.accuracy, tops.get(moved, 0.0))
        gains = {c: top - bars[c] for c, top in tops.items() if top > bars[c]}
        return sorted(gains, key=lambda c: (-gains[c], c))

    def surrogate(self) -> Surrogate:
        """What to expect, from all that was measured so far."""
        measured = [self.scores[c] for c in sorted(self.scores)]
        far = [self.distances[s.candidate] for s in measured]
        return Surrogate.fit(self.problem.space, measured, far)


def _ranked(
    surrogate: Surrogate, distances: Mapping[Candidate, float], bars: Mapping[Candidate, float]
) -> list[Candidate]:
    """Candidates by how much they are expected to surpass their bars, the most first."""
    candidates = list(distances)
    losses, errors = surrogate.expect(candidates, list(distances.values()))
    gains = 1 - losses - np.array([bars[c] for c in candidates])
    hopes = improvement(gains, errors)
    return [candidates[i] for i in np.lexsort((np.arange(len(candidates)), -hopes))]


def spread(candidates: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most so many of a sequence, evenly, the ends included."""
    if len(candidates) <= most:
        return list(candidates)
    places = np.unique(np.rint(np.linspace(0, len(candidates) - 1, most)).astype(int))
    return [candidates[i] for i in places]
