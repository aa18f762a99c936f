"""The fast simulator: an integer graph on a whole data set, bit for bit as the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np

from qspinn.engine.events import Events
from qspinn.engine.layout import spanned
from qspinn.engine.machine import Machine, Network
from qspinn.errors import QspinnError
from qspinn.fixed import Interval
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Input, Neuron, Output
from qspinn.ports import entering, places
from qspinn.readout import Summary
from qspinn.signals import Signal
from qspinn.verify import verify

__all__ = ["Events", "Result", "simulate"]

RECORDS = ("summary", "outputs", "trace")
ENGINES = ("auto", "numba", "numpy")
_BLOCK = 1 << 26
"""Bytes of edges that one sample's block may need; longer runs are cut into several blocks."""

Progress = Callable[[int], None]
Watch = Callable[[Machine], None]


@dataclass(frozen=True, eq=False)
class Result:
    """What a simulation returns.

    Attributes:
        summary: What readouts need of each sample (see `qspinn.readout`), at the output that
            decides: the first.
        trace: The output edges with ``record="outputs"``; the states too with ``"trace"``.
    """

    summary: Summary
    trace: Trace | None


def simulate(
    graph: Graph,
    data: Array | Events,
    *,
    threads: int | None = None,
    record: str = "summary",
    engine: str = "auto",
    progress: Progress | None = None,
) -> Result:
    """Run an integer graph on every sample of ``data``.

    The results do not depend on ``threads`` or ``engine``: each is equal to `qspinn.interp.run`.

    Args:
        graph: An integer graph.
        data: Integers (samples, steps, *input shape), or event lists; of several inputs as
            `qspinn.ports` joins them.
        threads: How many to use; None: one for each core this process may use.
        record: ``summary`` alone, or in addition the ``outputs`` in every step, or the whole
            ``trace`` with every state.
        engine: ``numba``, ``numpy``, or ``auto``: numba where it is installed.
        progress: Called with the number of samples just finished, from one thread at a time.

    Raises:
        QspinnError: The graph is not integer, or the data do not fit its input.
    """
    _choose(record, RECORDS, "record")
    require_integer(graph)
    network = _network(graph, engine_of(engine))
    job = _Job(network, checked(inputs_of(graph, network.signals), data), record)
    job.run(threads or cores(), progress)
    return job.result()


def require_integer(graph: Graph) -> None:
    """Refuse a float graph.

    Raises:
        QspinnError: It is one.
    """
    if not graph.is_integer:
        raise QspinnError(f"{graph.name} is not quantized; interp.run interprets float graphs")


def watched(
    graph: Graph, data: Array | Events, threads: int, engine: str, steps: int, watch: Watch
) -> Summary:
    """The summary of the first ``steps`` steps; ``watch`` sees every block, one at a time."""
    network = _network(graph, engine)
    job = _Job(network, data, "summary", steps, watch)
    job.run(threads, None)
    return job.result().summary


def _choose(value: str, allowed: tuple[str, ...], what: str) -> None:
    if value not in allowed:
        raise QspinnError(f"{what} is one of {', '.join(allowed)}, not {value!r}")


def engine_of(engine: str) -> str:
    """``numba`` or ``numpy``.

    Raises:
        QspinnError: The engine is unknown, or not installed.
    """
    _choose(engine, ENGINES, "engine")
    installed = find_spec("numba") is not None
    if engine == "numba" and not installed:
        raise QspinnError("numba is not installed", hint="pip install 'qspinn[fast]'")
    return engine if engine != "auto" else "numba" if installed else "numpy"


@lru_cache(maxsize=16)
def _network(graph: Graph, engine: str) -> Network:
    verify(graph)  # compiled loops rely on shapes that fit
    if engine == "numba":
        from qspinn.engine import fast

        return fast.network(graph)
    from qspinn.engine import plain

    return plain.network(graph)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Inputs = tuple[tuple[Input, Interval], ...]


