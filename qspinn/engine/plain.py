"""Networks of numpy stages, for where numba is not installed: dense, batched, the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from qspinn.engine.layout import port, scaled
from qspinn.engine.machine import Machine, Network, Stage
from qspinn.fixed import IntArray
from qspinn.interp import apply, step_program
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
)
from qspinn.lowering import programs
from qspinn.program import Program
from qspinn.signals import Signal, signals, summed

_BATCH = 1 << 23
"""Matrix products want many rows."""


def network(graph: Graph) -> Network:
    """Make an integer graph ready to run on numpy."""
    known, lists = signals(graph), programs(graph)
    ports = {name: port(signal, tile=1) for name, signal in known.items()}
    stages: list[Stage] = []
    start: dict[str, Array] = {}
    for node in graph.nodes:
        if isinstance(node, Delay):
            stages.append(partial(Machine.delayed, delay=node))
        elif isinstance(node, Neuron):
            args = tuple(known[name] for name in node.inputs)
            shifts = tuple(summed(args).frac - x.frac for x in args)
            stages.append(_Layer(node, lists[node.name], shifts))
            for name, state in node.states.items():
                row = np.broadcast_to(state.init.values, node.shape).reshape(-1)
                start[f"{node.name}.{name}"] = row
        elif isinstance(node, Linear | Conv1d | Conv2d):
            stages.append(_product(node, known[node.inputs[0]]))
        elif not isinstance(node, Input | Flatten | Output):
            stages.append(_Elementwise(node, known[node.inputs[0]]))
    return Network(graph, known, ports, tuple(stages), start, _BATCH, _summarize)


def _summarize(
    sent: Array, membrane: Array, step: int, steps: int,
    counts: Array, first: Array, last: Array, peak: Array,
) -> None:  # fmt: skip
    """What `kernels.summarize` does."""
    counts += sent.sum(1, dtype=np.int64)
    fired = sent > 0
    here = np.where(fired.any(1), step + fired.argmax(1), steps)
    np.minimum(first, here, out=first)
    last[:] = membrane[:, -1]
    np.maximum(peak, membrane.max(1), out=peak)


@dataclass(frozen=True, eq=False)
class _Elementwise:
    """A scale or a pool, as the reference computes it."""

    node: Node
    x: Signal

    def __call__(self, machine: Machine) -> None:
        lanes = machine.dense(self.node.inputs[0]).astype(np.int64)
        y = apply(self.node, lanes.reshape(-1, *self.x.shape), self.x)
        machine.result(self.node.name)[:] = y.reshape(machine.rows, -1)


def _product(node: Linear | Conv1d | Conv2d, x: Signal) -> Stage:
    """A matrix product in the fastest type in which every partial sum is exact."""
    w, bias = scaled(node.weight, node.bias, x)
    assert x.interval is not None, "the graph is integer"
    b = np.zeros(1, np.int64) if bias is None else bias.reshape(-1)
    reach = max(abs(x.interval.lo), abs(x.interval.hi))
    rows = np.abs(w.reshape(len(w), -1)).sum(1) * reach + np.abs(b).max()
    dtype: npt.DTypeLike = np.int64
    if int(rows.max()) < 1 << 24:
        dtype = np.float32
    elif int(rows.max()) < 1 << 53:
        dtype = np.float64
    if isinstance(node, Linear):
        return _Matrix(node, np.ascontiguousarray(w.T, dtype), b.astype(dtype))
    if isinstance(node, Conv1d):
        w = w[:, :, None, :]
    groups = w.reshape(node.groups, w.shape[0] // node.groups, *w.shape[1:])
    return _Convolution(node, x, groups.astype(dtype), b.astype(dtype))


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A linear connection."""

    node: Linear
    weights: Array
    bias: Array

    def __call__(self, machine: Machine) -> None:
        x = machine.dense(self.node.inputs[0]).astype(self.weights.dtype)
        machine.result(self.node.name)[:] = x @ self.weights + self.bias


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A convolution as a product with gathered windows; ``weights`` (groups, out, in, ky, kx)."""

    node: Conv1d | Conv2d
    x: Signal
    weights: Array
    bias: Array

    def __call__(self, machine: Machine) -> None:
        images = machine.dense(self.node.inputs[0]).reshape(machine.rows, *self.x.shape)
        windows = self.windows(images.astype(self.weights.dtype))
        inputs, taps = self.weights.shape[2], self.weights[0, 0].size
        parts = []
        for g, w in enumerate(self.weights):
            view = windows[:, g * inputs : (g + 1) * inputs].transpose(0, 2, 3, 1, 4, 5)
            parts.append(view.reshape(*view.shape[:3], taps) @ w.reshape(-1, taps).T)
        y = np.concatenate(parts, axis=-1) + self.bias
        machine.result(self.node.name)[:] = y.transpose(0, 3, 1, 2).reshape(machine.rows, -1)

    def windows(self, x: Array) -> Array:
        """(images, channels, places y, places x, taps y, taps x), zero padded."""
        node = self.node
        if isinstance(node, Conv1d):
            x = x[:, :, None]
            stride, padding, dilation = (1, node.stride), (0, node.padding), (1, node.dilation)
        else:
            stride, padding, dilation = node.stride, node.padding, node.dilation
        (py, px), (dy, dx) = padding, dilation
        x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
        ky, kx = self.weights.shape[3:]
        view = sliding_window_view(x, ((ky - 1) * dy + 1, (kx - 1) * dx + 1), axis=(2, 3))
        return view[:, :, :: stride[0], :: stride[1], ::dy, ::dx]


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer of neurons, step by step."""

    node: Neuron
    program: Program
    shifts: tuple[int, ...]

    def __call__(self, machine: Machine) -> None:
        node, name = self.node, self.node.name
        current = machine.cube(self.current(machine))
        sent = machine.cube(machine.result(name))
        fixed = {key: np.broadcast_to(p.values, node.shape).reshape(-1)
                 for key, p in node.values.items()}  # fmt: skip
        states = {state: machine.states[f"{name}.{state}"] for state in node.states}
        traces = {state: np.empty(current.shape, np.int64) for state in node.states}
        for t in range(machine.steps):
            leaves = {**states, **fixed, "a": current[:, t]}
            after, out = step_program(self.program, leaves, machine.time + t, (current.shape[2],))
            for state, held in states.items():
                held[:] = after[state]
                traces[state][:, t] = held
            sent[:, t] = out
        machine.traces |= {f"{name}.{state}": trace for state, trace in traces.items()}

    def current(self, machine: Machine) -> IntArray:
        total = np.zeros((1, 1), np.int64)
        for name, shift in zip(self.node.inputs, self.shifts, strict=True):
            total = total + (machine.dense(name).astype(np.int64) << shift)
        return total
