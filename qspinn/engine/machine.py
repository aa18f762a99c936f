"""Steps a chunk of samples through a network, a block of steps at a time.

A block is as long as memory allows, and no longer than the shortest delay that closes a cycle:
within it every node does all its steps for one sample after the other, in topological order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from qspinn.engine.events import Events, index_type
from qspinn.engine.layout import Port, aligned
from qspinn.ir import Array, Delay, Flatten, Graph, Input, Output
from qspinn.ports import places
from qspinn.readout import output_neuron
from qspinn.signals import Signals

List = tuple[Array, Array, Array, Any]
"""Events of a block: row r holds index[lo[r]:hi[r]], and the values beside them (or None)."""


@dataclass(frozen=True, eq=False)
class Network:
    """A graph made ready to run.

    Attributes:
        graph: An integer graph.
        signals: The type of every edge.
        ports: Its memory layout.
        stages: What each node does in a block; those without a stage only pass an edge on.
        start: The first row of every state, ``lif1.v``, in lanes.
        bytes: What the edges of a block should not exceed.
        summarize: Adds a block to what readouts need; see `kernels.summarize`.
        compact: Lists the events of lanes, where stages ask for lists; see `kernels.compact`.
        sums: Whether neurons can add up what readouts need of them as they are stepped.
    """

    graph: Graph
    signals: Signals
    ports: Mapping[str, Port]
    stages: tuple[Stage, ...]
    start: Mapping[str, Array]
    bytes: int
    summarize: Callable[..., None]
    compact: Callable[..., None] | None = None
    sums: bool = False

    @cached_property
    def delays(self) -> tuple[Delay, ...]:
        """All delays."""
        return self.graph.of_type(Delay)

    @cached_property
    def block(self) -> int | None:
        """The most steps in a block; None: any number.

        A delay that stands before what it reads closes a cycle.
        """
        place = {node.name: i for i, node in enumerate(self.graph.nodes)}
        closing = [d for d in self.delays if place[d.inputs[0]] > place[d.name]]
        return min((delay.steps for delay in closing), default=None)

    @cached_property
    def origin(self) -> dict[str, str]:
        """For each node, the one whose edge it has: Flatten and Output only pass one on."""
        found: dict[str, str] = {}
        for node in self.graph.nodes:
            passes = isinstance(node, Flatten | Output)
            found[node.name] = found[node.inputs[0]] if passes else node.name
        return found

    @cached_property
    def membrane(self) -> str | None:
        """The state that readouts of the membrane potential look at, if it fits the output."""
        node = output_neuron(self.graph)
        if node is None or "v" not in node.states:
            return None
        fits = self.ports[node.name].size == self.ports[self.graph.output.name].size
        return f"{node.name}.v" if fits else None

    @cached_property
    def summed(self) -> str:
        """The neuron node whose own sums are all that readouts need; empty: there is none."""
        outputs = self.graph.of_type(Output)
        if not self.sums or len(outputs) != 1 or self.membrane is None:
            return ""
        owner = self.membrane.rpartition(".")[0]
        passing = (Flatten, Output)
        read = {i for n in self.graph.nodes if not isinstance(n, passing) for i in n.inputs}
        inner = any(self.origin[name] == owner for name in read)
        return owner if self.origin[outputs[0].name] == owner and not inner else ""


@dataclass
class Machine:
    """One thread's states, edges and buffers."""

    network: Network
    keep: frozenset[str] = frozenset()
    """Neuron nodes whose states are wanted after every step, in `traces`."""
    summed: str = ""
    """The neuron node of which only `sums` are wanted, not the edge."""
    sums: tuple[Array, ...] = ()
    constant: frozenset[str] = frozenset()
    """The inputs, if each sample brings the same in every step; what they feed is computed once."""
    samples: int = 0
    steps: int = 0
    time: int = 0
    lanes: dict[str, Array] = field(default_factory=dict)
    lists: dict[str, List] = field(default_factory=dict)
    states: dict[str, Array] = field(default_factory=dict)
    traces: dict[str, Array] = field(default_factory=dict)
    _rings: dict[str, Array] = field(default_factory=dict)
    _buffers: dict[tuple[str, str], Array] = field(default_factory=dict)
    _views: dict[tuple[str, str], Array] = field(default_factory=dict)

    def reset(self, samples: int) -> None:
        """Put ``samples`` samples before their first step."""
        self.samples, self.time, self.steps = samples, 0, 0
        for name, row in self.network.start.items():
            self.restart(name, row)
        for delay in self.network.delays:
            self.clear_ring(delay)

    def restart(self, name: str, row: Array) -> None:
        """Put a state of all samples before the first step."""
        self.states[name] = self.buffer((name, "state"), (self.samples, row.size), row.dtype)
        self.states[name][:] = row

    def clear_ring(self, delay: Delay) -> None:
        """Forget what a delay has yet to bring."""
        port = self.network.ports[delay.name]
        shape = (self.samples, delay.steps, port.width)
        self._rings[delay.name] = self.buffer((delay.name, "ring"), shape, port.dtype)
        self._rings[delay.name][:] = 0

    def open_sums(self, steps: int) -> None:
        """Put counts, first spikes and highest potentials before the first of ``steps`` steps."""
        name = self.summed
        kind, held = self.network.signals[name].kind, self.states[f"{name}.v"]
        shape = (self.samples, self.network.ports[name].width)
        counts = self.buffer((name, "counts"), shape, np.int32 if kind == "spike" else np.int64)
        first = self.buffer((name, "first"), shape, np.int32)
        highest = self.buffer((name, "highest"), shape, held.dtype)
        counts[:], first[:], highest[:] = 0, steps, np.iinfo(held.dtype).min
        self.sums = (counts, first, highest)

    def summary(self) -> tuple[Array, ...]:
        """Counts, first spikes, last and highest potentials so far, each (samples, elements)."""
        port = self.network.ports[self.summed]
        counts, first, highest = self.sums
        last = self.states[f"{self.summed}.v"]
        return tuple(port.elements(lanes) for lanes in (counts, first, last, highest))

    def run(self) -> None:
        """Do the steps that the input was fed for."""
        for stage in self.network.stages:
            stage(self)
        for delay in self.network.delays:
            self._remember(delay)

    def advance(self) -> None:
        """Forget the edges of this block."""
        self.time += self.steps
        self.lanes.clear()
        self.lists.clear()

    @property
    def rows(self) -> int:
        """The steps of all samples in this block."""
        return self.samples * self.steps

    def buffer(self, use: tuple[str, str], shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory for one use of one node, the same in every block; zero when new."""
        view = self._views.get(use)
        if view is not None and view.shape == shape and view.dtype == dtype:
            return view
        size = prod(shape)
        held = self._buffers.get(use)
        if held is None or held.size < size or held.dtype != dtype:
            held = self._buffers[use] = aligned(size, dtype)
        self._views[use] = held[:size].reshape(shape)
        return self._views[use]

    def result(self, name: str) -> Array:
        """A buffer for the lanes of an edge, which they become."""
        port = self.network.ports[name]
        self.lanes[name] = self.buffer((name, "lanes"), (self.rows, port.width), port.dtype)
        return self.lanes[name]

    def cube(self, lanes: Array) -> Array:
        """Rows as (samples, steps, lanes)."""
        return lanes.reshape(self.samples, self.steps, lanes.shape[1])

    def elements(self, name: str, lanes: Array) -> Array:
        """Lanes of an edge with its elements in order; those without one stay at the end."""
        port = self.network.ports[name]
        return lanes if port.order is None else port.elements(lanes)

    def events(self, name: str) -> List:
        """The events on an edge."""
        name = self.network.origin[name]
        if name not in self.lists:
            port, lanes = self.network.ports[name], self.lanes[name]
            offsets = self.buffer((name, "offsets"), (self.rows + 1,), np.int64)
            room = (self.rows * port.size + 8,)
            index = self.buffer((name, "index"), room, index_type(port.size))
            wide = np.int64 if port.dtype.itemsize > 4 else np.int32
            values = self.buffer((name, "values"), room, wide) if port.valued else None
            assert self.network.compact is not None, "this network has lists"
            self.network.compact(lanes, port.size, offsets, index, values)
            self.lists[name] = (offsets[:-1], offsets[1:], index, values)
        return self.lists[name]

    def dense(self, name: str) -> Array:
        """The lanes of an edge, (rows, width)."""
        name = self.network.origin[name]
        if name not in self.lanes:
            _expand(*self.lists[name], self.result(name))
        return self.lanes[name]

    def feed(self, data: Array | Events, first: int, steps: int) -> None:
        """Bring the next ``steps`` steps of the samples from ``first`` on to the inputs."""
        inputs = self.network.graph.of_type(Input)
        self.steps = steps
        chunk, block = slice(first, first + self.samples), slice(self.time, self.time + steps)
        if isinstance(data, Events):
            grid = (len(data), data.steps)
            lo, hi = (end.reshape(grid)[chunk, block].ravel() for end in _ends(data))
            if len(inputs) == 1:
                self.lists[inputs[0].name] = (lo, hi, data.index, data.values)
                return
            rows = np.zeros((self.rows, data.size), np.int64)
            _expand(lo, hi, data.index, data.values, rows)
        else:
            rows = data[chunk, block].reshape(self.rows, -1)
        for node, place in places(inputs):
            part = rows[:, place]
            self.result(node.name)[:, : part.shape[1]] = part

    def delayed(self, delay: Delay) -> None:
        """Bring what the delay's source sent ``delay.steps`` steps ago to its edge."""
        out = self.cube(self.result(delay.name))
        ring = self._rings[delay.name]
        old = min(self.steps, delay.steps)
        out[:, :old] = ring[:, (self.time + np.arange(old)) % delay.steps]
        if old < self.steps:
            source = self._source(delay)
            out[:, old:, : source.shape[2]] = source[:, : self.steps - old]

    def _remember(self, delay: Delay) -> None:
        new = min(self.steps, delay.steps)
        last = self.time + self.steps - new + np.arange(new)
        source = self._source(delay)
        self._rings[delay.name][:, last % delay.steps, : source.shape[2]] = source[:, -new:]

    def _source(self, delay: Delay) -> Array:
        """The elements that a delay reads, which are its lanes."""
        port = self.network.ports[self.network.origin[delay.inputs[0]]]
        return port.elements(self.cube(self.dense(delay.inputs[0])))


Stage = Callable[[Machine], None]


def _expand(lo: Array, hi: Array, index: Array, values: Array | None, lanes: Array) -> None:
    """The inverse of `compact`."""
    counts = hi - lo
    before = np.cumsum(counts) - counts
    at = np.arange(counts.sum()) + np.repeat(lo - before, counts)
    lanes[:] = 0
    rows = np.repeat(np.arange(len(lo)), counts)
    lanes[rows, index[at]] = 1 if values is None else values[at]


def _ends(data: Events) -> tuple[Array, Array]:
    return data.offsets[:-1], data.offsets[1:]
