"""How values become spikes: one room, shared by the simulator, the C encoders, Lava and search.

Every draw is hash32(key, step, index) with key = hash32(seed, sample), so that a device that
knows its key makes the same spikes as this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.errors import PlanError
from qspinn.fixed import Interval, hash32
from qspinn.ir import Array
from qspinn.plan import INPUTS

ENCODERS = ("rate", "phase", "latency", "direct", "none")
MOST_STEPS = 1 << 20
"""More steps are taken for a time in other units."""
FULL = 65535
"""A probability is a 16-bit integer; FULL fires in all but one of 65536 draws."""
SPREAD = 40503
"""What the phases of neighbouring inputs differ by: 65536 times the golden ratio's fraction."""
_RAW = re.compile(r"([us])(8|16)(?:/([1-9]\d{0,8}))?")


@dataclass(frozen=True, slots=True)
class Raw:
    """The integers that a device reads: ``u8/255`` are bytes, of which 255 means the value 1.

    Attributes:
        signed: Whether they may be negative.
        bits: 8 or 16.
        levels: What stands for the value 1.
    """

    signed: bool
    bits: int
    levels: int = 1

    @classmethod
    def parse(cls, text: str) -> Raw:
        """Read ``u8``, ``s16/4096`` and the like.

        Raises:
            PlanError: The text is none.
        """
        found = _RAW.fullmatch(text)
        if found is None:
            raise PlanError(f"{text!r} is no raw input", hint="write u8, u8/255 or s16/4096")
        sign, bits, levels = found.groups()
        return cls(sign == "s", int(bits), int(levels or 1))

    @property
    def span(self) -> Interval:
        """The integers."""
        half = 1 << (self.bits - 1)
        return Interval(-half, half - 1) if self.signed else Interval(0, 2 * half - 1)

    @property
    def values(self) -> Array:
        """What each of the integers stands for, in ascending order."""
        return np.arange(self.span.lo, self.span.hi + 1, dtype=np.float64) / self.levels

    def nearest(self, x: Array) -> Array:
        """The values rounded, to nearest even, to those that an integer stands for."""
        integers = np.rint(np.asarray(x, np.float64) * self.levels)
        held: Array = np.clip(integers, self.span.lo, self.span.hi) / self.levels
        return held


def raw_of(x: Array) -> str:
    """The raw input of data that are small integers by their type; empty for others."""
    kinds = {"b": "u8", "u1": "u8", "i1": "s8", "u2": "u16", "i2": "s16"}
    kind = "b" if x.dtype.kind == "b" else f"{x.dtype.kind}{x.dtype.itemsize}"
    return kinds.get(kind, "")


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one sample of values becomes ``steps`` steps of input.

    Attributes:
        kind: ``rate`` (each step a spike with probability gain * x), ``phase`` (as many spikes, at
            equal distances), ``latency`` (one spike, the earlier the larger gain * x, none for
            0), ``direct`` (the value itself, every step) or ``none`` (the data are spikes already).
        steps: The number of steps; 0 with ``none``: as many as the data have.
        gain: Multiplies every value first.
        seed: Of the random draws.
        raw: The integers that a device reads, as `Raw.parse` takes them: values are rounded to
            those first. Empty: the device has no encoder.
        input: How a device is given its input, one of `plan.INPUTS`; empty: as suits the network.
    """

    kind: str = "none"
    steps: int = 0
    gain: float = 1.0
    seed: int = 0
    raw: str = ""
    input: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ENCODERS:
            raise PlanError(f"an encoder is one of {', '.join(ENCODERS)}, not {self.kind!r}")
        if self.kind != "none" and self.steps < 1:
            raise PlanError(f"the {self.kind} encoder needs a number of steps", hint="give --steps")
        if self.steps > MOST_STEPS:
            raise PlanError(
                f"{self.steps} steps, the limit is {MOST_STEPS}",
                hint="a network is simulated step by step; --steps takes fewer",
            )
        if self.steps < 0 or not 0 <= self.seed < 1 << 32:
            raise PlanError(f"{self.steps} steps, seed {self.seed}: none may be negative or huge")
        if not (np.isfinite(self.gain) and self.gain > 0):
            raise PlanError(f"a gain is positive, not {self.gain}")
        if self.raw:
            Raw.parse(self.raw)
        if self.input and self.input not in INPUTS:
            raise PlanError(f"input is passed as {', '.join(INPUTS)}, not as {self.input!r}")

    def options(self) -> dict[str, str]:
        """The encoder as a plan's options."""
        further = {"raw": self.raw, "input": self.input}
        return {"encode": self.kind, "steps": str(self.steps), "gain": repr(self.gain),
                "seed": str(self.seed), **{k: v for k, v in further.items() if v}}  # fmt: skip

    def received(self, x: Array) -> Array:
        """Values as a device receives them: rounded to those that its integers stand for."""
        return Raw.parse(self.raw).nearest(x) if self.raw and self.kind != "none" else x


def from_options(options: Mapping[str, str]) -> Encoder:
    """The encoder that a plan's options name.

    Raises:
        PlanError: An option cannot be read.
    """
    try:
        return Encoder(
            options.get("encode", "none"),
            int(options.get("steps", "0")),
            float(options.get("gain", "1.0")),
            int(options.get("seed", "0")),
            options.get("raw", ""),
            options.get("input", ""),
        )
    except ValueError as error:
        raise PlanError(f"the plan's encoder cannot be read: {error}") from error


def probabilities(x: Array, gain: float) -> Array:
    """Gain * x as 16-bit integers from 0 to FULL, rounded to nearest even and clipped."""
    scaled = np.rint(np.asarray(x, np.float64) * gain * (FULL + 1))
    return np.clip(scaled, 0, FULL).astype(np.int64)


def latencies(p: Array, steps: int) -> Array:
    """The step of the one spike of ``latency``, for probabilities above 0."""
    when: Array = ((FULL - p) * (steps - 1) + FULL // 2) // FULL
    return when


def keys(encoder: Encoder, samples: Array) -> Array:
    """The key of each sample, by its index in the data file."""
    return np.asarray(hash32(encoder.seed, samples)).astype(np.int64)


def encode(x: Array, encoder: Encoder, samples: Array) -> Array:
    """Turn values (batch, *shape) into (batch, steps, *shape).

    Args:
        x: The values; with the encoder ``none`` they are spikes (batch, steps, *shape) already.
        encoder: How.
        samples: The index of each sample in its file, which keys its random draws.

    Returns:
        uint8 spikes; with ``direct`` the real values, and with ``none`` the data.
    """
    if encoder.kind == "none":
        return x
    x = encoder.received(x)
    if encoder.kind == "direct":
        real = np.asarray(x, np.float64) * encoder.gain
        return np.repeat(real[:, None], encoder.steps, axis=1)
    flat = probabilities(x, encoder.gain).reshape(len(x), -1)
    raster = np.zeros((len(x), encoder.steps, flat.shape[1]), np.uint8)
    row, index = np.nonzero(flat)  # what is 0 never spikes, and needs no draw
    p, steps = flat[row, index][:, None], np.arange(encoder.steps)
    if encoder.kind == "latency":
        fired = steps == latencies(p, encoder.steps)
    elif encoder.kind == "phase":
        fired = ((index[:, None] * SPREAD + steps * p) & FULL) + p > FULL
    else:
        key = keys(encoder, samples)[row]
        fired = (hash32(key[:, None], steps, index[:, None]) >> np.uint32(16)) < p
    raster[row, :, index] = fired
    return raster.reshape(len(x), encoder.steps, *x.shape[1:])
