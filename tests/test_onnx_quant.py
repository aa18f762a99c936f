"""Quantized ONNX files: their integers are the weights of the program, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.ir import Conv2d, Graph, Linear, Neuron
from qspinn.pipeline import lower

pytestmark = pytest.mark.needs("onnx")

Rng = np.random.Generator


def quantized(path: Path, x: Any, target: str = "mcu", steps: int = 16) -> tuple[jobs.Job, Graph]:
    """The import, and the integer graph under the target's default plan."""
    data = path.with_suffix(".npz")
    np.savez(data, x=x, y=np.zeros(len(x), np.int64))
    job = jobs.prepare(path, data, encode={"steps": steps})
    chip = backend(target)
    return job, lower(job.graph, jobs.plan_for(job, chip), chip).quantized


def weights(graph: Graph, kind: Any = Linear) -> list[Any]:
    return [node.weight for node in graph.of_type(kind)]


def qdq(rng: Rng, scale: Any = 0.01, zero: int = 0, dtype: Any = np.int8, axis: int = 0) -> Any:
    """Two layers, whose weights are stored as integers with a DequantizeLinear behind them."""
    info = np.iinfo(dtype)
    whole = [rng.integers(info.min, info.max + 1, shape, dtype) for shape in ((8, 6), (4, 8))]
    scales = [np.broadcast_to(scale, (8,)).copy() if np.ndim(scale) else np.array(scale),
              np.array(0.02)]  # fmt: skip
    points = [np.full(np.shape(s), zero, dtype) for s in scales]
    tensors = {"b": rng.normal(0, 0.2, 8)}
    nodes = []
    for i in range(2):
        tensors |= {f"w{i}": whole[i], f"s{i}": scales[i], f"z{i}": points[i]}
        nodes.append(of.node("DequantizeLinear", [f"w{i}", f"s{i}", f"z{i}"], f"d{i}", axis=axis))
    nodes += [
        of.node("Gemm", ["x", "d0", "b"], "fc", transB=1), of.node("Relu", ["fc"], "r"),
        of.node("Gemm", ["r", "d1"], "y", transB=1),
    ]  # fmt: skip
    return of.model(nodes, ("n", 6), tensors, opset=21), [w.astype(np.int64) - zero for w in whole]


@pytest.mark.parametrize(
    ("scale", "zero", "dtype", "target"),
    [
        (0.01, 0, np.int8, "mcu"), (1 / 64, 0, np.int8, "mcu"), (0.01, 128, np.uint8, "mcu"),
        (0.013, 0, np.uint8, "mcu"), (np.linspace(0.004, 0.03, 8), 0, np.int8, "mcu"),
        (0.0001, 0, np.int16, "mcu"), (0.01, 0, np.int8, "loihi"), (0.013, 0, np.uint8, "loihi"),
    ],
)  # fmt: skip
def test_stored_integers_stay(
    scale: Any, zero: int, dtype: Any, target: str, rng: Rng, tmp_path: Path
) -> None:
    made, whole = qdq(rng, scale, zero, dtype)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((40, 6))
    job, graph = quantized(path, x, target)
    for weight, expected in zip(weights(graph), whole, strict=True):
        assert (weight.values == expected).all()
    kept = [a for a in job.imported.assumptions if "keeps its integers" in a.value]
    assert len(kept) == 2
    np.testing.assert_allclose(job.imported.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-5)  # type: ignore[misc]


def test_the_program_of_integers_answers_as_the_float_one(rng: Rng, tmp_path: Path) -> None:
    made, _ = qdq(rng)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((200, 6))
    job, graph = quantized(path, x, steps=64)
    index = np.arange(200)
    assert job.dataset is not None
    from qspinn.evaluate import predictions

    given = predictions(graph, job.dataset, job.encoder, index)
    wanted = job.imported.reference(x).argmax(1)  # type: ignore[misc]
    assert (given == wanted).mean() > 0.95
    assert len(np.unique(wanted)) > 1


