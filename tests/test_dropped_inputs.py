"""Inputs that are dropped: which, that the reference ignores them, and what that saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND

from graphs import lif, mlp, spikes
from qspinn.backend import backend, default_plan
from qspinn.calibrate import Calibration, activity_of, observe
from qspinn.choice import Choice
from qspinn.errors import PlanError
from qspinn.interp import run
from qspinn.ir import Array, Conv2d, Flatten, Graph, Input, Linear, Output, Param
from qspinn.memory import float_bytes
from qspinn.passes.quantize import quantize
from qspinn.pipeline import build, complete, lower
from qspinn.plan import Plan, parse
from qspinn.planning import active_inputs
from qspinn.validate import check_artifact

SIZE = 96
DEAD = np.r_[0:13, 40:52, 95:96]


def network(shape: tuple[int, ...] = (SIZE,)) -> Graph:
    """Linear layers that read an input of any shape."""
    graph = mlp(1, (SIZE, 24, 5))
    if len(shape) == 1:
        return graph
    nodes = [
        replace(n, inputs=("flat",)) if isinstance(n, Linear) and n.inputs == ("x",) else n
        for n in graph.nodes[1:]
    ]
    flat = Flatten(name="flat", inputs=("x",))
    return Graph("flat", (Input(name="x", shape=shape), flat, *nodes))


@pytest.fixture
def data(rng: np.random.Generator) -> Array:
    """Spikes of most inputs, of some rarely, of some never."""
    rate = np.full(SIZE, 0.2)
    rate[60:80] = 0.01
    rate[DEAD] = 0.0
    return (rng.random((12, 20, SIZE)) < rate).astype(np.int64)


def seen(graph: Graph, data: Array) -> Calibration:
    return observe(graph, data.astype(float))


def test_activity_is_of_all_data(data: Array) -> None:
    graph = network()
    activity = observe(graph, data.astype(float), keep=3).activity["x"]
    assert np.array_equal(activity, data.mean((0, 1)))
    halves = activity_of(graph, [data[:5], data[5:]])["x"]
    assert np.array_equal(halves, activity)
    values = activity_of(graph, [-3.0 * data])["x"]
    assert np.array_equal(values, (3 * data).mean((0, 1))), "of values their magnitude counts"


def test_a_share_of_one_keeps_what_was_ever_active(data: Array) -> None:
    graph = network()
    kept = active_inputs(graph, seen(graph, data), 1.0)
    assert np.array_equal(kept, np.flatnonzero(data.any((0, 1))))
    assert not np.isin(DEAD, kept).any()


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_the_fewest_inputs_that_contribute_enough(share: float, data: Array) -> None:
    graph = network()
    calibration = seen(graph, data)
    kept = active_inputs(graph, calibration, share)
    weights = graph["fc1"].params()["weight"].values
    parts = data.mean((0, 1)) * (weights**2).sum(0)
    order = np.sort(parts)[::-1]
    assert parts[kept].sum() >= share * parts.sum() * (1 - 1e-12)
    assert order[: len(kept) - 1].sum() < share * parts.sum(), "one fewer would not do"
    assert parts[kept].min() >= np.delete(parts, kept).max()


def test_no_data_no_dropping() -> None:
    graph = network()
    with pytest.raises(PlanError, match=r"x\.active: no data say which inputs are active"):
        active_inputs(graph, Calibration(), 0.9)


def test_only_linear_layers_can_ignore_inputs(rng: np.random.Generator) -> None:
    weight = Param(rng.normal(0, 1, (2, 1, 3, 3)))
    graph = Graph("conv", (
        Input(name="x", shape=(1, 6, 6)), Conv2d(name="c", inputs=("x",), weight=weight),
        Flatten(name="flat", inputs=("c",)), lif("lif", "flat", 32),
        Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    with pytest.raises(PlanError, match=r"x\.active: c, a Conv2d, reads it"):
        active_inputs(graph, observe(graph, spikes(rng, (2, 4, 1, 6, 6)).astype(float)), 0.9)
    plan = Plan({}, active={"x": np.arange(3)})
    with pytest.raises(PlanError, match=r"x\.active: c, a Conv2d, reads it"):
        quantize(graph, plan)


@pytest.mark.parametrize("target", ["mcu", "loihi"])
@pytest.mark.parametrize("shape", [(SIZE,), (2, 6, 8)])
def test_events_there_change_nothing(target: str, shape: tuple[int, ...], data: Array) -> None:
    graph, found = network(shape), backend(target)
    data = data.reshape(*data.shape[:2], *shape)
    plan = default_plan(found, graph, seen(graph, data), None, {"x.active": Choice(share=0.9)})
    usual = default_plan(found, graph, seen(graph, data))
    assert plan.entries == usual.entries
    kept = plan.active["x"]
    assert 10 < len(kept) < SIZE - len(DEAD)
    done = lower(graph, plan, found)
    weights = done.quantized["fc1"].params()["weight"].values
    assert np.array_equal(np.flatnonzero(weights.any(0)), kept)
    whole = lower(graph, usual, found).quantized["fc1"].params()["weight"].values
    assert np.array_equal(weights[:, kept], whole[:, kept])
    noisy = data.reshape(*data.shape[:2], -1).copy()
    dropped = np.setdiff1d(np.arange(SIZE), kept)
    noisy[:, :, dropped] = 1 - noisy[:, :, dropped]
    quiet, loud = run(done.final, data), run(done.final, noisy.reshape(data.shape))
    assert all(np.array_equal(quiet.states[name], loud.states[name]) for name in quiet.states)


def test_stochastic_and_binary_weights_are_dropped_alike(data: Array) -> None:
    graph = network()
    choices = {"x.active": Choice(share=1.0), "fc1.weight": Choice(form="binary")}
    plan = default_plan(BACKEND, graph, seen(graph, data), None, choices)
    weights = lower(graph, plan, BACKEND).quantized["fc1"].params()["weight"].values
    kept = plan.active["x"]
    assert (weights[:, kept] != 0).all()
    assert not np.delete(weights, kept, axis=1).any()


def test_a_plan_names_them_as_ranges() -> None:
    kept = np.r_[13:16, 20, 22:41]
    plan = Plan({}, active={"input": kept, "none": np.zeros(0, np.int64)})
    text = plan.text()
    assert "13-15 20 22-40" in text
    back = parse(text)
    assert np.array_equal(back.active["input"], kept)
    assert back.active["none"].size == 0
    assert back.text() == text
    assert parse("x.active 0").active["x"].tolist() == [0]


@pytest.mark.parametrize("line", ["x.active", "x.active 3-1", "x.active 4 2", "x.active 2-",
                                  "x.active 1-3 3", "x.active -2", "x.active a",
                                  "x.active 0-99999999999"])  # fmt: skip
def test_bad_lines(line: str) -> None:
    with pytest.raises(PlanError, match="line 1: "):
        parse(line)


def test_a_given_line_comes_first(data: Array) -> None:
    graph, given = network(), parse("x.active 2-40")
    default = default_plan(BACKEND, graph, seen(graph, data), given, {"x.active": Choice(share=1)})
    assert complete(given, default).active["x"].tolist() == list(range(2, 41))


@pytest.mark.parametrize(
    ("active", "what"),
    [
        ({"x": np.array([3, SIZE])}, rf"x\.active: keeps inputs up to {SIZE}, there are {SIZE}"),
        ({"y": np.array([3])}, "the plan keeps inputs of y, which is no input of mlp"),
    ],
)
def test_what_the_graph_has_not(active: dict[str, Array], what: str, data: Array) -> None:
    graph = network()
    plan = replace(default_plan(BACKEND, graph, seen(graph, data)), active=active)
    with pytest.raises(PlanError, match=what):
        quantize(graph, plan)


def test_the_baseline_counts_them_unless_told() -> None:
    graph = network((2, 6, 8))
    whole = 4 * (SIZE * 24 + 24 + 24 * 5 + 5 + 24 + 5)
    assert float_bytes(graph) == whole
    assert float_bytes(graph, {"x": np.arange(90)}) == whole - 4 * 6 * 24


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize("executor", ["sanitize", "cortex-m0plus"])
def test_firmware_without_their_weights(executor: str, data: Array, tmp_path: Path) -> None:
    graph = network()
    choices = {"x.active": Choice(share=0.8)}
    calibration = seen(graph, data)
    done = lower(graph, default_plan(BACKEND, graph, calibration, None, choices), BACKEND)
    whole = lower(graph, default_plan(BACKEND, graph, calibration), BACKEND)
    device = BACKEND.devices[BACKEND.default_device]
    made, usual = build(done, BACKEND, device), build(whole, BACKEND, device)
    kept = len(done.plan.active["x"])
    # Two tiles of 16 neurons hold the 24.
    assert made.footprint.of("weights") == kept * 32 + 24 * 5 + 12 + 4
    assert usual.footprint.of("weights") == SIZE * 32 + 24 * 5
    header = made.artifact.files["mlp.h"].decode()
    assert f"events at {SIZE - kept} of {SIZE} inputs are ignored" in header
    assert "are ignored" not in usual.artifact.files["mlp.h"].decode()
    for name, content in made.artifact.files.items():
        (tmp_path / name).write_bytes(content)
    noisy = np.where(np.arange(SIZE) % 7 == 3, 1, data)[:3]
    verdict = check_artifact(BACKEND, tmp_path, done.final, noisy, executor)
    assert verdict.mismatch is None, str(verdict.mismatch)
