"""Fixed-point formats, and the integer meaning of every rounding, overflow and random draw."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from qspinn.errors import PlanError, QuantizeError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

WORD = 63
"""No value may need more bits with its sign: the push of a rounding shift is added in 64."""


class Rounding(str, Enum):
    """How a value between two grid points becomes one of them."""

    FLOOR = "floor"
    ZERO = "zero"
    NEAREST_EVEN = "nearest_even"
    NEAREST_AWAY = "nearest_away"
    STOCHASTIC = "stochastic"

    def __str__(self) -> str:
        return self.value


class Overflow(str, Enum):
    """What a store does with a value outside its range; ``error`` is a verdict at compile time."""

    ERROR = "error"
    SATURATE = "saturate"
    WRAP = "wrap"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from ``lo`` to ``hi``, both included."""

    lo: int
    hi: int

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ValueError(f"an interval cannot run from {self.lo} to {self.hi}")

    def __contains__(self, other: object) -> bool:
        if isinstance(other, Interval):
            return self.lo <= other.lo and other.hi <= self.hi
        return isinstance(other, int) and self.lo <= other <= self.hi

    def __or__(self, other: Interval) -> Interval:
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi}]"

    @property
    def bits(self) -> int:
        """The width of the narrowest two's complement (or unsigned, if lo >= 0) integer."""
        if self.lo >= 0:
            return max(self.hi.bit_length(), 1)
        return max((-self.lo - 1).bit_length(), self.hi.bit_length() if self.hi > 0 else 0) + 1

    @property
    def signed_bits(self) -> int:
        """The width of the narrowest two's complement integer."""
        return self.bits + (self.lo >= 0)


