from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import mlp, param, spikes
from qspinn.calibrate import observe
from qspinn.errors import PlanError, QuantizeError
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.interp import run
from qspinn.ir import Graph, Input, Linear, Neuron, Output, Param
from qspinn.lowering import programs
from qspinn.passes.quantize import paths, quantize
from qspinn.plan import Entry, Plan
from qspinn.planning import METHODS, choose_scale, derived
from qspinn.verify import verify

NARROW = Entry(QFormat(8))
EVERY = Entry(QFormat(16, 6), overflow=Overflow.SATURATE)


def plan_of(graph: Graph, **changed: Entry) -> Plan:
    decay = Entry(QFormat(13, 12, signed=False), Rounding.FLOOR)
    entries = {p: decay if kind == "coefficient" else EVERY for p, kind in paths(graph).items()}
    return Plan({**entries, **{k.replace("__", "."): v for k, v in changed.items()}})


def test_values_are_scaled_rounded_and_stored() -> None:
    graph = mlp()
    plan = replace(plan_of(graph), scales={"lif1": np.array(3.0)})
    done = verify(quantize(graph, plan))
    assert done.is_integer
    weight, theta = done["fc1"].params()["weight"], done["lif1"].params()["threshold"]
    assert np.array_equal(weight.values, np.rint(graph["fc1"].weight.values * 3 * 64))
    assert theta.values == 3 * 64
    assert np.array_equal(
        done["fc2"].params()["weight"].values, np.rint(graph["fc2"].weight.values * 64)
    )


def test_a_scale_per_neuron_reaches_weights_bias_and_threshold(rng: np.random.Generator) -> None:
    graph = mlp(sizes=(12, 4))
    factors = np.array([1.0, 2.0, 4.0, 0.5])
    done = quantize(graph, replace(plan_of(graph), scales={"lif1": factors}))
    fc1 = done["fc1"].params()
    assert np.array_equal(
        fc1["weight"].values, np.rint(graph["fc1"].weight.values * factors[:, None] * 64)
    )
    assert np.array_equal(fc1["bias"].values, np.rint(graph["fc1"].bias.values * factors * 64))
    assert np.array_equal(done["lif1"].params()["threshold"].values, factors * 64)


def test_powers_of_two_change_no_spike(rng: np.random.Generator) -> None:
    """The scale is free: at a fine enough format the spikes are those of the float network."""
    graph = mlp(3)
    data = spikes(rng, (6, 30, 12))
    fine = Entry(QFormat(32, 18), Rounding.NEAREST_EVEN, Overflow.SATURATE)
    entries = {p: fine if k != "coefficient" else Entry(QFormat(13, 12, signed=False))
               for p, k in paths(graph).items()}  # fmt: skip
    exact = replace(graph, nodes=tuple(
        n.with_params({"decay": param(3686 / 4096)}) if isinstance(n, Neuron) else n
        for n in graph.nodes))  # fmt: skip
    for scale in (0.25, 1.0, 4.0):
        plan = Plan(entries, {"lif1": np.array(scale), "lif2": np.array(scale)})
        done = quantize(exact, plan)
        assert np.array_equal(run(done, data).output, run(exact, data).output)


@pytest.mark.parametrize("kind", list(Rounding))
def test_offline_rounding_is_reproducible(kind: Rounding) -> None:
    graph = mlp()
    plan = plan_of(graph, fc1__weight=Entry(QFormat(8, 2), kind, Overflow.SATURATE))
    once, again = quantize(graph, plan), quantize(graph, plan)
    assert once.digest == again.digest
    other = quantize(graph, replace(plan, options={"seed": "7"}))
    assert (once.digest == other.digest) == (kind is not Rounding.STOCHASTIC)


def test_refusals_name_the_parameter() -> None:
    graph = mlp()
    tight = plan_of(graph, fc1__weight=Entry(QFormat(3, 6)))
    with pytest.raises(QuantizeError, match=r"fc1.weight: \d+ of 108 values lie outside s3f6"):
        quantize(graph, tight)
    with pytest.raises(PlanError, match=r"lif9\.v, which mlp has not"):
        quantize(graph, plan_of(graph, lif9__v=EVERY))
    partial = Plan({k: v for k, v in plan_of(graph).entries.items() if k != "lif2.v"})
    with pytest.raises(PlanError, match=r"lif2\.v: the plan gives it no format"):
        quantize(graph, partial)
    with pytest.raises(PlanError, match="3 scales for 9 neurons"):
        quantize(graph, replace(plan_of(graph), scales={"lif1": np.ones(3)}))
    with pytest.raises(PlanError, match="scales fc1, which is no neuron"):
        quantize(graph, replace(plan_of(graph), scales={"fc1": np.array(2.0)}))


