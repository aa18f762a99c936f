"""MNIST without labels, in real numbers and for two-bit weights: what the README says of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qspinn.datasets import Dataset
from qspinn.encode import Encoder, encode
from qspinn.interp import run
from qspinn.ir import Array, Graph
from qspinn.passes.quantize import quantize
from qspinn.plan import parse
from qspinn.readout import votes
from qspinn.simulate import simulate
from qspinn.stdp import Recipe, counts, learn

SEED, HELD_OUT = 2024, 10_000
ENCODER = Encoder("rate", 75, 1 / 3 / 255, 1)

FEW_BITS = parse(
    """
fc.weight      u2f0    nearest_even  saturate
inh.weight     s8f-4   nearest_even  saturate
exc.scale      3.0
exc.v          u8f-2   floor         saturate
exc.decay      u13f12  floor         error
exc.threshold  u8f-2   nearest_even  saturate
exc.v_min      u8f-2   nearest_even  saturate
"""
)


@pytest.fixture
def mnist(data: Path) -> Dataset:
    """The training images, then the test images."""
    with np.load(data / "mnist.npz") as file:
        x = np.concatenate([file["x_train"], file["x_test"]]).reshape(-1, 784)
        y = np.concatenate([file["y_train"], file["y_test"]]).astype(np.int64)
    return Dataset("mnist", x, y, np.repeat([0, 2], [60_000, 10_000]))


def right(graph: Graph, mnist: Dataset) -> Array:
    index = mnist.part("report")
    answers = votes(graph.output.labels, counts(graph, mnist, ENCODER, index))
    assert mnist.y is not None
    return answers.argmax(1) == mnist.y[index]


@pytest.mark.slow
@pytest.mark.needs("numba", "data")
def test_mnist_is_learned_in_real_numbers_and_in_two_bits(mnist: Dataset) -> None:
    taught = np.random.default_rng(SEED).permutation(60_000)[:-HELD_OUT]
    learned = learn(mnist, ENCODER, Recipe(), index=taught)
    plan = replace(FEW_BITS, options=ENCODER.options())
    again = Recipe(rate=0.02)
    fitted = learn(mnist, ENCODER, again, graph=learned.graph, plan=plan, index=taught)
    assert fitted.plan is not None
    program = quantize(fitted.graph, fitted.plan)

    real, rounded, trained = (
        right(graph, mnist) for graph in (learned.graph, quantize(learned.graph, plan), program)
    )
    assert real.mean() > 0.91
    assert rounded.mean() < real.mean() - 0.015
    assert trained.mean() > real.mean() - 0.01
    assert set(np.unique(program["fc"].params()["weight"].values)) == {0, 1, 2, 3}

    some = mnist.part("report", 100)
    assert mnist.x is not None
    raster = encode(mnist.x[some], ENCODER, some).astype(np.int64)
    summary = simulate(program, raster).summary
    assert summary is not None
    assert (summary.counts == counts(program, mnist, ENCODER, some)).all()
    sent = run(learned.graph, raster[:20].astype(np.float64), record=False).output
    assert (sent.sum(1) == counts(learned.graph, mnist, ENCODER, some[:20])).all()
