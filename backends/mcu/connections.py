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

from .kept import Kept, Lookup, bitmap, worth_dropping
from .kernels import (
    ConvKernel,
    Image,
    Kernel,
    LateralKernel,
    LinearKernel,
    PoolKernel,
    ScaleKernel,
    Window,
    quotient,
)
from .layout import CType, Table, holding, index_type, pack, rows_for
from .names import Names, quoted
from .network import Start

WORD_BYTES = 4

Connection = Linear | Lateral | Scale | Conv1d | Conv2d
Pool = SumPool2d | MaxPool2d


@dataclass
class Tables:
    """The constant tables of a network as they are made, each once."""

    prefix: str
    names: Names
    made: dict[tuple[CType, bytes], Table]

    def add(
        self, node: Node, what: str, kind: str, element: CType, values: Array, note: str
    ) -> Table:
        """The table of one parameter of a node; equal tables are one."""
        key = (element, values.tobytes())
        if key not in self.made:
            name = self.names.new(f"{self.prefix}_{node.name}.{what}")
            owner = f"{node.path}.{what}"
            self.made[key] = Table(name, element, values, kind, owner, f"{quoted(owner)}: {note}")
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
        return Start((), self.add(node, what, "constants", element, values, note), each, factor)


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
    gain: int, band: int = 0,
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
    """
    weight = weight_of(node)
    title = f"{quoted(node.name)}: {type(node).__name__} {_by(x.shape)} to {_by(y.shape)}"
    if isinstance(node, Lateral | Scale):
        return _scale(node, x, tables, name, to, valued, gain, title)
    if isinstance(node, Linear):
        values = weight.values.T
    else:
        outs, inner = weight.values.shape[:2]
        grouped = weight.values.reshape(node.groups, outs // node.groups, inner, -1)
        # Rows in the order of events: input channel, then place in the kernel, then output.
        values = grouped.transpose(0, 2, 3, 1).reshape(-1, outs // node.groups)
    stored = worth_dropping(values) if isinstance(node, Linear) else None
    kept = None if stored is None else _kept(node, stored, tables)
    values = values if stored is None else values[stored]
    rows = rows_for(values)
    table = None
    if uniform_weight(node) is None:
        note = f"{weight.fmt}, {len(values)} rows of {rows.count}"
        if rows.note:
            note += f", {rows.note}"
        if kept is not None:
            note += f"; {kept.size - kept.count} rows of zeros are left out"
        packed = pack(np.ascontiguousarray(values), rows)
        table = tables.add(node, "weight", "weights", rows.type, packed, note)
    uniform = uniform_weight(node) or 0
    if isinstance(node, Linear):
        return LinearKernel(
            name=name, to=to, valued=valued, gain=gain, title=title, table=table, rows=rows,
            uniform=uniform, kept=kept,
        )  # fmt: skip
    return ConvKernel(
        name=name, to=to, valued=valued, gain=gain, title=title, table=table, rows=rows,
        uniform=uniform, image=_conv_image(node, x, y, tables.prefix), groups=node.groups,
        group_inputs=weight.values.shape[1], band=band,
    )  # fmt: skip


def _kept(node: Node, stored: Array, tables: Tables) -> Kept:
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
    image = _conv_image(node, x, y, "")
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


def _conv_image(node: Conv1d | Conv2d, x: Signal, y: Signal, prefix: str) -> Image:
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
