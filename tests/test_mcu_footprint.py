"""The memory model against what compiler, linker and emulated cores report."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.codesize import code_bytes
from qspinn.backends.mcu.emulate import linked, stack_bytes
from qspinn.backends.mcu.toolchain import CORES, gcc_of

from mcu_builds import (
    chain,
    compiles,
    convolutional,
    deaf,
    dense,
    elf_of,
    events,
    files_of,
    lif,
    mlp,
    recurrent,
    run,
    sections,
    write,
    zig_object,
)
from mcu_nets import camera, few_bits, votes
from networks import random_network
from qspinn.ir import Graph, Input
from qspinn.memory import Device, Footprint, excesses

CORES_TESTED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
SIZED = (*CORES_TESTED, "cortex-m7", "cortex-m55")


def cuba() -> Graph:
    """Synaptic currents, several resets, 4-bit weights."""
    rng = np.random.default_rng(11)
    return chain(
        "cuba", Input(name="x", shape=(40,)), dense(rng, "fc1", "x", 30, 40, 4),
        lif("lif1", "fc1", 30, 60, synapse="new", bias=True),
        dense(rng, "fc2", "lif1", 20, 30, 2), lif("lif2", "fc2", 20, 30, reset="value"),
        dense(rng, "fc3", "lif2", 11, 20, 8, bias=True), lif("lif3", "fc3", 11, 60),
        readout="first_spike",
    )  # fmt: skip


USUAL: Mapping[str, Callable[[], Graph]] = {
    "mlp": lambda: mlp("mlp", (64, 32, 10)),
    "large": lambda: mlp("large", (784, 128, 10)),
    "deep": lambda: mlp("deep", (100, 64, 48, 24, 12), bits=16),
    "packed": lambda: mlp("packed", (64, 40, 10), bits=4),
    "deaf": lambda: deaf("deaf"),
    "deaf, packed": lambda: deaf("packed", (200, 64, 10), 2),
    "cuba": cuba,
    "recurrent": recurrent,
    "conv": convolutional,
    "wide conv": lambda: convolutional("wide", 16, 16),
    "camera": camera,
    "votes": votes,
    "few bits": few_bits,
}


def on(core: str) -> Device:
    return next(d for d in BACKEND.devices.values() if d.core == core)


def objects(path: Path) -> set[str]:
    """The tables and variables in an object."""
    symbols = elf_of(path).get_section_by_name(".symtab").iter_symbols()
    return {s.name for s in symbols if s["st_info"]["type"] == "STT_OBJECT"}


def footprint_of(graph: Graph, core: str) -> Footprint:
    return BACKEND.footprint(BACKEND.legalize(graph), on(core))


def flash_data(footprint: Footprint) -> int:
    return footprint.of("weights", "constants")


OFF: Mapping[str, Mapping[str, float]] = {
    "clang": {"mlp": 0.035, "conv": 0.04, "deep": 0.05, "few bits": 0.04},
    "gcc": {"packed": 0.035, "camera": 0.04},
}
"""How far an estimate of code is off, at most, where that is more than `NEAR`: parts add up only
roughly."""
HELIUM_OFF: Mapping[str, Mapping[str, float]] = {
    "clang": {"packed": 0.04, "deaf": 0.04, "cuba": 0.05, "camera": 0.04},
    "gcc": {"mlp": 0.05, "votes": 0.075, "few bits": 0.075},
}
"""The same on a Cortex-M55, for which compilers write some loops with vectors."""
NEAR = 0.03


def nearly(name: str, compiler: str, core: str) -> float:
    """How far an estimate of code is off, at most."""
    off = HELIUM_OFF if core == "cortex-m55" else OFF
    return off[compiler].get(name, NEAR)


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", SIZED)
@pytest.mark.parametrize("name", USUAL)
def test_usual_networks(name: str, core: str, tmp_path: Path) -> None:
    """Constants to the byte, no variables, the struct by its own assertion, code nearly."""
    graph = USUAL[name]()
    network, predicted = write(tmp_path, graph), footprint_of(graph, core)
    real = sections(zig_object(tmp_path, CORES[core], network.prefix))
    assert real["rodata"] == flash_data(predicted)
    assert real["data"] == real["bss"] == 0
    assert predicted.of("state") == network.struct.bytes
    assert abs(predicted.of("code") / real["text"] - 1) < nearly(name, "clang", core), (
        f"{real['text']} B"
    )


@pytest.mark.needs("arm-gcc", "riscv-gcc", "unicorn")
@pytest.mark.parametrize("core", SIZED)
@pytest.mark.parametrize("name", USUAL)
def test_usual_networks_with_gcc(name: str, core: str, tmp_path: Path) -> None:
    """Constants to the byte again, and the code that the header promises GCC's users."""
    graph = USUAL[name]()
    network, predicted = write(tmp_path, graph, device=on(core).name), footprint_of(graph, core)
    # Debian's GCC for RISC-V comes without a stdint.h of a C library.
    more = () if CORES[core].arm else ("-ffreestanding",)
    command = (gcc_of(CORES[core]), *CORES[core].gcc, "-O2", "-std=c99", *more)
    compiles(tmp_path, *command, "-c", f"{network.prefix}.c", "-o", "gcc.o")
    real = sections(tmp_path / "gcc.o")
    holes = 8 * len(network.tables) if core == "cortex-m55" else 0  # tables begin at 8 bytes
    # GCC for RISC-V keeps small tables apart.
    parts = elf_of(tmp_path / "gcc.o").iter_sections()
    small = sum(part["sh_size"] for part in parts if part.name.startswith(".srodata"))
    assert 0 <= real["rodata"] + small - flash_data(predicted) <= holes
    assert real["data"] == real["bss"] == 0
    promised = code_bytes(network, on(core), "gcc")
    assert abs(promised / real["text"] - 1) < nearly(name, "gcc", core), f"{real['text']} B"
    header = (tmp_path / f"{network.prefix}.h").read_text()
    assert re.search(rf"_CODE_BYTES +{promised}u", header)


