"""``qspinn validate``: run an artifact again against the reference, bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from qspinn.artifact import Opened, input_for, open_folder
from qspinn.cli.options import SEED
from qspinn.errors import QspinnError
from qspinn.ir import Array
from qspinn.report import tables
from qspinn.validate import Verdict, check_artifact, require_equal


@click.command(name="validate")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--executor", "executors", multiple=True, help="How to run it; may be repeated.")
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False),
              help="Run on its report part; without it, on seeded random input.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), help="At most that many samples.")
@click.option("--seed", type=SEED, default=0, help="Of random input.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON on stdout.")
def validate_command(
    folder: Path,
    executors: tuple[str, ...],
    data: Path | None,
    samples: int | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Run the artifact in FOLDER against the reference interpreter.

    Names the first divergence by sample, step, register and neuron; exit code 1 if there is one.
    """
    opened = open_folder(folder)
    values = given_input(opened, data, samples, seed)
    verdicts = [run_executor(opened, values, e) for e in chosen_executors(opened, executors)]
    tables.console().print(tables.verdicts(verdicts))
    if as_json:
        click.echo(json.dumps([asdict(v) for v in verdicts], indent=2))
    for verdict in verdicts:
        require_equal(verdict)


def given_input(opened: Opened, data: Path | None, samples: int | None, seed: int) -> Array:
    """What to run an artifact on; says what of the data is left out."""
    screen = tables.console()
    return input_for(opened, data, samples, seed, lambda note: screen.print(note, markup=False))


def chosen_executors(opened: Opened, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The executors to use: those asked for, or the target's default.

    Raises:
        QspinnError: The target has no such executor.
    """
    known = opened.backend.executors
    if unknown := [e for e in asked if e not in known]:
        raise QspinnError(
            f"{opened.backend.name} has no executor {unknown[0]!r}",
            hint=f"one of {', '.join(known)}",
        )
    return asked or known[:1]


def run_executor(opened: Opened, values: Array, executor: str) -> Verdict:
    """Compare one executor with the reference, with a progress bar."""
    with tables.progress(f"{opened.name} on {executor}", len(values)) as done:
        return check_artifact(
            opened.backend,
            opened.folder,
            opened.graph,
            values,
            executor,
            progress=done,
        )
