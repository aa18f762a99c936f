"""Lateral weights, adaptive thresholds and decisions on Loihi, bit for bit."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.lateral import Relay
from qspinn.backends.loihi.layers import layers
from qspinn.backends.loihi.reasons import Reasons
from qspinn.backends.loihi.synmem import slice_words

from loihi_nets import W, linear, net, neuron, run_both, spikes, written
from qspinn import interp
from qspinn.backend import default_plan
from qspinn.calibrate import observe
from qspinn.choice import Choice, Choices
from qspinn.errors import BackendError, LegalizeError
from qspinn.fixed import QFormat
from qspinn.ir import (
    READOUTS,
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
    Shape,
    State,
)
from qspinn.neurons import spiking
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.readout import Summary, predict, summarize

Rng = np.random.Generator
CHIP = BACKEND.devices["loihi2"]
SIZE = 12
INHIBITION = Param(-120, QFormat(8, 0))


def competing(
    rng: Rng, delay: int, weight: Param = INHIBITION, shape: Shape = (SIZE,), **rule: Any
) -> Graph:
    """Neurons that inhibit each other: exc -> delay -> lateral -> exc."""
    size = int(np.prod(shape))
    drive: Node = linear("fc", "input", rng.integers(0, 128, (size, 20)))
    if len(shape) > 1:
        drive = Scale(name="fc", inputs=("input",), scale=Param(rng.integers(0, 128, shape), W))
    values = {"threshold": rng.integers(1200, 2500, shape), "bias": 900}
    return net("competing", (20,) if len(shape) == 1 else shape, (
        Delay(name="later", inputs=("exc",), shape=shape, steps=delay),
        drive,
        Lateral(name="inh", inputs=("later",), weight=weight),
        neuron("exc", ("fc", "inh"), shape, values, **rule),
    ))  # fmt: skip


def forms(graph: Graph) -> dict[str, Any]:
    """The form of each connection's synapses, and what delays them."""
    reasons = Reasons()
    found = layers(graph, reasons)
    assert not reasons.found
    return {s.name: s for layer in found for s in layer.synapses}


# --- what becomes of lateral weights ---


@pytest.mark.parametrize(("delay", "relayed"), [(1, False), (2, True), (5, True)])
def test_a_relay_takes_two_steps(delay: int, relayed: bool, rng: Rng) -> None:
    legal = BACKEND.legalize(competing(rng, delay))
    synapse = forms(legal)["inh"]
    assert isinstance(synapse.form, Relay) is relayed
    assert synapse.lag == delay - 1
    if relayed:
        assert sum(p.mantissa.size for p in synapse.packed[:2]) == 2 * SIZE
        to, back, own = synapse.packed
        assert to.values.tolist() == [[1] * SIZE]
        assert back.values.reshape(-1).tolist() == [-120] * SIZE
        assert own.values.tolist() == (np.eye(SIZE, dtype=int) * 120).tolist()
    else:
        matrix = synapse.packed[0].values
        assert matrix.tolist() == (120 * np.eye(SIZE, dtype=int) - 120).tolist()


def test_without_a_cycle_the_pipeline_waits_for_the_relay(rng: Rng) -> None:
    graph = net("forward", (9,), (
        Lateral(name="all", inputs=("input",), weight=Param(rng.integers(1, 99, 9), QFormat(8, 0))),
        neuron("lif", ("all",), (9,)),
    ))  # fmt: skip
    legal = BACKEND.legalize(graph)
    assert isinstance(forms(legal)["all"].form, Relay)
    assert legal.shifts["lif"] == 2


