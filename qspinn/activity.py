"""How busy a network is on data: what cost models go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qspinn.cost import Activity
from qspinn.engine.events import Events
from qspinn.engine.sweep import sweep
from qspinn.errors import PlanError
from qspinn.fixed import FloatArray
from qspinn.interp import run
from qspinn.ir import Array, Flatten, Graph, Input, Linear, Neuron, Node, Output
from qspinn.memory import Device
from qspinn.ports import parts, places


def observed(graph: Graph, data: Array, engine: str = "auto") -> Activity:
    """The activity of an integer graph on ``data`` (samples, steps, *shape), already encoded."""
    samples, steps = data.shape[:2]
    (tally,) = sweep([graph], data, engine=engine)
    found = activity(graph, shares(data, steps), tally.spikes, samples * steps, steps)
    silent, pairs, edges = _patterns(graph, data[: max(_SEEN // steps, 1)])
    return replace(found, silent=silent, pairs=pairs, edges=edges)


_SEEN = 128
"""Steps that are looked at, of some samples, to see whether spikes come in bursts."""


Shares = dict[str, float]


def _patterns(graph: Graph, data: Array) -> tuple[Shares, Shares, Shares]:
    """How often nodes are silent, how often pairs of neighbours are not, and where images are."""
    nodes = [node for node in graph.of_type(Neuron) if node.model.sends != "current"]
    seen = [Output(name=f"{node.name}.seen", inputs=(node.name,)) for node in nodes]
    found = run(replace(graph, nodes=(*graph.nodes, *seen)), data, record=False).outputs
    images = parts(graph, data)
    silent = {name: _silent(received) for name, received in images.items()}
    pairs = {}
    for node, output in zip(nodes, seen, strict=True):
        images[node.name] = found[output.name]
        sent = found[output.name].reshape(*data.shape[:2], -1) != 0
        silent[node.name] = _silent(sent)
        if (size := sent.shape[-1] // 2 * 2) > 0:
            pairs[node.name] = float((sent[..., :size:2] | sent[..., 1:size:2]).mean())
    shares = ((name, _edges(image)) for name, image in images.items())
    edges = {name: share for name, share in shares if share is not None}
    return silent, pairs, edges


def _edges(sent: Array) -> float | None:
    """The share of events on the outermost rows and columns, of images that have others."""
    if sent.ndim != 5 or min(sent.shape[3:]) < 3 or not sent.any():
        return None
    return float(1.0 - np.count_nonzero(sent[..., 1:-1, 1:-1]) / np.count_nonzero(sent))


def _silent(sent: Array) -> float:
    return float(1.0 - sent.reshape(*sent.shape[:2], -1).any(-1).mean())


def shares(data: Events | Array, steps: int) -> FloatArray:
    """How often each element sends something in the first so many steps, as a share of them.

    Args:
        data: Samples as `qspinn.simulate` takes them.
        steps: At most as many as the data have.
    """
    if not isinstance(data, Events):
        return np.asarray((data[:, :steps] != 0).mean((0, 1)).reshape(-1), np.float64)
    step = np.arange(data.offsets.size - 1) % data.steps
    early = np.repeat(step < steps, np.diff(data.offsets))
    counts = np.bincount(data.index[early], minlength=data.size)
    return np.asarray(counts / (len(data) * steps), np.float64)


def activity(
    graph: Graph, each: Array, spikes: Mapping[str, int], total: int, steps: int
) -> Activity:
    """The activity that counts amount to.

    Args:
        graph: The network.
        each: How often each element that enters sent something, as a share of the steps.
        spikes: What neuron nodes sent, in total.
        total: The steps of all samples together.
        steps: The steps of a sample.
    """
    entered = dict(places(graph.of_type(Input)))
    rates = {node.name: float(each[place].mean()) for node, place in entered.items()}
    for node in graph.of_type(Neuron):
        if node.name in spikes:
            size = int(np.prod(node.shape, dtype=np.int64))
            rates[node.name] = min(spikes[node.name] / (size * total), 1.0)
        else:
            rates[node.name] = 1.0  # it sends a value in every step
    heard = [_heard(graph, node, each[place]) for node, place in entered.items()]
    return Activity(steps, rates, {name: x for found in heard for name, x in found.items()})


def _heard(graph: Graph, source: Input, each: Array) -> dict[str, float]:
    """The share of an input's events that a linear layer has weights for."""
    layers = list(_readers(graph, source))
    if not layers or not all(isinstance(node, Linear) for node in layers):
        return {}
    used = np.any([node.weight.values.any(0) for node in layers if isinstance(node, Linear)], 0)
    if used.all() or not each.any():
        return {}
    share = float(each[used].sum() / each.sum())
    return {source.name: share} if share < 1.0 else {}


def _readers(graph: Graph, node: Node) -> list[Node]:
    found: list[Node] = []
    for user in graph.users(node.name):
        found += _readers(graph, user) if isinstance(user, Flatten) else [user]
    return found


def no_model(device: Device) -> PlanError:
    """The refusal of a limit on instructions where nobody can count them."""
    core = device.core or "its cores"
    return PlanError(
        f"there is no model of the instructions of {core}", at=device.name,
        hint="limit synaptic operations instead, with --max-operations",
    )  # fmt: skip
