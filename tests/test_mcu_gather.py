"""Convolutions that gather: the same bits as those that scatter, and which of the two is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, gathering
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.choosing import ways
from qspinn.backends.mcu.emulate import instructions, stack_bytes
from qspinn.backends.mcu.gathering import BitMap, asked, gather_in, gatherable
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.toolchain import CORES
from qspinn.backends.mcu.windowstage import Windows

from cli_runs import Run
from mcu_builds import agrees, chain, convolutional, dense, emitted, events, lif, mlp, param, write
from mcu_nets import camera, few_bits, narrowed, weights
from networks import random_network
from qspinn import interp
from qspinn.artifact import open_folder
from qspinn.cost import Activity
from qspinn.errors import PlanError
from qspinn.fixed import QFormat
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Neuron,
    Node,
    Param,
    SumPool2d,
)
from qspinn.plan import KERNEL, Plan, parse

ROOT = Path(__file__).resolve().parents[1]
NMNIST = ROOT / "examples" / "nmnist" / "nmnist.nir"
KINDS = ("s8", "s8", "s6", "s4", "s3", "t", "b1", "u4", "s7")
LEVELS = {"s8": 300, "s7": 150, "s6": 75, "s4": 18, "s3": 9, "t": 4, "b1": 6, "u4": 60}
SEEDS, POOLS = range(20), range(14, 20)
"""Of networks; and of those with pools among them."""


def neurons(rng: np.random.Generator, name: str, shape: tuple[int, ...], level: int) -> Neuron:
    """Layers of every kind of state: in pairs, in bytes, in parts of bytes, with more of them."""
    way = int(rng.integers(0, 9))
    made = lif(name, f"c{name[1:]}", shape, 9 * level, reset=str(rng.choice(("zero", "subtract"))))
    if way == 1:
        return narrowed(made, "s8f-2", 1)
    if way == 2:
        return narrowed(made, "s4f-3", 0)
    if way == 3:
        return narrowed(made, "u6f-1", 1)
    if way == 4:
        channel = rng.integers(5 * level, 14 * level, (shape[0], *[1] * (len(shape) - 1)))
        return replace(made, values={**made.values, "threshold": param(channel, "s16f4")})
    if way == 5:
        own = rng.integers(5 * level, 14 * level, shape)  # keeps its order
        return replace(made, values={**made.values, "threshold": param(own, "s16f4")})
    if way == 6:
        return lif(name, f"c{name[1:]}", shape, 9 * level, synapse="new", refractory=True)
    if way == 7:
        return lif(name, f"c{name[1:]}", shape, 9 * level, max_spikes=3)
    return made


def random_gathers(seed: int) -> Graph:
    """Convolutions of any geometry that can gather, in one dimension or two."""
    rng = np.random.default_rng(9100 + seed)
    flat = seed % 5 == 4
    shape: tuple[int, ...] = (int(rng.integers(1, 4)), *rng.integers(5, 13, 1 if flat else 2))
    shape = tuple(map(int, shape))
    nodes: list[Node] = [Input(name="x", shape=shape)]
    for i in (1, 2, 3):
        if nodes[-1].name != "x" and getattr(nodes[-1], "model").max_out != 1:  # noqa: B009
            break  # counts are no bits
        if seed in POOLS and min(shape[1:]) >= 4 and not flat and rng.random() < 0.8:
            pool = ((2, 2), (2, 2), (2, 1), (4, 2), (1, 4))[int(rng.integers(0, 5))]
            nodes.append(
                SumPool2d(name=f"p{i}", inputs=(nodes[-1].name,), kernel=pool, stride=pool)
            )
            shape = (shape[0], *(s // p for s, p in zip(shape[1:], pool, strict=True)))
        kernel, stride, padding, dilation, sides = [], [], [], [], []
        for side in shape[1:]:
            pad = int(rng.integers(0, 3))
            taps = int(rng.integers(1, min(5, side + 2 * pad) + 1))
            apart = int(rng.choice((1, 1, 2))) if 2 * (taps - 1) < side + 2 * pad else 1
            step = int(rng.choice((1, 1, 2, 3)))
            kernel.append(taps)
            stride.append(step)
            padding.append(pad)
            dilation.append(apart)
            sides.append((side + 2 * pad - apart * (taps - 1) - 1) // step + 1)
        outs, kind = int(rng.choice((1, 3, 4, 6, 8, 16, 18, 33, 40))), str(rng.choice(KINDS))
        bias = param(rng.integers(-40, 40, outs), "s8f0") if rng.random() < 0.3 else None
        if rng.random() < 0.2:
            bias = param(3, "s8f0")
        held = weights(rng, (outs, shape[0], *kernel), kind)
        made = Conv1d if flat else Conv2d
        pick = (lambda v: v[0]) if flat else tuple
        nodes.append(
            made(name=f"c{i}", inputs=(nodes[-1].name,), weight=held, bias=bias,
                 stride=pick(stride), padding=pick(padding), dilation=pick(dilation))
        )  # fmt: skip
        shape = (outs, *sides)
        nodes.append(neurons(rng, f"l{i}", shape, LEVELS[kind]))
    if seed % 2:
        size = int(np.prod(shape))
        nodes += [Flatten(name="flat", inputs=(nodes[-1].name,)),
                  dense(rng, "fc", "flat", 12, size), lif("end", "fc", 12, 60)]  # fmt: skip
    return chain(f"gathers{seed}", *nodes)


def gathered(graph: Graph, form: str = "") -> tuple[Network, tuple[tuple[str, bytes], ...]]:
    """What is emitted where every convolution gathers that can."""
    names = gatherable(BACKEND.legalize(graph))
    assert names
    options = {f"{KERNEL}{name}": "gather" for name in names} | ({"input": form} if form else {})
    network = build(BACKEND.legalize(graph), form, False, frozenset(names))
    return network, tuple(emitted(graph, **options).files.items())


def gathers(graph: Graph, data: Array, executor: str, form: str = "", macro: str = "") -> None:
    """Every state of every step is the interpreter's."""
    network, files = gathered(graph, form)
    head = f"#define {network.macro}_{macro}\n".encode() if macro else b""
    made = tuple((n, head + c if n.endswith(".c") else c) for n, c in files)
    agrees(graph, data, executor, (network, made))