def test_a_longer_cycle_must_leave_two_steps(rng: Rng) -> None:
    """A lateral connection between two layers: the cycle's delays pay for all of its stages."""

    def around(delay: int) -> Graph:
        return net("around", (7,), (
            Delay(name="back", inputs=("two",), shape=(9,), steps=delay),
            linear("fc1", "input", rng.integers(0, 99, (9, 7))),
            linear("fc2", "back", rng.integers(0, 99, (9, 9))),
            neuron("one", ("fc1", "fc2"), (9,)),
            Lateral(name="all", inputs=("one",), weight=INHIBITION),
            linear("fc3", "input", rng.integers(0, 99, (9, 7))),
            neuron("two", ("all", "fc3"), (9,)),
        ))  # fmt: skip

    assert isinstance(forms(BACKEND.legalize(around(3)))["all"].form, Relay)
    assert not isinstance(forms(BACKEND.legalize(around(2)))["all"].form, Relay)
    with pytest.raises(LegalizeError, match="1 of the 2 steps that its synapses take; delay it by"):
        BACKEND.legalize(around(1))


def test_few_neurons_need_no_relay(rng: Rng) -> None:
    assert not isinstance(forms(BACKEND.legalize(competing(rng, 2, shape=(4,))))["inh"].form, Relay)


def test_the_bound_counts_all_others(rng: Rng) -> None:
    for delay in (1, 2):
        (layer,) = layers(BACKEND.legalize(competing(rng, delay)), Reasons())
        assert layer.bound.lo == -120 * (SIZE - 1)
    weight = Param(-2980, QFormat(12, 0))
    with pytest.raises(LegalizeError, match=r"weights from -2980 to 0 need 10 bits"):
        BACKEND.legalize(competing(rng, 1, weight))
    with pytest.raises(LegalizeError, match=r"may lie in \[-35200, .*, the limit is 32767"):
        BACKEND.legalize(competing(rng, 2, Param(-100, QFormat(8, -5))))


def test_a_relay_is_cheaper_than_a_matrix(rng: Rng) -> None:
    def lines(delay: int) -> dict[tuple[str, str], int]:
        weight = Param(-60, QFormat(8, 0))
        legal = BACKEND.legalize(competing(rng, delay, weight, shape=(300,)))
        found = BACKEND.footprint(legal, CHIP).lines
        return {(line.owner, line.region): line.bytes for line in found}

    matrix, relay = lines(1), lines(2)
    assert matrix["exc", "cores"] == 3
    sizes = [143, 143, 14]
    assert matrix["exc", "core-neurons"] == 143
    words = [slice_words(20, n, 8) + slice_words(300, n, 4) for n in sizes]
    assert matrix["exc", "core-words"] == words[0] <= 12000
    assert slice_words(20, 144, 8) + slice_words(300, 144, 4) > 12000
    assert matrix["exc", "synmem"] == 8 * sum(words)
    a_core = slice_words(20, 300, 8) + slice_words(1, 300, 4) + slice_words(300, 1, 4)
    assert relay["exc", "synmem"] == 8 * a_core
    assert relay["inh", "synmem"] == 8 * slice_words(300, 1, 1)
    assert (relay["exc", "cores"], relay["inh", "state"]) == (1, 3)
    assert ("inh", "cores") not in relay, "the relaying neuron lies on the same core"
    assert relay["exc", "core-words"] == a_core + slice_words(300, 1, 1)


def test_labels_stay_with_the_host(rng: Rng) -> None:
    graph = BACKEND.legalize(competing(rng, 2))
    labels = (*range(SIZE - 1), -1)
    out = Output(name="out", inputs=("exc",), readout=VOTE, labels=labels)
    voting = replace(graph, nodes=(*graph.nodes[:-1], out))
    (line,) = (n for n in BACKEND.footprint(voting, CHIP).lines if n.region == "host")
    assert (line.owner, line.bytes) == ("out", SIZE)


def test_the_package_says_which_it_is(rng: Rng) -> None:
    for delay in (1, 2):
        legal = BACKEND.legalize(competing(rng, delay))
        artifact = BACKEND.emit(legal, CHIP, Plan({}))
        (layer,) = artifact.facts["layers"]
        assert layer["relays"] == ["inh"] * (delay == 2)
        readme = artifact.files["README.md"].decode()
        assert ("`inh` reaches every neuron from every other" in readme) is (delay == 1)
        assert ("12 to 1 (GradedVec) to 12" in readme) is (delay == 2)


