"""What sign modes are worth: a bit for weights of one sign, and for both signs in two matrices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.layers import layers
from qspinn.backends.loihi.reasons import Reasons, Unfit
from qspinn.backends.loihi.synmem import loihi2_row
from qspinn.backends.loihi.table import WEIGHT_BITS
from qspinn.backends.loihi.weights import Packed, pack, signed

from loihi_nets import linear, net, neuron, run_both, spikes
from qspinn.backend import default_plan
from qspinn.calibrate import observe
from qspinn.choice import Choice, Choices
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import LegalizeError
from qspinn.explore.explorer import explore
from qspinn.explore.knobs import space_of
from qspinn.explore.result import Limits
from qspinn.explore.runners import Local
from qspinn.explore.settings import Settings
from qspinn.fixed import QFormat
from qspinn.frontends.report import Imported
from qspinn.ir import Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.job import Job
from qspinn.neurons import integrator, spiking
from qspinn.passes.quantize import quantize
from qspinn.pipeline import lower
from qspinn.plan import Plan

Rng = np.random.Generator
NINE = QFormat(9, 0, True, -255, 255)


def packed(graph: Graph) -> list[Packed]:
    return [p for layer in layers(graph, Reasons()) for s in layer.synapses for p in s.packed]


def test_two_signs_in_two_matrices(rng: Rng) -> None:
    values = rng.integers(-255, 256, (5, 9)) << 3
    values[0, :2] = 255 << 3, -255 << 3
    with pytest.raises(Unfit, match="need 9 bits, the limit is 8"):
        pack(values)
    up, down = signed(values)
    assert (up.mode, up.bits, down.mode, down.bits) == ("EXCITATORY", 8, "INHIBITORY", 8)
    np.testing.assert_array_equal(up.values + down.values, values)
    assert not (up.values * down.values).any()


def test_one_matrix_where_one_will_do(rng: Rng) -> None:
    for low, high, mode in ((0, 256, "EXCITATORY"), (-255, 1, "INHIBITORY"), (-128, 128, "MIXED")):
        (one,) = signed(rng.integers(low, high, (6, 7)))
        assert one.mode == mode
    (even,) = signed(2 * rng.integers(-128, 128, (6, 7)))
    assert even.mode == "MIXED"


@pytest.mark.parametrize("values", [[[-256, 255]], [[511, -1]], [[256 + 1, 3]], [[-257, -3]]])
def test_wider_weights_are_refused(values: list[list[int]]) -> None:
    with pytest.raises(Unfit, match=r"bits, the limit is 8") as caught:
        signed(np.array(values))
    assert "s9f0[-255,255], which takes two synapses each" in caught.value.hint


@pytest.mark.needs("lava")
def test_nine_bits_in_lava(rng: Rng, tmp_path: Path) -> None:
    weights = rng.integers(-255, 256, (6, 12))
    graph = net("nine", (12,), (
        linear("fc", "input", weights, fmt=NINE), neuron("lif", ("fc",), (6,), synapse="new"),
        linear("fc2", "lif", rng.integers(-255, 0, (4, 6)), fmt=QFormat(9, 0, True, -255, 0)),
        neuron("last", ("fc2",), (4,), {"bias": 30000}, bias=True),
    ))  # fmt: skip
    legal = run_both(graph, spikes(rng, (3, 15, 12)), tmp_path, executor="lava-models")
    assert [p.mode for p in packed(legal)] == ["EXCITATORY", "INHIBITORY", "INHIBITORY"]
    text = (tmp_path / "network.py").read_text()
    assert "fc_2 = Dense(" in text
    assert "fc_2.a_out.connect(lif.a_in)" in text
    wide = linear("fc", "input", 2 * weights + 1, fmt=QFormat(10, 0))
    with pytest.raises(LegalizeError, match=r"fc: weights from .* need 10 bits"):
        BACKEND.legalize(graph.map(lambda node: wide if node.name == "fc" else node))


# --- what the plan makes of it ---


def trained(weights: np.ndarray) -> Graph:
    """A float network of one layer."""
    model = spiking(leak=True)
    lif = Neuron(
        name="lif", inputs=("fc",), shape=(len(weights),), model=model,
        values={"decay": Param(0.9), "threshold": Param(1.0)}, states={"v": State(Param(0.0))},
    )  # fmt: skip
    fc = Linear(name="fc", inputs=("input",), weight=Param(weights))
    source = Input(name="input", shape=(weights.shape[1],))
    return Graph("trained", (source, fc, lif, Output(name="out", inputs=("lif",))))


def lowered(weights: np.ndarray, choices: Choices) -> tuple[Graph, float, int]:
    """The lowered graph, the largest error of its weights in the weights' units, and its words."""
    graph = trained(weights)
    data = spikes(np.random.default_rng(1), (8, 10, weights.shape[1]))
    calibration = replace(observe(graph, data.astype(float)), method="max")
    plan = default_plan(BACKEND, graph, calibration, choices=choices)
    integer = quantize(graph, plan)
    stored = integer["fc"].params()["weight"].real / plan.scales["lif"]
    legal = BACKEND.legalize(integer)
    found = BACKEND.footprint(legal, BACKEND.devices["loihi2"])
    words = sum(line.bytes for line in found.lines if line.region == "synmem") // 8
    return legal, float(np.abs(stored - weights).max()), words


