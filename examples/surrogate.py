"""Surrogate-gradient training for the examples: feed-forward LIF networks in plain PyTorch.

Training, the written `.nir` and the measurement share one definition of a step:

    v = beta * v + W s + b;   s = v > 1;   v = 0 where s

The measurement reads the written file back, so that its figures belong to the file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

DT = 1e-3
"""Seconds per step."""

THRESHOLD = 1.0

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Training:
    """How a network is trained; everything random follows from `seed`."""

    steps: int
    epochs: int
    batch: int
    rate: float
    weight_decay: float
    clip: float
    """No weight exceeds it in magnitude, so that few bits span every layer."""
    max_activity: float
    """Mean firing rate of a hidden layer above which training pushes back."""
    seed: int


@dataclass(frozen=True, slots=True)
class Recipe(Training):
    """A dense network for rate-coded values, and how it is trained."""

    sizes: tuple[int, ...]
    betas: tuple[float, ...]
    """One decay per layer."""
    peak: int
    """The pixel value that spikes in every step; x spikes with probability x / peak."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One connection and the LIF neurons behind it; `beta` is not trained."""

    weight: Tensor
    bias: Tensor
    beta: Tensor


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy over a set of images, and each layer's spikes per neuron and step."""

    accuracy: float
    activity: tuple[float, ...]

    def __str__(self) -> str:
        """One line for a progress report."""
        rates = " and ".join(f"{rate:.1%}" for rate in self.activity)
        return f"{self.accuracy:.2%} right; {rates} of the neurons spike in a step"


class _Spike(torch.autograd.Function):  # type: ignore[misc]
    """A step forward, the derivative of a fast sigmoid backward."""

    @staticmethod
    def forward(ctx: Any, excess: Tensor) -> Tensor:
        ctx.save_for_backward(excess)
        return (excess > 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (excess,) = ctx.saved_tensors
        return grad / (1 + 5 * excess.abs()) ** 2


def fit(
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    *,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    after_epoch: Callable[[int, float, list[Layer]], None],
) -> list[Layer]:
    """Train on `images` (samples x features, 0 to 1); the output is read out by spike count."""
    generator = deterministic(recipe.seed)
    used = (images > 0).any(dim=0)
    layers = _initial_layers(recipe, used, generator)

    def answer(chosen: Tensor) -> tuple[list[Tensor], Tensor]:
        batch = images[chosen]
        if augment is not None:
            batch = augment(batch, generator) * used
        return _forward(layers, _encode(batch, recipe.steps, generator)), labels[chosen]

    descend(
        recipe,
        len(images),
        [layer.weight for layer in layers],
        [layer.bias for layer in layers],
        answer,
        generator,
        lambda epoch, loss: after_epoch(epoch, loss, layers),
    )
    return layers


def descend(
    recipe: Training,
    samples: int,
    weights: list[Tensor],
    biases: list[Tensor],
    answer: Callable[[Tensor], tuple[list[Tensor], Tensor]],
    generator: torch.Generator,
    after_epoch: Callable[[int, float], None],
) -> None:
    """Every epoch over `samples` samples.

    `answer` gives the spikes of every layer, (steps, batch, ...), and the labels of a batch.
    """
    optimizer = torch.optim.AdamW(
        [*weights, *biases], lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    total = recipe.epochs * -(-samples // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=total)
    for epoch in range(recipe.epochs):
        losses = []
        for chosen in torch.randperm(samples, generator=generator).split(recipe.batch):
            loss = _loss(recipe, *answer(chosen))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for weight in weights:
                    weight.clamp_(-recipe.clip, recipe.clip)
            losses.append(loss.item())
        after_epoch(epoch, sum(losses) / len(losses))


def deterministic(seed: int) -> torch.Generator:
    """One thread and deterministic kernels; the generator is the only source of randomness."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return torch.Generator().manual_seed(seed)


def _initial_layers(recipe: Recipe, used: Tensor, generator: torch.Generator) -> list[Layer]:
    """Random weights; those of inputs outside the mask `used` are zero and stay zero."""
    layers: list[Layer] = []
    for (fan_in, size), beta in zip(pairwise(recipe.sizes), recipe.betas, strict=True):
        weight = torch.randn(size, fan_in, generator=generator) / fan_in**0.5
        if not layers:
            weight = torch.where(used, weight, 0)
        bias = torch.zeros(size).requires_grad_()
        layers.append(Layer(weight.requires_grad_(), bias, torch.full((size,), beta)))
    return layers


def _forward(layers: list[Layer], spikes: Tensor) -> list[Tensor]:
    """The spikes (steps, batch, neurons) of every layer."""
    outputs = []
    for layer in layers:
        spikes = lif(torch.nn.functional.linear(spikes, layer.weight, layer.bias), layer.beta)
        outputs.append(spikes)
    return outputs


def lif(currents: Tensor, beta: Tensor) -> Tensor:
    """The step of the module's docstring; no gradient flows through the reset."""
    v = torch.zeros_like(currents[0])
    spikes = []
    for current in currents.unbind():
        v = beta * v + current
        s = _Spike.apply(v - THRESHOLD)
        v = v * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


def _encode(images: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Independent draws (steps, batch, neurons), each a spike with the pixel's value as chance."""
    drawn = torch.rand(steps, *images.shape, generator=generator)
    return (drawn < images).to(images.dtype)


def _loss(recipe: Training, outputs: list[Tensor], labels: Tensor) -> Tensor:
    """Cross entropy of the output's spike counts, and a price on hidden activity."""
    *hidden, last = outputs
    # A class that leads by a tenth of the steps leads by one logit.
    logits = last.sum(dim=0) * (10 / recipe.steps)
    loss = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.05)
    for spikes in hidden:
        loss = loss + 10 * torch.relu(spikes.mean() - recipe.max_activity) ** 2
    return loss


def measure(path: Path, recipe: Recipe, images: Images, labels: Labels, *, seed: int) -> Score:
    """Run the network in the file `path` in float64."""
    layers = _read_nir(path)
    generator = deterministic(seed)
    parts = (images[first : first + 1000] for first in range(0, len(images), 1000))
    chances = (torch.from_numpy(part / recipe.peak) for part in parts)
    return tally((_forward(layers, _encode(c, recipe.steps, generator)) for c in chances), labels)


def tally(runs: Iterable[list[Tensor]], labels: Labels) -> Score:
    """The score of batches of samples, from the spikes (steps, batch, ...) of their layers.

    Ties of the count go to the lowest class.
    """
    right = first = 0
    total = np.zeros(1)
    for outputs in runs:
        # numpy's argmax promises the first of equal counts, torch's does not.
        decided = outputs[-1].sum(dim=0).numpy().argmax(axis=1)
        right += int(np.count_nonzero(decided == labels[first : first + len(decided)]))
        first += len(decided)
        total = total + [s.sum().item() / s[0, 0].numel() / len(s) for s in outputs]
    return Score(right / len(labels), tuple((total / len(labels)).tolist()))


def write_nir(path: Path, recipe: Recipe, layers: list[Layer]) -> None:
    """Write the network such that a forward Euler step of `DT` is the step trained with."""
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(recipe.sizes[:1])})}
    for number, (layer, beta) in enumerate(zip(layers, recipe.betas, strict=True), start=1):
        nodes[f"fc{number}"] = nir.Affine(
            weight=layer.weight.detach().numpy(), bias=layer.bias.detach().numpy()
        )
        nodes[f"lif{number}"] = neurons((len(layer.bias),), beta, DT)
    nodes["output"] = nir.Output({"output": np.array(recipe.sizes[-1:])})
    encoding = {"encoder": "rate", "gain": 1 / recipe.peak}
    write_chain(path, nodes, DT, recipe.steps, encoding)