def test_a_matrix_beyond_all_bounds_is_refused(rng: Rng) -> None:
    one = np.ones(9000)
    graph = net("huge", (9000,), (
        Delay(name="later", inputs=("exc",), shape=one.shape, steps=1),
        Scale(name="drive", inputs=("input",), scale=Param(one, W)),
        Lateral(name="inh", inputs=("later",), weight=Param(-1, QFormat(8, 0))),
        neuron("exc", ("drive", "inh"), one.shape),
    ))  # fmt: skip
    with pytest.raises(LegalizeError, match=r"9000 x 9000 synapses.*a step more of delay"):
        BACKEND.legalize(graph)


# --- in Lava ---

Case = tuple[int, dict[str, Any]]
LAVA: dict[str, Case] = {
    "matrix": (1, {}),
    "relay": (2, {"synapse": "new"}),
    "late relay with a bias": (4, {"bias": True}),
    "own process": (2, {"reset": "subtract", "clamp": True}),
    "adaptive": (2, {"adaptive": True}),
}


@pytest.mark.needs("lava")
@pytest.mark.parametrize("case", LAVA)
def test_competition_in_lava(case: str, rng: Rng, tmp_path: Path) -> None:
    delay, rule = LAVA[case]
    weight = Param(rng.integers(-60, 0, SIZE), QFormat(8, -4)) if delay == 2 else INHIBITION
    graph = competing(rng, delay, weight, **rule)
    data = spikes(rng, (2, 25, 20), 0.4)
    legal = run_both(graph, data, tmp_path)
    fired = interp.run(legal, data).outputs["out"]
    assert 0.02 < fired.mean() < 0.6
    free = graph.map(lambda n: n.with_params({"weight": Param(0, W)}) if n.name == "inh" else n)
    assert (fired != interp.run(free, data).outputs["out"]).any(), "inhibition changes something"


@pytest.mark.needs("lava")
def test_a_relay_from_the_first_step(rng: Rng, tmp_path: Path) -> None:
    cold = run_both(competing(rng, 2), spikes(rng, (1, 20, 20), 0.4), tmp_path, start="cold")
    assert isinstance(forms(cold)["inh"].form, Relay)


@pytest.mark.needs("lava")
def test_counts_and_images_through_a_relay(rng: Rng, tmp_path: Path) -> None:
    """A relay adds up counts, too; images go through it flat, and may start after a bias."""
    shape = (2, 3, 2)
    weight = Param(rng.integers(1, 9, (2, 1, 1)), QFormat(8, 0))
    inhibition = Param(rng.integers(-30, 31, shape), W)
    graph = net("counted", shape, (
        Delay(name="later", inputs=("exc",), shape=shape, steps=3),
        Lateral(name="drive", inputs=("input",), weight=weight),
        Lateral(name="inh", inputs=("later",), weight=inhibition),
        neuron("exc", ("drive", "inh"), shape, {"bias": 13000}, bias=True),
    ), kind="count", high=5)  # fmt: skip
    run_both(graph, spikes(rng, (2, 15, *shape), high=5), tmp_path)
    assert "inh_relay = GradedVec" in (tmp_path / "network.py").read_text()
    assert "drive_relay = GradedVec" in (tmp_path / "network.py").read_text()


@pytest.mark.needs("lava")
def test_the_watch_sees_both_ways_of_a_relay(rng: Rng, tmp_path: Path) -> None:
    """All neurons spike at once: what they receive is inhibition less their own."""
    graph = competing(rng, 2, Param(-100, QFormat(8, -5)))
    same = Param(np.full((SIZE, 20), 127), W)
    graph = graph.map(lambda n: replace(n, weight=same) if isinstance(n, Linear) else n)
    legal = BACKEND.legalize(graph, assume_activation={"exc": 6000})
    written(legal, tmp_path)
    data = np.ones((1, 4, 20), int) * (np.arange(4) == 0)[:, None]
    peak = 3200 * (SIZE - 1)
    with pytest.raises(BackendError, match=f"reached {peak}; it was assumed"):
        BACKEND.run(tmp_path, legal, data, "lava")
    assert not BACKEND.run(tmp_path, legal, 0 * data, "lava").outputs["out"].any()


