"""``qspinn targets``: what there is to compile for."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from qspinn.backend import Backend, backend, backends
from qspinn.report import tables


@click.command(name="targets")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def targets_command(name: str | None, *, as_json: bool) -> None:
    """List the targets, or one target's capabilities and devices."""
    found = backends() if name is None else {name: backend(name)}
    if as_json:
        click.echo(json.dumps({n: _facts(b) for n, b in found.items()}, indent=2, default=str))
        return
    screen = tables.console()
    for target in found.values():
        screen.print(tables.devices(target))
        screen.print(tables.capabilities(target))


def _facts(target: Backend) -> dict[str, object]:
    return {
        "capabilities": asdict(target.capabilities),
        "devices": {name: asdict(device) for name, device in target.devices.items()},
        "executors": list(target.executors),
    }
