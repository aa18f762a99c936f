"""Rows of weights of which most are zeros: the others are stored, and where they are.

Two codes, whichever is smaller. Where few weights are left, an entry is one integer: how far it is
from the one before, and the weight. Where many are, a row begins with a bit for every weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Array

from .layout import CType, Rows, index_type, pack, rows_for
from .rows import Row

FEWEST_ROWS = 8
"""Fewer rows are not worth a table of where each begins, which compilers might fold into code."""
WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Code:
    """How the weights of a row that are not 0 are stored.

    Attributes:
        kind: ``gaps`` (each with its distance from the last) or ``map`` (behind a bit for each).
        bits: Of a weight.
        signed: Whether weights have a sign; of one bit, whether they are -1 and 1.
        width: Bits of a stored element.
    """

    kind: str
    bits: int
    signed: bool
    width: int = 8

    @property
    def type(self) -> CType:
        """The type of one stored element."""
        return CType(self.width, self.signed and self.kind == "gaps")

    @property
    def gap_bits(self) -> int:
        """Bits of a distance."""
        return self.width - self.bits

    @property
    def note(self) -> str:
        """The code, for people."""
        if self.kind == "gaps":
            return f"of each that is not 0 its distance in the lowest {self.gap_bits} bits"
        return f"a bit for each, then those that are not 0 with {self.bits} bits"


@dataclass(frozen=True, eq=False)
class Sparse:
    """Rows in a code.

    Attributes:
        code: The code.
        elements: All rows, one after the other.
        starts: Where each row begins among them; in ``gaps`` also where the last one ends.
    """

    code: Code
    elements: Array
    starts: Array

    @property
    def index(self) -> CType:
        """The type of a start."""
        return index_type(int(self.starts[-1]) + 1)

    @property
    def bytes(self) -> int:
        """What both tables take."""
        return _words(self.elements.size * self.code.width // 8) + _words(
            self.starts.size * self.index.bytes
        )


def _words(size: int) -> int:
    return -(-size // WORD_BYTES) * WORD_BYTES


def smallest(values: Array) -> Sparse | None:
    """The code of the fewest bytes for rows ``values``; None where there is none for them."""
    if len(values) < FEWEST_ROWS or not values.any() or values.all():
        return None
    return _smallest(np.ascontiguousarray(values, np.int64).tobytes(), values.shape[1])


@lru_cache(maxsize=16)
def _smallest(content: bytes, columns: int) -> Sparse | None:
    """Kept, for a search asks for the same weights again and again."""
    values = np.frombuffer(content, np.int64).reshape(-1, columns)
    return min(_codes(values), key=lambda found: found.bytes, default=None)


def _codes(values: Array) -> Iterator[Sparse]:
    span = Interval(min(int(values.min()), 0), max(int(values.max()), 0))
    for width in (8, 16, 32):
        if span.bits <= width - 2:
            yield gaps(values, Code("gaps", max(span.bits, 1), span.lo < 0, width))
    rows = rows_for(values[values != 0][None, :])
    if rows.bits <= 8:
        bits = 2 if rows.trits else rows.bits
        yield mapped(values, Code("map", bits, rows.signed))


def gaps(values: Array, code: Code) -> Sparse:
    """Rows as entries; a distance beyond what one holds goes by way of weights of 0."""
    row, column = np.nonzero(values)
    first = np.ones(len(row), bool)
    first[1:] = row[1:] != row[:-1]
    before = np.where(first, 0, np.roll(column, 1))
    distance, most = column - before, (1 << code.gap_bits) - 1
    steps = np.maximum(-(-distance // most), 1)
    last = np.cumsum(steps) - 1
    moves = np.full(int(steps.sum()), most)
    moves[last] = distance - (steps - 1) * most
    weights = np.zeros(len(moves), np.int64)
    weights[last] = values[row, column]
    entries = (weights & ((1 << code.bits) - 1)) << code.gap_bits | moves
    half = 1 << (code.width - 1)
    ends = np.cumsum(np.bincount(row, weights=steps, minlength=len(values)).astype(np.int64))
    return Sparse(
        code, (entries ^ half) - half if code.signed else entries, np.concatenate([[0], ends])
    )


def mapped(values: Array, code: Code) -> Sparse:
    """Rows as bits and then weights; every row begins with a byte of its own."""
    packing = Rows(code.bits, code.signed, 1)
    parts: list[Array] = []
    for row in values:
        found = row[row != 0][None, :]
        weights = pack(found, replace(packing, count=found.size)) & 255
        marks = np.packbits(row != 0, bitorder="little").astype(np.int64)
        parts.append(np.concatenate([marks, weights]))
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return Sparse(code, np.concatenate(parts), starts)


@dataclass(frozen=True, slots=True)
class SparseRow:
    """The function that adds one row: of which code, to what, and whether times a factor."""

    code: Code
    to: CType
    scaled: bool

    @property
    def template(self) -> str:
        """The file below ``mcu/kernels`` that prints it."""
        return f"row_{self.code.kind}"

    @property
    def name(self) -> str:
        """Its name, without the network's prefix."""
        code = self.code
        sign = ("b" if code.bits == 1 and code.kind == "map" else "s") if code.signed else "u"
        width = f"_{code.width}" if code.kind == "gaps" else ""
        scaled = "_x" if self.scaled else ""
        return f"row_{code.kind}{width}_{sign}{code.bits}_i{self.to.bits}{scaled}"

    @property
    def row(self) -> Row:
        """What reads a weight in a map."""
        return Row(self.code.bits, self.code.signed, self.to, self.scaled)

    @property
    def amount(self) -> str:
        """The C type of what weights are multiplied by."""
        return "int64_t" if self.to.bits == 64 else "int32_t"
