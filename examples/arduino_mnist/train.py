"""Train the network of this folder: 196-64-10 LIF neurons on MNIST halved to 14x14 pixels.

Writes `mnist14.nir` (the network) and, with `--export`, the data split as qspinn wants it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

SPLIT_SEED = 2024
CALIBRATE, SELECT, REPORT = range(3)
CALIBRATE_COUNT, SELECT_COUNT = 2000, 8000
SIDE = 14

Pixels = npt.NDArray[np.uint8]


def halved(images: Pixels) -> Pixels:
    """Images of 28x28 pixels as flat ones of 14x14: the rounded mean of every four."""
    four = images.reshape(-1, SIDE, 2, SIDE, 2).astype(np.uint16).sum(axis=(2, 4))
    return ((four + 2) // 4).astype(np.uint8).reshape(-1, SIDE * SIDE)


def parts(path: Path) -> list[tuple[Pixels, Pixels]]:
    """Images and labels to train, calibrate, select and report with."""
    with np.load(path) as file:
        x, y = halved(file["x_train"]), file["y_train"]
        x_test, y_test = halved(file["x_test"]), file["y_test"]
    # The file's order is not random, so neither its head nor its tail would be a fair sample.
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    train, select = order[:-SELECT_COUNT], order[-SELECT_COUNT:]
    calibrate = train[:CALIBRATE_COUNT]
    return [*((x[chosen], y[chosen]) for chosen in (train, calibrate, select)), (x_test, y_test)]


def exported(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The parts to calibrate, select and report with, one after the other, as `--data` reads."""
    _, *kept = parts(path)
    sizes = [len(labels) for _, labels in kept]
    return {
        "x": np.concatenate([images for images, _ in kept]),
        "y": np.concatenate([labels for _, labels in kept]).astype(np.uint8),
        "split": np.repeat(np.array([CALIBRATE, SELECT, REPORT], np.uint8), sizes),
        "dt": np.array(1e-3),
    }


def main() -> None:
    """Train, write the network, and only then look at the test images, once."""
    import torch
    from surrogate import Layer, Recipe, fit, measure, write_nir, write_npz

    recipe = Recipe(
        sizes=(SIDE * SIDE, 64, 10), betas=(0.9375, 0.9375), steps=25, peak=255, epochs=12,
        batch=128, rate=4e-3, weight_decay=0.05, clip=0.6, max_activity=0.1, seed=7,
    )  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--export", type=Path, metavar="OUT.npz", help="write the data split")
    arguments = parser.parse_args()
    network = arguments.out / "mnist14.nir"
    (x, y), _, (x_select, y_select), (x_test, y_test) = parts(arguments.data)

    def progress(epoch: int, loss: float, layers: list[Layer]) -> None:
        write_nir(network, recipe, layers)
        score = measure(network, recipe, x_select, y_select, seed=0)
        print(f"epoch {epoch + 1}  loss {loss:.4f}  select: {score}", flush=True)

    images = torch.from_numpy(x.astype(np.float32) / recipe.peak)
    fit(recipe, images, torch.from_numpy(y.astype(np.int64)), after_epoch=progress)
    print(f"test: {measure(network, recipe, x_test, y_test, seed=0)}")
    if arguments.export is not None:
        write_npz(arguments.export, exported(arguments.data))


if __name__ == "__main__":
    main()
