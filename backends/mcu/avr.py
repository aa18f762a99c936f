"""AVR: the 8-bit cores, the parts that stand for them, and their compiler and simulator."""

from __future__ import annotations

import shutil
from ctypes.util import find_library
from dataclasses import dataclass

from qspinn.backend import Tool
from qspinn.errors import ToolchainError
from qspinn.installing import apt

HINT = "make toolchains, or apt-get install gcc-avr avr-libc simavr"
LARGEST_TABLE = 32_767
"""Bytes of an array that avr-gcc accepts: its pointer differences have 16 bits with a sign."""
REACH = 65_000
"""Bytes of constants that LPM reaches, which sees 64 KiB; the interrupt vectors come first."""


@dataclass(frozen=True, slots=True)
class AvrPart:
    """A part that simavr knows, for one core.

    Attributes:
        core: As binutils calls the instruction set: ``avr5``.
        mcu: As avr-gcc's ``-mmcu`` and simavr call it.
        ram: Where RAM begins.
        ram_bytes: Of RAM.
        flash_bytes: Of flash.
        bytes_at: The general-purpose I/O register that carries bytes in and out.
        marks_at: The one that marks time and the end.
        notes_at: The one that carries results.
    """

    core: str
    mcu: str
    ram: int
    ram_bytes: int
    flash_bytes: int
    bytes_at: int
    marks_at: int
    notes_at: int

    @property
    def ram_end(self) -> int:
        """The first address after RAM."""
        return self.ram + self.ram_bytes


PARTS = {
    part.core: part
    for part in (
        AvrPart("avr5", "atmega328p", 0x100, 2048, 32 << 10, 0x3E, 0x4A, 0x4B),
        AvrPart("avr6", "atmega2560", 0x200, 8192, 256 << 10, 0x3E, 0x4A, 0x4B),
        AvrPart("avr25", "attiny85", 0x60, 512, 8 << 10, 0x31, 0x32, 0x33),
    )
}
EXECUTORS = {
    "simavr": PARTS["avr5"],
    "simavr-atmega2560": PARTS["avr6"],
    "simavr-attiny85": PARTS["avr25"],
}
OPTIONS = ("-O2", "-std=c99")


def avr_gcc(part: AvrPart) -> list[str]:
    """The command that compiles for a part.

    Raises:
        ToolchainError: avr-gcc is not installed.
    """
    found = shutil.which("avr-gcc")
    if found is None:
        raise ToolchainError("avr-gcc is not installed", hint=HINT)
    return [found, f"-mmcu={part.mcu}", *OPTIONS]


def libsimavr() -> str:
    """The name of simavr's library.

    Raises:
        ToolchainError: It is not installed.
    """
    found = find_library("simavr")
    if found is None:
        raise ToolchainError("simavr is not installed", hint=HINT)
    return found


def tools() -> tuple[Tool, ...]:
    """What the executors use, found or not."""
    use = ", ".join(EXECUTORS)
    return (
        Tool("avr-gcc", use, shutil.which("avr-gcc") or "", HINT, apt("gcc-avr", "avr-libc")),
        Tool("simavr", use, find_library("simavr") or "", HINT, apt("simavr")),
    )
