"""The self-test: right on every core, wrong where a weight, an input or a decision is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import Emulator
from qspinn.backends.mcu.intake import form_of
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.selftest import MOST_BYTES, digest, self_test
from qspinn.backends.mcu.toolchain import CORES, zig

from mcu_builds import (
    WARNINGS,
    ZIG,
    compiles,
    convolutional,
    emitted,
    events,
    files_of,
    mlp,
    recurrent,
    run,
    sections,
    undefined,
    valued,
)
from mcu_nets import NETS
from networks import random_network
from qspinn import interp
from qspinn.backend import Sample
from qspinn.ir import Graph
from qspinn.plan import Plan
from test_mcu_run import RARE

ALL: dict[str, Callable[[], Graph]] = {
    "mlp": mlp, "recurrent": recurrent, "conv": convolutional, **RARE, **NETS,
}  # fmt: skip
PART = BACKEND.devices["generic"]
SOME = ("mlp", "direct", "delayed", "narrow states", "wide")
EMULATED = ("cortex-m0plus", "cortex-m4", "rv32imc")
MAIN = """
#include "{p}_selftest.h"
static {p}_state_t state;
int main(void)
{{
    return (int){p}_selftest(&state);
}}
"""


def prepared(graph: Graph, folder: Path, sample: Sample | None = None) -> Network:
    """The emitted files with their self-test, in ``folder``."""
    made = sample or Sample(events(graph)[0], "random events")
    artifact = BACKEND.self_tested(emitted(graph), BACKEND.legalize(graph), PART, Plan({}), made)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    network = build(BACKEND.legalize(graph))
    (folder / "main.c").write_text(MAIN.format(p=network.prefix))
    return network


def on_host(folder: Path, network: Network, *options: str) -> int:
    """What the self-test says on this machine, under sanitizers."""
    command = ("gcc", "-std=c99", "-O1", "-fsanitize=address,undefined", *WARNINGS, *options)
    enable = f"-D{network.macro}_ENABLE_SELFTEST"
    compiles(folder, *command, enable, "main.c", f"{network.prefix}.c", "-o", "main")
    code = run(folder, str(folder / "main")).code
    return code - 256 if code > 127 else code


def on_core(folder: Path, network: Network, core: str) -> int:
    """What it says on an emulated core."""
    prefix = network.prefix
    command = [
        *zig(CORES[core]), "-nostdlib", f"-Wl,-e,{prefix}_selftest", "-Wl,--no-gc-sections",
        f"-D{network.macro}_ENABLE_SELFTEST", f"{prefix}.c", "-o", "image.elf",
    ]  # fmt: skip
    compiles(folder, *command)
    emulator = Emulator((folder / "image.elf").read_bytes(), CORES[core])
    return emulator.call(f"{prefix}_selftest", emulator.allocate(network.struct.bytes))


# --- it is right ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ALL)
def test_on_the_host(name: str, tmp_path: Path) -> None:
    assert on_host(tmp_path, prepared(ALL[name](), tmp_path)) == 0


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("seed", range(1000, 1006))
def test_of_random_networks(seed: int, tmp_path: Path) -> None:
    graph, data = random_network(seed)
    assert on_host(tmp_path, prepared(graph, tmp_path, Sample(data[0], "drawn"))) == 0


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize("name", SOME)
def test_on_cores(name: str, core: str, tmp_path: Path) -> None:
    assert on_core(tmp_path, prepared(ALL[name](), tmp_path), core) == 0


@pytest.mark.needs("g++", "zig")
@pytest.mark.parametrize("name", ["mlp", "delayed", "direct", "narrow states"])
def test_as_cpp(name: str, tmp_path: Path) -> None:
    """Everything in one unit of C++, whichever header comes first."""
    network = prepared(ALL[name](), tmp_path)
    macros = f"#define {network.macro}_IMPLEMENTATION\n#define {network.macro}_ENABLE_SELFTEST\n"
    for first in ("", f'#include "{network.prefix}.h"\n'):
        (tmp_path / "main.cpp").write_text(macros + first + (tmp_path / "main.c").read_text())
        compiles(tmp_path, "g++", "-std=c++17", "-O2", *WARNINGS, "main.cpp", "-o", "main")
        assert run(tmp_path, str(tmp_path / "main")).code == 0
    compiles(tmp_path, *ZIG, "c++", "-std=c++17", *WARNINGS, "-c", "main.cpp", "-o", "made.o")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("option", ["", "-ffreestanding"])
def test_it_calls_nothing(option: str, tmp_path: Path) -> None:
    for name in SOME:
        network = prepared(ALL[name](), tmp_path)
        command = (
            *ZIG, "cc", "-target", CORES["cortex-m0plus"].target, "-mcpu=cortex_m0plus", "-O2",
            "-fno-unwind-tables", f"-D{network.macro}_ENABLE_SELFTEST", *filter(None, [option]),
            "-c", f"{network.prefix}.c", "-o", "made.o",
        )  # fmt: skip
        compiles(tmp_path, *command)
        assert not undefined(tmp_path / "made.o")


@pytest.mark.needs("arm-gcc", "unicorn")
def test_it_calls_nothing_with_gcc(tmp_path: Path) -> None:
    for name in SOME:
        network = prepared(ALL[name](), tmp_path)
        command = (
            "arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-O3", "-std=c99", *WARNINGS,
            f"-D{network.macro}_ENABLE_SELFTEST", "-c", f"{network.prefix}.c", "-o", "made.o",
        )  # fmt: skip
        compiles(tmp_path, *command)
        assert not undefined(tmp_path / "made.o")


# --- it fails where something is wrong ---


def spoil(folder: Path, table: str, index: int, change: Callable[[int], int]) -> None:
    """Change one element of a constant table in the emitted text."""
    for path in folder.glob("*.h"):
        text = path.read_text()
        found = re.search(rf"{table}\[\d+\][^{{]*{{(.*?)}};", text, re.DOTALL)
        if found is None:
            continue
        values = re.findall(r"-?\d+u?", found[1])
        kind = "u" if values[index].endswith("u") else ""
        values[index] = f"{change(int(values[index].rstrip('u')))}{kind}"
        path.write_text(text[: found.start(1)] + ", ".join(values) + text[found.end(1) :])
        return
    raise AssertionError(f"no table {table}")


@pytest.mark.needs("gcc")
def test_a_wrong_weight_is_found_where_it_first_matters(tmp_path: Path) -> None:
    graph = mlp()
    data = np.zeros((6, 12), np.int64)
    data[:, 1], data[3:, 7] = 1, 1
    sample = Sample(data, "input 7 spikes in step 4 for the first time")
    network = prepared(graph, tmp_path, sample)
    spoil(tmp_path, "mlp_fc1_weight", 7 * 9 + 2, lambda w: w + 1)
    assert on_host(tmp_path, network) == 4
    network = prepared(graph, tmp_path, sample)
    spoil(tmp_path, "mlp_fc1_weight", 6 * 9 + 2, lambda w: w + 1)
    assert on_host(tmp_path, network) == 0, "an input that never spikes is not tried"


@pytest.mark.needs("gcc")
def test_every_weight_that_is_used_counts(tmp_path: Path) -> None:
    graph = mlp("small", (4, 3, 2))
    sample = Sample(np.ones((3, 4), np.int64), "all of them")
    for index in range(12):
        network = prepared(graph, tmp_path, sample)
        spoil(tmp_path, "small_fc1_weight", index, lambda w: w - 1)
        source = (f"-D{network.macro}_ENABLE_SELFTEST", "main.c", "small.c", "-o", "main")
        compiles(tmp_path, "gcc", "-std=c99", *source)
        assert run(tmp_path, str(tmp_path / "main")).code == 1


@pytest.mark.needs("gcc")
def test_what_else_it_notices(tmp_path: Path) -> None:
    graph = mlp()
    network = prepared(graph, tmp_path)
    header = tmp_path / "mlp_selftest.h"
    whole = header.read_text()
    spoil(tmp_path, "mlp_selftest_digests", 11, lambda d: d ^ 1)
    assert on_host(tmp_path, network) == 12
    winner = re.sub(r"(_WINNER +)(\d)u", lambda m: f"{m[1]}{(int(m[2]) + 1) % 4}u", whole)
    header.write_text(winner)
    assert on_host(tmp_path, network) == 13, "one more than there are steps"
    header.write_text(whole)
    spoil(tmp_path, "mlp_sample_events", 0, lambda e: 200)
    assert on_host(tmp_path, network) == -3, "MLP_ERROR_INDEX"


@pytest.mark.needs("gcc")
def test_files_of_two_compilations_do_not_mix(tmp_path: Path) -> None:
    prepared(mlp(sizes=(12, 9, 4), bits=4), tmp_path)
    other = (tmp_path / "mlp_selftest.h").read_text()
    network = prepared(mlp(), tmp_path)
    (tmp_path / "mlp_selftest.h").write_text(other)
    done = run(tmp_path, "gcc", f"-D{network.macro}_ENABLE_SELFTEST", "-c", "mlp.c")
    assert "mlp_selftest.h and mlp.h are of different networks" in done.said
    prepared(mlp(), tmp_path)
    impl = emitted(mlp(sizes=(12, 9, 4), bits=4)).files["mlp_impl.h"]
    (tmp_path / "mlp_impl.h").write_bytes(impl)
    assert "mlp_impl.h and mlp.h are of different" in run(tmp_path, "gcc", "-c", "mlp.c").said


# --- every form of input ---


def formed(name: str, folder: Path, constant: bool) -> Network:
    """A network that takes bits, or values that are loaded, with its self-test."""
    graph = {"mask": mlp, "load": valued}[name]()
    data = events(graph)[0]
    data = np.repeat(data[:1], len(data), axis=0) if constant else data
    plan = Plan({}, options={"input": name})
    sample = Sample(data, "random input")
    artifact = BACKEND.self_tested(BACKEND.emit(graph, PART, plan), graph, PART, plan, sample)
    assert artifact.facts["selftest"]["constant"] == constant
    for path, content in artifact.files.items():
        (folder / path).write_bytes(content)
    network = build(graph, form_of(plan.options, graph.input))
    assert network.port.form == name, "the form that was asked for"
    (folder / "main.c").write_text(MAIN.format(p=network.prefix))
    return network


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("name", ["mask", "load"])
def test_forms_of_input(name: str, constant: bool, tmp_path: Path) -> None:
    network = formed(name, tmp_path, constant)
    assert on_host(tmp_path, network) == 0
    assert on_core(tmp_path, network, "cortex-m0plus") == 0
    whole = (tmp_path / f"{network.prefix}_selftest.h").read_text()
    assert ("_load(" in whole) == (name == "load")
    spoil(tmp_path, f"{network.prefix}_selftest_digests", 2, lambda d: d ^ 1)
    assert on_host(tmp_path, network) == 3


# --- what it takes ---


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", ["mlp", "direct", "delayed"])
def test_its_flash_is_its_own_line(name: str, tmp_path: Path) -> None:
    """Constants to the byte, a few hundred bytes of code, and nothing where it is not enabled."""
    network = prepared(ALL[name](), tmp_path)
    sizes = []
    for options in ((), (f"-D{network.macro}_ENABLE_SELFTEST",)):
        command = (
            *ZIG, "cc", "-target", CORES["cortex-m4"].target, "-mcpu=cortex_m4", "-O2",
            "-fno-unwind-tables", *options, "-c", f"{network.prefix}.c", "-o", "made.o",
        )  # fmt: skip
        compiles(tmp_path, *command)
        sizes.append(sections(tmp_path / "made.o"))
    plain, more = sizes
    text = (tmp_path / f"{network.prefix}_selftest.h").read_text()
    said = int(re.search(r"_SELFTEST_BYTES (\d+)u", text)[1])  # type: ignore[index]
    assert 0 <= more["rodata"] - plain["rodata"] - said < 4
    assert 0 < more["text"] - plain["text"] < 600
    assert plain["data"] == plain["bss"] == more["data"] == more["bss"] == 0


def test_constant_input_is_stored_once() -> None:
    graph = RARE["direct"]()
    row = events(graph)[0, :1]
    test = self_test(build(graph), graph, Sample(np.repeat(row, 50, axis=0), "the same"))
    tables = {table.name: table.values.size for table in test.tables}
    assert tables["direct_sample_values"] == row.size
    assert tables["direct_sample_rows"] == test.steps == 50


def test_a_long_sample_is_cut() -> None:
    graph = mlp("long", (300, 9, 4))
    data = np.ones((400, 300), np.int64)
    test = self_test(build(graph), graph, Sample(data, "all inputs"))
    assert test.steps == 400, "one input of 600 bytes, stored once"
    data[np.arange(400), np.arange(400) % 300] = 0
    data[:, 0] = np.arange(400) >= 300
    test = self_test(build(graph), graph, Sample(data, "all but one or two"))
    assert test.steps == MOST_BYTES // (298 * 2) == 54
    assert "its first 54 steps" in test.origin
    (size,) = (t.bytes for t in test.tables if t.name.endswith("_sample_events"))
    assert MOST_BYTES - 600 < size <= MOST_BYTES


@pytest.mark.needs("gcc")
def test_silence(tmp_path: Path) -> None:
    """C has no empty arrays."""
    network = prepared(mlp(), tmp_path, Sample(np.zeros((5, 12), np.int64), "nothing"))
    assert on_host(tmp_path, network) == 0


def test_origins_end_no_comment(tmp_path: Path) -> None:
    prepared(mlp(), tmp_path, Sample(events(mlp())[0], 'sample 1 of */ int x; /* "ü"\n.npz'))
    text = (tmp_path / "mlp_selftest.h").read_text(encoding="ascii")
    assert "* / int x; / *" in text


# --- the digest ---


def test_one_changed_value_changes_the_digest() -> None:
    """Every value of every state of every step counts, whatever it is changed to."""
    graph = NETS["narrow states"]()
    network, data = build(graph), events(graph, batch=1, steps=5)
    trace = interp.run(graph, data)
    before = digest(network, trace)
    rng = np.random.default_rng(1)
    for name, values in trace.states.items():
        changed = values.copy()
        at = (0, int(rng.integers(5)), *(int(rng.integers(n)) for n in values.shape[2:]))
        changed[at] ^= 1
        after = digest(network, replace(trace, states={**trace.states, name: changed}))
        assert np.flatnonzero(before != after).tolist() == [at[1]], name


def test_the_header_is_the_same_each_time() -> None:
    graph = recurrent()
    sample = Sample(events(graph)[0], "the same")
    once, again = (
        BACKEND.self_tested(emitted(graph), graph, PART, Plan({}), sample).files for _ in range(2)
    )
    assert once == again
    assert once.keys() - dict(files_of(graph)).keys() == {"recurrent_selftest.h"}


def test_golden(golden: str) -> None:
    graph = mlp("tiny", (3, 2))
    sample = Sample(np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]]), "by hand", label=1)
    made = BACKEND.self_tested(emitted(graph), graph, PART, Plan({}), sample)
    text = made.files["tiny_selftest.h"].decode()
    text = re.sub(r"(qspinn) \S+: DO", r"\1 0: DO", text)
    text = text.replace(f"0x{graph.digest[:8].upper()}u", "0x0u")
    assert text == golden
    assert made.facts["selftest"] == {
        "origin": "by hand", "steps": 3, "winner": 1, "label": 1, "flash_bytes": 12 + 4 + 5,
        "constant": False,
    }  # fmt: skip
