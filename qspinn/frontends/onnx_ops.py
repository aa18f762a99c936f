"""What ONNX's operators make of signals: layers, and what melts into the layers around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.onnx_file import FileNode
from qspinn.frontends.onnx_net import Steps, Synapses, Units
from qspinn.frontends.onnx_values import (
    Current,
    Value,
    Wave,
    channels,
    per_channel,
    per_element,
)
from qspinn.frontends.onnx_walk import (
    MOST_UNITS,
    Args,
    Operator,
    Walk,
    bias_of,
    check_size,
    constant,
)
from qspinn.frontends.onnx_weights import Constant, carried, times_inputs
from qspinn.ir import Conv1d, Conv2d, Linear, Param, Shape
from qspinn.signals import Signal, infer

_FLOATS = (1, 10, 11, 16)
"""Of TensorProto: FLOAT, FLOAT16, DOUBLE and BFLOAT16."""
_WHOLE = 1e-4
"""How far from a level a limit may be that means it: both are stored in float32."""


def signal(args: Args, index: int = 0) -> Wave | Current:
    """An argument that must be a signal.

    Raises:
        FrontendError: It is a constant, or integers that no DequantizeLinear has read.
    """
    found = args[index] if index < len(args) else None
    if not isinstance(found, Wave | Current):
        raise FrontendError(
            "reads a constant or bare integers where a signal is expected",
            hint="export quantized networks with QuantizeLinear and DequantizeLinear in pairs",
        )
    return found


def seen(value: Wave | Current) -> Shape:
    """The shape of a signal as the file knows it."""
    return value.seen if isinstance(value, Current) else value.shape


def wave(args: Args, index: int = 0) -> Wave:
    """An argument that must come from rectified units or the input.

    Raises:
        FrontendError: No Relu stands before it.
    """
    found = signal(args, index)
    if isinstance(found, Current):
        raise FrontendError(
            "reads a sum that no Relu has rectified",
            hint="put a Relu between, or join the two layers into one before the export",
        )
    return found


def connect(walk: Walk, source: Wave, node: Linear | Conv1d | Conv2d, weight: Constant,
            bias: FloatArray) -> Current:  # fmt: skip
    """Weights behind a signal; its gain melts into them, its shift into the bias."""
    shape = infer(node, (Signal(source.shape, "current"),)).shape
    check_size(node, shape)
    bias = bias_of(bias, shape) + carried(node, source.shift, source.shape)
    synapses = times_inputs(Synapses(node, weight.grid()), source.gain, source.shape)
    if weight.whole is not None and synapses.grid is None:
        walk.note(node.name, "its integers are not kept: their scale varies along the inputs, or "
                             "they are wider than 16 bits")  # fmt: skip
    return Current(shape, (synapses,), bias)


# --- linear layers ---


def gemm(walk: Walk, node: FileNode, args: Args) -> Value:
    """``alpha x W' + beta c``."""
    weight, bias = constant(args, 1, "weight"), constant(args, 2, "bias")
    if node.get("transA", 0) or weight is None or weight.values.ndim != 2:
        raise FrontendError(
            "transposes the batch (transA), or has no constant matrix",
            hint="export it as x W + b with x of shape (batch, features)",
        )
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    rows = weight if node.get("transB", 0) else weight.transposed((1, 0))
    added = np.zeros(1) if bias is None else beta * bias.values
    current = dense(walk, node, signal(args), rows, np.zeros(1))
    return current.times(np.array(alpha), per_element(added, current.shape))


def matmul(walk: Walk, node: FileNode, args: Args) -> Value:
    """``x W``."""
    weight = constant(args, 1, "weight")
    if weight is None or weight.values.ndim != 2:
        raise FrontendError("does not multiply by a constant matrix",
                            hint="only x W with a W of two dimensions is a layer")  # fmt: skip
    return dense(walk, node, signal(args), weight.transposed((1, 0)), np.zeros(1))


def dense(walk: Walk, node: FileNode, x: Wave | Current, rows: Constant,
          bias: FloatArray) -> Current:  # fmt: skip
    """A matrix (out, in) behind a flat signal, or behind another matrix."""
    shape = seen(x)
    if len(shape) != 1 or rows.values.shape[1] != shape[0]:
        raise FrontendError(
            f"multiplies samples of shape {shape} by a matrix for {rows.values.shape[1]} inputs",
            hint="a Flatten belongs in between" if len(shape) > 1 else "",
        )
    if isinstance(x, Current):
        return _composed(x, rows.values)
    layer = Linear(name=walk.fresh(node.label), inputs=(x.layer,), weight=Param(rows.values))
    return connect(walk, x, layer, rows, bias)


