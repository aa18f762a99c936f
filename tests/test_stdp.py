"""Learning by spike timing: the network that learns is the interpreter's, spike for spike."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs import mlp, param
from qspinn import storage
from qspinn.datasets import Dataset
from qspinn.encode import Encoder, encode
from qspinn.errors import FrontendError, PlanError, VerifyError
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.interp import run
from qspinn.ir import Array, Graph, Neuron, Param, State
from qspinn.neurons import spiking
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize
from qspinn.plan import Entry, Plan
from qspinn.readout import votes
from qspinn.simulate import simulate
from qspinn.stdp import Learned, Recipe, counts, kernels, learn
from qspinn.stdp.learning import classes_of
from qspinn.stdp.lessons import Learner
from qspinn.stdp.network import adapting, network, new, parts, with_values
from qspinn.stdp.showing import shown
from qspinn.verify import verify

INPUTS, CLASSES = 24, 4
ENCODER = Encoder("rate", 20, 0.5, 3)
RECIPE = Recipe(
    neurons=12,
    threshold=3.0,
    inhibition=20.0,
    length=2.0,
    bound=0.5,
    passes=2,
    step=0.025,
    rate=0.1,
)
ALL = np.arange(200)


def patterns(seed: int = 0, size: int = len(ALL)) -> Dataset:
    """Noisy samples of four patterns that overlap."""
    rng = np.random.default_rng(seed)
    prototypes = np.random.default_rng(7).random((CLASSES, INPUTS)) < 0.35
    y = rng.integers(0, CLASSES, size)
    x = np.clip(prototypes[y] * 0.9 + rng.normal(0, 0.12, (size, INPUTS)), 0, 1)
    return Dataset("patterns", x, y, np.zeros(size, np.int64))


DATA = patterns()


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn(DATA, ENCODER, RECIPE)


def spikes_of(graph: Graph, index: Array, data: Dataset = DATA) -> Array:
    """The counts of the reference, or of the simulator that equals it."""
    assert data.x is not None
    raster = encode(data.x[index], ENCODER, index).astype(np.int64)
    if graph.is_integer:
        summary = simulate(graph, raster).summary
        assert summary is not None
        return summary.counts
    return run(graph, raster.astype(np.float64), record=False).output.sum(1).astype(np.int64)


def accuracy(graph: Graph, data: Dataset) -> float:
    answers = votes(graph.output.labels, counts(graph, data, ENCODER, np.arange(len(data.split))))
    return float((answers.argmax(1) == data.y).mean())


def entry(fmt: str, rounding: Rounding = Rounding.NEAREST_EVEN) -> Entry:
    overflow = Overflow.SATURATE
    return Entry(QFormat.parse(fmt), rounding, overflow)


def plan_for(rounding: Rounding = Rounding.FLOOR, **changed: Entry) -> Plan:
    """Two-bit weights and eight-bit states, both rounded alike."""
    entries = {
        "fc.weight": entry("u2f0", rounding),
        "inh.weight": entry("s8f0"),
        "exc.v": entry("s8f0", rounding),
        "exc.decay": replace(entry("u9f8", rounding), overflow=Overflow.ERROR),
        "exc.threshold": entry("s8f0", rounding),
        "exc.v_min": entry("s8f0"),
    }
    named = {name.replace("__", "."): value for name, value in changed.items()}
    return Plan({**entries, **named}, {"exc": np.array(3.0)}, ENCODER.options())


# --- the float network ---


def test_it_learns_what_labels_did_not_teach(learned: Learned) -> None:
    fresh = new(RECIPE, (INPUTS,))
    unseen = patterns(seed=1, size=300)
    answers = counts(fresh, DATA, ENCODER, ALL)
    classes = classes_of(answers, np.asarray(DATA.y), CLASSES)
    before = accuracy(replace_labels(fresh, classes), unseen)
    after = accuracy(learned.graph, unseen)
    assert after > 0.9
    assert after > before + 0.05
    assert learned.plan is None
    assert len(learned.spikes) == RECIPE.passes
    verify(learned.graph)


def replace_labels(graph: Graph, labels: tuple[int, ...]) -> Graph:
    return graph.map(lambda n: replace(n, labels=labels) if n is graph.output else n)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_counts_are_the_interpreters(delay: int) -> None:
    graph = learn(DATA, ENCODER, replace(RECIPE, delay=delay), index=ALL[:60]).graph
    found = counts(graph, DATA, ENCODER, ALL)
    assert found.sum() > len(ALL)
    assert (found == spikes_of(graph, ALL)).all()


def test_the_same_seed_gives_the_same_bytes(learned: Learned) -> None:
    again = learn(DATA, ENCODER, RECIPE)
    assert again.graph.digest == learned.graph.digest
    assert again.spikes == learned.spikes
    assert learn(DATA, ENCODER, replace(RECIPE, seed=1)).graph.digest != learned.graph.digest


def test_weights_lie_on_a_grid_on_which_float32_sums_are_exact(learned: Learned) -> None:
    weight = parts(learned.graph).linear.weight.values
    assert network(learned.graph).wiring.forward.dtype == np.float32
    assert (weight * 2.0**21 % 1 == 0).all()
    assert weight.min() >= 0
    assert weight.max() <= RECIPE.bound * RECIPE.length
    lengths = np.sqrt((weight**2).sum(1))
    assert lengths.max() < RECIPE.length * 1.001


def test_learning_goes_on_from_a_graph(learned: Learned) -> None:
    more = learn(DATA, ENCODER, replace(RECIPE, passes=1), graph=learned.graph)
    assert more.graph.digest != learned.graph.digest
    assert more.graph["exc"].params()["decay"] is learned.graph["exc"].params()["decay"]
    assert accuracy(more.graph, patterns(seed=1)) > 0.9


@pytest.mark.parametrize("encoder", [ENCODER, Encoder("latency", 12, 0.9)])
def test_spikes_are_the_encoders(encoder: Encoder) -> None:
    assert DATA.x is not None
    index = np.array([5, 3, 190, 0])
    ((events, size),) = shown((INPUTS,), DATA, encoder, index)
    assert size == len(index)
    raster = np.zeros((len(index) * encoder.steps, INPUTS), np.uint8)
    rows = np.repeat(np.arange(len(raster)), np.diff(events.offsets))
    raster[rows, events.active] = 1
    expected = encode(DATA.x[index], encoder, index)
    assert expected.any()
    assert (raster.reshape(expected.shape) == expected).all()


def test_spikes_in_the_data_need_no_encoder() -> None:
    assert DATA.x is not None
    raster = encode(DATA.x, ENCODER, ALL)
    data = replace(DATA, x=raster)
    graph = learn(data, Encoder("none"), RECIPE, index=ALL[:50]).graph
    assert (counts(graph, data, Encoder("none"), ALL) == spikes_of(graph, ALL)).all()


# --- under a plan ---


def program_of(learner: Learner, start: Graph) -> Graph:
    assert learner.plan is not None
    return quantize(with_values(start, learner.weight, learner.threshold), learner.plan)


def same_as_simulated(graph: Graph, plan: Plan) -> Graph:
    """Learn, then compare the network that learned with the program of what it learned."""
    learner = Learner(graph, plan, RECIPE)
    learner.go(DATA, ENCODER, ALL, 0)
    program = program_of(learner, graph)
    made = learner.network
    found = np.zeros((len(ALL), made.wiring.forward.shape[1]), np.int64)
    ((events, _),) = shown((INPUTS,), DATA, ENCODER, ALL)
    kernels.count(events, made.cell, made.wiring, found)
    assert found.sum() > len(ALL) // 2
    assert (found == spikes_of(program, ALL)).all()
    assert (found == counts(program, DATA, ENCODER, ALL)).all()
    assert not (found == spikes_of(quantize(graph, learner.plan or plan), ALL)).all()
    return program


@pytest.mark.parametrize("rounding", list(Rounding))
def test_what_learns_is_the_program(learned: Learned, rounding: Rounding) -> None:
    program = same_as_simulated(learned.graph, plan_for(rounding))
    levels = np.unique(parts(program).linear.weight.values)
    assert set(levels) <= {0, 1, 2, 3}
    assert len(levels) > 2


@pytest.mark.parametrize(
    "changed",
    [
        {"exc__decay": replace(entry("leak3", Rounding.ZERO), overflow=Overflow.ERROR)},
        {"exc__v": replace(entry("s5f0"), overflow=Overflow.WRAP)},
        {"exc__v": entry("u8f-1", Rounding.FLOOR), "exc__threshold": entry("u8f-1")},
        {"fc__weight": entry("u1f0")},
        {"fc__weight": entry("u4f3", Rounding.NEAREST_AWAY), "inh__weight": entry("s4f-3")},
        {"inh__weight": entry("s8f2"), "exc__threshold": entry("s12f3")},
    ],
    ids=["leak", "wrap", "coarse", "binary", "finer weights", "finer inhibition"],
)
def test_what_learns_is_the_program_in_other_formats(
    learned: Learned, changed: dict[str, Entry]
) -> None:
    same_as_simulated(learned.graph, plan_for(**changed))


def test_scales_of_single_neurons_and_dropped_inputs(
    learned: Learned, rng: np.random.Generator
) -> None:
    plan = plan_for()
    active = np.setdiff1d(np.arange(INPUTS), [2, 11, 23])
    scales = {"exc": rng.uniform(2.0, 4.0, RECIPE.neurons)}
    program = same_as_simulated(
        learned.graph, replace(plan, scales=scales, active={"input": active})
    )
    assert not parts(program).linear.weight.values[:, [2, 11, 23]].any()


@pytest.mark.parametrize(
    "options",
    [
        {"reset": "subtract", "clamp": True},
        {"synapse": "new", "clamp": True, "refractory": True},
        {"timing": "next_before_decay", "compare": ">=", "clamp": True},
        {"adaptive": True, "clamp": True, "bias": True},
    ],
    ids=lambda options: " ".join(options),
)
def test_any_neuron_with_a_threshold(learned: Learned, options: dict[str, object]) -> None:
    neuron = parts(learned.graph).neuron
    model = spiking(**options)
    known: dict[str, Param] = {
        **neuron.values, "refractory": param(2), "bias": param(0.05), "current_decay": param(0.5),
        "adaptation_decay": param(0.9), "adaptation_step": param(0.4),
    }  # fmt: skip
    changed = replace(
        neuron, model=model, values={name: known[name] for name in model.params},
        states={name: State() for name in model.states},
    )  # fmt: skip
    graph = learned.graph.map(lambda node: changed if node is neuron else node)
    assert (counts(graph, DATA, ENCODER, ALL) == spikes_of(graph, ALL)).all()
    formats = {"wait": "u2f0", "refractory": "u2f0", "fired": "u1f0", "current_decay": "u9f8",
               "adaptation_decay": "u9f8"}  # fmt: skip
    plan = plan_for().with_entries(
        {
            f"exc.{name}": replace(
                entry(formats.get(name, "s9f0"), Rounding.FLOOR),
                overflow=Overflow.ERROR if "decay" in name else Overflow.SATURATE,
            )
            for name in (*model.params, *model.states)
        }
    )
    entries = {p: e for p, e in plan.entries.items() if p != "exc.v_min" or options.get("clamp")}
    same_as_simulated(graph, replace(plan, entries=entries))


def test_learning_for_a_plan_beats_rounding(learned: Learned) -> None:
    """One bit is too few for what was learned in real numbers, and enough to learn in."""
    plan = plan_for(fc__weight=entry("u1f0", Rounding.FLOOR))
    unseen = patterns(seed=1, size=300)
    rounded = accuracy(quantize(learned.graph, plan), unseen)
    made = learn(DATA, ENCODER, RECIPE, graph=learned.graph, plan=plan)
    assert made.plan is not None
    trained = accuracy(quantize(made.graph, made.plan), unseen)
    assert trained > 0.9
    assert trained > rounded


def test_what_is_learned_saturates_in_the_plan(learned: Learned) -> None:
    plan = plan_for(fc__weight=replace(entry("u2f0"), overflow=Overflow.ERROR))
    made = learn(DATA, ENCODER, RECIPE, graph=learned.graph, plan=plan, index=ALL[:20])
    assert made.plan is not None
    assert made.plan["fc.weight"].overflow is Overflow.SATURATE
    quantize(made.graph, made.plan)


# --- with and without numba ---

_ALIKE = """
import sys
if "{without}": sys.modules["numba"] = None
sys.path[:0] = {path!r}
from test_stdp import *
from qspinn.stdp import compiled
short = replace(RECIPE, neurons=5, passes=1)
real = learn(DATA, ENCODER, short, index=ALL[:4])
plans = [plan_for(rounding) for rounding in Rounding]
made = [learn(DATA, ENCODER, short, graph=real.graph, plan=plan, index=ALL[:3]) for plan in plans]
print("numba" in type(kernels.learn).__module__)
print(real.spikes, real.graph.digest, *(one.graph.digest for one in made))
"""


@pytest.mark.needs("numba")
def test_plain_python_learns_the_same() -> None:
    said = []
    for without in ("", "yes"):
        code = _ALIKE.format(without=without, path=sys.path)
        run = subprocess.run(
            (sys.executable, "-c", code), check=False, text=True, capture_output=True
        )
        assert run.returncode == 0, run.stderr
        said.append(run.stdout.splitlines())
    assert [first for first, _ in said] == ["True", "False"]
    assert said[0][1] == said[1][1]


def test_the_package_loads_no_numba() -> None:
    code = "import qspinn.stdp, sys; print({'numba', 'torch'} & set(sys.modules))"
    run = subprocess.run((sys.executable, "-c", code), check=True, text=True, capture_output=True)
    assert run.stdout.strip() == "set()"


# --- classes ---


def test_a_neuron_speaks_for_what_it_answers_most() -> None:
    answers = np.array([[4, 0, 0, 1], [2, 0, 0, 1], [0, 5, 0, 1], [9, 0, 0, 0]])
    labels = np.array([0, 0, 1, 1])
    # Neuron 0 sent 6 spikes for class 0 and 9 for class 1; neuron 3 two and one; 2 never any.
    assert classes_of(answers, labels, 2) == (1, 1, -1, 0)


def test_every_class_gets_a_neuron() -> None:
    answers = np.array([[9, 9, 0], [8, 9, 0], [2, 3, 0]])
    assert classes_of(answers, np.array([0, 0, 1]), 2) == (0, 1, -1)
    assert sorted(classes_of(np.zeros((3, 3), np.int64), np.array([0, 1, 2]), 3)) == [0, 1, 2]
    with pytest.raises(FrontendError, match="3 neurons cannot stand for 4 classes"):
        classes_of(answers, np.array([0, 0, 1]), 4)


# --- thresholds that go on adapting ---


def test_frozen_thresholds_are_what_adapting_ones_start_from(learned: Learned) -> None:
    graph = adapting(learned.graph, RECIPE, ENCODER.steps)
    verify(graph)
    neuron = graph["exc"]
    assert isinstance(neuron, Neuron)
    assert neuron.values["adaptation_step"].values > 0
    assert 0.9 < neuron.values["adaptation_decay"].values < 1
    still = replace(
        neuron,
        values={**neuron.values, "adaptation_step": param(0), "adaptation_decay": param(1)},
    )
    frozen = spikes_of(learned.graph, ALL)
    unmoved = spikes_of(graph.map(lambda node: still if node is neuron else node), ALL)
    assert (unmoved == frozen).all()
    assert not (spikes_of(graph, ALL) == frozen).all()
    with pytest.raises(VerifyError, match="cannot be made to adapt"):
        adapting(graph, RECIPE, ENCODER.steps)


# --- refusals ---


def test_what_cannot_be_learned_is_refused(learned: Learned) -> None:
    with pytest.raises(VerifyError, match="2 layers of neurons"):
        learn(DATA, ENCODER, RECIPE, graph=mlp(sizes=(INPUTS, 9, 4)))
    with pytest.raises(FrontendError, match="no labels"):
        learn(replace(DATA, y=None), ENCODER, RECIPE)
    with pytest.raises(FrontendError, match="no sample"):
        learn(DATA, ENCODER, RECIPE, index=ALL[:0])
    with pytest.raises(FrontendError, match="learns from spikes, 0 or 1"):
        learn(DATA, Encoder("direct", 5), RECIPE)
    linear = parts(learned.graph).linear
    negative = replace(linear, weight=Param(linear.weight.values - 0.5))
    wrong = learned.graph.map(lambda node: negative if node is linear else node)
    with pytest.raises(FrontendError, match="none negative"):
        learn(DATA, ENCODER, RECIPE, graph=wrong)


def test_plans_that_cannot_be_learned_for_are_refused(learned: Learned) -> None:
    binary = plan_for(fc__weight=entry("b1f0"))
    with pytest.raises(PlanError, match="holds -1 and 1") as error:
        learn(DATA, ENCODER, RECIPE, graph=learned.graph, plan=binary)
    assert (error.value.at, error.value.hint) == ("fc.weight", "u1f0 holds 0 and 1")


@pytest.mark.parametrize(
    "wrong", [{"neurons": 0}, {"decay": 1.5}, {"length": 0.0}, {"seed": -1}, {"delay": 1 << 20}]
)
def test_a_recipe_checks_itself(wrong: dict[str, float]) -> None:
    with pytest.raises(PlanError):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_a_learned_network_is_canonical_and_can_be_stored(learned: Learned, tmp_path: Path) -> None:
    assert canonicalize(learned.graph).digest == learned.graph.digest
    storage.save(learned.graph, tmp_path / "net.qspinn")
    assert storage.load(tmp_path / "net.qspinn").digest == learned.graph.digest