def test_integers_of_four_bits(rng: Rng, tmp_path: Path) -> None:
    """Two a byte in the file."""
    from onnx import TensorProto, helper

    made, _ = qdq(rng)
    whole = rng.integers(-8, 8, (8, 6))
    packed = helper.make_tensor("w0", TensorProto.INT4, (8, 6), whole.ravel().tolist())
    zero = helper.make_tensor("z0", TensorProto.INT4, (), [0])
    for tensor in list(made.graph.initializer):
        if tensor.name in ("w0", "z0"):
            made.graph.initializer.remove(tensor)
    made.graph.initializer.extend([packed, zero])
    _, graph = quantized(of.save(tmp_path / "net.onnx", made), rng.random((40, 6)))
    weight = weights(graph)[0]
    assert (weight.values == whole).all()
    assert str(weight.fmt) == "s4f0"


@pytest.mark.parametrize(("steps", "bits"), [(16, 16), (512, 32)])
def test_membranes_get_the_room_that_settled_weights_ask(
    steps: int, bits: int, rng: Rng, tmp_path: Path
) -> None:
    """The scale follows from the integers, so it cannot make room in 16 bits."""
    made, _ = qdq(rng)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((12, 6))
    _, graph = quantized(path, x, steps=steps)
    formats = [node.states["v"].fmt for node in graph.of_type(Neuron)]
    assert all(fmt is not None and fmt.frac >= 0 for fmt in formats)
    assert max(fmt.bits for fmt in formats if fmt is not None) == bits


def qonnx(rng: Rng, bits: int, *, narrow: int = 0, act_bits: int = 4, unit: float = 0.25) -> Any:
    """Weights and activations with Quant nodes, the weights in float."""
    top = (1 << bits - 1) - 1
    whole = [rng.integers(-top - 1 + narrow, top + 1, shape) for shape in ((8, 6), (4, 8))]
    tensors = {
        "w0": whole[0] * 0.07, "w1": whole[1] * 0.11, "s0": np.array(0.07), "s1": np.array(0.11),
        "zero": np.array(0.0), "bits": np.array(float(bits)), "abits": np.array(float(act_bits)),
        "unit": np.array(unit),
    }  # fmt: skip
    weight = {"signed": 1, "narrow": narrow, "rounding_mode": "ROUND"}
    nodes = [
        of.node("Quant", ["w0", "s0", "zero", "bits"], "q0", of.QONNX, **weight),
        of.node("Quant", ["w1", "s1", "zero", "bits"], "q1", of.QONNX, **weight),
        of.node("Transpose", ["q0"], "t0", perm=[1, 0]),
        of.node("Transpose", ["q1"], "t1", perm=[1, 0]),
        of.node("MatMul", ["x", "t0"], "m0"), of.node("Relu", ["m0"], "r"),
        of.node("Quant", ["r", "unit", "zero", "abits"], "qr", of.QONNX, signed=0, narrow=0,
                rounding_mode="ROUND"),
        of.node("MatMul", ["qr", "t1"], "y"),
    ]  # fmt: skip
    return of.model(nodes, ("n", 6), tensors), whole


@pytest.mark.parametrize(("bits", "narrow"), [(8, 0), (8, 1), (4, 0), (3, 1), (2, 0), (2, 1)])
def test_quant_nodes(bits: int, narrow: int, rng: Rng, tmp_path: Path) -> None:
    """QONNX: the integers stay, a quantized Relu gives threshold and steps, and needs no data."""
    made, whole = qonnx(rng, bits, narrow=narrow)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((40, 6))
    imported = load_model(path)
    first, last = imported.graph.of_type(Neuron)
    assert float(first.values["threshold"].values) == 15 * 0.25
    assert "threshold" not in last.values
    assert imported.meta["T"] == 15
    _, graph = quantized(path, x)
    for weight, expected in zip(weights(graph), whole, strict=True):
        assert (weight.values == expected).all()
        assert weight.fmt is not None
        assert weight.fmt.bits == bits
        assert (weight.fmt.range.lo == -1) == (bits == 2 and narrow == 1)


