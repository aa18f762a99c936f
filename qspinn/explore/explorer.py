"""One exploration from question to answer: search, select, and only then look at the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from qspinn.backend import Backend
from qspinn.calibrate import Calibration, activity_of
from qspinn.encode import from_options
from qspinn.errors import GateError, PlanError
from qspinn.evaluate import Comparison, chunks, compare_accuracy
from qspinn.explore import genetic, grid, guided, significance
from qspinn.explore.entries import entries_of, require_known
from qspinn.explore.judge import Judge, Runner
from qspinn.explore.knobs import space_of
from qspinn.explore.library import Library
from qspinn.explore.parts import Parts
from qspinn.explore.problem import BoolArray, Problem, Score
from qspinn.explore.race import Rule
from qspinn.explore.result import (
    Attribution,
    Exploration,
    Part,
    Report,
    Significance,
    lost,
)
from qspinn.explore.schemes import Lessons, schemes
from qspinn.explore.selection import select
from qspinn.explore.settings import Settings
from qspinn.explore.space import Candidate, Space
from qspinn.explore.stimulus import Stimulus
from qspinn.explore.store import Store
from qspinn.explore.training import smaller, trained
from qspinn.explore.twins import Untrained, scheme_of, untrained
from qspinn.ir import Graph
from qspinn.job import Job
from qspinn.memory import Device, float_bytes
from qspinn.passes.quantize import refuse_unknown
from qspinn.plan import Plan
from qspinn.stats import accuracy, bound_of, drop_bound, optimism

_HEARD = 10_000
"""At most so many samples tell which inputs are ever active."""

_SIGNIFICANT = 2000
"""So many samples place the loss of one choice within half a point."""

_ROUNDS = 3
"""So often a winner gives way to a smaller neighbour."""

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
        trained: The float network that the plan belongs to, where the winner was trained; None:
            the job's own.
    """

    exploration: Exploration
    plan: Plan | None
    comparison: Comparison | None
    refusal: GateError | None
    trained: Graph | None = None


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
    lessons: Lessons | None = None,
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
        lessons: What schemes that train may train on.

    Raises:
        PlanError: The question makes no sense for this network, target or data.
    """
    if job.dataset is None:
        raise PlanError("candidates are judged on data", hint="give --data FILE.npz")
    refuse_unknown(job.graph, given or Plan({}))
    parts = Parts(job.dataset, settings.seed)
    space = space_of(
        job.graph, backend, job.encoder, levels=settings.levels, given=given,
        schemes=settings.schemes,
    )  # fmt: skip
    if settings.strategy == "q-spinn":
        space = grid.published(space, settings.levels)
    library = Library(
        job.graph, _calibration(job, parts), job.encoder, backend, device, space,
        schemes(tuple(settings.schemes), lessons), given,
    )  # fmt: skip
    judge = Judge(
        library,
        Stimulus(job.graph, parts.open, job.encoder, parts.order("select")),
        Stimulus(job.graph, parts.open, job.encoder, parts.order("calibrate", settings.screen)),
        runner,
        store,
    )
    judge.stop = stop
    require_known(judge, settings)
    search = _search(judge, settings, watch)
    chosen, warnings, refusal = _chosen(judge, search.scores, settings)
    curves: Sequence[Significance] = ()
    causes: Sequence[Attribution] = ()
    if search.complete:
        before = chosen
        chosen, curves, causes, search = _explained(judge, chosen, search, settings)
        if chosen is not before:
            _, warnings, _ = _chosen(judge, search.scores, settings)
    comparison = None
    if chosen is not None:
        parts.close(library.variant(chosen.candidate).digest)
        winner = library.variant(chosen.candidate)
        comparison = compare_accuracy(
            job.graph, winner.graph, parts.report(), job.encoder,
            shorter=from_options(winner.plan.options),
        )  # fmt: skip
    made = library.variant(chosen.candidate) if chosen else None
    plan = made.plan if made else None
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
        evaluations=search.evaluations,
        samples=search.samples,
        complete=search.complete,
    )
    return Found(exploration, plan, comparison, refusal, made.trained if made else None)


def _calibration(job: Job, parts: Parts) -> Calibration:
    """The job's calibration, with the activity of inputs on more samples: rare ones count."""
    index = parts.order("calibrate", _HEARD)
    batches = (data for data, _ in chunks(job.graph, parts.open, job.encoder, index))
    return replace(job.calibration, activity=activity_of(job.graph, batches))


@dataclass(frozen=True, eq=False)
class _Search:
    scores: tuple[Score, ...]
    complete: bool
    evaluations: int
    samples: int


def _search(judge: Judge, settings: Settings, watch: Watch | None) -> _Search:
    """Run the strategy; a stop or a keyboard interrupt ends it early."""
    scores: dict[Candidate, Score] = {}
    complete = True
    try:
        for score in _measured(judge, settings):
            scores[score.candidate] = score
            if watch:
                watch(score, judge)
    except KeyboardInterrupt:
        complete = False
        scores = {**{score.candidate: score for score in judge.finished()}, **scores}
    ordered = sorted(scores.values(), key=lambda score: score.candidate)
    return _Search(tuple(ordered), complete, judge.evaluations, judge.used)


def expected(space: Space, settings: Settings) -> int:
    """The most candidates that a search will measure."""
    if settings.strategy == "q-spinn":
        return len(grid.grid(space))
    if (taught := scheme_of(space)) is not None:
        return expected(untrained(space, taught), settings) + settings.trainings
    if settings.strategy == "guided" and space.size <= guided.ENUMERATED:
        return space.size
    return min(space.size, settings.evaluations)


