"""What goes around the steps: the encoder of a sample, and when its decision is settled."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.encode import FULL, SPREAD, Encoder, Raw, from_options, latencies, probabilities
from qspinn.fixed import IntArray
from qspinn.readout import FULL_VOTE

from .layout import CType
from .network import Network, Port, Read
from .ramps import Ramp, ramp

_WIDTH = 96
_UNTIL = {
    "rate": "in each step with a probability that grows with the value",
    "phase": "at equal distances, the more often the larger the value",
    "latency": "once, the earlier the larger the value",
    "direct": "",
}


@dataclass(frozen=True, slots=True)
class Coder:
    """An encoder as C.

    Attributes:
        kind: As in `qspinn.encode`.
        steps: Of a sample.
        seed: Of the random draws, as the plan has it.
        raw: The type of what the device reads.
        meaning: What that stands for.
        ramp: From what is read to a probability or, with ``direct``, to the network's value.
        same: Whether the network's value is what is read.
        bounds: With ``latency`` for each step the least value that has fired.
        spread: What the phases of neighbours differ by.
    """

    kind: str
    steps: int
    seed: int
    raw: CType
    meaning: str
    ramp: Ramp
    same: bool = False
    bounds: tuple[int, ...] = ()
    spread: int = SPREAD

    @property
    def when(self) -> str:
        """When inputs spike."""
        return _UNTIL[self.kind]

    @property
    def keyed(self) -> bool:
        """Whether it draws random numbers."""
        return self.kind == "rate"

    @property
    def wide(self) -> CType:
        """The type of the bounds."""
        return CType(2 * self.raw.bits, self.raw.signed)

    @property
    def beyond(self) -> int:
        """What is larger than everything that is read."""
        return self.raw.span.hi + 1


def coder_of(network: Network, options: Mapping[str, str]) -> Coder | None:
    """The encoder of a plan as C; None where it has none, or none that C can have."""
    encoder = from_options({"steps": "1", **options})
    direct = encoder.kind == "direct"
    if encoder.kind == "none" or not encoder.raw or (network.port.kind == "current") != direct:
        return None
    if network.port.kind == "count":
        return None
    raw = Raw.parse(encoder.raw)
    made = (_value if direct else _chance)(raw, encoder, network.port)
    if made is None:
        return None
    meaning = f"{raw.levels} stands for 1.0" if raw.levels > 1 else "as in the data"
    bounds = _bounds(raw, encoder) if encoder.kind == "latency" else ()
    return Coder(
        encoder.kind, encoder.steps, encoder.seed, CType(raw.bits, raw.signed), meaning, made,
        direct and _same(raw, encoder, network.port), bounds,
    )  # fmt: skip


def _chance(raw: Raw, encoder: Encoder, port: Port) -> Ramp | None:
    slope = encoder.gain * (FULL + 1) / raw.levels
    return ramp(probabilities(raw.values, encoder.gain), raw.span.lo, slope)


def _value(raw: Raw, encoder: Encoder, port: Port) -> Ramp | None:
    slope = encoder.gain * 2.0**port.frac / raw.levels
    return ramp(_values(raw, encoder, port), raw.span.lo, slope)


def _values(raw: Raw, encoder: Encoder, port: Port) -> IntArray:
    scaled = np.rint(np.ldexp(raw.values * encoder.gain, port.frac))
    held: IntArray = np.clip(scaled, port.span.lo, port.span.hi).astype(np.int64)
    return held


def _same(raw: Raw, encoder: Encoder, port: Port) -> bool:
    read = np.arange(raw.span.lo, raw.span.hi + 1)
    return bool((_values(raw, encoder, port) == read).all())


def _bounds(raw: Raw, encoder: Encoder) -> tuple[int, ...]:
    chance = probabilities(raw.values, encoder.gain)
    when = np.where(chance > 0, latencies(chance, encoder.steps), encoder.steps)
    counts = [int((when <= step).sum()) for step in range(encoder.steps)]  # they are the largest
    return tuple(raw.span.hi + 1 - count for count in counts)


@dataclass(frozen=True, slots=True)
class Exit:
    """When the decision cannot change any more, as C.

    Attributes:
        kind: ``lead`` (of counts), ``first`` (spike) or ``last`` (only after the last step).
        reaches: By how much each score can rise in a step; one number where all are equal.
        gains: What scores are multiplied by before they are compared; none where all are equal.
        ties: Whether a membrane decides between equal first spikes.
    """

    kind: str
    reaches: tuple[int, ...] = ()
    gains: tuple[int, ...] = ()
    ties: bool = False

    @property
    def most(self) -> int:
        """The largest of the reaches."""
        return max(self.reaches)


def exit_of(read: Read) -> Exit:
    """How an emitted network tells that it is decided; see `qspinn.readout.decided`."""
    if read.readout == "first_spike":
        return Exit("first", ties=read.membrane is not None)
    most = read.edge.span.hi
    if read.vote is not None:
        gains = tuple(FULL_VOTE // n for n in read.vote.speakers)
        alike = not read.vote.gains.varies
        worth = [1] * len(gains) if alike else gains
        each = [n * most * g for n, g in zip(read.vote.speakers, worth, strict=True)]
        return Exit("lead", _joined(each), () if alike else gains)
    return Exit("lead", (most,)) if read.readout == "count" else Exit("last")


def _joined(values: list[int]) -> tuple[int, ...]:
    return tuple(values) if len(set(values)) > 1 else (values[0],)


def wrapped(values: tuple[int, ...], end: str = "u") -> list[str]:
    """Numbers as lines of C."""
    body = ", ".join(f"{v}{end if v >= 0 else ''}" for v in values)
    return textwrap.wrap(body, _WIDTH, break_long_words=False, break_on_hyphens=False)
