"""Sums on torch tensors against the simulator: the same bits, on whatever device there is."""

from __future__ import annotations

import numpy as np
import pytest

from networks import random_network
from qspinn.engine.events import Events
from qspinn.engine.sweep import Tally, sweep
from qspinn.errors import QspinnError
from qspinn.ir import Graph, Neuron
from qspinn.signals import signals

pytestmark = pytest.mark.needs("torch")


def require_equal(one: Tally, other: Tally) -> None:
    for name in ("counts", "first", "last", "highest"):
        np.testing.assert_array_equal(getattr(one.summary, name), getattr(other.summary, name))
    assert dict(one.spikes) == dict(other.spikes)
    assert dict(one.operations) == dict(other.operations)


@pytest.mark.parametrize("seed", range(16))
def test_random_networks_are_equal(seed: int) -> None:
    from qspinn.engine import torched

    graph, data = random_network(seed)
    ours = sweep([graph], data, operations=True)
    theirs = torched.sweep([graph], data, device="cpu")
    require_equal(ours[0], theirs[0])


def variants(graph: Graph) -> list[Graph]:
    """The graph, one with another last layer, and the graph again."""
    last = graph.of_type(Neuron)[-1]
    moved = {name: state for name, state in last.states.items()}
    other = graph.map(
        lambda node: type(last)(**{**vars(last), "states": moved}) if node is last else node
    )
    return [graph, other, graph]


def test_shared_layers_change_nothing() -> None:
    from qspinn.engine import torched

    graph, data = random_network(3)
    graphs = variants(graph)
    together = torched.sweep(graphs, data, device="cpu")
    for graph, tally in zip(graphs, together, strict=True):
        require_equal(torched.sweep([graph], data, device="cpu")[0], tally)


def test_event_lists_and_fewer_steps() -> None:
    from qspinn.engine import torched

    found = (random_network(seed) for seed in range(40))
    graph, data = next((g, d) for g, d in found if signals(g)[g.input.name].kind == "spike")
    steps = data.shape[1] - 2
    ours = sweep([graph], data[:, :steps], operations=True)
    theirs = torched.sweep([graph], Events.from_dense(data), device="cpu", steps=steps)
    require_equal(ours[0], theirs[0])


def test_an_absent_device_is_refused() -> None:
    import torch

    from qspinn.engine import torched

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    graph, data = random_network(0)
    with pytest.raises(QspinnError, match="no cuda device"):
        torched.sweep([graph], data)
