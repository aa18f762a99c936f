"""Reading an `.onnx` file into plain bounded nodes: nothing is run, nothing beside it is opened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qspinn.errors import FrontendError, ToolchainError
from qspinn.frontends.hdf5 import shown
from qspinn.ir import Array, Shape

MAX_FILE = 1 << 29
MAX_NODES = 4096
MAX_ELEMENTS = 1 << 26
"""All tensors of a file together; checked before anything is allocated."""
MAX_RANK = 8
OLDEST_OPSET = 7
STANDARD = ""
"""The domain of ONNX's own operators; that of its other name, ``ai.onnx``, becomes this one."""

_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("strides", "pads", "dilations", "kernel_shape", "axes", "perm", "shape"),
                    tuple),
    **dict.fromkeys(
        ("axis", "group", "keepdims", "to", "transA", "transB", "training_mode", "spatial",
         "ceil_mode", "count_include_pad", "start", "end", "output_dtype", "block_size", "signed",
         "narrow"), int,
    ),
    **dict.fromkeys(("alpha", "beta", "epsilon", "min", "max"), (int, float)),
    **dict.fromkeys(("auto_pad", "rounding_mode"), str),
}  # fmt: skip
"""What operators rely on."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant of the file: float64 values, or int64 with the type that they are stored in."""

    values: Array
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class FileNode:
    """One operator as the file has it; ``label`` is its name or its output's, printable."""

    label: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


@dataclass(frozen=True, eq=False)
class FileGraph:
    """A network of one input and one output.

    Attributes:
        input: Its name.
        shape: Its shape with the batch in front; None for a batch of any size.
        output: Its name.
        tensors: Constants by name.
        nodes: In topological order.
        opset: The version of ONNX's own operators.
    """

    input: str
    shape: tuple[int | None, ...]
    output: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[FileNode, ...]
    opset: int