def test_inhibition_has_all_eight_bits(rng: Rng) -> None:
    """With a sign among its eight bits, as weights of both signs have it, the error doubles."""
    weights = -rng.uniform(0.0, 0.9, (10, 20))
    legal, error, words = lowered(weights, {})
    (one,) = packed(legal)
    assert (one.mode, one.bits) == ("INHIBITORY", 8)
    assert one.mantissa.min() == -255
    assert (one.mantissa & 1).any()
    mirrored, same, as_many = lowered(-weights, {})
    assert packed(mirrored)[0].mode == "EXCITATORY"
    assert (error, words) == (same, as_many)
    assert error < 0.6 * np.abs(weights).max() / 255


def test_a_ninth_bit_halves_the_error_and_takes_a_second_matrix(rng: Rng) -> None:
    weights = rng.uniform(-0.9, 0.9, (10, 20))
    legal, error, words = lowered(weights, {})
    assert [(p.mode, p.bits) for p in packed(legal)] == [("MIXED", 8)]
    split, finer, more = lowered(weights, {"fc.weight": Choice(bits=9)})
    assert [(p.mode, p.bits) for p in packed(split)] == [("EXCITATORY", 8), ("INHIBITORY", 8)]
    assert finer < 0.6 * error
    assert more == 2 * words
    alone, _, same = lowered(np.abs(weights), {"fc.weight": Choice(bits=9)})
    assert [(p.mode, p.bits) for p in packed(alone)] == [("EXCITATORY", 8)]
    assert same == words


# --- what saves memory is done, and what gains a bit is searched ---


def words_of(graph: Graph, device: str = "loihi2") -> int:
    found = BACKEND.footprint(graph, BACKEND.devices[device])
    return sum(line.bytes for line in found.lines if line.region == "synmem") // 8


