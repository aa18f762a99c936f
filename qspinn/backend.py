"""What a target is: a table plus four functions, found through an entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from qspinn.calibrate import Calibration
from qspinn.capabilities import Capabilities
from qspinn.errors import BackendError, QspinnError
from qspinn.interp import Trace
from qspinn.ir import Array, Graph
from qspinn.memory import Device, Footprint
from qspinn.plan import Plan


@dataclass(frozen=True)
class Artifact:
    """What a target emits: files by relative path, and facts for the manifest."""

    target: str
    name: str
    files: Mapping[str, bytes]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """An outside tool: what it is for, where it was found (empty if not), how to get it."""

    name: str
    needed_for: str
    found: str
    hint: str


@runtime_checkable
class Backend(Protocol):
    """One target family. All methods but `run` are pure."""

    name: str
    capabilities: Capabilities
    devices: Mapping[str, Device]
    default_device: str
    executors: tuple[str, ...]
    """The ways to run an artifact, the default first: ``host``, ``cortex-m4``, ``lava``..."""

    def plan(self, graph: Graph, calibration: Calibration, given: Plan) -> Plan:
        """Default formats for every path of a canonical float graph, following what is given."""

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

    def footprint(self, graph: Graph, device: Device) -> Footprint:
        """The memory of a legalized graph."""

    def emit(self, graph: Graph, device: Device, plan: Plan) -> Artifact:
        """The artifact of a legalized graph; writes nothing."""

    def tools(self) -> tuple[Tool, ...]:
        """The toolchains that `run` can use, found or not."""

    def run(self, folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
        """Build and run the emitted files in ``folder``, aligned to the reference's steps."""


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


def device_of(backend: Backend, name: str | None) -> Device:
    """A device of the target by name.

    Raises:
        QspinnError: The target has no such device.
    """
    wanted = name or backend.default_device
    if wanted not in backend.devices:
        raise QspinnError(
            f"{backend.name} has no device {wanted!r}",
            hint=f"one of {', '.join(sorted(backend.devices))}",
        )
    return backend.devices[wanted]
