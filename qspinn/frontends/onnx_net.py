"""The network that an ONNX file holds, as layers of rectified units, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qspinn.fixed import FloatArray, IntArray, QFormat
from qspinn.interp import apply
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Linear,
    MaxPool2d,
    Node,
    Scale,
    Shape,
    SumPool2d,
)
from qspinn.signals import Signal

_BATCH = 64
_ROOM = 1 << 24
"""Elements that the windows of a layer gather in a batch."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The integers that a quantized file stores for weights.

    Attributes:
        values: Integers, in the layout of the weights.
        scale: What one is worth, for each output (channel).
        fmt: The narrowest format of the file's declaration that holds them.
    """

    values: IntArray
    scale: FloatArray
    fmt: QFormat


@dataclass(frozen=True, eq=False)
class Synapses:
    """A linear map into a layer; ``node`` reads the layer ``node.inputs[0]``, without a bias."""

    node: Linear | Conv1d | Conv2d | Scale
    grid: Grid | None = None

    @property
    def source(self) -> str:
        """The layer it reads."""
        return self.node.inputs[0]


@dataclass(frozen=True, eq=False)
class Steps:
    """The values that a file's quantizer lets an activation have: ``unit`` times 0 to ``most``."""

    unit: float
    most: int


@dataclass(frozen=True, eq=False)
class Units:
    """Units that add up currents; rectified, unless they are the network's output.

    Attributes:
        name: Of the neurons that they become.
        shape: Theirs.
        synapses: What they add up.
        bias: Broadcasts to the shape.
        rectified: Whether they send max(0, x).
        cap: The most they send; None: no limit.
        steps: The values they may have, where the file quantizes them.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]
    bias: FloatArray
    rectified: bool = True
    cap: float | None = None
    steps: Steps | None = None


@dataclass(frozen=True, eq=False)
class Passing:
    """A sum or maximum over windows, or another shape; ``node`` reads one layer."""

    node: Node
    shape: Shape

    @property
    def name(self) -> str:
        """Its node's."""
        return self.node.name


def gathered(node: Node, shape: Shape) -> int:
    """How many elements the windows of a node gather, whose output has the given shape."""
    places = int(np.prod(shape[1:], dtype=object))
    if isinstance(node, Conv1d | Conv2d):
        return places * int(node.weight.values[0].size) * node.groups
    if isinstance(node, SumPool2d | MaxPool2d):
        return places * shape[0] * node.kernel[0] * node.kernel[1]
    return int(np.prod(shape, dtype=object))


@dataclass(frozen=True, eq=False)
class Ann:
    """An artificial network: called with samples it returns its scores, (samples, outputs).

    Attributes:
        input: The name of its input.
        shape: The shape of a sample.
        layers: In topological order; the last one is the output.
        declared: Shapes by layer, the input's too.
        grain: The values that the file's quantizer lets the input have, as (unit, low, high).
    """

    input: str
    shape: Shape
    layers: tuple[Units | Passing, ...]
    declared: Mapping[str, Shape] = field(default_factory=dict)
    grain: tuple[float, int, int] | None = None

    def __call__(self, x: Array) -> FloatArray:
        """The scores of samples."""
        parts = [self.activations(x[i : i + self.batch])[self.layers[-1].name]
                 for i in range(0, len(x), self.batch)]  # fmt: skip
        scores: FloatArray = np.concatenate(parts).reshape(len(x), -1)
        return scores

    @property
    def names(self) -> set[str]:
        """Of all its layers and synapses, of its input, and of the node that reads the scores."""
        found = {self.input, "output", *(layer.name for layer in self.layers)}
        units = [layer for layer in self.layers if isinstance(layer, Units)]
        return found | {s.node.name for layer in units for s in layer.synapses}

    @property
    def batch(self) -> int:
        """How many samples to compute at once."""
        widest = int(np.prod(self.shape))
        for layer in self.layers:
            nodes = [layer.node] if isinstance(layer, Passing) else [s.node for s in layer.synapses]
            widest = max(widest, *(gathered(node, layer.shape) for node in nodes))
        return max(1, min(_BATCH, _ROOM // widest))

    def activations(self, x: Array) -> dict[str, FloatArray]:
        """What every layer sends for a batch of samples, by name."""
        entered = np.asarray(x, np.float64).reshape(len(x), *self.shape)
        if self.grain is not None:
            unit, low, high = self.grain
            entered = np.clip(np.rint(entered / unit), low, high) * unit
        found: dict[str, FloatArray] = {self.input: entered}
        for layer in self.layers:
            if isinstance(layer, Passing):
                found[layer.name] = self._applied(layer.node, found)
            else:
                found[layer.name] = self._units(layer, found)
        return found

    def _applied(self, node: Node, found: Mapping[str, FloatArray]) -> FloatArray:
        source = node.inputs[0]
        return apply(node, found[source], Signal(self.declared[source], "current"))

    def _units(self, layer: Units, found: Mapping[str, FloatArray]) -> FloatArray:
        total: FloatArray = layer.bias + sum(self._applied(s.node, found) for s in layer.synapses)
        if not layer.rectified:
            return total
        total = np.maximum(total, 0.0)
        if layer.steps is not None:
            unit, most = layer.steps.unit, layer.steps.most
            return np.asarray(np.minimum(np.rint(total / unit), most) * unit)
        return total if layer.cap is None else np.minimum(total, layer.cap)
