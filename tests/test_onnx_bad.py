"""ONNX files that cannot be used: one clear error each, which says where and what would help."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from qspinn.errors import UNUSABLE, FrontendError, QspinnError
from qspinn.frontends import load_model, onnx_file, onnx_walk

pytestmark = pytest.mark.needs("onnx")

Rng = np.random.Generator


def refused(path: Path, pattern: str, **options: Any) -> FrontendError:
    """The error, checked for what every error must have."""
    options.setdefault("data", np.eye(6))
    with pytest.raises(FrontendError) as caught:
        load_model(path, **options)
    error = caught.value
    assert error.exit_code == UNUSABLE
    assert error.at
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert re.search(pattern, error.what), error.what
    return error


# --- not a file of ours ---


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "no.onnx", r"no\.onnx: cannot be read: No such file")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    refused(tmp_path / "a.onnx", "is empty")


@pytest.mark.parametrize("text", [b"hello world\n", b"\xff" * 40, b"\x08", b"{}"])
def test_damaged(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(text)
    refused(tmp_path / "a.onnx", "is damaged, or no ONNX model|names no opset|holds no network")


def test_cut_short_anywhere(rng: Rng, tmp_path: Path) -> None:
    data = of.mlp(rng).SerializeToString()
    for length in range(1, len(data), 7):
        (tmp_path / "a.onnx").write_bytes(data[:length])
        with pytest.raises(QspinnError) as caught:
            load_model(tmp_path / "a.onnx", data=np.eye(6))
        assert str(caught.value).isprintable()


def test_bytes_changed_anywhere(rng: Rng, tmp_path: Path) -> None:
    """Whatever a file holds, it is read or refused; 400 changes of one to three bytes."""
    whole = of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}),
        ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Flatten", [], {}),
        ("Gemm", ["v"], {"transB": 1}), shape=("n", 1, 4, 4),
        tensors={"w": rng.normal(0, 1, (2, 1, 3, 3)), "v": rng.normal(0, 1, (2, 8))},
    ).SerializeToString()  # fmt: skip
    read = 0
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        (tmp_path / "a.onnx").write_bytes(bytes(data))
        error = outcome(tmp_path / "a.onnx")
        assert error is None or str(error).isprintable()
        read += error is None
    assert 20 < read < 380


def outcome(path: Path) -> QspinnError | None:
    """The error of ours that a file ends in; any other is raised."""
    try:
        load_model(path, data=np.ones((2, 1, 4, 4)))
    except QspinnError as error:
        return error
    return None


# --- bounds ---


def test_too_large_a_file(rng: Rng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = of.save(tmp_path / "a.onnx", of.mlp(rng))
    monkeypatch.setattr(onnx_file, "MAX_FILE", 100)
    refused(path, r"has \d+ bytes, the limit is 100")


def test_too_many_nodes(rng: Rng, tmp_path: Path) -> None:
    layers = [("Identity", [], {})] * (onnx_file.MAX_NODES + 1)
    path = of.save(tmp_path / "a.onnx", of.chain(rng, *layers, shape=("n", 6)))
    refused(path, "has 4097 nodes, the limit is 4096")


@pytest.mark.parametrize("where", ["weight", "input", "expand"])
def test_a_huge_shape_is_refused_before_anything_is_allocated(
    where: str, rng: Rng, tmp_path: Path
) -> None:
    made = of.mlp(rng)
    if where == "weight":
        made.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    elif where == "input":
        made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 40
    else:  # two small constants that make a large one
        tensors = {"a": np.zeros((20000, 1)), "b": np.zeros((1, 20000)), "w": np.zeros((4, 6))}
        nodes = [of.node("Add", ["a", "b"], "c"), of.node("Gemm", ["x", "c"], "y")]
        made = of.model(nodes, ("n", 6), tensors)
    path = of.save(tmp_path / "a.onnx", made)
    tracemalloc.start()
    try:
        pattern = (
            "makes a constant of 400000000 numbers"
            if where == "expand"
            else "more than 67108864 numbers"
        )
        refused(path, pattern)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("how", ["concat", "gather", "add", "convolution", "pool"])
def test_small_files_that_ask_for_much(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take gigabytes, none allocates them."""
    monkeypatch.setattr(onnx_walk, "MAX_ELEMENTS", 1 << 22)
    shape: tuple[Any, ...] = ("n", 6)
    tensors: dict[str, Any] = {"w": np.zeros((4, 6)), "long": np.zeros((1, 1 << 16))}
    end = of.node("Gemm", ["x", "c"], "y", transB=1)
    if how == "concat":
        nodes = [of.node("Concat", ["long"] * 2000, "c", axis=1), end]
    elif how == "gather":
        tensors["index"] = np.zeros(4000, np.int64)
        nodes = [of.node("Gather", ["long", "index"], "c", axis=0), end]
    elif how == "add":
        tensors["long"] = np.zeros((1, 1 << 20))
        names = ["long", *(f"c{i}" for i in range(200))]
        nodes = [of.node("Add", [a, a], b) for a, b in pairwise(names)]
        nodes += [of.node("Gemm", ["x", names[-1]], "y", transB=1)]
    else:
        shape, tensors["w"] = ("n", 1, 1000, 1000), np.zeros((1, 1, 500, 500))
        window = {"kernel_shape": [500, 500], "strides": [1, 1]}
        gather = of.node("Conv", ["x", "w"], "c") if how == "convolution" else of.node(
            "AveragePool", ["x"], "c", **window)  # fmt: skip
        nodes = [gather, of.node("Relu", ["c"], "r"), of.node("GlobalAveragePool", ["r"], "y")]
    path = of.save(tmp_path / "a.onnx", of.model(nodes, shape, tensors))
    data = np.zeros((1, *[n for n in shape if n != "n"]))
    tracemalloc.start()
    try:
        refused(path, "makes a constant of|computes more than|gathers", data=data)
        assert tracemalloc.get_traced_memory()[1] < 2e8
    finally:
        tracemalloc.stop()


