"""NIR's stateless nodes as ours, and the shapes that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qspinn.errors import FrontendError, VerifyError, located
from qspinn.fixed import FloatArray
from qspinn.frontends.nir_file import FileNode
from qspinn.frontends.nir_flatten import ADDING, Flat
from qspinn.ir import (
    Array,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Linear,
    Node,
    Pair,
    Param,
    Scale,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal, infer

MAX_SIGNAL = 1 << 24
LARGEST = 1 << 20
"""No stride, padding, kernel or dimension may be larger."""


def layer(node: FileNode, shape: Shape, source: str) -> Node:
    """Our node for a connection, a pool or a Flatten that reads a signal of ``shape``.

    Raises:
        FrontendError: A parameter makes no sense here.
    """
    with located(node.label):
        return _LAYERS[node.kind](node, shape, (source,))


def _linear(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    weight = node.array("weight")
    if weight.ndim != 2:
        raise FrontendError(f"weight has {weight.ndim} dimensions, not 2 (out, in)")
    size = int(np.prod(shape))
    if weight.shape[1] != size:
        raise FrontendError(f"weight {weight.shape} does not fit an input of {size} {shape}")
    return Linear(
        name=node.name, inputs=inputs, weight=Param(weight), bias=_bias(node, len(weight))
    )


def _bias(node: FileNode, outs: int) -> Param | None:
    """The bias; a zero one is none."""
    if "bias" not in node.params:
        return None
    bias = node.array("bias")
    if bias.shape != (outs,):
        raise FrontendError(f"bias has shape {bias.shape}, not ({outs},)")
    return Param(bias) if bias.any() else None


def _scale(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    return Scale(name=node.name, inputs=inputs, scale=Param(shaped(node, "scale", shape)))


def _conv1d(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    weight = _kernel(node, shape, 1)
    stride, dilation = (_whole(node, name, 1, 1)[0] for name in ("stride", "dilation"))
    (padding,) = _padding(node, weight.shape[2:], (stride,), (dilation,))
    return Conv1d(
        name=node.name, inputs=inputs, weight=Param(weight), bias=_bias(node, len(weight)),
        stride=stride, padding=padding, dilation=dilation, groups=_whole(node, "groups", 1, 1)[0],
    )  # fmt: skip


def _conv2d(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    weight = _kernel(node, shape, 2)
    stride, dilation = (_pair(node, name, 1) for name in ("stride", "dilation"))
    rows, columns = _padding(node, weight.shape[2:], stride, dilation)
    return Conv2d(
        name=node.name, inputs=inputs, weight=Param(weight), bias=_bias(node, len(weight)),
        stride=stride, padding=(rows, columns), dilation=dilation,
        groups=_whole(node, "groups", 1, 1)[0],
    )  # fmt: skip


def _kernel(node: FileNode, shape: Shape, rank: int) -> Array:
    weight = node.array("weight")
    if weight.ndim != rank + 2:
        raise FrontendError(f"weight has {weight.ndim} dimensions, not {rank + 2}")
    if len(shape) != rank + 1:
        hint = (
            "the file counts the batch as a dimension: export it without"
            if shape[:1] == (1,)
            else ""
        )
        raise FrontendError(f"a {node.kind} needs {rank + 1} dimensions, not {shape}", hint=hint)
    if "input_shape" in node.params:
        declared = tuple(_whole(node, "input_shape", rank, 1))
        if declared != shape[1:]:
            raise FrontendError(
                f"input_shape is {declared}, but the signal that arrives has {shape}"
            )
    return weight


def _padding(node: FileNode, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    mode = node.params["padding"]
    if not isinstance(mode, str):
        return _whole(node, "padding", len(kernel), 0)
    if mode == "valid":
        return (0,) * len(kernel)
    if mode != "same":
        raise FrontendError(f"padding is numbers, 'same' or 'valid', not {mode!r:.40}")
    if set(stride) != {1}:
        raise FrontendError(f"padding 'same' has no meaning with stride {stride}")
    whole = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(w % 2 for w in whole):
        raise FrontendError(
            f"padding 'same' for the kernel {kernel} is not the same on both sides",
            hint="give the kernel an odd size",
        )
    return tuple(w // 2 for w in whole)


def _sum_pool(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    kernel, stride, padding = _window(node)
    return SumPool2d(name=node.name, inputs=inputs, kernel=kernel, stride=stride, padding=padding)


def _avg_pool(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    kernel, stride, padding = _window(node)
    return AvgPool2d(name=node.name, inputs=inputs, kernel=kernel, stride=stride, padding=padding)


def _window(node: FileNode) -> tuple[Pair, Pair, Pair]:
    return _pair(node, "kernel_size", 1), _pair(node, "stride", 1), _pair(node, "padding", 0)


def _flatten(node: FileNode, shape: Shape, inputs: tuple[str, ...]) -> Node:
    """Dimensions count from the signal's first, or from a batch before it: input_type tells.

    sinabs and other exporters of PyTorch modules write (0, 0, 0, 0), or a shape with a batch.
    """
    rank = len(shape)
    start, end = (_whole(node, n, 1, -rank - 1)[0] for n in ("start_dim", "end_dim"))
    declared = np.size(node.array("input_type")) if "input_type" in node.params else rank
    if declared == rank + 1:
        start, end = (d - 1 if d > 0 else d for d in (start, end))
    elif declared != rank:
        raise FrontendError(f"input_type has {declared} dimensions, the signal has {shape}")
    if not (-rank <= start < rank and -rank <= end < rank and start % rank <= end % rank):
        raise FrontendError(f"cannot flatten dimensions {start} to {end} of {shape}")
    return Flatten(name=node.name, inputs=inputs, start=start % rank, end=end % rank - rank)


_LAYERS: Mapping[str, Callable[[FileNode, Shape, tuple[str, ...]], Node]] = {
    "Affine": _linear,
    "Linear": _linear,
    "Scale": _scale,
    "Conv1d": _conv1d,
    "Conv2d": _conv2d,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _avg_pool,
    "Flatten": _flatten,
}


def shaped(node: FileNode, name: str, shape: Shape) -> FloatArray:
    """A parameter of one value (as a scalar), or one for each element of ``shape``.

    Raises:
        FrontendError: It is neither.
    """
    values: FloatArray = np.asarray(node.array(name), np.float64)
    if values.size == 1:
        return values.reshape(())
    # Some exporters keep the batch as a leading 1.
    lead = values.shape[: max(values.ndim - len(shape), 0)]
    if values.shape[len(lead) :] != shape or set(lead) - {1}:
        raise FrontendError(
            f"{name} has shape {values.shape}, but the signal that arrives has {shape}",
            at=node.label,
        )
    return values.reshape(shape)


def _whole(node: FileNode, name: str, count: int, least: int) -> tuple[int, ...]:
    """Whole numbers, one for all or one each; old files have them as floats."""
    values = np.ravel(node.array(name)).astype(np.float64)
    if values.size not in (1, count):
        raise FrontendError(f"{name} has {values.size} values, not {count}")
    if (values % 1).any() or values.min() < least or values.max() > LARGEST:
        raise FrontendError(f"{name} is {values.tolist()}: not whole numbers from {least} up")
    return tuple(int(v) for v in np.broadcast_to(values, count))


def _pair(node: FileNode, name: str, least: int) -> Pair:
    first, second = _whole(node, name, 2, least)
    return first, second


def declared_shape(node: FileNode) -> Shape:
    """The shape that an Input or Output declares.

    Raises:
        FrontendError: It is no shape, or too large.
    """
    with located(node.label):
        values = np.ravel(node.array("shape"))
        shape = _whole(node, "shape", values.size, 1)
        if values.size > 8 or np.prod(np.array(shape, np.float64)) > MAX_SIGNAL:
            raise FrontendError(f"a signal of shape {shape} has more than {MAX_SIGNAL} elements")
        return shape


def shapes(flat: Flat) -> tuple[dict[str, Shape], dict[str, Node]]:
    """The shape of every signal, and our nodes for those without state.

    Neurons take the shape of the first current that is known; the verifier compares the others.

    Raises:
        FrontendError: A node does not fit what arrives.
    """
    known: dict[str, Shape] = {}
    made: dict[str, Node] = {}
    readers = flat.readers()
    arrived = [name for name, node in flat.nodes.items() if node.kind == "Input"]
    known |= {name: declared_shape(flat.nodes[name]) for name in arrived}
    for source in arrived:  # grows while it is walked: breadth first from the inputs
        for name in readers[source]:
            if name in known:
                continue
            node = flat.nodes[name]
            known[name] = known[source]
            if node.kind not in (*ADDING, "Delay", "Output"):
                made[name] = layer(node, known[source], source)
                known[name] = _shape(made[name], known[source], node.label)
            arrived.append(name)
    for name, node in flat.nodes.items():
        if name not in known:
            raise FrontendError("no signal from the input ever arrives here", at=node.label)
    return known, made


def _shape(node: Node, arriving: Shape, label: str) -> Shape:
    try:
        shape = infer(node, (Signal(arriving, "spike"),)).shape
    except VerifyError as error:
        raise FrontendError(error.message, at=label, hint=error.hint) from error
    if np.prod(np.array(shape, np.float64)) > MAX_SIGNAL:
        raise FrontendError(f"a signal of {shape} has more than {MAX_SIGNAL} elements", at=label)
    return shape