def windows_of(graph: Graph) -> list[Windows]:
    return [s for s in gathered(graph)[0].stages if isinstance(s, Windows)]


def test_the_random_networks_cover_what_there_is() -> None:
    stages = [s for seed in SEEDS for s in windows_of(random_gathers(seed))]
    stages += windows_of(camera())
    assert {s.edge.kind for s in stages} == {"list", "mask"}
    assert {s.flat for s in stages} == {True, False}
    assert {s.packed is not None for s in stages} == {True, False}
    assert {s.update.calm is not None for s in stages} == {True, False}
    assert {s.bits.lone for s in stages} == {True, False}
    assert {s.bits.chunks > 1 for s in stages} == {True, False}
    assert {s.rows.tiles > 1 for s in stages} == {True, False}
    assert {s.image.channels % 2 for s in stages} == {0, 1}
    assert any(s.image.channels == 1 for s in stages)
    assert {s.rows.form.field for s in stages} >= {1, 2, 4, 8}
    assert any(s.bits.columns > s.bits.image.x.size for s in stages)
    assert any(not s.update.mask for s in stages), "counts"
    assert any(w.member.lane for s in stages for w in s.update.writes)
    assert any(s.bits.image.y.size == 1 for s in stages), "one dimension"
    assert {s.bits.pool for s in stages} >= {(1, 1), (2, 2), (2, 1), (4, 2)}
    assert {s.beyond for s in stages if s.bits.pooled > 1} == {True, False}
    assert {s.edge.kind for s in stages if s.bits.pooled > 1} == {"list", "mask"}
    runs = [interp.run(g, events(g)) for g in map(random_gathers, SEEDS)]
    assert sum(bool(run.output.any()) for run in runs) > len(SEEDS) // 2


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("seed", SEEDS)
def test_any_geometry_under_sanitizers(seed: int) -> None:
    graph = random_gathers(seed)
    gathers(graph, events(graph, batch=1, steps=6), "sanitize", "mask" if seed % 3 == 0 else "")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "rv32imc"])
