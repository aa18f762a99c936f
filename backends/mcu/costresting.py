"""What neurons run that add up what comes, two at a time, in counts of parts."""

from __future__ import annotations

import math

from .costparts import Busy, Runs, stage_runs
from .costtiles import exactly
from .kernels import Kernel, PoolKernel
from .network import Drive
from .packedimage import RestingImage
from .running import Counts
from .windows import Image


@stage_runs.register
def _(stage: RestingImage, busy: Busy) -> Runs:
    update, packed = stage.update, stage.packed
    pairs = update.size // 2
    sent = busy.sent(stage.counts.name if stage.counts else update.mask)
    fired = pairs * (1.0 - (1.0 - sent) ** 2)
    awake = max(pairs * _touched(stage, busy), fired) if packed.rests else float(pairs)
    own = Counts.of(
        [
            ("resting", busy.calls(stage)), ("resting pair", pairs), ("mask word", stage.words),
            ("resting word", awake), ("resting gain", awake if packed.gain else 0),
            ("resting narrow", awake if packed.narrow else 0),
            ("resting below", pairs if packed.rests == "below" else 0),
        ]
    )  # fmt: skip
    counted = update.size * sent if stage.counts else 0.0
    alone = Counts.of([("exact by place", fired), ("exact count", counted)])
    return {stage.name: own, stage.exact: exactly(update, 2 * fired) + alone}


def _touched(stage: RestingImage, busy: Busy) -> float:
    """The share of sums that some event has reached, events being equally likely everywhere."""
    untouched = [(1.0 - min(busy.rate(d.edge), 1.0)) ** _window(d) for d in stage.drives]
    return 1.0 - math.prod(untouched)


def _window(drive: Drive) -> int:
    """The elements that a sum depends on."""
    kernel: Kernel = drive.kernel
    size = 1
    while isinstance(kernel, PoolKernel):
        size *= kernel.image.y.kernel * kernel.image.x.kernel
        kernel = kernel.next
    image: Image = getattr(kernel, "image")  # noqa: B009  # the sums of images are convolutions'
    return size * image.channels * image.y.kernel * image.x.kernel