def test_a_tensor_of_too_few_numbers(rng: Rng, tmp_path: Path) -> None:
    made = of.mlp(rng)
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-4]
    refused(of.save(tmp_path / "a.onnx", made), "w0: holds fewer or more than 48 numbers")


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_weights_in_other_files_are_not_followed(location: str, rng: Rng, tmp_path: Path) -> None:
    made = of.mlp(rng)
    tensor = made.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    error = refused(of.save(tmp_path / "a.onnx", made), "stored in another file, which is not")
    assert "onnx.save" in error.hint


@pytest.mark.parametrize("kind", ["nan", "text", "complex"])
def test_tensors_that_are_no_numbers(kind: str, rng: Rng, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    made = of.mlp(rng)
    tensor = made.graph.initializer[0]
    if kind == "nan":
        tensor.raw_data = np.full(48, np.nan, np.float32).tobytes()
    elif kind == "text":
        tensor.CopyFrom(helper.make_tensor("w0", TensorProto.STRING, [1], [b"a"]))
    else:
        tensor.CopyFrom(helper.make_tensor("w0", TensorProto.COMPLEX64, [1], [1j]))
    refused(of.save(tmp_path / "a.onnx", made), "NaN or infinite|not real numbers")


# --- what no chain of layers is ---


def test_graphs_inside_are_refused(rng: Rng, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    inner = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "inner", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    made = of.model(
        [of.node("If", ["c"], "y", then_branch=inner, else_branch=inner)], ("n", 6),
        {"c": np.array(True)},
    )  # fmt: skip
    refused(of.save(tmp_path / "a.onnx", made), "y: has a graph inside")


def test_functions_are_refused(rng: Rng, tmp_path: Path) -> None:
    from onnx import helper

    made = of.mlp(rng)
    made.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                             [helper.make_opsetid("", 17)])
    )  # fmt: skip
    error = refused(of.save(tmp_path / "a.onnx", made), "defines 1 operators of its own")
    assert "inline" in error.hint


def test_all_unknown_operators_are_named_at_once(rng: Rng, tmp_path: Path) -> None:
    made = of.chain(
        rng, ("Gemm", ["w"], {"transB": 1}), ("Tanh", [], {}), ("Gemm", ["w"], {"transB": 1}),
        ("LeakyRelu", [], {}), ("Tanh", [], {}), ("Gemm", ["w"], {"transB": 1}),
        shape=("n", 6), tensors={"w": of.dense(rng, 6, 6)},
    )  # fmt: skip
    made.graph.node.append(of.node("LSTM", ["x", "w", "w"], "unused"))
    error = refused(of.save(tmp_path / "a.onnx", made), r"Tanh \(n1, n4\), LeakyRelu \(n3\)$")
    assert "train with Relu" in error.hint
    assert "LSTM" not in error.what, "nothing depends on it"


Change = Callable[[Any], None]


def _wide(made: Any) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"


