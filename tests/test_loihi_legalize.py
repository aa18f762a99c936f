"""Legalization is exact, retiming is right, and what cannot be is refused with every reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.layers import Layer, layers
from qspinn.backends.loihi.prestart import late_biases
from qspinn.backends.loihi.reasons import Reasons, Unfit
from qspinn.backends.loihi.stock import mantissa_and_exponent, registers
from qspinn.backends.loihi.synapses import Kernel, integers
from qspinn.backends.loihi.unroll import Sparse
from qspinn.backends.loihi.weights import Packed, pack, parts

from loihi_nets import V, W, assert_same, linear, net, neuron, spikes, state
from networks import random_network
from qspinn import interp
from qspinn.errors import LegalizeError, VerifyError
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import (
    Array,
    Conv2d,
    Delay,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Output,
    Param,
    Scale,
    SumPool2d,
)
from qspinn.signals import signals
from qspinn.verify import verify

Rng = np.random.Generator


def made(graph: Graph) -> tuple[Layer, ...]:
    reasons = Reasons()
    found = layers(graph, reasons)
    assert not reasons.found
    return found


def refused(graph: Graph, **how: object) -> str:
    with pytest.raises(LegalizeError) as caught:
        BACKEND.legalize(graph, **how)
    assert len(caught.value.reasons) == str(caught.value).count("\n")
    return str(caught.value)


# --- exactness ---


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_networks_of_stock_neurons_stay_stock(first: int) -> None:
    """Same spikes, same states, and Lava's LIF for every layer."""
    for seed in range(first, first + 20):
        graph, data = random_network(seed, profile="loihi")
        legal = verify(BACKEND.legalize(graph))
        assert all(layer.registers is not None and layer.proved for layer in made(legal)), seed
        assert_same(interp.run(graph, data), interp.run(legal, data))


def test_random_networks_of_any_kind() -> None:
    """Legalized exactly or refused; never a crash."""
    legal_ones = 0
    for seed in range(110):
        graph, data = random_network(seed)
        try:
            legal = verify(BACKEND.legalize(graph))
        except LegalizeError:
            continue
        legal_ones += 1
        assert_same(interp.run(graph, data), interp.run(legal, data))
    assert legal_ones >= 20


def test_cold_is_the_graph_with_its_synapses_as_delays(rng: Rng) -> None:
    """Legalized cold, spikes arrive a step later at each layer, and skips stay aligned."""
    graph = net("cold", (6,), (
        linear("fc1", "input", rng.integers(-128, 128, (5, 6))), neuron("lif1", ("fc1",), (5,)),
        linear("fc2", "lif1", rng.integers(-128, 128, (4, 5))),
        linear("skip", "input", rng.integers(-128, 128, (4, 6))),
        neuron("lif2", ("fc2", "skip"), (4,)),
    ))  # fmt: skip
    data = spikes(rng, (2, 9, 6))
    cold = verify(BACKEND.legalize(graph, start="cold"))
    steps = {node.inputs[0]: node.steps for node in cold.of_type(Delay)}
    assert steps == {"input": 2, "lif1": 1}
    want, got = interp.run(graph, data), interp.run(cold, data)
    np.testing.assert_array_equal(got.states["lif2.v"][:, 2:], want.states["lif2.v"][:, :-2])
    assert not got.states["lif2.v"][:, :2].any()


# --- neurons ---


def lif_of(neuron_: Neuron, **options: object) -> Graph:
    weights = Param(np.full((3, 4), 20), W)
    graph = net("one", (4,), (Linear(name="fc", inputs=("input",), weight=weights), neuron_))
    return replace(graph, **options)


