"""Images of neurons that add up what comes and may send counts: two at a time, and four counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, resting
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.network import Gather, Network
from qspinn.backends.mcu.packedimage import RestingImage
from qspinn.backends.mcu.resting import Resting
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import agrees, busy, chain, events, files_of, lif, param, state
from mcu_nets import weights
from qspinn import interp
from qspinn.fixed import QFormat
from qspinn.ir import Conv2d, Flatten, Graph, Input, Linear, MaxPool2d, Neuron, SumPool2d


def layer(
    name: str, source: str, shape: tuple[int, ...], level: object, low: int | None = None,
    start: int = 0, bits: str = "s16f0", **options: Any,
) -> Neuron:  # fmt: skip
    """Neurons without a leak, clipped at ``low`` where that is given."""
    options = {"leak": False, "reset": "subtract", "compare": ">=", **options}
    made = lif(name, source, shape, level, clamp=low is not None, **options)
    fmt = QFormat.parse("s16f0")
    values = {k: replace(v, fmt=fmt) if k == "threshold" else v for k, v in made.values.items()}
    if low is not None:
        values["v_min"] = param(low, "s16f0")
    states = {k: state(bits, start) if k == "v" else v for k, v in made.states.items()}
    return replace(made, values=values, states=states)


def counting(
    level: object, low: int | None, rows: int = 12, bias: bool = False, **options: Any
) -> Graph:
    """Images of counts, one behind a pool, and a dense layer that reads counts."""
    rng = np.random.default_rng(7)
    starts = param(rng.integers(-90, 90, 8), "s8f0") if bias else None
    half = rows // 2
    return chain(
        "counting", Input(name="x", shape=(3, rows, 12)),
        Conv2d(name="c1", inputs=("x",), weight=weights(rng, (12, 3, 3, 3), "s8"), padding=(1, 1)),
        layer("l1", "c1", (12, rows, 12), level, low, **options),
        Conv2d(name="c2", inputs=("l1",), weight=weights(rng, (8, 12, 3, 3), "s8"), bias=starts,
               padding=(1, 1)),
        layer("l2", "c2", (8, rows, 12), level, low, **options),
        SumPool2d(name="p", inputs=("l2",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c3", inputs=("p",), weight=weights(rng, (4, 8, 3, 3), "s6"), padding=(1, 1)),
        layer("l3", "c3", (4, half, 6), level, low, **options),
        Flatten(name="flat", inputs=("l3",)),
        Linear(name="fc", inputs=("flat",), weight=weights(rng, (10, 24 * half), "s8")),
        layer("l4", "fc", (10,), 300, **{k: v for k, v in options.items() if k == "max_spikes"}),
    )  # fmt: skip


CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "as sinabs has them": ({"level": 200, "low": -200, "max_spikes": 7}, {"below"}),
    "many spikes": ({"level": 40, "low": -40, "max_spikes": 127}, {"always"}),
    "too few spikes": ({"level": 40, "low": -40, "max_spikes": 3}, {"below"}),
    "from a start": ({"level": 300, "low": -100, "max_spikes": 15, "start": -70},
                     {"always"}),
    "from below the least": ({"level": 300, "low": -100, "max_spikes": 7, "start": -150}, {""}),
    "a least above zero": ({"level": 300, "low": 20, "max_spikes": 7}, {""}),
    "no least": ({"level": 300, "low": None, "max_spikes": 7, "bits": "s10f0"}, {"always"}),
    "spikes alone": ({"level": 200, "low": -200}, {"below"}),
    "silence suffices": ({"level": 0, "low": -90, "compare": ">="}, set()),
    "below zero": ({"level": -20, "low": -90, "max_spikes": 3}, set()),
    "reset to zero": ({"level": 200, "low": -90, "reset": "zero"}, {"always"}),
    "high": ({"level": 9000, "low": -9000, "max_spikes": 7}, {"always"}),
    "with a bias": ({"level": 200, "low": -200, "max_spikes": 31, "bias": True},
                    {"always"}),
    "finer": ({"level": 700, "low": -700, "max_spikes": 7, "bits": "s16f1"},
              {"always", "below"}),
    "strictly above": ({"level": 200, "low": -200, "max_spikes": 7, "compare": ">"}, {"below"}),
    "uneven bands": ({"level": 200, "low": -200, "max_spikes": 7, "rows": 10}, {"below"}),
}  # fmt: skip


def packed(graph: Graph) -> list[Resting]:
    """The layers that are updated in pairs."""
    stages = build(BACKEND.legalize(graph)).stages
    return [stage.packed for stage in stages if isinstance(stage, RestingImage)]


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize("name", CASES)
def test_counting_images_under_sanitizers(name: str) -> None:
    options, rests = CASES[name]
    graph = counting(**options)
    assert {p.rests for p in packed(graph)} == rests
    agrees(graph, busy(graph, 8), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "rv32imc"])
@pytest.mark.parametrize("name", ["as sinabs has them", "many spikes"])
def test_counting_images_on_cores(name: str, core: str) -> None:
    graph = counting(**CASES[name][0])
    agrees(graph, busy(graph, 4), core)


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("executor", ["qemu-cortex-m3", "qemu-cortex-m4", "qemu-cortex-m33"])
def test_counting_images_in_qemu(executor: str) -> None:
    graph = counting(**CASES["many spikes"][0])
    agrees(graph, busy(graph, 4), executor)


def test_the_cases_cover_what_there_is() -> None:
    found = [p for options, _ in CASES.values() for p in packed(counting(**options))]
    assert {p.rests for p in found} == {"always", "below", ""}
    assert {p.narrow > 0 for p in found} == {True, False}
    assert {p.gain > 0 for p in found} == {True, False}
    traces = [interp.run(counting(**o), busy(counting(**o), 4)) for o, _ in CASES.values()]
    assert sum(bool(trace.output.any()) for trace in traces) > len(CASES) // 2


@pytest.mark.needs("gcc")
def test_membranes_at_both_ends() -> None:
    """Sums far beyond what lanes hold, and membranes that saturate."""
    rng = np.random.default_rng(3)
    held = np.where(rng.random((4, 64, 1, 1)) < 0.5, -128, 127)
    held[2], held[3] = 127, -128
    weight = param(held, "s8f0")
    graph = chain(
        "ends", Input(name="x", shape=(64, 2, 4), kind="count", high=3),
        Conv2d(name="c", inputs=("x",), weight=weight),
        layer("l", "c", (4, 2, 4), 16000, -16000, max_spikes=3, bits="s16f0"),
        Conv2d(name="c2", inputs=("l",), weight=weights(rng, (4, 4, 1, 1), "s8")),
        layer("end", "c2", (4, 2, 4), 100, max_spikes=3),
    )  # fmt: skip
    assert packed(graph)
    data = np.full((2, 6, 64, 2, 4), 3)
    data[1, ::2] = 0
    agrees(graph, data, "sanitize")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("options", [{"refractory": True}, {"bias": True}, {"leak": True}])
def test_other_neurons_stay_as_they_are(options: dict[str, Any]) -> None:
    """With more states or parameters, or a leak: that is not what the packed update does."""
    rng = np.random.default_rng(1)
    made = layer("l", "c", (4, 4, 4), 200, -200, **options)
    graph = chain(
        "other", Input(name="x", shape=(2, 4, 4)),
        Conv2d(name="c", inputs=("x",), weight=weights(rng, (4, 2, 3, 3), "s8"), padding=(1, 1)),
        made, Conv2d(name="c2", inputs=("l",), weight=weights(rng, (4, 4, 1, 1), "s8")),
        layer("end", "c2", (4, 4, 4), 100),
    )  # fmt: skip
    agrees(graph, busy(graph, 6), "sanitize")


@pytest.mark.needs("gcc")
def test_thresholds_of_neurons_leave_them_alone() -> None:
    levels = np.random.default_rng(2).integers(100, 300, (12, 1, 1))
    graph = counting(200, -200, max_spikes=7)
    layers = {n.name: n for n in graph.of_type(Neuron)}
    own = replace(layers["l1"], values={**layers["l1"].values, "threshold": param(levels, "s16f0")})
    graph = graph.map(lambda node: own if node.name == "l1" else node)
    assert len(packed(graph)) == len(packed(counting(200, -200, max_spikes=7))) - 1
    agrees(graph, busy(graph, 4), "sanitize")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    ("kernel", "rows", "columns"), [(1, 6, 8), (2, 7, 8), (4, 9, 8), (3, 9, 9), (2, 6, 6)]
)
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_counts_behind_pools_of_any_size(kernel: int, rows: int, columns: int, kind: str) -> None:
    """Words of four counts that windows divide evenly, and others."""
    rng = np.random.default_rng(kernel)
    shape = (2, rows // kernel, columns // kernel)
    pool = {"sum": SumPool2d, "max": MaxPool2d}[kind]
    graph = chain(
        "pools", Input(name="x", shape=(3, rows, columns)),
        Conv2d(name="c", inputs=("x",), weight=weights(rng, (4, 3, 3, 3), "s8"), padding=(1, 1)),
        layer("l", "c", (4, rows, columns), 90, -90, max_spikes=7),
        pool(name="p", inputs=("l",), kernel=(kernel, kernel), stride=(kernel, kernel)),
        Conv2d(name="c2", inputs=("p",), weight=weights(rng, (2, 4, 1, 1), "s8")),
        layer("end", "c2", shape, 300, max_spikes=3),
    )  # fmt: skip
    agrees(graph, busy(graph, 5), "sanitize")


def fours(network: Network) -> list[bool]:
    """Whether the loops over counts go through words of four."""
    gathers = [s for s in network.stages if isinstance(s, Gather)]
    return [d.fours for g in gathers for d in g.drives if d.edge.kind == "dense"]


def test_counts_are_looked_through_four_at_a_time() -> None:
    assert fours(build(counting(200, -200, max_spikes=7))) == [True, True, True]


@pytest.mark.needs("zig", "unicorn")
def test_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = counting(200, -200, max_spikes=7)
    data, core = events(graph, batch=1, steps=4) * (np.arange(12) < 1), CORES["cortex-m3"]
    taken = [instructions(files_of(graph), build(graph), data, core).sum()]
    monkeypatch.setattr(resting, "MOST", 0)
    build.cache_clear()
    taken.append(instructions(files_of(graph), build(graph), data, core).sum())
    build.cache_clear()
    assert taken[0] < 0.8 * taken[1]


@pytest.mark.needs("gcc")
def test_portable_code_is_equal() -> None:
    graph = counting(200, -200, max_spikes=7)
    network, data = build(graph), busy(graph, 4)
    macro = f"#define {network.macro}_PORTABLE_ONLY\n".encode()
    files = tuple((n, macro + c if n.endswith(".c") else c) for n, c in files_of(graph))
    found = trace(network, record(files, network, data, "sanitize"))
    want = interp.run(graph, data)
    assert all(np.array_equal(found.states[name], v) for name, v in want.states.items())


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("wrong", ["rests", "low", "add", "narrow"])
def test_wrong_constants_are_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = counting(**CASES["high" if wrong == "narrow" else "as sinabs has them"][0])
    right = packed(graph)[0]
    broken = {
        "rests": {"rests": "always", "add": right.add + 1}, "low": {"low": right.low + 1},
        "add": {"add": right.add - 1}, "narrow": {"span": 1 << 16, "narrow": right.narrow + 1},
    }[wrong]  # fmt: skip

    def changed(*_: object) -> Resting:
        return replace(right, **broken)

    monkeypatch.setattr("qspinn.backends.mcu.packedimage.resting", changed)
    build.cache_clear()
    try:
        with pytest.raises(AssertionError, match="expected"):
            agrees(graph, busy(graph, 6), "host")
    finally:
        build.cache_clear()
