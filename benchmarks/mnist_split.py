"""MNIST as a qspinn data file, split as `examples/mnist/train.py` splits it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qspinn.ir import Array

SEED, CALIBRATE, SELECT = 2024, 2000, 8000


def write(source: Path, target: Path) -> Path:
    """Write what the network was not trained on to select with, and the test images to report.

    Args:
        source: ``x_train``, ``y_train``, ``x_test``, ``y_test``.
        target: The .npz file to write.
    """
    with np.load(source) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"]
        x_test, y_test = file["x_test"].reshape(-1, 784), file["y_test"]
    order = np.random.default_rng(SEED).permutation(len(x))
    some = np.concatenate([order[:CALIBRATE], order[-SELECT:]])
    np.savez(
        target,
        x=np.concatenate([x[some], x_test]),
        y=np.concatenate([y[some], y_test]),
        split=np.repeat([0, 1, 2], [CALIBRATE, SELECT, len(y_test)]),
        dt=np.array(1e-3),
    )
    return target


def rest(source: Path) -> tuple[Array, Array]:
    """The training images and labels that `write` leaves out: what may be trained on."""
    with np.load(source) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"]
    some = np.random.default_rng(SEED).permutation(len(x))[CALIBRATE:-SELECT]
    return x[some], y[some].astype(np.int64)