def _measured(judge: Judge, settings: Settings) -> Iterator[Score]:
    """What the strategy measures without training, then what is worth training."""
    taught = scheme_of(judge.space)
    if taught is None or settings.strategy == "q-spinn":  # its grid has the schemes, too
        yield from _strategy(judge, settings)
        return
    found: list[Score] = []
    for score in _strategy(Untrained(judge, taught), settings):
        found.append(score)
        yield score
    limits, accepts = settings.limits, None
    if limits.max_drop is not None:
        accepts = partial(_accepted, judge.baseline, limits.max_drop, limits.level)
    yield from trained(
        judge, taught, found, accepts=accepts, most=min(settings.trainings, settings.evaluations)
    )


def _cheap(judge: Judge) -> Problem:
    """What can be asked without training."""
    taught = scheme_of(judge.space)
    return judge if taught is None else Untrained(judge, taught)


def _accepted(baseline: BoolArray, most: float, level: float, score: Score) -> bool:
    return score.complete and drop_bound(score.correct, baseline, level) <= most


def _strategy(problem: Problem, settings: Settings) -> Iterator[Score]:
    if settings.strategy == "q-spinn":
        return grid.q_spinn(problem)
    if settings.strategy == "nsga2":
        return genetic.nsga2(problem, limit=settings.evaluations, seed=settings.seed)
    rule = Rule(settings.z, settings.eps)
    floor = 0.0
    if settings.limits.max_drop is not None:
        floor = max(0.0, float(problem.baseline.mean()) - settings.limits.max_drop - _BELOW)
    return guided.guided(problem, limit=settings.evaluations, rule=rule, floor=floor)


def _chosen(
    judge: Judge, scores: Sequence[Score], settings: Settings
) -> tuple[Score | None, tuple[str, ...], GateError | None]:
    """The winner, or why there is none."""
    limits = settings.limits
    if not scores and judge.refusals:
        return None, (), _refused(judge)
    if settings.reward and (rewarded := _rewarded(judge, scores, settings)):
        return rewarded, (), None
    try:
        found = select(
            scores, judge.baseline, limits, judge.regions,
            judge.operations if limits.operations is not None else None,
            judge.instructions if limits.instructions is not None else None,
        )  # fmt: skip
    except GateError as error:
        return None, (), error
    return found.score, found.warnings, None


def _refused(judge: Judge) -> GateError:
    """Why nothing was measured: what the target says to the finest candidate."""
    _, error = min(judge.refusals.items(), key=lambda item: item[0])
    count = len(judge.refusals)
    return GateError(
        f"all {count:,} candidates are refused; the finest: {error.what}", hint=error.hint
    )


def _rewarded(judge: Judge, scores: Sequence[Score], settings: Settings) -> Score | None:
    """The solution candidate of the published procedure: the highest reward within the limits.

    Without a limit on the accuracy every candidate is one.
    """
    limits, accuracy = settings.limits, float(judge.baseline.mean())
    target = 0.0 if limits.max_drop is None else accuracy - limits.max_drop
    reward = grid.Reward(settings.reward, float_bytes(judge.library.graph), accuracy, settings.mu)
    fits = [
        score for score in grid.solutions(scores, target) if judge.within(score.candidate, limits)
    ]
    return grid.rewarded(fits, reward)


_Explained = tuple[Score | None, Sequence[Significance], Sequence[Attribution], _Search]


def _explained(
    judge: Judge, chosen: Score | None, search: _Search, settings: Settings
) -> _Explained:
    """The winner, the significance of every parameter, and that of the winner's choices."""
    base = guided.finest_accepted(_cheap(judge))
    if base is None:
        return chosen, (), (), search
    try:
        count = min(judge.samples, _SIGNIFICANT)
        found = significance.significance(_cheap(judge), base=base, count=count, distances=True)
        curves = [curve for curve in found if curve.kind != "scheme"]
        chosen, search = _descended(judge, chosen, search, settings)
        causes = _causes(judge, chosen, settings) if chosen else ()
    except KeyboardInterrupt:
        return chosen, (), (), replace(search, complete=False)
    return chosen, curves, causes, search


def _descended(
    judge: Judge, chosen: Score | None, search: _Search, settings: Settings
) -> tuple[Score | None, _Search]:
    """The winner, or its smaller neighbour where one will do, and what has been measured."""
    for _ in range(_ROUNDS if chosen and settings.strategy == "guided" else 0):
        assert chosen is not None, "there is a round"
        judge.correct(smaller(judge, chosen.candidate), judge.samples)
        search = _with_finished(judge, search)
        better, _, _ = _chosen(judge, search.scores, settings)
        if better is None or better.candidate == chosen.candidate:
            break
        chosen = better
    return chosen, search


def _with_finished(judge: Judge, search: _Search) -> _Search:
    """The search with all that has been measured since."""
    scores = {score.candidate: score for score in (*judge.finished(), *search.scores)}
    ordered = tuple(sorted(scores.values(), key=lambda score: score.candidate))
    return _Search(ordered, search.complete, judge.evaluations, judge.used)


def _causes(judge: Judge, chosen: Score, settings: Settings) -> list[Attribution]:
    """The attribution of the winner's choices; what was refused says why, in the target's words."""
    level, space = settings.limits.level, judge.space
    found = []
    for row in significance.attribute(judge, chosen.candidate, level=level):
        if row.refused:
            k = space.index(row.knob)
            moved = space.moved(chosen.candidate, k, space.knobs[k].options.index(row.coarser))
            error = judge.refusals.get(moved)
            row = replace(row, refused=error.what if error else row.refused)
        found.append(row)
    return found


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
