"""A graph on tensors: an integer graph exactly, or a float graph as it is; both with gradients.

The types follow from bounds that hold for every value of the weights and constants that their
formats allow, so that they need no second look while the weights move. Imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from qspinn.errors import QspinnError, located
from qspinn.fixed import Interval, QFormat
from qspinn.intervals import fixpoint
from qspinn.ir import CONNECTIONS, Array, Delay, Graph, Input, Neuron, Node, Output, Param
from qspinn.lowering import unproved
from qspinn.program import TypedOp
from qspinn.readout import Summary, output_neuron
from qspinn.signals import Signals, signals, summed
from qspinn.train.layers import advance, connected
from qspinn.train.lists import List, Tensor, Tensors, pushed

torch: Any = import_module("torch")

_SINGLE, _DOUBLE = 1 << 24, 1 << 53


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a network did with some samples.

    Attributes:
        sent: The output edge, (steps, samples, outputs).
        potential: What membrane readouts compare, in the same shape.
        states: By path, after each step, (steps, samples, *shape); where they were asked for.
    """

    sent: Tensor
    potential: Tensor
    states: Tensors

    def summary(self) -> Summary:
        """What readouts need, in integers; see `qspinn.readout`."""
        steps, fired = self.sent.shape[0], self.sent > 0
        order = torch.arange(steps, device=self.sent.device).reshape(-1, 1, 1)
        first = torch.where(fired, order, steps).amin(0)
        sums = (self.sent.double().sum(0), first, self.potential[-1], self.potential.amax(0))
        return Summary(*(part.cpu().numpy().astype(np.int64) for part in sums))


class Network:
    """What is fixed of a graph while its parameters move."""

    def __init__(self, graph: Graph, device: str = "cpu") -> None:
        self.graph, self.device = graph, device
        self.signals: Signals = signals(graph)
        self.kinds, self.lists = _kinds(graph), _lists(graph)
        place = {node.name: i for i, node in enumerate(graph.nodes)}
        delays = graph.of_type(Delay)
        closing = [d.steps for d in delays if place[d.inputs[0]] > place[d.name]]
        self.block = min(closing, default=0)
        self.owner = output_neuron(graph)

    def leaves(self, graph: Graph) -> dict[str, Tensor]:
        """The parameters of a graph of this structure, by node and name."""
        return {
            f"{node.name}.{name}": self.tensor(param.values, node)
            for node in graph.nodes
            for name, param in node.params().items()
        }

    def tensor(self, values: Array, node: Node) -> Tensor:
        """Values of a node in its type."""
        kind = self.lists[node.name].kind if isinstance(node, Neuron) else self.kinds[node.name]
        return torch.tensor(values, dtype=kind, device=self.device)

    def run(self, source: Tensor, leaves: Tensors, *, record: bool = False) -> Outcome:
        """All steps of some samples.

        Args:
            source: What enters, (steps, samples, *shape).
            leaves: The parameters, as `leaves` makes them.
            record: Whether to keep the states of every step.
        """
        steps = source.shape[0]
        block = self.block or steps
        held: dict[str, Tensor] = {}
        parts = [
            self.part(source[first : first + block], first, leaves, held, record)
            for first in range(0, steps, block)
        ]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        sent = joined.pop("sent").flatten(2)
        potential = joined.pop("potential", None)
        if potential is None:
            graded = self.signals[self.graph.output.name].kind == "current"
            potential = sent if graded else torch.zeros_like(sent)
        return Outcome(sent, potential.flatten(2), joined)

    def part(
        self, source: Tensor, first: int, leaves: Tensors, held: dict[str, Tensor], record: bool
    ) -> dict[str, Tensor]:
        """A block of steps; ``held`` takes states and delayed signals from block to block."""
        edges: dict[str, Tensor] = {}
        kept: dict[str, Tensor] = {}
        for node in self.graph.nodes:
            args = [edges[name] for name in node.inputs if name in edges]
            if isinstance(node, Input):
                edges[node.name] = source
            elif isinstance(node, Output):
                edges[node.name] = kept["sent"] = args[0]
            elif isinstance(node, Delay):
                line = self.line(node, source, held)
                edges[node.name] = torch.cat([line, *args])[: source.shape[0]]
            elif isinstance(node, Neuron):
                edges[node.name] = self.neurons(node, args, first, leaves, held, kept, record)
            else:
                signal, own = self.signals[node.inputs[0]], _own(node, leaves)
                edges[node.name] = connected(node, args[0], own, signal, self.kinds[node.name])
        for delay in self.graph.of_type(Delay):
            past = torch.cat([self.line(delay, source, held), edges[delay.inputs[0]]])
            held[delay.name] = past[-delay.steps :]
        return kept

    def line(self, node: Delay, source: Tensor, held: dict[str, Tensor]) -> Tensor:
        """What a delay still holds."""
        empty = (node.steps, source.shape[1], *node.shape)
        return held.get(node.name, torch.zeros(empty, device=self.device))

    def neurons(
        self, node: Neuron, args: list[Tensor], first: int, leaves: Tensors,
        held: dict[str, Tensor], kept: dict[str, Tensor], record: bool,
    ) -> Tensor:  # fmt: skip
        """A layer of neurons."""
        what = self.lists[node.name]
        known = [self.signals[name] for name in node.inputs]
        frac = summed(tuple(known)).frac
        aligned = [
            x.to(what.kind) * 2.0 ** (frac - s.frac) for x, s in zip(args, known, strict=True)
        ]
        current = sum(aligned[1:], aligned[0])
        states = {}
        for name, state in node.states.items():
            start = self.tensor(state.init.values, node).expand(current.shape[1:])
            states[name] = held.get(f"{node.name}.{name}", start)
        watched = node is self.owner and "v" in node.states
        keep = tuple(node.states) if record else ("v",) if watched else ()
        done = advance(what, current, states, _own(node, leaves), first, keep)
        held.update({f"{node.name}.{name}": value for name, value in done.states.items()})
        if record:
            kept.update({f"{node.name}.{name}": value for name, value in done.kept.items()})
        if watched and np.prod(node.shape) == self.signals[self.graph.output.name].size:
            kept["potential"] = done.kept["v"]
        return done.sent