@pytest.mark.parametrize("seed", [1, 4, 9, 15])
def test_any_geometry_on_cores(seed: int, core: str) -> None:
    graph = random_gathers(seed)
    gathers(graph, events(graph, batch=1, steps=3), core)


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("executor", ["qemu-cortex-m4", "qemu-cortex-m55"])
def test_any_geometry_in_qemu(executor: str) -> None:
    for seed in (1, 3):
        graph = random_gathers(seed)
        gathers(graph, events(graph, batch=1, steps=3), executor)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("seed", [5, 10, 17, 24, 57])
def test_networks_with_neurons_of_any_kind(seed: int) -> None:
    graph, data = random_network(seed)
    gathers(graph, data[:1], "sanitize")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    "make", [convolutional, few_bits, camera], ids=["conv", "few bits", "camera"]
)
def test_beside_layers_that_scatter(make: object) -> None:
    graph = make()  # type: ignore[operator]
    gathers(graph, events(graph), "sanitize")


@pytest.mark.needs("zig", "unicorn")
def test_portable_code_gives_the_same() -> None:
    graph = random_gathers(9)
    gathers(graph, events(graph, batch=1, steps=3), "cortex-m4", macro="PORTABLE_ONLY")


@pytest.mark.needs("gcc")
def test_full_and_empty_images() -> None:
    graph = random_gathers(9)
    data = np.zeros((1, 4, *graph.input.shape), np.int64)
    data[0, 1:3] = 1
    gathers(graph, data, "sanitize")


@pytest.mark.needs("gcc")
def test_a_wrong_order_of_rows_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_gathers(9)
    right = gathering.window_rows

    def wrong(node: Conv1d | Conv2d) -> Array:
        return np.ascontiguousarray(right(node)[::-1])

    monkeypatch.setattr("qspinn.backends.mcu.windowstage.window_rows", wrong)
    build.cache_clear()
    try:
        with pytest.raises(AssertionError, match="expected"):
            gathers(graph, events(graph), "host")
    finally:
        build.cache_clear()


def layer(outs: int = 16, kind: str = "s8", fmt: str = "s16f4") -> Graph:
    """An image behind a convolution, and a few neurons that read it."""
    rng = np.random.default_rng(3)
    held = weights(rng, (outs, 4, 3, 3), kind)
    image = lif("l", "c", (outs, 10, 10), 16 * LEVELS[kind] * 4)
    image = image if fmt == "s16f4" else narrowed(image, fmt, 0)
    return chain(
        "layer", Input(name="x", shape=(4, 10, 10)),
        Conv2d(name="c", inputs=("x",), weight=held, padding=(1, 1)), image,
        Flatten(name="flat", inputs=("l",)), dense(rng, "fc", "flat", 3, outs * 100),
        lif("end", "fc", 3, 60),
    )  # fmt: skip


def test_no_sums_lie_in_memory() -> None:
    graph = layer(fmt="s8f-2")
    network, _ = gathered(graph)
    ours = {m.name: m.bytes for m in network.struct.members if m.role == "scratch"}
    usual = {m.name: m.bytes for m in build(graph).struct.members if m.role == "scratch"}
    assert ours["map"] == 4 * BitMap(windows_of(graph)[0].bits.image).words
    assert "sum32" in usual
    assert network.struct.bytes < build(graph).struct.bytes


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_the_stack_stays_within_its_bound(core: str) -> None:
    device = next(d for d in BACKEND.devices.values() if d.core == core)
    for graph in (layer(), layer(40, "s3", "s8f-2"), layer(33, "t"), random_gathers(4)):
        network, files = gathered(graph)
        used = stack_bytes(files, network, events(graph, batch=1, steps=3), CORES[core])
        options = {f"{KERNEL}{n}": "gather" for n in gatherable(BACKEND.legalize(graph))}
        plan = Plan({}, options=options)
        assert 0 < used <= BACKEND.footprint(graph, device, plan).of("stack")


def overlapping() -> Graph:
    """A pool whose windows share elements."""
    rng = np.random.default_rng(4)
    return chain(
        "overlapping", Input(name="x", shape=(2, 8, 8)),
        SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(1, 1)),
        Conv2d(name="c", inputs=("p",), weight=weights(rng, (4, 2, 3, 3), "s8")),
        lif("l", "c", (4, 5, 5), 100),
    )  # fmt: skip


