"""What the fuzzer puts in the place of what was there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Rng = np.random.Generator
Step = Callable[[Path, Rng], None]

VALUES = (
    0, 1, -1, 2, 0.5, 1e-300, 1e300, -1e18, np.nan, np.inf, 2**20, 2**31, 2**40, 2**62, 4097,
)  # fmt: skip
TYPES = ("f8", "f4", "f2", "i1", "i4", "i8", "u1", "u8", "?", "c16", "S5", "V4", ">f8", ">i2")
NAMES = (
    "input", "output", "weight", "0", "1.lif", "A", "a", "con", "é", "x" * 300, "a b", "a.b",
    "a\nb", "%s{0}", "__class__", "node", "nodes", "\u202e", "type", "w_in", "r", "ÅÅ",
)  # fmt: skip
KINDS = (
    "Input", "Output", "Affine", "Linear", "Scale", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d",
    "Flatten", "Delay", "Threshold", "I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "NIRGraph",
    "dense", "dense_rec", "conv", "pool", "average", "input", "flatten", "CUBA", "LOIHI",
)  # fmt: skip


def pick(names: Sequence[str], rng: Rng) -> str:
    """One of the texts."""
    return names[int(rng.integers(len(names)))]
