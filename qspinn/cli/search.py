"""Options of a search, and what they mean: shared by ``explore`` and ``compile``."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qspinn.backend import Backend
from qspinn.cli.options import percentage
from qspinn.engine.printed import cache_folder
from qspinn.errors import PlanError, QspinnError
from qspinn.explore.explorer import Found, Watch, expected, explore
from qspinn.explore.grid import REWARDS
from qspinn.explore.judge import Judge, Runner
from qspinn.explore.knobs import Levels
from qspinn.explore.lessons import lessons
from qspinn.explore.problem import Score
from qspinn.explore.result import Limits
from qspinn.explore.runners import Accelerated, Dask, Local
from qspinn.explore.settings import STRATEGIES, Settings
from qspinn.explore.store import Store
from qspinn.job import Job
from qspinn.memory import Device
from qspinn.plan import Plan
from qspinn.report import tables

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--strategy", type=click.Choice(STRATEGIES), default="guided",
                 show_default=True, help="How to search."),
    click.option("--scheme", "schemes", default="ptq", show_default=True,
                 help="Quantization schemes to try, such as ptq,itq."),
    click.option("--train-data", type=click.Path(path_type=Path, dir_okay=False),
                 help="An .npz file of other samples, all of which itq trains on."),
    click.option("--trainings", type=click.IntRange(1), default=12, show_default=True,
                 help="Most candidates to train; each takes seconds to minutes, and so do the "
                      "neighbours of a winner that was trained, two for each knob, and of one "
                      "that gives way to a smaller neighbour."),
    click.option("--try", "tries", multiple=True, metavar="WHAT=A,B",
                 help="What to try of a kind or a path, such as weight=8,4,ternary or "
                      "lif1.v=16,8; nothing after = leaves it alone. May be repeated."),
    click.option("--evaluations", type=click.IntRange(0), default=300, show_default=True,
                 help="Most candidates to measure of a space too large to measure whole; compile "
                      "with 0 takes the target's plan and searches none."),
    click.option("--objective", "objectives", multiple=True,
                 help="What the front is drawn in: accuracy, memory, a region, operations, "
                      "instructions; "
                      "default accuracy and every region. May be repeated."),
    click.option("--max-operations", type=click.FloatRange(0, min_open=True),
                 help="Most synaptic operations for a sample."),
    click.option("--max-instructions", type=click.FloatRange(0, min_open=True),
                 help="Most instructions for a sample on the device's core, by a model of it."),
    click.option("--confidence", default="95%", show_default=True,
                 help="How sure to be, one-sided, that the accuracy drops by no more."),
    click.option("--z", type=click.FloatRange(0, min_open=True), default=3.5, show_default=True,
                 help="How many standard errors count as certain when candidates are dropped "
                      "early."),
    click.option("--eps", default="0.1%", show_default=True,
                 help="A gain in accuracy that is not worth more memory, there."),
    click.option("--reward", type=click.Choice(REWARDS),
                 help="With q-spinn: rank solution candidates by this reward."),
    click.option("--mu", type=float, default=0.1, show_default=True,
                 help="With the additive reward: the accuracy float32's memory is worth."),
    click.option("--workers", type=click.IntRange(1),
                 help="Threads to simulate in; default one for each core, on a cluster one for "
                      "each of its workers."),
    click.option("--dask", metavar="ADDRESS", help="A Dask scheduler whose workers simulate."),
    click.option("--accelerator", type=click.Choice(["cpu", "cuda"]), default="cpu",
                 show_default=True, help="Where to simulate; the bits are the same."),
    click.option("--resume", is_flag=True, help="Go on from what an earlier run measured."),
)  # fmt: skip


def search_options(command: F) -> F:
    """The options that say how to search."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def search(
    job: Job,
    target: Backend,
    device: Device,
    options: Mapping[str, Any],
    budget: Mapping[str, int],
    given: Plan | None,
) -> Found:
    """Explore the plans of a job as the options say, with a bar that tells how far it is.

    Raises:
        click.Abort: It was stopped before a candidate was measured.
    """
    settings = settings_of(options, budget)
    taught = None
    if options["train_data"] is not None:
        taught = lessons(options["train_data"], job, settings.seed)
    question = f"{job.graph.digest} {options['data']}"
    with (
        runner_of(options) as runner,
        outcomes(question, resume=options["resume"]) as store,
        watched(settings) as watch,
        stoppable() as stop,
    ):
        found = explore(
            job, target, device, settings, runner, given=given, store=store, watch=watch,
            stop=stop, lessons=taught,
        )  # fmt: skip
        if stop() and not found.exploration.measured:
            raise click.Abort  # not a gate that failed: nothing is known
    return found


