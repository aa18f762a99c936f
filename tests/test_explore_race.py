"""Racing: who is dropped, what stays exact, and how much it saves."""

from __future__ import annotations

import numpy as np

from problems import FakeProblem, layered, scored
from qspinn.explore.front import front_of
from qspinn.explore.problem import Score
from qspinn.explore.race import CLOSE, EXACT, STAGES, Rule, race, samples_used

SAMPLES = 6000


def raced(problem: FakeProblem, rule: Rule) -> list[Score]:
    return list(race(problem, list(problem.space.all()), rule))


def test_the_front_survives_and_samples_are_saved() -> None:
    problem = FakeProblem(layered(4, 5), SAMPLES)
    whole = problem.space.size * SAMPLES
    for rule in (EXACT, CLOSE):
        scores = raced(problem, rule)
        assert len({s.candidate for s in scores}) == len(scores) == problem.space.size
        assert max(front_of(scores).losses(problem.front())) == 0
        assert samples_used(scores) * 3 < whole


def test_a_score_is_what_was_measured() -> None:
    problem = FakeProblem(layered(3, 5), SAMPLES)
    for score in raced(problem, EXACT):
        n = len(score.correct)
        assert score.complete == (n == SAMPLES)
        assert n in (*STAGES, SAMPLES)
        assert max(problem.asked[score.candidate]) == n
        assert (score.correct == problem.outcome(score.candidate)[:n]).all()
        assert score.memory == problem.memory(score.candidate)


def test_order_of_candidates_does_not_matter(rng: np.random.Generator) -> None:
    problem = FakeProblem(layered(3, 5), SAMPLES)
    candidates = list(problem.space.all())
    first = [(s.candidate, len(s.correct)) for s in race(problem, candidates, CLOSE)]
    rng.shuffle(candidates)
    doubled = [*candidates, *candidates]
    assert [(s.candidate, len(s.correct)) for s in race(problem, doubled, CLOSE)] == first


def test_refused_candidates_are_left_out() -> None:
    problem = FakeProblem(layered(2, 4), 500, refused=lambda c: c[0] == 0)
    scores = raced(problem, EXACT)
    assert {s.candidate for s in scores} == {c for c in problem.space.all() if c[0]}


def two(right: list[np.ndarray], memories: list[int]) -> FakeProblem:
    """A problem of a few candidates with outcomes given."""
    problem = FakeProblem(layered(1, len(right)), len(right[0]))
    problem.memory_of = lambda c: memories[c[0]]
    problem.outcome = lambda c: right[c[0]]  # type: ignore[method-assign]
    return problem


def test_only_a_cheaper_or_equal_one_drops(rng: np.random.Generator) -> None:
    good, bad = rng.random(SAMPLES) < 0.95, rng.random(SAMPLES) < 0.6
    apart = {s.candidate: s.complete for s in raced(two([good, bad], [100, 50]), EXACT)}
    assert apart == {(0,): True, (1,): True}  # the worse one is smaller
    for memories in ([50, 100], [50, 50]):
        found = {s.candidate: len(s.correct) for s in raced(two([good, bad], memories), EXACT)}
        assert found == {(0,): SAMPLES, (1,): STAGES[0]}


def test_equals_are_told_apart_by_eps_only(rng: np.random.Generator) -> None:
    """A larger one that is behind by half of ``eps``, and not believed to be ``eps`` better."""
    many = 20_000
    same = rng.random(many) < 0.95
    behind = same.copy()
    behind[np.flatnonzero(same)[::1700]] = False
    problem = two([same, behind, same.copy()], [50, 100, 101])
    assert all(s.complete for s in raced(problem, EXACT))
    cut = {s.candidate: len(s.correct) for s in raced(problem, CLOSE)}
    assert cut[0,] == cut[2,] == many  # whoever is not behind stays
    count = cut[1,]
    assert count < many
    n, lost = float(count), np.count_nonzero((same & ~behind)[:count])
    error = np.sqrt(lost + 1 - lost**2 / (n + 2)) / (n + 2)
    assert -lost / n <= -CLOSE.eps / 2
    assert -lost / n + CLOSE.z * error < CLOSE.eps


def test_rivals_drop_but_are_not_measured(rng: np.random.Generator) -> None:
    good, bad = rng.random(SAMPLES) < 0.95, rng.random(SAMPLES) < 0.6
    problem = two([good, bad], [10, 100])
    rival = scored(10, good, 0)
    scores = list(race(problem, [(1,)], EXACT, rivals=[rival]))
    assert [(s.candidate, len(s.correct)) for s in scores] == [((1,), STAGES[0])]
    assert (0,) not in problem.asked
    dearer = scored(101, good, 0)
    assert all(s.complete for s in race(problem, [(1,)], EXACT, rivals=[dearer]))


def test_whoever_is_dropped_would_hardly_have_won() -> None:
    """Equally good candidates, drawn anew: the larger one is dropped though it wins in the end."""
    dropped, wrongly = 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        pair = [rng.random(SAMPLES) < 0.9, rng.random(SAMPLES) < 0.9]
        if not all(s.complete for s in raced(two(pair, [50, 51]), Rule(2.5, 0.0))):
            dropped += 1
            wrongly += int(pair[1].sum() > pair[0].sum())
    assert dropped >= 30
    assert wrongly <= 9  # some ten looks at 0.6 % each, correlated
