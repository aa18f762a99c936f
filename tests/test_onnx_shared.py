"""ONNX files: limits of signals that several layers read, and arithmetic that was got wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from qspinn.errors import FrontendError
from qspinn.frontends import Imported, load_model
from qspinn.ir import Neuron
from test_onnx import scores

pytestmark = pytest.mark.needs("onnx")

Rng = np.random.Generator


def network(rng: Rng, *nodes: Any, **tensors: Any) -> Any:
    """Nodes behind ``h``, what a layer of four inputs adds up, and ``r``, its Relu."""
    stored = {
        "w": 2 * rng.normal(0, 1, (4, 5)), "v": rng.normal(0, 1, (5, 3)),
        "v2": rng.normal(0, 1, (5, 3)), "zero": np.array(0.0), "one": np.array(1.0),
        "two": np.array(2.0), "minus": np.array(-1.0), "unit": np.array(1 / 16),
        "point": np.array(0, np.uint8), **tensors,
    }  # fmt: skip
    first = [of.node("MatMul", ["x", "w"], "h"), of.node("Relu", ["h"], "r")]
    return of.model([*first, *nodes], ("n", 4), stored, opset=21)


def pair(source: str, into: str, unit: str = "unit") -> list[Any]:
    """Rounding, as ONNX's quantizers write it."""
    return [
        of.node("QuantizeLinear", [source, unit, "point"], f"{into}_q"),
        of.node("DequantizeLinear", [f"{into}_q", unit, "point"], into),
    ]


def clip(source: str, into: str, low: str = "zero") -> Any:
    return of.node("Clip", [source, low, "one"], into)


def ended(*nodes: Any, last: str) -> list[Any]:
    return [*nodes, of.node("MatMul", [last, "v"], "y")]


def shared(*nodes: Any, limited: str, free: str, first: bool) -> list[Any]:
    """Two branches of which one is limited, ``nodes``; the other one comes first or last."""
    other = [of.node("MatMul", [free, "v2"], "b")]
    this = [*nodes, of.node("MatMul", [limited, "v"], "a")]
    both = [*this, *other] if first else [*other, *this]
    return [*both, of.node("Add", ["a", "b"], "y")]


def agrees(made: Any, rng: Rng, tmp_path: Path, *, exact: bool = False) -> Imported:
    """Read a network that must say what the reference evaluator says, in spikes too."""
    path = of.save(tmp_path / "net.onnx", made)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    x = rng.uniform(-1, 1, (40, *(d.dim_value for d in dims[1:]))).astype(np.float32)
    imported = load_model(path, data=x, percentile=100.0, initial="half")
    wanted = of.judged(path, x)
    assert imported.reference is not None
    np.testing.assert_allclose(imported.reference(x), wanted, rtol=1e-4, atol=1e-5)
    assert np.ptp(wanted) > 0.1
    values = x.reshape(len(x), *imported.graph.input.shape)
    said = scores(imported, values, imported.meta["T"] if exact else 256)
    assert np.abs(said - wanted).max() < (1e-5 if exact else 0.06) * np.abs(wanted).max()
    return imported


@pytest.mark.parametrize(
    "nodes",
    [
        ended(of.node("Identity", ["h"], "i"), clip("i", "c"), *pair("c", "d"), last="d"),
        ended(clip("r", "c"), *pair("c", "d"), last="d"),
        ended(*pair("r", "d"), clip("d", "c"), last="c"),
        ended(*pair("r", "d"), of.node("Mul", ["d", "two"], "m"), clip("m", "c"), last="c"),
    ],
    ids=["clip-pair", "relu-clip-pair", "relu-pair-clip", "relu-pair-mul-clip"],
)
def test_a_limit_and_a_quantizer_hold_both(nodes: Any, rng: Rng, tmp_path: Path) -> None:
    """The smaller of both is the threshold, in levels of the quantizer."""
    imported = agrees(network(rng, *nodes), rng, tmp_path, exact=True)
    assert imported.meta["T"] in (8, 16)
    (hidden,) = imported.graph.of_type(Neuron)[:-1]
    assert float(hidden.values["threshold"].values) == imported.meta["T"] / 16


