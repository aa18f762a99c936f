"""How a network learns by spike timing: every choice, with its default."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.errors import PlanError

_MOST_STEPS = 1 << 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn.

    The network's own numbers (``neurons`` to ``length``) are those of a new network; one that
    learns on keeps its own. All others hold for any network: ``step`` counts in its largest
    possible weight, which is 1 in a new one. Chosen on held-out images of MNIST, shown as 75 steps
    of spikes with a probability of up to 1/3.

    Attributes:
        neurons: How many compete.
        decay: Of their membrane potential, per step.
        threshold: What all thresholds are at first.
        inhibition: What a spike takes from the membrane potential of every other neuron; it stays
            at or above 0.
        delay: Steps after which it does.
        length: Of each neuron's vector of weights, restored after every sample it learned from.
        bound: The largest possible weight, as a share of that length.
        passes: Over the samples.
        seed: Of the first weights, the order of the samples and the input spikes of each pass.
        rate: How far a spike moves a weight, of what is left to its bound; it falls to ``rest``
            of that along the passes.
        rest: See ``rate`` and ``step``.
        offset: Inputs that were active less than that weaken; activity is 1 in the step of a
            spike, and falls to ``trace`` of it in each step.
        trace: See ``offset``.
        step: What learning adds to a neuron's threshold, for each neuron that competes; it falls
            to ``rest`` of that, too.
        goal: How many spikes a sample should be learned from: every sample takes that many
            ``step`` from each threshold.
        shown: Samples by which the neurons get their classes, at most.
    """

    neurons: int = 400
    decay: float = 0.98
    threshold: float = 40.0
    inhibition: float = 400.0
    delay: int = 1
    length: float = 8.0
    bound: float = 0.125
    passes: int = 1
    seed: int = 0
    rate: float = 0.06
    rest: float = 0.05
    offset: float = 0.4
    trace: float = 0.95
    step: float = 0.00125
    goal: float = 3.0
    shown: int = 10_000

    def __post_init__(self) -> None:
        whole = {name: getattr(self, name) for name in ("neurons", "delay", "passes", "shown")}
        for name, value in whole.items():
            if value < 1:
                raise PlanError(f"{name} is at least 1, not {value}")
        for name in ("threshold", "inhibition", "length", "step", "goal"):
            if not 0 < getattr(self, name) < float("inf"):
                raise PlanError(f"{name} is a positive number, not {getattr(self, name)}")
        for name in ("decay", "rate", "rest", "offset", "trace", "bound"):
            if not 0 <= getattr(self, name) <= 1:
                raise PlanError(f"{name} lies between 0 and 1, not at {getattr(self, name)}")
        if self.delay > _MOST_STEPS:
            raise PlanError(f"a delay has at most {_MOST_STEPS} steps, not {self.delay}")
        if self.seed < 0:
            raise PlanError(f"a seed is not negative: {self.seed}")