@pytest.mark.needs("arm-gcc", "avr-gcc", "unicorn")
@pytest.mark.parametrize("device", ["rp2040", "stm32f411xe", "atmega2560"])
def test_code_is_measured_where_a_compiler_is(device: str, tmp_path: Path) -> None:
    """What the object has, for the device's own core."""
    graph, part = cuba(), BACKEND.devices[device]
    prefix = write(tmp_path, graph, device=device).prefix
    size = BACKEND.code_size(tmp_path, graph, part)
    assert size is not None
    assert re.fullmatch(r"(avr-)?gcc \d+\.\d+\.\d+", size.compiler)
    avr = ("avr-gcc", "-mmcu=atmega2560")
    command = avr if part.core == "avr6" else ("arm-none-eabi-gcc", *CORES[part.core].gcc)
    compiles(tmp_path, *command, "-O2", "-std=c99", "-c", f"{prefix}.c", "-o", "own.o")
    assert size.bytes == sections(tmp_path / "own.o")["text"]


def test_code_of_an_unknown_core_is_not_measured(tmp_path: Path) -> None:
    write(tmp_path, cuba(), device="ch32v003")
    assert BACKEND.code_size(tmp_path, cuba(), BACKEND.devices["ch32v003"]) is None


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_random_networks(core: str, tmp_path: Path) -> None:
    """Constants to the byte; of code, even with invented models, most networks within 4.5 %."""
    errors, dropped = [], 0
    for seed in range(700, 730):
        graph, _ = random_network(seed)
        network, predicted = write(tmp_path, graph), footprint_of(graph, core)
        made = zig_object(tmp_path, CORES[core], network.prefix)
        real, kept = sections(made), objects(made)
        # A table no larger than a register may become code, and an invented model may read one
        # without a need.
        gone = [table.bytes for table in network.tables if table.name not in kept]
        assert flash_data(predicted) - real["rodata"] == sum(gone), f"network {seed}"
        dropped += sum(size > 4 for size in gone)
        errors.append(abs(predicted.of("code") / real["text"] - 1))
    assert dropped <= 2
    assert np.median(errors) < 0.045
    assert max(errors) < 0.2


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_the_linked_image_holds_nothing_else(core: str) -> None:
    graph = convolutional()
    elf = elf_of_bytes(linked(files_of(graph), build(graph).prefix, CORES[core]))
    kept = {s.name: s["sh_size"] for s in elf.iter_sections() if s["sh_flags"] & 2}
    rodata = sum(size for name, size in kept.items() if name.startswith(".rodata"))
    assert rodata == flash_data(footprint_of(graph, core))
    assert not {".data", ".bss"} & kept.keys()


