"""`qspinn bench`: what it counts, what it prints, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.bench import COUNTED, compiler_for, core_of
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.toolchain import CORES

from cli_runs import Run
from mcu_builds import convolutional, events, files_of, mlp, recurrent, write
from mcu_nets import NETS
from qspinn import interp
from qspinn.backend import backend
from qspinn.bench import Bench, Counting, counting, reader_of, work
from qspinn.cli import main
from qspinn.errors import BackendError, QspinnError
from qspinn.ir import Graph, Neuron

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.nir"
DATA = ROOT / "examples" / "digits" / "digits.npz"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "digits"
    with pytest.raises(SystemExit) as caught:
        main(["compile", str(DIGITS), "--target", "mcu", "--device", "stm32g071xb", "--data",
              str(DATA), "-o", str(folder)])  # fmt: skip
    assert caught.value.code == 0
    return folder


# --- the command ---


@pytest.mark.needs("arm-gcc", "unicorn")
def test_the_device_s_core_is_counted(qspinn: Run, artifact: Path) -> None:
    done = qspinn("bench", artifact, "--data", DATA, "--samples", 2)
    assert (done.code, done.out) == (0, "")
    for word in ("digits on cortex-m0plus, gcc", "digits_update_lif1", "per operation", "total",
                 "the mean of 2", "deepest stack", "no wait states", "once"):  # fmt: skip
        assert word in done.err, word
    assert "random input" not in done.err


@pytest.mark.needs("zig", "unicorn")
def test_json_of_two_cores(qspinn: Run, artifact: Path) -> None:
    done = qspinn("bench", artifact, "--core", "M4", "--core", "rv32imc", "--compiler", "clang",
                  "--samples", 2, "--json")  # fmt: skip
    assert done.code == 0
    assert "on random input" in done.err
    facts = json.loads(done.out)
    assert (facts["name"], facts["device"]) == ("digits", "stm32g071xb")
    assert list(facts["cores"]) == ["cortex-m4", "rv32imc"]
    arm, riscv = facts["cores"].values()
    assert arm["cycles"] > arm["instructions"] > 0
    assert riscv["cycles"] is None
    assert "not modelled" in riscv["notes"][0]
    for core in (arm, riscv):
        assert core["compiler"].startswith("clang")
        assert (core["samples"], core["steps"]) == (2, 24)
        staged = sum(round(stage["instructions"] * 2) for stage in core["stages"])
        assert staged == core["instructions"] * 2  # both samples, a whole number
        assert core["instructions_min"] <= core["instructions"] <= core["instructions_max"]
        assert 0 < core["stack"] < 200
    assert arm["layers"] != riscv["layers"]  # instructions differ
    works = [[(x["spikes"], x["operations"]) for x in c["layers"]] for c in (arm, riscv)]
    assert works[0] == works[1]


@pytest.mark.needs("gcc", "arm-gcc", "qemu")
def test_helium_is_counted_by_qemu(qspinn: Run, artifact: Path) -> None:
    done = qspinn("bench", artifact, "--core", "cortex-m55", "--samples", 1, "--json")
    assert done.code == 0
    (core,) = json.loads(done.out)["cores"].values()
    assert core["instructions"] > 10_000
    assert core["cycles"] is None
    assert "not modelled" in done.err


def test_an_unknown_core_is_refused(qspinn: Run, artifact: Path) -> None:
    done = qspinn("bench", artifact, "--core", "m99")
    assert (done.code, done.out) == (2, "")
    assert "no core 'm99'" in done.err
    assert "one of cortex-m0," in done.err
    done = qspinn("bench", artifact, "--core", "cortex-m85")
    assert done.code == 2
    assert "nothing here emulates a cortex-m85" in done.err


def test_a_missing_emulator_is_named(
    qspinn: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    done = qspinn("bench", artifact, "--core", "m55")
    assert done.code == 3
    assert "qemu-system-arm is not installed" in done.err
    done = qspinn("bench", artifact, "--core", "m4", "--compiler", "gcc")
    assert done.code == 3
    assert "arm-none-eabi-gcc is not installed" in done.err


def test_a_target_that_cannot_count_says_so() -> None:
    assert isinstance(BACKEND, Counting)
    with pytest.raises(QspinnError, match="loihi counts no instructions"):
        counting(backend("loihi"))


def test_gcc_unless_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert compiler_for(CORES["cortex-m4"], None) == "clang"
    assert compiler_for(CORES["cortex-m4"], "gcc") == "gcc"


def test_cores_by_their_usual_names() -> None:
    for text in ("m0+", "M0+", "cortex-m0+", "cortex-m0plus", "m0plus", "Cortex-M0+"):
        assert core_of(text).name == "cortex-m0plus"
    assert core_of("RV32IMC").name == "rv32imc"
    assert all(core_of(name).name == name for name in COUNTED)
    with pytest.raises(BackendError, match="no core 'avx'"):
        core_of("avx")


@pytest.mark.needs("zig", "unicorn")
def test_what_a_device_adds(
    qspinn: Run, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its note and, where its clock is known, the time: for its own core alone."""
    folder = tmp_path / "out"
    options = ("--target", "mcu", "--device", "rp2040", "--data", DATA)
    assert qspinn("compile", DIGITS, *options, "-o", folder).code == 0
    monkeypatch.setattr("qspinn.cli.bench.clock", lambda opened: 125_000_000)
    both = ("--core", "m0+", "--core", "m3", "--compiler", "clang", "--samples", 1, "--json")
    done = qspinn("bench", folder, *both)
    assert done.code == 0
    assert done.err.count("rp2040: flash outside the chip") == 1
    assert done.err.count("ms at 125 MHz") == 1
    own, other = json.loads(done.out)["cores"].values()
    assert own["seconds"] == own["cycles"] / 125e6
    assert other["seconds"] is None


