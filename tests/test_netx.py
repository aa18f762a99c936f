"""Emitted `.net` files: lava-dl's netx computes every u, v and output spike of the reference."""

from __future__ import annotations

import importlib.util
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.netx_weights import require_kept
from qspinn.backends.loihi.reasons import Unfit

from loihi_nets import W, linear, net, neuron, spikes
from netx_nets import (
    Made,
    assert_netx_computes,
    assert_same_states,
    made,
    random_net,
    run_netx,
)
from qspinn import interp
from qspinn.fixed import QFormat
from qspinn.ir import Array, Conv2d, Delay, Flatten, Graph, Neuron, Param, SumPool2d
from qspinn.plan import Plan

Rng = np.random.Generator
WIDE = QFormat(13, 0)
EXCITATORY, INHIBITORY = QFormat(8, 0, signed=False), QFormat(9, 0)


def weights(rng: Rng, *shape: int) -> Array:
    return rng.integers(-128, 128, shape)


def refused(graph: Graph) -> list[str]:
    """Why there is no file."""
    artifact = BACKEND.emit(graph, BACKEND.devices["loihi2"], Plan({}))
    return list(artifact.facts["netx"]["why_not"])


# --- networks by hand: what SLAYER makes, and what lies at the edge ---


def conv(name: str, source: str, weight: Array, **options: Any) -> Conv2d:
    return Conv2d(name=name, inputs=(source,), weight=Param(weight, W), **options)


def images(rng: Rng) -> tuple[Graph, Array]:
    """Two convolutions with strides, padding, dilation and groups, a pool, and a dense layer."""
    nodes = (
        conv("conv1", "input", weights(rng, 6, 1, 3, 2), groups=2, stride=(2, 1), padding=(1, 0)),
        neuron("lif1", ("conv1",), (6, 4, 6), {"decay": rng.integers(3000, 4097, (6, 1, 1))}),
        SumPool2d(name="pool", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)),
        conv("conv2", "pool", weights(rng, 4, 6, 2, 2), dilation=(1, 2)),
        neuron("lif2", ("conv2",), (4, 1, 1), {"threshold": rng.integers(1, 99, (4, 1, 1))},
               synapse="new"),
        Flatten(name="flat", inputs=("lif2",)), linear("fc", "flat", weights(rng, 5, 4)),
        neuron("lif3", ("fc",), (5,), {"threshold": 20}),
    )  # fmt: skip
    return BACKEND.legalize(net("images", (2, 7, 7), nodes)), spikes(rng, (1, 20, 2, 7, 7), 0.4)


