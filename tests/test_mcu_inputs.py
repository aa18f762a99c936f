"""Input as bits, and as values that are loaded once: the same states at every step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.intake import form_in, form_of, settled
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    WARNINGS,
    ZIG,
    chain,
    compiles,
    convolutional,
    deaf,
    dense,
    emitted,
    events,
    lif,
    mlp,
    param,
    recurrent,
    run,
    state,
)
from mcu_nets import few_bits, lateral, votes
from networks import random_network
from qspinn import interp
from qspinn.cli import main
from qspinn.errors import PlanError
from qspinn.fixed import QFormat
from qspinn.ir import (
    Array,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Neuron,
    Output,
    SumPool2d,
)
from qspinn.neurons import integrator
from qspinn.plan import Plan
from qspinn.readout import predict, summarize
from qspinn.validate import compare

CORES_TESTED = ("cortex-m0plus", "cortex-m4", "rv32imc")


def broad() -> Graph:
    """Layers large enough for every kernel there is, and more events than short lists hold."""
    return mlp("broad", (300, 48, 10))


MASKED = {"mlp": mlp, "broad": broad, "recurrent": recurrent, "conv": convolutional, "deaf": deaf,
          "votes": votes, "lateral": lateral}  # fmt: skip


def held_as(graph: Graph, data: Array, executor: str, **options: str) -> None:
    """`mcu_builds.agrees` of files that were emitted under a plan's options."""
    held_by(dict(emitted(graph, **options).files), graph, data, executor, **options)


def held_by(
    files: dict[str, bytes], graph: Graph, data: Array, executor: str, **options: str
) -> None:
    network = build(BACKEND.legalize(graph), form_of(options, graph.input))
    found = record(tuple(files.items()), network, data, executor)
    want = interp.run(graph, data)
    mismatch = compare(want, trace(network, found))
    assert mismatch is None, str(mismatch)
    assert np.array_equal(found.winners, predict(graph.output, summarize(graph, want)))


def current(name: str, shape: int | tuple[int, ...], fmt: str = "s8f2") -> Input:
    sizes = (shape,) if isinstance(shape, int) else shape
    return replace(Input(name=name, shape=sizes, kind="current"), fmt=QFormat.parse(fmt))


def constant(name: str = "steady") -> Graph:
    """Values into a layer that also reads itself."""
    rng = np.random.default_rng(3)
    nodes = (
        current("x", 20), dense(rng, "fc1", "x", 12, 20, bias=True),
        Delay(name="back", inputs=("lif1",), shape=(12,)), dense(rng, "rec", "back", 12, 12, 4),
        lif("lif1", ("fc1", "rec"), 12, 900), dense(rng, "fc2", "lif1", 5, 12),
        lif("lif2", "fc2", 5, 60, reset="subtract"),
    )  # fmt: skip
    return chain(name, *nodes)


