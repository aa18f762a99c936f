"""Slices of layers on as few cores as a fixed family of orders allows, and a bound beneath it.

Cores are filled one after the other, each with as much of an order of all neurons as it takes. For
one order that is optimal, and cores that hold more never need to be more; so it is with the best of
several orders, as long as these do not depend on what a core holds. That is why no cleverer packing
stands here: first fit may need more cores where each is larger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .chips import RESOURCES, Amounts
from .loads import Load, Rows, Shared

_NOTHING: Amounts = (0, 0, 0, 0, 0)
_MOST_MERGED, _MOST_SPLITS = 1 << 18, 8
"""Neurons beyond which layers are not mixed, and how many ways to mix them are tried."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring neurons of a layer on a core, and what they take of it."""

    load: int
    start: int
    stop: int
    need: Amounts


@dataclass(frozen=True, slots=True)
class Filled:
    """A core and what it holds."""

    pieces: tuple[Piece, ...]
    used: Amounts

    def owner(self, most: Amounts) -> int:
        """The layer that takes most of it."""
        return max(self.pieces, key=lambda p: (share(p.need, most), -p.load)).load


@dataclass(frozen=True, slots=True)
class Bound:
    """Cores that no mapping can do without.

    Attributes:
        cores: How many.
        resource: What forces them.
        alone: How many each layer forces by itself.
    """

    cores: int
    resource: str
    alone: tuple[int, ...]


def share(need: Amounts, most: Amounts) -> float:
    """The fullest of a core's resources."""
    return max(n / max(m, 1) for n, m in zip(need, most, strict=True))


def fullest(need: Amounts, most: Amounts) -> str:
    """The name of the fullest of a core's resources; one group is what any neuron takes."""
    shares = [n / max(m, 1) for n, m in zip(need, most, strict=True)]
    shares[1] *= need[1] > 1
    return RESOURCES[shares.index(max(shares))]


def _plus(a: Amounts, b: Amounts) -> Amounts:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]


def _within(a: Amounts, most: Amounts) -> bool:
    return (
        a[0] <= most[0] and a[1] <= most[1] and a[2] <= most[2] and a[3] <= most[3]
        and a[4] <= most[4]
    )  # fmt: skip


def _furthest(fits: Callable[[int], bool], low: int, high: int, guess: int) -> int:
    """The largest number in [low, high] that fits, where ``low`` does and smaller ones do."""
    guess = min(max(guess, low + 1), high)
    if low < high and fits(guess):
        low, step = guess, 1
        while low < high and fits(min(low + step, high)):
            low, step = min(low + step, high), 2 * step
        high = min(low + step - 1, high)
    else:
        high = guess - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def excused(load: Load, start: int, most: Amounts) -> Amounts:
    """What a core must hold so that a neuron of the layer fits at all."""
    need = load.need(start, start + 1)
    a, b, c, d, e = (max(n, m) for n, m in zip(need, most, strict=True))
    return a, b, c, d, e


class _Row:
    """Cores that are filled one after the other."""

    def __init__(self, most: Amounts) -> None:
        self.most = most
        self.cores: list[Filled] = []
        self.pieces: list[Piece] = []
        self.used = _NOTHING

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.used = _plus(self.used, piece.need)

    def close(self) -> None:
        if self.pieces:
            self.cores.append(Filled(tuple(self.pieces), self.used))
            self.pieces, self.used = [], _NOTHING

    def place(self, index: int, load: Load) -> None:
        """All of a layer; a core that it does not end in is full."""
        start = taken = 0
        while start < load.size:
            stop = self._reach(load, start, self.most, taken)
            over = stop == start
            if over and self.pieces:
                self.close()
                continue
            if over:
                stop = self._reach(load, start, excused(load, start, self.most), taken)
            if load.even and not self.pieces and (stop - start) % load.grain == 0:
                start, stop = self._repeat(index, load, start, stop)
            self.add(Piece(index, start, stop, load.need(start, stop)))
            if stop < load.size or over:
                self.close()
            start, taken = stop, stop - start

    def _reach(self, load: Load, start: int, most: Amounts, taken: int) -> int:
        """Where a slice from ``start`` ends in what is left of the core; ``start`` if nowhere."""
        used = self.used

        def fits(stop: int) -> bool:
            return _within(_plus(used, load.need(start, stop)), most)

        stop = _furthest(fits, start, load.size, start + taken)
        whole = stop // load.grain * load.grain
        if stop == load.size or whole == stop:
            return stop
        if whole > start:
            return whole
        return start if self.pieces else stop

    def _repeat(self, index: int, load: Load, start: int, stop: int) -> tuple[int, int]:
        """Fill cores with equal slices, and return the last one; see `Load.even`."""
        size, need = stop - start, load.need(start, stop)
        while load.size - start > size:
            self.cores.append(Filled((Piece(index, start, start + size, need),), need))
            start += size
        return start, load.size


def in_order(loads: Sequence[Load], order: Sequence[int], most: Amounts) -> tuple[Filled, ...]:
    """Fill cores with whole layers in an order."""
    row = _Row(most)
    for index in order:
        row.place(index, loads[index])
    row.close()
    return tuple(row.cores)