_FORMAT = re.compile(
    r"(?P<sign>[su])(?P<bits>\d+)f(?P<frac>-?\d+)(\[(?P<lo>-?\d+),(?P<hi>-?\d+)\])?", re.ASCII
)
_LEAK = re.compile(r"leak(?P<bits>\d+)", re.ASCII)
_BINARY = re.compile(r"b1f(?P<frac>-?\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class QFormat:
    """Two's-complement fixed point: real value = integer * 2**-frac.

    ``frac`` may be negative (a weight exponent) or exceed ``bits`` (a small decay). A state may
    carry a range narrower than its bits. A ``leak`` format stores k and means 1 - 2**-k. A
    ``binary`` format, of weights, stores -1 and 1; 0 only stands for a weight that was dropped.
    Prints as ``s8f6``, ``s24f6[-8388607,8388607]``, ``leak4`` or ``b1f0``; :meth:`parse` is the
    inverse.
    """

    bits: int
    frac: int = 0
    signed: bool = True
    lo: int | None = None
    hi: int | None = None
    leak: bool = False
    binary: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 32:
            raise PlanError(f"a format has 1 to 32 bits, not {self.bits}")
        if not -32 <= self.frac <= 62:
            raise PlanError(f"a binary point lies between -32 and 62, not at {self.frac}")
        # A leak's k is a shift count: never negative, and below the width of a machine word.
        if self.leak and (self.bits > 5 or self.signed or self.frac):
            raise PlanError(f"a leak format is an unsigned count of 1 to 5 bits, not {self.bits}")
        plain = self.signed and not self.leak and self.lo is None is self.hi
        if self.binary and (self.bits > 1 or not plain):
            raise PlanError("a binary format has 1 bit, a sign and no range of its own")
        full = self._full
        lo, hi = self.lo, self.hi
        if (lo is None) != (hi is None):
            raise PlanError("a range needs both ends")
        # Loihi's current reaches +2**23 in a 24-bit register: one more than two's complement holds.
        if lo is not None and hi is not None and not (full.lo <= lo <= hi <= full.hi + 1):
            raise PlanError(f"the range [{lo}, {hi}] does not fit {self.bits} bits")

    @property
    def _full(self) -> Interval:
        if self.binary:
            return Interval(-1, 1)
        span = 1 << self.bits
        return Interval(-span // 2, span // 2 - 1) if self.signed else Interval(0, span - 1)

    @property
    def range(self) -> Interval:
        """The integers this format holds."""
        if self.lo is not None and self.hi is not None:
            return Interval(self.lo, self.hi)
        return self._full

    @property
    def unit(self) -> float:
        """The real value of the integer 1."""
        return float(np.ldexp(1.0, -self.frac))

    def __str__(self) -> str:
        if self.leak:
            return f"leak{self.bits}"
        if self.binary:
            return f"b1f{self.frac}"
        span = f"[{self.lo},{self.hi}]" if self.lo is not None else ""
        return f"{'s' if self.signed else 'u'}{self.bits}f{self.frac}{span}"

    @classmethod
    def parse(cls, text: str) -> QFormat:
        """Read what ``str`` writes.

        Raises:
            PlanError: The text is not a format.
        """
        if match := _LEAK.fullmatch(text):
            return cls(int(match["bits"]), 0, signed=False, leak=True)
        if match := _BINARY.fullmatch(text):
            return cls(1, int(match["frac"]), binary=True)
        match = _FORMAT.fullmatch(text)
        if match is None:
            raise PlanError(f"{text!r} is not a format", hint="write s8f6, u12f12, leak4 or b1f0")
        lo, hi = (int(match[k]) if match[k] is not None else None for k in ("lo", "hi"))
        return cls(int(match["bits"]), int(match["frac"]), match["sign"] == "s", lo, hi)


def shr(x: IntArray, k: npt.ArrayLike, rounding: Rounding, noise: npt.ArrayLike = 0) -> IntArray:
    """Divide by ``2**k`` and round; ``noise`` holds 32 random bits for stochastic rounding."""
    k = np.asarray(k, np.int64)
    one = np.int64(1)
    half = np.where(k > 0, one << np.maximum(k - 1, 0), 0)
    push: IntArray
    if rounding is Rounding.FLOOR:
        push = np.zeros((), np.int64)
    elif rounding is Rounding.ZERO:
        push = np.where(x < 0, (one << k) - 1, 0)
    elif rounding is Rounding.NEAREST_EVEN:
        push = np.where(k > 0, half - 1 + ((x >> k) & 1), 0)
    elif rounding is Rounding.NEAREST_AWAY:
        push = half - np.where((x < 0) & (k > 0), 1, 0)
    else:
        push = np.asarray(noise, np.int64) >> (32 - k)
    result: IntArray = (x + push) >> k
    return result


def fit(x: IntArray, lo: int, hi: int, overflow: Overflow) -> IntArray:
    """Bring ``x`` into ``[lo, hi]`` by clipping or modulo the length of the range."""
    wrap = overflow is Overflow.WRAP
    result: IntArray = lo + (x - lo) % (hi - lo + 1) if wrap else np.clip(x, lo, hi)
    return result


_GOLDEN = 0x9E3779B1


def _mix(h: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer (Appleby, public domain): a bijection with full avalanche."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def hash32(*words: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Hash words to 32 bits: h <- mix(h ^ word * 0x9E3779B1), from h = 0x243F6A88.

    A pure function of its arguments: every random draw in qspinn is one call of it, so the order
    of evaluation, batches and threads cannot change a draw. The generated C holds the same lines.
    """
    h = np.asarray(0x243F6A88, np.uint32)
    with np.errstate(over="ignore"):
        for word in words:
            w = np.asarray(word, np.int64).astype(np.uint32)
            h = _mix(h ^ (w * np.uint32(_GOLDEN)))
    return h


def text_key(text: str, seed: int = 0) -> int:
    """The hash key of a plan path, so that every path draws from its own stream."""
    h = hash32(seed, *text.encode())
    return int(h)


def round_real(x: FloatArray, rounding: Rounding, key: int = 0) -> FloatArray:
    """Round to integers; stochastic rounding draws for element i from ``hash32(key, 0, i)``."""
    if rounding is Rounding.FLOOR:
        return np.floor(x)
    if rounding is Rounding.ZERO:
        return np.trunc(x)
    if rounding is Rounding.NEAREST_EVEN:
        return np.rint(x)
    if rounding is Rounding.NEAREST_AWAY:
        below_half = np.nextafter(0.5, 0.0)  # with 0.5 itself, 0.5 - 2**-54 would become 1
        away: FloatArray = np.copysign(np.floor(np.abs(x) + below_half), x)
        return away
    draws = hash32(key, 0, np.arange(x.size).reshape(x.shape))
    return np.floor(x + draws.astype(np.float64) / 2.0**32)


def to_int(
    values: npt.ArrayLike,
    fmt: QFormat,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: Overflow = Overflow.ERROR,
    key: int = 0,
) -> IntArray:
    """Quantize real values; with ``Overflow.ERROR``, raise rather than clip what does not fit.

    A binary format takes the sign, and 1 for 0; with stochastic rounding x becomes 1 with the
    probability (1 + x) / 2.

    Raises:
        QuantizeError: A value is not finite, or lies outside the format.
    """
    real = np.asarray(values, np.float64)
    if not np.isfinite(real).all():
        raise QuantizeError(f"{np.count_nonzero(~np.isfinite(real))} values are not finite")
    if fmt.leak:
        return _leak_to_int(real, fmt)
    if fmt.binary:
        return _binary_to_int(real, fmt.frac, rounding, key)
    # Scaling by a power of two is exact, so rounding makes the only error.
    with np.errstate(over="ignore"):  # infinity lies outside every format
        scaled = round_real(np.ldexp(real, fmt.frac), rounding, key)
    lo, hi = fmt.range.lo, fmt.range.hi
    outside = (scaled < lo) | (scaled > hi)
    if overflow is Overflow.ERROR and outside.any():
        raise QuantizeError(
            f"{np.count_nonzero(outside)} of {scaled.size} values lie outside {fmt} "
            f"(up to {np.abs(real).max():.6g}, limit {hi * fmt.unit:.6g})",
            hint="give it fewer fraction bits or more bits, or let calibration clip it",
        )
    if overflow is Overflow.WRAP:
        raise QuantizeError("a constant cannot wrap", hint="use saturate or error")
    return np.clip(scaled, lo, hi).astype(np.int64)


def _binary_to_int(real: FloatArray, frac: int, rounding: Rounding, key: int) -> IntArray:
    if rounding is Rounding.STOCHASTIC:
        share = np.clip((np.ldexp(real, frac) + 1.0) / 2.0, 0.0, 1.0)
        up = round_real(share, rounding, key) > 0
    else:
        up = real >= 0
    signs: IntArray = np.where(up, 1, -1).astype(np.int64)
    return signs


def _leak_to_int(real: FloatArray, fmt: QFormat) -> IntArray:
    """The k whose 1 - 2**-k lies nearest; 1 itself (no leak) is not of this form."""
    ks = np.arange(min(fmt.range.hi, 30) + 1)
    error = np.abs(real[..., None] - (1.0 - np.ldexp(1.0, -ks)))
    nearest: IntArray = np.argmin(error, axis=-1).astype(np.int64)
    return nearest


def to_real(values: IntArray, fmt: QFormat) -> FloatArray:
    """The real values that stored integers stand for."""
    if fmt.leak:
        return 1.0 - np.ldexp(1.0, -values)
    return np.ldexp(values.astype(np.float64), -fmt.frac)
