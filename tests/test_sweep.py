"""A sweep gives each graph exactly what `simulate` gives it alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from networks import random_network
from qspinn import interp
from qspinn.engine.events import Events
from qspinn.engine.sweep import Tally, fan_out, sweep
from qspinn.engine.tails import form_of, joined, tail_of
from qspinn.errors import QspinnError, VerifyError
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import (
    CONNECTIONS,
    Array,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.readout import Summary
from qspinn.signals import signals
from qspinn.simulate import simulate

Rng = np.random.Generator
ENGINES = ("numpy", pytest.param("numba", marks=pytest.mark.needs("numba")))
engines = pytest.mark.parametrize("engine", ENGINES)
numba = pytest.mark.needs("numba")
FIELDS = ("counts", "first", "last", "highest")


def param(values: Any, fmt: str, rounding: Rounding = Rounding.FLOOR) -> Param:
    return Param(np.asarray(values), QFormat.parse(fmt), rounding)


def linear(rng: Rng, name: str, source: str, shape: tuple[int, int], bits: int = 8,
           frac: int = 0, *, bias: bool = False) -> Linear:  # fmt: skip
    """Weights that fill their bits, some columns of them zero."""
    top = (1 << (bits - 1)) - 1
    w = rng.integers(-top // 2, top + 1, shape)
    w[:, rng.random(shape[1]) < 0.1] = 0
    b = param(rng.integers(-9, 10, shape[0]), f"s8f{frac + 1}") if bias else None
    return Linear(name=name, inputs=(source,), weight=param(w, f"s{bits}f{frac}"), bias=b)


def lif(
    name: str, source: str, n: int, *, fmt: str = "s16f2", theta: float = 60,
    rounding: Rounding = Rounding.FLOOR, decay: str = "u12f12", **model: Any,
) -> Neuron:  # fmt: skip
    v = QFormat.parse(fmt)
    made = spiking(**model)
    c = param(3 if decay.startswith("leak") else 3500, decay, rounding)
    values = {"threshold": param(min(int(theta * 2**v.frac), v.range.hi), fmt)}
    values |= {name: c for name in made.coefficients}
    zero = State(param(0, fmt), v, rounding)
    return Neuron(name=name, inputs=(source,), shape=(n,), model=made, values=values,
                  states={name: zero for name in made.states})  # fmt: skip


def spikes(rng: Rng, shape: tuple[int, ...], high: int = 1, rate: float = 0.25) -> Array:
    return (rng.random(shape) < rate) * rng.integers(1, high + 1, shape)


def chain(*nodes: Node, readout: str = "count") -> Graph:
    return Graph("net", (*nodes, Output(name="out", inputs=(nodes[-1].name,), readout=readout)))


def counted(graph: Graph, data: Array) -> tuple[dict[str, int], dict[str, int]]:
    """Spikes and operations, from the interpreter's edges: every node made an output."""
    edges = [n for n in graph.nodes if not isinstance(n, Output)]
    kept = [replace(graph.output, name=f"out.{n.name}", inputs=(n.name,)) for n in edges]
    seen = interp.run(replace(graph, nodes=(*edges, *kept)), data, record=()).outputs
    known = signals(graph)
    sent = {n.name: int((seen[f"out.{n.name}"] != 0).sum()) for n in graph.of_type(Neuron)
            if known[n.name].kind != "current"}  # fmt: skip
    added = {}
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            x = known[node.inputs[0]]
            fired = (seen[f"out.{node.inputs[0]}"] != 0).reshape(-1, x.size).sum(0)
            added[node.name] = int(fired @ reach(node, x.shape))
    return sent, added


def reach(node: Node, shape: tuple[int, ...]) -> Array:
    """Weights that an event adds, by looking where one arrives."""
    size = int(np.prod(shape))
    if isinstance(node, Linear):
        return (node.weight.values != 0).any(0) * len(node.weight.values)
    ones = {k: replace(p, values=np.ones_like(p.values)) for k, p in node.params().items()
            if k != "bias"}  # fmt: skip
    plain = node.with_params({**ones, **({"bias": None} if hasattr(node, "bias") else {})})  # type: ignore[dict-item]
    single = np.eye(size, dtype=np.int64).reshape(size, *shape)
    return interp.apply(plain, single, signal_of(shape)).reshape(size, -1).sum(1)


def signal_of(shape: tuple[int, ...]) -> Any:
    from qspinn.signals import Signal

    return Signal(shape, "spike")


