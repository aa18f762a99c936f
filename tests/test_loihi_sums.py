"""Sums that a weight exponent shifts down: dropped bits, rounded down for either sign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.layers import layers
from qspinn.backends.loihi.reasons import Reasons, Unfit
from qspinn.backends.loihi.synapses import Synapse
from qspinn.backends.loihi.weights import activation, pack, stored

from loihi_nets import assert_same, linear, net, neuron, run_both, spikes
from qspinn import interp
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.errors import LegalizeError, PlanError, QuantizeError
from qspinn.fixed import QFormat, to_int
from qspinn.ir import Conv2d, Delay, Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.lowering import programs
from qspinn.neurons import spiking
from qspinn.passes.quantize import quantize
from qspinn.pipeline import lower
from qspinn.plan import Plan, parse
from qspinn.simulate import simulate
from qspinn.storage import load, save
from qspinn.text import text

Rng = np.random.Generator
UNIT = QFormat(32, 0)
FINE = QFormat(8, 3)
"""Weights in eighths of the summed input's last place."""


def dropping(node: Neuron, fmt: QFormat = UNIT) -> Neuron:
    return replace(node, input_format=fmt)


def synapses(graph: Graph) -> list[Synapse]:
    return [s for layer in layers(graph, Reasons()) for s in layer.synapses]


def refusal(graph: Graph) -> str:
    """Why the neurons are none of Lava's."""
    (layer,) = layers(BACKEND.legalize(graph), Reasons())
    assert layer.registers is None
    return layer.why


def test_sums_round_down_for_either_sign() -> None:
    """Lava's Dense with the exponent -3, written out, and the reference."""
    weights, fine = np.array([[7], [8], [-1], [-8], [-9]]), QFormat(8, 3)
    graph = net("one", (1,), (
        linear("fc", "input", weights, fmt=fine),
        dropping(neuron("lif", ("fc",), (5,), reads_out=True, leak=False)),
    ))  # fmt: skip
    trace = interp.run(graph, np.ones((1, 1, 1), np.int64))
    assert (trace.states["lif.v"][0, 0] >> 6).tolist() == [0, 1, -1, -1, -2]
    assert activation(2 * weights, np.array([1]), -4).tolist() == [0, 1, -1, -1, -2]
    whole = net("whole", (1,), (
        linear("fc", "input", weights, fmt=fine),
        neuron("lif", ("fc",), (5,), reads_out=True, leak=False),
    ))  # fmt: skip
    kept = interp.run(whole, np.ones((1, 1, 1), np.int64)).states["lif.v"]
    assert kept[0, 0].tolist() == [56, 64, -8, -64, -72]


@pytest.mark.parametrize("mode", ["MIXED", "EXCITATORY", "INHIBITORY"])
def test_mantissas_of_every_shift(mode: str, rng: Rng) -> None:
    """The sum that Lava computes of them is the sum shifted, whatever their width."""
    for drop in range(1, 9):
        for bits in range(1 + (mode == "MIXED"), 9):
            top = 1 << (bits - (mode == "MIXED"))
            low, high = {"MIXED": (-top, top), "EXCITATORY": (0, top)}.get(mode, (1 - top, 1))
            values = rng.integers(low, high, (4, 30))
            values[0, :2] = low, high - 1
            sent = rng.integers(0, 2, 30)
            if mode == "MIXED" and drop == 8:
                with pytest.raises(Unfit, match="drops 8 bits need the exponent -9"):
                    pack(values | 1, drop)
                continue
            packed = pack(values, drop)
            kept = stored(packed.mantissa, packed.bits, packed.mode)
            got = activation(kept, sent, packed.exponent)
            np.testing.assert_array_equal(got, (values @ sent) >> drop)


