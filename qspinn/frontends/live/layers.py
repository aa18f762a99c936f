"""torch's own layers as nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.live.build import Build, Wire
from qspinn.ir import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Pair,
    Param,
    Shape,
    SumPool2d,
)

Handler = Callable[[Build, str, Any, Wire, int], Wire]
"""Makes nodes of the module at a path, reading a wire; the signal has so many leading dimensions
(batch, or time and batch) in the module's own count."""


def array(values: Any) -> FloatArray:
    """A tensor or a number as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    found: FloatArray = np.asarray(values, np.float64)
    return found


def linear(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A matrix; it reads the last dimension, so the signal must have just that one."""
    if len(wire.shape) != 1:
        raise FrontendError(
            f"multiplies the last dimension of a signal of shape {wire.shape}",
            hint="flatten the signal first",
        )
    return matrix(build, path, wire, array(module.weight), _bias(module))


def matrix(build: Build, path: str, wire: Wire, weight: FloatArray, bias: Param | None) -> Wire:
    """A Linear node with the wire's factor in its weights."""
    node = Linear(
        name=build.name(path), inputs=(wire.node,), weight=Param(weight * wire.factor), bias=bias
    )
    return build.add(node, wire.signal)


def _bias(module: Any) -> Param | None:
    """The bias; a zero one is none."""
    bias = None if module.bias is None else array(module.bias)
    return Param(bias) if bias is not None and bias.any() else None


