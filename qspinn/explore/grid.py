"""The strategy ``q-spinn``: the published procedure, exhaustive over one precision for each kind.

Q-SpiNN (Putra and Shafique, IJCNN 2021, arXiv 2107.01807) evaluates every combination of
quantization scheme, precision of each kind of parameter and rounding; those that reach a target
accuracy are solution candidates, and a reward of memory and accuracy selects among them. We have
not seen the paper's exact reward: both readings below are ours, and say so.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from qspinn.errors import PlanError
from qspinn.explore.problem import Problem, Score
from qspinn.explore.space import Candidate, Space

REWARDS = ("multiplicative", "additive")
ROUNDING = "rounding"
BATCH = 256
EXTRA = ("bias", "scale", "input")
"""Kinds that the published procedure does not turn: left alone unless they are named."""
MOST = 100_000
"""A larger grid is taken for a mistake: measuring all of it takes hours, and gigabytes."""


@dataclass(frozen=True, slots=True)
class Reward:
    """How much a solution candidate is worth; both forms are our reading.

    ``multiplicative``: what is saved, times a penalty for what is lost:
    ``(float memory / memory) * min(1, accuracy / float accuracy)``.
    ``additive``: ``accuracy - mu * memory / float memory``.

    Attributes:
        form: One of `REWARDS`.
        memory: Bytes of the float network.
        accuracy: Of the float network.
        mu: The accuracy, as a share, that the float network's whole memory is worth.
    """

    form: str
    memory: int
    accuracy: float
    mu: float = 0.1

    def __post_init__(self) -> None:
        if self.form not in REWARDS:
            raise PlanError(f"a reward is {' or '.join(REWARDS)}, not {self.form!r}")

    def of(self, score: Score) -> float:
        """The reward of a measured candidate."""
        if self.form == "additive":
            return score.accuracy - self.mu * score.memory / self.memory
        penalty = min(1.0, score.accuracy / self.accuracy) if self.accuracy else 1.0
        return self.memory / score.memory * penalty


def kinds(space: Space) -> dict[str, tuple[int, ...]]:
    """The positions of the knobs that the procedure turns together.

    One precision for all parameters of a kind, and one rounding for all parameters there are.
    Other properties of a kind, ``fc1.weight:form``, are tied among themselves. In each group the
    knob with the most options leads.
    """
    groups: dict[str, list[int]] = {}
    for i, knob in enumerate(space.knobs):
        suffix = knob.name.partition(":")[2]
        key = suffix if suffix == ROUNDING else f"{knob.kind}:{suffix}" if suffix else knob.kind
        groups.setdefault(key, []).append(i)
    return {
        key: tuple(sorted(group, key=lambda i: (-len(space.knobs[i].options), i)))
        for key, group in groups.items()
    }


def published(space: Space, named: Container[str]) -> Space:
    """The knobs that the procedure turns, and those whose name or kind is among the named."""
    return Space(
        tuple(
            knob
            for knob in space.knobs
            if knob.kind not in EXTRA or knob.kind in named or knob.name in named
        )
    )


def grid(space: Space) -> list[Candidate]:
    """Every candidate of the procedure's grid, once, in order.

    Raises:
        PlanError: There are more than `MOST`.
    """
    tied = kinds(space)
    widths = {key: len(space.knobs[group[0]].options) for key, group in tied.items()}
    if (size := prod(widths.values())) > MOST:
        widest = max(widths, key=lambda key: widths[key])
        raise PlanError(
            f"the grid has {size:,} candidates, the limit is {MOST:,}",
            hint=f"name fewer options with --try; {widest} has {widths[widest]}",
        )
    return sorted(set(space.tied(list(tied.values()))))


def q_spinn(problem: Problem) -> Iterator[Score]:
    """Measure the whole grid, each candidate on all samples."""
    accepted = [(c, problem.memory(c)) for c in grid(problem.space)]
    sized = [(candidate, memory) for candidate, memory in accepted if memory is not None]
    for first in range(0, len(sized), BATCH):
        batch = sized[first : first + BATCH]
        found = problem.correct([candidate for candidate, _ in batch], problem.samples)
        for (candidate, memory), right in zip(batch, found, strict=True):
            yield Score(candidate, memory, right, True)


def solutions(scores: Iterable[Score], target: float) -> list[Score]:
    """The solution candidates: those of at least the target accuracy."""
    return [score for score in scores if score.complete and score.accuracy >= target]


def rewarded(scores: Sequence[Score], reward: Reward) -> Score | None:
    """The solution candidate with the highest reward; of equals the smaller; None of none."""
    return min(scores, key=lambda s: (-reward.of(s), s.memory, s.candidate), default=None)
