"""Many integer graphs on the same data, each as exactly as alone, with what they share done once.

The graphs of a search share node objects: a layer that does not change is the same object. Sorted
by their nodes they are the leaves of a tree, which is walked for one chunk of samples after the
other; from one graph to the next only what follows the first difference is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING

import numpy as np

from qspinn.engine.events import Events
from qspinn.engine.layout import fan_out
from qspinn.engine.machine import Machine
from qspinn.errors import QspinnError
from qspinn.ir import CONNECTIONS, Array, Graph, Neuron
from qspinn.readout import Summary
from qspinn.signals import Signals, signals
from qspinn.simulate import (
    Progress,
    checked,
    cores,
    engine_of,
    inputs_of,
    is_constant,
    require_integer,
    watched,
)
from qspinn.verify import verify

if TYPE_CHECKING:  # these import numba
    from qspinn.engine.trie import Leaf
    from qspinn.engine.walk import Walk

__all__ = ["Tally", "fan_out", "sweep"]

Read = Callable[[Summary, slice], Array]
"""Takes the summary of some samples and which they are; gives an array with a row for each.

It is called by several threads at a time, one for each part of the samples. The summary is of
integers of 16 to 64 bits and must not be kept: the next graph overwrites it.
"""


@dataclass(frozen=True, eq=False)
class Tally:
    """What a graph did with all samples.

    Attributes:
        summary: What readouts need, as from `qspinn.simulate`; of no sample where `read` was asked
            for instead.
        spikes: Events sent, in total, by neuron node that sends spikes or counts.
        operations: Weights added, in total, by connection; empty where they were not asked for.
        read: What was read of the summaries.
    """

    summary: Summary
    spikes: Mapping[str, int]
    operations: Mapping[str, int]
    read: Array | None = None


def sweep(
    graphs: Sequence[Graph],
    data: Events | Array,
    *,
    threads: int | None = None,
    engine: str = "auto",
    steps: int | None = None,
    operations: bool = False,
    read: Read | None = None,
    progress: Progress | None = None,
) -> list[Tally]:
    """Run every graph on all samples.

    Args:
        graphs: Integer graphs; the more node objects they share, the better. Of several outputs the
            first is summed up.
        data: What each of them reads; see `qspinn.simulate`.
        threads: Each takes its own samples; None: one for each core this process may use.
        engine: ``numba``, ``numpy`` or ``auto``.
        steps: Of the data's, the first so many; None: all.
        operations: Whether to count weights added.
        read: What to keep of the summaries of thousands of graphs, whose own size is 32 bytes for
            each output and sample.
        progress: Called with the number of samples, over all graphs, just finished.

    Returns:
        In the order of ``graphs``; equal for any number of threads and either engine.

    Raises:
        QspinnError: A graph is not integer, or the data do not fit its input.
    """
    kind = engine_of(engine)
    run = _Sweep(data, steps_of(data, steps), threads or cores(), operations, read, progress)
    if kind == "numpy":
        return [run.alone(graph, kind) for graph in graphs]
    return run.together(graphs)


def steps_of(data: Events | Array, steps: int | None) -> int:
    """The steps that are run.

    Raises:
        QspinnError: The data have fewer than are asked for.
    """
    most = data.steps if isinstance(data, Events) else data.shape[1]
    if steps is not None and not 1 <= steps <= most:
        raise QspinnError(f"{steps} steps are asked for, the data have {most}")
    return steps or most


@dataclass
class Counter:
    """Spikes and operations of one graph so far."""

    spikes: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)

    def add(self, spikes: Mapping[str, int], operations: Mapping[str, int]) -> None:
        """Count more."""
        for into, more in ((self.spikes, spikes), (self.operations, operations)):
            for name, count in more.items():
                into[name] = into.get(name, 0) + count


@dataclass(frozen=True, eq=False)
class _Sweep:
    """What a call of `sweep` was asked."""

    data: Events | Array
    steps: int
    threads: int
    operations: bool
    read: Read | None
    progress: Progress | None

    def alone(self, graph: Graph, engine: str) -> Tally:
        """One graph by itself, on either engine, with any cycle."""
        require_integer(graph)
        known = signals(verify(graph))
        checked(inputs_of(graph, known), self.data)
        counter, fans = Counter(), _fans(graph, known) if self.operations else {}
        counted = _listed if engine == "numba" else _counted

        def watch(machine: Machine) -> None:
            counter.add(*counted(machine, known, fans))

        summary = watched(graph, self.data, self.threads, engine, self.steps, watch)
        if self.progress:
            self.progress(len(self.data))
        if self.read is None:
            return Tally(summary, counter.spikes, counter.operations)
        found = self.read(summary, slice(0, len(self.data)))
        return Tally(_blank(0, summary.counts.shape[1]), counter.spikes, counter.operations, found)

    def together(self, graphs: Sequence[Graph]) -> list[Tally]:
        """All graphs on compiled loops; those that cannot be walked in one block, alone."""
        from qspinn.engine.trie import trie_of

        trie = trie_of(graphs, self.steps, operations=self.operations)
        for inputs in trie.inputs.values():
            checked(inputs, self.data)
        found = self.walked(trie.leaves)
        found |= {place: self.alone(graphs[place], "numba") for place in trie.apart}
        return [found[place] for place in range(len(graphs))]

    def walked(self, leaves: Sequence[Leaf]) -> dict[int, Tally]:
        """The results of the graphs of a tree, by their place in the list."""
        from qspinn.engine.trie import height
        from qspinn.engine.walk import Walk

        results = [_Results(self, leaf) for leaf in leaves]
        tall = height(leaves, self.steps, len(self.data), self.threads)
        chunks = iter(range(0, len(self.data), tall))
        constant = is_constant(self.data)
        lock, stop = Lock(), Event()

        def work() -> None:
            walk = Walk(self.data, self.steps, constant)
            try:
                for first in _taken(chunks, lock):
                    samples = slice(first, min(first + tall, len(self.data)))
                    for leaf, result in zip(leaves, results, strict=True):
                        if stop.is_set():
                            return
                        if leaf is leaves[0]:
                            walk.start(leaf, samples)
                        self.step(walk, leaf, result, samples, lock)
            except BaseException:
                stop.set()
                raise

        if self.threads == 1:
            work()
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                try:
                    for done in [pool.submit(work) for _ in range(self.threads)]:
                        done.result()
                except BaseException:  # Ctrl-C reaches this thread alone
                    stop.set()
                    raise
        return {place: tally for result in results for place, tally in result.tallies()}

    def step(self, walk: Walk, leaf: Leaf, result: _Results, samples: slice, lock: Lock) -> None:
        """One leaf on one chunk."""
        summary = walk.run(leaf)
        for i, member in enumerate(leaf.members):
            own = _columns(summary, member.columns)
            spikes = walk.spikes(leaf, member, own.counts)
            added = walk.operations(leaf, member) if self.operations else {}
            result.keep(i, own, samples)
            with lock:
                result.counters[i].add(spikes, added)
        if self.progress:
            with lock:
                self.progress(len(leaf.members) * (samples.stop - samples.start))


class _Results:
    """What the graphs of a leaf did so far."""

    def __init__(self, asked: _Sweep, leaf: Leaf) -> None:
        self.asked, self.leaf = asked, leaf
        self.counters = [Counter() for _ in leaf.members]
        self.read: list[dict[int, Array]] = [{} for _ in leaf.members]
        size = leaf.network.ports[leaf.network.graph.output.name].size
        self.widths = [len(range(*m.columns.indices(size))) for m in leaf.members]
        samples = 0 if asked.read else len(asked.data)
        self.summaries = [_blank(samples, width) for width in self.widths]

    def keep(self, i: int, summary: Summary, samples: slice) -> None:
        """Take the summary of some samples of a graph, or what is read of it."""
        if self.asked.read:
            # A copy: the summary lies in memory that the next leaf uses.
            self.read[i][samples.start] = np.array(self.asked.read(summary, samples))
            return
        for name in _FIELDS:
            getattr(self.summaries[i], name)[samples] = getattr(summary, name)

    def tallies(self) -> Iterator[tuple[int, Tally]]:
        """The result of each graph and its place."""
        for i, member in enumerate(self.leaf.members):
            counter = self.counters[i]
            read = None
            if self.asked.read:
                parts = [part for _, part in sorted(self.read[i].items())]
                empty = self.asked.read(_blank(0, self.widths[i]), slice(0, 0))
                read = np.concatenate(parts) if parts else empty
            tally = Tally(self.summaries[i], counter.spikes, counter.operations, read)
            yield member.place, tally


_FIELDS = ("counts", "first", "last", "highest")


def _blank(samples: int, outputs: int) -> Summary:
    return Summary(*(np.zeros((samples, outputs), np.int64) for _ in _FIELDS))


def _columns(summary: Summary, columns: slice) -> Summary:
    return Summary(*(getattr(summary, name)[:, columns] for name in _FIELDS))


def _taken(chunks: Iterator[int], lock: Lock) -> Iterator[int]:
    """The chunks that fall to one of several threads."""
    while True:
        with lock:
            first = next(chunks, None)
        if first is None:
            return
        yield first


def _fans(graph: Graph, known: Signals) -> dict[str, Array]:
    """The weights that an event on each element adds, by connection."""
    return {
        node.name: fan_out(node, known[node.inputs[0]], known[node.name])
        for node in graph.nodes
        if isinstance(node, CONNECTIONS)
    }


Fans = Mapping[str, Array]


def _counted(machine: Machine, known: Signals, fans: Fans) -> tuple[dict[str, int], dict[str, int]]:
    """Spikes by neuron node and weights added by connection, in the block just run."""
    graph = machine.network.graph
    fired: dict[str, Array] = {}

    def events(name: str) -> Array:
        if name not in fired:
            port = machine.network.ports[name]
            lanes = port.elements(machine.dense(name))
            fired[name] = np.count_nonzero(lanes, axis=0)
        return fired[name]

    spikes = {name: int(events(name).sum()) for name in _firing(graph, known)}
    added = {name: int(fan @ events(graph[name].inputs[0])) for name, fan in fans.items()}
    return spikes, added


def _listed(machine: Machine, known: Signals, fans: Fans) -> tuple[dict[str, int], dict[str, int]]:
    """What `_counted` does, where events are listed."""
    from qspinn.engine import kernels

    network = machine.network
    spikes = {}
    for name in _firing(network.graph, known):
        lo, hi, _, _ = machine.events(name)
        spikes[name] = int((hi - lo).sum())
    added = {}
    for name, fan in fans.items():
        source = network.graph[name].inputs[0]
        order = network.ports[source].order
        lo, hi, index, _ = machine.events(source)
        added[name] = int(kernels.reached(lo, hi, index, fan if order is None else fan[order]))
    return spikes, added


def _firing(graph: Graph, known: Signals) -> list[str]:
    return [node.name for node in graph.of_type(Neuron) if known[node.name].kind != "current"]