def elf_of_bytes(content: bytes) -> Any:
    from elftools.elf.elffile import ELFFile

    return ELFFile(io.BytesIO(content))


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_the_stack_stays_within_its_bound(core: str) -> None:
    for name in ("mlp", "deaf", "cuba", "recurrent", "conv"):
        graph = USUAL[name]()
        network = build(graph)
        used = stack_bytes(files_of(graph), network, events(graph, batch=1, steps=4), CORES[core])
        assert 0 < used <= footprint_of(graph, core).of("stack"), name


@pytest.mark.needs("arm-gcc", "zig", "unicorn")
def test_the_stack_of_gcc_stays_within_the_bound(tmp_path: Path) -> None:
    """The frames of a step and its deepest stage, as -fstack-usage has them."""
    for name in ("mlp", "deaf", "cuba", "recurrent", "conv"):
        graph = USUAL[name]()
        prefix = write(tmp_path, graph).prefix
        command = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-O2", "-fstack-usage")
        compiles(tmp_path, *command, "-c", f"{prefix}.c")
        rows = (tmp_path / f"{prefix}.su").read_text().splitlines()
        frames = {row.split("\t")[0].split(":")[-1]: int(row.split("\t")[1]) for row in rows}
        step = frames.pop(f"{prefix}_step")
        # What updates a layer in bands stands between a step and its stages.
        between = max((frames.pop(n) for n in list(frames) if "_bands_" in n), default=0)
        deepest = step + between + max(frames.values())
        assert deepest <= footprint_of(graph, "cortex-m4").of("stack")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", USUAL)
def test_sizeof_on_the_host(name: str, tmp_path: Path) -> None:
    graph = USUAL[name]()
    network = write(tmp_path, graph)
    p = network.prefix
    (tmp_path / "size.c").write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{p}.h"\nint main(void) {{\n'
        + "".join(
            f'printf("%u\\n", (unsigned)offsetof({p}_state_t, {m.name}));\n'
            for m in network.struct.members
        )
        + "return 0; }\n"
    )
    compiles(tmp_path, "gcc", "-std=c99", "size.c", "-o", "size")
    offsets = [int(line) for line in run(tmp_path, str(tmp_path / "size")).said.split()]
    assert offsets == [network.struct.offset(m.name) for m in network.struct.members]
    assert network.struct.dtype().itemsize == network.struct.bytes


def test_lines_name_what_they_are() -> None:
    lines = footprint_of(cuba(), "cortex-m4").lines
    named = {(line.kind, line.owner): line.bytes for line in lines}
    assert named["weights", "fc1.weight"] == 40 * 16, "rows of a tile of 32 outputs, 4 bits each"
    assert named["weights", "fc2.weight"] == 30 * 8, "2 bits each"
    assert named["constants", "fc3.bias"] == 12
    assert named["state", "lif1.u"] == named["state", "lif1.v"] == 60
    assert named["input buffer", ""] == 40
    assert named["state", "sums"] == 30 + 2 * 11, "rows to add; those of the last layer"
    assert {line.region for line in lines} == {"ram", "flash"}


def test_rows_of_zeros_are_not_stored() -> None:
    graph = deaf()
    rows = int(graph["fc1"].params()["weight"].values.any(0).sum())
    named = {line.owner: line.bytes for line in footprint_of(graph, "cortex-m4").lines}
    assert 150 < rows < 250
    assert named["fc1.weight"] == rows * 48
    assert named["fc1.kept"] == 40, "300 bits in words"
    assert named["fc1.ranks"] == 12, "a byte for each of 10 words, and the rest of a word"
    small = deaf("small", (24, 3, 10))
    whole = {line.owner: line.bytes for line in footprint_of(small, "cortex-m4").lines}
    assert whole["fc1.weight"] == 72, "what finds the rows would take more than they do"
    assert "fc1.kept" not in whole


def test_a_small_part_is_too_small() -> None:
    part = BACKEND.devices["stm32f030x4"]
    found = excesses(BACKEND.footprint(USUAL["large"](), part), part.regions)
    assert [e.region for e in found] == ["flash"]
    assert found[0].lines[0].owner == "fc1.weight"


def test_the_default_device_is_a_cortex_m4() -> None:
    graph = mlp()
    generic = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device])
    assert generic == footprint_of(graph, "cortex-m4")
