"""Networks with what few-bit and unsupervised learning need: narrow states, lateral, votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mcu_builds import chain, dense, lif, param, state
from qspinn.fixed import Overflow, QFormat
from qspinn.ir import (
    Array,
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
    """Any weights of a format: ``b1``, ``t`` (ternary), ``u1``, ``u3``, ``s3`` and so on."""
    if kind == "b1":
        return Param(rng.choice((-1, 1), shape), QFormat(1, 0, binary=True))
    if kind == "t":
        return Param(rng.integers(-1, 2, shape), QFormat(2, 0))
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


def more_bits() -> Graph:
    """Weights of 5, 6 and 7 bits and ternary ones, with a sign and without, of counts too."""
    rng = np.random.default_rng(27)

    def balanced(shape: tuple[int, ...], kind: str) -> Param:
        found = weights(rng, shape, kind)
        values = np.maximum(found.values, 1 - found.values.max())
        values.flat[0] = found.values.min()
        return replace(found, values=values)

    nodes: list[Node] = [Input(name="x", shape=(3, 7, 6), kind="count", high=3)]
    source, ins = "x", 3
    for kind, size, level in (("s5", 11, 500), ("t", 12, 100), ("u6", 7, 9000), ("s7", 13, 2000)):
        weight = balanced((size, ins, 3, 3), kind)
        nodes += [
            Conv2d(name=f"c{kind}", inputs=(source,), weight=weight, padding=(1, 1)),
            lif(f"l{kind}", f"c{kind}", (size, 7, 6), level, bias=True),
        ]
        source, ins = f"l{kind}", size
    nodes.append(Flatten(name="flat", inputs=(source,)))
    source, ins = "flat", ins * 42
    sizes = {"s5": 10, "u5": 23, "t": 33, "s6": 13, "u6": 7, "s7": 30, "u7": 17}
    for kind, size in sizes.items():
        name, level = f"{kind}_{size}", 1600 if kind[0] == "u" else 100
        nodes.append(Linear(name=name, inputs=(source,), weight=balanced((size, ins), kind)))
        nodes.append(lif(f"lif_{kind}", name, size, level))
        source, ins = f"lif_{kind}", size
    return chain("more_bits", *nodes)


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


def narrowed(node: Neuron, fmt: str, start: object, current: str = "") -> Neuron:
    """The same neurons with a membrane of another format, and a current."""
    states = {**node.states, "v": state(fmt, start)}
    if "u" in states:
        states["u"] = state(current or fmt, 1, overflow=Overflow.SATURATE)
    top = QFormat.parse(fmt)
    level = max(1, min(round(top.range.hi * 0.6), 40 << max(top.frac, 0)))
    values = {**node.values, "threshold": param(level, f"s16f{top.frac}")}
    return replace(node, states=states, values=values)


def any_width(sign: str = "s") -> Graph:
    """A membrane of every width, with a sign or without, in layers that end anywhere in a byte."""
    rng = np.random.default_rng(41)
    nodes: list[Node] = [Input(name="x", shape=(24,))]
    ins = 24
    for nth, bits in enumerate((*range(3, 8), *range(9, 16))):
        fmt = f"{sign}{bits}f{max(bits - 8, 0)}"
        size = 17 + nth % 5  # too few weights for tiles, which keep 16 bits of a membrane
        low = -(1 << bits - 1) if sign == "s" else 0
        start = rng.integers(low, low + (1 << bits), size)
        options: dict[str, object] = [
            {}, {"reset": "subtract"}, {"synapse": "new"}, {"timing": "next_before_decay"},
        ][nth % 4]  # fmt: skip
        source = nodes[-1].name
        weight = Linear(
            name=f"fc{nth}", inputs=(source,),
            weight=param(rng.integers(-3, 6, (size, ins)), "s4f0"),
        )  # fmt: skip
        made = lif(f"lif{nth}", f"fc{nth}", size, 3, **options)
        nodes += [weight, narrowed(made, fmt, start, "s11f2" if nth % 8 == 2 else "")]
        ins = size
    return chain(f"widths_{sign}", *nodes, readout="first_spike")


def pruned(rng: np.random.Generator, shape: tuple[int, ...], kind: str, zeros: float) -> Param:
    """Any weights of a format of which so many are 0; of ``b1`` ternary ones."""
    found = weights(rng, shape, kind)
    values = found.values * (rng.random(shape) >= zeros)
    return Param(values, QFormat(2, 0) if kind == "b1" else found.fmt)


def pruned_layers() -> Graph:
    """Every code of pruned weights, of spikes and of counts."""
    rng = np.random.default_rng(29)
    conv = Conv2d(
        name="c", inputs=("x",), weight=pruned(rng, (24, 3, 3, 3), "s7", 0.6), padding=(1, 0)
    )
    nodes: list[Node] = [
        Input(name="x", shape=(3, 6, 5), kind="count", high=3), conv,
        lif("lif", "c", (24, 6, 3), 300, max_spikes=3), Flatten(name="flat", inputs=("lif",)),
    ]  # fmt: skip
    source, ins = "flat", 24 * 18
    layers = (("s8", 0.95), ("s8", 0.5), ("s4", 0.6), ("b1", 0.8), ("u4", 0.85), ("s12", 0.8))
    for nth, (kind, zeros) in enumerate(layers):
        size = 60 + nth
        weight = pruned(rng, (size, ins), kind, zeros)
        nodes.append(Linear(name=f"fc{nth}", inputs=(source,), weight=weight))
        nodes.append(lif(f"lif{nth}", f"fc{nth}", size, 30))
        source, ins = f"lif{nth}", size
    return chain("pruned", *nodes)


def few_values() -> Graph:
    """Thresholds, biases and starts of a few different values in many neurons or channels."""
    rng = np.random.default_rng(30)

    def of(count: int, shape: tuple[int, ...]) -> Array:
        return rng.choice(rng.integers(-900, 900, count), shape)

    channels = (260, 2, 2)
    conv = Conv2d(
        name="c", inputs=("x",), weight=weights(rng, (260, 1, 2, 2), "s4"),
        bias=param(of(13, (260,)), "s16f4"),
    )  # fmt: skip
    image = lif("l", "c", channels, np.abs(of(3, (260, 1, 1))) + 1)
    image = replace(image, states={"v": state("s16f4", of(2, (260, 1, 1)))})
    nodes: list[Node] = [
        Input(name="x", shape=(1, 3, 3)), conv, image, Flatten(name="flat", inputs=("l",))
    ]  # fmt: skip
    source, ins = "flat", 260 * 4
    for nth, (count, size) in enumerate(((2, 501), (4, 300), (17, 701))):
        bias = param(of(count, (size,)), "s16f4")
        weight = weights(rng, (size, ins), "t")
        made = lif(f"lif{nth}", f"fc{nth}", size, np.abs(of(count, (size,))) + 1)
        start = of(count, (size,))
        nodes += [
            Linear(name=f"fc{nth}", inputs=(source,), weight=weight, bias=bias),
            replace(made, states={"v": state("s16f4", start)}),
        ]
        source, ins = f"lif{nth}", size
    labels = tuple(rng.permutation(np.arange(701) % 9).tolist())
    out = Output(name="out", inputs=(source,), readout="vote", labels=labels)
    return Graph("few_values", (*nodes, out))


NETS = {
    "few values": few_values,
    "pruned": pruned_layers,
    "signed widths": any_width,
    "unsigned widths": lambda: any_width("u"),
    "narrow states": narrow_states,
    "few bits": few_bits,
    "more bits": more_bits,
    "votes": votes,
    "counted votes": counted_votes,
    "few votes": few_votes,
    "lateral": lateral,
}
