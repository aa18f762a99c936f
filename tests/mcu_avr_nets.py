"""Networks of the kinds that 8-bit cores have kernels for."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcu_builds import chain, param, state
from qspinn.ir import Array, Graph, Input, Linear, Neuron, Node, Output, Param
from qspinn.neurons import spiking


def dense(
    name: str, source: str, values: Array, fmt: str = "s8f0", bias: Param | None = None
) -> Linear:
    """A matrix of these weights."""
    return Linear(name=name, inputs=(source,), weight=param(values, fmt), bias=bias)


def leaks(
    name: str, source: str, size: int, threshold: int, places: int = 4, fmt: str = "s16f0",
    **options: Any,
) -> Neuron:  # fmt: skip
    """Leaky neurons with a shift for their decay."""
    model = spiking(**options)
    values = {
        "threshold": param(threshold, "s16f0"), "decay": param(places, "leak4"),
        "v_reset": param(-300, "s16f0"),
    }  # fmt: skip
    fired = {"fired": state("u1f0")} if "fired" in model.states else {}
    return Neuron(
        name=name, inputs=(source,), shape=(size,), model=model,
        values={k: values[k] for k in model.params}, states={"v": state(fmt), **fired},
    )  # fmt: skip


def leaking(seed: int, largest: int = 300) -> Graph:
    """Layers of random sizes, widths, shifts, resets and levels; any function of the seed."""
    rng = np.random.default_rng(seed)
    sizes = [n for n in (20, 49, 100, 196, 300) if n <= largest]
    source, ins = "x", int(rng.choice(sizes))
    nodes: list[Node] = [Input(name="x", shape=(ins,))]
    for i in range(int(rng.integers(1, 4))):
        outs = int(rng.choice([n for n in (6, 8, 10, 16, 21, 32, 40, 64) if n <= largest]))
        bits, unsigned = int(rng.choice((8, 8, 4, 2))), rng.random() < 0.2
        low, high = (0, 1 << bits) if unsigned else (-(1 << (bits - 1)), 1 << (bits - 1))
        fmt = f"{'u' if unsigned else 's'}{bits}f0"
        bias = param(rng.integers(-20, 20, outs), "s16f0") if rng.random() < 0.3 else None
        nodes.append(dense(f"fc{i}", source, rng.integers(low, high, (outs, ins)), fmt, bias))
        level = int(rng.integers(1, 3 * high))
        reset = str(rng.choice(("zero", "subtract", "value")))
        compare = str(rng.choice((">", ">=")))
        places = int(rng.integers(1, 9))
        source, ins = f"lif{i}", outs
        nodes.append(leaks(source, f"fc{i}", outs, level, places, reset=reset, compare=compare))
    return Graph("leaking", (*nodes, Output(name="out", inputs=(source,), readout="count")))


def tiled(name: str = "tiled", ins: int = 40, sizes: tuple[int, ...] = (21, 8, 3)) -> Graph:
    """Layers of usual leaky neurons: whole tiles, rests, every reset, and sums that saturate."""
    rng = np.random.default_rng(ins)
    resets: tuple[dict[str, str], ...] = (
        {}, {"reset": "subtract", "compare": ">="}, {"reset": "value"},
    )  # fmt: skip
    nodes: list[Node] = [Input(name="x", shape=(ins,))]
    source = "x"
    for i, size in enumerate(sizes):
        nodes.append(dense(f"fc{i}", source, rng.integers(-128, 127, (size, ins))))
        nodes.append(leaks(f"lif{i}", f"fc{i}", size, 200 * (i + 1), 1 + i, **resets[i % 3]))
        source, ins = f"lif{i}", size
    return chain(name, *nodes)


def packed(name: str = "packed", bits: int = 4, ins: int = 300) -> Graph:
    """Tiles of weights that share bytes, with a sign and without, from indices and from bits."""
    rng = np.random.default_rng(bits)
    half = 1 << (bits - 1)
    bias = param(rng.integers(-9, 9, 9), "s16f0")
    return chain(
        name, Input(name="x", shape=(ins,)),
        dense("fc1", "x", rng.integers(-half, half, (21, ins)), f"s{bits}f0"),
        leaks("lif1", "fc1", 21, 2 * half),
        dense("fc2", "lif1", rng.integers(0, 2 * half, (9, 21)), f"u{bits}f0", bias),
        leaks("lif2", "fc2", 9, 4 * half),
        dense("fc3", "lif2", rng.integers(-half, half, (16, 9)), f"s{bits}f0"),
        leaks("lif3", "fc3", 16, half),
    )  # fmt: skip


def biased() -> Graph:
    """Tiles whose sums start from a bias, of wide indices and of many words of spikes."""
    rng = np.random.default_rng(4)
    bias = param(rng.integers(-300, 300, 70), "s16f0")
    return chain(
        "biased", Input(name="x", shape=(300,)),
        dense("fc1", "x", rng.integers(-90, 100, (70, 300)), bias=bias),
        leaks("lif1", "fc1", 70, 300),
        dense("fc2", "lif1", rng.integers(0, 200, (9, 70)), "u8f0", param(-250, "s16f0")),
        leaks("lif2", "fc2", 9, 900, 8),
    )  # fmt: skip


def saturating() -> Graph:
    """Membranes that reach both ends of 16 bits."""
    rng = np.random.default_rng(9)
    weight = rng.choice((-128, 127), (11, 250))
    weight[:5] = np.sign(weight[:5, :1]) * 127
    return chain(
        "saturating", Input(name="x", shape=(250,)), dense("fc", "x", weight),
        leaks("lif", "fc", 11, 20_000, 5, reset="subtract"),
    )  # fmt: skip
