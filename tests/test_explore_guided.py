"""The default strategy on problems whose true front is known."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from problems import FakeProblem, layered
from qspinn.explore.additive import predicted_front
from qspinn.explore.front import front_of, nondominated
from qspinn.explore.guided import finest_accepted, guided, neighbours
from qspinn.explore.problem import Score
from qspinn.explore.significance import probes
from qspinn.explore.space import Candidate, Knob, Space
from qspinn.explore.surrogate import Surrogate, improvement, monotone


def large() -> FakeProblem:
    return FakeProblem(layered(4, 6), samples=2000, seed=3)


def searched(problem: FakeProblem, limit: int, **more: float) -> list[Score]:
    return list(guided(problem, limit=limit, enumerated=0, **more))  # type: ignore[arg-type]


def test_a_small_space_is_enumerated() -> None:
    problem = FakeProblem(layered(3, 5))
    scores = list(guided(problem, limit=1))
    assert {s.candidate for s in scores} == set(problem.space.all())
    assert problem.screened == []
    assert max(front_of(scores).losses(problem.front())) == 0


def test_a_large_space_is_searched() -> None:
    problem = large()
    true = problem.front()
    scores = searched(problem, 120)
    losses = np.array(front_of(scores).losses(true))
    assert len(problem.asked) == len(scores) == 120
    assert losses.mean() <= 0.0015
    assert losses.max() <= 0.006
    later = np.array(front_of(searched(large(), 300)).losses(true))
    assert later.mean() < 0.0005  # a sample of 2000 is 0.05 points
    random = np.random.default_rng(0).permutation(list(problem.space.all()))[:120]
    drawn = front_of(problem.score(tuple(int(x) for x in c)) for c in random)
    assert np.mean(drawn.losses(true)) > 10 * losses.mean()


def test_the_same_question_has_the_same_answer() -> None:
    def told(scores: list[Score]) -> list[tuple[Candidate, int, int]]:
        return [(s.candidate, len(s.correct), int(s.correct.sum())) for s in scores]

    assert told(searched(large(), 60)) == told(searched(large(), 60))


def test_what_came_before_an_interrupt_is_a_prefix() -> None:
    whole = [s.candidate for s in searched(large(), 60)]
    some = [s.candidate for s in islice(guided(large(), limit=60, enumerated=0), 25)]
    assert some == whole[:25]


def test_no_candidate_is_measured_or_screened_twice() -> None:
    problem = large()
    scores = searched(problem, 80)
    assert len({s.candidate for s in scores}) == 80
    assert len(set(problem.screened)) == len(problem.screened)
    assert {s.candidate for s in scores} <= set(problem.screened)


def test_refused_candidates_are_never_asked_for() -> None:
    """`FakeProblem.correct` fails on them; here a budget refuses all that is large."""
    problem = large()
    roomy = problem.memory(problem.space.finest)
    assert roomy is not None
    free = problem.memory
    most = roomy * 2 // 3
    problem.refused = lambda c: False
    tight = FakeProblem(problem.space, problem.samples, problem.seed)
    tight.refused = lambda c: (free(c) or 0) > most
    scores = searched(tight, 150)
    assert max(s.memory for s in scores) <= most
    losses = front_of(scores).losses(tight.front())
    assert np.mean(losses) <= 0.002


def test_nothing_accepted_gives_nothing() -> None:
    problem = FakeProblem(layered(3, 4), refused=lambda c: True)
    assert finest_accepted(problem) is None
    assert searched(problem, 10) == []
    assert list(guided(problem)) == []


def test_the_base_is_the_finest_accepted_level() -> None:
    problem = FakeProblem(layered(3, 4), refused=lambda c: sum(c) < 5)
    assert finest_accepted(problem) == (2, 2, 2)
    loose = Space((Knob("scale", "scale", "", ("a", "b"), ordered=False), *layered(2, 3).knobs))
    picky = FakeProblem(loose, refused=lambda c: c[0] == 0 or c[1] == 0)
    assert finest_accepted(picky) == (1, 1, 1)


def test_neighbours() -> None:
    knobs = (*layered(2, 3).knobs, Knob("scale", "scale", "", ("a", "b", "c"), ordered=False))
    found = set(neighbours(Space(knobs), (0, 1, 1)))
    assert found == {
        *((1, 1, 1), (0, 0, 1), (0, 2, 1)),  # one step
        *((1, 0, 1),),  # the second finer and the first coarser; the first is the finest
        *((0, 1, 0), (0, 1, 2)),  # any other option
    }


def test_a_floor_moves_the_measurements() -> None:
    low, high = large(), large()
    searched(low, 100)
    searched(high, 100, floor=0.9)

    def good(problem: FakeProblem) -> int:
        return sum(problem.outcome(c).mean() > 0.9 for c in problem.asked)

    assert good(high) > good(low)


def test_predicted_front_is_exact_where_all_adds() -> None:
    """Memory that does not add within a layer; losses that add over knobs."""
    space = layered(2, 3, ("weight", "membrane"))
    problem = FakeProblem(space)
    price = np.random.default_rng(5).integers(10, 90, (2, 3, 3))
    problem.memory_of = lambda c: int(price[0, c[0], c[1]] + price[1, c[2], c[3]])
    single = probes(space, space.finest)
    effects = {key: problem.damage(candidate) for key, candidate in single.items()}
    found = predicted_front(problem, space.finest, effects)
    everyone = list(space.all())
    costs = np.array([[problem.memory(c), problem.damage(c)] for c in everyone], float)
    expected = costs[nondominated(costs)]
    values = [(problem.memory(c), problem.damage(c)) for c in found]
    assert values == [tuple(row) for row in expected]


def test_monotone_regression() -> None:
    places, values = monotone([3, 1, 2, 4, 5], [2.0, 1.0, 4.0, 9.0, 8.0])
    assert places.tolist() == [1, 2.5, 4.5]
    assert values.tolist() == [1, 3, 8.5]


def test_surrogate_recalls_what_was_measured() -> None:
    problem = large()
    known = list(problem.space.all())[::31]
    scores = [problem.score(c) for c in known]
    surrogate = Surrogate.fit(problem.space, scores, problem.distance(known))
    losses, errors = surrogate.expect(known, problem.distance(known))
    true = np.array([1 - s.accuracy for s in scores])
    assert np.abs(losses - true).max() < 0.02
    other = list(problem.space.all())[7::97]
    guess, doubts = surrogate.expect(other, problem.distance(other))
    real = np.array([1 - problem.outcome(c).mean() for c in other])
    assert np.mean(np.abs(guess - real) < 3 * doubts) > 0.9
    assert doubts.mean() > errors.mean()


def test_improvement_is_the_mean_of_the_positive_part(rng: np.random.Generator) -> None:
    for gain, spread in ((0.5, 1.0), (-1.0, 0.7), (3.0, 0.1)):
        drawn = np.maximum(rng.normal(gain, spread, 200_000), 0)
        found = improvement(np.array([gain]), np.array([spread]))[0]
        assert found == pytest.approx(drawn.mean(), abs=5 * drawn.std() / 447)
