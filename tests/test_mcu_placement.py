"""Where constants and code lie: the macros do in fact what the header says of them."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import PAGE, Emulator
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.toolchain import CORES, Core, zig

from mcu_builds import (
    compiles,
    convolutional,
    elf_of,
    emitted,
    events,
    mlp,
    recurrent,
    run,
    undefined,
)
from mcu_nets import NETS
from qspinn.backend import Sample
from qspinn.errors import BackendError
from qspinn.ir import Graph
from qspinn.plan import Plan
from test_mcu_run import RARE

WEIGHTS, AWAY = 0x4000_0000, 0x5000_0000
"""Where the linker puts the constants, and where they really are."""
FAST = 0x6000_0000
NETWORKS: dict[str, Callable[[], Graph]] = {
    "mlp": mlp, "recurrent": recurrent, "conv": convolutional, "delayed": RARE["delayed"],
    "direct": RARE["direct"], "few bits": NETS["few bits"], "votes": NETS["votes"],
}  # fmt: skip
CORE = "cortex-m4"
PART = BACKEND.devices["generic"]
SCRIPT = f"""
SECTIONS
{{
  .text 0x10000 : {{ *(.text*) }}
  .rodata : {{ *(.rodata*) }}
  .weights 0x{WEIGHTS:x} : {{ *(.weights) }}
  .fast 0x{FAST:x} : {{ *(.fast) }}
  /DISCARD/ : {{ *(.ARM.*) *(.eh_frame*) *(.comment) *(.riscv.attributes) }}
}}
"""


def image(folder: Path, graph: Graph, core: Core, *options: str) -> tuple[Network, bytes]:
    """An image with the self-test, compiled with some macros."""
    sample = Sample(events(graph)[0], "random events")
    made = BACKEND.self_tested(emitted(graph), BACKEND.legalize(graph), PART, Plan({}), sample)
    for name, content in made.files.items():
        (folder / name).write_bytes(content)
    network = build(BACKEND.legalize(graph))
    (folder / "image.ld").write_text(SCRIPT)
    command = [
        *zig(core), "-nostdlib", "-T", "image.ld", f"-Wl,-e,{network.prefix}_selftest",
        "-Wl,--no-gc-sections", f"-D{network.macro}_ENABLE_SELFTEST", *options,
        f"{network.prefix}.c", "-o", "image.elf",
    ]  # fmt: skip
    compiles(folder, *command)
    return network, (folder / "image.elf").read_bytes()


class Elsewhere(Emulator):
    """A core whose constants are at an address that ordinary pointers to them miss."""

    def _load(self, elf: Any) -> None:
        segments = [g for g in elf.iter_segments() if g["p_type"] == "PT_LOAD" and g["p_memsz"]]
        pages: set[int] = set()
        moved = []
        for g in segments:
            far = WEIGHTS <= g["p_vaddr"] < WEIGHTS + (1 << 24)
            at = g["p_vaddr"] + (AWAY - WEIGHTS if far else 0)
            pages.update(range(at // PAGE, (at + g["p_memsz"] - 1) // PAGE + 1))
            moved.append((at, g.data()))
        for page in pages:
            self.uc.mem_map(page * PAGE, PAGE)
        for at, content in moved:
            self.uc.mem_write(at, content)


def placed(macro: str, reader: str) -> tuple[str, ...]:
    """Options that put the constants into a section of their own, with a reader."""
    return (
        f'-D{macro}_ROM=__attribute__((section(".weights")))',
        f"-D{macro}_READ(a)={reader}",
    )


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", [CORE, "rv32imc"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_constant_is_read_by_the_reader(name: str, core: str, tmp_path: Path) -> None:
    """As with flash in an address space of its own: what is read otherwise is not mapped."""
    graph = NETWORKS[name]()
    macro = build(BACKEND.legalize(graph)).macro
    reader = f"(*(__typeof__(a))((uint32_t)(a) + 0x{AWAY - WEIGHTS:x}u))"
    network, content = image(tmp_path, graph, CORES[core], *placed(macro, reader))
    emulator = Elsewhere(content, CORES[core])
    state = emulator.allocate(network.struct.bytes)
    assert emulator.call(f"{network.prefix}_selftest", state) == 0


@pytest.mark.needs("zig", "unicorn")
def test_a_constant_that_is_read_past_the_reader_is_noticed(tmp_path: Path) -> None:
    network, content = image(tmp_path, mlp(), CORES[CORE], *placed("MLP", "(*(a))"))
    emulator = Elsewhere(content, CORES[CORE])
    with pytest.raises(BackendError, match="fails on an emulated"):
        emulator.call("mlp_selftest", emulator.allocate(network.struct.bytes))


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", NETWORKS)
def test_all_constants_and_nothing_else_lie_in_the_section(name: str, tmp_path: Path) -> None:
    graph = NETWORKS[name]()
    macro = build(BACKEND.legalize(graph)).macro
    network, content = image(tmp_path, graph, CORES[CORE], *placed(macro, "(*(a))"))
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(content))
    sizes = {section.name: section["sh_size"] for section in elf.iter_sections()}
    assert sizes.get(".rodata", 0) == 0
    tables = sum(table.bytes for table in network.tables)
    said = BACKEND.self_tested(
        emitted(graph), graph, PART, Plan({}), Sample(events(graph)[0], "random events")
    ).facts["selftest"]["flash_bytes"]
    assert 0 <= sizes[".weights"] - tables - said < 8


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_runs_in_the_fast_section_alone(name: str, tmp_path: Path) -> None:
    """As with code in RAM or ITCM: no instruction of a step is fetched from elsewhere."""
    graph = NETWORKS[name]()
    macro = build(BACKEND.legalize(graph)).macro
    hot = f'-D{macro}_HOT=__attribute__((section(".fast")))'
    network, content = image(tmp_path, graph, CORES[CORE], hot)
    emulator = Emulator(content, CORES[CORE])
    step = emulator.symbols[f"{network.prefix}_step"] & ~1
    assert step >= FAST
    inside: list[int] = []
    outside: set[int] = set()

    def block(_: Any, address: int, __: int, ___: object) -> None:
        """Blocks from the first of a step until it has returned."""
        if address == step:
            inside.append(address)
        elif address < FAST and inside:
            # Only where the step was called from.
            outside.add(address)
            inside.clear()

    hook = emulator.uc.hook_add(emulator.block, block)
    state = emulator.allocate(network.struct.bytes)
    assert emulator.call(f"{network.prefix}_selftest", state) == 0
    emulator.uc.hook_del(hook)
    # All steps return to one place, in the self-test.
    (back,) = outside
    start = emulator.symbols[f"{network.prefix}_selftest"] & ~1
    assert start < back < start + 400


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("cpu", ["cortex-m0plus", "cortex-m7"])
def test_gcc_with_itcm_and_flash(cpu: str, tmp_path: Path) -> None:
    """What the header's example says, as GCC makes it: nothing is missing or left behind."""
    graph = mlp()
    image(tmp_path, graph, CORES[CORE])
    options = (
        '-DMLP_ROM=__attribute__((section(".flash.mlp")))',
        '-DMLP_HOT=__attribute__((section(".itcm.mlp"),long_call))',
    )
    command = ("arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", "-O2", "-Wall", "-Wextra", "-Werror")
    compiles(tmp_path, *command, *options, "-c", "mlp.c", "-o", "mlp.o")
    assert not undefined(tmp_path / "mlp.o")
    sizes = {s.name: s["sh_size"] for s in elf_of(tmp_path / "mlp.o").iter_sections()}
    assert sizes[".flash.mlp"] == sum(table.bytes for table in build(graph).tables)
    assert sizes[".itcm.mlp"] > sizes[".text"] > 0
    assert not any(name.startswith(".rodata") for name in sizes)


CALLER = """
#include "mlp.h"
static mlp_state_t s;
int main(void)
{
    const uint8_t events[1] = {200};
    mlp_reset(&s);
    return mlp_step(&s, events, 1u) == MLP_ERROR_INDEX ? 0 : 1;
}
"""


@pytest.mark.needs("gcc")
def test_trust_leaves_out_the_check(tmp_path: Path) -> None:
    image_of = emitted(mlp()).files
    for name, content in image_of.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(CALLER)
    compiles(tmp_path, "gcc", "-std=c99", "main.c", "mlp.c", "-o", "main")
    assert run(tmp_path, str(tmp_path / "main")).code == 0
    sizes = []
    for option in ("-DMLP_TRUST", "-DOTHER"):
        compiles(tmp_path, "gcc", "-std=c99", "-O2", option, "-c", "mlp.c", "-o", "mlp.o")
        shown = subprocess.run(
            ("size", "mlp.o"), cwd=tmp_path, check=True, text=True, capture_output=True
        ).stdout
        sizes.append(int(shown.splitlines()[1].split()[0]))
    assert sizes[0] < sizes[1]
