"""What a package holds, word for word, and what a network occupies on a chip; without Lava."""

from __future__ import annotations

import ast
import io
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.names import identifier, identifiers, register_names
from qspinn.backends.loihi.synmem import slice_words

from loihi_nets import W, linear, net, neuron, written
from qspinn import __version__
from qspinn.backend import Artifact, Backend
from qspinn.errors import LegalizeError
from qspinn.fixed import QFormat, Rounding, shr
from qspinn.ir import Conv2d, Delay, Graph, Linear, Param
from qspinn.plan import Plan

CHIP = BACKEND.devices["loihi2"]


def small() -> Graph:
    """A bit of everything that a package can say."""
    draw = np.random.default_rng(7)
    late = Delay(name="late", inputs=("lif2",), shape=(4,), steps=2)
    kernel = Param(draw.integers(-128, 128, (2, 1, 2, 2)), W)
    graph = net("small", (1, 4, 3), (
        late,
        Conv2d(name="conv1", inputs=("input",), weight=kernel),
        neuron("lif1", ("conv1",), (2, 3, 2), {"threshold": draw.integers(9, 99, (2, 3, 2))}),
        linear("fc2", "lif1", draw.integers(-128, 128, (4, 12)), draw.integers(1, 99, 4)),
        linear("rec2", "late", draw.integers(-128, 128, (4, 4))),
        neuron("lif2", ("fc2", "rec2"), (4,), synapse="new"),
        linear("fc3", "lif2", draw.integers(-128, 0, (3, 4))),
        neuron("lif3", ("fc3",), (3,), reset="subtract"),
    ))  # fmt: skip
    return BACKEND.legalize(graph)


def emitted(graph: Graph, plan: Plan | None = None) -> Artifact:
    return BACKEND.emit(graph, CHIP, plan or Plan({}))


def test_the_protocol() -> None:
    assert isinstance(BACKEND, Backend)
    assert BACKEND.default_device in BACKEND.devices
    assert BACKEND.executors == ("lava", "lava310", "lava-models")


@pytest.mark.parametrize("path", ["network.py", "README.md", "neurons_lif3/__init__.py"])
def test_files(path: str, golden: str) -> None:
    text = emitted(small()).files[path].decode()
    assert text.replace(__version__, "VERSION") == golden


def test_a_package_is_whole_and_reproducible() -> None:
    one, two = emitted(small()), emitted(small())
    assert one.files == two.files
    assert one.facts == two.facts
    assert list(one.files) == sorted(one.files)
    assert {"README.md", "network.py", "params.npz", "run.py", "lava_compat.py"} < set(one.files)
    with zipfile.ZipFile(io.BytesIO(one.files["params.npz"])) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    own = {Path(path).parts[0].removesuffix(".py") for path in one.files}
    outside = {"numpy", "lava", "scipy", *sys.stdlib_module_names}
    for path, content in one.files.items():
        if path.endswith(".py"):
            for node in ast.walk(ast.parse(content)):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert {name.split(".")[0] for name in names} <= own | outside, path


def test_every_own_process_is_alone_in_its_folder() -> None:
    """Lava executes every file beside a process class."""
    files = emitted(small()).files
    folders = {Path(path).parent for path in files if b"AbstractProcess)" in files[path]}
    assert folders == {Path("sources"), Path("sinks"), Path("neurons_lif3")}
    for folder in folders:
        assert [path for path in files if Path(path).parent == folder] == [f"{folder}/__init__.py"]


def test_facts_map_layers_to_processes() -> None:
    facts = emitted(small()).facts
    assert facts["start"] == "skewed"
    assert facts["samples"] == "a run for each sample"
    one, two, three = facts["layers"]
    assert one["processes"] == ["conv1", "lif1"]
    assert two["processes"] == ["fc2", "rec2", "lif2_line", "lif2_bias", "lif2"]
    assert (one["shift"], two["shift"], three["shift"]) == (1, 2, 3)
    assert one["parameter_groups"] > 1
    assert two["parameter_groups"] == 1
    assert two["activation_is"] == "proved"
    assert three["neurons"] == "own process model"
    assert three["simulator_only"] == "resets by subtraction"


def test_the_observed_peak_is_written_down() -> None:
    wide = Linear(name="fc", inputs=("input",), weight=Param(np.full((2, 200), 127), W))
    graph = net("crowded", (200,), (wide, neuron("lif", ("fc",), (2,))))
    legal = BACKEND.legalize(graph, assume_activation={"lif": 900})
    artifact = emitted(legal, Plan({}, options={"assume.lif": "900"}))
    (layer,) = artifact.facts["layers"]
    assert layer["activation"] == [0, 50800]
    assert (layer["activation_is"], layer["observed_peak"]) == ("assumed", "900")
    assert b"lif_watch = Watch(" in artifact.files["network.py"]
    assert b"is assumed to stay within 16 bits" in artifact.files["README.md"]


