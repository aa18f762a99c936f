"""``qspinn compile``: a model file in, an output folder out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from qspinn import job as jobs
from qspinn import plan as plans
from qspinn.backend import Backend, device_of
from qspinn.backend import backend as find_backend
from qspinn.cli.options import (
    MODEL_OPTIONS,
    budget_option,
    chosen,
    data_options,
    encoding,
    model_options,
    percentage,
    scale_options,
    scaling,
)
from qspinn.errors import GateError, PlanError
from qspinn.evaluate import Comparison, compare_accuracy
from qspinn.gate import drop_check
from qspinn.memory import excesses, fit_error, require_regions
from qspinn.output import check_folder
from qspinn.pipeline import Compiled, build, lower
from qspinn.report import tables
from qspinn.verify import STARTS


@click.command(name="compile")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--target", required=True, help="mcu or loihi; see qspinn targets.")
@click.option("--device", help="A device of the target.")
@click.option("-o", "--output", "output", required=True, type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Formats by path; what it leaves out is the target's default.")  # fmt: skip
@click.option("--max-drop", help="Fail if the accuracy drops by more, such as 1%.")
@click.option("--budget", help="Fail above, such as ram=8KiB,flash=64KiB; default the device's.")
@click.option("--start", type=click.Choice(STARTS), default="skewed",
              help="Whether layers start with their first input, or all at once.")  # fmt: skip
@click.option("--name", help="The network's name in the artifact; default the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--strict", is_flag=True, help="Refuse what is assumed and not proved.")
@scale_options
@model_options
@data_options
def compile_command(**options: Any) -> None:
    """Compile MODEL for a target and write the artifact to a folder."""
    screen = tables.console()
    backend = find_backend(options["target"])
    device = device_of(backend, options["device"])
    limit = percentage(options["max_drop"])
    budget = budget_option(options["budget"], dict(device.regions))
    given = _plan(options["plan_file"])
    model_choices = {**chosen(options, MODEL_OPTIONS), "name": options["name"]}
    check_folder(options["output"])
    with tables.progress("calibration", jobs.CALIBRATION_SAMPLES) as done:
        job = jobs.prepare(
            options["model"],
            options["data"],
            encode=encoding(options, given),
            options=model_choices,
            scales=scaling(options),
            progress=done,
        )
    screen.print(tables.assumptions(job.imported.assumptions, job.notes))
    plan = jobs.plan_for(job, backend, given)
    if options["strict"]:
        _refuse_assumptions(plan)
    lowered = lower(job.graph, plan, backend, start=options["start"])
    compiled = build(lowered, backend, device)
    screen.print(tables.plan(lowered.plan))
    screen.print(tables.footprint(compiled.footprint, compiled.baseline, device))
    _fits(compiled, backend, budget, "the budget" if options["budget"] else device.name)
    comparison = _accuracy(job, compiled)
    if comparison is not None:
        screen.print(tables.accuracy(comparison))
    _gate(comparison, limit)
    jobs.save(job, compiled, options["output"], comparison, budget)
    screen.print(f"Wrote {options['output']}", markup=False)
    if options["as_json"]:
        click.echo(json.dumps(_result(compiled, comparison, options["output"]), indent=2))


def _plan(path: Path | None) -> plans.Plan | None:
    if path is None:
        return None
    try:
        return plans.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot be read: {error}", at=str(path)) from error


def _refuse_assumptions(plan: plans.Plan) -> None:
    if plan.assumed:
        names = ", ".join(sorted(plan.assumed))
        raise PlanError(
            f"the range of the summed input of {names} is observed, not proved",
            hint="give it a smaller scale in the plan, or compile without --strict",
        )


def _fits(compiled: Compiled, target: Backend, budget: dict[str, int], place: str) -> None:
    require_regions(compiled.footprint, budget)
    if found := excesses(compiled.footprint, budget):
        roomy = [
            name
            for name, device in target.devices.items()
            if not excesses(compiled.footprint, device.regions)
        ]
        raise fit_error(compiled.artifact.name, place, found, roomy)


def _accuracy(job: jobs.Job, compiled: Compiled) -> Comparison | None:
    if job.dataset is None:
        return None
    total = 2 * len(job.dataset.part("report"))
    with tables.progress("accuracy", total) as done:
        return compare_accuracy(
            job.graph,
            compiled.lowered.final,
            job.dataset,
            job.encoder,
            progress=done,
        )


def _gate(comparison: Comparison | None, limit: float | None) -> None:
    if limit is None:
        return
    if comparison is None:
        raise PlanError("--max-drop needs labelled data", hint="give --data FILE.npz with y")
    check = drop_check(comparison.difference, limit)
    if not check.passed:
        raise GateError(
            f"the accuracy drops by {check.measured}, the limit is {check.limit}",
            at=comparison.part,
            hint="give weights or states more bits with --plan, or allow more with --max-drop",
        )


def _result(compiled: Compiled, comparison: Comparison | None, folder: Path) -> dict[str, Any]:
    return {
        "output": str(folder),
        "target": compiled.artifact.target,
        "device": compiled.device.name,
        "graph": compiled.lowered.final.digest,
        "regions": compiled.footprint.regions(),
        "network_bytes": compiled.footprint.network,
        "float32_bytes": compiled.baseline,
        "accuracy": asdict(comparison) if comparison else None,
    }