def _own(node: Node, leaves: Tensors) -> dict[str, Tensor]:
    return {name: leaves[f"{node.name}.{name}"] for name in node.params()}


def _kinds(graph: Graph) -> dict[str, Any]:
    """For each node a type that holds what it makes, whatever its parameters are."""
    if not graph.is_integer:
        return {node.name: torch.float32 for node in graph.nodes}
    known = signals(_extreme(graph))
    return {name: _kind(_reach(s.interval), name) for name, s in known.items()}


def _lists(graph: Graph) -> dict[str, List]:
    known = signals(_extreme(graph)) if graph.is_integer else signals(graph)
    found = {}
    for node in graph.of_type(Neuron):
        total = summed(tuple(known[name] for name in node.inputs))
        with located(node.name):
            made = (
                _proved(node, _reach(total.interval), total.frac)
                if graph.is_integer
                else _real(node)
            )
        found[node.name] = made
    return found


def _extreme(graph: Graph) -> Graph:
    """The graph with every weight and bias at the largest magnitude of its format."""

    def filled(node: Node) -> Node:
        if not isinstance(node, CONNECTIONS):
            return node
        return node.with_params(
            {name: replace(p, values=np.full(p.values.shape, _top(p.fmt)))
             for name, p in node.params().items()}
        )  # fmt: skip

    return graph.map(filled)


def _top(fmt: QFormat | None) -> int:
    assert fmt is not None, "the graph is integer"
    return _reach(fmt.range)


def _reach(span: Interval | None) -> int:
    return max(abs(span.lo), abs(span.hi)) if span else 0


def _kind(reach: int, name: str) -> Any:
    # A process may have let float32 products lose bits, for speed.
    if reach < _SINGLE and torch.get_float32_matmul_precision() == "highest":
        return torch.float32
    if reach < _DOUBLE:
        return torch.float64
    raise QspinnError(
        f"values may need {reach.bit_length()} bits, training computes with 53",
        at=name,
        hint="give the weights, the state or the decay fewer bits",
    )


def _proved(node: Neuron, reach: int, frac: int) -> List:
    """The list of an integer node, in a type that every value of its formats fits."""
    ops, finals, output = unproved(node, frac)
    start = {name: _values(state.init) for name, state in node.states.items()}
    params = {name: _every(p.fmt) for name, p in node.values.items()}
    spans, _ = fixpoint(ops, finals, start, {"a": Interval(-reach, reach), **params}, None)
    most = reach
    for op, span in zip(ops, spans, strict=True):
        most = max(most, _reach(span))
        if op.kind == "fit":
            most = max(most, _reach(spans[op.args[0]]) + max(abs(op.low), abs(op.high)))
        if op.kind == "shr":
            counts = op.value if len(op.args) == 1 else _reach(spans[op.args[1]])
            most = max(most, _reach(spans[op.args[0]]) + pushed(op, counts))
    return List(tuple(ops), finals, output, node.shape, _kind(most, node.name))


def _values(param: Param) -> Interval:
    return Interval(int(param.values.min()), int(param.values.max()))


def _every(fmt: QFormat | None) -> Interval:
    assert fmt is not None, "the graph is integer"
    return fmt.range


def _real(node: Neuron) -> List:
    """The list of a float node: a store keeps its value, and a shift divides."""
    ops: list[TypedOp] = []
    at: dict[int, int] = {}
    finals: dict[str, int] = {}
    for i, op in enumerate(node.model.ops):
        args = tuple(at[j] for j in op.args)
        if op.kind == "store":
            at[i] = finals[op.name] = args[0]
            continue
        halved = op.kind == "shr"
        value = -op.value if halved else op.value
        ops.append(TypedOp("shl" if halved else op.kind, args, op.name, value))
        at[i] = len(ops) - 1
    return List(tuple(ops), finals, at[node.model.output], node.shape, torch.float32)
