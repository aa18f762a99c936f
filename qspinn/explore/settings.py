"""What an exploration is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from qspinn.errors import PlanError
from qspinn.explore.grid import REWARDS
from qspinn.explore.knobs import Levels
from qspinn.explore.result import Limits

STRATEGIES = ("guided", "q-spinn", "nsga2")


@dataclass(frozen=True)
class Settings:
    """How to search and what to select.

    Attributes:
        strategy: One of `STRATEGIES`.
        schemes: Quantization schemes to try, ``ptq`` first.
        levels: Words to try, by kind or path; see `knobs.space_of`.
        limits: What the winner must keep to.
        objectives: What the front is drawn in: ``accuracy``, ``memory`` (weights, constants and
            state), regions of the device, ``operations``, ``instructions``; empty: accuracy and
            every region.
        evaluations: Most candidates to measure; the grid of ``q-spinn`` is measured whole.
        trainings: Most candidates to train, where a scheme trains.
        seed: Of the order of the samples and of every draw of the search.
        screen: Unlabelled samples that candidates are screened on.
        reward: With ``q-spinn``, how solution candidates are ranked; empty: by the limits alone.
        mu: With the reward ``additive``, the accuracy that the float network's memory is worth.
        z: How many standard errors count as certain in a race.
        eps: A gain in accuracy, as a share, that is not worth more memory.
    """

    strategy: str = "guided"
    schemes: Sequence[str] = ("ptq",)
    levels: Levels = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    objectives: Sequence[str] = ()
    evaluations: int = 300
    trainings: int = 12
    seed: int = 0
    screen: int = 128
    reward: str = ""
    mu: float = 0.1
    z: float = 3.5
    eps: float = 0.001

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise PlanError(
                f"no strategy {self.strategy!r}", hint=f"one of {', '.join(STRATEGIES)}"
            )
        if self.reward and self.reward not in REWARDS:
            raise PlanError(f"no reward {self.reward!r}", hint=f"one of {', '.join(REWARDS)}")
        if self.reward and self.strategy != "q-spinn":
            raise PlanError(
                f"the strategy {self.strategy} has no reward", hint="--strategy q-spinn"
            )
        if not 0.0 <= self.mu < math.inf:
            raise PlanError(f"the accuracy that memory is worth is not {self.mu:g}")
        if tuple(self.schemes[:1]) != ("ptq",):
            raise PlanError(
                f"{self.schemes[0] if self.schemes else 'nothing'} comes first of the schemes",
                hint="write ptq first: what is found without training says what to train",
            )
        if self.evaluations < 1 or self.screen < 1:
            raise PlanError("a search takes at least one evaluation and one screening sample")
