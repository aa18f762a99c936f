"""``qspinn doctor``: which toolchains are here, and how to get the others."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from qspinn.backend import Tool, backends
from qspinn.report import tables


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def doctor_command(*, as_json: bool) -> None:
    """List the toolchains of every target: what each is for, and where it was found."""
    found: list[Tool] = []
    for target in backends().values():
        found += [tool for tool in target.tools() if tool not in found]
    tables.console().print(tables.tools(found))
    if as_json:
        click.echo(json.dumps([asdict(tool) for tool in found], indent=2))
