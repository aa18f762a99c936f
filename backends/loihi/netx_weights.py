"""What lava-dl's netx and Lava make of the weights in a `.net` file, and which ones they keep."""

from __future__ import annotations

import numpy as np

from qspinn.fixed import IntArray

from .reasons import Unfit

_LEAST, _MOST = -256, 255
_WORD = 8
_FILLERS = (2, 254, -2, -254, -256)


def require_kept(*matrices: IntArray) -> None:
    """Check that a dense layer computes with these weights (out, in) and no others.

    netx shifts them up to fill 8 bits, those of a recurrent layer together, and tells Lava the
    exponent, but no sign mode; Lava finds one for each matrix, clips and drops low bits. For some
    layers the two do not agree.

    Raises:
        Unfit: The layer would compute with other weights, or not at all.
    """
    weights = np.hstack(matrices)
    low, high = int(weights.min()), int(weights.max())
    if low == high == 0:
        raise Unfit("its weights are all zero, on which netx fails")
    mixed = low < 0 < high
    if low < _LEAST or high > _MOST - mixed:
        raise Unfit(
            f"its weights go from {low} to {high}, in one netx layer from {_LEAST} to "
            f"{_MOST - mixed}; a .net file has no exponent for them",
            hint="choose a smaller scale",
        )
    up, bits = _by_netx(weights, low, high)
    if bits > _WORD and mixed:
        raise Unfit(
            f"its weights from {low} to {high} need {bits} bits in one netx layer, a synapse "
            f"holds {_WORD}",
            hint="choose a smaller scale, or give connections of one layer one exponent",
        )
    kept = np.hstack([_by_lava(each << up, bits) >> up for each in matrices])
    if lost := int(np.count_nonzero(kept != weights)):
        raise Unfit(
            f"netx and Lava take its weights from {low} to {high} for different sign modes, and "
            f"change {lost} of them",
            hint="one weight of the other sign, or a slightly different scale, avoids it",
        )


def harmless(weights: IntArray) -> IntArray | None:
    """Recurrent weights beside which netx and Lava keep those of a layer that never fires.

    They change the sign mode and the shift that netx finds for both, and nothing else: no spike
    ever reaches them. None: no such weights are found.
    """
    size = len(weights)
    for value in _FILLERS:
        own = np.full((size, size), value, np.int64)
        joint = np.hstack([weights, own])
        up, bits = _by_netx(joint, int(joint.min()), int(joint.max()))
        if np.array_equal(_by_lava(weights << up, bits) >> up, weights):
            return own
    return None


def require_small(weights: IntArray) -> None:
    """Check that a convolution's weights, which netx passes on as they are, take 8 bits.

    Raises:
        Unfit: They do not.
    """
    low, high = int(weights.min()), int(weights.max())
    if low < _LEAST or high > _MOST:
        raise Unfit(
            f"its weights go from {low} to {high}, in netx from {_LEAST} to {_MOST}; a .net file "
            "has no exponent for them",
            hint="choose a smaller scale",
        )


def _by_netx(weights: IntArray, low: int, high: int) -> tuple[int, int]:
    """The places by which weights are shifted up, and the number of bits netx announces."""
    mixed = low < 0 <= high  # to netx; to Lava one without positive weights is inhibitory
    if mixed:
        scale = min(127 / high if high else np.inf, -128 / low)
    else:
        scale = 255 / high if low >= 0 else -256 / low
    up = int(np.floor(np.log2(scale))) + mixed
    zeros = next((n for n in range(_WORD, 0, -1) if not (weights & ((1 << n) - 1)).any()), 0)
    return up, _WORD - up - (zeros - mixed)


def _by_lava(weights: IntArray, bits: int) -> IntArray:
    """The mantissas that Lava's Dense adds up."""
    low, high = int(weights.min()), int(weights.max())
    mixed = low < 0 < high
    sign = 1 if mixed or low >= 0 else -1
    drop = _WORD - bits + mixed
    if drop < 0:
        return np.zeros_like(weights)
    clipped = sign * np.clip(sign * weights, _LEAST if mixed else 0, _MOST)
    kept: IntArray = sign * (((sign * clipped) >> drop) << drop)
    return kept
