"""In-training quantization as a scheme of the search, from the entry point to the folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from graphs import mlp
from qspinn import storage
from qspinn.backend import backend, default_plan
from qspinn.calibrate import Calibration
from qspinn.choice import Choice
from qspinn.cli import main
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import QspinnError
from qspinn.explore.files import read
from qspinn.explore.schemes import Lessons, schemes
from qspinn.ir import Graph
from qspinn.output import GRAPH
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan, parse
from qspinn.train import scheme as module
from qspinn.train.recipe import Recipe
from qspinn.train.scheme import InTraining
from tree import ROOT

pytestmark = pytest.mark.needs("torch")

DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSPINN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def small() -> tuple[Graph, Plan, Dataset]:
    rng = np.random.default_rng(2)
    data = Dataset("made", rng.random((40, 12)), rng.integers(0, 4, 40), np.zeros(40, np.int64))
    graph = mlp()
    plan = default_plan(backend("mcu"), graph, Calibration(), None, {"fc1.weight": Choice(bits=2)})
    options = Encoder("rate", 6).options()
    return graph, Plan(plan.entries, plan.scales, options), data


def test_the_entry_point_makes_the_scheme(small: tuple[Graph, Plan, Dataset]) -> None:
    _, _, data = small
    found = schemes(("ptq", "itq"), Lessons(data, 5))
    assert list(found) == ["ptq", "itq"]
    made = found["itq"]
    assert isinstance(made, InTraining)
    assert (made.name, made.recipe.seed, made.dataset) == ("itq", 5, data)


def refuse(*arguments: object, **options: object) -> None:
    raise QspinnError("trained again")


LEARNED = ("weight", "scale")


def test_a_network_is_trained_once(
    small: tuple[Graph, Plan, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, plan, data = small
    recipe = Recipe(epochs=1, batch=8, learned=LEARNED)
    first = InTraining(data, recipe, tmp_path)
    made = first.fit(graph, plan)
    program = quantize(*made).digest
    assert program != quantize(graph, plan).digest
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", refuse)
        assert first.fit(graph, plan) is made
        later = InTraining(data, recipe, tmp_path)
        assert quantize(*later.fit(graph, plan)).digest == program
        for other in (
            InTraining(data, Recipe(epochs=1, batch=8, learned=LEARNED, seed=1), tmp_path),
            InTraining(Dataset("made", data.x, data.y[::-1], data.split), recipe, tmp_path),  # type: ignore[index]
            InTraining(data, recipe),
        ):
            with pytest.raises(QspinnError, match="trained again"):
                other.fit(graph, plan)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert quantize(*InTraining(data, recipe, tmp_path).fit(graph, plan)).digest == program


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


SMALL = (
    *("weight=8,4,2,binary", "membrane=16", "weight:rounding=nearest_even", "scale=", "decay="),
    *("threshold=", "bias=", "input=all"),
)


def test_explore_trains_what_is_too_small_untrained(tmp_path: Path) -> None:
    with np.load(DIGITS / "digits.npz") as file:
        lessons = file["split"] == 0
        np.savez(tmp_path / "train.npz", x=file["x"][lessons], y=file["y"][lessons])
    tries = [word for text in SMALL for word in ("--try", text)]
    common = ("--target", "mcu", "--data", DIGITS / "digits.npz")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        assert not run(
            "explore", DIGITS / "digits.nir", *common, "-o", folder, "--max-drop", "2%",
            "--scheme", "ptq,itq", "--train-data", tmp_path / "train.npz", "--trainings", 6, *tries,
        )  # fmt: skip
    one, two = (
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        for folder in folders
    )
    assert one == two
    found = read(folders[0])
    winner = found.winner
    assert winner is not None
    assert winner.memory is not None
    assert winner.scheme == "itq"
    assert winner.bound is not None
    assert winner.bound <= 0.02
    cheap = [e for e in found.entries if e.scheme == "ptq" and e.memory and e.bound is not None]
    assert all(e.bound > 0.02 for e in cheap  # type: ignore[operator]
               if e.complete and e.memory.network <= winner.memory.network)  # type: ignore[union-attr]  # fmt: skip
    taught = [e for e in found.entries if e.scheme == "itq" and e.memory and e.bound is not None]
    assert len(taught) <= 6 + 3 * 2 * len(found.knobs)  # and the neighbours of three winners
    assert all(e.memory.network >= winner.memory.network for e in taught  # type: ignore[union-attr]
               if e.complete and e.bound <= 0.02)  # type: ignore[operator]  # fmt: skip

    plan = parse((folders[0] / "plan.txt").read_text())
    program = quantize(storage.load(folders[0] / "trained.qspinn"), plan)
    assert not run(
        "compile", folders[0] / "trained.qspinn", *common, "--plan", folders[0] / "plan.txt",
        "-o", tmp_path / "firmware",
    )  # fmt: skip
    assert storage.load(tmp_path / "firmware" / GRAPH).digest == program.digest
    facts = json.loads((tmp_path / "firmware" / "manifest.json").read_text())
    assert found.report is not None
    assert facts["accuracy"]["integer"]["value"] == found.report.accuracy.value
