"""Random integer networks: every node, model, format, rounding and edge, small enough to be many.

`random_network(seed)` is a pure function. Thresholds are tuned on the network's float meaning, so
that neurons fire; `tests/test_random_networks.py` asserts what the population covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from network_chip import ChipFormats
from network_formats import FORMATS, AnyFormats
from network_sums import with_drops
from qspinn import interp
from qspinn.dynamics import Model
from qspinn.fixed import Interval, QFormat
from qspinn.ir import (
    VOTE,
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
    Param,
    Scale,
    Shape,
    State,
    SumPool2d,
)
from qspinn.ports import parts, together
from qspinn.signals import Signal, infer, summed


@dataclass(frozen=True)
class Case:
    """One network by profile and seed."""

    profile: str
    seed: int

    def __str__(self) -> str:
        return f"{self.profile}{self.seed}"


NORMAL = (*(Case("loihi", s) for s in range(40)), *(Case("any", s) for s in range(20)))
"""What every run of the tests compares on all executors."""
SLOW = (*(Case("loihi", s) for s in range(40, 200)), *(Case("any", s) for s in range(20, 100)))
"""What `make slow` compares besides."""

SIZES: tuple[int, ...] = (1, 2, 3, 5, 8, 10, 15, 16, 17, 24, 31, 32, 33, 48, 60)
SAMPLES = 24


@dataclass(frozen=True)
class Network:
    """A graph, its data, and the choices behind it as words such as ``reset:subtract``."""

    graph: Graph
    data: Array
    tags: frozenset[str]


@dataclass(frozen=True)
class Odds:
    """How likely each structure is; `patient` networks run long, with the longest delays.

    ``ports`` are the weights of 1, 2 and 3 inputs, and of 1, 2 and 3 outputs; ``joins`` is for a
    layer that takes one of the further inputs.
    """

    inputs: tuple[float, ...] = (5, 1.5, 1.5)
    rank: tuple[float, ...] = (5, 2, 4)
    delay: float = 0.12
    pool: float = 0.3
    max_pool: float = 0.35
    current_pool: float = 0.15
    direct: float = 0.3
    scale: float = 0.12
    conv: float = 0.7
    skip: float = 0.2
    recurrence: float = 0.25
    lateral: float = 0.25
    vote: float = 0.2
    recurrent_delay: tuple[int, ...] = (1, 1, 2, 3)
    graded: float = 0.04
    side: float = 0.06
    highs: tuple[int, ...] = (2, 3, 7, 15, 200, 3000)
    delays: tuple[int, ...] = (1, 1, 2, 5, 20)
    batch: tuple[int, int] = (2, 3)
    patient: float = 0.0
    ports: tuple[float, ...] = ()
    joins: float = 0.6


ODDS = {
    "any": Odds(),
    "loihi": Odds(
        inputs=(5, 1, 0), rank=(6, 1, 3), delay=0.1, max_pool=0.2, current_pool=0.0, scale=0.06,
        skip=0.12, recurrent_delay=(1, 2), lateral=0.4, graded=0.0, highs=(2, 3, 7, 15),
        delays=(1, 1, 2, 5), batch=(2, 2),
    ),
    "whole": Odds(
        inputs=(5, 2, 0), rank=(6, 1, 2), delay=0.2, max_pool=0.2, current_pool=0.0, scale=0.08,
        skip=0.15, recurrent_delay=(1, 2), lateral=0.4, graded=0.0, highs=(2, 3, 7, 15, 200, 3000),
        delays=(1, 1, 2, 5), batch=(2, 2), patient=0.1,
    ),
}  # fmt: skip
"""By profile: anything; what suits Loihi; all that Lava's stock processes can be given."""
ODDS |= {
    "wide": replace(ODDS["whole"], ports=(1, 4, 3), patient=0.05),
    "wide any": replace(ODDS["any"], ports=(1, 4, 3)),
}
"""The last two with several inputs and outputs."""
ALL_FORMATS = {**FORMATS, "whole": ChipFormats, "wide": ChipFormats, "wide any": AnyFormats}
ANY = ("any", "wide any")
"""Profiles with what Loihi has not."""
LONGEST, LONG_STEPS = 61, 72


