"""How a network is trained for a plan: every choice, with defaults that need no tuning."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.errors import PlanError

LEARNED = ("weight", "bias", "threshold", "decay", "scale")
_MOST_WIDER = 12


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the training samples.
        batch: Samples between two updates.
        rate: The largest update of a parameter, as a share of what its weights reach; it falls
            to zero along half a cosine.
        seed: Of the order of the samples and of every draw.
        learned: What is trained, of `LEARNED`; the rest keeps its value. Thresholds, decays and
            biases that are the same for a whole layer stay so. ``scale`` learns the plan's.
        wider: Bits that weights have more at first, fewer from epoch to epoch, none in the last.
        distilled: The share of the loss that asks for the float network's outputs; the rest asks
            for the labels. 0 where the float network has learned nothing yet.
        stochastic: Whether weights are rounded at random while they are trained. The program that
            is trained for, and evaluated, rounds them as the plan says.
        device: ``cpu``, or another that torch finds.
    """

    epochs: int = 2
    batch: int = 128
    rate: float = 0.01
    seed: int = 0
    learned: tuple[str, ...] = ("weight", "bias", "threshold")
    wider: int = 0
    distilled: float = 0.5
    stochastic: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise PlanError(f"{self.epochs} epochs of batches of {self.batch}: at least 1 of each")
        if not self.rate > 0 or not 0.0 <= self.distilled <= 1.0:
            raise PlanError(
                f"a rate of {self.rate} and {self.distilled} of the loss distilled",
                hint="a rate above 0, and a share from 0 to 1",
            )
        if unknown := [name for name in self.learned if name not in LEARNED]:
            raise PlanError(f"{unknown[0]!r} cannot be learned", hint=f"of {', '.join(LEARNED)}")
        if not 0 <= self.wider <= _MOST_WIDER:
            raise PlanError(f"weights get 0 to {_MOST_WIDER} bits more, not {self.wider}")
