"""The emitted C, on every executor, has the interpreter's states at every step."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    agrees,
    chain,
    convolutional,
    deaf,
    dense,
    emitted,
    events,
    files_of,
    lif,
    mlp,
    param,
    recurrent,
    state,
    write,
)
from mcu_nets import NETS
from networks import random_network
from qspinn.errors import BackendError, LegalizeError, ToolchainError
from qspinn.fixed import Overflow, Rounding
from qspinn.ir import (
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Lateral,
    Linear,
    MaxPool2d,
    Neuron,
    Param,
    Scale,
    SumPool2d,
)
from qspinn.neurons import integrator

EMULATED = ("cortex-m0plus", "cortex-m4", "rv32imc")
REAL = {"mlp": mlp, "recurrent": recurrent, "conv": convolutional, "deaf": deaf}


# --- random networks; tests/test_random_networks.py has more of them ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("seed", range(900, 908))
def test_random_networks_under_sanitizers(seed: int) -> None:
    agrees(*random_network(seed), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize("seed", range(950, 954))
def test_random_networks_on_cores(seed: int, core: str) -> None:
    agrees(*random_network(seed), core)


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("seed", range(3))
def test_networks_lowered_for_loihi(seed: int) -> None:
    agrees(*random_network(970 + seed, profile="loihi"), "cortex-m0plus")


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("executor", [e for e in BACKEND.executors if e.startswith("qemu-cortex")])
def test_random_networks_in_qemu(executor: str) -> None:
    for seed in (980, 981):
        agrees(*random_network(seed), executor)


# --- usual networks ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", REAL)
def test_usual_networks_on_the_host(name: str) -> None:
    graph = REAL[name]()
    agrees(graph, events(graph), "host")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", REAL)
def test_usual_networks_on_the_smallest_core(name: str) -> None:
    graph = REAL[name]()
    agrees(graph, events(graph, batch=1, steps=6), "cortex-m0plus")


# --- what random networks seldom have ---


def wide() -> Graph:
    """Values that need more than 32 bits: sums, states and products."""
    rng = np.random.default_rng(1)
    weight = param(rng.integers(-(1 << 31), 1 << 31, (6, 5)), "s32f0")
    bias = param(rng.integers(0, 1 << 32, 6), "u32f0")
    graded = Neuron(
        name="v", inputs=("fc",), shape=(6,), model=integrator(synapse="new"),
        values={
            "decay": param(rng.integers(-(1 << 15), 1 << 15, 6), "s16f15", Rounding.NEAREST_EVEN),
            "current_decay": param(rng.integers(0, 31, 6), "leak5", Rounding.STOCHASTIC),
        },
        states={
            "u": state("u32f0", overflow=Overflow.WRAP),
            "v": state("s32f3", rounding=Rounding.NEAREST_AWAY, overflow=Overflow.SATURATE),
        },
    )  # fmt: skip
    x = Input(name="x", shape=(5,), kind="count", high=100_000)
    fc = Linear(name="fc", inputs=("x",), weight=weight, bias=bias)
    return chain("wide", x, fc, graded, readout="membrane_max")


def direct() -> Graph:
    """Values in, dense values between, a pool and a sum of values, and a sum out."""
    rng = np.random.default_rng(2)
    x = replace(Input(name="x", shape=(2, 4, 4), kind="current"), fmt=param(0, "s8f2").fmt)
    pool = SumPool2d(name="pool", inputs=("x",), kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    fc = dense(rng, "fc", "flat", 4, 32)
    membrane = Neuron(
        name="li", inputs=("x", "pool"), shape=(2, 4, 4), model=integrator(),
        values={"decay": param(3000, "u13f12")}, states={"v": state()},
    )  # fmt: skip
    flat = Flatten(name="flat", inputs=("li",))
    return chain("direct", x, pool, membrane, flat, fc, readout="membrane_last")


def delayed() -> Graph:
    """Lines of spikes and counts that read each other, and an output that is one of them."""
    rng = np.random.default_rng(3)
    x = Input(name="x", shape=(40,), kind="count", high=7)
    first = Delay(name="d1", inputs=("x",), shape=(40,), steps=3, kind="count", high=7)
    second = Delay(name="d2", inputs=("d1",), shape=(40,), steps=1, kind="count", high=9)
    fc, late = dense(rng, "fc", "d2", 33, 40), lif("lif", "fc", 33, 30)
    last = Delay(name="d3", inputs=("lif",), shape=(33,), steps=2)
    return chain("delayed", x, second, first, fc, late, last, readout="first_spike")


def geometry() -> Graph:
    """Groups, dilation, stride and padding at once, of a flattened image, and a maximum."""
    rng = np.random.default_rng(4)
    weight = param(rng.integers(-8, 8, (6, 2, 2, 3)), "s4f0")
    conv = Conv2d(
        name="conv", inputs=("x",), weight=weight, bias=param(rng.integers(-9, 9, 6), "s8f2"),
        stride=(2, 3), padding=(2, 1), dilation=(3, 2), groups=3,
    )  # fmt: skip
    spikes = lif("lif", "conv", (6, 5, 3), 40)
    most = MaxPool2d(name="most", inputs=("lif",), kernel=(3, 2), stride=(2, 1), padding=(1, 0))
    rows = Flatten(name="rows", inputs=("most",), start=1)
    across = Conv1d(
        name="across", inputs=("rows",), weight=param(rng.integers(-2, 2, (4, 6, 3)), "s2f0"),
        stride=2, padding=1,
    )  # fmt: skip
    return chain("geometry", Input(name="x", shape=(6, 9, 11)), conv, spikes, most, rows, across,
                 lif("end", "across", (4, 3), 30, max_spikes=7))  # fmt: skip


def even() -> Graph:
    """Connections whose weights are all equal, or all zero, and one with a single weight."""
    rng = np.random.default_rng(6)
    x = Input(name="x", shape=(9,))
    fc = dense(rng, "fc", "x", 9, 9)
    back = Delay(name="back", inputs=("lif",), shape=(9,))
    block = Linear(name="block", inputs=("back",), weight=param(np.full((9, 9), -3), "s4f0"))
    none = Linear(name="none", inputs=("x",), weight=param(np.zeros((9, 9)), "s4f0"))
    ones = Scale(name="ones", inputs=("x",), scale=param(2, "s4f0"))
    spikes = lif("lif", ("fc", "block", "none", "ones"), 9, 40)
    single = Linear(name="single", inputs=("one",), weight=param([[5]], "s4f0"))
    sums = Linear(name="one", inputs=("lif",), weight=param(np.ones((1, 9)), "s2f0"))
    end = lif("end", "single", 1, 9)
    return chain("even", x, fc, back, block, none, ones, spikes, sums, single, end)


def rounded() -> Graph:
    """Every rounding, of products that are split and of products in 64 bits."""
    rng = np.random.default_rng(9)
    x = Input(name="x", shape=(7,))
    fc = dense(rng, "fc", "x", 11, 7, 16)
    layers = []
    for rounding in Rounding:
        for kind, decay, bits in (("split", "u13f12", 24), ("wide", "s16f15", 32)):
            values = rng.integers(3000, 4096, 11) * (1 if kind == "split" else -7)
            unit = f"s{bits}f{bits - 12}"
            layers.append(
                Neuron(
                    name=f"{kind}_{rounding}", inputs=("fc",), shape=(11,), model=integrator(),
                    values={"decay": param(values, decay, rounding)},
                    states={"v": state(unit, rng.integers(-(1 << 20), 1 << 20, 11))},
                )
            )  # fmt: skip
    return chain("rounded", x, fc, *layers, readout="membrane_last")


def narrow() -> Graph:
    """States of 8 bits beside sums of 32, which GCC 12 takes for free of effects."""
    rng = np.random.default_rng(10)
    x = Input(name="x", shape=(24,), kind="count", high=7)
    weight, bias = rng.integers(0, 1024, (5, 24)), rng.integers(-500, 300, 5)
    fc = Linear(name="fc", inputs=("x",), weight=param(weight, "u10f8"), bias=param(bias, "s16f9"))
    membrane = Neuron(
        name="li", inputs=("fc",), shape=(5,),
        model=integrator(synapse="new", leak=False, bias=True),
        values={
            "bias": param(-2, "s7f-2"), "current_decay": param(63, "u6f6", Rounding.NEAREST_AWAY),
        },
        states={
            "u": state("s8f-1", rng.integers(-128, 128, 5), rounding=Rounding.NEAREST_AWAY),
            "v": state("s8f-2", rounding=Rounding.NEAREST_AWAY, overflow=Overflow.WRAP),
        },
    )  # fmt: skip
    return chain("narrow", x, fc, membrane, readout="membrane_max")


def deaf_to_values() -> Graph:
    """Rows of zeros in one word and in two, of counts, of spikes and of what a layer sends."""
    rng = np.random.default_rng(6)
    x = Input(name="x", shape=(2, 30), kind="count", high=9)
    flat = Flatten(name="flat", inputs=("x",))
    first = dense(rng, "fc1", "flat", 31, 60)
    second = dense(rng, "fc2", "lif1", 40, 31, 4)
    weights = (first.weight.values * (rng.random(60) < 0.5),
               second.weight.values * (rng.random(31) < 0.4))  # fmt: skip
    first = replace(first, weight=replace(first.weight, values=weights[0]))
    second = replace(second, weight=replace(second.weight, values=weights[1]))
    return chain(
        "values", x, flat, first, lif("lif1", "fc1", 31, 400), second, lif("lif2", "fc2", 40, 30)
    )


RARE = {
    **NETS,
    "deaf": deaf_to_values,
    "narrow": narrow,
    "rounded": rounded,
    "wide": wide,
    "direct": direct,
    "delayed": delayed,
    "geometry": geometry,
    "even": even,
}


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", RARE)
def test_rare_networks_under_sanitizers(name: str) -> None:
    graph = RARE[name]()
    agrees(graph, events(graph), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize("name", RARE)
def test_rare_networks_on_cores(name: str, core: str) -> None:
    graph = RARE[name]()
    agrees(graph, events(graph), core)


@pytest.mark.needs("gcc")
def test_an_image_beyond_32_bit_reciprocals() -> None:
    rng = np.random.default_rng(8)
    x = Input(name="x", shape=(3, 301, 257))
    pool = SumPool2d(name="pool", inputs=("x",), kernel=(99, 100), stride=(99, 100))
    fc = dense(rng, "fc", "pool", 3, 18)
    graph = chain("large", x, pool, fc, lif("lif", "fc", 3, 300))
    assert b"large_divide" in emitted(graph).files["large_impl.h"]
    data = (rng.random((1, 3, 3, 301, 257)) < 0.001).astype(np.int64)
    agrees(graph, data, "sanitize")


@pytest.mark.needs("gcc")
def test_a_convolution_that_sees_padding_alone() -> None:
    """Its weights are never read: they are not stored, but its bias counts."""
    weight, bias = param([[[[3]]], [[[-2]]]], "s4f0"), param([20, -4], "s8f4")
    conv = Conv2d(
        name="conv", inputs=("x",), weight=weight, bias=bias, stride=(2, 2), padding=(1, 1)
    )
    graph = chain(
        "blind", Input(name="x", shape=(1, 1, 1)), conv, lif("lif", "conv", (2, 2, 2), 30)
    )
    assert b"blind_conv_weight" not in emitted(graph).files["blind_data.h"]
    agrees(graph, np.ones((1, 9, 1, 1, 1), np.int64), "sanitize")


# --- refusals ---


def test_refused_with_every_reason() -> None:
    graph = mlp()
    loop = [Delay(name=n, inputs=(m,), shape=(4,)) for n, m in (("a", "b"), ("b", "a"))]
    with pytest.raises(LegalizeError) as caught:
        BACKEND.legalize(Graph("bad", (*graph.nodes[:-1], *loop)))
    assert len(caught.value.reasons) == 3
    assert "no Output node" in caught.value.reasons[0]
    assert all("a:" in r or "b:" in r for r in caught.value.reasons[1:])


def test_a_float_graph_is_refused() -> None:
    x = Input(name="x", shape=(2,))
    fc = Linear(name="fc", inputs=("x",), weight=Param(np.ones((2, 2))))
    graph = chain("float", x, fc, readout="membrane_last")
    with pytest.raises(LegalizeError, match="not quantized"):
        BACKEND.legalize(graph)


def test_files_of_another_graph_are_refused(tmp_path: Path) -> None:
    write(tmp_path, mlp(sizes=(12, 9, 5)))
    with pytest.raises(BackendError, match="not emitted from this graph"):
        BACKEND.run(tmp_path, mlp(), events(mlp()), "host")
    header = tmp_path / "mlp.h"
    write(tmp_path, mlp())
    header.write_text(re.sub(r"(_STATE_BYTES +)\d+u", r"\g<1>99u", header.read_text()))
    with pytest.raises(BackendError, match="state of 99 B, this version"):
        BACKEND.run(tmp_path, mlp(), events(mlp()), "host")
    with pytest.raises(BackendError, match="lacks conv"):
        BACKEND.run(tmp_path, convolutional(), events(convolutional()), "host")


def test_data_are_checked(tmp_path: Path) -> None:
    write(tmp_path, mlp())
    for data, said in (
        (np.full((1, 2, 12), 2), "outside"),
        (np.zeros((1, 2, 11), np.int64), "do not fit"),
        (np.zeros((1, 2, 12)), "takes integers"),
    ):
        with pytest.raises(BackendError, match=said):
            BACKEND.run(tmp_path, mlp(), data, "host")
    with pytest.raises(BackendError, match="no executor"):
        BACKEND.run(tmp_path, mlp(), events(mlp()), "abacus")


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, mlp())
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    for executor in ("sanitize", "qemu-cortex-m4"):
        with pytest.raises(ToolchainError) as caught:
            BACKEND.run(tmp_path, mlp(), events(mlp()), executor)
        assert caught.value.hint
        assert caught.value.exit_code == 3


@pytest.mark.needs("gcc")
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scratch = tmp_path / "out", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write(folder, mlp(sizes=(7, 5, 3)))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    BACKEND.run(folder, mlp(sizes=(7, 5, 3)), events(mlp(sizes=(7, 5, 3))), "host")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    from qspinn.backends.mcu.hosted import hosted

    hosted.cache_clear()
    assert not list(scratch.iterdir())


# --- counting ---


@pytest.mark.needs("zig", "unicorn")
def test_work_is_per_event() -> None:
    graph = mlp("work", (200, 32, 10))
    data = np.zeros((1, 6, 200), np.int64)
    for step in range(1, 6):
        data[0, step, : 20 * step] = 1
    counts = instructions(files_of(graph), build(graph), data, CORES["cortex-m4"])[0]
    quiet, *busy = counts.tolist()
    assert quiet < 2500
    # An event costs a row of 32 weights in two tiles; spikes of the first layer cost more.
    assert all(30 * 20 * n < count - quiet < 150 * 20 * n for n, count in enumerate(busy, 1))


@pytest.mark.needs("zig", "unicorn")
def test_counts_are_exact() -> None:
    graph = mlp()
    once = instructions(files_of(graph), build(graph), events(graph), CORES["cortex-m0plus"])
    again = instructions(files_of(graph), build(graph), events(graph), CORES["cortex-m0plus"])
    assert np.array_equal(once, again)
    assert once.min() > 100


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("size", "weight"), [(2, 1_500_000_000), (3, 1_000_000_000), (2, -(2**31))]
)
def test_lateral_totals_beyond_32_bits(size: int, weight: int) -> None:
    """What all get includes each one's own part, which is taken out again."""
    graph = chain(
        "over",
        Input(name="x", shape=(size,)),
        Lateral(name="l", inputs=("x",), weight=param(weight, "s32f0")),
        lif("e", "l", size, 30),
    )
    agrees(graph, np.ones((1, 4, size), np.int64), "sanitize")