# --- what is counted ---


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("make", [mlp, recurrent, lambda: convolutional(side=6)])
def test_counts_add_up(make: Callable[[], Graph], tmp_path: Path) -> None:
    graph = make()
    write(tmp_path, graph)
    data = events(graph, batch=3, steps=5)
    found = BACKEND.count(tmp_path, graph, data, "cortex-m3", "clang")
    total = instructions(files_of(graph), build(graph), data, CORES["cortex-m3"]).sum(1)
    assert np.array_equal(found.samples, total)
    assert sum(round(stage.instructions * 3) for stage in found.stages) == total.sum()
    assert found.cycles is not None
    assert sum(round((stage.cycles or 0) * 3) for stage in found.stages) == found.cycles.sum()
    bench = Bench(found, work(graph, data), 5, hertz=1_000_000)
    layers = sum(bench.of_layer(node.name) for node in graph.of_type(Neuron))
    assert 0.8 < layers / bench.instructions < 1
    assert bench.seconds == found.cycles.mean() / 1e6
    assert [s.name.rpartition("_")[2] for s in found.once] == ["reset", "winner"]
    assert all(s.instructions > 0 for s in found.once)


@pytest.mark.parametrize("name", ["mlp", "recurrent", "conv", *NETS])
def test_work_is_what_the_reference_does(name: str) -> None:
    """Spikes of every layer, as the interpreter sends them; events of the input."""
    makes = {"mlp": mlp, "recurrent": recurrent, "conv": lambda: convolutional(side=6), **NETS}
    graph = makes[name]()
    data = events(graph, batch=2, steps=6)
    source, *layers = work(graph, data)
    assert source.spikes == np.count_nonzero(data) / 2
    sent = {layer.name: layer.spikes for layer in layers}
    assert {node.name for node in graph.of_type(Neuron)} <= sent.keys()
    (last,) = graph.output.inputs
    if last in sent and graph.output.readout == "count":
        assert sent[last] == np.count_nonzero(interp.run(graph, data).output) / 2


def test_operations_of_a_dense_network() -> None:
    graph = mlp(sizes=(12, 9, 4))
    data = events(graph, batch=2, steps=6)
    source, first, second = work(graph, data)
    assert first.operations == 9 * source.spikes
    assert second.operations == 4 * first.spikes


def test_connections_belong_to_the_layer_that_reads_them() -> None:
    graph = convolutional()
    assert [reader_of(graph, name) for name in ("c1", "c2", "fc")] == ["lif1", "lif2", "lif3"]
    graph = recurrent()
    assert [reader_of(graph, name) for name in ("fc1", "rec1", "fc2")] == ["lif1", "lif1", "li"]
