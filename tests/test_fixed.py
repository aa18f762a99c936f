"""Formats, roundings, ranges and draws, against exact rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qspinn.errors import PlanError, QuantizeError
from qspinn.fixed import (
    Interval,
    Overflow,
    QFormat,
    Rounding,
    fit,
    hash32,
    round_real,
    shr,
    text_key,
    to_int,
    to_real,
)

PLAIN = [r for r in Rounding if r is not Rounding.STOCHASTIC]


def exact(x: Fraction, rounding: Rounding) -> int:
    """Each rounding as a schoolbook says it."""
    low = math.floor(x)
    if rounding is Rounding.FLOOR:
        return low
    if rounding is Rounding.ZERO:
        return math.trunc(x)
    rest = x - low
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    if rounding is Rounding.NEAREST_EVEN:
        return low if low % 2 == 0 else low + 1
    return low + 1 if x > 0 else low


wide = st.integers(-(2**61), 2**61)
small = st.integers(-40, 40)
counts = st.integers(0, 40)


# --- shr ---


@pytest.mark.parametrize("rounding", PLAIN)
@given(x=wide | small, k=counts | st.integers(0, 61))
def test_shr_is_the_rounded_quotient(x: int, k: int, rounding: Rounding) -> None:
    got = shr(np.array([x], np.int64), k, rounding)
    assert got.dtype == np.int64
    assert int(got[0]) == exact(Fraction(x, 2**k), rounding)


@pytest.mark.parametrize("rounding", PLAIN)
def test_shr_of_every_small_value_by_an_array_of_counts(rounding: Rounding) -> None:
    x, k = np.meshgrid(np.arange(-70, 71), np.arange(8))
    want = [[exact(Fraction(int(a), 2 ** int(b)), rounding) for a, b in zip(*row, strict=True)]
            for row in zip(x, k, strict=True)]  # fmt: skip
    assert np.array_equal(shr(x, k, rounding), want)


@given(x=wide, k=st.integers(0, 32), noise=st.integers(0, 2**32 - 1))
def test_stochastic_shr_adds_the_top_bits_of_its_noise(x: int, k: int, noise: int) -> None:
    got = int(shr(np.array(x, np.int64), k, Rounding.STOCHASTIC, noise))
    assert got == math.floor(Fraction(x + (noise >> (32 - k)), 2**k))
    assert got in (math.floor(Fraction(x, 2**k)), math.ceil(Fraction(x, 2**k)))


def test_stochastic_shr_is_right_on_average() -> None:
    noise = hash32(1, 2, np.arange(20000))
    for x in (-13, 5, 8):
        mean = shr(np.full(20000, x), 3, Rounding.STOCHASTIC, noise).mean()
        assert abs(mean - x / 8) < 0.02


@pytest.mark.parametrize("rounding", Rounding)
def test_shr_by_nothing_is_the_value(rounding: Rounding) -> None:
    x = np.array([-(2**62), -3, -1, 0, 1, 2**62])
    assert np.array_equal(shr(x, 0, rounding, 2**32 - 1), x)
    assert np.array_equal(shr(x, np.zeros(6, np.int64), rounding, np.full(6, 2**32 - 1)), x)


# --- fit ---


@given(x=wide | small, bits=st.integers(1, 24), shift=st.integers(-9, 9))
def test_wrap_adds_a_multiple_of_the_range(x: int, bits: int, shift: int) -> None:
    lo = -(2 ** (bits - 1)) + shift
    hi = lo + 2**bits - 1
    got = int(fit(np.array(x, np.int64), lo, hi, Overflow.WRAP))
    assert lo <= got <= hi
    assert (got - x) % 2**bits == 0


@given(x=wide | small, lo=st.integers(-50, 0), span=st.integers(0, 80))
def test_saturate_takes_the_nearest_value_of_the_range(x: int, lo: int, span: int) -> None:
    got = int(fit(np.array(x, np.int64), lo, lo + span, Overflow.SATURATE))
    assert got == min(max(x, lo), lo + span)


# --- draws ---


def test_hash32_is_pinned() -> None:
    """The generated C holds the same lines: these numbers may never change."""
    assert [int(hash32()), int(hash32(0)), int(hash32(1, 2, 3))] == VECTORS[:3]
    assert [int(h) for h in hash32(7, 0, np.arange(4))] == VECTORS[3:]
    assert text_key("lif1.v.1") == KEYS[0]
    assert text_key("lif1.v.1", seed=1) == KEYS[1]


VECTORS = [608135816, 327721211, 1799533967, 3420112558, 1400755506, 1532021240, 4077504041]
KEYS = [1984036692, 3947399098]


def mixed(h: int) -> int:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    return h


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_hash32_is_murmurs_finalizer_word_by_word(words: list[int]) -> None:
    h = 0x243F6A88
    for word in words:
        h = mixed(h ^ ((word * 0x9E3779B1) & 0xFFFFFFFF))
    assert int(hash32(*words)) == h


def test_hash32_of_an_array_is_that_of_its_elements() -> None:
    whole = hash32(5, np.arange(12).reshape(3, 4), 9)
    assert whole.dtype == np.uint32
    assert [[int(hash32(5, 4 * i + j, 9)) for j in range(4)] for i in range(3)] == whole.tolist()


# --- formats ---


@st.composite
def formats(draw: st.DrawFn) -> QFormat:
    if draw(st.booleans()):
        return QFormat(draw(st.integers(1, 32)), draw(st.integers(-32, 62)), draw(st.booleans()))
    if draw(st.booleans()):
        return QFormat(draw(st.integers(1, 5)), signed=False, leak=True)
    if draw(st.booleans()):
        return QFormat(1, draw(st.integers(-32, 62)), binary=True)
    full = QFormat(draw(st.integers(2, 32)), signed=draw(st.booleans())).range
    lo = draw(st.integers(full.lo, full.hi))
    hi = draw(st.integers(lo, full.hi + 1))
    return QFormat(full.bits, draw(st.integers(-32, 62)), full.lo < 0, lo, hi)


@given(formats())
def test_a_format_is_read_as_it_is_written(fmt: QFormat) -> None:
    assert QFormat.parse(str(fmt)) == fmt


@pytest.mark.parametrize(
    ("text", "lo", "hi", "unit"),
    [
        ("s8f6", -128, 127, 2**-6),
        ("u8f-2", 0, 255, 4.0),
        ("s24f6[-8388607,8388608]", -8388607, 8388608, 2**-6),
        ("u1f0", 0, 1, 1.0),
        ("s1f62", -1, 0, 2**-62),
        ("s32f0", -(2**31), 2**31 - 1, 1.0),
    ],
)
def test_what_a_format_holds(text: str, lo: int, hi: int, unit: float) -> None:
    fmt = QFormat.parse(text)
    assert (fmt.range, fmt.unit, str(fmt)) == (Interval(lo, hi), unit, text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("8f6", "'8f6' is not a format"),
        ("s8", "'s8' is not a format"),
        ("s8f6\n", "is not a format"),
        ("s8f6[1]", "is not a format"),
        ("s0f0", "1 to 32 bits, not 0"),
        ("s33f0", "1 to 32 bits, not 33"),
        ("s8f63", "between -32 and 62, not at 63"),
        ("s8f-33", "between -32 and 62, not at -33"),
        ("s8f0[-129,0]", r"\[-129, 0\] does not fit 8 bits"),
        ("s8f0[0,129]", r"\[0, 129\] does not fit 8 bits"),
        ("s8f0[4,3]", r"\[4, 3\] does not fit 8 bits"),
        ("leak6", "leak"),
    ],
)
def test_what_is_no_format(text: str, what: str) -> None:
    with pytest.raises(PlanError, match=what):
        QFormat.parse(text)


def test_a_range_needs_both_ends() -> None:
    with pytest.raises(PlanError, match="both ends"):
        QFormat(8, 0, True, lo=-3)


@given(lo=wide, span=st.integers(0, 2**62))
def test_the_bits_of_an_interval_are_the_fewest(lo: int, span: int) -> None:
    it = Interval(lo, lo + span)

    def holds(bits: int) -> bool:
        signed = it.lo < 0
        full = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return full[0] <= it.lo and it.hi <= full[1]

    assert holds(it.bits)
    assert it.bits == 1 or not holds(it.bits - 1)


def test_intervals_contain_and_join() -> None:
    assert 3 in Interval(-1, 3)
    assert 4 not in Interval(-1, 3)
    assert Interval(0, 2) in Interval(-1, 3)
    assert Interval(0, 4) not in Interval(-1, 3)
    assert Interval(0, 1) | Interval(5, 6) == Interval(0, 6)
    with pytest.raises(ValueError, match="from 1 to 0"):
        Interval(1, 0)


# --- real values to integers ---


@pytest.mark.parametrize("rounding", PLAIN)
@given(x=st.floats(-1e6, 1e6) | st.sampled_from([0.5 - 2**-54, -0.5 + 2**-54, 2.5, -2.5, 1.5]))
def test_round_real_rounds_exactly(x: float, rounding: Rounding) -> None:
    assert int(round_real(np.array(x), rounding)) == exact(Fraction(x), rounding)


def test_round_real_stochastic_draws_by_position() -> None:
    x = np.full((3, 1000), 0.25)
    got = round_real(x, Rounding.STOCHASTIC, key=3)
    assert np.array_equal(got, round_real(x, Rounding.STOCHASTIC, key=3))
    assert not np.array_equal(got, round_real(x, Rounding.STOCHASTIC, key=4))
    assert set(np.unique(got)) == {0.0, 1.0}
    assert abs(got.mean() - 0.25) < 0.03


@given(x=st.floats(-300, 300), fmt=formats().filter(lambda f: not (f.leak or f.binary)))
def test_to_int_gives_a_value_of_the_format_or_refuses(x: float, fmt: QFormat) -> None:
    want = exact(Fraction(x) * Fraction(2) ** fmt.frac, Rounding.NEAREST_EVEN)
    if want in fmt.range:
        assert int(to_int(x, fmt)) == want
    else:
        with pytest.raises(QuantizeError, match=f"1 of 1 values lie outside {fmt}".split("[")[0]):
            to_int(x, fmt)
    clipped = int(to_int(x, fmt, overflow=Overflow.SATURATE))
    assert clipped == min(max(want, fmt.range.lo), fmt.range.hi)


@given(fmt=formats().filter(lambda f: not f.leak and f.bits <= 24), seed=st.integers(0, 99))
def test_what_a_format_stores_is_read_back(fmt: QFormat, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(fmt.range.lo, fmt.range.hi + 1, 20)
    values = np.where(values == 0, 1, values) if fmt.binary else values
    assert np.array_equal(to_int(to_real(values, fmt), fmt), values)


@given(x=st.floats(-1e6, 1e6), frac=st.integers(-8, 8), rounding=st.sampled_from(PLAIN))
def test_a_binary_format_stores_the_sign(x: float, frac: int, rounding: Rounding) -> None:
    fmt = QFormat.parse(f"b1f{frac}")
    assert int(to_int(x, fmt, rounding)) == (1 if x >= 0 else -1)
    assert float(to_real(to_int(x, fmt), fmt)) == (1 if x >= 0 else -1) * 2.0**-frac


def test_a_binary_format_rounds_stochastically_in_proportion() -> None:
    fmt = QFormat.parse("b1f1")
    for x, up in ((-0.5, 0.0), (-0.25, 0.25), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (9.0, 1.0)):
        drawn = to_int(np.full(4000, x), fmt, Rounding.STOCHASTIC, key=5)
        assert set(np.unique(drawn)) <= {-1, 1}
        assert abs((drawn == 1).mean() - up) < 0.03


@pytest.mark.parametrize("options", [{"bits": 2}, {"signed": False}, {"lo": -1, "hi": 1}])
def test_a_binary_format_has_one_bit_and_a_sign(options: dict[str, int]) -> None:
    with pytest.raises(PlanError, match="a binary format has 1 bit"):
        QFormat(**{"bits": 1, "binary": True, **options})


def test_a_leak_stores_the_nearest_power() -> None:
    fmt = QFormat.parse("leak4")
    reals = [0.0, 0.4, 0.5, 0.7, 0.74, 0.9375, 0.99999, 1.0]
    assert to_int(reals, fmt).tolist() == [0, 1, 1, 2, 2, 4, 15, 15]
    assert to_real(np.arange(4), fmt).tolist() == [0.0, 0.5, 0.75, 0.875]


@pytest.mark.parametrize(
    ("values", "overflow", "what"),
    [
        ([1.0, np.nan, np.inf], Overflow.ERROR, "2 values are not finite"),
        ([1.0, 3.0, -9.0], Overflow.ERROR, r"2 of 3 values lie outside s8f6 \(up to 9, limit"),
        ([1e308, -1e308], Overflow.ERROR, "2 of 2 values lie outside"),
        ([1.0], Overflow.WRAP, "a constant cannot wrap"),
    ],
)
def test_to_int_refuses(values: list[float], overflow: Overflow, what: str) -> None:
    with pytest.raises(QuantizeError, match=what):
        to_int(values, QFormat.parse("s8f6"), overflow=overflow)
