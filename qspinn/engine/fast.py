"""Networks of compiled stages: events in, events out. Importing this file imports numba."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from qspinn.engine import kernels
from qspinn.engine.layout import Port, Runs, Table, port, table
from qspinn.engine.machine import Machine, Network, Stage
from qspinn.engine.printed import Neurons, neurons
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
from qspinn.lowering import programs
from qspinn.signals import Signals, signals, summed

_CACHE = 1 << 20
"""Small enough for most second caches, large enough to hide what a call from Python costs."""


def network(graph: Graph) -> Network:
    """Make an integer graph ready to run on compiled loops."""
    return _Build(graph).network()


class _Build:
    """Ports and stages, node by node."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.signals: Signals = signals(graph)
        self.programs = programs(graph)
        self.ports: dict[str, Port] = {}
        self.stages: list[Stage] = []
        self.start: dict[str, Array] = {}

    def network(self) -> Network:
        for node in self.graph.nodes:
            self.add(node)
        return Network(
            self.graph, self.signals, self.ports, tuple(self.stages), self.start, _CACHE,
            kernels.summarize, kernels.compact,
        )  # fmt: skip

    def add(self, node: Node) -> None:
        y = self.signals[node.name]
        if isinstance(node, Input):
            self.ports[node.name] = port(y)
        elif isinstance(node, Delay):
            self.ports[node.name] = port(y)
            self.stages.append(partial(Machine.delayed, delay=node))
        elif isinstance(node, Flatten | Output):
            self.ports[node.name] = self.ports[node.inputs[0]]
        elif isinstance(node, Neuron):
            self.stages.append(self.neurons(node))
        else:
            assert isinstance(node, (*CONNECTIONS, SumPool2d, MaxPool2d)), type(node)
            x = self.signals[node.inputs[0]]
            made = table(node, x, y, self.ports[node.inputs[0]].order)
            self.ports[node.name] = made.port
            self.stages.append(_connection(node, made))

    def neurons(self, node: Neuron) -> Stage:
        args = tuple(self.signals[name] for name in node.inputs)
        total = port(summed(args), self.ports[node.inputs[0]].order)
        out = port(self.signals[node.name], total.order)
        self.ports[node.name] = out
        body = neurons(node, self.programs[node.name], out)
        for name, row in zip(body.states, body.start, strict=True):
            self.start[f"{node.name}.{name}"] = row
        shifts = tuple(summed(args).frac - x.frac for x in args)
        return _Layer(node, body, total, shifts)


def _connection(node: Node, made: Table) -> Stage:
    source, name, body = node.inputs[0], node.name, made.body
    if isinstance(node, MaxPool2d):
        assert isinstance(body, Runs), "pools have runs"
        return lambda machine: kernels.highest(
            *machine.events(source), body.first, body.to, machine.result(name)
        )
    if isinstance(body, Runs):
        arrays = (body.first, body.to, body.source, body.length, body.weights, body.start)
        return lambda machine: kernels.scatter(
            *machine.events(source), *arrays, machine.result(name)
        )
    return lambda machine: kernels.linear(
        *machine.events(source), body.weights, body.start, machine.result(name)
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """The stage of a neuron node."""

    node: Neuron
    body: Neurons
    total: Port
    shifts: tuple[int, ...]

    def __call__(self, machine: Machine) -> None:
        name, total = self.node.name, self.total
        keep = name in machine.keep
        states = [machine.states[f"{name}.{state}"] for state in self.body.states]
        traces = [
            machine.buffer(
                (f"{name}.{state}", "trace"),
                (machine.samples, machine.steps if keep else 0, total.width),
                held.dtype,
            )
            for state, held in zip(self.body.states, states, strict=True)
        ]
        current, sent = machine.cube(self.current(machine)), machine.cube(machine.result(name))
        arrays = (*states, *traces, *self.body.constants)
        self.body.run(total.size, machine.time, current, sent, keep, *arrays)
        if keep:
            for state, trace in zip(self.body.states, traces, strict=True):
                machine.traces[f"{name}.{state}"] = trace

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
