"""Convolutional LIF networks for event cameras, in plain PyTorch: events, training, `.nir`, `.npz`.

A recording becomes spikes in steps of a fixed length: an input spikes once in a step, however many
events of its pixel and polarity fall into it. Every layer does the step of `surrogate`, without
a bias.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import torch
from surrogate import (
    Score,
    Training,
    descend,
    deterministic,
    lif,
    neurons,
    tally,
    write_chain,
    write_npz,
)
from torch import Tensor

Array = npt.NDArray[Any]
POLARITIES = 2
CALIBRATE_COUNT = 1000


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution."""

    channels: int
    kernel: int
    stride: int
    padding: int = 0

    def side(self, side: int) -> int:
        """The side of what it makes of a square."""
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


@dataclass(frozen=True, slots=True)
class Recipe(Training):
    """A network for square recordings, and how it is trained."""

    side: int
    milliseconds: int
    """The length of a step."""
    convs: tuple[Conv, ...]
    """Before the dense layer that answers."""
    classes: int
    beta: float
    shift: int
    """While training, a recording is moved by up to so many pixels each way."""
    spread: float
    """Standard deviation of the first weights, times the root of their number per neuron."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the input, then of each layer of neurons."""
        found: list[tuple[int, ...]] = [(POLARITIES, self.side, self.side)]
        for conv in self.convs:
            side = conv.side(found[-1][-1])
            found.append((conv.channels, side, side))
        return [*found, (self.classes,)]


@dataclass(frozen=True, eq=False)
class Events:
    """Spikes of many recordings: the step and the input of each, and where recordings begin."""

    t: Array
    i: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def subset(self, chosen: Array) -> Events:
        """Some recordings, in the order asked for."""
        spans = [slice(self.offsets[k], self.offsets[k + 1]) for k in chosen]
        sizes = [0, *(span.stop - span.start for span in spans)]
        return Events(
            np.concatenate([self.t[span] for span in spans]),
            np.concatenate([self.i[span] for span in spans]),
            np.cumsum(sizes, dtype=np.int64),
        )


def binned(recordings: Iterable[tuple[Array, Array]], recipe: Recipe) -> Events:
    """Recordings, each (milliseconds, input) of its events, as spikes; later ones are cut off."""
    inputs = POLARITIES * recipe.side**2
    keys = []
    for time, index in recordings:
        step = np.asarray(time, np.int64) // recipe.milliseconds
        keys.append(np.unique((step * inputs + index)[step < recipe.steps]))
    joined = np.concatenate(keys)
    return Events(
        (joined // inputs).astype(np.uint16),
        (joined % inputs).astype(np.uint16),
        np.cumsum([0, *map(len, keys)], dtype=np.int64),
    )


def raster(events: Events, chosen: Array, recipe: Recipe, moved: Array | None = None) -> Tensor:
    """Recordings as (steps, batch, 2, side, side), each moved by (rows, columns)."""
    some, side = events.subset(chosen), recipe.side
    sample = np.repeat(np.arange(len(chosen)), np.diff(some.offsets))
    p, y, x = np.unravel_index(some.i, (POLARITIES, side, side))
    if moved is not None:
        y, x = y + moved[sample, 0], x + moved[sample, 1]
    kept = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    spikes = np.zeros((recipe.steps, len(chosen), *recipe.shapes[0]), np.float32)
    spikes[tuple(k[kept] for k in (some.t, sample, p, y, x))] = 1
    return torch.from_numpy(spikes)


def fit(
    recipe: Recipe,
    events: Events,
    labels: Array,
    after_epoch: Callable[[int, float, list[Tensor]], None],
) -> list[Tensor]:
    """Train on recordings; the output is read out by spike count."""
    generator = deterministic(recipe.seed)
    weights = initial_weights(recipe, generator)
    truth = torch.from_numpy(labels.astype(np.int64))

    def answer(chosen: Tensor) -> tuple[list[Tensor], Tensor]:
        reach = (-recipe.shift, recipe.shift + 1)
        moved = torch.randint(*reach, (len(chosen), 2), generator=generator).numpy()
        spikes = raster(events, chosen.numpy(), recipe, moved)
        return forward(recipe, weights, spikes), truth[chosen]

    descend(
        recipe,
        len(events),
        weights,
        [],
        answer,
        generator,
        lambda epoch, loss: after_epoch(epoch, loss, weights),
    )
    return weights


def initial_weights(recipe: Recipe, generator: torch.Generator) -> list[Tensor]:
    """Random weights of every layer."""
    *before, last, _ = recipe.shapes
    sizes: list[tuple[int, ...]] = [
        (conv.channels, shape[0], conv.kernel, conv.kernel)
        for conv, shape in zip(recipe.convs, before, strict=True)
    ]
    sizes.append((recipe.classes, int(np.prod(last))))
    weights = []
    for size in sizes:
        deviation = recipe.spread / float(np.prod(size[1:])) ** 0.5
        weights.append((torch.randn(size, generator=generator) * deviation).requires_grad_())
    return weights


def forward(recipe: Recipe, weights: list[Tensor], spikes: Tensor) -> list[Tensor]:
    """The spikes (steps, batch, *shape) of every layer."""
    beta = torch.tensor(recipe.beta, dtype=spikes.dtype)
    outputs = []
    for number, weight in enumerate(weights):
        steps, batch = spikes.shape[:2]
        rows = spikes.flatten(0, 1)
        if number < len(recipe.convs):
            conv = recipe.convs[number]
            rows = rows.contiguous(memory_format=torch.channels_last)
            current = torch.nn.functional.conv2d(
                rows, weight, stride=conv.stride, padding=conv.padding
            )
        else:
            current = torch.nn.functional.linear(rows.flatten(1), weight)
        spikes = lif(current.reshape(steps, batch, *current.shape[1:]), beta)
        outputs.append(spikes)
    return outputs


def write_nir(path: Path, recipe: Recipe, weights: list[Tensor]) -> None:
    """Write the network such that a forward Euler step is the step trained with."""
    shapes, dt = recipe.shapes, recipe.milliseconds / 1000
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shapes[0])})}
    for number, (weight, shape) in enumerate(zip(weights, shapes[1:], strict=True), start=1):
        before = shapes[number - 1]
        values = weight.detach().numpy()
        if number <= len(recipe.convs):
            conv = recipe.convs[number - 1]
            nodes[f"conv{number}"] = nir.Conv2d(
                input_shape=before[1:],
                weight=values,
                stride=conv.stride,
                padding=conv.padding,
                dilation=1,
                groups=1,
                bias=np.zeros(conv.channels),
            )
        else:
            kind = {"input": np.array(before)}
            nodes["flatten"] = nir.Flatten(input_type=kind, start_dim=0, end_dim=-1)
            nodes[f"fc{number}"] = nir.Linear(weight=values)
        nodes[f"lif{number}"] = neurons(shape, recipe.beta, dt)
    nodes["output"] = nir.Output({"output": np.array(shapes[-1])})
    write_chain(path, nodes, dt, recipe.steps, {"encoder": "none"})