def test_a_pair_behind_a_pair(rng: Rng, tmp_path: Path) -> None:
    """Where the second one sends less than the first, it is a layer of its own."""
    nodes = ended(*pair("r", "c"), *pair("c", "d", "half"), last="d")
    made = network(rng, *nodes, unit=np.array(3 / 255), half=np.array(1 / 256))
    imported = agrees(made, rng, tmp_path)
    assert len(imported.graph.of_type(Neuron)) == 3


def test_one_quantizer_that_is_undone_twice(rng: Rng, tmp_path: Path) -> None:
    nodes = [
        *pair("r", "d"), of.node("DequantizeLinear", ["d_q", "unit", "point"], "e"),
        *shared(limited="d", free="e", first=True),
    ]  # fmt: skip
    imported = agrees(network(rng, *nodes, unit=np.array(1 / 64)), rng, tmp_path, exact=True)
    assert not any("not kept" in a.value for a in imported.assumptions)
    assert len(imported.graph.of_type(Neuron)) == 2


def test_a_signal_that_is_rounded_down(rng: Rng, tmp_path: Path) -> None:
    quant = of.node("Quant", ["r", "unit", "zero", "bits"], "d", of.QONNX, signed=0,
                    rounding_mode="FLOOR")  # fmt: skip
    made = network(rng, *ended(quant, last="d"), bits=np.array(4.0))
    with pytest.raises(FrontendError, match="d: rounds a signal by FLOOR"):
        load_model(of.save(tmp_path / "net.onnx", made), data=np.ones((2, 4)))


def test_a_limit_between_levels_is_another_layer(rng: Rng, tmp_path: Path) -> None:
    nodes = ended(*pair("r", "d"), clip("d", "c"), last="c")
    imported = agrees(network(rng, *nodes, unit=np.array(0.011)), rng, tmp_path)
    assert len(imported.graph.of_type(Neuron)) == 3


def test_a_limit_above_the_levels_changes_nothing(rng: Rng, tmp_path: Path) -> None:
    nodes = ended(*pair("r", "d"), clip("d", "c"), last="c")
    made = network(rng, *nodes, unit=np.array(0.7 / 255))
    imported = agrees(made, rng, tmp_path, exact=True)
    assert len(imported.graph.of_type(Neuron)) == 2


def test_a_quantizer_that_leaves_nothing(rng: Rng, tmp_path: Path) -> None:
    nodes = ended(clip("r", "c"), *pair("c", "d"), last="d")
    path = of.save(tmp_path / "net.onnx", network(rng, *nodes, unit=np.array(3.0)))
    with pytest.raises(FrontendError, match="values up to 1 to multiples of 3: zero"):
        load_model(path, data=np.ones((2, 4)))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("nodes", "limited", "free"),
    [
        ([of.node("Mul", ["r", "two"], "m"), clip("m", "c")], "c", "r"),
        ([of.node("Identity", ["r"], "i"), clip("i", "c")], "c", "r"),
        ([clip("r", "c")], "c", "r"),
        ([clip("r", "c"), of.node("Relu", ["h"], "r2")], "c", "r2"),
        ([clip("r", "c"), of.node("Dropout", ["r"], "i")], "c", "i"),
        ([of.node("Relu", ["r"], "r2"), clip("r2", "c")], "c", "r"),
        ([of.node("Cast", ["r"], "f", to=1), clip("f", "c")], "c", "r"),
    ],
    ids=["mul", "identity", "plain", "twin", "late", "relu", "cast"],
)
def test_a_limit_of_one_branch_is_not_the_others(
    nodes: Any, limited: str, free: str, first: bool, rng: Rng, tmp_path: Path
) -> None:
    first = first or free != "r"
    made = network(rng, *shared(*nodes, limited=limited, free=free, first=first))
    agrees(made, rng, tmp_path)


