"""What is counted: the plugin's counts, unicorn's counts, cycles by the book, and the stack."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import counting
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.counting import Counts, count, spans_of
from qspinn.backends.mcu.cycles import TIMINGS
from qspinn.backends.mcu.emulate import instructions, linked, stack_bytes
from qspinn.backends.mcu.plugin import count_qemu
from qspinn.backends.mcu.thumb import Op, decode
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import convolutional, events, files_of, mlp, recurrent
from networks import random_network
from qspinn.errors import ToolchainError
from qspinn.ir import Graph

GRAPHS: dict[str, Callable[[], Graph]] = {
    "mlp": mlp,
    "tiles": lambda: mlp("tiles", (64, 16, 10)),
    "recurrent": recurrent,
    "conv": lambda: convolutional(side=6, channels=3),
}


def in_order(found: Counts, functions: tuple[str, ...]) -> list[np.ndarray]:
    """Steps, resets and winners with the functions in a given order."""
    places = [found.functions.index(name) for name in functions]
    return [part[..., places] for part in (found.steps, found.resets, found.winners)]


# --- two ways to count ---


@pytest.mark.needs("gcc", "arm-gcc", "qemu", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "cortex-m33"])
def test_qemu_and_unicorn_count_the_same_on_arm(core: str) -> None:
    for make in GRAPHS.values():
        same_counts(make(), core, "gcc")


@pytest.mark.needs("gcc", "arm-gcc", "qemu", "unicorn", "zig")
def test_qemu_and_unicorn_count_the_same_of_clang() -> None:
    same_counts(recurrent(), "cortex-m7", "clang")


@pytest.mark.needs("gcc", "riscv-gcc", "qemu-riscv", "unicorn")
def test_qemu_and_unicorn_count_the_same_on_riscv() -> None:
    same_counts(recurrent(), "rv32imc", "gcc")


def same_counts(graph: Graph, core: str, compiler: str) -> None:
    """By function and step, to the instruction; the stack to the byte."""
    network, files, data = build(graph), files_of(graph), events(graph, steps=5)
    ours = count(files, network, data, CORES[core], compiler)
    theirs = count_qemu(files, network, data, CORES[core], compiler)
    assert set(ours.functions) == set(theirs.functions)
    pairs = zip(in_order(ours, ours.functions), in_order(theirs, ours.functions), strict=True)
    for mine, other in pairs:
        assert mine.sum() > 0
        assert np.array_equal(mine, other)
    assert ours.stack == theirs.stack > 0
    assert ours.stack == stack_bytes(files, network, data, CORES[core], compiler)
    total = instructions(files, network, data, CORES[core], compiler)
    assert np.array_equal(ours.steps.sum(2), total)


@pytest.mark.needs("gcc", "arm-gcc", "qemu")
def test_counts_come_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose states do not fit one run of the image."""
    graph = mlp()
    network, files, data = build(graph), files_of(graph), events(graph, batch=5, steps=3)
    whole = count_qemu(files, network, data, CORES["cortex-m4"])
    monkeypatch.setattr("qspinn.backends.mcu.samples.CHUNK_BYTES", 6 * network.struct.bytes)
    parts = count_qemu(files, network, data, CORES["cortex-m4"])
    assert np.array_equal(whole.steps, parts.steps)
    assert whole.stack == parts.stack


@pytest.mark.needs("arm-gcc", "qemu")
def test_the_plugin_needs_a_compiler_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = mlp()

    def none() -> list[str]:
        raise ToolchainError("no C compiler is installed", hint="install gcc")

    monkeypatch.setattr("qspinn.backends.mcu.toolchain.host", none)
    from qspinn.backends.mcu.plugin import plugin

    plugin.cache_clear()
    with pytest.raises(ToolchainError, match="no C compiler"):
        count_qemu(files_of(graph), build(graph), events(graph), CORES["cortex-m4"])


