"""What an inference costs in instructions and time, and the activity that this assumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qspinn.errors import PlanError
from qspinn.plan import ACTIVITY, EDGES, HEARD, PAIRS, RATE, SILENT, STEPS

ASSUMED_RATE = 0.05
"""Events per element and step where nothing is known: of inputs, and of neurons."""


@dataclass(frozen=True)
class Activity:
    """How much happens in an inference, on average.

    Attributes:
        steps: Time steps.
        rates: By input and neuron node, the share of its elements that send something in a step.
        heard: By input node, the share of its events that some weight other than 0 is read for;
            all, where a node is not named.
        silent: By node, the share of steps in which none of its elements sends anything; where a
            node is not named, as if they sent independently.
        pairs: By neuron node, the share of pairs of neighbours, an even element and the next, of
            which one sends something; the same where it is not named.
        edges: By node, of an image, the share of its events on its outermost rows and columns;
            where a node is not named, as if they were equally likely everywhere.
    """

    steps: int = 1
    rates: Mapping[str, float] = field(default_factory=dict)
    heard: Mapping[str, float] = field(default_factory=dict)
    silent: Mapping[str, float] = field(default_factory=dict)
    pairs: Mapping[str, float] = field(default_factory=dict)
    edges: Mapping[str, float] = field(default_factory=dict)

    def rate(self, node: str) -> float:
        """The rate of a node, `ASSUMED_RATE` where it was not measured."""
        return self.rates.get(node, ASSUMED_RATE)

    def pair(self, node: str) -> float:
        """The share of pairs of neighbours of which one sends something."""
        return self.pairs.get(node, 1.0 - (1.0 - min(self.rate(node), 1.0)) ** 2)

    @property
    def measured(self) -> bool:
        """Whether rates are known; else all are assumed."""
        return bool(self.rates)

    def options(self) -> dict[str, str]:
        """The activity as a plan's options, to three digits."""
        kinds = {RATE: self.rates, HEARD: self.heard, SILENT: self.silent, PAIRS: self.pairs,
                 EDGES: self.edges}  # fmt: skip
        found = {f"{kind}{node}": f"{share:.3g}" for kind, shares in kinds.items()
                 for node, share in shares.items()}  # fmt: skip
        return {**found, STEPS: str(self.steps)}

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Activity:
        """The activity that a plan's options hold.

        Raises:
            PlanError: An option cannot be read, or is no share.
        """
        steps = options.get(STEPS, "0")
        steps = steps if steps != "0" else options.get("steps", "0")
        if not steps.isdigit():
            raise PlanError(f"{steps!r} is no number of steps", at=STEPS)
        kinds = (_shares(options, kind) for kind in ACTIVITY)
        return cls(max(int(steps), 1), *kinds)


def _shares(options: Mapping[str, str], start: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, word in options.items():
        if not key.startswith(start):
            continue
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= 1.0:
            raise PlanError(f"{word!r} is no share from 0 to 1", at=key)
        found[key[len(start) :]] = value
    return found


@dataclass(frozen=True, slots=True)
class CostLine:
    """What a part of the program takes: its name, and instructions of an inference."""

    owner: str
    instructions: float


@dataclass(frozen=True)
class Cost:
    """What an inference takes on one device, by a model.

    Attributes:
        core: The core whose instructions were counted.
        compiler: The compiler whose code was counted.
        lines: By part.
        activity: What was assumed.
        cycles: Cycles per instruction, by a model of the core.
        hertz: The device's clock; 0: not known.
    """

    core: str
    compiler: str
    lines: tuple[CostLine, ...]
    activity: Activity
    cycles: float
    hertz: int = 0

    @property
    def instructions(self) -> float:
        """Instructions of an inference."""
        return sum(line.instructions for line in self.lines)

    def facts(self) -> dict[str, object]:
        """For JSON: the totals, and what they assume."""
        return {
            "core": self.core,
            "compiler": self.compiler,
            "instructions": round(self.instructions),
            "cycles_per_instruction": self.cycles,
            "milliseconds": self.milliseconds,
            "steps": self.activity.steps,
            "rates": dict(self.activity.rates),
            "assumed_rate": None if self.activity.measured else ASSUMED_RATE,
            "lines": {line.owner: round(line.instructions) for line in self.lines},
        }

    @property
    def milliseconds(self) -> float | None:
        """The time of an inference at the device's clock; None: the clock is not known."""
        return 1e3 * self.instructions * self.cycles / self.hertz if self.hertz else None
