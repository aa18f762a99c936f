"""A `Problem` from a formula instead of a network: cheap, seeded, with a known true front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qspinn.explore.front import Front, front_of
from qspinn.explore.problem import Score
from qspinn.explore.space import Candidate, Knob, Space

BoolArray = npt.NDArray[np.bool_]


def layered(layers: int, options: int, kinds: Sequence[str] = ("weight",)) -> Space:
    """Knobs of each kind in each layer, their options ``options + 1`` to 2 bits."""
    words = tuple(str(bits) for bits in range(options + 1, 1, -1))
    knobs = [
        Knob(f"lif{i}.{kind}", kind, f"lif{i}", words) for i in range(layers) for kind in kinds
    ]
    return Space(tuple(knobs))


@dataclass
class FakeProblem:
    """Every sample has a margin; a candidate gets it right where its damage stays below.

    The damage of a candidate is a sum over its knobs, plus noise of its own for each sample, so
    that candidates disagree as real ones do. Memory is the sum of a price for each option.

    Attributes:
        space: What can be chosen.
        samples: How many there are.
        seed: Of everything random.
        refused: Candidates that the target refuses.
        memory_of: Replaces the sum of prices.
        asked: For each candidate, the numbers of samples it was measured on.
    """

    space: Space
    samples: int = 2000
    seed: int = 0
    refused: Callable[[Candidate], bool] = lambda candidate: False
    memory_of: Callable[[Candidate], int] | None = None
    asked: dict[Candidate, list[int]] = field(default_factory=dict)
    screened: list[Candidate] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.margins = rng.normal(2.0, 1.0, self.samples)
        knobs = self.space.knobs
        self.weights = rng.uniform(0.2, 1.5, len(knobs))
        self.prices = rng.integers(20, 400, len(knobs))

    @property
    def baseline(self) -> BoolArray:
        """The float network: no damage at all."""
        return self.margins > 0

    def damage(self, candidate: Candidate) -> float:
        """What the options taken do together: each doubles from one option to the next."""
        shares = [
            weight * 2.0 ** (taken - len(knob.options) + 1) if taken else 0.0
            for knob, taken, weight in zip(self.space.knobs, candidate, self.weights, strict=True)
        ]
        return float(sum(shares))

    def memory(self, candidate: Candidate) -> int | None:
        """The sum of what each knob's remaining bits cost."""
        if self.refused(candidate):
            return None
        if self.memory_of is not None:
            return self.memory_of(candidate)
        knobs = zip(self.space.knobs, candidate, self.prices, strict=True)
        return 100 + sum(int(price) * (len(knob.options) - taken) for knob, taken, price in knobs)

    def outcome(self, candidate: Candidate) -> BoolArray:
        """Which samples a candidate gets right."""
        digits = [7, self.seed, *candidate]
        noise = np.random.default_rng(digits).normal(0, 0.15, self.samples)
        damage = self.damage(candidate)
        return self.margins + noise * min(damage, 1.0) > damage

    def correct(self, candidates: Sequence[Candidate], count: int) -> list[BoolArray]:
        """The first ``count`` outcomes of each."""
        assert len(set(candidates)) == len(candidates)
        for candidate in candidates:
            assert self.memory(candidate) is not None, candidate
            self.asked.setdefault(candidate, []).append(count)
        return [self.outcome(candidate)[:count] for candidate in candidates]

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """Grows with the damage, as the distance of output counts does."""
        self.screened.extend(candidates)
        return [self.damage(candidate) ** 2 for candidate in candidates]

    def score(self, candidate: Candidate) -> Score:
        """A complete score, not counted as asked."""
        memory = self.memory(candidate)
        assert memory is not None
        return Score(candidate, memory, self.outcome(candidate), True)

    def front(self) -> Front:
        """The true front, by enumeration."""
        accepted = (c for c in self.space.all() if self.memory(c) is not None)
        return front_of(self.score(candidate) for candidate in accepted)


def scored(memory: int, right: Sequence[bool] | BoolArray, *candidate: int) -> Score:
    """A complete score from its parts."""
    return Score(candidate or (0,), memory, np.asarray(right, bool), True)
