"""Neurons that drop low bits of their summed input, put into networks that are drawn already.

What is drawn here has a generator of its own, so that everything else stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from qspinn.fixed import Interval, QFormat
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Linear,
    Neuron,
    Node,
    Param,
    Scale,
    SumPool2d,
)
from qspinn.signals import signals, summed

MOST = {"MIXED": 7, "EXCITATORY": 8, "INHIBITORY": 8}
"""Binary places by which Lava's exponents let weights be finer than their summed input."""
THIRD = 10600
"""Of the 16-bit activation, for a neuron may have three inputs."""
LIKELY = {"any": 0.15, "loihi": 0.2, "whole": 0.3}


def with_drops(graph: Graph, profile: str, seed: int) -> tuple[Graph, tuple[str, ...]]:
    """A network some of whose neurons drop bits, and what they drop as words."""
    rng = np.random.default_rng((seed, 4711))
    changed: dict[str, Node] = {}
    words: list[str] = []
    for node in graph.of_type(Neuron):
        if rng.random() >= LIKELY.get(profile, 0.0):
            continue
        if profile == "any":
            changed[node.name] = _rounded(graph, node, int(rng.integers(1, 9)))
            words.append("any")
            continue
        for connection in _alone(graph, node):
            span = signals(graph)[connection.inputs[0]].interval
            finer, word = _finer(connection, rng, span.hi if span else 1)
            changed |= {connection.name: finer}
            changed[node.name] = replace(node, input_format=QFormat(32, 0))
            words.append(word)
            break
    return graph.map(lambda node: changed.get(node.name, node)), tuple(words)


def _rounded(graph: Graph, node: Neuron, places: int) -> Neuron:
    """The neurons with a coarser input, as wide as it may become."""
    known = signals(graph)
    total = summed(tuple(known[i] for i in node.inputs))
    assert total.interval is not None, "an integer graph"
    places = max(places, total.interval.signed_bits - 32)
    span = Interval(total.interval.lo >> places, total.interval.hi >> places)
    return replace(node, input_format=QFormat(span.signed_bits, total.frac - places))


def _alone(graph: Graph, node: Neuron) -> Iterator[Node]:
    """Connections of other weights than zero, that no other neurons read and that read no pool.

    A pool that overlaps adds up weights, to more bits than one synapse has.
    """
    for name in node.inputs:
        connection = graph[name]
        if not isinstance(connection, Linear | Conv1d | Conv2d | Scale):
            continue
        read = len(graph.users(name)) == 1 and not _pooled(graph, connection)
        if read and _weight(connection)[1].values.any():
            yield connection


def _pooled(graph: Graph, node: Node) -> bool:
    below = graph[node.inputs[0]]
    if isinstance(below, Flatten | Delay):
        return _pooled(graph, below)
    return isinstance(below, SumPool2d)


def _weight(node: Node) -> tuple[str, Param]:
    params = node.params()
    return ("weight", params["weight"]) if "weight" in params else ("scale", params["scale"])


def _finer(node: Node, rng: np.random.Generator, most: int) -> tuple[Node, str]:
    """The connection with weights of any width below the summed input's last place.

    ``most`` is the largest value it reads: the sum stays within a third of the activation.
    """
    name, weight = _weight(node)
    low, high = weight.values.min(), weight.values.max()
    mode = "EXCITATORY" if low >= 0 else "INHIBITORY" if high <= 0 else "MIXED"
    bits = int(rng.integers(2 if mode == "MIXED" else 1, 9))
    frac = int(rng.integers(1, MOST[mode] + 1))
    top = (1 << (bits - (mode == "MIXED"))) - 1
    values = np.trunc(weight.values * (top / np.abs(weight.values).max())).astype(np.int64)
    while _reach(values) * most >> frac > THIRD:
        values = np.trunc(values / 2).astype(np.int64)
    fmt = QFormat(bits, frac, mode == "MIXED")
    if mode == "INHIBITORY":
        fmt = QFormat(bits + 1, frac, True, 1 - (1 << bits), 0)
    return node.with_params({name: Param(values, fmt)}), f"{mode} {frac}"


def _reach(values: Array) -> int:
    """The largest sum of magnitudes that reaches one neuron."""
    rows = np.abs(values).reshape(len(values), -1).sum(1) if values.ndim else np.abs(values)
    return int(rows.max())
