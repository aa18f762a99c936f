"""Networks of lava-dl (`.net`), integers as they are: SLAYER writes them, netx reads them.

What a layer means is what Lava computes of it: currents are sums of weights, ``u`` and ``v`` carry
six more bits, decays are 12-bit fractions, a neuron fires strictly above its threshold and is
reset to zero. A unit of weight, threshold and bias is a unit of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from qspinn.errors import FrontendError, VerifyError, located
from qspinn.frontends.lava_dl_file import FileLayer, read
from qspinn.frontends.lava_dl_formats import plan_of
from qspinn.frontends.lava_dl_neurons import cell
from qspinn.frontends.nir_flatten import safe
from qspinn.frontends.report import DEFAULT, GIVEN, IN_FILE, Assumption, Imported, received
from qspinn.ir import (
    READOUTS,
    VOTE,
    Array,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Pair,
    Param,
    Shape,
)
from qspinn.signals import window
from qspinn.verify import verify

MOST_DELAY = 62
"""netx clamps longer ones."""
_HARMLESS = {"refDelay": 1, "gradedSpike": 0, "wgtExp": 0, "weight_exp": 0}


def load(
    path: str | Path,
    *,
    readout: str | None = None,
    input_kind: str | None = None,
    input_high: int | None = None,
) -> Imported:
    """Read a `.net` file.

    Args:
        path: The file.
        readout: One of `qspinn.ir.READOUTS`; default the spike count, or the last value of neurons
            that never fire.
        input_kind: ``spike`` (0 or 1), ``count`` or ``current``.
        input_high: The largest count at the input.

    Raises:
        FrontendError: The file cannot be read, or holds a layer or neuron that qspinn has not.
    """
    layers = read(Path(path))
    kind = input_kind or "spike"
    build = _Build(kind, received(kind, input_high))
    for layer in layers:
        with located(layer.name):
            build.layer(layer)
    graph = build.graph(safe(Path(path).stem), readout)
    meta: dict[str, object] = {"format": "lava-dl"}
    return Imported(graph, tuple(build.notes), meta, plan_of(graph))


@dataclass
class _Build:
    """An import under way: the nodes so far, and the shape of what the last one sends."""

    kind: str
    high: int
    nodes: list[Node] = field(default_factory=list)
    shape: Shape = ()
    labels: tuple[int, ...] = ()
    notes: list[Assumption] = field(default_factory=list)

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def graph(self, name: str, readout: str | None) -> Graph:
        if not any(isinstance(node, Neuron) for node in self.nodes):
            raise FrontendError("holds no layer of neurons", at=name)
        last = next(node for node in reversed(self.nodes) if isinstance(node, Neuron))
        if readout is not None and readout not in READOUTS:
            raise FrontendError(f"the readout is one of {', '.join(READOUTS)}, not {readout!r}")
        fires = last.model.sends == "spike"
        usual = VOTE if self.labels else "count" if fires else "membrane_last"
        source = GIVEN if readout else IN_FILE if self.labels else DEFAULT
        self.notes.append(Assumption("readout", readout or usual, source))
        labels = () if readout else self.labels
        self.add(Output(
            name="output", inputs=(self.last,), readout=readout or usual, labels=labels,
        ))  # fmt: skip
        try:
            return verify(Graph(name, tuple(self.nodes)))
        except VerifyError as error:
            raise FrontendError(error.message, hint=error.hint, at=error.at or name) from error

    # --- layers ---

    def layer(self, layer: FileLayer) -> None:
        made = {
            "input": self.input, "flatten": self.flatten, "dense": self.dense,
            "dense_rec": self.dense, "conv": self.conv, "pool": self.pool,
            "average": self.average,
        }.get(layer.kind)  # fmt: skip
        if made is None:
            raise FrontendError(
                f"is of type {layer.kind!r}, which qspinn does not read",
                hint="input, flatten, dense, dense_rec, conv, pool and average are read",
            )
        if self.labels:
            raise FrontendError("lies behind an average, which is the end of a network")
        if not self.nodes and layer.kind != "input":
            self.begin(self.expected(layer))
        made(layer)

    def begin(self, shape: Shape) -> None:
        """The input of the network."""
        self.shape = shape
        self.add(Input(name="input", shape=shape, kind=self.kind, high=self.high))

    def expected(self, layer: FileLayer) -> Shape:
        """What a first layer reads, where no input layer says it."""
        if layer.kind not in ("dense", "dense_rec"):
            raise FrontendError(
                "is the first layer, and nothing says how large its input is",
                hint="export the network with its input block",
            )
        weight = matrix(layer, "weight", count(layer))
        return (weight.shape[1],)

    def input(self, layer: FileLayer) -> None:
        if self.nodes:
            raise FrontendError("is an input layer behind other layers")
        shape = whole(layer.array("shape"), "shape")
        if layer.neuron is None:
            self.begin(shape)
            return
        # Its neurons integrate weight * value + bias, which enters the membrane.
        weight, bias = scalar(layer, "weight", 64), scalar(layer, "bias", 0)
        self.kind = "current" if self.kind == "spike" else self.kind
        self.begin(shape)
        channels = int(shape[0])
        size = (channels, 1, *[1] * (len(shape) - 1))
        self.notes.append(
            Assumption(layer.name, f"values times {weight} plus {bias} enter neurons", IN_FILE)
        )
        name = f"gain{layer.index}"
        if len(shape) == 3:
            self.add(Conv2d(name=name, inputs=("input",), groups=channels,
                            weight=Param(np.full(size, float(weight)))))  # fmt: skip
        else:
            wide = int(np.prod(shape))
            self.add(Linear(name=name, inputs=("input",), weight=Param(weight * np.eye(wide))))
        self.neurons(layer, shape, (name,), bias=np.array(float(bias)), direct=True)

    def flatten(self, layer: FileLayer) -> None:
        self.shape = (int(np.prod(self.shape)),)
        self.add(Flatten(name=f"flatten{layer.index}", inputs=(self.last,)))

    def average(self, layer: FileLayer) -> None:
        """The mean of the spikes of equal groups of neurons: each votes for its group."""
        groups, size = count(layer), int(np.prod(self.shape))
        if size % groups:
            raise FrontendError(f"averages {size} neurons in {groups} groups of unequal size")
        self.labels = tuple(int(k) for k in np.repeat(np.arange(groups), size // groups))

    def dense(self, layer: FileLayer) -> None:
        if len(self.shape) != 1:
            raise FrontendError(
                f"reads an image of shape {self.shape} and no flat signal",
                hint="a flatten layer belongs in between",
            )
        size = count(layer)
        weight = self.truncated(layer, "weight", matrix(layer, "weight", size))
        if weight.shape[1] != self.shape[0]:
            raise FrontendError(
                f"its weights take {weight.shape[1]} inputs, the layer before has {self.shape[0]}"
            )
        feeding = list(self.delayed(layer, weight))
        name = neurons_of(layer)
        if layer.kind == "dense_rec":
            rec = self.truncated(layer, "weight_rec", matrix(layer, "weight_rec", size))
            if rec.shape[1] != size:
                raise FrontendError(f"weight_rec has shape {rec.shape}, must be {(size, size)}")
            back = self.add(Delay(name=f"back{layer.index}", inputs=(name,), shape=(size,)))
            feeding.append(
                self.add(Linear(name=f"rec{layer.index}", inputs=(back,), weight=Param(rec)))
            )
        self.neurons(layer, (size,), tuple(feeding))

    def delayed(self, layer: FileLayer, weight: Array) -> Iterable[str]:
        """The connections of a layer: one for each delay of its synapses."""
        source, name = self.last, f"dense{layer.index}"
        delays = self.delays(layer, weight.shape)
        found = np.unique(delays)
        for steps in map(int, found):
            at, part = source, np.where(delays == steps, weight, 0.0)
            if steps:
                at = self.add(Delay(
                    name=f"delay{layer.index}_{steps}", inputs=(source,), shape=self.shape,
                    steps=steps, kind=self.kind if source == "input" else "spike",
                    high=self.high if source == "input" else 1,
                ))  # fmt: skip
            each = name if len(found) == 1 else f"{name}_{steps}"
            yield self.add(Linear(name=each, inputs=(at,), weight=Param(part)))

    def delays(self, layer: FileLayer, shape: tuple[int, ...]) -> Array:
        """The delay of every synapse (out, in), as netx reads them."""
        if "delay" not in layer.values:
            return np.zeros(shape, np.int64)
        delay = np.trunc(layer.array("delay")).astype(np.int64)
        each = delay.shape == shape and delay.ndim > 1
        delay = delay.reshape(-1)
        if delay.min() < 0:
            raise FrontendError(f"has a delay of {delay.min()} steps")
        if delay.max() > MOST_DELAY:
            self.notes.append(Assumption(
                layer.name, f"delays up to {delay.max()} steps are clamped to {MOST_DELAY}",
                "as netx does",
            ))  # fmt: skip
            delay = np.minimum(delay, MOST_DELAY)
        if each:
            return delay.reshape(shape)
        if len(delay) == 1:
            return np.full(shape, delay[0])
        if len(delay) == shape[0]:
            return np.broadcast_to(delay[:, None], shape)
        if len(delay) == shape[1]:
            return np.broadcast_to(delay[None, :], shape)
        raise FrontendError(f"has {len(delay)} delays for weights of shape {shape}")

    def conv(self, layer: FileLayer) -> None:
        weight = layer.array("weight")
        if weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        if weight.ndim != 4:
            raise FrontendError(f"its weights have shape {weight.shape}, must be (out, in, y, x)")
        groups = scalar(layer, "groups", 1)
        self.convolution(layer, self.truncated(layer, "weight", weight), groups)

    def pool(self, layer: FileLayer) -> None:
        """A sum over windows, times one weight: a convolution channel by channel."""
        weight = self.truncated(layer, "weight", layer.array("weight"))
        ky, kx = pair(layer, "kernelSize")
        if np.unique(weight).size != 1:
            raise FrontendError("its weights differ, those of a pool are equal")
        channels = self.shape[0]
        equal = np.full((channels, 1, ky, kx), float(weight.flat[0]))
        self.convolution(layer, equal, channels)

    def convolution(self, layer: FileLayer, weight: Array, groups: int) -> None:
        if len(self.shape) != 3:
            raise FrontendError(f"reads a signal of shape {self.shape} and no image")
        stride, padding = pair(layer, "stride"), pair(layer, "padding")
        dilation = pair(layer, "dilation")
        name = self.add(Conv2d(
            name=f"{layer.kind}{layer.index}", inputs=(self.last,), weight=Param(weight),
            stride=stride, padding=padding, dilation=dilation, groups=groups,
        ))  # fmt: skip
        places = (
            window(self.shape[1 + i], weight.shape[2 + i], stride[i], padding[i], dilation[i])
            for i in range(2)
        )
        self.neurons(layer, (len(weight), *places), (name,))

    # --- neurons ---

    def neurons(
        self, layer: FileLayer, shape: Shape, feeding: tuple[str, ...],
        bias: Array | None = None, direct: bool = False,
    ) -> None:  # fmt: skip
        said = layer.values.get("shape")
        if said is not None and prod(map(float, layer.array("shape").flat)) != prod(shape):
            words = " ".join(str(said).split())[:60]
            raise FrontendError(f"says its shape is {words}, but it makes {shape}")
        if bias is None and "bias" in layer.values:
            bias = self.truncated(layer, "bias", layer.array("bias"))
        made = cell(layer, shape, bias, direct=direct)
        self.notes.append(Assumption(layer.name, made.told, IN_FILE if layer.neuron else DEFAULT))
        self.ignored(layer)
        self.add(Neuron(
            name=neurons_of(layer), inputs=feeding, shape=shape, model=made.model,
            values=made.values, states=made.states,
        ))  # fmt: skip
        self.shape, self.kind, self.high = shape, "spike", 1

    def ignored(self, layer: FileLayer) -> None:
        """What netx does not read, where it would change something."""
        for name, usual in _HARMLESS.items():
            value = (layer.neuron or {}).get(name, usual)
            if isinstance(value, str) or np.any(value != usual):
                self.notes.append(
                    Assumption(layer.name, f"{name} is set aside", "ignored by netx, too")
                )
        windowed = layer.kind in ("conv", "pool") and "delay" in layer.values
        if windowed and np.any(np.trunc(layer.array("delay")) != 0):
            raise FrontendError(
                "has delays behind a convolution, which netx ignores and qspinn has not",
                hint="train it without",
            )

    def truncated(self, layer: FileLayer, name: str, values: Array) -> Array:
        """Integers toward zero, as netx takes them."""
        whole: Array = np.trunc(values).astype(np.float64) + 0.0  # and no negative zeros
        if lost := int(np.count_nonzero(whole != values)):
            self.notes.append(Assumption(
                layer.name, f"{lost} of {whole.size} entries of {name} lose their fraction",
                "as netx does",
            ))  # fmt: skip
        return whole


def neurons_of(layer: FileLayer) -> str:
    """The name of a layer's neurons."""
    return f"lif{layer.index}"


