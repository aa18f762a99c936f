"""Lateral weights as synapses: by way of one neuron where two steps allow it, else as a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Lateral, Node, Shape, SumPool2d
from qspinn.signals import Signal

from .table import ACTIVATION

STAGES = 2
"""The steps a relay takes: synapses to it, and synapses from it."""


@dataclass(frozen=True, eq=False)
class Relay:
    """One neuron that sends on how many spikes there were: 3 N synapses instead of N x N.

    Everybody receives the weighted number, and his own spike back with the opposite sign.

    Attributes:
        weights: What one spike of any other does to each neuron, flat.
        most: The largest number that the neuron sends.
    """

    weights: IntArray
    most: int

    @property
    def size(self) -> int:
        """The neurons that spike, and that are reached."""
        return int(self.weights.size)

    @property
    def message_bits(self) -> int:
        """The payload of the neuron's message."""
        return self.most.bit_length()

    def parts(self) -> tuple[IntArray, IntArray, IntArray]:
        """Synapses to the neuron, (1, N), from it, (N, 1), and one to one, (N)."""
        return np.ones((1, self.size), np.int64), self.weights[:, None], -self.weights


def relayable(node: Node, between: tuple[Node, ...], signals: Mapping[str, Signal]) -> bool:
    """Whether one neuron can stand for the weights of ``node``, and saves synapses.

    Args:
        node: A connection.
        between: What lies between it and the source of its spikes.
        signals: The types of all edges.
    """
    if not isinstance(node, Lateral):
        return False
    signal = signals[node.inputs[0]]
    if signal.interval is None or signal.interval.lo < 0:
        return False
    pools = any(isinstance(passed, SumPool2d) for passed in between)
    saves = 3 * signal.size < signal.size * (signal.size - 1)
    return not pools and saves and signal.size * signal.interval.hi <= ACTIVATION


def relay(weights: IntArray, signal: Signal) -> Relay:
    """The relay of a lateral connection that reads ``signal``."""
    assert signal.interval is not None, "an integer graph"
    flat = np.broadcast_to(weights, signal.shape).reshape(-1)
    return Relay(flat, signal.size * signal.interval.hi)


def matrix(weights: IntArray, shape: Shape) -> IntArray:
    """The same weights as a matrix (to, from), with an empty diagonal."""
    flat = np.broadcast_to(weights, shape).reshape(-1)
    full = np.repeat(flat[:, None], flat.size, 1)
    np.fill_diagonal(full, 0)
    return full
