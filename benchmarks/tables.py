"""Spaces enumerated beforehand: every candidate's exact answers, so that searches can be judged.

The network is a chain of layers, and a candidate takes one variant of each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspinn import job as jobs
from qspinn.backend import backend, device_of
from qspinn.engine.events import Events
from qspinn.engine.sweep import sweep
from qspinn.evaluate import chunks, predictions
from qspinn.explore.space import Candidate, Knob, Space
from qspinn.fixed import QFormat
from qspinn.interp import run
from qspinn.ir import Graph, Linear, Neuron, Node
from qspinn.passes.quantize import quantize
from qspinn.plan import Entry, Plan
from qspinn.planning import METHODS
from qspinn.readout import summarize

Array = npt.NDArray[Any]

WIDTHS = (8, 7, 6, 5, 4, 3, 2)
SCREENED = 1000
"""The first samples whose output counts are kept, for the distance without labels."""


@dataclass(frozen=True, eq=False)
class Table:
    """A `Problem` whose answers are looked up.

    Attributes:
        space: What can be chosen.
        memories: Bytes by the candidates' position in `Space.all`; below 0: refused.
        right: Which samples each gets right.
        counts: The output counts on the first samples, or nothing.
        float_right: Which samples the float network gets right.
        float_counts: Its output counts.
    """

    space: Space
    memories: Array
    right: Array
    counts: Array
    float_right: Array
    float_counts: Array

    @property
    def samples(self) -> int:
        """The size of the selection part."""
        return int(self.right.shape[1])

    @property
    def baseline(self) -> Array:
        """Which samples the float network gets right."""
        return self.float_right

    def position(self, candidate: Candidate) -> int:
        """The row of a candidate."""
        sizes = [len(knob.options) for knob in self.space.knobs]
        return int(np.ravel_multi_index(candidate, sizes))

    def memory(self, candidate: Candidate) -> int | None:
        """Bytes of weights, constants and state."""
        found = int(self.memories[self.position(candidate)])
        return found if found >= 0 else None

    def correct(self, candidates: Sequence[Candidate], count: int) -> list[Array]:
        """Rows of the table."""
        return [self.right[self.position(c), :count] for c in candidates]

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """The mean squared distance of the output counts to the float network's."""
        rows = [self.counts[self.position(c)].astype(np.float64) for c in candidates]
        return [float(((row - self.float_counts) ** 2).sum(1).mean()) for row in rows]

    def shuffled(self, seed: int, screened: int = 250) -> Table:
        """The same table with its samples in another order, and another subset to screen on."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(self.samples)
        some = rng.permutation(len(self.float_counts))[:screened]
        return replace(
            self, right=self.right[:, order], counts=self.counts[:, some],
            float_right=self.float_right[order], float_counts=self.float_counts[some],
        )  # fmt: skip


def four_layer_table(network: Path, data: Path, cache: Path) -> Table:
    """Scale method x weight width of each layer, enumerated on the selection part; cached."""
    job = jobs.prepare(network, data)
    fcs = [node.path for node in job.graph.of_type(Linear)]
    lifs = [node.path for node in job.graph.of_type(Neuron)]
    knobs = [Knob("scale", "scale", "", tuple(reversed(METHODS)), ordered=False)]
    widths = tuple(str(width) for width in WIDTHS)
    knobs += [Knob(f"{f}.weight", "weight", n, widths) for f, n in zip(fcs, lifs, strict=True)]
    space = Space(tuple(knobs))
    if not cache.exists():
        enumerate_chain(job, space, fcs, cache)
    with np.load(cache) as file:
        right = np.unpackbits(file["right"], axis=1, count=int(file["samples"])).astype(bool)
        float_right = file["float_right"]
        return Table(
            space, file["memories"], right, file["counts"], float_right, file["float_counts"]
        )


def enumerate_chain(job: jobs.Job, space: Space, fcs: list[str], cache: Path) -> None:
    """Simulate every candidate on every sample and write the answers to ``cache``."""
    assert job.dataset is not None
    assert job.dataset.y is not None
    index = job.dataset.part("select")
    labels = job.dataset.y[index]
    variants = {
        (method, width): quantized(job, fcs, space.knobs[0].options[method], WIDTHS[width])
        for method, width in product(range(len(METHODS)), range(len(WIDTHS)))
    }
    graphs = [chain(variants, candidate) for candidate in space.all()]
    counts = np.zeros((space.size, SCREENED, 10), np.uint8)
    right = np.zeros((space.size, len(index)), bool)
    begin = time.process_time()
    for first in range(0, len(index), SCREENED):
        some = index[first : first + SCREENED]
        data = [x for x, _ in chunks(graphs[0], job.dataset, job.encoder, some)]
        events = Events.from_dense(np.concatenate(data))
        tallies = sweep(
            graphs, events, threads=1, read=lambda summary, _: summary.counts.astype(np.uint8)
        )
        found = np.stack([np.asarray(tally.read) for tally in tallies])
        right[:, first : first + SCREENED] = found.argmax(2) == labels[first : first + SCREENED]
        if not first:
            counts[:] = found
    seconds = time.process_time() - begin
    print(f"{space.size} candidates x {len(index)} samples: {seconds:.0f} CPU-seconds", flush=True)
    np.savez_compressed(
        cache, right=np.packbits(right, axis=1), samples=len(index), counts=counts,
        memories=np.array([memory(graph) for graph in graphs]),
        float_right=predictions(job.graph, job.dataset, job.encoder, index) == labels,
        float_counts=float_counts(job, index[:SCREENED]),
    )  # fmt: skip


def quantized(job: jobs.Job, fcs: list[str], method: str, width: int) -> Graph:
    """The integer graph with one width and one method in all layers."""
    target = backend("mcu")
    chosen = replace(job, calibration=replace(job.calibration, method=method))
    given = Plan({f"{fc}.weight": Entry(QFormat(width, 0)) for fc in fcs})
    plan = jobs.plan_for(chosen, target, given)
    saturating = {
        p: e for p, e in jobs.plan_for(chosen, target).entries.items() if p in given.entries
    }
    fixed = {p: replace(saturating[p], fmt=plan.entries[p].fmt) for p in given.entries}
    return quantize(job.graph, plan.with_entries(fixed))


def chain(graphs: dict[Any, Graph], candidate: Candidate) -> Graph:
    """The whole network of a candidate."""
    method, *widths = candidate
    base = graphs[method, 0]
    taken: dict[str, Node] = {}
    for layer, width in enumerate(widths):
        graph = graphs[method, width]
        for node in (graph.of_type(Linear)[layer], graph.of_type(Neuron)[layer]):
            taken[node.name] = node
    return replace(base, nodes=tuple(taken.get(node.name, node) for node in base.nodes))


def memory(graph: Graph) -> int:
    """The bytes of a candidate's weights, constants and state on the target."""
    target = backend("mcu")
    return target.footprint(target.legalize(graph), device_of(target, None)).network


def float_counts(job: jobs.Job, some: Array) -> Array:
    """The float network's output counts."""
    assert job.dataset is not None
    graph = job.graph
    parts = chunks(graph, job.dataset, job.encoder, some)
    counts = [summarize(graph, run(graph, x, record=[])).counts for x, _ in parts]
    return np.concatenate(counts).astype(np.uint8)
