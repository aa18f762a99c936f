"""What a convolution that gathers runs, in counts of parts: its map, its lists, its neurons."""

from __future__ import annotations

from .busy import Busy
from .costkernels import quotient_parts
from .costparts import Runs, each_neuron, events_parts, stage_runs
from .costresting import fours
from .costtiles import adder_runs, exact_runs, fired_words, spikes, words
from .packedfours import PackedFours
from .running import Counts
from .scan import scan
from .windows import Window
from .windowstage import Windows


@stage_runs.register
def _(stage: Windows, busy: Busy) -> Runs:
    update, packed = stage.update, stage.packed
    rate, fired = busy.rate(stage.edge), fired_words(update, busy)
    listed = rate * elements(stage)
    adder = f"{busy.network.prefix}_{stage.adder.name}"
    share = listed / stage.places / stage.bits.taps
    sums = adder_runs(stage.rows.form, stage.bits.taps, ((1.0, share),), False)
    found = {
        stage.marking: _marking(stage, rate),
        stage.listing: _listing(stage, rate, listed),
        adder: sums.times(stage.places * stage.rows.tiles),
    }
    own = Counts.of(
        [
            ("windows", 1), ("window place", stage.places), ("mask word", update.words),
            ("window tile", stage.places * stage.rows.tiles if stage.rows.tiles > 1 else 0),
        ]
    )  # fmt: skip
    if packed is None:
        sent = busy.sent(update.mask) if update.mask else 1.0
        fires = update.size * sent if update.mask else 0.0
        own += each_neuron(update, sent)
        own += Counts.of([("window neuron", update.size), ("window spike", fires)])
        return {**found, stage.name: own}
    if isinstance(packed, PackedFours):
        quads, spiking = fours(packed, update, busy)
        own += Counts.of([("quad window", update.size // 4)]) + quads
        return {**found, stage.name: own, stage.spike: spiking}
    alone = exact_runs(update, packed, fired)
    found[stage.exact] = alone + Counts.of([("exact by place", 0 if packed.spikes else fired)])
    if packed.spikes:
        found[stage.spike] = spikes(packed, fired) + Counts.of([("spike by place", fired)])
    pairs = update.size // 2
    own += Counts.of([("window pair", pairs)]) + words(packed, pairs, fired)
    return {**found, stage.name: own}


def elements(stage: Windows) -> float:
    """The elements of all windows, those of the padding left out."""
    image = stage.bits.image
    return float(stage.bits.depth * _seen(image.y) * _seen(image.x))


def _seen(window: Window) -> int:
    taps = range(0, window.kernel * window.dilation, window.dilation)
    starts = (place * window.stride - window.padding for place in range(window.places))
    return sum(0 <= start + tap < window.size for start in starts for tap in taps)


def _marking(stage: Windows, rate: float) -> Counts:
    edge, bits = stage.edge, stage.bits
    events = edge.size * rate
    found = quotient_parts(stage.channel)
    if bits.columns != bits.image.x.size or bits.pooled > 1:
        found += quotient_parts(stage.row) + Counts.of([("bitmap row", 1)])
    # Beside the row two quotients and what is left of both.
    found += Counts.of([("bitmap pool", 8 if bits.pooled > 1 else 0)])
    found = found.times(events) + Counts.of(
        [("bitmap", 1), ("bitmap word", bits.words), ("bitmap event", events)]
    )
    kinds = events_parts(edge, rate, valued=False).items()
    return found + Counts.of((f"bitmap {part}", count) for part, count in kinds)


def _listing(stage: Windows, rate: float, listed: float) -> Counts:
    """Bits are found run by run, where padding leaves fewer."""
    bits, places = stage.bits, stage.places
    share = listed / (rate * places * bits.taps) if rate else 1.0
    seen = scan(bits.run, rate * share)
    runs = places * bits.runs
    return Counts.of(
        [
            ("window", places), ("window run", runs), ("window chunk", runs * bits.chunks),
            ("window more", runs if bits.chunks > 1 else 0), ("window busy", runs * seen.busy),
            ("window turn", runs * seen.turns), ("window skip", runs * seen.skips),
            ("window bit", listed), ("window pool", listed if bits.pooled > 1 else 0),
            ("window line", places * bits.image.y.kernel * bits.lone),
        ]
    )  # fmt: skip
