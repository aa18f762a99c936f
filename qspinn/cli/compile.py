"""``qspinn compile``: a model file in, an output folder out."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from qspinn import job as jobs
from qspinn import packages
from qspinn import plan as plans
from qspinn.activity import no_model
from qspinn.backend import Backend
from qspinn.backend import backend as find_backend
from qspinn.cli.devices import device_file_option, device_option, known_devices
from qspinn.cli.options import (
    budget_option,
    data_options,
    model_options,
    percentage,
    plan_option,
    read_job,
    scale_options,
)
from qspinn.cli.search import search, search_options
from qspinn.encode import from_options
from qspinn.errors import GateError, PlanError, QspinnError
from qspinn.evaluate import Comparison, compare_accuracy
from qspinn.explore import files
from qspinn.explore.explorer import Found
from qspinn.gate import drop_check
from qspinn.memory import Device, excesses, fit_error
from qspinn.output import check_folder
from qspinn.pipeline import Compiled, build, lower
from qspinn.report import exploration, tables
from qspinn.verify import STARTS


@click.command(name="compile")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--target", required=True, help="mcu or loihi; see qspinn targets.")
@click.option("--device", help="A device of the target.")
@device_file_option
@click.option("-o", "--output", "output", required=True, type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Formats by path; what it leaves out is the target's default.")  # fmt: skip
@click.option("--max-drop", help="Most accuracy to lose against the float network, such as 1%.")
@click.option("--budget", help="Such as ram=8KiB,flash=64KiB; the device's limits where unnamed.")
@click.option("--start", type=click.Choice(STARTS), default="skewed",
              help="Whether layers start with their first input, or all at once.")  # fmt: skip
@click.option(
    "--name", help="Its name in the artifact; default the file's, or what a .qspinn file says."
)
@click.option("--package", help="Build systems to pack for, such as cmake,arduino; or all.")
@search_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@click.option("--strict", is_flag=True, help="Refuse what is assumed and not proved.")
@scale_options
@model_options
@data_options
def compile_command(**options: Any) -> None:
    """Compile MODEL for a target and write the artifact to a folder.

    With data and limits, and no plan, the plan is searched: the smallest network that keeps to
    --max-drop, or the most accurate one within --budget.
    """
    screen = tables.console()
    backend = find_backend(options["target"])
    device = device_option(backend, options)
    limit = percentage(options["max_drop"])
    budget = budget_option(options["budget"], dict(device.regions))
    device = device.within(budget)
    kinds = packages.kinds_of(backend, options["package"])
    given = plan_option(options["plan_file"])
    check_folder(options["output"])
    job = read_job(options, given, backend, device)
    found = _searched(job, backend, device, options, budget, given)
    plan = found.plan if found and found.plan else jobs.plan_for(job, backend, given)
    job = replace(job, encoder=from_options(plan.options))
    if options["strict"]:
        _refuse_assumptions(plan)
    network = found.trained if found and found.trained else job.graph
    lowered = lower(network, plan, backend, start=options["start"])
    lowered = jobs.typical(job, lowered, backend, device, budget)
    compiled = build(lowered, backend, device)
    screen.print(tables.plan(lowered.plan))
    screen.print(
        tables.footprint(compiled.footprint, compiled.baseline, device, compiled.listening)
    )
    if compiled.artifact.summary:
        screen.print(compiled.artifact.summary, markup=False)
    if compiled.cost is not None:
        screen.print(tables.cost(compiled.cost))
    _affordable(compiled, options["max_instructions"])
    parts = known_devices(backend, options["device_files"])
    place = f"the budget on {device.name}" if options["budget"] else device.name
    _fits(compiled, backend, parts, budget, place)
    comparison = found.comparison if found else _accuracy(job, compiled)
    if comparison is not None:
        screen.print(tables.accuracy(comparison))
    if found is None:
        _gate(comparison, limit)
    elif comparison is not None and limit is not None:
        _confirm(comparison, limit)
    compiled = packages.self_tested(job, compiled, backend)
    pages = _pages(found) if found else {}
    pages |= packages.render(job, compiled, backend, kinds, comparison, budget)
    jobs.save(job, compiled, options["output"], comparison, budget, pages)
    screen.print(f"Wrote {options['output']}", markup=False)
    if kinds:
        screen.print(f"Packages are below {options['output']}/packages: {', '.join(kinds)}",
                     markup=False)  # fmt: skip
    if options["as_json"]:
        click.echo(json.dumps(_result(compiled, comparison, options["output"]), indent=2))


def _searched(
    job: jobs.Job,
    target: Backend,
    device: Device,
    options: dict[str, Any],
    budget: dict[str, int],
    given: plans.Plan | None,
) -> Found | None:
    """The plan that a search finds, where limits and data ask for one and no plan is given."""
    limits = ("max_drop", "budget", "max_operations", "max_instructions")
    limited = any(options[name] for name in limits)
    if given is not None or job.dataset is None or not limited or not options["evaluations"]:
        return None
    found = search(job, target, device, options, budget, None)
    screen = tables.console()
    for table in exploration.result(found.exploration):
        screen.print(table)
    if found.refusal is not None:
        raise found.refusal
    return found


def _pages(found: Found) -> dict[str, bytes]:
    """What the search leaves behind, in a folder of its own."""
    assert found.plan is not None, "nothing was refused"
    pages = files.render(found.exploration, found.plan.text(), found.trained)
    return {f"{files.FOLDER}/{name}": content for name, content in pages.items()}


def _refuse_assumptions(plan: plans.Plan) -> None:
    if plan.assumed:
        names = ", ".join(sorted(plan.assumed))
        raise PlanError(
            f"the range of the summed input of {names} is observed, not proved",
            hint="give it a smaller scale in the plan, or compile without --strict",
        )


def _fits(
    compiled: Compiled,
    backend: Backend,
    devices: dict[str, Device],
    budget: dict[str, int],
    place: str,
) -> None:
    if found := excesses(compiled.footprint, budget):
        roomy = [name for name, device in devices.items() if _holds(compiled, backend, device)]
        raise fit_error(compiled.artifact.name, place, found, roomy, compiled.device.remedies)


def _holds(compiled: Compiled, backend: Backend, device: Device) -> bool:
    """Whether another device would hold the network; one of another core counts it anew."""
    footprint, lowered = compiled.footprint, compiled.lowered
    if device.core != compiled.device.core:
        try:
            footprint = backend.footprint(lowered.final, device, lowered.plan)
        except QspinnError:
            return False
    return not excesses(footprint, device.regions)


def _affordable(compiled: Compiled, limit: float | None) -> None:
    """Refuse a network that takes more instructions than are allowed."""
    if limit is None:
        return
    if compiled.cost is None:
        raise no_model(compiled.device)
    if (taken := compiled.cost.instructions) > limit:
        raise GateError(
            f"an inference takes {taken:,.0f} instructions on {compiled.cost.core}, "
            f"the limit is {limit:,.0f}",
            at=compiled.artifact.name,
            hint="give it fewer steps, or let qspinn explore narrower weights and states",
        )


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


def _confirm(comparison: Comparison, limit: float) -> None:
    """Refuse what a search selected where the report part leaves no doubt that it drops more.

    The selection has decided with its own confidence; a point estimate on other samples that lies
    a little beyond the limit is what one in many such estimates does.
    """
    if -comparison.difference.high > limit:
        _gate(comparison, limit)


def _result(compiled: Compiled, comparison: Comparison | None, folder: Path) -> dict[str, Any]:
    return {
        "output": str(folder),
        "target": compiled.artifact.target,
        "device": compiled.device.name,
        "graph": compiled.lowered.final.digest,
        "regions": compiled.footprint.regions(),
        "network_bytes": compiled.footprint.network,
        "float32_bytes": compiled.baseline,
        "float32_bytes_active": compiled.listening,
        "accuracy": asdict(comparison) if comparison else None,
        "cost": compiled.cost.facts() if compiled.cost else None,
    }
