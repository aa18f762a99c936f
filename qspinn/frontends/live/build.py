"""The graph of a live network while it grows: a module makes a node, a wire leads to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qspinn.dynamics import Model
from qspinn.errors import FrontendError, VerifyError
from qspinn.fixed import FloatArray
from qspinn.frontends.live.counts import limit, whole_bits
from qspinn.frontends.nir_flatten import safe
from qspinn.frontends.nir_gains import fold
from qspinn.frontends.nir_neurons import Cell
from qspinn.frontends.report import DEFAULT, GIVEN, Assumption, received
from qspinn.ir import (
    READOUTS,
    VOTE,
    Array,
    Delay,
    Flatten,
    Graph,
    Input,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    Shape,
    State,
    SumPool2d,
)
from qspinn.signals import Signal, infer
from qspinn.verify import verify

IN_MODULE = "in the module"


@dataclass(frozen=True, slots=True)
class Wire:
    """A signal between modules.

    Attributes:
        node: The node that sends it.
        signal: Its shape and kind.
        factor: What the framework multiplies it by; it goes into the next weights.
        votes: Elements of a class, where their mean is taken and that is the end of the network.
    """

    node: str
    signal: Signal
    factor: float = 1.0
    votes: int = 0

    @property
    def shape(self) -> Shape:
        """Without batch and time."""
        return self.signal.shape


@dataclass(frozen=True, slots=True)
class Choices:
    """What a user may choose where a module leaves it open."""

    readout: str | None = None
    input_kind: str | None = None
    input_high: int | None = None
    max_spikes: int | None = None
    output: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        received(self.input_kind or "spike", None)
        if self.readout not in (None, *READOUTS):
            raise FrontendError(f"readout is one of {', '.join(READOUTS)}, not {self.readout!r}")
        if self.max_spikes is not None and not whole_bits(self.max_spikes):
            raise FrontendError(f"max_spikes is 1, 3, 7, 15, ..., not {self.max_spikes!r}")


@dataclass
class Build:
    """An import under way.

    Attributes:
        choices: The user's.
        nodes: The graph so far, in order.
        cells: The neurons among them.
        paths: Node -> path of the module it was made from.
        readouts: Integrators -> how the framework reads them.
        most: Neurons -> the most spikes a step that the framework lets them send.
        readable: Neurons without reset -> the integrators that their membranes are.
        reserved: Module paths -> names that feedback reads before the neurons are made.
        stateful: ids of the modules that became neurons -> their paths.
    """

    choices: Choices
    nodes: dict[str, Node] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    wires: dict[str, Wire] = field(default_factory=dict)
    notes: list[Assumption] = field(default_factory=list)
    readouts: dict[str, str] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    readable: dict[str, Cell] = field(default_factory=dict)
    reserved: dict[str, str] = field(default_factory=dict)
    stateful: dict[int, str] = field(default_factory=dict)

    # --- nodes ---

    def name(self, path: str) -> str:
        """A name of its own for what is made of the module at ``path``."""
        if path in self.reserved:
            return self.reserved.pop(path)
        base = safe(path) if path else "net"
        taken = {n.lower() for n in (*self.nodes, *self.paths)}
        free, count = base, 1
        while free.lower() in taken:
            count += 1
            free = f"{base}_{count}"
        self.paths[free] = path
        return free

    def reserve(self, path: str) -> str:
        """The name that the neurons of the module at ``path`` will have."""
        if path not in self.reserved:
            self.reserved[path] = self.name(path)
        return self.reserved[path]

    def note(self, subject: str, value: str, source: str = IN_MODULE) -> None:
        """Remember an assumption."""
        self.notes.append(Assumption(subject, value, source))

    def add(self, node: Node, *signals: Signal, factor: float = 1.0) -> Wire:
        """Append a node that reads ``signals``."""
        # What a Delay reads may come later.
        signal = Signal(node.shape, node.kind) if isinstance(node, Delay) else infer(node, signals)
        self.nodes[node.name] = node
        wire = Wire(node.name, signal, factor)
        self.wires[node.name] = wire
        return wire

    def input(self, shape: Shape, called: str = "input") -> Wire:
        """An input of the network."""
        kind = self.choices.input_kind or "spike"
        high = received(kind, self.choices.input_high)
        word = f"counts of up to {high}" if kind == "count" else f"{kind}s"
        source = GIVEN if self.choices.input_kind else DEFAULT
        name = self.name(called)
        self.note(name, f"{word}, shape {shape}", source)
        return self.add(Input(name=name, shape=shape, kind=kind, high=high))

    def current(self, wire: Wire) -> Wire:
        """A wire that neurons can take: spikes get a one-to-one connection."""
        if wire.signal.kind == "current" and wire.factor == 1:
            return wire
        name = self.name(f"{wire.node}_one")
        node = Scale(name=name, inputs=(wire.node,), scale=Param(np.array(wire.factor)))
        return self.add(node, wire.signal)

    def delayed(self, source: str, shape: Shape, steps: int = 1) -> Wire:
        """What the node ``source``, which may come later, sent ``steps`` steps ago."""
        name = self.name(f"{source}_back")
        return self.add(Delay(name=name, inputs=(source,), shape=shape, steps=steps))

    def neurons(
        self,
        name: str,
        currents: Sequence[Wire],
        cell: Cell,
        *,
        model: Model | None = None,
        current: Array | None = None,
        membrane: Array | None = None,
        factor: float = 1.0,
        most: int = 0,
    ) -> Wire:
        """Append neurons.

        Args:
            name: From `name`; feedback may have been built with it.
            currents: What they sum; every wire has their shape.
            cell: Their parameters.
            model: The model, where it is none of `neurons.spiking` and `neurons.integrator`.
            current: What the synaptic current starts from.
            membrane: What the membrane starts from, where the cell does not say it.
            factor: What the framework multiplies the spikes by.
            most: The framework's own limit of spikes a step, where there is one.
        """
        found = [self.current(wire) for wire in currents]
        made = model or cell.model()
        states = cell.states(made)
        for state, start in (("u", current), ("v", membrane)):
            if start is not None:
                states[state] = State(Param(start))
        node = Neuron(
            name=name, inputs=tuple(w.node for w in found), shape=found[0].shape, model=made,
            values=cell.params(), states=states,
        )  # fmt: skip
        self.cells[name] = cell
        if most:
            self.most[name] = most
        self.note(name, cell.describe())
        return self.add(node, *(w.signal for w in found), factor=factor)

    # --- the end ---

    def finish(self, name: str, ends: Sequence[Wire]) -> Graph:
        """The graph whose outputs are ``ends``; the first decides.

        Raises:
            FrontendError: Nothing reads an end, or what stands between its nodes has no place
                on a target.
        """
        for wire in ends:
            self._output(wire, several=len(ends) > 1)
        return self._settled(name)

    def _output(self, wire: Wire, *, several: bool) -> None:
        if wire.node in self.readable and (self.choices.readout or "").startswith("membrane"):
            wire = self._unfiring(wire)
        source = self.nodes[wire.node]
        graded = wire.signal.kind == "current"
        if graded and not isinstance(source, Neuron):
            raise FrontendError(
                f"the network ends in {type(source).__name__}: what adds up its values over time "
                "is not in the module",
                at=self.paths.get(wire.node, wire.node),
                hint="end it with spiking neurons, or with leaky or plain integrators",
            )
        labels: tuple[int, ...] = ()
        if wire.votes:
            size = int(np.prod(wire.shape))
            labels = tuple(int(k) for k in np.repeat(np.arange(size // wire.votes), wire.votes))
        name = self.name(f"output_{wire.node}") if several else "output"
        self.nodes[name] = Output(
            name=name, inputs=(wire.node,), labels=labels,
            readout=self._readout(wire, graded=graded, several=several),
        )  # fmt: skip
        if wire.factor != 1:
            self.note(name, f"spikes are 1, not {wire.factor:g}: no decision depends on it")

    def _settled(self, name: str) -> Graph:
        """The graph of what the outputs need."""
        self._prune()
        self._require_connections()
        self._note_rules()
        sends = {n for n, w in self.wires.items() if w.signal.kind != "current"}
        kept = {each: cell for each, cell in self.cells.items() if each in self.nodes}
        gains = {each: (cell.gain, self.wires[each].shape) for each, cell in kept.items()}
        self.nodes = fold(self.nodes, gains, sends_spikes=sends)
        limit(self)
        graph = Graph(name, tuple(self.nodes.values()))
        try:
            return verify(graph)
        except VerifyError as error:
            at = self.paths.get(error.at, error.at)
            raise FrontendError(error.message, hint=error.hint, at=at) from error

    def _unfiring(self, wire: Wire) -> Wire:
        """The last neurons as integrators: nothing resets them, so their membranes can be read."""
        name, made = wire.node, self.readable[wire.node]
        node = self.nodes[name]
        model = made.model()
        assert isinstance(node, Neuron)
        self.cells[name] = made
        self.note(name, "its membrane is read, its spikes are not: it has no reset", GIVEN)
        states = {state: node.states[state] for state in model.states}
        changed = replace(node, model=model, values=made.params(), states=states)
        return self.add(changed, *(self.wires[i].signal for i in node.inputs))

    def _readout(self, wire: Wire, *, graded: bool, several: bool) -> str:
        given, subject = self.choices.readout, f"readout of {wire.node}" if several else "readout"
        if wire.votes:
            self.note(subject, f"votes of {wire.votes} neurons for each class")
            return VOTE
        usual = self.readouts.get(wire.node, "membrane_last") if graded else "count"
        if given is not None and given.startswith("membrane") != graded and several:
            given = None  # it is for another output
        if given is not None and given.startswith("membrane") != graded:
            what = "membrane potentials" if graded else "spikes"
            raise FrontendError(
                f"the readout {given} does not read {what}, which the last neurons send",
                at=self.paths.get(wire.node, wire.node),
                hint="membranes are read from neurons that never fire (no reset, no threshold)",
            )
        self.note(subject, given or usual, GIVEN if given else DEFAULT)
        return given or usual

    def _prune(self) -> None:
        """Leave out what no output needs."""
        todo = [name for name, node in self.nodes.items() if isinstance(node, Output)]
        needed = set(todo)
        while todo:
            for source in self.nodes[todo.pop()].inputs:
                if source not in needed:
                    needed.add(source)
                    todo.append(source)
        inputs = [name for name, node in self.nodes.items() if isinstance(node, Input)]
        idle = [name for name in inputs if name not in needed]
        if idle or not inputs:
            which = f" {', '.join(idle)}" if len(inputs) > 1 else ""
            raise FrontendError(f"the output does not depend on the input{which}")
        self.nodes = {n: node for n, node in self.nodes.items() if n in needed}

    def _require_connections(self) -> None:
        """Refuse currents that reach neurons over a node that no target computes on them."""
        words = {"Flatten": "nn.Flatten", "SumPool2d": "the sum pooling"}
        for node in self.nodes.values():
            for source in node.inputs if isinstance(node, Neuron) else ():
                between = self.nodes[source]
                graded = self.wires[source].signal.kind == "current"
                if graded and isinstance(between, (Flatten, SumPool2d)):
                    what = type(between).__name__
                    path = self.paths.get(source, source).removesuffix(".flat")
                    neurons = self.paths.get(node.name, node.name)
                    raise FrontendError(
                        f"is a {what} between a connection and its neurons, net.{neurons}; "
                        "targets have it for spikes only",
                        hint=f"put {words[what]} behind the neurons",
                        at=f"net.{path}",
                    )

    def _note_rules(self) -> None:
        for word, option in (
            ("reset", "reset"),
            ("reset timing", "timing"),
            ("fires at", "compare"),
        ):
            by_value: dict[str, list[str]] = {}
            for name, cell in self.cells.items():
                if cell.fires and name in self.nodes:
                    by_value.setdefault(str(cell.options[option]), []).append(name)
            for value, names in by_value.items():
                who = f" ({', '.join(names)})" if len(by_value) > 1 else ""
                self.note(word, value + who)


def spread(values: FloatArray, shape: Shape) -> FloatArray:
    """A parameter as one number, or as one for each element of ``shape``.

    It is spread as torch does it over (batch, *shape).

    Raises:
        FrontendError: It does not fit.
    """
    lead = values.shape[: max(values.ndim - len(shape), 0)]
    if values.size == 1:
        return values.reshape(())
    inner = values.reshape(values.shape[len(lead) :])
    try:
        fits = set(lead) <= {1} and np.broadcast_shapes(inner.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise FrontendError(f"a parameter of shape {values.shape} does not fit neurons of {shape}")
    if (inner == inner.flat[0]).all():
        return inner.ravel()[:1].reshape(())
    return np.broadcast_to(inner, shape).copy()
