from __future__ import annotations

import numpy as np

from graphs import mlp, spikes
from qspinn.interp import Trace, run
from qspinn.readout import Summary, output_neuron, predict, summarize
from qspinn.stats import accuracy, paired_difference


def summary(counts: object, first: object, last: object, highest: object) -> Summary:
    return Summary(*(np.array(a) for a in (counts, first, last, highest)))


def test_every_readout_and_its_ties() -> None:
    s = summary([[2, 5, 5], [0, 0, 0]], [[4, 2, 2], [8, 8, 8]], [[9, 1, 3], [-5, -2, -2]],
                [[9, 9, 4], [0, 3, 3]])  # fmt: skip
    assert predict("count", s).tolist() == [1, 0]
    assert predict("membrane_last", s).tolist() == [0, 1]
    assert predict("membrane_max", s).tolist() == [0, 1]
    # earliest spike, then the larger final membrane; no spike at all leaves only the membrane
    assert predict("first_spike", s).tolist() == [2, 1]


def test_a_summary_is_what_the_trace_shows(rng: np.random.Generator) -> None:
    graph = mlp(5)
    trace = run(graph, spikes(rng, (3, 20, 12), 0.5))
    s = summarize(graph, trace)
    assert np.array_equal(s.counts, trace.output.sum(1))
    for sample in range(3):
        for out in range(4):
            fired = np.flatnonzero(trace.output[sample, :, out])
            assert s.first[sample, out] == (fired[0] if fired.size else 20)
    assert np.array_equal(s.last, trace.states["lif2.v"][:, -1])
    assert output_neuron(graph) is graph["lif2"]


def test_a_membrane_readout_reads_the_integrator(rng: np.random.Generator) -> None:
    graph = mlp(5, readout="membrane_max")
    trace = run(graph, spikes(rng, (3, 20, 12), 0.5))
    assert np.array_equal(summarize(graph, trace).highest, trace.states["lif2.v"].max(1))
    bare = Trace({}, trace.outputs)
    assert np.array_equal(summarize(graph, bare).highest, trace.output.max(1))


def test_wilson_against_published_values() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20
    e = accuracy(np.arange(263) < 81)
    assert (round(e.low, 4), round(e.high, 4)) == (0.2553, 0.3662)
    e = accuracy(np.zeros(20, bool))
    assert (e.low, round(e.high, 4)) == (0.0, 0.1611)


def test_paired_difference_counts_only_disagreements() -> None:
    ours = np.array([True] * 90 + [False] * 6 + [True] * 4)
    base = np.array([True] * 90 + [True] * 6 + [False] * 4)
    d = paired_difference(ours, base)
    assert d.value == (4 - 6) / 100
    assert d.low < -0.02 < d.high
    same = paired_difference(base, base)
    assert same.value == 0.0
    assert same.low < 0 < same.high
