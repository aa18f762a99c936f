"""The N-MNIST-8 example: its spikes, its network, and few bits on a microcontroller."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from example_scripts import training_script
from qspinn import datasets
from qspinn.backend import backend, device_of
from qspinn.choice import Choice
from qspinn.evaluate import chunks, predictions
from qspinn.interp import run
from qspinn.ir import Array
from qspinn.job import Job, plan_for, prepare
from qspinn.memory import float_bytes
from qspinn.passes.quantize import quantize
from qspinn.pipeline import lower
from qspinn.validate import check_artifact
from tree import ROOT

if TYPE_CHECKING:
    from event_camera import Events

NETWORK = ROOT / "examples" / "nmnist" / "nmnist.nir"
LAYERS = ("conv1", "conv2", "fc3")
STATE_BITS = (4, 4, 8)
ACCURACY = 0.976
"""Of the float network, on 2000 test recordings."""
EPOCHS = 3


@pytest.fixture
def train() -> Iterator[ModuleType]:
    with training_script("nmnist") as module:
        yield module


@pytest.fixture(scope="module")
def few() -> tuple[Events, Array]:
    """A hundred recordings of the test part, for what is no accuracy."""
    with training_script("nmnist") as module:
        path = recordings(Path(os.environ["QSPINN_DATA"]))
        events, labels = module.recordings(path, "test")
    some = np.arange(0, 2000, 20)
    return events.subset(some), labels[some]


def choices() -> dict[str, Choice]:
    """Weights of two bits, and states of a few."""
    found = {f"{name}.weight": Choice(bits=2) for name in LAYERS}
    return found | {f"lif{i}.v": Choice(bits=bits) for i, bits in enumerate(STATE_BITS, 1)}


def recordings(data: Path) -> Path:
    return data / "nmnist8_1ms.npz"


def job_on(train: ModuleType, parts: list[tuple[Events, Array]], path: Path) -> Job:
    from event_camera import exported

    np.savez(path, **exported(train.RECIPE, parts))
    return prepare(NETWORK, path)


@pytest.mark.needs("torch", "nir")
def test_a_pixel_spikes_once_in_a_step_and_moves_with_its_recording(train: ModuleType) -> None:
    from event_camera import binned, raster

    recipe = replace(train.RECIPE, side=34, steps=3, milliseconds=10)
    place = 34 * 34 + 5 * 34 + 33  # polarity 1, row 5, the last column
    times, inputs = np.array([3, 9, 10, 29, 30]), np.array([place, place, place, 0, 7])
    events = binned([(times, inputs), (times[:0], inputs[:0]), (times[:1], inputs[:1])], recipe)
    assert list(zip(events.t.tolist(), events.i.tolist(), strict=True)) == [
        (0, place), (1, place), (2, 0), (0, place),
    ]  # fmt: skip
    assert events.offsets.tolist() == [0, 3, 3, 4]
    found = raster(events, np.array([2, 0, 1]), recipe).numpy()
    assert found.shape == (3, 3, 2, 34, 34)
    assert np.argwhere(found).tolist() == [
        [0, 0, 1, 5, 33], [0, 1, 1, 5, 33], [1, 1, 1, 5, 33], [2, 1, 0, 0, 0],
    ]  # fmt: skip
    moved = raster(events, np.array([0, 2]), recipe, np.array([[2, -1], [0, 1]])).numpy()
    assert np.argwhere(moved).tolist() == [[0, 0, 1, 7, 32], [1, 0, 1, 7, 32]]


@pytest.mark.slow
@pytest.mark.needs("torch", "nir", "data")
def test_the_network_is_as_right_as_its_readme_says(train: ModuleType, data: Path) -> None:
    from event_camera import measure

    events, labels = train.recordings(recordings(data), "test")
    score = measure(NETWORK, train.RECIPE, events, labels)
    assert score.accuracy == ACCURACY


@pytest.mark.needs("torch", "nir", "data")
def test_qspinn_decides_as_the_example_does(
    train: ModuleType, few: tuple[Events, Array], tmp_path: Path
) -> None:
    from event_camera import measure

    events, labels = few
    job = job_on(train, [few], tmp_path / "few.npz")
    assert job.dataset is not None
    decided = predictions(job.graph, job.dataset, job.encoder, np.arange(len(labels)))
    assert measure(NETWORK, train.RECIPE, events, decided).accuracy == 1.0
    assert (decided == labels).mean() > 0.9


@pytest.mark.needs("torch", "nir", "data", "gcc", "zig", "unicorn")
def test_few_bits_run_exactly(train: ModuleType, few: tuple[Events, Array], tmp_path: Path) -> None:
    job = job_on(train, [few], tmp_path / "few.npz")
    assert job.dataset is not None
    target = backend("mcu")
    done = lower(job.graph, plan_for(job, target, choices=choices()), target)
    artifact = target.emit(done.final, device_of(target, None), done.plan)
    folder = tmp_path / "mcu"
    for name, content in artifact.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    index = np.arange(20)
    spikes = np.concatenate([x for x, _ in chunks(done.final, job.dataset, job.encoder, index)])
    assert run(done.final, spikes).output.any()
    for executor, count in (("host", 20), ("cortex-m4", 2)):
        verdict = check_artifact(target, folder, done.final, spikes[:count], executor)
        assert verdict.mismatch is None, str(verdict.mismatch)


@pytest.mark.needs("torch", "nir", "data")
def test_the_same_recordings_give_the_same_bytes(
    train: ModuleType, few: tuple[Events, Array], tmp_path: Path
) -> None:
    from event_camera import fit, write_nir

    recipe = replace(train.RECIPE, epochs=2, batch=20)
    events, labels = few
    losses: list[float] = []
    for name in "ab":
        weights = fit(recipe, events, labels, lambda epoch, loss, w: losses.append(loss))
        write_nir(tmp_path / name, recipe, weights)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert losses[:2] == losses[2:]
    assert losses[1] < losses[0]


@pytest.mark.slow
@pytest.mark.needs("torch", "nir", "data")
def test_less_than_a_point_buys_nine_tenths_of_the_memory(
    train: ModuleType, data: Path, tmp_path: Path
) -> None:
    from event_camera import exported

    from qspinn.train.fitting import fit
    from qspinn.train.recipe import Recipe

    parts = train.split(recordings(data))
    events, labels = parts.train
    some = np.arange(250)
    job = job_on(
        train, [(events.subset(some), labels[some]), parts.select], tmp_path / "select.npz"
    )
    np.savez(tmp_path / "train.npz", **exported(train.RECIPE, [parts.train]))
    assert job.dataset is not None
    assert job.dataset.y is not None
    index = job.dataset.part("select")
    truth = job.dataset.y[index]
    base = predictions(job.graph, job.dataset, job.encoder, index) == truth
    target = backend("mcu")
    plan = plan_for(job, target, choices=choices())
    untrained = predictions(quantize(job.graph, plan), job.dataset, job.encoder, index) == truth
    lessons = datasets.load(tmp_path / "train.npz")
    trained = fit(job.graph, plan, lessons, job.encoder, Recipe(epochs=EPOCHS))
    program = quantize(trained.graph, trained.plan)
    ours = predictions(program, job.dataset, job.encoder, index) == truth
    footprint = target.footprint(target.legalize(program), device_of(target, None))
    assert float_bytes(job.graph) >= 12 * footprint.network
    assert base.mean() - ours.mean() < 0.01 < base.mean() - untrained.mean()
