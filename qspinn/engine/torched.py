"""The sums of `sweep` on torch tensors, for an accelerator; the same bits. Imports torch.

Products are computed in floating point, in the narrowest type in which every partial sum is a
whole number that it holds; everything else in 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from qspinn.engine.events import Events
from qspinn.engine.layout import scaled
from qspinn.engine.sweep import Tally, fan_out, steps_of
from qspinn.errors import QspinnError
from qspinn.fixed import Overflow, Rounding
from qspinn.ir import (
    CONNECTIONS,
    Array,
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
    Scale,
    SumPool2d,
)
from qspinn.lowering import programs
from qspinn.ports import places
from qspinn.program import Program, TypedOp
from qspinn.readout import Summary, output_neuron
from qspinn.signals import Signal, signals, summed
from qspinn.simulate import checked, inputs_of, require_integer
from qspinn.verify import verify

torch: Any = import_module("torch")

Tensor = Any
_VALUES = 1 << 26
"""About how many values the widest edge of a chunk may have."""


def available(device: str) -> bool:
    """Whether torch finds such a device here."""
    return device == "cpu" or bool(torch.cuda.is_available())


def sweep(
    graphs: Sequence[Graph], data: Events | Array, *, device: str = "cuda", steps: int | None = None
) -> list[Tally]:
    """Run every graph on all samples; see `qspinn.engine.sweep.sweep`.

    Nodes that neighbouring graphs share, with all before them, are computed once a chunk.

    Raises:
        QspinnError: torch finds no such device, a graph is not integer, or the data do not fit.
    """
    if not available(device):
        raise QspinnError(f"torch finds no {device} device here", hint="leave out --accelerator")
    samples, most = len(data), steps_of(data, steps)
    networks = [_Network(graph, device) for graph in graphs]
    for inputs in dict.fromkeys(inputs_of(n.graph, n.signals) for n in networks):
        checked(inputs, data)
    shapes = [s.shape for network in networks for s in network.signals.values()]
    height = max(1, _VALUES // (most * max(map(prod, shapes), default=1)))
    parts: list[list[_Sums]] = [[] for _ in graphs]
    with torch.no_grad():
        for first in range(0, samples or 1, height):
            rows = _rows(data, first, min(first + height, samples), most)
            source = torch.tensor(rows, device=device)[..., None].to(torch.int64).flatten(2)
            before: _Edges = {}
            for network, found in zip(networks, parts, strict=True):
                before, sums = network.run(source, before)
                found.append(sums)
    return [_tally(found) for found in parts]


def _rows(data: Events | Array, first: int, last: int, steps: int) -> Array:
    if isinstance(data, Events):
        return data.take(np.arange(first, last)).to_dense()[:, :steps]
    return np.ascontiguousarray(data[first:last, :steps])


_Edges = dict[str, tuple[Node, tuple[int, ...], Tensor, Tensor]]
"""By name: the node, whether its potential is kept and the identities of what it read, its edge
(samples, steps, *shape), and that potential or None."""
_Sums = tuple[Summary, dict[str, int], dict[str, int]]


def _tally(parts: list[_Sums]) -> Tally:
    fields = ("counts", "first", "last", "highest")
    joined = [np.concatenate([getattr(part[0], name) for part in parts]) for name in fields]
    return Tally(Summary(*joined), _total([p[1] for p in parts]), _total([p[2] for p in parts]))


def _total(parts: list[dict[str, int]]) -> dict[str, int]:
    return {name: sum(part[name] for part in parts) for name in parts[0]}


class _Network:
    """A graph with what torch needs of it."""

    def __init__(self, graph: Graph, device: str) -> None:
        require_integer(graph)
        self.graph, self.device, self.signals = verify(graph), device, signals(graph)
        self.programs, self.places = programs(graph), dict(places(graph.of_type(Input)))
        place = {node.name: i for i, node in enumerate(graph.nodes)}
        delays = graph.of_type(Delay)
        closing = [d.steps for d in delays if place[d.inputs[0]] > place[d.name]]
        self.block = min(closing, default=0)
        owner = output_neuron(graph)
        self.watched = owner if owner is not None and "v" in owner.states else None
        self.fans = {
            node.name: torch.tensor(
                fan_out(node, self.signals[node.inputs[0]], self.signals[node.name]), device=device
            )
            for node in graph.nodes
            if isinstance(node, CONNECTIONS)
        }

    def run(self, source: Tensor, before: _Edges) -> tuple[_Edges, _Sums]:
        """All steps of a chunk; ``before`` are the edges of the graph that ran last on it."""
        steps = source.shape[1]
        block = self.block or steps
        held: dict[str, Tensor] = {}
        blocks: list[_Edges] = []
        for first in range(0, steps, block):
            shared = {} if self.block else before
            part = source[:, first : first + block] if self.block else source
            blocks.append(self.advance(part, first, held, shared))
        return blocks[0], self.sums(blocks)

    def advance(self, source: Tensor, time: int, held: dict[str, Tensor], before: _Edges) -> _Edges:
        """A block of steps: every node once, in order; ``held`` keeps states between blocks."""
        edges: _Edges = {}
        for node in self.graph.nodes:
            late = isinstance(node, Delay) and node.inputs[0] not in edges
            args = () if late else tuple(edges[name][2] for name in node.inputs)
            read = (int(node is self.watched), *map(id, args or (source,)))
            edge = before.get(node.name)
            if edge is None or edge[0] is not node or edge[1] != read:
                made = self.node(node, args, source, time, held)
                edge = (node, read, made, held.pop("membrane", None))
            edges[node.name] = edge
        for delay in self.graph.of_type(Delay) if self.block else ():
            past = torch.cat([held[delay.name], edges[delay.inputs[0]][2]], 1)
            held[delay.name] = past[:, -delay.steps :]
        return edges

    def node(
        self, node: Node, args: tuple[Tensor, ...], source: Tensor, time: int,
        held: dict[str, Tensor],
    ) -> Tensor:  # fmt: skip
        """The edge of a node."""
        if isinstance(node, Input):
            rows = source[..., self.places[node]]  # its own: readers differ by edges
            return rows.reshape(*source.shape[:2], *node.shape)
        if isinstance(node, Output):
            return args[0]
        if isinstance(node, Delay):
            return self.delayed(node, args, source, held)
        if isinstance(node, Neuron):
            return self.neurons(node, args, time, held)
        (x,) = args
        rows = x.reshape(-1, *x.shape[2:])
        made = _STATELESS[type(node)](node, rows, self.signals[node.inputs[0]])
        return made.reshape(*x.shape[:2], *self.signals[node.name].shape)

    def delayed(
        self, node: Delay, args: tuple[Tensor, ...], source: Tensor, held: dict[str, Tensor]
    ) -> Tensor:
        """What was sent ``node.steps`` steps ago."""
        if node.name not in held:
            shape = (source.shape[0], node.steps, *node.shape)
            held[node.name] = torch.zeros(shape, dtype=torch.int64, device=source.device)
        return torch.cat([held[node.name], *args], 1)[:, : source.shape[1]]

    def neurons(
        self, node: Neuron, args: tuple[Tensor, ...], time: int, held: dict[str, Tensor]
    ) -> Tensor:
        """A layer of neurons, step by step."""
        known = tuple(self.signals[name] for name in node.inputs)
        frac = summed(known).frac
        current = sum(x << (frac - s.frac) for x, s in zip(args, known, strict=True))
        fixed = {name: self.tensor(p.values, node) for name, p in node.values.items()}
        states = {}
        for name, state in node.states.items():
            start = self.tensor(state.init.values, node).expand(current.shape[0], *node.shape)
            states[name] = held.get(f"{node.name}.{name}", start)
        element = torch.arange(prod(node.shape), device=self.device).reshape(node.shape)
        watched = node is self.watched
        sent, membrane = [], []
        for t in range(current.shape[1]):
            leaves = {**states, **fixed, "a": current[:, t]}
            states, out = _step(self.programs[node.name], leaves, time + t, element)
            sent.append(out.expand(current.shape[0], *node.shape).to(torch.int64))
            if watched:
                membrane.append(states["v"].expand(current.shape[0], *node.shape))
        held |= {f"{node.name}.{name}": value for name, value in states.items()}
        if watched:
            held["membrane"] = torch.stack(membrane, 1)
        return torch.stack(sent, 1)

    def tensor(self, values: Array, node: Neuron) -> Tensor:
        """A parameter of every neuron."""
        full = np.ascontiguousarray(np.broadcast_to(values, node.shape))
        return torch.tensor(full, device=self.device).to(torch.int64)

    def sums(self, blocks: list[_Edges]) -> _Sums:
        """What readouts and counters need."""
        name = self.graph.output.name
        sent = torch.cat([edges[name][2].flatten(2) for edges in blocks], 1)
        graded = self.signals[name].kind == "current"
        potential = sent if graded else torch.zeros_like(sent)
        owner = self.watched
        if owner is not None and prod(owner.shape) == sent.shape[2]:
            potential = torch.cat([edges[owner.name][3].flatten(2) for edges in blocks], 1)
        fired = sent > 0
        order = torch.arange(sent.shape[1], device=sent.device).reshape(1, -1, 1)
        first = torch.where(fired, order, sent.shape[1]).amin(1)
        summary = (sent.sum(1), first, potential[:, -1], potential.amax(1))
        spikes = {
            node.name: sum(int((edges[node.name][2] != 0).sum()) for edges in blocks)
            for node in self.graph.of_type(Neuron)
            if node.model.sends != "current"
        }
        operations = {
            node.name: sum(
                int(((edges[node.inputs[0]][2] != 0).flatten(2) * self.fans[node.name]).sum())
                for edges in blocks
            )
            for node in self.graph.nodes
            if isinstance(node, CONNECTIONS)
        }
        return Summary(*(part.cpu().numpy() for part in summary)), spikes, operations


def _product(x: Tensor, weights: Array, bias: Array, reach: int) -> Tensor:
    """``x @ weights.T + bias`` for rows of whole numbers up to ``reach``, exact."""
    rows = np.abs(weights).sum(1) * reach
    if int(rows.max(initial=0)) < 1 << 24 and not _loose():
        kind = torch.float32
    elif int(rows.max(initial=0)) < 1 << 53:
        kind = torch.float64
    else:
        raise QspinnError("a sum over synapses needs more than 53 bits", hint="use the cpu")
    w = torch.tensor(weights.T, device=x.device).to(kind)
    b = torch.tensor(bias, device=x.device)
    return (x.to(kind) @ w).to(torch.int64) + b


def _loose() -> bool:
    """Whether float32 products are allowed to lose bits on this machine."""
    return bool(torch.backends.cuda.matmul.allow_tf32)


def _weights(node: Linear | Conv1d | Conv2d, signal: Signal) -> tuple[Array, Array, int]:
    w, bias = scaled(node.weight, node.bias, signal)
    b = np.zeros(len(w), np.int64) if bias is None else np.broadcast_to(bias.reshape(-1), len(w))
    assert signal.interval is not None, "the graph is integer"
    return w, np.ascontiguousarray(b), max(abs(signal.interval.lo), abs(signal.interval.hi))


def _linear(node: Linear, x: Tensor, signal: Signal) -> Tensor:
    return _product(x.flatten(1), *_weights(node, signal))


def _scale(node: Scale, x: Tensor, signal: Signal) -> Tensor:
    return x * torch.tensor(node.scale.values, device=x.device)


def _lateral(node: Lateral, x: Tensor, signal: Signal) -> Tensor:
    others = x.sum(tuple(range(1, x.ndim)), keepdim=True) - x
    return others * torch.tensor(node.weight.values, device=x.device)


def _windows(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """(rows, channels, places y, places x, kernel y, kernel x), zero padded."""
    (py, px), (dy, dx) = padding, dilation
    x = torch.nn.functional.pad(x, (px, px, py, py))
    view = x.unfold(2, (kernel[0] - 1) * dy + 1, stride[0])
    return view.unfold(3, (kernel[1] - 1) * dx + 1, stride[1])[..., ::dy, ::dx]


def _convolution(node: Conv1d | Conv2d, x: Tensor, signal: Signal) -> Tensor:
    w, bias, reach = _weights(node, signal)
    if isinstance(node, Conv1d):
        x, w = x[:, :, None], w[:, :, None]
        window = ((1, node.stride), (0, node.padding), (1, node.dilation))
    else:
        window = (node.stride, node.padding, node.dilation)
    view = _windows(x, (w.shape[2], w.shape[3]), *window)
    share, inputs = w.shape[0] // node.groups, w.shape[1]
    parts = []
    for g in range(node.groups):
        block = view[:, g * inputs : (g + 1) * inputs].permute(0, 2, 3, 1, 4, 5)
        rows = block.reshape(-1, w[0].size)
        own = slice(g * share, (g + 1) * share)
        y = _product(rows, w[own].reshape(share, -1), bias[own], reach)
        parts.append(y.reshape(*block.shape[:3], share).permute(0, 3, 1, 2))
    return torch.cat(parts, 1)


def _sum_pool(node: SumPool2d, x: Tensor, signal: Signal) -> Tensor:
    return _windows(x, node.kernel, node.stride, node.padding, (1, 1)).sum((-2, -1))


def _max_pool(node: MaxPool2d, x: Tensor, signal: Signal) -> Tensor:
    return _windows(x, node.kernel, node.stride, node.padding, (1, 1)).amax((-2, -1))


_STATELESS: Mapping[type[Node], Callable[..., Tensor]] = {
    Linear: _linear, Scale: _scale, Lateral: _lateral, Conv1d: _convolution,
    Conv2d: _convolution, SumPool2d: _sum_pool, MaxPool2d: _max_pool,
    Flatten: lambda node, x, signal: x,
}  # fmt: skip


def _step(
    program: Program, leaves: Mapping[str, Tensor], step: int, element: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """One step of a typed list; see `interp.step_program`."""
    values: list[Tensor] = []
    for op in program.ops:
        if op.kind in ("input", "state", "param"):
            values.append(leaves[op.name])
        elif op.kind == "const":
            values.append(torch.tensor(op.value, device=element.device))
        else:
            values.append(_operation(op, [values[i] for i in op.args], step, element))
    return {name: values[i] for name, i in program.finals.items()}, values[program.output]


def _operation(op: TypedOp, args: list[Tensor], step: int, element: Tensor) -> Tensor:
    if op.kind == "shl":
        return args[0] << op.value
    if op.kind == "shr":
        count = args[1] if len(args) > 1 else torch.tensor(op.value, device=element.device)
        noise = partial(_noise, op.key, step, element)
        return _shift(args[0], count, op.rounding, noise)
    if op.kind == "fit":
        if op.overflow is Overflow.WRAP:
            return op.low + torch.remainder(args[0] - op.low, op.high - op.low + 1)
        return args[0].clamp(op.low, op.high)
    made: Tensor = _ELEMENTWISE[op.kind](*args)
    return made


_ELEMENTWISE: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "min": torch.minimum,
    "max": torch.maximum, "gt": torch.gt, "ge": torch.ge, "and": torch.logical_and,
    "or": torch.logical_or, "not": torch.logical_not, "select": torch.where,
}  # fmt: skip


def _shift(x: Tensor, k: Tensor, rounding: Rounding, noise: Callable[[], Tensor]) -> Tensor:
    """`fixed.shr` on tensors."""
    one = torch.ones_like(k)
    half = torch.where(k > 0, one << (k - 1).clamp(min=0), 0)
    if rounding is Rounding.FLOOR:
        return x >> k
    if rounding is Rounding.ZERO:
        push = torch.where(x < 0, (one << k) - 1, 0)
    elif rounding is Rounding.NEAREST_EVEN:
        push = torch.where(k > 0, half - 1 + ((x >> k) & 1), 0)
    elif rounding is Rounding.NEAREST_AWAY:
        push = half - torch.where((x < 0) & (k > 0), 1, 0)
    else:
        push = noise() >> (32 - k)
    return (x + push) >> k


def _noise(key: int, step: int, element: Tensor) -> Tensor:
    """`fixed.hash32` of key, step and element, in 64 bits."""
    h = torch.tensor(0x243F6A88, device=element.device)
    for word in (key, step, element):
        part = word if isinstance(word, torch.Tensor) else torch.tensor(word, device=h.device)
        h = _mix(h ^ ((part * 0x9E3779B1) & 0xFFFFFFFF))
    return h


def _mix(h: Tensor) -> Tensor:
    h = h ^ (h >> 16)
    h = (h * 0x85EBCA6B) & 0xFFFFFFFF
    h = h ^ (h >> 13)
    h = (h * 0xC2B2AE35) & 0xFFFFFFFF
    return h ^ (h >> 16)
