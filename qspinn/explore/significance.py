"""Significance: what each parameter's precision is worth, one parameter at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qspinn.errors import PlanError
from qspinn.explore.grid import kinds
from qspinn.explore.problem import BoolArray, Problem
from qspinn.explore.result import Attribution, Significance
from qspinn.explore.space import Candidate, Space
from qspinn.explore.twins import sizes, twin
from qspinn.stats import accuracy, drop_bound, paired_difference

REFUSED = "the target refuses it"


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the order in which parameters give up bits.

    Attributes:
        knob: The knob's name.
        start: The option it leaves.
        end: The option it takes.
        saved: Bytes the step saves.
        loss: The accuracy it loses, as a share.
    """

    knob: str
    start: str
    end: str
    saved: int
    loss: float

    @property
    def price(self) -> float:
        """Accuracy lost for each byte saved."""
        return self.loss / self.saved


def probes(space: Space, base: Candidate) -> dict[tuple[int, int], Candidate]:
    """The candidates that differ from ``base`` in one knob, by knob and option."""
    return {
        (k, option): space.moved(base, k, option)
        for k, knob in enumerate(space.knobs)
        for option in range(len(knob.options))
        if option != base[k]
    }


def significance(
    problem: Problem,
    *,
    base: Candidate | None = None,
    count: int | None = None,
    distances: bool = False,
) -> list[Significance]:
    """The effect of every option: knob by knob, then kind by kind where a kind has several knobs.

    Where all knobs of a kind were turned together, the entry bears the kind's name and no layer.

    Args:
        problem: The network.
        base: What the others are changed from and compared with; None: the finest candidate.
        count: How many samples to measure on; None: all of the selection part.
        distances: Whether to measure the unlabelled distance as well.

    Raises:
        PlanError: The base is refused, so nothing can be compared with it.
    """
    space = problem.space
    base = space.finest if base is None else base
    if problem.memory(base) is None:
        raise PlanError("the finest candidate is refused: nothing can be compared with it")
    named = [*_by_knob(space, base), *_by_kind(space, base)]
    candidates = [base, *(candidate for *_, candidate in named)]
    right = _measured(problem, candidates, count)
    far = dict(zip(right, problem.distance(list(right)), strict=True)) if distances else {}
    best = right[base]
    found = []
    for name, kind, layer, option, candidate in named:
        if candidate not in right:
            found.append(Significance(name, kind, layer, option))
            continue
        ours, size = right[candidate], problem.memory(candidate)
        difference = paired_difference(ours, best)
        share, distance = accuracy(ours), far.get(candidate)
        found.append(Significance(name, kind, layer, option, share, difference, distance, size))
    return found


def _measured(
    problem: Problem, candidates: Iterable[Candidate], count: int | None
) -> dict[Candidate, BoolArray]:
    """What each accepted candidate gets right, by candidate in order."""
    accepted = sorted(c for c in set(candidates) if problem.memory(c) is not None)
    found = problem.correct(accepted, count or problem.samples)
    return dict(zip(accepted, found, strict=True))


Named = tuple[str, str, str, str, Candidate]


def _by_knob(space: Space, base: Candidate) -> Iterator[Named]:
    for k, knob in enumerate(space.knobs):
        for option, word in enumerate(knob.options):
            yield knob.name, knob.kind, knob.layer, word, space.moved(base, k, option)


def _by_kind(space: Space, base: Candidate) -> Iterator[Named]:
    for key, group in kinds(space).items():
        if len(group) > 1:
            head = space.knobs[group[0]]
            for word, tied in zip(head.options, space.tied([group]), strict=True):
                candidate = tuple(tied[k] if k in group else base[k] for k in range(len(base)))
                yield key, head.kind, "", word, candidate


