"""Plans for Loihi 2: most formats are fixed, so scales, widths and exponents are chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.choice import Choice, Choices
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.ir import Graph, Input, Lateral, Linear, Neuron, Node
from qspinn.neurons import integrator, spiking
from qspinn.passes.quantize import path_of
from qspinn.plan import Entry, Plan
from qspinn.planning import (
    choose_scale,
    connections_of,
    constant_entry,
    counter_entry,
    fitted,
    has_sign,
    input_plan,
    scaled_as,
    threshold_entry,
    threshold_held,
    top_of,
    weight,
    weight_format,
)
from qspinn.signals import signals

from .sums import dropping
from .table import (
    ACTIVATION,
    DECAY,
    INPUT_SHIFT,
    MANTISSA,
    MOST_BIAS_EXPONENT,
    WEIGHT_EXPONENTS,
)

CURRENT = QFormat(24, 6, True, -(2**23) + 1, 2**23)
MEMBRANE = QFormat(24, 6, True, -(2**23) + 1, 2**23 - 1)
THRESHOLD = QFormat(17, 0, signed=False)
UNIT = MEMBRANE.frac - INPUT_SHIFT
"""The binary point of what the hardware's synapses add up."""
WEIGHT = QFormat(8, -1)
_MOST_EXPONENT = 6
_GIVEN_UP = 1
_SAFE = 1.0 - 2.0**-10
_COARSE = 1.0 + 2.0**-7
"""A lateral weight has its own exponent: it is that much larger after rounding, at worst."""


def node_plan(
    graph: Graph, node: Node, calibration: Calibration, given: Plan, choices: Choices
) -> Plan:
    """The formats of a neuron node and of what feeds it, or what is said of an input.

    Args:
        graph: A canonical float graph.
        node: The node.
        calibration: What the graph does on data.
        given: What is settled already: the rest follows it.
        choices: What is asked beside the defaults.
    """
    if isinstance(node, Input):
        return input_plan(graph, node, calibration, choices)
    if not isinstance(node, Neuron):
        return Plan({})
    calibration = scaled_as(calibration, choices.get(f"{node.path}.scale", Choice()))
    if not calibration.group and not _stock(node):
        # No chip stores these thresholds, and a scale for each neuron rounds less.
        calibration = replace(calibration, group="channel")
    scale, assumed = _scale(graph, node, calibration, given, choices)
    entries: dict[str, Entry] = {}
    for connection in connections_of(graph, node):
        _connection(graph, connection, node, scale, calibration, choices, entries)
    _neurons(node, scale, choices, entries)
    if _stock(node):
        wanted = {
            c.name: fitted(c, scale, _weights(c, choices), calibration)
            for c in connections_of(graph, node)
            if isinstance(c, Linear)
        }
        entries |= dropping(graph, node, scale, wanted, entries, calibration, given, choices)
    options = {f"assume.{node.path}": str(assumed)} if assumed else {}
    return Plan(entries, {node.path: scale}, options)


def _weights(connection: Node, choices: Choices) -> Entry:
    """How weights are stored, but for their exponent: mantissas that fill 8 bits from the top.

    A ninth bit is asked for by name: the weights of either sign become a matrix of their own.
    """
    choice = choices.get(f"{connection.path}.weight", Choice())
    fmt = weight_format(choice, WEIGHT, signed=has_sign(connection))
    if fmt.bits > WEIGHT.bits:
        top = (1 << WEIGHT.bits) - 1
        fmt = QFormat(fmt.bits, 0, True, -top if has_sign(connection) else 0, top)
    elif fmt.signed and fmt.bits > 1 and fmt.lo is None and not (weight(connection) > 0).any():
        # The chip knows the sign of inhibitory weights: all bits can be magnitude.
        fmt = QFormat(fmt.bits + 1, 0, True, 1 - (1 << fmt.bits), 0)
    top = fmt.bits + fmt.binary - fmt.signed
    return Entry(replace(fmt, frac=top - 8), _rounding(choice), Overflow.SATURATE)


