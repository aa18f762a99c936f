"""Weights as a chip stores them: a mantissa of at most 8 bits, one exponent, one sign mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray, Interval

from .reasons import Unfit
from .table import WEIGHT_BITS, WEIGHT_EXPONENTS

_WORD = 8


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights as Lava's Dense and Sparse take them: mantissa * 2**exponent.

    Mantissas fill the 8 bits from the top, so that Lava cuts nothing of them for any number of
    bits, and a negative exponent shifts a sum whose low bits are zero, or are meant to be dropped.
    """

    mantissa: IntArray
    exponent: int
    bits: int
    mode: str

    def __post_init__(self) -> None:
        kept = stored(self.mantissa, self.bits, self.mode)
        assert np.array_equal(kept, self.mantissa), "Lava would store other weights"

    @property
    def values(self) -> IntArray:
        """The weights that the mantissas stand for, where no bit of their sum is dropped."""
        up, down = max(self.exponent, 0), max(-self.exponent, 0)
        values: IntArray = (self.mantissa << up) >> down
        return values


def stored(mantissa: IntArray, bits: int, mode: str) -> IntArray:
    """What Lava's Dense and Sparse make of any mantissas: clipped to the sign mode, low bits cut.

    Both signs reach from -256 to 255 and lose a bit more; of one sign nothing of the other stays.
    """
    sign = -1 if mode == "INHIBITORY" else 1
    mixed = mode == "MIXED"
    clipped = np.clip(sign * mantissa, -(1 << _WORD) if mixed else 0, (1 << _WORD) - 1)
    drop = max(_WORD - bits + mixed, 0)
    kept: IntArray = sign * ((clipped >> drop) << drop)
    return kept


def activation(kept: IntArray, sent: IntArray, exponent: int) -> IntArray:
    """The summed input of stored weights (out, in): the exponent shifts the sum, down by floor."""
    total: IntArray = kept @ sent
    return total << exponent if exponent >= 0 else total >> -exponent


def pack(values: IntArray, drop: int = 0) -> Packed:
    """Write integers as mantissas, exponent and sign mode.

    Args:
        values: The integers.
        drop: Low bits that the exponent drops of their sum besides.

    Raises:
        Unfit: They have no such form.
    """
    low, high = int(values.min()), int(values.max())
    mode = "EXCITATORY" if low >= 0 else "INHIBITORY" if high <= 0 else "MIXED"
    if low == high == 0:
        return Packed(values, 0, 1, mode)
    zeros = trailing_zeros(values)
    bits, room = _width(low >> zeros, high >> zeros, mode), _WORD + (mode == "MIXED")
    if bits > _WORD:
        raise Unfit(
            f"weights from {low} to {high} need {bits} bits, the limit is {_WORD}",
            hint="give them the format s8 in the plan, u8 or s9f0[-255,0] if they have one sign, "
            "or s9f0[-255,255], which takes two synapses each",
        )
    up = room - bits
    if drop:  # mantissas lie lower, and take more bits, where the exponent would be too low
        up = min(up, zeros - drop - WEIGHT_EXPONENTS.lo)
    exponent = zeros - up - drop
    if up < room - _WORD:
        raise Unfit(
            f"weights from {low} to {high} whose sum drops {drop} bits need the exponent "
            f"{zeros - (room - _WORD) - drop}, the limit is {WEIGHT_EXPONENTS.lo}",
            hint="give them fewer fraction bits",
        )
    if exponent not in WEIGHT_EXPONENTS:
        raise Unfit(
            f"weights from {low} to {high} need the exponent {exponent}, "
            f"the limit is {WEIGHT_EXPONENTS.hi}",
            hint="choose a smaller scale",
        )
    stored = next(b for b in WEIGHT_BITS if b >= room - up)
    return Packed((values >> zeros) << up, exponent, stored, mode)


def signed(values: IntArray) -> tuple[Packed, ...]:
    """Write integers as packed weights, or as two where one sign is too wide: one for each sign.

    Of both signs a mantissa holds 7 bits; of one sign 8. Two matrices take twice the memory, and
    hold every integer from -255 to 255 times a power of two.

    Raises:
        Unfit: They have no such form.
    """
    try:
        return (pack(values),)
    except Unfit:
        up, down = np.maximum(values, 0), np.minimum(values, 0)
        widest = int(np.abs(values >> trailing_zeros(values)).max()).bit_length()
        if not (up.any() and down.any()) or widest > _WORD:
            raise
    return pack(up), pack(down)


def _width(low: int, high: int, mode: str) -> int:
    if mode == "MIXED":
        return Interval(low, high).bits
    return max(abs(low), abs(high)).bit_length()


def trailing_zeros(values: IntArray) -> int:
    """The largest k for which 2**k divides every value; 0 if all are zero."""
    bits = int(np.bitwise_or.reduce(np.abs(values), axis=None))
    return (bits & -bits).bit_length() - 1 if bits else 0


def parts(values: IntArray) -> tuple[Packed, ...]:
    """Write any integers as a sum of packed weights, as few as this greedy cut finds.

    Raises:
        Unfit: They reach beyond what the largest exponent holds.
    """
    try:
        return (pack(values),)
    except Unfit:
        zeros = trailing_zeros(values)
        width = int(np.abs(values >> zeros).max()).bit_length()
        if width <= _WORD - 1:
            raise
    # The sign goes with the digits: what is left keeps it, and its digits fall below the cut.
    cut = zeros + max(width - _WORD + 1, 1)
    high = np.sign(values) * ((np.abs(values) >> cut) << cut)
    return (pack(high), *parts(values - high))