def _composed(x: Current, rows: FloatArray) -> Current:
    """A matrix behind matrices is a matrix."""
    if x.pool is not None or not all(isinstance(s.node, Linear) for s in x.synapses):
        raise FrontendError("reads a convolution that no Relu has rectified",
                            hint="put a Relu between")  # fmt: skip
    joined = tuple(
        Synapses(replace(s.node, weight=Param(rows @ s.node.weight.values)))
        for s in x.synapses if isinstance(s.node, Linear)
    )  # fmt: skip
    return Current((len(rows),), joined, rows @ np.broadcast_to(x.bias, x.shape))


def conv(walk: Walk, node: FileNode, args: Args) -> Value:
    """A convolution in one or two dimensions."""
    x, weight, bias = wave(args), constant(args, 1, "weight"), constant(args, 2, "bias")
    rank = len(x.shape) - 1 - walk.lifted
    if weight is None or weight.values.ndim != rank + 2 or rank not in (1, 2):
        raise FrontendError(f"its weights do not fit samples of shape {x.shape}")
    pads, strides, dilations = window(node, x.shape[-rank:], weight.values.shape[2:])
    groups = int(node.get("group", 1))
    name, added = walk.fresh(node.label), np.zeros(1) if bias is None else bias.values
    layer: Conv1d | Conv2d
    if rank == 1 and not walk.lifted:
        layer = Conv1d(name=name, inputs=(x.layer,), weight=Param(weight.values),
                       stride=strides[0], padding=pads[0], dilation=dilations[0],
                       groups=groups)  # fmt: skip
        return connect(walk, x, layer, weight, added)
    if rank == 1:
        weight = weight.expanded()
        pads, strides, dilations = (0, *pads), (1, *strides), (1, *dilations)
    layer = Conv2d(name=name, inputs=(x.layer,), weight=Param(weight.values),
                   stride=(strides[0], strides[1]), padding=(pads[0], pads[1]),
                   dilation=(dilations[0], dilations[1]), groups=groups)  # fmt: skip
    return connect(walk, x, layer, weight, added)