def _rounding(choice: Choice) -> Rounding:
    return choice.rounding or Rounding.NEAREST_EVEN


def _scale(
    graph: Graph, node: Neuron, calibration: Calibration, given: Plan, choices: Choices
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

    def weights_of(connection: Node) -> Entry:
        entry = given.entries.get(f"{connection.path}.weight")
        return _weights(connection, choices) if entry is None else entry

    most = _most(graph, node, calibration)
    factor = np.minimum(choose_scale(graph, node, calibration, weights_of), most)
    worst = _activation(graph, node, factor, calibration)
    if worst > ACTIVATION:
        several = (c for c in connections_of(graph, node) if not isinstance(c, Lateral))
        places = min((UNIT - weights_of(c).fmt.frac for c in several), default=0)
        return _narrowed(node, factor, worst, calibration, places)
    biased = any("bias" in c.params() for c in connections_of(graph, node))
    if biased and "u" in node.states:
        spare = min(ACTIVATION / worst, float((most / factor).min()), 2.0**_MOST_EXPONENT)
        factor = factor * 2.0 ** int(np.floor(np.log2(spare)))
    return factor, 0


def _most(graph: Graph, node: Neuron, calibration: Calibration) -> float:
    """The largest scale whose weights, threshold and membrane biases fit mantissa and exponent."""
    heaviest = max(float(np.abs(weight(c)).max()) for c in connections_of(graph, node))
    heavy = top_of(WEIGHT) * WEIGHT.unit * 2.0**WEIGHT_EXPONENTS.hi
    held = threshold_held(node, calibration)
    biases = [node.values["bias"]] if "bias" in node.values else []
    if "u" not in node.states:
        found = (c.params().get("bias") for c in connections_of(graph, node))
        biases += [bias for bias in found if bias is not None]
    largest = sum(float(np.abs(bias.values).max()) for bias in biases)
    limit = MANTISSA * 2.0**MOST_BIAS_EXPONENT * MEMBRANE.unit
    return min(
        heavy / heaviest if heaviest else np.inf,
        THRESHOLD.range.hi / held if held else np.inf,
        limit / largest if largest else np.inf,
    )


def _narrowed(
    node: Neuron, factor: FloatArray, worst: float, calibration: Calibration, places: int
) -> tuple[FloatArray, int]:
    if not _stock(node):
        return factor, 0  # its own process model has no 16-bit register
    seen = calibration.currents.get(node.name, 0.0) * float(factor.max())
    if worst <= ACTIVATION * 2.0**_GIVEN_UP or seen == 0:
        return factor * _share(_SAFE * ACTIVATION / worst, places), 0
    half = ACTIVATION // 2 * _SAFE  # what was seen may double
    share = _share(min(1.0, half / seen), places)
    return factor * share, int(np.ceil(share * seen))


def _share(most: float, places: int) -> float:
    """The part of a scale to keep: by halving, while weights of few bits have places to go down.

    Their levels were fitted to the scale, and move only by factors of two.
    """
    halvings = int(np.ceil(-np.log2(most)))
    return 2.0**-halvings if places > _GIVEN_UP and halvings <= places else most


def _binds(graph: Graph, node: Neuron) -> str:
    """What keeps weights on whole units of the summed input; empty: nothing does."""
    if _stock(node):
        return "the summed input of 16 bits"
    lateral = any(isinstance(c, Lateral) for c in connections_of(graph, node))
    return f"inhibition up to the exponent {WEIGHT_EXPONENTS.hi}" if lateral else ""


def _stock(node: Neuron) -> bool:
    """Whether Lava's own LIF process is this neuron, so that the hardware's registers count."""
    leak, bias = "decay" in node.values, "bias" in node.values
    synapse = "new" if "u" in node.states else ""
    fires = spiking(leak=leak, bias=bias, synapse=synapse)
    holds = integrator(leak=leak, bias=bias, synapse=synapse)
    return node.model.ops in (fires.ops, holds.ops)


def _largest(calibration: Calibration) -> float:
    """The largest magnitude of a value that enters."""
    return max((abs(x) for ends in calibration.input_ranges.values() for x in ends), default=1.0)


def _activation(graph: Graph, node: Neuron, factor: FloatArray, calibration: Calibration) -> float:
    """The worst case of a neuron's summed input, in scaled units, rounding included."""
    known = signals(graph)
    total = 0.0
    for connection in connections_of(graph, node):
        rows = weight(connection)
        if isinstance(connection, Lateral):  # all others count
            size = known[connection.name].size
            rows = np.broadcast_to(rows * _COARSE, (max(len(rows), factor.size), 1)) * (size - 1)
        rows = rows * np.broadcast_to(factor.reshape(-1), (len(rows),))[:, None]
        worst = np.maximum(np.maximum(rows, 0).sum(1), np.maximum(-rows, 0).sum(1))
        span = known[connection.inputs[0]].interval
        most = span.hi if span else _largest(calibration)
        total += float(worst.max() + rows.shape[1]) * most
        bias = connection.params().get("bias")
        total += 0.0 if bias is None else float(np.abs(bias.values * factor.reshape(-1)).max())
    return total


def _connection(
    graph: Graph,
    connection: Node,
    node: Neuron,
    factor: FloatArray,
    calibration: Calibration,
    choices: Choices,
    entries: dict[str, Entry],
) -> None:
    for name, param in connection.params().items():
        path = path_of(connection, name)
        fmt, note = fitted(connection, factor, _weights(connection, choices), calibration), ""
        binds = _binds(graph, node)
        if name != "bias" and binds and fmt.frac > UNIT:
            largest = float(np.abs(param.values).max() * factor.max())
            fmt = replace(fmt, frac=UNIT)
            note = f"at most {largest:.0f}: {binds} leaves no more"
        if name == "bias" and "u" not in node.states:
            fmt = _bias(param.values, factor)
        elif name == "bias":
            fmt = _line(param.values * factor.reshape(-1))
        rounding = _rounding(choices.get(path, Choice()))
        entries[path] = Entry(fmt, rounding, Overflow.SATURATE, note=note)


def _line(scaled: FloatArray) -> QFormat:
    """What a bias of a synaptic current rounds to: two synapses of a line hold 15 bits.

    It acts in every step, so that a coarse one shifts what a neuron does for good.
    """
    most = QFormat(15, 0).range.hi
    reach = float(np.abs(scaled).max())
    return QFormat(15, -max(0, int(np.ceil(np.log2(max(reach, 1e-9) / most)))))


def _bias(values: FloatArray, factor: FloatArray) -> QFormat:
    """Mantissa and exponent at the membrane's point: the smallest exponent that fits."""
    reach = float(np.abs(values).max()) * float(factor.max()) * 64.0
    exp = max(0, int(np.ceil(np.log2(max(reach, 1e-9) / MANTISSA))))
    return QFormat(13, 6 - min(exp, MOST_BIAS_EXPONENT), True, -MANTISSA, MANTISSA)


def _neurons(node: Neuron, factor: FloatArray, choices: Choices, entries: dict[str, Entry]) -> None:
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
        rounding = _rounding(choices.get(path, Choice()))
        if name in node.model.coefficients:
            entries[path] = Entry(DECAY, Rounding.ZERO, role="fixed")
        elif name == "threshold":
            entries[path] = threshold_entry(node, THRESHOLD, factor, "fixed", rounding)
        elif name == "bias":
            fmt = _bias(param.values, factor)
            entries[path] = Entry(fmt, rounding, Overflow.SATURATE)
        elif name in node.model.scaled:
            entries[path] = Entry(MEMBRANE, rounding, Overflow.SATURATE, "fixed")
        else:
            entries[path] = constant_entry(node, name)