@pytest.mark.parametrize("leak", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("synapse", ["", "new"])
@pytest.mark.parametrize("reads_out", [True, False])
def test_stock_neurons(leak: bool, bias: bool, synapse: str, reads_out: bool, rng: Rng) -> None:
    """LIF, IF, CubaLIF and their readouts, with the registers that Lava's LIF is given."""
    given = {"bias": 260} if bias else {}
    node = neuron(
        "lif", ("fc",), (3,), given, leak=leak, bias=bias, synapse=synapse, reads_out=reads_out
    )
    graph = lif_of(node)
    legal = BACKEND.legalize(graph)
    (layer,) = made(legal)
    held = layer.registers
    assert held is not None
    assert int(held.du) == (1095 if synapse else 4095)
    assert int(held.dv) == (596 if leak else 0)
    assert int(held.vth) == (1 << 17 if reads_out else 200)
    assert int(held.bias_mant << held.bias_exp) == (260 if bias else 0)
    data = spikes(rng, (2, 12, 4))
    assert_same(interp.run(graph, data), interp.run(legal, data))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"reset": "subtract"}, "resets by subtraction"),
        ({"reset": "value"}, "resets to a value"),
        ({"timing": "next_after_decay"}, "resets in the next step"),
        ({"compare": ">="}, "fires at >="),
        ({"refractory": True}, "has a refractory period"),
        ({"clamp": True}, "has a lower clamp"),
        ({"max_spikes": 3}, "sends several spikes a step"),
        ({"synapse": "old"}, "integrates the old synaptic current"),
        ({"synapse": "old", "reads_out": True}, "integrates the old synaptic current"),
    ],
)
def test_other_rules_run_in_the_simulator_only(rule: dict, why: str) -> None:
    (layer,) = made(BACKEND.legalize(lif_of(neuron("lif", ("fc",), (3,), **rule))))
    assert layer.registers is None
    assert layer.why == why


def changed(name: str, **how: object) -> Neuron:
    """The LIF with one parameter or state changed."""
    node = neuron("lif", ("fc",), (3,), {"bias": 4}, bias=True)
    if name == "v":
        return replace(node, states={"v": replace(node.states["v"], **how)})
    return replace(node, values={**node.values, name: replace(node.values[name], **how)})


@pytest.mark.parametrize(
    ("name", "how", "why"),
    [
        ("decay", {"rounding": Rounding.FLOOR}, "products with decay round to floor"),
        ("decay", {"fmt": QFormat(16, 15, False)}, "decay has 15 fraction bits"),
        ("decay", {"values": 3, "fmt": QFormat(2, 0, False, leak=True)}, "decay is a leak"),
        ("decay", {"values": 4097}, "decay lies outside 0 to 1"),
        ("threshold", {"fmt": V, "values": 65}, "the threshold is no multiple of 2**0"),
        ("threshold", {"fmt": QFormat(9, 0), "values": -1}, "the threshold is negative"),
        ("bias", {"values": 4097}, "the bias 4097 is no mantissa of at most 4095"),
        ("v", {"fmt": QFormat(12, 6)}, "v is s12f6 saturate and may leave [-2048, 2047]"),
        ("v", {"fmt": QFormat(24, 5), "init": Param(0, QFormat(24, 5))}, "weights of fc"),
    ],
)  # fmt: skip
def test_formats_that_are_not_the_chips(name: str, how: dict, why: str) -> None:
    node = changed(name, **how)
    weights = Param(np.array([[1, 3], [5, 7], [9, 2]]), QFormat(8, 0))
    graph = net("odd", (2,), (Linear(name="fc", inputs=("input",), weight=weights), node))
    (layer,) = made(BACKEND.legalize(graph))
    assert layer.registers is None
    assert why in layer.why


