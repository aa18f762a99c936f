"""What a target is: a table plus four functions, found through an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qspinn.calibrate import Calibration
from qspinn.capabilities import Capabilities
from qspinn.choice import Choices
from qspinn.choosing import require_choices
from qspinn.cost import Activity, Cost
from qspinn.errors import BackendError, QspinnError
from qspinn.installing import Command
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Node
from qspinn.memory import Device, Footprint
from qspinn.plan import Entry, Plan
from qspinn.planning import in_graph_order


@dataclass(frozen=True)
class Artifact:
    """What a target emits: files by relative path, facts for the manifest, and what to tell."""

    target: str
    name: str
    files: Mapping[str, bytes]
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """One recorded input, by which an artifact can be tried where it will run.

    Attributes:
        data: Integers (steps, *input shape).
        origin: Where it comes from, for people.
        label: What the data say it is; None where nobody says.
    """

    data: Array
    origin: str
    label: int | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """An outside tool: what it is for, where it was found (empty if not), how to get it.

    Attributes:
        install: The commands that install it here; none where nobody knows them.
        notes: What it lacks, and what to know before it is installed.
    """

    name: str
    needed_for: str
    found: str
    hint: str
    install: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """One target family. All methods but `run` are pure."""

    name: str
    capabilities: Capabilities
    devices: Mapping[str, Device]
    default_device: str
    executors: tuple[str, ...]
    """The ways to run an artifact, the default first: ``host``, ``cortex-m4``, ``lava``..."""

    def plan(
        self, graph: Graph, node: Node, calibration: Calibration, given: Plan, choices: Choices
    ) -> Plan:
        """The part of a canonical float graph's plan that belongs to one node.

        Of a Neuron node its formats and scale, and the formats of the connections that feed it; of
        an Input node what is said of the input; of others nothing. It follows ``choices``, then
        the target's defaults, both in the light of what is ``given`` already, and depends on no
        choice of another layer's paths.
        """

    def legalize(
        self,
        graph: Graph,
        *,
        start: str = "skewed",
        assume_activation: Mapping[str, int] | None = None,
    ) -> Graph:
        """Rewrite an integer graph exactly, or raise LegalizeError with every reason.

        ``assume_activation``: observed peaks of summed inputs by neuron node, for targets whose
        input register is narrower than what interval analysis can prove.
        """

    def footprint(self, graph: Graph, device: Device, plan: Plan | None = None) -> Footprint:
        """The memory of a legalized graph; of the plan only the options count."""

    def cost(
        self, graph: Graph, device: Device, activity: Activity, plan: Plan | None = None
    ) -> Cost | None:
        """What an inference of a legalized graph takes, by a model; None: there is none.

        Of the plan only the options count.
        """

    def models(self, device: Device) -> bool:
        """Whether `cost` knows the device's core."""

    def emit(self, graph: Graph, device: Device, plan: Plan) -> Artifact:
        """The artifact of a legalized graph; writes nothing."""

    def tools(self) -> tuple[Tool, ...]:
        """The toolchains that `run` can use, found or not."""

    def run(self, folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
        """Build and run the emitted files in ``folder``, aligned to the reference's steps."""


@runtime_checkable
class Chooser(Protocol):
    """A target that has several kernels for some connections, all with the same results."""

    def kernels(
        self, graph: Graph, device: Device, activity: Activity, plan: Plan
    ) -> Mapping[str, str]:
        """Which suit a legalized graph that is so busy, as options that the plan does not have.

        None may outgrow the device, where its regions are the budget.
        """


@runtime_checkable
class Packager(Protocol):
    """A target whose artifact can test itself and go into the build systems of its users."""

    packages: tuple[str, ...]
    """The kinds of packages: ``cmake``, ``arduino``..."""

    def self_tested(
        self, artifact: Artifact, graph: Graph, device: Device, plan: Plan, sample: Sample
    ) -> Artifact:
        """What `emit` made of these, with a recorded sample and what the reference makes of it."""

    def package(
        self,
        artifact: Artifact,
        graph: Graph,
        device: Device,
        plan: Plan,
        manifest: Mapping[str, Any],
        kind: str,
    ) -> dict[str, bytes]:
        """The files of one kind of package, by path below the artifact's folder.

        Args:
            artifact: What `self_tested` returned.
            graph: The legalized graph.
            device: The part it was emitted for.
            plan: What it was emitted with.
            manifest: What the folder's manifest says, for its README.
            kind: One of ``packages``.
        """


def default_plan(
    backend: Backend,
    graph: Graph,
    calibration: Calibration,
    given: Plan | None = None,
    choices: Choices | None = None,
) -> Plan:
    """The target's plan for every path of a canonical float graph.

    Args:
        backend: The target.
        graph: The graph.
        calibration: What it does on data.
        given: What is settled already: the rest follows it.
        choices: What is asked beside the target's defaults.

    Raises:
        PlanError: A choice names something the graph has not, or the target cannot do.
    """
    given, choices = given or Plan({}), choices or {}
    require_choices(backend.capabilities, graph, choices)
    parts = [backend.plan(graph, node, calibration, given, choices) for node in graph.nodes]
    entries: dict[str, Entry] = {}
    for part in parts:
        entries.update(part.entries)
    return Plan(
        in_graph_order(entries, graph),
        {path: factor for part in parts for path, factor in part.scales.items()},
        {name: word for part in parts for name, word in part.options.items()},
        {path: kept for part in parts for path, kept in part.active.items()},
    )


def backends() -> dict[str, Backend]:
    """Every installed target by name.

    Raises:
        BackendError: A target does not load; the error names it.
    """
    found: dict[str, Backend] = {}
    for point in entry_points(group="qspinn.backends"):
        try:
            backend = point.load()
        except Exception as error:
            raise BackendError(f"the target {point.name} ({point.value}) fails: {error}") from error
        if not isinstance(backend, Backend):
            raise BackendError(f"{point.value} is no backend")
        if point.name in found:
            raise BackendError(f"two targets are called {point.name}")
        found[point.name] = backend
    return found


def backend(name: str) -> Backend:
    """The target called ``name``.

    Raises:
        BackendError: There is none.
    """
    known = backends()
    if name not in known:
        raise BackendError(f"no target {name!r}", hint=f"one of {', '.join(sorted(known))}")
    return known[name]


def device_of(
    backend: Backend, name: str | None, devices: Mapping[str, Device] | None = None
) -> Device:
    """A device of the target by name.

    Args:
        backend: The target.
        name: The device's; None: the target's default.
        devices: All there are; by default the target's own.

    Raises:
        QspinnError: The target has no such device.
    """
    known = backend.devices if devices is None else devices
    wanted = name or backend.default_device
    if wanted not in known:
        raise QspinnError(
            f"{backend.name} has no device {wanted!r}",
            hint=f"one of {', '.join(sorted(known))}; or describe it with --device-file",
        )
    return known[wanted]