def side_by_side(
    loads: Sequence[Load], first: Sequence[int], second: Sequence[int], most: Amounts
) -> tuple[Filled, ...] | None:
    """Fill cores with two rows of layers at once, each as far as the other in proportion.

    None where the first row cannot be cut at its grains.
    """
    ends = list(accumulate(loads[i].size for i in first))
    others = list(accumulate(loads[i].size for i in second))

    def pieces(start: int, stop: int) -> Iterator[Piece]:
        beside = (others[-1] * start // ends[-1], others[-1] * stop // ends[-1])
        for row, sums, (low, high) in ((first, ends, (start, stop)), (second, others, beside)):
            at = bisect_right(sums, low)
            while low < high:
                load, begin = loads[row[at]], sums[at] - loads[row[at]].size
                to = min(high, sums[at])
                yield Piece(row[at], low - begin, to - begin, load.need(low - begin, to - begin))
                low, at = to, at + 1

    def total(found: Sequence[Piece]) -> Amounts:
        used = _NOTHING
        for piece in found:
            used = _plus(used, piece.need)
        return used

    cores: list[Filled] = []
    start = taken = 0
    while start < ends[-1]:
        begin = start

        def fits(stop: int, begin: int = begin) -> bool:
            return _within(total(tuple(pieces(begin, stop))), most)

        stop = _furthest(fits, start, ends[-1], start + taken)
        at = bisect_right(ends, stop)
        if at < len(ends):
            before = ends[at] - loads[first[at]].size
            stop = before + (stop - before) // loads[first[at]].grain * loads[first[at]].grain
        if stop <= start:
            return None
        held = tuple(pieces(start, stop))
        cores.append(Filled(held, total(held)))
        start, taken = stop, stop - start
    return tuple(cores)


def fewest(loads: Sequence[Load], most: Amounts, least: int, *, mix: bool) -> tuple[Filled, ...]:
    """The fewest cores of all orders; those that are fewer than the bound ``least`` end it early.

    Args:
        loads: The layers.
        most: What a core holds. Where one neuron needs more, it is exceeded.
        least: A bound that none can go below.
        mix: Whether to try two rows of layers side by side.
    """
    best: tuple[Filled, ...] | None = None
    for candidate in _candidates(loads, most, mix=mix):
        if candidate is None:
            continue
        if best is None or _score(candidate, most) < _score(best, most):
            best = candidate
        if len(best) <= least:
            break
    assert best is not None, "whole layers in an order always do"
    return best


def _score(cores: Sequence[Filled], most: Amounts) -> tuple[int, int]:
    return sum(not _within(core.used, most) for core in cores), len(cores)


def _candidates(
    loads: Sequence[Load], most: Amounts, *, mix: bool
) -> Iterator[tuple[Filled, ...] | None]:
    order = list(range(len(loads)))
    dense = [load.need(0, load.size)[-1] / load.size for load in loads]
    rising = sorted(order, key=lambda i: (dense[i], i))
    for tried in (order, rising, rising[::-1], order[::-1]):
        yield in_order(loads, tried, most)
    if not mix or sum(load.size for load in loads) > _MOST_MERGED:
        return
    heavy = [i for i in rising[::-1] if loads[i].grain == 1][: len(loads) - 1]
    for count in range(1, min(len(heavy), _MOST_SPLITS) + 1):
        second = sorted(heavy[:count])
        first = [i for i in order if i not in second]
        if first:
            yield side_by_side(loads, first, second, most)


# --- the bound ---


def bound(loads: Sequence[Load], most: Amounts) -> Bound:
    """Cores that any mapping needs: those of the layer that needs most, and those of all together.

    It holds where every neuron fits a core by itself.

    A slice of a layer has all axons of its matrices, so a layer that takes k cores takes them k
    times; its words are at least those of the best size of slices, or of one slice that held all.
    """
    totals = [0] * len(RESOURCES)
    alone: list[int] = []
    worst, widest = "", most
    for load in loads:
        allowed = excused(load, 0, most)
        widest = excused(load, 0, widest)
        room = _room(load, allowed)
        count, resource = _alone(load, allowed, room)
        if count > max(alone, default=0):
            worst = resource
        alone.append(count)
        for i, least in enumerate(_least(load, count, room)):
            totals[i] += least
    needs = [-(-total // max(m, 1)) for total, m in zip(totals, widest, strict=True)]
    together = max(needs)
    if together >= max(alone, default=0):
        return Bound(together, RESOURCES[needs.index(together)], tuple(alone))
    return Bound(max(alone), worst, tuple(alone))


def _room(load: Load, most: Amounts) -> int:
    """Neurons of a layer that a core can hold at most."""
    if not load.even:
        return max(min(load.size, most[0]), 1)
    return max(_furthest(lambda stop: _within(load.need(0, stop), most), 0, load.size, 1), 1)


def _alone(load: Load, most: Amounts, room: int) -> tuple[int, str]:
    """The cores that a layer needs by itself, and for want of what."""
    least = _least(load, 1, room)
    counts = [-(-total // max(m, 1)) for total, m in zip(least, most, strict=True)]
    cut = -(-load.size // room)
    if cut > 1 and cut >= max(counts):
        return cut, binding(load, room, most)
    return max(counts), RESOURCES[counts.index(max(counts))]


def binding(load: Load, size: int, most: Amounts) -> str:
    """What keeps a core from holding more than the first ``size`` neurons of a layer."""
    more = load.need(0, min(size + load.grain, load.size))
    over = [what for what, n, m in zip(RESOURCES, more, most, strict=True) if n > m]
    return over[0] if over else fullest(more, most)


def _least(load: Load, slices: int, room: int) -> Amounts:
    """What all slices of a layer take together at least, if there are so many."""
    axons = sum(part.need(0, load.size)[0] * (slices if _again(part) else 1) for part in load.parts)
    words = sum(part.least(load.size, room) for part in load.parts)
    maps = load.size * load.maps + load.pixels * load.pixel_maps
    return load.size, max(load.kinds, slices), axons, maps, words


def _again(part: object) -> bool:
    """Whether each slice has the same axons anew."""
    return isinstance(part, Rows) or (isinstance(part, Shared) and part.axons > 0)
