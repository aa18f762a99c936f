"""One exploration from question to answer: search, select, and only then look at the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from qspinn.backend import Backend
from qspinn.calibrate import Calibration, activity_of
from qspinn.encode import from_options
from qspinn.errors import GateError, PlanError
from qspinn.evaluate import Comparison, chunks, compare_accuracy
from qspinn.explore import genetic, grid, guided, significance
from qspinn.explore.entries import entries_of, objectives
from qspinn.explore.judge import Judge, Runner
from qspinn.explore.knobs import space_of
from qspinn.explore.library import Library
from qspinn.explore.parts import Parts
from qspinn.explore.problem import Score
from qspinn.explore.race import Rule
from qspinn.explore.result import Attribution, Exploration, Part, Report, Significance, lost
from qspinn.explore.schemes import schemes
from qspinn.explore.selection import select
from qspinn.explore.settings import Settings
from qspinn.explore.space import Candidate
from qspinn.explore.stimulus import Stimulus
from qspinn.explore.store import Store
from qspinn.job import Job
from qspinn.memory import Device, float_bytes
from qspinn.plan import Plan
from qspinn.stats import accuracy, bound_of, optimism

_HEARD = 10_000
"""At most so many samples tell which inputs are ever active."""

_SIGNIFICANT = 2000
"""So many samples place the loss of one choice within half a point."""

_BELOW = 0.01
"""So far below the accuracy asked for the front is still of interest: who asks may give way."""

Watch = Callable[[Score, Judge], None]
"""Told of every candidate that was measured."""


@dataclass(frozen=True, eq=False)
class Found:
    """What an exploration ends with.

    Attributes:
        exploration: Everything measured.
        plan: The winner's, complete but for derived entries; None: nothing fits.
        comparison: The winner on the report part; None without labels or winner.
        refusal: Why nothing fits.
    """

    exploration: Exploration
    plan: Plan | None
    comparison: Comparison | None
    refusal: GateError | None


def explore(
    job: Job,
    backend: Backend,
    device: Device,
    settings: Settings,
    runner: Runner,
    *,
    given: Plan | None = None,
    store: Store | None = None,
    watch: Watch | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Found:
    """Search the plans of a network for a device, and select one.

    The same job, settings and seed give the same value, whoever runs it and however often it was
    interrupted. Once it is stopped it selects among what was measured until then.

    Args:
        job: The network and its data, which need a calibration and a selection part.
        backend: The target.
        device: Whose memory counts.
        settings: How to search, and the limits.
        runner: Where candidates are simulated.
        given: Paths that stay as they are.
        store: Keeps outcomes beyond this process.
        watch: Told of progress.
        stop: Asked between batches whether to end the search now.

    Raises:
        PlanError: The question makes no sense for this network, target or data.
    """
    if job.dataset is None:
        raise PlanError("candidates are judged on data", hint="give --data FILE.npz")
    parts = Parts(job.dataset, settings.seed)
    space = space_of(
        job.graph, backend, job.encoder, levels=settings.levels, given=given,
        schemes=settings.schemes,
    )  # fmt: skip
    library = Library(
        job.graph, _calibration(job, parts), job.encoder, backend, device, space,
        schemes(tuple(settings.schemes)), given,
    )  # fmt: skip
    judge = Judge(
        library,
        Stimulus(job.graph, parts.open, job.encoder, parts.order("select")),
        Stimulus(job.graph, parts.open, job.encoder, parts.order("calibrate", settings.screen)),
        runner,
        store,
    )
    judge.stop = stop
    objectives(judge, settings.objectives)
    search = _search(judge, settings, watch)
    chosen, warnings, refusal = _chosen(judge, search.scores, settings)
    curves: Sequence[Significance] = ()
    causes: Sequence[Attribution] = ()
    if search.complete:
        curves, causes, search = _explained(judge, chosen, search, settings)
    comparison = None
    if chosen is not None:
        parts.close(library.variant(chosen.candidate).digest)
        winner = library.variant(chosen.candidate)
        comparison = compare_accuracy(
            job.graph, winner.graph, parts.report(), job.encoder,
            shorter=from_options(winner.plan.options),
        )  # fmt: skip
    plan = library.variant(chosen.candidate).plan if chosen else None
    exploration = Exploration(
        network=job.graph.name,
        target=backend.name,
        device=device.name,
        strategy=settings.strategy,
        seed=settings.seed,
        parts={name: Part.of(job.dataset.part(name)) for name in ("calibrate", "select", "report")},
        knobs=space.knobs,
        baseline=accuracy(judge.baseline),
        float_bytes=float_bytes(job.graph),
        float_bytes_active=float_bytes(job.graph, plan.active) if plan and plan.active else None,
        limits=settings.limits,
        entries=entries_of(judge, search.scores, chosen, settings),
        significance=tuple(curves),
        attribution=tuple(causes),
        selected=library.variant(chosen.candidate).digest if chosen else "",
        report=_report(comparison, settings),
        optimism=_optimism(search.scores, settings),
        warnings=(*warnings, *_short(judge)),
        evaluations=judge.evaluations,
        samples=judge.used,
        complete=search.complete,
    )
    return Found(exploration, plan, comparison, refusal)


def _calibration(job: Job, parts: Parts) -> Calibration:
    """The job's calibration, with the activity of inputs on more samples: rare ones count."""
    index = parts.order("calibrate", _HEARD)
    batches = (data for data, _ in chunks(job.graph, parts.open, job.encoder, index))
    heard = activity_of(job.graph, batches)
    return replace(job.calibration, activity={job.graph.input.path: heard})


