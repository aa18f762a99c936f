"""A network that learned real digits without labels, from the command line to both targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qspinn import storage
from qspinn.cli import main
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.explore import files
from qspinn.stdp import Recipe, learn

DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits" / "digits.npz"
STEPS, GAIN = 40, 1 / 32
ENCODE = ("--encode", "rate", "--steps", str(STEPS), "--gain", str(GAIN))
NEURONS, LEARNED = 40, 600
RECIPE = Recipe(
    neurons=NEURONS, passes=6, length=3.0, bound=0.33, threshold=5.0, inhibition=60.0, step=0.005,
    shown=LEARNED,
)  # fmt: skip
pytestmark = pytest.mark.needs("numba", "gcc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A learned network, data to judge by, and what it learned from."""
    made = tmp_path_factory.mktemp("stdp")
    with np.load(DIGITS) as digits:
        x, y = digits["x"], digits["y"].astype(np.int64)
    order = np.random.default_rng(5).permutation(len(y))
    train, rest = order[:LEARNED], order[LEARNED:]
    split = np.repeat([0, 1, 2], [100, 500, len(rest) - 600])
    np.savez(made / "data.npz", x=x[rest], y=y[rest], split=split)
    np.savez(made / "lessons.npz", x=x[train], y=y[train])
    lessons = Dataset("lessons", x[train], y[train], np.zeros(LEARNED, np.int64))
    learned = learn(lessons, Encoder("rate", STEPS, GAIN, seed=1), RECIPE)
    storage.save(learned.graph, made / "net.qspinn")
    return made


Call = Callable[..., str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line; what it prints."""

    def called(*words: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        shown = capsys.readouterr()
        assert ended.value.code == 0, shown.err
        return shown.out

    return called


def compiled(call: Call, folder: Path, out: str, *options: object) -> Path:
    call("compile", folder / "net.qspinn", "--data", folder / "data.npz", "-o", folder / out,
           *ENCODE, *options)  # fmt: skip
    return folder / out


def test_inspect_shows_a_number_and_no_matrix(folder: Path, call: Call) -> None:
    shown = json.loads(call("inspect", folder / "net.qspinn", "--json"))
    assert shown


def test_it_is_searched_learns_for_its_plan_and_runs_bit_exact(folder: Path, call: Call) -> None:
    options = ("--target", "mcu", "--max-drop", "6%", "--scheme", "ptq,itq", "--train-data",
               folder / "lessons.npz", "--trainings", 2, "--evaluations", 12, "--workers", 1,
               "--try", "weight=8,3,2,1", "--try", "membrane=8", "--try", "decay=12",
               "--try", "threshold=shared", "--try", "scale=error",
               "--try", "weight:rounding=nearest_even")  # fmt: skip
    one = compiled(call, folder, "one", *options)
    manifest = json.loads((one / "manifest.json").read_text())
    assert manifest["accuracy"]["float"]["value"] > 0.75
    assert manifest["baseline_bytes"] > 4 * sum(
        line["bytes"] for line in manifest["footprint"]
        if line["kind"] in ("weights", "constants", "state")
    )  # fmt: skip
    exploration = files.read(one)
    trained = [entry for entry in exploration.entries if entry.scheme == "itq"]
    assert trained
    told = call("validate", one, "--data", folder / "data.npz", "--executor", "host", "--json")
    (verdict,) = json.loads(told)
    assert verdict["samples"] == 597
    again = compiled(call, folder, "again", *options)
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    for name in names:
        assert (one / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.needs("zig", "unicorn")
def test_it_runs_on_a_core(folder: Path, call: Call) -> None:
    made = compiled(call, folder, "core", "--target", "mcu")
    call("validate", made, "--data", folder / "data.npz", "--executor", "cortex-m0plus",
           "--samples", 3)  # fmt: skip


@pytest.mark.needs("lava")
def test_it_runs_in_lava(folder: Path, call: Call) -> None:
    made = compiled(call, folder, "lava", "--target", "loihi")
    call("validate", made, "--data", folder / "data.npz", "--samples", 5)
