"""Leaky neurons two at a time: the constants that it takes.

Both membranes lie in one word, offset so that no lane is negative. One step decays them, adds the
sums and a constant; the membrane's new value is offset so that it reaches the highest bit of its
lane exactly where the neuron spikes, and below the lane's range where the membrane may have to
saturate. One test of a word finds both; what is found is done exactly, neuron by neuron, unless it
is no more than a spike. Sums that might take a lane too far are tested as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from qspinn.fixed import Interval
from qspinn.ir import State
from qspinn.program import Program

from .layout import holding
from .leaky import Decay, LeakyStep, leaky_step
from .network import Start
from .pairs import InPairs, word

HALF, FULL = 1 << 15, 1 << 16
DRIVE = 1 << 14
"""How far a step may move a membrane, where more than a proof is needed."""
FEWEST_SUMS = 64
"""Sums of at least this size pass the test for it."""


class Lanes(Protocol):
    """What is known of sums of which two share a word, each plus 2^15."""

    @property
    def reach(self) -> Interval:
        """The interval of a sum."""

    @property
    def gain(self) -> int:
        """What it is multiplied by."""


@dataclass(frozen=True, slots=True)
class PackedLif(InPairs):
    """The constants of the packed update, as words or lanes.

    A stored lane ``u`` is the membrane plus `stored`; ``x``, lane by lane what is left of ``u``
    and the sum and `add`, is the next membrane plus `working`, before it is clipped, compared and
    reset.

    Attributes:
        decay: What is left of ``u``.
        gain: How far sums are shifted to the left.
        narrow: What is taken from a lane of the sums, which must lie below `span` then; 0: any may.
        span: See `narrow`.
        stored: What a stored membrane is offset by.
        working: What the next one is offset by in ``x``.
        add: What is added to ``u``, beside the sum: a word.
        low: The least ``x`` of a membrane that is not clipped; 0: none is clipped there.
        spikes: Whether a word with spikes can be told from others, and need not be done exactly:
            ``sign``, by sums that are not negative; ``reach``, by ``x`` below 3 * 2^14; ``both``;
            or empty.
        fresh: What is taken from ``u`` to see, by the highest bit, that the membrane is below the
            threshold yet: else, after a spike, it may have to be clipped; 0: it need not be seen.
        reset: The lane ``x`` of a neuron that spiked; None where the threshold is subtracted.
        subtracts: The threshold then.
        thresholds: Where each neuron has a threshold: its table, else None.
        gap: What is added to ``x`` so that it reaches the highest bit where a neuron spikes; with
            `thresholds`, less the neuron's own.
        biases: Where each neuron has a bias: what it is.
    """

    lanes: ClassVar[int] = 2

    decay: Decay
    gain: int
    narrow: int
    span: int
    stored: int
    working: int
    add: int
    low: int
    spikes: str
    fresh: int
    reset: int | None
    subtracts: int
    thresholds: Start | None
    gap: int
    biases: tuple[Start, ...]

    @staticmethod
    def lane(value: int) -> str:
        """C for a value in a lane of its own, mod 2^16."""
        return f"{value & 0xFFFF}u"

    @property
    def vectors(self) -> bool:
        """Whether many can be updated at once: spikes are told from others, lane by lane."""
        own = (*self.biases, *((self.thresholds,) if self.thresholds else ()))
        tables = [start.table for start in own]
        left = 16 - self.decay.shift
        fits = self.decay.factor == 0 or (left >= 0 and self.decay.factor << left < FULL)
        return self.spikes != "" and fits and all(t and t.type.bits <= 16 for t in tables)

    @property
    def compares(self) -> bool:
        """Whether spikes show in another word than ``x``."""
        return self.gap != 0 or self.thresholds is not None

    @property
    def constants(self) -> tuple[int, int, int]:
        """What decays, what is added to ``x``, and what then makes it a state."""
        first = self.decay.factor or ((FULL - 1) >> self.decay.shift) * 0x10001
        lanes = (self.add, self.stored - self.working)
        add, move = (lane * 0x10001 & 0xFFFFFFFF for lane in lanes)
        return first, add, move

    @property
    def move(self) -> str:
        """C for what turns ``x`` into stored lanes; empty where they are the same."""
        return word(self.stored - self.working) if self.stored != self.working else ""


@dataclass(frozen=True, slots=True)
class _Drive:
    """What moves a membrane in a step, beside its decay.

    Attributes:
        span: The interval.
        bias: The interval of its biases.
        total: What sums are multiplied by.
        fixed: The biases that all neurons share.
        biases: The others.
        limit: Sums are below this, and at least minus this; 0: any.
    """

    span: Interval
    bias: Interval
    total: int
    fixed: int
    biases: tuple[Start, ...]
    limit: int = 0


def is_narrow(state: State) -> bool:
    """Whether a state takes a byte at most, and is not to take the 16 bits of half a word."""
    fmt, start = state.fmt, state.init.values
    assert fmt is not None, "an integer graph"
    return holding(fmt.range | Interval(int(start.min()), int(start.max()))).bits < 16


def packed_lif(
    program: Program, sums: Lanes, biases: tuple[Start, ...], params: Mapping[str, Start]
) -> PackedLif | None:
    """The packed update of a layer; None where its typed list is another.

    Args:
        program: The typed list.
        sums: What is summed by tiles, all of its input current but for biases.
        biases: What is added to them.
        params: Where each parameter is found.
    """
    step = leaky_step(program)
    if step is None or step.threshold.lo < 0:
        return None
    start = params.get(step.name)
    varies = start is not None and start.varies
    if varies and not _is_table(start):
        return None
    drive = _drive(step, sums, biases, params)
    if drive is None:
        return None
    top = min(step.threshold.hi + step.beyond, step.high + 1)
    decayed = Interval(step.decay.of(step.held.lo), step.decay.of(step.held.hi))
    for chosen in (drive, _limited(drive)):
        if chosen is not None and (working := _working(decayed, chosen.span, top)) is not None:
            return _constants(step, chosen, decayed, working, top, start if varies else None)
    return None


def _is_table(start: Start | None) -> bool:
    return start is not None and start.each == 1 and start.table is not None


def _drive(
    step: LeakyStep, sums: Lanes, biases: tuple[Start, ...], params: Mapping[str, Start]
) -> _Drive | None:
    """What moves a membrane, as far as it is proved."""
    varied = tuple(b for b in biases if b.varies)
    own = tuple(params[name] for name in step.biases if params[name].varies)
    if (step.gain and varied) or not all(map(_is_table, (*varied, *own))):
        return None
    fixed = step.fixed + sum(b.literals[0] * b.factor << step.gain for b in biases if not b.varies)
    fixed += sum(params[name].literals[0] for name in step.biases if not params[name].varies)
    total = sums.gain << step.gain
    if total & (total - 1):
        return None
    spans = [_span(b) for b in biases]
    low = (sum(s.lo for s in spans) << step.gain) + step.bias.lo
    high = (sum(s.hi for s in spans) << step.gain) + step.bias.hi
    bias = Interval(low, high)
    span = Interval(sums.reach.lo * total + low, sums.reach.hi * total + high)
    return _Drive(span, bias, total, fixed, (*varied, *own))


def _span(start: Start) -> Interval:
    """The interval of a constant of every element."""
    held = start.literals if start.table is None else start.table.values.tolist()
    products = [value * start.factor for value in held]
    return Interval(min(products), max(products))


def _limited(drive: _Drive) -> _Drive | None:
    """The same with sums that are tested to be small enough; None where few would pass."""
    room = (DRIVE - max(drive.bias.hi, -drive.bias.lo, 0)) // drive.total
    if room < FEWEST_SUMS:
        return None
    limit = 1 << (room.bit_length() - 1)
    low, high = -limit * drive.total, (limit - 1) * drive.total
    return replace(drive, span=Interval(low + drive.bias.lo, high + drive.bias.hi), limit=limit)


def _working(decayed: Interval, drive: Interval, top: int) -> int | None:
    """The offset in ``x`` at which no lane is mistaken: at most what makes a spike reach 2^15."""
    working = min(HALF - top, FULL - 1 - decayed.hi - drive.hi)
    return working if working >= max(-HALF - decayed.lo - drive.lo, 0) else None


def _constants(
    step: LeakyStep, drive: _Drive, decayed: Interval, working: int, top: int,
    thresholds: Start | None,
) -> PackedLif:  # fmt: skip
    decay = step.decay
    aligned = not decay.factor and working % (1 << decay.shift) == 0
    exact = aligned and step.held.lo + working >= 0 and step.held.hi + working < FULL
    stored = working if exact else HALF
    reach = Interval(decayed.lo + drive.span.lo + working, decayed.hi + drive.span.hi + working)
    bias = drive.limit or HALF
    gap = HALF - top - working
    if thresholds is not None:
        gap += top - step.beyond
    held = step.reset is not None or reach.hi - working <= step.high
    clipped = not held and decay.of(top - 1) + drive.span.hi > step.high
    spikes = "" if clipped else _tells(step, drive, reach, working, gap, thresholds is not None)
    return PackedLif(
        decay=decay, gain=drive.total.bit_length() - 1,
        narrow=HALF - drive.limit if drive.limit else 0, span=2 * drive.limit, stored=stored,
        working=working, add=working - decay.of(stored) - bias * drive.total + drive.fixed,
        low=step.low + working if step.next.lo < step.low and step.low + working > 0 else 0,
        spikes=spikes, fresh=stored - HALF + top if spikes and not held else 0,
        reset=None if step.reset is None else step.reset + working,
        subtracts=step.threshold.lo, thresholds=thresholds, gap=gap, biases=drive.biases,
    )  # fmt: skip


def _tells(
    step: LeakyStep, drive: _Drive, reach: Interval, working: int, gap: int, varies: bool
) -> str:
    """How lanes tell spikes alone, of neurons whose membrane is not clipped for good."""
    least = step.decay.of(step.held.lo) + drive.bias.lo + working
    highest = step.threshold.hi if varies else step.threshold.lo
    if highest + step.beyond > step.high:
        return ""
    if step.reset is not None and not 0 <= step.reset + working < HALF:
        return ""
    beyond = gap - (step.threshold.lo if varies else 0)
    if reach.hi + beyond >= FULL:
        return ""
    bounded = reach.hi < HALF + DRIVE
    if reach.lo >= -DRIVE and bounded:
        return "reach"
    # Where the sum is not negative, ``x`` is at least this.
    if least >= 0:
        return "sign"
    return "both" if least >= -DRIVE and bounded else ""
