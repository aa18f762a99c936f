from __future__ import annotations

import numpy as np
import pytest

from qspinn.encode import FULL, Encoder, encode, from_options, keys, probabilities
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


def test_direct_repeats_the_value_and_none_passes_spikes() -> None:
    assert np.array_equal(encode(X, Encoder("direct", 3, 2.0), INDEX)[:, 2], 2 * X)
    spikes = np.arange(24).reshape(2, 3, 4)
    assert encode(spikes, Encoder(), INDEX) is spikes


def test_options_and_back() -> None:
    encoder = Encoder("rate", 25, 1 / 255, 3)
    assert from_options(encoder.options()) == encoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "morse"}, "rate, latency, direct, none"),
        ({"kind": "rate"}, "needs a number of steps"),
        ({"kind": "none", "steps": -3}, "-3 steps"),
        ({"kind": "none", "seed": 1 << 32}, "seed 4294967296"),
        ({"kind": "rate", "steps": 3, "gain": 0.0}, "a gain is positive"),
        ({"kind": "rate", "steps": 3, "gain": float("nan")}, "a gain is positive"),
    ],
)
def test_bad_encoders(options: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Encoder(**options)
