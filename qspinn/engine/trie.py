"""The tree of a sweep's graphs. Importing this file imports numba."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from qspinn.engine.fast import Part, Workshop, assembled
from qspinn.engine.layout import TILE, fan_out
from qspinn.engine.machine import Network
from qspinn.engine.tails import Form, Tail, form_of, joined, tail_of
from qspinn.errors import QspinnError
from qspinn.ir import CONNECTIONS, Array, Delay, Graph, Input, Node
from qspinn.simulate import Inputs, inputs_of, require_integer
from qspinn.verify import verify

_BYTES = 1 << 23
"""What the edges of a chunk may fill: more, and they leave the caches; less, and calls cost more
than what they do where a last layer is all that is run."""
_MOST = 1 << 26
"""Bytes of edges that one sample's run may need; longer ones are not walked."""

_PARTS = 1 << 13
_HELD = 1 << 27
"""Parts, and bytes of the parameters of their nodes, that are kept for the next sweep."""

Fans = Mapping[str, Array]
"""By connection, the weights that an event on each lane of its input adds."""


@dataclass(frozen=True, eq=False)
class Member:
    """A graph of a leaf.

    Attributes:
        place: In the list of graphs.
        columns: Its outputs among those of the leaf.
        fan: Of its own last connection, where graphs are side by side and operations are counted.
    """

    place: int
    columns: slice
    fan: Array | None = None


@dataclass(frozen=True, eq=False)
class Leaf:
    """Graphs that are run together: one, or several that differ in their last layer only.

    Attributes:
        network: What is run.
        parts: The parts of its nodes, in order.
        members: The graphs.
        fans: Of the connections that all of them share, where operations are counted.
        shared: The connection that the members have of their own, if they are several.
    """

    network: Network
    parts: tuple[Part, ...]
    members: tuple[Member, ...]
    fans: Fans
    shared: str = ""

    @property
    def owner(self) -> str:
        """The neuron node whose sums or potentials the summary needs; it is always run again."""
        membrane = self.network.membrane
        return membrane.rpartition(".")[0] if membrane else ""

    @property
    def summed(self) -> str:
        """The neuron node that adds up the summary itself. Counts do not tell how many events."""
        name = self.network.summed
        return name if name and self.network.signals[name].kind != "count" else ""


@dataclass
class Store:
    """What graphs were made of, kept from one sweep to the next: a search brings its nodes again.

    All keys are identities of nodes, which the parts keep alive, and binary points.
    """

    shop: Workshop = field(default_factory=Workshop)
    seen: set[int] = field(default_factory=set)
    forms: dict[tuple[int, int, int], Form | None] = field(default_factory=dict)
    joints: dict[tuple[int, ...], Tail | None] = field(default_factory=dict)
    fans: dict[int, Array] = field(default_factory=dict)
    bytes: int = 0

    def add(self, graph: Graph) -> None:
        """Remember that the nodes of a graph were verified."""
        fresh = [node for node in graph.nodes if id(node) not in self.seen]
        self.seen |= {id(node) for node in fresh}
        self.hold(fresh)

    def hold(self, nodes: Sequence[Node]) -> None:
        """Count the bytes of new nodes' parameters."""
        self.bytes += sum(p.values.nbytes for node in nodes for p in node.params().values())

    @property
    def full(self) -> bool:
        """Whether it is time to begin another."""
        return len(self.shop.made) > _PARTS or self.bytes > _HELD


_STORES = [Store()]
_LOCK = Lock()


def trie_of(graphs: Sequence[Graph], steps: int, *, operations: bool) -> Trie:
    """The tree of some graphs."""
    with _LOCK:
        if _STORES[0].full:
            _STORES[0] = Store()
        return Trie(graphs, steps, operations=operations, store=_STORES[0])


