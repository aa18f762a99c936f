"""What an inference costs on a core: instructions that were counted, by stage and by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from qspinn.backend import Backend
from qspinn.engine.sweep import sweep
from qspinn.errors import QspinnError
from qspinn.fixed import IntArray
from qspinn.ir import CONNECTIONS, Array, Graph, Neuron
from qspinn.memory import Device
from qspinn.ports import parts


@dataclass(frozen=True, slots=True)
class StageCount:
    """A function of a step.

    Attributes:
        name: The function.
        layer: The node it was made for; empty where it serves all.
        what: What it does, in words.
        instructions: In an inference, on average.
        cycles: Modelled, in an inference; None where the core has no model.
    """

    name: str
    layer: str
    what: str
    instructions: float
    cycles: float | None


@dataclass(frozen=True, eq=False)
class Count:
    """What a target counted on a core.

    Attributes:
        core: The core.
        compiler: Which one made the code, and its version.
        stages: The functions of a step, in its order.
        once: Those that run once a sample, before and after its steps.
        samples: The instructions of all steps of each sample, (samples,).
        cycles: The same in modelled cycles; None where the core has no model.
        stack: The deepest stack of a call, in bytes.
        notes: What is not counted, or not modelled.
    """

    core: str
    compiler: str
    stages: tuple[StageCount, ...]
    once: tuple[StageCount, ...]
    samples: IntArray
    cycles: IntArray | None
    stack: int
    notes: tuple[str, ...] = ()


@runtime_checkable
class Counting(Protocol):
    """What a target offers beside `Backend` if it can count."""

    cores: tuple[str, ...]
    """The cores that it counts on."""

    def count(
        self, folder: Path, graph: Graph, data: Array, core: str, compiler: str | None
    ) -> Count:
        """Run the emitted files in ``folder`` on a core and count.

        ``core`` may be a name's usual short form; ``compiler`` None is the target's choice.
        """


@dataclass(frozen=True, slots=True)
class CodeSize:
    """The bytes of code that a compiler made of an artifact; the compiler with its version."""

    compiler: str
    bytes: int


@runtime_checkable
class Sizing(Protocol):
    """What a target offers beside `Backend` if it can compile what it emits."""

    def code_size(self, folder: Path, graph: Graph, device: Device) -> CodeSize | None:
        """Compile the emitted files in ``folder``; None: no compiler for the core is here."""


@dataclass(frozen=True, slots=True)
class LayerWork:
    """What a layer had to do in an inference, on average.

    Attributes:
        name: The node: the input, or a layer of neurons.
        spikes: Events that it sent.
        operations: Weights that were added for events that reached it.
    """

    name: str
    spikes: float
    operations: float


@dataclass(frozen=True, eq=False)
class Bench:
    """The cost of an inference on one core.

    Attributes:
        count: What was counted.
        layers: What the layers had to do.
        steps: Of a sample.
        hertz: The clock of the device, where this is its core and the clock is known; else 0.
    """

    count: Count
    layers: tuple[LayerWork, ...]
    steps: int
    hertz: int = 0

    @property
    def instructions(self) -> float:
        """Of the steps of an inference, on average."""
        return float(self.count.samples.mean())

    @property
    def cycles(self) -> float | None:
        """The same in modelled cycles."""
        return None if self.count.cycles is None else float(self.count.cycles.mean())

    @property
    def operations(self) -> float:
        """Weights added in an inference, on average."""
        return sum(layer.operations for layer in self.layers)

    @property
    def seconds(self) -> float | None:
        """The modelled time of an inference, where the clock is known."""
        return self.cycles / self.hertz if self.cycles is not None and self.hertz else None

    def of_layer(self, name: str) -> float:
        """The instructions of a layer's stages."""
        return sum(stage.instructions for stage in self.count.stages if stage.layer == name)


def counting(backend: Backend) -> Counting:
    """The target as one that counts.

    Raises:
        QspinnError: It does not.
    """
    if not isinstance(backend, Counting):
        raise QspinnError(
            f"{backend.name} counts no instructions", hint="of the targets, mcu does: --target mcu"
        )
    return backend


def work(graph: Graph, data: Array) -> tuple[LayerWork, ...]:
    """Events and operations of the inputs and of each layer, for an inference on average."""
    (tally,) = sweep([graph], data, operations=True)
    added = {node.name: 0 for node in graph.of_type(Neuron)}
    for name, operations in tally.operations.items():
        reader = reader_of(graph, name)
        added[reader] = added.get(reader, 0) + operations
    samples = len(data)
    layers = [
        LayerWork(name, tally.spikes.get(name, 0) / samples, count / samples)
        for name, count in added.items()
    ]
    entered = (
        LayerWork(name, np.count_nonzero(part) / samples, 0.0)
        for name, part in parts(graph, data).items()
    )
    return (*entered, *layers)


def reader_of(graph: Graph, name: str) -> str:
    """The layer of neurons that a connection's sums reach; its own name where they reach none."""
    for node in _downstream(graph, name):
        if isinstance(node, Neuron):
            return node.name
    return name


def _downstream(graph: Graph, name: str) -> Iterator[Any]:
    waiting, seen = list(graph.users(name)), {name}
    while waiting:
        node = waiting.pop(0)
        if node.name in seen:
            continue
        seen.add(node.name)
        yield node
        if not isinstance(node, CONNECTIONS):
            waiting += graph.users(node.name)


def as_json(name: str, device: str, benches: Mapping[str, Bench]) -> dict[str, Any]:
    """What the tables say, for machines; counts are of an inference, on average."""
    return {
        "name": name,
        "device": device,
        "cores": {core: _bench(bench) for core, bench in benches.items()},
    }


def _bench(bench: Bench) -> dict[str, Any]:
    count = bench.count
    return {
        "compiler": count.compiler,
        "samples": len(count.samples),
        "steps": bench.steps,
        "instructions": bench.instructions,
        "instructions_min": int(count.samples.min()),
        "instructions_max": int(count.samples.max()),
        "cycles": bench.cycles,
        "hertz": bench.hertz or None,
        "seconds": bench.seconds,
        "operations": bench.operations,
        "stack": count.stack,
        "stages": [_stage(stage) for stage in count.stages],
        "once": [_stage(stage) for stage in count.once],
        "layers": [
            {
                "name": layer.name,
                "spikes": layer.spikes,
                "operations": layer.operations,
                "instructions": bench.of_layer(layer.name),
            }
            for layer in bench.layers
        ],
        "notes": list(count.notes),
    }


def _stage(stage: StageCount) -> dict[str, Any]:
    return {
        "name": stage.name,
        "layer": stage.layer,
        "what": stage.what,
        "instructions": stage.instructions,
        "cycles": stage.cycles,
    }
