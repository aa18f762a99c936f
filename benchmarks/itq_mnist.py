"""MNIST with few bits, after training and trained for it: 784-128-10 of `examples/mnist`.

    python benchmarks/itq_mnist.py --data mnist.npz [--epochs N] [--only 2/4] [--json FILE]

Each network is fine-tuned on the 50000 images that selection and report do not see, then both run
as integer programs on the 10000 test images. Nothing is chosen on these: one recipe for all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # reads the variable when it is imported
from mnist_split import rest, write

from qspinn import job as jobs
from qspinn.backend import backend, device_of
from qspinn.choice import Choice
from qspinn.datasets import Dataset
from qspinn.evaluate import predictions
from qspinn.ir import Array, Graph
from qspinn.job import Job
from qspinn.memory import float_bytes
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.stats import accuracy, paired_difference
from qspinn.train.fitting import fit
from qspinn.train.recipe import Recipe

NETWORK = Path(__file__).resolve().parents[1] / "examples" / "mnist" / "mnist.nir"
WEIGHTS = ("4/4", "3/3", "2/4", "ternary/4", "binary/8")
STATE_BITS = 8


@dataclass(frozen=True)
class Row:
    """One network: bytes, accuracy after training and in training, and what the training took."""

    weights: str
    network_bytes: int
    ptq: float
    itq: float
    drop: float
    low: float
    high: float
    cpu_seconds: float


def main() -> None:
    """Train every row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", metavar="FIRST/SECOND", help="weights of a row")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = jobs.prepare(NETWORK, write(arguments.data, Path(folder) / "mnist.npz"))
    x, y = rest(arguments.data)
    lessons = Dataset("mnist, not held out", x, y, np.zeros(len(y), np.int64))
    recipe = Recipe(epochs=arguments.epochs, seed=arguments.seed)
    base = right(job, job.graph)
    print(f"float {accuracy(base).percent()}, {float_bytes(job.graph)} B")
    print(f"{'weights':<11} {'bytes':>6} {'smaller':>8} {'ptq':>8} {'itq':>8}  drop of itq, 95 %"
          "          CPU-s")  # fmt: skip
    rows = []
    for weights in arguments.only or WEIGHTS:
        rows.append(measured(job, lessons, recipe, weights, base))
        print(told(rows[-1], float_bytes(job.graph)), flush=True)
    if arguments.json:
        facts = {"float": float(base.mean()), "rows": [vars(row) for row in rows]}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def plan_of(job: Job, weights: str) -> Plan:
    """The plan of a row: weights as named, states of 8 bits, the rest as the target has it."""
    choices = {f"lif{i}.v": Choice(bits=STATE_BITS) for i in (1, 2)}
    for i, word in enumerate(weights.split("/"), 1):
        found = Choice(bits=int(word)) if word.isdigit() else Choice(form=word)
        choices[f"fc{i}.weight"] = found
    return jobs.plan_for(job, backend("mcu"), choices=choices)


def measured(job: Job, lessons: Dataset, recipe: Recipe, weights: str, base: Array) -> Row:
    """Both schemes on the report part."""
    plan, target = plan_of(job, weights), backend("mcu")
    before = time.process_time()
    trained = fit(job.graph, plan, lessons, job.encoder, recipe)
    seconds = time.process_time() - before
    program = quantize(trained.graph, trained.plan)
    footprint = target.footprint(target.legalize(program), device_of(target, None))
    after, ours = right(job, quantize(job.graph, plan)), right(job, program)
    drop = paired_difference(base, ours)
    return Row(
        weights, footprint.network, float(after.mean()), float(ours.mean()),
        drop.value, drop.low, drop.high, seconds,
    )  # fmt: skip


def right(job: Job, graph: Graph) -> Array:
    """Which images of the report part a network gets right."""
    assert job.dataset is not None
    assert job.dataset.y is not None
    index = job.dataset.part("report")
    return np.asarray(predictions(graph, job.dataset, job.encoder, index) == job.dataset.y[index])


def told(row: Row, whole: int) -> str:
    """A line of the table."""
    drop = f"{100 * row.drop:+.2f} pt [{100 * row.low:+.2f}, {100 * row.high:+.2f}]"
    return (
        f"{row.weights:<11} {row.network_bytes:>6} {whole / row.network_bytes:>7.1f}x "
        f"{row.ptq:>8.2%} {row.itq:>8.2%}  {drop:<27} {row.cpu_seconds:>5.0f}"
    )


if __name__ == "__main__":
    main()
