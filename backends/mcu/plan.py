"""The default plan for microcontrollers: 8-bit weights, 16-bit states and constants."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.ir import Graph, Input, Neuron, Node
from qspinn.passes.quantize import path_of
from qspinn.plan import Entry, Plan
from qspinn.planning import (
    choose_scale,
    connections_of,
    constant_entry,
    counter_entry,
    fitted,
    in_graph_order,
    point,
    reach_of,
    threshold_entry,
    value_entry,
)

WEIGHT = QFormat(8, 0)
STATE_BITS = 16
ROOM = (1 << (STATE_BITS - 1)) - 1
DECAY = QFormat(13, 12, signed=False)
MARGIN = 1.25
"""Room above the observed peak of a state; beyond it the state saturates."""
FINEST = 10


def default_plan(graph: Graph, calibration: Calibration, given: Plan) -> Plan:
    """Formats for every parameter and state of a canonical float graph.

    Args:
        graph: The graph.
        calibration: What it does on data.
        given: What is settled already: the rest follows it.
    """
    build = _Build(graph, calibration, given)
    for node in graph.nodes:
        if isinstance(node, Input) and node.kind == "current":
            build.entries[f"{node.path}.value"] = value_entry(calibration)
        elif isinstance(node, Neuron):
            build.neurons(node)
    return Plan(in_graph_order(build.entries, graph), build.scales)


@dataclass
class _Build:
    """The plan under construction."""

    graph: Graph
    calibration: Calibration
    given: Plan
    entries: dict[str, Entry] = field(default_factory=dict)
    scales: dict[str, FloatArray] = field(default_factory=dict)

    def weights_of(self, connection: Node) -> QFormat:
        """The format of a connection's weights: the one given, or the default."""
        entry = self.given.entries.get(f"{connection.path}.weight")
        return WEIGHT if entry is None else entry.fmt

    def neurons(self, node: Neuron) -> None:
        """Choose the scale of a neuron node, and every format that follows from it."""
        held = self.given.entries.get(f"{node.path}.v")
        unit = float(reach_of(node, "v", np.ones(()), self.calibration)) * MARGIN
        if node.path in self.given.scales:
            factor = self.given.scales[node.path]
        else:
            factor = choose_scale(self.graph, node, self.calibration, self.weights_of)
            room = ROOM if held is None else held.fmt.range.hi * held.fmt.unit
            # A state must reach this far: leave the weights fewer bits.
            factor = np.minimum(factor, room / unit) if unit > 0 else factor
        self.scales[node.path] = factor
        frac = point(unit * float(factor.max()), ROOM, FINEST)
        membrane = QFormat(STATE_BITS, frac) if held is None else held.fmt
        for connection in connections_of(self.graph, node):
            self.connection(connection, factor, membrane)
        for name in node.states:
            self.entries[f"{node.path}.{name}"] = self.state(node, name, factor, membrane)
        for name in node.values:
            self.entries[f"{node.path}.{name}"] = _constant(node, name, factor, membrane)

    def connection(self, connection: Node, factor: FloatArray, membrane: QFormat) -> None:
        """Weights with a point of their own; a bias as fine as the membrane, if it fits."""
        for name, param in connection.params().items():
            path = path_of(connection, name)
            if name == "bias":
                reach = float(np.abs(param.values * factor.reshape(-1)).max())
                fine = min(membrane.frac, point(reach, ROOM, membrane.frac))
                self.entries[path] = Entry(QFormat(STATE_BITS, fine), overflow=Overflow.SATURATE)
            else:
                fmt = fitted(connection, factor, WEIGHT, self.calibration)
                self.entries[path] = Entry(fmt, overflow=Overflow.SATURATE)

    def state(self, node: Neuron, name: str, factor: FloatArray, membrane: QFormat) -> Entry:
        """A state's format: wide enough for what was seen, and saturating beyond."""
        if name not in node.model.scaled:
            return counter_entry(node, name)
        fmt = membrane
        if name != "v":
            reach = float(reach_of(node, name, factor, self.calibration).max()) * MARGIN
            fmt = QFormat(STATE_BITS, point(reach, ROOM, FINEST))
        return Entry(fmt, Rounding.FLOOR, Overflow.SATURATE)


def _constant(node: Neuron, name: str, factor: FloatArray, membrane: QFormat) -> Entry:
    if name in node.model.coefficients:
        return Entry(DECAY, Rounding.FLOOR)
    if name not in node.model.scaled:
        return constant_entry(node, name)
    if name == "threshold":
        return threshold_entry(node, membrane, factor, "shared")
    role = "free" if name == "bias" else "shared"
    return Entry(membrane, overflow=Overflow.SATURATE, role=role)
