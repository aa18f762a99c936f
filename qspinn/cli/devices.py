"""The devices that a command knows: a target's own, and those in the user's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from qspinn import devices
from qspinn.backend import Backend, device_of
from qspinn.memory import Device

F = TypeVar("F", bound=Callable[..., Any])

device_file_option = click.option(
    "--device-file", "device_files", multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file of further devices, [mcu.NAME] with core, mhz and "
         'regions = { ram = "6 KiB", flash = "32 KiB" }; so is every file that QSPINN_DEVICES '
         "names. May be repeated.",
)  # fmt: skip


def known_devices(target: Backend, named: Sequence[Path] = ()) -> dict[str, Device]:
    """The target's devices, and the user's, which replace those of the same name.

    Raises:
        QspinnError: A file cannot be used.
    """
    own = target.devices
    cores = {device.core for device in own.values()} - {""}
    found: dict[str, Device] = dict(own)
    for path in devices.files(named):
        regions = own[target.default_device].regions
        found.update(devices.read(path, target.name, regions=tuple(regions), cores=cores))
    return found


def device_option(target: Backend, values: Mapping[str, Any]) -> Device:
    """The device that a command is for.

    Raises:
        QspinnError: There is none of that name, or a file of devices cannot be used.
    """
    return device_of(target, values["device"], known_devices(target, values["device_files"]))
