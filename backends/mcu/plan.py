"""Plans for microcontrollers: 8-bit weights, 16-bit states and constants, unless chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.choice import Choice, Choices
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.ir import Graph, Input, Lateral, Neuron, Node
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
    point,
    reach_of,
    scaled_as,
    threshold_entry,
    threshold_held,
    top_of,
    weight_format,
)

WEIGHT = QFormat(8, 0)
LATERAL = QFormat(16, 0)
"""A single number becomes code: few bits would save nothing."""
STATE_BITS, WIDE_BITS, BYTE = 16, 32, 8
DECAY_BITS = 12
LEAK_BITS = 4
MARGIN = 1.25
"""Room above the observed peak of a state; beyond it the state saturates."""
FINEST = 10
FEW = 16
"""Weights of fewer levels of one sign keep them where a narrow membrane takes their scale."""


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
    if isinstance(node, Neuron):
        scaled = scaled_as(calibration, choices.get(f"{node.path}.scale", Choice()))
        return _Layer(graph, node, scaled, given, choices).plan()
    return Plan({})


def room(bits: int, *, signed: bool = True) -> int:
    """The largest integer that a format of so many bits holds."""
    return (1 << (bits - signed)) - 1


def thresholds(bits: int) -> float:
    """How many times the threshold a narrow membrane holds, at most.

    Of every two bits beyond three one makes the steps finer, the other the range wider.
    """
    return float(max(1.5, 2.0 ** ((bits - 3) / 2)))


@dataclass(frozen=True)
class _Layer:
    """A neuron node whose formats are chosen."""

    graph: Graph
    node: Neuron
    calibration: Calibration
    given: Plan
    choices: Choices

    def choice(self, path: str) -> Choice:
        return self.choices.get(path, Choice())

    def plan(self) -> Plan:
        """The scale, and every format that follows from it."""
        node, entries = self.node, dict[str, Entry]()
        factor = self.factor()
        membrane = self.membrane(factor)
        for connection in connections_of(self.graph, node):
            entries.update(self.connection(connection, factor, membrane))
        for name in node.states:
            entries[f"{node.path}.{name}"] = self.state(name, factor, membrane)
        for name in node.values:
            entries[f"{node.path}.{name}"] = self.constant(name, factor, membrane)
        return Plan(entries, {node.path: factor})

    def bits(self) -> int:
        """The width of the membrane."""
        path = f"{self.node.path}.v"
        held = self.given.entries.get(path)
        return held.fmt.bits if held else self.choice(path).bits or self.usual()

    def usual(self) -> int:
        """The width of a membrane that nobody chose: more where a scale that is settled asks."""
        factor = self.given.scales.get(self.node.path)
        if factor is None:
            return STATE_BITS
        reach = MARGIN * float(reach_of(self.node, "v", factor, self.calibration).max())
        return STATE_BITS if reach <= room(STATE_BITS) else WIDE_BITS

    def unit(self) -> float:
        """What the membrane must hold, before scaling: what was seen, and room beyond it.

        A narrow one holds less and saturates, so that some steps to the threshold remain: the
        most negative potentials are many thresholds away, and matter little.
        """
        node, bits = self.node, self.bits()
        threshold = threshold_held(node, self.calibration)
        reach = float(reach_of(node, "v", np.ones(()), self.calibration))
        if not self.signed() and f"{node.name}.v" in self.calibration.highs:
            # What was seen below zero, before the clamp, is never held.
            start = float(node.states["v"].init.values.max())
            reach = max(self.calibration.highs[f"{node.name}.v"], threshold, start)
        seen = MARGIN * reach
        if bits >= STATE_BITS or threshold <= 0:
            return seen
        start = float(np.abs(node.states["v"].init.values).max())
        return min(seen, max(start, threshold * thresholds(bits)))

    def signed(self) -> bool:
        """Whether the membrane may lie below zero; else all its bits are magnitude."""
        clamp, start = self.node.values.get("v_min"), self.node.states["v"].init
        return clamp is None or bool((clamp.values < 0).any() or (start.values < 0).any())

    def weights(self, connection: Node) -> Entry:
        """How a connection's weights are stored, but for their binary point."""
        path = f"{connection.path}.weight"
        choice, given = self.choice(path), self.given.entries.get(path)
        fmt = self.wanted(connection, choice) if given is None else given.fmt
        return Entry(fmt, choice.rounding or Rounding.NEAREST_EVEN, Overflow.SATURATE)

    def wanted(self, connection: Node, choice: Choice) -> QFormat:
        """The format of a connection's weights, but for their binary point."""
        if isinstance(connection, Lateral):
            return weight_format(choice, LATERAL)
        return weight_format(choice, WEIGHT, signed=has_sign(connection))

    def factor(self) -> FloatArray:
        """The scale: the weights', unless the membrane could not reach as far as it must."""
        node = self.node
        if node.path in self.given.scales:
            return self.given.scales[node.path]
        factor = choose_scale(self.graph, node, self.calibration, self.weights)
        held, unit = self.given.entries.get(f"{node.path}.v"), self.unit()
        top = float(room(self.bits(), signed=self.signed()))
        top = top if held is None else held.fmt.range.hi * held.fmt.unit
        # A state must reach this far: leave the weights fewer bits.
        limit = top / unit if unit > 0 else np.inf
        if unit <= 0 or (factor <= limit).all():
            return factor
        if self.few() and self.bits() >= BYTE:
            # Their levels were fitted to the scale, which moves by factors of two; a membrane
            # that spares no bit takes it as it comes.
            halvings: FloatArray = np.ceil(np.log2(np.max(factor / limit)))
            return np.asarray(factor * 2.0**-halvings)
        return np.minimum(factor, limit)

    def few(self) -> bool:
        """Whether all weights have so few levels that each counts."""
        fed = connections_of(self.graph, self.node)
        return all(top_of(self.weights(c).fmt) < FEW for c in fed if not isinstance(c, Lateral))

    def membrane(self, factor: FloatArray) -> QFormat:
        """The membrane's format."""
        path = f"{self.node.path}.v"
        if path in self.given.entries:
            return self.given.entries[path].fmt
        bits, signed = self.bits(), self.signed()
        reach = self.unit() * float(factor.max())
        return QFormat(bits, point(reach, room(bits, signed=signed), FINEST), signed)

    def connection(
        self, connection: Node, factor: FloatArray, membrane: QFormat
    ) -> dict[str, Entry]:
        """Weights with a point of their own; a bias as fine as the membrane, if it fits.

        Beside a narrow membrane it may be as fine as the weights: what is added up is.
        """
        path = f"{connection.path}.weight"
        entry = replace(self.weights(connection), fmt=self.wanted(connection, self.choice(path)))
        fmt = fitted(connection, factor, entry, self.calibration)
        found = {path: replace(entry, fmt=fmt)}
        bias = connection.params().get("bias")
        if bias is not None:
            reach = float(np.abs(bias.values * factor.reshape(-1)).max())
            fine = membrane.frac if self.bits() >= STATE_BITS else max(membrane.frac, fmt.frac)
            path = path_of(connection, "bias")
            found[path] = _bias(self.choice(path), reach, fine)
        return found

    def state(self, name: str, factor: FloatArray, membrane: QFormat) -> Entry:
        """A state's format: wide enough for what was seen, and saturating beyond."""
        if name not in self.node.model.scaled:
            return counter_entry(self.node, name)
        choice, fmt = self.choice(f"{self.node.path}.{name}"), membrane
        if name != "v":
            bits = choice.bits or STATE_BITS
            reach = float(reach_of(self.node, name, factor, self.calibration).max()) * MARGIN
            fmt = QFormat(bits, point(reach, room(bits), FINEST))
        return Entry(fmt, choice.rounding or Rounding.FLOOR, Overflow.SATURATE)

    def constant(self, name: str, factor: FloatArray, membrane: QFormat) -> Entry:
        """The format of a parameter of the neurons."""
        node, choice = self.node, self.choice(f"{self.node.path}.{name}")
        if name in node.model.coefficients:
            return Entry(_decay(choice), choice.rounding or Rounding.FLOOR)
        if name not in node.model.scaled:
            return constant_entry(node, name)
        rounding = choice.rounding or Rounding.NEAREST_EVEN
        largest = float(np.abs(node.values[name].values).max())
        if name == "adaptation_step":
            held = self.state("adaptation", factor, membrane).fmt
            return Entry(held, rounding, Overflow.SATURATE, "shared")
        if name == "threshold":
            largest = threshold_held(node, self.calibration)
        fmt = membrane
        if not self.signed() and name not in ("threshold", "v_min"):
            fine = point(largest * float(factor.max()), room(membrane.bits), membrane.frac)
            fmt = QFormat(membrane.bits, fine)
        if choice.bits is not None:
            # No finer than the membrane, so that comparing shifts no state.
            fine = point(largest * float(factor.max()), room(choice.bits), membrane.frac)
            fmt = QFormat(choice.bits, fine)
        role = "free" if name == "bias" or choice.bits is not None else "shared"
        if name == "threshold":
            return threshold_entry(node, fmt, factor, role, rounding)
        return Entry(fmt, rounding, Overflow.SATURATE, role)


def _bias(choice: Choice, reach: float, finest: int) -> Entry:
    bits = choice.bits or STATE_BITS
    fmt = QFormat(bits, point(reach, room(bits), finest))
    return Entry(fmt, choice.rounding or Rounding.NEAREST_EVEN, Overflow.SATURATE)


def _decay(choice: Choice) -> QFormat:
    """A leak, or a fixed-point factor from 0 to 2 with so many fraction bits."""
    if choice.form == "leak":
        return QFormat(choice.bits or LEAK_BITS, 0, signed=False, leak=True)
    bits = choice.bits or DECAY_BITS
    return QFormat(bits + 1, bits, signed=False)