@pytest.mark.needs("lava", "numba", "gcc")
def test_every_executor(rng: Rng, tmp_path: Path) -> None:
    """A delayed layer, a convolution, one that reads counts, and one that others feed as well."""
    kernel = Param(rng.integers(-128, 128, (3, 2, 3, 3)), QFormat(8, 5))
    graph = net("sums", (2, 5, 4), (
        Conv2d(name="conv", inputs=("input",), weight=kernel, padding=(1, 1)),
        dropping(neuron("lif1", ("conv",), (3, 5, 4), {"threshold": 5}, synapse="new")),
        linear("fc", "lif1", rng.integers(-128, 128, (9, 60)), fmt=QFormat(8, 4)),
        Delay(name="back", inputs=("lif2",), shape=(9,), steps=3),
        linear("rec", "back", 2 * rng.integers(-20, 20, (9, 9)), fmt=QFormat(8, 0)),
        dropping(neuron("lif2", ("fc", "rec"), (9,), {"threshold": 9, "bias": 300}, bias=True)),
        Delay(name="late", inputs=("lif2",), shape=(9,), steps=2),
        linear("read", "late", rng.integers(0, 256, (6, 9)), fmt=QFormat(8, 8, False)),
        dropping(neuron("last", ("read",), (6,), reads_out=True, synapse="new")),
    ), kind="count", high=3)  # fmt: skip
    data = spikes(rng, (3, 20, 2, 5, 4), high=3)
    legal = run_both(graph, data, tmp_path / "lava", executor="lava-models")
    assert [(s.name, s.drop) for s in synapses(legal)] == [
        ("conv", 5), ("fc", 4), ("rec", 0), ("read", 8)]  # fmt: skip
    want = interp.run(legal, data)
    assert want.states["last.v"].any()
    for engine in ("numpy", "numba"):
        found = simulate(legal, data, threads=1, record="trace", engine=engine).trace
        assert found is not None
        assert_same(want, found)
    mcu = backend("mcu")
    artifact = mcu.emit(legal, mcu.devices[mcu.default_device], Plan({}))
    for path, content in artifact.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert_same(want, mcu.run(tmp_path, legal, data, "host"))


def two(weights: QFormat, bias: QFormat | None = None) -> Graph:
    """Two connections into one layer, of formats of their own."""
    odd = np.full((2, 3), 3)
    return net("two", (3,), (
        linear("fc", "input", odd, fmt=FINE),
        linear("fc2", "input", odd, np.array([1, 1]) if bias else None, weights, bias or FINE),
        dropping(neuron("lif", ("fc", "fc2"), (2,))),
    ))  # fmt: skip


def test_what_lava_cannot_shift_runs_in_a_process_model(rng: Rng) -> None:
    assert "fc and fc2 have weights finer" in refusal(two(QFormat(8, 1)))
    assert "the bias of fc2 has 2 fraction bits" in refusal(two(QFormat(8, 0), QFormat(8, 2)))
    graph = two(QFormat(8, 0))
    assert [s.drop for s in synapses(BACKEND.legalize(graph))] == [3, 0]
    other = graph.map(lambda n: dropping(n, QFormat(20, 1)) if isinstance(n, Neuron) else n)
    assert "is rounded to 1 fraction bits, the LIF's has 0" in refusal(other)


def test_too_fine_weights_are_refused() -> None:
    graph = net("fine", (2,), (
        linear("fc", "input", [[-1, 127]], fmt=QFormat(8, 8)),
        dropping(neuron("lif", ("fc",), (1,))),
    ))  # fmt: skip
    with pytest.raises(LegalizeError, match="drops 8 bits need the exponent -9, the limit is -8"):
        BACKEND.legalize(graph)


def test_a_net_file_has_no_such_shift() -> None:
    graph = net("fine", (2,), (
        linear("fc", "input", [[-1, 127]], fmt=FINE), dropping(neuron("lif", ("fc",), (1,))),
    ))  # fmt: skip
    made = BACKEND.emit(BACKEND.legalize(graph), BACKEND.devices["loihi2"], Plan({}))
    (reason,) = made.facts["netx"]["why_not"]
    assert "drops 3 low bits of the sum of fc" in reason
    assert "3 low bits of the sum dropped" in made.files["README.md"].decode()


