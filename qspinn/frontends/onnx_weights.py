"""Constants of an ONNX file as weights: in our layout, with the integers they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray, IntArray, Interval, QFormat
from qspinn.frontends.onnx_net import Grid, Synapses, Units
from qspinn.interp import apply
from qspinn.ir import Array, Conv1d, Conv2d, Linear, Param, Scale, Shape
from qspinn.planning import BINARY, TERNARY
from qspinn.signals import Signal

MOST_BITS = 16
"""Of integers that are kept; what is wider is read as real numbers."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant tensor.

    Attributes:
        values: What it stands for.
        dtype: The type it is stored in.
        whole: The integers of a quantized one; ``values`` are these times ``unit``.
        unit: Of the rank of ``whole``, and broadcasts to it.
        fmt: The format that the file declares for them.
    """

    values: Array
    dtype: str = "float32"
    whole: IntArray | None = None
    unit: FloatArray = field(default_factory=lambda: np.ones(()))
    fmt: QFormat | None = None

    def transposed(self, axes: Sequence[int]) -> Constant:
        """With its dimensions in another order."""
        if self.whole is None:
            return replace(self, values=self.values.transpose(axes))
        return replace(self, values=self.values.transpose(axes), whole=self.whole.transpose(axes),
                       unit=self.unit.transpose(axes))  # fmt: skip

    def expanded(self) -> Constant:
        """A kernel (out, in, k) as one of height 1."""
        if self.whole is None:
            return replace(self, values=self.values[:, :, None])
        return replace(self, values=self.values[:, :, None], whole=self.whole[:, :, None],
                       unit=self.unit[:, :, None])  # fmt: skip

    def grid(self) -> Grid | None:
        """The integers of weights (out, ...), if one is worth the same all along an output."""
        if self.whole is None or self.fmt is None or self.fmt.bits > MOST_BITS:
            return None
        unit = np.broadcast_to(self.unit, self.whole.shape).reshape(len(self.whole), -1)
        if not (unit == unit[:, :1]).all() or (unit <= 0).any():
            return None
        return Grid(self.whole, unit[:, 0].copy(), self.fmt)


def format_for(low: int, high: int, *, binary: bool = False) -> QFormat:
    """The narrowest format of the integers from ``low`` to ``high``."""
    if binary:
        return BINARY
    if (low, high) == (-1, 1):
        return TERNARY
    span = Interval(min(low, 0), max(high, 0))
    return QFormat(min(span.bits, 32), 0, signed=span.lo < 0)


def times_outputs(synapses: Synapses, each: FloatArray) -> Synapses:
    """The map with each output (channel) times a factor."""
    node = synapses.node
    if isinstance(node, Scale):
        gain = each.reshape(-1, *[1] * (node.scale.values.ndim - 1))
        return Synapses(replace(node, scale=Param(node.scale.values * gain)))
    values = node.weight.values
    weight = Param(values * each.reshape(-1, *[1] * (values.ndim - 1)))
    return Synapses(replace(node, weight=weight), _times(synapses.grid, each))


def times_inputs(synapses: Synapses, gain: FloatArray, shape: Shape) -> Synapses:
    """The map with each of its inputs, of the given shape, times a factor.

    Raises:
        FrontendError: The factor varies within a channel of a convolution.
    """
    node = synapses.node
    if isinstance(node, Scale):
        return Synapses(replace(node, scale=Param(node.scale.values * gain)))
    if gain.size == 1:
        same = np.full(len(node.weight.values), gain.item())
        return times_outputs(synapses, same)
    full = np.broadcast_to(gain, shape)
    if isinstance(node, Linear):
        return Synapses(replace(node, weight=Param(node.weight.values * full.reshape(-1))))
    channels = full.reshape(shape[0], -1)
    if not (channels == channels[:, :1]).all():
        raise FrontendError(
            "reads a signal whose elements are scaled differently within a channel",
            hint="scale per channel, or train with the values as they come",
        )
    weight = node.weight.values
    apart = channels[:, 0].reshape(node.groups, -1)  # (groups, inputs of a group)
    rows = np.repeat(apart, len(weight) // node.groups, axis=0)
    return Synapses(
        replace(node, weight=Param(weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))))
    )


def against_zero(layer: Units) -> Units:
    """Two scores of one, the first of which is always 0."""
    made = []
    for synapses in layer.synapses:
        node = synapses.node
        if isinstance(node, Scale):
            node = _matrix(node, len(layer.shape))
        weight = Param(_below(node.weight.values))
        made.append(Synapses(replace(node, weight=weight), _both(synapses.grid)))
    bias = _below(np.broadcast_to(layer.bias, layer.shape))
    return replace(layer, shape=(2, *layer.shape[1:]), synapses=tuple(made), bias=bias)


def _matrix(node: Scale, rank: int) -> Linear | Conv1d | Conv2d:
    """A factor of one element, of a signal of so many dimensions, as weights."""
    weight = Param(node.scale.values.reshape((1,) * (rank + 1)))
    if rank == 1:
        return Linear(name=node.name, inputs=node.inputs, weight=weight)
    kind = Conv1d if rank == 2 else Conv2d
    return kind(name=node.name, inputs=node.inputs, weight=weight)


def _below(values: Array) -> Array:
    """Something along the first axis, behind as many zeros."""
    return np.concatenate([np.zeros_like(values), values])


def _both(grid: Grid | None) -> Grid | None:
    if grid is None:
        return None
    fmt = TERNARY if grid.fmt.binary else grid.fmt
    return Grid(_below(grid.values), np.repeat(grid.scale, 2), fmt)


def _times(grid: Grid | None, each: FloatArray) -> Grid | None:
    if grid is None or not each.all():
        return None
    sign = np.sign(each).astype(np.int64).reshape(-1, *[1] * (grid.values.ndim - 1))
    values = grid.values * sign
    fmt = grid.fmt
    if not fmt.binary and (values.min() < fmt.range.lo or values.max() > fmt.range.hi):
        fmt = format_for(int(values.min()), int(values.max()))
    return Grid(values, grid.scale * np.abs(each), fmt)


def carried(node: Linear | Conv1d | Conv2d | Scale, shift: FloatArray, shape: Shape) -> FloatArray:
    """What a shift of all inputs adds to the outputs; zero padding is not shifted."""
    if not np.any(shift):
        return np.zeros(())
    full = np.broadcast_to(shift, shape)[None]
    added: FloatArray = apply(node, full, Signal(shape, "current"))[0]
    return added