def test_other_formats_of_the_same_numbers(rng: Rng) -> None:
    """Exact rewrites: finer thresholds are cut, trivial decays round anyhow, wide states idle."""
    node = neuron("lif", ("fc",), (3,), {"decay": rng.choice((0, 4096), 3)}, bias=True)
    values = {
        "decay": replace(node.values["decay"], rounding=Rounding.NEAREST_EVEN),
        "threshold": Param(np.array([100 * 512 + 5, 1 << 30, 0]), QFormat(31, 9)),
        "bias": Param(np.array([9, -8, 3]), QFormat(9, 3)),
    }
    leaky = {"decay": Param(np.array([200, 255, 7]), QFormat(8, 8, False), Rounding.ZERO)}
    for given in (values, {**values, **leaky}):
        wide = state(QFormat(32, 6)) if given is not values else node.states["v"]
        graph = lif_of(replace(node, values=given, states={"v": wide}))
        legal = BACKEND.legalize(graph)
        (layer,) = made(legal)
        assert layer.registers is not None, layer.why
        assert layer.registers.vth.tolist() == [100, 1 << 17, 0]
        data = spikes(rng, (2, 40, 4))
        assert_same(interp.run(graph, data), interp.run(legal, data))


def test_biases_go_where_the_chip_has_them(rng: Rng) -> None:
    """Into the membrane where they fit its mantissa; otherwise, and into currents, as synapses."""
    graph = net("biases", (5,), (
        linear("fc1", "input", rng.integers(-128, 128, (4, 5)), np.array([7, -9, 0, 90]),
               bias_fmt=QFormat(13, 5)),
        neuron("lif1", ("fc1",), (4,), {"bias": 33}, bias=True),
        linear("fc2", "lif1", rng.integers(-128, 128, (4, 4)), np.array([127, -9, 0, 90])),
        neuron("lif2", ("fc2",), (4,), {"bias": 4095}, bias=True),
        linear("fc3", "lif2", rng.integers(-128, 128, (2, 4)), np.array([-3001, 12345]),
               bias_fmt=QFormat(16, 0)),
        neuron("lif3", ("fc3",), (2,), synapse="new"),
    ))  # fmt: skip
    legal = BACKEND.legalize(graph)
    first, second, third = made(legal)
    assert not first.line
    assert legal["lif1"].params()["bias"].values.tolist() == [33 + 14, 33 - 18, 33, 33 + 180]
    assert second.registers is not None
    assert (second.registers.bias_mant << second.registers.bias_exp).tolist() == 4095
    assert sum(p.values for p in second.line).reshape(-1).tolist() == [254, -18, 0, 180]
    assert sum(p.values for p in third.line).reshape(-1).tolist() == [-3001, 12345]
    assert len(third.line) > 1
    data = spikes(rng, (2, 12, 5))
    assert_same(interp.run(graph, data), interp.run(legal, data))


@pytest.mark.parametrize("value", [0, 1, -4095, 4096, 4095 << 7, -(4095 << 7), 2049 << 3])
def test_bias_mantissas(value: int) -> None:
    mantissa, exponent = mantissa_and_exponent(np.array([value]))
    assert mantissa << exponent == value
    assert abs(mantissa) <= 4095
    assert 0 <= exponent <= 7


@pytest.mark.parametrize("value", [4097, 4096 << 7, -(8191 << 1)])
def test_bias_without_mantissa(value: int) -> None:
    with pytest.raises(Unfit, match=f"the bias {value} is no mantissa"):
        mantissa_and_exponent(np.array([1, value]))


def test_registers_of_other_formats() -> None:
    """Only the exact form has registers: anything else is somebody's own list."""
    lif = BACKEND.legalize(lif_of(neuron("lif", ("fc",), (3,))))["lif"]
    assert isinstance(lif, Neuron)
    assert registers(lif) is not None
    theta = replace(lif.values["threshold"], fmt=QFormat(17, 1, False))
    assert registers(replace(lif, values={**lif.values, "threshold": theta})) is None
    states = {**lif.states, "u": replace(lif.states["u"], fmt=V)}
    assert registers(replace(lif, states=states)) is None
    assert registers(neuron("lif", ("fc",), (3,))) is None


# --- weights ---