def conv1d(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A convolution over time or place."""
    (padding,) = _padding(module)
    node = Conv1d(
        name=build.name(path), inputs=(wire.node,), bias=_bias(module),
        weight=Param(array(module.weight) * wire.factor), stride=int(module.stride[0]),
        padding=padding, dilation=int(module.dilation[0]), groups=int(module.groups),
    )  # fmt: skip
    return build.add(node, wire.signal)


def conv2d(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A convolution over an image."""
    rows, columns = _padding(module)
    node = Conv2d(
        name=build.name(path), inputs=(wire.node,), bias=_bias(module),
        weight=Param(array(module.weight) * wire.factor), stride=pair(module.stride),
        padding=(rows, columns), dilation=pair(module.dilation), groups=int(module.groups),
    )  # fmt: skip
    return build.add(node, wire.signal)


def _padding(module: Any) -> Shape:
    if module.padding_mode != "zeros":
        raise FrontendError(f"pads with {module.padding_mode!r}; only zeros are exact here")
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding != "same":
        return tuple(int(p) for p in module.padding)
    whole = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(w % 2 for w in whole):
        raise FrontendError(
            f"padding 'same' for the kernel {module.kernel_size} is not the same on both sides",
            hint="give the kernel an odd size",
        )
    return tuple(w // 2 for w in whole)


def pair(value: Any) -> Pair:
    """One number for both dimensions, or two."""
    first, second = (value, value) if isinstance(value, int) else tuple(value)
    return int(first), int(second)


def avg_pool(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A mean over windows."""
    padding = pair(module.padding)
    if any(padding) and not module.count_include_pad:
        raise FrontendError("leaves the padding out of its means (count_include_pad=False)")
    if module.divisor_override is not None:
        raise FrontendError(f"divides by {module.divisor_override} (divisor_override)")
    kernel, stride = _window(module, wire)
    node = AvgPool2d(
        name=build.name(path), inputs=(wire.node,), kernel=kernel, stride=stride, padding=padding
    )
    return build.add(node, wire.signal, factor=wire.factor)


def adaptive_pool(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A mean over windows of one size, where the output divides the input.

    A dimension for which the module says None stays as it is.

    Raises:
        FrontendError: The signal is no image, or its windows would have several sizes.
    """
    size, said = wire.shape[1:], module.output_size
    if len(size) != 2:
        raise FrontendError(f"pools a signal of shape {wire.shape}; it takes (channels, y, x)")
    each = (said, said) if said is None or isinstance(said, int) else tuple(said)
    wanted = tuple(s if w is None else int(w) for s, w in zip(size, each, strict=True))
    if any(w < 1 or s % w for s, w in zip(size, wanted, strict=True)):
        raise FrontendError(
            f"makes {wanted} of {size}, with windows of several sizes",
            hint="give an output size that divides the signal's",
        )
    kernel = (size[0] // wanted[0], size[1] // wanted[1])
    node = AvgPool2d(name=build.name(path), inputs=(wire.node,), kernel=kernel, stride=kernel)
    return build.add(node, wire.signal, factor=wire.factor)


def sum_pool(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A sum over windows: torch's LPPool2d with norm 1, as sinabs has it."""
    if module.norm_type != 1:
        raise FrontendError(f"takes the norm {module.norm_type} of its windows, not their sum")
    kernel, stride = _window(module, wire)
    node = SumPool2d(name=build.name(path), inputs=(wire.node,), kernel=kernel, stride=stride)
    return build.add(node, wire.signal, factor=wire.factor)


def max_pool(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """A maximum over windows; of spikes, whether any arrived."""
    if wire.signal.kind == "current":
        raise FrontendError(
            "takes the maximum of currents, which no target can",
            hint="pool the spikes: put it behind the neurons",
        )
    if wire.factor < 0:
        raise FrontendError(f"takes the maximum of spikes times {wire.factor:g}")
    if pair(module.dilation) != (1, 1) or module.return_indices:
        raise FrontendError("has a dilation, or returns indices")
    kernel, stride = _window(module, wire)
    node = MaxPool2d(
        name=build.name(path), inputs=(wire.node,), kernel=kernel, stride=stride,
        padding=pair(module.padding),
    )  # fmt: skip
    return build.add(node, wire.signal, factor=wire.factor)


def _window(module: Any, wire: Wire) -> tuple[Pair, Pair]:
    kernel = pair(module.kernel_size)
    stride = pair(module.stride if module.stride is not None else module.kernel_size)
    if module.ceil_mode:
        size = wire.shape[-2:]
        padding = pair(getattr(module, "padding", 0))
        if any(
            (s + 2 * p - k) % t for s, p, k, t in zip(size, padding, kernel, stride, strict=True)
        ):
            raise FrontendError("has partial windows at the border (ceil_mode)")
    return kernel, stride


def flatten(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """Several dimensions as one; batch and time stay."""
    return flattened(build, path, wire, int(module.start_dim), int(module.end_dim), lead)


def flattened(build: Build, path: str, wire: Wire, start: int, end: int, lead: int) -> Wire:
    """Dimensions ``start`` to ``end``, of which the first ``lead`` are batch and time."""
    rank = len(wire.shape) + lead
    first, last = (d % rank if -rank <= d < rank else d for d in (start, end))
    if first < lead:
        what = "the time and the batch" if lead == 2 else "the batch"
        raise FrontendError(
            f"flattens from dimension {start} on, which takes in {what}",
            hint=f"give start_dim={lead}",
        )
    if last >= rank or first > last:
        raise FrontendError(f"cannot flatten dimensions {start} to {end} of {rank}")
    if first == last:
        return wire
    node = Flatten(name=build.name(path), inputs=(wire.node,), start=first - lead, end=last - rank)
    return build.add(node, wire.signal, factor=wire.factor)


def batch_norm(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """Normalization with the running statistics, folded into the connection before it."""
    source = build.nodes[wire.node]
    if not isinstance(source, (Linear, Conv1d, Conv2d)):
        raise FrontendError(
            f"normalizes what {type(source).__name__} sends; it folds into a connection right "
            "before it only",
            hint="put it behind a Linear or a convolution",
        )
    if module.running_mean is None or module.running_var is None:
        raise FrontendError("has no running statistics, so every batch would be another network")
    gain = 1 / np.sqrt(array(module.running_var) + module.eps)
    if module.weight is not None:
        gain = gain * array(module.weight)
    shift = -array(module.running_mean) * gain
    if module.bias is not None:
        shift = shift + array(module.bias)
    weight = source.weight.values
    if len(gain) != len(weight):
        raise FrontendError(f"normalizes {len(gain)} channels of {len(weight)}")
    old = source.bias.values if source.bias is not None else 0.0
    node = replace(
        source,
        name=build.name(path),
        weight=Param(weight * gain.reshape(-1, *[1] * (weight.ndim - 1))),
        bias=Param(old * gain + shift),
    )
    build.note(node.name, f"folded into {source.name}, with its running statistics (eval mode)")
    return build.add(node, build.wires[source.inputs[0]].signal)


def skipped(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """Nothing, when a trained network runs."""
    return wire


def dropped(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """Dropout acts in training only."""
    build.note(path, "left out: it acts in training only")
    return wire


LAYERS: Mapping[str, Handler] = {
    "Linear": linear,
    "Conv1d": conv1d,
    "Conv2d": conv2d,
    "AvgPool2d": avg_pool,
    "AdaptiveAvgPool2d": adaptive_pool,
    "LPPool2d": sum_pool,
    "MaxPool2d": max_pool,
    "Flatten": flatten,
    "BatchNorm1d": batch_norm,
    "BatchNorm2d": batch_norm,
    "Identity": skipped,
    "Dropout": dropped,
    "Dropout1d": dropped,
    "Dropout2d": dropped,
    "AlphaDropout": dropped,
}
RANKS: Mapping[str, int] = {
    "Linear": 1, "Conv1d": 2, "Conv2d": 3, "AvgPool2d": 3, "LPPool2d": 3, "MaxPool2d": 3,
    "AdaptiveAvgPool2d": 3, "BatchNorm2d": 3, "LinearTorch": 1,
}  # fmt: skip
"""How many dimensions a signal has for a layer, without batch and time."""