def test_a_graph_must_be_legal_to_be_emitted() -> None:
    wide = Linear(name="fc", inputs=("input",), weight=Param(np.full((2, 3), 900), QFormat(12, 0)))
    graph = net("wide", (3,), (replace(wide, bias=None), neuron("lif", ("fc",), (2,))))
    graph = graph.map(lambda n: n.with_params({"weight": Param([[1, 2, 900]] * 2, QFormat(12, 0))})
                      if n.name == "fc" else n)  # fmt: skip
    with pytest.raises(LegalizeError, match="fc: weights from 1 to 900 need 10 bits"):
        emitted(graph)


def test_run_py_says_how_to_get_lava(tmp_path: Path) -> None:
    """With an interpreter that has numpy but no Lava."""
    written(small(), tmp_path)
    (tmp_path / "lava_compat.py").write_text("raise ImportError('No module named lava')")
    command = [sys.executable, "-B", "run.py", "--input", "x.npy", "--output", "y.npy"]
    run = subprocess.run(command, cwd=tmp_path, check=False, text=True, capture_output=True)
    assert run.returncode == 3
    assert "pip install --ignore-requires-python --no-deps lava-nc" in run.stderr


@pytest.mark.needs("lava")
@pytest.mark.parametrize(
    ("input", "output", "says"),
    [("none.npy", "y.npy", "none.npy"), ("text.npy", "y.npy", "--input text.npy: "),
     ("objects.npy", "y.npy", "Object arrays cannot be loaded"),
     ("other.npz", "y.npy", "nothing for the input input"),
     ("flat.npy", "y.npy", "has the shape (2, 3), not (samples, steps, 1, 4, 3)"),
     ("x.npy", "no/y.npy", "no/y.npy: there is no such folder")],
)  # fmt: skip
def test_run_py_says_what_is_wrong(input: str, output: str, says: str, tmp_path: Path) -> None:
    """In a line, before it simulates anything."""
    written(small(), tmp_path)
    (tmp_path / "text.npy").write_text("0 1 0 1")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "other.npz", y=np.arange(3))
    np.save(tmp_path / "flat.npy", np.zeros((2, 3), int))
    np.save(tmp_path / "x.npy", np.zeros((1, 2, 1, 4, 3), int))
    command = [sys.executable, "-B", "run.py", "--input", input, "--output", output]
    run = subprocess.run(command, cwd=tmp_path, check=False, text=True, capture_output=True)
    assert run.returncode == 2, run.stderr
    assert says in run.stderr
    assert run.stderr.count("\n") == 1


# --- the arithmetic of own process models ---


def test_arithmetic_is_the_reference_s(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "arithmetic.py").write_bytes(emitted(small()).files["arithmetic.py"])
    module = runpy.run_path(str(tmp_path / "arithmetic.py"))
    x = np.concatenate([np.arange(-40, 41), rng.integers(-(2**40), 2**40, 500)])
    for name, rounding in (
        ("near_even", Rounding.NEAREST_EVEN), ("near_away", Rounding.NEAREST_AWAY),
    ):  # fmt: skip
        for k in (1, 2, 5, 30, rng.integers(0, 9, x.size)):
            np.testing.assert_array_equal(module[name](x, k), shr(x, k, rounding))


# --- names ---


def test_names() -> None:
    assert identifier("fc1.weight") == "fc1_weight"
    assert identifier("") == "x"
    assert identifier("3 Läufe") == "x_3_Laufe"
    assert register_names(["v", "wait", "t7", "a", "lambda"]) == {
        "v": "v", "wait": "wait_", "t7": "t7_", "a": "a_", "lambda": "lambda_",
    }  # fmt: skip
    taken = net("n", (3,), (
        linear("p", "input", np.ones((3, 3))), neuron("P", ("p",), (3,)),
        linear("run", "P", np.ones((2, 3))), neuron("if", ("run",), (2,)),
    ))  # fmt: skip
    assert list(identifiers(taken).values()) == ["input", "p_2", "P", "run_2", "if_2", "out"]


# --- memory ---


def test_memory_by_region() -> None:
    graph = small()
    footprint = BACKEND.footprint(graph, CHIP)
    weights = {line.owner: line.bytes for line in footprint.lines if line.kind == "weights"}
    line = 8 * slice_words(1, 4, 8)
    assert weights["lif2"] == 8 * (slice_words(12, 4, 8) + slice_words(4, 4, 8)) + line
    state = {line.owner: line.bytes for line in footprint.lines if line.kind == "state"}
    assert state == {"lif1": 12 * 6, "lif2": 4 * 6, "lif3": 3 * 3}
    assert footprint.network == sum(
        x.bytes for x in footprint.lines if x.kind not in ("cores", "core")
    )
