"""``qspinn explore``: a model file and data in, the front and the best plan out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from qspinn.backend import backend as find_backend
from qspinn.cli.devices import device_file_option, device_option
from qspinn.cli.options import (
    budget_option,
    data_options,
    model_options,
    plan_option,
    read_job,
    scale_options,
)
from qspinn.cli.search import search, search_options
from qspinn.errors import PlanError
from qspinn.explore import explorer, files
from qspinn.output import check_folder, write_folder
from qspinn.report import exploration as pages
from qspinn.report import tables


@click.command(name="explore")
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--target", required=True, help="mcu or loihi; see qspinn targets.")
@click.option("--device", help="A device of the target.")
@device_file_option
@click.option("-o", "--output", "output", required=True, type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Formats by path that stay as they are.")  # fmt: skip
@click.option("--max-drop", help="Most accuracy to lose against the float network, such as 1%.")
@click.option("--budget", help="Such as ram=8KiB,flash=64KiB; the device's limits where unnamed.")
@click.option("--name", help="The network's name; default the file's, or what a .qspinn file says.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
@search_options
@scale_options
@model_options
@data_options
def explore_command(**options: Any) -> None:
    """Search the precision of every parameter of MODEL and write the front to a folder.

    Every candidate is judged by the integer program that ships, on the selection part of the
    data; the winner is measured once on the report part.
    """
    screen = tables.console()
    target = find_backend(options["target"])
    device = device_option(target, options)
    given = plan_option(options["plan_file"])
    budget = budget_option(options["budget"], dict(device.regions))
    device = device.within(budget)
    check_folder(options["output"])
    if options["data"] is None:
        raise PlanError("candidates are judged on data", hint="give --data FILE.npz")
    job = read_job(options, given, target, device)
    found = search(job, target, device, options, budget, given)
    if found.refusal is not None and not found.exploration.measured:
        raise found.refusal
    for table in pages.result(found.exploration):
        screen.print(table)
    plan = found.plan.text() if found.plan else ""
    written = files.render(found.exploration, plan, found.trained)
    write_folder(options["output"], written, explorer.manifest(job, found))
    screen.print(f"Wrote {options['output']}", markup=False)
    if options["as_json"]:
        click.echo(json.dumps(files.summary(found.exploration), indent=2, sort_keys=True))
    if found.refusal is not None:
        raise found.refusal
