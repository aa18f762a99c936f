"""The parts of leaky neurons four at a time that `codesize` counts and `costmodel` prices."""

from __future__ import annotations

from collections import Counter

from .kernelparts import Parts
from .packedfours import PackedFours
from .packedimage import FoursImage


def fours_parts(stage: FoursImage) -> Parts:
    """What the stage itself is made of: a loop over words."""
    bands = stage.bands
    parts: Parts = Counter({"image bands": int(bands is not None)})
    parts["image rest"] += bands is not None and bands.rows % bands.height != 0
    return parts + quad_parts(stage.packed)


def quad_parts(packed: PackedFours) -> Parts:
    """What a word of four neurons takes."""
    decay = packed.decay
    return +Counter(
        {
            "quad": 1, "quad factor": int(decay.factor > 0), "quad wide": int(packed.wide > 0),
            "quad leak": int(decay.shift > 0 and not decay.factor),
        }
    )  # fmt: skip


def quad_spikes() -> Parts:
    """The function of words in which neurons spike."""
    return Counter({"quad spiking": 1})