def test_a_graph_keeps_its_input_formats(tmp_path: Path) -> None:
    graph = two(QFormat(8, 0))
    save(graph, tmp_path / "graph.qspinn")
    again = load(tmp_path / "graph.qspinn")
    assert again.digest == graph.digest
    assert again.of_type(Neuron)[0].input_format == UNIT
    assert "input_format=s32f0" in text(again)
    bare = graph.map(lambda n: replace(n, input_format=None) if isinstance(n, Neuron) else n)
    assert bare.digest != graph.digest


def test_a_range_is_proved() -> None:
    graph = two(QFormat(8, 0))
    narrow = graph.map(lambda n: dropping(n, QFormat(4, 0)) if isinstance(n, Neuron) else n)
    with pytest.raises(QuantizeError, match=r"may reach \[0, 10\], the range of s4f0 is \[-8, 7\]"):
        programs(narrow)
    assert programs(graph.map(lambda n: dropping(n, QFormat(5, 0)) if isinstance(n, Neuron) else n))


# --- plans ---


def layer(weights: np.ndarray, bias: np.ndarray | None = None, **source: object) -> Graph:
    """A float network of one layer."""
    lif = Neuron(
        name="lif", inputs=("fc",), shape=(len(weights),), model=spiking(leak=True),
        values={"decay": Param(0.9), "threshold": Param(1.0)}, states={"v": State(Param(0.0))},
    )  # fmt: skip
    fc = Linear(name="fc", inputs=("input",), weight=Param(weights), bias=bias and Param(bias))
    entry = Input(name="input", shape=(weights.shape[1],), **source)  # type: ignore[arg-type]
    return Graph("layer", (entry, fc, lif, Output(name="out", inputs=("lif",))))


def planned(graph: Graph, data: np.ndarray) -> Plan:
    return default_plan(BACKEND, graph, observe(graph, data))


def test_many_inputs_keep_the_bits_of_their_weights(rng: Rng) -> None:
    """Where 16 bits of sums leave whole weights three bits, they are finer, and err less."""
    weights = rng.normal(0, 0.02, (8, 400))
    graph = layer(weights, kind="count", high=1000)
    data = rng.integers(0, 1001, (6, 12, 400)).astype(float)
    plan = planned(graph, data)
    assert plan["fc.weight"].fmt.frac > 0
    assert "low bits are dropped" in plan["fc.weight"].note
    made = lower(graph, plan, BACKEND)
    (fine,) = synapses(made.final)
    assert fine.drop == plan["fc.weight"].fmt.frac
    assert made.plan["lif.input"].role == "free"
    entries = {k: v for k, v in plan.entries.items() if k != "lif.input"}
    whole = replace(entries["fc.weight"], fmt=QFormat(8, 0))
    coarse = quantize(graph, replace(plan, entries={**entries, "fc.weight": whole}))
    want = interp.run(graph, data).output.sum(1)
    errors = [
        np.abs(interp.run(g, data.astype(np.int64)).output.sum(1) - want).mean()
        for g in (made.quantized, coarse)
    ]
    assert errors[0] < 0.5 * errors[1]


def joined(weights: np.ndarray, others: np.ndarray, **source: object) -> Graph:
    """The same layer behind the input and itself, with a bias."""
    graph = layer(weights, **source)
    lif = replace(graph["lif"], inputs=("fc", "rec"))
    entry, fc, _, out = graph.nodes
    assert isinstance(fc, Linear)
    size = len(weights)
    return replace(graph, nodes=(
        entry, replace(fc, bias=Param(np.linspace(-0.05, 0.05, size))),
        Delay(name="back", inputs=("lif",), shape=(size,), steps=1),
        Linear(name="rec", inputs=("back",), weight=Param(others)), lif, out,
    ))  # fmt: skip


