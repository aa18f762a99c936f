"""What an exploration leaves behind: numbers and words, and no time, place or worker."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qspinn.errors import PlanError, QspinnError
from qspinn.explore.space import Knob
from qspinn.ir import Array
from qspinn.stats import Estimate

PARTS = ("calibrate", "select", "report")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the data: how many samples, and the hash of which."""

    count: int
    sha256: str

    @classmethod
    def of(cls, index: Array) -> Part:
        """The part that holds the samples of these numbers, in this order."""
        numbers = np.ascontiguousarray(index, dtype="<i8")
        return cls(numbers.size, hashlib.sha256(numbers.tobytes()).hexdigest())


@dataclass(frozen=True, slots=True)
class Memory:
    """The network's own bytes (see `qspinn.memory`)."""

    weights: int
    constants: int
    state: int

    @property
    def network(self) -> int:
        """All three."""
        return self.weights + self.constants + self.state


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user asks of the winner.

    Attributes:
        max_drop: Most accuracy it may lose against the float network; None: no limit.
        level: The confidence with which it must not lose more, one-sided.
        budget: Most bytes (or cores) by region.
        operations: Most synaptic operations per inference; None: no limit.
        instructions: Most instructions per inference on the device's core; None: no limit.
    """

    max_drop: float | None = None
    level: float = 0.95
    budget: Mapping[str, int] = field(default_factory=dict)
    operations: float | None = None
    instructions: float | None = None

    def __post_init__(self) -> None:
        if not 0.5 <= self.level < 1.0:
            raise PlanError(
                f"a confidence of {100 * self.level:g} % cannot be had",
                hint="from 50 % to less than 100 %, such as 95%",
            )
        if self.operations is not None and not 0.0 < self.operations < math.inf:
            raise PlanError(f"a limit of {self.operations:g} synaptic operations is no limit")
        if self.instructions is not None and not 0.0 < self.instructions < math.inf:
            raise PlanError(f"a limit of {self.instructions:g} instructions is no limit")


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate and what was measured of it on the selection part.

    Attributes:
        digest: Of its program, in hexadecimal.
        words: The option taken, by the knobs' names.
        scheme: How its weights were made, such as ``ptq``.
        steps: Time steps of an inference.
        accuracy: With Wilson's interval, on the samples it was given; None: it was given none.
        drop: What it loses against the float network on the same samples; more than 0 is a loss.
        bound: The one-sided upper bound of the drop.
        complete: Whether it was given all samples.
        memory: Its bytes; None where the target refused it before they were known.
        regions: Bytes by region of the device, such as ``flash`` and ``ram``.
        operations: Synaptic operations per inference; None: not counted.
        spikes: Spikes sent per inference; None: not counted.
        on_front: Whether no other is as accurate and smaller, or as small and more accurate.
        refused: Why the target or the budget refused it; empty: neither did.
        instructions: Per inference on the device's core, by a model; None: not asked for, or the
            target has no model of the core.
    """

    digest: str
    words: Mapping[str, str]
    scheme: str = "ptq"
    steps: int = 1
    accuracy: Estimate | None = None
    drop: Estimate | None = None
    bound: float | None = None
    complete: bool = False
    memory: Memory | None = None
    regions: Mapping[str, int] = field(default_factory=dict)
    operations: float | None = None
    spikes: float | None = None
    on_front: bool = False
    refused: str = ""
    instructions: float | None = None

    @property
    def samples(self) -> int:
        """How many samples it was given."""
        return self.accuracy.count if self.accuracy else 0


