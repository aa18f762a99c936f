"""One-sided bounds, samples needed and optimism, against simulated repetitions."""

from __future__ import annotations

import numpy as np
import pytest

from qspinn.stats import drop_bound, optimism, paired_difference, quantile, samples_needed


def test_quantile() -> None:
    assert quantile(0.95) == pytest.approx(1.6449, abs=1e-4)
    assert quantile(0.5) == pytest.approx(0)


def test_the_bound_ends_where_the_two_sided_interval_does(rng: np.random.Generator) -> None:
    ours, base = rng.random(500) < 0.9, rng.random(500) < 0.95
    lost = paired_difference(base, ours)
    assert drop_bound(ours, base, 0.975) == pytest.approx(lost.high)
    assert lost.value < drop_bound(ours, base, 0.95) < lost.high


def test_the_bound_holds_as_often_as_it_says(rng: np.random.Generator) -> None:
    """A true drop of 2 points, seen on 400 samples, 2000 times over."""
    kinds = rng.choice(3, (2000, 400), p=[0.93, 0.045, 0.025])
    held = [drop_bound(k != 1, k != 2, 0.95) >= 0.02 for k in kinds]
    assert 0.94 <= np.mean(held) <= 0.975


def test_samples_needed_gives_the_power(rng: np.random.Generator) -> None:
    n = samples_needed(0.02, 0.06)
    assert n == pytest.approx((1.96 + 0.8416) ** 2 * (0.06 - 0.0004) / 0.0004, abs=1)
    kinds = rng.choice(3, (2000, n), p=[0.94, 0.04, 0.02])
    seen = [paired_difference(k != 2, k != 1).low > 0 for k in kinds]
    assert 0.77 <= np.mean(seen) <= 0.83


def test_a_quarter_point_needs_tens_of_thousands() -> None:
    assert 20_000 < samples_needed(0.0025, 0.017) < 22_000
    assert samples_needed(0.0025, 0.017, level=0.9) < samples_needed(0.0025, 0.017)


@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_optimism_is_what_the_winner_overstates(rng: np.random.Generator, spread: float) -> None:
    """30 candidates of known accuracy on 400 samples, 150 times over."""
    true = np.clip(0.9 + spread * rng.standard_normal(30), 0, 1)
    real, told = [], []
    for turn in range(150):
        right = rng.random((30, 400)) < true[:, None]
        best = int(right.mean(1).argmax())
        real.append(right[best].mean() - true[best])
        told.append(optimism(list(right), rounds=40, seed=turn))
    assert np.mean(told) == pytest.approx(np.mean(real), rel=0.25, abs=0.002)
    assert np.mean(real) > 0.005


def test_optimism_of_one_is_none() -> None:
    assert optimism([np.ones(10, bool)]) == 0
    assert optimism([]) == 0
    assert optimism([np.ones(10, bool)] * 3) == 0
    rows = [np.arange(600) % k != 0 for k in range(2, 700)]
    assert optimism(rows, seed=1) == optimism(rows, seed=1)