def as_lava(packed: Packed) -> Array:
    """What Lava makes of mantissas: clip, drop low bits (facts of its Dense), shift the sum."""
    mixed = packed.mode == "MIXED"
    sign = -1 if packed.mode == "INHIBITORY" else 1
    clipped = sign * np.clip(sign * packed.mantissa, -256 if mixed else 0, 255)
    drop = 8 - packed.bits + mixed
    kept = sign * (((sign * clipped) >> drop) << drop)
    up, down = max(packed.exponent, 0), max(-packed.exponent, 0)
    return (kept << up) >> down


def test_mantissas_are_what_lava_keeps(rng: Rng) -> None:
    for _ in range(300):
        bits, up = int(rng.integers(1, 9)), int(rng.integers(0, 7))
        low = int(rng.choice((0, -(1 << bits - 1), -(1 << bits) + 1)))
        high = 0 if low < -(1 << bits - 1) else (1 << bits) - 1 if low == 0 else (1 << bits - 1) - 1
        values = rng.integers(low, high + 1, (3, 4)) << up
        packed = pack(values)
        np.testing.assert_array_equal(packed.values, values)
        np.testing.assert_array_equal(as_lava(packed), values)
        assert packed.bits in (1, 2, 3, 4, 5, 6, 8)
        assert -8 <= packed.exponent <= 7


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([-1, 128], "weights from -1 to 128 need 9 bits, the limit is 8"),
        ([256, 1], "weights from 1 to 256 need 9 bits"),
        ([0, -257], "weights from -257 to 0 need 9 bits"),
        ([1 << 15, 0], "need the exponent 8, the limit is 7"),
    ],
)
def test_weights_that_no_mantissa_holds(values: list[int], why: str) -> None:
    with pytest.raises(Unfit, match=why):
        pack(np.array(values))


def test_any_integers_are_a_sum_of_mantissas(rng: Rng) -> None:
    for _ in range(100):
        values = rng.integers(-32767, 32768, 6) >> int(rng.integers(0, 12))
        cut = parts(values)
        np.testing.assert_array_equal(sum(as_lava(p) for p in cut), values)
        assert len(cut) <= 4


# --- pools and ways ---


def spread(form: Array | Sparse | Kernel) -> Array:
    if isinstance(form, Kernel):
        return form.matrix().dense()
    return form.dense() if isinstance(form, Sparse) else form


def test_pools_are_part_of_the_synapses(rng: Rng) -> None:
    """A sum over windows and what follows, as one matrix or one larger kernel: same currents."""
    kernels = 0
    for _ in range(60):
        size = tuple(int(n) for n in rng.integers(4, 9, 2))
        kernel = tuple(int(rng.integers(1, 4)) for _ in range(2))
        stride = kernel if rng.random() < 0.5 else tuple(int(n) for n in rng.integers(1, 4, 2))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        pool = SumPool2d(
            name="sum", inputs=("input",), kernel=kernel, stride=stride, padding=padding
        )
        taps = Param(rng.integers(-9, 10, (2, 3, 2, 1)), QFormat(8, 0))
        conv = Conv2d(
            name="conv", inputs=("sum",), weight=taps, padding=(int(rng.integers(0, 2)), 0),
            stride=(int(rng.integers(1, 3)), 1),
        )  # fmt: skip
        shape = (3, *size)
        probe = Graph("probe", (Input(name="input", shape=shape), pool, conv))
        try:
            out = signals(probe)["conv"].shape
        except VerifyError:
            continue
        graph = net("pooled", shape, (pool, conv, neuron("lif", ("conv",), out)))
        legal = BACKEND.legalize(graph)
        (layer,) = made(legal)
        (synapse,) = layer.synapses
        kernels += isinstance(synapse.form, Kernel)
        eye = np.eye(3 * size[0] * size[1], dtype=np.int64).reshape(-1, *shape)
        known = signals(graph)
        currents = interp.apply(conv, interp.apply(pool, eye, known["input"]), known["sum"])
        np.testing.assert_array_equal(spread(synapse.form), currents.reshape(len(eye), -1).T)
        whole = sum(p.values for p in synapse.packed)
        np.testing.assert_array_equal(whole, integers(synapse.form))
    assert kernels >= 10