@dataclass(frozen=True, slots=True)
class Significance:
    """One knob away from the finest candidate: what one option of it alone does.

    Attributes:
        knob: The knob's name.
        kind: Its kind.
        layer: Its layer.
        option: The option taken.
        accuracy: Of the network so changed; None: not measured with labels.
        difference: Its accuracy less the finest candidate's, paired; below 0 is a loss.
        distance: How far the outputs move, without labels; None: not measured.
        bytes: The memory of the network so changed; None: refused.
    """

    knob: str
    kind: str
    layer: str
    option: str
    accuracy: Estimate | None = None
    difference: Estimate | None = None
    distance: float | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Attribution:
    """What one choice of the winner costs, and what the next coarser one would.

    Attributes:
        knob: The knob's name.
        kind: Its kind.
        layer: Its layer.
        option: The option the winner takes.
        coarser: The next coarser option; empty: there is none.
        cost: What the winner loses by this choice against the knob's finest option, paired.
        next_cost: What the winner would lose with the coarser one, paired with the winner.
        next_drop: What it would then lose against the float network.
        next_bound: The one-sided upper bound of that.
        saved: Bytes the coarser one would save.
        refused: Why the target refuses the coarser one; empty: it does not.
    """

    knob: str
    kind: str
    layer: str
    option: str
    coarser: str = ""
    cost: Estimate | None = None
    next_cost: Estimate | None = None
    next_drop: Estimate | None = None
    next_bound: float | None = None
    saved: int | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The winner on the report part, measured once.

    Attributes:
        baseline: The float network's accuracy there.
        accuracy: The winner's.
        drop: What the winner loses, paired.
        bound: The one-sided upper bound of the drop.
    """

    baseline: Estimate
    accuracy: Estimate
    drop: Estimate
    bound: float


@dataclass(frozen=True)
class Exploration:
    """A finished or interrupted exploration. The same question gives the same value.

    Attributes:
        network: The network's name.
        target: Such as ``mcu``.
        device: Such as ``stm32c011``.
        strategy: Such as ``guided``.
        seed: Of every draw.
        parts: The parts of the data, by the names in `PARTS`.
        knobs: What could be chosen.
        baseline: The float network's accuracy on the selection part.
        float_bytes: The same network's memory in float32.
        float_bytes_active: That without the inputs that the winner drops; None: it drops none.
        limits: What was asked.
        entries: Every candidate that was measured or refused.
        significance: One knob at a time.
        attribution: Of the winner.
        selected: The winner's digest; empty: nothing fits.
        report: The winner on the report part; None: not measured.
        optimism: By how much the winner of so many is expected to flatter itself on the
            selection part; None: not estimated.
        warnings: What the user should know before they trust this.
        evaluations: Distinct candidates measured with labels.
        samples: Samples simulated for that, over all candidates.
        complete: False after an interrupt.
    """

    network: str
    target: str
    device: str
    strategy: str
    seed: int
    parts: Mapping[str, Part]
    knobs: tuple[Knob, ...]
    baseline: Estimate
    float_bytes: int
    float_bytes_active: int | None = None
    limits: Limits = Limits()
    entries: tuple[Entry, ...] = ()
    significance: tuple[Significance, ...] = ()
    attribution: tuple[Attribution, ...] = ()
    selected: str = ""
    report: Report | None = None
    optimism: float | None = None
    warnings: tuple[str, ...] = ()
    evaluations: int = 0
    samples: int = 0
    complete: bool = True

    def __post_init__(self) -> None:
        digests = [entry.digest for entry in self.entries]
        if len(set(digests)) < len(digests):
            twice = next(d for d in digests if digests.count(d) > 1)
            raise QspinnError(f"the candidate {twice} is entered twice", at=self.network)
        if self.selected and self.selected not in set(digests):
            raise QspinnError(f"the winner {self.selected} is no candidate", at=self.network)
        if self.parts.keys() != set(PARTS):
            raise QspinnError(f"the parts of the data are {', '.join(PARTS)}", at=self.network)
        bare = [e for e in self.entries if self._shown(e) and not (e.memory and e.accuracy)]
        if bare:
            raise QspinnError(
                f"the candidate {bare[0].digest} of the front has no memory or no accuracy",
                at=self.network,
            )

    def _shown(self, entry: Entry) -> bool:
        return entry.on_front or entry.digest == self.selected

    @property
    def winner(self) -> Entry | None:
        """The selected candidate."""
        return next((e for e in self.entries if e.digest == self.selected), None)

    @property
    def measured(self) -> tuple[Entry, ...]:
        """The candidates that were measured, on all samples or some."""
        return tuple(entry for entry in self.entries if entry.accuracy)

    @property
    def front(self) -> tuple[Entry, ...]:
        """The candidates on the front, the smallest first."""
        return tuple(sorted((e for e in self.entries if e.on_front), key=_by_memory))

    def ratio(self, entry: Entry) -> float | None:
        """How many times smaller than float32 a candidate is."""
        size = entry.memory.network if entry.memory else 0
        return self.float_bytes / size if size else None


def _by_memory(entry: Entry) -> tuple[int, str]:
    assert entry.memory is not None, "checked when made"
    return entry.memory.network, entry.digest


def lost(difference: Estimate) -> Estimate:
    """What is lost, where `difference` is what is gained (see `qspinn.stats`)."""
    return Estimate(
        0.0 - difference.value, 0.0 - difference.high, 0.0 - difference.low, difference.count
    )
