"""Increasing functions of small integers, as C without division and without real numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray, Interval

_WORD = 1 << 32
_MOST_ENTRIES = 256
_FINEST = 32


@dataclass(frozen=True, slots=True)
class Ramp:
    """A function of the integers ``v`` from ``first`` on that never falls.

    Attributes:
        first: The smallest argument.
        span: The smallest and the largest result.
        low: Up to here it is as small as it gets.
        high: From here on it is as large as it gets.
        factor: Between them the result is ``((v - low) * factor + addend) >> shift`` more than
            the smallest; the numbers fit in 32 bits, or the shift is 16 at least.
        addend: See there.
        shift: See there.
        table: All results, where no such numbers were found.
    """

    first: int
    span: Interval
    low: int
    high: int
    factor: int = 0
    addend: int = 0
    shift: int = 0
    table: tuple[int, ...] = ()

    @property
    def steps(self) -> bool:
        """Whether there is something between low and high."""
        return self.high - self.low > 1

    @property
    def inner(self) -> str:
        """C for how much larger than the smallest the result is, between low and high."""
        u = f"(v - {self.low})" if self.low >= 0 else f"(v + {-self.low})"
        u = "(uint32_t)v" if self.low == 0 else f"(uint32_t){u}"
        count = self.high - self.low - 1
        if count * self.factor + max(self.addend, 0) < _WORD:
            code = _line(u, self.factor, self.addend)
            return f"({code}) >> {self.shift}" if self.shift else code
        # In halves, for numbers of more than 32 bits.
        low = _line(u, self.factor & 0xFFFF, self.addend & 0xFFFF)
        code = f"{_line(u, self.factor >> 16, self.addend >> 16)} + (({low}) >> 16)"
        return f"({code}) >> {self.shift - 16}" if self.shift > 16 else code


def _line(u: str, factor: int, addend: int) -> str:
    code = u if factor == 1 else f"{u} * {factor}u"
    return code if not addend else f"{code} {'+' if addend > 0 else '-'} {abs(addend)}u"


def ramp(results: IntArray, first: int, slope: float) -> Ramp | None:
    """The function with these results, in the order of its arguments; None if C cannot have it.

    Args:
        results: Never falling.
        first: The argument of the first.
        slope: By about how much they rise from one to the next where they do.
    """
    low = int(np.flatnonzero(results == results[0])[-1])
    high = int(np.flatnonzero(results == results[-1])[0])
    span = Interval(int(results[0]), int(results[-1]))
    if span.lo == span.hi:
        return Ramp(first, span, first + low, first + low + 1)
    rise = results[low + 1 : high] - span.lo
    if not len(rise):
        return Ramp(first, span, first + low, first + high)
    for factor, addend, shift in _lines(rise, slope):
        return Ramp(first, span, first + low, first + high, factor, addend, shift)
    if len(results) > _MOST_ENTRIES:
        return None
    return Ramp(first, span, first + low, first + high, table=tuple(results.tolist()))


def _lines(rise: IntArray, slope: float) -> Iterator[tuple[int, int, int]]:
    """What gives ``rise[u - 1]`` for u from 1 on, the smallest shift first."""
    u = np.arange(1, len(rise) + 1, dtype=np.int64)
    for shift in range(_FINEST + 1):
        near = round(slope * (1 << shift))
        for factor in range(max(near - 2, 1), near + 3):
            least = int(((rise << shift) - u * factor).max())
            most = int((((rise + 1) << shift) - 1 - u * factor).min())
            addend = min(max(0, least), most)
            fits = len(u) * factor + max(addend, 0) < _WORD
            # In halves: neither part may have more than 32 bits.
            fits = fits or (shift >= 16 and len(u) < 1 << 16 and int(rise[-1]) >> (48 - shift) == 0)
            if least <= most and fits:
                yield factor, addend, shift
