"""Networks whose rows of weights are added one by one, of every format and length.

What a compiler makes of such a row depends on its format, its length, and what it is added to: in
the networks of `mcu_networks` most of these come once or never.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from mcu_networks import KINDS, level

from mcu_builds import chain, dense, lif, mlp, param
from mcu_nets import narrowed, pruned, tight, weights
from qspinn.ir import Conv2d, Flatten, Graph, Input, Linear, Neuron, Node, SumPool2d
from qspinn.neurons import RESETS

LENGTHS = (3, 4, 5, 7, 8, 8, 10, 10, 11, 12, 13, 16, 17, 21, 24)
WIDE = ("s16", "s12", "s16")


def rowwise(nth: int) -> Graph:
    """Dense layers that are too small for tiles, or whose weights are too wide."""
    rng = np.random.default_rng((nth, 1))
    wide = nth % 4 == 3
    ins = int(rng.integers(30, 120))
    node = Input(name="x", shape=(ins,))
    nodes: list[Node] = [node if nth % 3 else replace(node, kind="count", high=3)]
    for i in range(1, 5):
        kind = str(rng.choice(WIDE if wide else KINDS))
        outs = int(rng.choice((10, 24, 36, 48, 64) if wide else LENGTHS))
        source = nodes[-1].name
        if rng.random() < 0.3 and kind[0] == "s":
            made = dense(rng, f"fc{i}", source, outs, ins, int(kind[1:]), bias=True)
        else:
            weight = weights(rng, (outs, ins), kind)
            if rng.random() < 0.15 and not wide:
                weight = pruned(rng, (outs, ins), kind, 0.7)
            bias = param(rng.integers(-50, 50, outs), "s16f4") if rng.random() < 0.4 else None
            made = Linear(name=f"fc{i}", inputs=(source,), weight=weight, bias=bias)
        nodes += [made, _neurons(rng, i, made.name, outs, _reached(made, ins))]
        ins = outs
    return chain("rowwise", *nodes, readout=str(rng.choice(("count", "count", "first_spike"))))


def _reached(node: Linear, ins: int) -> int:
    """A threshold, in sixteenths, that a part of the inputs reach now and then."""
    assert node.weight.fmt is not None, "the network is one of integers"
    return max(level(node.weight, ins) >> max(node.weight.fmt.frac, 0), 16)


def _neurons(
    rng: np.random.Generator, i: int, source: str, shape: int | tuple[int, ...], threshold: int
) -> Neuron:
    """Neurons of several kinds."""
    size = shape if isinstance(shape, int) else int(np.prod(shape))
    several = isinstance(shape, int) and rng.random() < 0.4
    levels = np.maximum(rng.integers(threshold // 2, threshold + 1, size), 1)
    made = lif(
        f"lif{i}", source, shape, levels if several else threshold, reset=str(rng.choice(RESETS)),
        synapse="new" if rng.random() < 0.2 else "", refractory=bool(rng.random() < 0.1),
    )  # fmt: skip
    if rng.random() < 0.1:
        return narrowed(made, "s8f-2", 0)
    return made


def scattering(nth: int) -> Graph:
    """Two convolutions and a dense layer, with weights of any format, in rows of any length."""
    rng = np.random.default_rng((nth, 2))
    ins, side = int(rng.integers(1, 4)), int(rng.integers(6, 13))
    pooled = nth % 3 == 1
    node = Input(name="x", shape=(ins, 2 * side, 2 * side) if pooled else (ins, side, side))
    nodes: list[Node] = [node if nth % 4 else replace(node, kind="count", high=3)]
    if pooled:
        nodes.append(SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2)))
    for i in (1, 2):
        kind = str(rng.choice(("s8", "s8", *KINDS)))
        kernel, stride = int(rng.choice((3, 3, 5))), int(rng.choice((1, 1, 1, 2)))
        padding = int(rng.choice((0, 1, kernel // 2)))
        kernel = min(kernel, side + 2 * padding)
        outs = int(rng.choice((4, 6, 7, 8, 9, 10, 11, 13, 16, 16, 32)))
        weight = weights(rng, (outs, ins, kernel, kernel), kind)
        source = nodes[-1].name
        side = (side + 2 * padding - kernel) // stride + 1
        nodes.append(
            Conv2d(name=f"c{i}", inputs=(source,), weight=weight, stride=(stride, stride),
                   padding=(padding, padding))
        )  # fmt: skip
        shape = (outs, side, side)
        if rng.random() < 0.25:
            nodes.append(tight(f"lif{i}", f"c{i}", shape, "s4f0", 0))
        else:
            reached = level(weight, kernel * kernel * ins)
            made = lif(f"lif{i}", f"c{i}", shape, reached, reset=str(rng.choice(RESETS)))
            if rng.random() < 0.3:
                levels = rng.integers(reached // 2, reached + 1, (outs, 1, 1))
                made = replace(made, values={**made.values, "threshold": param(levels, "s16f4")})
            nodes.append(made)
        ins = outs
        if i == 1 and side >= 8 and rng.random() < 0.5:
            nodes.append(SumPool2d(name="q", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)))
            side //= 2
        if side < 4:
            break
    nodes.append(Flatten(name="flat", inputs=(nodes[-1].name,)))
    kind = str(rng.choice(KINDS))
    weight = weights(rng, (int(rng.choice((3, 8, 10))), ins * side * side), kind)
    nodes.append(Linear(name="fc", inputs=("flat",), weight=weight))
    threshold = level(weight, ins * side * side)
    nodes.append(lif("end", "fc", len(weight.values), threshold))
    return chain("scattering", *nodes)


def unheard(nth: int) -> Graph:
    """Tiles whose lists leave out events that no weight is stored for."""
    rng = np.random.default_rng((nth, 3))
    sizes = (int(rng.choice((90, 160, 200, 400))), int(rng.choice((20, 40, 64, 100))), 10)
    graph = mlp("unheard", sizes, int(rng.choice((2, 3, 4, 8, 8, 8))))
    kept = rng.random(sizes[0]) < rng.uniform(0.4, 0.9)

    def change(node: Node) -> Node:
        if not isinstance(node, Linear) or node.name != "fc1":
            return node
        return replace(node, weight=replace(node.weight, values=node.weight.values * kept))

    return graph.map(change)


MADE = (rowwise, scattering, rowwise, scattering, unheard)
"""One after the other."""
