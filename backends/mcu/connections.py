"""Connections and pools as kernels, and their weights and biases as tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Lateral,
    Linear,
    MaxPool2d,
    Node,
    Param,
    Scale,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal

from .kept import Kept, Lookup, bitmap
from .kernels import (
    ConvKernel,
    Kernel,
    LateralKernel,
    LinearKernel,
    PoolKernel,
    ScaleKernel,
)
from .layout import CType, Rows, Table, holding, index_type, pack, rows_for
from .names import Names, quoted
from .scatter import ScatterKernel, in_order, runs, tap_order, words_of
from .sparse import Code
from .starts import Codes, Start
from .storage import stored_as
from .windows import Image, Window, quotient

WORD_BYTES = 4
BYTE = CType(8, signed=False)
_DECODED = 48
"""About what the code that finds an entry by its place takes, in bytes."""

Connection = Linear | Lateral | Scale | Conv1d | Conv2d
Pool = SumPool2d | MaxPool2d


@dataclass
class Tables:
    """The constant tables of a network as they are made, each once."""

    prefix: str
    names: Names
    made: dict[tuple[CType, bytes, int], Table]

    def add(
        self, node: Node, what: str, kind: str, element: CType, values: Array, note: str,
        row: int = 0,
    ) -> Table:  # fmt: skip
        """The table of one parameter of a node; equal tables are one."""
        key = (element, values.tobytes(), row)
        if key not in self.made:
            name = self.names.new(f"{self.prefix}_{node.name}.{what}")
            owner = f"{node.path}.{what}"
            note = f"{quoted(owner)}: {note}"
            self.made[key] = Table(name, element, values, kind, owner, note, row=row)
        return self.made[key]

    def words(self, node: Node, what: str, values: Array, note: str) -> Table:
        """The table of weights that are read four at a time."""
        made = self.add(node, what, "weights", CType(32, signed=False), values, note)
        key = (made.type, values.tobytes(), 0)
        self.made[key] = replace(made, macro="WORD")
        return self.made[key]

    def all(self) -> tuple[Table, ...]:
        """Every table, of a size that leaves no hole behind it, whatever follows."""
        # GCC aligns every array to a word.
        align = max((t.type.bytes for t in self.made.values()), default=1)
        align = max(align, WORD_BYTES)
        return tuple(replace(table, align=align) for table in self.made.values())

    def start(self, node: Node, what: str, param: Param, shape: Shape, factor: int = 1) -> Start:
        """A parameter that broadcasts to ``shape``, in as few entries as its values allow.

        Args:
            node: Whose it is.
            what: Its name.
            param: The parameter.
            shape: The signal's.
            factor: What each value is multiplied by when read.
        """
        values, each = entries(param.values, shape)
        if len(values) < 3:
            return Start(tuple(map(int, values)), None, each, factor)
        element = holding(Interval(int(values.min()), int(values.max())))
        note = f"{param.fmt}, one a {'channel' if each > 1 else 'neuron'}"
        found = few_values(values, element)
        if found is None:
            return Start((), self.add(node, what, "constants", element, values, note), each, factor)
        different, places, bits = found
        note = f"{note}: which of {len(different)}, {bits} bits each"
        packed = self.add(node, f"{what}.code", "constants", BYTE, places, note)
        codes = Codes(packed, bits)
        if len(different) < 3:
            return Start(tuple(map(int, different)), None, each, factor, codes)
        table = self.add(node, what, "constants", element, different, f"{param.fmt}, the values")
        return Start((), table, each, factor, codes)


def few_values(values: Array, element: CType) -> tuple[Array, Array, int] | None:
    """Entries as places among the different ones, where that takes fewer bytes.

    Returns:
        The different values, the packed places, and the bits of each; None where a table of
        ``element`` for each entry takes no more.
    """
    different, places = np.unique(values, return_inverse=True)
    bits = next((b for b in (1, 2, 4, 8) if len(different) <= 1 << b), 0)
    if not bits:
        return None
    packed = pack(places.reshape(1, -1), Rows(bits, False, len(values))).astype(np.int64)
    taken = len(packed) + (len(different) * element.bytes if len(different) > 2 else 0)
    if taken + _DECODED > len(values) * element.bytes:
        return None
    return different, packed, bits


def entries(values: Array, shape: Shape) -> tuple[Array, int]:
    """The different values in order: one for all, one a channel, or one an element.

    Returns:
        The entries, and how many elements in a row share one.
    """
    full = np.broadcast_to(values, shape).reshape(shape)
    if (full == full.flat[0]).all():
        return full.reshape(-1)[:1], 1
    planes = full.reshape(shape[0], -1)
    if planes.shape[1] > 1 and (planes == planes[:, :1]).all():
        return np.ascontiguousarray(planes[:, 0]), planes.shape[1]
    return np.ascontiguousarray(full.reshape(-1)), 1


def weight_of(node: Connection) -> Param:
    """The weights of a connection."""
    return node.scale if isinstance(node, Scale) else node.weight


def connection(
    node: Connection, x: Signal, y: Signal, *, tables: Tables, name: str, to: CType, valued: bool,
    gain: int, band: int = 0, last: bool = False, pairs: bool = False,
) -> Kernel:  # fmt: skip
    """The kernel of a connection from signal ``x`` to signal ``y``.

    Args:
        node: The connection.
        x: What it reads.
        y: What it makes.
        tables: Takes the weights.
        name: The C function.
        to: The type of the sums.
        valued: Whether events carry values.
        gain: What contributions are multiplied by.
        band: How many rows of an image are summed at a time; 0: all.
        last: Whether the channels of a place lie side by side in the sums.
        pairs: Whether two sums share a word.
    """
    weight = weight_of(node)
    title = f"{quoted(node.name)}: {type(node).__name__} {_by(x.shape)} to {_by(y.shape)}"
    if isinstance(node, Lateral | Scale):
        return _scale(node, x, tables, name, to, valued, gain, title)
    uniform = uniform_weight(node) or 0
    if isinstance(node, Linear):
        held = _stored(node, weight.values.T, tables)
        return LinearKernel(
            name=name, to=to, valued=valued, gain=gain, title=title, table=held.table,
            rows=held.rows, uniform=uniform, kept=held.kept, sparse=held.code, starts=held.starts,
        )  # fmt: skip
    image = conv_image(node, x, y, tables.prefix)
    values = in_order(weight.values, node.groups)
    if last and runs(node) and (pairs or stored_as(values, droppable=False)[1] is None):
        values = in_order(weight.values[..., tap_order(image.x)], node.groups)
        held = _stored(node, values, tables, pairs=pairs)
        return ScatterKernel(
            name=name, to=to, valued=valued, gain=gain, title=title, table=held.table,
            rows=held.rows, uniform=uniform, image=image, band=band, pairs=pairs,
        )  # fmt: skip
    held = _stored(node, values, tables)
    return ConvKernel(
        name=name, to=to, valued=valued, gain=gain, title=title, table=held.table, rows=held.rows,
        uniform=uniform, image=image, groups=node.groups, group_inputs=weight.values.shape[1],
        band=band, last=last, sparse=held.code, starts=held.starts,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Stored:
    """The weights of a connection as tables; without any where all are equal."""

    rows: Rows
    kept: Kept | None
    table: Table | None = None
    code: Code | None = None
    starts: Table | None = None


def _stored(
    node: Linear | Conv1d | Conv2d, values: Array, tables: Tables, pairs: bool = False
) -> _Stored:
    """Enter weights, rows ``values`` in the order of events, in the form that takes least."""
    stored, sparse = stored_as(values, droppable=isinstance(node, Linear))
    sparse = None if pairs else sparse
    kept = None if stored is None else kept_of(node, stored, tables)
    values = values if stored is None else values[stored]
    rows = rows_for(values)
    code = None if sparse is None else sparse.code
    if uniform_weight(node) is not None:
        return _Stored(rows, kept, code=code)
    note = f"{node.weight.fmt}, {len(values)} rows of {rows.count}"
    if said := rows.note if sparse is None else sparse.code.note:
        note += f", {said}"
    if kept is not None:
        note += f"; {kept.size - kept.count} rows of zeros are left out"
    if pairs:
        table = tables.words(node, "weight", words_of(values), f"{note}, four a word")
        return _Stored(rows, kept, table)
    if sparse is None:
        packed = pack(np.ascontiguousarray(values), rows)
        table = tables.add(node, "weight", "weights", rows.type, packed, note)
        return _Stored(rows, kept, table)
    table = tables.add(node, "weight", "weights", sparse.code.type, sparse.elements, note)
    said = "where each row of weights begins"
    starts = tables.add(node, "starts", "weights", sparse.index, sparse.starts, said)
    return _Stored(rows, kept, table, code, starts)


def kept_of(node: Node, stored: Array, tables: Tables) -> Kept:
    """The index of the rows that are stored."""
    bits, ranks = bitmap(stored)
    count = int(stored.sum())
    return Kept(
        _lookup(node, "kept", bits, CType(32, signed=False), tables, "a bit for each row stored"),
        _lookup(node, "ranks", ranks, index_type(count + 1), tables, "rows before each word")
        if len(ranks) > 1
        else None,
        count,
        len(stored),
    )


def _lookup(
    node: Node, what: str, values: Array, element: CType, tables: Tables, note: str
) -> Lookup:
    if (values == values[0]).all():
        return Lookup((int(values[0]),))
    if len(values) < 3:  # compilers would fold such a table into code
        return Lookup(tuple(map(int, values)))
    return Lookup((), tables.add(node, what, "weights", element, values, note))


def uniform_weight(node: Connection) -> int | None:
    """The weight of all synapses, if it is one."""
    values = weight_of(node).values
    return int(values.flat[0]) if (values == values.flat[0]).all() else None


def adds(node: Connection, x: Signal, y: Signal) -> bool:
    """Whether a connection adds anything: some weight is not 0, and some element is seen."""
    if uniform_weight(node) == 0:
        return False
    if not isinstance(node, Conv1d | Conv2d):
        return True
    image = conv_image(node, x, y, "")
    return image.y.sees and image.x.sees


def _scale(
    node: Lateral | Scale, x: Signal, tables: Tables, name: str, to: CType, valued: bool, gain: int,
    title: str,
) -> Kernel:  # fmt: skip
    weight = weight_of(node)
    values, each = entries(weight.values, x.shape)
    table = None
    if len(values) > 1:
        element = holding(Interval(int(values.min()), int(values.max())))
        what = "scale" if isinstance(node, Scale) else "weight"
        table = tables.add(node, what, "weights", element, values, str(weight.fmt))
    made = ScaleKernel(
        name=name, to=to, valued=valued, gain=gain, title=title, table=table,
        uniform=int(values[0]), index=quotient("i", each, x.size, tables.prefix),
    )  # fmt: skip
    if isinstance(node, Scale):
        return made
    return LateralKernel(
        **vars(made), spread=tables.names.new(f"{name}_all"), size=x.size,
        place=quotient("j", each, x.size, tables.prefix),
    )  # fmt: skip


def bias_of(node: Node, y: Signal, tables: Tables, factor: int) -> Start | None:
    """Where the sums of a connection start; None at zero."""
    bias = getattr(node, "bias", None)
    if not isinstance(bias, Param) or not bias.values.any():
        return None
    # One value for each output, or output channel.
    column = Param(bias.values.reshape(-1, *[1] * (len(y.shape) - 1)), bias.fmt)
    if column.values.size == 1:
        column = Param(column.values.reshape(()), bias.fmt)
    return tables.start(node, "bias", column, y.shape, factor)


def pool(node: Pool, x: Signal, y: Signal, *, name: str, prefix: str, then: Kernel) -> PoolKernel:
    """The kernel that turns an event into events of windows."""
    window = [
        Window(x.shape[1 + d], y.shape[1 + d], node.kernel[d], node.stride[d], node.padding[d])
        for d in range(2)
    ]
    return PoolKernel(
        name=name, to=then.to, valued=then.valued, next=then, band=then.band,
        title=f"{quoted(node.name)}: {type(node).__name__} {_by(x.shape)} to {_by(y.shape)}",
        image=Image(x.shape[0], window[0], window[1], prefix),
    )  # fmt: skip


def conv_image(node: Conv1d | Conv2d, x: Signal, y: Signal, prefix: str) -> Image:
    """How the windows of a convolution slide over its input."""
    kernel = node.weight.values.shape[2:]
    if isinstance(node, Conv1d):
        across = Window(x.shape[1], y.shape[1], kernel[0], node.stride, node.padding, node.dilation)
        return Image(x.shape[0], Window(1, 1, 1, 1, 0), across, prefix)
    down, across = (
        Window(
            x.shape[1 + d], y.shape[1 + d], kernel[d], node.stride[d], node.padding[d],
            node.dilation[d],
        )
        for d in range(2)
    )  # fmt: skip
    return Image(x.shape[0], down, across, prefix)


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))
