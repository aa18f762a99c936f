from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qspinn.backend import backend, default_plan, device_of
from qspinn.cost import Activity
from qspinn.encode import Encoder
from qspinn.errors import PlanError, QspinnError
from qspinn.explore.entries import entries_of
from qspinn.explore.judge import Judge
from qspinn.explore.knobs import Levels, choices_of, space_of
from qspinn.explore.library import Library
from qspinn.explore.parts import Parts
from qspinn.explore.problem import Score
from qspinn.explore.runners import Local
from qspinn.explore.schemes import PostTraining, schemes
from qspinn.explore.settings import Settings
from qspinn.explore.space import Candidate, Space
from qspinn.explore.stimulus import Stimulus
from qspinn.explore.store import Store
from qspinn.fixed import Overflow, QFormat
from qspinn.ir import Graph, Linear
from qspinn.job import Job, prepare
from qspinn.passes.quantize import quantize
from qspinn.pipeline import feed
from qspinn.plan import Entry, Plan
from qspinn.readout import predict
from qspinn.simulate import simulate
from tree import ROOT

DIGITS = ROOT / "examples" / "digits"
LEVELS: Levels = {
    "weight": ("8", "4", "2", "ternary"), "membrane": ("16", "6"), "steps": ("24", "12"),
    "decay": ("12", "leak"), "threshold": (), "bias": (), "input": ("all", "0.98"),
    "membrane:rounding": ("floor", "zero", "stochastic"),
}  # fmt: skip


@pytest.fixture(scope="module")
def job() -> Job:
    return prepare(DIGITS / "digits.nir", Path(DIGITS / "digits.npz"))


def library(job: Job, target: str = "mcu", levels: Levels | None = None) -> Library:
    there = backend(target)
    space = space_of(job.graph, there, job.encoder, levels=LEVELS if levels is None else levels)
    return Library(
        job.graph, job.calibration, job.encoder, there, device_of(there, None), space,
        {"ptq": PostTraining()},
    )  # fmt: skip


def drawn(space: Space, count: int, seed: int = 0) -> list[Candidate]:
    draw = random.Random(seed)
    return [tuple(draw.randrange(len(k.options)) for k in space.knobs) for _ in range(count)]


@pytest.mark.parametrize("target", ["mcu", "loihi"])
def test_a_variant_is_the_network_that_its_plan_makes(job: Job, target: str) -> None:
    levels = LEVELS if target == "mcu" else {"weight": ("8", "4", "ternary")}
    made = library(job, target, levels)
    for candidate in drawn(made.space, 12):
        variant = made.variant(candidate)
        words = {
            k: w for k, w in made.space.words(candidate).items() if k not in ("steps", "scheme")
        }
        plan = default_plan(made.backend, job.graph, job.calibration, None, choices_of(words))
        options = {**plan.options, **variant.plan.options}
        assert variant.plan.text() == replace(plan, options=options).text()
        assert variant.graph.digest == quantize(job.graph, variant.plan).digest


def test_layers_that_do_not_change_are_the_same_nodes(job: Job) -> None:
    made = library(job)
    space = made.space
    one = space.finest
    other = space.moved(one, space.index("fc2.weight"), 1)
    first, second = made.variant(one).graph, made.variant(other).graph
    assert first["fc1"] is second["fc1"]
    assert first["lif1"] is second["lif1"]
    assert first["fc2"] is not second["fc2"]


def test_dropping_inputs_changes_only_who_listens(job: Job) -> None:
    made = library(job)
    less = made.space.moved(made.space.finest, made.space.index("input.active"), 1)
    whole, part = made.variant(made.space.finest).graph["fc1"], made.variant(less).graph["fc1"]
    assert isinstance(whole, Linear)
    assert isinstance(part, Linear)
    dropped = (part.weight.values == 0).all(0)
    assert 0 < dropped.sum() < dropped.size
    kept = np.flatnonzero(~dropped)
    np.testing.assert_array_equal(whole.weight.values[:, kept], part.weight.values[:, kept])


