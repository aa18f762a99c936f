"""The DVS128 Gesture example on a genuine recording, from tonic's folder to proved C."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from example_scripts import training_script
from qspinn import datasets
from qspinn.cli import cli
from qspinn.ir import Array

SAMPLES = "dvs_gesture_ibm_samples.npz"
CLAPPING = 0
TONIC = np.dtype([("x", np.int16), ("y", np.int16), ("p", np.bool_), ("t", np.int64)])
"""What tonic gives to its user; its files are plain arrays."""


@pytest.fixture
def train() -> Iterator[ModuleType]:
    with training_script("dvs_gesture") as module:
        yield module


def recording(data: Path) -> dict[str, Array]:
    """Five seconds of hand clapping: x, y, p, and t in microseconds."""
    with np.load(data / SAMPLES) as file:
        found = {name: file[f"s0_{name}"].astype(np.int64) for name in "xyp"}
        return found | {"t": np.cumsum(file["s0_dt_us"].astype(np.int64))}


def piece(events: Mapping[str, Array], first: float, last: float) -> dict[str, Array]:
    """The events between two seconds."""
    kept = (events["t"] >= first * 1e6) & (events["t"] < last * 1e6)
    return {name: values[kept] for name, values in events.items()}


def plain(events: Mapping[str, Array]) -> Array:
    """As tonic's files hold them: rows of x, y, p, and t in milliseconds."""
    return np.stack([events["x"], events["y"], events["p"], events["t"] / 1000], axis=1)


def structured(events: Mapping[str, Array]) -> Array:
    found = np.zeros(len(events["t"]), TONIC)
    for name in "xypt":
        found[name] = events[name]
    return found


def write_folder(root: Path, events: Mapping[str, Array]) -> None:
    places = (
        "ibmGestureTrain/user01_led", "ibmGestureTrain/user01_lab", "ibmGestureTrain/user02_led",
        "ibmGestureTest/user24_led", "ibmGestureTest/user25_led",
    )  # fmt: skip
    for number, place in enumerate(places):
        (root / place).mkdir(parents=True)
        made = (plain, structured)[number % 2](piece(events, 0.8 * number, 0.8 * number + 1.6))
        np.save(root / place / f"{CLAPPING}.npy", made)


@pytest.mark.needs("torch", "nir", "data")
def test_both_kinds_of_files_say_the_same(train: ModuleType, data: Path, tmp_path: Path) -> None:
    events = piece(recording(data), 0, 2)
    read = []
    rows = plain(events)
    for number, made in enumerate((rows, structured(events), rows * [1, 1, 1, 1000])):
        np.save(tmp_path / f"{number}.npy", made)
        read.append(train.events_of(tmp_path / f"{number}.npy"))
    times, inputs = read[0]
    side = train.RECIPE.side
    assert np.array_equal(inputs // side**2, events["p"])
    assert np.array_equal(inputs // side % side, events["y"] // 4)
    assert np.array_equal(inputs % side, events["x"] // 4)
    assert np.array_equal(np.floor(times), (events["t"] - events["t"][0]) // 1000)
    for other in read[1:]:
        assert np.array_equal(np.floor(other[0]), np.floor(times))
        assert np.array_equal(other[1], inputs)


@pytest.mark.needs("torch", "nir", "data", "gcc")
def test_a_folder_becomes_proved_c(
    train: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "tonic", recording(data))
    out = tmp_path / "out"
    spikes = out / "split.npz"
    monkeypatch.setattr(sys, "argv", [
        "train.py", "--data", str(tmp_path / "tonic"), "--epochs", "2", "--out", str(out),
        "--export", str(spikes), "--export-train", str(out / "train.npz"),
    ])  # fmt: skip
    train.main()
    found = datasets.load(spikes)
    assert found.split.tolist() == [0, 0, 1, 2, 2]  # two of user 1, one of user 2, both of the test
    assert found.dt == train.RECIPE.milliseconds / 1000
    raster = found.samples(np.arange(5), (2, 32, 32), encoded=True)
    assert raster.max() == 1
    assert (raster.sum((2, 3, 4)) > 0).all()
    lessons = datasets.load(out / "train.npz")
    assert np.array_equal(lessons.samples(np.arange(2), (2, 32, 32), encoded=True), raster[:2])
    network, compiled = str(out / "dvs_gesture.nir"), str(tmp_path / "mcu")
    given = ["--data", str(spikes)]
    assert not cli.main(
        ["compile", network, *given, "--target", "mcu", "-o", compiled], standalone_mode=False
    )
    assert not cli.main(["validate", compiled, *given, "--executor", "host"], standalone_mode=False)


@pytest.mark.needs("torch", "nir")
def test_a_folder_without_recordings_is_refused(train: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no recording; tonic"):
        train.files(tmp_path)
