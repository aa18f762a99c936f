"""The emitted encoders send what `qspinn.encode` does, at every step of real and random samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu.ramps import ramp

from mcu_builds import WARNINGS, ZIG, compiles, emitted, mlp, run
from mcu_encoders import Cored, Tried, on_host, tried
from qspinn import interp
from qspinn.encode import Encoder, Raw, probabilities
from qspinn.fixed import hash32
from qspinn.ir import Array, Graph
from qspinn.pipeline import feed
from qspinn.readout import predict, summarize
from test_mcu_inputs import constant, image

SPIKING = ("rate", "phase", "latency")
CORES_TESTED = ("cortex-m0plus", "cortex-m4", "rv32imc")


def wanted(graph: Graph, encoder: Encoder, raw: Array, samples: Array) -> tuple[Array, Array]:
    """What the reference feeds for raw samples, and what it decides."""
    x = (raw / Raw.parse(encoder.raw).levels).reshape(len(raw), *graph.input.shape)
    data = feed(graph, x, encoder, samples)
    decided = predict(graph.output, summarize(graph, interp.run(graph, data)))
    return data.reshape(len(raw), encoder.steps, -1), decided


def agrees(
    made: Tried, graph: Graph, raw: Array, samples: Array, folder: Path, *options: str
) -> None:
    data, decided = wanted(graph, made.encoder, raw, samples)
    found, winners = on_host(made, raw, samples, made.encoder.steps, folder, *options)
    for sample, want in zip(found, data, strict=True):
        assert np.array_equal(sample[0], want)
        assert np.array_equal(sample[1], want)
    assert np.array_equal(winners, np.stack([decided, decided], 1))


def drawn(encoder: Encoder, size: int, seed: int, batch: int = 6) -> Array:
    """Raw samples, mostly small and often 0, and some of every value."""
    span, rng = Raw.parse(encoder.raw).span, np.random.default_rng(seed)
    values = rng.integers(span.lo, span.hi + 1, (batch, size))
    values[1:] = np.rint(values[1:] * rng.random((batch - 1, size)) ** 6)
    values[-1] = rng.integers(span.lo, span.hi + 1, size)
    values[rng.random((batch, size)) < 0.2] = 0
    return values


# --- real images ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("kind", SPIKING)
def test_mnist_images_at_every_step(kind: str, data: Path, tmp_path: Path) -> None:
    with np.load(data / "mnist.npz") as file:
        raw = file["x_test"][:24].reshape(24, 784).astype(np.int64)
    graph = mlp("digits", (784, 16, 10))
    encoder = Encoder(kind, 25, 1 / 255, seed=3, raw="u8")
    agrees(tried(graph, encoder), graph, raw, np.arange(100, 124), tmp_path)


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize(("kind", "core"), list(zip(SPIKING, CORES_TESTED, strict=True)))
def test_mnist_images_on_cores(kind: str, core: str, data: Path) -> None:
    with np.load(data / "mnist.npz") as file:
        raw = file["x_test"][:2].reshape(2, 784).astype(np.int64)
    graph, samples = mlp("digits", (784, 16, 10)), np.array([5, 9])
    encoder = Encoder(kind, 8, 1 / 255, seed=3, raw="u8")
    board = Cored(tried(graph, encoder), core)
    want, decided = wanted(graph, encoder, raw, samples)
    for b, sample in enumerate(samples):
        board.place(raw[b])
        for step in range(8):
            assert np.array_equal(board.encode(sample, step), want[b, step])
            assert np.array_equal(board.encode(sample, step, "active"), want[b, step])
        assert board.run(sample) == board.run(sample, "run_active") == decided[b]


# --- random values, gains and types ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("kind", SPIKING)
@pytest.mark.parametrize(
    ("raw", "gain"),
    [("u8", 0.0013), ("s8/100", 1.0), ("u16/4095", 0.9), ("s16", 1 / 900), ("u8", 3.0),
     ("u8", 1e-9)],
)  # fmt: skip
def test_random_values(kind: str, raw: str, gain: float, tmp_path: Path) -> None:
    encoder = Encoder(kind, 14, gain, seed=8, raw=raw)
    graph = mlp("small", (70, 9, 4))
    agrees(tried(graph, encoder), graph, drawn(encoder, 70, 1), np.arange(6), tmp_path)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("kind", SPIKING)
@pytest.mark.parametrize("size", [31, 32, 70])
def test_bits(kind: str, size: int, tmp_path: Path) -> None:
    encoder = Encoder(kind, 9, 1 / 200, seed=8, raw="u8", input="mask")
    graph = mlp("small", (size, 9, 4))
    made, raw = tried(graph, encoder), drawn(encoder, size, 2)
    agrees(made, graph, raw, np.arange(6), tmp_path, "-fsanitize=address,undefined")


@pytest.mark.needs("zig", "unicorn")
def test_bits_on_a_core() -> None:
    encoder = Encoder("rate", 6, 1 / 200, seed=8, raw="u8", input="mask")
    graph = mlp("small", (70, 9, 4))
    raw = drawn(encoder, 70, 3, 2)
    want, decided = wanted(graph, encoder, raw, np.arange(2))
    board = Cored(tried(graph, encoder), "cortex-m0plus")
    for b in range(2):
        board.place(raw[b])
        for step in range(6):
            assert np.array_equal(board.encode(b, step), want[b, step])
            assert np.array_equal(board.encode(b, step, "active"), want[b, step])
        assert board.run(b) == board.run(b, "run_active") == decided[b]


# --- values ---


DIRECT = {
    "table": (constant, "u8/16", 1.0), "line": (constant, "u8/255", 3.7),
    "same": (constant, "s8/4", 1.0), "clipped": (image, "s16/77", 40.0),
    "image": (image, "u8", 1.0),
}  # fmt: skip


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("form", ["load", "values"])
@pytest.mark.parametrize("name", DIRECT)
def test_direct_values(name: str, form: str, tmp_path: Path) -> None:
    make, raw, gain = DIRECT[name]
    graph = make()
    encoder = Encoder("direct", 7, gain, raw=raw, input=form)
    made, values = tried(graph, encoder), drawn(encoder, int(np.prod(graph.input.shape)), 4)
    tabled = b" table[256] " in made.files[f"{graph.name}_run.h"]
    assert tabled == (name == "table")
    agrees(made, graph, values, np.arange(6), tmp_path, "-fsanitize=address,undefined")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_direct_values_on_cores(core: str) -> None:
    graph, encoder = constant(), Encoder("direct", 5, 1.5, raw="u8/64")
    raw = drawn(encoder, 20, 5, 3)
    want, decided = wanted(graph, encoder, raw, np.arange(3))
    board = Cored(tried(graph, encoder), core)
    for b in range(3):
        board.place(raw[b])
        assert np.array_equal(board.encode(b, 0), want[b, 0])
        assert board.run(b) == decided[b]


# --- the integer rule ---


@pytest.mark.parametrize("text", ["u8", "u8/255", "s8/100", "u16/4095", "u16/65535", "s16"])
def test_ramps_are_exact(text: str, rng: np.random.Generator) -> None:
    raw = Raw.parse(text)
    v = np.arange(raw.span.lo, raw.span.hi + 1)
    lines = 0
    for gain in (1.0, raw.levels / raw.span.hi, *2.0 ** rng.uniform(-8, 2, 12)):
        results = probabilities(raw.values, gain)
        made = ramp(results, raw.span.lo, gain * 65536 / raw.levels)
        if made is None or made.table:
            assert raw.bits == 16 or np.array_equal(made.table, results)
            continue
        lines += 1
        between = (v > made.low) & (v < made.high)
        inner = ((v - made.low) * made.factor + made.addend)[between]
        assert inner.max(initial=0) < 1 << 32 or made.shift >= 16
        got = np.where(v <= made.low, made.span.lo, made.span.hi)
        got[between] = made.span.lo + (inner >> made.shift)
        assert np.array_equal(got, results)
    assert lines > 6, "most need no table"


@pytest.mark.needs("gcc")
def test_a_wrong_rule_is_seen(tmp_path: Path) -> None:
    graph, encoder = mlp("small", (70, 9, 4)), Encoder("rate", 12, 1 / 255, raw="u8")
    made = tried(graph, encoder)
    text = made.files["small_run.h"]
    assert text.count(b"* 32897u) >> 7") == 1
    made.files["small_run.h"] = text.replace(b"* 32897u) >> 7", b"* 32800u) >> 7")
    with pytest.raises(AssertionError):
        agrees(made, graph, drawn(encoder, 70, 1), np.arange(6), tmp_path)


@pytest.mark.needs("gcc")
def test_the_seed_and_the_key(tmp_path: Path) -> None:
    text = emitted(mlp(), encode="rate", steps="4", raw="u8", seed="77").files["mlp_run.h"].decode()
    assert "#define MLP_SEED 77u" in text
    made = tried(mlp(), Encoder("rate", 4, 1.0, 77, "u8"))
    end = b'#include <stdio.h>\nint main(void) { printf("%u", mlp_key(MLP_SEED, 5u)); return 0; }\n'
    (tmp_path / "key.c").write_bytes(made.files["mlp.c"] + end)
    for name, content in made.files.items():
        (tmp_path / name).write_bytes(content)
    compiles(tmp_path, "gcc", "key.c", "-o", "key")
    assert run(tmp_path, "./key").said == str(hash32(77, 5))


def test_no_encoder_without_a_plan_for_it() -> None:
    for options in ({}, {"encode": "none"}, {"encode": "rate", "steps": "3"}):
        text = emitted(mlp(), **options).files["mlp_run.h"].decode()
        assert "mlp_decided" in text
        assert "mlp_encode" not in text


# --- what it costs, and what users compile ---


@pytest.mark.needs("zig", "unicorn")
def test_a_list_of_what_can_spike_is_cheap() -> None:
    rng = np.random.default_rng(1)
    raw = np.where(rng.random(784) < 151 / 784, rng.integers(1, 256, 784), 0)
    listed, graph = int((raw > 0).sum()), mlp("digits", (784, 16, 10))
    for kind, each in (("rate", 26), ("phase", 19), ("latency", 13)):
        board = Cored(tried(graph, Encoder(kind, 25, 1 / 255, raw="u8")), "cortex-m4")
        board.place(raw)
        once, every, step = (board.cost(what) for what in ("list", "encode", "active"))
        assert every < 784 * 5 + listed * each
        assert step - once < listed * each + 60


COMPILERS = {
    "gcc": ("gcc", "-std=c99"),
    "g++": ("g++", "-std=c++17"),
    "clang": (*ZIG, "cc", "-std=c99"),
    "clang++": (*ZIG, "c++", "-std=c++17"),
    "arm gcc": ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-std=c99"),
}


def variants() -> list[Tried]:
    """Every kind, every type, lists and bits, each at least once."""
    kinds = [("rate", "u8", ""), ("rate", "s16", "mask"), ("phase", "s8/9", ""),
             ("latency", "u16/4095", "mask"), ("latency", "u8", "")]  # fmt: skip
    made = [
        tried(mlp(f"n{i}", (70, 9, 4)), Encoder(kind, 9, 0.01, raw=raw, input=form))
        for i, (kind, raw, form) in enumerate(kinds)
    ]
    for i, (make, raw, gain) in enumerate(DIRECT.values()):
        made.append(tried(make(f"d{i}"), Encoder("direct", 9, gain, raw=raw)))
    return made


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["latency", "table"])
def test_constants_lie_where_they_are_put(name: str, tmp_path: Path) -> None:
    graph, encoder = mlp("n", (70, 9, 4)), Encoder("latency", 9, 0.01, raw="u8")
    if name == "table":
        graph, encoder = constant("n"), Encoder("direct", 5, 1.0, raw="u8/16")
    made = tried(graph, encoder)
    raw = drawn(encoder, made.network.port.size, 5)
    where = '-DN_ROM=__attribute__((section(".flash2")))'
    agrees(made, graph, raw, np.arange(6), tmp_path, where, "-DN_READ(at)=(*(at))")
    assert ".flash2" in run(tmp_path, "readelf", "-S", "main").said
    text = made.files["n_run.h"].decode()
    assert len(re.findall(r"RUN_READ\((?:table|bounds) \+", text)) == 1


@pytest.mark.needs("gcc", "g++", "zig")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(compiler: str, tmp_path: Path, require: Callable[[str], None]) -> None:
    if compiler == "arm gcc":
        require("arm-gcc")
    sources = []
    for made in variants():
        for name, content in made.files.items():
            (tmp_path / name).write_bytes(content)
        end = "cpp" if "++" in compiler else "c"
        sources.append(f"{made.network.prefix}_users.{end}")
        (tmp_path / sources[-1]).write_bytes(made.files[f"{made.network.prefix}.c"])
    compiles(tmp_path, *COMPILERS[compiler], "-O2", *WARNINGS, "-c", *sources)
