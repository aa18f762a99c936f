"""Helium: the same bits as portable C, in every byte that is kept, and how many instructions."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Files
from qspinn.backends.mcu.emulate import linked
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.plugin import count_qemu
from qspinn.backends.mcu.qemu import emulation, executed, image, run_qemu
from qspinn.backends.mcu.samples import Recording, encode, trace
from qspinn.backends.mcu.toolchain import COMPILERS, CORES, compiler

from mcu_builds import WARNINGS, chain, compiles, files_of, lif, param, state, write
from qspinn import interp
from qspinn.errors import BackendError
from qspinn.fixed import Overflow
from qspinn.ir import Array, Delay, Graph, Input, Linear, Neuron, Node
from qspinn.validate import compare

M55 = CORES["cortex-m55"]


def leaky(
    name: str, source: str | tuple[str, ...], size: int, threshold: object, fmt: str = "s16f0",
    leak: int = 4, factor: int = 0, **options: object,
) -> Neuron:  # fmt: skip
    """Leaky neurons as tiles update them: a decay, a sum, a threshold, saturation."""
    made = lif(name, source, size, threshold, **options)
    values = {**made.values, "threshold": param(threshold, "s16f0")}
    values["decay"] = param(factor, "u13f12") if factor else param(leak, "leak4")
    if "v_reset" in values:
        values["v_reset"] = param(-8, "s16f0")
    return replace(made, values=values, states={"v": state(fmt, overflow=Overflow.SATURATE)})


def weights(
    rng: np.random.Generator, name: str, source: str, outs: int, ins: int, spread: float = 32.0,
    bias: int = 0,
) -> Linear:  # fmt: skip
    values = np.clip(np.rint(rng.normal(0, spread, (outs, ins))), -128, 127)
    values.flat[:2] = (-128, 127)  # both ends
    own = param(rng.integers(-bias, bias + 1, outs), "s16f0") if bias else None
    return Linear(name=name, inputs=(source,), weight=param(values, "s8f0"), bias=own)


def network(
    sizes: tuple[int, ...], level: int = 300, bias: int = 0, spread: float = 32.0, **options: object
) -> Graph:
    """Dense layers of leaky neurons."""
    rng = np.random.default_rng(sum(sizes))
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, outs in enumerate(sizes[1:], 1):
        source = nodes[-1].name
        nodes.append(weights(rng, f"fc{i}", source, outs, sizes[i - 1], spread, bias))
        nodes.append(leaky(f"lif{i}", f"fc{i}", outs, level, **options))
    return chain("helium", *nodes)


def recurrent(size: int = 56) -> Graph:
    """A layer that reads the input and, two steps later, itself."""
    rng = np.random.default_rng(7)
    back = Delay(name="back", inputs=("lif1",), shape=(size,), steps=2)
    return chain(
        "helium", Input(name="x", shape=(30,)), weights(rng, "fc1", "x", size, 30), back,
        weights(rng, "rec1", "back", size, size, 12), leaky("lif1", ("fc1", "rec1"), size, 200),
        weights(rng, "fc2", "lif1", 10, size), leaky("lif2", "fc2", 10, 150, reset="subtract"),
    )  # fmt: skip


def spikes(graph: Graph, rate: float = 0.2, batch: int = 2, steps: int = 15) -> Array:
    size = (batch, steps, *graph.input.shape)
    return (np.random.default_rng(3).random(size) < rate).astype(np.int64)


def same(graph: Graph, data: Array, name: str = "gcc") -> None:
    """The interpreter's states, and every byte of the state struct is portable C's on the host."""
    built, files = build(graph), files_of(graph)
    found = run_qemu(files, built, data, M55, name)
    mismatch = compare(interp.run(graph, data), trace(built, found))
    assert mismatch is None, str(mismatch)
    same_bytes(found, record(files, built, data, "host"), graph)


def same_bytes(found: Recording, host: Recording, graph: Graph) -> None:
    for member in build(graph).struct.members:
        if member.role != "scratch":
            assert np.array_equal(found.states[member.name], host.states[member.name]), member.name
    assert np.array_equal(found.winners, host.winners)


def is_vectorised(graph: Graph) -> bool:
    text = dict(files_of(graph))["helium_impl.h"]
    return b"_of(helium_state_t" in text or b"_rest(helium_state_t" in text


# --- the same bits ---


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize("size", [9, 15, 16, 17, 32, 33, 49])
def test_every_size_of_a_layer(size: int) -> None:
    graph = network((80, size, 60))
    assert is_vectorised(graph)
    same(graph, spikes(graph))


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize(
    "options",
    [
        {"reset": "subtract"}, {"reset": "value"}, {"compare": ">"}, {"leak": 1}, {"leak": 9},
        {"bias": 100}, {"factor": 3686}, {"factor": 3686, "reset": "subtract"},
        {"fmt": "s12f0"}, {"fmt": "s11f0", "reset": "value"},
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_neuron(options: dict[str, object]) -> None:
    graph = network((40, 35, 18), level=90, **options)
    assert is_vectorised(graph)
    data = spikes(graph)
    same(graph, data)
    assert 0.02 < interp.run(graph, data).output.mean() < 0.9


def extreme(fmt: str, level: int) -> Graph:
    """Neurons that are driven to the ends of their format, beside others."""
    rng = np.random.default_rng(11)
    signs = np.sign(rng.normal(0, 1, (36, 1)))
    values = np.clip(np.rint(rng.normal(0, 20, (36, 60)) + 90 * signs), -128, 127)
    fc = Linear(name="fc1", inputs=("x",), weight=param(values, "s8f0"))
    layer = leaky("lif1", "fc1", 36, level, fmt, leak=9, compare=">")
    return chain("helium", Input(name="x", shape=(60,)), fc, layer)


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize(("fmt", "level"), [("s16f0", 4000), ("s14f0", 3000), ("s10f0", 300)])
def test_saturation_of_some_in_a_group(fmt: str, level: int) -> None:
    graph = extreme(fmt, level)
    assert is_vectorised(graph)
    data = spikes(graph, 0.5, steps=30)
    assert interp.run(graph, data).states["lif1.v"].min() == -(1 << (int(fmt[1:3]) - 1))
    same(graph, data)


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize("fmt", ["s16f0", "s10f0"])
def test_saturation_on_both_sides(fmt: str) -> None:
    """With a threshold at the top: not done by vectors, but by tiles."""
    top = 1 << (int(fmt[1:3]) - 1)
    graph = extreme(fmt, top - 1)
    data = spikes(graph, 0.5, steps=30)
    membranes = interp.run(graph, data).states["lif1.v"]
    assert (membranes.min(), membranes.max()) == (-top, top - 1)
    same(graph, data)


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize("count", [0, 1, 8, 9, 129, 258, 300])
def test_every_number_of_events(count: int) -> None:
    graph = network((300, 20), level=2000, spread=20.0)
    data = np.zeros((1, 4, 300), np.int64)
    for step in range(4):
        data[0, step, np.random.default_rng(step).permutation(300)[:count]] = 1
    same(graph, data)


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
def test_a_layer_that_reads_itself() -> None:
    graph = recurrent()
    assert is_vectorised(graph)
    same(graph, spikes(graph, steps=25))


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
def test_lists_that_do_not_fit_at_once() -> None:
    graph = network((300, 200, 40), level=20)
    data = spikes(graph, 0.3, batch=1, steps=8)
    assert interp.run(graph, data).states["lif1.v"].shape[2] == 200
    same(graph, data)


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_threshold_for_each_neuron(reset: str) -> None:
    level = np.random.default_rng(5).integers(100, 900, 40)
    rng = np.random.default_rng(6)
    graph = chain(
        "helium", Input(name="x", shape=(50,)), weights(rng, "fc1", "x", 40, 50),
        leaky("lif1", "fc1", 40, level, reset=reset),
    )  # fmt: skip
    assert is_vectorised(graph)
    same(graph, spikes(graph))


@pytest.mark.needs("arm-gcc", "qemu", "gcc", "zig")
def test_clang_gives_the_same() -> None:
    for graph in (network((40, 33, 16), bias=50), recurrent()):
        same(graph, spikes(graph), "clang")


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_drawn_networks(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    sizes = (int(rng.integers(20, 400)), *(int(n) for n in rng.integers(9, 90, 2)))
    bits = int(rng.integers(10, 17))
    options: dict[str, object] = {
        "fmt": f"s{bits}f0", "leak": int(rng.integers(1, 10)), "bias": int(rng.integers(0, 200)),
        "reset": str(rng.choice(["zero", "subtract", "value"])),
        "compare": str(rng.choice([">", ">="])),
    }  # fmt: skip
    graph = network(sizes, int(rng.integers(40, 1 << (bits - 1))), **options)
    same(graph, spikes(graph, float(rng.choice([0.02, 0.1, 0.5]))))


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"x0, 128)", b"x0, 127)"), (b"^ 0x80008000u", b"^ 0x00008000u"),
        (b"vshrq_n_u16(u1, 4)", b"vshrq_n_u16(u1, 5)"), (b"<< 16;", b"<< 15;"),
    ],
)  # fmt: skip
def test_an_error_is_seen(old: bytes, new: bytes) -> None:
    graph = network((60, 48, 20), level=120)
    found = run_qemu(edited(graph, old, new), build(graph), spikes(graph), M55)
    host = record(files_of(graph), build(graph), spikes(graph), "host")
    with pytest.raises(AssertionError):
        same_bytes(found, host, graph)


def edited(graph: Graph, old: bytes, new: bytes) -> Files:
    found = [(n, c.replace(old, new) if n.endswith("_impl.h") else c) for n, c in files_of(graph)]
    assert tuple(found) != files_of(graph)
    return tuple(found)


# --- input ---


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("inputs", [200, 300])
def test_an_index_out_of_range_is_refused_wherever_it_stands(inputs: int) -> None:
    """Of 8 and 16 bits; the driver ends with 3 where a step is refused."""
    graph = network((inputs, 16))
    built = build(graph)
    folder = image(files_of(graph), built, M55).folder
    for count, place in ((1, 0), (8, 7), (9, 8), (20, 17), (33, 0), (33, 32)):
        data = np.zeros((1, 1, inputs), np.int64)
        data[0, 0, :count] = 1
        good = np.frombuffer(encode(built.port, data), "<u4").copy()
        assert executed(emulation(M55), folder, good.tobytes(), M55)
        good[3 + place] = inputs
        with pytest.raises(BackendError, match="ends with 3"):
            executed(emulation(M55), folder, good.tobytes(), M55)


# --- what is compiled ---


@pytest.mark.needs("arm-gcc")
@pytest.mark.parametrize("options", [(), ("-DHELIUM_TRUST",), ("-DHELIUM_PORTABLE_ONLY",)])
def test_no_warnings_and_no_library(options: tuple[str, ...], tmp_path: Path) -> None:
    for graph in (network((40, 33, 16), bias=9), network((40, 16)), recurrent()):
        write(tmp_path, graph)
        gcc = compiler(M55, "gcc")
        compiles(tmp_path, *gcc, *WARNINGS, *options, "-c", "helium.c", "-o", "helium.o")
        cpp = [gcc[0].replace("gcc", "g++"), *(o for o in gcc[1:] if o != "-std=c99")]
        last = ("-std=c++17", "-fno-exceptions", "-x", "c++", "-c", "helium.c", "-o", "cpp.o")
        compiles(tmp_path, *cpp, *WARNINGS, *options, *last)
        for name in ("helium.o", "cpp.o"):
            assert said(tmp_path, "arm-none-eabi-nm", "-u", name) == ""


@pytest.mark.needs("arm-gcc", "zig", "unicorn")
@pytest.mark.parametrize("name", COMPILERS)
def test_constants_to_the_byte(name: str) -> None:
    """GCC aligns every table to 8 bytes where there are vectors, so there may be holes of 4."""
    from elftools.elf.elffile import ELFFile

    step = 8 if name == "gcc" else 4
    for graph in (network((40, 33, 16), bias=9), recurrent()):
        image = ELFFile(io.BytesIO(linked(files_of(graph), "helium", M55, name)))
        kept = {s.name: s["sh_size"] for s in image.iter_sections() if s["sh_flags"] & 2}
        rodata = sum(size for part, size in kept.items() if part.startswith(".rodata"))
        assert rodata == sum(-(-table.bytes // step) * step for table in build(graph).tables)
        assert not {".data", ".bss"} & kept.keys()


def said(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, text=True, capture_output=True).stdout


@pytest.mark.needs("zig")
@pytest.mark.parametrize("core", ["cortex-m55", "cortex-m85"])
def test_clang_warns_of_nothing(core: str, tmp_path: Path) -> None:
    write(tmp_path, network((40, 33, 16), bias=9))
    command = compiler(CORES[core], "clang")
    compiles(tmp_path, *command, *WARNINGS, "-c", "helium.c", "-o", "helium.o")
    compiles(tmp_path, *command, "-S", "helium.c", "-o", "helium.s")
    assert "vqdmlah.s16" in (tmp_path / "helium.s").read_text()
    compiles(tmp_path, *command, "-DHELIUM_PORTABLE_ONLY", "-S", "helium.c", "-o", "helium.s")
    assert "vqdmlah.s16" not in (tmp_path / "helium.s").read_text()


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
def test_portable_only_gives_the_same() -> None:
    graph = network((40, 33, 16))
    files = tuple(
        (n, b"#define HELIUM_PORTABLE_ONLY\n" + c if n == "helium.c" else c)
        for n, c in files_of(graph)
    )
    data = spikes(graph)
    found = run_qemu(files, build(graph), data, M55)
    same_bytes(found, run_qemu(files_of(graph), build(graph), data, M55), graph)


# --- how many instructions ---


@pytest.mark.needs("arm-gcc", "qemu", "gcc")
def test_the_instructions_of_the_benchmark() -> None:
    """784-128-10, 25 steps, 5 % of the inputs: with vectors, without, and for one more event."""
    graph = network((784, 128, 10), level=400)
    built, files = build(graph), files_of(graph)
    data = spikes(graph, 0.05, batch=1, steps=25)
    found = count_qemu(files, built, data, M55)
    assert found.steps.sum() < 66_000
    plain = tuple(
        (n, b"#define HELIUM_PORTABLE_ONLY\n" + c if n == "helium.c" else c) for n, c in files
    )
    assert found.steps.sum() < count_qemu(plain, built, data, M55).steps.sum() < 226_000
    # One layer, so that no spikes of another change.
    graph = network((784, 128), level=2000)
    built, files = build(graph), files_of(graph)
    some, more = (count_qemu(files, built, one_step(n), M55).steps.sum() for n in (40, 240))
    assert (more - some) / (200 * 128) < 0.34


def one_step(count: int) -> Array:
    data = np.zeros((1, 1, 784), np.int64)
    data[0, 0, np.random.default_rng(1).permutation(784)[:count]] = 1
    return data
