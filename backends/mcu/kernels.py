"""The kernels: what one event adds where. Each kind has a template of its own.

A kernel is a C function of a destination array, the index ``i`` of the event and, on an edge that
carries more than spikes, its value ``x``. A faster kernel for some shape or core is one more class
and one more template; what it must compute is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .kept import Kept
from .layout import CType, Rows, Table


def quotient(dividend: str, divisor: int, limit: int, prefix: str) -> str:
    """C for ``dividend / divisor``, for dividends below ``limit``, without a division.

    Armv6-M has none, nor a multiplication with a 64-bit product; where no multiplication in 32
    bits is exact, the emitted function ``<prefix>_divide`` is called.
    """
    if divisor == 1:
        return dividend
    if divisor >= limit:
        return "0u"
    for shift in range(1, 32):
        factor = -(-(1 << shift) // divisor)
        error = factor * divisor - (1 << shift)
        if error * (limit - 1) < 1 << shift and factor * (limit - 1) < 1 << 32:
            return (
                f"({dividend} * {factor}u) >> {shift}" if factor > 1 else f"{dividend} >> {shift}"
            )
    return f"{prefix}_divide({dividend}, {divisor}u)"


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """What every kernel has.

    Attributes:
        template: The file below ``mcu/kernels`` that prints it.
        name: The C function.
        to: The element type of its destination.
        valued: Whether it takes a value ``x``.
        gain: What a contribution is multiplied by, a power of two.
        title: The comment above it.
        band: How many rows of an image it adds to, from row ``first`` on; 0: to all.
    """

    template: ClassVar[str]
    name: str
    to: CType
    valued: bool
    gain: int = 1
    title: str
    band: int = 0

    @property
    def value_type(self) -> str:
        """The C type of ``x``."""
        return "int64_t" if self.to.bits == 64 else "int32_t"

    @property
    def factor(self) -> str:
        """What a contribution is multiplied by, as C; empty for one."""
        if not self.valued:
            return "" if self.gain == 1 else str(self.gain)
        return "x" if self.gain == 1 else f"x * {self.gain}"

    def call(self, to: str, index: str, value: str = "x") -> str:
        """C that calls it."""
        further = (f", {value}" if self.valued else "") + (", first" if self.band else "")
        return f"{self.name}({to}, {index}{further})"


@dataclass(frozen=True, eq=False, kw_only=True)
class RowKernel(Kernel):
    """A kernel that adds rows of weights.

    Attributes:
        table: The weights; None where all are equal.
        rows: Their packing.
        uniform: The weight where all are equal.
    """

    table: Table | None
    rows: Rows
    uniform: int

    @property
    def row(self) -> Row:
        """The function that adds one row."""
        if self.table is None:
            return Row(0, True, self.to, scaled=True)
        return Row(self.rows.bits, self.rows.signed, self.to, bool(self.factor))


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearKernel(RowKernel):
    """Event i adds row i to all sums.

    Attributes:
        kept: Which rows are stored; None: all.
    """

    template: ClassVar[str] = "linear"
    kept: Kept | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaleKernel(Kernel):
    """Event i adds to sum i. ``weight`` is a table, of every element or every channel, or None.

    Attributes:
        table: The weights; None where all are equal.
        uniform: The weight then.
        index: C for the place in the table.
    """

    template: ClassVar[str] = "scale"
    table: Table | None
    uniform: int
    index: str

    @property
    def wide(self) -> str:
        """The C type of the weight as it is computed with."""
        far = self.uniform >= 1 << 31 or (self.table is not None and self.table.far)
        return "int64_t" if far else "int32_t"


@dataclass(frozen=True, eq=False, kw_only=True)
class LateralKernel(ScaleKernel):
    """Event i takes from sum i what all get for it; then ``spread`` adds up what all get.

    Attributes:
        spread: The C function that adds a weight times the total of the events to every sum.
        size: The number of sums.
        place: As ``index``, for sum ``j``.
    """

    template: ClassVar[str] = "lateral"
    spread: str
    size: int
    place: str


@dataclass(frozen=True, slots=True)
class Window:
    """One dimension of a sliding window."""

    size: int
    places: int
    kernel: int
    stride: int
    padding: int
    dilation: int = 1

    @property
    def furthest(self) -> int:
        """The largest padded coordinate at which a window starts."""
        return (self.places - 1) * self.stride

    @property
    def overlaps(self) -> bool:
        """Whether windows share elements."""
        return self.kernel > self.stride

    @property
    def sees(self) -> bool:
        """Whether any window looks at an element, and not at padding alone."""
        taps = range(0, self.kernel * self.dilation, self.dilation)
        starts = range(0, self.furthest + 1, self.stride)
        return any(
            place + self.padding - tap in starts for place in range(self.size) for tap in taps
        )


@dataclass(frozen=True, slots=True)
class Image:
    """How a flat index splits into channel, row and column, and what windows slide over it."""

    channels: int
    y: Window
    x: Window
    prefix: str

    @property
    def plane(self) -> int:
        """Elements of an input channel."""
        return self.y.size * self.x.size

    @property
    def out_plane(self) -> int:
        """Elements of an output channel."""
        return self.y.places * self.x.places

    @property
    def channel(self) -> str:
        """C for the channel of the flat index ``i``."""
        return quotient("i", self.plane, self.plane * self.channels, self.prefix)

    @property
    def row(self) -> str:
        """C for the row of ``place``, an index within a channel."""
        return quotient("place", self.x.size, self.plane, self.prefix)

    def start(self, window: Window, coordinate: str) -> str:
        """C for the last window that starts at or before a padded coordinate."""
        limit = window.size + window.padding
        return quotient(coordinate, window.stride, limit, self.prefix)

    def first(self, window: Window, coordinate: str) -> str:
        """C for the first window that holds a padded coordinate, where windows overlap."""
        if window.size + window.padding <= window.kernel:
            return "0u"
        last = f"({coordinate} - {window.kernel}u)"
        before = quotient(last, window.stride, window.size, self.prefix)
        return f"{coordinate} < {window.kernel}u ? 0u : ({before}) + 1u"

    def last(self, window: Window, coordinate: str) -> str:
        """C for the last window that holds a padded coordinate."""
        start = self.start(window, coordinate)
        if window.furthest + window.stride >= window.size + window.padding:
            return start
        top = window.places - 1
        return f"({start}) > {top}u ? {top}u : {start}" if top else "0u"


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvKernel(RowKernel):
    """Event i adds a row of weights, one for each output channel, at every place it reaches.

    Attributes:
        image: Its geometry.
        groups: Groups of channels.
        group_inputs: Input channels of a group.
    """

    template: ClassVar[str] = "conv"
    image: Image
    groups: int
    group_inputs: int

    @property
    def plane(self) -> int:
        """Sums of a channel."""
        return self.band * self.image.x.places if self.band else self.image.out_plane

    @property
    def reach(self) -> int:
        """How many padded input rows a band looks at."""
        y = self.image.y
        return (self.band - 1) * y.stride + (y.kernel - 1) * y.dilation + 1

    def place(self, window: Window, coordinate: str) -> str:
        """C for the window that starts at a coordinate, up to the furthest such."""
        return quotient(coordinate, window.stride, window.furthest + 1, self.image.prefix)

    @property
    def group(self) -> str:
        """C for the group of ``channel``."""
        return quotient("channel", self.group_inputs, self.image.channels, self.image.prefix)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolKernel(Kernel):
    """Event i becomes an event of ``next`` in every window that holds it."""

    template: ClassVar[str] = "pool"
    image: Image
    next: Kernel

    @property
    def checks(self) -> tuple[str, ...]:
        """C conditions on the window ``oy``, ``ox`` found for an event, where none overlap."""
        found: list[str] = []
        for window, place, start in (
            (self.image.y, "oy", "from_y"),
            (self.image.x, "ox", "from_x"),
        ):
            if window.furthest + window.stride < window.size + window.padding:
                found.append(f"{place} < {window.places}u")
            if window.kernel < window.stride:
                found.append(f"{start} - {place} * {window.stride}u < {window.kernel}u")
        return tuple(found)

    @property
    def overlaps(self) -> bool:
        """Whether an element may lie in several windows."""
        return self.image.y.overlaps or self.image.x.overlaps

    def reads(self, coordinate: str) -> bool:
        """Whether the code needs ``from_y`` or ``from_x``."""
        axis = self.image.y if coordinate == "from_y" else self.image.x
        codes = [self.image.start(axis, coordinate), *self.checks]
        if self.overlaps:
            codes = [self.image.first(axis, coordinate), self.image.last(axis, coordinate)]
        return any(coordinate in code for code in codes)


@dataclass(frozen=True, eq=False, kw_only=True)
class AddKernel(Kernel):
    """Event i adds its value to element i."""

    template: ClassVar[str] = "add"


@dataclass(frozen=True, eq=False, kw_only=True)
class MarkKernel(Kernel):
    """Event i sets bit i."""

    template: ClassVar[str] = "mark"


@dataclass(frozen=True, eq=False, kw_only=True)
class RaiseKernel(Kernel):
    """Event i lifts element i to its value."""

    template: ClassVar[str] = "raise"


@dataclass(frozen=True, slots=True)
class Row:
    """The function that adds one row of weights: to what, from what, and whether times a factor.

    With 0 bits it adds one amount to all.
    """

    bits: int
    signed: bool
    to: CType
    scaled: bool

    @property
    def name(self) -> str:
        """Its name, without the network's prefix."""
        if not self.bits:
            return f"row_even_i{self.to.bits}"
        sign = ("b" if self.bits == 1 else "s") if self.signed else "u"
        return f"row_{sign}{self.bits}_i{self.to.bits}{'_x' if self.scaled else ''}"

    @property
    def type(self) -> CType:
        """What a stored element is."""
        return Rows(self.bits, self.signed, 1).type

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
        return Rows(self.bits, self.signed, 1).lanes

    @property
    def group(self) -> int:
        """Stored elements in a group."""
        return Rows(self.bits, self.signed, 1).group

    @property
    def rolled(self) -> bool:
        """Whether the weights after the last whole group are added in a loop."""
        return self.lanes == 8

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
