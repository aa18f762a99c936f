"""What events of an image run, in counts of parts: their loops, convolutions, pools.

How far an event reaches depends on where it is, and what a call sees on its band: both are counted
over all rows and columns, as if events were equally likely everywhere but on the edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from .costkernels import event_parts, fours_busy, fours_parts, quotient_parts, row_parts
from .kernels import ConvKernel, Kernel, PoolKernel
from .layout import WORD_BITS
from .network import Drive
from .running import Counts
from .scatter import ScatterKernel
from .windows import Image, Window

Rows = Mapping[tuple[int, int], float]
"""Events by the first row of a call's band, and by their own row."""
Columns = Mapping[int, float]
"""The share of a row's events by column."""


def image_parts(
    drive: Drive, rate: float, rows: int, heard: float, edges: float | None = None
) -> Counts:
    """What a drive runs in a step, all bands of its layer together.

    Args:
        drive: The loop, of a kernel that is given events by their place.
        rate: The share of the elements that hold an event.
        rows: Rows of the layer, where it is done in bands.
        heard: The chance that weights are stored for an event.
        edges: The share of events on the outermost rows and columns, if that is known.
    """
    edge, kernel = drive.edge, drive.kernel
    image: Image = getattr(kernel, "image")  # noqa: B009  # kernels given a place have one
    calls = range(0, rows, kernel.band) if kernel.band else range(1)
    spans = {first: _seen(kernel, image, first) for first in calls}
    if edge.kind == "list":
        found = _listed(drive, image, rate, len(spans))
    elif edge.kind == "mask":
        found = _masked(image, rate, spans)
    elif kernel.summed:
        assert isinstance(kernel, PoolKernel), "only pools sum values"
        return _slot(drive) + _pooled(drive, kernel, rate, spans, heard)
    elif drive.fours:
        found = _fours(image, rate, spans)
    else:
        found = _valued(drive, image, rate, spans)
    each = rate * image.x.size * image.channels
    by_row, by_column = _shares(image, edges)
    events = {(f, y): each * image.y.size * by_row[y] for f, span in spans.items() for y in span}
    columns = dict(enumerate(by_column))
    return _slot(drive) + found + _runs(kernel, events, columns, heard)


def _shares(image: Image, edges: float | None) -> tuple[list[float], list[float]]:
    """The shares of events by row and by column, as if one did not depend on the other."""
    sizes = (image.y.size, image.x.size)
    weight = 1.0
    if edges is not None and min(sizes) >= 3:
        low, high = 0.0, 64.0  # how many times an outermost row has the events of another
        for _ in range(24):
            weight = (low + high) / 2
            inner = math.prod((size - 2) / (size - 2 + 2 * weight) for size in sizes)
            low, high = (weight, high) if 1.0 - inner < edges else (low, weight)
    rows, columns = ([weight, *[1.0] * (size - 2), weight] if size > 1 else [1.0]
                     for size in sizes)  # fmt: skip
    return [r / sum(rows) for r in rows], [c / sum(columns) for c in columns]


def _slot(drive: Drive) -> Counts:
    """Finding the slot of a delay line."""
    return Counts.of([("delay slot", " " in drive.edge.at)])


def _seen(kernel: Kernel, image: Image, first: int) -> range:
    """The rows that a call sees."""
    if not kernel.band:
        return range(image.y.size)
    reach = kernel.reach
    assert reach is not None, "images take events by their place"
    top = max(first * reach.step - reach.before, 0)
    return range(top, max(min(first * reach.step + reach.after, image.y.size), top))


def _listed(drive: Drive, image: Image, rate: float, calls: int) -> Counts:
    """Every call goes through the whole list."""
    count = drive.edge.size * rate * calls
    split = quotient_parts(image.channel) + quotient_parts(image.row)
    return split.times(count) + Counts.of(
        [
            ("list", calls), ("list event", count), ("split", count),
            ("list value", count if drive.kernel.valued else 0),
            ("band check", count if drive.kernel.band else 0),
        ]
    )  # fmt: skip


def _masked(image: Image, rate: float, spans: Mapping[int, range]) -> Counts:
    """Bits are found word by word, in each channel what the call sees of it."""
    words = bits = 0
    for span in spans.values():
        for channel in range(image.channels):
            start = channel * image.plane + span.start * image.x.size
            end = start + len(span) * image.x.size
            words += (end - 1) // WORD_BITS - start // WORD_BITS + 1 if end > start else 0
            bits += end - start
    events = bits * rate
    return quotient_parts(image.row).times(events) + Counts.of(
        [
            ("place mask", len(spans)), ("place channel", len(spans) * image.channels),
            ("place word", words * (1.0 - rate)), ("place event", events),
        ]
    )  # fmt: skip


