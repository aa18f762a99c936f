"""One parameter at a time, the order of giving up bits, and a candidate's attribution."""

from __future__ import annotations

import numpy as np
import pytest

from problems import FakeProblem, layered
from qspinn.errors import PlanError
from qspinn.explore.result import Significance
from qspinn.explore.significance import REFUSED, attribute, order, significance
from qspinn.explore.space import Candidate, Knob, Space
from qspinn.stats import Estimate, drop_bound, paired_difference


def test_every_option_alone_then_every_kind() -> None:
    problem = FakeProblem(layered(2, 4, ("weight", "membrane")))
    found = significance(problem)
    knobs = problem.space.knobs
    alone = [(k.name, k.kind, k.layer, o) for k in knobs for o in k.options]
    kinds = [(kind, kind, "", o) for kind in ("weight", "membrane") for o in knobs[0].options]
    assert [(f.knob, f.kind, f.layer, f.option) for f in found] == alone + kinds
    by_place = {(f.knob, f.option): f for f in found}
    best = problem.outcome(problem.space.finest)
    some = by_place[("lif1.weight", "3")]
    candidate = (0, 0, 2, 0)
    assert some.bytes == problem.memory(candidate)
    assert some.difference == paired_difference(problem.outcome(candidate), best)
    assert some.accuracy is not None
    assert some.accuracy.value == problem.outcome(candidate).mean()
    assert some.distance is None
    assert by_place[("membrane", "2")].bytes == problem.memory((0, 3, 0, 3))
    assert by_place[("lif0.weight", "5")].difference == Estimate(
        0.0, *_ends(paired_difference(best, best)), 2000
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_distances_are_asked_for_once_each() -> None:
    problem = FakeProblem(layered(2, 4))
    found = significance(problem, count=100, distances=True)
    assert len(set(problem.screened)) == len(problem.screened) == len(problem.asked)
    assert all(counts == [100] for counts in problem.asked.values())
    assert found[0].distance == 0
    assert [f.distance for f in found[:4]] == sorted(f.distance or 0 for f in found[:4])


def test_a_refused_option_is_listed_without_figures() -> None:
    problem = FakeProblem(layered(2, 4), refused=lambda c: c[0] == 3)
    found = significance(problem)
    refused = [f for f in found if f.bytes is None]
    assert [(f.knob, f.option, f.accuracy) for f in refused] == [
        ("lif0.weight", "2", None),
        ("weight", "2", None),
    ]
    with pytest.raises(PlanError, match="finest"):
        significance(FakeProblem(layered(2, 4), refused=lambda c: sum(c) == 0))


def test_where_the_finest_is_refused_another_is_the_base() -> None:
    problem = FakeProblem(layered(2, 4, ("weight", "membrane")), refused=lambda c: sum(c) < 4)
    base = (1, 1, 1, 1)
    found = {(f.knob, f.option): f for f in significance(problem, base=base)}
    coarser, both = found[("lif1.weight", "2")], found[("weight", "3")]
    assert coarser.bytes == problem.memory((1, 1, 3, 1))
    assert both.bytes == problem.memory((2, 1, 2, 1))
    best = problem.outcome(base)
    assert coarser.difference == paired_difference(problem.outcome((1, 1, 3, 1)), best)
    assert both.difference == paired_difference(problem.outcome((2, 1, 2, 1)), best)
    assert found[("lif1.weight", "5")].accuracy is None


def made(knob: str, *points: tuple[str, int, float]) -> list[Significance]:
    return [
        Significance(knob, "weight", knob, word, None, Estimate(-loss, 0, 0, 1), None, size)
        for word, size, loss in points
    ]


def test_order_follows_the_price_of_a_byte() -> None:
    space = Space((Knob("a", "weight", "a", ("8", "4", "2")), Knob("b", "weight", "b", ("8", "4"))))
    found = [
        *made("a", ("8", 1000, 0.0), ("4", 900, 0.01), ("2", 850, 0.06)),
        *made("b", ("8", 1000, 0.0), ("4", 960, 0.02)),
        *made("weight", ("8", 1000, 0.0), ("4", 500, 0.0)),  # turned together: left out
    ]
    steps = [(s.knob, s.start, s.end, s.saved) for s in order(found, space)]
    assert steps == [("a", "8", "4", 100), ("b", "8", "4", 40), ("a", "4", "2", 50)]
    prices = [s.price for s in order(found, space)]
    assert prices == [0.01 / 100, 0.02 / 40, (0.06 - 0.01) / 50]


def test_order_skips_what_lies_above_the_hull() -> None:
    space = Space((Knob("a", "weight", "a", ("8", "6", "5", "4")),))
    curve = made("a", ("8", 100, 0.0), ("6", 80, 0.05), ("5", 60, 0.01), ("4", 70, 0.5))
    assert [(s.start, s.end, s.saved) for s in order(curve, space)] == [("8", "5", 40)]


def test_order_is_optimal_where_losses_add() -> None:
    """Along the list no candidate of the space loses less at the same memory or less."""
    problem = FakeProblem(layered(3, 4))
    space = problem.space
    size = problem.memory(space.finest)
    assert size is not None

    def single(k: int, o: int) -> Candidate:
        return space.moved(space.finest, k, o)

    found = [
        one
        for k, knob in enumerate(space.knobs)
        for one in made(
            knob.name,
            *(
                (word, problem.memory(single(k, o)) or 0, problem.damage(single(k, o)))
                for o, word in enumerate(knob.options)
            ),
        )
    ]
    at, everyone = space.finest, [(problem.memory(c) or 0, problem.damage(c)) for c in space.all()]
    for step in order(found, space):
        k = space.index(step.knob)
        at = space.moved(at, k, space.knobs[k].options.index(step.end))
        here, loss = problem.memory(at) or 0, problem.damage(at)
        assert min(other for m, other in everyone if m <= here) == loss


def test_attribution() -> None:
    loose = Knob("scale", "scale", "", ("a", "b"), ordered=False)
    space = Space((*layered(2, 4).knobs, loose))
    problem = FakeProblem(space, refused=lambda c: c == (2, 3, 1))
    chosen = (2, 2, 1)
    first, second, third = attribute(problem, chosen, level=0.9)
    ours, base = problem.outcome(chosen), problem.baseline
    assert (first.option, first.coarser) == ("3", "2")
    assert first.cost == paired_difference(problem.outcome((0, 2, 1)), ours)
    coarser = problem.outcome((3, 2, 1))
    assert first.next_cost == paired_difference(ours, coarser)
    assert first.next_drop == paired_difference(base, coarser)
    assert first.next_bound == drop_bound(coarser, base, 0.9)
    assert first.saved == (problem.memory(chosen) or 0) - (problem.memory((3, 2, 1)) or 0) > 0
    assert (second.coarser, second.refused, second.next_cost) == ("2", REFUSED, None)
    assert (third.option, third.coarser, third.saved) == ("b", "", None)
    assert third.cost == paired_difference(problem.outcome((2, 2, 0)), ours)


def test_the_finest_costs_nothing_and_the_coarsest_goes_no_further() -> None:
    problem = FakeProblem(layered(2, 4))
    finest, coarsest = attribute(problem, (0, 3))
    assert finest.cost is None
    assert finest.coarser == "4"
    assert coarsest.cost is not None
    assert coarsest.cost.value > 0
    assert coarsest.coarser == ""
    with pytest.raises(PlanError, match="refused"):
        attribute(FakeProblem(layered(1, 3), refused=lambda c: True), (0,))


def test_attribution_on_fewer_samples() -> None:
    problem = FakeProblem(layered(2, 4))
    found = attribute(problem, (1, 1), count=50)
    assert all(a.next_drop is not None and a.next_drop.count == 50 for a in found)
    assert np.isfinite([a.next_bound or 0 for a in found]).all()
