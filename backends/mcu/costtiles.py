"""What a layer in tiles runs, in counts of parts: its lists, its sums, its neurons."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

from .busy import Busy
from .chances import Bursts, blocks, mean, mixed, rest
from .costparts import Runs, events_parts, one_way, stage_runs
from .network import Start, Update
from .packedimage import PackedImage
from .packedlif import PackedLif
from .running import Counts
from .tileforms import WHOLE, TileForm
from .tileparts import form_of, options_of
from .tilestage import Tile, TileDrive

_WORD = 32


@stage_runs.register
def _(stage: Tile, busy: Busy) -> Runs:
    if busy.vectors and stage.vectors:
        return _helium(stage, busy)
    prefix = busy.network.prefix
    found: dict[str, Counts] = {}

    def add(name: str, parts: Counts) -> None:
        found[name] = found.get(name, Counts()) + parts

    add(stage.name, _stage(stage, busy))
    for nth, drive in enumerate(stage.drives):
        events = busy.rate(drive.edge) * drive.edge.size
        rows = events * busy.stored(drive.edge, drive.kept)
        again, chunks = _again(drive, rows)
        late = again * (chunks - 1) / chunks
        stored = drive.edge.size if drive.kept is None else drive.kept.count
        bursts = busy.bursts(drive.edge)
        for more, calls, share in (
            (nth > 0, 1.0, 1.0 - late),
            (True, again * (chunks - 1), late),
        ):
            adder = f"{prefix}_{drive.adder(more).name}"
            if not calls:
                add(adder, Counts())  # bursts may call it all the same
                continue
            heard = rows / events * share / calls if events else 0.0
            each = [(s, rate * drive.edge.size * heard / stored) for s, rate in bursts]
            sums = adder_runs(drive.rows.form, stored, each, more)
            add(adder, sums.times(calls * stage.tiles))
        if drive.made is not None:
            listed = _list(drive, busy)
            add(drive.fill, listed.times(1.0 + again * stage.tiles))
            add(drive.fill, Counts.of([("list part", again * stage.tiles * (chunks - 1))]))
    if (packed := stage.packed) is not None:
        fired, lone = fired_words(stage.update, busy), stage.update.size % 2
        add(stage.exact, exact_runs(stage.update, packed, fired, lone))
        if packed.spikes:
            add(stage.spike, spikes(packed, fired))
    return found


def _helium(stage: Tile, busy: Busy) -> Runs:
    """What a stage runs that vectors sum and update: functions that add rows are parts of it."""
    packed, size = stage.packed, stage.update.size
    assert packed is not None, "others are not done by vectors"
    whole, rest = divmod(size, stage.lanes)
    singles = stage.tiles % 2
    own = Counts.of([("helium", 1), ("helium turn", whole // 2), ("tiles list", len(stage.drives))])
    found: dict[str, Counts] = {}
    for nth, drive in enumerate(stage.drives):
        rows = busy.rate(drive.edge) * drive.edge.size * busy.stored(drive.edge, drive.kept)
        again, chunks = _again(drive, rows)
        for of, calls in ((" two", stage.tiles // 2), ("", singles)):
            own += Counts.of(
                [
                    (f"helium sum{of}{' more' if nth else ''}", calls),
                    (f"helium sum{of} more", calls * again * (chunks - 1)),
                    (f"helium row{of}", calls * rows), ("tile part", calls * drive.parts),
                ]
            )  # fmt: skip
        if drive.made is not None:
            more = again * (stage.tiles // 2 + singles)
            parts = Counts.of([("list part", more * (chunks - 1))])
            found[drive.fill] = _list(drive, busy).times(1.0 + more) + parts
    for group, count in (("group", 2 * whole + (rest >= 8)), ("part", rest % 8 > 0)):
        own += Counts.of(
            (f"helium {option or group}", count * times)
            for option, times in {"": 1, **options_of(packed)}.items()
        )
    found[stage.name] = own
    return found


@stage_runs.register
def _(stage: PackedImage, busy: Busy) -> Runs:
    update, packed = stage.update, stage.packed
    fired = fired_words(update, busy)
    pairs = Counts.of(
        [("pairs", busy.calls(stage)), ("pair", update.size // 2), ("mask word", update.words)]
    )
    found = {stage.name: pairs + words(packed, update.size // 2, fired)}
    alone = exact_runs(update, packed, fired)
    found[stage.exact] = alone + Counts.of([("exact by place", 0 if packed.spikes else fired)])
    if packed.spikes:
        found[stage.spike] = spikes(packed, fired) + Counts.of([("spike by place", fired)])
    return found


def adder_runs(form: TileForm, size: int, bursts: Bursts, more: bool) -> Counts:
    """What a call of the function that adds rows takes.

    Args:
        form: How rows are packed.
        size: How many there are.
        bursts: The share of them that events add.
        more: Whether it adds to sums that there are already.
    """

    def counted(value: Callable[[int, float, int], float], most: int) -> float:
        return mean(bursts, lambda rate: value(size, min(rate, 1.0), most))

    rows = mean(bursts, lambda rate: size * rate)
    of = form_of(form) + (" s" if form.field == 8 and form.shift and form != WHOLE else "")
    parts: list[tuple[str, float]] = [
        (f"tile{of} more" if more else f"tile{of}", 1),
        (f"tile row{of}", rows),
    ]
    if form.field == 8 and form.together > 1:
        parts.append((f"tile rest{of}", counted(rest, form.together)))
    elif form.field == 4:
        parts.append((f"tile block{of}", counted(blocks, form.block)))
        parts.append((f"tile rest{of}", form.together > 1 and counted(rest, form.together)))
    elif form.field < 4:
        parts.append((f"tile part{of}", counted(blocks, form.block)))
        parts.append((f"tile block{of}", counted(blocks, form.blocks)))
    return Counts.of(parts)


def spikes(packed: PackedLif, fired: float) -> Counts:
    """What words take in which neurons do no more than spike, beside the call."""
    return Counts.of(
        [
            ("spiking", fired), (f"spiking {packed.spikes}", fired),
            ("spiking subtracts", fired * (packed.reset is None)),
            ("spiking move", fired * bool(packed.move)),
            ("spike narrow", fired * (packed.narrow > 0)), ("spike low", fired * (packed.low > 0)),
            ("spike fresh", fired * (packed.fresh > 0)), ("spike gap", fired * packed.compares),
            ("spike threshold", fired * (packed.thresholds is not None)),
        ]
    )  # fmt: skip


def exact_runs(update: Update, packed: PackedLif, fired: float, lone: float = 0.0) -> Counts:
    """What the exact update runs: of words that fire, or of those that do more than that.

    Args:
        update: The neurons.
        packed: Their update in pairs.
        fired: Words of which one fires.
        lone: Neurons that are always done alone.
    """
    found = one_way(update, lone) + Counts.of([("exact", lone), ("exact call", lone)])
    if not packed.spikes:
        return found + one_way(update, 2 * fired) + Counts.of(
            [("exact", 2 * fired), ("exact call", fired)]
        )  # fmt: skip
    # A share that depends on the data, of neurons that are far from their threshold.
    how = f"{packed.spikes} {'subtracts' if packed.reset is None else 'resets'}"
    often = fired * fired / max(update.size // 2, 1)
    return found + Counts.of(
        [
            ("exact after spike", fired), (f"exact after spike: {how}", fired),
            ("exact after spike: often", often), (f"exact after spike: often {how}", often),
        ]
    )  # fmt: skip


def _again(drive: TileDrive, rows: float) -> tuple[float, float]:
    """The chance that a list has no room for all rows, and in how many parts they then come."""
    if not drive.parts or drive.made is None:
        return 0.0, 1.0
    room = drive.made.count if drive.edge.kind == "list" else drive.made.count - _WORD
    spread = max(rows * (1.0 - rows / drive.edge.size), 0.0) ** 0.5
    over = 1.0 - NormalDist(rows, spread).cdf(room + 0.5) if spread else float(rows > room)
    return over, max(rows / room, 2.0)


def _list(drive: TileDrive, busy: Busy) -> Counts:
    """What it takes to list the rows of all events once."""
    rate = busy.rate(drive.edge)
    events = rate * drive.edge.size
    wide = drive.made is not None and drive.made.type.bits > 8
    found = Counts.of(
        [
            ("row list", 1), ("row list part", drive.parts),
            ("listed", events), ("listed: wide", events * wide),
        ]
    )  # fmt: skip
    if drive.edge.kind == "list":
        found += Counts.of([("caller's event", events)])
    else:
        scanned = mixed(
            busy.bursts(drive.edge), lambda rate: events_parts(drive.edge, rate, valued=False)
        )
        found += Counts.of((f"listed {part}", count) for part, count in scanned.items())
    if drive.kept is not None:
        share = busy.stored(drive.edge, drive.kept)
        ranks = drive.kept.ranks is not None
        found += Counts.of(
            [
                ("listed check", events), ("listed check: wide", events * wide),
                ("listed kept", events * share), ("listed kept: wide", events * share * wide),
                ("listed rank", events * share * ranks),
            ]
        )  # fmt: skip
    return found


def _stage(stage: Tile, busy: Busy) -> Counts:
    """What the stage runs itself."""
    update, drives = stage.update, len(stage.drives)
    lists = sum(drive.made is not None for drive in stage.drives)
    parts = sum(drive.parts for drive in stage.drives)
    found = Counts.of(
        [
            ("tiles", 1), ("tiles list", lists), ("tile turn", stage.tiles),
            ("tile add", stage.tiles * drives), ("tile part", stage.tiles * parts),
        ]
    )  # fmt: skip
    if stage.packed is not None:
        return found + _pairs(stage, stage.packed, fired_words(update, busy))
    found += one_way(update, update.size) + Counts.of([("tile neuron", update.size)])
    if update.mask:
        spikes = update.size * busy.sent(update.mask)
        found += Counts.of([("tile spike bit", update.size), ("spike", spikes)])
    return found


def fired_words(update: Update, busy: Busy) -> float:
    """Words of two neurons of which one fires: neighbours, but in images that lie by place."""
    rate = busy.sent(update.mask)
    share = 1.0 - (1.0 - rate) ** 2 if update.place else busy.pair(update.mask)
    return float(update.size // 2 * share)


def _coded(start: Start | None) -> bool:
    return start is not None and start.codes is not None


def _pairs(stage: Tile, packed: PackedLif, fired: float) -> Counts:
    """What updates two neurons at a time run."""
    return words(packed, stage.pairs, fired) + Counts.of(
        [
            ("pairs", 1), ("pair", stage.pairs), ("pair rest", stage.rest),
            ("mask word", stage.update.words), ("lone neuron", stage.update.size % 2),
        ]
    )  # fmt: skip


def words(packed: PackedLif, pairs: int, fired: float) -> Counts:
    """What so many words take beside the loop, of which some are done by another function."""
    return Counts.of(
        [
            ("pair fired", fired), ("pair factor", packed.decay.factor > 0 and pairs),
            ("pair leak", packed.decay.shift > 0 and not packed.decay.factor and pairs),
            ("pair gain", packed.gain > 0 and pairs), ("pair gap", packed.compares and pairs),
            ("pair bias", len(packed.biases) * pairs), ("pair low", packed.low > 0 and pairs),
            ("pair bias: factor", sum(b.factor != 1 for b in packed.biases) * pairs),
            ("pair bias: codes", sum(b.codes is not None for b in packed.biases) * pairs),
            ("pair bias: two", sum(b.table is None for b in packed.biases) * pairs),
            ("pair threshold: codes", _coded(packed.thresholds) and pairs),
            ("pair threshold", packed.thresholds is not None and pairs),
            ("pair narrow", packed.narrow > 0 and pairs),
            ("pair move", bool(packed.move) and pairs),
        ]
    )  # fmt: skip
