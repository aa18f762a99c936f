"""The formats that a `.net` file is already in, as a plan with the scale 1."""

from __future__ import annotations

import numpy as np

from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.ir import CONNECTIONS, Array, Graph, Neuron, Node
from qspinn.plan import Entry, Plan

FRACTION = 6
"""States lie six binary places below weights and thresholds."""
CURRENT = QFormat(24, FRACTION, True, -(2**23) + 1, 2**23)
MEMBRANE = QFormat(24, FRACTION, True, -(2**23) + 1, 2**23 - 1)
DECAY = QFormat(13, 12, signed=False)
THRESHOLD = QFormat(17, 0, signed=False)
BIAS = QFormat(13, 0, True, -4095, 4095)
_STATES = {
    "u": Entry(CURRENT, Rounding.ZERO, Overflow.WRAP, "fixed"),
    "v": Entry(MEMBRANE, Rounding.ZERO, Overflow.SATURATE, "fixed"),
}
_VALUES = {
    "decay": Entry(DECAY, Rounding.ZERO, role="fixed"),
    "current_decay": Entry(DECAY, Rounding.ZERO, role="fixed"),
    "threshold": Entry(THRESHOLD, Rounding.NEAREST_EVEN, role="fixed"),
    "bias": Entry(BIAS, Rounding.NEAREST_EVEN, Overflow.ERROR),
}


def plan_of(graph: Graph) -> Plan:
    """A plan under which every integer of the file stays what it is."""
    entries: dict[str, Entry] = {}
    scales = {}
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            entries[f"{node.path}.weight"] = _weights(node)
        if isinstance(node, Neuron):
            scales[node.path] = np.ones(())
            entries |= {f"{node.path}.{name}": _STATES[name] for name in node.states}
            entries |= {f"{node.path}.{name}": _VALUES[name] for name in node.values}
    return Plan(entries, scales)


def _weights(node: Node) -> Entry:
    """The fewest bits that hold the weights, their common factor of two left out."""
    values = node.params()["weight"].values.astype(np.int64)
    zeros = _trailing_zeros(values)
    low, high = int(values.min()) >> zeros, int(values.max()) >> zeros
    signed = low < 0
    bits = max(high.bit_length(), (-low - 1).bit_length() if signed else 0, 1) + signed
    return Entry(QFormat(bits, -zeros, signed), Rounding.NEAREST_EVEN, Overflow.ERROR)


def _trailing_zeros(values: Array) -> int:
    bits = int(np.bitwise_or.reduce(np.abs(values), axis=None))
    return (bits & -bits).bit_length() - 1 if bits else 0
