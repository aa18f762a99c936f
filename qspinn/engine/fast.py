"""Networks of compiled stages: events in, events out. Importing this file imports numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from qspinn.engine import kernels
from qspinn.engine.layout import Even, Port, Runs, Table, port, table
from qspinn.engine.machine import Machine, Network, Stage
from qspinn.engine.printed import Neurons, neurons
from qspinn.errors import located
from qspinn.fixed import Interval
from qspinn.ir import (
    CONNECTIONS,
    Array,
    Delay,
    Flatten,
    Graph,
    Input,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    SumPool2d,
)
from qspinn.lowering import program
from qspinn.signals import Signal, infer, summed

_CACHE = 1 << 21
"""Small enough for most second caches, large enough to hide what a call from Python costs."""


@dataclass(frozen=True, eq=False)
class Part:
    """One node made ready to run.

    Attributes:
        node: The node.
        signal: The type of its edge.
        port: The memory layout of its edge.
        link: A number for these two: equal where all that reads the edge can be the same.
        stage: What it does in a block; None: nothing.
        start: The first row of each state, in lanes.
    """

    node: Node
    signal: Signal
    port: Port
    link: int
    stage: Stage | None = None
    start: Mapping[str, Array] = field(default_factory=dict)


def network(graph: Graph) -> Network:
    """Make an integer graph ready to run on compiled loops."""
    return assembled(graph, Workshop().parts(graph))


def assembled(graph: Graph, parts: Sequence[Part]) -> Network:
    """The network of a graph and the parts of its nodes."""
    start = {f"{p.node.name}.{state}": row for p in parts for state, row in p.start.items()}
    return Network(
        graph,
        {part.node.name: part.signal for part in parts},
        {part.node.name: part.port for part in parts},
        tuple(part.stage for part in parts if part.stage),
        start, _CACHE, kernels.summarize, kernels.compact, sums=True,
    )  # fmt: skip


class Workshop:
    """Makes parts; a node that graphs share is one part wherever it reads edges of one kind."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, ...], Part] = {}
        self.links: dict[tuple[Signal, int], int] = {}
        self.orders: dict[bytes, Array] = {}

    def parts(self, graph: Graph) -> tuple[Part, ...]:
        """The parts of a verified graph, in the order of its nodes."""
        found: dict[str, Part] = {}
        for node in graph.nodes:
            if isinstance(node, Delay):  # it may stand before what it reads
                found[node.name] = self.part(node, ())
        for node in graph.nodes:
            if not isinstance(node, Delay):
                found[node.name] = self.part(node, tuple(found[name] for name in node.inputs))
        return tuple(found[node.name] for node in graph.nodes)

    def part(self, node: Node, args: tuple[Part, ...]) -> Part:
        """The part of a node that reads the edges of ``args``."""
        key = (id(node), *(part.link for part in args))
        if key not in self.made:
            self.made[key] = self._make(node, args)
        return self.made[key]

    def _make(self, node: Node, args: tuple[Part, ...]) -> Part:
        with located(node.name):
            if isinstance(node, Delay):
                y = Signal(node.shape, node.kind, Interval(0, node.high))
                return self._finished(node, y, port(y), partial(Machine.delayed, delay=node))
            y = infer(node, tuple(part.signal for part in args))
        if isinstance(node, Input):
            return self._finished(node, y, port(y))
        if isinstance(node, Flatten | Output):
            return self._finished(node, y, args[0].port)
        if isinstance(node, Neuron):
            return self._neurons(node, y, args)
        assert isinstance(node, (*CONNECTIONS, SumPool2d, MaxPool2d)), type(node)
        made = table(node, args[0].signal, y, args[0].port.order)
        return self._finished(node, y, made.port, _connection(node, made))

    def _neurons(self, node: Neuron, y: Signal, args: tuple[Part, ...]) -> Part:
        signals = tuple(part.signal for part in args)
        total = port(summed(signals), args[0].port.order)
        out = port(y, total.order)
        body = neurons(node, program(node, signals), out)
        shifts = tuple(summed(signals).frac - x.frac for x in signals)
        start = dict(zip(body.states, body.start, strict=True))
        return self._finished(node, y, out, _Layer(node, body, total, shifts), start)

    def _finished(
        self, node: Node, y: Signal, lanes: Port, stage: Stage | None = None,
        start: Mapping[str, Array] | None = None,
    ) -> Part:  # fmt: skip
        order = -1
        if lanes.order is not None:
            order = id(self.orders.setdefault(lanes.order.tobytes(), lanes.order))
        link = self.links.setdefault((y, order), len(self.links))
        return Part(node, y, lanes, link, stage, start or {})


