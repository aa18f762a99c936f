"""Training for few bits on MNIST: the figure the README gives, on fewer images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from qspinn.backend import backend
from qspinn.choice import Choice
from qspinn.datasets import Dataset
from qspinn.evaluate import predictions
from qspinn.job import plan_for, prepare
from qspinn.passes.quantize import quantize
from qspinn.stats import paired_difference
from qspinn.train.fitting import fit
from qspinn.train.recipe import Recipe
from tree import ROOT


@pytest.mark.slow
@pytest.mark.needs("torch", "data")
def test_two_levels_and_three_lose_less_than_a_point(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    from mnist_split import rest, write

    job = prepare(ROOT / "examples" / "mnist" / "mnist.nir",
                  write(data / "mnist.npz", tmp_path / "mnist.npz"))  # fmt: skip
    assert job.dataset is not None
    assert job.dataset.y is not None
    x, y = rest(data / "mnist.npz")
    lessons = Dataset("rest", x, y, np.zeros(len(y), np.int64))
    some = job.dataset.part("select")[:4000]
    truth = job.dataset.y[some]
    base = predictions(job.graph, job.dataset, job.encoder, some) == truth
    for form, second in (("ternary", 4), ("binary", 8)):
        choices = {
            "fc1.weight": Choice(form=form), "fc2.weight": Choice(bits=second),
            "lif1.v": Choice(bits=8), "lif2.v": Choice(bits=8),
        }  # fmt: skip
        plan = plan_for(job, backend("mcu"), choices=choices)
        untrained = predictions(quantize(job.graph, plan), job.dataset, job.encoder, some) == truth
        trained = fit(job.graph, plan, lessons, job.encoder, Recipe())
        program = quantize(trained.graph, trained.plan)
        ours = predictions(program, job.dataset, job.encoder, some) == truth
        assert base.mean() - ours.mean() < 0.01 < base.mean() - untrained.mean()
        assert paired_difference(ours, untrained).low > 0
