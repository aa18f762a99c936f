"""Train the digits network: 64-64-10 LIF neurons on scikit-learn's handwritten digits.

Writes `digits.nir` (the network) and `digits.npz` (the data, split as qspinn wants it).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from surrogate import DT, Layer, Recipe, fit, measure, spread, write_nir, write_npz

RECIPE = Recipe(
    sizes=(64, 64, 10),
    betas=(0.9, 0.875),
    steps=24,
    peak=16,
    epochs=300,
    batch=275,
    rate=1e-2,
    weight_decay=0.05,
    clip=0.6,
    max_activity=0.1,
    seed=7,
)
SPLIT_SEED = 2024
OTHER_ENCODINGS = 10
"""Further seeds of the input spikes, to show how much the draw matters."""

TRAIN, SELECT, REPORT = range(3)
SIZES = {TRAIN: 1100, SELECT: 200, REPORT: 497}


def main() -> None:
    """Train, write both files, and only then look at the report part, once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    network = out / "digits.nir"

    data = digits()
    write_npz(out / "digits.npz", data)
    images, labels = data["x"], data["y"]
    select, report = data["split"] == SELECT, data["split"] == REPORT

    def progress(epoch: int, loss: float, layers: list[Layer]) -> None:
        if (epoch + 1) % 50 == 0:
            write_nir(network, RECIPE, layers)
            score = measure(network, RECIPE, images[select], labels[select], seed=0)
            print(f"epoch {epoch + 1:3}  loss {loss:.4f}  select: {score}", flush=True)

    train = data["split"] == TRAIN
    layers = fit(
        RECIPE,
        torch.from_numpy(images[train].astype(np.float32) / RECIPE.peak),
        torch.from_numpy(labels[train].astype(np.int64)),
        augment=jiggle,
        after_epoch=progress,
    )
    write_nir(network, RECIPE, layers)
    scores = [
        measure(network, RECIPE, images[report], labels[report], seed=seed)
        for seed in range(1 + OTHER_ENCODINGS)
    ]
    print(f"report: {scores[0]}")
    print(f"report, {OTHER_ENCODINGS} other encodings: {spread(scores[1:])}")


def digits() -> dict[str, npt.NDArray[Any]]:
    """All 1797 samples in a seeded order: the training part first, then select, then report."""
    source = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(source.target))
    return {
        "x": source.data[order].astype(np.uint8),
        "y": source.target[order].astype(np.uint8),
        "split": np.repeat(np.array(list(SIZES), np.uint8), list(SIZES.values())),
        "dt": np.array(DT),
        "source": np.array(
            "scikit-learn load_digits: the test part of Optical Recognition of Handwritten Digits"
            " (E. Alpaydin, C. Kaynak, 1998), UCI Machine Learning Repository"
        ),
        "license": np.array("BSD-3-Clause (as distributed with scikit-learn)"),
    }


def jiggle(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale, shear and shift every image a little."""
    angle, shear, scale = torch.randn(3, len(images), generator=generator) * torch.tensor(
        [[0.1], [0.1], [0.05]]
    )
    shift = (torch.rand(len(images), 2, 1, generator=generator) - 0.5) * 0.3
    cos, sin = angle.cos() * (1 + scale), angle.sin() * (1 + scale)
    turn = torch.stack([cos, shear - sin, sin, cos], dim=1).view(-1, 2, 2)
    side = math.isqrt(images.shape[1])
    square = images.view(-1, 1, side, side)
    grid = torch.nn.functional.affine_grid(
        torch.cat([turn, shift], dim=2), list(square.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(square, grid, align_corners=False)
    return moved.view_as(images)


if __name__ == "__main__":
    main()