def _connection(node: Node, made: Table) -> Stage:
    body = made.body
    if isinstance(node, MaxPool2d):
        assert isinstance(body, Runs), "pools have runs"
        return _Product(node, made.port, kernels.highest, (body.first, body.to))
    if isinstance(body, Even):
        return _Product(node, made.port, kernels.lateral, (body.weights,))
    if isinstance(body, Runs):
        runs = (body.first, body.to, body.source, body.length)
        return _Product(node, made.port, kernels.scatter, (*runs, body.weights, body.start))
    if body.moves is None:
        return _Product(node, made.port, kernels.linear, (body.weights, body.start))
    pairs = (body.weights, body.start, body.moves)
    return _Product(node, made.port, kernels.linear_pairs, pairs)


@dataclass(frozen=True, eq=False)
class _Product:
    """The stage of a connection or a pool."""

    node: Node
    port: Port
    kernel: Callable[..., None]
    arrays: tuple[Array, ...]

    def __call__(self, machine: Machine) -> None:
        name, source = self.node.name, machine.network.origin[self.node.inputs[0]]
        lo, hi, index, values = machine.events(source)
        out = machine.result(name)
        if source not in machine.constant:
            self.kernel(lo, hi, index, values, *self.arrays, out)
            return
        # Every step brings the same: one of each sample is enough.
        lo, hi = lo[:: machine.steps].copy(), hi[:: machine.steps].copy()
        once = machine.buffer((name, "once"), (machine.samples, self.port.width), self.port.dtype)
        self.kernel(lo, hi, index, values, *self.arrays, once)
        machine.cube(out)[:] = once[:, None]


@dataclass(frozen=True, eq=False)
class _Layer:
    """The stage of a neuron node."""

    node: Neuron
    body: Neurons
    total: Port
    shifts: tuple[int, ...]

    def __call__(self, machine: Machine) -> None:
        name, width = self.node.name, self.total.width
        states = tuple(machine.states[f"{name}.{state}"] for state in self.body.states)
        traces = None
        if name in machine.keep:
            cube = (machine.samples, machine.steps, width)
            traces = tuple(
                machine.buffer((f"{name}.{state}", "trace"), cube, held.dtype)
                for state, held in zip(self.body.states, states, strict=True)
            )
            for state, trace in zip(self.body.states, traces, strict=True):
                machine.traces[f"{name}.{state}"] = trace
        current = machine.cube(self.current(machine))
        if name == machine.summed:
            self.body.run(machine.time, current, None, states, traces, machine.sums)
        else:
            sent = machine.cube(machine.result(name))
            self.body.run(machine.time, current, sent, states, traces)

    def current(self, machine: Machine) -> Array:
        """The sum of all currents at the finest binary point, in the order of the first one."""
        if len(self.node.inputs) == 1:
            return machine.dense(self.node.inputs[0])
        total = self.total
        shape = (machine.rows, total.width)
        lanes = machine.buffer((self.node.name, "current"), shape, total.dtype)
        for i, (name, shift) in enumerate(zip(self.node.inputs, self.shifts, strict=True)):
            part = self.aligned(machine, name)
            if i == 0:
                np.left_shift(part, shift, out=lanes, dtype=total.dtype, casting="same_kind")
            else:
                lanes += np.left_shift(part, shift, dtype=total.dtype, casting="same_kind")
        return lanes

    def aligned(self, machine: Machine, name: str) -> Array:
        """A current with its lanes in the order of the sum."""
        own, lanes = machine.network.ports[name], machine.dense(name)
        order = self.total.order
        if own.order is order or _equal(own.order, order):
            return lanes
        elements = own.elements(lanes)
        moved = np.zeros_like(lanes)
        moved[:, : own.size] = elements if order is None else elements[:, order]
        return moved


def _equal(one: Array | None, other: Array | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)