def test_weights_that_feed_no_neuron_have_no_scale() -> None:
    graph = Graph("g", (
        Input(name="x", shape=(2,)),
        Linear(name="fc", inputs=("x",), weight=Param(np.eye(2))),
        Output(name="out", inputs=("fc",), readout="membrane_last"),
    ))  # fmt: skip
    with pytest.raises(QuantizeError, match="fc: feeds no neuron"):
        quantize(graph, Plan({"fc.weight": EVERY}))


def test_a_state_declared_free_of_overflow_is_proved_or_refused() -> None:
    graph = mlp()
    narrow = plan_of(graph, lif1__v=Entry(QFormat(8, 4), overflow=Overflow.ERROR))
    with pytest.raises(QuantizeError, match=r"lif1: .*may reach .*\[-128, 127\]"):
        programs(quantize(graph, narrow))
    wide = plan_of(graph, lif1__v=Entry(QFormat(32, 6), overflow=Overflow.ERROR))
    program = programs(quantize(graph, wide))["lif1"]
    assert all(op.kind != "fit" for op in program.ops), "a proved store needs no clip"


def test_derived_entries_state_the_proof() -> None:
    graph = mlp()
    done = quantize(graph, plan_of(graph))
    entries = derived(done, programs(done))
    assert set(entries) == {"lif1.input", "lif2.input"}
    assert all(e.role == "derived" and "proved [" in e.note for e in entries.values())


@pytest.mark.parametrize("method", METHODS)
def test_scales_fill_the_format(method: str, rng: np.random.Generator) -> None:
    graph = mlp(1, sizes=(40, 30, 4))
    calibration = observe(graph, spikes(rng, (8, 20, 40)).astype(float))
    node = graph["lif1"]
    assert isinstance(node, Neuron)
    factor = choose_scale(graph, node, replace(calibration, method=method), lambda _: NARROW)
    used = np.abs(graph["fc1"].weight.values).max() * factor
    assert 126.9 < used < 255, "at most half of the range is clipped away"
    each = choose_scale(
        graph, node, replace(calibration, method="max", group="channel"), lambda _: NARROW
    )
    filled = np.abs(graph["fc1"].weight.values).max(1) * each
    assert np.array_equal(np.rint(filled), np.full(30, 127))


def test_error_scale_beats_max_at_few_bits(rng: np.random.Generator) -> None:
    graph = mlp(1, sizes=(40, 30, 4))
    data = spikes(rng, (8, 20, 40)).astype(float)
    calibration = observe(graph, data)
    node = graph["lif1"]
    assert isinstance(node, Neuron)
    x, w = calibration.inputs["fc1"], graph["fc1"].weight.values

    def error(method: str) -> float:
        factor = float(
            choose_scale(
                graph, node, replace(calibration, method=method), lambda _: Entry(QFormat(3))
            )
        )
        return float(((x @ (np.clip(np.rint(w * factor), -4, 3) / factor - w).T) ** 2).mean())

    assert error("error") < error("max")


def test_observation_sees_the_peak_before_the_reset(rng: np.random.Generator) -> None:
    graph = mlp(2)
    data = spikes(rng, (4, 25, 12), 0.5).astype(float)
    seen = observe(graph, data)
    after = np.abs(run(graph, data).states["lif1.v"]).max()
    assert seen.peaks["lif1.v"] > after or seen.peaks["lif1.v"] >= 1.0
    assert seen.rates["fc1"] == data.mean(), "every observation was kept"
    assert seen.steps == 25


def test_quantized_decays_keep_their_product_rounding() -> None:
    graph = mlp()
    done = quantize(graph, plan_of(graph))
    assert done["lif1"].params()["decay"].rounding is Rounding.FLOOR
