"""Files of devices: TOML that people write, read strictly; a target ships one of its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qspinn.errors import QspinnError
from qspinn.memory import Device

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "QSPINN_DEVICES"
"""The environment variable that names files of devices, as PATH names folders."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "kB": 10**3, "KB": 10**3, "MB": 10**6}
_KEYS = ("core", "mhz", "regions", "others", "source", "checked", "note")
_TEXTS = ("core", "source", "note")


def parse(
    text: str, target: str, *, regions: Collection[str], cores: Collection[str] = (), at: str
) -> dict[str, Device]:
    """The devices that a file describes for one target, by name and in its order.

    A device is a table ``[<target>.<name>]``; what its keys mean is written at the head of
    backends/mcu/devices.toml. Tables of other targets are left to them.

    Args:
        text: The file's content.
        target: The target's name.
        regions: The regions that a device of it has, all of which must be given.
        cores: The cores it knows; none: any word will do.
        at: The file's name, for errors.

    Raises:
        QspinnError: It is no TOML, or says something that cannot be used; the error names the
            file, the device and the key.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise QspinnError(f"is no TOML: {error}", at=at) from error
    if loose := [name for name, table in tables.items() if not _tables(table)]:
        raise QspinnError(
            f"{loose[0]!r} is no table of devices", at=at, hint=f"write [{target}.<name>]"
        )
    return {
        name: _device(name, table, f"{at}: {target}.{name}", regions, cores)
        for name, table in tables.get(target, {}).items()
    }


def _tables(found: object) -> bool:
    return isinstance(found, dict) and all(isinstance(value, dict) for value in found.values())


def _device(
    name: str, table: Mapping[str, Any], at: str, regions: Collection[str], cores: Collection[str]
) -> Device:
    if not _NAME.fullmatch(name):
        raise QspinnError("is no name for a device", at=at, hint="letters, digits and . _ + -")
    if unknown := [key for key in table if key not in _KEYS]:
        raise QspinnError(
            f"there is no key {unknown[0]!r}", at=at, hint=f"there are {', '.join(_KEYS)}"
        )
    for key in _TEXTS:
        if not isinstance(table.get(key, ""), str):
            raise QspinnError(f"is {table[key]!r}, and no text", at=f"{at}.{key}")
    core = table.get("core", "")
    if cores and core not in cores:
        raise QspinnError(
            f"no core {core!r}", at=f"{at}.core", hint=f"one of {', '.join(sorted(cores))}"
        )
    sizes = _sizes(table.get("regions", {}), f"{at}.regions")
    if sizes.keys() != set(regions):
        raise QspinnError(
            f"gives {', '.join(sizes) or 'nothing'}", at=f"{at}.regions",
            hint=f"give {' and '.join(regions)}; further memory goes to `others`",
        )  # fmt: skip
    checked = table.get("checked", False)
    if checked is not False and not (isinstance(checked, str) and checked):
        raise QspinnError(
            f"is {checked!r}", at=f"{at}.checked", hint="false, or what was compared with what"
        )
    return Device(
        name, sizes, core, table.get("note", ""), table.get("source", ""),
        hertz=_hertz(table.get("mhz", 0), f"{at}.mhz"),
        others=_sizes(table.get("others", {}), f"{at}.others"),
        checked=checked or "",
    )  # fmt: skip


def _hertz(mhz: object, at: str) -> int:
    number = isinstance(mhz, int | float) and not isinstance(mhz, bool)
    if not number or not 0 <= float(str(mhz)) <= 100_000:
        raise QspinnError(f"is {mhz!r}", at=at, hint="a clock in MHz, such as 48")
    return round(float(str(mhz)) * 1e6)


def _sizes(found: object, at: str) -> dict[str, int]:
    if not isinstance(found, dict):
        raise QspinnError("is no table", at=at, hint='such as { ram = "6 KiB", flash = "32 KiB" }')
    return {name: _size(value, f"{at}.{name}") for name, value in found.items()}


def _size(value: object, at: str) -> int:
    """Bytes, from a number or a text with a unit."""
    match = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", str(value))
    if isinstance(value, bool) or match is None or match[2] not in _UNITS or not int(match[1]):
        raise QspinnError(
            f"is {value!r}, and no amount of memory", at=at, hint='a number of bytes, or "6 KiB"'
        )
    return int(match[1]) * _UNITS[match[2]]


def read(
    path: Path, target: str, *, regions: Collection[str], cores: Collection[str] = ()
) -> dict[str, Device]:
    """The devices in a file; see `parse`.

    Raises:
        QspinnError: It cannot be read, or not be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QspinnError(f"cannot be read: {error}", at=str(path)) from error
    return parse(text, target, regions=regions, cores=cores, at=str(path))


def files(named: Sequence[Path] = ()) -> Iterator[Path]:
    """The files of a user: those of the environment variable first, then those they name."""
    for word in os.environ.get(VARIABLE, "").split(os.pathsep):
        if word:
            yield Path(word)
    yield from named


def as_facts(device: Device) -> dict[str, Any]:
    """A device as JSON can hold it; `from_facts` is the inverse."""
    return {
        "regions": dict(device.regions),
        "core": device.core,
        "note": device.note,
        "source": device.source,
        "hertz": device.hertz,
        "others": dict(device.others),
        "checked": device.checked,
    }


def from_facts(name: str, facts: Mapping[str, Any], regions: Collection[str]) -> Device:
    """The device that `as_facts` wrote down.

    Raises:
        QspinnError: The facts are not of that form.
    """
    try:
        device = Device(name, **facts)
        sound = device.regions.keys() == set(regions) and isinstance(device.hertz, int)
        sound = sound and all(isinstance(size, int) for size in device.regions.values())
    except (TypeError, AttributeError) as error:
        raise QspinnError(f"the device {name} cannot be read: {error}") from error
    if not sound:
        raise QspinnError(f"the device {name} has other regions than {', '.join(regions)}")
    return device