def recurrent(rng: Rng) -> tuple[Graph, Array]:
    """Neurons that reach themselves, weights odd or even, before some that never fire."""
    late = Delay(name="late", inputs=("lif1",), shape=(8,))
    nodes = (
        late, linear("fc1", "input", weights(rng, 8, 9)),
        linear("rec", "late", weights(rng, 8, 8) // 2),
        neuron("lif1", ("fc1", "rec"), (8,), synapse="new"),
        linear("fc2", "lif1", weights(rng, 4, 8)), neuron("li", ("fc2",), (4,), reads_out=True),
    )  # fmt: skip
    return BACKEND.legalize(net("recurrent", (9,), nodes)), spikes(rng, (1, 24, 9))


def delays(rng: Rng) -> tuple[Graph, Array]:
    """One delay, one for each synapse, and the longest."""
    all_weights, drawn = weights(rng, 6, 7), rng.integers(0, 3, (6, 7))
    late = [Delay(name=f"late{k}", inputs=("lif1",), shape=(7,), steps=k) for k in (1, 2)]
    parts = [np.where(drawn == k, all_weights, 0) for k in range(3)]
    nodes = (
        Delay(name="first", inputs=("input",), shape=(9,), steps=4),
        linear("fc1", "first", weights(rng, 7, 9)), neuron("lif1", ("fc1",), (7,)), *late,
        *(linear(f"fc2_{k}", at, parts[k]) for k, at in enumerate(("lif1", "late1", "late2"))),
        neuron("lif2", ("fc2_0", "fc2_1", "fc2_2"), (6,), synapse="new"),
        Delay(name="last", inputs=("lif2",), shape=(6,), steps=62),
        linear("fc3", "last", weights(rng, 3, 6)), neuron("lif3", ("fc3",), (3,)),
    )  # fmt: skip
    return BACKEND.legalize(net("delays", (9,), nodes)), spikes(rng, (1, 90, 9))


def biased(rng: Rng, start: str = "skewed") -> tuple[Graph, Array]:
    """Biases of the membrane that make neurons fire without input; three layers, two samples."""
    nodes, source, size = [], "input", 9
    for k, outs in ((1, 8), (2, 7), (3, 5)):
        values = {"bias": rng.integers(-9, 50, outs) * 64, "current_decay": 2000}
        nodes += [
            linear(f"fc{k}", source, weights(rng, outs, size)),
            neuron(f"lif{k}", (f"fc{k}",), (outs,), values, bias=True, synapse="new"),
        ]
        source, size = f"lif{k}", outs
    graph = net(f"biased_{start}", (9,), tuple(nodes))
    return BACKEND.legalize(graph, start=start), spikes(rng, (2, 16, 9))


def cold(rng: Rng) -> tuple[Graph, Array]:
    """The same, all layers from the first step on."""
    return biased(rng, "cold")


def one_sided(rng: Rng) -> tuple[Graph, Array]:
    """Excitation alone, with all 8 bits, and inhibition alone."""
    nodes = (
        linear("fc1", "input", rng.integers(0, 256, (8, 9)), fmt=EXCITATORY),
        neuron("lif1", ("fc1",), (8,), {"threshold": 1500}),
        linear("fc2", "lif1", -rng.integers(1, 256, (6, 8)), fmt=INHIBITORY),
        neuron("lif2", ("fc2",), (6,), {"bias": 64 * 90, "current_decay": 500}, bias=True,
               synapse="new"),
        linear("fc3", "lif2", rng.integers(1, 65, (3, 6)) * 2, fmt=EXCITATORY),
        neuron("lif3", ("fc3",), (3,)),
    )  # fmt: skip
    return BACKEND.legalize(net("one_sided", (9,), nodes)), spikes(rng, (1, 20, 9))


def counts(rng: Rng) -> tuple[Graph, Array]:
    """Input of several spikes a step."""
    nodes = (linear("fc", "input", weights(rng, 5, 6)), neuron("lif", ("fc",), (5,)))
    graph = BACKEND.legalize(net("counts", (6,), nodes, kind="count", high=7))
    return graph, spikes(rng, (1, 20, 6), high=7)


def values(rng: Rng) -> tuple[Graph, Array]:
    """Input of whole numbers of both signs, to neurons that reach themselves."""
    nodes = (
        Delay(name="late", inputs=("lif",), shape=(5,)), linear("fc", "input", weights(rng, 5, 6)),
        linear("rec", "late", weights(rng, 5, 5)), neuron("lif", ("fc", "rec"), (5,)),
    )  # fmt: skip
    graph = net("values", (6,), nodes, kind="current", fmt=QFormat(5, 0))
    return BACKEND.legalize(graph), rng.integers(-16, 16, (1, 20, 6))


def constant(rng: Rng) -> tuple[Graph, Array]:
    """Values that enter the first neurons, as SLAYER's input layers have it."""
    gain = Param(np.full((2, 1, 1, 1), 36), QFormat(8, 0))
    nodes = (
        Conv2d(name="gain", inputs=("input",), groups=2, weight=gain),
        neuron("lif0", ("gain",), (2, 5, 4), {"bias": 34 * 64, "threshold": 900}, bias=True),
        conv("conv", "lif0", weights(rng, 3, 2, 3, 3)), neuron("lif1", ("conv",), (3, 3, 2)),
    )  # fmt: skip
    graph = net("constant", (2, 5, 4), nodes, kind="current", fmt=QFormat(5, 0))
    image = rng.integers(-16, 16, (2, 5, 4))
    return BACKEND.legalize(graph), np.broadcast_to(image, (1, 20, 2, 5, 4))


def silent(rng: Rng) -> tuple[Graph, Array]:
    """Inhibition alone, by powers of two, of neurons that only tell their membranes."""
    inhibition = np.where(rng.random((5, 6)) < 0.6, -64, -rng.integers(0, 64, (5, 6)))
    nodes = (
        linear("fc1", "input", weights(rng, 6, 9)), neuron("lif1", ("fc1",), (6,)),
        linear("fc2", "lif1", inhibition),
        neuron("li", ("fc2",), (5,), {"bias": 640}, reads_out=True, synapse="new", bias=True),
    )  # fmt: skip
    return BACKEND.legalize(net("silent", (9,), nodes)), spikes(rng, (1, 20, 9), 0.6)


def disconnected(rng: Rng) -> tuple[Graph, Array]:
    """A layer without weights other than zero, whose biases are read."""
    nodes = (
        linear("fc1", "input", weights(rng, 6, 9)), neuron("lif1", ("fc1",), (6,)),
        linear("fc2", "lif1", np.zeros((3, 6))),
        neuron("li", ("fc2",), (3,), {"bias": 64 * rng.integers(-9, 50, 3)}, reads_out=True,
               bias=True),
    )  # fmt: skip
    return BACKEND.legalize(net("disconnected", (9,), nodes)), spikes(rng, (1, 20, 9))


def currents(rng: Rng) -> tuple[Graph, Array]:
    """Biases of synaptic currents, some beyond what a synapse holds; of one layer of both kinds."""
    nodes = (
        linear("fc1", "input", weights(rng, 6, 9), 2 * rng.integers(-300, 900, 6), bias_fmt=WIDE),
        neuron("lif1", ("fc1",), (6,), {"bias": 64 * rng.integers(-9, 50, 6)}, synapse="new",
               bias=True),
        linear("fc2", "lif1", weights(rng, 5, 6), 2 * rng.integers(-120, 120, 5), bias_fmt=WIDE),
        neuron("lif2", ("fc2",), (5,), {"threshold": rng.integers(1, 300, 5)}, synapse="new"),
        linear("fc3", "lif2", weights(rng, 4, 5), 2 * rng.integers(-60, 60, 4), bias_fmt=WIDE),
        neuron("li", ("fc3",), (4,), reads_out=True, synapse="new"),
    )  # fmt: skip
    return BACKEND.legalize(net("currents", (9,), nodes)), spikes(rng, (2, 20, 9))


HAND = (images, recurrent, delays, biased, cold, one_sided, counts, values, constant,
        silent, disconnected, currents)  # fmt: skip
SEEDS = (2, 8, 11, 13)
"""Random networks of every run; `MORE` are those of `make slow`."""
MORE = [range(first, first + 20) for first in range(100, 260, 20)]


NAMES = [*(make.__name__ for make in HAND), *(f"random{seed}" for seed in SEEDS)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Made, Array, Any]]:
    """All of them in one process, for the imports take longer than the runs."""
    folder = tmp_path_factory.mktemp("netx")
    drawn = {make.__name__: make(np.random.default_rng(5)) for make in HAND}
    drawn |= {f"random{seed}": random_net(seed)[:2] for seed in SEEDS}
    nets = {name: (made(graph, folder / name), data) for name, (graph, data) in drawn.items()}
    jobs = {
        name: net.job(data[0], data.shape[1] + 64 if net.facts["needs_reset"] else 0)
        for name, (net, data) in nets.items()
    }
    for name in ("biased", "currents"):
        net, data = nets[f"{name} stream"] = nets[name]
        jobs[f"{name} stream"] = net.job(data.reshape(-1, *data.shape[2:]), data.shape[1])
    found = run_netx(list(jobs.values()), folder)
    return {name: (*nets[name], each) for name, each in zip(jobs, found, strict=True)}


