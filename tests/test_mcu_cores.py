"""Every core with every compiler: the same states, and counts that are exact."""

from __future__ import annotations

import numpy as np
import pytest
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import Board, Emulator, instructions, linked, stack_bytes
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.table import EMULATED
from qspinn.backends.mcu.toolchain import COMPILERS, CORES, compiler

from mcu_builds import agrees, convolutional, events, files_of, mlp, recurrent
from networks import random_network
from qspinn import interp
from qspinn.errors import BackendError, ToolchainError
from qspinn.ir import Array, Graph
from qspinn.validate import compare

ARM = [name for name in EMULATED if CORES[name].arm]


def equal_with_gcc(graph: Graph, data: Array, core: str) -> None:
    """Every state of what GCC makes of the C is the interpreter's."""
    network = build(graph)
    found = Board(files_of(graph), network, CORES[core], "gcc").run(data)
    mismatch = compare(interp.run(graph, data), trace(network, found))
    assert mismatch is None, str(mismatch)


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("core", ARM)
def test_gcc_on_arm(core: str) -> None:
    for graph in (mlp(), recurrent(), convolutional(side=6, channels=3)):
        equal_with_gcc(graph, events(graph, batch=1, steps=6), core)
    equal_with_gcc(*random_network(960), core)


@pytest.mark.needs("riscv-gcc", "unicorn")
def test_gcc_on_riscv() -> None:
    graph = recurrent()
    equal_with_gcc(graph, events(graph, batch=1, steps=6), "rv32imc")
    equal_with_gcc(*random_network(961), "rv32imc")


@pytest.mark.needs("riscv-gcc", "qemu-riscv")
def test_random_networks_in_qemu_on_riscv() -> None:
    for seed in (980, 981):
        agrees(*random_network(seed), "qemu-rv32imc")


@pytest.mark.needs("arm-gcc", "zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m7"])
def test_both_compilers_are_counted(core: str) -> None:
    graph = mlp()
    found = {
        name: instructions(files_of(graph), build(graph), events(graph), CORES[core], name)
        for name in COMPILERS
    }
    assert found["clang"].shape == found["gcc"].shape == (2, 12)
    assert not np.array_equal(found["clang"], found["gcc"])
    assert abs(found["clang"].sum() / found["gcc"].sum() - 1) < 0.25
    used = [
        stack_bytes(files_of(graph), build(graph), events(graph), CORES[core], n) for n in found
    ]
    assert all(0 < size < 300 for size in used)


def test_what_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="no compiler 'icc'") as caught:
        compiler(CORES["cortex-m4"], "icc")
    assert caught.value.hint == "one of clang, gcc"
    with pytest.raises(BackendError, match="no GCC is known for cortex-m85"):
        compiler(CORES["cortex-m85"], "gcc")
    monkeypatch.setenv("PATH", "")
    for core in ("cortex-m4", "rv32imc"):
        with pytest.raises(ToolchainError, match="-gcc is not installed"):
            compiler(CORES[core], "gcc")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m55", "cortex-m85"])
def test_helium_is_compiled_but_not_emulated_by_unicorn(core: str) -> None:
    graph = mlp()
    image = linked(files_of(graph), build(graph).prefix, CORES[core])
    assert image.startswith(b"\x7fELF")
    with pytest.raises(BackendError, match=f"unicorn has no {core}") as caught:
        Emulator(image, CORES[core])
    assert "qemu" in caught.value.hint
