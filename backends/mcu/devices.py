"""Parts with their memory and clock, from devices.toml; ``generic`` is any core with room for all.

Figures whose ``checked`` is empty were written down from memory of the document named.
"""

from __future__ import annotations

from importlib.resources import files

from qspinn.devices import parse

from .toolchain import CORES

GENERIC = "generic"
REGIONS = ("ram", "flash")
KNOWN_CORES = (*CORES, "avr25", "avr5", "avr6", "rv32ec")
"""Cores that a part may have: those with compilers here, and those whose sizes are the nearest."""

DEVICES = parse(
    (files(__package__) / "devices.toml").read_text(encoding="utf-8"),
    "mcu", regions=REGIONS, cores=KNOWN_CORES, at="devices.toml",
)  # fmt: skip
