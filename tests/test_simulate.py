"""The fast simulator equals the interpreter: every node, both engines, any threads and chunks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qspinn import interp
from qspinn import simulate as simulator
from qspinn.engine.layout import Runs, table
from qspinn.errors import QspinnError, VerifyError
from qspinn.fixed import Interval, Overflow, QFormat, Rounding
from qspinn.ir import (
    Array,
    Conv1d,
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
    Scale,
    Shape,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.readout import summarize
from qspinn.signals import Signal, infer
from qspinn.simulate import Events, simulate

ENGINES = ("numpy", pytest.param("numba", marks=pytest.mark.needs("numba")))
engines = pytest.mark.parametrize("engine", ENGINES)
STATE, DECAY = "s16f2", "u12f12"


def param(values: Any, fmt: str, rounding: Rounding = Rounding.FLOOR) -> Param:
    return Param(np.asarray(values), QFormat.parse(fmt), rounding)


def weights(rng: np.random.Generator, shape: Shape, fmt: str = "s8f0", most: int = 60) -> Param:
    return param(rng.integers(-most // 2, most + 1, shape), fmt)


def lif(name: str, source: str, shape: Shape, theta: int = 300, **changed: Any) -> Neuron:
    """One program for every network here, so that it is compiled once."""
    values = {"decay": param(3500, DECAY), "threshold": param(theta, STATE)}
    states = {"v": State(param(0, STATE), QFormat.parse(STATE), Rounding.NEAREST_EVEN)}
    return Neuron(name=name, inputs=(source,), shape=shape, model=spiking(),
                  values=values, states=states, **changed)  # fmt: skip


def network(*nodes: Node, readout: str = "count") -> Graph:
    last = nodes[-1].name
    return Graph("net", (*nodes, Output(name="out", inputs=(last,), readout=readout)))


def mlp(rng: np.random.Generator, *sizes: int, theta: int = 300) -> Graph:
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        w = weights(rng, (n_out, n_in))
        nodes.append(Linear(name=f"fc{i}", inputs=(nodes[-1].name,), weight=w))
        nodes.append(lif(f"lif{i}", f"fc{i}", (n_out,), theta))
    return network(*nodes)


def spikes(rng: np.random.Generator, shape: Shape, high: int = 1, rate: float = 0.3) -> Array:
    return (rng.random(shape) < rate) * rng.integers(1, high + 1, shape)


def check(graph: Graph, data: Array, engine: str, *, threads: int = 1) -> interp.Trace:
    """Dense data and events give the trace and the summary of the interpreter."""
    want = interp.run(graph, data)
    summary = summarize(graph, want)
    for form in (data, Events.from_dense(data)):
        got = simulate(graph, form, engine=engine, record="trace", threads=threads)
        assert got.trace is not None
        for held, expected in ((got.trace.states, want.states), (got.trace.outputs, want.outputs)):
            assert held.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_array_equal(held[name], value, err_msg=name)
        alone = simulate(graph, form, engine=engine, threads=threads)
        assert alone.trace is None
        for field in ("counts", "first", "last", "highest"):
            for found in (got.summary, alone.summary):
                np.testing.assert_array_equal(
                    getattr(found, field), getattr(summary, field), err_msg=field
                )
    return want


# --- connections and edges ---

CONV = {
    "plain": {},
    "padded": {"padding": (1, 1)},
    "stride": {"stride": (2, 2), "padding": (1, 0)},
    "stride 3": {"stride": (3, 1)},
    "dilation": {"dilation": (2, 1), "padding": (2, 1)},
    "both": {"stride": (2, 2), "dilation": (2, 2), "padding": (2, 2)},
    "prime": {"stride": (2, 2), "dilation": (3, 3), "padding": (3, 3)},
    "groups": {"groups": 2, "padding": (1, 1)},
    "depthwise": {"groups": 4},
}


@engines
@pytest.mark.parametrize("options", CONV.values(), ids=CONV)
def test_conv2d(options: dict[str, Any], engine: str, rng: np.random.Generator) -> None:
    w = weights(rng, (8, 4 // options.get("groups", 1), 3, 3))
    bias = param(rng.integers(-40, 40, 8), "s8f0")
    x = Input(name="x", shape=(4, 9, 8))
    conv = Conv2d(name="conv", inputs=("x",), weight=w, bias=bias, **options)
    shape = conv_shape(x, conv)
    # Behind it, every reader of an edge whose lanes are not in the order of its elements.
    pool = SumPool2d(name="pool", inputs=("lif",), kernel=(2, 1), stride=(2, 1), padding=(1, 0))
    graph = network(
        x, conv, lif("lif", "conv", shape, 200), pool,
        Conv2d(name="next", inputs=("pool",), weight=weights(rng, (3, 8, 1, 2))),
        lif("top", "next", conv_shape(x, conv, pool, 3, (1, 2)), 200),
    )  # fmt: skip
    check(graph, spikes(rng, (3, 6, 4, 9, 8)), engine)


def conv_shape(*chain: Any) -> Shape:
    """The shape that the reference gives after the nodes, and an unpadded kernel at the end."""
    x, conv, *rest = chain
    y = interp.apply(conv, np.zeros((1, *x.shape), np.int64), Signal(x.shape, "spike"))
    if rest:
        pool, channels, kernel = rest
        y = interp.apply(pool, y, Signal(y.shape[1:], "spike"))
        return (channels, y.shape[2] - kernel[0] + 1, y.shape[3] - kernel[1] + 1)
    return y.shape[1:]


@engines
def test_conv1d_flatten_and_linear(engine: str, rng: np.random.Generator) -> None:
    conv = Conv1d(name="conv", inputs=("x",), weight=weights(rng, (6, 1, 4)), stride=2,
                  padding=2, dilation=2, groups=2)  # fmt: skip
    x = Input(name="x", shape=(2, 17))
    shape = conv_shape(x, conv)
    graph = network(
        x, conv, lif("lif", "conv", shape),
        Flatten(name="flat", inputs=("lif",)),
        Linear(name="fc", inputs=("flat",), weight=weights(rng, (70, int(np.prod(shape))))),
        lif("top", "fc", (70,)),
    )  # fmt: skip
    check(graph, spikes(rng, (3, 7, 2, 17)), engine)


@engines
@pytest.mark.parametrize("kind", [SumPool2d, MaxPool2d])
def test_pools_of_counts(kind: Any, engine: str, rng: np.random.Generator) -> None:
    first = kind(name="first", inputs=("x",), kernel=(3, 2), stride=(2, 1), padding=(1, 1))
    second = MaxPool2d(name="second", inputs=("first",), kernel=(2, 2), stride=(2, 2))
    graph = network(
        Input(name="x", shape=(2, 6, 7), kind="count", high=9), first, second,
        Linear(name="fc", inputs=("second",), weight=weights(rng, (3, 2 * 4))),
        readout="membrane_max",
    )  # fmt: skip
    check(graph, spikes(rng, (2, 4, 2, 6, 7), high=9), engine)


@engines
def test_a_pool_of_currents(engine: str, rng: np.random.Generator) -> None:
    graph = network(
        Input(name="x", shape=(2, 6, 6), kind="current", fmt=QFormat.parse("s9f3")),
        SumPool2d(name="pool", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        lif("lif", "pool", (2, 3, 3), 900),
    )
    check(graph, rng.integers(-256, 256, (2, 6, 2, 6, 6)), engine)


@engines
def test_scale_and_two_currents(engine: str, rng: np.random.Generator) -> None:
    """Currents with different binary points, one of them with its lanes in another order."""
    x = Input(name="x", shape=(3, 5, 5))
    neurons = lif("lif", "conv", (3, 5, 5))
    graph = network(
        x,
        Scale(name="scale", inputs=("x",), scale=weights(rng, (3, 1, 1), "s8f2")),
        Conv2d(name="conv", inputs=("x",), weight=weights(rng, (3, 3, 3, 3)), padding=(1, 1)),
        replace(neurons, inputs=("conv", "scale")),
        replace(neurons, name="other", inputs=("scale", "conv", "conv")),
        Flatten(name="flat", inputs=("other",), start=1),
        Scale(name="last", inputs=("flat",), scale=weights(rng, (3, 25))),
        readout="membrane_last",
    )
    check(graph, spikes(rng, (2, 6, 3, 5, 5)), engine)


@engines
@pytest.mark.parametrize(("w", "high"), [("s8f5", 7), ("s16f0", 200), ("s32f0", 255)])
def test_wide_weights_and_sums(w: str, high: int, engine: str, rng: np.random.Generator) -> None:
    span = QFormat.parse(w).range
    values = param(rng.integers(span.lo, span.hi + 1, (5, 30)), w)
    graph = network(
        Input(name="x", shape=(30,), kind="count", high=high),
        Linear(name="fc", inputs=("x",), weight=values, bias=param([3, -9, 0, 1, 2], "s8f3")),
        readout="membrane_max",
    )
    check(graph, spikes(rng, (3, 4, 30), high), engine)


@engines
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_delay_and_a_cycle(steps: int, engine: str, rng: np.random.Generator) -> None:
    n = 12
    graph = network(
        Input(name="x", shape=(n,)),
        Delay(name="late", inputs=("x",), shape=(n,), steps=steps),
        Delay(name="back", inputs=("lif",), shape=(n,), steps=steps),
        Linear(name="fc", inputs=("late",), weight=weights(rng, (n, n))),
        Linear(name="rec", inputs=("back",), weight=weights(rng, (n, n))),
        replace(lif("lif", "fc", (n,)), inputs=("fc", "rec")),
    )
    check(graph, spikes(rng, (3, 15, n)), engine)


@engines
def test_the_input_may_be_the_output(engine: str, rng: np.random.Generator) -> None:
    graph = replace(mlp(rng, 7, 3), nodes=())
    graph = replace(
        graph,
        nodes=(
            Input(name="x", shape=(7,), kind="count", high=5),
            Delay(name="late", inputs=("x",), shape=(7,), steps=2, kind="count", high=5),
            Linear(name="fc", inputs=("late",), weight=weights(rng, (2, 7))),
            Output(name="copy", inputs=("x",)),
            Output(name="delayed", inputs=("late",)),
        ),
    )
    data = spikes(rng, (2, 5, 7), high=5)
    want = interp.run(graph, data)
    for form in (data, Events.from_dense(data)):
        got = simulate(graph, form, engine=engine, record="outputs", threads=1)
        np.testing.assert_array_equal(got.summary.counts, data.sum(1))
        assert got.trace is not None
        for name, value in want.outputs.items():
            np.testing.assert_array_equal(got.trace.outputs[name], value)


@pytest.mark.parametrize(("stride", "dilation", "most"), [(1, 1, 15), (2, 1, 10), (2, 2, 15)])
def test_an_event_adds_to_long_runs(stride: int, dilation: int, most: int) -> None:
    """Places that one tap after the other reaches are added to at once."""
    w = param(np.ones((5, 2, 3, 3)), "s8f0")
    conv = Conv2d(name="conv", inputs=("x",), weight=w, stride=(stride, stride),
                  dilation=(dilation, dilation))  # fmt: skip
    x = Signal((2, 12, 12), "spike", Interval(0, 1))
    body = table(conv, x, infer(conv, (x,)), None).body
    assert isinstance(body, Runs)
    assert body.length.max() == most


# --- neurons ---

MODELS = {
    "subtract": {"reset": "subtract", "compare": ">="},
    "value": {"reset": "value", "clamp": True, "bias": True},
    "late": {"synapse": "new", "timing": "next_after_decay", "reset": "subtract"},
    "discard": {"synapse": "old", "timing": "next_discard"},
    "refractory": {"refractory": True, "leak": False},
    "several": {"max_spikes": 7, "reset": "subtract", "synapse": "new"},
}
ROUNDED = list(zip(MODELS, [*Rounding, Rounding.ZERO], strict=True))
VALUES: dict[str, tuple[int, str]] = {
    "threshold": (300, "s16f2"), "v_reset": (-20, "s12f2"), "v_min": (-200, "s12f2"),
    "bias": (9, "s8f2"), "refractory": (2, "u3f0"), "decay": (3600, DECAY),
    "current_decay": (2, "leak3"),
}  # fmt: skip


def neuron(model: Any, n: int, rounding: Rounding, fmt: str, overflow: Overflow,
           rng: np.random.Generator, *, each: bool) -> Neuron:  # fmt: skip
    """Neurons of a model, with a parameter of their own each or one for all."""
    values = {}
    for name in model.params:
        middle, own = VALUES[name]
        spread = max(abs(middle) // 4, 1) if each else 0
        values[name] = param(middle + rng.integers(-spread, 1, n if each else ()), own, rounding)
    formats = {"fired": "u1f0", "wait": "u3f0"}
    states = {
        name: State(param(0, f := formats.get(name, fmt)), QFormat.parse(f), rounding, overflow)
        for name in model.states
    }
    return Neuron(name="n", inputs=("fc",), shape=(n,), model=model, values=values, states=states)


def layer(rng: np.random.Generator, neurons: Neuron) -> Graph:
    w = param(rng.integers(-55, 61, (*neurons.shape, 40)), "s8f1")
    kind = neurons.model.sends
    return network(
        Input(name="x", shape=(40,)),
        Linear(name="fc", inputs=("x",), weight=w),
        neurons,
        readout="membrane_max" if kind == "current" else "count",
    )


@engines
@pytest.mark.parametrize(("name", "rounding"), ROUNDED)
def test_models(name: str, rounding: Rounding, engine: str, rng: np.random.Generator) -> None:
    model = spiking(**MODELS[name])
    neurons = neuron(model, 70, rounding, "s16f2", Overflow.SATURATE, rng, each=True)
    want = check(layer(rng, neurons), spikes(rng, (3, 20, 40)), engine)
    assert 0.02 < (want.output > 0).mean() < 0.9


@engines
@pytest.mark.parametrize("fmt", ["s10f3", "s24f6[-8388607,8388608]", "u32f4"])
def test_a_graded_neuron_that_leaves_its_range(
    fmt: str, engine: str, rng: np.random.Generator
) -> None:
    overflow = Overflow.WRAP if "[" in fmt or fmt == "s10f3" else Overflow.SATURATE
    model = integrator(synapse="new")
    neurons = neuron(model, 9, Rounding.STOCHASTIC, fmt, overflow, rng, each=False)
    check(layer(rng, neurons), spikes(rng, (2, 30, 40), rate=0.6), engine)


@engines
def test_stochastic_rounding_follows_the_elements(engine: str, rng: np.random.Generator) -> None:
    """Noise belongs to an element, not to the lane it happens to lie in."""
    neurons = lif("lif", "conv", (5, 4, 4), 200)
    decay = replace(neurons.values["decay"], rounding=Rounding.STOCHASTIC)
    graph = network(
        Input(name="x", shape=(2, 4, 4)),
        Conv2d(name="conv", inputs=("x",), weight=weights(rng, (5, 2, 3, 3)), padding=(1, 1)),
        replace(neurons, values={**neurons.values, "decay": decay}),
    )
    check(graph, spikes(rng, (2, 12, 2, 4, 4)), engine)


# --- batches, threads, chunks, blocks ---


@engines
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_chunks_blocks_and_threads(
    threads: int, engine: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any cut into chunks of samples and blocks of steps gives the same bits."""
    graph, data = mlp(rng, 20, 30, 5), spikes(rng, (11, 13, 20))
    late = Delay(name="late", inputs=("x",), shape=(20,), steps=4)
    delayed = replace(graph["fc0"], inputs=("late",))
    graph = replace(graph, nodes=(graph.nodes[0], late, delayed, *graph.nodes[2:]))
    for sizes in ((1, 1), (4, 3), (5, 11), (13, 4)):
        monkeypatch.setattr(simulator._Job, "sizes", lambda *_, sizes=sizes: sizes)
        done: list[int] = []
        check(graph, data, engine, threads=threads)
        result = simulate(graph, data, threads=threads, engine=engine, progress=done.append)
        assert sum(done) == len(data)
        assert len(done) == -(-len(data) // sizes[1])
        assert result.trace is None


@engines
def test_long_runs_are_cut(
    engine: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, data = mlp(rng, 20, 5), spikes(rng, (6, 13, 20))
    monkeypatch.setattr(simulator, "_BLOCK", 1)
    job = simulator._Job(simulator._network(graph, engine), data, "summary")
    assert job.sizes(threads=2) == (1, 3)
    check(graph, data, engine)


@engines
def test_few_and_no_samples(engine: str, rng: np.random.Generator) -> None:
    graph = mlp(rng, 20, 30, 5)
    check(graph, spikes(rng, (1, 1, 20)), engine, threads=4)
    check(graph, np.zeros((3, 4, 20), np.int64), engine)
    empty = simulate(graph, np.zeros((0, 4, 20), np.int64), engine=engine, record="trace")
    assert empty.summary is not None
    assert empty.summary.counts.shape == (0, 5)
    assert empty.trace is not None
    assert empty.trace.states["lif0.v"].shape == (0, 4, 30)


@engines
def test_any_integer_type_of_data(engine: str, rng: np.random.Generator) -> None:
    graph = mlp(rng, 20, 5)
    data = spikes(rng, (2, 6, 20))
    want = interp.run(graph, data).output.sum(1)
    for dtype in (np.bool_, np.uint8, np.int8, np.uint64):
        result = simulate(graph, np.asfortranarray(data.astype(dtype)), engine=engine)
        assert result.summary is not None
        np.testing.assert_array_equal(result.summary.counts, want)


def test_auto_takes_an_engine(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = mlp(rng, 20, 5), spikes(rng, (2, 6, 20))
    monkeypatch.setattr(simulator, "find_spec", lambda name: None)
    check(graph, data, "auto")
    with pytest.raises(QspinnError, match="numba is not installed"):
        simulate(graph, data, engine="numba")


def test_numba_waits_until_it_is_needed() -> None:
    code = "import sys, qspinn.simulate; sys.exit('numba' in sys.modules)"
    subprocess.run((sys.executable, "-c", code), check=True)


# --- events ---


def test_events_are_the_data(rng: np.random.Generator) -> None:
    for high in (1, 200, 1 << 40):
        data = spikes(rng, (5, 3, 4, 6), high)
        data[2] = 0
        events = Events.from_dense(data)
        assert (len(events), events.steps, events.shape) == (5, 3, (4, 6))
        assert (events.values is None) == (high == 1)
        np.testing.assert_array_equal(events.to_dense(), data)
        chosen = np.array([3, 0, 2, 3])
        np.testing.assert_array_equal(events.take(chosen).to_dense(), data[chosen])
    assert len(events.take(np.zeros(0, np.int64))) == 0


def test_events_of_a_wide_signal(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qspinn.engine.events._SLICE", 1 << 18)
    data = spikes(rng, (2, 3, 70_000), rate=0.01)
    events = Events.from_dense(data)
    assert events.index.dtype == np.uint32
    np.testing.assert_array_equal(events.to_dense(), data)


BAD_EVENTS: dict[str, dict[str, Any]] = {
    "no multiple": {"offsets": [0, 1, 2, 3]},
    "offsets do not rise": {"offsets": [0, 2, 1, 2, 3]},
    "the 3 events": {"offsets": [0, 1, 1, 2, 2]},
    "the signal has 4": {"index": [0, 4, 2]},
    "at -1": {"index": [0, -1, 2]},
    "ascending order": {"index": [0, 2, 2]},
    "do not fit": {"values": np.array([1, 2])},
    "value 0": {"values": np.array([1, 0, 3])},
}


@pytest.mark.parametrize(("message", "changed"), BAD_EVENTS.items(), ids=BAD_EVENTS)
def test_events_that_contradict_themselves(message: str, changed: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "shape": (4,),
        "steps": 2,
        "offsets": [0, 1, 1, 3, 3],
        "index": [2, 0, 3],
    }
    Events(**{k: np.array(v) if isinstance(v, list) else v for k, v in good.items()})
    bad = {**good, **changed}
    with pytest.raises(QspinnError, match=message):
        Events(**{k: np.array(v) if isinstance(v, list) else v for k, v in bad.items()})


BAD_DATA: dict[str, Callable[[Array], Any]] = {
    r"not \(samples, steps, \*\(20,\)\)": lambda x: x[..., :19],
    "are not": lambda x: x[0, 0],
    "takes integers": lambda x: x.astype(np.float32),
    "from 0 to 3, outside": lambda x: x * 3,
    "from -1 to": lambda x: -x,
    "from 2 to 2, outside": lambda x: Events.from_dense(x * 2),
    r"\(2, 0, 20\)": lambda x: x[:, :0],
}


@engines
@pytest.mark.parametrize(("message", "spoil"), BAD_DATA.items(), ids=BAD_DATA)
def test_data_that_do_not_fit(
    message: str, spoil: Callable[[Array], Any], engine: str, rng: np.random.Generator
) -> None:
    with pytest.raises(QspinnError, match=message):
        simulate(mlp(rng, 20, 5), spoil(spikes(rng, (2, 6, 20))), engine=engine)


def test_what_is_refused(rng: np.random.Generator) -> None:
    graph, data = mlp(rng, 20, 5), spikes(rng, (2, 6, 20))
    for option in ({"record": "all"}, {"engine": "cuda"}):
        with pytest.raises(QspinnError, match="is one of"):
            simulate(graph, data, **option)
    real = Linear(name="fc", inputs=("x",), weight=Param(np.ones((5, 20))))
    with pytest.raises(QspinnError, match="not quantized"):
        simulate(network(Input(name="x", shape=(20,)), real, readout="membrane_last"), data)
    misfit = replace(graph, nodes=(replace(graph.input, shape=(19,)), *graph.nodes[1:]))
    with pytest.raises(VerifyError, match="does not fit"):
        simulate(misfit, data[..., :19])


# --- the cache of printed loops ---


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and no loops loaded yet."""
    from qspinn.engine import printed

    folder = tmp_path / "cache"
    monkeypatch.setenv("QSPINN_CACHE", str(folder))
    printed._load.cache_clear()
    simulator._network.cache_clear()
    return folder


@pytest.mark.needs("numba")
def test_networks_of_one_kind_share_a_file(fresh: Path, rng: np.random.Generator) -> None:
    from qspinn.engine import printed

    check(mlp(rng, 20, 30, theta=300), spikes(rng, (2, 3, 20)), "numba")
    (file,) = fresh.glob("*.py")
    before = file.stat()
    printed._load.cache_clear()
    check(mlp(rng, 9, 7, theta=120), spikes(rng, (2, 3, 9)), "numba")
    assert list(fresh.glob("*.py")) == [file]
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert str(fresh) not in file.read_text()
    run: Any = printed._load(file.read_text())
    assert sum(run.stats.cache_hits.values()) == 2  # with traces, and with sums
    assert not run.stats.cache_misses


@pytest.mark.needs("numba")
def test_a_damaged_file_is_written_again(fresh: Path, rng: np.random.Generator) -> None:
    from qspinn.engine import printed

    graph, data = mlp(rng, 20, 30), spikes(rng, (2, 3, 20))
    check(graph, data, "numba")
    (file,) = fresh.glob("*.py")
    good = file.read_text()
    file.write_text(good[: len(good) // 2])
    printed._load.cache_clear()
    check(replace(graph, name="again"), data, "numba")
    assert file.read_text() == good


@pytest.mark.needs("numba")
def test_without_a_place_for_the_cache(fresh: Path, rng: np.random.Generator) -> None:
    fresh.write_text("a file where the folder should be")
    check(mlp(rng, 20, 30), spikes(rng, (2, 3, 20)), "numba")
