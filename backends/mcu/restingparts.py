"""The parts of neurons that add up what comes, two at a time, that `codesize` counts."""

from __future__ import annotations

from collections import Counter

from .kernelparts import Parts
from .packedimage import RestingImage
from .resting import Resting
from .tileparts import exact_parts


def resting_parts(stage: RestingImage) -> Parts:
    """What the stage itself is made of: a loop over two words."""
    bands = stage.bands
    parts: Parts = Counter({"image bands": int(bands is not None)})
    parts["image rest"] += bands is not None and bands.rows % bands.height != 0
    for option in options_of(stage.packed):
        parts[f"resting {option}"] += 2
    return parts


def options_of(packed: Resting) -> list[str]:
    """What a word of two neurons takes."""
    options = {
        "word": True, "gain": packed.gain > 0, "narrow": packed.narrow > 0,
        "skip": packed.rests != "", "skip below": packed.rests == "below",
    }  # fmt: skip
    return [name for name, chosen in options.items() if chosen]


def resting_functions(stage: RestingImage) -> dict[str, Parts]:
    """What the functions beside the stage's own are made of, by name."""
    counts = Counter({"exact by place": 1, "exact count": int(stage.counts is not None)})
    return {stage.exact: exact_parts(stage.update) + counts}
