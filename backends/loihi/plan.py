"""The default plan for Loihi 2: formats are fixed, so scales and exponents are chosen."""

from __future__ import annotations

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.ir import Graph, Input, Neuron, Node
from qspinn.neurons import integrator, spiking
from qspinn.passes.quantize import path_of
from qspinn.plan import Entry, Plan
from qspinn.planning import (
    choose_scale,
    connections_of,
    constant_entry,
    counter_entry,
    exponent,
    in_graph_order,
    weight,
)
from qspinn.signals import signals

CURRENT = QFormat(24, 6, True, -(2**23) + 1, 2**23)
MEMBRANE = QFormat(24, 6, True, -(2**23) + 1, 2**23 - 1)
DECAY = QFormat(13, 12, signed=False)
THRESHOLD = QFormat(17, 0, signed=False)
MANTISSA = 4095
ACTIVATION = 32767
"""The largest summed input of a neuron in a step that the 16-bit activation holds."""
_TOP = 127
_MOST_EXPONENT = 6
_GIVEN_UP = 1
_SAFE = 1.0 - 2.0**-10


def default_plan(graph: Graph, calibration: Calibration) -> Plan:
    """Formats for every parameter and state of a canonical float graph."""
    entries: dict[str, Entry] = {}
    scales: dict[str, FloatArray] = {}
    options: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Input) and node.kind == "current":
            entries[f"{node.path}.value"] = Entry(QFormat(8, 7))
        elif isinstance(node, Neuron):
            scales[node.path], assumed = _scale(graph, node, calibration)
            if assumed:
                options[f"assume.{node.path}"] = str(assumed)
            for connection in connections_of(graph, node):
                _connection(connection, node, scales[node.path], calibration, entries)
            _neurons(node, scales[node.path], entries)
    return Plan(in_graph_order(entries, graph), scales, options)


def _scale(graph: Graph, node: Neuron, calibration: Calibration) -> tuple[FloatArray, int]:
    """The scale, and the activation's observed peak where its 16 bits are assumed, not proved.

    Mixed-sign weights are even numbers up to 254, and the summed input must stay within 16 bits.
    That is proved where a scale smaller by at most `_GIVEN_UP` bits does it. Where a bias enters
    a synaptic current it becomes a weight, too: the scale is then as large as the activation
    allows, which makes the bias finer (the weights get exponents instead).
    """
    factor = 2.0 * choose_scale(graph, node, calibration, top=_TOP)
    worst = _activation(graph, node, factor)
    if worst > ACTIVATION:
        return _narrowed(node, factor, worst, calibration)
    biased = any("bias" in c.params() for c in connections_of(graph, node))
    if biased and "u" in node.states:
        spare = int(np.floor(np.log2(ACTIVATION / worst)))
        factor = factor * 2.0 ** min(spare, _MOST_EXPONENT)
    return factor, 0


def _narrowed(
    node: Neuron, factor: FloatArray, worst: float, calibration: Calibration
) -> tuple[FloatArray, int]:
    if not _stock(node):
        return factor, 0  # its own process model has no 16-bit register
    seen = calibration.currents.get(node.name, 0.0) * float(factor.max())
    if worst <= ACTIVATION * 2.0**_GIVEN_UP or seen == 0:
        return factor * (_SAFE * ACTIVATION / worst), 0
    half = ACTIVATION // 2 * _SAFE  # what was seen may double
    return factor * min(1.0, half / seen), int(np.ceil(min(seen, half)))


def _stock(node: Neuron) -> bool:
    """Whether Lava's own LIF process is this neuron, so that the hardware's registers count."""
    leak, bias = "decay" in node.values, "bias" in node.values
    synapse = "new" if "u" in node.states else ""
    fires = spiking(leak=leak, bias=bias, synapse=synapse)
    holds = integrator(leak=leak, bias=bias, synapse=synapse)
    return node.model.ops in (fires.ops, holds.ops)


def _activation(graph: Graph, node: Neuron, factor: FloatArray) -> float:
    """The worst case of a neuron's summed input, in scaled units, rounding included."""
    known = signals(graph)
    total = 0.0
    for connection in connections_of(graph, node):
        rows = weight(connection)
        rows = rows * np.broadcast_to(factor.reshape(-1), (len(rows),))[:, None]
        worst = np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
        span = known[connection.inputs[0]].interval
        total += float(worst.max() + rows.shape[1]) * (span.hi if span else 1)
        bias = connection.params().get("bias")
        total += 0.0 if bias is None else float(np.abs(bias.values).max() * factor.max())
    return total


def _connection(
    connection: Node,
    node: Neuron,
    factor: FloatArray,
    calibration: Calibration,
    entries: dict[str, Entry],
) -> None:
    halvings = exponent(connection, factor / 2.0, _TOP, calibration)
    for name, param in connection.params().items():
        fmt = QFormat(8, -1 - halvings)
        if name == "bias" and "u" not in node.states:
            fmt = _bias(param.values, factor)
        elif name == "bias":
            reach = float(np.abs(param.values * factor.reshape(-1)).max()) / 2.0
            fmt = QFormat(8, -1 - max(0, int(np.ceil(np.log2(max(reach, 1e-9) / _TOP)))))
        entries[path_of(connection, name)] = Entry(fmt, overflow=Overflow.SATURATE)


def _bias(values: FloatArray, factor: FloatArray) -> QFormat:
    """Mantissa and exponent at the membrane's point: the smallest exponent that fits."""
    reach = float(np.abs(values).max()) * float(factor.max()) * 64.0
    exp = max(0, int(np.ceil(np.log2(max(reach, 1e-9) / MANTISSA))))
    return QFormat(13, 6 - min(exp, 7), True, -MANTISSA, MANTISSA)


def _neurons(node: Neuron, factor: FloatArray, entries: dict[str, Entry]) -> None:
    for name in node.states:
        path = f"{node.path}.{name}"
        if name not in node.model.scaled:
            entries[path] = counter_entry(node, name)
        elif name == "u":
            entries[path] = Entry(CURRENT, Rounding.ZERO, Overflow.WRAP, "fixed")
        else:
            entries[path] = Entry(MEMBRANE, Rounding.ZERO, Overflow.SATURATE, "fixed")
    for name, param in node.values.items():
        path = f"{node.path}.{name}"
        if name in node.model.coefficients:
            entries[path] = Entry(DECAY, Rounding.ZERO, role="fixed")
        elif name == "threshold":
            entries[path] = Entry(THRESHOLD, role="fixed")
        elif name == "bias":
            fmt = _bias(param.values, factor)
            entries[path] = Entry(fmt, overflow=Overflow.SATURATE)
        elif name in node.model.scaled:
            entries[path] = Entry(MEMBRANE, overflow=Overflow.SATURATE, role="fixed")
        else:
            entries[path] = constant_entry(node, name)
