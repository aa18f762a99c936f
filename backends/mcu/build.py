"""From an integer graph to the `Network` that templates print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from qspinn.fixed import Interval
from qspinn.ir import (
    CONNECTIONS,
    VOTE,
    Delay,
    Graph,
    Input,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    SumPool2d,
)
from qspinn.lowering import programs
from qspinn.printer import c_type
from qspinn.readout import output_neuron
from qspinn.signals import Signal

from .connections import Connection, adds, bias_of, connection, pool
from .kernels import Kernel, RowKernel
from .layout import Bands, CType, Member, Struct, computing, holding, index_type
from .names import prefix_of, quoted
from .network import Drive, Edge, Gather, Network, Port, Read, Start, Turn, Update
from .neuron import update
from .parts import WORD, Parts
from .readouts import score, vote_of
from .simplify import simplified
from .sums import sums
from .view import ZERO, View, sum_type

_KEPT = "what it sent in this step"


@lru_cache(maxsize=8)
def build(graph: Graph) -> Network:
    """The network of a legalized graph; the same for every device."""
    return _Builder(graph).network()


class _Builder:
    """A network under construction."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.view = graph, View(graph)
        self.signals = self.view.signals
        self.programs = {name: simplified(p) for name, p in programs(graph).items()}
        self.prefix = prefix_of(graph.name)
        self.parts = Parts(self.prefix)
        self.edges = self.parts.edges
        self.slots: dict[str, Member] = {}
        self.states: dict[str, Member] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.sums = sums(self.view, self.parts.places)

    def network(self) -> Network:
        parts = self.parts
        port = self.port(self.graph.input)
        for delay in self.graph.of_type(Delay):
            self.edges[delay.name] = self.delay_line(delay)
        for node in self.graph.nodes:
            self.node(node)
        read = self.read(self.graph.output)
        self.push()
        draws = any(isinstance(s, Update) and s.stochastic for s in parts.stages)
        counts = draws or read.readout == "first_spike"
        if counts:
            parts.member("step", WORD, 0, "readout", "step", "steps since reset")
        scratch = dict.fromkeys(place.member for place in self.sums.values())
        rows = {k.row for k in parts.kernels if isinstance(k, RowKernel)}
        return Network(
            prefix=self.prefix,
            title=quoted(self.graph.name),
            model=self.graph.digest,
            port=port,
            struct=Struct.of((*parts.members, *scratch)),
            starts=tuple(parts.starts),
            tables=parts.tables.all(),
            kernels=tuple(parts.kernels),
            rows=tuple(sorted(rows, key=lambda r: r.name)),
            stages=tuple(parts.stages),
            read=read,
            states=self.states,
            shapes=self.shapes,
            output=self.graph.output.name,
            counts_steps=counts,
            ignored=self.view.ignored(self.graph.input),
        )

    # --- members and edges ---

    def port(self, node: Input) -> Port:
        signal = self.signals[node.name]
        assert signal.interval is not None, "an integer graph"
        value = None if node.kind == "spike" else holding(signal.interval)
        index = index_type(signal.size)
        if value is not None and node.kind == "current":
            edge = Edge("dense", "values", signal.size, signal.interval, value, True, callers=True)
        else:
            valued = node.kind == "count"
            edge = Edge("list", "events", signal.size, signal.interval, index, valued, callers=True)
        self.edges[node.name] = edge
        return Port(node.kind, signal.size, index, value, signal.interval)

    def delay_line(self, node: Delay) -> Edge:
        steps = f"{node.steps} steps" if node.steps > 1 else "step"
        edge, line = self.parts.store(
            f"{node.name}_line", self.signals[node.name], "delay", node.path,
            f"{quoted(node.name)}: the last {steps}", slots=node.steps,
        )  # fmt: skip
        at = edge.at
        if node.steps > 1:
            slot = self.slots[node.name] = self.parts.member(
                f"{node.name}_slot", index_type(node.steps), 0, "delay", node.path,
                f"{quoted(node.name)}: where the oldest is",
            )  # fmt: skip
            at = f"{at} + s->{slot.name} * {line.count // node.steps}u"
        return replace(edge, at=at, fleeting=True)

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
        self, nodes: Sequence[Node], to: CType, frac: int, reader: str, band: int = 0
    ) -> Iterator[Drive]:
        """What connections and pools add to sums, those that add something."""
        for node in nodes:
            x, y = self.signals[node.inputs[0]], self.signals[node.name]
            if not isinstance(node, CONNECTIONS) or adds(node, x, y):
                yield self.contribution(node, to, frac, reader, band)

    def contribution(self, node: Node, to: CType, frac: int, reader: str, band: int) -> Drive:
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
            valued=self.view.is_valued(node.inputs[0]), gain=self.view.gain(node, frac), band=band,
        )  # fmt: skip
        return self.drive(node.inputs[0], self.parts.kernel(made))

    def biases(self, nodes: Sequence[Node], frac: int) -> Iterator[Start]:
        """What sums with the binary point ``frac`` start from."""
        for node in nodes:
            bias = getattr(node, "bias", None)
            if not isinstance(bias, Param) or bias.fmt is None:
                continue
            factor = 1 << (frac - bias.fmt.frac)
            start = bias_of(node, self.signals[node.name], self.parts.tables, factor)
            if start is not None:
                yield start

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
            lazy, array = self.view.lazy_inputs(node), place.member
            assert current.interval is not None, "an integer graph"
            edge = Edge(
                "dense", f"s->{array.name}", place.count, current.interval, array.type, True
            )
            band = bands.height if bands else 0
            drives = tuple(self.contributions(lazy, array.type, current.frac, node.name, band))
            starts = tuple(self.biases(lazy, current.frac))
            gather = self.parts.gather(
                f"sum_{node.name}", _into(node.name, lazy), edge, drives, starts, bands
            )
        made = self.update(node, current, bands)
        self.parts.stages.append(made)
        if bands is not None:
            assert gather is not None, "only sums are divided"
            title = f"{quoted(node.name)}: {bands.height} rows of every channel at a time."
            name = self.parts.function("bands", node.name)
            self.parts.banded(name, title, bands, gather, made)

    def update(self, node: Neuron, current: Signal, bands: Bands | None) -> Update:
        program = self.programs[node.name]
        members = {name: self.state(node, name) for name in node.states}
        sent = self.sent(node, members)
        code, reads_input = self.current_code(node, current)
        used = {op.name for op in program.ops if op.kind == "param"}
        params = {
            name: self.parts.tables.start(node, name, param, node.shape)
            for name, param in node.values.items()
            if name in used
        }
        stage = update(
            node, program, name=self.parts.function("update", node.name), prefix=self.prefix,
            current=code, members=members, params=params, sent=sent,
        )  # fmt: skip
        return replace(stage, reads_input=reads_input, bands=bands)

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
        edge, made = self.parts.store(f"{node.name}_{word}", signal, "spikes", owner, note)
        self.edges[node.name] = edge
        return made

    def graded(self, node: Neuron) -> str:
        """The state that a layer sends as it is; empty where it sends something else."""
        program = self.programs[node.name]
        states = [name for name, i in program.finals.items() if i == program.output]
        return states[0] if program.sends == "current" and states else ""

    def state(self, node: Neuron, name: str) -> Member:
        state, size = node.states[name], self.signals[node.name].size
        assert state.fmt is not None, "an integer graph"
        init = Interval(int(state.init.values.min()), int(state.init.values.max()))
        note = f"{quoted(node.name)}: {name}, {state.fmt}"
        span, owner = state.fmt.range | init, f"{node.path}.{name}"
        if name == self.graded(node):
            # Whoever reads it as a signal reads an array of values.
            made = self.parts.member(
                f"{node.name}_{name}", holding(span), size, "state", owner, note
            )
        else:
            made = self.parts.packed(f"{node.name}_{name}", span, size, owner, note)
        start = self.parts.tables.start(node, f"{name}.start", state.init, node.shape)
        if start.table is not None or any(start.literals):
            self.parts.starts.append((made, start))
        self.states[f"{node.name}.{name}"] = made
        self.shapes[f"{node.name}.{name}"] = node.shape
        return made

    def current_code(self, node: Neuron, current: Signal) -> tuple[str, bool]:
        """C for the input current of neuron ``i``, and whether it reads the caller's arrays."""
        terms: list[tuple[str, CType, int]] = []
        reaches: list[Interval] = []
        callers = False
        if node.name in self.sums:
            place = self.sums[node.name]
            array, index = place.member, "j" if place.bands else "i"
            terms.append((f"s->{array.name}[{index}]", array.type, 1))
            lazy = self.view.lazy_inputs(node)
            reaches += [self.view.reach(x, current.frac) for x in lazy]
        for name in node.inputs:
            source = self.view.source(name)
            if self.view.is_lazy(source):
                continue
            edge, move = self.edges[source.name], current.frac - self.signals[name].frac
            at = f"({edge.at})" if " " in edge.at else edge.at
            terms.append((f"{at}[i]", edge.type, 1 << move))
            span = edge.span | ZERO
            reaches.append(Interval(span.lo << move, span.hi << move))
            callers = callers or edge.callers
        kind = computing(Interval(sum(r.lo for r in reaches), sum(r.hi for r in reaches)))
        code = " + ".join(_term(*term, kind) for term in terms)
        assert current.interval is not None, "an integer graph"
        wanted = c_type(current.interval)
        return (code if kind.name == wanted else f"({wanted})({code})"), callers

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
        starts = tuple(self.biases([node], signal.frac))
        self.parts.gather(f"sum_{node.name}", _into(node.name, []), edge, drives, starts)

    # --- the end of a step ---

    def push(self) -> None:
        """Store into every delay line, first into those that read another line, then move on."""
        delays = list(self.graph.of_type(Delay))
        while delays:
            sources = {d.name: self.view.source(d.inputs[0]).name for d in delays}
            read = {source for name, source in sources.items() if source != name}
            node = next(d for d in delays if d.name not in read)
            delays.remove(node)
            title = f"{quoted(node.name)}: stores what it will give in {node.steps} steps."
            source, line = self.edges[sources[node.name]], self.edges[node.name]
            self.parts.keep(f"store_{node.name}", title, source, line)
            if node.name in self.slots:
                self.parts.stages.append(
                    Turn(
                        name=self.parts.function("turn", node.name), steps=node.steps,
                        member=self.slots[node.name], title=f"{quoted(node.name)}: moves on.",
                    )
                )  # fmt: skip

    def read(self, node: Output) -> Read:
        source = self.view.source(node.inputs[0])
        edge = self.edges[source.name]
        if edge.callers or edge.fleeting:
            kept, _ = self.parts.store(
                "out", self.signals[source.name], "spikes", node.path, "what left in this step"
            )
            self.parts.keep("keep_output", "Keeps what leaves the network.", edge, kept)
            edge = kept
        self.shapes[node.name] = self.signals[node.name].shape
        membrane = None
        neuron = output_neuron(self.graph)
        if node.readout == "first_spike" and neuron is not None:
            found = self.states.get(f"{neuron.name}.v")
            membrane = found if found is not None and found.count == edge.size else None
        vote = vote_of(node, self.parts.tables) if node.readout == VOTE else None
        size = edge.size if vote is None else vote.classes
        read = Read(
            name=self.parts.function("read"), title="Notes what the readout needs of this step.",
            readout=node.readout, edge=edge, score=score(node, edge, size, self.parts),
            membrane=membrane, vote=vote,
        )  # fmt: skip
        if read.score is not None:
            self.parts.stages.append(read)
        return read


def _into(name: str, sources: Sequence[Node]) -> str:
    made = ", ".join(quoted(source.name) for source in sources)
    return f"{quoted(name)}: {f'the currents of {made}' if made else 'its values'}."


def _term(code: str, held: CType, gain: int, kind: CType) -> str:
    """A value that is read, in the type the current is summed in."""
    cast = f"({kind.name}){code}" if (kind.bits == 64) != (held.bits == 64) else code
    return cast if gain == 1 else f"{cast} * {gain}"
