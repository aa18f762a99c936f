"""Roundings and random draws of process models, on int64 arrays."""

import numpy as np


def near_even(x, k):
    """x / 2**k rounded to nearest, halves to even."""
    half = np.left_shift(np.int64(1), np.maximum(k - 1, 0))
    return (x + np.where(np.greater(k, 0), half - 1 + ((x >> k) & 1), 0)) >> k


def near_away(x, k):
    """x / 2**k rounded to nearest, halves away from zero."""
    half = np.left_shift(np.int64(1), np.maximum(k - 1, 0))
    return (x + np.where(np.greater(k, 0), half - (x < 0), 0)) >> k


def noise(key, step, index):
    """32 random bits for each neuron: a pure function of the key, the step and its index."""
    h = np.asarray(0x243F6A88, np.uint32)
    with np.errstate(over="ignore"):
        for word in (key, step, index):
            w = np.asarray(word, np.int64).astype(np.uint32)
            h = mix(h ^ (w * np.uint32(0x9E3779B1)))
    return h.astype(np.int64)


def mix(h):
    """MurmurHash3's 32-bit finalizer (Appleby, public domain)."""
    h = h ^ (h >> np.uint32(16))
    h = h * np.uint32(0x85EBCA6B)
    h = h ^ (h >> np.uint32(13))
    h = h * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))