def scattered(rng: Rng, *, dale: bool) -> tuple[Graph, int]:
    """A sparse layer of 6-bit weights, and the words it would take in one matrix."""
    each, size = 14, 140
    weights = np.zeros((size, size), np.int64)
    for column in range(size):
        rows = rng.permutation(size)[:each]
        values = rng.integers(1, 32, each)
        weights[rows, column] = values * (rng.choice((-1, 1), each) if not dale else 1)
        if dale and column % 3 == 0:
            weights[:, column] *= -1
    graph = net("scattered", (size,), (
        linear("fc", "input", weights, fmt=QFormat(6, 0)), neuron("lif", ("fc",), (size,)),
    ))  # fmt: skip
    return graph, size * -(-(each * (6 + 12) + 10) // 64)


@pytest.mark.needs("lava")
def test_sparse_inputs_of_one_sign_each_are_split_for_memory(rng: Rng, tmp_path: Path) -> None:
    graph, words = scattered(rng, dale=True)
    legal = run_both(graph, spikes(rng, (2, 8, 140)), tmp_path, executor="lava-models")
    assert [(p.mode, p.bits) for p in packed(legal)] == [("EXCITATORY", 5), ("INHIBITORY", 5)]
    assert words_of(legal) == words - 140
    with np.load(tmp_path / "params.npz") as params:
        assert params["fc"].size + params["fc_2"].size == 140 * 14
        assert (params["fc"] > 0).all()
        assert (params["fc_2"] < 0).all()


def test_sparse_inputs_of_both_signs_stay_together(rng: Rng) -> None:
    graph, words = scattered(rng, dale=False)
    legal = BACKEND.legalize(graph)
    assert [(p.mode, p.bits) for p in packed(legal)] == [("MIXED", 6)]
    assert words_of(legal) == words


def test_a_ninth_bit_of_a_sparse_matrix_doubles_no_synapse(rng: Rng) -> None:
    graph, _ = scattered(rng, dale=True)
    values = graph["fc"].params()["weight"].values
    wide = np.where(values, 8 * values + np.sign(values), 0)
    fine = graph.map(
        lambda n: linear("fc", "input", wide, fmt=NINE) if n.name == "fc" else n
    )  # fmt: skip
    legal = BACKEND.legalize(fine)
    assert [p.bits for p in packed(legal)] == [8, 8]
    assert words_of(legal) == 140 * -(-(14 * (8 + 12) + 10) // 64)


def ruled(rng: Rng, each: int, size: int = 90, wide: int = 32) -> tuple[Graph, int]:
    """A dense layer whose inputs have one sign each, and the words it takes in one matrix."""
    weights = np.zeros((size, size), np.int64)
    for column in range(size):
        rows = rng.permutation(size)[:each]
        weights[rows, column] = rng.integers(1, wide, each) * (-1 if column % 3 == 0 else 1)
    graph = net("ruled", (size,), (
        linear("fc", "input", weights), neuron("lif", ("fc",), (size,)),
    ))  # fmt: skip
    return graph, size * -(-(size * (6 + 12) + 10) // 64)


@pytest.mark.needs("lava")
def test_dense_inputs_of_one_sign_each_are_split_where_both_chips_gain(
    rng: Rng, tmp_path: Path
) -> None:
    graph, words = ruled(rng, each=20)
    legal = run_both(graph, spikes(rng, (2, 8, 90)), tmp_path, executor="lava-models")
    assert [(p.mode, p.bits) for p in packed(legal)] == [("EXCITATORY", 5), ("INHIBITORY", 5)]
    assert words_of(legal) == 90 * -(-(20 * (5 + 12) + 10) // 64) < words
    assert words_of(legal, "loihi1") < 90 * -(-(64 * 6 + 10) // 64 + -(26 * 6 + 10) // 64)


def test_a_dense_matrix_stays_one_where_loihi_1_would_pay_for_its_index(rng: Rng) -> None:
    graph, words = ruled(rng, each=80)
    legal = BACKEND.legalize(graph)
    assert [(p.mode, p.bits) for p in packed(legal)] == [("MIXED", 6)]
    assert words_of(legal) == words


def test_two_dense_matrices_never_save_words() -> None:
    """Not even where each sign needs a single bit, as 0 and 128 and -1 do."""
    neurons = np.arange(1, 4096)
    for bits in WEIGHT_BITS[1:]:
        one = loihi2_row(neurons, bits, 0, 0)
        assert (2 * loihi2_row(neurons, 1, 0, 0) >= one).all()


def contest(*, close: bool) -> tuple[Job, Plan]:
    """Two neurons of which the second hears a little more, or a lot; its samples are of class 1."""
    draw = np.random.default_rng(3)
    weights = np.array([[252.0, -255.0], [253.0 if close else 102.0, -255.0 if close else -40.0]])
    model = integrator(leak=False)
    last = Neuron(
        name="last", inputs=("fc",), shape=(2,), model=model, values={}, states={"v": State()}
    )
    graph = Graph("contest", (
        Input(name="input", shape=(2,)),
        Linear(name="fc", inputs=("input",), weight=Param(weights)),
        last, Output(name="out", inputs=("last",), readout="membrane_last"),
    ))  # fmt: skip
    data = np.zeros((600, 8, 2), np.uint8)
    data[:, :, 0] = draw.random((600, 8)) < 0.6
    data[:, 0, 0] = 1
    data[::2, :, 1] = data[::2, :, 0] if not close else 0
    labels = np.ones(600, np.int64)
    if not close:
        labels = (np.arange(600) % 2 == 0).astype(np.int64)
    dataset = Dataset("contest", data, labels, np.arange(600) % 3)
    job = Job(
        Path("contest"), Imported(graph), graph, Encoder("none", 8), dataset,
        observe(graph, data.astype(float)), (),
    )  # fmt: skip
    return job, Plan({}, {"last": np.ones(())})


@pytest.mark.parametrize("close", [True, False])
def test_the_explorer_takes_a_second_matrix_where_it_pays(close: bool) -> None:
    """Without the ninth bit 253 and 252 are the same weight."""
    job, given = contest(close=close)
    settings = Settings(
        levels={"weight": ("9", "8", "6"), "scale": (), "weight:rounding": ()},
        limits=Limits(max_drop=0.05),
    )
    device = BACKEND.devices["loihi2"]
    found = explore(job, BACKEND, device, settings, Local(), given=given)
    assert found.plan is not None
    made = {e.words["fc.weight"]: e for e in found.exploration.entries}
    legal = lower(job.graph, found.plan, BACKEND).final
    modes = [p.mode for p in packed(legal)]
    if close:
        assert modes == ["EXCITATORY", "INHIBITORY"]
        assert made["9"].memory.weights == 2 * made["8"].memory.weights
        assert made["9"].accuracy.value == 1.0 > made["8"].accuracy.value
    else:
        assert modes == ["MIXED"]


def test_only_weights_of_both_signs_can_be_split(rng: Rng) -> None:
    for weights, offered in ((rng.normal(size=(3, 4)), True), (-rng.random((3, 4)), False),
                             (rng.random((3, 4)), False)):  # fmt: skip
        space = space_of(trained(weights), BACKEND, Encoder("none", 8))
        assert ("9" in space.knobs[space.index("fc.weight")].options) == offered
