"""Lateral inhibition is one number: what it means, and everything that must not make a matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import lif, param, spikes
from qspinn import storage
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.choice import Choice
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.engine.sweep import sweep
from qspinn.errors import PlanError
from qspinn.explore.knobs import space_of
from qspinn.interp import run
from qspinn.ir import (
    VOTE,
    Array,
    Delay,
    Graph,
    Input,
    Lateral,
    Linear,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
)
from qspinn.memory import float_bytes
from qspinn.neurons import spiking
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.readout import summarize
from qspinn.signals import signals
from qspinn.simulate import simulate
from qspinn.text import text
from qspinn.verify import verify

INPUTS, NEURONS = 20, 9
LABELS = (0, 1, 2, 0, 1, 2, 0, -1, 2)


def competing(seed: int, *inhibition: Node, weights: tuple[float, float] = (0.0, 0.4)) -> Graph:
    """Neurons that excite nobody and inhibit each other, as `inhibition` says."""
    w = np.random.default_rng(seed).uniform(*weights, (NEURONS, INPUTS))
    names = tuple(node.name for node in inhibition)
    neuron = lif("exc", "fc", NEURONS, decay=0.95, theta=1.5)
    return Graph(
        "competing",
        (
            Input(name="x", shape=(INPUTS,)),
            Linear(name="fc", inputs=("x",), weight=Param(w)),
            Delay(name="back", inputs=("exc",), shape=(NEURONS,)),
            *inhibition,
            replace(neuron, inputs=("fc", *names)),
            Output(name="out", inputs=("exc",), readout=VOTE, labels=LABELS),
        ),
    )


def lateral(weight: float = -1.75) -> Lateral:
    return Lateral(name="inh", inputs=("back",), weight=param(weight))


def matrix(off: float = -1.75, own: float = 0.0) -> Linear:
    weight = np.where(np.eye(NEURONS, dtype=bool), own, off)
    return Linear(name="inh", inputs=("back",), weight=Param(weight))


def plan_of(graph: Graph, data: Array, **choices: Choice) -> Plan:
    named = {name.replace("__", "."): choice for name, choice in choices.items()}
    return default_plan(backend("mcu"), graph, observe(graph, data), choices=named)


def test_it_means_the_matrix_with_an_empty_diagonal(rng: np.random.Generator) -> None:
    data = spikes(rng, (5, 30, INPUTS), 0.3)
    one = run(competing(1, lateral()), data)
    other = run(competing(1, matrix()), data)
    assert one.output.sum() > 40
    for name, values in other.states.items():
        assert np.array_equal(one.states[name], values)
    free = run(competing(1, lateral(0.0)), data)
    assert free.output.sum() > one.output.sum()


def test_a_uniform_matrix_becomes_one(rng: np.random.Generator) -> None:
    found = canonicalize(competing(2, matrix()))
    assert isinstance(found["inh"], Lateral)
    assert found.digest == competing(2, lateral()).digest
    both = canonicalize(competing(2, matrix(own=0.5)))
    assert isinstance(both["inh"], Lateral)
    assert isinstance(both["inh_own"], Scale)
    data = spikes(rng, (3, 25, INPUTS), 0.3)
    want = run(competing(2, matrix(own=0.5)), data)
    assert np.array_equal(run(both, data).output, want.output)


def test_what_is_not_uniform_stays_a_matrix() -> None:
    uneven = matrix().weight.values.copy()
    uneven[3, 4] = -1.5
    graph = competing(3, replace(matrix(), weight=Param(uneven)))
    assert isinstance(canonicalize(graph)["inh"], Linear)
    biased = competing(3, replace(matrix(), bias=Param(np.ones(NEURONS))))
    assert isinstance(canonicalize(biased)["inh"], Linear)


@pytest.mark.parametrize("group", ["layer", "channel"])
def test_it_is_quantized_with_the_neurons_it_feeds(rng: np.random.Generator, group: str) -> None:
    graph, data = competing(4, lateral()), spikes(rng, (6, 40, INPUTS), 0.3)
    choices = {"fc__weight": Choice(bits=3), "exc__v": Choice(bits=8)}
    plan = plan_of(graph, data, exc__scale=Choice(group=group), **choices)
    program = quantize(graph, plan)
    made = program["inh"]
    assert isinstance(made, Lateral)
    scale = np.broadcast_to(plan.scales["exc"].reshape(-1), (NEURONS,))
    assert made.weight.values.size == (NEURONS if group == "channel" else 1)
    assert made.weight.fmt is not None
    assert np.abs(made.weight.real + 1.75 * scale).max() <= made.weight.fmt.unit / 2
    weights = program["fc"].params()["weight"]
    assert str(weights.fmt).startswith("u3")  # none is negative: all three bits are magnitude
    assert 3 < weights.values.max() <= 7
    want = run(program, data)
    assert want.output.sum() > 40
    for engine in ("numpy", "auto"):
        got = simulate(program, data, record="trace", engine=engine).trace
        assert got is not None
        assert np.array_equal(got.output, want.output)
        assert np.array_equal(got.states["exc.v"], want.states["exc.v"])
    span = signals(program)["inh"].interval
    assert span is not None
    assert span.lo == int(made.weight.values.min()) * (NEURONS - 1)


def test_the_sweep_counts_what_it_adds(rng: np.random.Generator) -> None:
    graph, data = competing(5, lateral()), spikes(rng, (6, 40, INPUTS), 0.3)
    program = quantize(graph, plan_of(graph, data))
    (tally,) = sweep([program], data, operations=True)
    trace = run(program, data)
    assert np.array_equal(tally.summary.counts, summarize(program, trace).counts)
    arrived = int(trace.output[:, :-1].sum())  # what is sent in the last step arrives nowhere
    assert arrived > 0
    assert tally.operations["inh"] == arrived * (NEURONS - 1)


@pytest.mark.needs("torch")
def test_torch_sweeps_to_the_same_bits(rng: np.random.Generator) -> None:
    from qspinn.engine import torched

    graph, data = competing(6, lateral()), spikes(rng, (6, 40, INPUTS), 0.3)
    program = quantize(graph, plan_of(graph, data, exc__scale=Choice(group="channel")))
    (tally,) = torched.sweep([program], data, device="cpu")
    (want,) = sweep([program], data, operations=True)
    assert np.array_equal(tally.summary.counts, want.summary.counts)
    assert tally.operations == want.operations


def test_it_is_one_value_in_memory_and_no_knob() -> None:
    graph = competing(7, lateral())
    stored = INPUTS * NEURONS + 1 + NEURONS + NEURONS + len(LABELS)  # v, the delay line, labels
    assert float_bytes(graph) == 4 * stored
    space = space_of(graph, backend("mcu"), Encoder("rate", 20))
    named = {knob.name: knob.options for knob in space.knobs}
    assert "inh.weight" not in named
    assert named["fc.weight"][-3:] == ("3", "2", "1")  # no sign: no ternary, and one bit is 0 or 1


def test_it_is_stored_and_shown(tmp_path: object) -> None:
    graph = competing(8, lateral())
    shown = text(graph)
    assert "inh = Lateral(back)" in shown
    assert "readout=vote" in shown
    from pathlib import Path

    path = Path(str(tmp_path)) / "g.qspinn"
    storage.save(graph, path)
    assert storage.load(path).digest == graph.digest


# --- the adaptive threshold ---


def adaptive(decay: float, step: float, start: Array) -> Graph:
    neuron = replace(
        lif("exc", "fc", NEURONS, decay=0.9, theta=1.0),
        model=spiking(adaptive=True),
        values={
            "decay": param(0.9), "threshold": param(1.0), "adaptation_decay": param(decay),
            "adaptation_step": param(step),
        },
        states={"v": State(), "adaptation": State(Param(start))},
    )  # fmt: skip
    weight = Param(np.random.default_rng(0).uniform(0, 0.5, (NEURONS, INPUTS)))
    nodes = (
        Input(name="x", shape=(INPUTS,)),
        Linear(name="fc", inputs=("x",), weight=weight),
        neuron,
        Output(name="out", inputs=("exc",)),
    )
    return Graph("homeostasis", nodes)


def test_spikes_raise_the_threshold_and_rest_lowers_it(rng: np.random.Generator) -> None:
    data = spikes(rng, (2, 60, INPUTS), 0.4)
    data[:, 40:] = 0
    plain = run(adaptive(1.0, 0.0, np.zeros(NEURONS)), data)
    trace = run(adaptive(0.9, 0.5, np.zeros(NEURONS)), data)
    assert 0 < trace.output.sum() < plain.output.sum()
    level = trace.states["exc.adaptation"]
    want = np.zeros_like(level[:, 0])
    for t in range(60):
        want = 0.9 * want + 0.5 * trace.output[:, t]
        assert np.array_equal(level[:, t], want)


def test_a_frozen_adaptation_is_a_threshold(rng: np.random.Generator) -> None:
    start = rng.uniform(0, 2, NEURONS)
    graph = adaptive(1.0, 0.0, start)
    found = canonicalize(graph)
    neuron = found["exc"]
    assert set(neuron.params()) == {"decay", "threshold"}
    assert np.array_equal(neuron.params()["threshold"].values, 1.0 + start)
    data = spikes(rng, (3, 40, INPUTS), 0.4)
    assert np.array_equal(run(found, data).output, run(graph, data).output)
    assert "adaptation" in canonicalize(adaptive(0.99, 0.0, start))["exc"].states  # type: ignore[attr-defined]


# --- what stands beside them ---


def test_a_uniform_matrix_over_an_image_stays_one() -> None:
    """A linear connection reads flat, a lateral one keeps the shape."""
    graph = Graph(
        "image",
        (
            Input(name="x", shape=(3, 3)),
            Linear(name="fc", inputs=("x",), weight=Param(matrix().weight.values)),
            lif("exc", "fc", NEURONS),
            Output(name="out", inputs=("exc",)),
        ),
    )
    assert isinstance(verify(canonicalize(graph))["fc"], Linear)


def test_beside_a_clamped_membrane_nothing_is_clipped(rng: np.random.Generator) -> None:
    """Its format is unsigned and a bit finer; a bias has a sign, and a start counts as reach."""
    plain = lif("exc", "fc", NEURONS, decay=0.1, theta=0.9)
    values = {**plain.values, "bias": param(0.85), "v_min": param(0.0)}
    model = spiking(clamp=True, bias=True)
    neuron = replace(
        plain, model=model, values={name: values[name] for name in model.params},
        states={"v": State(param(15.0))},
    )  # fmt: skip
    weight = Param(rng.uniform(0, 0.04, (NEURONS, INPUTS)))
    graph = Graph(
        "clamped",
        (
            Input(name="x", shape=(INPUTS,)),
            Linear(name="fc", inputs=("x",), weight=weight),
            neuron,
            Output(name="out", inputs=("exc",)),
        ),
    )
    data = spikes(rng, (4, 30, INPUTS), 0.3)
    plan = plan_of(graph, data)
    assert not plan["exc.v"].fmt.signed
    program = quantize(graph, plan)
    held = program["exc"]
    assert isinstance(held, Neuron)
    factor = float(plan.scales["exc"])
    unit = held.states["v"].init.fmt
    assert unit is not None
    assert abs(float(held.states["v"].init.real) - 15.0 * factor) <= unit.unit
    assert abs(float(held.values["bias"].real) - 0.85 * factor) <= 2 * unit.unit
    assert np.array_equal(run(program, data).output, run(graph, data).output)


@pytest.mark.needs("torch")
def test_a_vote_is_not_trained_by_gradients(rng: np.random.Generator) -> None:
    from qspinn.train.fitting import fit

    graph, data = competing(9, lateral()), spikes(rng, (6, 40, INPUTS), 0.3)
    lessons = Dataset("d", data, np.zeros(6, np.int64), np.zeros(6, np.int64))
    with pytest.raises(PlanError, match="a network that votes"):
        fit(graph, plan_of(graph, data), lessons, Encoder())
