"""Train the N-MNIST-8 network: two convolutions and a dense layer of LIF neurons on camera events.

Writes `nmnist.nir` (the network) and, where asked, the data as qspinn wants them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from event_camera import Array, Conv, Events, Recipe, Recordings, binned, options, run

RECIPE = Recipe(
    side=34,
    steps=20,
    milliseconds=15,
    convs=(Conv(channels=12, kernel=6, stride=4), Conv(channels=48, kernel=3, stride=2, padding=1)),
    classes=8,
    beta=0.75,
    epochs=16,
    batch=100,
    rate=1e-2,
    weight_decay=0.02,
    clip=1.0,
    max_activity=0.15,
    shift=1,
    spread=1.5,
    seed=7,
)
SPLIT_SEED, SELECT_COUNT = 2024, 2000
ABOUT = {
    "source": np.array("N-MNIST (G. Orchard, A. Jayawant, G. Cohen, N. Thakor), digits 0 to 7"),
    "license": np.array("CC BY-SA 4.0"),
}


def main() -> None:
    """Split the recordings, train, and report."""
    parser = options(__doc__, Path(__file__).parent)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz", help="see README")
    arguments = parser.parse_args()
    run(RECIPE, "nmnist", split(arguments.data), arguments)


def split(path: Path) -> Recordings:
    """The recordings of a file; some of its training part are held out to choose settings with."""
    events, labels = recordings(path, "train")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    train, select = (
        (events.subset(part), labels[part])
        for part in (order[:-SELECT_COUNT], order[-SELECT_COUNT:])
    )
    return Recordings(train, select, recordings(path, "test"), ABOUT)


def recordings(path: Path, part: str) -> tuple[Events, Array]:
    """The spikes and the labels of one part of the file."""
    with np.load(path) as file:
        labels = file[f"{part}_labels"]
        ends = file[f"{part}_offsets"].astype(np.int64)
        low, middle, high = (file[f"{part}_d{k}"].astype(np.int32) for k in range(3))
    moves = low | middle << 8 | high << 16
    inputs = 2 * RECIPE.side**2

    def times() -> Iterator[tuple[Array, Array]]:
        for first, last in pairwise(ends):
            keys = np.cumsum(moves[first:last], dtype=np.int64)
            yield keys // inputs, keys % inputs

    return binned(times(), RECIPE), labels


if __name__ == "__main__":
    main()