def test_levels_are_those_of_as_many_steps(rng: Rng, tmp_path: Path) -> None:
    """With the steps of the quantizer, from half a threshold, a rate is the rounded activation."""
    made, _ = qonnx(rng, 8, act_bits=4, unit=0.25)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((60, 6))
    imported = load_model(path, initial="half")
    from test_onnx import scores

    np.testing.assert_allclose(scores(imported, x, 15), imported.reference(x), atol=1e-9)  # type: ignore[misc]
    assert np.abs(scores(imported, x, 14) - imported.reference(x)).max() > 1e-3  # type: ignore[misc]


def test_bipolar_weights_are_binary(rng: Rng, tmp_path: Path) -> None:
    tensors = {"w": rng.normal(0, 1, (8, 6)), "s": np.array(0.3), "v": of.dense(rng, 4, 8)}
    nodes = [
        of.node("BipolarQuant", ["w", "s"], "q", "onnx.brevitas"),
        of.node("Gemm", ["x", "q"], "fc", transB=1), of.node("Relu", ["fc"], "r"),
        of.node("Gemm", ["r", "v"], "y", transB=1),
    ]  # fmt: skip
    path = of.save(tmp_path / "net.onnx", of.model(nodes, ("n", 6), tensors))
    _, graph = quantized(path, rng.random((40, 6)))
    weight = weights(graph)[0]
    assert str(weight.fmt) == "b1f0"
    assert (weight.values == np.where(tensors["w"] >= 0, 1, -1)).all()


