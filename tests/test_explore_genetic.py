"""NSGA-II as a cross-check."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from problems import FakeProblem, layered
from qspinn.errors import ToolchainError
from qspinn.explore.front import front_of
from qspinn.explore.genetic import nsga2
from qspinn.explore.space import Space


@pytest.mark.needs("pymoo")
def test_it_finds_the_front_of_a_small_space() -> None:
    problem = FakeProblem(layered(3, 5), 500, refused=lambda c: c == (0, 0, 0))
    scores = list(nsga2(problem, limit=100, seed=1))
    assert len(scores) == len(problem.asked) <= 100
    assert len({s.candidate for s in scores}) == len(scores)
    assert all(s.complete for s in scores)
    losses = front_of(scores).losses(problem.front())
    assert np.mean(losses) < 0.01


def test_a_space_of_no_more_than_a_generation_is_measured_whole() -> None:
    problem = FakeProblem(layered(2, 3), 100, refused=lambda c: c == (0, 0))
    assert {s.candidate for s in nsga2(problem, limit=40, seed=0)} == set(problem.space.all()) - {
        (0, 0)
    }
    alone = FakeProblem(Space(()), 100)
    assert [s.candidate for s in nsga2(alone, limit=40, seed=0)] == [()]


@pytest.mark.needs("pymoo")
def test_the_seed_decides() -> None:
    def asked(seed: int) -> list[tuple[int, ...]]:
        problem = FakeProblem(layered(4, 6), 100)
        return [s.candidate for s in nsga2(problem, limit=90, seed=seed)]

    assert asked(3) == asked(3)
    assert asked(3) != asked(4)
    assert len(asked(3)) == 90


def test_without_pymoo_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(ToolchainError) as caught:
        next(nsga2(FakeProblem(layered(2, 3)), limit=5, seed=0))
    assert "pymoo" in str(caught.value)
    assert "qspinn[explore]" in caught.value.hint
    assert caught.value.exit_code == 3
