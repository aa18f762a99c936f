"""Real trained networks, from their files to proved artifacts on both targets."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_data import write_mnist
from qspinn.backend import backend, device_of
from qspinn.evaluate import chunks, compare_accuracy
from qspinn.interp import run
from qspinn.ir import Array, Graph
from qspinn.job import Job, plan_for, prepare
from qspinn.pipeline import Lowered, build, lower
from qspinn.simulate import simulate
from qspinn.validate import Verdict, check_artifact, compare, random_input

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
FEW = 20


def lowered(job: Job, target: str) -> Lowered:
    found = backend(target)
    return lower(job.graph, plan_for(job, found), found)


def report_part(job: Job, graph: Graph, limit: int | None = None) -> Array:
    assert job.dataset is not None
    index = job.dataset.part("report", limit)
    return np.concatenate([x for x, _ in chunks(graph, job.dataset, job.encoder, index)])


def emitted(graph: Graph, target: str, folder: Path, like: Lowered) -> Path:
    """The files of ``graph`` for a target, wherever it was lowered for."""
    found = backend(target)
    artifact = found.emit(found.legalize(graph), device_of(found, None), like.plan)
    for name, content in artifact.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def prove(graph: Graph, target: str, folder: Path, data: Array, executor: str) -> Verdict:
    verdict = check_artifact(backend(target), folder, graph, data, executor)
    assert verdict.mismatch is None, str(verdict.mismatch)
    return verdict


def simulated(graph: Graph, data: Array) -> None:
    """The fast simulator against the reference, in every state of every step."""
    for first in range(0, len(data), 50):
        chunk = data[first : first + 50]
        found = simulate(graph, chunk, record="trace")
        assert compare(run(graph, chunk), found.trace) is None


@pytest.fixture(scope="module")
def digits() -> Job:
    return prepare(EXAMPLES / "digits" / "digits.nir", EXAMPLES / "digits" / "digits.npz")


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("mnist")
    data = write_mnist(Path(os.environ["QSPINN_DATA"]) / "mnist.npz", folder / "mnist.npz")
    return prepare(EXAMPLES / "mnist" / "mnist.nir", data)


@pytest.mark.needs("gcc", "zig", "unicorn")
def test_digits_for_mcu(digits: Job, tmp_path: Path) -> None:
    done = lowered(digits, "mcu")
    folder = emitted(done.final, "mcu", tmp_path, done)
    data = report_part(digits, done.final)
    simulated(done.final, data)
    whole = prove(done.final, "mcu", folder, data, "host")
    assert whole.values == 497 * 24 * (64 + 10 + 10)
    prove(done.final, "mcu", folder, data[:FEW], "cortex-m4")


@pytest.mark.needs("gcc", "zig", "unicorn", "lava")
def test_digits_five_ways(digits: Job, tmp_path: Path) -> None:
    five_ways(digits, tmp_path)


@pytest.mark.needs("gcc", "zig", "unicorn", "lava", "data")
def test_mnist_five_ways(mnist: Job, tmp_path: Path) -> None:
    five_ways(mnist, tmp_path)


def five_ways(job: Job, tmp_path: Path) -> None:
    """One graph: reference = simulator = host C = emulated Cortex-M4 = Lava."""
    done = lowered(job, "loihi")
    data = report_part(job, done.final, FEW)
    simulated(done.final, data)
    as_c = emitted(done.final, "mcu", tmp_path / "c", done)
    prove(done.final, "mcu", as_c, data, "host")
    prove(done.final, "mcu", as_c, data, "cortex-m4")
    as_lava = emitted(done.final, "loihi", tmp_path / "lava", done)
    prove(done.final, "loihi", as_lava, data, "lava")


@pytest.mark.needs("lava310")
def test_digits_in_lava_as_it_ships(digits: Job, tmp_path: Path) -> None:
    done = lowered(digits, "loihi")
    folder = emitted(done.final, "loihi", tmp_path, done)
    prove(done.final, "loihi", folder, report_part(digits, done.final, 5), "lava310")


@pytest.mark.needs("gcc", "zig", "unicorn", "data")
def test_mnist_for_mcu(mnist: Job, tmp_path: Path) -> None:
    done = lowered(mnist, "mcu")
    folder = emitted(done.final, "mcu", tmp_path, done)
    data = report_part(mnist, done.final, 100)
    simulated(done.final, data)
    prove(done.final, "mcu", folder, data, "host")
    prove(done.final, "mcu", folder, data[:FEW], "cortex-m4")


def accuracy_holds(job: Job, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = lowered(job, target)
    assert job.dataset is not None
    found = compare_accuracy(done.canonical, done.quantized, job.dataset, job.encoder)
    assert found is not None
    with capsys.disabled():
        d = found.difference
        sys.stderr.write(
            f"\n{job.graph.name} for {target}: float {found.float.percent()}, integer "
            f"{found.integer.percent()}, paired difference {100 * d.value:+.2f} pt "
            f"[{100 * d.low:+.2f}, {100 * d.high:+.2f}]\n"
        )
    assert found.float.value > 0.96
    assert abs(found.difference.value) <= 0.01


@pytest.mark.parametrize("target", ["mcu", "loihi"])
def test_digits_accuracy(digits: Job, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy_holds(digits, target, capsys)


@pytest.mark.needs("data", "numba")
@pytest.mark.parametrize("target", ["mcu", "loihi"])
def test_mnist_accuracy(mnist: Job, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy_holds(mnist, target, capsys)


def test_widths_of_the_default_plan(digits: Job) -> None:
    """What the accuracy above is measured with: 8-bit weights, 16 bits or less for the rest."""
    plan = lowered(digits, "mcu").plan
    for path, entry in plan.entries.items():
        if entry.role != "derived":
            assert entry.fmt.bits <= (8 if path.endswith(".weight") else 16), path


def chip(models: Path) -> tuple[Array, Array]:
    """Input and spikes of the recording made on a real Loihi 2."""
    with (models / "traces" / "lif_lava_loihi_fixed.csv").open() as file:
        rows = np.array([[float(x) for x in row] for row in csv.reader(file)])
    sent, _, spikes = rows.T.astype(np.int64)
    return sent, spikes


@pytest.mark.needs("lava")
def test_the_norse_neuron_on_the_chip(models: Path, tmp_path: Path) -> None:
    """With qspinn's own plan, the four spike steps that the chip recorded."""
    job = prepare(models / "nir" / "lif_norse.nir", options={"dt": 1e-4})
    found = backend("loihi")
    done = lower(job.graph, plan_for(job, found), found, start="cold")
    sent, spikes = chip(models)
    data = sent.reshape(1, -1, 1)
    ours = run(done.final, data).output[0, :, 0]
    assert np.flatnonzero(ours).tolist() == np.flatnonzero(spikes).tolist()
    assert ours.sum() == 4
    folder = emitted(done.final, "loihi", tmp_path, done)
    prove(done.final, "loihi", folder, data, "lava")


