"""Microcontrollers: firmware headers in integer C99, run here on the host and on emulated cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qspinn.backend import Artifact, Sample, Tool
from qspinn.bench import CodeSize, Count
from qspinn.calibrate import Calibration
from qspinn.choice import Choices
from qspinn.cost import Activity, Cost
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Node
from qspinn.memory import Device, Footprint
from qspinn.plan import Plan

from . import avr, bench, execute, linking, rp2040, toolchain
from .build import build
from .builds import made_for_eight
from .choosing import ways
from .costmodel import cost, isa_of
from .devices import DEVICES, GENERIC
from .eight import is_eight
from .emit import artifact
from .footprint import footprint
from .gathering import asked, gather_in
from .intake import NATURAL, form_in, form_of
from .joining import joined, named, together
from .legalize import legalize
from .network import Network
from .packages import KINDS, package, self_tested
from .plan import node_plan
from .sops import worst_sops
from .table import CAPABILITIES, EXECUTORS


class Mcu:
    """The target ``mcu``."""

    name = "mcu"
    packages = KINDS
    capabilities = CAPABILITIES
    devices: Mapping[str, Device] = DEVICES
    default_device = GENERIC
    executors = EXECUTORS
    cores = bench.COUNTED

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

    def footprint(self, graph: Graph, device: Device, plan: Plan | None = None) -> Footprint:
        """Exact bytes of constants and state; stack and code as `footprint.footprint` says."""
        return footprint(_network(graph, device, plan), device)

    def cost(
        self, graph: Graph, device: Device, activity: Activity, plan: Plan | None = None
    ) -> Cost | None:
        """Instructions by a model of the device's core; None: it was not measured."""
        return cost(_network(graph, device, plan), device, together(graph, activity))

    def kernels(
        self, graph: Graph, device: Device, activity: Activity, plan: Plan
    ) -> dict[str, str]:
        """What convolutions do that the plan says nothing of: see `choosing.ways`."""
        return ways(joined(graph), device, together(graph, activity), plan.options)

    def models(self, device: Device) -> bool:
        """Whether its core was measured, or one that runs the same code."""
        return bool(isa_of(device.core))

    def emit(self, graph: Graph, device: Device, plan: Plan) -> Artifact:
        """Header, implementation, constants and a C file that holds them."""
        network = _network(graph, device, plan)
        network = replace(network, worst_sops=worst_sops(joined(graph)))
        return artifact(network, footprint(network, device), device, plan.options)

    def self_tested(
        self, artifact: Artifact, graph: Graph, device: Device, plan: Plan, sample: Sample
    ) -> Artifact:
        """The artifact with ``<name>_selftest.h``; see `packages.self_tested`."""
        return self_tested(artifact, _network(graph, device, plan), joined(graph), sample)

    def package(
        self,
        artifact: Artifact,
        graph: Graph,
        device: Device,
        plan: Plan,
        manifest: Mapping[str, Any],
        kind: str,
    ) -> dict[str, bytes]:
        """The files in the layout of a build system; see `packages.package`."""
        return package(artifact, _network(graph, device, plan), manifest, kind)

    def tools(self) -> tuple[Tool, ...]:
        """Compilers and emulators."""
        return (*toolchain.tools(), *avr.tools(), *rp2040.tools())

    def run(self, folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
        """Build the files in ``folder`` and run them; see `execute.run`."""
        return execute.run(folder, _found(folder, graph), data, executor)

    def count(
        self, folder: Path, graph: Graph, data: Array, core: str, compiler: str | None
    ) -> Count:
        """Count the instructions of the files in ``folder``; see `bench.count`."""
        return bench.count(folder, _found(folder, graph), data, core, compiler)

    def code_size(self, folder: Path, graph: Graph, device: Device) -> CodeSize | None:
        """Compile the files in ``folder`` for a device; see `linking.code_size`."""
        return linking.code_size(folder, _found(folder, graph), device)


def _network(graph: Graph, device: Device, plan: Plan | None) -> Network:
    """What is emitted for a graph, and what its self-test and packages are of."""
    one = joined(graph)
    if plan is None:
        network = build(one, NATURAL, is_eight(device))
    else:
        form = form_of(plan.options, one.input)
        network = build(one, form, is_eight(device), asked(plan.options, one))
    return replace(network, inputs=named(graph))


def _found(folder: Path, graph: Graph) -> Network:
    """What the files in a folder were emitted from."""
    graph = joined(graph)
    eight = made_for_eight(folder, graph)
    return build(graph, form_in(folder, graph), eight, gather_in(folder, graph))


BACKEND = Mcu()