def inputs_of(graph: Graph, known: Mapping[str, Signal]) -> Inputs:
    """The inputs of an integer graph, and what each may receive."""
    spans = ((node, known[node.name].interval) for node in graph.of_type(Input))
    return tuple((node, span) for node, span in spans if span is not None)


def checked(inputs: Inputs, data: Array | Events) -> Array | Events:
    """The data, if they fit the inputs of an integer graph."""
    nodes = tuple(node for node, _ in inputs)
    wanted, who = entering(nodes), " and ".join(node.name for node in nodes)
    shape = (len(data), data.steps, *data.shape) if isinstance(data, Events) else data.shape
    if len(shape) < 2 or shape[2:] != wanted or shape[1] < 1:
        raise QspinnError(f"data of shape {shape} are not (samples, steps, *{wanted})", at=who)
    values = data.values if isinstance(data, Events) else data
    if values is not None and values.dtype.kind not in "biu":
        raise QspinnError(f"an integer graph takes integers, not {values.dtype}", at=who)
    for (node, span), (_, place) in zip(inputs, places(nodes), strict=True):
        seen = _seen(data, place if len(nodes) > 1 else None)
        if (seen | Interval(0, 0) if isinstance(data, Events) else seen) not in span:
            raise QspinnError(f"data run from {seen.lo} to {seen.hi}, outside {span}", at=node.name)
    return data


def _seen(data: Array | Events, place: slice | None) -> Interval:
    """The values at some elements, or at all."""
    if isinstance(data, Events):
        if data.values is None:
            return Interval(0, 1)
        here = slice(None)
        if place is not None:
            here = (data.index >= place.start) & (data.index < place.stop)
        values = data.values[here]
        return spanned(values) if values.size else Interval(0, 0)
    part = data if place is None else data[..., place]
    return spanned(part) if part.size else Interval(0, 0)


def is_constant(data: Array | Events) -> bool:
    """Whether every sample brings the same in every step; stops at the first that does not."""
    if isinstance(data, Events):
        return data.constant
    return all((sample == sample[:1]).all() for sample in data)


def input_names(graph: Graph) -> frozenset[str]:
    """The names of the inputs."""
    return frozenset(node.name for node in graph.of_type(Input))


def add_summary(
    machine: Machine, readout: str, membrane: str | None, steps: int, into: Sequence[Array]
) -> None:
    """Add a block to what readouts need, from the edges that the machine holds.

    Args:
        machine: After a block.
        readout: The output node.
        membrane: The state that is its potential, which the machine keeps; None: what is sent.
        steps: Of the whole run.
        into: Counts, first spike, last and highest potential of the samples of the machine.
    """
    network = machine.network
    sent = machine.elements(readout, machine.cube(machine.dense(readout)))
    graded = network.signals[readout].kind == "current"
    potential = sent if graded else np.zeros_like(sent)
    if membrane:
        potential = machine.elements(membrane.rpartition(".")[0], machine.traces[membrane])
    network.summarize(sent, potential, machine.time, steps, *into)


