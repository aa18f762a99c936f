"""ONNX operators that sum or compare over windows, or change a signal's shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.onnx_constants import axes_of
from qspinn.frontends.onnx_file import FileNode
from qspinn.frontends.onnx_net import Passing
from qspinn.frontends.onnx_ops import scaled_alike, seen, signal, wave, window
from qspinn.frontends.onnx_values import Current, Value, Wave, per_channel
from qspinn.frontends.onnx_walk import Args, Operator, Walk, check_size, constant
from qspinn.frontends.onnx_weights import Constant
from qspinn.interp import apply
from qspinn.ir import AvgPool2d, Flatten, MaxPool2d, Pair, Shape, SumPool2d
from qspinn.signals import Signal, infer


def average_pool(walk: Walk, node: FileNode, args: Args) -> Value:
    """A sum over windows; one over their size goes to the next weights."""
    x = _averaged(wave(args))
    kernel, stride, padding = _window(walk, node, x.shape)
    if any(padding) and not node.get("count_include_pad", 0):
        raise FrontendError(
            f"is padded by {padding} and does not count the padding",
            hint="set count_include_pad, or pool without padding",
        )
    return _mean(walk, node, x, kernel, stride, padding)


def global_average(walk: Walk, node: FileNode, args: Args) -> Value:
    """The mean of each channel."""
    x = _averaged(wave(args))
    kernel = _whole(x.shape)
    return _mean(walk, node, x, kernel, kernel, (0, 0))


def reduce_mean(walk: Walk, node: FileNode, args: Args) -> Value:
    """The mean of each channel, said in another way."""
    x = _averaged(wave(args))
    rank = len(_outer(walk, x.shape)) + 1
    axes = axes_of(node, [np.zeros(()), *[a.values for a in args[1:] if isinstance(a, Constant)]])
    if axes is None or sorted(a % rank for a in axes) != list(range(2, rank)):
        raise FrontendError(f"averages over the axes {axes}", hint="average over whole images")
    kernel = _whole(x.shape)
    made = _mean(walk, node, x, kernel, kernel, (0, 0))
    return made if node.get("keepdims", 1) else flattened(walk, node, made)


def _averaged(x: Wave) -> Wave:
    if per_channel(x.gain, x.shape) is None:
        raise FrontendError("averages elements that are scaled differently within a channel")
    return x


def _mean(
    walk: Walk, node: FileNode, x: Wave, kernel: Pair, stride: Pair, padding: Pair
) -> Wave:  # fmt: skip
    layer = SumPool2d(name=walk.fresh(node.label), inputs=(x.layer,), kernel=kernel, stride=stride,
                      padding=padding)  # fmt: skip
    shape = infer(layer, (Signal(x.shape, "current"),)).shape
    check_size(layer, shape)
    mean = AvgPool2d(name="mean", kernel=kernel, stride=stride, padding=padding)
    shift: FloatArray = np.zeros(())
    if np.any(x.shift):
        full = np.broadcast_to(x.shift, x.shape)[None]
        shift = apply(mean, full, Signal(x.shape, "current"))[0]
    gain = x.gain / (kernel[0] * kernel[1])
    if gain.size > 1:
        each = per_channel(x.gain, x.shape)
        assert each is not None, "it was asked for before"
        gain = each.reshape(-1, 1, 1) / (kernel[0] * kernel[1])
    return replace(walk.passed(layer, shape, x), gain=gain, shift=shift)


def max_pool(walk: Walk, node: FileNode, args: Args) -> Value:
    """A maximum over windows: of spikes, whether any arrived."""
    x = signal(args)
    kernel, stride, padding = _window(walk, node, seen(x))
    return _maximum(walk, node, x, kernel, stride, padding)


def global_max(walk: Walk, node: FileNode, args: Args) -> Value:
    """The maximum of each channel."""
    kernel = _whole(seen(signal(args)))
    return _maximum(walk, node, signal(args), kernel, kernel, (0, 0))


def _maximum(
    walk: Walk, node: FileNode, x: Wave | Current, kernel: Pair, stride: Pair, padding: Pair
) -> Value:  # fmt: skip
    layer = MaxPool2d(name=walk.fresh(node.label), inputs=("",), kernel=kernel, stride=stride,
                      padding=padding)  # fmt: skip
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise FrontendError(f"is padded by {padding}, more than half of its window {kernel}")
    shape = infer(layer, (Signal(seen(x), "spike"),)).shape
    check_size(layer, shape)
    if isinstance(x, Current):
        if x.pool is not None:
            raise FrontendError("takes a maximum of a maximum of sums",
                                hint="put a Relu between")  # fmt: skip
        return replace(x, pool=layer, pooled=shape)
    if not x.positive or not scaled_alike(x) or (any(padding) and np.any(x.shift)):
        raise FrontendError("takes a maximum of what is not rectified, or scaled within a channel",
                            hint="put a convolution with a Relu before it")  # fmt: skip
    if _summed(walk, x.layer):
        walk.note(layer.name, "is a maximum of sums of spikes: neurons stand between")
        x = walk.rectified(x, f"{layer.name}_of")
    each = per_channel(x.gain, x.shape)
    gain = x.gain if x.gain.size == 1 or each is None else each.reshape(-1, 1, 1)
    if per_channel(x.shift, x.shape) is None:
        raise FrontendError("takes a maximum of elements that are shifted within a channel")
    made = walk.passed(replace(layer, inputs=(x.layer,)), shape, x)
    shifts = per_channel(x.shift, x.shape)
    return replace(made, gain=gain, shift=np.zeros(()) if shifts is None or not shifts.any()
                   else shifts.reshape(-1, 1, 1))  # fmt: skip


def _summed(walk: Walk, name: str) -> bool:
    """Whether a layer sends counts: a sum over windows, or what such a sum passes through."""
    passing = {p.name: p.node for p in walk.layers if isinstance(p, Passing)}
    node = passing.get(name)
    return node is not None and (
        isinstance(node, SumPool2d) or _summed(walk, node.inputs[0]))  # fmt: skip


def _whole(shape: Shape) -> Pair:
    if len(shape) != 3:
        raise FrontendError(f"pools samples of shape {shape}, must be (channels, height, width)")
    return shape[1], shape[2]


def _window(walk: Walk, node: FileNode, shape: Shape) -> tuple[Pair, Pair, Pair]:
    rank = len(_whole(shape)) - walk.lifted
    kernel = tuple(node.get("kernel_shape", ()))
    if len(kernel) != rank or min(kernel) < 1:
        raise FrontendError(f"has a window {kernel} for {rank} dimensions")
    pads, strides, dilations = window(node, shape[-rank:], kernel)
    if any(d != 1 for d in dilations) or len(node.outputs) > 1:
        raise FrontendError("is dilated, or returns the places of its maxima",
                            hint="only plain windows are read")  # fmt: skip
    if node.get("ceil_mode", 0) and any(
        (size + 2 * p - k) % s
        for size, p, k, s in zip(shape[-rank:], pads, kernel, strides, strict=True)
    ):
        raise FrontendError("counts windows that begin inside and end outside (ceil_mode)",
                            hint="export with ceil_mode=False")  # fmt: skip
    if walk.lifted:
        kernel, strides, pads = (1, *kernel), (1, *strides), (0, *pads)
    return (kernel[0], kernel[1]), (strides[0], strides[1]), (pads[0], pads[1])


# --- shapes ---


def flatten(walk: Walk, node: FileNode, args: Args) -> Value:
    """Each sample in one dimension."""
    rank = len(_outer(walk, seen(signal(args)))) + 1
    axis = node.get("axis", 1)
    if axis % rank != 1:
        raise FrontendError(f"flattens from the axis {axis} on", hint="flatten from axis 1 on")
    return flattened(walk, node, signal(args))


def flattened(walk: Walk, node: FileNode, x: Wave | Current) -> Wave | Current:
    """A signal in one dimension.

    Raises:
        FrontendError: It is a sum of more dimensions.
    """
    shape = seen(x)
    if len(shape) == 1:
        return x
    if isinstance(x, Current):
        raise FrontendError("flattens a sum that no Relu has rectified",
                            hint="put the Relu before it")  # fmt: skip
    layer = Flatten(name=walk.fresh(node.label), inputs=(x.layer,))
    flat = (int(np.prod(shape)),)
    gain, shift = (
        v if v.size == 1 else np.broadcast_to(v, shape).reshape(-1) for v in (x.gain, x.shift)
    )
    return replace(walk.passed(layer, flat, x), gain=gain.reshape(-1) if gain.size > 1 else gain,
                   shift=shift)  # fmt: skip


def reshape(walk: Walk, node: FileNode, args: Args) -> Value:
    """Each sample in one dimension, or the input as an image."""
    x, wanted = signal(args), constant(args, 1, "shape")
    target = node.get("shape") if wanted is None else wanted.values.reshape(-1).tolist()
    if not target or len(target) > 8:
        raise FrontendError("names no shape")
    return _as(walk, node, x, [int(t) for t in target])


def _as(walk: Walk, node: FileNode, x: Wave | Current, target: list[int]) -> Value:
    outer = (walk.batch, *_outer(walk, seen(x)))
    sizes = [outer[i] if t == 0 and i < len(outer) else t for i, t in enumerate(target)]
    total, known = int(np.prod(outer)), int(np.prod([s for s in sizes if s > 0]))
    if sizes.count(-1) == 1 and known and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    if not sizes or sizes[0] != walk.batch or int(np.prod(sizes)) != total or min(sizes) < 1:
        raise FrontendError(
            f"makes {target} of samples of shape {outer[1:]}",
            hint="samples must stay apart: keep the batch in front",
        )
    return _shaped(walk, node, x, tuple(sizes[1:]))


def _shaped(walk: Walk, node: FileNode, x: Wave | Current, shape: Shape) -> Value:
    now = _outer(walk, seen(x))
    if shape == now:
        return x
    if len(shape) == 1:
        return flattened(walk, node, x)
    fresh = isinstance(x, Wave) and x.layer == walk.input and not walk.layers
    if isinstance(x, Wave) and fresh and not walk.lifted and x.gain.size == x.shift.size == 1:
        walk.shape = walk.shapes[walk.input] = shape
        return replace(x, shape=shape)
    raise FrontendError(f"makes {shape} of samples of shape {now}",
                        hint="only flattening is read, and an image made of the input")  # fmt: skip


def _outer(walk: Walk, shape: Shape) -> Shape:
    """A shape as the file knows it: without the height of 1."""
    return (shape[0], *shape[2:]) if walk.lifted and len(shape) == 3 else shape


def squeeze(walk: Walk, node: FileNode, args: Args) -> Value:
    """Without dimensions of size 1."""
    x = signal(args)
    outer = (walk.batch, *_outer(walk, seen(x)))
    given = axes_of(node, [np.zeros(()), *[a.values for a in args[1:] if isinstance(a, Constant)]])
    axes = given or [i for i, size in enumerate(outer) if i and size == 1]
    kept = [size for i, size in enumerate(outer) if i not in {a % len(outer) for a in axes}]
    return _as(walk, node, x, kept)


def shape_of(walk: Walk, node: FileNode, args: Args) -> Value:
    """The shape, with the batch that the file declares, or 1."""
    outer = (walk.batch, *_outer(walk, seen(signal(args))))
    part = slice(node.get("start", 0), node.get("end", None))
    return Constant(np.array(outer, np.int64)[part], "int64")


OPS: dict[str, Operator] = {
    ":AveragePool": average_pool, ":GlobalAveragePool": global_average, ":MaxPool": max_pool,
    ":GlobalMaxPool": global_max, ":ReduceMean": reduce_mean, ":Flatten": flatten,
    ":Reshape": reshape, ":Squeeze": squeeze, ":Shape": shape_of,
}  # fmt: skip