def count(layer: FileLayer) -> int:
    """The neurons of a dense layer."""
    return int(np.prod(whole(layer.array("shape"), "shape")))


def matrix(layer: FileLayer, name: str, rows: int) -> Array:
    """Weights (out, in); flat ones are folded."""
    values = layer.array(name)
    if values.ndim == 1 and values.size % rows == 0:
        values = values.reshape(rows, -1)
    if values.ndim != 2 or len(values) != rows:
        raise FrontendError(f"{name} has shape {values.shape} for {rows} neurons")
    return values


def whole(values: Array, name: str) -> Shape:
    """A shape.

    Raises:
        FrontendError: The numbers are none.
    """
    found = np.atleast_1d(values).reshape(-1)
    if (found != np.trunc(found)).any() or (found < 1).any():
        raise FrontendError(f"{name} is {found.tolist()}, must be positive integers")
    return tuple(int(size) for size in found)


def scalar(layer: FileLayer, name: str, default: int) -> int:
    """One integer of a layer."""
    if name not in layer.values:
        return default
    values = layer.array(name)
    if values.size != 1:
        raise FrontendError(f"{name} has shape {values.shape}, must be one number")
    return int(values.reshape(-1)[0])


def pair(layer: FileLayer, name: str) -> Pair:
    """Two integers (y, x), or one for both."""
    values = np.atleast_1d(layer.array(name)).reshape(-1)
    if len(values) not in (1, 2) or (values != np.trunc(values)).any() or (values < 0).any():
        raise FrontendError(f"{name} is {values.tolist()}, must be one or two integers")
    y, x = (int(values[0]), int(values[-1]))
    return y, x
