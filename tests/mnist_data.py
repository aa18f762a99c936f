"""MNIST as a qspinn data file: some training images to calibrate, all test images to report."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_mnist(source: Path, target: Path) -> Path:
    with np.load(source) as z:
        some = np.random.default_rng(0).permutation(len(z["x_train"]))[:500]
        x = np.concatenate([z["x_train"][some], z["x_test"]]).reshape(-1, 784)
        y = np.concatenate([z["y_train"][some], z["y_test"]])
    split = np.repeat([0, 2], [len(some), len(y) - len(some)])
    np.savez(target, x=x, y=y, split=split)
    return target
