"""What neurons of images run that are updated two at a time or four, in counts of parts."""

from __future__ import annotations

import math

from .busy import Busy
from .costparts import Runs, each_neuron, stage_runs
from .foursparts import quad_parts
from .kernels import Kernel, PoolKernel
from .network import Drive, Update
from .packedfours import PackedFours
from .packedimage import FoursImage, RestingImage
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
    alone = Counts.of(
        [("exact", 2 * fired), ("exact by place", fired), ("exact count", counted)]
    ) + each_neuron(update, update.size * sent / (2 * fired) if fired else 0.0).times(
        2 * fired / update.size
    )
    return {stage.name: own, stage.exact: alone}


@stage_runs.register
def _(stage: FoursImage, busy: Busy) -> Runs:
    update = stage.update
    quads, spiking = fours(stage.packed, update, busy)
    own = Counts.of(
        [("quads", busy.calls(stage)), ("quad", update.size // 4), ("mask word", update.words)]
    )
    return {stage.name: own + quads, stage.spike: spiking}


def fours(packed: PackedFours, update: Update, busy: Busy) -> tuple[Counts, Counts]:
    """What words of four neurons take beside the loop, and the function of those with spikes."""
    quads, sent = update.size // 4, busy.sent(update.mask)
    fired = quads * (1.0 - (1.0 - sent) ** 4)
    parts = quad_parts(packed).items()
    own = Counts.of((part, quads * n) for part, n in parts if part != "quad")
    spiking = Counts.of([("quad spiking", fired), ("quad mark", update.size * sent)])
    return own + Counts.of([("quad fired", fired)]), spiking


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
