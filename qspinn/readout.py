"""From what the outputs did to a decision. Ties go to the lowest index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.interp import Trace
from qspinn.ir import VOTE, Array, Delay, Flatten, Graph, Neuron, Output
from qspinn.signals import signals

FULL_VOTE = 1 << 16
"""What the spikes of a class are worth together: each of its n elements has FULL_VOTE // n."""


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


def summarize(graph: Graph, trace: Trace, output: Output | None = None) -> Summary:
    """Reduce a trace with states to what the readout of an output needs: the deciding one's."""
    output = output or graph.output
    sent = trace.outputs[output.name]
    sent = sent.reshape(*sent.shape[:2], -1)
    steps = sent.shape[1]
    fired = sent > 0
    first = np.where(fired.any(1), fired.argmax(1), steps)
    source = output_neuron(graph, output)
    graded = signals(graph)[output.name].kind == "current"
    membrane = sent if graded else np.zeros_like(sent)
    if source is not None and f"{source.name}.v" in trace.states:
        membrane = trace.states[f"{source.name}.v"].reshape(sent.shape)
    return Summary(sent.sum(1), first, membrane[:, -1], membrane.max(1))


def output_neuron(graph: Graph, output: Output | None = None) -> Neuron | None:
    """The neuron node whose own signal leaves through an output: the deciding one."""
    node = graph[(output or graph.output).inputs[0]]
    while isinstance(node, Flatten | Delay):
        node = graph[node.inputs[0]]
    return node if isinstance(node, Neuron) else None


def scores(output: Output, summary: Summary) -> Array:
    """What the readout compares, (batch, decisions): the largest wins, the first of equals.

    The earliest spike wins for ``first_spike``, of those the larger final membrane potential.
    A vote compares the spikes of each class, divided by the number of elements that speak for it
    (Diehl and Cook 2015): here times FULL_VOTE // n, which stays in integers.
    """
    if output.readout == VOTE:
        return votes(output.labels, summary.counts)
    if output.readout == "first_spike":
        last = np.asarray(summary.last, np.float64)  # |values| < 2**53: exact
        earliest = summary.first == summary.first.min(1, keepdims=True)
        return np.asarray(np.where(earliest, last, -np.inf))
    plain = {
        "count": summary.counts,
        "membrane_last": summary.last,
        "membrane_max": summary.highest,
    }
    return plain[output.readout]


def votes(labels: tuple[int, ...], counts: Array) -> Array:
    """The votes of each class, (batch, classes); ``counts`` are (batch, elements)."""
    classes = np.arange(max(labels) + 1)
    speaks = np.array(labels)[:, None] == classes
    each = (FULL_VOTE // speaks.sum(0)).astype(counts.dtype)
    spoken: Array = counts @ speaks.astype(counts.dtype) * each
    return spoken


def most_in_a_step(graph: Graph) -> int:
    """The largest value that an output element can send in a step; 0: no bound is known."""
    signal = signals(graph)[graph.output.name]
    if signal.kind == "spike":
        return 1
    return signal.interval.hi if signal.interval is not None and signal.kind == "count" else 0


def decided(graph: Graph, summary: Summary, done: int, remaining: int) -> Array:
    """Whether no continuation of so many steps can change each sample's decision, (batch,).

    Counts and votes: the lead is larger than all that another can still send, or equal to it
    where the winner has the lower index. First spikes: one came before all others. What depends on
    membranes is open until the last step.

    Args:
        graph: The network.
        summary: Of the steps so far.
        done: How many these were.
        remaining: How many are left.
    """
    output, batch = graph.output, len(summary.counts)
    if remaining == 0:
        return np.ones(batch, np.bool_)
    if output.readout == "first_spike":
        first = summary.first.min(1)
        alone = (summary.first == first[:, None]).sum(1) == 1
        source = output_neuron(graph)
        tied_by_membrane = source is not None and "v" in source.states
        settled: Array = (first < done) & (alone | (not tied_by_membrane))
        return settled
    most = most_in_a_step(graph)
    if output.readout not in ("count", VOTE) or not most:
        return np.zeros(batch, np.bool_)
    spoken = scores(output, summary)
    best = spoken.argmax(1)[:, None]
    lead = np.take_along_axis(spoken, best, 1) - spoken
    others = np.arange(spoken.shape[1])
    safe = lead - (others < best) >= remaining * reaches(output, most)
    whole: Array = (safe | (others == best)).all(1)
    return whole


def reaches(output: Output, most: int) -> Array:
    """By how much the score of each decision can rise in a step, if each element sends ``most``."""
    if output.readout != VOTE:
        return np.full(1, most, np.int64)
    rise: Array = votes(output.labels, np.full((1, len(output.labels)), most, np.int64))[0]
    return rise


def exits(graph: Graph, trace: Trace) -> Array:
    """After how many steps of a trace the decision of each sample is settled, (batch,)."""
    batch, steps = trace.output.shape[:2]
    found = np.full(batch, steps, np.int64)
    for done in range(steps - 1, 0, -1):
        seen = Trace(
            {name: values[:, :done] for name, values in trace.states.items()},
            {name: values[:, :done] for name, values in trace.outputs.items()},
        )
        found[decided(graph, summarize(graph, seen), done, steps - done)] = done
    return found


def decisions(graph: Graph) -> int:
    """How many classes there are to choose from: the labels', or the outputs."""
    output = graph.output
    return max(output.labels) + 1 if output.labels else signals(graph)[output.name].size


def predict(output: Output, summary: Summary) -> Array:
    """The chosen class of each sample: the largest of `scores`, ties to the lowest."""
    chosen: Array = scores(output, summary).argmax(1)
    return chosen
