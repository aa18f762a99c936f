"""The published procedure: what is tied, what is measured, and the two rewards."""

from __future__ import annotations

from itertools import product

import pytest

from problems import FakeProblem, layered, scored
from qspinn.errors import PlanError
from qspinn.explore.grid import (
    MOST,
    Reward,
    grid,
    kinds,
    published,
    q_spinn,
    rewarded,
    solutions,
)
from qspinn.explore.problem import Score
from qspinn.explore.space import Knob, Space

ROUNDINGS = ("nearest_even", "floor")


def network() -> Space:
    """Two layers with widths, roundings and a form; the second's widths are fewer."""
    return Space(
        (
            Knob("fc1.weight", "weight", "lif1", ("8", "4", "2")),
            Knob("fc1.weight:rounding", "weight", "lif1", ROUNDINGS, ordered=False),
            Knob("lif1.v", "membrane", "lif1", ("16", "8")),
            Knob("lif1.v:rounding", "membrane", "lif1", ROUNDINGS, ordered=False),
            Knob("lif1.decay:form", "decay", "lif1", ("fixed", "leak"), ordered=False),
            Knob("fc2.weight", "weight", "lif2", ("8", "4")),
            Knob("fc2.weight:rounding", "weight", "lif2", ROUNDINGS, ordered=False),
            Knob("lif2.v", "membrane", "lif2", ("16", "8")),
            Knob("lif2.decay:form", "decay", "lif2", ("fixed", "leak"), ordered=False),
        )
    )


def test_one_level_for_each_kind_and_one_rounding() -> None:
    assert kinds(network()) == {
        "weight": (0, 5),
        "rounding": (1, 3, 6),
        "membrane": (2, 7),
        "decay:form": (4, 8),
    }
    expected = {
        (w, r, v, r, d, w if w < 2 else 0, r, v, d)
        for w, r, v, d in product(range(3), range(2), range(2), range(2))
    }
    found = grid(network())
    assert set(found) == expected
    assert len(found) == len(expected) == 24


def test_the_knob_with_the_most_options_leads() -> None:
    space = Space((Knob("a", "weight", "1", ("8", "4")), Knob("b", "weight", "2", ("8", "4", "2"))))
    assert kinds(space) == {"weight": (1, 0)}
    assert grid(space) == [(0, 0), (0, 2), (1, 1)]


def test_the_whole_grid_is_measured_on_all_samples() -> None:
    problem = FakeProblem(layered(3, 5, ("weight", "membrane")), 300, refused=lambda c: c[0] == 4)
    scores = list(q_spinn(problem))
    assert [s.candidate for s in scores] == [c for c in grid(problem.space) if c[0] != 4]
    assert all(s.complete and len(s.correct) == 300 for s in scores)
    assert all((s.correct == problem.outcome(s.candidate)).all() for s in scores)


def test_what_the_procedure_does_not_turn_is_left_alone_unless_named() -> None:
    words = ("4", "2")
    kinds_there = {"fc1.weight": "weight", "fc1.bias": "bias", "fc2.bias": "bias",
                   "lif1.scale": "scale", "input.active": "input"}  # fmt: skip
    space = Space(tuple(Knob(name, kind, "lif1", words) for name, kind in kinds_there.items()))

    def left(*named: str) -> list[str]:
        return [knob.name for knob in published(space, named).knobs]

    assert left() == ["fc1.weight"]
    assert left("fc2.bias") == ["fc1.weight", "fc2.bias"]
    assert left("bias", "input.active") == ["fc1.weight", "fc1.bias", "fc2.bias", "input.active"]


def test_a_grid_of_millions_is_refused_before_it_is_made() -> None:
    words = tuple(str(bits) for bits in range(100, 0, -1))
    space = Space(tuple(Knob(kind, kind, "", words) for kind in ("weight", "bias", "decay")))
    with pytest.raises(PlanError, match=f"1,000,000 candidates, the limit is {MOST:,}") as caught:
        grid(space)
    assert "weight has 100" in caught.value.hint


def scores() -> list[Score]:
    def right(count: int) -> list[bool]:
        return [i < count for i in range(100)]

    return [scored(1000, right(95), 0), scored(500, right(93), 1), scored(100, right(60), 2)]


def test_rewards() -> None:
    saving = Reward("multiplicative", 4000, 0.96)
    assert saving.of(scores()[1]) == 8 * (0.93 / 0.96)
    assert saving.of(scored(1000, [True] * 4)) == 4  # better than float: no bonus
    weighed = Reward("additive", 4000, 0.96, mu=0.2)
    assert weighed.of(scores()[1]) == 0.93 - 0.2 * 500 / 4000
    with pytest.raises(PlanError, match="multiplicative or additive"):
        Reward("linear", 4000, 0.96)


def test_selection_among_solution_candidates() -> None:
    able = solutions(scores(), 0.9)
    assert [s.candidate for s in able] == [(0,), (1,)]
    by_saving = rewarded(able, Reward("multiplicative", 4000, 0.96))
    assert by_saving is able[1]
    by_sum = rewarded(able, Reward("additive", 4000, 0.96, mu=0.01))
    assert by_sum is able[0]
    assert rewarded(scores(), Reward("multiplicative", 4000, 0.96)) is not able[1]
    assert rewarded([], Reward("additive", 4000, 0.96)) is None
