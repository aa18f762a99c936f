"""Small float graphs that several tests compile."""

from __future__ import annotations

import itertools

import numpy as np

from qspinn.ir import Array, Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.neurons import integrator, spiking


def param(values: object) -> Param:
    return Param(np.asarray(values, np.float64))


def lif(name: str, source: str, size: int, *, decay: float = 0.9, theta: float = 1.0) -> Neuron:
    return Neuron(
        name=name, inputs=(source,), shape=(size,), model=spiking(),
        values={"decay": param(decay), "threshold": param(theta)}, states={"v": State()},
    )  # fmt: skip


def mlp(seed: int = 0, sizes: tuple[int, ...] = (12, 9, 4), *, readout: str = "count") -> Graph:
    """A float network of LIF layers; with a membrane readout it ends in an integrator."""
    rng = np.random.default_rng(seed)
    nodes: list[object] = [Input(name="x", shape=(sizes[0],))]
    source = "x"
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        w, b = rng.normal(0.1, 0.6, (n_out, n_in)), rng.normal(0, 0.1, n_out)
        nodes.append(Linear(name=f"fc{i}", inputs=(source,), weight=Param(w), bias=Param(b)))
        source = f"lif{i}"
        nodes.append(lif(source, f"fc{i}", n_out))
    if readout.startswith("membrane"):
        nodes[-1] = Neuron(
            name=source, inputs=nodes[-1].inputs, shape=(sizes[-1],), model=integrator(),
            values={"decay": param(0.8)}, states={"v": State()},
        )  # fmt: skip
    nodes.append(Output(name="out", inputs=(source,), readout=readout))
    return Graph("mlp", tuple(nodes))


def spikes(rng: np.random.Generator, shape: tuple[int, ...], rate: float = 0.3) -> Array:
    return (rng.random(shape) < rate).astype(np.int64)