def random_network(seed: int, *, profile: str = "any") -> tuple[Graph, Array]:
    """An integer network and its data (batch, steps, *input shape).

    Args:
        seed: Anything; the same network each time.
        profile: ``any``; ``loihi``: only what Lava's stock processes express; ``whole``: that, up
            to the ends of every register.
    """
    network = describe(seed, profile=profile)
    return network.graph, network.data


def describe(seed: int, *, profile: str = "any") -> Network:
    """`random_network`, with the choices behind it."""
    rng = np.random.default_rng((seed, sorted(ODDS).index(profile)))
    draw, odds = ALL_FORMATS[profile](rng), ODDS[profile]
    if isinstance(draw, ChipFormats) and draw.alone:
        odds = replace(odds, skip=0.0, recurrence=0.0, joins=0.0)
    return _Builder(draw, odds, profile, seed).network(f"{profile}{seed}")


@dataclass
class _Builder:
    """A network under construction: nodes, the types of their signals, and samples of them."""

    draw: AnyFormats
    odds: Odds
    profile: str
    seed: int
    nodes: list[Node] = field(default_factory=list)
    known: dict[str, Signal] = field(default_factory=dict)
    sample: dict[str, Array] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    patient: bool = False
    depth: int = 0

    def network(self, name: str) -> Network:
        draw = self.draw
        self.patient = self.odds.patient > 0 and draw.chance(self.odds.patient)
        batch = draw.between(*self.odds.batch)
        steps = LONG_STEPS if self.patient else draw.between(8, 16)
        source, data = self.input("input", batch, steps)
        received = {source: data}
        for i in range(2, self.ports("inputs") + 1):
            further, received[further] = self.input(f"input{i}", batch, steps)
            self.waiting.append(further)
        depth = draw.pick((1, 2, 3, 4), (3, 4, 2, 1))
        draw.tag("depth", depth)
        self.depth = depth
        graded = draw.chance(0.3)
        for k in range(1, depth + 1):
            last = k == depth
            source = self.layer(k, source, graded if last else draw.chance(self.odds.graded))
        if self.profile in ANY:
            source = self.tail(source)
        ends = [source, *map(self.branch, self.waiting)]
        for i in range(2, self.ports("outputs") + 1):
            ends.insert(draw.between(0, 1), self.earlier(i))
        for i, end in enumerate(ends, 1):
            self.output("out" if i == 1 else f"out{i}", end)
        graph, drops = with_drops(Graph(name, tuple(self.nodes)), self.profile, self.seed)
        for word in drops:
            draw.tag("dropped", word)
        data = together(graph, received)
        return Network(tuned(graph, data), data, frozenset(draw.tags))

    def ports(self, what: str) -> int:
        """How many inputs or outputs."""
        if not self.odds.ports:
            return 1
        count = self.draw.pick((1, 2, 3), self.odds.ports)
        self.draw.tag(what, count)
        return count

    def branch(self, source: str) -> str:
        """Neurons of its own for an input that no layer took, which send to an output."""
        self.draw.tag("input reaches", "a branch")
        current = self.connection(f"fc_{source}", source)
        return self.neuron(f"lif_{source}", (current,), self.draw.model())

    def earlier(self, i: int) -> str:
        """Neurons of any depth for a further output to read, perhaps delayed."""
        draw = self.draw
        neurons = [node for node in self.nodes if isinstance(node, Neuron)]
        source = neurons[draw.between(0, len(neurons) - 1)].name
        draw.tag("output reads", "the last neurons" if source == f"lif{self.depth}" else "others")
        signal = self.known[source]
        if signal.kind != "current" and draw.chance(0.3):
            draw.tag("output reads", "a delay")
            high = signal.interval.hi if signal.interval else 1
            return self.delay(f"late{i}", source, signal, high, (1, 2))
        return source

    def output(self, name: str, source: str) -> None:
        """An output with a readout that suits it."""
        draw, kind = self.draw, self.known[source].kind
        readouts = (
            ("membrane_last", "membrane_max") if kind == "current" else ("count", "first_spike")
        )
        readout, labels = draw.pick(readouts), ()
        if kind != "current" and draw.chance(self.odds.vote):
            readout, labels = VOTE, self.labels(self.known[source].size)
        draw.tag("readout", readout)
        self.add(Output(name=name, inputs=(source,), readout=readout, labels=labels))

    def labels(self, size: int) -> tuple[int, ...]:
        """A class for each element, or none; no class is without an element."""
        classes = self.draw.between(1, min(size, 5))
        drawn = self.draw.rng.integers(-1, classes, size)
        drawn[self.draw.rng.permutation(size)[:classes]] = np.arange(classes)
        return tuple(map(int, drawn))

    def tail(self, source: str) -> str:
        """What may stand between the last neurons and the output."""
        draw, signal = self.draw, self.known[source]
        if signal.kind != "current" and draw.chance(0.08):
            draw.tag("tail", "delay")
            high = signal.interval.hi if signal.interval else 1
            source = self.delay("late", source, signal, high, (1, 2))
        if signal.kind != "current" and draw.chance(0.08):
            draw.tag("tail", "connection")
            return self.linear("read", source, draw.pick(SIZES))
        if len(signal.shape) > 1 and draw.chance(0.15):
            draw.tag("tail", "pool")
            source = self.pool("votes", source, 1.0)
        if len(signal.shape) > 1 and draw.chance(0.3):
            source = self.add(Flatten(name="flat", inputs=(source,)))
        return source

    def input(self, name: str, batch: int, steps: int) -> tuple[str, Array]:
        draw, shape = self.draw, self.input_shape()
        kind = draw.pick(("spike", "count", "current"), self.odds.inputs)
        draw.tag("input", f"{kind} {len(shape)}")
        node = Input(name=name, shape=shape, kind=kind)
        size = (batch, steps, *shape)
        if kind == "current":
            bits = draw.pick((4, 6, 8, 9, 12, 16, 24, 32), (2, 2, 2, 2, 2, 1, 0.5, 0.5))
            fmt = QFormat(bits, draw.between(-2, bits), draw.chance(0.8))
            node, data = replace(node, fmt=fmt), draw.spread(size, fmt)
        elif kind == "count":
            node = replace(node, high=draw.pick(self.odds.highs))
            data = draw.rng.integers(0, node.high + 1, size) * (draw.rng.random(size) < 0.5)
        else:
            data = (draw.rng.random(size) < draw.rng.uniform(0.15, 0.6)).astype(np.int64)
            if draw.chance(0.15):
                data[0] = 1
        pool = data.reshape(-1, *shape)
        pool = pool[draw.rng.permutation(len(pool))]
        self.put(node, infer(node, ()), np.resize(pool, (SAMPLES, *shape)))
        return node.name, data

    def input_shape(self) -> Shape:
        draw = self.draw
        rank = draw.pick((1, 2, 3), self.odds.rank)
        if rank == 1:
            return (draw.pick(SIZES),)
        if rank == 2:
            return (draw.between(1, 3), draw.between(4, 16))
        return (draw.between(1, 3), draw.between(3, 8), draw.between(3, 8))

    def put(self, node: Node, signal: Signal, sample: Array) -> str:
        self.nodes.append(node)
        self.known[node.name], self.sample[node.name] = signal, sample
        if signal.kind != "current":
            self.sources.append(node.name)
        kind = node.model.name if isinstance(node, Neuron) else type(node).__name__
        self.draw.tag("node", kind)
        return node.name

    def add(self, node: Node) -> str:
        """Add a node without state."""
        (source,) = node.inputs
        signal = self.known[source]
        sample = interp.apply(node, self.sample[source], signal)
        return self.put(node, infer(node, (signal,)), sample)

    # --- a layer: what leads to its neurons, then the neurons ---

    def layer(self, k: int, source: str, graded: bool) -> str:
        draw, odds = self.draw, self.odds
        signal = self.known[source]
        due = self.patient and k == 1
        if signal.kind != "current" and (due or draw.chance(odds.delay)):
            high = signal.interval.hi if signal.interval else 1
            source = self.delay(f"delay{k}", source, signal, high, odds.delays)
        source = self.pool(f"pool{k}", source, odds.pool)
        current = self.connection(f"fc{k}", source)
        current = self.pool(f"sum{k}", current, odds.current_pool)
        inputs, shape = [current], self.known[current].shape
        if draw.chance(odds.side):
            draw.tag("edge", "shared current")
            self.neuron(f"side{k}", (current,), draw.model())
        inputs += self.further(k, shape)
        if len(inputs) == 1 and draw.chance(odds.skip):
            inputs += self.skip(f"skip{k}", source, shape)
        name, model = f"lif{k}", draw.integrator() if graded else draw.model()
        if not graded and draw.chance(odds.recurrence):
            draw.tag("edge", "recurrent")
            edge = Signal(shape, model.sends, Interval(0, model.max_out))
            back = self.delay(f"back{k}", name, edge, model.max_out, odds.recurrent_delay)
            inputs.append(self.square(f"rec{k}", back, shape))
        return self.neuron(name, tuple(inputs), model)

    def further(self, k: int, shape: Shape) -> list[str]:
        """A current from an input that waits for a layer to take it, perhaps delayed."""
        fits = [s for s in self.waiting if len(shape) == 1 or self.known[s].shape == shape]
        if not fits or not self.draw.chance(self.odds.joins):
            return []
        self.draw.tag("input reaches", f"layer {k}")
        self.waiting.remove(source := fits[0])
        if self.known[source].shape == shape:
            return [self.square(f"from_{source}", source, shape)]
        return [self.linear(f"from_{source}", source, shape[0])]

    def delay(self, name: str, source: str, edge: Signal, high: int, options: Sequence[int]) -> str:
        steps = self.draw.pick(options)
        if self.patient:  # the longest that synapses have, less where stages add up
            steps = LONGEST if self.depth == 1 and source == "input" else LONGEST - 10
        self.draw.tag("delay", f"{steps} {edge.kind}")
        node = Delay(
            name=name, inputs=(source,), shape=edge.shape, steps=steps, kind=edge.kind, high=high
        )
        sample = self.sample.get(source)
        if sample is None:
            sample = self.events(edge.shape, high)
        return self.put(node, replace(edge, interval=Interval(0, high)), sample)

    def events(self, shape: Shape, high: int) -> Array:
        """What neurons may send, before it is known."""
        size = (SAMPLES, *shape)
        fired: Array = self.draw.rng.random(size) < 0.25
        return fired * self.draw.rng.integers(1, high + 1, size)

    def pool(self, name: str, source: str, p: float) -> str:
        draw, signal = self.draw, self.known[source]
        if len(signal.shape) != 3 or not draw.chance(p):
            return source
        kernel = tuple(draw.between(1, min(3, size)) for size in signal.shape[1:])
        stride = draw.pick((kernel, (1, 1), (2, 2), (1, 2)))
        padding = tuple(draw.pick((0, k // 2)) for k in kernel)
        kinds = ("spike", "count") if self.profile in ANY else ("spike",)
        largest = signal.kind in kinds and draw.chance(self.odds.max_pool)
        kind = MaxPool2d if largest else SumPool2d
        draw.tag("pool", f"{kind.__name__} {signal.kind} {'padded' if any(padding) else 'plain'}")
        return self.add(
            kind(name=name, inputs=(source,), kernel=kernel, stride=stride, padding=padding)
        )

    def connection(self, name: str, source: str) -> str:
        draw, signal = self.draw, self.known[source]
        rank = len(signal.shape)
        if signal.kind == "current" and draw.chance(self.odds.direct):
            draw.tag("edge", "direct current")
            return source
        if draw.chance(self.odds.scale):
            return self.scale(name, source)
        if rank == 2 and draw.chance(self.odds.conv):
            return self.conv1d(name, source)
        if rank == 3 and draw.chance(self.odds.conv):
            return self.conv2d(name, source)
        if rank > 1 and draw.chance(0.6):
            source = self.add(Flatten(name=f"{name}_flat", inputs=(source,)))
        return self.linear(name, source, draw.pick(SIZES))

    def weights(self, source: str, shape: Shape) -> tuple[Param, Param | None]:
        weight = self.draw.bounded(self.draw.weights(shape), self.known[source].interval)
        assert weight.fmt is not None, "drawn"
        return weight, self.draw.synapse_bias(weight, weight.fmt.frac + self.known[source].frac)

    def linear(self, name: str, source: str, outs: int) -> str:
        weight, bias = self.weights(source, (outs, self.known[source].size))
        return self.add(Linear(name=name, inputs=(source,), weight=weight, bias=bias))

    def scale(self, name: str, source: str) -> str:
        signal = self.known[source]
        weight = self.draw.weights(signal.shape, scale=True)
        weight = self.draw.bounded(weight, signal.interval)
        return self.add(Scale(name=name, inputs=(source,), scale=weight))

    def lateral(self, name: str, source: str) -> str:
        signal = self.known[source]
        places = self.draw.broadcast(signal.shape)
        drawn = self.draw.weights((*places, 1))
        rows = np.repeat(drawn.values.reshape(-1, 1), max(signal.size - 1, 1), 1)
        weight = self.draw.bounded(replace(drawn, values=rows), signal.interval)
        one = replace(weight, values=weight.values[:, 0].reshape(places))
        return self.add(Lateral(name=name, inputs=(source,), weight=one))

    def groups(self, channels: int) -> tuple[int, int]:
        """Groups and output channels."""
        groups = self.draw.pick([g for g in range(1, channels + 1) if channels % g == 0])
        return groups, groups * self.draw.between(1, 3 if groups == 1 else 2)

    def conv1d(self, name: str, source: str) -> str:
        draw, shape = self.draw, self.known[source].shape
        groups, outs = self.groups(shape[0])
        dilation, stride, padding = draw.pick((1, 2)), draw.between(1, 2), draw.between(0, 2)
        kernel = draw.between(1, min(4, (shape[1] - 1) // dilation + 1))
        weight, bias = self.weights(source, (outs, shape[0] // groups, kernel))
        for word, on in (("s", stride > 1), ("p", padding), ("d", dilation > 1), ("g", groups > 1)):
            draw.tag("conv1d", word if on else f"no {word}")
        return self.add(
            Conv1d(
                name=name, inputs=(source,), weight=weight, bias=bias, stride=stride,
                padding=padding, dilation=dilation, groups=groups,
            )
        )  # fmt: skip

    def conv2d(self, name: str, source: str) -> str:
        draw, shape = self.draw, self.known[source].shape
        groups, outs = self.groups(shape[0])
        dilation = draw.pick(((1, 1), (1, 1), (2, 1), (1, 2)))
        stride = draw.pick(((1, 1), (2, 1), (1, 2), (2, 2)))
        padding = draw.pick(((0, 0), (1, 1), (0, 1)))
        kernel = tuple(
            draw.between(1, min(3, (size - 1) // d + 1))
            for size, d in zip(shape[1:], dilation, strict=True)
        )
        weight, bias = self.weights(source, (outs, shape[0] // groups, *kernel))
        for word, value in (("s", stride), ("p", padding), ("d", dilation), ("g", groups > 1)):
            draw.tag("conv2d", f"{word} {value}")
        return self.add(
            Conv2d(
                name=name, inputs=(source,), weight=weight, bias=bias, stride=stride,
                padding=padding, dilation=dilation, groups=groups,
            )
        )  # fmt: skip

    def square(self, name: str, source: str, shape: Shape) -> str:
        """A connection that keeps the shape."""
        if self.draw.chance(self.odds.lateral):
            return self.lateral(name, source)
        if len(shape) == 1 and self.draw.chance(0.8):
            return self.linear(name, source, shape[0])
        if len(shape) == 3 and self.draw.chance(0.6):
            weight, bias = self.weights(source, (shape[0], shape[0], 3, 3))
            node = Conv2d(name=name, inputs=(source,), weight=weight, bias=bias, padding=(1, 1))
            return self.add(node)
        return self.scale(name, source)

    def skip(self, name: str, used: str, shape: Shape) -> list[str]:
        """A second current from anything earlier, if something fits."""
        fits = [
            s for s in self.sources
            if s != used and (len(shape) == 1 or self.known[s].shape == shape)
        ]  # fmt: skip
        if not fits:
            return []
        self.draw.tag("edge", "skip")
        source = self.draw.pick(fits)
        if self.known[source].shape == shape:
            return [self.square(name, source, shape)]
        return [self.linear(name, source, shape[0])]

    def neuron(self, name: str, inputs: tuple[str, ...], model: Model) -> str:
        signals = tuple(self.known[i] for i in inputs)
        total = summed(signals)
        current = sum(
            np.ldexp(self.sample[i].astype(np.float64), -s.frac)
            for i, s in zip(inputs, signals, strict=True)
        )
        size = float(np.std(current) + abs(np.mean(current))) or float(np.ldexp(1.0, -total.frac))
        values, states = self.draw.neuron(model, total.shape, size, total.frac)
        node = Neuron(
            name=name, inputs=inputs, shape=total.shape, model=model, values=values, states=states
        )
        signal = infer(node, signals)
        if model.sends != "current":
            return self.put(node, signal, self.events(total.shape, model.max_out))
        assert signal.interval is not None, "an integer state"
        unit = size * 2.0**signal.frac
        drawn = np.rint(self.draw.rng.normal(0, 2 * unit, (SAMPLES, *total.shape)))
        clipped = np.clip(drawn, signal.interval.lo, signal.interval.hi)
        return self.put(node, signal, clipped.astype(np.int64))


# --- thresholds that let neurons fire ---


def tuned(graph: Graph, data: Array) -> Graph:
    """The graph with thresholds moved until its float meaning neither rests nor always fires."""
    for _ in range(3):
        rates = float_rates(graph, data)
        factors = {n: 0.25 if r < 0.03 else 3.0 for n, r in rates.items() if not 0.03 <= r <= 0.8}
        if not factors:
            break
        changed = {name: _moved(graph[name], factor) for name, factor in factors.items()}
        graph = graph.map(lambda node, changed=changed: changed.get(node.name, node))
    return graph


def _moved(node: Node, factor: float) -> Node:
    threshold = node.params()["threshold"]
    assert threshold.fmt is not None, "an integer graph"
    span = threshold.fmt.range
    low = np.where(threshold.values > 0, 1, span.lo)
    values = np.clip(np.rint(threshold.values * factor), low, span.hi)
    return node.with_params({"threshold": replace(threshold, values=values)})


def float_rates(graph: Graph, data: Array) -> dict[str, float]:
    """Spikes (of at most one) per neuron and step of each firing layer, in real arithmetic."""
    real = graph.map(_real)
    fired = [n for n in graph.of_type(Neuron) if n.model.sends != "current"]
    probes = tuple(Output(name=f"_{n.name}", inputs=(n.name,)) for n in fired)
    real = replace(real, nodes=(*real.nodes, *probes))
    formats = {node.name: node.fmt for node in graph.of_type(Input)}
    received = {
        name: np.ldexp(part.astype(np.float64), -fmt.frac if (fmt := formats[name]) else 0)
        for name, part in parts(graph, data).items()
    }
    trace = interp.run(real, together(real, received), record=False)
    return {n.name: float((trace.outputs[f"_{n.name}"] > 0).mean()) for n in fired}


def _real(node: Node) -> Node:
    if isinstance(node, Neuron):
        states = {k: State(Param(s.init.real)) for k, s in node.states.items()}
        return replace(
            node, states=states, values={k: Param(p.real) for k, p in node.values.items()}
        )
    return node.with_params({k: Param(p.real) for k, p in node.params().items()})
