"""Random networks over the whole domain of Loihi's registers, as Lava's stock processes hold them.

Every sign mode, width and exponent of weights, decays from none to all, thresholds up to one that
nothing reaches, biases of every exponent, delays up to the longest; states start at their ends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from network_formats import LoihiFormats
from qspinn.fixed import Interval, QFormat, Rounding
from qspinn.ir import Param, Shape

SYNAPSE_WORD, EXPONENTS = 8, range(-7, 8)
MANTISSA, MOST_BIAS_EXPONENT = 4095, 7
MOST_THRESHOLD, NEVER = (1 << 17) - 1, 1 << 17
ACTIVATION, THIRD = 32767, 10600
"""A third of the 16-bit activation, for a neuron may have three inputs, each with a bias."""


class ChipFormats(LoihiFormats):
    """Loihi 2's formats up to their ends.

    Attributes:
        alone: Whether each neuron has one input without a bias, which may fill the activation.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.alone = self.chance(0.2)

    def synapse_bias(self, weight: Param, point: int) -> Param | None:
        return None if self.alone else super().synapse_bias(weight, point)

    def weights(self, shape: Shape, *, scale: bool = False) -> Param:
        mode = self.pick(("mixed", "excitatory", "inhibitory"), (2, 1, 1))
        bits = self.between(2 if mode == "mixed" else 1, SYNAPSE_WORD)
        if self.alone and self.chance(0.5):
            bits = SYNAPSE_WORD
        places = SYNAPSE_WORD - bits + (mode == "mixed")
        exponent = self.pick(EXPONENTS) if self.chance(0.5) else self.between(-places, 2 - places)
        if self.alone and self.chance(0.5):
            exponent = self.between(4, 7)
        shift = max(exponent + places, 0)
        fmt = QFormat(bits, -shift, mode == "mixed")
        if mode == "inhibitory":
            fmt = QFormat(bits + 1, -shift, True, 1 - (1 << bits), 0)
        drawn = self.spread_param(self.broadcast(shape) if scale else shape, fmt)
        if shift < 6:
            return drawn
        few = self.rng.random(drawn.values.shape) < 0.05  # a few heavy ones fit the activation
        return replace(drawn, values=drawn.values * few)

    def bounded(self, weight: Param, span: Interval | None) -> Param:
        """What Loihi's 16-bit activation takes, or a third of it."""
        limit = ACTIVATION if self.alone else THIRD
        assert weight.fmt is not None, "an integer graph"
        assert span is not None, "an integer graph"
        values = weight.values
        while True:
            rows = np.abs(values).reshape(len(values), -1).sum(1) if values.ndim else abs(values)
            if int(rows.max()) * span.hi * weight.fmt.unit <= limit:
                return replace(weight, values=values)
            self.tag("near range", "activation")
            values = np.trunc(values * 0.75).astype(np.int64)

    def param(self, name: str, shape: Shape, size: float, v: QFormat) -> Param:
        if name == "threshold" and self.chance(0.15):
            self.tag("near range", "threshold")
            value = self.pick((MOST_THRESHOLD - 1, MOST_THRESHOLD, NEVER))
            return Param(value, QFormat(18 if value == NEVER else 17, 0, signed=False))
        if name.endswith("decay") and self.chance(0.25):
            places = self.broadcast(shape)
            values = self.rng.choice((0, 1, 2048, 4095, 4096), places)
            return Param(values, QFormat(13, 12, signed=False), Rounding.ZERO)
        if name == "bias":
            return self.membrane_bias(self.broadcast(shape), size)
        return super().param(name, shape, size, v)

    def membrane_bias(self, places: Shape, size: float) -> Param:
        """Mantissas of 13 bits with a sign, times 2**0 to 2**7."""
        self.tag("bias", "membrane")
        exponent = self.rng.integers(0, MOST_BIAS_EXPONENT + 1, places)
        drawn = np.rint(self.rng.normal(0, 0.3 * size * 64, places) / 2.0**exponent)
        if self.chance(0.15):
            self.tag("near range", "bias")
            drawn = MANTISSA * self.rng.choice((-1, 1), places)
        mantissa = np.clip(drawn, -MANTISSA, MANTISSA).astype(np.int64)
        return Param(mantissa << exponent, QFormat(20, 6))