@pytest.mark.parametrize("first", [True, False])
def test_coarse_rounding_of_one_branch_takes_neurons(first: bool, rng: Rng, tmp_path: Path) -> None:
    """So it is that branch's alone."""
    quant = of.node("Quant", ["r", "unit", "zero", "bits"], "d", of.QONNX, signed=0)
    nodes = shared(quant, limited="d", free="r", first=first)
    tensors = {name: rng.normal(0, 1, (5, 3)) for name in ("v", "v2")} | {"w": np.eye(4, 5) * 4}
    made = network(rng, *nodes, unit=np.array(0.25), bits=np.array(3.0), **tensors)
    path, x = of.save(tmp_path / "net.onnx", made), rng.uniform(-1, 1, (40, 4)).astype(np.float32)
    imported = load_model(path, data=x, percentile=100.0, initial="half")
    rectified = np.maximum(x @ tensors["w"], 0)
    rounded = np.clip(np.rint(rectified / 0.25), 0, 7) * 0.25
    wanted = rounded @ tensors["v"] + rectified @ tensors["v2"]
    assert imported.reference is not None
    np.testing.assert_allclose(imported.reference(x), wanted, rtol=1e-4, atol=1e-5)
    thresholds = [float(n.values["threshold"].values) for n in imported.graph.of_type(Neuron)[:-1]]
    assert sorted(thresholds) == [1.75, pytest.approx(rectified.max())]
    assert any("rounded to 7 levels on this path alone" in a.value for a in imported.assumptions)
    off = np.abs(scores(imported, x, 256) - wanted).max()
    assert off < 0.25 / 2 * np.abs(tensors["v"]).sum(0).max() + 0.1  # steps round it finer


@pytest.mark.parametrize("first", [True, False])
def test_fine_rounding_of_one_branch_is_told(first: bool, rng: Rng, tmp_path: Path) -> None:
    """It is not kept: spikes are coarser."""
    nodes = [of.node("Identity", ["r"], "i"), *pair("i", "d")]
    made = network(
        rng, *shared(*nodes, limited="d", free="r", first=first), unit=np.array(0.125)
    )  # fmt: skip
    path, x = of.save(tmp_path / "net.onnx", made), rng.uniform(-1, 1, (40, 4))
    imported = load_model(path, data=x)
    assert any("which is not kept" in a.value for a in imported.assumptions)
    assert len(imported.graph.of_type(Neuron)) == 2
    off = np.abs(imported.reference(x) - of.judged(path, x))  # type: ignore[misc]
    assert off.max() < 0.125 / 2 * 5 * 4


@pytest.mark.parametrize("by", ["pair", "Quant"])
@pytest.mark.parametrize("name", ["x", "i"])
def test_rounding_of_an_input_that_is_also_read_as_it_is(
    by: str, name: str, rng: Rng, tmp_path: Path
) -> None:
    tensors = {"w": rng.normal(0, 1, (4, 3)), "v": rng.normal(0, 1, (4, 3)),
               "unit": np.array(0.5), "point": np.array(0, np.uint8), "zero": np.array(0.0),
               "bits": np.array(8.0)}  # fmt: skip
    quant = of.node("Quant", [name, "unit", "zero", "bits"], "d", of.QONNX, signed=0)
    nodes = [
        of.node("Identity", ["x"], "i"), *(pair(name, "d") if by == "pair" else [quant]),
        of.node("MatMul", ["d", "w"], "a"), of.node("MatMul", ["x", "v"], "b"),
        of.node("Add", ["a", "b"], "y"),
    ]  # fmt: skip
    path = of.save(tmp_path / "net.onnx", of.model(nodes, ("n", 4), tensors, opset=21))
    x = rng.random((20, 4))
    imported = load_model(path, data=x)
    assert any("rounds the input, which is not kept" in a.value for a in imported.assumptions)
    plain = x @ (tensors["w"] + tensors["v"])
    np.testing.assert_allclose(imported.reference(x), plain, atol=1e-5)  # type: ignore[misc]


