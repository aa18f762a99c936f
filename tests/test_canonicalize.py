"""The canonical form does what the original did: same spikes, float for float close or equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import lif, mlp, param, spikes
from qspinn.errors import VerifyError
from qspinn.interp import run
from qspinn.ir import (
    AvgPool2d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
    SumPool2d,
)
from qspinn.neurons import spiking
from qspinn.passes.canonicalize import canonicalize, rule_of
from qspinn.verify import verify


def same(graph: Graph, seed: int = 0, steps: int = 25) -> Graph:
    verify(graph)
    done = verify(canonicalize(graph))
    data = spikes(np.random.default_rng(seed), (3, steps, *graph.input.shape), 0.4)
    before, after = run(graph, data).output, run(done, data).output
    assert before.any(), "a silent network proves nothing"
    assert np.array_equal(before, after)
    return done


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def image(rng: np.random.Generator, *between: Node, last: str) -> Graph:
    size = 2 * 3 * 3
    return Graph("g", (
        Input(name="x", shape=(2, 6, 6)), *between,
        Flatten(name="flat", inputs=(last,)),
        Linear(name="fc", inputs=("flat",), weight=Param(rng.normal(0.2, 0.5, (5, size)))),
        lif("lif", "fc", 5), Output(name="out", inputs=("lif",)),
    ))  # fmt: skip


def test_average_becomes_a_sum_and_a_gain_in_the_weights(rng: np.random.Generator) -> None:
    pool = AvgPool2d(name="pool", inputs=("x",), kernel=(2, 2), stride=(2, 2))
    graph = image(rng, pool, last="pool")
    done = same(graph)
    assert kinds(done) == ["Input", "SumPool2d", "Flatten", "Linear", "Neuron", "Output"]
    assert np.array_equal(done["fc"].weight.values, graph["fc"].weight.values * 0.25)


def test_average_before_a_convolution(rng: np.random.Generator) -> None:
    graph = Graph("g", (
        Input(name="x", shape=(2, 6, 6)),
        AvgPool2d(name="pool", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="conv", inputs=("pool",), weight=Param(rng.normal(0.3, 0.5, (3, 2, 2, 2)))),
        Neuron(name="lif", inputs=("conv",), shape=(3, 2, 2), model=spiking(),
               values={"decay": param(0.5), "threshold": param(0.5)}, states={"v": State()}),
        Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    assert "AvgPool2d" not in kinds(same(graph))


@pytest.mark.parametrize("gain", [np.array(0.5), np.linspace(0.25, 2, 12)])
def test_a_scale_moves_into_the_next_weights(gain: np.ndarray) -> None:
    graph = mlp()
    scale = Scale(name="gain", inputs=("x",), scale=Param(gain))
    fc1 = replace(graph["fc1"], inputs=("gain",))
    nodes = (graph["x"], scale, fc1, *graph.nodes[2:])
    done = same(replace(graph, nodes=nodes))
    assert kinds(done) == kinds(graph)


@pytest.mark.parametrize("gain", [np.array(0.5), np.linspace(0.25, 2, 9)])
def test_a_scale_moves_into_the_weights_before_it(gain: np.ndarray) -> None:
    graph = mlp()
    scale = Scale(name="gain", inputs=("fc1",), scale=Param(gain))
    neuron = replace(graph["lif1"], inputs=("gain",))
    done = same(replace(graph, nodes=(*graph.nodes[:2], scale, neuron, *graph.nodes[3:])))
    assert kinds(done) == kinds(graph)
    assert np.array_equal(done["fc1"].bias.values, graph["fc1"].bias.values * gain)


def test_two_linear_maps_become_one(rng: np.random.Generator) -> None:
    first = Linear(name="a", inputs=("x",), weight=Param(rng.integers(-2, 3, (7, 12)) / 4.0),
                   bias=Param(rng.integers(-2, 3, 7) / 8.0))  # fmt: skip
    second = Linear(name="b", inputs=("a",), weight=Param(rng.integers(-2, 3, (4, 7)) / 4.0))
    graph = Graph("g", (Input(name="x", shape=(12,)), first, second, lif("lif", "b", 4),
                        Output(name="out", inputs=("lif",))))  # fmt: skip
    assert kinds(same(graph)) == ["Input", "Linear", "Neuron", "Output"]


def test_neurons_fed_by_spikes_get_a_connection() -> None:
    graph = Graph("g", (Input(name="x", shape=(5,)), lif("lif", "x", 5, theta=0.5),
                        Output(name="out", inputs=("lif",))))  # fmt: skip
    with pytest.raises(VerifyError, match="neurons take currents"):
        verify(graph)
    done = verify(canonicalize(graph))
    assert kinds(done) == ["Input", "Scale", "Neuron", "Output"]


def test_what_nobody_reads_is_dropped() -> None:
    graph = mlp()
    extra = (Linear(name="probe", inputs=("lif1",), weight=Param(np.eye(9))),
             lif("aside", "probe", 9))  # fmt: skip
    graph = replace(graph, nodes=(*graph.nodes[:-1], *extra, graph.nodes[-1]))
    assert "aside" not in canonicalize(graph).by_name


@pytest.mark.parametrize("options", [
    {}, {"bias": True}, {"compare": ">="}, {"synapse": "new"}, {"synapse": "old", "clamp": True},
    {"refractory": True}, {"leak": False, "clamp": True}, {"timing": "next_before_decay"},
    {"timing": "next_after_decay"}, {"timing": "next_discard"}, {"max_spikes": 3},
])  # fmt: skip
def test_a_reset_to_a_value_becomes_a_reset_to_zero(options: dict[str, object]) -> None:
    rng = np.random.default_rng(4)
    model = spiking(reset="value", **options)
    # Multiples of 1/16 keep every sum exact, so that the substitution cannot move a spike.
    known = {"decay": 0.5, "current_decay": 0.75, "threshold": 1.0, "v_reset": -0.25, "bias": 0.125,
             "refractory": 2.0, "v_min": -1.5}  # fmt: skip
    neuron = Neuron(
        name="n", inputs=("fc",), shape=(6,), model=model,
        values={name: param(known[name]) for name in model.params},
        states={name: State() for name in model.states},
    )  # fmt: skip
    weight = Param(rng.integers(-6, 13, (6, 12)) / 16.0)
    graph = Graph("g", (Input(name="x", shape=(12,)),
                        Linear(name="fc", inputs=("x",), weight=weight), neuron,
                        Output(name="out", inputs=("n",))))  # fmt: skip
    done = same(graph, steps=16)["n"]
    assert isinstance(done, Neuron)
    # There a substitution would not be exact.
    kept = options.get("timing") == "next_after_decay" or "max_spikes" in options
    assert ("v_reset" in done.values) == kept
    assert done.states["v"].init.values == (0.0 if kept else 0.25)
    assert rule_of(done)["reset"] == ("value" if kept else "zero")


def test_a_current_through_a_pool_is_refused(rng: np.random.Generator) -> None:
    graph = Graph("g", (
        Input(name="x", shape=(2, 4, 4)),
        Conv2d(name="conv", inputs=("x",), weight=Param(rng.normal(size=(1, 2, 1, 1)))),
        SumPool2d(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2), padding=(1, 1)),
        Neuron(name="lif", inputs=("pool",), shape=(1, 3, 3), model=spiking(),
               values={"decay": param(0.5), "threshold": param(1)}, states={"v": State()}),
        Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    with pytest.raises(VerifyError, match="lif: is fed by pool, a SumPool2d of currents"):
        canonicalize(graph)


def test_a_delay_behind_an_average_follows_it(rng: np.random.Generator) -> None:
    graph = Graph("g", (
        Input(name="x", shape=(1, 4, 4)),
        Delay(name="late", inputs=("lif",), shape=(3,)),
        Linear(name="rec", inputs=("late",), weight=Param(rng.normal(0, 0.3, (3, 3)))),
        AvgPool2d(name="pool", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", inputs=("pool",)),
        Linear(name="fc", inputs=("flat",), weight=Param(rng.normal(0.5, 0.5, (3, 4)))),
        replace(lif("lif", "fc", 3), inputs=("fc", "rec")),
        Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    same(graph)
