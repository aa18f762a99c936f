"""NIR files (`.nir`) as graphs of ours: discrete time, explicit resets, every assumption noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qspinn.errors import FrontendError, VerifyError, located
from qspinn.frontends import nir_counts
from qspinn.frontends.nir_counts import Highs
from qspinn.frontends.nir_dialect import COUNTERS, LEAKY
from qspinn.frontends.nir_file import FileNode, read, walk
from qspinn.frontends.nir_flatten import ADDING, Flat, flatten, safe
from qspinn.frontends.nir_gains import fold
from qspinn.frontends.nir_layers import declared_shape, shapes
from qspinn.frontends.nir_neurons import Cell, discretize, span
from qspinn.frontends.nir_rules import Choice, Rules, settle
from qspinn.frontends.nir_wiring import Steps, order, recurrent, wire
from qspinn.frontends.report import DEFAULT, IN_FILE, Assumption, Imported, inferred, received
from qspinn.ir import Delay, Graph, Input, Neuron, Node, Output, Shape
from qspinn.verify import readouts_of, verify

R_MEANS = {
    ("equation", False): "a current adds r * (1 - decay)", ("jump", False): "a current adds r",
    ("decayed", False): "a current adds r * dt / (tau * decay)",
    ("equation", True): "a current adds r * dt", ("jump", True): "a current adds r",
}  # fmt: skip
W_IN_MEANS = {
    "equation": "a spike adds w_in * (1 - decay)", "jump": "a spike adds w_in",
    "decayed": "a spike adds w_in * decay",
}  # fmt: skip
KEPT = ("T", "encoder", "gain", "readout")
"""Words of the file's own metadata that others will want to know."""


def load(
    path: str | Path,
    *,
    dt: float | None = None,
    integrator: str | None = None,
    reset: str | None = None,
    reset_timing: str | None = None,
    compare: str | None = None,
    synapse: str | None = None,
    dialect: str | None = None,
    max_spikes: int | None = None,
    v_min: str | float | None = None,
    v_start: str | None = None,
    r_scale: str | None = None,
    w_in_scale: str | None = None,
    readout: str | None = None,
    input_kind: str | None = None,
    input_high: int | None = None,
) -> Imported:
    """Read a `.nir` file.

    An option wins over what the file says of itself (metadata under ``qspinn``), and this over the
    dialect of the framework that wrote it, which is recognized by its numbers.

    Args:
        path: The file.
        dt: Time per step, in the unit of the file's time constants (seconds, as a rule).
        integrator: ``euler`` (a decay is 1 - dt/tau) or ``exact`` (exp(-dt/tau)).
        reset: ``zero``, ``subtract`` or ``value`` (to the file's v_reset).
        reset_timing: One of `qspinn.neurons.TIMINGS`.
        compare: ``>`` or ``>=``.
        synapse: Whether the ``new`` or the ``old`` synaptic current enters the membrane.
        dialect: ``nir`` (the bare equations), ``snntorch``, ``norse``, ``sinabs``, ``rockpool`` or
            ``spikingjelly``.
        max_spikes: The most spikes of a neuron in a step, 2**b - 1; 1 makes all ordinary.
        v_min: The lower clamp of membranes: ``none``, ``threshold`` (at -threshold) or a number.
        v_start: Where membranes start: ``zero``, ``v_leak`` or ``v_reset``.
        r_scale: What a current adds to a membrane: ``equation``, r * (1 - decay), or r * dt
            without a leak; ``jump``, r; ``decayed``, r * dt / (tau * decay).
        w_in_scale: What a spike adds to a synaptic current: ``equation``, w_in * (1 - decay);
            ``jump``, w_in; ``decayed``, w_in * decay.
        readout: One of `qspinn.ir.READOUTS`.
        input_kind: ``spike`` (0 or 1), ``count`` or ``current``.
        input_high: The largest count at the input.

    Raises:
        FrontendError: The file cannot be read, or not without more options; says which.
    """
    options = {
        "dt": dt, "integrator": integrator, "reset": reset, "reset_timing": reset_timing,
        "compare": compare, "synapse": synapse, "dialect": dialect, "max_spikes": max_spikes,
        "v_min": v_min, "v_start": v_start, "r_scale": r_scale, "w_in_scale": w_in_scale,
        "readout": readout, "input_kind": input_kind, "input_high": input_high,
    }  # fmt: skip
    imported, _ = reading(Path(path), options)
    return imported


