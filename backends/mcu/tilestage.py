"""A layer that is summed and updated tile by tile, as its template prints it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from qspinn.ir import Linear

from .connections import kept_of
from .currents import INT
from .kept import Kept
from .layout import CType, Member, Table
from .names import quoted
from .network import Edge, Stage, Start, TileAdder, Update
from .packedlif import PackedLif
from .parts import WORD, Parts
from .tiles import TileInput, TileRows, TileSum


@dataclass(frozen=True, eq=False)
class TileDrive:
    """The rows that the events of an edge add to tiles.

    Attributes:
        edge: Where the events are found.
        table: The weights.
        rows: Their packing.
        index: The type of an element of the list of rows.
        kept: Which rows are stored; None: all.
        made: The member that takes the list of rows; None where the caller's is read.
        fill: The C function that makes the list.
        title: What is added, for people.
    """

    edge: Edge
    table: Table
    rows: TileRows
    index: CType
    kept: Kept | None
    made: Member | None
    fill: str
    title: str

    def adder(self, more: bool) -> TileAdder:
        """The function that adds its rows."""
        return TileAdder(self.index, more, self.rows.form)

    @property
    def parts(self) -> bool:
        """Whether the list may have to be made part by part."""
        return self.made is not None and self.made.count < self.edge.size


@dataclass(frozen=True, eq=False, kw_only=True)
class Tile(Stage):
    """Sum the events of some edges and update the neurons, 16 at a time.

    Attributes:
        drives: What is added; at least one.
        update: The neurons, one at a time.
        packed: How two of them are updated at once; None where that is not possible.
        exact: The C function that updates the two of a word one at a time, where there is
            a packed update.
        spike: The C function of words in which neurons spike, or that are out of range.
        constants: What the packed update computes with: three words.
    """

    template: ClassVar[str] = "tile"
    drives: tuple[TileDrive, ...]
    update: Update
    packed: PackedLif | None = None
    exact: str = ""
    spike: str = ""
    constants: Table | None = None

    @property
    def tiles(self) -> int:
        """How many there are."""
        return -(-self.update.size // self.lanes)

    @property
    def lanes(self) -> int:
        """Neurons of a tile."""
        return self.drives[0].rows.form.lanes

    @property
    def vectors(self) -> bool:
        """Whether there is code that sums and updates it by vectors."""
        rows = all(drive.rows.halves for drive in self.drives)
        return rows and self.packed is not None and self.packed.vectors

    @property
    def words(self) -> int:
        """Words of the sums of a tile."""
        return self.lanes // 2

    @property
    def exact_title(self) -> str:
        """The comment above `exact`."""
        return f"{self.update.title[:-1]}, for the two of word `at` alone."

    @staticmethod
    def pair(start: Start, macro: str, at: str) -> str:
        """C for the entries of both neurons of word ``at``, one in each half."""
        low, high = (start.amount(INT, f"2u * {at}{plus}", macro) for plus in ("", " + 1u"))
        return f"((uint32_t){low} + ((uint32_t){high} << 16))"

    @property
    def pairs(self) -> int:
        """Whole words of two neurons."""
        return self.update.size // 2

    @property
    def turns(self) -> bool:
        """Whether four words are updated at a time."""
        return self.tiles > 1

    @property
    def turns_of_last(self) -> int:
        """How often in the last tile."""
        return self.pairs_of_last // 4 if self.turns else 0

    @property
    def pairs_of_last(self) -> int:
        """Whole words of two neurons in the last tile."""
        return self.pairs - (self.tiles - 1) * self.words

    @property
    def rest(self) -> int:
        """How many words are updated after these, one at a time."""
        return self.pairs_of_last - 4 * self.turns_of_last


def adders(stages: tuple[Stage, ...], others: Iterable[TileAdder] = ()) -> tuple[TileAdder, ...]:
    """The functions that stages call, and others."""
    found: dict[TileAdder, None] = dict.fromkeys(others)
    for stage in stages:
        for nth, drive in enumerate(stage.drives if isinstance(stage, Tile) else ()):
            found[drive.adder(nth > 0)] = None
            if drive.parts:
                found[drive.adder(True)] = None
    return tuple(sorted(found, key=lambda f: (f.form.name, f.index.bits, f.more)))


def lists(sums: TileSum | None, made: dict[int, Member], parts: Parts) -> None:
    """Enter the scratch that the lists of a layer need; layers share it."""
    inputs = [x for x in sums.inputs if x.listed] if sums else []
    for nth, x in enumerate(inputs):
        held = made.get(nth)
        name = held.name if held else parts.places.new("list")
        count = max(x.listed, held.count if held else 0)
        made[nth] = Member(
            name, x.index, count, "scratch", "sums", "scratch: rows of weights to add"
        )


def tile_drives(
    sums: TileSum, edges: dict[str, Edge], made: dict[int, Member], parts: Parts, reader: str
) -> tuple[TileDrive, ...]:
    """What the connections of a layer add.

    Args:
        sums: The connections.
        edges: Where the events of each source are found, by the name of the connection.
        made: The scratch for lists.
        parts: Takes the weights.
        reader: The layer.
    """
    found: list[TileDrive] = []
    nth = 0
    for x in sums.inputs:
        member = None
        if x.listed:
            member, nth = made[nth], nth + 1
        found.append(_drive(x, edges[x.node.name], member, parts, reader))
    return tuple(found)


def _drive(x: TileInput, edge: Edge, member: Member | None, parts: Parts, reader: str) -> TileDrive:
    node = x.node
    assert isinstance(node, Linear), "others are not in tiles"
    values = node.weight.values.T
    kept = None if x.kept is None else kept_of(node, x.kept, parts.tables)
    note = f"{node.weight.fmt}, {x.rows.rows} rows of {x.rows.outs} in {x.rows.note}"
    if kept is not None:
        note += f"; {kept.size - kept.count} rows of zeros are left out"
    packed = x.rows.pack(values if x.kept is None else values[x.kept])
    row = x.rows.form.words if x.rows.halves else 0
    table = parts.tables.add(node, "weight", "weights", WORD, packed, note, row=row)
    fill = parts.function("list", node.name, "to", reader) if member else ""
    title = f"{quoted(node.name)}: Linear {edge.size} to {x.rows.outs}"
    return TileDrive(edge, table, x.rows, x.index, kept, member, fill, title)