def convolutional(rng: Rng, *, scales: int, norm: bool, ending: bool = False) -> Any:
    """A convolution with integers, perhaps normalized, an average pool, and a dense layer."""
    whole = rng.integers(-127, 128, (4, 2, 3, 3), np.int8)
    head = rng.integers(-127, 128, (4, 36), np.int8)
    tensors = {
        "w": whole, "s": rng.uniform(0.002, 0.01, scales) if scales > 1 else np.array(0.005),
        "v": head, "t": rng.uniform(0.002, 0.01, 4) if ending else np.array(0.004),
        "scale": np.array([0.7, -1.2, 0.9, 1.1]), "shift": rng.normal(0, 0.1, 4),
        "mean": rng.normal(0, 0.1, 4), "var": rng.uniform(0.5, 2, 4),
    }  # fmt: skip
    nodes = [
        of.node("DequantizeLinear", ["w", "s"], "dw", axis=0),
        of.node("DequantizeLinear", ["v", "t"], "dv", axis=0),
        of.node("Conv", ["x", "dw"], "c"),
        *([of.node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], "bn")] * norm),
        of.node("Relu", ["bn" if norm else "c"], "r"),
        of.node("AveragePool", ["r"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        of.node("Flatten", ["p"], "f"), of.node("Gemm", ["f", "dv"], "y", transB=1),
    ]  # fmt: skip
    return (
        of.model(nodes, ("n", 2, 8, 8), tensors, opset=21),
        whole.astype(np.int64),
        head.astype(np.int64),
    )


@pytest.mark.parametrize("scales", [1, 4])
@pytest.mark.parametrize("norm", [False, True])
def test_a_convolution_keeps_integers_under_a_norm(
    scales: int, norm: bool, rng: Rng, tmp_path: Path
) -> None:
    """A channel whose norm has a negative factor is negated, the others stay as they are."""
    made, whole, head = convolutional(rng, scales=scales, norm=norm)
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((40, 2, 8, 8))
    job, graph = quantized(path, x)
    sign = np.array([1, -1, 1, 1] if norm else [1, 1, 1, 1]).reshape(-1, 1, 1, 1)
    assert (weights(graph, Conv2d)[0].values == whole * sign).all()
    assert (weights(graph)[0].values == head).all()
    np.testing.assert_allclose(job.imported.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-4)  # type: ignore[misc]


def test_what_cannot_be_kept_is_told(rng: Rng, tmp_path: Path) -> None:
    """Scores are compared, so weights of several scales cannot all stay there."""
    made, whole, head = convolutional(rng, scales=4, norm=False, ending=True)
    path = of.save(tmp_path / "net.onnx", made)
    job, graph = quantized(path, rng.random((40, 2, 8, 8)))
    told = [str(a) for a in job.imported.assumptions if "does not keep its integers" in a.value]
    assert len(told) == 1
    assert "the scores are compared" in told[0]
    assert (weights(graph, Conv2d)[0].values == whole).all()
    assert (weights(graph)[0].values != head).any()


def test_pairs_around_activations(rng: Rng, tmp_path: Path) -> None:
    """What ONNX's own quantizers write: pairs at the input, behind Relus, and at the scores."""
    made, whole = qdq(rng)
    graph, tensors = made.graph, {
        "si": np.array(1 / 128), "zi": np.array(0, np.int8), "sr": np.array(0.02),
        "zr": np.array(-128, np.int8), "sy": np.array(0.1), "zy": np.array(3, np.int8),
    }  # fmt: skip
    *first, gemm, relu, last = list(graph.node)
    gemm.input[0], last.input[0], last.output[0] = "xd", "rd", "scores"
    nodes = [
        *first, of.node("QuantizeLinear", ["x", "si", "zi"], "xq"),
        of.node("DequantizeLinear", ["xq", "si", "zi"], "xd"), gemm, relu,
        of.node("QuantizeLinear", ["r", "sr", "zr"], "rq"),
        of.node("DequantizeLinear", ["rq", "sr", "zr"], "rd"), last,
        of.node("QuantizeLinear", ["scores", "sy", "zy"], "yq"),
        of.node("DequantizeLinear", ["yq", "sy", "zy"], "y"),
    ]  # fmt: skip
    from onnx import numpy_helper

    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    path = of.save(
        tmp_path / "net.onnx", of.model(nodes, ("n", 6), {**stored, **tensors}, opset=21)
    )
    x = rng.random((40, 6))
    job, lowered = quantized(path, x)
    wanted = of.judged(path, x)
    # The quantizer of the scores is not kept, and that is told.
    assert np.abs(job.imported.reference(x) - wanted).max() <= 0.05 + 1e-5  # type: ignore[misc]
    assert any("which is not kept" in a.value for a in job.imported.assumptions)
    assert float(job.graph.of_type(Neuron)[0].values["threshold"].values) == pytest.approx(5.1)
    entry = lowered.input
    assert str(entry.fmt) == "s8f7"
    for weight, expected in zip(weights(lowered), whole, strict=True):
        assert (weight.values == expected).all()


def test_float_weights_behind_a_pair_are_its_integers(rng: Rng, tmp_path: Path) -> None:
    """QuantizeLinear of a float weight, as training with fake quantization leaves it."""
    w = of.dense(rng, 8, 6)
    tensors = {"w": w, "s": np.array(0.01), "z": np.array(0, np.int8), "v": of.dense(rng, 4, 8)}
    nodes = [
        of.node("QuantizeLinear", ["w", "s", "z"], "q"),
        of.node("DequantizeLinear", ["q", "s", "z"], "d"),
        of.node("Gemm", ["x", "d"], "fc", transB=1), of.node("Relu", ["fc"], "r"),
        of.node("Gemm", ["r", "v"], "y", transB=1),
    ]  # fmt: skip
    path = of.save(tmp_path / "net.onnx", of.model(nodes, ("n", 6), tensors))
    _, graph = quantized(path, rng.random((40, 6)))
    scale = np.float64(np.float32(0.01))
    expected = np.clip(np.rint(w.astype(np.float32) / scale), -128, 127)
    assert (weights(graph)[0].values == expected).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s0": np.array(-0.01)}, "no positive scale"),
        ({"s0": np.ones(5)}, "5 scales along axis 0"),
    ],
)
def test_scales_that_make_no_sense(
    change: dict[str, Any], message: str, rng: Rng, tmp_path: Path
) -> None:
    made, _ = qdq(rng)
    from onnx import numpy_helper

    stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    path = of.save(tmp_path / "net.onnx", of.model(made.graph.node, ("n", 6), stored | change))
    with pytest.raises(FrontendError, match=message):
        load_model(path, data=rng.random((4, 6)))
