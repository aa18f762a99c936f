"""Accuracy of a network on labelled data, in chunks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError
from qspinn.interp import run
from qspinn.ir import Array, Graph
from qspinn.pipeline import feed
from qspinn.readout import Summary, decisions, output_neuron, predict, summarize
from qspinn.simulate import simulate
from qspinn.stats import Estimate, accuracy, paired_difference

CHUNK = 100
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Float and integer accuracy on the same samples, and their paired difference."""

    part: str
    float: Estimate
    integer: Estimate
    difference: Estimate


def chunks(
    graph: Graph, dataset: Dataset, encoder: Encoder, index: Array, size: int = CHUNK
) -> Iterator[tuple[Array, Array]]:
    """Encoded input for ``graph``, some samples at a time, with their indices."""
    encoded = encoder.kind == "none"
    for first in range(0, len(index), size):
        some = index[first : first + size]
        x = dataset.entering(graph, some, encoded=encoded, steps=encoder.steps)
        yield feed(graph, x, encoder, some), some


def predictions(
    graph: Graph,
    dataset: Dataset,
    encoder: Encoder,
    index: Array,
    progress: Progress | None = None,
) -> Array:
    """The network's decision for each sample."""
    decided = []
    done = 0
    for data, some in chunks(graph, dataset, encoder, index):
        decided.append(predict(graph.output, summary_of(graph, data)))
        done += len(some)
        if progress:
            progress(done)
    return np.concatenate(decided) if decided else np.zeros(0, np.int64)


def _told(progress: Progress, before: int, done: int) -> None:
    progress(before + done)


def summary_of(graph: Graph, data: Array) -> Summary:
    """What readouts need of encoded samples, by the interpreter or, for integers, the simulator."""
    if not graph.is_integer:
        source = output_neuron(graph)
        kept = [f"{source.name}.v"] if source and "v" in source.states else []
        return summarize(graph, run(graph, data, record=kept))
    return simulate(graph, data).summary


def require_labels(graph: Graph, labels: Array, name: str) -> None:
    """Refuse labels that no output stands for.

    Raises:
        FrontendError: There are some.
    """
    size = decisions(graph)
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < size:
        raise FrontendError(
            f"has labels from {labels.min()} to {labels.max()}, the network {size} classes",
            at=name,
            hint=f"number them from 0 to {size - 1}",
        )


def compare_accuracy(
    canonical: Graph,
    quantized: Graph,
    dataset: Dataset,
    encoder: Encoder,
    part: str = "report",
    progress: Progress | None = None,
    shorter: Encoder | None = None,
) -> Comparison | None:
    """Both accuracies on one part of the data; None without labels or samples.

    With ``shorter`` the quantized network is given that encoder's steps, the float one its own.
    """
    index = dataset.part(part)
    if dataset.y is None or not len(index):
        return None
    labels = dataset.y[index]
    right = []
    for turn, graph in enumerate((canonical, quantized)):
        told = None if progress is None else partial(_told, progress, turn * len(index))
        given = shorter if turn and shorter else encoder
        right.append(predictions(graph, dataset, given, index, told) == labels)
    return Comparison(
        part,
        accuracy(right[0]),
        accuracy(right[1]),
        paired_difference(right[1], right[0]),
    )
