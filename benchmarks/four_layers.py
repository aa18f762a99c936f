"""The four-layer MNIST network 784-128-128-128-10 that the search benchmarks explore: its training.

`python benchmarks/four_layers.py --data MNIST.npz --out DIR` writes `four.nir` into a folder of the
user's choice; the other scripts read it from there, and train it when it is not there yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

NETWORK = "four.nir"
DATA = "four.npz"
SPLIT_SEED = 31
CALIBRATE, SELECT, REPORT = 2000, 10_000, 10_000
"""Training images left out of training to calibrate and to select with; the test images."""


def main() -> None:
    """Train the network, unless it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="MNIST.npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    network, data = prepared(options.data, options.out)
    print(f"{network}\n{data}")


def prepared(mnist: Path, out: Path) -> tuple[Path, Path]:
    """The trained network and its data file in the folder ``out``, made where they are absent."""
    out.mkdir(parents=True, exist_ok=True)
    network, data = out / NETWORK, out / DATA
    if not data.exists():
        write_data(mnist, data)
    if not network.exists():
        train(mnist, network)
    return network, data


def write_data(mnist: Path, path: Path) -> None:
    """Calibration and selection parts from the training images, the report part from the test's."""
    with np.load(mnist) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"]
        x_test, y_test = file["x_test"].reshape(-1, 784), file["y_test"]
    kept = order(len(x))[-CALIBRATE - SELECT :]
    split = np.repeat(np.array([0, 1, 2], np.uint8), [CALIBRATE, SELECT, len(x_test)])
    np.savez_compressed(
        path, x=np.concatenate([x[kept], x_test]), y=np.concatenate([y[kept], y_test]), split=split
    )


def order(count: int) -> np.ndarray:
    """A seeded order of the training images: their own is not random."""
    return np.random.default_rng(SPLIT_SEED).permutation(count)


def train(mnist: Path, network: Path) -> None:
    """Train on the images that neither calibrate nor select, and write the network."""
    import torch
    from surrogate import Recipe, fit, measure, write_nir

    recipe = Recipe(
        sizes=(784, 128, 128, 128, 10), betas=(0.9, 0.9, 0.9, 0.9), steps=25, peak=255, epochs=3,
        batch=128, rate=2e-3, weight_decay=0.0, clip=10.0, max_activity=0.15, seed=11,
    )  # fmt: skip
    with np.load(mnist) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"]
    kept = order(len(x))[: -CALIBRATE - SELECT]

    def progress(epoch: int, loss: float, layers: list) -> None:  # type: ignore[type-arg]
        aside = network.with_name(f".{network.name}.part")
        write_nir(aside, recipe, layers)
        score = measure(aside, recipe, x[kept[:2000]], y[kept[:2000]], seed=0)
        print(f"epoch {epoch + 1}  loss {loss:.4f}  {score}", flush=True)
        if epoch == recipe.epochs - 1:
            aside.replace(network)

    images = torch.from_numpy(x[kept].astype(np.float32) / recipe.peak)
    fit(recipe, images, torch.from_numpy(y[kept].astype(np.int64)), after_epoch=progress)


if __name__ == "__main__":
    main()
