"""Any chain of maps without neurons in between computes the same in canonical form, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphs import lif, param
from qspinn.interp import run
from qspinn.ir import (
    CONNECTIONS,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.passes import compose
from qspinn.passes.canonicalize import canonicalize
from qspinn.signals import signals
from qspinn.verify import verify

SEEDS = range(60)


def dyadic(rng: np.random.Generator, *shape: int) -> Param:
    """Few bits: no sum of products of these is ever rounded, in whatever order it is taken."""
    return Param(rng.integers(-3, 4, shape) / 4.0)


class Chain:
    """Random maps, one after another, with neurons behind some of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        shape = [(9,), (2, 7), (2, 8, 6)][seed % 3]
        self.nodes: list[Node] = [Input(name="x", shape=shape)]
        for _ in range(int(self.rng.integers(2, 7))):
            self.step()
        if len(self.shape) > 1:
            self.put(Flatten(name=self.name("flat"), inputs=(self.last,)))
        self.put(Linear(name="fc", inputs=(self.last,), weight=self.weight(4, self.shape[0])))
        kept = self.rng.random() < 0.5
        self.put(neurons("lif", "fc", (4,), fires=not kept))
        readout = "membrane_last" if kept else "count"
        self.graph = Graph("g", (*self.nodes, Output(name="out", inputs=("lif",), readout=readout)))

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.signal.shape

    @property
    def signal(self) -> Any:
        return signals(Graph("g", tuple(self.nodes)))[self.last]

    def name(self, word: str) -> str:
        return f"{word}{len(self.nodes)}"

    def put(self, node: Node) -> None:
        self.nodes.append(node)

    def weight(self, *shape: int) -> Param:
        return dyadic(self.rng, *shape)

    def bias(self, size: int) -> Param | None:
        return self.weight(size) if self.rng.random() < 0.5 else None

    def step(self) -> None:
        options = {1: ["linear", "scale", "flat"], 2: ["conv1d", "scale", "flat", "linear"],
                   3: ["conv2d", "conv2d", "pool", "mean", "scale", "linear", "max"]}  # fmt: skip
        kinds = [*options[len(self.shape)], "neurons"]
        getattr(self, kinds[int(self.rng.integers(len(kinds)))])()

    def linear(self) -> None:
        outs, ins = int(self.rng.integers(2, 8)), int(np.prod(self.shape))
        self.put(Linear(name=self.name("fc"), inputs=(self.last,), weight=self.weight(outs, ins),
                        bias=self.bias(outs)))  # fmt: skip

    def flat(self) -> None:
        self.put(Flatten(name=self.name("flat"), inputs=(self.last,)))

    def scale(self) -> None:
        shapes = [(), self.shape, (self.shape[0], *[1] * (len(self.shape) - 1))]
        gain = np.ldexp(1.0, self.rng.integers(-1, 2, shapes[int(self.rng.integers(3))]))
        self.put(Scale(name=self.name("gain"), inputs=(self.last,), scale=Param(gain)))

    def neurons(self) -> None:
        if isinstance(self.nodes[-1], CONNECTIONS):
            self.put(neurons(self.name("lif"), self.last, self.shape))

    def conv1d(self) -> None:
        outs = int(self.rng.integers(1, 4))
        self.put(Conv1d(name=self.name("conv"), inputs=(self.last,), bias=self.bias(outs),
                        weight=self.weight(outs, self.shape[0], min(2, self.shape[1])),
                        padding=int(self.rng.integers(2))))  # fmt: skip

    def conv2d(self) -> None:
        channels = self.shape[0]
        groups = channels if self.rng.random() < 0.3 else 1
        outs = groups * int(self.rng.integers(1, 3))
        kernel = [min(int(self.rng.integers(1, 4)), size) for size in self.shape[1:]]
        self.put(Conv2d(
            name=self.name("conv"), inputs=(self.last,), groups=groups, bias=self.bias(outs),
            weight=self.weight(outs, channels // groups, *kernel),
            stride=tuple(map(int, self.rng.integers(1, 3, 2))),
            padding=tuple(map(int, self.rng.integers(0, 2, 2))),
            dilation=(1, 2) if kernel[1] == 2 and self.shape[2] > 3 else (1, 1),
        ))  # fmt: skip

    def window(self, kind: Any) -> None:
        size = tuple(min(2, n) for n in self.shape[1:])
        padding = (size[0] // 2 if self.rng.random() < 0.2 else 0, 0)
        self.put(kind(name=self.name("pool"), inputs=(self.last,), kernel=size, stride=size,
                      padding=padding))  # fmt: skip

    def pool(self) -> None:
        self.window(SumPool2d)

    def mean(self) -> None:
        self.window(AvgPool2d)

    def max(self) -> None:
        if self.signal.kind != "current":
            self.window(MaxPool2d)


def neurons(name: str, source: str, shape: tuple[int, ...], *, fires: bool = True) -> Neuron:
    model = spiking() if fires else integrator()
    values = {"decay": param(0.5), **({"threshold": param(0.5)} if fires else {})}
    return Neuron(name=name, inputs=(source,), shape=shape, model=model, values=values,
                  states={"v": State()})  # fmt: skip


def same(graph: Graph, seed: int) -> tuple[Graph, bool]:
    """The canonical graph, held against the original; and whether anything came out at all."""
    verify(graph)
    done = verify(canonicalize(graph))
    rng = np.random.default_rng(seed)
    data = (rng.random((3, 6, *graph.input.shape)) < 0.5).astype(np.float64)
    before, after = run(graph, data), run(done, data)
    np.testing.assert_array_equal(before.output, after.output)
    for neuron in done.of_type(Neuron):
        name = f"{neuron.name}.v"
        np.testing.assert_array_equal(before.states[name], after.states[name])
    return done, bool(before.output.any())


def bare(graph: Graph) -> bool:
    """Whether no matrix reads what another map makes."""
    known = signals(graph)
    reads = (known[node.inputs[0]].kind for node in graph.of_type(Linear))
    return "current" not in reads


def test_canonical_chains_compute_the_same() -> None:
    seen: dict[str, int] = {}
    alive = shorter = 0
    for seed in SEEDS:
        graph = Chain(seed).graph
        done, some = same(graph, seed)
        alive += some
        shorter += len(done.nodes) < len(graph.nodes)
        assert bare(done)
        for node in graph.nodes:
            seen[type(node).__name__] = seen.get(type(node).__name__, 0) + 1
    assert alive > len(SEEDS) / 2
    assert shorter > len(SEEDS) / 2
    assert {"Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Scale", "Flatten"} <= set(seen)
    assert min(seen.values()) >= 4, seen


def image(*between: Node, out: tuple[int, ...]) -> Graph:
    return Graph("g", (Input(name="x", shape=(2, 8, 8)), *between,
                       neurons("lif", between[-1].name, out),
                       Output(name="out", inputs=("lif",))))  # fmt: skip


def conv(rng: np.random.Generator, source: str, outs: int, ins: int, **more: Any) -> Conv2d:
    name = more.pop("name", "conv")
    return Conv2d(name=name, inputs=(source,), weight=dyadic(rng, outs, ins, 3, 3),
                  bias=dyadic(rng, outs), **more)  # fmt: skip


def test_a_pool_of_currents_is_a_larger_window(rng: np.random.Generator) -> None:
    graph = image(
        conv(rng, "x", 3, 2, padding=(1, 1)),
        AvgPool2d(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)), out=(3, 4, 4),
    )  # fmt: skip
    done, alive = same(graph, 1)
    assert [n.name for n in done.nodes] == ["x", "pool", "lif", "out"]
    assert done["pool"].params()["weight"].values.shape == (3, 2, 4, 4)
    assert alive
    assert compose.growth(graph, done) == (
        "conv had no neurons behind it and went into what follows: 99 weights instead of 57"
    )


def test_what_stands_between_two_maps_and_changes_nothing_is_left_out() -> None:
    one = {"kernel": (1, 1), "stride": (1, 1)}
    nodes = (
        Input(name="x", shape=(4,)), Flatten(name="f", inputs=("x",)),
        Linear(name="fc", inputs=("f",), weight=Param(np.eye(4))), lif("lif", "fc", 4),
        Flatten(name="g", inputs=("lif",)), Flatten(name="h", inputs=("g",)),
        Output(name="out", inputs=("h",)),
    )  # fmt: skip
    done, _ = same(Graph("g", nodes), 0)
    assert [n.name for n in done.nodes] == ["x", "fc", "lif", "out"]
    for kind in (SumPool2d, AvgPool2d, MaxPool2d):
        graph = image(kind(name="p", inputs=("x",), **one),
                      Scale(name="s", inputs=("p",), scale=param(1.0)), out=(2, 8, 8))  # fmt: skip
        assert [n.name for n in same(graph, 0)[0].nodes] == ["x", "s", "lif", "out"]


def test_a_map_that_others_read_stays(rng: np.random.Generator) -> None:
    nodes = (
        Input(name="x", shape=(5,)), Linear(name="a", inputs=("x",), weight=dyadic(rng, 6, 5)),
        Linear(name="b", inputs=("a",), weight=dyadic(rng, 6, 6)),
        replace(neurons("lif", "a", (6,)), inputs=("a", "b")), Output(name="out", inputs=("lif",)),
    )  # fmt: skip
    assert "a" in canonicalize(Graph("g", nodes)).by_name


def test_no_map_grows_beyond_the_limit(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = (
        Input(name="x", shape=(50,)), Linear(name="a", inputs=("x",), weight=dyadic(rng, 2, 50)),
        Linear(name="b", inputs=("a",), weight=dyadic(rng, 40, 2)), neurons("lif", "b", (40,)),
        Output(name="out", inputs=("lif",)),
    )  # fmt: skip
    graph = Graph("g", nodes)
    assert compose.growth(graph, canonicalize(graph)).endswith("2000 weights instead of 180")
    monkeypatch.setattr(compose, "MOST_WEIGHTS", 1999)
    assert "a" in canonicalize(graph).by_name


def test_thousands_of_maps_in_a_row() -> None:
    nodes: list[Node] = [Input(name="x", shape=(2,))]
    for number in range(1200):
        nodes.append(Linear(name=f"m{number}", inputs=(nodes[-1].name,), weight=Param(np.eye(2))))
        if number % 5 == 0:
            nodes.append(Scale(name=f"s{number}", inputs=(nodes[-1].name,), scale=param(1.0)))
    nodes += [neurons("lif", nodes[-1].name, (2,)), Output(name="out", inputs=("lif",))]
    assert len(canonicalize(Graph("g", tuple(nodes))).nodes) == 4


@pytest.mark.parametrize("same_values", [True, False])
def test_weights_that_two_layers_share_are_stored_once(same_values: bool) -> None:
    """An array that two nodes have is one table in C, and counts once in the footprint."""
    from qspinn.backend import backends, default_plan
    from qspinn.calibrate import observe
    from qspinn.pipeline import build, lower
    from qspinn.validate import random_input

    rng = np.random.default_rng(3)
    first = dyadic(rng, 20, 20)
    second = first if same_values else dyadic(rng, 20, 20)
    graph = Graph("twins", (
        Input(name="x", shape=(20,)), Linear(name="a", inputs=("x",), weight=first),
        lif("l1", "a", 20), Linear(name="b", inputs=("l1",), weight=second), lif("l2", "b", 20),
        Output(name="out", inputs=("l2",)),
    ))  # fmt: skip
    mcu = backends()["mcu"]
    canonical = canonicalize(graph)
    seen = observe(canonical, np.asarray(random_input(canonical, 8, 16, seed=1)))
    plan = default_plan(mcu, canonical, seen)
    shared = replace(plan, scales={**plan.scales, "l2": plan.scales["l1"]})
    entries = {**shared.entries, "b.weight": shared.entries["a.weight"]}
    device = mcu.devices[mcu.default_device]
    done = build(lower(canonical, replace(shared, entries=entries), mcu), mcu, device)
    weights = done.footprint.of("weights")
    assert weights == (400 if same_values else 800)


def test_what_a_merge_costs_is_said(tmp_path: Any) -> None:
    import nirfiles as nf
    from qspinn.job import prepare

    rng = np.random.default_rng(4)
    nodes = {
        "input": nf.inlet(50), "a": nf.linear(rng.normal(size=(2, 50))),
        "b": nf.linear(rng.normal(size=(40, 2))), "lif": nf.lif(40), "output": nf.outlet(40),
    }  # fmt: skip
    job = prepare(nf.write(tmp_path / "low.nir", nodes), options={"dt": 1e-3})
    assert [n for n in job.notes if "weights" in n] == [
        "a had no neurons behind it and went into what follows: 2000 weights instead of 180"
    ]
