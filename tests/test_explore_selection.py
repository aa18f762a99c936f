"""Constraints, ties, warnings and refusals of the selection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from problems import scored
from qspinn.errors import GateError, PlanError
from qspinn.explore.problem import Score
from qspinn.explore.result import Limits
from qspinn.explore.selection import select
from qspinn.explore.space import Candidate
from qspinn.stats import drop_bound, samples_needed

N = 10_000
BASELINE = np.arange(N) < 9800


def losing(memory: int, lost: int, *candidate: int, gained: int = 0) -> Score:
    """Wrong on the first ``lost`` samples, right on ``gained`` that the baseline gets wrong."""
    right = BASELINE.copy()
    right[:lost] = False
    right[9800 : 9800 + gained] = True
    return scored(memory, right, *candidate)


def halves(candidate: Candidate) -> Mapping[str, int]:
    """Flash by the first option, RAM by the last."""
    return {"flash": 1000 - 100 * candidate[0], "ram": 500 - 100 * candidate[-1]}


def refusal(scores: list[Score], limits: Limits, **more: object) -> str:
    with pytest.raises(GateError) as caught:
        select(scores, BASELINE, limits, halves, **more)  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    assert caught.value.hint
    return str(caught.value)


def test_the_smallest_within_the_drop() -> None:
    scores = [losing(900, 0, 0), losing(500, 50, 1), losing(300, 300, 2)]
    chosen = select(scores, BASELINE, Limits(0.01), halves)
    assert chosen.score is scores[1]
    assert chosen.entry.drop.value == 0.005
    assert chosen.entry.bound == drop_bound(scores[1].correct, BASELINE, 0.95)
    assert chosen.warnings == ()


def test_the_bound_decides_and_not_the_estimate() -> None:
    near = losing(500, 95, 1)  # 0.95 points: the bound is above 1
    assert drop_bound(near.correct, BASELINE) > 0.01 > 0.0095
    sure = losing(900, 10, 0)
    chosen = select([near, sure], BASELINE, Limits(0.01), halves)
    assert chosen.score is sure
    (warning,) = chosen.warnings
    needed = samples_needed(0.01 - 0.0095, 0.0095, level=0.9)
    assert needed > N
    assert f"500 B drops 0.95 pt" in warning  # noqa: F541
    assert f"{needed} samples" in warning
    assert select([near, sure], BASELINE, Limits(0.01, level=0.5), halves).score is near


def test_few_samples_are_warned_about() -> None:
    few = scored(100, [True] * 40, 0)
    chosen = select([few], np.ones(40, bool), Limits(0.05), halves)
    assert chosen.warnings == ()
    # Gained 8 and lost 2: the bound is below the limit, and far from the estimate.
    base, ours = np.arange(40) < 30, np.arange(40) >= 2
    ours[38:] = False
    found = select([scored(100, ours, 0)], base, Limits(0.05), halves)
    assert "40 samples place a drop within" in found.warnings[0]
    assert "5.00 pt asked for" in found.warnings[0]


def test_equal_memory_goes_to_the_more_accurate_then_the_lowest() -> None:
    scores = [losing(500, 40, 2), losing(500, 30, 3), losing(500, 30, 1)]

    def alike(candidate: Candidate) -> Mapping[str, int]:
        return {"flash": 1000}

    assert select(scores, BASELINE, Limits(0.01), alike).score.candidate == (1,)


def test_of_equals_the_winner_takes_the_least_of_the_regions() -> None:
    scores = [losing(500, 30, 0, 0), losing(500, 30, 0, 2), losing(500, 30, 0, 1)]
    assert select(scores, BASELINE, Limits(0.01), halves).score.candidate == (0, 2)
    scores.append(losing(500, 30, 1, 0))
    assert select(scores, BASELINE, Limits(0.01), halves).score.candidate == (1, 0)


def test_limits_that_are_none_are_refused() -> None:
    for level in (0.0, 0.49, 1.0, float("nan")):
        with pytest.raises(PlanError, match="confidence"):
            Limits(0.01, level)
    for operations in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(PlanError, match="synaptic operations"):
            Limits(operations=operations)


def test_with_a_budget_alone_the_most_accurate_and_ties_to_the_smaller() -> None:
    clear = [losing(900, 0, 0, 3), losing(500, 200, 4, 3)]
    found = select(clear, BASELINE, Limits(budget={"flash": 1000}), halves)
    assert found.score is clear[0]
    close = [losing(900, 3, 0, 3), losing(500, 5, 4, 3, gained=1)]
    tied = select(close, BASELINE, Limits(budget={"flash": 1000}), halves)
    assert tied.score is close[1]
    assert "900 B was right 0.01 pt more often" in tied.warnings[0]
    assert select(clear, BASELINE, Limits(budget={"flash": 700}), halves).score is clear[1]


def test_incomplete_scores_are_out() -> None:
    partial = Score((0, 0), 10, np.ones(250, bool), False)
    assert select([partial, losing(900, 0, 1, 1)], BASELINE, Limits(), halves).score.memory == 900
    assert "no candidate was measured" in refusal([partial], Limits())


def test_operations() -> None:
    spent = {(0, 0): 900.0, (1, 1): 300.0}
    scores = [losing(500, 0, 0, 0), losing(900, 50, 1, 1)]
    found = select(scores, BASELINE, Limits(0.01, operations=500), halves, spent.__getitem__)
    assert found.score is scores[1]
    limits = Limits(0.01, operations=200)
    text = refusal(scores, limits, operations=spent.__getitem__)
    assert "the closest: 900 B" in text
    assert "300 operations of 200" in text
    assert "the obstacle: operations" in text


def test_a_refusal_names_both_misses_and_the_obstacle() -> None:
    scores = [losing(1500, 0, 0, 0), losing(1200, 40, 2, 1), losing(700, 900, 5, 3)]
    text = refusal(scores, Limits(0.01, budget={"flash": 600, "ram": 450}))
    assert "smallest within the accuracy: 1200 B, drops 0.40 pt (at most 0.51 pt)" in text
    assert "needs flash 800 B of 600 B" in text
    assert "most accurate within the budget: 700 B, drops 9.00 pt" in text
    assert "the obstacle: flash" in text


def test_an_obstacle_where_each_region_fits_someone() -> None:
    scores = [losing(1500, 0, 0, 4), losing(1200, 40, 6, 0)]
    text = refusal(scores, Limits(0.01, budget={"flash": 500, "ram": 300}))
    assert "none fits" in text
    assert "the obstacle: ram" in text  # the second misses by 200 of RAM, the first by 500


def test_cores_have_no_bytes() -> None:
    text = refusal_of_cores()
    assert "needs cores 3 of 2" in text


def refusal_of_cores() -> str:
    with pytest.raises(GateError) as caught:
        select(
            [losing(10, 0, 0)], BASELINE, Limits(0.01, budget={"cores": 2}), lambda c: {"cores": 3}
        )
    return str(caught.value)


def test_none_is_accurate_enough() -> None:
    hopeless = refusal([losing(900, 500, 0, 0)], Limits(0.01))
    assert "the most accurate: 900 B, drops 5.00 pt" in hopeless
    assert "cannot decide" not in hopeless
    open_ = refusal([losing(900, 95, 0, 0)], Limits(0.01))
    needed = samples_needed(0.01 - 0.0095, 0.0095, level=0.9)
    assert f"the data cannot decide: {needed} samples" in open_
    assert "obstacle" not in open_
