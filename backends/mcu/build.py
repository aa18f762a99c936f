"""From an integer graph to the `Network` that templates print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from qspinn.fixed import Interval
from qspinn.ir import (
    CONNECTIONS,
    Conv1d,
    Conv2d,
    Delay,
    Graph,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    SumPool2d,
)
from qspinn.lowering import programs
from qspinn.signals import Signal

from .connections import Connection, adds, connection, pool
from .currents import biases, current_code
from .delays import delay_line, push
from .eight import for_eight
from .gathering import WindowSum, gathered, longest, marked, origin_of
from .intake import NATURAL, held, port_of, settled
from .kernels import Kernel, RowKernel
from .layout import CType, Member, Struct, holding
from .names import prefix_of, quoted
from .network import Drive, Edge, Gather, Network, Read, Start, Update
from .neuron import update
from .packedimage import Pairwise, RestingImage, WordImage, by_place, image_update, laid_out
from .packedlif import is_narrow, packed_lif
from .parts import WORD, Parts
from .readouts import reading, taken
from .simplify import simplified
from .sums import Scratch, lies_flat, sums
from .tiles import TileSum, rest, tiled
from .tilestage import Tile, adders, lists, tile_drives
from .view import View, sum_type
from .windowstage import Windows, shared_map, windows

_KEPT = "what it sent in this step"


@lru_cache(maxsize=8)
def build(
    graph: Graph, form: str = NATURAL, eight: bool = False, gather: frozenset[str] = frozenset()
) -> Network:
    """The network of a legalized graph, the same for every device but those with 8-bit cores.

    Args:
        graph: The graph.
        form: How input is passed; see `intake.form_of`.
        eight: Whether it is laid out for cores with 8-bit registers; see `eight.is_eight`.
        gather: The convolutions that gather, where the core is no such; all others scatter.

    Raises:
        PlanError: The input cannot be passed in that form, or a convolution cannot gather.
    """
    made = _Builder(graph, settled(graph, form), eight, gather).network()
    return for_eight(made) if eight else made


class _Builder:
    """A network under construction."""

    def __init__(self, graph: Graph, form: str, eight: bool, gather: frozenset[str]) -> None:
        self.graph, self.eight, self.gather = graph, eight, gather
        self.view = View(graph, form, held(View(graph)) if form == "load" else frozenset())
        self.signals = self.view.signals
        self.programs = {name: simplified(p) for name, p in programs(graph).items()}
        self.prefix = prefix_of(graph.name)
        self.parts = Parts(self.prefix)
        self.parts.names.taken |= {f"{self.prefix}_{name}" for name in taken(graph)}
        self.edges = self.parts.edges
        self.slots, self.states = dict[str, Member](), dict[str, Member]()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.gathered = {} if eight else gathered(self.view, gather)
        self.tiled = {} if eight else tiled(self.view, longest(self.gathered))
        self.lists: dict[int, Member] = {}
        listed = {**self.tiled, **self.gathered}
        for found in listed.values():
            lists(found, self.lists, self.parts)
        self.map = shared_map(self.gathered.values(), self.parts)
        self.sums = sums(self.view, self.parts.places, listed)

    def network(self) -> Network:
        parts = self.parts
        port, self.edges[self.graph.input.name] = port_of(self.view)
        for delay in self.graph.of_type(Delay):
            self.edges[delay.name] = delay_line(delay, self.signals[delay.name], parts, self.slots)
        parts.make(self.graph.nodes, self.node)
        leaving = dict[str, Edge]()
        read, *others = (self.read(node, leaving) for node in self.graph.of_type(Output))
        push(self.view, parts, self.slots)
        updates = [s.update if isinstance(s, Tile | Windows) else s for s in parts.stages]
        draws = any(isinstance(s, Update) and s.stochastic for s in updates)
        counts = draws or any(x.readout == "first_spike" for x in (read, *others))
        if counts:
            parts.member("step", WORD, 0, "readout", "step", "steps since reset")
        used = [place.member for place in self.sums.values()]
        scratch = dict.fromkeys((*used, self.map) if self.map else used)
        rows = {k.row for k in parts.kernels if isinstance(k, RowKernel) and k.by_row}
        return Network(
            prefix=self.prefix,
            title=quoted(self.graph.name),
            model=self.graph.digest,
            port=port,
            struct=Struct.of((*parts.members, *scratch, *self.lists.values())),
            starts=tuple(parts.starts),
            tables=parts.tables.all(),
            kernels=tuple(parts.kernels),
            rows=tuple(sorted(rows, key=lambda r: r.name)),
            stages=tuple(parts.stages),
            read=read,
            states=self.states,
            shapes=self.shapes,
            counts_steps=counts,
            others=tuple(others),
            ignored=self.view.ignored(self.graph.input),
            gathers=0 if self.eight else marked(self.graph, self.gather),
            owners=parts.owners,
            sources=self.view.sources(self.edges, {x.output: x.edge for x in (read, *others)}),
            adders=adders(
                tuple(parts.stages), (s.adder for s in parts.stages if isinstance(s, Windows))
            ),
        )

    # --- what sends events where ---

    def drive(self, name: str, kernel: Kernel) -> Drive:
        """Send the events of a signal into a kernel, through lazy pools."""
        node = self.view.source(name)
        if isinstance(node, SumPool2d) and self.view.is_lazy(node):
            return self.through(node, kernel)
        return Drive(self.edges[node.name], kernel)

    def through(self, node: SumPool2d | MaxPool2d, kernel: Kernel) -> Drive:
        """Send the events of a pool's input into a kernel of its output."""
        x, y = self.signals[node.inputs[0]], self.signals[node.name]
        name = self.parts.function(node.name)
        made = pool(node, x, y, name=name, prefix=self.prefix, then=kernel)
        return self.drive(node.inputs[0], self.parts.kernel(made))

    def contributions(
        self, nodes: Sequence[Node], to: CType, frac: int, reader: str, place: Scratch | None = None
    ) -> Iterator[Drive]:
        """What connections and pools add to sums, those that add something."""
        for node in nodes:
            x, y = self.signals[node.inputs[0]], self.signals[node.name]
            if not isinstance(node, CONNECTIONS) or adds(node, x, y):
                yield self.contribution(node, to, frac, reader, place)

    def contribution(
        self, node: Node, to: CType, frac: int, reader: str, place: Scratch | None
    ) -> Drive:
        """What a connection or a pool adds to sums with the binary point ``frac``."""
        several = len(list(self.view.users(node.name))) > 1
        name = self.parts.function(node.name, *(("to", reader) if several else ()))
        if not isinstance(node, CONNECTIONS):
            gain = 1 << (frac - self.signals[node.name].frac)
            valued = self.view.is_valued(node.name)
            return self.drive(node.name, self.parts.add(name, to, valued, gain))
        x, y = self.signals[node.inputs[0]], self.signals[node.name]
        made = connection(
            node, x, y, tables=self.parts.tables, name=name, to=to,
            valued=self.view.is_valued(node.inputs[0]), gain=self.view.gain(node, frac),
            band=place.band if place else 0, last=bool(place and place.image),
            pairs=bool(place and place.pairs),
        )  # fmt: skip
        return self.drive(node.inputs[0], self.parts.kernel(made))

    # --- nodes ---

    def node(self, node: Node) -> None:
        if isinstance(node, Neuron):
            self.neurons(node)
        elif self.view.is_lazy(node):
            return
        elif isinstance(node, SumPool2d | MaxPool2d):
            self.pool(node)
        elif isinstance(node, CONNECTIONS):
            self.connection(node)

    def neurons(self, node: Neuron) -> None:
        current = self.view.current(node)
        place = self.sums.get(node.name)
        bands = place.bands if place else None
        gather: Gather | None = None
        if place is not None:
            lazy, kind = self.view.lazy_inputs(node), place.type
            added = rest(self.view, node, self.tiled.get(node.name))
            assert current.interval is not None, "an integer graph"
            edge = Edge("dense", place.at, place.count, current.interval, kind, True)
            drives = tuple(self.contributions(added, kind, current.frac, node.name, place))
            starts = tuple(biases(self.view, self.parts.tables, lazy, current.frac))
            gather = self.parts.gather(
                f"sum_{node.name}", _into(node.name, added), edge, drives, starts, bands,
                place.image.channels if place.image else 0, place.pairs,
            )  # fmt: skip
        if node.name in self.tiled:
            self.parts.stages.append(self.tile(node, current, self.tiled[node.name]))
            return
        if node.name in self.gathered:
            self.parts.stages.append(self.windows(node, current, self.gathered[node.name]))
            return
        made = self.update(node, current)
        if isinstance(made, RestingImage) and gather is not None:
            made = replace(made, drives=gather.drives)
        self.parts.stages.append(made)
        if bands is not None:
            assert gather is not None, "only sums are divided"
            title = f"{quoted(node.name)}: {bands.height} rows of every channel at a time."
            self.parts.banded(self.parts.function("bands", node.name), title, bands, gather, made)

    def tile(self, node: Neuron, current: Signal, tiles: TileSum) -> Tile:
        """Sums in registers, and the update of a tile."""
        edges = {x.node.name: self.edges[self.view.source(x.node.inputs[0]).name]
                 for x in tiles.inputs}  # fmt: skip
        drives = tile_drives(tiles, edges, self.lists, self.parts, node.name)
        packed = None
        if len(tiles.inputs) == len(node.inputs) and not any(map(is_narrow, node.states.values())):
            nodes = [x.node for x in tiles.inputs]
            packed = packed_lif(
                self.programs[node.name], tiles,
                tuple(biases(self.view, self.parts.tables, nodes, current.frac)), self.params(node),
            )  # fmt: skip
        made = self.update(node, current, packed)
        assert isinstance(made, Update), "not an image"
        reads = made.reads_input or any(d.edge.callers for d in drives)
        exact = self.parts.function("exact", node.name) if packed else ""
        spike = self.parts.function("spike", node.name) if packed else ""
        constants = self.parts.constants(node, packed.constants) if packed else None
        return Tile(
            name=made.name, title=made.title, reads_input=reads, drives=drives, update=made,
            packed=packed, exact=exact, spike=spike, constants=constants,
        )  # fmt: skip

    def windows(self, node: Neuron, current: Signal, found: WindowSum) -> Windows:
        """The rows of windows in registers, and the update of a place."""
        program, conv = self.programs[node.name], found.inputs[0].node
        flat, packed = lies_flat(self.view, node, program), None
        if flat:
            added = tuple(biases(self.view, self.parts.tables, [conv], current.frac))
            packed = image_update(node, program, found, added, self.params(node))
        made = self.update(node, current, packed, flat)
        assert isinstance(made, Update), "has no sums in memory"
        assert self.map is not None, "some layer gathers"
        assert isinstance(conv, Conv1d | Conv2d), "others do not gather"
        edge = self.edges[origin_of(self.view, conv)]
        return windows(node, found, edge, made, self.map, self.lists[0], self.parts, packed, flat)

    def params(self, node: Neuron) -> dict[str, Start]:
        """Where each parameter that a layer uses is found."""
        used = {op.name for op in self.programs[node.name].ops if op.kind == "param"}
        return {
            name: self.parts.tables.start(node, name, param, node.shape)
            for name, param in node.values.items()
            if name in used
        }

    def update(
        self, node: Neuron, current: Signal, packed: Pairwise | None = None, flat: bool = False
    ) -> Update | WordImage:
        program, place = self.programs[node.name], self.sums.get(node.name)
        tiles = self.tiled.get(node.name) or self.gathered.get(node.name)
        if place is not None:
            flat, packed = laid_out(self.view, node, program, place, self.params(node), self.eight)
        members = {name: self.state(node, name, packed, flat) for name in node.states}
        sent = self.sent(node, members)
        biased = [x.node for x in tiles.inputs] if tiles and place is None else []
        code, reads_input = current_code(
            node, self.view, self.edges, place, tiles,
            biases(self.view, self.parts.tables, biased, current.frac), self.prefix,
        )  # fmt: skip
        if place is not None and packed is not None:
            code = code.replace(place.read(self.prefix), "sum")
        stage = update(
            node, program, name=self.parts.function("update", node.name), prefix=self.prefix,
            current=code, members=members, params=self.params(node), sent=sent,
        )  # fmt: skip
        stage = replace(stage, reads_input=reads_input)
        if place is None:
            return stage
        return by_place(stage, node, place, packed, flat, self.parts, sent)

    def sent(self, node: Neuron, members: dict[str, Member]) -> Member | None:
        """Where a layer puts what it sends; None where that is a state anyway."""
        program, signal = self.programs[node.name], self.signals[node.name]
        if graded := self.graded(node):
            kept = members[graded]
            assert signal.interval is not None, "an integer graph"
            self.edges[node.name] = Edge(
                "dense", f"s->{kept.name}", kept.count, signal.interval, kept.type, valued=True
            )
            return None
        word = {"spike": "spikes", "count": "counts"}.get(program.sends, "value")
        note = f"{quoted(node.name)}: {_KEPT}"
        owner = f"{node.path}.{word}"
        edge, made = self.parts.store(
            f"{node.name}_{word}", signal, "spikes", owner, note,
            fours=not self.eight and self.view.in_fours(node),
        )  # fmt: skip
        self.edges[node.name] = edge
        return made

    def graded(self, node: Neuron) -> str:
        """The state that a layer sends as it is; empty where it sends something else."""
        program = self.programs[node.name]
        states = [name for name, i in program.finals.items() if i == program.output]
        return states[0] if program.sends == "current" and states else ""

    def state(self, node: Neuron, name: str, packed: Pairwise | None, flat: bool) -> Member:
        state, size = node.states[name], self.signals[node.name].size
        assert state.fmt is not None, "an integer graph"
        init = Interval(int(state.init.values.min()), int(state.init.values.max()))
        note = f"{quoted(node.name)}: {name}, {state.fmt}"
        span, owner = state.fmt.range | init, f"{node.path}.{name}"
        places = size // node.shape[0] if flat else 0
        if packed is not None:
            made = self.parts.pairs(f"{node.name}_{name}", packed.held, size, owner, note, places)
        elif name == self.graded(node):
            # Whoever reads it as a signal reads an array of values.
            made = self.parts.member(
                f"{node.name}_{name}", holding(span), size, "state", owner, note
            )
        else:
            made = self.parts.packed(f"{node.name}_{name}", span, size, owner, note, places)
        start = self.parts.tables.start(node, f"{name}.start", state.init, node.shape)
        if packed is not None or start.table is not None or any(start.literals):
            self.parts.starts.append((made, start))
        self.states[f"{node.name}.{name}"] = made
        self.shapes[f"{node.name}.{name}"] = node.shape
        return made

    def pool(self, node: SumPool2d | MaxPool2d) -> None:
        """A pool whose values are kept."""
        note = f"{quoted(node.name)}: its windows in this step"
        edge, _ = self.parts.store(
            f"{node.name}_value", self.signals[node.name], "spikes", node.path, note
        )
        self.edges[node.name] = edge
        valued = self.view.is_valued(node.inputs[0])
        name = self.parts.function(node.name, "sink")
        largest = isinstance(node, MaxPool2d)
        sink = self.parts.most(name, edge) if largest else self.parts.add(name, edge.type, valued)
        drive = self.through(node, sink)
        self.parts.gather(f"pool_{node.name}", _into(node.name, []), edge, (drive,))

    def connection(self, node: Connection) -> None:
        """A connection whose sums are kept."""
        signal = self.signals[node.name]
        assert signal.interval is not None, "an integer graph"
        kind = sum_type([self.view.reach(node, signal.frac)])
        note = f"{quoted(node.name)}: its sums in this step"
        made = self.parts.member(f"{node.name}_value", kind, signal.size, "spikes", node.path, note)
        edge = Edge("dense", f"s->{made.name}", signal.size, signal.interval, kind, valued=True)
        self.edges[node.name] = edge
        drives = tuple(self.contributions([node], kind, signal.frac, "value"))
        starts = tuple(biases(self.view, self.parts.tables, [node], signal.frac))
        self.parts.gather(f"sum_{node.name}", _into(node.name, []), edge, drives, starts)

    # --- the end of a step ---

    def read(self, node: Output, kept: dict[str, Edge]) -> Read:
        """What an output keeps; ``kept``: what is stored for outputs, by whose signal it is."""
        self.shapes[node.name] = self.signals[node.name].shape
        made = reading(node, self.view, self.parts, self.states, kept)
        if made.score is not None:
            self.parts.stages.append(made)
        return made


def _into(name: str, sources: Sequence[Node]) -> str:
    made = ", ".join(quoted(source.name) for source in sources)
    return f"{quoted(name)}: {f'the currents of {made}' if made else 'its values'}."
