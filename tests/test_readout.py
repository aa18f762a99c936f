from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from graphs import mlp, spikes
from qspinn.errors import VerifyError
from qspinn.interp import Trace, run
from qspinn.ir import READOUTS, VOTE, Graph, Input, Output
from qspinn.readout import Summary, decisions, output_neuron, predict, scores, summarize
from qspinn.stats import accuracy, paired_difference
from qspinn.verify import verify


def summary(counts: object, first: object, last: object, highest: object) -> Summary:
    return Summary(*(np.array(a) for a in (counts, first, last, highest)))


def test_every_readout_and_its_ties() -> None:
    s = summary([[2, 5, 5], [0, 0, 0]], [[4, 2, 2], [8, 8, 8]], [[9, 1, 3], [-5, -2, -2]],
                [[9, 9, 4], [0, 3, 3]])  # fmt: skip
    chosen = {name: predict(Output(name="out", readout=name), s).tolist() for name in READOUTS}
    assert chosen == {
        "count": [1, 0],
        "membrane_last": [0, 1],
        "membrane_max": [0, 1],
        # earliest spike, then the larger final membrane; no spike at all leaves only the membrane
        "first_spike": [2, 1],
    }


def test_a_vote_is_by_spikes_for_each_element_that_speaks() -> None:
    out = Output(name="out", readout=VOTE, labels=(2, 0, 2, 1, -1, 2))
    counts = [
        [3, 4, 4, 4, 90, 4],  # class 2: 11 spikes of 3 elements are fewer than 4 of 1
        [5, 4, 4, 4, 90, 4],
        [0, 4, 0, 4, 0, 0],  # ties go to the lowest
        [0, 0, 0, 0, 9, 0],  # who speaks for none decides nothing
    ]
    none = np.zeros((4, 6), np.int64)
    s = summary(counts, none, none, none)
    assert predict(out, s).tolist() == [0, 2, 0, 0]
    assert scores(out, s)[0].tolist() == [4 * 65536, 4 * 65536, 11 * (65536 // 3)]
    graph = Graph("g", (Input(name="in", shape=(6,)), replace(out, inputs=("in",))))
    assert decisions(verify(graph)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readout": "count", "labels": (0, 1)}, "'count' has 2 labels"),
        ({"readout": VOTE}, "'vote' has 0 labels"),
        ({"readout": VOTE, "labels": (0, 1, 1)}, "has 3 labels for 2 elements"),
        ({"readout": VOTE, "labels": (-1, -1)}, "labels run from -1 to -1"),
        ({"readout": VOTE, "labels": (0, 2)}, "2 elements cannot speak for class 2"),
        ({"readout": VOTE, "labels": (1, 1)}, "no element speaks for class 0"),
    ],
)
def test_labels_must_fit(options: dict[str, Any], message: str) -> None:
    nodes = (Input(name="in", shape=(2,)), Output(name="out", inputs=("in",), **options))
    with pytest.raises(VerifyError, match=message):
        verify(Graph("g", nodes))


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
