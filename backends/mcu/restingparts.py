"""The parts of neurons that add up what comes, two at a time, that `codesize` counts."""

from __future__ import annotations

from collections import Counter

from .kernelparts import Parts
from .packedimage import RestingImage
from .resting import Resting
from .updateparts import load_parts, ways


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
    update = stage.update
    parts: Parts = Counter({"exact": 1, "exact by place": 1})
    parts["exact count"] += stage.counts is not None
    for body in (load_parts(update.loads), *ways(update)):
        parts += body
    return {stage.exact: parts}
