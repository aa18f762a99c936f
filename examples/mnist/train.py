"""Train the MNIST network: 784-128-10 LIF neurons, rate-coded images.

Writes `mnist.nir` (the network) and, with `--export`, the data split as qspinn wants it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from surrogate import DT, Layer, Recipe, fit, measure, spread, write_nir, write_npz

RECIPE = Recipe(
    sizes=(784, 128, 10),
    betas=(0.9, 0.9),
    steps=25,
    peak=255,
    epochs=9,
    batch=128,
    rate=4e-3,
    weight_decay=0.05,
    clip=0.6,
    max_activity=0.1,
    seed=7,
)
SPLIT_SEED = 2024
CALIBRATE, SELECT, REPORT = range(3)
CALIBRATE_COUNT, SELECT_COUNT = 2000, 8000
OTHER_ENCODINGS = 10
"""Further seeds of the input spikes, to show how much the draw matters."""


def main() -> None:
    """Train, write the network, and only then look at the test images, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE.npz",
        help="x_train, y_train, x_test, y_test (uint8; images 28x28 or flat)",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--export", type=Path, metavar="OUT.npz", help="write the data split")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    network = out / "mnist.nir"

    with np.load(arguments.data) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"]
        x_test, y_test = file["x_test"].reshape(-1, 784), file["y_test"]
    # The file's order is not random, so neither its head nor its tail would be a fair sample.
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    train, select = order[:-SELECT_COUNT], order[-SELECT_COUNT:]
    if arguments.export is not None:
        calibrate = train[:CALIBRATE_COUNT]
        parts = [(x[calibrate], y[calibrate]), (x[select], y[select]), (x_test, y_test)]
        write_npz(arguments.export, exported(parts))

    def progress(epoch: int, loss: float, layers: list[Layer]) -> None:
        write_nir(network, RECIPE, layers)
        score = measure(network, RECIPE, x[select], y[select], seed=0)
        print(f"epoch {epoch + 1}  loss {loss:.4f}  select: {score}", flush=True)

    fit(
        RECIPE,
        torch.from_numpy(x[train].astype(np.float32) / RECIPE.peak),
        torch.from_numpy(y[train].astype(np.int64)),
        after_epoch=progress,
    )
    scores = [
        measure(network, RECIPE, x_test, y_test, seed=seed) for seed in range(1 + OTHER_ENCODINGS)
    ]
    print(f"test: {scores[0]}")
    print(f"test, {OTHER_ENCODINGS} other encodings: {spread(scores[1:])}")


def exported(
    parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]],
) -> dict[str, npt.NDArray[Any]]:
    """The parts to calibrate, select and report with, one after the other."""
    sizes = [len(labels) for _, labels in parts]
    return {
        "x": np.concatenate([images for images, _ in parts]).astype(np.uint8),
        "y": np.concatenate([labels for _, labels in parts]).astype(np.uint8),
        "split": np.repeat(np.array([CALIBRATE, SELECT, REPORT], np.uint8), sizes),
        "dt": np.array(DT),
        "source": np.array("MNIST (Y. LeCun, C. Cortes, C. J. C. Burges)"),
        "license": np.array("CC BY-SA 3.0"),
    }


if __name__ == "__main__":
    main()