def _valued(drive: Drive, image: Image, rate: float, spans: Mapping[int, range]) -> Counts:
    rows = image.channels * sum(map(len, spans.values()))
    wide = " 64" if drive.edge.type.bits == 64 else ""
    return Counts.of(
        [
            ("dense", len(spans)), ("place channel", len(spans) * image.channels),
            ("place row", rows), (f"dense element{wide}", rows * image.x.size),
            ("dense event", rows * image.x.size * rate),
        ]
    )  # fmt: skip


def _fours(image: Image, rate: float, spans: Mapping[int, range]) -> Counts:
    """Words of four counts are tested; those of a word that is not 0 are looked at."""
    values = image.channels * sum(map(len, spans.values())) * image.x.size
    return (
        quotient_parts(image.row).times(fours_busy(values, rate))
        + Counts.of([("dense", len(spans)), ("place channel", len(spans) * image.channels)])
        + fours_parts(values, rate)
    )


def _pooled(
    drive: Drive, kernel: PoolKernel, rate: float, spans: Mapping[int, range], heard: float
) -> Counts:
    """Windows are summed, and what is not 0 goes on."""
    image, y, x = kernel.image, kernel.image.y, kernel.image.x
    terms = y.kernel * x.kernel
    windows = {
        (first, at): 0.0
        for first, span in spans.items()
        for at in range(span.start // y.kernel, min(-(-span.stop // y.kernel), y.places))
    }
    each = (1.0 - (1.0 - rate) ** terms) * x.places * image.channels
    rows = len(windows) * image.channels
    looked = float(rows * x.places)  # windows
    found = Counts.of(
        [
            ("dense", len(spans)), ("place channel", len(spans) * image.channels),
            ("place row", rows), ("dense event", each * len(windows)),
        ]
    )  # fmt: skip
    if drive.fours:
        groups = looked * x.kernel / 4
        busy = groups * (1.0 - (1.0 - rate) ** (4 * y.kernel))
        looked = busy * 4 / x.kernel
        found += Counts.of([("pooled four", groups), ("pooled four word", groups * y.kernel),
                            ("pooled four busy", busy)])  # fmt: skip
    found += Counts.of([("pooled window", looked), ("pooled value", looked * terms)])
    columns = dict.fromkeys(range(x.places), 1.0 / x.places)
    return found + _next(kernel, dict.fromkeys(windows, each), columns, heard)


def _next(kernel: PoolKernel, rows: Rows, columns: Columns, heard: float) -> Counts:
    if kernel.next.by_place:
        return _runs(kernel.next, rows, columns, heard)
    return event_parts(kernel.next, heard).times(sum(rows.values()) * sum(columns.values()))


def _runs(kernel: Kernel, rows: Rows, columns: Columns, heard: float) -> Counts:
    """What events by row and column make a kernel do."""
    if isinstance(kernel, PoolKernel):
        return _pool(kernel, rows, columns, heard)
    if isinstance(kernel, ScatterKernel):
        return _scatter(kernel, rows, columns)
    assert isinstance(kernel, ConvKernel), "no other kernel is given a place"
    return _conv(kernel, rows, columns)


def _pool(kernel: PoolKernel, rows: Rows, columns: Columns, heard: float) -> Counts:
    image = kernel.image
    events = sum(rows.values()) * sum(columns.values())
    on_rows: dict[tuple[int, int], float] = {}
    for (first, row), count in rows.items():
        for at in holding(image.y, row):
            on_rows[first, at] = on_rows.get((first, at), 0.0) + count
    on_columns: dict[int, float] = {}
    for column, share in columns.items():
        for at in holding(image.x, column):
            on_columns[at] = on_columns.get(at, 0.0) + share
    found = Counts()
    for window, name in ((image.y, "from_y"), (image.x, "from_x")):
        if kernel.overlaps:
            found += quotient_parts(image.first(window, name))
            found += quotient_parts(image.last(window, name))
        else:
            found += quotient_parts(image.start(window, name))
    if kernel.overlaps:
        hits = sum(on_rows.values()) * sum(on_columns.values())
        per_row = sum(on_rows.values()) * sum(columns.values())
        loops = Counts.of([("overlap row", per_row), ("overlap window", hits)])
        found = found.times(events) + loops + Counts.of([("overlap", events)])
    else:
        found += Counts.of([("pool", 1), ("pool check", len(kernel.checks))])
        found = found.times(events)
    return found + _next(kernel, on_rows, on_columns, heard)


def holding(window: Window, at: int) -> list[int]:
    """The windows that hold an element."""
    padded = at + window.padding
    return [
        place
        for place in range(window.places)
        if (padded - place * window.stride) in range(0, window.kernel * window.dilation,
                                                     window.dilation)
    ]  # fmt: skip


@lru_cache(maxsize=1024)
def _held(window: Window) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(holding(window, at)) for at in range(window.size))


