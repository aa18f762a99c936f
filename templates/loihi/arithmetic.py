"""Roundings of process models, on int64 arrays."""

import numpy as np


def near_even(x, k):
    """x / 2**k rounded to nearest, halves to even."""
    half = np.left_shift(np.int64(1), np.maximum(k - 1, 0))
    return (x + np.where(np.greater(k, 0), half - 1 + ((x >> k) & 1), 0)) >> k


def near_away(x, k):
    """x / 2**k rounded to nearest, halves away from zero."""
    half = np.left_shift(np.int64(1), np.maximum(k - 1, 0))
    return (x + np.where(np.greater(k, 0), half - (x < 0), 0)) >> k