def _two_inputs(made: Any) -> None:
    made.graph.input.add().CopyFrom(made.graph.input[0])
    made.graph.input[1].name = "x2"


def _two_outputs(made: Any) -> None:
    made.graph.output.add(name="relu0")


def _old(made: Any) -> None:
    made.opset_import[0].version = 6


def _cyclic(made: Any) -> None:
    made.graph.node[0].input[0] = "relu0"


def _twice(made: Any) -> None:
    made.graph.node[1].output[0] = "fc0"


def _flat(made: Any) -> None:
    del made.graph.input[0].type.tensor_type.shape.dim[1]


def _unknown_shape(made: Any) -> None:
    made.graph.input[0].type.tensor_type.ClearField("shape")


def _transposed(made: Any) -> None:
    made.graph.node[0].attribute.add(name="transA", i=1, type=2)


def _signals(made: Any) -> None:
    made.graph.node[2].input[1] = "relu0"


def _mismatched(made: Any) -> None:
    made.graph.node[0].attribute[0].i = 0


def _no_output(made: Any) -> None:
    made.graph.output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (_wide, "dimension 1 of the input has no fixed size"),
        (_two_inputs, r"has 2 inputs \(x, x2\), not 1"),
        (_two_outputs, r"has 2 outputs \(fc1, relu0\), not 1"),
        (_old, "uses opset 6, the oldest that is read is 7"),
        (_cyclic, "fc0: reads relu0, which nothing before makes"),
        (_twice, "relu0: makes fc0, which is there already"),
        (_flat, "the input has 1 dimensions, must have 2 to 4"),
        (_unknown_shape, "must have 2 to 4"),
        (_transposed, "transposes the batch"),
        (_signals, "fc1: its weight depends on the input"),
        (_mismatched, "multiplies samples of shape .6,. by a matrix for 8 inputs"),
        (_no_output, "no node makes the output nowhere"),
    ],
)  # fmt: skip
def test_refusals(change: Change, pattern: str, rng: Rng, tmp_path: Path) -> None:
    made = of.mlp(rng)
    change(made)
    refused(of.save(tmp_path / "a.onnx", made), pattern)


@pytest.mark.parametrize("name", ["strides", "auto_pad", "group"])
def test_attributes_of_another_kind(name: str, rng: Rng, tmp_path: Path) -> None:
    wrong = {"strides": 2.0, "auto_pad": 1, "group": [1.5]}[name]
    made = of.chain(
        rng, ("Conv", ["w"], {name: wrong}), ("Relu", [], {}), shape=("n", 1, 4, 4),
        tensors={"w": np.ones((1, 1, 3, 3))},
    )  # fmt: skip
    refused(of.save(tmp_path / "a.onnx", made), f"its attribute {name} is a")


WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("layers", "pattern"),
    [
        ([("Conv", ["w"], {"pads": [0, 0, 1, 1]})], "padded by .0, 0. at the beginning and .1, 1."),
        ([("Conv", ["w"], {"strides": [0, 1]})], "has strides .0, 1."),
        ([("Conv", ["w"], {"pads": [1 << 40] * 4})], "pads an image to"),
        ([("Conv", ["w"], {"pads": [9999] * 4})], "pads an image to"),
        ([("Conv", ["w"], {"pads": [99] * 4, "dilations": [1 << 50, 1]})], "does not fit"),
        ([("Conv", ["w"], {"group": 3})], "does not fit 2 channels"),
        ([("Conv", ["w"], {}), ("Conv", ["v"], {})], "reads a sum that no Relu has rectified"),
        ([("Conv", ["w"], {}), ("AveragePool", [], WINDOW)], "no Relu has rectified"),
        ([("Conv", ["w"], {}), ("Flatten", [], {})], "flattens a sum that no Relu"),
        ([("MaxPool", [], WINDOW)], "takes a maximum of what is not rectified"),
        ([("Conv", ["w"], {}), ("MaxPool", [], WINDOW)], "ends in a maximum of sums"),
        ([("Conv", ["w"], {}), ("MaxPool", [], WINDOW), ("Mul", ["minus"], {}), ("Relu", [], {})],
         "scales a maximum by a factor that is not positive"),
        ([("Conv", ["w"], {}), ("Relu", [], {}), ("AveragePool", [], {**WINDOW,
           "pads": [1, 1, 1, 1]})], "does not count the padding"),
        ([("Conv", ["w"], {}), ("Relu", [], {}), ("AveragePool", [], {"kernel_shape": [4, 4],
           "strides": [3, 3], "ceil_mode": 1})], "ceil_mode"),
        ([("Conv", ["w"], {}), ("Relu", [], {}), ("MaxPool", [], {**WINDOW,
           "dilations": [2, 2]})], "is dilated"),
        ([("Conv", ["w"], {}), ("Clip", ["minus", "one"], {})], "keeps values between -1 and 1"),
        ([("Conv", ["w"], {}), ("Relu", [], {}), ("Transpose", [], {"perm": [0, 2, 3, 1]})],
         "Transpose that depends on the input"),
        ([("Conv", ["w"], {}), ("Relu", [], {}), ("Reshape", ["shape"], {})],
         "only flattening is read|makes .-1, 9. of samples"),
        ([("Div", ["zero"], {})], "divides by a signal or by zero"),
        ([("Add", ["odd"], {})], r"combines a constant of shape \(5,\)"),
        ([("Relu", [], {}), ("Softmax", [], {"axis": 2}), ("Relu", [], {})], "Softmax"),
        ([("Relu", [], {}), ("Softmax", [], {"axis": 2})], "takes the axis 2"),
        ([("BatchNormalization", ["one", "one", "one", "one"], {})], "has 1 values for 2 channels"),
        ([("BipolarQuant", ["one"], {"domain": of.QONNX}), ("Relu", [], {})],
         "makes activations of −1 and 1"),
        ([("QuantizeLinear", ["one"], {}), ("Relu", [], {})], "reads a constant or bare integers"),
    ],
)  # fmt: skip
def test_layers_that_spikes_cannot_do(layers: Any, pattern: str, rng: Rng, tmp_path: Path) -> None:
    tensors = {
        "w": rng.normal(0, 1, (4, 2, 3, 3)), "v": rng.normal(0, 1, (4, 4, 3, 3)),
        "minus": np.array(-1.0), "one": np.array(1.0), "zero": np.array(0.0), "odd": np.ones(5),
        "shape": np.array([-1, 9]),
    }  # fmt: skip
    made = of.chain(rng, *layers, shape=("n", 2, 8, 8), tensors=tensors)
    refused(of.save(tmp_path / "a.onnx", made), pattern, data=np.ones((3, 2, 8, 8)))


# --- options and data ---


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"percentile": 10.0}, "percentile of 10 is not between 50 and 100"),
        ({"balance": "neuron"}, "'neuron' is none of layer, channel"),
        ({"initial": "full"}, "'full' is none of half, zero"),
        ({"readout": "count"}, "'count' is none of membrane_last, membrane_max"),
        ({"dt": 1e-3}, "dt cannot be chosen for the format onnx"),
        ({"data": np.ones((3, 5))}, "are no samples of"),
        ({"data": -np.ones((3, 6)), "encode": {"kind": "rate"}}, "values down to -1"),
        ({"data": 2 * np.ones((3, 6)), "encode": {"kind": "rate"}}, "values up to 2"),
        ({"encode": {"kind": "none"}}, "the encoder none means that the data are spikes"),
    ],
)
def test_options(options: dict[str, Any], pattern: str, rng: Rng, tmp_path: Path) -> None:
    refused(of.save(tmp_path / "a.onnx", of.mlp(rng)), pattern, **options)


def test_other_formats_know_nothing_of_balancing(tmp_path: Path) -> None:
    (tmp_path / "a.net").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused(tmp_path / "a.net", "percentile cannot be chosen", percentile=99.0)


# --- what the fuzzer found ---


def test_a_limit_of_several_numbers(tmp_path: Path) -> None:
    layers = [("Clip", ["low"], {})]
    made = of.chain(np.random.default_rng(0), *layers, shape=("n", 6), tensors={"low": np.zeros(2)})
    refused(of.save(tmp_path / "a.onnx", made), "has 2 limits at one end")


def test_every_axis_squeezed_away(tmp_path: Path) -> None:
    layers = [("Squeeze", [], {"axes": [0, 1]})]
    made = of.chain(np.random.default_rng(0), *layers, shape=(1, 1), opset=11)
    refused(of.save(tmp_path / "a.onnx", made), r"makes \[\] of samples", data=np.ones((3, 1)))


def test_a_verdict_on_nothing(tmp_path: Path) -> None:
    made = of.model([of.node("Softmax", [""], "y")], ("n", 6))
    refused(of.save(tmp_path / "a.onnx", made), "reads nothing")
