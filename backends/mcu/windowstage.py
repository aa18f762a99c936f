"""A layer whose convolution gathers: summed and updated place by place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from qspinn.ir import Conv1d, Conv2d, Neuron

from .gathering import BitMap, WindowSum, window_rows
from .layout import Bands, Member, Table
from .names import quoted
from .network import Edge, Stage, TileAdder, Update
from .packedfours import PackedFours
from .packedlif import PackedLif
from .parts import WORD, Parts
from .tiles import TileRows
from .windows import quotient


@dataclass(frozen=True, eq=False, kw_only=True)
class Windows(Stage):
    """Mark the events of an edge in a bit map, then sum and update place by place.

    Attributes:
        edge: Where the events are found.
        bits: How the map lies.
        map: The member that takes it.
        marking: The C function that makes it.
        table: The weights.
        rows: Their packing.
        list: The member that takes the list of rows.
        listing: The C function that makes that of a window.
        update: The neurons of a place, one at a time.
        flat: Whether states lie place by place; else channel by channel.
        packed: How two of them are updated at once; None where that is not possible.
        exact: The C function that updates the two of a word one at a time then.
        spike: The C function of words in which neurons spike, or that are out of range.
        constants: What the packed update computes with: three words.
    """

    template: ClassVar[str] = "windows"
    edge: Edge
    bits: BitMap
    map: Member
    marking: str
    table: Table
    rows: TileRows
    list: Member
    listing: str
    update: Update
    flat: bool
    packed: PackedLif | PackedFours | None = None
    exact: str = ""
    spike: str = ""
    constants: Table | None = None

    @property
    def adder(self) -> TileAdder:
        """The function that adds rows of weights."""
        return TileAdder(self.list.type, False, self.rows.form)

    @property
    def image(self) -> Bands:
        """How the layer lies."""
        assert self.update.image is not None, "made so"
        return self.update.image

    @property
    def places(self) -> int:
        """Places of a channel."""
        return self.image.rows * self.image.columns

    @property
    def words(self) -> int:
        """Words of the sums of a place."""
        return self.rows.tiles * self.rows.form.lanes // 2

    @property
    def exact_title(self) -> str:
        """The comment above `exact`."""
        return f"{self.update.title[:-1]}, for the two of word `at` alone."

    @property
    def channel(self) -> str:
        """C for the channel of event ``i``."""
        plane, image = self.bits.plane, self.bits.image
        return quotient("i", plane, plane * image.channels, image.prefix)

    @property
    def row(self) -> str:
        """C for the row of ``place``, an index within a channel of the source."""
        _, width = self.bits.source
        return quotient("place", width, self.bits.plane, self.bits.image.prefix)

    @property
    def beyond(self) -> bool:
        """Whether some element of the source is in no window of the pool."""
        image = (self.bits.image.y.size, self.bits.image.x.size)
        sides = zip(image, self.bits.pool, self.bits.source, strict=True)
        return any(size * pool < whole for size, pool, whole in sides)


def shared_map(sums: Iterable[WindowSum], parts: Parts) -> Member | None:
    """The bit map that layers share."""
    count = max((found.map.words for found in sums), default=0)
    if not count:
        return None
    note = "scratch: what spiked, a bit each"
    return Member(parts.places.new("map"), WORD, count, "scratch", "sums", note)


def windows(
    node: Neuron, sums: WindowSum, edge: Edge, update: Update, map_: Member, list_: Member,
    parts: Parts, packed: PackedLif | PackedFours | None, flat: bool,
) -> Windows:  # fmt: skip
    """The stage of a layer.

    Args:
        node: The layer.
        sums: Its convolution.
        edge: Where the events are found.
        update: The neurons, one at a time.
        map_: The member that takes the map.
        list_: The member that takes the list of rows.
        parts: Takes the weights.
        packed: The packed update; None where there is none.
        flat: Whether states lie place by place.
    """
    (fed,) = sums.inputs
    conv = fed.node
    assert isinstance(conv, Conv1d | Conv2d), "others do not gather"
    note = f"{conv.weight.fmt}, {fed.rows.rows} rows of {fed.rows.outs} in {fed.rows.note}"
    row = fed.rows.form.words if fed.rows.halves else 0
    table = parts.tables.add(
        conv, "weight", "weights", WORD, fed.rows.pack(window_rows(conv)), note, row=row
    )
    channels, *sides = node.shape
    height, width = sides if len(sides) == 2 else (1, sides[0])
    at = quotient("i", channels, update.size, parts.prefix) if flat else ""
    made = replace(update, image=Bands(channels, height, width, height), place=at)
    title = f"{quoted(conv.name)}: {type(conv).__name__}, gathered; {update.title}"
    image = replace(sums.map.image, prefix=parts.prefix)
    several = packed is not None
    return Windows(
        name=made.name, title=title, edge=edge, map=map_, table=table, rows=fed.rows, list=list_,
        bits=replace(sums.map, image=image), update=made, packed=packed,
        marking=parts.function("map", conv.name), listing=parts.function("window", conv.name),
        reads_input=edge.callers or update.reads_input, flat=flat,
        exact=parts.function("exact", node.name) if isinstance(packed, PackedLif) else "",
        spike=parts.function("spike", node.name) if several else "",
        constants=parts.constants(node, packed.constants) if packed is not None else None,
    )  # fmt: skip
