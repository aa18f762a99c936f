"""Networks of the kinds that people make, which models are fitted to; the tests have others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from qspinn.backends.mcu.tileforms import TileForm

from mcu_builds import chain, convolutional, dense, lif, mlp, param, recurrent, state
from mcu_nets import camera, excitatory, narrowed, pruned, weights
from qspinn.fixed import QFormat
from qspinn.ir import Conv2d, Delay, Flatten, Graph, Input, Linear, Node, Param, SumPool2d
from qspinn.neurons import COMPARES, RESETS

KINDS = ("b1", "t", "s2", "s3", "s4", "s5", "s6", "s7", "u1", "u2", "u3", "u4", "u6", "s8")
SIZES = (14, 21, 36, 50, 96, 150, 300)


def larger(nth: int) -> Graph:
    """A network of a usual kind."""
    rng = np.random.default_rng(nth)
    return MADE[nth % len(MADE)](rng, nth // len(MADE))


def options_of(graph: Graph) -> Mapping[str, str]:
    """What its plan says of how input is passed."""
    forms = {"masked": "mask", "loaded": "load"}
    return {"input": forms[graph.name]} if graph.name in forms else {}


def _conv(rng: np.random.Generator, nth: int) -> Graph:
    side, channels = int(rng.choice((6, 8, 8, 10, 14, 20))), int(rng.choice((4, 6, 7, 8, 12, 32)))
    return convolutional("conv", side, channels)


def _mlp(rng: np.random.Generator, nth: int) -> Graph:
    sizes = rng.choice(SIZES, int(rng.integers(2, 5)))
    bits = int(rng.choice((2, 3, 4, 8, 8, 16)))
    name = "masked" if nth % 3 == 2 else "mlp"
    return mlp(name, (*sizes.tolist(), int(rng.choice((9, 10, 26)))), bits)


def _deaf(rng: np.random.Generator, nth: int) -> Graph:
    """Without the weights of about a third of its inputs."""
    graph = leaky(rng, "deaf") if nth % 2 else replace(_mlp(rng, 0), name="deaf")

    def change(node: Node) -> Node:
        if not isinstance(node, Linear) or node.inputs != (graph.input.name,):
            return node
        kept = rng.random(node.weight.values.shape[1]) < 2 / 3
        return replace(node, weight=replace(node.weight, values=node.weight.values * kept))

    return graph.map(change)


def _recurrent(rng: np.random.Generator, nth: int) -> Graph:
    return recurrent("recurrent", int(rng.integers(10, 60)), int(rng.integers(10, 90)))


def _camera(rng: np.random.Generator, nth: int) -> Graph:
    kind = str(rng.choice(KINDS))
    return camera(2 * int(rng.integers(10, 20)), int(rng.choice((4, 6, 10, 12))), kind)


def _voting(rng: np.random.Generator, nth: int) -> Graph:
    """A layer with lateral inhibition, as unsupervised learning makes it."""
    size, ins = int(rng.integers(12, 120)), int(rng.integers(12, 400))
    labels = rng.integers(-1, int(rng.integers(3, 11)), size)
    labels[: labels.max() + 1] = np.arange(labels.max() + 1)
    return excitatory(
        "votes", size, tuple(labels.tolist()), ins=ins, kind=str(rng.choice(KINDS)),
        adaptive=bool(rng.random() < 0.5), clamp=bool(rng.random() < 0.3),
    )  # fmt: skip


def _leaky(rng: np.random.Generator, nth: int) -> Graph:
    return leaky(rng, "masked" if nth % 5 == 4 else "leaky")


def leaky(rng: np.random.Generator, name: str) -> Graph:
    """Dense layers whose membranes lose a share that is a power of two, as kernels like it."""
    sizes = rng.choice((10, 17, 32, 48, 75, 100, 128, 200, 300), int(rng.integers(2, 5))).tolist()
    bits = int(rng.choice((8, 8, 8, 6, 4, 3, 2)))
    reset, compare = str(rng.choice(RESETS)), str(rng.choice(COMPARES))
    bias, own, fine, shift = rng.random(4) < (0.3, 0.3, 0.5, 0.6)
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (ins, outs) in enumerate(itertools.pairwise(sizes), 1):
        made = dense(rng, f"fc{i}", nodes[-1].name, outs, ins, bits, bias=bool(bias))
        frac = bits - 4 if fine and bits >= 4 else 4  # as fine as the weights, or not
        level = rng.integers(10, 60, outs) if own else int(rng.integers(10, 60))
        neurons = lif(f"lif{i}", made.name, outs, level << frac, reset=reset, compare=compare)
        leak = Param(np.array(rng.integers(2, 7)), QFormat(4, 0, signed=False, leak=True))
        values = {**neurons.values, "threshold": param(level << frac, f"s16f{frac}")}
        if shift:
            values["decay"] = leak
        if "v_reset" in values:
            values["v_reset"] = param(-8, f"s16f{frac}")
        kept = {**neurons.states, "v": state(f"s16f{frac}")}
        nodes += [made, replace(neurons, values=values, states=kept)]
    return chain(name, *nodes)


def _formats(rng: np.random.Generator, nth: int) -> Graph:
    """Dense layers with weights of one format, and membranes of any width."""
    kind = KINDS[nth % len(KINDS)]
    sizes = rng.choice(SIZES, int(rng.integers(2, 4))).tolist()
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (ins, outs) in enumerate(itertools.pairwise(sizes), 1):
        weight = weights(rng, (outs, ins), kind)
        nodes.append(Linear(name=f"fc{i}", inputs=(nodes[-1].name,), weight=weight))
        made = lif(f"lif{i}", f"fc{i}", outs, 30, reset=str(rng.choice(RESETS)))
        bits = int(rng.choice((3, 4, 6, 7, 8, 10, 12, 16, 16)))
        nodes.append(made if bits == 16 else narrowed(made, f"s{bits}f{max(bits - 8, 0)}", 0))
    return chain("formats", *nodes)


def _pruned(rng: np.random.Generator, nth: int) -> Graph:
    """Dense layers in which most weights are 0."""
    sizes = rng.choice(SIZES[2:], int(rng.integers(2, 4))).tolist()
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (ins, outs) in enumerate(itertools.pairwise(sizes), 1):
        kind, zeros = str(rng.choice(("s8", "s8", "s4", "b1", "s12"))), rng.uniform(0.6, 0.95)
        weight = pruned(rng, (outs, ins), kind, float(zeros))
        nodes.append(Linear(name=f"fc{i}", inputs=(nodes[-1].name,), weight=weight))
        nodes.append(lif(f"lif{i}", f"fc{i}", outs, 60))
    return chain("pruned", *nodes)


def _strided(rng: np.random.Generator, nth: int) -> Graph:
    """Convolutions with strides, channels in fours or not, and a pool."""
    side, kernel = int(rng.choice((9, 12, 16, 21))), int(rng.choice((3, 4, 5)))
    step = int(rng.choice((1, 2)))
    first, second = rng.choice((5, 6, 8, 12, 16), 2).tolist()
    kind = str(rng.choice(("s8", "s8", "s8", "s6", "s4", "t")))
    half = (side - kernel) // step + 1
    quarter = half // 2 - 2
    high = int(rng.choice((1, 1, 3)))
    node = Input(name="x", shape=(2, side, side))
    node = node if high == 1 else replace(node, kind="count", high=high)
    nodes: list[Node] = [
        node,
        Conv2d(
            name="c1", inputs=("x",), weight=weights(rng, (first, 2, kernel, kernel), kind),
            stride=(step, step),
        ),
        lif("lif1", "c1", (first, half, half), 300),
        SumPool2d(name="pool", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)),
    ]  # fmt: skip
    source, at = "pool", half // 2
    if quarter >= 2:
        nodes.append(
            Conv2d(name="c2", inputs=("pool",), weight=weights(rng, (second, first, 3, 3), kind))
        )
        nodes.append(lif("lif2", "c2", (second, quarter, quarter), 300))
        source, at, first = "lif2", quarter, second
    nodes.append(Flatten(name="flat", inputs=(source,)))
    nodes += [dense(rng, "fc", "flat", 10, first * at * at), lif("lif3", "fc", 10, 60)]
    return chain("strided", *nodes)


def _valued(rng: np.random.Generator, nth: int) -> Graph:
    """Values as input."""
    name = "loaded" if nth % 2 else "valued"
    sizes = (int(rng.choice(SIZES)), int(rng.choice(SIZES)), 10)
    fmt = QFormat.parse("s8f0")
    return mlp(name, sizes).map(
        lambda node: replace(node, kind="current", fmt=fmt) if isinstance(node, Input) else node
    )


def few_bits(rng: np.random.Generator, nth: int) -> Graph:
    """Padded convolutions and dense layers, each with weights of its own few bits."""
    side, outs = int(rng.choice((5, 6, 8, 11))), int(rng.choice((4, 6, 9, 10, 11, 13, 16)))
    high = int(rng.choice((1, 1, 3)))
    node = Input(name="x", shape=(int(rng.integers(1, 4)), side, side))
    nodes: list[Node] = [node if high == 1 else replace(node, kind="count", high=high)]
    ins, source = node.shape[0], "x"
    for i in range(1, 3):
        weight = weights(rng, (outs, ins, 3, 3), str(rng.choice(KINDS)))
        nodes += [
            Conv2d(name=f"c{i}", inputs=(source,), weight=weight, padding=(2 - i, 2 - i)),
            lif(f"l{i}", f"c{i}", (outs, side, side), level(weight, 9 * ins)),
        ]  # fmt: skip
        source, ins, outs, side = f"l{i}", outs, int(rng.integers(4, 17)), side - 2
    nodes.append(Flatten(name="flat", inputs=(source,)))
    source, ins = "flat", ins * (side + 2) ** 2
    for i in range(int(rng.integers(1, 4))):
        outs = int(rng.choice((3, 5, 8, 10, 17, 21, 33, 35, 60)))
        weight = weights(rng, (outs, ins), str(rng.choice(KINDS)))
        nodes.append(Linear(name=f"fc{i}", inputs=(source,), weight=weight))
        nodes.append(lif(f"lif{i}", f"fc{i}", outs, level(weight, ins)))
        source, ins = f"lif{i}", outs
    return chain("few_bits", *nodes)


def deep(rng: np.random.Generator, nth: int) -> Graph:
    """Four to seven dense layers, each with neurons and weights of its own kind, or all alike."""
    count = int(rng.integers(4, 8))
    sizes = rng.choice((9, 12, 16, 20, 24, 33, 48, 60, 64, 80, 100), count + 1).tolist()
    alike, bits = nth % 2 == 0, rng.choice((2, 3, 4, 6, 8, 8, 8, 16), count).tolist()
    kinds = [_neuron(rng) for _ in range(count)]
    biases = rng.random(count) < 0.5
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (ins, outs) in enumerate(itertools.pairwise(sizes), 1):
        at = 0 if alike else i - 1
        made = dense(rng, f"fc{i}", nodes[-1].name, outs, ins, bits[at], bias=bool(biases[at]))
        own = rng.integers(20, 90, outs) if kinds[at].pop("own", 0) else int(rng.integers(20, 90))
        kinds[at] = {**kinds[at], "own": int(isinstance(own, np.ndarray))}
        options = {k: v for k, v in kinds[at].items() if k != "own"}
        nodes += [made, lif(f"lif{i}", f"fc{i}", outs, own, **options)]
    readout = str(rng.choice(("count", "count", "first_spike")))
    return chain("deep", *nodes, readout=readout)


def _neuron(rng: np.random.Generator) -> dict[str, object]:
    """What makes a leaky neuron another: mostly little."""
    options: dict[str, object] = {
        "reset": str(rng.choice((*RESETS, "subtract"))), "compare": str(rng.choice(COMPARES)),
    }  # fmt: skip
    if rng.random() < 0.3:
        options["synapse"] = "new"
    for name, odds in (("bias", 0.2), ("refractory", 0.15), ("own", 0.3)):
        if rng.random() < odds:
            options[name] = True
    return options


def _wide(rng: np.random.Generator, nth: int) -> Graph:
    """Layers whose states lie far from each other."""
    if nth % 2:
        side, channels = int(rng.choice((16, 18, 24, 28))), int(rng.choice((8, 12, 20)))
        return convolutional("wide", side, channels)
    sizes = rng.choice((256, 400, 512, 700, 1000), int(rng.integers(2, 4))).tolist()
    return mlp("wide", (int(rng.choice((20, 64, 200))), *sizes, 10), int(rng.choice((2, 4, 8))))


def _pictures(rng: np.random.Generator, nth: int) -> Graph:
    """Two convolutions of another kernel each, perhaps pooled, with neurons of any kind."""
    side, ins = int(rng.integers(8, 17)), int(rng.integers(1, 4))
    nodes: list[Node] = [Input(name="x", shape=(ins, side, side))]
    source = "x"
    for i in range(1, 3):
        outs, kernel = int(rng.choice((4, 6, 8, 9, 12, 16))), int(rng.choice((3, 3, 5)))
        pad = int(rng.choice((0, kernel // 2))) if side > 6 else kernel // 2
        weight = weights(rng, (outs, ins, kernel, kernel), str(rng.choice(("s8", "s8", "s4", "t"))))
        side += 2 * pad - kernel + 1
        made = Conv2d(name=f"c{i}", inputs=(source,), weight=weight, padding=(pad, pad))
        options = _neuron(rng)
        own = options.pop("own", False)
        level = rng.integers(100, 400, (outs, 1, 1)) if own else int(rng.integers(100, 400))
        nodes += [made, lif(f"lif{i}", f"c{i}", (outs, side, side), level, **options)]
        source, ins = f"lif{i}", outs
        if side % 2 == 0 and rng.random() < 0.5:
            nodes.append(SumPool2d(name=f"pool{i}", inputs=(source,), kernel=(2, 2), stride=(2, 2)))
            source, side = f"pool{i}", side // 2
    nodes.append(Flatten(name="flat", inputs=(source,)))
    nodes.append(dense(rng, "fc", "flat", 10, ins * side * side))
    nodes.append(lif("lif", "fc", 10, 60, **{k: v for k, v in _neuron(rng).items() if k != "own"}))
    return chain("pictures", *nodes)


def several(nth: int) -> Graph:
    """A network of many layers, or of large ones, or of images."""
    rng = np.random.default_rng(50_000 + nth)
    return SEVERAL[nth % len(SEVERAL)](rng, nth // len(SEVERAL))


def level(weight: Param, ins: int) -> int:
    """A threshold that a tenth of the inputs reach now and then."""
    values = weight.values
    drift, spread = 0.2 * ins * values.mean(), (0.2 * ins * (values**2.0).mean()) ** 0.5
    return min(max(round(float(16 * (max(drift, 0.0) + spread))), 16), 32_000)


def tiled(form: TileForm) -> Graph:
    """Neurons that read the input and themselves through weights of a form."""
    rng = np.random.default_rng(form.top)
    low, high = form.span.lo, form.span.hi
    choice = [low, high] if form.binary else list(range(low, high + 1))
    nodes: list[Node] = [Input(name="x", shape=(70,))]
    size = 2 * form.lanes  # whole tiles
    for name, source, ins in (("fc", "x", 70), ("rec", "back", size)):
        fmt = QFormat(1, 0, binary=True) if form.binary else QFormat(9, 0)
        values = rng.choice(choice, (size, ins))
        values[:2, :2] = [[low, high], [high, low]]
        nodes.append(Linear(name=name, inputs=(source,), weight=Param(values, fmt)))
    back = Delay(name="back", inputs=("lif",), shape=(size,), steps=1)
    return chain("tiled", *nodes[:2], back, nodes[2], lif("lif", ("fc", "rec"), size, 300))


def rowed(kind: str) -> Graph:
    """An image of counts, whose kernels add rows of weights of one format."""
    rng = np.random.default_rng(len(kind) + ord(kind[-1]))
    nodes: list[Node] = [Input(name="x", shape=(2, 9, 9), kind="count", high=3)]
    ins, side = 2, 9
    for i, outs in enumerate((7, 13), 1):
        weight = weights(rng, (outs, ins, 3, 3), kind)
        side -= 2
        nodes.append(Conv2d(name=f"c{i}", inputs=(nodes[-1].name,), weight=weight))
        nodes.append(lif(f"l{i}", f"c{i}", (outs, side, side), 200))
        ins = outs
    nodes += [
        Flatten(name="flat", inputs=("l2",)),
        Linear(name="fc", inputs=("flat",), weight=weights(rng, (21, 13 * side * side), kind)),
        lif("lif", "fc", 21, 60),
    ]
    return chain("rowed", *nodes)


MADE: tuple[Callable[[np.random.Generator, int], Graph], ...] = (
    _mlp, _conv, _leaky, _formats, _recurrent, _strided, _deaf, _leaky, _camera, _pruned, _voting,
    _valued, few_bits,
)  # fmt: skip
SEVERAL: tuple[Callable[[np.random.Generator, int], Graph], ...] = (
    deep, _wide, deep, _pictures,
)  # fmt: skip
