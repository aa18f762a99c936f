"""Convolutions on microcontrollers: any geometry, in all the ways their sums may lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.mcu import BACKEND, scatter, sums
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.kernels import ConvKernel, PoolKernel, Window
from qspinn.backends.mcu.network import Gather, Update
from qspinn.backends.mcu.packedimage import PackedImage
from qspinn.backends.mcu.quiet import HELD, quiet
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.scatter import Axis, ScatterKernel
from qspinn.backends.mcu.simplify import simplified
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import agrees, chain, convolutional, events, files_of, lif, param, state
from mcu_nets import excitatory, weights
from networks import random_network
from qspinn import interp
from qspinn.fixed import QFormat
from qspinn.interp import step_program
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Scale,
    SumPool2d,
)
from qspinn.lowering import programs
from qspinn.neurons import integrator
from qspinn.program import Program

CHANNELS, FOURS = (1, 3, 5, 4, 8, 16, 33), (4, 8, 12, 16)
SEEDS, OFFSET = range(12), 7440


def places(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def convolution(
    rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], fours: bool
) -> tuple[Conv2d, tuple[int, ...]]:
    """A convolution of any geometry, and the shape it makes."""
    ins, *sides = shape
    outs = int(rng.choice(FOURS if fours else CHANNELS))
    shared = [g for g in (1, 1, 1, 1, 1, 2, 3, 4) if ins % g == 0 and outs % g == 0]
    groups = int(rng.choice(shared))
    strides, paddings, dilations, kernels, made = [], [], [], [], []
    for size in sides:
        stride = int(rng.choice((1, 1, 2, 3, 4)))
        dilation = int(rng.choice((1, 1, 1, 1, 1, 1, 2, 3)))
        padding = int(rng.integers(0, 4))
        most = (size + 2 * padding - 1) // dilation + 1  # may be more than the image
        kernel = int(rng.integers(1, min(most, 7 if rng.random() < 0.2 else 3) + 1))
        strides.append(stride)
        paddings.append(padding)
        dilations.append(dilation)
        kernels.append(kernel)
        made.append(places(size, kernel, stride, padding, dilation))
    kind = "s8" if fours else str(rng.choice(("s8", "s4", "s3", "s2", "b1", "u1")))
    held = weights(rng, (outs, ins // groups, *kernels), kind)
    bias = None
    if rng.random() < 0.5:
        bias = param(rng.integers(-90, 90, outs), "s8f0")
    conv = Conv2d(
        name=name, inputs=(source,), weight=held, bias=bias, stride=(strides[0], strides[1]),
        padding=(paddings[0], paddings[1]), dilation=(dilations[0], dilations[1]), groups=groups,
    )  # fmt: skip
    return conv, (outs, *made)


def firing(name: str, source: str, shape: tuple[int, ...], level: int, **options: Any) -> Neuron:
    """Leaky neurons in whole numbers, as the weights are."""
    made = lif(name, source, shape, level, **options)
    fmt = QFormat.parse("s16f0")
    return replace(
        made,
        states={k: state("s16f0") if k == "v" else v for k, v in made.states.items()},
        values={k: replace(v, fmt=fmt) if k == "threshold" else v for k, v in made.values.items()},
    )


def random_images(seed: int) -> Graph:
    """A few convolutions of spikes, counts or values, some behind pools."""
    rng = np.random.default_rng(OFFSET + seed)
    shape: tuple[int, ...] = (int(rng.choice((1, 2, 3, 4))), *rng.integers(5, 15, 2).tolist())
    first = Input(name="x", shape=shape)
    if seed % 3 == 1:
        first = Input(name="x", shape=shape, kind="count", high=3)
    if seed % 3 == 2:
        first = replace(Input(name="x", shape=shape, kind="current"), fmt=param(0, "s4f0").fmt)
    nodes: list[Node] = [first]
    for i in range(1, 4):
        source = nodes[-1].name
        if min(shape[1:]) >= 4 and rng.random() < 0.5:
            side = int(rng.choice((2, 2, 3)))
            step = side if rng.random() < 0.7 else side - 1
            nodes.append(
                SumPool2d(name=f"p{i}", inputs=(source,), kernel=(side, side), stride=(step, step))
            )
            shape = (shape[0], *(places(s, side, step, 0, 1) for s in shape[1:]))
            source = nodes[-1].name
        conv, shape = convolution(rng, f"c{i}", source, shape, seed % 4 > 0)
        reach = float(np.abs(conv.weight.values).sum((1, 2, 3)).max())
        level = max(int(reach / 9), 1)
        options = {"max_spikes": 3} if rng.random() < 0.4 else {}
        nodes += [conv, firing(f"l{i}", f"c{i}", shape, level, **options)]
    return chain(f"images{seed}", *nodes)


def test_the_random_images_cover_what_there_is() -> None:
    networks = [build(BACKEND.legalize(random_images(seed))) for seed in SEEDS]
    kernels = [k for n in networks for k in n.kernels]
    scattered = [k for k in kernels if isinstance(k, ScatterKernel)]
    pairs = [k for k in scattered if k.pairs]
    assert len(pairs) > 5
    assert {k.valued for k in pairs} == {True, False}
    assert {k.axes[1].runs for k in pairs} == {True, False}
    assert {bool(k.image.x.padding) for k in pairs} == {True, False}
    assert any(not k.pairs for k in scattered)
    assert any(not k.whole for k in scattered), "rows that end within a byte"
    assert any(k.image.x.kernel > k.image.x.size for k in scattered), "larger than the image"
    assert any(k.image.x.kernel == 1 for k in scattered)
    old = [k for k in kernels if isinstance(k, ConvKernel)]
    assert any(k.groups > 1 for k in old)
    assert any(k.image.x.dilation > 1 for k in old)
    assert all(k.last for k in old)
    assert any(isinstance(k, PoolKernel) and k.tiles for k in kernels)
    assert any(isinstance(s, Update) and s.calm for n in networks for s in n.stages)
    gathers = [s for n in networks for s in n.stages if isinstance(s, Gather)]
    drives = [drive for gather in gathers for drive in gather.drives]
    assert any(d.kernel.summed and d.edge.kind == "dense" for d in drives)
    assert {d.edge.kind for d in drives if d.kernel.by_place} == {"list", "mask", "dense"}
    spiking = [interp.run(random_images(seed), events(random_images(seed))) for seed in SEEDS]
    assert sum(bool(trace.output.any()) for trace in spiking) > len(SEEDS) // 2


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize("seed", SEEDS)
def test_any_geometry_under_sanitizers(seed: int) -> None:
    graph = random_images(seed)
    agrees(graph, events(graph, batch=1, steps=6), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_any_geometry_on_cores(seed: int, core: str) -> None:
    graph = random_images(seed)
    agrees(graph, events(graph, batch=1, steps=3), core)


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("executor", ["qemu-cortex-m4", "qemu-cortex-m33"])
def test_any_geometry_in_qemu(executor: str) -> None:
    for seed in (3, 4):
        graph = random_images(seed)
        agrees(graph, events(graph, batch=1, steps=4), executor)


def brim(value: bool) -> Graph:
    """Sums that reach both ends of 16 bits, alone and beside each other."""
    ins = 256
    held = np.full((8, ins), -128)
    held[1::2] = 127
    held[2] = held[3] = [127, -128] * (ins // 2)
    held[5] = 0
    conv = Conv1d(name="c", inputs=("x",), weight=param(held[:, :, None], "s8f0"))
    graded = Neuron(
        name="v", inputs=("c",), shape=(8, 2), model=integrator(leak=False), values={},
        states={"v": state("s32f0")},
    )  # fmt: skip
    x = Input(name="x", shape=(ins, 2))
    if value:
        x = Input(name="x", shape=(ins, 2), kind="count", high=1)
    return chain("brim", x, conv, graded, readout="membrane_last")


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("executor", ["sanitize", "cortex-m4", "cortex-m0plus"])
def test_sums_at_both_ends_of_their_lanes(value: bool, executor: str) -> None:
    graph = brim(value)
    (kernel,) = (k for k in build(graph).kernels if isinstance(k, ScatterKernel))
    assert kernel.pairs
    data = np.ones((1, 2, 256, 2), np.int64)
    data[0, 1, ::2] = 0
    assert interp.run(graph, data).states["v.v"].min() <= -32768
    agrees(graph, data, executor)


def leaky(decay: str, level: int, bits: str, **options: Any) -> Graph:
    """Two images of leaky neurons with 16-bit membranes, as most are, some with uneven bands."""
    rng = np.random.default_rng(level)

    def layer(name: str, source: str, shape: tuple[int, ...]) -> Neuron:
        made = firing(name, source, shape, level, **options)
        rate = param(3, "leak4") if decay == "leak" else param(3072, "u13f12")
        held = {"v": state(bits, rng.integers(-4, 5))}
        return replace(made, states=held, values={**made.values, "decay": rate})

    return chain(
        "leaky", Input(name="x", shape=(3, 13, 11)),
        Conv2d(name="c1", inputs=("x",), weight=weights(rng, (12, 3, 3, 3), "s8"), padding=(1, 1)),
        layer("l1", "c1", (12, 13, 11)),
        Conv2d(name="c2", inputs=("l1",), weight=weights(rng, (8, 12, 3, 3), "s8"), stride=(2, 1),
               bias=param(rng.integers(-90, 90, 8), "s8f0")),
        layer("l2", "c2", (8, 6, 9)), Flatten(name="flat", inputs=("l2",)),
        Linear(name="fc", inputs=("flat",), weight=weights(rng, (5, 432), "s4")),
        firing("end", "fc", (5,), 30),
    )  # fmt: skip


LEAKY: dict[str, tuple[str, int, str, dict[str, Any]]] = {
    "reset to zero": ("fixed", 300, "s16f0", {}),
    "subtracting": ("leak", 200, "s16f0", {"reset": "subtract"}),
    "high": ("fixed", 12000, "s16f0", {}),
    "saturating": ("leak", 400, "s13f0", {"reset": "subtract"}),
    "finer": ("fixed", 900, "s16f1", {}),
}


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize("name", LEAKY)
def test_leaky_images_under_sanitizers(name: str) -> None:
    graph = leaky(*LEAKY[name][:3], **LEAKY[name][3])
    packed = [s for s in build(BACKEND.legalize(graph)).stages if isinstance(s, PackedImage)]
    assert packed
    data = events(graph, batch=2, steps=8)
    data[1] = np.random.default_rng(5).random(data[1].shape) < 0.7
    agrees(graph, data, "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", ["subtracting", "saturating"])
def test_leaky_images_on_cores(name: str, core: str) -> None:
    graph = leaky(*LEAKY[name][:3], **LEAKY[name][3])
    agrees(graph, events(graph, batch=1, steps=4), core)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("outs", [20, 24, 32])
def test_rows_of_trits_that_end_within_a_byte(outs: int) -> None:
    rng = np.random.default_rng(outs)
    conv = Conv2d(
        name="c", inputs=("x",), weight=weights(rng, (outs, 3, 3, 3), "t"), padding=(1, 1)
    )
    graph = chain(
        "trits", Input(name="x", shape=(3, 6, 6)), conv, firing("l", "c", (outs, 6, 6), 2)
    )
    (kernel,) = (k for k in build(graph).kernels if isinstance(k, ScatterKernel))
    assert kernel.rows.trits
    assert kernel.whole == (outs == 20)
    agrees(graph, events(graph), "sanitize")


def portable(graph: Graph) -> tuple[tuple[str, bytes], ...]:
    """The emitted files with the portable paths alone."""
    macro = f"#define {build(graph).macro}_PORTABLE_ONLY\n".encode()
    return tuple((n, macro + c if n.endswith(".c") else c) for n, c in files_of(graph))


@pytest.mark.needs("zig", "unicorn")
def test_portable_code_is_slower_and_equal() -> None:
    graph = convolutional()
    network, data = build(graph), events(convolutional(), batch=1, steps=4)
    core = CORES["cortex-m4"]
    files = files_of(graph), portable(graph)
    fast, slow = (instructions(f, network, data, core).sum() for f in files)
    assert fast < slow
    want = interp.run(graph, data)
    for written in files:
        found = trace(network, record(written, network, data, core.name))
        assert all(np.array_equal(found.states[name], v) for name, v in want.states.items())


@pytest.mark.needs("gcc")
def test_halves_are_read_without_aliases_too() -> None:
    graph = convolutional()
    network, data = build(graph), events(convolutional())
    found = trace(network, record(portable(graph), network, data, "sanitize"))
    want = interp.run(graph, data)
    assert all(np.array_equal(found.states[name], values) for name, values in want.states.items())


@pytest.mark.needs("gcc")
def test_a_wrong_order_of_weights_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convolutional()
    right = scatter.words_of

    def wrong(values: Array) -> Array:
        return right(values.reshape(-1, 4)[:, [0, 2, 1, 3]])

    monkeypatch.setattr("qspinn.backends.mcu.connections.words_of", wrong)
    build.cache_clear()
    try:
        with pytest.raises(AssertionError, match="expected"):
            agrees(graph, events(graph), "host")
    finally:
        build.cache_clear()


def test_pairs_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither than halves of words, nor than layers beside them that need an array of words."""
    graphs = [convolutional(), *(random_images(seed) for seed in SEEDS)]
    build.cache_clear()
    ours = [build(BACKEND.legalize(graph)).struct.bytes for graph in graphs]
    monkeypatch.setattr(sums, "pairable", lambda node: False)
    build.cache_clear()
    halves = [build(BACKEND.legalize(graph)).struct.bytes for graph in graphs]
    build.cache_clear()
    assert all(a <= b for a, b in zip(ours, halves, strict=True))


