"""Words of synaptic memory: rows of synapses on either chip, and weights that windows share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .synapses import Kernel

Row = Callable[[Any, int, int, int], Any]
"""Words of an axon with so many synapses (or many axons: an array) of so many bits, with a delay
of so many steps, to neurons that an index picks of so many (0: they lie side by side)."""

_WORD, _HEAD = 64, 10
_FITTED = 12
_BLOCK = 64
_INDEX_BITS = (6, 7, 8, 9, 10, 11, 12)
_FEWEST, _USUAL, _WIDEST = 5, 8, 8
"""Bits that a convolution's weight takes in Intel's logs, padding included; and most in itself."""
_PADDING = 48
"""Most bits beside the weights of a row that the logged convolutions allow."""


def loihi2_row(synapses: Any, bits: int, delay: int, index: int) -> Any:
    """Fitted to what Intel's compiler logs of fully connected layers; zeros are stored."""
    words = -(-(synapses * (bits + _FITTED) + _HEAD) // _WORD)
    return words * (synapses > 0)


def loihi1_row(synapses: Any, bits: int, delay: int, index: int) -> Any:
    """nengo-loihi's ``bits_per_axon``: blocks of up to 64 synapses, each padded to whole words."""
    each = bits + delay.bit_length()
    if index:
        each += next((b for b in _INDEX_BITS if index <= 1 << b), _INDEX_BITS[-1])
    full, rest = synapses // _BLOCK, synapses % _BLOCK
    tail = -(-(rest * each + _HEAD) // _WORD) * (rest > 0)
    return full * -(-(_BLOCK * each + _HEAD) // _WORD) + tail


def least_words(row: Row, counts: Any, bits: int, delay: int, most: int) -> Any:
    """Words that axons of so many synapses never go below, in slices of up to ``most`` neurons.

    What a synapse takes in the slice that suits it best: blocks of 64, as Loihi 1 has them, may
    take more than the same synapses in two slices.
    """
    sizes = np.arange(1, most + 1)
    rows = row(sizes, bits, delay, 0)
    best = int(np.argmin(rows / sizes))
    return -(-counts * int(rows[best]) // int(sizes[best]))


def slice_words(axons: int, reached: int, bits: int) -> int:
    """Loihi 2's words of ``axons`` that each reach as many neurons with weights of ``bits``."""
    return axons * int(loihi2_row(reached, bits, 0, 0))


@dataclass(frozen=True, slots=True)
class Range:
    """Words between two ends, where only these are known; numbers, or arrays of them."""

    low: Any
    high: Any


def loihi2_kernel(kernel: Kernel, bits: int, channels: Any) -> Range:
    """A convolution's weights for so many of its output channels, as far as the logs tell.

    They lie in rows, one for each tap and input channel, of a weight for each output channel; how
    rows are padded is not known. Logged are 5 to 8 bits a weight, for weights of 4 and 5 bits.
    """
    outs, per_group, kh, kw = kernel.weights.shape
    width = np.minimum(channels, outs // kernel.groups)
    rows = kh * kw * per_group * -(-channels // (outs // kernel.groups))
    weights = rows * width
    row = -(-(width * min(bits + 1, _WIDEST) + _PADDING) // _WORD)
    low = -(-weights * max(bits, _FEWEST) // _WORD)
    return Range(low, np.maximum(-(-weights * _USUAL // _WORD), rows * row))


def loihi1_kernel(kernel: Kernel, bits: int, channels: Any) -> Range:
    """A convolution's weights as population axons of nengo-loihi hold them.

    A pixel's axon has a row for each of its channels, of the taps it reaches; pixels that reach the
    same taps share one. At least each tap is stored once, at most once for each such set.
    """
    outs, per_group, _, _ = kernel.weights.shape
    width = np.minimum(channels, outs // kernel.groups)
    rows = per_group * -(-channels // (outs // kernel.groups))
    down, across = (_reached(kernel, axis) for axis in range(2))
    taps = np.multiply.outer(np.multiply.outer(down, across).reshape(-1), width)
    index = 1 << _INDEX_BITS[-1]
    high = loihi1_row(taps, bits, 0, index).sum(0)
    once = loihi1_row(kernel.weights[0, 0].size * width, bits, 0, index)
    return Range(rows * np.minimum(once, high), rows * high)


def _reached(kernel: Kernel, axis: int) -> Any:
    """How many taps each distinct set has that pixels of an axis reach."""
    size, taps = kernel.image[1 + axis], kernel.weights.shape[2 + axis]
    stride, pad, step = kernel.stride[axis], kernel.padding[axis], kernel.dilation[axis]
    places = (size + 2 * pad - step * (taps - 1) - 1) // stride + 1
    offsets = np.arange(size)[:, None] + pad - np.arange(taps)[None, :] * step
    hit = (offsets % stride == 0) & (offsets >= 0) & (offsets < places * stride)
    counts = np.unique(hit, axis=0).sum(1)
    return counts[counts > 0]
