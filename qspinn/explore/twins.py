"""A problem without the schemes that train, and the untrained twins of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qspinn.explore.problem import BoolArray, Problem
from qspinn.explore.space import Candidate, Space


def scheme_of(space: Space) -> int | None:
    """The place of the knob that chooses the scheme; None: there is one scheme only."""
    several = (len(knob.options) > 1 and knob.kind == "scheme" for knob in space.knobs)
    return next((k for k, found in enumerate(several) if found), None)


def untrained(space: Space, knob: int) -> Space:
    """The space in which the knob has its first option only: the same candidates, and fewer."""
    knobs = list(space.knobs)
    knobs[knob] = replace(knobs[knob], options=knobs[knob].options[:1])
    return Space(tuple(knobs))


@dataclass(frozen=True)
class Untrained:
    """A problem without the schemes that train: its candidates are the whole problem's, too."""

    whole: Problem
    knob: int

    @property
    def space(self) -> Space:
        """The space in which the scheme is the first."""
        return untrained(self.whole.space, self.knob)

    @property
    def samples(self) -> int:
        """See `Problem`."""
        return self.whole.samples

    @property
    def baseline(self) -> BoolArray:
        """See `Problem`."""
        return self.whole.baseline

    def memory(self, candidate: Candidate) -> int | None:
        """See `Problem`."""
        return self.whole.memory(candidate)

    def correct(self, candidates: Sequence[Candidate], count: int) -> list[BoolArray]:
        """See `Problem`."""
        return self.whole.correct(candidates, count)

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """See `Problem`."""
        return self.whole.distance(candidates)


def sizes(problem: Problem) -> Problem:
    """The problem that knows the same sizes, and trains nothing to learn them."""
    knob = scheme_of(problem.space)
    return problem if knob is None else Untrained(problem, knob)


def twin(problem: Problem, candidate: Candidate) -> Candidate:
    """The candidate as it is untrained."""
    knob = scheme_of(problem.space)
    return candidate if knob is None else problem.space.moved(candidate, knob, 0)
