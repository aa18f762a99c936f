"""How good a network is after each number of steps: one run tells it for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.evaluate import chunks
from qspinn.interp import Trace, run
from qspinn.ir import CONNECTIONS, Array, Graph
from qspinn.readout import output_neuron, predict, summarize
from qspinn.signals import signals
from qspinn.simulate import simulate
from qspinn.stats import Estimate, accuracy

STEPS = (8, 16, 32, 64, 128)
WORK = 1.5e10
"""So many multiplications are worth a table: half a minute at most."""
FEWEST, MOST = 100, 1000
_CHUNK = 50


@dataclass(frozen=True, slots=True)
class Row:
    """What a network does in so many steps.

    Attributes:
        steps: The number of steps.
        accuracy: The share of right answers; None without labels.
        agreement: The share of answers that are those of the network it was made of.
    """

    steps: int
    accuracy: Estimate | None
    agreement: Estimate


@dataclass(frozen=True, slots=True)
class Stepwise:
    """The loss of a conversion against the number of steps.

    Attributes:
        part: The part of the data that it was measured on.
        samples: How many of its samples.
        reference: What the network that was converted reaches; None without labels.
        rows: By ascending number of steps.
    """

    part: str
    samples: int
    reference: Estimate | None
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        told = ", ".join(
            f"T = {row.steps}: {100 * (row.accuracy or row.agreement).value:.2f} %"
            for row in self.rows
        )
        before = (f"accuracy of the network it was made of {100 * self.reference.value:.2f} %"
                  if self.reference else "agreement with the network it was made of")  # fmt: skip
        return f"{before}; {told} ({self.samples} samples of the {self.part} part)"


def stepwise(
    graph: Graph,
    reference: Callable[[Array], Array],
    dataset: Dataset,
    encoder: Encoder,
    *,
    part: str = "select",
    steps: Sequence[int] = STEPS,
    samples: int | None = None,
) -> Stepwise | None:
    """Accuracy, and agreement with ``reference``, after each of some numbers of steps.

    Args:
        graph: A float or an integer graph.
        reference: The network that it was made of: samples to scores.
        dataset: The data.
        encoder: How they become input; its own number of steps is looked at as well.
        part: Of the data.
        steps: The numbers of steps.
        samples: At most so many; default as many as take a while.

    Returns:
        None where there are no samples, or each number of steps has an input of its own (latency).
    """
    counts = sorted({*steps, encoder.steps} - {0})
    index = dataset.part(part)
    if encoder.kind in ("none", "latency") or dataset.x is None or not len(index) or not counts:
        return None
    most = samples if samples is not None else affordable(graph, counts[-1])
    index = index[:most]
    longest = replace(encoder, steps=counts[-1])
    found: dict[int, list[Array]] = {count: [] for count in counts}
    wanted = []
    for data, some in chunks(graph, dataset, longest, index, _CHUNK):
        trace = traced(graph, data)
        for count in counts:
            found[count].append(predict(graph.output, summarize(graph, until(trace, count))))
        values = dataset.entering(graph, some, encoded=False)
        wanted.append(reference(values * encoder.gain).argmax(1))
    expected = np.concatenate(wanted)
    labels = None if dataset.y is None else dataset.y[index]
    rows = []
    for count in counts:
        given = np.concatenate(found[count])
        right = None if labels is None else accuracy(given == labels)
        rows.append(Row(count, right, accuracy(given == expected)))
    best = None if labels is None else accuracy(expected == labels)
    return Stepwise(part, len(index), best, tuple(rows))


def traced(graph: Graph, data: Array) -> Trace:
    """The output and the membranes behind it, in every step."""
    source = output_neuron(graph)
    kept = [f"{source.name}.v"] if source and "v" in source.states else []
    if not graph.is_integer:
        return run(graph, data, record=kept)
    trace = simulate(graph, data, record="trace").trace
    assert trace is not None, "it was asked for"
    return Trace({name: trace.states[name] for name in kept}, trace.outputs)


def until(trace: Trace, steps: int) -> Trace:
    """The first steps of a trace."""
    return Trace(
        {name: values[:, :steps] for name, values in trace.states.items()},
        {name: values[:, :steps] for name, values in trace.outputs.items()},
    )


def affordable(graph: Graph, steps: int) -> int:
    """How many samples to look at."""
    return int(np.clip(WORK / (products(graph) * steps), FEWEST, MOST))


def products(graph: Graph) -> int:
    """The multiplications of a step, were nothing skipped."""
    known, total = signals(graph), 0
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            weight = next(iter(node.params().values())).values
            places = known[node.name].size / max(len(np.atleast_1d(weight)), 1)
            total += int(weight.size * max(places, 1))
    return max(total, 1)
