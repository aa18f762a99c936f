from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qspinn.encode import (
    FULL,
    Encoder,
    Raw,
    encode,
    from_options,
    keys,
    probabilities,
    raw_of,
)
from qspinn.errors import PlanError
from qspinn.fixed import hash32

X = np.array([[0.0, 0.25, 0.5, 1.0], [1.0, 0.1, 0.9, 2.0]])
INDEX = np.array([3, 11])


def test_rate_is_the_documented_draw() -> None:
    encoder = Encoder("rate", 40, 0.5, seed=9)
    spikes = encode(X, encoder, INDEX)
    assert spikes.shape == (2, 40, 4)
    p = probabilities(X, 0.5)
    for sample, t, i in ((0, 0, 1), (0, 17, 3), (1, 39, 2), (1, 5, 0)):
        key = int(hash32(9, INDEX[sample]))
        assert spikes[sample, t, i] == (int(hash32(key, t, i)) >> 16 < p[sample, i])


def test_rate_follows_the_probability() -> None:
    x = np.tile(np.linspace(0, 1, 5), (40, 40))
    spikes = encode(x, Encoder("rate", 50), np.arange(40)).mean((0, 1)).reshape(40, 5).mean(0)
    n = 40 * 50 * 40
    for rate, p in zip(spikes, np.linspace(0, 1, 5), strict=True):
        # six standard deviations, and the 1/65536 that a 16-bit probability leaves out
        assert abs(rate - p) <= 6 * np.sqrt(p * (1 - p) / n) + 2 / FULL


def test_a_sample_does_not_depend_on_its_batch() -> None:
    encoder = Encoder("rate", 12, seed=2)
    both = encode(X, encoder, INDEX)
    assert np.array_equal(encode(X[1:], encoder, INDEX[1:])[0], both[1])
    assert len(np.unique(keys(encoder, np.arange(1000)))) == 1000


def test_latency_sends_one_spike_the_earlier_the_larger() -> None:
    spikes = encode(X, Encoder("latency", 10), INDEX)
    assert np.array_equal(spikes.sum(1), [[0, 1, 1, 1], [1, 1, 1, 1]])
    when = spikes.argmax(1)
    assert when[0].tolist() == [0, 7, 4, 0]  # never, round(0.75 * 9), round(0.5 * 9), at once
    assert when[1, 3] == 0, "beyond full scale is full scale"


def test_phase_sends_as_many_spikes_as_rate_at_equal_distances() -> None:
    x = np.linspace(0, 1, 50)[None]
    spikes = encode(x, Encoder("phase", 64), np.zeros(1, np.int64))[0].astype(np.int64)
    p = probabilities(x, 1.0)[0]
    for t in range(1, 65):  # of any steps in a row, too
        assert (abs(spikes[:t].sum(0) * (FULL + 1) - t * p) <= FULL).all()
        assert (abs(spikes[-t:].sum(0) * (FULL + 1) - t * p) <= FULL).all()
    equal = encode(np.full((1, 8), 0.1), Encoder("phase", 12), np.zeros(1, np.int64))[0]
    assert len(np.unique(equal.argmax(0))) > 4, "neighbours take turns"


@pytest.mark.parametrize(
    ("text", "low", "high", "levels"),
    [("u8", 0, 255, 1), ("s8/16", -128, 127, 16), ("u16/4095", 0, 65535, 4095),
     ("s16", -32768, 32767, 1)],
)  # fmt: skip
def test_raw_input(text: str, low: int, high: int, levels: int) -> None:
    raw = Raw.parse(text)
    assert (raw.span.lo, raw.span.hi, raw.levels) == (low, high, levels)
    assert len(raw.values) == 1 << raw.bits
    assert np.array_equal(raw.nearest(raw.values), raw.values)
    assert raw.nearest(np.array([1e9, -1e9])).tolist() == [high / levels, low / levels]


def test_data_of_small_integers_are_what_a_device_reads() -> None:
    for kind, text in (("u1", "u8"), ("i1", "s8"), ("u2", "u16"), ("i2", "s16"), ("?", "u8"),
                       ("f4", ""), ("i8", "")):  # fmt: skip
        assert raw_of(np.zeros((2, 3), kind)) == text
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    for kind in ("rate", "phase", "latency", "direct"):
        plain = Encoder(kind, 9, 1 / 255)
        same = encode(x, replace(plain, raw="u8"), INDEX)
        assert np.array_equal(encode(x, plain, INDEX), same)


def test_values_between_what_a_device_reads_are_rounded() -> None:
    x = np.array([[0.0, 0.1, 0.126, 0.5, 0.9, 1.2]])
    eighths = np.array([[0.0, 0.125, 0.125, 0.5, 0.875, 1.25]])
    encoder = Encoder("rate", 30, 0.5, raw="u8/8")
    one = np.zeros(1, np.int64)
    assert np.array_equal(encode(x, encoder, one), encode(eighths, replace(encoder, raw=""), one))
    assert encode(x, Encoder(raw="u8"), one) is x


def test_direct_repeats_the_value_and_none_passes_spikes() -> None:
    assert np.array_equal(encode(X, Encoder("direct", 3, 2.0), INDEX)[:, 2], 2 * X)
    spikes = np.arange(24).reshape(2, 3, 4)
    assert encode(spikes, Encoder(), INDEX) is spikes


def test_options_and_back() -> None:
    encoder = Encoder("rate", 25, 1 / 255, 3)
    assert from_options(encoder.options()) == encoder
    assert set(encoder.options()) == {"encode", "steps", "gain", "seed"}
    encoder = Encoder("direct", 25, 2.0, 3, "s8/128", "values")
    assert from_options(encoder.options()) == encoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "morse"}, "rate, phase, latency, direct, none"),
        ({"kind": "rate"}, "needs a number of steps"),
        ({"kind": "rate", "steps": 3, "raw": "u9"}, "'u9' is no raw input"),
        ({"kind": "rate", "steps": 3, "raw": "u8/0"}, "u8/0. is no raw"),
        ({"input": "bits"}, "events, mask, values, load, not as 'bits'"),
        ({"kind": "none", "steps": -3}, "-3 steps"),
        ({"kind": "none", "seed": 1 << 32}, "seed 4294967296"),
        ({"kind": "rate", "steps": 3, "gain": 0.0}, "a gain is positive"),
        ({"kind": "rate", "steps": 3, "gain": float("nan")}, "a gain is positive"),
    ],
)
def test_bad_encoders(options: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Encoder(**options)