def test_identity_is_what_decides_the_outputs(job: Job) -> None:
    made = library(job)
    steps = made.space.index("steps")
    one, shorter = made.space.finest, made.space.moved(made.space.finest, steps, 1)
    assert made.variant(one).digest != made.variant(shorter).digest
    assert made.variant(shorter).steps == 12
    assert library(job).variant(one).digest == made.variant(one).digest


def test_an_impossible_candidate_is_refused_each_time_it_is_asked_for(job: Job) -> None:
    made = library(job)
    made.given = Plan({"lif1.threshold": Entry(QFormat(3, 0), overflow=Overflow.ERROR)})
    for _ in range(2):
        with pytest.raises(QspinnError, match="lie outside s3f0"):
            made.footprint(made.space.finest)
    ours = judge(job, made)
    assert ours.memory(made.space.finest) is None
    assert "lif1.threshold" in str(ours.refusals[made.space.finest])


def test_inputs_that_a_plan_keeps_are_the_ones_kept(job: Job) -> None:
    there, kept = backend("mcu"), np.arange(20, 40)
    given = Plan({}, active={"input": kept})
    space = space_of(job.graph, there, job.encoder, levels={"weight": ("8", "4")}, given=given)
    assert "input.active" not in {knob.name for knob in space.knobs}
    made = Library(
        job.graph, job.calibration, job.encoder, there, device_of(there, None), space,
        {"ptq": PostTraining()}, given,
    )  # fmt: skip
    variant = made.variant(space.finest)
    np.testing.assert_array_equal(variant.plan.active["input"], kept)
    first = variant.graph["fc1"]
    assert isinstance(first, Linear)
    assert not np.delete(first.weight.values, kept, axis=1).any()
    assert first.weight.values[:, kept].any()


def test_a_program_measured_twice_is_told_by_its_whole_measurement(job: Job) -> None:
    made = library(job, levels={"weight:rounding": ("nearest_even", "nearest_away")})
    ours, one = judge(job, made), made.space.finest
    other = made.space.moved(one, made.space.index("fc1.weight:rounding"), 1)
    assert made.variant(one).digest == made.variant(other).digest
    size = ours.memory(one)
    assert size is not None
    (right,) = ours.correct([other], ours.samples)
    dropped, whole = Score(one, size, right[:50], False), Score(other, size, right, True)
    (row,) = entries_of(ours, [dropped, whole], None, Settings())
    assert row.complete
    assert row.on_front


def judge(job: Job, made: Library, store: Store | None = None) -> Judge:
    assert job.dataset is not None
    parts = Parts(job.dataset)
    return Judge(
        made,
        Stimulus(job.graph, parts.open, job.encoder, parts.order("select")),
        Stimulus(job.graph, parts.open, job.encoder, parts.order("calibrate", 32)),
        Local(1),
        store,
    )


def alone(job: Job, graph: Graph, encoder: Encoder, index: np.ndarray) -> np.ndarray:
    assert job.dataset is not None
    x = job.dataset.samples(index, graph.input.shape, encoded=False)
    summary = simulate(graph, feed(graph, x, encoder, index)).summary
    assert summary is not None
    return predict(graph.output, summary)


def test_what_a_judge_says_is_what_each_network_does_alone(job: Job) -> None:
    made = library(job)
    ours = judge(job, made)
    assert job.dataset is not None
    assert job.dataset.y is not None
    index = ours.select.index
    candidates = drawn(made.space, 8, seed=4)
    ours.correct(candidates[:4], 50)  # some are known in part when all are asked for
    found = ours.correct(candidates, ours.samples)
    for candidate, right in zip(candidates, found, strict=True):
        variant = made.variant(candidate)
        encoder = replace(job.encoder, steps=variant.steps)
        answers = alone(job, variant.graph, encoder, index)
        np.testing.assert_array_equal(right, answers == job.dataset.y[index])
        np.testing.assert_array_equal(ours.record(candidate).answers, answers)
    assert ours.used == len({made.variant(c).digest for c in candidates}) * ours.samples