def check(graphs: Sequence[Graph], data: Array, engine: str = "numba", **options: Any) -> None:
    steps = options.get("steps") or data.shape[1]
    for form in (data, Events.from_dense(data)):
        tallies = sweep(graphs, form, engine=engine, operations=True, **options)
        assert len(tallies) == len(graphs)
        for graph, tally in zip(graphs, tallies, strict=True):
            want = simulate(graph, data[:, :steps], engine=engine, threads=1).summary
            same(tally, want)
            sent, added = counted(graph, data[:, :steps])
            assert tally.spikes == sent
            assert tally.operations == added


def same(tally: Tally, want: Summary | None) -> None:
    assert want is not None
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(tally.summary, name), getattr(want, name), name)


# --- graphs that share nodes ---


def layers(rng: Rng, sizes: tuple[int, ...], each: int) -> list[list[tuple[Node, Node]]]:
    """For each layer, some variants of it."""
    found = []
    for depth in range(1, len(sizes)):
        shape = (sizes[depth], sizes[depth - 1])
        found.append([
            (
                linear(rng, f"fc{depth}", f"lif{depth - 1}" if depth > 1 else "x", shape, bits),
                lif(f"lif{depth}", f"fc{depth}", shape[0], theta=2 ** (bits - 1) * 1.2,
                    rounding=list(Rounding)[i % 5], decay="leak3" if i % 2 else "u12f12"),
            )
            for i, bits in enumerate(rng.integers(3, 9, each).tolist())
        ])  # fmt: skip
    return found


def all_of(x: Input, variants: list[list[tuple[Node, Node]]]) -> list[Graph]:
    return [chain(x, *(node for layer in taken for node in layer)) for taken in product(*variants)]


@engines
def test_layers_of_a_search(engine: str, rng: Rng) -> None:
    x = Input(name="x", shape=(20,))
    graphs = all_of(x, layers(rng, (20, 33, 12, 5), 3))
    shuffled = [graphs[i] for i in rng.permutation(len(graphs))]
    check([*shuffled, shuffled[4]], spikes(rng, (7, 9, 20)), engine)


