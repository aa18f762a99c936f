"""Scores as rows of the result: what was measured of each candidate, and who stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from qspinn.activity import no_model
from qspinn.errors import PlanError
from qspinn.explore.front import ACCURACY, MEMORY, Objective, front_of
from qspinn.explore.judge import Judge
from qspinn.explore.problem import Score
from qspinn.explore.result import Entry, Limits, Memory
from qspinn.explore.settings import Settings
from qspinn.memory import Footprint, of_each_core
from qspinn.stats import accuracy, drop_bound, paired_difference


def entries_of(
    judge: Judge, scores: Sequence[Score], chosen: Score | None, settings: Settings
) -> tuple[Entry, ...]:
    """A row for each different program, the smallest first, then those that were refused."""
    first: dict[str, Score] = {}
    for score in sorted(scores, key=lambda s: (s is not chosen, not s.complete, s.candidate)):
        first.setdefault(judge.library.variant(score.candidate).digest, score)
    wanted = objectives(judge, settings.objectives)
    best = {score.candidate for score in front_of(first.values(), wanted)}
    rows = [
        _entry(judge, digest, score, score.candidate in best, settings.limits)
        for digest, score in sorted(first.items(), key=lambda item: (item[1].memory, item[0]))
    ]
    if judge.counts_instructions:
        asked = _asked(settings)
        told = {d for d, s in first.items() if s.complete and (asked or s is chosen)}
        rows = [_counted(judge, row, first) if row.digest in told or row.on_front else row
                for row in rows]  # fmt: skip
    return (*rows, *_refused(judge, first))


def _counted(judge: Judge, row: Entry, scores: Mapping[str, Score]) -> Entry:
    return replace(row, instructions=judge.instructions(scores[row.digest].candidate))


def require_known(judge: Judge, settings: Settings) -> None:
    """Refuse what the target cannot tell of candidates.

    Raises:
        PlanError: An objective is none, or instructions are asked for where nobody counts them.
    """
    objectives(judge, settings.objectives)
    if _asked(settings) and not judge.counts_instructions:
        raise no_model(judge.library.device)


def _asked(settings: Settings) -> bool:
    limited = settings.limits.instructions is not None
    return limited or "instructions" in settings.objectives


def objectives(judge: Judge, names: Sequence[str]) -> tuple[Objective, ...]:
    """What candidates of the front are compared in; without names, accuracy and every region.

    What the fullest core holds is none of these: a network on more cores has emptier ones.

    Raises:
        PlanError: The target has nothing of that name.
    """
    regions = sorted(judge.library.device.regions)
    known = {
        "accuracy": ACCURACY,
        "memory": MEMORY,
        "operations": Objective("operations", partial(_operations, judge)),
        "instructions": Objective("instructions", partial(_instructions, judge)),
        **{name: Objective(name, partial(_region, judge, name)) for name in regions},
    }
    if unknown := [name for name in names if name not in known]:
        raise PlanError(f"no objective {unknown[0]!r}", hint=f"one of {', '.join(known)}")
    whole = (name for name in regions if not of_each_core(name))
    return tuple(known[name] for name in (names or ("accuracy", *whole)))


def _region(judge: Judge, name: str, score: Score) -> float:
    return float(judge.regions(score.candidate).get(name, 0))


def _operations(judge: Judge, score: Score) -> float:
    return judge.operations(score.candidate)


def _instructions(judge: Judge, score: Score) -> float:
    return judge.instructions(score.candidate)


def _entry(judge: Judge, digest: str, score: Score, on_front: bool, limits: Limits) -> Entry:
    variant = judge.library.variant(score.candidate)
    footprint = judge.footprint(score.candidate)
    assert footprint is not None, "it was measured"
    baseline = judge.baseline[: len(score.correct)]
    words = judge.space.words(score.candidate)
    return Entry(
        digest,
        words,
        words.get("scheme", "ptq"),
        variant.steps or judge.steps,
        accuracy(score.correct),
        paired_difference(baseline, score.correct),
        drop_bound(score.correct, baseline, limits.level),
        score.complete,
        memory_of(footprint),
        footprint.regions(),
        judge.operations(score.candidate) if score.complete else None,
        judge.spikes(score.candidate) if score.complete else None,
        on_front,
    )


def memory_of(footprint: Footprint) -> Memory:
    """The network's own bytes by kind."""
    return Memory(*(footprint.of(kind) for kind in ("weights", "constants", "state")))


def _refused(judge: Judge, measured: dict[str, Score]) -> list[Entry]:
    """The candidates that the target refused, each with its reason."""
    rows: dict[str, Entry] = {}
    for candidate, error in sorted(judge.refusals.items()):
        digest = judge.digest(candidate)
        words = judge.space.words(candidate)
        if digest not in measured and digest not in rows:
            steps = int(words.get("steps", judge.steps))
            scheme = words.get("scheme", "ptq")
            rows[digest] = Entry(digest, words, scheme, steps, refused=error.what)
    return list(rows.values())
