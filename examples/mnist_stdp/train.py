"""Learn MNIST without labels: competing neurons, spike-timing dependent plasticity, a label vote.

Writes `stdpN.qspinn` (the network) and, with `--export`, the data split as qspinn wants it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qspinn import storage
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.ir import Graph
from qspinn.readout import votes
from qspinn.stats import Estimate, accuracy
from qspinn.stdp.learning import counts, learn
from qspinn.stdp.recipe import Recipe

STEPS, PEAK = 75, 255
GAIN = 1 / (3 * PEAK)
"""A white pixel spikes in a third of the steps."""
LEARNING = 1
"""Seed of the input spikes while learning; those measured with have seed 0."""
SPLIT_SEED = 2024
CALIBRATE_COUNT, SELECT_COUNT = 2000, 8000


def main() -> None:
    """Learn, write the network, and look at the test images once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE.npz",
        help="x_train, y_train, x_test, y_test (uint8; images 28x28 or flat)",
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR")
    parser.add_argument("--neurons", type=int, default=400)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, metavar="OUT.npz", help="write the data split")
    parser.add_argument("--export-train", type=Path, metavar="OUT.npz", help="and what it learned")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    with np.load(arguments.data) as file:
        x, y = file["x_train"].reshape(-1, 784), file["y_train"].astype(np.int64)
        x_test, y_test = file["x_test"].reshape(-1, 784), file["y_test"].astype(np.int64)
    # The file's order is not random, so neither its head nor its tail would be a fair sample.
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    calibrate, rest = order[:CALIBRATE_COUNT], order[CALIBRATE_COUNT:]
    train, select = rest[:-SELECT_COUNT], rest[-SELECT_COUNT:]
    if arguments.export is not None:
        np.savez_compressed(
            arguments.export,
            x=np.concatenate([x[calibrate], x[select], x_test]),
            y=np.concatenate([y[calibrate], y[select], y_test]),
            split=np.repeat([0, 1, 2], [CALIBRATE_COUNT, SELECT_COUNT, len(y_test)]),
        )
    if arguments.export_train is not None:
        np.savez_compressed(arguments.export_train, x=x[train], y=y[train])

    recipe = Recipe(neurons=arguments.neurons, passes=arguments.passes, seed=arguments.seed)
    began = time.process_time()
    learned = learn(
        dataset(x[train], y[train]),
        Encoder("rate", STEPS, GAIN, LEARNING),
        recipe,
        told=lambda number, spikes: print(f"pass {number + 1}: {spikes:.1f} spikes an image"),
    )
    print(f"{time.process_time() - began:.0f} CPU-seconds")
    storage.save(learned.graph, arguments.out / f"stdp{arguments.neurons}.qspinn")
    for name, images, labels in (("held out", x[select], y[select]), ("test", x_test, y_test)):
        print(f"{name}: {measured(learned.graph, images, labels).percent()}")


def dataset(x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> Dataset:
    """Images in one part."""
    return Dataset("images", x, y, np.zeros(len(y), np.int64))


def measured(graph: Graph, x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64]) -> Estimate:
    """The accuracy of the float network."""
    encoder = Encoder("rate", STEPS, GAIN)
    spikes = counts(graph, dataset(x, y), encoder, np.arange(len(y)))
    return accuracy(votes(graph.output.labels, spikes).argmax(1) == y)


if __name__ == "__main__":
    main()