class Trie:
    """Makes leaves of graphs.

    Attributes:
        leaves: In the order of the walk.
        apart: Places of graphs that cannot be walked: a cycle cuts their runs into blocks.
        inputs: The different inputs of a graph.
    """

    def __init__(
        self, graphs: Sequence[Graph], steps: int, *, operations: bool, store: Store | None = None
    ) -> None:
        self.graphs, self.operations = graphs, operations
        self.store = store or Store()
        self.apart: list[int] = []
        self.inputs: dict[tuple[int, ...], Inputs] = {}
        made: list[Leaf] = []
        groups: dict[Hashable, list[tuple[int, tuple[Part, ...], Tail, Form]]] = {}
        for place, graph in enumerate(graphs):
            parts = self.parts(graph)
            if _cut(graph, parts, steps):
                self.apart.append(place)
                continue
            entered = tuple(part for part in parts if isinstance(part.node, Input))
            if (ends := tuple(map(id, entered))) not in self.inputs:
                self.inputs[ends] = inputs_of(graph, {p.node.name: p.signal for p in entered})
            grouped = self.tail(graph, parts)
            if grouped is None:
                made.append(self.leaf(place, parts))
                continue
            key, tail, form = grouped
            groups.setdefault(key, []).append((place, parts, tail, form))
        for group in groups.values():
            made += self.together(group)
        serial = {id(part): n for n, part in enumerate(self.store.shop.made.values())}
        self.leaves = sorted(made, key=lambda leaf: [serial[id(part)] for part in leaf.parts])

    def parts(self, graph: Graph) -> tuple[Part, ...]:
        """The parts of a graph, which is verified where it brings anything new."""
        shop = self.store.shop
        fresh = any(id(node) not in self.store.seen for node in graph.nodes)
        if fresh:
            require_integer(graph)
            verify(graph)
        before = len(shop.made)
        try:
            parts = shop.parts(graph)
            if len(shop.made) > before and not fresh:
                verify(graph)
        except (KeyError, AssertionError, QspinnError):
            for key in list(shop.made)[before:]:  # or the next sweep takes it for verified
                del shop.made[key]
            verify(graph)
            raise
        if fresh:
            self.store.add(graph)
        return parts

    def tail(self, graph: Graph, parts: tuple[Part, ...]) -> tuple[Hashable, Tail, Form] | None:
        """The last layer, if it can be joined with others, and a key for those it can."""
        tail = tail_of(graph)
        if tail is None:
            return None
        above = parts[: -len(tail.nodes)]
        frac = next(p.signal.frac for p in above if p.node.name == tail.linear.inputs[0])
        key = (id(tail.linear), id(tail.neuron), frac)
        if key not in self.store.forms:
            self.store.forms[key] = form_of(tail, frac)
        form = self.store.forms[key]
        if form is None:
            return None
        names = tuple(node.name for node in tail.nodes)
        return ((*map(id, above), names, form.key), tail, form)

    def together(self, group: list[tuple[int, tuple[Part, ...], Tail, Form]]) -> Iterator[Leaf]:
        """The leaves of graphs that differ in joinable last layers."""
        group = sorted(group, key=lambda item: item[3].point)
        while group:
            width, count = 0, 0
            for _, _, tail, _ in group:
                width += tail.neuron.shape[0]
                if count and width > TILE:
                    break
                count += 1
            some, group = group[:count], group[count:]
            leaf = self.side_by_side(some) if count > 1 else None
            if leaf:
                yield leaf
            else:
                yield from (self.leaf(place, parts) for place, parts, _, _ in some)

    def side_by_side(self, some: list[tuple[int, tuple[Part, ...], Tail, Form]]) -> Leaf | None:
        """Several graphs as one leaf; None: proofs that hold for each do not hold for all."""
        place, parts, tail, _ = some[0]
        above = parts[: -len(tail.nodes)]
        x = next(p for p in above if p.node.name == tail.linear.inputs[0])
        nodes_of = (node for _, _, t, _ in some for node in (t.linear, t.neuron))
        key = (x.signal.frac, *map(id, nodes_of))
        if key not in self.store.joints:
            tails, forms = [t for _, _, t, _ in some], [form for *_, form in some]
            made = self.store.joints[key] = joined(tails, forms, x.signal.frac)
            self.store.hold(made.nodes if made else ())
        joint = self.store.joints[key]
        if joint is None:
            return None
        nodes = (*(p.node for p in above), *joint.nodes)
        graph = replace(self.graphs[place], nodes=nodes)
        try:
            whole = self.store.shop.parts(graph)
        except QspinnError:
            self.store.joints[key] = None
            return None
        members, first = [], 0
        for nth, own, one, _ in some:
            last = first + one.neuron.shape[0]
            fan = self.fan(own[-len(one.nodes)], x) if self.operations else None
            members.append(Member(nth, slice(first, last), fan))
            first = last
        fans = self.fans(whole, leave_out=joint.linear.name)
        return Leaf(assembled(graph, whole), whole, tuple(members), fans, joint.linear.name)

    def leaf(self, place: int, parts: tuple[Part, ...]) -> Leaf:
        """One graph as a leaf."""
        members = (Member(place, slice(None)),)
        return Leaf(assembled(self.graphs[place], parts), parts, members, self.fans(parts))

    def fans(self, parts: tuple[Part, ...], leave_out: str = "") -> Fans:
        """The fans of the connections among some parts."""
        if not self.operations:
            return {}
        by_name = {part.node.name: part for part in parts}
        return {
            name: self.fan(part, by_name[part.node.inputs[0]])
            for name, part in by_name.items()
            if isinstance(part.node, CONNECTIONS) and name != leave_out
        }

    def fan(self, part: Part, x: Part) -> Array:
        """The weights that an event on each lane of ``x`` adds."""
        if id(part) not in self.store.fans:
            self.store.fans[id(part)] = x.port.lanes(
                fan_out(part.node, x.signal, part.signal), np.dtype(np.int64)
            )
        return self.store.fans[id(part)]


def _cut(graph: Graph, parts: Sequence[Part], steps: int) -> bool:
    """Whether a run of a graph takes several blocks."""
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    closed = any(place[d.inputs[0]] > place[d.name] for d in graph.of_type(Delay))
    return closed or _bytes(parts) * steps > _MOST


def _bytes(parts: Sequence[Part]) -> int:
    """Of all edges, in a step of a sample."""
    return sum(p.port.width * (p.port.dtype.itemsize + 1) for p in parts if p.stage) or 1


def height(leaves: Sequence[Leaf], steps: int, samples: int, threads: int) -> int:
    """The samples of a chunk."""
    each = max((_bytes(leaf.parts) for leaf in leaves), default=1)
    return max(1, min(_BYTES // (each * steps), -(-samples // threads)))
