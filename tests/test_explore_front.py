"""Dominance, fronts with ties, and hypervolumes against a brute-force count."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import FakeProblem, layered, scored
from qspinn.errors import PlanError
from qspinn.explore.front import (
    ACCURACY,
    MEMORY,
    Objective,
    Staircase,
    dominates,
    front_of,
    hypervolume,
    nondominated,
)
from qspinn.explore.problem import Score

points = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(st.integers(0, 5), min_size=d, max_size=d), max_size=12)
)


@given(points)
def test_the_front_is_what_nothing_dominates(rows: list[list[int]]) -> None:
    kept = nondominated(np.array(rows, float))
    values = [tuple(rows[i]) for i in kept]
    expected = {tuple(a) for a in rows if not any(dominates(b, a) for b in rows)}
    assert set(values) == expected
    assert len(values) == len(expected)
    assert all(i == rows.index(rows[i]) for i in kept)
    assert values == sorted(values)


@given(points.filter(bool))
def test_hypervolume_counts_unit_cells(rows: list[list[int]]) -> None:
    d = len(rows[0])
    reference = [5] * d
    cells = sum(
        any(all(r <= c for r, c in zip(row, cell, strict=True)) for row in rows)
        for cell in product(range(5), repeat=d)
    )
    assert hypervolume(np.array(rows, float), reference) == cells


def test_dominance_needs_one_strict_gain() -> None:
    assert dominates([1, 2], [1, 3])
    assert not dominates([1, 2], [1, 2])
    assert not dominates([1, 4], [2, 3])


def test_ties() -> None:
    half, all_right = [True, False], [True, True]
    scores = [
        scored(20, half, 0, 1),
        scored(10, half, 1, 1),  # as accurate, smaller
        scored(30, all_right, 2, 2),
        scored(30, all_right, 0, 0),  # the same point, a lower candidate
    ]
    front = front_of(scores)
    assert [(s.memory, s.candidate) for s in front] == [(10, (1, 1)), (30, (0, 0))]
    alone = front_of(scores, [ACCURACY])
    assert [(s.memory, s.candidate) for s in alone] == [(30, (0, 0))]


def test_incomplete_scores_take_no_part() -> None:
    partial = Score((0,), 1, np.ones(1, bool), False)
    assert front_of([partial, scored(5, [True, False], 1)]).scores[0].candidate == (1,)
    with pytest.raises(PlanError, match="2 and on 3 samples"):
        front_of([scored(1, [True] * 2, 0), scored(2, [True] * 3, 1)])


def test_three_objectives() -> None:
    operations = {(0,): 9.0, (1,): 3.0, (2,): 5.0}
    spent = Objective("operations", lambda s: operations[s.candidate])
    scores = [scored(10, [1, 1], 0), scored(10, [1, 0], 1), scored(20, [1, 0], 2)]
    front = front_of(scores, [ACCURACY, MEMORY, spent])
    assert [s.candidate for s in front] == [(0,), (1,)]
    # 1 x 10 x 1 by the first, 0.5 x 10 x 7 by the second, of which 0.5 x 10 x 1 is shared.
    assert front.hypervolume([0.0, 20.0, 10.0]) == 10 + 35 - 5


def test_losses_along_another_front() -> None:
    true = front_of([scored(10, [1, 0, 0, 0], 0), scored(20, [1, 1, 1, 0], 1)])
    found = front_of([scored(15, [1, 1, 0, 0], 2)])
    assert found.losses(true) == [0.25, 0.25]  # nothing is as small as 10; then 3/4 - 2/4
    assert true.losses(true) == [0, 0]
    assert found.within(14) is None
    assert found.within(15) is found.scores[0]


def test_staircase_is_the_front_at_every_memory(rng: np.random.Generator) -> None:
    problem = FakeProblem(layered(3, 4), samples=200)
    scores = [problem.score(c) for c in problem.space.all()]
    rng.shuffle(scores)
    stairs = Staircase()
    for turn, score in enumerate(scores):
        before = stairs.at(score.memory)
        assert stairs.add(score) == (score.accuracy > before)
        if turn % 16 == 0:
            seen = scores[: turn + 1]
            for memory in range(0, 3000, 90):
                fits = [s.accuracy for s in seen if s.memory <= memory]
                assert stairs.at(memory) == max(fits, default=-1.0)
