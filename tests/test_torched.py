"""Sums on torch tensors against the simulator: the same bits, on whatever device there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mcu_builds import chain, dense, mlp
from networks import random_network
from qspinn.engine.events import Events
from qspinn.engine.sweep import Tally, sweep
from qspinn.errors import QspinnError
from qspinn.fixed import QFormat
from qspinn.ir import Array, Delay, Graph, Input, Neuron
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


def test_what_a_graph_shares_with_the_one_before(rng: np.random.Generator) -> None:
    """Delays, a last layer that becomes an inner one, cycles, and inputs of other formats."""
    x, fc, lif, end, top, _ = mlp("net", (12, 9, 4)).nodes
    n = 9
    late = Delay(name="late", inputs=(lif.name,), shape=(n,), steps=2)
    again = replace(end, inputs=("late",))
    back = Delay(name="back", inputs=(lif.name,), shape=(n,), steps=2)
    cycle = replace(lif, inputs=(fc.name, "rec"))
    graphs = [
        chain("n", x, fc, lif, end, top), chain("n", x, fc, lif), chain("n", x, fc, lif, late),
        chain("n", x, back, fc, dense(rng, "rec", "back", n, n), cycle),
        chain("n", x, fc, lif, late, again, top), chain("n", x, fc, lif, late),
    ]  # fmt: skip
    agree(graphs, rng.integers(0, 2, (5, 9, 12)))
    formats = [QFormat.parse(text) for text in ("u8f8", "u8f0", "u8f4")]
    inputs = [Input(name=x.name, shape=(12,), kind="current", fmt=fmt) for fmt in formats]
    values = rng.integers(0, 256, (5, 9, 12))
    agree([chain("n", node, fc, lif) for node in inputs], values)


def agree(graphs: list[Graph], data: Array) -> None:
    from qspinn.engine import torched

    found = torched.sweep(graphs, data, device="cpu")
    for graph, tally in zip(graphs, found, strict=True):
        require_equal(sweep([graph], data, operations=True, engine="numpy")[0], tally)


def test_no_data_and_data_that_do_not_fit() -> None:
    from qspinn.engine import torched

    graph = mlp("net", (12, 9, 4))
    data = np.zeros((3, 5, 12), np.int64)
    (empty,) = torched.sweep([graph], data[:0], device="cpu")
    assert empty.summary.counts.shape == (0, 4)
    with pytest.raises(QspinnError, match="outside"):
        torched.sweep([graph], data + 2, device="cpu")
    with pytest.raises(QspinnError, match="are not"):
        torched.sweep([graph], data[..., :9], device="cpu")
    with pytest.raises(QspinnError, match="6 steps are asked for, the data have 5"):
        torched.sweep([graph], data, device="cpu", steps=6)


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