def reading(path: Path, options: Mapping[str, Any]) -> tuple[Imported, Build]:
    """What `load` returns, and the work behind it; options that are None count as not given.

    Raises:
        FrontendError: As `load`.
    """
    root, version = read(path)
    neurons = [node for node in walk(root) if node.kind in ADDING]
    given = {name: value for name, value in options.items() if value is not None}
    rules, notes = settle(root, neurons, given)
    flat, more = flatten(root)
    build = Build(flat, rules)
    try:
        # Extreme numbers overflow here and there; the verifier names the parameter they end in.
        with np.errstate(all="ignore"):
            graph, built = build.graph(safe(path.stem))
    except VerifyError as error:
        raise FrontendError(error.message, hint=error.hint, at=error.at or "node") from error
    meta: dict[str, object] = {"format": "nir", "version": version, "dialect": rules.dialect.name}
    meta |= {"dt": rules.dt} if rules.dt is not None else {}
    meta |= {k: v for k, v in rules.written.items() if k in KEPT}
    meta["names"] = {n: node.label for n, node in flat.nodes.items() if node.label != n}
    return Imported(graph, (*notes, *more, *built), meta), build


@dataclass
class Build:
    """One import: from the flat graph of the file to ours.

    Attributes:
        flat: The file's nodes; once `graph` is made, with the delays of its cycles.
        rules: How they are computed.
        steps: Of the Delay nodes.
        shapes: Of all signals.
        made: Our nodes for those without state, before gains were folded into them.
        nodes: Our nodes.
        cells: The neurons among them, discretized.
    """

    flat: Flat
    rules: Rules
    steps: Steps = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    made: dict[str, Node] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    notes: list[Assumption] = field(default_factory=list)

    def graph(self, name: str) -> tuple[Graph, list[Assumption]]:
        """The graph, and what was assumed to make it."""
        self.flat, self.steps, delays = wire(self.flat, self.rules)
        self.shapes, self.made = shapes(self.flat)
        self._check_ports()
        loops = recurrent(self.flat, self.steps)
        names = order(self.flat, self.steps, loops)
        self._note_idle(names)
        for each in names:
            self.nodes[each] = (
                self.made[each] if each in self.made else self._node(each, looped=each in loops)
            )
        self._note_cells()
        self.notes += delays
        gains = {each: (cell.gain, self.shapes[each]) for each, cell in self.cells.items()}
        self.nodes = fold(self.nodes, gains, sends_spikes=self._sending_spikes())
        self._limit_counts(loops)
        graph = Graph(name, tuple(self.nodes.values()))
        return verify(graph), self.notes

    def _check_ports(self) -> None:
        for label, declared, source in self.flat.ports:
            size = int(np.prod(declared))
            if source in self.shapes and size != np.prod(self.shapes[source]):
                sent = self.shapes[source]
                what = f"declares {size} elements; read as the {sent} that {source} sends"
                self.notes.append(Assumption(label, what, IN_FILE))

    def _note_idle(self, names: list[str]) -> None:
        for name, node in self.flat.nodes.items():
            if name not in names:
                if node.kind == "Input":
                    raise FrontendError("no output depends on it", at=node.label)
                self.notes.append(Assumption(name, "left out: no output needs it", IN_FILE))

    def _node(self, name: str, *, looped: bool) -> Node:
        """An input, output, delay or neuron; neurons without their final model."""
        node, inputs, shape = self.flat.nodes[name], self.flat.sources[name], self.shapes[name]
        if node.kind == "Input":
            return self._input(node, shape)
        if node.kind == "Output":
            return self._output(node, inputs)
        if node.kind == "Delay":
            return Delay(name=name, inputs=inputs, shape=shape, steps=self.steps[name])
        cell = discretize(node, shape, self.rules.at(node), recurrent=looped)
        self.cells[name] = cell
        with located(node.label):
            model = cell.model()
        return Neuron(
            name=name, inputs=inputs, shape=shape, model=model, values=cell.params(),
            states=cell.states(model),
        )  # fmt: skip

    def _input(self, node: FileNode, shape: Shape) -> Node:
        rules = self.rules.at(node)
        kind, high = rules["input_kind"], rules["input_high"]
        with located(node.label):
            most = received(kind.value, high.value)
        word = f"{kind.value}s of up to {most}" if kind.value == "count" else f"{kind.value}s"
        self.notes.append(Assumption(node.name, f"{word}, shape {shape}", kind.source))
        return Input(name=node.name, shape=shape, kind=kind.value, high=most)

    def _output(self, node: FileNode, inputs: tuple[str, ...]) -> Node:
        shape = self.shapes[node.name]
        declared = declared_shape(node) if "shape" in node.params else shape
        if np.prod(declared) != np.prod(shape):
            raise FrontendError(f"has shape {declared}, but {shape} arrives", at=node.label)
        if declared != shape:
            self.notes.append(
                Assumption(node.name, f"shape {declared} is read as {shape}", IN_FILE)
            )
        graded = inputs[0] not in self._sending_spikes()
        chosen, usual = self.rules.at(node)["readout"], "membrane_last" if graded else "count"
        others = [n for n in self.flat.nodes.values() if n.kind == "Output" and n is not node]
        value = chosen.value or usual
        if value.startswith("membrane") != graded:
            if not others:
                what = "a graded value" if graded else "spikes"
                raise FrontendError(
                    f"the readout {value} does not read {what}",
                    at=node.label,
                    hint=f"readouts (--readout) that do: {', '.join(readouts_of(graded=graded))}",
                )
            chosen, value = Choice(usual, DEFAULT), usual  # the readout is for another output
        subject = f"readout of {node.name}" if others else "readout"
        self.notes.append(Assumption(subject, value, chosen.source))
        return Output(name=node.name, inputs=inputs, readout=value)

    def _sending_spikes(self) -> set[str]:
        """Nodes whose output is spikes or counts; the others send currents."""
        found: set[str] = set()
        for name, node in self.nodes.items():
            kind = self.flat.nodes[name].kind if name in self.flat.nodes else ""
            passes = kind in ("Flatten", "SumPool2d") and node.inputs[0] in found
            spiking = name in self.cells and self.cells[name].fires
            if (
                spiking
                or passes
                or kind == "Delay"
                or getattr(node, "kind", "") in ("spike", "count")
            ):
                found.add(name)
        return found

    def _note_cells(self) -> None:
        """One line for each neuron node, and one for each rule that some of them follow."""
        for name, cell in self.cells.items():
            self.notes.append(Assumption(name, cell.describe(), IN_FILE))
        firing = {name: cell.options for name, cell in self.cells.items() if cell.fires}
        for option, key, word in (
            ("reset", "reset", "reset"),
            ("timing", "reset_timing", "reset timing"),
            ("compare", "compare", "fires at"),
        ):
            self._note_rule(word, key, {name: str(o[option]) for name, o in firing.items()})
        leaky = {
            n: str(self.rules["integrator"].value)
            for n, c in self.cells.items()
            if "decay" in c.values and c.kind != "Threshold"
        }
        self._note_rule("integrator", "integrator", leaky)
        synapses = {
            n: str(c.options["synapse"]) for n, c in self.cells.items() if c.options["synapse"]
        }
        self._note_rule("current into the membrane", "synapse", synapses)
        self._note_gains()

    def _note_gains(self) -> None:
        """What r and w_in mean, where neurons have them; the lower clamp and the start."""
        gained = {n: c for n, c in self.cells.items() if c.kind != "Threshold"}
        for word, key, kinds in (
            ("r of leaky membranes", "r_scale", LEAKY), ("r of others", "r_scale", COUNTERS),
        ):  # fmt: skip
            means = {
                n: R_MEANS[self.rules.scale(c.kind), c.kind in COUNTERS]
                for n, c in gained.items()
                if c.kind in kinds
            }
            self._note_rule(word, key, means)
        spikes = W_IN_MEANS[self.rules["w_in_scale"].value]
        self._note_rule("w_in", "w_in_scale", {
            n: spikes for n, c in gained.items() if c.kind.startswith("Cuba")
        })  # fmt: skip
        floors = {
            n: f"at {span(c.values['v_min'])}" if "v_min" in c.values else "none"
            for n, c in gained.items()
            if c.fires
        }
        self._note_rule("lower clamp", "v_min", floors)
        single = {n: "at most 1" for n, c in gained.items() if c.fires and not c.several}
        self._note_rule("spikes a step", "max_spikes", single)
        starts = {n: span(c.start) for n, c in gained.items() if np.any(c.start)}
        self._note_rule("membranes start at", "v_start", starts)

    def _note_rule(self, word: str, key: str, values: Mapping[str, str]) -> None:
        by_value: dict[str, list[str]] = {}
        for name, value in values.items():
            by_value.setdefault(value, []).append(name)
        for value, names in by_value.items():
            who = f" ({', '.join(names)})" if len(by_value) > 1 else ""
            source = self.rules[key].source
            if key == "reset" and source == DEFAULT and value == "zero":
                who += "; a file cannot say subtract: give --reset subtract if it was trained so"
            if key == "integrator" and source == DEFAULT and value == "euler":
                who += self._beside_euler(names)
            self.notes.append(Assumption(word, value + who, source))

    def _beside_euler(self, names: list[str]) -> str:
        """How far the other discretization is, for who must choose between them."""
        lost = np.concatenate([1 - np.ravel(self.cells[n].values["decay"]) for n in names])
        return f"; decays of {span(1 - lost)}, which integrator=exact makes {span(np.exp(-lost))}"

    def _limit_counts(self, loops: set[str]) -> None:
        """Settle how many spikes each neuron may send, and what the delays carry."""
        highs: dict[str, Highs] = {}
        sends = self._sending_spikes()
        for name, node in self.nodes.items():
            if isinstance(node, Input):
                highs[name] = (
                    None if node.kind == "current" else np.full(node.shape, float(node.high))
                )
            elif isinstance(node, Delay):
                highs[name] = highs.get(node.inputs[0])
            elif name in self.cells:
                currents = [highs[i] for i in node.inputs]
                highs[name] = self._limited(name, currents, looped=name in loops)
            elif not isinstance(node, Output):
                graded = node.inputs[0] not in sends
                highs[name] = nir_counts.passed(node, highs[node.inputs[0]], graded=graded)
        for name, node in self.nodes.items():
            if isinstance(node, Delay):
                self.nodes[name] = self._carrying(node, highs)

    def _limited(self, name: str, currents: list[Highs], *, looped: bool) -> Highs:
        cell, node = self.cells[name], self.nodes[name]
        if not cell.fires or not isinstance(node, Neuron):
            return None
        if not cell.several:
            return np.ones(node.shape)
        bound = None if looped else nir_counts.spikes(cell, currents)
        given = self.rules.at(self.flat.nodes[name])["max_spikes"]
        most, cut = nir_counts.enough(bound)
        if given.value is not None:
            most, cut = int(given.value), bound is None or bound.max() > given.value
        if most > 1 or cut:
            self._note_most(name, most, bound, given, cut=cut)
        with located(self.flat.label(name)):
            model = cell.model(most)
        self.nodes[name] = replace(node, model=model, states=cell.states(model))
        return np.full(node.shape, float(most)) if bound is None else np.minimum(bound, most)

    def _note_most(self, name: str, most: int, bound: Highs, given: Choice, *, cut: bool) -> None:
        why = "no bound was found" if bound is None else f"the weights allow {int(bound.max())}"
        stays = self.cells[name].options["reset"] == "subtract"
        rest = "waits in the membrane" if stays else "is lost"
        end = f"; what exceeds them {rest}" if cut else ""
        source = given.source if given.value is not None else inferred(why)
        self.notes.append(
            Assumption(name, f"at most {most} spike{'s' * (most > 1)} a step{end}", source)
        )

    def _carrying(self, node: Delay, highs: Mapping[str, Highs]) -> Delay:
        source = self.nodes[node.inputs[0]]
        while isinstance(source, Delay):
            source = self.nodes[source.inputs[0]]
        bound = highs.get(source.name)
        high = 1 if bound is None else int(bound.max())
        if isinstance(source, Neuron):
            high = source.model.max_out
        return replace(node, kind="count" if high > 1 else "spike", high=high)