def test_a_small_image_beside_a_large_layer_keeps_halves() -> None:
    """An array of words that the image alone uses would be one more."""
    rng = np.random.default_rng(1)
    conv = Conv2d(name="c", inputs=("x",), weight=weights(rng, (4, 1, 3, 3), "s8"))
    fc = Linear(name="fc", inputs=("flat",), weight=weights(rng, (300, 16), "s11"))
    graph = chain(
        "beside", Input(name="x", shape=(1, 4, 4)), conv, firing("l1", "c", (4, 2, 2), 200),
        Flatten(name="flat", inputs=("l1",)), fc, firing("l2", "fc", (300,), 300),
    )  # fmt: skip
    network = build(graph)
    members = {m.name: m.bytes for m in network.struct.members if m.role == "scratch"}
    assert members == {"sum16": 600}


def test_convolutions_beside_other_inputs_keep_their_order() -> None:
    """A pool adds to the same sums by element, so channels stay apart."""
    rng = np.random.default_rng(2)
    x = Input(name="x", shape=(4, 6, 6))
    conv = Conv2d(name="c", inputs=("x",), weight=weights(rng, (4, 4, 3, 3), "s8"), stride=(2, 2),
                  padding=(1, 1))  # fmt: skip
    pool = SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2))
    neurons = firing("l", "c", (4, 3, 3), 300)
    scale = Scale(name="s", inputs=("p",), scale=param(3, "s8f0"))
    neurons = replace(neurons, inputs=("c", "s"))
    graph = chain("mixed", x, conv, pool, scale, neurons)
    (kernel,) = (k for k in build(graph).kernels if isinstance(k, ConvKernel))
    assert not kernel.last
    agrees(graph, events(graph), "host")