def window(
    node: FileNode, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Padding, strides and dilations of a window, for each dimension.

    Raises:
        FrontendError: It is padded more on one side than on the other.
    """
    rank = len(kernel)
    strides = tuple(node.get("strides", (1,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    pads = tuple(node.get("pads", (0,) * 2 * rank))
    auto = node.get("auto_pad", "NOTSET")
    if not (len(strides) == len(dilations) == rank and len(pads) == 2 * rank):
        raise FrontendError(f"its strides, dilations or pads are not those of {rank} dimensions")
    if min((*strides, *dilations), default=1) < 1 or min(pads, default=0) < 0:
        raise FrontendError(f"has strides {strides}, dilations {dilations} and pads {pads}")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            for size, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        pads = (*[t // 2 for t in total], *[t - t // 2 for t in total])
    elif auto == "VALID":
        pads = (0,) * 2 * rank
    padded = [size + a + b for size, a, b in zip(sizes, pads[:rank], pads[rank:], strict=True)]
    if math.prod(padded) > MOST_UNITS:
        raise FrontendError(f"pads an image to {padded}", hint="no target holds such a layer")
    if pads[:rank] != pads[rank:]:
        raise FrontendError(
            f"is padded by {pads[:rank]} at the beginning and {pads[rank:]} at the end",
            hint="only equal padding on both sides is read: train with an odd kernel or stride 1",
        )
    return pads[:rank], strides, dilations


# --- what melts into layers ---


def batch_norm(walk: Walk, node: FileNode, args: Args) -> Value:
    """``(x - mean) / sqrt(var + eps) * scale + bias``, per channel."""
    x = signal(args)
    if node.get("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        raise FrontendError("is exported in training mode", hint="call model.eval() before")
    if not node.get("spatial", 1):
        raise FrontendError("normalizes each element of its own (spatial=0)",
                            hint="convert the model to opset 9")  # fmt: skip
    numbers = [constant(args, i, "statistics") for i in range(1, 5)]
    found = [channels(n.values, seen(x)) for n in numbers if n is not None]
    if len(found) != 4:
        raise FrontendError("lacks some of its four arguments")
    scale, bias, mean, variance = found
    if (variance < 0).any():
        raise FrontendError("has a negative variance")
    gain = scale / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
    return x.times(gain, bias - mean * gain)


def add(walk: Walk, node: FileNode, args: Args) -> Value:
    """A bias, or two sums that the same units add up or subtract."""
    if node.op in ("Add", "Sub") and all(isinstance(a, Wave | Current) for a in args):
        return _joined(walk, node, args)
    x, other, swapped = _with_constant(args)
    shift = per_element(other, seen(x), lifted=walk.lifted)
    if node.op == "Add":
        return x.times(np.ones(()), shift)
    return x.times(np.array(-1.0), shift) if swapped else x.times(np.ones(()), -shift)


def _joined(walk: Walk, node: FileNode, args: Args) -> Current:
    parts = [walk.direct(a, node.label) if isinstance(a, Wave) else a for a in args]
    both = [part for part in parts if isinstance(part, Current)]
    if len(both) != 2 or both[0].shape != both[1].shape or any(p.pool for p in both):
        raise FrontendError("adds signals of different shapes, or a maximum of sums",
                            hint="put a Relu before the maximum")  # fmt: skip
    first, second = both
    if node.op == "Sub":
        second = second.times(np.array(-1.0), np.zeros(()))
    return Current(first.shape, (*first.synapses, *second.synapses), first.bias + second.bias)


def multiply(walk: Walk, node: FileNode, args: Args) -> Value:
    """A constant factor."""
    x, other, swapped = _with_constant(args)
    gain = per_element(other, seen(x), lifted=walk.lifted)
    if node.op == "Div":
        if swapped or not gain.all():
            raise FrontendError("divides by a signal or by zero")
        gain = 1.0 / gain
    return x.times(gain, np.zeros(()))


def _with_constant(args: Args) -> tuple[Wave | Current, FloatArray, bool]:
    """The signal, the constant, and whether the constant comes first."""
    swapped = isinstance(args[0], Constant)
    other = constant(args, 0 if swapped else 1, "second argument")
    if other is None:
        raise FrontendError("lacks an argument")
    return signal(args, int(swapped)), other.values, swapped


def same(walk: Walk, node: FileNode, args: Args) -> Value:
    """What does nothing when a network is used."""
    return signal(args)


def cast(walk: Walk, node: FileNode, args: Args) -> Value:
    """Numbers of another width, which are the same to a network."""
    if node.get("to", 0) not in _FLOATS:
        raise FrontendError(f"casts a signal to the type {node.get('to', 0)}, which rounds it",
                            hint="leave the Cast out, or quantize with QuantizeLinear and "
                            "DequantizeLinear")  # fmt: skip
    return signal(args)


# --- rectifiers ---


def relu(walk: Walk, node: FileNode, args: Args) -> Value:
    """Units."""
    x = signal(args)
    if isinstance(x, Wave) and x.positive and (x.gain >= 0).all() and (x.shift >= 0).all():
        return x
    return walk.rectified(x, node.label)


def clip(walk: Walk, node: FileNode, args: Args) -> Value:
    """``Clip(0, c)``: units that send at most c, such as ReLU6."""
    x = signal(args)
    low = _limit(constant(args, 1, "minimum"), node.get("min", -np.inf))
    high = _limit(constant(args, 2, "maximum"), node.get("max", np.inf))
    rectified = isinstance(x, Wave) and x.positive and (x.gain >= 0).all() and not np.any(x.shift)
    if high <= 0 or not (low == 0 or (rectified and low <= 0)):
        raise FrontendError(
            f"keeps values between {low:g} and {high:g}",
            hint="a spiking neuron sends nothing below zero: clip to 0 and a maximum",
        )
    cap = high if np.isfinite(high) else None
    if isinstance(x, Wave) and rectified:
        return capped(walk, node, x, cap)
    return walk.rectified(x, node.label, cap)


def _limit(given: Constant | None, otherwise: float) -> float:
    """A limit of a `Clip`: an argument in newer files, an attribute in older ones."""
    if given is None:
        return float(otherwise)
    if given.values.size != 1:
        raise FrontendError(f"has {given.values.size} limits at one end", hint="give it one number")
    return float(given.values.item())


def capped(walk: Walk, node: FileNode, x: Wave, cap: float | None) -> Wave:
    """Rectified units with a limit, where they are read only here."""
    if cap is None:
        return x
    at = next((i for i, u in enumerate(walk.layers) if u.name == x.layer), None)
    layer = walk.layers[at] if at is not None else None
    alone = walk.alone(x) and x.gain.size == 1 and x.gain.item() > 0
    if at is None or not isinstance(layer, Units) or not alone:
        return walk.rectified(x, node.label, cap)
    limit = cap / float(x.gain.item())
    if layer.steps is None:
        walk.layers[at] = replace(layer, cap=min(limit, layer.cap or limit))
        return x
    unit, most = layer.steps.unit, limit / layer.steps.unit
    if most < layer.steps.most:
        if abs(most - round(most)) > _WHOLE or round(most) < 1:
            return walk.rectified(x, node.label, cap)
        walk.layers[at] = replace(layer, cap=unit * round(most), steps=Steps(unit, round(most)))
    return x


def scaled_alike(x: Wave) -> bool:
    """Whether the gain is the same all over each channel, and positive."""
    each = per_channel(x.gain, x.shape)
    return each is not None and bool((each > 0).all())


OPS: dict[str, Operator] = {
    ":Gemm": gemm, ":MatMul": matmul, ":Conv": conv, ":BatchNormalization": batch_norm,
    ":Add": add, ":Sub": add, ":Mul": multiply, ":Div": multiply, ":Relu": relu, ":Clip": clip,
    ":Identity": same, ":Dropout": same, ":Cast": cast,
}  # fmt: skip