@dataclass(frozen=True, eq=False)
class _Search:
    scores: tuple[Score, ...]
    complete: bool


def _search(judge: Judge, settings: Settings, watch: Watch | None) -> _Search:
    """Run the strategy; a stop or a keyboard interrupt ends it early."""
    scores: dict[Candidate, Score] = {}
    complete = True
    try:
        for score in _strategy(judge, settings):
            scores[score.candidate] = score
            if watch:
                watch(score, judge)
    except KeyboardInterrupt:
        complete = False
        scores = {**{score.candidate: score for score in judge.finished()}, **scores}
    ordered = sorted(scores.values(), key=lambda score: score.candidate)
    return _Search(tuple(ordered), complete)


def _strategy(judge: Judge, settings: Settings) -> Iterator[Score]:
    if settings.strategy == "q-spinn":
        return grid.q_spinn(judge)
    if settings.strategy == "nsga2":
        return genetic.nsga2(judge, limit=settings.evaluations, seed=settings.seed)
    rule = Rule(settings.z, settings.eps)
    floor = 0.0
    if settings.limits.max_drop is not None:
        floor = max(0.0, float(judge.baseline.mean()) - settings.limits.max_drop - _BELOW)
    return guided.guided(judge, limit=settings.evaluations, rule=rule, floor=floor)


def _chosen(
    judge: Judge, scores: Sequence[Score], settings: Settings
) -> tuple[Score | None, tuple[str, ...], GateError | None]:
    """The winner, or why there is none."""
    limits = settings.limits
    try:
        if settings.strategy == "q-spinn" and settings.reward:
            return _rewarded(judge, scores, settings), (), None
        found = select(
            scores, judge.baseline, limits, judge.regions,
            judge.operations if limits.operations is not None else None,
        )  # fmt: skip
    except GateError as error:
        return None, (), error
    return found.score, found.warnings, None


def _rewarded(judge: Judge, scores: Sequence[Score], settings: Settings) -> Score:
    """The solution candidate of the published procedure: the highest reward within the limits."""
    target = float(judge.baseline.mean()) - (settings.limits.max_drop or 0.0)
    reward = grid.Reward(
        settings.reward, float_bytes(judge.library.graph), float(judge.baseline.mean()), settings.mu
    )
    fits = [score for score in scores if judge.fits(score.candidate, settings.limits.budget)]
    found = grid.rewarded(grid.solutions(fits, target), reward)
    if found is None:
        raise GateError(
            f"no candidate of the grid reaches {100 * target:.2f} % within the budget",
            hint="allow a larger drop, or take a device with more room",
        )
    return found


def _explained(
    judge: Judge, chosen: Score | None, search: _Search, settings: Settings
) -> tuple[Sequence[Significance], Sequence[Attribution], _Search]:
    """The significance of every parameter, and of the winner's choices."""
    try:
        count = min(judge.samples, _SIGNIFICANT)
        curves = significance.significance(judge, count=count, distances=True)
        level = settings.limits.level
        causes = significance.attribute(judge, chosen.candidate, level=level) if chosen else ()
    except KeyboardInterrupt:
        return (), (), _Search(search.scores, complete=False)
    return curves, causes, search


def _report(comparison: Comparison | None, settings: Settings) -> Report | None:
    if comparison is None:
        return None
    difference = comparison.difference
    bound = bound_of(difference, settings.limits.level)
    return Report(comparison.float, comparison.integer, lost(difference), bound)


def _optimism(scores: Sequence[Score], settings: Settings) -> float | None:
    """By how much the best of the measured candidates is expected to flatter itself."""
    complete = [score.correct for score in scores if score.complete]
    return optimism(complete, seed=settings.seed) if len(complete) > 1 else None


def _short(judge: Judge) -> tuple[str, ...]:
    """What the data leave open, whatever was found."""
    if not judge.labelled:
        return ("no labels: accuracy here is agreement with the float network",)
    return ()


def manifest(job: Job, found: Found) -> Mapping[str, object]:
    """What the folder's manifest says: no date, no path, the same for the same question."""
    exploration = found.exploration
    return {
        "kind": "exploration",
        "name": exploration.network,
        "target": exploration.target,
        "device": exploration.device,
        "graph": job.graph.digest,
        "selected": exploration.selected,
        "complete": exploration.complete,
    }