@pytest.mark.needs("lava")
def test_one_of_several_connections_keeps_its_bits(rng: Rng, tmp_path: Path) -> None:
    """The one that gains most; what feeds the layer beside it is in whole units, bias included."""
    graph = joined(rng.normal(0, 0.02, (8, 400)), rng.normal(0, 0.3, (8, 8)),
                   kind="count", high=1000)  # fmt: skip
    data = rng.integers(0, 1001, (4, 10, 400))
    plan = planned(graph, data.astype(float))
    assert plan["fc.weight"].fmt.frac > 0 >= plan["rec.weight"].fmt.frac
    assert plan["fc.bias"].fmt.frac <= 0
    made = lower(graph, plan, BACKEND)
    (found,) = layers(made.final, Reasons())
    assert found.registers is not None
    assert {s.name: s.drop for s in found.synapses} == {
        "fc": plan["fc.weight"].fmt.frac, "rec": 0,
    }  # fmt: skip
    peak = {"lif": int(plan.options["assume.lif"])}
    run_both(made.quantized, data, tmp_path, executor="lava-models", assume_activation=peak)
    entries = {k: v for k, v in plan.entries.items() if k != "lif.input"}
    whole = replace(entries["fc.weight"], fmt=QFormat(8, 0))
    coarse = quantize(graph, replace(plan, entries={**entries, "fc.weight": whole}))
    want = interp.run(graph, data).output.sum(1)
    errors = [
        np.abs(interp.run(g, data).output.sum(1) - want).mean() for g in (made.quantized, coarse)
    ]
    assert errors[0] < errors[1]


def test_values_enter_stock_neurons_beside_spikes(rng: Rng) -> None:
    graph = joined(rng.normal(0, 0.3, (8, 40)), rng.normal(0, 0.3, (8, 8)), kind="current")
    plan = planned(graph, np.repeat(rng.random((6, 1, 40)), 12, 1))
    (found,) = layers(lower(graph, plan, BACKEND).final, Reasons())
    assert found.registers is not None
    assert [(s.name, s.drop > 0) for s in found.synapses] == [("fc", True), ("rec", False)]
    finer = replace(plan["rec.weight"], fmt=QFormat(8, 1), role="free")
    given = Plan({"rec.weight": finer})
    settled = default_plan(BACKEND, graph, observe(graph, rng.random((2, 6, 40))), given)
    assert "lif.input" not in settled.entries


def test_few_inputs_need_no_shift(rng: Rng) -> None:
    graph = layer(rng.normal(0, 0.3, (8, 40)))
    plan = planned(graph, spikes(rng, (6, 12, 40)).astype(float))
    assert "lif.input" not in plan.entries
    assert "dropped" not in plan.text()


def test_values_enter_stock_neurons(rng: Rng) -> None:
    """What has fraction bits finds its way into Lava's LIF through the exponent."""
    graph = layer(rng.normal(0, 0.3, (8, 40)), kind="current")
    data = np.repeat(rng.random((6, 1, 40)), 12, 1)
    made = lower(graph, planned(graph, data), BACKEND)
    (found,) = layers(made.final, Reasons())
    assert found.registers is not None
    (one,) = synapses(made.final)
    fmt = made.final.input.fmt
    assert fmt is not None
    assert (one.drop, one.packed[0].exponent) == (7, -8)
    want = interp.run(graph, data).output.sum(1)
    got = interp.run(made.quantized, to_int(data, fmt)).output.sum(1)
    assert np.abs(got - want).mean() < 0.03 * want.mean()


def test_plans_say_it(rng: Rng) -> None:
    graph = layer(rng.normal(0, 0.3, (4, 9)))
    plan = planned(graph, spikes(rng, (2, 6, 9)).astype(float))
    asked = parse(plan.text() + "lif.input s20f-2 floor error free\n")
    assert quantize(graph, asked)["lif"].input_format == QFormat(20, -2)
    kept = lower(graph, asked, BACKEND)
    assert parse(kept.plan.text())["lif.input"].fmt == QFormat(20, -2)
    again = quantize(graph, parse(kept.plan.text()))
    assert again.digest == kept.quantized.digest
    shown = lower(graph, plan, BACKEND).plan
    assert shown["lif.input"].role == "derived"
    assert quantize(graph, shown)["lif"].input_format is None
    for words in ("s20f0 zero error", "s20f0 floor saturate", "leak4 floor error"):
        with pytest.raises(PlanError, match="a summed input"):
            quantize(graph, parse(plan.text() + f"lif.input {words} free\n"))
    with pytest.raises(PlanError, match=r"the plan names fc\.input"):
        quantize(graph, parse(plan.text() + "fc.input s20f0 floor error free\n"))
