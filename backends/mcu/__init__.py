"""Microcontrollers: firmware headers in integer C99, run here on the host and on emulated cores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qspinn.backend import Artifact, Tool
from qspinn.calibrate import Calibration
from qspinn.choice import Choices
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Node
from qspinn.memory import Device, Footprint
from qspinn.plan import Plan

from . import execute, toolchain
from .build import build
from .devices import DEVICES, GENERIC
from .emit import artifact
from .footprint import footprint
from .legalize import legalize
from .plan import node_plan
from .table import CAPABILITIES, EXECUTORS


class Mcu:
    """The target ``mcu``."""

    name = "mcu"
    capabilities = CAPABILITIES
    devices: Mapping[str, Device] = DEVICES
    default_device = GENERIC
    executors = EXECUTORS

    def plan(
        self, graph: Graph, node: Node, calibration: Calibration, given: Plan, choices: Choices
    ) -> Plan:
        """8-bit weights and 16-bit states unless chosen, with scales that suit the network."""
        return node_plan(graph, node, calibration, given, choices)

    def legalize(
        self,
        graph: Graph,
        *,
        start: str = "skewed",
        assume_activation: Mapping[str, int] | None = None,
    ) -> Graph:
        """The graph as it is: layers start together in any case, and sums are as wide as needed."""
        return legalize(graph)

    def footprint(self, graph: Graph, device: Device) -> Footprint:
        """Exact bytes of constants and state; stack and code as `footprint.footprint` says."""
        return footprint(build(graph), device)

    def emit(self, graph: Graph, device: Device, plan: Plan) -> Artifact:
        """Header, implementation, constants and a C file that holds them."""
        network = build(graph)
        return artifact(network, footprint(network, device), device, plan.options)

    def tools(self) -> tuple[Tool, ...]:
        """Compilers and emulators."""
        return toolchain.tools()

    def run(self, folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
        """Build the files in ``folder`` and run them; see `execute.run`."""
        return execute.run(folder, build(graph), data, executor)


BACKEND = Mcu()
