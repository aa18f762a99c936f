"""A constant of every element of a layer, in as few bytes as its values allow."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .layout import CType, Table


@dataclass(frozen=True, eq=False)
class Codes:
    """The places of entries among a few different ones, several in a byte.

    Attributes:
        table: The bytes.
        bits: 1, 2, 4 or 8 a place, the first in the lowest bits.
    """

    table: Table
    bits: int

    def read(self, index: str, macro: str) -> str:
        """C for the place of the entry with an index."""
        if self.bits == 8:
            return f"{macro}_READ({self.table.name} + {index})"
        index = f"({index})" if " " in index else index
        lanes = 8 // self.bits
        byte = f"{macro}_READ({self.table.name} + ({index} >> {lanes.bit_length() - 1}))"
        shift = f"({index} & {lanes - 1}u) * {self.bits}u"
        return f"(((uint32_t){byte} >> ({shift})) & {(1 << self.bits) - 1}u)"


@dataclass(frozen=True, eq=False)
class Start:
    """A constant of every element: a literal, two of them, or a table.

    Attributes:
        literals: The value of all elements, or of the first and the second entry.
        table: The entries, where there are more.
        each: How many elements in a row share an entry.
        factor: What values are multiplied by when read.
        codes: The place of each entry among the different ones, which literals or the table then
            are; None where there is an entry for each.
    """

    literals: tuple[int, ...] = (0,)
    table: Table | None = None
    each: int = 1
    factor: int = 1
    codes: Codes | None = None

    @property
    def varies(self) -> bool:
        """Whether elements differ."""
        return self.table is not None or len(self.literals) > 1

    def read(self, index: str, kind: CType, macro: str) -> str:
        """C for the entry with an index, before the factor; literals are of type ``kind``."""
        index = index if self.codes is None else self.codes.read(index, macro)
        if self.table is not None:
            return f"{macro}_READ({self.table.name} + {index})"
        first, *second = (number(value, kind) for value in self.literals)
        # Two entries are code: compilers would fold such a table into code as well.
        return f"({index} == 0u ? {first} : {second[0]})" if second else first

    def amount(self, to: CType, index: str, macro: str) -> str:
        """C for what is written to an element; ``index`` is its entry's."""
        if self.table is None:
            literals = tuple(value * self.factor for value in self.literals)
            scaled = replace(self, literals=literals, factor=1)
            code = scaled.read(index, to, macro)
            return code if len(self.literals) == 1 else f"({to.name}){code}"
        code = self.read(index, to, macro)
        if to.bits == 64:
            code = f"(int64_t){code}"
        if self.factor != 1:
            if to.bits == 32 and self.table.type.bits < 32:
                code = f"({to.name}){code}"  # int may have 16 bits
            return f"({to.name})({code} * {self.factor})"
        return code if self.table.type.span in to.span else f"({to.name}){code}"


def number(value: int, kind: CType) -> str:
    """An integer literal of a type."""
    if not kind.signed:
        return f"{value}u"
    if value == kind.span.lo and kind.bits >= 32:
        return f"(-{-value - 1} - 1)"
    return str(value)