def _hits(window: Window, at: int, first: int, band: int) -> int:
    """How many windows of a band hold an element."""
    held = _held(window)[at]
    return sum(first <= place < first + band for place in held) if band else len(held)


def _conv(kernel: ConvKernel, rows: Rows, columns: Columns) -> Counts:
    y, x = kernel.image.y, kernel.image.x
    across = sum(columns.values())
    events = sum(rows.values()) * across
    hits = sum(n * _hits(y, row, first, kernel.band) for (first, row), n in rows.items())
    places = hits * sum(share * len(_held(x)[at]) for at, share in columns.items())
    found = Counts.of([("conv", events), ("conv band", events if kernel.band else 0)])
    if kernel.groups > 1:
        found += (quotient_parts(kernel.group) + Counts.of([("conv group", 1)])).times(events)
    found += _tap(y, kernel.place(y, "from_y"), "row tap").times(events * y.kernel)
    found += _tap(x, kernel.place(x, "from_x"), "tap").times(hits * across * x.kernel)
    found += row_parts(kernel).times(places) + Counts.of([("conv row", places)])
    if kernel.last:
        return found
    lanes, reach = kernel.rows.count * places, 3 * kernel.plane * kernel.to.bytes
    return found + Counts.of(
        [
            ("conv lane", lanes), ("conv far lane", lanes if reach > 255 else 0),
            ("conv very far lane", lanes if reach > 4095 else 0),
        ]
    )  # fmt: skip


def _tap(window: Window, place: str, what: str) -> Counts:
    """One turn of a loop over the taps of a window."""
    if window.kernel == 1:
        return Counts.of([("lone tap", 1)])
    strided = window.stride > 1
    return quotient_parts(place) + Counts.of([(what, 1), ("strided tap", strided)])


def _turns(window: Window, at: int) -> int:
    """How many taps a scatter's loop tries for an element."""
    first = (at + window.padding) % window.stride
    return max(-(-(window.kernel - first) // window.stride), 0)


def _scatter(kernel: ScatterKernel, rows: Rows, columns: Columns) -> Counts:
    y, (up, across) = kernel.image.y, kernel.axes
    share = sum(columns.values())
    events = sum(rows.values()) * share
    hits = sum(n * _hits(y, row, first, kernel.band) for (first, row), n in rows.items()) * share
    kind = "run" if across.runs and kernel.whole else ("places" if across.runs else "steps")
    found = quotient_parts(across.last) + Counts.of(
        [
            ("scatter", 1), (f"scatter: {kind}", 1), ("scatter: padded", across.window.padding > 0),
            (f"scatter: {'one row' if kernel.band == 1 else 'rows'}", 1),
        ]
    )  # fmt: skip
    if kernel.band != 1:
        found += quotient_parts(up.last)
    found = found.times(events)
    if kernel.band == 1:
        found += Counts.of([("scatter one row", hits)])
    else:
        turns = sum(n * _turns(y, row) for (_, row), n in rows.items()) * share
        found += Counts.of(
            [("scatter turn", turns), ("scatter row", hits), (f"scatter row: {kind}", hits)]
        )
    for column, part in columns.items():
        found += _added(kernel, column).times(hits * part / share)
    return found


def _added(kernel: ScatterKernel, column: int) -> Counts:
    """What is added in a row of the image for an event in a column."""
    x, places = kernel.image.x, len(_held(kernel.image.x)[column])
    runs = kernel.axes[1].runs
    if runs and kernel.whole:
        return _run(kernel, places)
    each = _place(kernel).times(places)
    table = Counts.of([("scatter place", places), ("scatter place: runs", places * runs)])
    if runs:
        return each + table
    return each + table + Counts.of([("scatter step", _turns(x, column))])


def _run(kernel: ScatterKernel, places: int) -> Counts:
    """Adding a run of weights to as many places side by side."""
    if not places:
        return Counts.of([("scatter nothing", 1)])
    if not kernel.pairs:
        return row_parts(kernel, places * kernel.rows.count)
    return _pairs(kernel, places, "run")


def _place(kernel: ScatterKernel) -> Counts:
    """Adding the weights of one place, which compilers know the number of."""
    return _pairs(kernel, 1, "place") if kernel.pairs else row_parts(kernel)


def _pairs(kernel: ScatterKernel, places: int, how: str) -> Counts:
    turns = places * kernel.stride / int(kernel.adder.rsplit("_", 1)[1])
    of = f"{how} once" if turns == 1 and how == "place" else how
    return Counts.of(
        [
            ("pairs", 1), (kernel.adder, turns), (f"pairs: {of}", 1),
            (f"{kernel.adder}: {of}", turns),
        ]
    )  # fmt: skip
