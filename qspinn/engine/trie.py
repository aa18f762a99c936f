"""The tree of a sweep's graphs, and the walk through it. Importing this file imports numba."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np

from qspinn.engine import kernels
from qspinn.engine.events import Events
from qspinn.engine.fast import Part, Workshop, assembled
from qspinn.engine.layout import TILE, fan_out
from qspinn.engine.machine import Machine, Network
from qspinn.engine.tails import Form, Tail, form_of, joined, tail_of
from qspinn.errors import QspinnError
from qspinn.ir import CONNECTIONS, Array, Delay, Graph, Input, Neuron, Output
from qspinn.readout import Summary
from qspinn.simulate import add_summary, require_integer
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

    All keys are identities of nodes, which the parts keep alive.
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
        self.bytes += sum(p.values.nbytes for node in fresh for p in node.params().values())

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
        inputs: The different inputs.
    """

    def __init__(
        self, graphs: Sequence[Graph], steps: int, *, operations: bool, store: Store | None = None
    ) -> None:
        self.graphs, self.operations = graphs, operations
        self.store = store or Store()
        self.apart: list[int] = []
        self.inputs: dict[int, Part] = {}
        made: list[Leaf] = []
        groups: dict[Hashable, list[tuple[int, tuple[Part, ...], Tail, Form]]] = {}
        for place, graph in enumerate(graphs):
            parts = self.parts(graph)
            if _cut(graph, parts, steps):
                self.apart.append(place)
                continue
            self.inputs |= {id(p): p for p in parts if isinstance(p.node, Input)}
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
        if len(graph.of_type(Output)) != 1:
            raise QspinnError(f"{graph.name} has several outputs; a sweep sums up one")
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
        key = tuple(id(node) for _, _, t, _ in some for node in (t.linear, t.neuron))
        if key not in self.store.joints:
            tails, forms = [t for _, _, t, _ in some], [form for *_, form in some]
            self.store.joints[key] = joined(tails, forms, x.signal.frac)
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


@dataclass
class Walk:
    """One thread's way from leaf to leaf, and what the edges of the last one hold."""

    data: Array | Events
    steps: int
    constant: bool
    machine: Machine = field(init=False)
    before: Leaf | None = None
    sent: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    first: int = 0

    def start(self, leaf: Leaf, samples: slice) -> None:
        """Turn to other samples; ``leaf`` comes first."""
        if self.before is None:
            self.machine = Machine(leaf.network)
        self.machine.samples, self.machine.steps = samples.stop - samples.start, self.steps
        self.machine.advance()
        self.machine.time = 0
        self.first, self.before = samples.start, None

    def run(self, leaf: Leaf) -> Summary:
        """Run what differs from the leaf before."""
        machine = self.machine
        machine.network, machine.summed = leaf.network, leaf.summed
        machine.keep = frozenset({leaf.owner} if leaf.owner and not leaf.summed else ())
        machine.constant = leaf.network.graph.input.name if self.constant else ""
        for part in leaf.parts[self.alike(leaf) :]:
            self.redo(part)
        self.before = leaf
        if leaf.summed:
            return Summary(*machine.summary())
        return self.collected(leaf)

    def alike(self, leaf: Leaf) -> int:
        """How many of the first parts have already run."""
        count = 0
        if self.before is None:
            return 0
        for one, other in zip(self.before.parts, leaf.parts, strict=False):
            if one is not other or one.node.name in (self.before.owner, leaf.owner):
                break
            count += 1
        return count

    def redo(self, part: Part) -> None:
        """Run one node from the first step to the last."""
        machine, name = self.machine, part.node.name
        machine.lanes.pop(name, None)
        machine.lists.pop(name, None)
        self.sent.pop(name, None)
        self.added.pop(name, None)
        if isinstance(part.node, Input):
            machine.feed(self.data, self.first, self.steps)
        if isinstance(part.node, Delay):
            machine.clear_ring(part.node)
        for state, row in part.start.items():
            machine.restart(f"{name}.{state}", row)
        if name == machine.summed:
            machine.open_sums(self.steps)
        if part.stage:
            part.stage(machine)

    def collected(self, leaf: Leaf) -> Summary:
        """The summary of a graph whose last neurons do not add it up."""
        network, output = leaf.network, leaf.network.graph.output.name
        shape = (self.machine.samples, network.ports[output].size)
        into = (
            np.zeros(shape, np.int64), np.full(shape, self.steps), np.zeros(shape, np.int64),
            np.full(shape, np.iinfo(np.int64).min),
        )  # fmt: skip
        add_summary(self.machine, output, network.membrane, self.steps, into)
        return Summary(*into)

    def spikes(self, leaf: Leaf, counts: Array) -> dict[str, int]:
        """Events by neuron node; ``counts`` are those of one member."""
        found = {}
        for part in leaf.parts:
            name = part.node.name
            if not isinstance(part.node, Neuron) or part.signal.kind == "current":
                continue
            found[name] = int(counts.sum()) if name == leaf.summed else self.events(name)
        return found

    def events(self, name: str) -> int:
        """How many events an edge carries."""
        name = self.machine.network.origin[name]
        if name not in self.sent:
            lo, hi, _, _ = self.machine.events(name)
            self.sent[name] = int((hi - lo).sum())
        return self.sent[name]

    def operations(self, leaf: Leaf, member: Member) -> dict[str, int]:
        """Weights added, by connection."""
        for name, fan in leaf.fans.items():
            if name not in self.added:
                self.added[name] = self.reached(leaf.network.graph[name].inputs[0], fan)
        found = {name: self.added[name] for name in leaf.fans}
        if member.fan is not None:
            source = leaf.network.graph[leaf.shared].inputs[0]
            found[leaf.shared] = self.reached(source, member.fan)
        return found

    def reached(self, source: str, fan: Array) -> int:
        """The sum of a fan over the events of an edge."""
        size = self.machine.network.ports[source].size
        if (fan[:size] == fan[0]).all():
            return int(fan[0]) * self.events(source)
        lo, hi, index, _ = self.machine.events(source)
        return int(kernels.reached(lo, hi, index, fan))
