"""Slices of layers on neuro cores: properties that every mapping has, whatever the layers."""

from __future__ import annotations

import time
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.loihi.chips import LOIHI1, LOIHI2, Amounts
from qspinn.backends.loihi.loads import Load, Pairs, Part, Rows, Scattered, Shared
from qspinn.backends.loihi.mapper import (
    Filled,
    bound,
    excused,
    fewest,
    in_order,
    side_by_side,
)
from qspinn.backends.loihi.synmem import Row

ROWS = (LOIHI1.row, LOIHI2.row)
BITS = st.sampled_from((1, 3, 4, 8))


@st.composite
def parts(draw: st.DrawFn, size: int, channels: int, by_channel: bool) -> Part:
    """What may feed a layer, small enough for a small core."""
    kind = draw(st.sampled_from(("rows", "pairs", "scattered", *["shared"] * (channels > 1))))
    bits, delay, row = draw(BITS), draw(st.sampled_from((0, 3, 40))), draw(st.sampled_from(ROWS))
    if kind == "rows":
        return Rows(draw(st.integers(1, 12)), bits, delay, row)
    if kind == "pairs":
        return Pairs(bits, delay, row)
    if kind == "scattered":
        counts = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
        total = sum(counts)
        columns = draw(st.lists(st.integers(0, 9), min_size=total, max_size=total))
        starts = np.concatenate(([0], np.cumsum(counts)))
        return Scattered(np.array(columns, np.int64), starts, bits, delay, row)
    pixels = size // channels
    height = draw(st.sampled_from([h for h in (1, 2, 3) if pixels % h == 0]))
    words = np.cumsum(draw(st.lists(st.integers(0, 4), min_size=channels, max_size=channels)))
    return Shared(
        pixels, channels, by_channel, np.concatenate(([0], words)), draw(st.sampled_from((0, 2))),
        height, (height, pixels // height + 2, 3, 1),
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> Load:
    """A layer of up to 30 neurons."""
    channels = draw(st.sampled_from((1, 1, 2, 3)))
    size = channels * draw(st.integers(1, 30 // channels))
    image, by_channel = channels > 1, channels > 1 and draw(st.booleans())
    fed = draw(st.lists(parts(size, channels, by_channel), min_size=1, max_size=3))
    kinds = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    return Load(
        "layer", size, 1 if by_channel else channels, tuple(fed),
        np.array(kinds, np.int64) if draw(st.booleans()) else None,
        pixels=size // channels if image else 0,
        by_channel=by_channel,
        maps=draw(st.integers(0, 2)), pixel_maps=draw(st.integers(0, 2)) if image else 0,
    )  # fmt: skip


NETWORKS = st.lists(layers(), min_size=1, max_size=4)
LIMITS = st.tuples(
    st.integers(4, 40), st.integers(3, 8), st.integers(8, 60), st.integers(8, 60),
    st.integers(10, 200),
)  # fmt: skip
MORE = st.tuples(*(st.integers(0, most) for most in (9, 2, 20, 20, 60)))


def feasible(loads: list[Load], most: Amounts) -> bool:
    """Whether each neuron fits a core by itself."""
    return all(excused(load, i, most) == most for load in loads for i in range(load.size))


def found(loads: list[Load], most: Amounts) -> tuple[Filled, ...]:
    return fewest(loads, most, bound(loads, most).cores, mix=True)


@given(NETWORKS, LIMITS)
def test_every_neuron_is_placed_once(loads: list[Load], most: Amounts) -> None:
    cores = found(loads, most)
    for i, load in enumerate(loads):
        pieces = sorted((p.start, p.stop) for core in cores for p in core.pieces if p.load == i)
        assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
        assert pieces[-1][1] == load.size
        assert all(start < stop for start, stop in pieces)


@given(NETWORKS, LIMITS)
def test_no_core_holds_more_than_it_can(loads: list[Load], most: Amounts) -> None:
    for core in found(loads, most):
        needs = [loads[p.load].need(p.start, p.stop) for p in core.pieces]
        assert [p.need for p in core.pieces] == needs
        assert core.used == tuple(map(sum, zip(*needs, strict=True)))
        over = any(n > m for n, m in zip(core.used, most, strict=True))
        assert not over or (len(core.pieces) == 1 and not feasible(loads, most))


@given(NETWORKS, LIMITS)
def test_nothing_goes_below_the_bound(loads: list[Load], most: Amounts) -> None:
    if not feasible(loads, most):
        return
    floor = bound(loads, most)
    assert len(found(loads, most)) >= floor.cores >= max(floor.alone)
    for load, alone in zip(loads, floor.alone, strict=True):
        assert len(in_order((load,), (0,), most)) >= alone


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
def test_no_cut_takes_fewer_words_than_the_least(row: Row, bits: int) -> None:
    """A whole block of 64 synapses takes more on Loihi 1 than two of 32; indices grow, too."""
    draw = np.random.default_rng(bits)
    for size in (1, 20, 64, 66, 97, 130, 300):
        counts = draw.integers(0, 8, size)
        columns = np.concatenate([draw.permutation(9)[:n] for n in counts]).astype(np.int64)
        starts = np.concatenate(([0], np.cumsum(counts)))
        for part in (Rows(3, bits, 0, row), Scattered(columns, starts, bits, 0, row)):
            for most in (5, 32, 54, 64, 200):
                ends = [*range(0, size, most), size]
                words = sum(part.need(a, b)[1] for a, b in pairwise(ends))
                assert part.least(size, size) <= words
                assert part.least(size, min(most, size)) <= words


@given(NETWORKS, LIMITS)
def test_the_same_layers_are_placed_the_same(loads: list[Load], most: Amounts) -> None:
    assert found(loads, most) == found(loads, most)


@given(NETWORKS, LIMITS, MORE)
def test_larger_cores_are_never_more(loads: list[Load], most: Amounts, more: Amounts) -> None:
    a, b, c, d, e = (m + n for m, n in zip(most, more, strict=True))
    if feasible(loads, most):
        assert len(found(loads, (a, b, c, d, e))) <= len(found(loads, most))


@given(NETWORKS, LIMITS)
def test_a_slice_needs_no_less_than_its_part(loads: list[Load], most: Amounts) -> None:
    """What filling cores from the left relies on."""
    for load in loads:
        for start in range(load.size - 1):
            one, two = load.need(start, load.size - 1), load.need(start, load.size)
            assert all(n <= m for n, m in zip(one, two, strict=True))
            later = load.need(start + 1, load.size)
            assert all(n <= m for n, m in zip(later, two, strict=True))


COUNTED = st.builds(
    lambda size, axons, bits: Load("layer", size, 1, (Rows(axons, bits, 0, LOIHI2.row),)),
    st.integers(1, 6), st.integers(1, 12), BITS,
)  # fmt: skip


@given(COUNTED, COUNTED, LIMITS)
def test_the_bound_holds_against_every_mapping(one: Load, two: Load, most: Amounts) -> None:
    """All ways to spread two layers: of a fully connected one only the number of neurons counts."""
    if not feasible([one, two], most):
        return

    def fits(a: int, b: int) -> bool:
        needs = [load.need(0, n) for load, n in ((one, a), (two, b)) if n]
        return all(sum(x) <= m for x, m in zip(zip(*needs, strict=True), most, strict=True))

    @cache
    def least(a: int, b: int) -> int:
        ways = [(i, j) for i in range(a + 1) for j in range(b + 1) if i + j and fits(i, j)]
        return 0 if a == b == 0 else 1 + min(least(a - i, b - j) for i, j in ways)

    optimum = least(one.size, two.size)
    assert bound([one, two], most).cores <= optimum <= len(found([one, two], most))


def test_layers_side_by_side_may_need_fewer_cores() -> None:
    many = Load("many", 400, 1, (Rows(1, 1, 0, LOIHI2.row),))
    heavy = Load("heavy", 10, 1, (Rows(100, 8, 0, LOIHI2.row),))
    most = (105, 8, 1000, 1000, 400)
    after = in_order([many, heavy], (0, 1), most)
    beside = side_by_side([many, heavy], (0,), (1,), most)
    assert beside is not None
    assert (len(after), len(beside)) == (5, 4)
    assert len(found([many, heavy], most)) == 4 == bound([many, heavy], most).cores


def test_one_neuron_too_many_inputs_is_placed_and_seen() -> None:
    wide = Load("wide", 4, 1, (Rows(5000, 8, 0, LOIHI1.row),))
    small = Load("small", 4, 1, (Rows(10, 8, 0, LOIHI1.row),))
    cores = found([small, wide], LOIHI1.most)
    assert [len(core.pieces) for core in cores] == [1, 1]
    assert cores[1].used[2] == 5000 > LOIHI1.most[2]


@pytest.mark.parametrize(("size", "uneven"), [(40_000, False), (6_000, True)])
def test_thousands_of_cores_take_no_time(size: int, uneven: bool) -> None:
    kinds = np.arange(size) // 2 if uneven else None
    load = Load("wide", size, 1, (Rows(8000, 8, 0, LOIHI2.row),), kinds)
    before = time.process_time()
    assert len(found([load], LOIHI2.most)) == size // 2
    assert time.process_time() - before < 5.0