@given(
    size=st.integers(1, 9), kernel=st.integers(1, 9), stride=st.integers(1, 5),
    padding=st.integers(0, 4),
)  # fmt: skip
def test_an_axis_knows_what_it_misses(size: int, kernel: int, stride: int, padding: int) -> None:
    count = places(size, kernel, stride, padding, 1)
    if count < 1:
        return
    axis = Axis("x", Window(size, count, kernel, stride, padding), "at_x", "p")
    seen = {place * stride + tap - padding for place in range(count) for tap in range(kernel)}
    if axis.runs:
        assert axis.misses == (not set(range(size)) <= seen)
    last = (size - 1 + padding) // stride
    assert axis.ends == (last >= count)


def test_quiet_programs_mean_the_same() -> None:
    """On random currents and states, for every kind of neuron of random networks."""
    rng = np.random.default_rng(0)
    tried = [
        quietly(simplified(program), rng)
        for seed in range(60)
        for program in programs(random_network(seed)[0]).values()
        if not program.stochastic
    ]
    assert sum(tried) > 30
    counting = programs(excitatory("c", 8, (0, 1) * 4, most=7))["exc"]
    assert quietly(simplified(counting), rng)


def quietly(program: Program, rng: np.random.Generator) -> bool:
    """Whether a program has a shorter list, which then does what it does where nothing is sent."""
    found = quiet(program)
    if found is None:
        return False
    count, span = 400, program.input_span
    leaves: dict[str, Array] = {"a": rng.integers(span.lo, span.hi + 1, count)}
    for name, held in program.states.items():
        assert held.fmt is not None
        leaves[name] = rng.integers(held.fmt.range.lo, held.fmt.range.hi + 1, count)
    for name, values in program.params.items():
        leaves[name] = np.resize(values.values.reshape(-1), count)
    after, sent = step_program(program, leaves, 0, (count,))
    _, value = step_program(replace(program, output=found.value), leaves, 0, (count,))
    calm = np.broadcast_to(value < found.below, (count,))
    assert not np.broadcast_to(sent, (count,))[calm].any()
    short, silent = step_program(found.program, {**leaves, HELD: value}, 0, (count,))
    assert not np.any(silent)
    for name in after:
        both = [np.broadcast_to(x, (count,))[calm] for x in (after[name], short[name])]
        assert np.array_equal(*both)
    return True
