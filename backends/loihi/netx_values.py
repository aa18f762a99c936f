"""Numbers of layers and neurons as a `.net` file has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Array, Shape

from .names import is_image, to_lava
from .reasons import Unfit
from .stock import Registers
from .table import INPUT_SHIFT, MANTISSA, NEVER


@dataclass(frozen=True, eq=False)
class NetLayer:
    """One layer of the file: its type, its numbers, and those of its neurons."""

    kind: str
    values: Mapping[str, Array]
    neuron: Mapping[str, Array] | None = None


def neuron_of(held: Registers, shape: Shape, image: bool) -> dict[str, Array]:
    """The neurons' numbers as SLAYER writes them."""
    return {
        "iDecay": laid(held.du + 1, shape, image),
        "vDecay": laid(held.dv, shape, image),
        "vThMant": laid(np.minimum(held.vth, NEVER), shape, image),
        "refDelay": whole(1),
        "gradedSpike": np.array(False),
    }


def bias_of(held: Registers, shape: Shape, image: bool) -> Array | None:
    """The biases, one a channel or neuron; netx's exponent is 6."""
    if not held.bias_mant.any():
        return None
    found = mantissas(held)
    if found is None:
        raise Unfit(
            f"its biases are no whole numbers of at most {MANTISSA} in units of weights; netx "
            "knows no finer ones",
            hint="give them the format s13f0 in the plan",
        )
    each = laid(found, shape, image)
    if each.ndim:
        return each
    return np.full(shape[0] if image else int(np.prod(shape)), each)


def mantissas(held: Registers) -> IntArray | None:
    """Biases at the exponent 6; None where they have none."""
    total = held.bias_mant << held.bias_exp
    high = total >> INPUT_SHIFT
    fits = ((high << INPUT_SHIFT) == total).all() and (np.abs(high) <= MANTISSA).all()
    return high if fits else None


def laid(values: IntArray, shape: Shape, image: bool) -> IntArray:
    """One number, one a channel, or one a neuron where netx has it: column, row, channel."""
    flat = values.reshape(-1)
    if (flat == flat[0]).all():
        return whole(int(flat[0]))
    full = np.broadcast_to(values, shape)
    channels = full.reshape(shape[0], -1)
    if image and (channels == channels[:, :1]).all():
        return wholes(channels[:, 0])
    return wholes(to_lava(full, shape) if image else full.reshape(-1))


def image_of(shape: Shape) -> Shape | None:
    """(channels, rows, columns) of what netx may convolve; None: the signal is flat."""
    if not is_image(shape):
        return None
    return shape if len(shape) == 3 else (shape[0], 1, shape[1])


def whole(value: int) -> IntArray:
    """One integer."""
    return np.array(value, np.int64)


def wholes(values: Shape | IntArray) -> IntArray:
    """Integers."""
    return np.array(values, np.int64)


def reals(values: IntArray) -> Array:
    """Integers as the floats that SLAYER writes."""
    return values.astype(np.float32)
