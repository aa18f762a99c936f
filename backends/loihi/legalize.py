"""Legalize: rewrite an integer graph, exactly, into what Lava's processes compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qspinn.errors import LegalizeError
from qspinn.ir import CONNECTIONS, Delay, Flatten, Graph, Input, Neuron, Node, Output
from qspinn.signals import signals
from qspinn.verify import STARTS

from .layers import Layer, connections, layers, stock_form
from .reasons import Reasons, Unfit
from .relays import owned, relayed
from .retime import retimed
from .synapses import way
from .table import ACTIVATION


def legalize(
    graph: Graph, *, start: str = "skewed", assume_activation: Mapping[str, int] | None = None
) -> Graph:
    """Return a graph of the same spikes and states that Lava can run as it stands.

    Args:
        graph: An integer graph.
        start: ``skewed``: every layer starts with its first input. ``cold``: all run from the
            first step; the steps of synapses become delays of the graph, a different network.
        assume_activation: Observed peaks of summed inputs by layer, in units of the activation;
            where 16 bits cannot be proved, twice the peak must fit.

    Raises:
        LegalizeError: Lava cannot run it; the error carries every reason.
    """
    if start not in STARTS:
        raise LegalizeError(f"a start is one of {', '.join(STARTS)}, not {start!r}")
    if not graph.is_integer:
        raise LegalizeError(f"{graph.name} is not quantized")
    reasons = Reasons()
    graph = owned(graph)  # first: a rewrite for one layer must not reach another
    graph = relayed(graph, reasons)
    graph, lined = _stock(graph, reasons)
    graph = retimed(graph, start, lined, reasons)  # after the relays: they are stages, too
    found = layers(graph, reasons)
    _ends(graph, reasons)
    _activations(found, assume_activation or {}, reasons)
    reasons.raise_if_any(graph.name)
    return graph


def _stock(graph: Graph, reasons: Reasons) -> tuple[Graph, set[str]]:
    """Write every neuron that Lava's LIF can be as one; name those fed by a line of biases."""
    known = signals(graph)
    changed: dict[str, Node] = {}
    lined: set[str] = set()
    for node in graph.of_type(Neuron):
        with reasons.at(node.name):
            feeding = connections(graph, node)
            try:
                lif, taken = stock_form(graph, node, known)
            except Unfit:
                continue  # its own process model will do
            changed[node.name] = lif
            for connection in feeding:
                if connection.name in taken:
                    changed[connection.name] = _without_bias(connection)
                elif "bias" in connection.params():
                    lined.add(node.name)
    return graph.map(lambda node: changed.get(node.name, node)), lined


def _without_bias(node: Node) -> Node:
    options: dict[str, object] = {"bias": None}
    return replace(node, **options)  # type: ignore[arg-type]


def _ends(graph: Graph, reasons: Reasons) -> None:
    """Inputs, and outputs that read neurons."""
    for what, nodes in (("Input", graph.of_type(Input)), ("Output", graph.of_type(Output))):
        if not nodes:
            reasons.add(graph.name, Unfit(f"has no {what} node"))
    for node in graph.of_type(Output):
        with reasons.at(node.name):
            found = way(graph, node)
            for passed in found.between:
                if not isinstance(passed, (Delay, Flatten)):
                    raise Unfit(f"reads {passed.name}, a {type(passed).__name__}",
                                hint="read the neurons, and pool on the host")  # fmt: skip
            if not isinstance(found.source, Neuron):
                kind = type(found.source).__name__
                raise Unfit(f"reads {found.source.name}, a {kind}; only neurons can be read")
    for other in graph.nodes:
        if isinstance(other, CONNECTIONS) and not graph.users(other.name):
            reasons.add(other.name, Unfit("feeds nothing", hint="remove it"))


def _activations(found: tuple[Layer, ...], observed: Mapping[str, int], reasons: Reasons) -> None:
    """The 16 bits of a summed input: proved, or assumed with a margin of two."""
    for layer in found:
        if layer.registers is None or layer.proved:
            continue
        peak = observed.get(layer.name, observed.get(layer.neuron.path))
        with reasons.at(layer.name):
            if peak is None:
                raise Unfit(
                    f"its summed input may lie in {layer.bound}, the limit is {ACTIVATION}",
                    hint="choose a smaller scale, or pass assume_activation with an observed peak",
                )
            if 2 * peak > ACTIVATION:
                raise Unfit(
                    f"twice the observed peak {peak} of its summed input exceeds {ACTIVATION}",
                    hint="choose a smaller scale",
                )