# --- cycles ---


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_the_decoder_agrees_with_the_disassembler(core: str, tmp_path: Path) -> None:
    """Every instruction of some images is of the kind that its mnemonic says."""
    graphs = [recurrent(), convolutional(side=6), *(random_network(s)[0] for s in range(960, 962))]
    kinds: set[str] = set()
    for graph in graphs:
        image = linked(files_of(graph), build(graph).prefix, CORES[core], "gcc")
        for name, operands, op in disassembled(image, tmp_path):
            assert op == expected(name, operands), f"{name} {operands}"
            kinds.add(op.kind)
    assert {"alu", "mul", "load", "store", "loads", "stores", "branch"} <= kinds


def disassembled(image: bytes, folder: Path) -> list[tuple[str, str, Op]]:
    """Mnemonic, operands and what we make of it, for each instruction of an image."""
    (folder / "image.elf").write_bytes(image)
    command = ("arm-none-eabi-objdump", "-d", "image.elf")
    text = subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout
    found = []
    line = r"^ +[0-9a-f]+:\t([0-9a-f]{4})(?: ([0-9a-f]{4}))? +\t([a-z]+)(?:\.[nw])?\t?(.*)$"
    for first, second, name, operands in re.findall(line, text, re.MULTILINE):
        halves = [int(half, 16).to_bytes(2, "little") for half in (first, second) if half]
        (op,) = decode(b"".join(halves))
        assert op.long == bool(second)
        found.append((name, operands, replace(op, long=False)))
    assert len(found) > 50
    return found


def expected(name: str, operands: str) -> Op:
    """The instruction as its mnemonic has it."""
    words = sum(
        int(last[1:]) - int(first[1:]) + 1 if last else 1
        for first, last in re.findall(r"(r\d+|\w+)(?:-(r\d+))?", operands.partition("{")[2])
    )
    condition = r"(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
    to_pc = "pc" in operands.partition("{")[2] or operands.startswith("pc")
    for pattern, kind in (
        (rf"(push|stm(ia|db)?){condition}", "stores"), (rf"(pop|ldm(ia|db)?){condition}", "loads"),
        (rf"ldrd{condition}", "loads"), (rf"strd{condition}", "stores"),
        (rf"ldrs?[bh]?{condition}", "load"), (rf"strs?[bh]?{condition}", "store"),
        (rf"mul{condition}|muls|smul[bt][bt]", "mul"), (rf"mla{condition}|mls|smla[bt][bt]", "mla"),
        (r"[su]mull", "mull"), (r"[su]mlal", "mlal"), (r"[su]div", "div"),
        (r"it[te]*", "it"), (r"bl|blx", "call"), (rf"b{condition}|bx|cbn?z", "branch"),
    ):  # fmt: skip
        if re.fullmatch(pattern, name):
            two = 2 if name.startswith(("ldrd", "strd")) else words
            jumps = kind in ("call", "branch") or (kind in ("load", "loads") and to_pc)
            return Op(kind, two if kind in ("loads", "stores") else 0, jumps=jumps)
    return Op("alu", jumps=False)


@pytest.mark.needs("arm-gcc")
def test_what_compilers_seldom_make(tmp_path: Path) -> None:
    lines = {
        "tbb [pc, r0]": Op("table", jumps=True), "tbh [pc, r0, lsl #1]": Op("table", jumps=True),
        "ldr pc, [r0, r1, lsl #2]": Op("load", jumps=True),
        "ldr pc, [sp], #4": Op("load", jumps=True),
        "mov pc, r3": Op("branch", jumps=True), "blx r3": Op("call", jumps=True),
        "bx lr": Op("branch", jumps=True), "umull r0, r1, r2, r3": Op("mull"),
        "smlal r0, r1, r2, r3": Op("mlal"), "umaal r0, r1, r2, r3": Op("mlal"),
        "udiv r0, r1, r2": Op("div"), "sdiv r0, r1, r2": Op("div"), "dsb": Op("alu"),
        "mrs r0, primask": Op("alu"), "ldrex r0, [r1]": Op("load"),
        "strex r0, r1, [r2]": Op("store"),
        "uxtab16 r0, r1, r2, ror #8": Op("alu"), "usub16 r0, r1, r2": Op("alu"),
        "sel r0, r1, r2": Op("alu"), "vadd.f32 s0, s1, s2": Op("alu"),
        "ldrd r0, r1, [r2], #8": Op("loads", 2), "ldmia r0!, {r1-r4}": Op("loads", 4),
        "pop {r4-r11, pc}": Op("loads", 9, jumps=True), "push {r4-r11, lr}": Op("stores", 9),
        "cmp r8, r9": Op("alu"), "add sp, r8": Op("alu"), "nop": Op("alu"), "svc #1": Op("alu"),
    }  # fmt: skip
    (tmp_path / "a.s").write_text(
        ".syntax unified\n.thumb\nf:\n" + "".join(f"{line}\n" for line in lines)
    )
    command = ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mthumb", "-c", "a.s")
    subprocess.run(command, cwd=tmp_path, check=True)
    copy = ("arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin")
    subprocess.run(copy, cwd=tmp_path, check=True)
    ops = list(decode((tmp_path / "a.bin").read_bytes()))[: len(lines)]
    for line, op in zip(lines, ops, strict=True):
        assert replace(op, long=False) == lines[line], line


