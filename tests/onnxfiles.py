"""Small `.onnx` files for tests, and what ONNX's own reference evaluator says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

QONNX = "qonnx.custom_op.general"


def node(op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, list(inputs), [output], domain=domain, name=output, **attributes)


def model(
    nodes: Sequence[Any],
    shape: Sequence[int | str],
    tensors: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    output: str | None = None,
) -> Any:
    """A model from ``x`` to the output of its last node; floats are stored as float32."""
    from onnx import TensorProto, helper, numpy_helper

    stored = []
    for name, values in (tensors or {}).items():
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        stored.append(numpy_helper.from_array(array, name))
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    leaves = helper.make_tensor_value_info(output or nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "tiny", [entry], [leaves], stored)
    domains = sorted({n.domain for n in nodes if n.domain})
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def save(path: Path, made: Any) -> Path:
    path.write_bytes(made.SerializeToString())
    return path


def chain(
    rng: np.random.Generator,
    *layers: Any,
    shape: Sequence[int | str],
    tensors: Any = None,
    opset: int = 17,
    classes: int = 4,
) -> Any:
    """A model of one operator after another, each (op, further inputs, attributes)."""
    last, nodes = "x", []
    for at, (op, inputs, attributes) in enumerate(layers):
        nodes.append(node(op, [last, *inputs], f"n{at}", **attributes))
        last = f"n{at}"
    return model(nodes, shape, tensors, opset=opset)


def dense(rng: np.random.Generator, out: int, into: int) -> Any:
    return rng.normal(0, 1.0 / np.sqrt(into), (out, into))


def mlp(rng: np.random.Generator, sizes: Sequence[int] = (6, 8, 4)) -> Any:
    """Gemm, Relu, Gemm, with biases."""
    nodes, tensors, last = [], {}, "x"
    for at, (into, out) in enumerate(pairwise(sizes)):
        tensors[f"w{at}"] = dense(rng, out, into)
        tensors[f"b{at}"] = rng.normal(0, 0.2, out)
        nodes.append(node("Gemm", [last, f"w{at}", f"b{at}"], f"fc{at}", transB=1))
        last = f"fc{at}"
        if at < len(sizes) - 2:
            nodes.append(node("Relu", [last], f"relu{at}"))
            last = f"relu{at}"
    return model(nodes, ("batch", sizes[0]), tensors)


def judged(path: Path, x: Any) -> Any:
    """The answers of ONNX's reference evaluator, (samples, ...)."""
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(str(path)).run(None, {"x": np.asarray(x, np.float32)})
    return np.asarray(found)