REFUSED: dict[str, tuple[Graph, str, str]] = {
    "a name": (mlp(), "fc9", "names no convolution"),
    "dense": (mlp(), "fc1", "names no convolution"),
    "values": (few_bits(), "c1", "a bit map holds spikes"),
    "a pool": (overlapping(), "c", "windows overlap"),
    "wide weights": (
        chain("wide", Input(name="x", shape=(1, 5, 5)),
              Conv2d(name="c", inputs=("x",), weight=Param(np.arange(9).reshape(1, 1, 3, 3) * 99,
                                                           QFormat(16, 0))),
              lif("l", "c", (1, 3, 3), 100)),
        "c", "more than 8 bits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_reason(case: str) -> None:
    graph, name, reason = REFUSED[case]
    with pytest.raises(PlanError, match=reason) as caught:
        emitted(graph, **{f"{KERNEL}{name}": "gather"})
    assert f"{KERNEL}{name}" in str(caught.value)


def test_plans_say_gather_or_scatter() -> None:
    graph = random_gathers(9)
    assert asked({"kernel.c1": "gather", "kernel.c2": "scatter", "steps": "3"}, graph) == {"c1"}
    with pytest.raises(PlanError, match=r"gather or scatter, not 'dense'"):
        asked({"kernel.c1": "dense"}, graph)
    with pytest.raises(PlanError, match=r"kernel.c_1: names no convolution") as caught:
        asked({"kernel.c_1": "scatter"}, graph)
    assert caught.value.hint == "one of c1, c2, c3"
    plan = Plan({}, options={"kernel.c1": "gather"})
    assert parse(plan.text()) == plan


def test_files_say_which_gather(tmp_path: Path) -> None:
    graph = BACKEND.legalize(random_gathers(9))
    for number, names in enumerate(({"c1", "c3"}, {"c2"}, set())):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = emitted(graph, **{f"{KERNEL}{name}": "gather" for name in names}).files
        for name, content in files.items():
            (folder / name).write_bytes(content)
        assert gather_in(folder, graph) == names
    write(tmp_path, graph)
    assert b"_GATHER " not in (tmp_path / "gathers9.h").read_bytes()


def test_cores_with_8_bit_registers_scatter() -> None:
    options = {f"{KERNEL}c": "gather"}
    with_, without = (emitted(layer(), "atmega2560", **o).files for o in (options, {}))
    assert with_ == without
    busy = Activity(4, {"x": 0.4, "l": 0.1})
    assert ways(layer(), BACKEND.devices["atmega2560"], busy, {}) == {}


def test_the_activity_decides() -> None:
    graph, device = layer(), BACKEND.devices["stm32f103xb"]
    chosen = [ways(graph, device, Activity(4, {"x": rate, "l": rate, "end": rate}), {})
              for rate in (0.001, 0.3)]  # fmt: skip
    assert chosen == [{"kernel.c": "scatter"}, {"kernel.c": "gather"}]
    assert ways(graph, device, Activity(4), {}) == {}, "nothing is known"
    busy = Activity(4, {"x": 0.3, "l": 0.3, "end": 0.3})
    assert ways(graph, device, busy, {"kernel.c": "scatter"}) == {}, "the plan says it"
    plan = Plan({}, options={"kernel.c": "gather"})
    costs = [BACKEND.cost(graph, device, busy, p) for p in (None, plan)]
    scattered, gathers = (c.instructions for c in costs if c is not None)
    assert gathers < scattered / 1.3


def test_what_does_not_fit_is_not_chosen() -> None:
    graph, device = layer(12, "s4", "s8f-2"), BACKEND.devices["stm32f103xb"]
    busy = Activity(4, {"x": 0.3, "l": 0.3, "end": 0.3})
    assert ways(graph, device, busy, {}) == {"kernel.c": "gather"}
    sizes = [BACKEND.footprint(graph, device, Plan({}, options={"kernel.c": way})).regions()
             for way in ("scatter", "gather")]  # fmt: skip
    (region, most) = next((r, n) for r, n in sizes[0].items() if n < sizes[1][r])
    held = replace(device, regions={**device.regions, region: most})
    assert ways(graph, held, busy, {}) == {"kernel.c": "scatter"}


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_the_choice_is_right_where_it_matters(core: str) -> None:
    """At activities where one takes a fifth less, that one is chosen."""
    device = next(d for d in BACKEND.devices.values() if d.core == core)
    rng, tried = np.random.default_rng(0), set[str]()
    for graph in (layer(), layer(12, "s4", "s8f-2")):
        network, files = gathered(graph)
        other = tuple(emitted(graph).files.items())
        for rate in (0.004, 0.25):
            data = (rng.random((1, 3, *graph.input.shape)) < rate).astype(np.int64)
            taken = [
                int(instructions(f, n, data, CORES[core], "gcc").sum())
                for f, n in ((other, build(graph)), (files, network))
            ]
            better = "gather" if taken[1] < taken[0] else "scatter"
            seen = Activity(3, {"x": float(data.mean()), "l": 0.02, "end": 0.02})
            if min(taken) < 0.8 * max(taken):
                tried.add(better)
                assert ways(graph, device, seen, {}) == {"kernel.c": better}
    assert tried == {"gather", "scatter"}


@pytest.mark.parametrize("rate", [0.0005, 0.08])
def test_compile_writes_what_it_chose(rate: float, tmp_path: Path, qspinn: Run) -> None:
    rng = np.random.default_rng(1)
    x = (rng.random((12, 20, 2, 34, 34)) < rate).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(12) % 8)
    words = ("compile", NMNIST, "--target", "mcu", "--device", "stm32f103xb", "--json")
    code, _, err = qspinn(*words, "--data", tmp_path / "d.npz", "-o", tmp_path / "out")
    assert code == 0, err
    text = (tmp_path / "out" / "plan.txt").read_text()
    header = (tmp_path / "out" / "nmnist.h").read_text()
    way = "gather" if rate > 0.01 else "scatter"
    assert f"option kernel.conv1 = {way}" in text
    assert ("NMNIST_GATHER" in header) == (rate > 0.01)
    # The same plan without data makes the same files, and an edited one the same network.
    again = qspinn(*words, "--plan", tmp_path / "out" / "plan.txt", "-o", tmp_path / "again")
    assert again.code == 0, again.err
    assert (tmp_path / "again" / "nmnist_impl.h").read_bytes() == (
        tmp_path / "out" / "nmnist_impl.h"
    ).read_bytes()
    edited = tmp_path / "edited.txt"
    edited.write_text(text.replace("= gather", "= scatter"))
    other = qspinn(*words, "--plan", edited, "-o", tmp_path / "edited")
    assert other.code == 0, other.err
    manifests = [json.loads((tmp_path / d / "manifest.json").read_text())
                 for d in ("out", "edited")]  # fmt: skip
    assert manifests[0]["graph"] == manifests[1]["graph"]


@pytest.mark.needs("gcc")
def test_validate_finds_out_itself(tmp_path: Path, qspinn: Run) -> None:
    plan = tmp_path / "plan.txt"
    x = (np.random.default_rng(1).random((12, 5, 2, 34, 34)) < 0.05).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(12) % 8)
    plan.write_text(Plan({}, options={"kernel.conv1": "gather", "kernel.conv2": "scatter"}).text())
    words = ("--target", "mcu", "--plan", plan, "--data", tmp_path / "d.npz")
    code, _, err = qspinn("compile", NMNIST, *words, "-o", tmp_path / "out")
    assert code == 0, err
    assert "NMNIST_GATHER   " in (tmp_path / "out" / "nmnist.h").read_text()
    code, _, err = qspinn("validate", tmp_path / "out", "--data", tmp_path / "d.npz")
    assert code == 0, err
    opened = open_folder(tmp_path / "out")
    counted = opened.footprint({}).regions()
    scattered = BACKEND.footprint(opened.graph, opened.device, Plan({})).regions()
    assert counted["ram"] != scattered["ram"], "it matters which"
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["footprint"]
    assert counted["ram"] == sum(line["bytes"] for line in told if line["region"] == "ram")