@pytest.mark.needs("lava")
def test_thresholds_for_each_neuron_are_the_stock_lif_s(rng: Rng, tmp_path: Path) -> None:
    """What an adaptive threshold leaves when it is frozen."""
    run_both(competing(rng, 2), spikes(rng, (2, 20, 20), 0.4), tmp_path)
    text = (tmp_path / "network.py").read_text()
    assert 'vth=p["exc.vth"]' in text
    assert "neurons_" not in text


def test_an_adaptive_threshold_runs_in_the_simulator_only(rng: Rng) -> None:
    (layer,) = layers(BACKEND.legalize(competing(rng, 2, adaptive=True)), Reasons())
    assert layer.registers is None
    assert layer.why == "has an adaptive threshold"


# --- decisions ---


def test_the_package_decides_as_the_reference_does(rng: Rng, tmp_path: Path) -> None:
    """Every readout, on few spikes, so that there are ties and silent samples."""
    written(BACKEND.legalize(competing(rng, 1)), tmp_path)
    classes = runpy.run_path(str(tmp_path / "readout.py"))["classes"]
    for _ in range(60):
        samples, steps, size = 30, rng.integers(1, 6), rng.integers(2, 9)
        sent = (rng.random((samples, steps, size)) < rng.uniform(0, 0.4)).astype(np.int32)
        potential = rng.integers(-3, 3, sent.shape)
        labels = rng.permutation(np.r_[0, rng.integers(-1, 1, size - 1)])
        if size > 3:
            labels[rng.permutation(size)[:3]] = np.arange(3)
            labels[labels < 0] = rng.choice((-1, 1))
        kept = (
            tuple(map(int, labels)) if set(range(max(labels) + 1)) <= set(labels) else (0,) * size
        )
        fired = sent > 0
        first = np.where(fired.any(1), fired.argmax(1), steps)
        summary = Summary(sent.sum(1), first, potential[:, -1], potential.max(1))
        for name in (*READOUTS, VOTE):
            want = predict(Output(name="out", readout=name, labels=kept), summary)
            got = classes(name, sent, potential, np.array(kept))
            np.testing.assert_array_equal(got, want, err_msg=name)


def decided(folder: Path, data: Array, graph: Graph) -> Array:
    """What a package says of encoded data."""
    np.save(folder / "in.npy", data)
    command = [sys.executable, "-B", "run.py", "--input", "in.npy", "--output", "out.npy"]
    subprocess.run([*command, "--decide", "classes.npy"], cwd=folder, check=True, timeout=120)
    sent = np.load(folder / "out.npy")
    np.testing.assert_array_equal(sent, interp.run(graph, data).outputs["out"])
    found: Array = np.load(folder / "classes.npy")
    return found


@pytest.mark.needs("lava")
@pytest.mark.parametrize("kind", [VOTE, "first_spike", "membrane_max"])
def test_decisions_in_lava(kind: str, rng: Rng, tmp_path: Path) -> None:
    graph = competing(rng, 2)
    labels = (0, 1, 2, -1, 1, 1, 2, 0, -1, 2, 1, 0) if kind == VOTE else ()
    nodes: tuple[Node, ...] = graph.nodes[:-1]
    if kind == "membrane_max":
        fc = linear("read", "exc", rng.integers(-128, 128, (3, SIZE)))
        nodes = (*nodes, fc, neuron("li", ("read",), (3,), reads_out=True))
    last = Output(name="out", inputs=(nodes[-1].name,), readout=kind, labels=labels)
    legal = BACKEND.legalize(replace(graph, nodes=(*nodes, last)))
    data = spikes(rng, (6, 9, 20), 0.9) * (rng.random((6, 1, 20)) < 0.4)
    want = predict(legal.output, summarize(legal, interp.run(legal, data)))
    assert len(set(want.tolist())) > 1
    np.testing.assert_array_equal(decided(written(legal, tmp_path), data, legal), want)