def image(name: str = "still") -> Graph:
    """An image of values through a pool and a convolution, which two layers read."""
    rng = np.random.default_rng(4)
    weight = param(rng.integers(-60, 100, (3, 2, 3, 3)), "s8f4")
    nodes = (
        current("x", (2, 8, 8), "u8f0"),
        SumPool2d(name="pool", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c", inputs=("pool",), weight=weight, padding=(1, 1)),
        lif("one", "c", (3, 4, 4), 9000), lif("two", "c", (3, 4, 4), 30000, reset="subtract"),
        Flatten(name="f1", inputs=("one",)), Flatten(name="f2", inputs=("two",)),
        dense(rng, "a", "f1", 4, 48), dense(rng, "b", "f2", 4, 48), lif("out1", ("a", "b"), 4, 90),
    )  # fmt: skip
    return chain(name, *nodes)


def shown(graph: Graph, steps: int = 9, batch: int = 3) -> Array:
    """Values that stay for all steps of a sample, but for the last sample."""
    data = np.array(events(graph, batch=batch, steps=steps))
    data[:-1] = data[:-1, :1]
    return data


# --- bits ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", MASKED)
def test_bits_on_the_host(name: str) -> None:
    graph = MASKED[name]()
    held_as(graph, events(graph), "host", input="mask")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("size", [1, 31, 32, 33, 64])
def test_bits_of_any_number_under_sanitizers(size: int) -> None:
    graph = mlp(f"m{size}", (size, 6, 3))
    held_as(graph, events(graph), "sanitize", input="mask")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_bits_on_cores(core: str) -> None:
    for graph in (mlp("m45", (45, 9, 4)), broad(), convolutional()):
        held_as(graph, events(graph, batch=1, steps=6), core, input="mask")


@pytest.mark.needs("arm-gcc", "qemu")
def test_bits_in_qemu() -> None:
    for graph in (mlp("m45", (45, 9, 4)), broad()):
        held_as(graph, events(graph), "qemu-cortex-m3", input="mask")


@pytest.mark.needs("gcc")
def test_bits_of_random_networks() -> None:
    found = 0
    for seed in range(900, 912):
        graph, data = random_network(seed)
        if graph.input.kind == "spike":
            held_as(graph, data, "host", input="mask")
            found += 1
    assert found > 2


@pytest.mark.needs("gcc")
def test_bits_that_go_straight_out() -> None:
    rng = np.random.default_rng(5)
    x, fc = Input(name="x", shape=(40,)), dense(rng, "fc", "late", 4, 40)
    late = Delay(name="late", inputs=("x",), shape=(40,), steps=3)
    graph = chain("straight", x, late, fc, lif("lif", "fc", 4, 50))
    held_as(graph, events(graph), "sanitize", input="mask")
    wire = Graph("wire", (x, fc, lif("lif", "fc", 4, 50), Output(name="out", inputs=("x",))))
    wire = wire.map(lambda n: replace(n, inputs=("x",)) if n.name == "fc" else n)
    held_as(wire, events(graph), "sanitize", input="mask")


def planned(**options: str) -> Plan:
    return Plan({}, options=options)


def line(header: str, macro: str) -> str:
    return next(words for words in header.splitlines() if f"_{macro} " in words)


def test_a_mask_is_small_and_budgeted() -> None:
    graph, part = mlp("big", (784, 16, 10)), BACKEND.devices["generic"]
    files = [emitted(graph, input=form).files["big.h"].decode() for form in ("events", "mask")]
    assert "1568u" in line(files[0], "INPUT_BYTES")
    assert "100u" in line(files[1], "INPUT_BYTES")
    assert "MAX_EVENTS" not in files[1]
    for form, size in (("events", 1568), ("mask", 100)):
        lines = BACKEND.footprint(graph, part, planned(input=form)).lines
        assert [n.bytes for n in lines if n.kind == "input buffer"] == [size]


def test_a_bit_beyond_the_last_is_refused(tmp_path: Path) -> None:
    for name, content in emitted(mlp("m45", (45, 6, 3)), input="mask").files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.c").write_text(
        '#include "m45.h"\nint main(void)\n{\n    m45_state_t s;\n'
        "    uint32_t mask[2] = {0xFFFFFFFFu, 0x1FFFu};\n    m45_reset(&s);\n"
        "    if (m45_step(&s, mask) != M45_OK || m45_step(&s, 0) != M45_ERROR_NULL) return 1;\n"
        "    mask[1] = 0x2000u;\n    return m45_step(&s, mask) == M45_ERROR_INDEX ? 0 : 2;\n}\n"
    )
    compiles(tmp_path, "gcc", *WARNINGS, "-std=c99", "main.c", "m45.c", "-o", "main")
    assert run(tmp_path, "./main").code == 0


def test_counts_are_no_bits() -> None:
    with pytest.raises(PlanError, match="carries a count"):
        emitted(few_bits(), input="mask")
    with pytest.raises(PlanError, match="carries a spike"):
        emitted(mlp(), input="load")
    with pytest.raises(PlanError, match="events, mask"):
        emitted(mlp(), input="bits")


# --- values that stay ---


LOADED = {"steady": constant, "still": image}


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", LOADED)
@pytest.mark.parametrize("executor", ["host", "sanitize"])
def test_loaded_values_on_the_host(name: str, executor: str) -> None:
    graph = LOADED[name]()
    assert (
        BACKEND.emit(graph, BACKEND.devices["generic"], planned(encode="direct"))
        .files[f"{name}.h"]
        .count(b"_load(")
        == 2
    )
    held_as(graph, shown(graph), executor, encode="direct")
    held_as(graph, shown(graph), executor, encode="direct", input="values")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_loaded_values_on_cores(core: str) -> None:
    for make in LOADED.values():
        held_as(make(), shown(make(), 5, 2), core, encode="direct")


@pytest.mark.needs("arm-gcc", "qemu")
def test_loaded_values_in_qemu() -> None:
    held_as(constant(), shown(constant()), "qemu-cortex-m0", encode="direct")


@pytest.mark.needs("gcc")
def test_loaded_values_of_random_networks() -> None:
    found = 0
    for seed in range(900, 925):
        graph, data = random_network(seed)
        if graph.input.kind == "current":
            found += settled(graph, "load") == "load"
            held_as(graph, data, "host", encode="direct")
    assert found > 2


@pytest.mark.needs("zig", "unicorn")
def test_a_step_without_input_is_cheaper() -> None:
    graph, core = chain("dear", *constant("dear").nodes[:-1]), CORES["cortex-m4"]
    data = shown(graph, 6, 1)
    data[:] = data[:, :1]
    each = {}
    for form in ("values", "load"):
        options = {"encode": "direct", "input": form}
        files = tuple(emitted(graph, **options).files.items())
        each[form] = instructions(files, build(graph, form), data, core)[0]
    assert (each["load"][1:] < 0.6 * each["values"][1:]).all()


