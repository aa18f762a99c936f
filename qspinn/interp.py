"""The reference interpreter: what every node means. Clear before fast.

Integer graphs are interpreted in int64; float graphs in float64 with the same code, which is how
an import is proved. Every other executor is right exactly when it equals this one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from qspinn.dynamics import Model
from qspinn.errors import QspinnError
from qspinn.fixed import Rounding, fit, hash32, shr
from qspinn.ir import (
    Array,
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
    SumPool2d,
)
from qspinn.lowering import programs
from qspinn.ports import entering, parts
from qspinn.program import Program
from qspinn.signals import Signal, signals


@dataclass(frozen=True, eq=False)
class Trace:
    """What an executor did: every declared state after each step, and the output edges.

    Attributes:
        states: ``lif1.v`` and so on, each (batch, steps, *shape).
        outputs: By output node, each (batch, steps, *shape).
    """

    states: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def output(self) -> Array:
        """What leaves through the output that decides: the first."""
        return next(iter(self.outputs.values()))


_EXACT = 1 << 53
Watch = Callable[[str, Array], None]
"""Called with a path and values: what states store, connections read and neurons are driven by."""


def run(
    graph: Graph, data: Array, *, record: bool | Collection[str] = True, watch: Watch | None = None
) -> Trace:
    """Interpret ``graph`` on a batch.

    Args:
        graph: A float or an integer graph.
        data: (batch, steps, *input shape); integers for an integer graph. Of several inputs as
            `qspinn.ports` joins them.
        record: Whether to keep the states of every step, or the names of those to keep.
        watch: For calibration; told of every value of a float run.

    Raises:
        QspinnError: The data do not fit the inputs.
    """
    machine = _Machine(graph, _checked(graph, data), len(data), watch)
    states: dict[str, list[Array]] = {}
    outputs: dict[str, list[Array]] = {node.name: [] for node in graph.of_type(Output)}
    for t in range(data.shape[1]):
        machine.step(t)
        for name in outputs:
            outputs[name].append(machine.values[name])
        kept = machine.states if record is True else (record or ())
        for name in kept:
            states.setdefault(name, []).append(machine.states[name])
    return Trace(_stacked(states), _stacked(outputs))


def _stacked(seen: Mapping[str, list[Array]]) -> dict[str, Array]:
    return {name: np.stack(values, axis=1) for name, values in seen.items()}


def _checked(graph: Graph, data: Array) -> dict[str, Array]:
    """What each input receives."""
    inputs = graph.of_type(Input)
    shape, who = entering(inputs), " and ".join(node.name for node in inputs)
    if data.ndim < 2 or data.shape[2:] != shape:
        raise QspinnError(f"data of shape {data.shape} are not (batch, steps, *{shape})", at=who)
    if not data.shape[1]:
        raise QspinnError("a run has at least one step", at=who)
    if not graph.is_integer:
        return parts(graph, np.asarray(data, np.float64))
    if not np.issubdtype(data.dtype, np.integer) and data.dtype != np.bool_:
        raise QspinnError(f"an integer graph takes integers, not {data.dtype}", at=who)
    found = parts(graph, data.astype(np.int64))
    for name, part in found.items():
        span = signals(graph)[name].interval
        if span is None or not part.size or (span.lo <= part.min() and part.max() <= span.hi):
            continue
        raise QspinnError(f"data run from {part.min()} to {part.max()}, outside {span}", at=name)
    return found


class _Machine:
    """The values on all edges, the states and the delay lines, one step at a time."""

    def __init__(
        self, graph: Graph, data: Mapping[str, Array], batch: int, watch: Watch | None
    ) -> None:
        self.graph, self.data, self.watch = graph, data, watch
        self.signals = signals(graph)
        self.programs = programs(graph) if graph.is_integer else {}
        self.dtype = np.int64 if graph.is_integer else np.float64
        self.values: dict[str, Array] = {}
        self.states: dict[str, Array] = {}
        self.lines: dict[str, list[Array]] = {}
        for node in graph.of_type(Neuron):
            for name, state in node.states.items():
                start = np.broadcast_to(state.init.values, (batch, *node.shape))
                self.states[f"{node.name}.{name}"] = start.astype(self.dtype)
        for delay in graph.of_type(Delay):
            zero = np.zeros((batch, *delay.shape), self.dtype)
            self.lines[delay.name] = [zero] * delay.steps

    def step(self, t: int) -> None:
        delays = self.graph.of_type(Delay)
        for delay in delays:
            self.values[delay.name] = self.lines[delay.name].pop(0)
        for node in self.graph.nodes:
            if isinstance(node, Input):
                self.values[node.name] = self.data[node.name][:, t]
            elif isinstance(node, Neuron):
                self.values[node.name] = self.neurons(node, t)
            elif not isinstance(node, Delay):
                x = self.values[node.inputs[0]]
                if self.watch:
                    self.watch(node.name, x)
                self.values[node.name] = apply(node, x, self.signals[node.inputs[0]])
        for delay in delays:
            self.lines[delay.name].append(self.values[delay.inputs[0]])

    def neurons(self, node: Neuron, t: int) -> Array:
        frac = max(self.signals[i].frac for i in node.inputs)
        current: Array = np.sum(
            [self.values[i] * (1 << (frac - self.signals[i].frac)) for i in node.inputs], axis=0
        )
        leaves = {name: self.states[f"{node.name}.{name}"] for name in node.states}
        leaves |= {name: p.values for name, p in node.values.items()}
        leaves["a"] = current
        if self.watch:
            self.watch(node.name, current)
        if node.name in self.programs:
            after, sent = step_program(self.programs[node.name], leaves, t, node.shape)
        else:
            after, sent = step_model(node.model, leaves, node.name, self.watch)
        full = np.shape(current)
        for name, value in after.items():
            self.states[f"{node.name}.{name}"] = np.broadcast_to(value, full)
        return np.broadcast_to(sent, full).astype(self.dtype)


def step_program(
    program: Program, leaves: Mapping[str, Array], t: int, shape: tuple[int, ...]
) -> tuple[dict[str, Array], Array]:
    """One step of a typed list; ``shape`` numbers the neurons for stochastic rounding."""
    values: list[Any] = []
    for op in program.ops:
        args = [values[i] for i in op.args]
        if op.kind in ("input", "state", "param"):
            values.append(leaves[op.name])
        elif op.kind == "const":
            values.append(np.int64(op.value))
        elif op.kind == "shr":
            count = args[1] if len(args) > 1 else op.value
            draw = op.rounding is Rounding.STOCHASTIC
            noise = hash32(op.key, t, np.arange(np.prod(shape)).reshape(shape)) if draw else 0
            values.append(shr(args[0], count, op.rounding, noise))
        elif op.kind == "fit":
            values.append(fit(args[0], op.low, op.high, op.overflow))
        elif op.kind == "shl":
            values.append(args[0] * (1 << op.value))
        else:
            values.append(_ELEMENTWISE[op.kind](*args))
    return {name: values[i] for name, i in program.finals.items()}, values[program.output]


def step_model(
    model: Model, leaves: Mapping[str, Array], name: str = "", watch: Watch | None = None
) -> tuple[dict[str, Array], Array]:
    """One step of a source list on real numbers; ``watch`` sees every store."""
    values: list[Any] = []
    after: dict[str, Array] = {}
    for op in model.ops:
        args = [values[i] for i in op.args]
        if op.kind in ("input", "state", "param"):
            values.append(leaves[op.name])
        elif op.kind == "const":
            values.append(np.float64(op.value))
        elif op.kind == "shr":
            values.append(args[0] * 2.0**-op.value)
        elif op.kind == "store":
            after[op.name] = args[0]
            if watch:
                watch(f"{name}.{op.name}", args[0])
            values.append(args[0])
        else:
            values.append(_ELEMENTWISE[op.kind](*args))
    return after, values[model.output]


_ELEMENTWISE: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "gt": np.greater, "ge": np.greater_equal, "and": np.logical_and, "or": np.logical_or,
    "not": np.logical_not, "select": np.where,
}  # fmt: skip


@singledispatch
def apply(node: Node, x: Array, signal: Signal) -> Array:
    """What a stateless node makes of ``x`` (batch, *shape); ``signal`` is the type of ``x``."""
    raise QspinnError(f"{type(node).__name__} has no meaning here", at=node.name)


@apply.register
def _(node: Output, x: Array, signal: Signal) -> Array:
    return x


@apply.register
def _(node: Flatten, x: Array, signal: Signal) -> Array:
    rank = len(signal.shape)
    start, end = 1 + node.start % rank, 1 + node.end % rank
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


@apply.register
def _(node: Linear, x: Array, signal: Signal) -> Array:
    y = _product(x.reshape(len(x), -1), node.weight.values)
    return _biased(y, node.weight, node.bias, signal)


@apply.register
def _(node: Scale, x: Array, signal: Signal) -> Array:
    y: Array = x * node.scale.values
    return y


@apply.register
def _(node: Lateral, x: Array, signal: Signal) -> Array:
    total = x.sum(tuple(range(1, x.ndim)), keepdims=True)
    y: Array = (total - x) * node.weight.values
    return y


@apply.register
def _(node: Conv1d, x: Array, signal: Signal) -> Array:
    w = node.weight.values
    y = _convolve(
        x[:, :, None, :], w[:, :, None, :], (1, node.stride), (0, node.padding),
        (1, node.dilation), node.groups,
    )  # fmt: skip
    return _biased(y[:, :, 0], node.weight, node.bias, signal)


@apply.register
def _(node: Conv2d, x: Array, signal: Signal) -> Array:
    w = node.weight.values
    y = _convolve(x, w, node.stride, node.padding, node.dilation, node.groups)
    return _biased(y, node.weight, node.bias, signal)


@apply.register
def _(node: SumPool2d, x: Array, signal: Signal) -> Array:
    y: Array = _windows(x, node.kernel, node.stride, node.padding).sum((-2, -1))
    return y


@apply.register
def _(node: AvgPool2d, x: Array, signal: Signal) -> Array:
    y: Array = _windows(x, node.kernel, node.stride, node.padding).mean((-2, -1))
    return y


@apply.register
def _(node: MaxPool2d, x: Array, signal: Signal) -> Array:
    # Spikes and counts are never negative, so padding with zeros adds nothing to a maximum.
    y: Array = _windows(x, node.kernel, node.stride, node.padding).max((-2, -1))
    return y


def _product(x: Array, w: Array) -> Array:
    """``x @ w.T``.

    Of integers in float64, which numpy multiplies 5 to 8 times as fast, where every partial sum
    is below 2**53, and thus exact in any order.
    """
    if x.dtype == np.int64 and x.size:
        most = int(np.abs(x).max()) * int(np.abs(w).sum(1).max())
        if most < _EXACT:
            exact: Array = (x.astype(np.float64) @ w.T.astype(np.float64)).astype(np.int64)
            return exact
    y: Array = x @ w.T
    return y


def _biased(y: Array, weight: Param, bias: Param | None, signal: Signal) -> Array:
    """Add the bias at the finer of the two binary points, as `signals` counts it."""
    if bias is None:
        return y
    b = bias.values.reshape(-1, *([1] * (y.ndim - 2)))
    move = 0
    if weight.fmt is not None and bias.fmt is not None:
        move = bias.fmt.frac - (weight.fmt.frac + signal.frac)
    total: Array = y * (1 << max(move, 0)) + b * (1 << max(-move, 0))
    return total


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)) -> Array:
    """(batch, channels, places y, places x, kernel y, kernel x), zero padded."""
    (py, px), (dy, dx) = padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    span = ((kernel[0] - 1) * dy + 1, (kernel[1] - 1) * dx + 1)
    view = sliding_window_view(x, span, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], ::dy, ::dx]


def _convolve(
    x: Array, w: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """Cross-correlation by gathering every window; channels in ``groups`` separate blocks."""
    view = _windows(x, (w.shape[2], w.shape[3]), stride, padding, dilation)
    batch, channels, ys, xs = view.shape[:4]
    view = view.reshape(batch, groups, channels // groups, ys, xs, *w.shape[2:])
    blocks: Array = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    y: Array = np.einsum("bgcyxij,gocij->bgoyx", view, blocks, optimize=True)
    joined: Array = y.reshape(batch, w.shape[0], ys, xs)
    return joined
