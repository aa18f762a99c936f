"""What a readout looks at, in units in which a float and a quantized network compare."""

from __future__ import annotations

import numpy as np

from qspinn.evaluate import chunks, summary_of
from qspinn.explore.stimulus import Stimulus
from qspinn.fixed import FloatArray
from qspinn.ir import VOTE, Graph, Output
from qspinn.passes.quantize import scale_of
from qspinn.plan import Plan
from qspinn.readout import FULL_VOTE, Summary, output_neuron, scores


def float_outputs(graph: Graph, stimulus: Stimulus) -> FloatArray:
    """What the float network's readout sees of each sample, (samples, outputs)."""
    parts = [
        seen(graph.output, summary_of(graph, data))
        for data, _ in chunks(graph, stimulus.dataset, stimulus.encoder, stimulus.index)
    ]
    return np.concatenate(parts)


def seen(output: Output, summary: Summary) -> FloatArray:
    """The quantity a readout compares: of first spikes their times, of votes spikes an element."""
    if output.readout == "first_spike":
        return np.asarray(summary.first, np.float64)
    compared = np.asarray(scores(output, summary), np.float64)
    return compared / FULL_VOTE if output.readout == VOTE else compared


def distance(
    graph: Graph, plan: Plan, summary: Summary, reference: FloatArray, share: float = 1.0
) -> float:
    """The mean squared distance of a quantized network's outputs to the float network's.

    Spike times compare as they are, spike counts over as many steps (``share`` is the part of the
    float network's steps that were run), and membrane potentials in the float network's unit,
    which their format and scale give.
    """
    readout = graph.output.readout
    values = seen(graph.output, summary)
    source = output_neuron(graph)
    if readout in ("count", VOTE):
        values = values / share
    elif readout.startswith("membrane") and source is not None:
        fmt = source.states["v"].fmt
        assert fmt is not None, "a variant is an integer graph"
        factor = np.broadcast_to(scale_of(plan, source), source.shape).reshape(-1)
        values = values * fmt.unit / factor
    return float(((values - reference) ** 2).mean())