class _Job:
    """One simulation: where its results go, and the chunks it is done in."""

    def __init__(
        self, network: Network, data: Array | Events, record: str, steps: int | None = None,
        watch: Watch | None = None,
    ) -> None:  # fmt: skip
        self.network, self.data, self.watch = network, data, watch
        self.samples = len(data)
        self.steps = steps or (data.steps if isinstance(data, Events) else data.shape[1])
        self.constant = input_names(network.graph) if is_constant(data) else frozenset[str]()
        outputs = [node.name for node in network.graph.of_type(Output)]
        self.readout = network.graph.output.name
        self.membrane = network.membrane
        alone = record == "summary" and watch is None
        self.summed = network.summed if alone else ""
        self.outputs = {name: self.room(name) for name in outputs if record != "summary"}
        self.states = {
            name: self.room(name.rpartition(".")[0]) for name in network.start if record == "trace"
        }
        kept = network.graph.of_type(Neuron) if record == "trace" else ()
        self.keep = frozenset(node.name for node in kept)
        if self.membrane and not self.summed:
            self.keep |= {self.membrane.rpartition(".")[0]}
        self.summary = self.blank()

    def room(self, name: str) -> Array:
        """Space for the elements of an edge in every step."""
        return np.empty((self.samples, self.steps, self.network.ports[name].size), np.int64)

    def blank(self) -> tuple[Array, Array, Array, Array]:
        """Counts, first spike, last and highest membrane potential before the first step."""
        size = self.network.ports[self.readout].size
        shape = (self.samples, size)
        lowest = np.iinfo(np.int64).min
        return (np.zeros(shape, np.int64), np.full(shape, self.steps),
                np.zeros(shape, np.int64), np.full(shape, lowest))  # fmt: skip

    def run(self, threads: int, progress: Progress | None) -> None:
        """Simulate all samples, each chunk on whichever thread is free."""
        block, height = self.sizes(threads)
        chunks = iter(range(0, self.samples, height))
        lock = Lock()

        def work() -> None:
            machine = Machine(self.network, self.keep, self.summed, constant=self.constant)
            while True:
                with lock:
                    first = next(chunks, None)
                if first is None:
                    return
                last = min(first + height, self.samples)
                self.chunk(machine, slice(first, last), block, lock)
                if progress:
                    with lock:
                        progress(last - first)

        if threads == 1 or self.samples <= height:
            work()
            return
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(work) for _ in range(threads)]:
                done.result()

    def sizes(self, threads: int) -> tuple[int, int]:
        """The steps of a block and the samples of a chunk."""
        edges = set(self.network.origin.values())
        if isinstance(self.data, Events):
            edges -= input_names(self.network.graph)
        ports = [self.network.ports[name] for name in edges]
        each = sum(port.width * (port.dtype.itemsize + 1) for port in ports) or 1
        block = min(self.steps, self.network.block or self.steps, max(1, _BLOCK // each))
        fair = -(-self.samples // threads)
        return block, max(1, min(self.network.bytes // (each * block), fair))

    def chunk(
        self, machine: Machine, samples: slice, block: int, lock: AbstractContextManager[Any]
    ) -> None:
        """Simulate some samples from their first step to their last."""
        machine.reset(samples.stop - samples.start)
        if self.summed:
            machine.open_sums(self.steps)
        while machine.time < self.steps:
            machine.feed(self.data, samples.start, min(block, self.steps - machine.time))
            machine.run()
            if self.watch:
                with lock:
                    self.watch(machine)
            if not self.summed:
                self.collect(machine, samples)
            machine.advance()
        if self.summed:
            for part, found in zip(self.summary, machine.summary(), strict=True):
                part[samples] = found

    def collect(self, machine: Machine, samples: slice) -> None:
        """Take from the block just simulated what is wanted."""
        steps = slice(machine.time, machine.time + machine.steps)
        ports = self.network.ports
        for name, room in self.outputs.items():
            room[samples, steps] = ports[name].elements(machine.cube(machine.dense(name)))
        for name, room in self.states.items():
            port = ports[name.rpartition(".")[0]]
            room[samples, steps] = port.elements(machine.traces[name])
        into = [part[samples] for part in self.summary]
        add_summary(machine, self.readout, self.membrane, self.steps, into)

    def result(self) -> Result:
        """What was collected, each edge in its shape."""
        shapes = {name: signal.shape for name, signal in self.network.signals.items()}
        head = (self.samples, self.steps)
        outputs = {name: room.reshape(*head, *shapes[name]) for name, room in self.outputs.items()}
        states = {
            name: room.reshape(*head, *shapes[name.rpartition(".")[0]])
            for name, room in self.states.items()
        }
        return Result(
            Summary(*self.summary),
            Trace(states, outputs) if outputs else None,
        )
