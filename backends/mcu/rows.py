"""The functions that add rows of weights: one for each packing and type of sums."""

from __future__ import annotations

from dataclasses import dataclass

from .layout import CType, Rows


@dataclass(frozen=True, slots=True)
class Row:
    """The function that adds one row of weights: to what, from what, and whether times a factor.

    With 0 bits it adds one amount to all.
    """

    bits: int
    signed: bool
    to: CType
    scaled: bool
    trits: bool = False

    @property
    def template(self) -> str:
        """The file below ``mcu/kernels`` that prints it."""
        if self.trits:
            return "row_trits"
        return "row_bits" if self.bits in (5, 6, 7) else "row"

    @property
    def name(self) -> str:
        """Its name, without the network's prefix."""
        if not self.bits:
            return f"row_even_i{self.to.bits}"
        if self.trits:
            return f"row_t_i{self.to.bits}{'_x' if self.scaled else ''}"
        sign = ("b" if self.bits == 1 else "s") if self.signed else "u"
        return f"row_{sign}{self.bits}_i{self.to.bits}{'_x' if self.scaled else ''}"

    @property
    def type(self) -> CType:
        """What a stored element is."""
        return self.packing.type

    @property
    def packing(self) -> Rows:
        """The packing of a row, whatever its length."""
        return Rows(self.bits, self.signed, 1, self.trits)

    @property
    def amount(self) -> str:
        """The C type of what weights are multiplied by."""
        return "int64_t" if self.to.bits == 64 else "int32_t"

    @property
    def wide(self) -> str:
        """The C type of a weight as it is computed with."""
        return "int64_t" if self.bits == 32 and not self.signed else "int32_t"

    @property
    def lanes(self) -> int:
        """Weights in one group of stored elements."""
        return self.packing.lanes

    @property
    def group(self) -> int:
        """Stored elements in a group."""
        return self.packing.group

    @property
    def rolled(self) -> bool:
        """Whether the weights after the last whole group are added in a loop."""
        return self.lanes == 8

    @property
    def assembled(self) -> bool:
        """Whether cores with Thumb-2 add four weights at once, where sums lie side by side."""
        return self.bits == 8 and self.signed and self.to.bits == 32 and self.scaled

    def weight(self, lane: int, whole: bool = True) -> str:
        """C for the weight in a lane of the packed group ``pack``.

        Args:
            lane: Which.
            whole: Whether nothing but the group is in ``pack``.
        """
        shift = lane * self.bits
        mask, half = (1 << self.bits) - 1, 1 << (self.bits - 1)
        moved = f"(pack >> {shift})" if shift else "pack"
        last = whole and shift + self.bits == 8 * self.group
        inside = moved if last else f"({moved} & {mask}u)"
        if not self.signed:
            return f"(int32_t){inside}"
        if self.bits == 1:
            return f"(int32_t)({inside} * 2u) - 1"
        return f"(int32_t)({inside} ^ {half}u) - {half}"

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """A group in parts of four weights: for each the terms of ``pack``, C without casts."""
        found: list[tuple[str, ...]] = []
        for start in range(0, 8 * self.group, 4 * self.bits):
            first, shift = divmod(start, 8)
            count = -(-(shift + 4 * self.bits) // 8)
            moves = [8 * n - shift for n in range(count)]
            found.append(tuple(_moved(first + n, move) for n, move in enumerate(moves)))
        return tuple(found)

    def field(self, lane: int) -> str:
        """C for the weight in a lane of a part."""
        shift, half = lane * self.bits, 1 << (self.bits - 1)
        inside = f"((pack >> {shift}) & {2 * half - 1}u)" if shift else f"(pack & {2 * half - 1}u)"
        return f"(int32_t)({inside} ^ {half}u) - {half}" if self.signed else f"(int32_t){inside}"


def _moved(place: int, bits: int) -> str:
    """C for an element of a row, moved up by so many bits."""
    read = f"(uint32_t)@({f'row + {place}' if place else 'row'})"
    if not bits:
        return read
    return f"({read} {'<<' if bits > 0 else '>>'} {abs(bits)})"