def test_a_limit_asks_whether_a_signal_is_negative(rng: Rng, tmp_path: Path) -> None:
    tensors = {"less": np.array(-2.0)}
    nodes = ended(of.node("Mul", ["r", "less"], "m"), clip("m", "c", "minus"), last="c")
    path = of.save(tmp_path / "net.onnx", network(rng, *nodes, **tensors))
    with pytest.raises(FrontendError, match="keeps values between -1 and 1"):
        load_model(path, data=np.ones((2, 4)))


@pytest.mark.parametrize("kind", [6, 7, 3, 9])
def test_a_signal_cast_to_integers(kind: int, rng: Rng, tmp_path: Path) -> None:
    nodes = [of.node("Cast", ["r"], "k", to=kind), of.node("Cast", ["k"], "f", to=1)]
    path = of.save(tmp_path / "net.onnx", network(rng, *ended(*nodes, last="f")))
    with pytest.raises(FrontendError, match=f"k: casts a signal to the type {kind}") as e:
        load_model(path, data=np.ones((2, 4)))
    assert "QuantizeLinear" in e.value.hint


def one_score(end: str) -> list[Any]:
    if end == "integers":
        return [of.node("DequantizeLinear", ["q", "unit", "none"], "k"),
                of.node("MatMul", ["r", "k"], "y")]  # fmt: skip
    last = {"sigmoid": ("Sigmoid", ["s"]), "logit": ("Add", ["s", "c"]), "relu": ("Relu", ["s"])}
    return [of.node("MatMul", ["r", "u"], "s"), of.node(*last[end], "y")]


@pytest.mark.parametrize("end", ["sigmoid", "logit", "relu", "integers"])
def test_one_score_is_the_second_of_two(end: str, rng: Rng, tmp_path: Path) -> None:
    """Class 1 is where it is positive, for the network and for spikes."""
    tensors = {
        "u": rng.normal(0, 1, (5, 1)), "c": np.array([0.3]), "none": np.array(0, np.int8),
        "q": rng.integers(-7, 8, (5, 1)).astype(np.int8),
    }  # fmt: skip
    made = network(rng, *one_score(end), **tensors)
    path, x = of.save(tmp_path / "net.onnx", made), rng.uniform(-1, 1, (60, 4))
    wanted = of.judged(path, x).reshape(-1)
    wanted = np.log(wanted / (1 - wanted)) if end == "sigmoid" else wanted
    assert 0.1 < (wanted > 0).mean() < 0.9
    imported = load_model(path, data=x, percentile=100.0)
    assert any("the second of two" in a.value for a in imported.assumptions)
    assert imported.reference is not None
    both = imported.reference(x)
    assert not both[:, 0].any()
    np.testing.assert_allclose(both[:, 1], wanted, rtol=1e-3, atol=1e-5)
    said = scores(imported, x, 256)
    assert not said[:, 0].any()
    assert np.abs(said[:, 1] - wanted).max() < 0.05 * np.abs(wanted).max()
    sure = np.abs(wanted) > 0.05 * np.abs(wanted).max()
    assert np.array_equal(said.argmax(1)[sure], (wanted > 0)[sure])
    kept = [a for a in imported.assumptions if "keeps its integers" in a.value]
    assert len(kept) == (end == "integers")


