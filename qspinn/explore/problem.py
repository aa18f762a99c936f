"""What strategies ask of a network: the memory of a candidate, and what it gets right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qspinn.explore.space import Candidate, Space

BoolArray = npt.NDArray[np.bool_]


class Problem(Protocol):
    """A network, a target and the selection part of the data.

    All candidates see the same samples in the same order, encoded to the same spikes, so
    outcomes are paired. Every answer is a pure function of its arguments.
    """

    @property
    def space(self) -> Space:
        """What can be chosen."""

    @property
    def samples(self) -> int:
        """The size of the selection part."""

    @property
    def baseline(self) -> BoolArray:
        """Which samples the float network gets right."""

    def memory(self, candidate: Candidate) -> int | None:
        """Bytes of weights, constants and state; None: the target or the budget refuses it."""

    def correct(self, candidates: Sequence[Candidate], count: int) -> list[BoolArray]:
        """Which of the first ``count`` samples each candidate gets right; all in one pass."""

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """How far each candidate's outputs are from the float network's, without labels."""


@dataclass(frozen=True, eq=False)
class Score:
    """A measured candidate.

    Attributes:
        candidate: Which one.
        memory: Its bytes.
        correct: Which of the first samples it got right: all, or until it was dropped.
        complete: Whether these are all samples.
    """

    candidate: Candidate
    memory: int
    correct: BoolArray
    complete: bool

    @property
    def accuracy(self) -> float:
        """The share of correct answers."""
        return float(self.correct.mean())