@pytest.mark.needs("lava-dl")
@pytest.mark.parametrize(
    "name", [*(make.__name__ for make in HAND), *(f"random{s}" for s in SEEDS)]
)
def test_netx_computes_every_state(name: str, ran: dict[str, tuple[Made, Array, Any]]) -> None:
    net, data, found = ran[name]
    want = interp.run(net.graph, data[:1])
    assert_same_states(net, want, found, data.shape[1])
    if name in {make.__name__ for make in HAND}:
        for node in net.graph.of_type(Neuron):
            assert np.unique(want.states[f"{node.name}.v"]).size > 3, "something happens"
        assert want.output.any()


@pytest.mark.needs("lava-dl")
@pytest.mark.parametrize("name", ["biased", "currents"])
def test_samples_follow_one_another(name: str, ran: dict[str, tuple[Made, Array, Any]]) -> None:
    """With resets at the steps that the facts name."""
    net, data, found = ran[f"{name} stream"]
    assert net.facts["samples"] == "one run"
    steps = data.shape[1]
    for sample in range(2):
        want = interp.run(net.graph, data[sample : sample + 1])
        assert_same_states(net, want, found, steps, sample * steps)


@pytest.mark.needs("lava-dl")
@pytest.mark.slow
@pytest.mark.parametrize("seeds", MORE, ids=str)
def test_netx_computes_every_state_of_many(seeds: range, tmp_path: Path) -> None:
    drawn = [random_net(seed)[:2] for seed in seeds]
    expressible = [
        (made(graph, tmp_path / graph.name), data) for graph, data in drawn if not refused(graph)
    ]
    assert len(expressible) > len(seeds) // 2
    assert_netx_computes(expressible, tmp_path)


