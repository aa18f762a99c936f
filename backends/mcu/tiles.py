"""Tiles: dense weights in the order in which sums of 16 neurons at a time read them.

A tile is 16 neurons, whose sums stay in registers while a list of events goes by. What a row of a
tile looks like is a `TileRows`; the functions that add such rows are the templates in mcu/tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Array, Conv1d, Conv2d, Input, Linear, Neuron, Node
from qspinn.printer import fits_int32

from .connections import adds
from .kept import worth_dropping
from .layout import CType, index_type
from .storage import worth_tiles
from .tileforms import WHOLE, TileForm, form_for
from .view import View

LANES = WHOLE.lanes
"""Neurons of a tile of 8-bit weights."""
SUMS = Interval(-(1 << 15), (1 << 15) - 1)
"""What a lane holds: every partial sum over synapses lies in here."""
FEWEST = 9
"""Outputs that repay the padding of a tile."""
LEAST = 512
"""Weights that repay its code."""
LIST_BYTES = 256
"""The most that a list of the events of a mask may take; longer ones are made part by part."""


@dataclass(frozen=True, slots=True)
class TileRows:
    """How rows of weights lie in tiles: [tile][row][words].

    In a byte each, plus 128, the bytes of a word are those of neurons 0, 2, 1, 3 from the lowest
    bits on, so that bytes 0 and 2, and bytes 1 and 3, are neighbours as 16-bit lanes.

    Attributes:
        outs: Neurons.
        rows: Rows of weights.
        form: Of a row of a tile.
    """

    outs: int
    rows: int
    form: TileForm = WHOLE

    @property
    def tiles(self) -> int:
        """How many there are; the last is padded with zeros."""
        return -(-self.outs // self.form.lanes)

    @property
    def stride(self) -> int:
        """Words from one tile to the next."""
        return self.rows * self.form.words

    @property
    def halves(self) -> bool:
        """Whether the bytes are weights plus 128.

        The code for Helium reads every other one with its sign, as the macro ``_ROW`` stores it,
        and no other packing.
        """
        return self.form == WHOLE

    @property
    def note(self) -> str:
        """The packing, for people."""
        return self.form.note

    def pack(self, values: Array) -> Array:
        """The words of weights (rows, outs), flat."""
        return self.form.pack(values)


@dataclass(frozen=True, eq=False)
class TileInput:
    """A connection that is summed by tiles.

    Attributes:
        node: The connection.
        kept: Which of its rows are stored, as booleans; None: all.
        rows: Their packing.
        index: The type of an element of the list of rows.
        listed: The capacity of a list that the step makes; 0 where the caller's is read.
    """

    node: Linear | Conv1d | Conv2d
    kept: Array | None
    rows: TileRows
    index: CType
    listed: int


@dataclass(frozen=True, eq=False)
class TileSum:
    """What is summed by tiles for a layer.

    Attributes:
        inputs: The connections.
        gain: What their sums are multiplied by.
        reach: The interval of every partial sum, before that.
    """

    inputs: tuple[TileInput, ...]
    gain: int
    reach: Interval

    @property
    def names(self) -> frozenset[str]:
        """The names of the connections."""
        return frozenset(x.node.name for x in self.inputs)


def rest(view: View, node: Neuron, sums: TileSum | None) -> list[Node]:
    """What is added event by event to a layer, but not by tiles."""
    lazy = view.lazy_inputs(node)
    return lazy if sums is None else [x for x in lazy if x.name not in sums.names]


def tiled(view: View, longest: int = 1) -> Mapping[str, TileSum]:
    """What is summed by tiles, by the name of the layer.

    Args:
        view: The graph.
        longest: Rows of other tables, whose lists are of the same type.
    """
    wide = index_of_lists(view, longest)
    found: dict[str, TileSum] = {}
    for node in view.graph.of_type(Neuron):
        current = view.current(node)
        if current.interval is None or not fits_int32(current.interval):
            continue
        nodes = [x for x in view.lazy_inputs(node) if isinstance(x, Linear) and _fits(view, x)]
        gains = {x.name: view.gain(x, current.frac) for x in nodes}
        nodes = [x for x in nodes if gains[x.name] == gains[nodes[0].name]]
        nodes = _alike(nodes)
        if nodes and (reach := _reach(nodes)) in SUMS:
            inputs = tuple(_input(view, x, wide) for x in nodes)
            found[node.name] = TileSum(inputs, gains[nodes[0].name], reach)
    return found


def _fits(view: View, node: Linear) -> bool:
    """Whether tiles can do a connection, and are no waste."""
    source = view.source(node.inputs[0])
    x, y = view.signals[source.name], view.signals[node.name]
    if x.kind != "spike" or view.origin(node.inputs[0])[0] != source.name:
        return False
    values = node.weight.values
    if not adds(node, view.signals[node.inputs[0]], y) or (values == values.flat[0]).all():
        return False
    return len(values) >= FEWEST and values.size >= LEAST and worth_tiles(values.T)


def _alike(nodes: list[Linear]) -> list[Linear]:
    """Those whose tiles have as many neurons as the largest's."""
    lanes = {x.name: form_of(x).lanes for x in nodes}
    most = max(nodes, key=lambda x: x.weight.values.size, default=None)
    return [x for x in nodes if most is not None and lanes[x.name] == lanes[most.name]]


def form_of(node: Linear) -> TileForm:
    """How the weights of a connection lie in tiles."""
    form = form_for(node.weight.values)
    assert form is not None, "asked of connections that tiles can do"
    return form


def _reach(nodes: list[Linear]) -> Interval:
    """The interval of every partial sum of connections together."""
    low = sum(np.minimum(x.weight.values, 0).sum(1) for x in nodes)
    high = sum(np.maximum(x.weight.values, 0).sum(1) for x in nodes)
    return Interval(int(np.min(low)), int(np.max(high)))


def index_of_lists(view: View, longest: int) -> CType:
    """The type of lists that a step makes: the caller's, or wider, so that functions are shared."""
    sizes = [
        view.signals[x.inputs[0]].size
        for node in view.graph.of_type(Neuron)
        for x in view.lazy_inputs(node)
        if isinstance(x, Linear) and _fits(view, x)
    ]
    return index_type(max((*sizes, longest)))


def _input(view: View, node: Linear, wide: CType) -> TileInput:
    values = node.weight.values
    kept = worth_dropping(values.T)
    stored = int(values.shape[1] if kept is None else kept.sum())
    rows = TileRows(len(values), stored, form_of(node))
    source = view.source(node.inputs[0])
    if isinstance(source, Input) and view.form != "mask" and kept is None:
        return TileInput(node, None, rows, index_type(view.signals[source.name].size), 0)
    capacity = min(view.signals[source.name].size, LIST_BYTES // wide.bytes)
    return TileInput(node, kept, rows, wide, capacity)
