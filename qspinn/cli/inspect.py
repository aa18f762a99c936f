"""``qspinn inspect``: what is in a model file, what was assumed, what targets say to it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from qspinn import job as jobs
from qspinn.backend import Backend, backends
from qspinn.cli.options import (
    data_options,
    encoding,
    model_options,
    reading,
    scale_options,
    scaling,
)
from qspinn.errors import QspinnError
from qspinn.frontends import repair
from qspinn.grouping import grouped
from qspinn.memory import amount
from qspinn.output import check_file, write_file
from qspinn.pipeline import lower
from qspinn.report import tables
from qspinn.text import text


@click.command(name="inspect")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--fix",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.nir",
    help="Write MODEL anew: flat, current, with nothing left open; say what changed.",
)
@click.option("--force", is_flag=True, help="Let --fix write over a file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
@scale_options
@model_options
@data_options
def inspect_command(**options: Any) -> None:
    """Say what MODEL holds, what its import assumed, and whether each target can take it."""
    if options["fix"] is not None:
        _fix(options)
        return
    with tables.progress("calibration", jobs.CALIBRATION_SAMPLES) as done:
        job = jobs.prepare(
            options["model"],
            options["data"],
            encode=encoding(options),
            options=reading(options),
            scales=scaling(options),
            progress=done,
        )
    verdicts = {name: _verdict(job, backend) for name, backend in backends().items()}
    if options["as_json"]:
        facts = {
            "name": job.graph.name,
            "assumptions": [asdict(a) for a in job.imported.assumptions],
            "notes": list(job.notes),
            "steps": asdict(job.stepwise) if job.stepwise else None,
            "graph": text(job.graph),
            "targets": verdicts,
        }
        click.echo(json.dumps(facts, indent=2, default=str))
        return
    click.echo(text(job.graph), nl=False)
    screen = tables.console()
    screen.print(tables.assumptions(job.imported.assumptions, job.notes))
    if job.stepwise is not None:
        screen.print(tables.stepwise(job.stepwise))
    for name, verdict in verdicts.items():
        screen.print(f"{name}: {verdict}", markup=False)


def _fix(options: dict[str, Any]) -> None:
    """Write a clean file, and nothing else."""
    check_file(options["fix"], replace=options["force"])
    asked = reading(options)
    for name in ("decide", "only"):  # of what is read, not of what a file says
        asked.pop(name)
    made = repair(options["model"], **asked)
    write_file(options["fix"], made.content)
    if options["as_json"]:
        assumptions = [asdict(a) for a in made.imported.assumptions]
        facts = {"wrote": str(options["fix"]), "changes": made.changes, "assumptions": assumptions}
        click.echo(json.dumps(facts, indent=2))
        return
    screen = tables.console()
    screen.print(tables.assumptions(made.imported.assumptions))
    if made.changes:
        screen.print(tables.changes(made.changes))
    screen.print(f"Wrote {options['fix']}", markup=False)


def _verdict(job: jobs.Job, backend: Backend) -> str:
    try:
        device = backend.devices[backend.default_device]
        suited = grouped(job, backend, device)
        lowered = lower(job.graph, jobs.plan_for(suited, backend), backend)
        used = backend.footprint(lowered.final, device, lowered.plan).regions()
    except QspinnError as error:
        return f"refused: {error}"
    sizes = ", ".join(f"{region} {amount(size, region)}" for region, size in used.items())
    return f"can compile it: {sizes}"