def order(found: Iterable[Significance], space: Space) -> list[Step]:
    """The steps by which parameters give up bits: the least accuracy lost for a byte first.

    From each knob's options those are kept that lie on the lower convex hull of loss over bytes
    saved, so that every step of a knob is dearer than the one before. Where losses add, following
    the list gives the best candidate for every memory on the way.
    """
    names = {knob.name for knob in space.knobs}
    curves: dict[str, list[tuple[int, float, str]]] = {}
    for one in found:
        if one.knob in names and one.bytes is not None and one.difference is not None:
            point = one.bytes, -one.difference.value, one.option
            curves.setdefault(one.knob, []).append(point)
    steps = [step for knob, curve in curves.items() for step in _hull(knob, curve)]
    return sorted(steps, key=lambda step: step.price)  # stable: a knob's steps stay in their order


def _hull(knob: str, curve: list[tuple[int, float, str]]) -> Iterator[Step]:
    """The steps along the lower convex hull of one knob's options, from the finest on."""
    size, loss, word = curve[0]
    while smaller := [point for point in curve if point[0] < size]:
        # The flattest way on; of equals the longest.
        ways = [((there[1] - loss) / (size - there[0]), there) for there in smaller]
        _, (low, high, end) = min(ways, key=lambda way: (way[0], way[1][0]))
        yield Step(knob, word, end, size - low, high - loss)
        size, loss, word = low, high, end


def attribute(
    problem: Problem, candidate: Candidate, *, count: int | None = None, level: float = 0.95
) -> list[Attribution]:
    """For each knob of a candidate: what its choice costs, and what one step further would.

    A knob whose options have no order has no next coarser one. Coarser options that save no memory
    are passed over for one that does, if there is one.

    Args:
        problem: The network.
        candidate: Whose choices are looked at.
        count: How many samples to measure on; None: all of the selection part.
        level: Of the one-sided bounds.

    Raises:
        PlanError: The candidate is refused.
    """
    space = problem.space
    if problem.memory(candidate) is None:
        raise PlanError("the candidate is refused: nothing can be attributed")
    finer = {k: space.moved(candidate, k, 0) for k, taken in enumerate(candidate) if taken}
    coarser = steps(problem, candidate)
    right = _measured(problem, [candidate, *finer.values(), *coarser.values()], count)
    return [
        _attribution(problem, candidate, k, right, (finer.get(k), coarser.get(k)), level)
        for k in range(len(space.knobs))
    ]


def steps(problem: Problem, candidate: Candidate) -> dict[int, Candidate]:
    """The candidate with each knob one step coarser, by the knob's place."""
    return {
        k: _coarser(problem, candidate, k)
        for k, knob in enumerate(problem.space.knobs)
        if knob.ordered and candidate[k] + 1 < len(knob.options)
    }


def _coarser(problem: Problem, candidate: Candidate, k: int) -> Candidate:
    """The next coarser option of a knob that saves memory; where none does, the next."""
    cheap = sizes(problem)
    before = cheap.memory(twin(problem, candidate))
    assert before is not None, "it was accepted"
    options = range(candidate[k] + 1, len(problem.space.knobs[k].options))
    ways = [problem.space.moved(candidate, k, option) for option in options]
    for way in ways:
        size = cheap.memory(twin(problem, way))
        if size is not None and size < before:
            return way
    return ways[0]


def _attribution(
    problem: Problem,
    candidate: Candidate,
    k: int,
    right: Mapping[Candidate, BoolArray],
    others: tuple[Candidate | None, Candidate | None],
    level: float,
) -> Attribution:
    finer, coarser = others
    knob, ours = problem.space.knobs[k], right[candidate]
    place = knob.name, knob.kind, knob.layer, knob.options[candidate[k]]
    cost = paired_difference(right[finer], ours) if finer and finer in right else None
    if coarser is None:
        return Attribution(*place, cost=cost)
    word = knob.options[coarser[k]]
    if coarser not in right:
        return Attribution(*place, word, cost, refused=REFUSED)
    theirs = right[coarser]
    baseline = problem.baseline[: len(theirs)]
    before, after = problem.memory(candidate), problem.memory(coarser)
    assert before is not None, "it was measured"
    assert after is not None, "it was measured"
    next_cost, drop = paired_difference(ours, theirs), paired_difference(baseline, theirs)
    bound = drop_bound(theirs, baseline, level)
    return Attribution(*place, word, cost, next_cost, drop, bound, before - after)