def neurons(shape: tuple[int, ...], beta: float, dt: float) -> nir.LIF:
    """LIF neurons whose forward Euler step of `dt` is the step trained with."""
    one = np.ones(shape)
    tau = dt / (1 - beta)
    return nir.LIF(
        tau=tau * one,
        r=tau / dt * one,
        v_leak=0 * one,
        v_threshold=THRESHOLD * one,
        v_reset=0 * one,
    )


def write_chain(
    path: Path, nodes: dict[str, nir.NIRNode], dt: float, steps: int, encoding: dict[str, Any]
) -> None:
    """Write nodes that follow one another, in the order they have."""
    # NIR has no words for these; qspinn reads them from here.
    meaning = {
        "dt": dt,
        "integrator": "euler",
        "reset": "zero",
        "reset_timing": "at_spike",
        "comparison": ">",
        "T": steps,
        **encoding,
        "readout": "count",
    }
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=list(pairwise(nodes)),
        metadata={"qspinn": meaning},
    )
    content = io.BytesIO()
    nir.write(content, graph, compression="gzip", compression_opts=9)
    _replace(path, content.getvalue())


def _read_nir(path: Path) -> list[Layer]:
    """The layers of a file of `write_nir`, discretized from what the file says, in float64."""
    graph = nir.read(path)
    layers = []
    for number in range(1, len(graph.nodes) // 2):
        affine, lif = graph.nodes[f"fc{number}"], graph.nodes[f"lif{number}"]
        gain = lif.r * DT / lif.tau
        layers.append(
            Layer(
                torch.from_numpy(affine.weight * gain[:, None]),
                torch.from_numpy(affine.bias * gain),
                torch.from_numpy(1 - DT / lif.tau),
            )
        )
    return layers


def spread(scores: Sequence[Score]) -> str:
    """The accuracies of several encodings in one line."""
    values = [score.accuracy for score in scores]
    return f"mean {np.mean(values):.2%}, from {min(values):.2%} to {max(values):.2%}"


def write_npz(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write a compressed `.npz`; the same arrays give the same bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    _replace(path, content.getvalue())


def _replace(path: Path, content: bytes) -> None:
    """Write aside, then rename: the file appears whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    os.replace(aside, path)
