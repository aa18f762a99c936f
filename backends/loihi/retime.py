"""Retiming: every synapse takes a step, so the network runs as a pipeline, layer after layer.

Each layer gets a shift r >= 0, the steps by which it runs late, so that on every way from a source
to a layer delay + r(layer) - r(source) >= the stages of synapses on it: 1, or 2 for lateral weights
by way of a neuron. A Delay in the graph pays for steps of synapses; what is left over becomes a
delay of the synapses themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from qspinn.ir import CONNECTIONS, Delay, Graph, Neuron, Node, Output
from qspinn.signals import Signal, signals

from .lateral import STAGES, relayable
from .reasons import Reasons, Unfit
from .relays import fresh
from .synapses import source_of, way

_NO_COLD_VALUES = "sends values; a cold start would have to delay them, and only spikes can wait"


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from a source of spikes to a layer, through one connection."""

    source: str
    target: str
    connection: str
    delay: int
    stages: int = 1


def edges(graph: Graph, known: dict[str, Signal], reasons: Reasons) -> tuple[Edge, ...]:
    """All ways into layers; what synapses cannot read becomes a reason."""
    found: list[Edge] = []
    for node in graph.of_type(Neuron):
        for name in node.inputs:
            connection = graph[name]
            if not isinstance(connection, CONNECTIONS):
                continue
            with reasons.at(name):
                to = source_of(graph, connection, known)
                found.append(Edge(to.source.name, node.name, name, to.delay))
    return tuple(found)


def retimed(graph: Graph, start: str, lined: set[str], reasons: Reasons) -> Graph:
    """The graph with its shifts, or for a cold start with its synapses' steps as delays.

    Args:
        graph: A graph whose layers are what Lava runs.
        start: ``skewed`` or ``cold``.
        lined: Layers fed by a line of biases, which is a stage of synapses, too.
        reasons: Receives cycles with too little delay.
    """
    ways = edges(graph, signals(graph), reasons)
    shifts = {node.name: int(node.name in lined) for node in graph.of_type(Neuron)}
    ways = _relaying(graph, ways, shifts)
    with reasons.at(graph.name):
        _settle(ways, shifts)
    if start == "cold":
        return _delayed(graph, ways, shifts, reasons)
    for node in graph.of_type(Output):
        source = way(graph, node).source.name
        shifts[node.name] = shifts.get(source, 0)
    return replace(graph, start=start, shifts={k: r for k, r in shifts.items() if r})


def _relaying(graph: Graph, ways: tuple[Edge, ...], shifts: dict[str, int]) -> tuple[Edge, ...]:
    """Two stages for lateral weights, wherever the cycles they lie on have the time."""
    known = signals(graph)
    for i, edge in enumerate(ways):
        connection = graph[edge.connection]
        if relayable(connection, way(graph, connection).between, known):
            longer = (*ways[:i], replace(edge, stages=STAGES), *ways[i + 1 :])
            try:
                _settle(longer, dict(shifts))
            except Unfit:
                continue  # a matrix will do
            ways = longer
    return ways


def _settle(ways: tuple[Edge, ...], shifts: dict[str, int]) -> None:
    """Raise shifts until every way has its step; they only grow without end round a short cycle."""
    cause: dict[str, Edge] = {}
    last = None
    for _ in range(len(shifts) + 1):
        last = None
        for edge in ways:
            least = shifts.get(edge.source, 0) + edge.stages - edge.delay
            if least > shifts[edge.target]:
                shifts[edge.target], cause[edge.target], last = least, edge, edge
        if last is None:
            return
    assert last is not None, "the loop ran out"
    _refuse_cycle(last, cause, tuple(shifts))


def _refuse_cycle(last: Edge, cause: dict[str, Edge], order: tuple[str, ...]) -> None:
    at = last.target
    for _ in cause:  # after that many steps back we are inside the cycle
        at = cause[at].source
    around = [cause[at]]
    while around[-1].source != at:
        around.append(cause[around[-1].source])
    around.reverse()
    first = min(range(len(around)), key=lambda i: order.index(around[i].source))
    names = [edge.source for edge in (*around[first:], *around[:first], around[first])]
    delay = sum(edge.delay for edge in around)
    raise Unfit(
        f"its delays take {delay} of the {len(around)} steps that its synapses take",
        hint=f"delay it by {len(around) - delay} more",
        at=f"the cycle {' -> '.join(names)}",
    )


def _delayed(
    graph: Graph, ways: tuple[Edge, ...], shifts: dict[str, int], reasons: Reasons
) -> Graph:
    """Write the pipeline into the graph: each connection reads its source as late as the target."""
    known = signals(graph)
    taken = set(graph.by_name)
    late: dict[str, Delay] = {}
    for edge in ways:
        extra = shifts[edge.target] - shifts.get(edge.source, 0)
        if extra > 0:
            below = graph[edge.connection].inputs[0]
            signal = known[below]
            if signal.kind == "current":
                with reasons.at(below):
                    raise Unfit(_NO_COLD_VALUES, hint="use the skewed start, or encode as spikes")
                continue
            high = signal.interval.hi if signal.interval else 1
            name = fresh(f"{edge.connection}_stage", taken)
            late[edge.connection] = Delay(
                name=name, inputs=(below,), shape=signal.shape, steps=extra, kind=signal.kind,
                high=high,
            )  # fmt: skip
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in late:
            stage = late[node.name]
            nodes.append(stage)
            node = replace(node, inputs=(stage.name,))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), start="cold", shifts={})
