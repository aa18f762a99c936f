"""From what the outputs did to a decision. Ties go to the lowest index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.interp import Trace
from qspinn.ir import Array, Delay, Flatten, Graph, Neuron
from qspinn.signals import signals


@dataclass(frozen=True, eq=False)
class Summary:
    """What every readout needs of one run, each (batch, outputs).

    Attributes:
        counts: Spikes sent, or the sum of the values sent.
        first: The step of the first spike; the number of steps where there was none.
        last: The output neurons' membrane potential after the last step, or the value sent; zero
            where spikes leave that are no neurons' own, as from a pool.
        highest: Its maximum over all steps.
    """

    counts: Array
    first: Array
    last: Array
    highest: Array


def summarize(graph: Graph, trace: Trace) -> Summary:
    """Reduce a trace with states to what readouts need."""
    sent = trace.output.reshape(*trace.output.shape[:2], -1)
    steps = sent.shape[1]
    fired = sent > 0
    first = np.where(fired.any(1), fired.argmax(1), steps)
    source = output_neuron(graph)
    graded = signals(graph)[graph.output.name].kind == "current"
    membrane = sent if graded else np.zeros_like(sent)
    if source is not None and f"{source.name}.v" in trace.states:
        membrane = trace.states[f"{source.name}.v"].reshape(sent.shape)
    return Summary(sent.sum(1), first, membrane[:, -1], membrane.max(1))


def output_neuron(graph: Graph) -> Neuron | None:
    """The neuron node whose own signal leaves through the output, if one's does."""
    node = graph[graph.output.inputs[0]]
    while isinstance(node, Flatten | Delay):
        node = graph[node.inputs[0]]
    return node if isinstance(node, Neuron) else None


def predict(readout: str, summary: Summary) -> Array:
    """The chosen output of each sample.

    ``first_spike``: the earliest spike; then the larger final membrane potential.
    """
    scores = {
        "count": summary.counts,
        "membrane_last": summary.last,
        "membrane_max": summary.highest,
    }
    if readout == "first_spike":
        last = np.asarray(summary.last, np.float64)  # |values| < 2**53: exact
        earliest = summary.first == summary.first.min(1, keepdims=True)
        scores[readout] = np.where(earliest, last, -np.inf)
    chosen: Array = scores[readout].argmax(1)
    return chosen
