"""How values become spikes: one room, shared by the simulator, the C encoders, Lava and search.

Every draw is hash32(key, step, index) with key = hash32(seed, sample), so that a device that
knows its key makes the same spikes as this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.errors import PlanError
from qspinn.fixed import hash32
from qspinn.ir import Array

ENCODERS = ("rate", "latency", "direct", "none")
FULL = 65535
"""A probability is a 16-bit integer; FULL fires in all but one of 65536 draws."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """How one sample of values becomes ``steps`` steps of input.

    Attributes:
        kind: ``rate`` (each step a spike with probability gain * x), ``latency`` (one spike, the
            earlier the larger gain * x, none for 0), ``direct`` (the value itself, every step) or
            ``none`` (the data are spikes already).
        steps: The number of steps; 0 with ``none``: as many as the data have.
        gain: Multiplies every value first.
        seed: Of the random draws.
    """

    kind: str = "none"
    steps: int = 0
    gain: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ENCODERS:
            raise PlanError(f"an encoder is one of {', '.join(ENCODERS)}, not {self.kind!r}")
        if self.kind != "none" and self.steps < 1:
            raise PlanError(f"the {self.kind} encoder needs a number of steps", hint="give --steps")
        if self.steps < 0 or not 0 <= self.seed < 1 << 32:
            raise PlanError(f"{self.steps} steps, seed {self.seed}: none may be negative or huge")
        if not (np.isfinite(self.gain) and self.gain > 0):
            raise PlanError(f"a gain is positive, not {self.gain}")

    def options(self) -> dict[str, str]:
        """The encoder as a plan's options."""
        return {"encode": self.kind, "steps": str(self.steps), "gain": repr(self.gain),
                "seed": str(self.seed)}  # fmt: skip


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
        )
    except ValueError as error:
        raise PlanError(f"the plan's encoder cannot be read: {error}") from error


def probabilities(x: Array, gain: float) -> Array:
    """Gain * x as 16-bit integers from 0 to FULL, rounded to nearest even and clipped."""
    scaled = np.rint(np.asarray(x, np.float64) * gain * (FULL + 1))
    return np.clip(scaled, 0, FULL).astype(np.int64)


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
    if encoder.kind == "direct":
        real = np.asarray(x, np.float64) * encoder.gain
        return np.repeat(real[:, None], encoder.steps, axis=1)
    flat = probabilities(x, encoder.gain).reshape(len(x), -1)
    raster = np.zeros((len(x), encoder.steps, flat.shape[1]), np.uint8)
    row, index = np.nonzero(flat)  # what is 0 never spikes, and needs no draw
    p, steps = flat[row, index][:, None], np.arange(encoder.steps)
    if encoder.kind == "latency":
        fired = steps == ((FULL - p) * (encoder.steps - 1) + FULL // 2) // FULL
    else:
        key = keys(encoder, samples)[row]
        fired = (hash32(key[:, None], steps, index[:, None]) >> np.uint32(16)) < p
    raster[row, :, index] = fired
    return raster.reshape(len(x), encoder.steps, *x.shape[1:])
