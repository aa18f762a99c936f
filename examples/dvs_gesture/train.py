"""Train a DVS128 Gesture network on a folder in tonic's layout.

Writes `dvs_gesture.nir` (the network) and, where asked, the data as qspinn wants them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from event_camera import Array, Conv, Events, Recipe, Recordings, binned, options, run

RECIPE = Recipe(
    side=32,
    steps=60,
    milliseconds=25,
    convs=(Conv(channels=16, kernel=8, stride=4), Conv(channels=32, kernel=3, stride=2, padding=1)),
    classes=11,
    beta=0.875,
    epochs=60,
    batch=32,
    rate=5e-3,
    weight_decay=0.02,
    clip=1.0,
    max_activity=0.15,
    shift=2,
    spread=1.5,
    seed=7,
)
CAMERA_SIDE = 128
LONGEST = 200_000
"""No recording lasts as many milliseconds, and every recording lasts more microseconds."""
FOLDERS = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
ABOUT = {
    "source": np.array("DVS128 Gesture (A. Amir et al., IBM, 2017)"),
    "license": np.array("CC BY 4.0"),
}


def main() -> None:
    """Split the recordings by their users, train, and report."""
    parser = options(__doc__, Path(__file__).parent)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="holds " + ", ".join(FOLDERS.values()),
    )
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    arguments = parser.parse_args()
    recipe = replace(RECIPE, epochs=arguments.epochs)
    train, test = (files(arguments.data / folder) for folder in FOLDERS.values())
    users = sorted({user_of(path) for path in train})
    if len(users) < 2:
        sys.exit(
            f"{arguments.data / FOLDERS['train']}: {len(users)} users, needs 2 to hold one out"
        )
    held_out = users[-max(1, len(users) // 5) :]
    data = Recordings(
        read([path for path in train if user_of(path) not in held_out], recipe),
        read([path for path in train if user_of(path) in held_out], recipe),
        read(test, recipe),
        ABOUT,
    )
    run(recipe, "dvs_gesture", data, arguments)


def read(paths: list[Path], recipe: Recipe) -> tuple[Events, Array]:
    """The spikes and the gestures of recordings."""
    return binned(map(events_of, paths), recipe), np.array([int(path.stem) for path in paths])


def files(folder: Path) -> list[Path]:
    """The recordings of a folder: a folder for each user and light, a file for each gesture."""
    found = list(folder.glob("*/*.npy"))
    if stray := [path for path in found if not path.stem.isdecimal()]:
        sys.exit(f"{stray[0]}: no recording; they are called K.npy, K the gesture")
    found.sort(key=lambda path: (path.parent.name, int(path.stem)))
    if not found:
        sys.exit(
            f"{folder}: holds no recording; tonic's layout is userNN_light/K.npy, K the gesture"
        )
    return found


def user_of(path: Path) -> str:
    """Who is seen in a recording, under whatever light."""
    return path.parent.name.partition("_")[0]


def events_of(path: Path) -> tuple[Array, Array]:
    """The milliseconds since the first event, and the inputs: polarity, row, column."""
    stored = np.load(path)
    if stored.dtype.names:
        x, y, p, t = (stored[name].astype(np.float64) for name in "xypt")
    elif stored.ndim != 2 or stored.shape[1] != 4:
        sys.exit(f"{path}: shape {stored.shape}, needs one row of x, y, polarity, time an event")
    else:
        x, y, p, t = stored.astype(np.float64).T
    t = t - t.min()
    # tonic's files count milliseconds, the arrays that tonic makes of them microseconds.
    milliseconds = t if t.max() < LONGEST else t / 1000
    places = (p > 0, y * RECIPE.side // CAMERA_SIDE, x * RECIPE.side // CAMERA_SIDE)
    shape = (2, RECIPE.side, RECIPE.side)
    index = np.ravel_multi_index(tuple(part.astype(np.int64) for part in places), shape)
    return milliseconds, index


if __name__ == "__main__":
    main()
