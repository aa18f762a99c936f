"""``qspinn targets``: what there is to compile for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from qspinn.backend import Backend, backend, backends
from qspinn.cli.devices import device_file_option, known_devices
from qspinn.memory import Device
from qspinn.report import tables


@click.command(name="targets")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@device_file_option
def targets_command(name: str | None, *, as_json: bool, device_files: tuple[Path, ...]) -> None:
    """List the targets, or one target's capabilities, devices and their limits."""
    found = backends() if name is None else {name: backend(name)}
    parts = {n: known_devices(b, device_files) for n, b in found.items()}
    if as_json:
        facts = {n: _facts(b, parts[n]) for n, b in found.items()}
        click.echo(json.dumps(facts, indent=2, default=str))
        return
    screen = tables.console()
    for target in found.values():
        screen.print(tables.devices(target, parts[target.name]))
        screen.print(tables.capabilities(target))
        for device in parts[target.name].values() if name is not None else ():
            if device.limits:
                screen.print(tables.limits(device))


def _facts(target: Backend, devices: dict[str, Device]) -> dict[str, object]:
    return {
        "capabilities": asdict(target.capabilities),
        "devices": {name: asdict(device) for name, device in devices.items()},
        "executors": list(target.executors),
    }