def test_outcomes_are_kept_and_used_again(job: Job, tmp_path: Path) -> None:
    made = library(job)
    candidates = drawn(made.space, 6, seed=9)

    class Nobody:
        def run(self, *args: object) -> list[object]:
            raise AssertionError("everything is known")

    with Store(tmp_path / "s.sqlite") as store:
        first = judge(job, made, store)
        before = first.correct(candidates, 100)
        first.correct(candidates, first.samples)
        baseline = first.baseline
        second = judge(job, made, store)
        second.runner = Nobody()  # type: ignore[assignment]
        after = second.correct(candidates, 100)
        np.testing.assert_array_equal(before, after)
        second.correct(candidates, second.samples)
        assert second.used == first.used
        assert second.operations(candidates[0]) == first.operations(candidates[0])
        np.testing.assert_array_equal(baseline, second.baseline)


def test_without_labels_agreement_with_the_float_network_counts(job: Job) -> None:
    assert job.dataset is not None
    bare = replace(job, dataset=replace(job.dataset, y=None))
    ours = judge(bare, library(bare))
    assert not ours.labelled
    assert ours.baseline.all()
    (right,) = ours.correct([ours.space.finest], ours.samples)
    assert 0.9 < right.mean() <= 1.0


def test_distance_grows_as_bits_go(job: Job) -> None:
    ours = judge(job, library(job))
    weights = ours.space.index("fc1.weight")
    series = [ours.space.moved(ours.space.finest, weights, option) for option in range(3)]
    eight, four, two = ours.distance(series)
    assert 0 < eight < four < two
    assert ours.distance(series[:1]) == [eight]


def test_a_leak_of_the_report_part_is_caught(job: Job) -> None:
    assert job.dataset is not None
    parts = Parts(job.dataset)
    ours = judge(job, library(job))
    leaked = np.concatenate([ours.select.index, job.dataset.part("report")[:1]])
    ours.select = Stimulus(job.graph, parts.open, job.encoder, leaked)
    with pytest.raises(QspinnError, match="of its report part was asked for"):
        ours.correct([ours.space.finest], ours.samples)


def test_schemes_come_from_entry_points() -> None:
    assert list(schemes(("ptq",))) == ["ptq"]
    with pytest.raises(PlanError, match="the quantization scheme 'qat'") as caught:
        schemes(("ptq", "qat"))
    assert "itq, ptq" in caught.value.hint
    with pytest.raises(PlanError, match="the scheme itq trains the network") as caught:
        schemes(("ptq", "itq"))
    assert "--train-data" in caught.value.hint


class Shrunk:
    """A scheme that trains nothing, but shows in the result that it was asked."""

    name = "itq"

    def fit(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        last = graph.of_type(Linear)[-1]
        weight = replace(last.weight, values=last.weight.values * 0.5)
        return graph.map(lambda n: replace(n, weight=weight) if n is last else n), plan


def test_another_scheme_makes_another_network(job: Job) -> None:
    there = backend("mcu")
    space = space_of(job.graph, there, job.encoder, levels=LEVELS, schemes=("ptq", "itq"))
    made = Library(
        job.graph, job.calibration, job.encoder, there, device_of(there, None), space,
        {"ptq": PostTraining(), "itq": Shrunk()},
    )  # fmt: skip
    one = made.variant(space.finest)
    other = made.variant(space.moved(space.finest, space.index("scheme"), 1))
    assert one.digest != other.digest
    assert other.graph.digest == quantize(*Shrunk().fit(job.graph, one.plan)).digest


def test_convolutions_are_judged_by_the_kernels_that_ship() -> None:
    job, there = prepare(ROOT / "examples" / "nmnist" / "nmnist.nir"), backend("mcu")
    space = space_of(job.graph, there, job.encoder, levels={"weight": ("8", "4")})
    given, device = Plan({}, options={"kernel.conv2": "scatter"}), there.devices["stm32f103xb"]
    made = Library(
        job.graph, job.calibration, job.encoder, there, device, space, {"ptq": PostTraining()},
        given,
    )  # fmt: skip
    (candidate,) = drawn(space, 1)
    variant = made.variant(candidate)
    assert variant.plan.options["kernel.conv2"] == "scatter"
    final = there.legalize(variant.graph, assume_activation=variant.plan.assumed)
    busy = Activity(20, {node.name: 0.2 for node in final.nodes})
    plain, chosen = there.cost(final, device, busy, given), made.cost(candidate, busy)
    assert plain is not None
    assert chosen is not None
    assert chosen.instructions < 0.8 * plain.instructions
