"""Values that share bytes: the states that a plan gives fewer bits than an integer type has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Array


@dataclass(frozen=True, slots=True)
class Lane:
    """A value narrower than its type: so many bits of an array of bytes.

    Value i begins at bit i times the width, and bit b is bit b % 8 of byte b / 8. Of 1, 2 and 4
    bits none lies in two bytes; the others may, and are read with all bytes that any may reach.
    """

    bits: int
    signed: bool

    @property
    def name(self) -> str:
        """As functions that read one are called: ``s4``."""
        return f"{'s' if self.signed else 'u'}{self.bits}"

    @property
    def reach(self) -> int:
        """The bytes that are read for a value."""
        starts = range(0, 8 * self.bits, self.bits)
        return max(-(-(at % 8 + self.bits) // 8) for at in starts)

    @property
    def note(self) -> str:
        """How many share what, for people."""
        if self.reach == 1:
            return f"{8 // self.bits} a byte"
        shared = next(n for n in (1, 2, 4, 8) if n * self.bits % 8 == 0)
        return f"{shared} in {shared * self.bits // 8} bytes"

    def holds(self, span: Interval) -> bool:
        """Whether every value of ``span`` fits."""
        low = -(1 << (self.bits - 1)) if self.signed else 0
        return self.signed == (span.lo < 0) and span in Interval(low, low + (1 << self.bits) - 1)

    def length(self, count: int) -> int:
        """The bytes that ``count`` values take, those included that are read with the last."""
        return (count - 1) * self.bits // 8 + self.reach

    def read(self, lanes: str, index: str, prefix: str) -> str:
        """C for a value."""
        return f"{prefix}_get_{self.name}({lanes}, {index})"

    def put(self, lanes: str, index: str, code: str, prefix: str) -> str:
        """C that writes a value."""
        return f"{prefix}_put_{self.bits}({lanes}, {index}, {code});"

    def unpacked(self, stored: Array, count: int) -> Array:
        """The first ``count`` values of bytes (..., bytes)."""
        at = np.arange(count) * self.bits
        wide = stored.astype(np.int64)
        pack = sum(wide[..., at // 8 + n] << 8 * n for n in range(self.reach))
        values: Array = (np.asarray(pack) >> at % 8) & ((1 << self.bits) - 1)
        half = 1 << (self.bits - 1)
        return (values ^ half) - half if self.signed else values


WIDTHS = (1, 2, 4, 7, 6, 5, 3, *range(15, 8, -1))
"""The widths of lanes; of those that take the same bytes the first is read the fastest."""
LANES = tuple(Lane(bits, signed) for bits in WIDTHS for signed in (False, True) if bits > signed)
FUNCTIONS = (
    *(f"get_{lane.name}" for lane in LANES),
    *(f"put_{bits}" for bits in WIDTHS),
)
"""The emitted functions that read and write them, without the network's prefix."""
