"""How weights lie in tiles: a field for each, the narrower the more of them are added at once.

A row of a tile is some words. Fields are added as they lie, many to a word, until one might
overflow; then every other one moves on to a wider lane, at last to lanes of 16 bits. Where fields
have bits to spare, rows are added to each other before they are taken apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Array

MOST_ROWS = 4
"""Rows that are added to each other at once: more cost more registers than they save."""
BYTES = (0, 2, 1, 3)
"""The bytes of a word in which the four neurons of a quad lie."""
SHIFTS = {8: (0,), 4: (0, 4), 2: (0, 4, 2, 6), 1: (0, 4, 1, 5, 2, 6, 3, 7)}
"""Where the fields of the quads of a word lie in a byte, by the bits of a field."""


@dataclass(frozen=True, slots=True)
class TileForm:
    """A way to store weights in tiles.

    Attributes:
        name: As functions that add such rows are called.
        field: The bits that a weight takes: 8, 4, 2 or 1.
        bias: What is added to a weight, so that none is negative.
        top: The largest that a field holds then.
        binary: Whether weights are -1 and 1, stored as 0 and 1.
    """

    name: str
    field: int
    bias: int
    top: int
    binary: bool = False

    @property
    def span(self) -> Interval:
        """The weights that it holds."""
        return Interval(-1, 1) if self.binary else Interval(-self.bias, self.top - self.bias)

    @property
    def shift(self) -> int:
        """The power of two that the bias is; 0 where there is none."""
        return max(self.bias.bit_length() - 1, 0)

    @property
    def lanes(self) -> int:
        """Neurons of a tile."""
        return 16 if self.field == 8 else 32

    @property
    def words(self) -> int:
        """Words of a row."""
        return self.lanes * self.field // 32

    @property
    def quads(self) -> int:
        """Groups of four neurons in a word."""
        return len(SHIFTS[self.field])

    @property
    def together(self) -> int:
        """Rows that may be added to each other as they lie."""
        return min(((1 << self.field) - 1) // self.top, MOST_ROWS) if self.field > 2 else 1

    @property
    def block(self) -> int:
        """Events whose fields can be added in the first lanes: of 4 bits, or a byte."""
        return (255 if self.field == 4 else 15) // self.top

    @property
    def blocks(self) -> int:
        """Events that lanes of a byte hold, of as many blocks as go."""
        return 255 // self.top // self.block * self.block

    @property
    def template(self) -> str:
        """The file below ``mcu/tiles`` that adds such rows in C."""
        return {8: "together", 4: "nibbles", 2: "crumbs", 1: "bits"}[self.field]

    @property
    def note(self) -> str:
        """The packing, for people."""
        code = "(w + 1) / 2" if self.binary else f"w + {self.bias}" if self.bias else "w"
        where = {8: "a byte", 4: "4 bits", 2: "2 bits", 1: "a bit"}[self.field]
        return f"tiles of {self.lanes} neurons, {code} in {where}"

    def holds(self, values: Array) -> bool:
        """Whether it can store weights."""
        span = Interval(int(values.min()), int(values.max()))
        return span in self.span and (not self.binary or bool(values.all()))

    def pack(self, values: Array) -> Array:
        """The words of weights (rows, outs), flat: [tile][row][word]."""
        rows, outs = values.shape
        tiles = -(-outs // self.lanes)
        padded = np.zeros((rows, tiles * self.lanes), np.int64)
        padded[:, :outs] = values
        codes = (padded > 0).astype(np.int64) if self.binary else padded + self.bias
        lanes = codes.reshape(rows, tiles, self.words, self.quads, 4)
        moves = np.array(SHIFTS[self.field])[:, None] + 8 * np.array(BYTES)
        packed: Array = (lanes << moves).sum((-1, -2)).transpose(1, 0, 2)
        return np.ascontiguousarray(packed).reshape(-1)

    def size(self, rows: int, outs: int) -> int:
        """The bytes of so many rows."""
        return 4 * self.words * rows * -(-outs // self.lanes)


FORMS = (
    TileForm("b1", 1, 1, 1, binary=True),
    TileForm("u1", 1, 0, 1),
    TileForm("t", 2, 1, 2),
    TileForm("s2", 2, 2, 3),
    TileForm("u2", 2, 0, 3),
    TileForm("s3", 4, 4, 7),
    TileForm("u3", 4, 0, 7),
    TileForm("s4", 4, 8, 15),
    TileForm("u4", 4, 0, 15),
    TileForm("s6", 8, 32, 63),
    TileForm("u6", 8, 0, 63),
    TileForm("s7", 8, 64, 127),
    TileForm("u7", 8, 0, 127),
    TileForm("s8", 8, 128, 255),
    TileForm("u8", 8, 0, 255),
)
"""The narrowest first, and of those that take as much the fastest."""
WHOLE = FORMS[-2]
"""A byte with a sign, for which instruction sets have functions of their own."""


def form_for(values: Array) -> TileForm | None:
    """The first form that holds weights; None where there is none."""
    return next((form for form in FORMS if form.holds(values)), None)
