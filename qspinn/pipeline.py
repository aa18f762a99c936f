"""From a float graph to an artifact: the passes in one visible list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from qspinn.backend import Artifact, Backend
from qspinn.cost import Activity, Cost
from qspinn.encode import Encoder, encode
from qspinn.errors import FrontendError, during
from qspinn.fixed import Overflow, to_int
from qspinn.ir import Array, Graph, Input
from qspinn.lowering import programs
from qspinn.memory import Device, Footprint, float_bytes
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import notes, quantize
from qspinn.plan import Entry, Plan
from qspinn.planning import derived
from qspinn.ports import parts, together
from qspinn.verify import verify

Pass = Callable[[Graph], Graph]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Lowered:
    """A network on its way to a target.

    Attributes:
        canonical: The float graph that plans name.
        plan: Complete, with derived entries.
        quantized: The canonical graph in integers: the reference for accuracy.
        final: The graph the target legalized: the reference for the artifact.
    """

    canonical: Graph
    plan: Plan
    quantized: Graph
    final: Graph


@dataclass(frozen=True)
class Compiled:
    """A network and everything that was made of it for one device.

    Attributes:
        lowered: The network.
        device: The device.
        footprint: What it occupies there.
        baseline: The same network in float32.
        listening: That without the inputs that the plan drops; None: it drops none.
        artifact: What the target emitted.
        cost: What an inference takes, by a model; None: the target has none.
    """

    lowered: Lowered
    device: Device
    footprint: Footprint
    baseline: int
    listening: int | None
    artifact: Artifact
    cost: Cost | None = None


def lower(graph: Graph, plan: Plan, backend: Backend, *, start: str = "skewed") -> Lowered:
    """Quantize a canonical graph under a plan and make it what the target can run.

    Raises:
        QspinnError: A pass refuses; the error names the pass, the node and the quantity.
    """
    lowering: list[tuple[str, Pass]] = [
        ("quantize", partial(quantize, plan=plan)),  # all approximation happens here
        (
            "legalize",
            partial(  # exact, or refuses
                backend.legalize, start=start, assume_activation=plan.assumed
            ),
        ),
    ]
    stages = [graph]
    for name, step in lowering:
        with during(name):
            stages.append(verify(step(stages[-1])))
    _, quantized, final = stages
    with during("interval analysis"):
        proved = derived(quantized, programs(quantized))
    noted = plan.with_notes(notes(graph, plan)).with_entries(proved)
    return Lowered(graph, noted, quantized, final)


def canonical(graph: Graph) -> Graph:
    """The canonical form of an imported float graph, verified."""
    if graph.is_integer:
        raise FrontendError(
            "is quantized already", at=graph.name, hint="compile the model it was made from"
        )
    with during("canonicalize"):
        return verify(canonicalize(verify(graph)))


def build(lowered: Lowered, backend: Backend, device: Device) -> Compiled:
    """Emit the artifact and account for its memory."""
    with during("emit"):
        artifact = backend.emit(lowered.final, device, lowered.plan)
        footprint = backend.footprint(lowered.final, device, lowered.plan)
        activity = Activity.of(lowered.plan.options)
        cost = backend.cost(lowered.final, device, activity, lowered.plan)
    graph, active = lowered.canonical, lowered.plan.active
    listening = float_bytes(graph, active) if active else None
    return Compiled(lowered, device, footprint, float_bytes(graph), listening, artifact, cost)


def feed(graph: Graph, x: Array, encoder: Encoder, samples: Array) -> Array:
    """Encode samples for a graph: integers for an integer graph, real numbers for a float one.

    Args:
        graph: The graph whose inputs are fed.
        x: Samples as `Dataset.samples` returns them.
        encoder: How they become input.
        samples: Their indices in the data file, which key the random draws.

    Raises:
        FrontendError: The data do not fit the input.
    """
    received = parts(graph, encode(x, encoder, samples))
    return together(
        graph, {node.name: _fed(node, received[node.name]) for node in graph.of_type(Input)}
    )


def _fed(node: Input, data: Array) -> Array:
    """What an input receives, of its kind and format."""
    if node.kind == "current":
        if node.fmt is None:
            return np.asarray(data, np.float64)
        return to_int(np.asarray(data, np.float64), node.fmt, overflow=Overflow.SATURATE)
    broken = data.dtype.kind == "f" and bool((data % 1 != 0).any())
    if data.size and (broken or data.min() < 0 or data.max() > node.high):
        raise FrontendError(
            f"the data run from {data.min()} to {data.max()}, the input takes 0 to {node.high}",
            at=node.name,
            hint="values become spikes with --encode rate, phase or latency, or enter with direct",
        )
    return data.astype(np.int64)


def complete(given: Plan, default: Plan) -> Plan:
    """A plan that may name a few paths only, filled up from the target's default."""
    entries: dict[str, Entry] = {
        path: entry for path, entry in given.entries.items() if entry.role != "derived"
    }
    scales = {**default.scales, **given.scales}
    options = {**default.options, **given.options}
    active = {**default.active, **given.active}
    return Plan({**default.entries, **entries}, scales, options, active)
