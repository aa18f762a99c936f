"""Networks whose cores are counted, and what Intel's compiler needed for those that it logged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path

import numpy as np
from qspinn.backends.loihi import BACKEND

from loihi_nets import linear, net, neuron
from qspinn import job as jobs
from qspinn.fixed import QFormat
from qspinn.grouping import grouped
from qspinn.ir import Conv2d, Flatten, Graph, Node, Param, Shape
from qspinn.pipeline import lower

LOGGED = {"oxford": 5, "mnist 784-128-64-10": 5, "pilotnet_lif": 74, "pilotnet_sdnn": 61}
"""Cores in the notebooks of lava-dl."""

MODELS = {
    "tiny": "lava-dl/tiny.net",
    "mnist 784-128-64-10": "lava-dl/mnist_netx.net",
    "oxford": "lava-dl/oxford.net",
    "braille": "nir/braille_noDelay_bias_zero.nir",
    "cnn_sinabs": "nir/cnn_sinabs.nir",
}
"""Below the folder of models."""

_CONVOLUTIONS = ((24, (2, 2), (0, 0)), (36, (2, 2), (0, 0)), (48, (2, 2), (0, 0)),
                 (64, (2, 1), (1, 0)), (64, (1, 1), (0, 0)))  # fmt: skip


def model(path: Path, device: str) -> Graph:
    """A model's file, legalized as ``qspinn compile`` does for a device without data."""
    options = {"reset": "zero"} if "bias_zero" in path.name else None
    job = grouped(jobs.prepare(path, options=options), BACKEND, BACKEND.devices[device])
    return lower(job.graph, jobs.plan_for(job, BACKEND), BACKEND).final


def pilotnet() -> Graph:
    """PilotNet behind the host's encoder: the shapes of pilotnet_sdnn, and weights of 4 bits."""
    draw = np.random.default_rng(1)
    nodes: list[Node] = []
    source, shape = "input", (3, 66, 200)
    for k, (outs, stride, padding) in enumerate(_CONVOLUTIONS, 1):
        weights = Param(draw.integers(-7, 8, (outs, shape[0], 3, 3)), QFormat(8, -1))
        size = [(shape[i + 1] + 2 * padding[i] - 3) // stride[i] + 1 for i in range(2)]
        shape = (outs, size[0], size[1])
        nodes += [
            Conv2d(name=f"conv{k}", inputs=(source,), weight=weights, stride=stride,
                   padding=padding),
            neuron(f"lif{k}", (f"conv{k}",), shape),
        ]  # fmt: skip
        source = f"lif{k}"
    nodes.append(Flatten(name="flat", inputs=(source,)))
    nodes += layers("flat", (int(np.prod(shape)), 100, 50, 10, 1), most=7, first=6)
    return legal("pilotnet_sdnn", (3, 66, 200), nodes)


def dense(*sizes: int, name: str = "dense") -> Graph:
    """Fully connected layers with weights of 8 bits."""
    return legal(name, sizes[:1], layers("input", sizes, most=127))


def layers(source: str, sizes: tuple[int, ...], most: int, first: int = 1) -> list[Node]:
    """Fully connected layers of such sizes behind a source."""
    draw = np.random.default_rng(2)
    nodes: list[Node] = []
    for k, (ins, outs) in enumerate(pairwise(sizes), first):
        weights = draw.integers(-most, most + 1, (outs, ins))
        nodes += [linear(f"fc{k}", source, weights), neuron(f"lif{k}", (f"fc{k}",), (outs,))]
        source = f"lif{k}"
    return nodes


def legal(name: str, shape: Shape, nodes: list[Node]) -> Graph:
    """A network whose summed inputs are said to be small enough."""
    return BACKEND.legalize(
        net(name, shape, tuple(nodes)), assume_activation={node.path: 100 for node in nodes}
    )


def networks(models: Path | None, examples: Path) -> dict[str, Callable[[str], Graph]]:
    """Every network there is here, by name: what makes its graph for a device.

    Args:
        models: The folder of trained networks from elsewhere, if there is one.
        examples: The folder of the examples.
    """
    found: dict[str, Callable[[str], Graph]] = {}
    if models is not None:
        found |= {n: partial(model, models / p) for n, p in MODELS.items()}
    found["784-128-10"] = partial(model, examples / "mnist" / "mnist.nir")
    found["nmnist"] = partial(model, examples / "nmnist" / "nmnist.nir")
    found["784-400-400"] = lambda _: dense(784, 400, 400)
    found["pilotnet_sdnn"] = lambda _: pilotnet()
    if (folder := records()) is not None:
        found["pilotnet_lif"] = partial(model, folder / "gts/pilotnet_lif/network.net")
        found["ntidigits"] = partial(model, folder / "gts/ntidigits/ntidigits.net")
    return found


def records() -> Path | None:
    """The networks in lava-dl's wheel, if it is installed."""
    try:
        return Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
    except PackageNotFoundError:
        return None