def test_what_random_networks_cover() -> None:
    tags: Counter[str] = Counter()
    fired = []
    for seed in (seed for seeds in MORE[:3] for seed in seeds):
        graph, data, choices = random_net(seed)
        if not refused(graph):
            tags.update(choices)
            fired.append(interp.run(graph, data, record=False).output.mean())
    assert {tag for tag, count in tags.items() if count >= 2} >= {
        *(f"delays {kind}" for kind in ("none", "one", "rows", "columns", "all")),
        *(f"signs {kind}" for kind in ("mixed", "excitatory", "inhibitory")),
        "groups 2", "stride 2", "dilation 2", "recurrent yes", "ends li", "bias True", "high 5",
        "each channel", "each neuron", "start cold", "image flat", "depth 3",
    }  # fmt: skip
    assert np.mean([0.02 < rate < 0.98 for rate in fired]) > 0.3


# --- the file itself ---


def test_a_file_has_no_time_in_it(rng: Rng) -> None:
    graph, _ = images(rng)
    name = "images.net"
    one = BACKEND.emit(graph, BACKEND.devices["loihi2"], Plan({})).files[name]
    time.sleep(1.1)  # HDF5 counts seconds
    assert BACKEND.emit(graph, BACKEND.devices["loihi2"], Plan({})).files[name] == one


def test_what_the_package_says(rng: Rng) -> None:
    artifact = BACKEND.emit(biased(rng)[0], BACKEND.devices["loihi2"], Plan({}))
    assert artifact.facts["netx"] == {
        "file": "biased_skewed.net", "why_not": [], "input": "spikes", "input_shape": [9],
        "input_ones": 0, "input_message_bits": 0, "samples": "one run", "reset_offset": 1,
        "needs_reset": True, "layers": {"lif1": 1, "lif2": 2, "lif3": 3}, "simulator_only": [],
    }  # fmt: skip
    text = artifact.files["README.md"].decode()
    assert "Network(net_config='biased_skewed.net')`, output 3 steps behind the input" in text
    assert "only with `reset_interval=N, reset_offset=1`" in text
    artifact = BACKEND.emit(currents(rng)[0], BACKEND.devices["loihi2"], Plan({}))
    ones = artifact.facts["netx"]["input_ones"]
    assert ones > 1
    assert artifact.facts["netx"]["input_shape"] == [9 + ones]
    text = artifact.files["README.md"].decode()
    assert f"Behind the inputs of the network, the last {ones} inputs spike in every step" in text


# --- what netx cannot build ---


def skip(rng: Rng) -> Graph:
    two = (linear("fc2", "lif1", weights(rng, 4, 4)), linear("over", "input", weights(rng, 4, 4)))
    return net("skip", (4,), (
        linear("fc1", "input", weights(rng, 4, 4)), neuron("lif1", ("fc1",), (4,)), *two,
        neuron("lif2", ("fc2", "over"), (4,)),
    ))  # fmt: skip


def late_recurrence(rng: Rng) -> Graph:
    return net("late", (4,), (
        Delay(name="late", inputs=("lif",), shape=(4,), steps=2),
        linear("fc", "input", weights(rng, 4, 4)), linear("rec", "late", weights(rng, 4, 4)),
        neuron("lif", ("fc", "rec"), (4,)),
    ))  # fmt: skip


def driven_recurrence(rng: Rng) -> Graph:
    return net("driven", (4,), (
        Delay(name="late", inputs=("lif",), shape=(4,)),
        linear("fc", "input", weights(rng, 4, 4), [2, 4, 6, 8]),
        linear("rec", "late", weights(rng, 4, 4)),
        neuron("lif", ("fc", "rec"), (4,), synapse="new"),
    ))  # fmt: skip


def driven_image(rng: Rng) -> Graph:
    bias = Param(np.array([2, 4]), W)
    kernel = Conv2d(name="conv", inputs=("input",), weight=Param(weights(rng, 2, 1, 2, 2), W),
                    bias=bias)  # fmt: skip
    return net("image", (1, 4, 4), (kernel, neuron("lif", ("conv",), (2, 3, 3), synapse="new")))


def driven_by_image(rng: Rng) -> Graph:
    return net("image", (1, 4, 4), (
        conv("conv", "input", weights(rng, 2, 1, 2, 2)), neuron("lif1", ("conv",), (2, 3, 3)),
        Flatten(name="flat", inputs=("lif1",)),
        linear("fc", "flat", weights(rng, 3, 18), [2, 4, 6]),
        neuron("lif2", ("fc",), (3,), synapse="new"),
    ))  # fmt: skip


