"""What shares a scale where thresholds of their own cost a device cores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qspinn.backend import backend
from qspinn.calibrate import observe
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.frontends.report import Imported
from qspinn.grouping import grouped
from qspinn.ir import Array, Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.job import Job, plan_for
from qspinn.neurons import spiking
from qspinn.plan import Plan

LOIHI, SIZE, INPUTS, STEPS = backend("loihi"), 64, 64, 30
Rng = np.random.Generator


def one_layer(weights: Array, reset: str = "subtract") -> Graph:
    """Neurons that only a process model of their own computes, unless they reset to zero."""
    reach = np.abs(weights).sum(1)
    threshold = reach / 4 if reach.max() > 2 * reach.min() else reach.mean() / 4
    lif = Neuron(
        name="lif", inputs=("fc",), shape=(len(weights),), model=spiking(leak=False, reset=reset),
        values={"threshold": Param(threshold)}, states={"v": State()},
    )  # fmt: skip
    fc = Linear(name="fc", inputs=("input",), weight=Param(weights))
    source = Input(name="input", shape=(weights.shape[1],))
    return Graph("layer", (source, fc, lif, Output(name="out", inputs=("lif",))))


def job(graph: Graph, data: Array | None, labels: Array | None = None, group: str = "") -> Job:
    """The graph with data (samples, steps, inputs), calibrated on them or on others."""
    seen = np.random.default_rng(5).random((8, STEPS, INPUTS)) < 0.3 if data is None else data
    dataset = None
    if data is not None:
        dataset = Dataset("planted", data, labels, split=np.zeros(len(data), np.int64))
    calibration = replace(observe(graph, seen.astype(float)), group=group)
    imported = Imported(graph, (), {}, Plan({}))
    return Job(Path("x"), imported, graph, Encoder("none", STEPS), dataset, calibration, ())


def classes(rng: Rng, *, spread: float) -> tuple[Graph, Array, Array]:
    """Each neuron hears its own input most, at strengths that differ by ``spread``."""
    strengths = np.geomspace(1.0, 1.0 / spread, SIZE)
    own = np.diag(rng.uniform(0.8, 1.0, SIZE))
    weights = (0.1 * rng.random((SIZE, INPUTS)) + own) * strengths[:, None]
    labels = rng.permutation(np.repeat(np.arange(SIZE), 4))
    rates = 0.1 + 0.6 * np.eye(INPUTS)[labels]
    data = (rng.random((len(labels), STEPS, INPUTS)) < rates[:, None]).astype(np.uint8)
    return one_layer(weights), data, labels


def test_layer_scales_where_thresholds_cost_cores(rng: Rng) -> None:
    graph, data, labels = classes(rng, spread=1.0)
    given = job(graph, data, labels)
    made = grouped(given, LOIHI, LOIHI.devices["loihi1"])
    assert made.calibration.group == "layer"
    assert plan_for(made, LOIHI).scales["lif"].size == 1
    (note,) = made.notes
    assert note.startswith("scales by layer: on loihi1 ")
    assert ", cores 1 instead of " in note
    free = grouped(given, LOIHI, LOIHI.devices["loihi2"])
    assert free is given
    assert plan_for(free, LOIHI).scales["lif"].size == SIZE


@pytest.mark.parametrize("labelled", [True, False])
def test_accuracy_is_worth_cores(rng: Rng, labelled: bool) -> None:
    """Where one scale leaves weak neurons without weights, those by channel stay."""
    graph, data, labels = classes(rng, spread=2000.0)
    given = job(graph, data, labels if labelled else None)
    made = grouped(given, LOIHI, LOIHI.devices["loihi1"])
    assert not made.calibration.group
    (note,) = made.notes
    assert note.startswith("scales by channel, though by layer loihi1 needs ")
    assert "points of accuracy on calibration data" in note


def test_without_data_cores_decide(rng: Rng) -> None:
    graph, _, _ = classes(rng, spread=1.0)
    made = grouped(job(graph, None), LOIHI, LOIHI.devices["loihi1"])
    assert made.calibration.group == "layer"
    assert "no data say what else it changes" in made.notes[0]


def test_who_asks_is_given(rng: Rng) -> None:
    graph, data, labels = classes(rng, spread=1.0)
    for group in ("layer", "channel"):
        given = job(graph, data, labels, group)
        assert grouped(given, LOIHI, LOIHI.devices["loihi1"]) is given


def test_stock_neurons_and_other_targets_have_no_question(rng: Rng) -> None:
    graph, data, labels = classes(rng, spread=1.0)
    stock = job(one_layer(graph["fc"].params()["weight"].values, "zero"), data, labels)
    assert grouped(stock, LOIHI, LOIHI.devices["loihi1"]) is stock
    mcu, given = backend("mcu"), job(graph, data, labels)
    assert grouped(given, mcu, mcu.devices[mcu.default_device]) is given