REAL = {
    "braille_noDelay_bias_zero.nir": {"reset": "zero"},
    "braille_noDelay_noBias_subtract.nir": {"reset": "subtract"},
    "cnn_sinabs.nir": {},
}


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize("file", REAL)
def test_real_networks_for_mcu(models: Path, tmp_path: Path, file: str) -> None:
    job = prepare(models / "nir" / file, options=REAL[file])
    done = lowered(job, "mcu")
    data = random_input(done.final, 2, 12, seed=3, rate=0.2)
    assert run(done.final, data).output.any(), "a silent network proves nothing"
    simulated(done.final, data)
    folder = emitted(done.final, "mcu", tmp_path, done)
    prove(done.final, "mcu", folder, data, "host")
    prove(done.final, "mcu", folder, data[:1, :6], "cortex-m4")


@pytest.mark.needs("lava")
@pytest.mark.parametrize("file", REAL)
def test_real_networks_for_loihi(models: Path, tmp_path: Path, file: str) -> None:
    job = prepare(models / "nir" / file, options=REAL[file])
    done = lowered(job, "loihi")
    data = random_input(done.final, 2, 12, seed=3, rate=0.2)
    assert run(done.final, data).output.any(), "a silent network proves nothing"
    folder = emitted(done.final, "loihi", tmp_path, done)
    prove(done.final, "loihi", folder, data, "lava")


def test_the_same_input_gives_the_same_bytes(digits: Job) -> None:
    found = backend("mcu")
    artifacts = [build(lowered(digits, "mcu"), found, device_of(found, None)).artifact
                 for _ in range(2)]  # fmt: skip
    assert artifacts[0].files == artifacts[1].files
