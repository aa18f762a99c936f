"""The default plan for microcontrollers: 8-bit weights, 16-bit states and constants."""

from __future__ import annotations

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.ir import CONNECTIONS, Graph, Input, Neuron, Node
from qspinn.passes.quantize import path_of
from qspinn.plan import Entry, Plan
from qspinn.planning import (
    choose_scale,
    connections_of,
    constant_entry,
    counter_entry,
    exponent,
    in_graph_order,
    point,
    reach_of,
)

WEIGHT_BITS = 8
STATE_BITS = 16
DECAY = QFormat(13, 12, signed=False)
MARGIN = 1.25
"""Room above the observed peak of a state; beyond it the state saturates."""
FINEST = 10


def default_plan(graph: Graph, calibration: Calibration) -> Plan:
    """Formats for every parameter and state of a canonical float graph."""
    entries: dict[str, Entry] = {}
    scales: dict[str, FloatArray] = {}
    for node in graph.nodes:
        if isinstance(node, Input) and node.kind == "current":
            entries[f"{node.path}.value"] = Entry(QFormat(8, 7, signed=True))
        elif isinstance(node, Neuron):
            _neurons(graph, node, calibration, entries, scales)
    return Plan(in_graph_order(entries, graph), scales)


def _neurons(
    graph: Graph,
    node: Neuron,
    calibration: Calibration,
    entries: dict[str, Entry],
    scales: dict[str, FloatArray],
) -> None:
    top = (1 << (WEIGHT_BITS - 1)) - 1
    factor = choose_scale(graph, node, calibration, top=top)
    room = (1 << (STATE_BITS - 1)) - 1
    reach = reach_of(node, "v", factor, calibration) * MARGIN
    if reach > room:  # a state must reach this far: leave the weights fewer bits
        factor = factor * (room / reach)
        reach = float(room)
    scales[node.path] = factor
    frac = max(0, point(reach, room, FINEST))
    for connection in connections_of(graph, node):
        _connection(connection, factor, frac, calibration, entries)
    for name in node.states:
        entries[f"{node.path}.{name}"] = _state(node, name, factor, frac, calibration)
    for name in node.values:
        path = f"{node.path}.{name}"
        if name in node.model.coefficients:
            entries[path] = Entry(DECAY, Rounding.FLOOR)
        elif name in node.model.scaled:
            role = "shared" if name != "bias" else "free"
            fmt = QFormat(STATE_BITS, frac)
            note = f"with {node.path}.v" if role == "shared" else ""
            entries[path] = Entry(fmt, overflow=Overflow.SATURATE, role=role, note=note)
        else:
            entries[path] = constant_entry(node, name)


def _connection(
    connection: Node,
    factor: FloatArray,
    frac: int,
    calibration: Calibration,
    entries: dict[str, Entry],
) -> None:
    assert isinstance(connection, CONNECTIONS), "canonical graphs feed neurons by connections"
    top = (1 << (WEIGHT_BITS - 1)) - 1
    halvings = exponent(connection, factor, top, calibration)
    for name, param in connection.params().items():
        path = path_of(connection, name)
        if name == "bias":
            reach = float(np.abs(param.values * factor.reshape(-1)).max())
            fine = min(frac, point(reach, (1 << (STATE_BITS - 1)) - 1, frac))
            entries[path] = Entry(QFormat(STATE_BITS, fine), overflow=Overflow.SATURATE)
        else:
            fmt = QFormat(WEIGHT_BITS, -halvings)
            entries[path] = Entry(fmt, overflow=Overflow.SATURATE)


def _state(
    node: Neuron, name: str, factor: FloatArray, frac: int, calibration: Calibration
) -> Entry:
    if name not in node.model.scaled:  # a counter or the neuron's own last spike
        return counter_entry(node, name)
    if name != "v":
        room = (1 << (STATE_BITS - 1)) - 1
        reach = reach_of(node, name, factor, calibration) * MARGIN
        frac = max(0, point(reach, room, FINEST))
    return Entry(QFormat(STATE_BITS, frac), Rounding.FLOOR, Overflow.SATURATE)
