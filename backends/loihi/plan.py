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
    fitted,
    in_graph_order,
    threshold_entry,
    threshold_held,
    top_of,
    value_entry,
    weight,
)
from qspinn.signals import signals

from .table import ACTIVATION, DECAY, MANTISSA, MOST_BIAS_EXPONENT

CURRENT = QFormat(24, 6, True, -(2**23) + 1, 2**23)
MEMBRANE = QFormat(24, 6, True, -(2**23) + 1, 2**23 - 1)
THRESHOLD = QFormat(17, 0, signed=False)
WEIGHT = QFormat(8, -1)
_MOST_EXPONENT = 6
_GIVEN_UP = 1
_SAFE = 1.0 - 2.0**-10


def default_plan(graph: Graph, calibration: Calibration, given: Plan) -> Plan:
    """Formats for every parameter and state of a canonical float graph.

    Args:
        graph: The graph.
        calibration: What it does on data.
        given: What is settled already: the rest follows it.
    """
    entries: dict[str, Entry] = {}
    scales: dict[str, FloatArray] = {}
    options: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Input) and node.kind == "current":
            entries[f"{node.path}.value"] = value_entry(calibration)
        elif isinstance(node, Neuron):
            scales[node.path], assumed = _scale(graph, node, calibration, given)
            if assumed:
                options[f"assume.{node.path}"] = str(assumed)
            for connection in connections_of(graph, node):
                _connection(connection, node, scales[node.path], calibration, entries)
            _neurons(node, scales[node.path], entries)
    return Plan(in_graph_order(entries, graph), scales, options)


def _scale(
    graph: Graph, node: Neuron, calibration: Calibration, given: Plan
) -> tuple[FloatArray, int]:
    """The scale, and the activation's observed peak where its 16 bits are assumed, not proved.

    Mixed-sign weights are even numbers up to 254, and the summed input must stay within 16 bits.
    That is proved where a scale smaller by at most `_GIVEN_UP` bits does it. Where a bias enters
    a synaptic current it becomes a weight, too: the scale is then as large as the activation
    allows, which makes the bias finer (the weights get exponents instead).
    """
    if node.path in given.scales:
        factor = given.scales[node.path]
        proved = _activation(graph, node, factor, calibration) <= ACTIVATION
        seen = calibration.currents.get(node.name, 0.0) * float(factor.max())
        return factor, 0 if proved or not _stock(node) else int(np.ceil(seen))

    def weights_of(connection: Node) -> QFormat:
        entry = given.entries.get(f"{connection.path}.weight")
        return WEIGHT if entry is None else entry.fmt

    most = _most(graph, node, calibration)
    factor = np.minimum(choose_scale(graph, node, calibration, weights_of), most)
    worst = _activation(graph, node, factor, calibration)
    if worst > ACTIVATION:
        return _narrowed(node, factor, worst, calibration)
    biased = any("bias" in c.params() for c in connections_of(graph, node))
    if biased and "u" in node.states:
        spare = min(ACTIVATION / worst, float((most / factor).min()), 2.0**_MOST_EXPONENT)
        factor = factor * 2.0 ** int(np.floor(np.log2(spare)))
    return factor, 0


def _most(graph: Graph, node: Neuron, calibration: Calibration) -> float:
    """The largest scale whose threshold and membrane biases fit their mantissas."""
    held = threshold_held(node, calibration)
    biases = [node.values["bias"]] if "bias" in node.values else []
    if "u" not in node.states:
        found = (c.params().get("bias") for c in connections_of(graph, node))
        biases += [bias for bias in found if bias is not None]
    largest = sum(float(np.abs(bias.values).max()) for bias in biases)
    limit = MANTISSA * 2.0**MOST_BIAS_EXPONENT * MEMBRANE.unit
    return min(
        THRESHOLD.range.hi / held if held else np.inf, limit / largest if largest else np.inf
    )


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


def _activation(graph: Graph, node: Neuron, factor: FloatArray, calibration: Calibration) -> float:
    """The worst case of a neuron's summed input, in scaled units, rounding included."""
    known = signals(graph)
    total = 0.0
    for connection in connections_of(graph, node):
        rows = weight(connection)
        rows = rows * np.broadcast_to(factor.reshape(-1), (len(rows),))[:, None]
        worst = np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
        span = known[connection.inputs[0]].interval
        most = span.hi if span else max(map(abs, calibration.input_range))
        total += float(worst.max() + rows.shape[1]) * most
        bias = connection.params().get("bias")
        total += 0.0 if bias is None else float(np.abs(bias.values * factor.reshape(-1)).max())
    return total


def _connection(
    connection: Node,
    node: Neuron,
    factor: FloatArray,
    calibration: Calibration,
    entries: dict[str, Entry],
) -> None:
    for name, param in connection.params().items():
        fmt = fitted(connection, factor, WEIGHT, calibration)
        if name == "bias" and "u" not in node.states:
            fmt = _bias(param.values, factor)
        elif name == "bias":
            reach = float(np.abs(param.values * factor.reshape(-1)).max()) / 2.0
            fmt = QFormat(8, -1 - max(0, int(np.ceil(np.log2(max(reach, 1e-9) / top_of(WEIGHT))))))
        entries[path_of(connection, name)] = Entry(fmt, overflow=Overflow.SATURATE)


def _bias(values: FloatArray, factor: FloatArray) -> QFormat:
    """Mantissa and exponent at the membrane's point: the smallest exponent that fits."""
    reach = float(np.abs(values).max()) * float(factor.max()) * 64.0
    exp = max(0, int(np.ceil(np.log2(max(reach, 1e-9) / MANTISSA))))
    return QFormat(13, 6 - min(exp, MOST_BIAS_EXPONENT), True, -MANTISSA, MANTISSA)


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
            entries[path] = threshold_entry(node, THRESHOLD, factor, "fixed")
        elif name == "bias":
            fmt = _bias(param.values, factor)
            entries[path] = Entry(fmt, overflow=Overflow.SATURATE)
        elif name in node.model.scaled:
            entries[path] = Entry(MEMBRANE, overflow=Overflow.SATURATE, role="fixed")
        else:
            entries[path] = constant_entry(node, name)
