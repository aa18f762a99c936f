"""Candidates as integer graphs: each layer under each choice is quantized once, and shared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from qspinn.backend import Backend, Chooser
from qspinn.calibrate import Calibration
from qspinn.cost import Activity, Cost
from qspinn.encode import Encoder
from qspinn.errors import QspinnError
from qspinn.explore.knobs import choices_of
from qspinn.explore.schemes import Scheme
from qspinn.explore.space import Candidate, Space
from qspinn.ir import Array, Flatten, Graph, Input, Neuron, Node
from qspinn.memory import Device, Footprint
from qspinn.packing import digest
from qspinn.passes.quantize import input_of, quantize, quantize_node
from qspinn.pipeline import complete
from qspinn.plan import KERNEL, Plan
from qspinn.planning import connections_of

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Variant:
    """A candidate made concrete.

    Attributes:
        candidate: Which one.
        plan: Complete, but for derived entries.
        graph: Quantized; layers that two variants share are the same nodes.
        steps: Per sample.
        digest: Of what decides its outputs: the identity under which outcomes are kept.
        layers: The layers' digests in order; variants with a common prefix share work.
        trained: The float network that the plan was applied to; None: the library's own.
    """

    candidate: Candidate
    plan: Plan
    graph: Graph
    steps: int
    digest: str
    layers: tuple[str, ...] = ()
    trained: Graph | None = None


@dataclass(frozen=True, eq=False)
class _Fragment:
    """One layer under one choice: its part of the plan, and its nodes by name."""

    plan: Plan
    nodes: Mapping[str, Node]
    digest: str


class Library:
    """Every variant of one network for one target."""

    def __init__(
        self,
        graph: Graph,
        calibration: Calibration,
        encoder: Encoder,
        backend: Backend,
        device: Device,
        space: Space,
        schemes: Mapping[str, Scheme],
        given: Plan | None = None,
    ) -> None:
        self.graph, self.calibration, self.encoder = graph, calibration, encoder
        self.backend, self.device, self.space = backend, device, space
        self.schemes, self.given = schemes, given or Plan({})
        self._fragments: dict[tuple[str, ...], _Fragment | QspinnError] = {}
        self._variants: dict[Candidate, Variant | QspinnError] = {}
        self._footprints: dict[str, Footprint | QspinnError] = {}

    def variant(self, candidate: Candidate) -> Variant:
        """The candidate's graph.

        Raises:
            QspinnError: A value does not fit its format, or the plan is impossible.
        """
        if candidate not in self._variants:
            self._variants[candidate] = _caught(lambda: self._variant(candidate))
        return _raised(self._variants[candidate])

    def footprint(self, candidate: Candidate) -> Footprint:
        """The memory of the candidate on the device.

        Raises:
            QspinnError: There is no such variant, or the target refuses it.
        """
        variant = self.variant(candidate)
        if variant.digest not in self._footprints:
            self._footprints[variant.digest] = _caught(lambda: self._footprint(variant))
        return _raised(self._footprints[variant.digest])

    def cost(self, candidate: Candidate, activity: Activity) -> Cost | None:
        """What an inference of the candidate takes; None: the target has no model of that.

        Raises:
            QspinnError: There is no such variant, or the target refuses it.
        """
        variant = self.variant(candidate)
        final = self.backend.legalize(variant.graph, assume_activation=variant.plan.assumed)
        plan = variant.plan
        if isinstance(self.backend, Chooser):
            kernels = self.backend.kernels(final, self.device, activity, plan)
            plan = replace(plan, options={**plan.options, **kernels})
        return self.backend.cost(final, self.device, activity, plan)

    @cached_property
    def counts_instructions(self) -> bool:
        """Whether the target models the instructions of the device's core."""
        return self.backend.models(self.device)

    def _footprint(self, variant: Variant) -> Footprint:
        final = self.backend.legalize(variant.graph, assume_activation=variant.plan.assumed)
        return self.backend.footprint(final, self.device, variant.plan)

    def _variant(self, candidate: Candidate) -> Variant:
        words = self.space.words(candidate)
        encoder = self._encoder(words)
        parts = [self._fragment(layer, words) for layer in self._layers]
        plan = _joined([part.plan for part in parts])
        kernels = {k: v for k, v in self.given.options.items() if k.startswith(KERNEL)}
        plan = replace(plan, options={**kernels, **plan.options, **encoder.options()})
        scheme = self.schemes[words.get("scheme", "ptq")]
        graph, fitted = scheme.fit(self.graph, plan)
        if graph is self.graph and fitted is plan:
            nodes = {name: node for part in parts for name, node in part.nodes.items()}
            made = graph.map(lambda node: nodes.get(node.name, node))
            layers = tuple(part.digest for part in parts)
            code = _hash(self._rest, *layers, str(encoder.steps))
            return Variant(candidate, plan, made, encoder.steps, code, layers)
        made = quantize(graph, fitted)
        code = _hash(made.digest, str(encoder.steps))
        return Variant(candidate, fitted, made, encoder.steps, code, trained=graph)

    def _encoder(self, words: Mapping[str, str]) -> Encoder:
        if "steps" not in words:
            return self.encoder
        return replace(self.encoder, steps=int(words["steps"]))

    def _fragment(self, layer: Node, words: Mapping[str, str]) -> _Fragment:
        owned = self._owned[layer.name]
        key = (layer.name, *(words[name] for name in owned))
        if key not in self._fragments:
            self._fragments[key] = _caught(lambda: self._make(layer, words))
        return _raised(self._fragments[key])

    def _make(self, layer: Node, words: Mapping[str, str]) -> _Fragment:
        chosen = choices_of({name: words[name] for name in self._owned[layer.name]})
        default = self.backend.plan(self.graph, layer, self.calibration, self.given, chosen)
        plan = complete(_of_layer(self.given, layer, default), default)
        options = {**self.encoder.options(), **plan.options}
        context = replace(plan, options=options, active=self._active(layer, words, plan))
        own = (layer, *self._feeding(layer))
        nodes = {node.name: quantize_node(self.graph, node, context) for node in own}
        return _Fragment(plan, nodes, digest(tuple(nodes.values())))

    def _active(self, layer: Node, words: Mapping[str, str], plan: Plan) -> Mapping[str, Array]:
        """The inputs kept, for the layers that read them."""
        if not self._reads_input(layer):
            return plan.active
        inputs = (self._fragment(node, words) for node in self.graph.of_type(Input))
        return {path: kept for found in inputs for path, kept in found.plan.active.items()}

    def _feeding(self, layer: Node) -> tuple[Node, ...]:
        return connections_of(self.graph, layer) if isinstance(layer, Neuron) else ()

    @cached_property
    def _layers(self) -> tuple[Node, ...]:
        """What has a fragment: inputs, and neuron nodes with what feeds them."""
        return tuple(node for node in self.graph.nodes if isinstance(node, Input | Neuron))

    @cached_property
    def _owned(self) -> dict[str, tuple[str, ...]]:
        """The names of the knobs that decide each layer's fragment."""
        return {
            layer.name: tuple(
                knob.name
                for knob in self.space.knobs
                if (knob.layer and knob.layer == layer.path)
                or (knob.kind == "input" and self._sees_input(layer))
            )
            for layer in self._layers
        }

    def _sees_input(self, layer: Node) -> bool:
        return isinstance(layer, Input) or self._reads_input(layer)

    def _reads_input(self, layer: Node) -> bool:
        for connection in self._feeding(layer):
            node = self.graph[connection.inputs[0]]
            while isinstance(node, Flatten):
                node = self.graph[node.inputs[0]]
            if isinstance(node, Input):
                return True
        return False

    @cached_property
    def _rest(self) -> str:
        """The digest of the nodes that no plan changes."""
        changed = {node.name for layer in self._layers for node in (layer, *self._feeding(layer))}
        rest = tuple(node for node in self.graph.nodes if node.name not in changed)
        return digest(replace(self.graph, name="", nodes=rest))


def _of_layer(given: Plan, layer: Node, default: Plan) -> Plan:
    """What a plan says of the paths of one layer."""
    owners = {path.rpartition(".")[0] for path in default.entries} | set(default.scales)
    own = {*default.entries, *([input_of(layer)] if isinstance(layer, Neuron) else [])}
    return replace(
        given,
        entries={p: e for p, e in given.entries.items() if p in own},
        scales={node: factors for node, factors in given.scales.items() if node in owners},
        options={k: v for k, v in given.options.items() if k in default.options},
        active={path: kept for path, kept in given.active.items() if path == layer.path},
    )


def _joined(plans: list[Plan]) -> Plan:
    """One plan of the fragments of different layers."""
    whole = Plan({})
    for plan in plans:
        whole = complete(plan, whole)
    return whole


def _hash(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _caught(make: Callable[[], T]) -> T | QspinnError:
    try:
        return make()
    except QspinnError as error:
        return error


def _raised(found: T | QspinnError) -> T:
    if isinstance(found, QspinnError):
        # Raised anew, its trace would grow by every frame that asked before.
        raise found.with_traceback(None)
    return found