def measure(path: Path, recipe: Recipe, events: Events, labels: Array) -> Score:
    """Run the network in the file `path` in float64."""
    deterministic(recipe.seed)
    nodes = nir.read(path).nodes
    names = [name for name in nodes if name.startswith(("conv", "fc"))]
    weights = [torch.from_numpy(nodes[name].weight.astype(np.float64)) for name in names]

    def runs() -> Iterator[list[Tensor]]:
        for first in range(0, len(events), 200):
            chosen = np.arange(first, min(first + 200, len(events)))
            yield forward(recipe, weights, raster(events, chosen, recipe).double())

    with torch.no_grad():
        return tally(runs(), labels)


@dataclass(frozen=True, eq=False)
class Recordings:
    """Spikes and labels to train with, to choose settings with, and to report with."""

    train: tuple[Events, Array]
    select: tuple[Events, Array]
    test: tuple[Events, Array]
    about: dict[str, Array]
    """Where they come from, for files that hold them."""


def options(description: str | None, folder: Path) -> argparse.ArgumentParser:
    """What every training script is told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=folder, metavar="DIR")
    parser.add_argument("--export", type=Path, metavar="OUT.npz", help="write the data split")
    parser.add_argument(
        "--export-train", type=Path, metavar="OUT.npz", help="write what the network trains on"
    )
    parser.add_argument("--only-export", action="store_true", help="train nothing")
    return parser


def run(recipe: Recipe, name: str, data: Recordings, arguments: argparse.Namespace) -> None:
    """Export, train and write the network, and only then look at the test part, once."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    network = out / f"{name}.nir"
    export(recipe, data, arguments.export, arguments.export_train)
    if arguments.only_export:
        return

    def progress(epoch: int, loss: float, weights: list[Tensor]) -> None:
        if (epoch + 1) % 4 == 0 or epoch + 1 == recipe.epochs:
            write_nir(network, recipe, weights)
            score = measure(network, recipe, *data.select)
            print(f"epoch {epoch + 1:2}  loss {loss:.4f}  select: {score}", flush=True)

    fit(recipe, *data.train, progress)
    print(f"test: {measure(network, recipe, *data.test)}")


def export(recipe: Recipe, data: Recordings, split: Path | None, lessons: Path | None) -> None:
    """Write what qspinn calibrates, selects and reports with, and what it trains with."""
    events, labels = data.train
    if split is not None:
        some = np.arange(min(CALIBRATE_COUNT, len(events)))
        parts = [(events.subset(some), labels[some]), data.select, data.test]
        write_npz(split, exported(recipe, parts) | data.about)
    if lessons is not None:
        write_npz(lessons, exported(recipe, [data.train]) | data.about)


def exported(recipe: Recipe, parts: list[tuple[Events, Array]]) -> dict[str, Array]:
    """What `qspinn --data` reads: the parts to calibrate, select and report with, in that order."""
    events = [events for events, _ in parts]
    sizes = np.concatenate([np.diff(part.offsets) for part in events])
    return {
        "t": np.concatenate([part.t for part in events]),
        "i": np.concatenate([part.i for part in events]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]),
        "y": np.concatenate([labels for _, labels in parts]).astype(np.uint8),
        "split": np.repeat(np.arange(len(parts), dtype=np.uint8), [len(part) for part in events]),
        "dt": np.array(recipe.milliseconds / 1000),
    }