def layer(
    weight: Any, fmt: QFormat = W, bias: Any = None, membrane: int = 0, **rule: Any
) -> Callable[[Rng], Graph]:
    """One layer of four inputs."""

    def make(rng: Rng) -> Graph:
        values = np.broadcast_to(weight, (3, 4))
        each = None if bias is None else np.broadcast_to(bias, 3)
        values = {"fc": linear("fc", "input", values, each, fmt=fmt, bias_fmt=QFormat(16, 3))}
        own = {"bias": bool(membrane), **rule}
        lif = neuron("lif", ("fc",), (3,), {"bias": membrane}, **own)
        return net("layer", (4,), (values["fc"], lif))

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (skip, "lif2: reads input; in netx a layer reads the one before it, and itself"),
        (late_recurrence, "lif: reaches itself after more than one step"),
        (layer(0, membrane=64 * 300), "lif: its weights are all zero"),
        (layer(-64, membrane=64 * 300),
         "lif: netx and Lava take its weights from -128 to -128 for different sign"),
        (layer([[-1], [0], [0]], membrane=64 * 300),
         "lif: netx and Lava take its weights from -2 to 0 for different"),
        (layer([[-201], [0], [0]], QFormat(9, 0)), "from -201 to 0 for different sign modes"),
        (layer([[100], [1], [-1]], QFormat(8, -2)), "from -4 to 400, in one netx layer from -256"),
        (layer(100, QFormat(8, -2)), "from 400 to 400, in one netx layer from -256 to 255"),
        (layer([[1], [2], [-3]], reset="subtract"), "are none that netx has: resets by subtract"),
        (layer([[1], [2], [-3]], v0=5), "start from other states than zero"),
        (layer([[1], [2], [-3]], bias=[8, 9, 10]), "its biases are no whole numbers"),
        (layer([[99], [2], [-3]], bias=[8, 16, 8], synapse="new"), "need 9 bits in one netx layer"),
        (layer([[2], [4], [-6]], QFormat(8, 0), bias=4095 << 3, synapse="new"),
         "reach 4095 and would take 17 neurons that always spike, the limit is 16"),
        (driven_recurrence, "lif: the biases of its synaptic currents are spikes that come before"),
        (driven_image, "lif: the biases of its synaptic currents are inputs beside the others"),
        (driven_by_image, "which only a dense layer without delays and recurrence has room for"),
    ],
    ids=lambda x: getattr(x, "__name__", None) or str(x)[:30],
)  # fmt: skip
def test_refusals(make: Callable[[Rng], Graph], says: str, rng: Rng) -> None:
    assert says in "\n".join(refused(BACKEND.legalize(make(rng))))


def from_wheel(package: str, path: str) -> types.ModuleType:
    """One file of a wheel, without what imports it there."""
    place = Path(str(distribution(package).locate_file(path)))
    spec = importlib.util.spec_from_file_location(place.stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.needs("lava-dl")
def test_weights_are_refused_where_netx_and_lava_change_them(rng: Rng) -> None:
    """Their own functions, one after the other, on matrices of every sign and power of two."""
    netx = from_wheel("lava-dl", "lava/lib/dl/netx/utils.py")
    lava = from_wheel("lava-nc", "lava/utils/weightutils.py")

    def kept(matrix: Array) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it divides by zero
            mantissa, bits, exponent, _ = netx.optimize_weight_bits(matrix.copy())
        mode = lava.determine_sign_mode(mantissa)
        clipped = lava.clip_weights(mantissa.astype(np.int32), mode, num_bits=8)
        found = lava.truncate_weights(clipped, mode, bits)
        return found << exponent if exponent > 0 else found >> -exponent

    outcomes: Counter[bool] = Counter()
    for _ in range(4000):
        low, high = sorted(
            rng.choice([0, -1, 1, -2, 2, -127, 127, -128, 128, -256, 254, 255, 9], 2)
        )
        matrix = rng.integers(low, high + 1, (3, 4))
        matrix.flat[:2] = low, high
        if not matrix.any():
            continue
        same = np.array_equal(kept(matrix), matrix)
        try:
            require_kept(matrix)
            fits = True
        except Unfit as error:
            fits = "need 9 bits" in error.message and same  # exact in Lava, but on no chip
        assert fits == same, matrix
        outcomes[same] += 1
    assert min(outcomes.values()) > 300
