"""The networks of the results table: what they are, what they learn from, how they are searched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mnist_split import rest, write

from qspinn import datasets, storage
from qspinn.encode import Encoder
from qspinn.stdp.learning import learn
from qspinn.stdp.recipe import Recipe

ENCODE = {"kind": "rate", "steps": 75, "gain": 1 / (3 * 255)}
"""A white pixel spikes in a third of the steps."""
SPIKES = 1
"""Seed of the input spikes while learning; those that are judged by have another."""
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@dataclass(frozen=True)
class Made:
    """A float network and its data, as files.

    Attributes:
        model: What is compiled.
        data: Its calibration, selection and report parts.
        lessons: Other samples, to train on.
        encode: How values become spikes (``kind``, ``steps``...), where the model's file does
            not say.
    """

    model: Path
    data: Path
    lessons: Path
    encode: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """The same as options of qspinn."""
        words = {"kind": "--encode", "steps": "--steps", "gain": "--gain"}
        return tuple(x for key, value in self.encode.items() for x in (words[key], str(value)))


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        title: What it says.
        seeds: Of the float network; all are reported.
        make: The network from the folder of the data, in a folder of its own, by seed.
        search: Further options of ``qspinn compile --target mcu``.
        max_drop: What a candidate may lose on the selection part, as its bound says.
    """

    title: str
    seeds: tuple[int, ...]
    make: Callable[[Path, Path, int], Made]
    search: tuple[str, ...] = ()
    max_drop: float = 0.01


def mnist(data: Path, folder: Path) -> tuple[Path, Path]:
    """MNIST's parts, and the training images that are left."""
    judged, lessons = folder / "data.npz", folder / "lessons.npz"
    if not lessons.exists():
        write(data / "mnist.npz", judged)
        x, y = rest(data / "mnist.npz")
        aside = folder / "lessons.part.npz"
        np.savez(aside, x=x, y=y)
        aside.replace(lessons)  # last: it says that both are whole
    return judged, lessons


def supervised(data: Path, folder: Path, seed: int) -> Made:
    """784-128-10, trained by `examples/mnist`."""
    return Made(EXAMPLES / "mnist" / "mnist.nir", *mnist(data, folder))


def unsupervised(data: Path, folder: Path, seed: int, *, neurons: int, passes: int) -> Made:
    """Diehl and Cook's network, learned here from the images that nobody judges by."""
    judged, lessons = mnist(data, folder)
    model = folder / f"stdp{neurons}.qspinn"
    if not model.exists():
        recipe = Recipe(neurons=neurons, passes=passes, seed=seed)
        encoder = Encoder(**ENCODE, seed=SPIKES)  # type: ignore[arg-type]
        storage.save(learn(datasets.load(lessons), encoder, recipe).graph, model)
    return Made(model, judged, lessons, ENCODE)


def events(data: Path, folder: Path, seed: int) -> Made:
    """The convolutional network of `examples/nmnist`."""
    example = EXAMPLES / "nmnist"
    judged, lessons = folder / "data.npz", folder / "lessons.npz"
    if not lessons.exists():
        command = (sys.executable, example / "train.py", "--data", data / "nmnist8_1ms.npz",
                   "--only-export", "--export", judged, "--export-train", lessons)  # fmt: skip
        subprocess.run([str(word) for word in command], check=True)
    return Made(example / "nmnist.nir", judged, lessons)


PLAIN = ("weight:rounding=nearest_even", "scale=error", "decay=12", "threshold=shared")
"""What is not searched where a training takes long: it would save little memory."""


def tries(*words: str) -> tuple[str, ...]:
    """Words as options of a search."""
    return tuple(x for word in words for x in ("--try", word))


CASES = {
    "stdp-400": Case(
        "MNIST, unsupervised, 400 neurons", (0, 1, 2),
        partial(unsupervised, neurons=400, passes=1),
        search=(*tries("weight=8,4,3,2,1", "membrane=16,8", *PLAIN),
                "--evaluations", "60", "--trainings", "8"),
    ),
    # A few candidates: a pass takes a minute. With few to choose from, room is left for what the
    # selection part cannot know of other samples.
    "stdp-1600": Case(
        "MNIST, unsupervised, 1600 neurons", (0, 1, 2),
        partial(unsupervised, neurons=1600, passes=2),
        search=(*tries("weight=4,3,2", "membrane=8", "input=0.999", *PLAIN), "--trainings", "2"),
        max_drop=0.007,
    ),
    "mnist": Case(
        "MNIST, supervised, 784-128-10", (0,), supervised,
        search=(*tries("weight=4,3,2,ternary,binary", "bias=8", "membrane=8,6,5,4", *PLAIN),
                "--evaluations", "100", "--trainings", "8"),
    ),
    "nmnist": Case(
        "N-MNIST-8, supervised, convolutional", (0,), events,
        search=(*tries("weight=8,4,3,2,ternary,binary", "membrane=8,6,4", *PLAIN),
                "--evaluations", "100", "--trainings", "8"),
    ),
}  # fmt: skip
