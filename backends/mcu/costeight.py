"""What stages for 8-bit cores run, in counts of parts: their tiles of eight, their neurons."""

from __future__ import annotations

from .busy import Busy
from .costparts import stage_parts
from .eight import TILE, EightGather, EightUpdate
from .eightparts import narrow_parts
from .layout import WORD_BITS
from .running import Counts


@stage_parts.register
def _(stage: EightGather, busy: Busy) -> Counts:
    edge = stage.drives[0].edge
    rate = busy.rate(edge)
    fresh = edge.kind == "list" and not stage.starts
    kind, long = ("fresh" if fresh else "more"), stage.type.bits == 16
    found = Counts.of([("eight", 1)])
    if not fresh:
        found += _fills(stage)
    if edge.kind == "list":
        sums, events = 1.0, edge.size * rate
    else:
        sums, events = _busy_words(edge.size, rate), edge.size * rate
        found += _scan(edge.size, rate)
    tiles, ends = stage.full + (stage.rest > 0), f"{kind} {stage.bits}"
    return found + Counts.of(
        [
            (f"eight tile {ends}", tiles * sums), (f"eight end {ends}", stage.count * sums),
            (f"eight long end {ends}", stage.count * sums * long),
            (f"eight event {edge.type.bits}", tiles * events),
            (f"eight lane {kind} {stage.bits}", stage.count * events),
            ("eight long lane", stage.count * events * long),
        ]
    )  # fmt: skip


def _fills(stage: EightGather) -> Counts:
    """What sums start from."""
    kinds = ("table" if fill.table else "two" if fill.varies else "literal" for fill in stage.fills)
    return Counts.of((f"eight fill {kind}", stage.count) for kind in kinds)


def _busy_words(size: int, rate: float) -> float:
    """Words of a mask that are expected to have a bit set."""
    whole, rest = divmod(size, WORD_BITS)
    return whole * (1.0 - (1.0 - rate) ** WORD_BITS) + (1.0 - (1.0 - rate) ** rest)


def _scan(size: int, rate: float) -> Counts:
    """Finding the bits of a mask: bytes up to the highest with one, bits up to the highest."""
    seen = turns = 0.0
    for word in range(0, size, WORD_BITS):
        bits = min(size - word, WORD_BITS)
        some = [1.0 - (1.0 - rate) ** n for n in range(bits + 1)]  # of so many bits one is set
        for byte in range(0, bits, TILE):
            seen += some[bits - byte]
            turns += sum(some[1 : min(bits - byte, TILE) + 1])
    return Counts.of(
        [
            ("eight word", -(-size // WORD_BITS)), ("eight byte", seen), ("eight bit", turns),
            ("eight found", size * rate),
        ]
    )  # fmt: skip


@stage_parts.register
def _(stage: EightUpdate, busy: Busy) -> Counts:
    spikes = stage.size * busy.sent(stage.mask) if stage.mask else 0.0
    found = Counts.of([("eight update", 1), ("eight spike", spikes)])
    if stage.leaky is not None:
        return found + Counts.of(
            [
                ("leaky group", stage.full + (stage.rest > 0)), ("leaky neuron", stage.size),
                ("leaky shift", stage.size * stage.leaky.places),
                ("leaky clip", stage.size * stage.leaky.saturates),
                ("leaky byte", stage.size * (stage.held.bits == TILE)),
            ]
        )  # fmt: skip
    each = Counts.of((f"each {part}", n) for part, n in narrow_parts(stage).items())
    return found + each.times(stage.size) + Counts.of(
        [
            ("eight neuron", stage.size), ("eight mask", stage.size * bool(stage.mask)),
            ("eight plane", stage.size * (stage.plane > 0)),
            ("draws call", stage.stochastic),
        ]
    )  # fmt: skip
