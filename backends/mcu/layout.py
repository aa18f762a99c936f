"""How values lie in memory: integer types, the members of the state struct, constant tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Array
from qspinn.printer import fits_int32

from .lanes import LANES, Lane
from .pairs import Fours, Pairs, Quads

WORD_BITS = 32
"""Spikes are kept as bits of 32-bit words: bit i % 32 of word i / 32."""
TRITS = 5
"""Digits to the base 3 in a byte."""


@dataclass(frozen=True, slots=True)
class CType:
    """An integer type of stdint.h."""

    bits: int
    signed: bool

    @property
    def name(self) -> str:
        """Its name in C."""
        return f"{'int' if self.signed else 'uint'}{self.bits}_t"

    @property
    def bytes(self) -> int:
        """Its size, which is its alignment too."""
        return self.bits // 8

    @property
    def span(self) -> Interval:
        """What it holds."""
        if self.signed:
            return Interval(-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        return Interval(0, (1 << self.bits) - 1)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Its numpy type, little-endian as every supported core is."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bytes}")


def holding(span: Interval) -> CType:
    """The narrowest type for ``span``; unsigned where it needs no sign.

    Of 32 bits only what needs the last one is unsigned: C would make all arithmetic unsigned.
    """
    for bits in (8, 16, 32, 64):
        kind = CType(bits, span.lo < 0 or (bits == 32 and fits_int32(span)))
        if span in kind.span:
            return kind
    raise AssertionError(f"verified graphs hold no values of {span.bits} bits")


def computing(span: Interval) -> CType:
    """The type that arithmetic on values of ``span`` is done in."""
    return CType(32 if fits_int32(span) else 64, signed=True)


def index_type(size: int) -> CType:
    """The type of an index below ``size``."""
    return next(k for k in (CType(b, signed=False) for b in (8, 16, 32)) if size - 1 in k.span)


def lane_for(span: Interval, count: int) -> Lane | None:
    """How ``count`` values share bytes; None where a type of their own takes no more."""
    lanes = [lane for lane in LANES if lane.holds(span)]
    best = min(lanes, key=lambda lane: lane.length(count), default=None)
    if best is None or best.length(count) >= holding(span).bytes * count:
        return None
    return best


def words(size: int) -> int:
    """How many words hold ``size`` spikes."""
    return -(-size // WORD_BITS)


@dataclass(frozen=True, slots=True)
class Member:
    """One array or scalar of the state struct.

    Attributes:
        name: In C.
        type: Of one element.
        count: The number of values; 0 for a scalar.
        role: ``state`` (the neurons'), ``spikes``, ``delay``, ``readout`` or ``scratch``.
        owner: What it belongs to, for people.
        note: The comment beside it.
        lane: How several values share an element; None where each has its own.
        places: Places of an image whose channels lie side by side: all channels of the first,
            then of the next; 0: values are in order, channel by channel.
    """

    name: str
    type: CType
    count: int
    role: str
    owner: str
    note: str
    lane: Lane | Pairs | Fours | Quads | None = None
    places: int = 0

    @property
    def elements(self) -> int:
        """The length of the array; 0 for a scalar."""
        return self.lane.length(self.count) if self.lane else self.count

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.type.bytes * max(self.elements, 1)

    @property
    def taken(self) -> CType:
        """The type that a value has when it is written."""
        return self.type if self.lane is None else CType(32, signed=True)

    def read(self, index: str, prefix: str) -> str:
        """C for a value."""
        if self.lane is None:
            return f"s->{self.name}[{index}]"
        return self.lane.read(f"s->{self.name}", index, prefix)

    def put(self, index: str, code: str, prefix: str) -> str:
        """C that writes a value that shares an element."""
        assert self.lane is not None, "others are assigned to"
        return self.lane.put(f"s->{self.name}", index, code, prefix)

    def values(self, stored: Array) -> Array:
        """The values of arrays (..., elements) as they lie in memory."""
        found = self.lane.unpacked(stored, self.count) if self.lane else stored.astype(np.int64)
        if not self.places:
            return found
        by_place = found.reshape(*found.shape[:-1], self.places, -1)
        return by_place.swapaxes(-1, -2).reshape(found.shape)


@dataclass(frozen=True, slots=True)
class Struct:
    """The state struct: members without holes between them, the most aligned first."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, members: Iterable[Member]) -> Struct:
        """Order the members so that only the end is padded; equal alignments keep their order."""
        return cls(tuple(sorted(members, key=lambda m: -m.type.bytes)))

    @property
    def align(self) -> int:
        """Its alignment."""
        return max((m.type.bytes for m in self.members), default=1)

    @property
    def packed(self) -> bool:
        """Whether values share bytes."""
        return any(isinstance(m.lane, Lane) for m in self.members)

    @property
    def padding(self) -> int:
        """The bytes after the last member."""
        return -sum(m.bytes for m in self.members) % self.align

    @property
    def bytes(self) -> int:
        """sizeof, on every ABI that aligns integers to their size."""
        return sum(m.bytes for m in self.members) + self.padding

    def member(self, name: str) -> Member:
        """A member by its name."""
        return next(m for m in self.members if m.name == name)

    def offset(self, name: str) -> int:
        """Where a member lies."""
        at = 0
        for member in self.members:
            if member.name == name:
                return at
            at += member.bytes
        raise KeyError(name)

    def dtype(self) -> np.dtype[np.void]:
        """The struct as numpy reads it."""
        return np.dtype(
            {
                "names": [m.name for m in self.members],
                "formats": [(m.type.dtype, (m.elements,)) if m.count else m.type.dtype
                            for m in self.members],
                "offsets": [self.offset(m.name) for m in self.members],
                "itemsize": self.bytes,
            }
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bands:
    """How an image is divided.

    Attributes:
        channels: Of the image.
        rows: Of the image.
        columns: Of the image.
        height: Rows in a band; the last may have fewer.
    """

    channels: int
    rows: int
    columns: int
    height: int

    @property
    def plane(self) -> int:
        """Sums of a channel in a band."""
        return self.height * self.columns

    @property
    def size(self) -> int:
        """Sums of a band."""
        return self.channels * self.plane


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array in flash.

    Attributes:
        name: In C.
        type: Of one element.
        values: The elements as stored, flat.
        kind: ``weights`` or ``constants``, as a footprint counts them.
        owner: The plan path it comes from.
        note: The comment above it.
        align: What its size is a multiple of: a word, or the widest type of all tables. Compilers
            and linkers order tables as they like, and none may be followed by a hole.
        row: How many elements at a time go through the macro ``_ROW``, which may store them in
            another way where the code for a core reads it; 0: none.
        macro: The end of the name of a macro around every element, or empty.
    """

    name: str
    type: CType
    values: Array
    kind: str
    owner: str
    note: str
    align: int = 1
    row: int = 0
    macro: str = ""

    @property
    def bytes(self) -> int:
        """Its size."""
        return -(-self.type.bytes * int(self.values.size) // self.align) * self.align

    @property
    def count(self) -> int:
        """The number of elements, some zeros at the end included."""
        return self.bytes // self.type.bytes

    @property
    def far(self) -> bool:
        """Whether some value does not fit a signed 32-bit integer."""
        return bool(self.values.max() >= 1 << 31)


@dataclass(frozen=True, slots=True)
class Rows:
    """How rows of weights are packed.

    Attributes:
        bits: 1 to 8, 16 or 32 a weight.
        signed: Whether weights have a sign; of one bit, whether they are -1 and 1.
        count: Weights in a row.
        trits: Whether a byte holds five weights of -1, 0 and 1, as digits to the base 3.
    """

    bits: int
    signed: bool
    count: int
    trits: bool = False

    @property
    def type(self) -> CType:
        """The type of one stored element."""
        return CType(self.bits, self.signed) if self.bits >= 8 else CType(8, signed=False)

    @property
    def group(self) -> int:
        """Stored elements that are read at once: several where weights straddle bytes."""
        return {3: 3, 5: 5, 6: 3, 7: 7}.get(self.bits, 1)

    @property
    def lanes(self) -> int:
        """Weights in a group."""
        return TRITS if self.trits else max(8 * self.group // self.bits, 1)

    @property
    def stride(self) -> int:
        """Stored elements from one row to the next."""
        if self.trits:
            return -(-self.count // TRITS)
        return -(-self.count * self.bits // 8) if self.bits < 8 else self.count

    @property
    def note(self) -> str:
        """The packing, for people; empty where each weight has an element."""
        if self.trits:
            return "5 weights a byte: the first is above 256 of three times the byte"
        held = f"{self.group} bytes" if self.group > 1 else "a byte"
        order = f"{self.lanes} weights {held}, the first in the lowest bits"
        return order if self.lanes > 1 else ""

    def codes(self, values: Array) -> Array:
        """The bits of each weight as an unsigned number."""
        if self.bits == 1 and self.signed:
            return np.asarray(values > 0, np.int64)
        return values & ((1 << self.bits) - 1)


def rows_for(values: Array) -> Rows:
    """The packing that takes the fewest bytes for rows ``values`` (rows, weights in a row).

    Of those that take as many, the one that is read the fastest: with more bits a weight.
    """
    span = Interval(int(values.min()), int(values.max()))
    fits = [bits for bits in (32, 16, 8, 7, 6, 5, 4, 3, 2) if span.bits <= bits]
    if span == Interval(0, 1) or (span == Interval(-1, 1) and values.all()):
        fits.append(1)
    options = [
        Rows(bits, holding(span).signed if bits == 32 else span.lo < 0, values.shape[1])
        for bits in fits
    ]
    if span == Interval(-1, 1):
        options.append(Rows(2, True, values.shape[1], trits=True))
    # A table of one or two bytes would be folded into code, and not be where it is counted.
    tiny = [r for r in options if r.stride * len(values) >= min(values.size, 3)]
    return min(tiny, key=lambda r: r.stride * r.type.bytes)


def pack(values: Array, rows: Rows) -> Array:
    """The stored elements, flat; the first weight of a byte lies in its lowest bits."""
    if rows.bits >= 8:
        return values.reshape(-1)
    if rows.trits:
        return _trits(values + 1)
    # Weight i of a row starts at bit i times the width.
    codes = rows.codes(values).astype(np.uint8)
    bits = (codes[..., None] >> np.arange(rows.bits, dtype=np.uint8)) & np.uint8(1)
    packed = np.packbits(bits.reshape(len(values), -1), axis=1, bitorder="little")
    return packed.reshape(-1).astype(np.int64)


def _trits(digits: Array) -> Array:
    """Rows of digits 0 to 2 as bytes: of a byte times 3 what is above 256 is the first digit.

    The rest, below 256, holds the next in the same way: the byte is five digits of a fraction,
    rounded up.
    """
    width = -(-digits.shape[1] // TRITS) * TRITS
    padded = np.zeros((len(digits), width), np.int64)
    padded[:, : digits.shape[1]] = digits
    number = padded.reshape(-1, TRITS) @ 3 ** np.arange(TRITS)[::-1]
    packed: Array = -(-number * 256 // 3**TRITS)
    return packed