def test_values_read_elsewhere_are_passed_in_every_step() -> None:
    rng = np.random.default_rng(5)
    membrane = Neuron(
        name="li", inputs=("x",), shape=(6,), model=integrator(),
        values={"decay": param(3000, "u13f12")}, states={"v": state()},
    )  # fmt: skip
    fc = dense(rng, "fc", "x", 6, 6)
    out = lif("lif", ("fc", "mixed"), 6, 60)
    mixed = dense(rng, "mixed", "li", 6, 6)
    graph = chain("mixed_use", current("x", 6), fc, membrane, mixed, out)
    assert settled(graph, "load") == "values"
    assert b"_load(" not in emitted(graph, encode="direct").files["mixed_use.h"]


def test_the_kept_sums_are_counted() -> None:
    graph, part = constant(), BACKEND.devices["generic"]
    kept, passed = (
        BACKEND.footprint(graph, part, planned(encode="direct", input=form))
        for form in ("load", "values")
    )
    owners = {line.owner: line.bytes for line in kept.lines if line.kind == "state"}
    assert owners["fc1"] == 12 * 4, "these sums need more than 16 bits"
    assert owners["sums"] == 12 * 2, "the others do not any more"
    assert kept.of("state") - passed.of("state") == 12 * 2
    assert build(graph, "load").struct.bytes == kept.of("state")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("options", "old", "new"),
    [
        ({"input": "mask"}, b"i = word * 32u", b"i = word * 31u"),
        ({"encode": "direct"}, b"    steady_sum_fc1(s, values);\n", b""),
    ],
)
def test_a_wrong_line_is_seen(options: dict[str, str], old: bytes, new: bytes) -> None:
    graph = broad() if "input" in options else constant()
    files = dict(emitted(graph, **options).files)
    name = f"{graph.name}_impl.h"
    assert old in files[name]
    files[name] = files[name].replace(old, new)
    with pytest.raises(AssertionError):
        held_by(files, graph, shown(graph), "host", **options)


# --- from the command line ---


DIGITS = Path(__file__).resolve().parents[1] / "examples" / "digits"


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code if isinstance(caught.value.code, int) else 0


@pytest.mark.needs("gcc")
def test_compiled_for_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data, out = DIGITS / "digits.nir", DIGITS / "digits.npz", tmp_path / "digits"
    given = ("compile", model, "--data", data, "--target")
    assert command(*given, "mcu", "--input", "mask", "-o", out) == 0
    plan = (out / "plan.txt").read_text()
    assert "option input = mask\n" in plan
    assert "option raw = u8\n" in plan
    assert "INPUT_MASK" in (out / "digits.h").read_text()
    assert "digits_encode(const digits_raw_t *raw" in (out / "digits_run.h").read_text()
    assert command("validate", out, "--data", data, "--samples", 8) == 0
    assert command("check", out) == 0
    again = tmp_path / "again"
    assert command(*given, "mcu", "--plan", out / "plan.txt", "-o", again) == 0
    assert (again / "digits_run.h").read_bytes() == (out / "digits_run.h").read_bytes()
    capsys.readouterr()
    assert command(*given, "loihi", "--input", "mask", "-o", tmp_path / "loihi") == 2
    assert "loihi takes no input as mask" in capsys.readouterr().err
    script = (sys.executable, DIGITS.parent / "early_exit.py", out, "--data", data)
    done = run(tmp_path, *map(str, script), "--samples", "50")
    assert done.code == 0, done.said
    assert "50 samples of 24 steps: every decision at its exit is the full run's" in done.said


# --- what users compile ---


COMPILERS = {
    "gcc": ("gcc", "-std=c99"),
    "g++": ("g++", "-std=c++17"),
    "clang": (*ZIG, "cc", "-std=c99"),
    "arm gcc": ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-std=c99"),
}


@pytest.mark.needs("gcc", "g++", "zig")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(compiler: str, tmp_path: Path, require: Callable[[str], None]) -> None:
    if compiler == "arm gcc":
        require("arm-gcc")
    made = [emitted(make(), input="mask") for make in MASKED.values()]
    made += [emitted(make(), encode="direct") for make in LOADED.values()]
    for artifact in made:
        for name, content in artifact.files.items():
            (tmp_path / name).write_bytes(content)
        if "++" in compiler:
            (tmp_path / f"{artifact.name}.cpp").write_text(f'#include "{artifact.name}.c"\n')
    end = "cpp" if "++" in compiler else "c"
    sources = [f"{artifact.name}.{end}" for artifact in made]
    compiles(tmp_path, *COMPILERS[compiler], "-O2", *WARNINGS, "-c", *sources)


@pytest.mark.needs("gcc")
def test_a_folder_says_its_form(tmp_path: Path) -> None:
    graph = mlp()
    for form in ("mask", ""):
        options = {"input": form} if form else {}
        for name, content in emitted(graph, **options).files.items():
            (tmp_path / name).write_bytes(content)
        assert form_in(tmp_path, graph) == form
        found = BACKEND.run(tmp_path, graph, events(graph), "host")
        assert compare(interp.run(graph, events(graph)), found) is None