@numba
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_chunks(threads: int, rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    from qspinn.engine import trie

    graphs = all_of(Input(name="x", shape=(20,)), layers(rng, (20, 18, 4), 3))
    data = spikes(rng, (11, 6, 20))
    for tall in (1, 4, 100):
        monkeypatch.setattr(trie, "height", lambda *_, tall=tall: tall)
        done: list[int] = []
        check(graphs, data, threads=threads)
        sweep(graphs, data, threads=threads, progress=done.append)
        assert sum(done) == len(graphs) * len(data)


@engines
def test_fewer_steps(engine: str, rng: Rng) -> None:
    graphs = all_of(Input(name="x", shape=(20,)), layers(rng, (20, 18, 4), 2))
    check(graphs, spikes(rng, (4, 9, 20)), engine, steps=5)


@numba
def test_a_summary_is_read_and_dropped(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    from qspinn.engine import trie

    monkeypatch.setattr(trie, "height", lambda *_: 4)
    graphs = all_of(Input(name="x", shape=(20,)), layers(rng, (20, 18, 4), 3))
    data, labels = spikes(rng, (11, 6, 20)), rng.integers(0, 4, 11)
    whole = sweep(graphs, data, threads=1)
    for engine in ("numba", "numpy"):
        read = sweep(graphs, data, threads=2, engine=engine,
                     read=lambda s, where: s.counts.argmax(1) == labels[where])  # fmt: skip
        for one, other in zip(whole, read, strict=True):
            assert other.summary.counts.shape == (0, 4)
            assert other.read is not None
            np.testing.assert_array_equal(other.read, one.summary.counts.argmax(1) == labels)
    views = sweep(graphs, data, threads=1, read=lambda s, where: s.highest)
    for one, other in zip(whole, views, strict=True):
        np.testing.assert_array_equal(other.read, one.summary.highest)


@engines
def test_convolutions_skips_pools_and_delays(engine: str, rng: Rng) -> None:
    x = Input(name="x", shape=(2, 6, 6))

    def conv(most: int) -> Conv2d:
        w = param(rng.integers(-most, most + 1, (4, 2, 3, 3)), "s8f0")
        return Conv2d(name="conv", inputs=("x",), weight=w, padding=(1, 1))

    def body(first: Node, theta: int, steps: int, last: Node) -> Graph:
        neurons = replace(lif("lif", "conv", 1, theta=theta), shape=(4, 6, 6))
        return chain(
            x, first, neurons,
            SumPool2d(name="pool", inputs=("lif",), kernel=(2, 2), stride=(2, 2)),
            Flatten(name="flat", inputs=("pool",)),
            Delay(name="late", inputs=("flat",), shape=(36,), steps=steps, kind="count", high=4),
            last, replace(lif("top", "fc", 5, theta=90), inputs=("fc", "skip")),
            linear(np.random.default_rng(1), "never", "top", (3, 5)), lif("end", "never", 3),
        )  # fmt: skip

    skip = linear(rng, "skip", "x", (5, 72), 4)
    nodes = [[conv(20), conv(60)], [30, 80], [1, 3], [linear(rng, "fc", "late", (5, 36), b)
                                                     for b in (4, 7)]]  # fmt: skip
    graphs = []
    for first, theta, steps, last in product(*nodes):
        graph = body(first, theta, steps, last)  # type: ignore[arg-type]
        at = [n.name for n in graph.nodes].index("top")
        graphs.append(replace(graph, nodes=(*graph.nodes[:at], skip, *graph.nodes[at:])))
    check(graphs, spikes(rng, (3, 8, 2, 6, 6)), engine)


@engines
@pytest.mark.parametrize("profile", ["any", "loihi"])
def test_random_networks(profile: str, engine: str) -> None:
    """Whatever a graph is made of, changed in one place after another."""
    rng = np.random.default_rng(5)
    for seed in range(300, 312):
        graph, data = random_network(seed, profile=profile)
        if len(graph.of_type(Output)) > 1:
            continue
        graphs = [graph]
        for node in graph.of_type(Neuron):
            if "threshold" in node.values:
                theta = node.values["threshold"]
                raised = replace(theta, values=np.minimum(theta.values + rng.integers(0, 3), 7))
                graphs.append(graph.map(
                    lambda n, node=node, raised=raised:  # type: ignore[misc]
                    n.with_params({"threshold": raised}) if n is node else n
                ))  # fmt: skip
        check(graphs, data, engine, threads=1)


@engines
def test_other_ends(engine: str, rng: Rng) -> None:
    """Graphs whose summary is not the sum of their last neurons, and one inside another."""
    x = Input(name="x", shape=(1, 4, 4))
    fc = linear(rng, "fc", "x", (16, 16))
    top = lif("lif", "fc", 16, theta=100)
    image = replace(top, shape=(1, 4, 4))
    w = param(rng.integers(-50, 60, (1, 1, 3, 3)), "s8f0")
    conv = Conv2d(name="fc", inputs=("x",), weight=w, padding=(1, 1))
    pool = MaxPool2d(name="pool", inputs=("lif",), kernel=(2, 2), stride=(2, 2))
    graded = integrator()
    values = {"decay": param(3000, "u12f12")}
    read = Neuron(name="lif", inputs=("fc",), shape=(16,), model=graded, values=values,
                  states={"v": State(param(0, "s16f1"), QFormat.parse("s16f1"))})  # fmt: skip
    several = lif("lif", "fc", 16, theta=40, max_spikes=3, reset="subtract")
    last = linear(rng, "end", "lif", (3, 16))
    graphs = [
        chain(x, fc, top), chain(x, fc, top, last, lif("end2", "end", 3)), chain(x, fc, top),
        chain(x, conv, image, pool), chain(x, fc, read, readout="membrane_max"),
        chain(x, fc, several), chain(x, fc, readout="membrane_last"),
        chain(x, fc, top, Delay(name="late", inputs=("lif",), shape=(16,), steps=2)),
        chain(x, fc, top, last, lif("end2", "end", 3, theta=20)),
    ]  # fmt: skip
    check(graphs, spikes(rng, (3, 7, 1, 4, 4)), engine)


@engines
def test_cycles_run_alone(engine: str, rng: Rng) -> None:
    n = 12
    graphs = [
        chain(
            Input(name="x", shape=(n,)),
            Delay(name="back", inputs=("lif",), shape=(n,), steps=steps),
            linear(rng, "fc", "x", (n, n)), linear(rng, "rec", "back", (n, n)),
            replace(lif("lif", "fc", n), inputs=("fc", "rec")),
        )
        for steps in (1, 3)
    ]  # fmt: skip
    plain = chain(graphs[0].input, linear(rng, "fc", "x", (4, n)), lif("lif", "fc", 4))
    check([graphs[0], plain, graphs[1]], spikes(rng, (3, 9, n)), engine)


@engines
def test_the_same_values_in_every_step(engine: str, rng: Rng) -> None:
    """What is directly encoded is multiplied once a sample."""
    x = Input(name="x", shape=(20,), kind="current", fmt=QFormat.parse("u8f8"))
    graphs = [
        chain(x, linear(rng, "fc", "x", (30, 20), 8), lif("lif", "fc", 30, fmt="s24f8"),
              linear(rng, "top", "lif", (4, 30)), lif("end", "top", 4, theta=theta))
        for theta in (30, 90)
    ]  # fmt: skip
    data = np.repeat(rng.integers(0, 256, (9, 1, 20)), 6, axis=1)
    assert Events.from_dense(data).constant
    check(graphs, data, engine)
    data[4, 3, 2] ^= 1
    assert not Events.from_dense(data).constant
    check(graphs, data, engine)


# --- last layers side by side ---

VARIANTS = [
    dict(bits=8, fmt="s16f1"), dict(bits=4, fmt="s16f5"), dict(bits=3, fmt="s16f6"),
    dict(bits=6, fmt="s16f3", bias=True), dict(bits=6, fmt="s16f3", theta=9),
    dict(bits=8, fmt="s16f1", decay="leak4"), dict(bits=5, fmt="s16f4", decay="leak4"),
    dict(bits=8, fmt="s12f1"), dict(bits=8, fmt="s16f1", rounding=Rounding.NEAREST_EVEN),
]  # fmt: skip


def tail_graphs(
    rng: Rng, variants: Sequence[dict[str, Any]], n: int = 5, **model: Any
) -> list[Graph]:
    x = Input(name="x", shape=(20,))
    above = (linear(rng, "fc1", "x", (40, 20)), lif("lif1", "fc1", 40))
    graphs = []
    for v in variants:
        bits, fmt = v["bits"], v["fmt"]
        theta = v.get("theta", 1.3) * 2 ** (bits - 1)
        last = linear(rng, "fc2", "lif1", (n, 40), bits, bias=v.get("bias", False))
        options = {k: v[k] for k in ("decay", "rounding") if k in v}
        graphs.append(chain(x, *above, last, lif("lif2", "fc2", n, fmt=fmt, theta=theta,
                                                 **options, **model)))  # fmt: skip
    return graphs


@numba
@pytest.mark.parametrize(
    "model",
    [{}, {"synapse": "new"}, {"reset": "subtract", "compare": ">="},
     {"timing": "next_after_decay", "reset": "subtract"},
     {"max_spikes": 3, "reset": "subtract"}],
    ids=str,
)  # fmt: skip
def test_tails_are_joined(model: dict[str, Any], rng: Rng) -> None:
    from qspinn.engine.trie import Trie

    graphs = tail_graphs(rng, VARIANTS, **model)
    if "timing" in model:
        fired = State(param(0, "u1f0"), QFormat.parse("u1f0"))
        graphs = [g.map(lambda n: replace(n, states={**n.states, "fired": fired})  # type: ignore
                        if isinstance(n, Neuron) and "fired" in n.states else n)
                  for g in graphs]  # fmt: skip
    trie = Trie(graphs, 9, operations=False)
    sizes = sorted(len(leaf.members) for leaf in trie.leaves)
    assert sizes == [1, 1, 2, 5]
    check(graphs, spikes(rng, (8, 9, 20), rate=0.4), threads=1)


@numba
def test_what_is_not_joined(rng: Rng) -> None:
    """Draws, roundings at the current's own point, and layers that are no last ones."""
    from qspinn.engine.trie import Trie

    for options in ({"rounding": Rounding.STOCHASTIC}, {}):
        graphs = tail_graphs(rng, [dict(bits=8, fmt="s16f1", **options)] * 2)
        sizes = [len(leaf.members) for leaf in Trie(graphs, 9, operations=False).leaves]
        assert sizes == ([1, 1] if options else [2])
        check(graphs, spikes(rng, (8, 9, 20), rate=0.4), threads=1)
    wide = tail_graphs(rng, [dict(bits=8, fmt="s16f1")] * 3, n=40)
    assert len(Trie(wide, 9, operations=False).leaves) == 3


def test_a_joined_tail_computes_what_its_parts_do(rng: Rng) -> None:
    """Every state of every neuron in every step, from the interpreter."""
    graphs = tail_graphs(rng, VARIANTS[:5])
    tails = [tail_of(graph) for graph in graphs]
    forms = [form_of(tail, 0) for tail in tails if tail]
    assert len({form.key for form in forms if form}) == 1
    joint = joined([t for t in tails if t], [f for f in forms if f], 0)
    assert joint is not None
    wide = replace(graphs[0], nodes=(*graphs[0].nodes[:3], *joint.nodes))
    data = spikes(rng, (6, 12, 20), rate=0.4)
    got = interp.run(wide, data)
    for i, graph in enumerate(graphs):
        want, own = interp.run(graph, data), slice(5 * i, 5 * i + 5)
        np.testing.assert_array_equal(got.output[..., own], want.output)
        np.testing.assert_array_equal(got.states["lif2.v"][..., own], want.states["lif2.v"])


@numba
def test_random_tails(rng: Rng) -> None:
    from qspinn.engine.trie import Trie

    def pick(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    roundings = (Rounding.FLOOR, Rounding.NEAREST_AWAY, Rounding.ZERO)
    for _ in range(6):
        model = {"synapse": pick("", "new", "old"), "reset": pick("zero", "subtract")}
        some = [
            dict(
                bits=bits, fmt=f"s{pick(12, 16)}f{10 - bits + pick(0, 1)}",
                decay=pick("leak3", "u12f12"), theta=pick(0.5, 1.2, 3), rounding=pick(*roundings),
            )
            for bits in rng.integers(2, 10, 14).tolist()
        ]  # fmt: skip
        graphs = tail_graphs(rng, some, n=3, **model)
        assert len(Trie(graphs, 8, operations=False).leaves) < len(graphs)
        check(graphs, spikes(rng, (4, 8, 20), rate=0.4), threads=1)


def test_without_numba() -> None:
    """A search and its command need none of it; it is what an extra installs."""
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "import qspinn.explore.explorer, qspinn.explore.store, qspinn.cli.search, qspinn.simulate\n"
        "assert qspinn.simulate.engine_of('auto') == 'numpy'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# --- what is refused ---


@engines
def test_refusals(engine: str, rng: Rng) -> None:
    data = spikes(rng, (3, 4, 20))
    graph = all_of(Input(name="x", shape=(20,)), layers(rng, (20, 4), 1))[0]
    real = Linear(name="fc1", inputs=("x",), weight=Param(np.ones((4, 20))))
    assert sweep([], data, engine=engine) == []
    assert len(sweep([graph], data[:0], engine=engine)[0].summary.counts) == 0
    with pytest.raises(QspinnError, match="5 steps are asked for, the data have 4"):
        sweep([graph], data, engine=engine, steps=5)
    with pytest.raises(QspinnError, match="not quantized"):
        sweep([graph, chain(graph.input, real, readout="membrane_last")], data, engine=engine)
    with pytest.raises(QspinnError, match="are not"):
        sweep([graph], data[..., :19], engine=engine)
    with pytest.raises(QspinnError, match="outside"):
        sweep([graph], data * 2, engine=engine)
    late = chain(graph.input, graph.nodes[2], graph.nodes[1])
    with pytest.raises(VerifyError, match="before it is computed"):
        sweep([graph, late], data, engine=engine)
    narrow = replace(graph.nodes[1], weight=param(np.ones((4, 19)), "s8f0"))
    with pytest.raises(VerifyError, match="does not fit"):
        sweep([graph, chain(graph.input, narrow, graph.nodes[2])], data, engine=engine)
    twice = chain(graph.nodes[2], graph.nodes[1], graph.nodes[2])
    for _ in range(2):  # what was refused is not taken for known
        with pytest.raises(VerifyError):
            sweep([graph, twice], data, engine=engine)
    two = replace(graph, nodes=(*graph.nodes, replace(graph.output, name="again")))
    for one, both in zip(*(sweep([g], data, engine=engine) for g in (graph, two)), strict=True):
        assert np.array_equal(one.summary.counts, both.summary.counts)


def test_fan_out_of_a_convolution_counts_what_the_border_cuts() -> None:
    conv = Conv2d(
        name="c", inputs=("x",), weight=param(np.ones((3, 1, 3, 3)), "s8f0"), padding=(1, 1)
    )
    graph = chain(Input(name="x", shape=(1, 4, 4)), conv, readout="membrane_last")
    known = signals(graph)
    fan = fan_out(conv, known["x"], known["c"]).reshape(4, 4)
    assert fan[0].tolist() == [12, 18, 18, 12]
    assert fan[1].tolist() == [18, 27, 27, 18]