def test_cycles_by_the_book() -> None:
    """A load, a load right after it, three words, a product and a branch."""
    ops = (Op("load"), Op("load"), Op("loads", 3), Op("mla"), Op("store"), Op("branch", jumps=True))
    assert TIMINGS["cortex-m0plus"].straight(ops[:3]) == 2 + 2 + 4
    assert TIMINGS["cortex-m3"].straight(ops) == 2 + 1 + 4 + 2 + 1 + 1
    assert TIMINGS["cortex-m4"].straight(ops) == 2 + 1 + 4 + 1 + 1 + 1
    assert TIMINGS["cortex-m0plus"].refill == 1
    assert TIMINGS["cortex-m33"].refill == 2
    assert "cortex-m7" not in TIMINGS


@pytest.mark.needs("arm-gcc", "unicorn")
def test_cycles_are_between_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not below instructions; and a jump that costs nothing shows."""
    graph = recurrent()
    given = (files_of(graph), build(graph), events(graph, steps=4), CORES["cortex-m0plus"], "gcc")
    found = count(*given)
    assert found.cycles is not None
    for cycles, counted in zip(
        found.cycles, (found.steps, found.resets, found.winners), strict=True
    ):
        assert np.all(cycles >= counted)
        assert np.all((cycles > 0) == (counted > 0))
    free = {name: replace(timing, refill=0) for name, timing in TIMINGS.items()}
    monkeypatch.setattr(counting, "TIMINGS", free)
    cheaper = count(*given)
    assert cheaper.cycles is not None
    assert cheaper.cycles[0].sum() < found.cycles[0].sum()


@pytest.mark.needs("arm-gcc", "unicorn")
def test_what_a_helper_runs_is_its_callers() -> None:
    """Adding rows of tiles is work of the layer, which a function for all layers does."""
    graph = GRAPHS["tiles"]()
    network = build(graph)
    spans = spans_of(linked(files_of(graph), network.prefix, CORES["cortex-m4"], "gcc"), network)
    assert any(span.helps and "_tile_" in span.name for span in spans)
    quiet = np.zeros((1, 1, 64), np.int64)
    loud = quiet + 1
    some, more = (
        count(files_of(graph), network, data, CORES["cortex-m4"], "gcc") for data in (quiet, loud)
    )
    grown = dict(zip(more.functions, (more.steps - some.steps).sum((0, 1)), strict=True))
    assert grown["tiles_update_lif1"] > 64 * 10


@pytest.mark.needs("zig", "unicorn")
def test_functions_are_apart() -> None:
    graph = recurrent()
    spans = spans_of(linked(files_of(graph), build(graph).prefix, CORES["cortex-m4"]), build(graph))
    names = {span.name for span in spans}
    assert {"recurrent_step", "recurrent_reset", "recurrent_winner"} <= names
    assert names >= {stage.name for stage in build(graph).stages}
    network = build(graph)
    drives = [drive for stage in network.stages for drive in getattr(stage, "drives", ())]
    lists = {drive.fill for drive in drives if getattr(drive, "made", None)}
    sums = {f"recurrent_{adder.name}" for adder in network.adders}
    helping = {"recurrent_output", "recurrent_score"} | lists | sums
    assert {span.name for span in spans if span.helps} <= helping
    assert {span.name for span in spans if span.helps} >= {"recurrent_output", "recurrent_score"}
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
