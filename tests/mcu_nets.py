"""Networks with what few-bit and unsupervised learning need: narrow states, lateral, votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mcu_builds import chain, dense, lif, param, state
from qspinn.fixed import QFormat
from qspinn.ir import (
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Lateral,
    Linear,
    Neuron,
    Node,
    Output,
    Param,
    SumPool2d,
)


def weights(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Param:
    """Any weights of a format: ``b1``, ``u1``, ``u3``, ``s3`` and so on."""
    if kind == "b1":
        return Param(rng.choice((-1, 1), shape), QFormat(1, 0, binary=True))
    fmt = QFormat.parse(f"{kind}f0")
    return Param(rng.integers(fmt.range.lo, fmt.range.hi + 1, shape), fmt)


def tight(
    name: str, source: str, shape: int | tuple[int, ...], fmt: str, start: object, **options: Any
) -> Neuron:
    """Leaky neurons with a narrow membrane and, if any, a 4-bit current."""
    made = lif(name, source, shape, 3, **options)
    states = {**made.states, "v": state(fmt, start)}
    if "u" in states:
        states["u"] = state("u4f0", 2)
    return replace(made, states=states, values={**made.values, "threshold": param(2, "s8f0")})


def narrow_states() -> Graph:
    """Membranes, currents and counters of 1 to 4 bits that start anywhere and decide a tie."""
    rng = np.random.default_rng(21)
    nodes: list[Node] = [
        Input(name="x", shape=(2, 4, 5)),
        Conv2d(name="c", inputs=("x",), weight=weights(rng, (3, 2, 3, 3), "s3"), padding=(1, 1)),
        tight("lif0", "c", (3, 4, 5), "s4f0", [[[-7]], [[5]], [[2]]]),
        Flatten(name="flat", inputs=("lif0",)),
    ]
    ins = 60
    layers: tuple[tuple[str, object, int, dict[str, object]], ...] = (
        ("s4f0", rng.integers(-8, 8, 37), 37, {}),
        ("s2f-1", 1, 13, {}),
        ("u4f0", 0, 9, {"reset": "subtract"}),
        ("s3f0", rng.integers(-4, 3, 5), 5, {"synapse": "new", "refractory": True}),
        ("s4f0", 3, 7, {"timing": "next_before_decay"}),
        ("u2f-1", [3, 0, 1, 2, 2, 1], 6, {}),
    )
    for i, (fmt, start, size, options) in enumerate(layers, 1):
        weight = param(rng.integers(-3, 5, (size, ins)), "s4f0")
        nodes.append(Linear(name=f"fc{i}", inputs=(nodes[-1].name,), weight=weight))
        nodes.append(tight(f"lif{i}", f"fc{i}", size, fmt, start, **options))
        ins = size
    return chain("tight", *nodes, readout="first_spike")


def few_bits() -> Graph:
    """Weights of 1 and 3 bits, with a sign and without, in rows of many lengths, of counts too."""
    rng = np.random.default_rng(22)
    nodes: list[Node] = [
        Input(name="x", shape=(3, 7, 6), kind="count", high=3),
        Conv2d(name="c1", inputs=("x",), weight=weights(rng, (11, 3, 3, 3), "b1"), padding=(1, 1)),
        lif("l1", "c1", (11, 7, 6), 40),
        Conv2d(name="c2", inputs=("l1",), weight=weights(rng, (10, 11, 3, 3), "s3")),
        lif("l2", "c2", (10, 5, 4), 40),
        Flatten(name="flat", inputs=("l2",)),
    ]
    ins = 200
    for kind, size in (("u3", 21), ("u1", 17), ("s3", 8), ("b1", 35), ("u3", 3)):
        source, name = nodes[-1].name, f"{kind}_{size}"
        nodes.append(Linear(name=name, inputs=(source,), weight=weights(rng, (size, ins), kind)))
        nodes.append(lif(f"lif_{size}", name, size, 30))
        ins = size
    return chain("few_bits", *nodes)


def excitatory(
    name: str, size: int, labels: tuple[int, ...], most: int = 1, ins: int = 30, kind: str = "u2",
    **options: Any,
) -> Graph:  # fmt: skip
    """A layer whose neurons inhibit each other and vote."""
    rng = np.random.default_rng(23)
    sent = "spike" if most == 1 else "count"
    neurons = lif("exc", ("fc", "inh"), size, rng.integers(5, 16, size), max_spikes=most, **options)
    return Graph(
        name,
        (
            Input(name="x", shape=(ins,)),
            Linear(name="fc", inputs=("x",), weight=weights(rng, (size, ins), kind)),
            Delay(name="back", inputs=("exc",), shape=(size,), kind=sent, high=most),
            Lateral(name="inh", inputs=("back",), weight=param(-2, "s8f0")),
            neurons,
            Output(name="out", inputs=("exc",), readout="vote", labels=labels),
        ),
    )


def votes() -> Graph:
    """Classes of several sizes, and neurons that speak for none; thresholds that adapt."""
    labels = np.random.default_rng(24).integers(-1, 5, 40)
    return excitatory("votes", 40, tuple(labels.tolist()), adaptive=True)


def counted_votes() -> Graph:
    """Classes of one size, for which neurons with several spikes a step vote."""
    return excitatory("counted", 40, tuple(range(5)) * 8, most=3)


def few_votes() -> Graph:
    """Three neurons of which one speaks for none."""
    return excitatory("few", 3, (0, -1, 1))


def lateral() -> Graph:
    """Lateral connections of counts with a weight each, and of inputs into a connection."""
    rng = np.random.default_rng(25)
    return chain(
        "lateral", Input(name="x", shape=(30,)), dense(rng, "fc1", "x", 9, 30),
        lif("counts", "fc1", 9, 30, max_spikes=3),
        Lateral(name="each", inputs=("counts",), weight=param(rng.integers(-9, 9, 9), "s8f4")),
        Lateral(name="ins", inputs=("x",), weight=param(1, "s8f4")),
        Linear(name="fc2", inputs=("ins",), weight=param(rng.integers(-9, 9, (9, 30)), "s8f0")),
        lif("end", ("each", "fc2"), 9, 90),
    )  # fmt: skip


def camera(side: int = 34, channels: int = 8, kind: str = "s3") -> Graph:
    """As for event cameras: few channels, then more, with narrow states and weights."""
    rng = np.random.default_rng(31)
    half, small = side // 2, (side // 2 // 2) - 2
    return chain(
        "camera", Input(name="x", shape=(2, side, side)),
        SumPool2d(name="pool0", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c1", inputs=("pool0",), weight=weights(rng, (channels, 2, 5, 5), kind),
               padding=(2, 2)),
        tight("lif1", "c1", (channels, half, half), "s4f0", 0),
        SumPool2d(name="pool1", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c2", inputs=("pool1",), weight=weights(rng, (16, channels, 3, 3), kind)),
        tight("lif2", "c2", (16, small, small), "s4f0", 0),
        Flatten(name="flat", inputs=("lif2",)),
        dense(rng, "fc", "flat", 8, 16 * small**2, 3), lif("lif3", "fc", 8, 30),
    )  # fmt: skip


NETS = {
    "narrow states": narrow_states,
    "few bits": few_bits,
    "votes": votes,
    "counted votes": counted_votes,
    "few votes": few_votes,
    "lateral": lateral,
}