# --- plans ---


def diehl_cook(rng: Rng, size: int, delay: int, **rule: Any) -> Graph:
    """What unsupervised learning leaves, in float: unsigned weights, strong inhibition."""
    given = {
        "decay": 0.96, "threshold": rng.uniform(3, 6, size), "adaptation_decay": 0.999,
        "adaptation_step": 0.25,
    }  # fmt: skip
    model = spiking(**rule)
    labels = tuple(int(x) for x in rng.permutation(np.arange(size) % 10))
    return Graph("diehl_cook", (
        Input(name="input", shape=(60,)),
        Delay(name="later", inputs=("exc",), shape=(size,), steps=delay),
        Linear(name="fc", inputs=("input",), weight=Param(rng.random((size, 60)) ** 4)),
        Lateral(name="inh", inputs=("later",), weight=Param(-17.5)),
        Neuron(
            name="exc", inputs=("fc", "inh"), shape=(size,), model=model,
            values={name: Param(given[name]) for name in model.params},
            states={name: State(Param(0.0)) for name in model.states},
        ),
        Output(name="out", inputs=("exc",), readout=VOTE, labels=labels),
    ))  # fmt: skip


def planned(graph: Graph, data: Array, wish: Choices | None = None) -> tuple[Plan, Graph]:
    calibration = observe(graph, data.astype(float))
    plan = default_plan(BACKEND, graph, calibration, choices=wish)
    return plan, BACKEND.legalize(quantize(graph, plan), assume_activation=plan.assumed)


@pytest.mark.parametrize("delay", [1, 2])
def test_inhibition_far_beyond_16_bits_is_planned(delay: int, rng: Rng) -> None:
    """All 200 at once would send 200 times more than ever happens: the observed peak decides."""
    graph, data = diehl_cook(rng, 200, delay), spikes(rng, (12, 40, 60), 0.12)
    plan, legal = planned(graph, data)
    (layer,) = layers(legal, Reasons())
    assert layer.registers is not None, layer.why
    assert not layer.proved
    assert 8000 < plan.assumed["exc"] <= 16383
    weights = plan.entries["fc.weight"].fmt
    assert not weights.signed
    assert weights.frac == 0, "whole numbers of what the membrane receives"
    largest = round(float(graph["fc"].params()["weight"].values.max() * plan.scales["exc"]))
    note = f"at most {largest}: the summed input of 16 bits leaves no more"
    assert plan.entries["fc.weight"].note == note
    real, ours = (interp.run(g, data).outputs["out"] for g in (graph, legal))
    assert abs(int(real.sum()) - int(ours.sum())) < 0.1 * real.sum()


def test_few_levels_stay_whole_where_the_scale_must_give_way(rng: Rng) -> None:
    """Two bits filled from the top have six places to go down: the scale is halved, not cut."""
    graph, data = diehl_cook(rng, 200, 2), spikes(rng, (12, 40, 60), 0.12)
    free = graph.map(lambda n: n.with_params({"weight": Param(-0.01)}) if n.name == "inh" else n)
    wish = {"fc.weight": Choice(bits=2)}
    (wide, alone), (narrow, together) = (
        (plan.entries["fc.weight"].fmt, plan.scales["exc"])
        for plan in (planned(g, data, wish)[0] for g in (free, graph))
    )
    halvings = narrow.frac - wide.frac
    assert halvings > 0
    assert together == alone * 2.0**-halvings


@pytest.mark.needs("lava")
def test_an_adaptive_network_as_planned(rng: Rng, tmp_path: Path) -> None:
    graph, data = diehl_cook(rng, 30, 2, adaptive=True), spikes(rng, (2, 30, 60), 0.12)
    plan, legal = planned(graph, data)
    assert not plan.assumed
    adapted = run_both(quantize(graph, plan), data, tmp_path)
    assert interp.run(adapted, data).states["exc.adaptation"].any()
    assert adapted.digest == legal.digest
