"""Artificial networks on MNIST, exported to ONNX, as spiking ones: what T steps lose.

    python benchmarks/onnx_mnist.py --data mnist.npz [--out DIR] [--only mlp] [--json FILE]
    python benchmarks/onnx_mnist.py --data mnist.npz --only maxpool --max-pool or

Trains 784-128-10 and a small convolutional network, with average and with maximum pools, with torch
(a minute each on one core), exports them with torch.onnx, and reads the files as `qspinn compile`
does. Thresholds are balanced on images that were not trained on; the test images are seen once.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from mnist_split import rest, write
from torch import nn

from qspinn import job as jobs
from qspinn.backend import backend, device_of
from qspinn.evaluate import predictions
from qspinn.frontends.onnx_maxima import MAXIMA
from qspinn.pipeline import build, lower
from qspinn.stats import accuracy
from qspinn.stepwise import stepwise

STEPS = (4, 8, 16, 32)
EPOCHS, BATCH = 8, 128


def mlp() -> nn.Module:
    """784-128-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def cnn(pool: type[nn.Module] = nn.AvgPool2d) -> nn.Module:
    """Two convolutions with batch norm and pools, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), pool(2),
        nn.Conv2d(8, 16, 5, bias=False), nn.BatchNorm2d(16), nn.ReLU(), pool(2),
        nn.Flatten(), nn.Linear(400, 10),
    )  # fmt: skip


def maxpool() -> nn.Module:
    """The same with maximum pools."""
    return cnn(nn.MaxPool2d)


NETWORKS = {"mlp": mlp, "cnn": cnn, "maxpool": maxpool}


def train(network: nn.Module, source: Path) -> nn.Module:
    """Adam with a falling rate; images as they are, between 0 and 1."""
    x, y = rest(source)
    images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 28, 28)
    images = images / 255 if images.max() > 1 else images
    labels = torch.tensor(y)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images))[: steps // EPOCHS * BATCH].split(BATCH):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def export(network: nn.Module, path: Path) -> None:
    """Write the file with torch's exporter that needs no further package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, (torch.zeros(1, 1, 28, 28),), path, dynamo=False, input_names=["image"],
            output_names=["logits"], dynamic_axes={"image": {0: "batch"}},
        )  # fmt: skip


def measure(path: Path, data: Path, steps: int, options: dict[str, Any]) -> dict[str, Any]:
    """Read, quantize by the target's default plan, and run both on the test images."""
    target = backend("mcu")
    job = jobs.prepare(path, data, encode={"steps": steps}, options=options)
    reference, dataset = job.imported.reference, job.dataset
    assert reference is not None
    assert dataset is not None
    before = time.process_time()
    table = stepwise(job.graph, reference, dataset, job.encoder, part="report", steps=STEPS,
                     samples=10_000)  # fmt: skip
    assert table is not None
    lowered = lower(job.graph, jobs.plan_for(job, target), target)
    compiled = build(lowered, target, device_of(target, None))
    index = dataset.part("report")
    decided = predictions(lowered.final, dataset, job.encoder, index)
    integer = accuracy(decided == dataset.y[index])  # type: ignore[index]
    found = {
        "ann": table.reference.value if table.reference else None,
        "float": {row.steps: row.accuracy.value for row in table.rows if row.accuracy},
        "integer": {steps: integer.value},
        "bytes": compiled.footprint.network,
        "seconds": time.process_time() - before,
        "assumptions": [str(a) for a in job.imported.assumptions],
    }
    print(table)
    print(f"  integer program, T = {steps}: {integer.percent()}, {found['bytes']} B of weights, "
          f"constants and state")  # fmt: skip
    return found


def main() -> None:
    """Train, export, convert and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--out", type=Path, help="keep the .onnx files here; there they are reused")
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--steps", type=int, default=32, help="of the integer program")
    parser.add_argument("--initial", choices=["half", "zero"])
    parser.add_argument("--max-pool", choices=MAXIMA)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options = {"initial": arguments.initial, "max_pool": arguments.max_pool}
    facts = {}
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        data = scaled(write(arguments.data, Path(folder) / "mnist.npz"))
        for name in [arguments.only] if arguments.only else NETWORKS:
            path = out / f"{name}.onnx"
            if not path.exists():
                torch.manual_seed(0)
                export(train(NETWORKS[name](), arguments.data), path)
            print(name)
            facts[name] = measure(path, data, arguments.steps, options)
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def scaled(path: Path) -> Path:
    """The data file with images between 0 and 1."""
    with np.load(path) as file:
        arrays = dict(file)
    if arrays["x"].max() > 1:
        arrays["x"] = (arrays["x"] / 255).astype(np.float32)
    np.savez(path, **arrays)
    return path


if __name__ == "__main__":
    main()
