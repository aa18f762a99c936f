"""Selecting one candidate: constraints on accuracy, memory and work, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from qspinn.errors import GateError
from qspinn.explore.problem import BoolArray, Score
from qspinn.explore.result import Limits
from qspinn.explore.space import Candidate
from qspinn.memory import amount
from qspinn.stats import Estimate, discordant, drop_bound, paired_difference, samples_needed

OPERATIONS, INSTRUCTIONS = "operations", "instructions"

Regions = Callable[[Candidate], Mapping[str, int]]
"""What a candidate needs, by region."""

Spent = Callable[[Candidate], float]
"""What a candidate does for a sample."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A score and how it stands to the limits.

    Attributes:
        score: The candidate's.
        drop: What it loses against the float network, with a two-sided interval.
        bound: The most it loses, one-sided.
        accurate: Whether that is little enough.
        used: What it takes of all that is limited: of regions, ``operations``, ``instructions``.
        excess: Of those that it exceeds: by how much.
    """

    score: Score
    drop: Estimate
    bound: float
    accurate: bool
    used: Mapping[str, float]
    excess: Mapping[str, float]

    @property
    def fits(self) -> bool:
        """Whether the device holds it."""
        return not self.excess


@dataclass(frozen=True, eq=False)
class Selection:
    """The candidate chosen, and what a person should know about the choice."""

    entry: Entry
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        """The score of the candidate chosen."""
        return self.entry.score


def select(
    scores: Iterable[Score],
    baseline: BoolArray,
    limits: Limits,
    regions: Regions,
    operations: Spent | None = None,
    instructions: Spent | None = None,
) -> Selection:
    """The candidate that keeps to the limits with the least memory.

    Without a limit on the accuracy: the most accurate that fits, or, of all those that fit whose
    paired 95 % interval to it contains no difference, the one with the least memory.

    Args:
        scores: Measured candidates; incomplete ones are out of the running.
        baseline: Which samples the float network gets right.
        limits: The constraints.
        regions: What a candidate needs of each region; of equals the winner needs the least.
        operations: What it does for a sample; needed with a limit on it.
        instructions: The same in instructions of the device's core.

    Raises:
        GateError: No candidate keeps to all limits; it says how close one can come.
    """
    complete = sorted((s for s in scores if s.complete), key=partial(_smallest, regions))
    if not complete:
        raise GateError("no candidate was measured", hint="let the search run for longer")
    spent = {OPERATIONS: operations, INSTRUCTIONS: instructions}
    entries = [_entry(s, baseline, limits, regions, spent) for s in complete]
    good = [entry for entry in entries if entry.accurate and entry.fits]
    if not good:
        raise _refusal(entries, baseline, limits)
    if limits.max_drop is not None:
        return Selection(good[0], _undecided(good[0], entries, baseline, limits))
    best = min(good, key=_most_accurate)
    equal = (e for e in good if _difference(best.score, e.score).low <= 0)
    chosen = next(equal)
    return Selection(chosen, _tied(chosen, best))


def _smallest(regions: Regions, score: Score) -> tuple[int, float, list[int], Candidate]:
    used = regions(score.candidate)
    return score.memory, -score.accuracy, [used[name] for name in sorted(used)], score.candidate


def _most_accurate(entry: Entry) -> tuple[float, int, Candidate]:
    return -entry.score.accuracy, entry.score.memory, entry.score.candidate


def _difference(a: Score, b: Score) -> Estimate:
    return paired_difference(a.correct, b.correct)


def _entry(
    score: Score,
    baseline: BoolArray,
    limits: Limits,
    regions: Regions,
    spent: Mapping[str, Spent | None],
) -> Entry:
    bound = drop_bound(score.correct, baseline, limits.level)
    accurate = limits.max_drop is None or bound <= limits.max_drop
    most: dict[str, float] = {**limits.budget}
    taken: dict[str, float] = {**regions(score.candidate)} if limits.budget else {}
    for name, limit in _work(limits).items():
        count = spent[name]
        assert count is not None, f"a limit on {name} needs their number"
        most[name], taken[name] = limit, count(score.candidate)
    used = {name: taken.get(name, 0) for name in most}
    excess = {name: used[name] - most[name] for name in most if used[name] > most[name]}
    drop = paired_difference(baseline, score.correct)
    return Entry(score, drop, bound, accurate, used, excess)


def _work(limits: Limits) -> dict[str, float]:
    """The limits on what a sample takes."""
    found = {OPERATIONS: limits.operations, INSTRUCTIONS: limits.instructions}
    return {name: limit for name, limit in found.items() if limit is not None}


# --- what the data cannot decide ---


def _undecided(
    chosen: Entry, entries: Sequence[Entry], baseline: BoolArray, limits: Limits
) -> tuple[str, ...]:
    """Warnings: a bound wider than what is asked, a smaller candidate that might do."""
    assert limits.max_drop is not None
    found = []
    n = len(baseline)
    reach = chosen.bound - chosen.drop.value
    if reach > limits.max_drop:
        found.append(
            f"{n} samples place a drop within {_points(reach)} one-sided, more than the "
            f"{_points(limits.max_drop)} asked for"
        )
    smaller = [
        e
        for e in entries
        if e.fits and e.score.memory < chosen.score.memory and e.drop.value < limits.max_drop
    ]
    if smaller:
        likely = smaller[0]
        found.append(
            f"a candidate of {likely.score.memory} B drops {_points(likely.drop.value)} and may do "
            f"(at most {_points(likely.bound)}): {_needed(likely, baseline, limits)} samples "
            f"would tell, there are {n}"
        )
    return tuple(found)


def _tied(chosen: Entry, best: Entry) -> tuple[str, ...]:
    """A warning that a more accurate candidate was passed over as no better for sure."""
    lead = _difference(best.score, chosen.score)
    if lead.value <= 0:
        return ()
    share = sum(discordant(best.score.correct, chosen.score.correct)) / lead.count
    return (
        f"a candidate of {best.score.memory} B was right {_points(lead.value)} more often, which "
        f"{lead.count} samples cannot tell from chance; {samples_needed(lead.value, share)} would",
    )


def _needed(entry: Entry, baseline: BoolArray, limits: Limits) -> int:
    """How many samples would show that a candidate keeps to the limit, if it drops as it seems."""
    assert limits.max_drop is not None
    share = sum(discordant(entry.score.correct, baseline)) / len(baseline)
    # One-sided at `level` is two-sided at 2 level - 1.
    return samples_needed(
        limits.max_drop - entry.drop.value,
        max(share, 1 / len(baseline)),
        level=2 * limits.level - 1,
    )


def _points(share: float) -> str:
    return f"{100 * share:.2f} pt"


# --- refusals ---


def _refusal(entries: Sequence[Entry], baseline: BoolArray, limits: Limits) -> GateError:
    """Why nothing will do: the nearest misses on either side, and the obstacle."""
    lines = ["no candidate keeps to all limits"]
    accurate = [e for e in entries if e.accurate]
    fitting = [e for e in entries if e.fits]
    if limits.max_drop is not None and accurate:
        smallest = accurate[0]
        lines.append(f"smallest within the accuracy: {_told(smallest)}, {_needs(smallest, limits)}")
    elif limits.max_drop is not None:
        best = min(entries, key=_most_accurate)
        lines.append(f"none is within the accuracy; the most accurate: {_told(best)}")
        lines += _too_few(entries, baseline, limits)
    if entries[0].used:
        if fitting:
            best = min(fitting, key=_most_accurate)
            lines.append(f"most accurate within the budget: {_told(best)}")
        else:
            closest = min(entries, key=lambda e: (len(e.excess), sum(e.excess.values())))
            lines.append(f"none fits; the closest: {_told(closest)}, {_needs(closest, limits)}")
        if obstacles := _obstacles(accurate or entries):
            lines.append(f"the obstacle: {', '.join(obstacles)}")
    return GateError("\n  ".join(lines), hint=_hint(limits, bool(accurate)))


def _needs(entry: Entry, limits: Limits) -> str:
    """What it needs of the regions that are too small."""
    parts, work = [], _work(limits)
    for name in entry.excess:
        if name in work:
            parts.append(f"{entry.used[name]:.0f} {name} of {work[name]:.0f}")
        else:
            needed = amount(int(entry.used[name]), name)
            parts.append(f"{name} {needed} of {amount(limits.budget[name], name)}")
    return f"needs {', '.join(parts)}" if parts else "fits"


def _told(entry: Entry) -> str:
    return (
        f"{entry.score.memory} B, drops {_points(entry.drop.value)} "
        f"(at most {_points(entry.bound)})"
    )


def _too_few(entries: Sequence[Entry], baseline: BoolArray, limits: Limits) -> list[str]:
    """A line for the case that only the number of samples stands in the way."""
    assert limits.max_drop is not None
    likely = [e for e in entries if e.drop.value < limits.max_drop]
    if not likely:
        return []
    first = min(likely, key=_most_accurate)
    return [
        f"the data cannot decide: {_needed(first, baseline, limits)} samples would show a drop "
        f"within {_points(limits.max_drop)}, there are {len(baseline)}"
    ]


def _obstacles(entries: Sequence[Entry]) -> list[str]:
    """The regions that no entry fits; where each fits someone, those that the closest exceeds."""
    always = set(entries[0].excess).intersection(*(e.excess for e in entries[1:]))
    if not always:
        closest = min(entries, key=lambda e: (len(e.excess), sum(e.excess.values())))
        always = set(closest.excess)
    return sorted(always)


def _hint(limits: Limits, accurate: bool) -> str:
    if limits.max_drop is not None and not accurate:
        return "allow a larger drop, give more samples to select with, or explore finer options"
    return "allow a larger drop, or take a device with more room"
