"""Rows of weights that are stored, and how a row's index becomes its place among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.ir import Array

from .layout import WORD_BITS, Rows, Table, rows_for, words

FOUND = 100
"""About what the code that finds a row takes, in bytes."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """A number for each word of a bitmap: literals where there are at most two, or a table."""

    literals: tuple[int, ...]
    table: Table | None = None

    def read(self, macro: str) -> str:
        """C for the number of the word that holds row ``i``."""
        if self.table is not None:
            return f"(uint32_t){macro}_READ({self.table.name} + (i >> 5))"
        first, *second = (f"{value}u" for value in self.literals)
        return f"(i >> 5 == 0u ? {first} : {second[0]})" if second else first


@dataclass(frozen=True, eq=False)
class Kept:
    """Which rows are stored; all others are zeros.

    Attributes:
        bits: Bit i % 32 of word i / 32 is set where row i is stored.
        ranks: How many rows are stored before those of a word; None where there is one word.
        count: The number of rows stored.
        size: The number of rows.
    """

    bits: Lookup
    ranks: Lookup | None
    count: int
    size: int

    def place(self, prefix: str, macro: str) -> str:
        """C for the place of row ``i``, whose bit is ``bit`` of the word ``kept``."""
        within = f"{prefix}_ones(kept & (bit - 1u))"
        return within if self.ranks is None else f"{self.ranks.read(macro)} + {within}"


def worth_dropping(values: Array) -> Array | None:
    """Which rows to store, as booleans; None where leaving out rows of zeros saves no memory."""
    kept: Array = np.any(values != 0, axis=1)
    stored = values[kept]
    if kept.all() or (stored == stored.flat[0]).all():
        return None  # equal weights are code: nothing would be left to look up
    saved = size(rows_for(values), len(values)) - size(rows_for(stored), len(stored))
    return kept if saved > index_bytes(kept) + FOUND else None


def index_bytes(kept: Array) -> int:
    """The bytes of the index that finds the rows which are stored."""
    count = words(len(kept))
    return 0 if count < 3 else count * 4 + -(-count * (1 if kept.sum() < 256 else 2) // 4) * 4


def size(rows: Rows, count: int) -> int:
    """The bytes of so many rows."""
    return count * rows.stride * rows.type.bytes


def bitmap(kept: Array) -> tuple[Array, Array]:
    """The words of the bitmap, and how many rows are stored before each."""
    padded = np.zeros(words(len(kept)) * WORD_BITS, np.int64)
    padded[: len(kept)] = kept
    lanes = padded.reshape(-1, WORD_BITS)
    counts = lanes.sum(1)
    return (lanes << np.arange(WORD_BITS)).sum(1), np.cumsum(counts) - counts
