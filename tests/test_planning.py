"""Default plans decide like the float network, also where one number is far from the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import lif, mlp, spikes
from qspinn.backend import backend, default_plan
from qspinn.balancing import balanced
from qspinn.calibrate import Calibration, observe
from qspinn.errors import PlanError
from qspinn.interp import run
from qspinn.ir import Array, Delay, Graph, Input, Linear, Neuron, Output, Param
from qspinn.passes.canonicalize import canonicalize
from qspinn.pipeline import Lowered, complete, lower
from qspinn.plan import Plan, parse
from qspinn.readout import predict, summarize

TARGETS = ("mcu", "loihi")


def planned(
    graph: Graph, data: Array, target: str, given: str = "", **how: str
) -> tuple[Lowered, float]:
    """The lowered network, and on what share of the samples it decides as the float one."""
    canonical = canonicalize(graph)
    calibration: Calibration = replace(observe(canonical, data.astype(float)), **how)
    found, wish = backend(target), parse(given)
    plan = complete(wish, default_plan(found, canonical, calibration, wish))
    done = lower(canonical, plan, found)
    real, ours = (
        predict(graph.output, summarize(g, run(g, data)))
        for g in (canonical, done.final)
    )  # fmt: skip
    return done, float((real == ours).mean())


@pytest.fixture
def data(rng: np.random.Generator) -> Array:
    return spikes(rng, (60, 25, 12))


def with_fc1(graph: Graph, weight: Array, bias: Array | None = None) -> Graph:
    fc1 = Linear(name="fc1", inputs=("x",), weight=Param(weight),
                 bias=None if bias is None else Param(bias))  # fmt: skip
    return graph.map(lambda node: fc1 if node.name == "fc1" else node)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_ordinary_networks(target: str, seed: int, data: Array) -> None:
    assert planned(mlp(seed), data, target)[1] >= 0.95


@pytest.mark.parametrize("target", TARGETS)
def test_biases_far_above_the_weights(target: str, data: Array) -> None:
    graph = mlp(1)
    weight = graph["fc1"].params()["weight"].values * 0.004
    graph = with_fc1(graph, weight, np.linspace(0.08, 0.48, 9))
    done, agreed = planned(graph, data, target)
    assert agreed >= 0.95
    assert "clipped" not in done.plan["fc1.bias"].note


@pytest.mark.parametrize("target", TARGETS)
def test_one_weak_channel_does_not_take_the_others_bits(target: str, data: Array) -> None:
    graph = mlp(2)
    weight = graph["fc1"].params()["weight"].values.copy()
    weight[0] *= 1e-5
    graph = with_fc1(graph, weight)
    assert planned(graph, data, target, group="channel")[1] >= 0.9


def recurrent(rng: np.random.Generator) -> Graph:
    """Hidden neurons that reach themselves, weakly or strongly: each by other weights."""
    graph = mlp(2)
    back = Delay(name="back", inputs=("lif1",), shape=(9,))
    strength = np.geomspace(0.05, 2.0, 9)[:, None]
    rec = Linear(name="rec", inputs=("back",),
                 weight=Param(strength * rng.normal(0, 0.3, (9, 9))))  # fmt: skip
    nodes = []
    for node in graph.nodes:
        if node.name == "lif1":
            nodes += [back, rec]
            node = replace(node, inputs=("fc1", "rec"))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize("target", TARGETS)
def test_connections_share_a_scale_by_neuron(target: str, data: Array) -> None:
    graph = recurrent(np.random.default_rng(4))
    lost = {}
    for group in ("layer", "channel"):
        done, agreed = planned(graph, data, target, group=group)
        assert agreed >= 0.9
        scale = done.plan.scales["lif1"]
        assert scale.size == (9 if group == "channel" else 1)
        steps = [done.plan[f"{name}.weight"].fmt.unit / scale for name in ("fc1", "rec")]
        lost[group] = sum(float(np.mean(step**2)) for step in steps)
        for name in ("fc1", "rec"):
            weight = np.abs(graph[name].params()["weight"].values).max(1)
            assert (
                weight * scale
                <= 1.01
                * done.plan[f"{name}.weight"].fmt.range.hi
                * done.plan[f"{name}.weight"].fmt.unit
            ).all()
    assert lost["channel"] < lost["layer"] / 1.5


def test_moves_of_formats_by_hand() -> None:
    """Two channels, two connections: the second one's weights are 3 times the first one's."""
    rows = [np.array([[127.0, 0.0], [12.7, 1.0]]), np.array([[381.0], [38.1]])]
    found = balanced(rows, np.array([127, 127]), np.ones(2), 0, 16.0)
    # Its format is moved by 2, so that nothing clips; by 4 the first one would fill its own.
    options = {2: (2 / 3, 2 / 0.3), 4: (1.0, 10.0)}
    lost = {move: sum((2 + move**2) / f**2 for f in fs) for move, fs in options.items()}
    np.testing.assert_allclose(found, options[min(lost, key=lost.__getitem__)])


@pytest.mark.parametrize("target", TARGETS)
def test_a_threshold_out_of_reach_is_never_reached(target: str, data: Array) -> None:
    graph = mlp(2)
    high = lif("lif1", "fc1", 9, theta=1e6)
    graph = graph.map(lambda node: high if node.name == "lif1" else node)
    done, _ = planned(graph, data, target)
    assert "out of reach" in done.plan["lif1.threshold"].note
    hidden = np.abs(run(done.final, data).states["lif1.v"])[:, -1]
    assert hidden.any(), "the weights keep their bits"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("readout", ["first_spike", "count"])
def test_compared_membranes_share_a_scale(target: str, readout: str, data: Array) -> None:
    done, _ = planned(mlp(3, readout=readout), data, target, group="channel")
    assert (done.plan.scales["lif2"].size == 1) == (readout == "first_spike")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("low", [0.0, -16.0])
def test_values_set_the_point_of_their_input(target: str, low: float) -> None:
    rng = np.random.default_rng(5)
    graph = Graph("direct", (
        Input(name="x", shape=(6,), kind="current"),
        Linear(name="fc", inputs=("x",), weight=Param(rng.normal(0.05, 0.1, (4, 6)))),
        lif("lif", "fc", 4), Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    real = np.repeat(rng.uniform(low, 16, (40, 1, 6)), 20, axis=1)
    canonical = canonicalize(graph)
    found = backend(target)
    plan = default_plan(found, canonical, observe(canonical, real))
    fmt = plan["x.value"].fmt
    assert fmt.signed == (low < 0)
    assert fmt.range.hi * fmt.unit >= 15.8
    done = lower(canonical, plan, found)
    ints = np.clip(np.rint(real * 2.0**fmt.frac), fmt.range.lo, fmt.range.hi).astype(np.int64)
    agreed = run(canonical, real).output.sum(1).argmax(1) == run(done.final, ints).output.sum(
        1
    ).argmax(1)
    assert agreed.mean() >= 0.85


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("mcu", "fc1.weight s4f0 nearest_even saturate"),
        ("mcu", "lif1.v s8f1 floor saturate"),
        ("mcu", "lif1.scale 10000"),
        ("mcu", "lif1.scale 0.05"),
        ("mcu", "lif1.decay leak5 floor error"),
        ("loihi", "fc1.weight s4f-5 nearest_even saturate"),
        ("loihi", "lif1.scale 200"),
    ],
)
def test_the_rest_of_a_plan_follows_the_lines_given(target: str, line: str, data: Array) -> None:
    graph = mlp(4)
    done, agreed = planned(graph, data, target, line)
    path, first = line.split()[:2]
    assert agreed >= 0.8
    if path.endswith(".scale"):
        assert done.plan.scales["lif1"] == float(first)
    else:
        assert str(done.plan[path].fmt) == first
    if path == "lif1.v":
        assert done.plan["lif1.threshold"].fmt.frac == 1


def test_what_a_plan_costs_is_noted(data: Array) -> None:
    graph = mlp(4)
    line = "fc1.weight s8f7 nearest_even saturate\nlif1.scale 3\nlif1.decay leak5 floor error"
    done, _ = planned(graph, data, "mcu", line)
    assert done.plan["fc1.weight"].note.endswith("% clipped")
    assert done.plan["lif1.decay"].note == "0.9 becomes 0.875"


@pytest.mark.parametrize("target", TARGETS)
def test_zero_weights_and_silence(target: str, data: Array) -> None:
    graph = with_fc1(mlp(0), np.zeros((9, 12)), np.zeros(9))
    done, agreed = planned(graph, data, target)
    assert agreed == 1.0
    assert isinstance(done.final["lif1"], Neuron)


def test_an_activation_that_cannot_be_proved_is_assumed(rng: np.random.Generator) -> None:
    graph = mlp(0, sizes=(900, 9, 4))
    weight = np.abs(rng.normal(0.01, 0.002, (9, 900)))
    graph = with_fc1(graph, weight)
    quiet = spikes(rng, (4, 10, 900), 0.02)
    done, _ = planned(graph, quiet, "loihi")
    assert set(done.plan.assumed) == {"lif1"}
    assert 2 * done.plan.assumed["lif1"] <= 32767
    with pytest.raises(PlanError, match="whole number"):
        assert Plan({}, {}, {"assume.lif1": "much"}).assumed


def test_how_products_are_added_up_moves_no_plan(data: Array) -> None:
    """Inputs in another order: the same network, but for the last bits of its sums."""
    graph = mlp()
    turned = np.random.default_rng(1).permutation(12)
    fc1 = graph["fc1"]
    assert isinstance(fc1, Linear)
    other = with_fc1(
        graph, fc1.weight.values[:, turned], None if fc1.bias is None else fc1.bias.values
    )
    ours, theirs = (
        observe(canonicalize(g), x.astype(float))
        for g, x in ((graph, data), (other, data[..., turned]))
    )
    assert ours.peaks == theirs.peaks
    assert ours.currents == theirs.currents
