"""What flows through an ONNX graph while it is read: constants, signals and sums of currents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.onnx_net import Synapses
from qspinn.frontends.onnx_weights import Constant, times_outputs
from qspinn.ir import Array, Node, Shape


@dataclass(frozen=True, eq=False)
class Wave:
    """What a layer sends: ``gain * signal + shift``; both broadcast to the shape.

    ``positive``: what the layer itself sends is never below zero.
    """

    layer: str
    shape: Shape
    gain: FloatArray = field(default_factory=lambda: np.ones(()))
    shift: FloatArray = field(default_factory=lambda: np.zeros(()))
    positive: bool = False

    def times(self, gain: FloatArray, shift: FloatArray) -> Wave:
        """This signal times a gain, plus a shift."""
        return replace(self, gain=self.gain * gain, shift=self.shift * gain + shift)


@dataclass(frozen=True, eq=False)
class Current:
    """A sum that no unit has rectified yet.

    Attributes:
        shape: Its shape.
        synapses: What adds up.
        bias: Broadcasts to the shape.
        pool: A maximum over windows that was taken of it: the units rectify first, then it is.
        pooled: The shape behind that.
    """

    shape: Shape
    synapses: tuple[Synapses, ...]
    bias: FloatArray
    pool: Node | None = None
    pooled: Shape = ()

    @property
    def seen(self) -> Shape:
        """The shape that the file knows."""
        return self.pooled or self.shape

    def times(self, gain: FloatArray, shift: FloatArray) -> Current:
        """This sum times a gain, plus a shift.

        Raises:
            FrontendError: The gain varies within a channel, or the maximum does not survive it.
        """
        each = per_channel(gain, self.shape)
        moves = per_channel(shift, self.shape) is None
        if each is None or (self.pool is not None and (moves or (each <= 0).any())):
            raise FrontendError(
                "scales a sum before it is rectified differently within a channel"
                if each is None else "scales a maximum by a factor that is not positive, or "
                "differently within a channel",
                hint="put the Relu before it",
            )  # fmt: skip
        synapses = tuple(times_outputs(s, each) for s in self.synapses)
        return replace(self, synapses=synapses, bias=self.bias * gain + shift)


@dataclass(frozen=True, eq=False)
class Stepped:
    """A signal that QuantizeLinear made integers of, for DequantizeLinear to read."""

    value: Wave | Current
    unit: float
    zero: int
    low: int
    high: int
    alone: bool = True
    """Whether nobody else reads the signal."""


Value = Constant | Wave | Current | Stepped


def per_element(values: Array, shape: Shape, *, lifted: bool = False) -> FloatArray:
    """A constant in the layout of a sample, without its batch dimension of size 1.

    Args:
        values: The constant.
        shape: A sample's.
        lifted: The sample has a height of 1 that the file does not know of.

    Raises:
        FrontendError: It does not broadcast to a sample.
    """
    found = np.asarray(values, np.float64)
    lifted = lifted and len(shape) == 3
    rank = len(shape) - lifted
    if found.ndim == rank + 1 and len(found) == 1:
        found = found[0]
    if lifted and found.ndim == 2:
        found = found[:, None]
    try:
        fits = found.ndim <= len(shape) and np.broadcast_shapes(found.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise FrontendError(
            f"combines a constant of shape {np.shape(values)} with samples of shape {shape}",
            hint="constants apply to each sample alike: per element, per channel or one for all",
        )
    return found


def per_channel(values: FloatArray, shape: Shape) -> FloatArray | None:
    """One number for each channel (or element of a flat signal); None where it varies within."""
    full = np.broadcast_to(values, shape).reshape(shape[0], -1)
    return full[:, 0].copy() if (full == full[:, :1]).all() else None


def channels(values: Array, shape: Shape) -> FloatArray:
    """One number for each channel, broadcasting to a sample."""
    found = np.asarray(values, np.float64).reshape(-1)
    if found.size != shape[0]:
        raise FrontendError(f"has {found.size} values for {shape[0]} channels")
    return found.reshape(-1, *[1] * (len(shape) - 1))
