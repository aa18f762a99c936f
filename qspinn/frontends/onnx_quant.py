"""Quantizers in ONNX files: QuantizeLinear and its inverse, and QONNX's Quant and BipolarQuant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.onnx_file import FileNode
from qspinn.frontends.onnx_net import Steps, Units
from qspinn.frontends.onnx_ops import signal
from qspinn.frontends.onnx_values import Current, Stepped, Value, Wave
from qspinn.frontends.onnx_walk import Args, Operator, Walk, constant
from qspinn.frontends.onnx_weights import Constant, format_for
from qspinn.ir import Array

QONNX = ("qonnx.custom_op.general", "onnx.brevitas")
MOST_BITS = 32
COARSE = 31
"""So many levels of one path are seen in what spikes carry, and are worth neurons; more are not."""
_INTEGER = re.compile(r"(u?)int(2|4|8|16|32)")
_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}
"""Of TensorProto, those that QuantizeLinear makes."""
_ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "ROUND": np.rint, "FLOOR": np.floor, "CEIL": np.ceil, "ROUND_TO_ZERO": np.trunc,
}  # fmt: skip


def _span(dtype: str) -> tuple[int, int]:
    """The smallest and the largest integer of a type.

    Raises:
        FrontendError: It is none of integers.
    """
    found = _INTEGER.fullmatch(dtype)
    if found is None:
        raise FrontendError(f"quantizes to {dtype}", hint="only integers are read")
    bits = int(found[2])
    return (0, (1 << bits) - 1) if found[1] else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _unit(args: Args, index: int = 1) -> FloatArray:
    scale = constant(args, index, "scale")
    if scale is None or not (scale.values > 0).all():
        raise FrontendError("has no positive scale")
    found: FloatArray = np.asarray(scale.values, np.float64)
    return found


def _along(numbers: Array, values: Array, node: FileNode) -> Array:
    """Numbers per tensor, or per slice of an axis, in the rank of ``values``."""
    if node.get("block_size", 0):
        raise FrontendError("has a scale for each block of weights",
                            hint="quantize per tensor or per channel")  # fmt: skip
    if numbers.size == 1:
        return numbers.reshape((1,) * values.ndim)
    axis = node.get("axis", 1)
    if not -values.ndim <= axis < values.ndim or numbers.size != values.shape[axis]:
        raise FrontendError(f"has {numbers.size} scales along axis {axis} of {values.shape}")
    shape = [1] * values.ndim
    shape[axis] = -1
    return numbers.reshape(shape)


def _zero(args: Args, node: FileNode, default: str) -> tuple[Array, str]:
    """The zero point, and the type of the integers."""
    zero = constant(args, 2, "zero point")
    if zero is None:
        return np.zeros(1, np.int64), _TYPES.get(node.get("output_dtype", 0), default)
    return zero.values.astype(np.int64), zero.dtype


def quantize_linear(walk: Walk, node: FileNode, args: Args) -> Value:
    """Integers of constants; of a signal they are known once DequantizeLinear reads them."""
    unit, (zero, dtype) = _unit(args), _zero(args, node, "uint8")
    low, high = _span(dtype)
    x = args[0]
    if isinstance(x, Constant):
        offset = _along(zero, x.values, node)
        whole = np.rint(x.values / _along(unit, x.values, node)) + offset
        return Constant(np.clip(whole, low, high).astype(np.int64), dtype)
    if unit.size != 1 or zero.size != 1:
        raise FrontendError("quantizes a signal with several scales",
                            hint="quantize activations per tensor")  # fmt: skip
    found = signal(args)
    alone = walk.alone(found)
    return Stepped(found, float(unit.item()), int(zero.item()), low, high, alone)


def dequantize_linear(walk: Walk, node: FileNode, args: Args) -> Value:
    """The values of integers."""
    unit, x = _unit(args), args[0]
    if isinstance(x, Constant):
        zero, _ = _zero(args, node, x.dtype)
        low, high = _span(x.dtype)
        whole = x.values.astype(np.int64) - _along(zero, x.values, node)
        each = _along(unit, x.values, node)
        fmt = format_for(low - int(zero.max()), high - int(zero.min()))
        return Constant(whole * each, "float32", whole, each, fmt)
    if not isinstance(x, Stepped):
        raise FrontendError("reads what no QuantizeLinear made",
                            hint="export quantizers in pairs")  # fmt: skip
    zero, _ = _zero(args, node, "uint8")
    if unit.size != 1 or float(unit.item()) != x.unit or int(zero.reshape(-1)[0]) != x.zero:
        raise FrontendError("has another scale than the QuantizeLinear before it",
                            hint="export quantizers in pairs")  # fmt: skip
    return activation(walk, node, x.value, (x.unit, x.low - x.zero, x.high - x.zero), alone=x.alone)


def quant(walk: Walk, node: FileNode, args: Args) -> Value:
    """QONNX: what a quantizer makes of values, in real numbers."""
    unit = _unit(args)
    zero, width = constant(args, 2, "zero point"), constant(args, 3, "bit width")
    if zero is None or width is None or width.values.size != 1:
        raise FrontendError("lacks a zero point or one bit width")
    bits = int(np.ceil(width.values.item()))
    if not 1 <= bits <= MOST_BITS:
        raise FrontendError(f"has {bits} bits, must have 1 to {MOST_BITS}")
    signed, narrow = bool(node.get("signed", 1)), int(node.get("narrow", 0))
    low = -(1 << bits - 1) + narrow if signed else 0
    high = (1 << bits - 1) - 1 if signed else (1 << bits) - 1 - narrow
    rounding = _ROUNDINGS.get(str(node.get("rounding_mode", "ROUND")).upper())
    if rounding is None:
        raise FrontendError(f"rounds by {node.get('rounding_mode')}",
                            hint=f"one of {', '.join(_ROUNDINGS)}")  # fmt: skip
    x = args[0]
    if isinstance(x, Constant):
        each, offset = (_ranked(v, x.values) for v in (unit, zero.values))
        whole = np.clip(rounding(x.values / each + offset), low, high) - offset
        if (whole != np.rint(whole)).any():
            raise FrontendError("has a zero point between integers")
        fmt = format_for(low - int(np.max(offset)), high - int(np.min(offset)))
        return Constant(whole * each, "float32", whole.astype(np.int64), each, fmt)
    if unit.size != 1 or zero.values.size != 1:
        raise FrontendError("quantizes a signal with several scales",
                            hint="quantize activations per tensor")  # fmt: skip
    if rounding is not np.rint:
        raise FrontendError(f"rounds a signal by {node.get('rounding_mode')}",
                            hint="quantize signals with ROUND, weights as you like")  # fmt: skip
    start = int(np.rint(zero.values.item()))
    found = signal(args)
    step = (float(unit.item()), low - start, high - start)
    return activation(walk, node, found, step, alone=walk.alone(found))


def _ranked(numbers: Array, values: Array) -> FloatArray:
    """Numbers that broadcast to values, in their rank.

    Raises:
        FrontendError: They do not.
    """
    found = np.asarray(numbers, np.float64)
    try:
        fits = np.broadcast_shapes(found.shape, values.shape) == values.shape
    except ValueError:
        fits = False
    if not fits:
        raise FrontendError(f"has scales of shape {found.shape} for weights of {values.shape}")
    return found.reshape((1,) * (values.ndim - found.ndim) + found.shape)


def bipolar(walk: Walk, node: FileNode, args: Args) -> Value:
    """QONNX: −1 or 1 times a scale."""
    unit, x = _unit(args), args[0]
    if not isinstance(x, Constant):
        raise FrontendError(
            "makes activations of −1 and 1",
            hint="a spike is 0 or 1: only weights may be bipolar, activations a quantized Relu",
        )
    whole = np.where(x.values >= 0, 1, -1).astype(np.int64)
    each = _ranked(unit, x.values)
    return Constant(whole * each, "float32", whole, each, format_for(-1, 1, binary=True))


def activation(
    walk: Walk, node: FileNode, x: Wave | Current, step: tuple[float, int, int], *, alone: bool
) -> Wave | Current:
    """A signal that is rounded: rectified units get the quantizer's largest value as a limit.

    Args:
        walk: The reading.
        node: The quantizer.
        x: What it rounds.
        step: Its unit, and its lowest and highest integer.
        alone: Whether nobody else reads ``x`` or another name of its layer.

    Raises:
        FrontendError: The unit is so large that only zero remains.
    """
    unit, low, high = step
    if isinstance(x, Wave) and x.layer == walk.input:
        return _entry(walk, node, x, step, alone=alone)
    if isinstance(x, Current) and low == 0 and high > 0 and x.pool is None:
        return walk.rectified(x, node.label, unit * high, Steps(unit, high))
    at = [i for i, layer in enumerate(walk.layers) if isinstance(x, Wave) and layer.name == x.layer]
    layer = walk.layers[at[0]] if at else None
    bare = isinstance(x, Wave) and x.gain.size == 1 and x.gain.item() == 1 and not np.any(x.shift)
    if isinstance(layer, Units) and alone and bare and low <= 0 < high and not layer.steps:
        most = high if layer.cap is None else int(min(high, np.rint(layer.cap / unit)))
        if most < 1:
            raise FrontendError(f"rounds values up to {layer.cap:g} to multiples of {unit:g}: zero",
                                hint="quantize with a smaller scale")  # fmt: skip
        walk.layers[at[0]] = replace(layer, cap=unit * most, steps=Steps(unit, most))
        return x
    if (
        isinstance(x, Wave)
        and isinstance(layer, Units)
        and layer.steps
        and bare
        and low <= 0 < high
    ):
        if unit * high < layer.steps.unit * layer.steps.most:
            return walk.rectified(x, node.label, unit * high, Steps(unit, high))
        if unit == layer.steps.unit:
            return x
    if isinstance(layer, Units) and bare and not layer.steps and low <= 0 < high <= COARSE:
        walk.note(node.label, f"is rounded to {high} levels on this path alone: neurons of its own "
                              "do that")  # fmt: skip
        return walk.rectified(x, node.label, unit * high, Steps(unit, high))
    walk.note(node.label, f"rounds to multiples of {unit:g}, which is not kept: spikes carry the "
                          "value as it is")  # fmt: skip
    return x


def _entry(
    walk: Walk, node: FileNode, x: Wave, step: tuple[float, int, int], *, alone: bool
) -> Wave:
    bare = x.gain.size == 1 and x.gain.item() == 1 and not np.any(x.shift)
    if walk.layers or walk.grain or not bare or not alone:
        walk.note(node.label, "rounds the input, which is not kept")
        return x
    walk.grain = step
    return x


OPS: dict[str, Operator] = {
    ":QuantizeLinear": quantize_linear, ":DequantizeLinear": dequantize_linear,
    **{f"{domain}:Quant": quant for domain in QONNX},
    **{f"{domain}:BipolarQuant": bipolar for domain in QONNX},
}  # fmt: skip
