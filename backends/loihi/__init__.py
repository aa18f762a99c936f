"""Loihi 2, as Lava's fixed-point processes define it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qspinn.backend import Artifact, Tool
from qspinn.calibrate import Calibration
from qspinn.choice import Choices
from qspinn.cost import Activity, Cost
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Node
from qspinn.memory import Device, Footprint
from qspinn.plan import Plan

from . import execute, interpreters
from .chips import DEVICES
from .emit import emit
from .footprint import footprint
from .legalize import legalize
from .plan import node_plan
from .table import CAPABILITIES


class Loihi:
    """The target ``loihi``."""

    name = "loihi"
    capabilities = CAPABILITIES
    devices: Mapping[str, Device] = DEVICES
    default_device = "loihi2"
    executors = execute.EXECUTORS

    def plan(
        self, graph: Graph, node: Node, calibration: Calibration, given: Plan, choices: Choices
    ) -> Plan:
        """Loihi's formats, with scales and exponents that suit the network."""
        return node_plan(graph, node, calibration, given, choices)

    def legalize(
        self,
        graph: Graph,
        *,
        start: str = "skewed",
        assume_activation: Mapping[str, int] | None = None,
    ) -> Graph:
        """The graph in the shape of Lava's processes, exactly; see `legalize.legalize`."""
        return legalize(graph, start=start, assume_activation=assume_activation)

    def footprint(self, graph: Graph, device: Device, plan: Plan | None = None) -> Footprint:
        """Synaptic memory, state and cores; see `footprint.footprint`."""
        return footprint(graph, device)

    def cost(
        self, graph: Graph, device: Device, activity: Activity, plan: Plan | None = None
    ) -> Cost | None:
        """None: what runs on Loihi are no instructions."""
        return None

    def models(self, device: Device) -> bool:
        """No."""
        return False

    def emit(self, graph: Graph, device: Device, plan: Plan) -> Artifact:
        """A Lava package."""
        return emit(graph, device, plan)

    def tools(self) -> tuple[Tool, ...]:
        """The interpreters that can run Lava."""
        return interpreters.tools()

    def run(self, folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
        """Run the package in Lava's fixed-point simulator."""
        return execute.run(folder, graph, data, executor)


BACKEND = Loihi()
