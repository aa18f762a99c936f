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
from .rows import Row
from .sparse import Code, SparseRow
from .windows import Image, Reach, Window, quotient, reach_of

MOST_TERMS = 16
"""A window of more elements is not summed in one expression."""


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

    @property
    def by_place(self) -> bool:
        """Whether an event is given as ``channel``, ``row`` and ``column``, not as ``i``."""
        return self.reach is not None

    @property
    def reach(self) -> Reach | None:
        """The rows that a band sees, where an event is given by its place; else None."""
        return None

    @property
    def summed(self) -> bool:
        """Whether dense values are summed by windows before they are given to it, once each."""
        return False

    def call(self, to: str, index: str, value: str = "x") -> str:
        """C that calls it; ``index`` is what says which event it is."""
        further = (f", {value}" if self.valued else "") + (", first" if self.band else "")
        return f"{self.name}({to}, {index}{further})"


@dataclass(frozen=True, eq=False, kw_only=True)
class RowKernel(Kernel):
    """A kernel that adds rows of weights.

    Attributes:
        table: The weights; None where all are equal.
        rows: Their packing.
        uniform: The weight where all are equal.
        sparse: How rows of few weights are coded; None where every weight is stored.
        starts: Where each begins in the table.
    """

    table: Table | None
    rows: Rows
    uniform: int
    sparse: Code | None = None
    starts: Table | None = None

    @property
    def by_row(self) -> bool:
        """Whether it calls the function that adds one row."""
        return True

    @property
    def row(self) -> Row | SparseRow:
        """The function that adds one row."""
        if self.table is None:
            return Row(0, True, self.to, scaled=True)
        if self.sparse is not None:
            return SparseRow(self.sparse, self.to, bool(self.factor))
        return Row(self.rows.bits, self.rows.signed, self.to, bool(self.factor), self.rows.trits)


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


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvKernel(RowKernel):
    """An event adds a row of weights, one for each output channel, at every place it reaches.

    Attributes:
        image: Its geometry.
        groups: Groups of channels.
        group_inputs: Input channels of a group.
        last: Whether the channels of a place lie side by side.
    """

    template: ClassVar[str] = "conv"
    image: Image
    groups: int
    group_inputs: int
    last: bool = False

    @property
    def reach(self) -> Reach:
        """The rows that a band sees."""
        return reach_of(self.image.y, self.band)

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.groups * self.rows.count

    @property
    def plane(self) -> int:
        """Sums of a channel."""
        return self.band * self.image.x.places if self.band else self.image.out_plane

    def place(self, window: Window, coordinate: str) -> str:
        """C for the window that starts at a coordinate, up to the furthest such."""
        return quotient(coordinate, window.stride, window.furthest + 1, self.image.prefix)

    @property
    def group(self) -> str:
        """C for the group of ``channel``."""
        return quotient("channel", self.group_inputs, self.image.channels, self.image.prefix)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolKernel(Kernel):
    """An event becomes an event of ``next`` in every window that holds it."""

    template: ClassVar[str] = "pool"
    image: Image
    next: Kernel

    @property
    def by_place(self) -> bool:
        """Whether an event is given as ``channel``, ``row`` and ``column``, not as ``i``."""
        return True

    @property
    def reach(self) -> Reach | None:
        """The rows that a band sees, where ``next`` has bands."""
        reach = self.next.reach
        return None if reach is None else reach.through(self.image.y)

    @property
    def forward(self) -> str:
        """C that calls ``next`` for the window ``oy``, ``ox``."""
        if self.next.by_place:
            return self.next.call("to", "channel, oy, ox")
        y, x = self.image.y, self.image.x
        return self.next.call("to", f"(channel * {y.places}u + oy) * {x.places}u + ox")

    @property
    def tiles(self) -> bool:
        """Whether every element is in one window at most, and no window looks beyond the image."""
        windows = (self.image.y, self.image.x)
        return all(w.kernel == w.stride and not w.padding for w in windows)

    @property
    def summed(self) -> bool:
        """Whether dense values are summed by windows before they are given to it, once each."""
        few = self.image.y.kernel * self.image.x.kernel <= MOST_TERMS
        return self.tiles and few and not isinstance(self.next, RaiseKernel)

    def row_at(self, coordinate: str) -> str:
        """C for the row of windows at a row of the image, or at one just behind it."""
        y = self.image.y
        return f"({quotient(coordinate, y.kernel, y.size + y.kernel, self.image.prefix)})"

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