def test_shared_connections_are_written_twice(rng: Rng) -> None:
    graph = net("shared", (4,), (
        linear("fc", "input", rng.integers(-128, 128, (3, 4)), np.array([3, 5, 7])),
        neuron("lif1", ("fc",), (3,)), neuron("lif2", ("fc",), (3,), synapse="new"),
        linear("end1", "lif1", np.full((2, 3), 30)), linear("end2", "lif2", np.full((2, 3), 30)),
        neuron("lif3", ("end1", "end2"), (2,)),
    ))  # fmt: skip
    data = spikes(rng, (2, 12, 4))
    legal = BACKEND.legalize(graph)
    assert legal["fc"].params().keys() == {"weight"}
    assert legal["fc_lif2"].params().keys() == {"weight", "bias"}
    assert legal["fc_lif2"].path == "fc"
    assert_same(interp.run(graph, data), interp.run(legal, data))


# --- time ---


def loop(delay: int, rng: Rng) -> Graph:
    """Two layers in a cycle."""
    back = Delay(name="back", inputs=("lif2",), shape=(3,), steps=delay)
    return net("loop", (4,), (
        back,
        linear("fc1", "input", rng.integers(-128, 128, (3, 4))),
        linear("rec", "back", 50 * np.eye(3)),
        neuron("lif1", ("fc1", "rec"), (3,)),
        linear("fc2", "lif1", rng.integers(-128, 128, (3, 3))), neuron("lif2", ("fc2",), (3,)),
    ))  # fmt: skip


def test_a_cycle_needs_a_delay_for_each_stage(rng: Rng) -> None:
    text = refused(loop(1, rng))
    assert "the cycle lif1 -> lif2 -> lif1: its delays take 1 of the 2 steps" in text
    assert "its synapses take; delay it by 1 more" in text
    legal = BACKEND.legalize(loop(2, rng))
    lags = {s.name: s.lag for layer in made(legal) for s in layer.synapses}
    assert lags == {"fc1": 0, "rec": 0, "fc2": 0}
    lags = {s.name: s.lag for layer in made(BACKEND.legalize(loop(5, rng))) for s in layer.synapses}
    assert lags["rec"] == 3


def test_spikes_before_the_start_are_found(rng: Rng) -> None:
    """A bias that fires early only matters where a delay carries it past the start."""

    def graph(bias: int, steps: int) -> Graph:
        late = Delay(name="late", inputs=("lif2",), shape=(3,), steps=steps)
        return net("early", (4,), (
            linear("fc1", "input", np.full((3, 4), 9)), neuron("lif1", ("fc1",), (3,)),
            linear("fc2", "lif1", np.full((3, 3), 9)),
            neuron("lif2", ("fc2",), (3,), {"bias": bias}, bias=True), late,
            linear("fc3", "late", np.full((3, 3), 9)), neuron("lif3", ("fc3",), (3,)),
        ))  # fmt: skip

    def late(bias: int, steps: int) -> frozenset[str]:
        legal = BACKEND.legalize(graph(bias, steps))
        return late_biases(legal, made(legal))

    # 200 * 64 is the threshold: in two early steps a bias of 7000 reaches it, with the decay.
    assert late(7000, 1) == {"lif2"}
    assert late(6000, 1) == frozenset()
    assert late(12816, 1) == {"lif2"}


# --- refusals ---