def read(path: Path) -> FileGraph:
    """Read a file.

    Raises:
        FrontendError: It is missing, damaged, exceeds a bound, or holds what no chain of layers is.
        ToolchainError: The package onnx is not installed.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise FrontendError(
                f"has {size} bytes, the limit is {MAX_FILE}", at=str(path),
                hint="such a network fits none of the targets",
            )  # fmt: skip
        data = path.read_bytes()
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
    model = _parsed(data, str(path))
    return _Reader(str(path)).graph(model)


def _parsed(data: bytes, at: str) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ToolchainError(
            "reading .onnx files takes the package onnx", hint="pip install onnx"
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise FrontendError("is damaged, or no ONNX model", at=at) from error
    return model


@dataclass
class _Reader:
    """One reading: what has been counted so far."""

    at: str
    elements: int = 0

    def graph(self, model: Any) -> FileGraph:
        graph = model.graph
        opset = self._opset(model)
        if model.functions:
            raise FrontendError(
                f"defines {len(model.functions)} operators of its own", at=self.at,
                hint="write them out: onnx.inliner.inline_local_functions",
            )  # fmt: skip
        if not graph.node:
            raise FrontendError("holds no network", at=self.at, hint="is it an ONNX model?")
        if len(graph.node) > MAX_NODES:
            raise FrontendError(
                f"has {len(graph.node)} nodes, the limit is {MAX_NODES}", at=self.at
            )
        if graph.sparse_initializer:
            raise FrontendError(
                "stores sparse tensors", at=self.at, hint="export them as dense ones"
            )
        tensors = {
            text_of(t.name): self._tensor(t, shown(text_of(t.name))) for t in graph.initializer
        }
        if len(tensors) < len(graph.initializer):
            raise FrontendError("gives two tensors the same name", at=self.at)
        entry = self._one([v for v in graph.input if text_of(v.name) not in tensors], "inputs")
        exit_ = self._one(graph.output, "outputs")
        nodes = tuple(self._node(node) for node in graph.node)
        start, end = text_of(entry.name), text_of(exit_.name)
        self._order(nodes, {start, *tensors}, end)
        return FileGraph(start, self._shape(entry), end, tensors, nodes, opset)

    def _opset(self, model: Any) -> int:
        found = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
        opset = max(found, default=0)
        if opset < OLDEST_OPSET:
            raise FrontendError(
                f"uses opset {opset}, the oldest that is read is {OLDEST_OPSET}"
                if found else "names no opset and so is no ONNX model", at=self.at,
                hint="onnx.version_converter converts it" if found else "",
            )  # fmt: skip
        return opset

    def _one(self, values: Iterable[Any], what: str) -> Any:
        found = list(values)
        if len(found) != 1:
            names = ", ".join(shown(text_of(v.name)) for v in found[:6])
            raise FrontendError(
                f"has {len(found)} {what}{f' ({names})' if names else ''}, not 1", at=self.at,
                hint="export the part that leads from the input to the class scores",
            )  # fmt: skip
        return found[0]

    def _shape(self, entry: Any) -> tuple[int | None, ...]:
        at = shown(text_of(entry.name))
        dims = entry.type.tensor_type.shape.dim
        if not entry.type.tensor_type.HasField("shape") or not 2 <= len(dims) <= 4:
            raise FrontendError(
                f"the input has {len(dims)} dimensions, must have 2 to 4 (the batch first)", at=at,
                hint="export with a shape such as (batch, 784) or (batch, 1, 28, 28)",
            )  # fmt: skip
        sizes = [int(d.dim_value) if d.HasField("dim_value") else None for d in dims]
        open_ = [i for i, size in enumerate(sizes) if i and not size]
        if open_ or any(size is not None and size < 0 for size in sizes):
            raise FrontendError(
                f"dimension {open_[0] if open_ else 0} of the input has no fixed size", at=at,
                hint="export with fixed sizes; only the first dimension, the batch, may vary",
            )  # fmt: skip
        self._count(math.prod(s or 1 for s in sizes[1:]), at, tuple(s or 1 for s in sizes))
        return (sizes[0] or None, *sizes[1:])

    def _node(self, node: Any) -> FileNode:
        outputs = tuple(text_of(name) for name in node.output)
        op, domain = shown(text_of(node.op_type)), shown(text_of(node.domain))
        label = shown(text_of(node.name) or (outputs[0] if outputs else op))
        if not any(outputs):
            raise FrontendError(f"this {op} has no output", at=label)
        attributes = {text_of(a.name): self._attribute(a, label) for a in node.attribute}
        for name, value in attributes.items():
            self._check_kind(name, value, label)
        inputs = tuple(text_of(name) for name in node.input)
        return FileNode(
            label, op, "" if domain == "ai.onnx" else domain, inputs, outputs, attributes
        )

    def _check_kind(self, name: str, value: Any, label: str) -> None:
        """Refuse an attribute that operators rely on, and that is of another kind."""
        kind = _KINDS.get(name)
        if kind is not None and not isinstance(value, kind):
            found = type(value).__name__.lower()
            raise FrontendError(f"its attribute {name} is a {found}", at=label,
                                hint="export the model again")  # fmt: skip
        if kind is tuple and any(not isinstance(v, int) or abs(v) >= 1 << 62 for v in value):
            raise FrontendError(f"its attribute {name} holds more than integers", at=label)

    def _attribute(self, attribute: Any, label: str) -> Any:
        kinds = attribute.AttributeType
        kind = attribute.type
        if kind in (kinds.GRAPH, kinds.GRAPHS):
            raise FrontendError(
                f"has a graph inside (attribute {shown(text_of(attribute.name))})", at=label,
                hint="loops and branches have no meaning for a spiking network: export without",
            )  # fmt: skip
        if kind == kinds.TENSOR:
            return self._tensor(attribute.t, label)
        if kind == kinds.INT:
            return int(attribute.i)
        if kind == kinds.FLOAT:
            return float(attribute.f)
        if kind == kinds.STRING:
            return shown(text_of(attribute.s))
        if kind == kinds.INTS:
            return tuple(int(i) for i in attribute.ints)
        if kind == kinds.FLOATS:
            return tuple(float(f) for f in attribute.floats)
        raise FrontendError(
            f"has an attribute {shown(text_of(attribute.name))} of a kind that is not read",
            at=label,
        )

    def _tensor(self, tensor: Any, at: str) -> Tensor:
        import onnx
        from onnx import numpy_helper

        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            raise FrontendError(
                "is stored in another file, which is not followed", at=at,
                hint="save the model in one file: onnx.save(onnx.load(PATH), NEW_PATH)",
            )  # fmt: skip
        dims = tuple(int(d) for d in tensor.dims)
        if len(dims) > MAX_RANK or any(d < 0 for d in dims):
            raise FrontendError(f"has the shape {dims[:12]}", at=at)
        self._count(math.prod(dims), at, dims)
        name = onnx.TensorProto.DataType.Name(tensor.data_type).lower() if (
            tensor.data_type in onnx.TensorProto.DataType.values()
        ) else "unknown"  # fmt: skip
        if name in ("undefined", "unknown", "string", "complex64", "complex128"):
            raise FrontendError(f"holds {name}, not real numbers", at=at)
        try:
            values = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise FrontendError(f"holds fewer or more than {math.prod(dims)} numbers for its shape "
                                f"{dims}", at=at) from error  # fmt: skip
        return _plain(values, name, at)

    def _count(self, elements: int, at: str, shape: Shape) -> None:
        self.elements += elements
        if self.elements > MAX_ELEMENTS:
            raise FrontendError(
                f"has shape {shape}: more than {MAX_ELEMENTS} numbers in one file", at=at
            )

    def _order(self, nodes: tuple[FileNode, ...], known: set[str], end: str) -> None:
        made = set(known)
        for node in nodes:
            for name in node.inputs:
                if name and name not in made:
                    raise FrontendError(f"reads {shown(name)}, which nothing before makes",
                                        at=node.label)  # fmt: skip
            for name in node.outputs:
                if name in made:
                    raise FrontendError(f"makes {shown(name)}, which is there already",
                                        at=node.label)  # fmt: skip
            made.update(name for name in node.outputs if name)
        if end not in made:
            raise FrontendError(f"no node makes the output {shown(end)}", at=self.at)


def text_of(name: str | bytes) -> str:
    """A text of the file; what is no UTF-8 comes as bytes."""
    return name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")


def _plain(values: Any, name: str, at: str) -> Tensor:
    """As float64 or int64: small and exotic types (bfloat16, int4) are exact in these."""
    if "int" in name or name == "bool":
        whole = np.asarray(values).astype(np.int64)
        if name == "uint64" and whole.size and whole.min() < 0:
            raise FrontendError("holds integers beyond 63 bits", at=at)
        return Tensor(whole, name)
    with np.errstate(invalid="ignore"):  # NaN has a message of its own
        real = np.asarray(values).astype(np.float64)
    if not np.isfinite(real).all():
        bad = np.count_nonzero(~np.isfinite(real))
        raise FrontendError(f"holds {bad} NaN or infinite values of {real.size}", at=at)
    return Tensor(real, name)