def settings_of(options: Mapping[str, Any], budget: Mapping[str, int]) -> Settings:
    """The settings that the options ask for."""
    level = percentage(options["confidence"])
    max_drop = percentage(options["max_drop"])
    assert level is not None, "it has a default"
    return Settings(
        strategy=options["strategy"],
        schemes=tuple(word.strip() for word in options["schemes"].split(",")),
        levels=levels_of(options["tries"]),
        limits=Limits(
            max_drop, level, dict(budget), options["max_operations"], options["max_instructions"]
        ),
        objectives=options["objectives"],
        evaluations=options["evaluations"],
        trainings=options["trainings"],
        seed=options["seed"] or 0,
        reward=options["reward"] or "",
        mu=options["mu"],
        z=options["z"],
        eps=percentage(options["eps"]) or 0.0,
    )


def levels_of(tries: Sequence[str]) -> Levels:
    """Read ``weight=8,4,2`` and the like.

    Raises:
        PlanError: One has no ``=``, or names the same thing twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in tries:
        name, equals, words = text.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise PlanError(f"{text!r} says nothing to try", hint="write --try weight=8,4,2 once")
        found[name.strip()] = tuple(word.strip() for word in words.split(",") if word.strip())
    return found


@contextmanager
def runner_of(options: Mapping[str, Any]) -> Iterator[Runner]:
    """Where candidates are simulated.

    Raises:
        PlanError: Two places are named.
        ToolchainError: Dask or torch is missing.
    """
    if options["dask"] and options["accelerator"] != "cpu":
        raise PlanError("--dask and --accelerator exclude each other")
    if options["dask"]:
        cluster = Dask.at(options["dask"], threads=options["workers"] or 1)
        try:
            yield cluster
        finally:
            cluster.close()
    elif options["accelerator"] != "cpu":
        yield Accelerated.on(options["accelerator"])
    else:
        yield Local(options["workers"])


@contextmanager
def outcomes(question: str, *, resume: bool) -> Iterator[Store]:
    """Where the outcomes of a question are kept; new, unless an earlier run is resumed.

    Args:
        question: What distinguishes it from other networks' and other data's.
        resume: Whether to go on from what an earlier run kept.
    """
    name = hashlib.sha256(question.encode()).hexdigest()[:32]
    path = cache_folder() / "explore" / f"{name}.sqlite"
    if not resume:
        _forget(path)
    with Store(path) as store:
        yield store


def _forget(path: Path) -> None:
    try:
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise QspinnError(
            f"the cache cannot be emptied: {error.strerror}", at=str(path),
            hint="QSPINN_CACHE names another folder",
        ) from error  # fmt: skip


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Whether the user has asked to stop: the first Ctrl-C asks, a second one aborts."""
    asked = Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        tables.console().print("Stopping after this batch; Ctrl-C again aborts.")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def watched(settings: Settings) -> Iterator[Watch]:
    """A bar on stderr: candidates measured, the best so far, the time left."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=tables.console(),
        transient=True,
    )
    with bar:
        task = bar.add_task("candidates", total=None)
        total: list[int] = []
        best: list[Score] = []

        def watch(score: Score, judge: Judge) -> None:
            if score.complete and (not best or _better(score, best[0])):
                best[:] = [score]
            total[:] = total or [expected(judge.space, settings)]
            text = f"best {100 * best[0].accuracy:.2f} % in {best[0].memory} B" if best else ""
            told = escape(text or "candidates")
            bar.update(task, total=total[0], completed=judge.evaluations, description=told)

        yield watch


def _better(score: Score, best: Score) -> bool:
    return (score.accuracy, -score.memory) > (best.accuracy, -best.memory)
