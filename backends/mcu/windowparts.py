"""The parts of gathering convolutions that `codesize` counts, and the stack they take."""

from __future__ import annotations

from collections import Counter

from .foursparts import quad_parts, quad_spikes
from .kernelparts import Parts
from .packedfours import PackedFours
from .tileforms import WHOLE
from .tileparts import exact_parts, least_stack, spike_parts, word_parts
from .updateparts import live_values, load_parts, ways
from .windowstage import Windows


def window_functions(stage: Windows) -> dict[str, Parts]:
    """What the functions beside the stage's own are made of, by name."""
    bits, edge = stage.bits, stage.edge
    marking: Parts = Counter({f"bitmap {edge.kind}": 1, "delay slot": int(" " in edge.at)})
    marking["bitmap rows"] += bits.columns != bits.image.x.size or bits.pooled > 1
    marking["bitmap pool"] += bits.pooled > 1
    marking["bitmap channels"] += bits.image.channels > 1
    listing: Parts = Counter({"window": 1})
    listing["window runs"] += bits.runs > 1
    listing["window lone"] += bits.lone
    listing["window chunks"] += bits.chunks > 1
    found = {stage.marking: marking, stage.listing: listing}
    packed = stage.packed
    if isinstance(packed, PackedFours):
        found[stage.spike] = quad_spikes()
    elif packed is not None:
        found[stage.exact] = exact_parts(stage.update) + Counter({"exact by place": 1})
        if packed.spikes:
            found[stage.spike] = spike_parts(packed) + Counter({"spiking by place": 1})
    return found


def window_parts(stage: Windows) -> Parts:
    """What the stage itself is made of."""
    channels = stage.image.channels
    parts: Parts = Counter({"windows tiles": int(stage.rows.tiles > 1)})
    if isinstance(stage.packed, PackedFours):
        parts["windows packed"] += 1
        return parts + quad_parts(stage.packed)
    if stage.packed is not None:
        parts["windows packed"] += 1
        for part, count in word_parts(stage.packed).items():
            parts[part] += count * (2 if channels % 4 == 0 else 1)
        return parts
    copies = 2 * (channels > 1) + channels % 2
    for body in (load_parts(stage.update.loads), *ways(stage.update)):
        for part, count in body.items():
            parts[part] += copies * count
    parts["windows neurons"] += copies
    parts["windows marks"] += copies * bool(stage.update.mask)
    parts["draws"] += stage.update.stochastic
    live = live_values(stage.update)
    parts["pressure"] += max(live - 6, 0)
    parts["high pressure"] += max(live - 10, 0)
    return parts


def window_stack(stage: Windows, isa: str, live: int) -> int:
    """An upper bound of the stack that a stage takes, its caller included.

    Args:
        stage: The stage.
        isa: The instruction set.
        live: The most values that the update of a neuron keeps at once.
    """
    narrow = stage.rows.form != WHOLE
    return least_stack(isa, live) + 4 * (stage.words - WHOLE.lanes // 2) + 32 * narrow + 32