def test_one_score_of_an_image(rng: Rng, tmp_path: Path) -> None:
    tensors = {"w": rng.normal(0, 1, (2, 1, 3, 3)), "v": rng.normal(0, 1, (1, 2, 4, 4))}
    made = of.chain(rng, ("Conv", ["w"], {}), ("Relu", [], {}), ("Conv", ["v"], {}),
                    shape=("n", 1, 6, 6), tensors=tensors)  # fmt: skip
    path, x = of.save(tmp_path / "net.onnx", made), rng.uniform(-1, 1, (10, 1, 6, 6))
    imported = load_model(path, data=x)
    wanted = of.judged(path, x).reshape(-1)
    assert imported.reference is not None
    np.testing.assert_allclose(imported.reference(x)[:, 1], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("end", ["Softmax", "ArgMax"])
def test_a_choice_from_one_score(end: str, rng: Rng, tmp_path: Path) -> None:
    nodes = [of.node("MatMul", ["r", "u"], "s"), of.node(end, ["s"], "y", axis=1)]
    made = network(rng, *nodes, u=rng.normal(0, 1, (5, 1)))
    path = of.save(tmp_path / "net.onnx", made)
    with pytest.raises(FrontendError, match="y: has one score") as e:
        load_model(path, data=np.ones((2, 4)))
    assert "the score alone" in e.value.hint


@pytest.mark.parametrize(
    "nodes",
    [
        [of.node("MatMul", ["r", "v"], "a"), of.node("MatMul", ["r", "v2"], "b"),
         of.node("Sub", ["a", "b"], "y")],
        [of.node("Sub", ["r", "h"], "d"), of.node("Relu", ["d"], "e"),
         of.node("MatMul", ["e", "v"], "y")],
        [of.node("Mul", ["r", "unit"], "m"), of.node("Sub", ["h", "m"], "d"),
         of.node("Relu", ["d"], "e"), of.node("MatMul", ["e", "v"], "y")],
    ],
    ids=["sums", "relu-sum", "sum-relu"],
)  # fmt: skip
def test_a_difference_of_signals(nodes: Any, rng: Rng, tmp_path: Path) -> None:
    agrees(network(rng, *nodes), rng, tmp_path)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axis", [-1, 2])
def test_a_mean_over_time(axis: int, keep: int, rng: Rng, tmp_path: Path) -> None:
    """``x.mean(-1)`` behind convolutions in one dimension."""
    tensors = {"w": rng.normal(0, 0.6, (4, 2, 3)), "b": rng.normal(0, 0.2, 4),
               "v": of.dense(rng, 3, 4), "c": rng.normal(0, 0.2, (1, 3))}  # fmt: skip
    made = of.chain(
        rng, ("Conv", ["w", "b"], {"pads": [1, 1]}), ("Relu", [], {}),
        ("ReduceMean", [], {"axes": [axis], "keepdims": keep}), ("Flatten", [], {}),
        ("Gemm", ["v", "c"], {"transB": 1}), ("Add", ["c"], {}),
        shape=("n", 2, 12), tensors=tensors,
    )  # fmt: skip
    agrees(made, rng, tmp_path)


def test_two_rectifiers_of_one_maximum(rng: Rng, tmp_path: Path) -> None:
    nodes = [
        of.node("Conv", ["x", "w"], "c"),
        of.node("MaxPool", ["c"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        of.node("Relu", ["p"], "r"), of.node("Clip", ["p", "zero", "most"], "k"),
        of.node("Sub", ["r", "k"], "d"), of.node("Relu", ["d"], "e"),
        of.node("Flatten", ["e"], "f"), of.node("Gemm", ["f", "v"], "y", transB=1),
    ]  # fmt: skip
    tensors = {"w": rng.normal(0, 1, (2, 1, 3, 3)), "v": of.dense(rng, 3, 8),
               "zero": np.array(0.0), "most": np.array(0.5)}  # fmt: skip
    path = of.save(tmp_path / "net.onnx", of.model(nodes, ("n", 1, 6, 6), tensors))
    x = rng.uniform(-1, 1, (10, 1, 6, 6))
    imported = load_model(path, data=x)
    np.testing.assert_allclose(imported.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-5)  # type: ignore[misc]
