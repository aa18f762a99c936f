"""What the fuzzer does to an `.onnx` file: nodes, attributes, tensors, shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_words import NAMES, VALUES, Rng, Step, pick

_OPERATORS = (
    "Conv", "Gemm", "MatMul", "BatchNormalization", "Relu", "AveragePool", "GlobalAveragePool",
    "MaxPool", "Flatten", "Reshape", "Add", "Sub", "Mul", "Div", "Identity", "Dropout", "Constant",
    "Softmax", "ArgMax", "Clip", "QuantizeLinear", "DequantizeLinear", "Quant", "Shape", "Gather",
    "Concat", "Transpose", "Pad", "If", "Loop", "Squeeze", "Unsqueeze", "ReduceMean", "Cast",
)  # fmt: skip
_SIZES = (-1, 0, 1, 2, 3, 7, 1 << 16, 1 << 31, 1 << 40, (1 << 63) - 1)


def _model(change: Callable[[Any, Rng], None]) -> Step:
    def step(path: Path, rng: Rng) -> None:
        import onnx

        made = onnx.load_model_from_string(path.read_bytes())
        change(made, rng)
        path.write_bytes(made.SerializeToString())

    return step


def _one(items: Any, rng: Rng) -> Any:
    return items[int(rng.integers(len(items)))]


def _operator(made: Any, rng: Rng) -> None:
    _one(made.graph.node, rng).op_type = pick(_OPERATORS, rng)


def _domain(made: Any, rng: Rng) -> None:
    _one(made.graph.node, rng).domain = pick((*NAMES, "qonnx.custom_op.general", "ai.onnx"), rng)


def _wires(made: Any, rng: Rng) -> None:
    """An input of a node from elsewhere: another node, a tensor, nowhere; cycles too."""
    names = [*(n for node in made.graph.node for n in (*node.input, *node.output)), "", "nowhere"]
    node = _one(made.graph.node, rng)
    ends = node.input if node.input and rng.random() < 0.7 else node.output
    ends[int(rng.integers(len(ends)))] = pick(names, rng)


def _drop(made: Any, rng: Rng) -> None:
    items = _one(
        (made.graph.node, made.graph.initializer, made.graph.input, made.graph.output), rng
    )
    del items[int(rng.integers(len(items)))]


def _twice(made: Any, rng: Rng) -> None:
    items = _one(
        (made.graph.node, made.graph.initializer, made.graph.input, made.graph.output), rng
    )
    items.add().CopyFrom(_one(items, rng))


def _attribute(made: Any, rng: Rng) -> None:
    """Another value for an attribute, or one more, of any type."""
    from onnx import helper

    node = _one(made.graph.node, rng)
    names = (
        "kernel_shape", "strides", "pads", "dilations", "group", "transA", "transB", "alpha",
        "beta", "axis", "axes", "auto_pad", "ceil_mode", "epsilon", "value", "signed",
        *(a.name for a in node.attribute),
    )  # fmt: skip
    values: tuple[Any, ...] = (
        1, 2, -1, 0, 1 << 40, 0.5, float("nan"), float("inf"), "SAME_UPPER", "", [1, 1], [2, 2],
        [0, 0, 0, 0], [1 << 40, 1], [-1, -1], [0, 1, 0, 1], [3], [0.5, 0.5],
    )  # fmt: skip
    name = pick(names, rng)
    for old in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, _one(values, rng)))


def _size(made: Any, rng: Rng) -> None:
    """Another size in a tensor's shape, which its data need not have."""
    dims = _one(made.graph.initializer, rng).dims
    if dims and rng.random() < 0.7:
        dims[int(rng.integers(len(dims)))] = int(_one(_SIZES, rng))
    else:
        dims.append(int(_one(_SIZES, rng)))


def _kind(made: Any, rng: Rng) -> None:
    _one(made.graph.initializer, rng).data_type = int(rng.integers(-1, 30))


def _far(made: Any, rng: Rng) -> None:
    """Data that lie in another file."""
    tensor = _one(made.graph.initializer, rng)
    tensor.data_location = 1
    tensor.external_data.add(key="location", value=pick(("../x", "/dev/zero", "x.bin"), rng))


def _numbers(made: Any, rng: Rng) -> None:
    from onnx import numpy_helper

    tensor = _one(made.graph.initializer, rng)
    values = np.array(numpy_helper.to_array(tensor))
    with np.errstate(all="ignore"):
        values.reshape(-1)[: int(rng.integers(1, 9))] = _one(VALUES, rng)
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _shape(made: Any, rng: Rng) -> None:
    """Another shape for the input."""
    dims = _one(made.graph.input, rng).type.tensor_type.shape.dim
    if dims and rng.random() < 0.7:
        _one(dims, rng).dim_value = int(_one(_SIZES, rng))
    elif rng.random() < 0.5:
        dims.add().dim_param = pick(NAMES, rng)
    else:
        del dims[:]


def _name(made: Any, rng: Rng) -> None:
    node = _one(made.graph.node, rng)
    node.name = pick(NAMES, rng)


def _opset(made: Any, rng: Rng) -> None:
    _one(made.opset_import, rng).version = int(_one((-1, 0, 1, 6, 9, 12, 13, 21, 1000), rng))


ONNX: tuple[Step, ...] = tuple(
    _model(change)
    for change in (
        _operator, _operator, _domain, _wires, _wires, _drop, _twice, _attribute, _attribute,
        _attribute, _size, _kind, _far, _numbers, _numbers, _shape, _name, _opset,
    )
)  # fmt: skip
