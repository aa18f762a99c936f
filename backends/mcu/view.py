"""What a graph says about its emission: which signals are kept, and how wide sums must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import (
    CONNECTIONS,
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
    SumPool2d,
)
from qspinn.printer import fits_int32
from qspinn.signals import Signal, infer, signals, summed

from .connections import weight_of
from .layout import CType, holding
from .network import Edge
from .origins import Source

ZERO = Interval(0, 0)


class View:
    """A graph and its signals, asked about what emission needs to know.

    Attributes:
        form: How input is passed, as `Port` has it.
        held: Connections whose sums are kept from one step to the next.
    """

    def __init__(self, graph: Graph, form: str = "", held: frozenset[str] = frozenset()) -> None:
        self.graph, self.form, self.held = graph, form, held
        self.signals = signals(graph)

    def source(self, name: str) -> Node:
        """The node a signal comes from; flattening moves nothing."""
        node = self.graph[name]
        while isinstance(node, Flatten):
            node = self.graph[node.inputs[0]]
        return node

    def users(self, name: str) -> Iterator[Node]:
        """The nodes that read a signal, flattened or not."""
        for node in self.graph.users(name):
            if isinstance(node, Flatten):
                yield from self.users(node.name)
            else:
                yield node

    def is_lazy(self, node: Node) -> bool:
        """Whether its values are never kept: events go straight on to what reads them."""
        if node.name in self.held:
            return False
        if isinstance(node, CONNECTIONS):
            return all(isinstance(user, Neuron) for user in self.users(node.name))
        if isinstance(node, SumPool2d):
            linear = (*CONNECTIONS, SumPool2d, Neuron)
            users = list(self.users(node.name))
            # What a window sends in parts has no total until the last.
            return all(isinstance(u, linear) and not isinstance(u, Lateral) for u in users)
        return False

    def origin(self, name: str) -> tuple[str, Signal]:
        """The signal whose events are counted for ``name``, past lazy pools."""
        node = self.source(name)
        while isinstance(node, SumPool2d) and self.is_lazy(node):
            node = self.source(node.inputs[0])
        return node.name, self.signals[node.name]

    def is_valued(self, name: str) -> bool:
        """Whether the events behind a signal carry values."""
        return self.origin(name)[1].kind != "spike"

    def in_fours(self, node: Node) -> bool:
        """Whether what a node sends may lie in words of four counts: events alone are read."""
        sent = self.signals[node.name]
        assert sent.interval is not None, "an integer graph"
        bytewide = sent.kind == "count" and holding(sent.interval) == CType(8, signed=False)
        events = (*CONNECTIONS, SumPool2d, MaxPool2d)
        users = list(self.users(node.name))
        return bytewide and sent.size % 4 == 0 and all(isinstance(u, events) for u in users)

    def lazy_inputs(self, node: Neuron) -> list[Node]:
        """The inputs that are added event by event."""
        return [s for s in map(self.source, node.inputs) if self.is_lazy(s)]

    def ignored(self, node: Node) -> int:
        """Elements of a signal that linear layers alone read, with weights that are all zeros."""
        users = list(self.users(node.name))
        read = [user.weight.values.any(0) for user in users if isinstance(user, Linear)]
        return int((~np.any(read, axis=0)).sum()) if users and len(read) == len(users) else 0

    def sources(self, edges: Mapping[str, Edge], left: Mapping[str, Edge]) -> dict[str, Source]:
        """Whose events each array holds, by its C.

        Args:
            edges: Where the values of each node are found.
            left: Where the values that leave through each output are found.
        """
        found = {edge.at: self._source(name) for name, edge in edges.items()}
        for name, edge in left.items():
            found.setdefault(edge.at, self._source(name))
        return found

    def _source(self, name: str) -> Source:
        node = self.source(name)
        if isinstance(node, Output):
            return self._source(node.inputs[0])
        if isinstance(node, Delay):
            inner = self._source(node.inputs[0])
            return replace(inner, delay=inner.delay + node.steps)
        if isinstance(node, SumPool2d | MaxPool2d):
            inner = self._source(node.inputs[0])
            return replace(inner, window=inner.window * node.kernel[0] * node.kernel[1])
        return Source(node.name if isinstance(node, Input | Neuron) else "")

    def current(self, node: Neuron) -> Signal:
        """The input current of a layer."""
        return summed(tuple(self.signals[i] for i in node.inputs))

    def reach(self, node: Node, frac: int) -> Interval:
        """What a partial sum of a connection's or pool's contributions may be, with that point."""
        signal = self.signals[node.name]
        if isinstance(node, CONNECTIONS):
            x = self.signals[node.inputs[0]]
            assert x.interval is not None, "an integer graph"
            signal = infer(node, (replace(x, interval=x.interval | ZERO),))
            _, events = self.origin(node.inputs[0])
            gain = self.gain(node, frac)
        else:
            _, events = self.origin(node.name)
            gain = 1 << (frac - signal.frac)
        assert signal.interval is not None, "an integer graph"
        assert events.interval is not None, "an integer graph"
        span, move = signal.interval | ZERO, frac - signal.frac
        if isinstance(node, Lateral):
            span = span | _own(node, events.interval, x.size)
        value = events.interval | ZERO
        # The value of an event, times the gain, is computed in the type of the sum too.
        scaled = Interval(value.lo * gain, value.hi * gain)
        span = Interval(span.lo << move, span.hi << move)
        return span if fits_int32(scaled) else span | scaled

    def gain(self, node: Node, frac: int) -> int:
        """What a connection's products are multiplied by for sums with that binary point."""
        assert isinstance(node, CONNECTIONS), "asked of connections only"
        fmt = weight_of(node).fmt
        assert fmt is not None, "an integer graph"
        return 1 << (frac - fmt.frac - self.signals[node.inputs[0]].frac)


def _own(node: Lateral, events: Interval, size: int) -> Interval:
    """What a sum may lack before it gets what all get, and what all get: its own part, too."""
    weight = node.weight.values
    products = [
        int(w) * x * times
        for w in (weight.min(), weight.max())
        for x in (events.lo, events.hi, 0)
        for times in (-1, size)
    ]
    return Interval(min(products), max(products))


def sum_type(reaches: Sequence[Interval]) -> CType:
    """The type of sums: their partial sums fit, in any order."""
    lo, hi = sum(r.lo for r in reaches), sum(r.hi for r in reaches)
    return CType(holding(Interval(min(lo, -1), hi)).bits, signed=True)
