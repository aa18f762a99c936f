"""What travels on every edge: shape, kind, and in an integer graph the proved interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from qspinn.errors import VerifyError, located
from qspinn.fixed import IntArray, Interval
from qspinn.ir import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Lateral,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Pair,
    Param,
    Scale,
    Shape,
    SumPool2d,
)


@dataclass(frozen=True, slots=True)
class Signal:
    """The type of an edge.

    Attributes:
        shape: Without batch and time.
        kind: ``spike`` (0 or 1), ``count`` (unsigned) or ``current`` (a scaled value).
        interval: Integer bounds that hold in every step, assuming nothing; None in a float graph.
        frac: The binary point of a current.
    """

    shape: Shape
    kind: str
    interval: Interval | None = None
    frac: int = 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


Signals = Mapping[str, Signal]


def signals(graph: Graph) -> dict[str, Signal]:
    """Infer the signal of every node.

    Raises:
        VerifyError: Shapes or kinds do not fit, or a sum needs more than 63 bits.
    """
    known: dict[str, Signal] = {}
    for node in graph.nodes:
        if isinstance(node, Delay):
            known[node.name] = Signal(node.shape, node.kind, Interval(0, node.high))
    for node in graph.nodes:
        with located(node.name):
            if not isinstance(node, Delay):
                known[node.name] = infer(node, tuple(known[i] for i in node.inputs))
    return known


@singledispatch
def infer(node: Node, args: tuple[Signal, ...]) -> Signal:
    """The signal that ``node`` makes of its inputs."""
    raise VerifyError(f"{type(node).__name__} is not a node of the IR")


@infer.register
def _(node: Input, args: tuple[Signal, ...]) -> Signal:
    if node.kind == "current":
        span = node.fmt.range if node.fmt else None
        return Signal(node.shape, "current", span, node.fmt.frac if node.fmt else 0)
    return Signal(node.shape, node.kind, Interval(0, node.high))


@infer.register
def _(node: Linear, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    if node.weight.values.ndim != 2 or node.weight.values.shape[1] != x.size:
        raise VerifyError(f"weight {node.weight.values.shape} does not fit an input of {x.size}")
    outs = node.weight.values.shape[0]
    _broadcasts(node.bias, (outs,), "bias")
    flat = node.weight.values
    return _current(x, (outs,), flat, node.weight, node.bias)


@infer.register
def _(node: Scale, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    _broadcasts(node.scale, x.shape, "scale")
    return _current(x, x.shape, node.scale.values.reshape(-1, 1), node.scale, None)


@infer.register
def _(node: Lateral, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    _broadcasts(node.weight, x.shape, "weight")
    others = node.weight.values.reshape(-1, 1) * (x.size - 1)
    return _current(x, x.shape, others, node.weight, None)


@infer.register
def _(node: Conv1d, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    _image(x, 2)
    w = node.weight.values
    _channels(w.shape, x.shape[0], node.groups, 3)
    length = window(x.shape[1], w.shape[2], node.stride, node.padding, node.dilation)
    _broadcasts(node.bias, w.shape[:1], "bias")
    return _current(x, (w.shape[0], length), w.reshape(w.shape[0], -1), node.weight, node.bias)


@infer.register
def _(node: Conv2d, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    _image(x, 3)
    w = node.weight.values
    _channels(w.shape, x.shape[0], node.groups, 4)
    _broadcasts(node.bias, w.shape[:1], "bias")
    place = tuple(
        window(x.shape[1 + i], w.shape[2 + i], node.stride[i], node.padding[i], node.dilation[i])
        for i in range(2)
    )
    return _current(x, (w.shape[0], *place), w.reshape(w.shape[0], -1), node.weight, node.bias)


@infer.register
def _(node: SumPool2d, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    most = node.kernel[0] * node.kernel[1]
    span = Interval(min(0, most * x.interval.lo), most * x.interval.hi) if x.interval else None
    kind = "count" if x.kind == "spike" else x.kind
    return Signal(_pooled(x, node.kernel, node.stride, node.padding), kind, span, x.frac)


@infer.register
def _(node: AvgPool2d, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    return Signal(_pooled(x, node.kernel, node.stride, node.padding), "current", None)


@infer.register
def _(node: MaxPool2d, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    if x.kind == "current":
        raise VerifyError("MaxPool2d takes spikes or counts, not a current")
    shape = _pooled(x, node.kernel, node.stride, node.padding)
    return Signal(shape, x.kind, x.interval, x.frac)


@infer.register
def _(node: Flatten, args: tuple[Signal, ...]) -> Signal:
    (x,) = args
    rank = len(x.shape)
    start, end = node.start % rank, node.end % rank
    if start > end:
        raise VerifyError(f"cannot flatten dimensions {start} to {end} of {x.shape}")
    merged = int(np.prod(x.shape[start : end + 1]))
    shape = (*x.shape[:start], merged, *x.shape[end + 1 :])
    return Signal(shape, x.kind, x.interval, x.frac)


@infer.register
def _(node: Neuron, args: tuple[Signal, ...]) -> Signal:
    for x in args:
        if x.shape != node.shape:
            raise VerifyError(f"the neurons have shape {node.shape}, an input current {x.shape}")
    for name, param in node.values.items():
        _broadcasts(param, node.shape, name)
    for name, state in node.states.items():
        _broadcasts(state.init, node.shape, name)
    model = node.model
    if model.sends != "current":
        return Signal(node.shape, model.sends, Interval(0, model.max_out))
    fmt = node.states[sent_state(node)].fmt
    return Signal(node.shape, "current", fmt.range if fmt else None, fmt.frac if fmt else 0)


@infer.register
def _(node: Output, args: tuple[Signal, ...]) -> Signal:
    return args[0]


def sent_state(node: Neuron) -> str:
    """The state whose value a graded neuron sends."""
    op = node.model.ops[node.model.output]
    if op.kind not in ("store", "state"):
        raise VerifyError(f"{node.model.name} sends a value that is no state")
    return op.name


def summed(args: tuple[Signal, ...]) -> Signal:
    """The sum of several currents, aligned to the finest binary point."""
    frac = max(x.frac for x in args)
    if any(x.interval is None for x in args):
        return Signal(args[0].shape, "current", None, frac)
    spans = [(x.interval, frac - x.frac) for x in args if x.interval]
    lo, hi = (sum(getattr(s, end) << k for s, k in spans) for end in ("lo", "hi"))
    return Signal(args[0].shape, "current", Interval(lo, hi), frac)


def window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """The number of places of a sliding window."""
    if min(kernel, stride, dilation) < 1 or padding < 0:
        raise VerifyError(
            f"a window of {kernel} cannot have stride {stride}, dilation {dilation} "
            f"and padding {padding}"
        )
    places = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if places < 1:
        raise VerifyError(f"a window of {kernel} does not fit {size} (padding {padding})")
    return places


def _current(x: Signal, shape: Shape, rows: IntArray, weight: Param, bias: Param | None) -> Signal:
    """The current of a sum over synapses: worst case per row of weights, then over the rows."""
    if weight.fmt is None or x.interval is None:
        return Signal(shape, "current")
    frac = weight.fmt.frac + x.frac
    # As Python integers: worst cases of wide weights and inputs can exceed 64 bits.
    up = np.maximum(rows, 0).sum(1).astype(object)
    down = np.minimum(rows, 0).sum(1).astype(object)
    hi = up * x.interval.hi + down * x.interval.lo
    lo = up * x.interval.lo + down * x.interval.hi
    # Zero padding: a window at the border may see less than the whole row.
    hi, lo = np.maximum(hi, 0), np.minimum(lo, 0)
    span = Interval(int(lo.min()), int(hi.max()))
    if bias is not None and bias.fmt is not None:
        b = Signal(shape, "current", Interval(int(bias.values.min()), int(bias.values.max())),
                   bias.fmt.frac)  # fmt: skip
        return summed((Signal(shape, "current", span, frac), b))
    return Signal(shape, "current", span, frac)


def _pooled(x: Signal, kernel: Pair, stride: Pair, padding: Pair) -> Shape:
    _image(x, 3)
    if any(p > k // 2 for p, k in zip(padding, kernel, strict=True)):
        raise VerifyError(f"padding {padding} exceeds half of the window {kernel}")
    place = (window(x.shape[1 + i], kernel[i], stride[i], padding[i]) for i in range(2))
    return (x.shape[0], *place)


def _image(x: Signal, rank: int) -> None:
    if len(x.shape) != rank:
        raise VerifyError(f"needs an input of {rank} dimensions, not {x.shape}")


def _channels(weight: Shape, channels: int, groups: int, rank: int) -> None:
    if len(weight) != rank or weight[1] * groups != channels or weight[0] % groups:
        raise VerifyError(f"weight {weight} with {groups} groups does not fit {channels} channels")


def _broadcasts(param: Param | None, shape: Shape, name: str) -> None:
    if param is None:
        return
    try:
        fits = np.broadcast_shapes(param.values.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise VerifyError(f"{name} of shape {param.values.shape} does not broadcast to {shape}")