def test_every_reason_is_given(rng: Rng) -> None:
    wide = Param(rng.integers(-2000, 2000, (3, 4)), QFormat(12, 0))
    huge = Param(np.full((2, 3), 127), QFormat(8, -8))
    late = Delay(name="late", inputs=("input",), shape=(4,), steps=99)
    graph = net("bad", (4,), (
        Linear(name="fc1", inputs=("input",), weight=wide), neuron("lif1", ("fc1",), (3,)),
        Linear(name="fc2", inputs=("lif1",), weight=huge), late,
        linear("skip", "late", np.full((2, 4), 8)),
        neuron("lif2", ("fc2", "skip"), (2,)),
        linear("loose", "lif2", np.full((2, 2), 8)),
    ))  # fmt: skip
    text = refused(graph)
    assert text.startswith("loihi cannot run bad: ")
    for part in (
        "fc1: weights from -1",
        "the limit is 8; give them the format s8",
        "lif2: its summed input may lie in [0, ",
        "skip: needs a delay of 100 steps, synapses have at most 62",
        "loose: feeds nothing; remove it",
    ):
        assert part in text, text


def test_structures_that_lava_lacks(rng: Rng) -> None:
    shape, ones = (2, 4, 4), Param(np.ones((2, 2, 2, 2)), QFormat(8, -1))
    pool = SumPool2d(name="sum", inputs=("lif",), kernel=(2, 2), stride=(2, 2))
    conv = Conv2d(name="conv", inputs=("input",), weight=ones)
    lif = neuron("lif", ("conv",), (2, 3, 3), max_spikes=3)
    top = MaxPool2d(name="max", inputs=("lif",), kernel=(2, 2), stride=(1, 1))
    end = (Linear(name="fc", inputs=("max",), weight=Param(np.ones((2, 8)), W)),
           neuron("last", ("fc",), (2,)))  # fmt: skip
    text = refused(net("maxima", shape, (conv, lif, top, *end)))
    assert "max: is a maximum of counts; pool spikes, or use a SumPool2d" in text
    assert "fc: reads max, a maximum of counts" in text
    pooled = Graph("p", (Input(name="input", shape=shape), conv, lif, pool,
                         Output(name="out", inputs=("sum",))))  # fmt: skip
    assert "out: reads sum, a SumPool2d; read the neurons, and pool on the host" in refused(pooled)
    membrane = net("membrane", (3,), (
        linear("fc1", "input", np.ones((3, 3))), neuron("li", ("fc1",), (3,), reads_out=True),
        linear("fc2", "li", np.ones((3, 3))), neuron("lif", ("fc2",), (3,)),
    ))  # fmt: skip
    assert "fc2: reads the membrane of li; between neurons only spikes" in refused(membrane)
    direct = net("direct", (3,), (neuron("lif", ("input",), (3,)),), kind="current", fmt=W)
    assert "lif: is fed by the Input input, not by a connection; put weights" in refused(direct)


def test_values_cannot_start_cold() -> None:
    scale = Scale(name="one", inputs=("input",), scale=Param(np.ones(3), W))
    graph = net("values", (3,), (scale, neuron("lif", ("one",), (3,))), kind="current",
                fmt=QFormat(5, 0))  # fmt: skip
    assert BACKEND.legalize(graph).shifts == {"lif": 1, "out": 1}
    assert "input: sends values; a cold start would have to delay them" in refused(
        graph, start="cold"
    )


def test_other_refusals() -> None:
    graph = lif_of(neuron("lif", ("fc",), (3,)))
    assert "a start is one of skewed, cold, not 'warm'" in refused(graph, start="warm")
    real = Param(np.ones((3, 4)))
    floats = net("floats", (4,), (Linear(name="fc", inputs=("input",), weight=real),
                                  neuron("lif", ("fc",), (3,))))  # fmt: skip
    assert "floats is not quantized" in refused(floats)


def test_random_draws_are_refused() -> None:
    graph = lif_of(changed("decay", rounding=Rounding.STOCHASTIC))
    assert "rounds states or products stochastically, with draws that Loihi cannot make" in refused(
        graph
    )
