"""Runs emitted files as a whole image on AVR parts in simavr, built by avr-gcc.

A program on this machine opens simavr's library: it feeds the image samples through an I/O
register, takes states from it, and counts cycles, which simavr does exactly.
"""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.render import render

from . import toolchain
from .avr import AvrPart, avr_gcc, libsimavr
from .builds import Built, Files, in_parts
from .emit import passed
from .emulate import tool
from .network import Network
from .samples import Recording, encode

LIMIT_SECONDS = 600
Rows = tuple[tuple[str, ...], ...]
"""What was noted: a mark, its cycle and its instruction, or the word ``note`` and a byte."""
STEP, RESET = "1", "2"
"""The marks before these calls, as driver.c.j2 sets them."""
PROGRAM_STACK = 20
"""Bytes of stack that the program takes beside the network's call."""
NO_STACK = 16
"""Bytes above the variables that a program needs at the very least."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What simavr counted.

    Attributes:
        cycles: Of each step's call, (batch, steps).
        samples: Of each sample's calls together, of resets and decisions too, (batch,).
        instructions: The same in instructions.
        stack: The deepest stack in bytes, of the whole program.
    """

    cycles: IntArray
    samples: IntArray
    instructions: IntArray
    stack: int


@lru_cache(maxsize=4)
def image(files: Files, network: Network, part: AvrPart, timed: bool = False) -> Built:
    """The image that steps through samples.

    Raises:
        ToolchainError: avr-gcc is not installed.
        BackendError: The image does not fit the part.
    """
    built = Built(files)
    driver = render(
        "mcu/driver.c.j2", net=network, P=network.prefix, M=network.macro, part=part,
        io="mcu/avr_io.c", passed=passed(network.port), painted=0, timed=timed,
    )  # fmt: skip
    (built.folder / "driver.c").write_text(driver)
    command = [*avr_gcc(part), "driver.c", f"{network.prefix}.c", "-o", "image.elf"]
    try:
        toolchain.compile_(command, built.folder)
    except BackendError as error:
        if "is not within region" not in str(error):
            raise
        raise _too_large("more RAM or flash than there is", part) from error
    _fits((built.folder / "image.elf").read_bytes(), part)
    return built


@lru_cache(maxsize=1)
def simulator(compiler: tuple[str, ...]) -> Built:
    """The program that opens simavr's library."""
    built = Built((("simavr.c", render("mcu/simavr.c").encode()),))
    toolchain.compile_([*compiler, "-O2", "simavr.c", "-o", "simavr", "-ldl"], built.folder)
    return built


def _fits(elf: bytes, part: AvrPart) -> None:
    """Check what the linker does not: it places variables and code beyond the end of memory."""
    size = {"text": 0, "data": 0, "bss": 0}
    for section in tool("elftools.elf.elffile").ELFFile(io.BytesIO(elf)).iter_sections():
        if section.name[1:] in size:
            size[section.name[1:]] = section["sh_size"]
    ram, flash = size["data"] + size["bss"], size["text"] + size["data"]
    for what, taken, limit in (
        ("RAM", ram + NO_STACK, part.ram_bytes),
        ("flash", flash, part.flash_bytes),
    ):
        if taken > limit:
            raise _too_large(f"{taken} B of {what}", part)


def _too_large(taken: str, part: AvrPart) -> BackendError:
    return BackendError(
        f"the test program takes {taken}: {part.mcu} has {part.ram_bytes} B of RAM and "
        f"{part.flash_bytes} B of flash",
        hint="it holds the network, its state and a full event buffer; drop inputs, or choose "
        "narrower formats or a larger part",
    )


def run_simavr(files: Files, network: Network, data: IntArray, part: AvrPart) -> Recording:
    """Run on a simulated part.

    Raises:
        ToolchainError: avr-gcc, simavr or a C compiler is not installed.
        BackendError: The program fails, or does not fit the part.
    """
    built = image(files, network, part)
    return in_parts(network, data, lambda given: padded(network, _run(built, part, given)[0], data))


def padded(network: Network, raw: bytes, data: IntArray) -> bytes:
    """The bytes as other machines give them: AVRs align nothing, and leave no hole at the end."""
    size, steps = network.struct.bytes - network.struct.padding, data.shape[1]
    end = steps * size
    samples = np.frombuffer(raw, np.uint8).reshape(-1, end + 4 * len(network.reads))
    states = samples[:, :end].reshape(len(samples), steps, size)
    wide = np.pad(states, ((0, 0), (0, 0), (0, network.struct.padding)))
    return np.hstack([wide.reshape(len(samples), -1), samples[:, end:]]).tobytes()


def measure(files: Files, network: Network, data: IntArray, part: AvrPart) -> Measured:
    """Cycles of every step and the deepest stack, on a simulated part.

    Raises:
        ToolchainError: avr-gcc, simavr or a C compiler is not installed.
        BackendError: The program fails, or does not fit the part.
    """
    built = image(files, network, part, timed=True)
    batch, steps = data.shape[:2]
    flat = data.reshape(batch, steps, network.port.size)
    _, rows = _run(built, part, encode(network.port, flat))
    marks = [row for row in rows if row[0] != "note"]
    # Between two marks lie the call and the one cycle or two that the second mark takes itself.
    took = np.array([row[1:] for row in marks], np.int64).reshape(-1, 2, 2)
    spent, called = took[:, 1] - took[:, 0], np.array([row[0] for row in marks[::2]])
    of = np.cumsum(called == RESET) - 1
    samples, instructions = (np.bincount(of, spent[:, k]).astype(np.int64) for k in range(2))
    stack = part.ram_end - _variables_end(built) - _untouched(rows)
    steps_spent = spent[called == STEP, 0].reshape(batch, steps)
    return Measured(steps_spent, samples, instructions, stack)


def _variables_end(built: Built) -> int:
    elf = tool("elftools.elf.elffile").ELFFile(
        io.BytesIO((built.folder / "image.elf").read_bytes())
    )
    (symbol,) = elf.get_section_by_name(".symtab").get_symbol_by_name("_end")
    return int(symbol["st_value"]) & 0xFFFF


def _untouched(rows: Rows) -> int:
    """The bytes above the variables that the stack did not reach."""
    low, high = (int(row[1]) for row in rows if row[0] == "note")
    return low | high << 8


def _run(built: Built, part: AvrPart, given: bytes) -> tuple[bytes, Rows]:
    """What the image gave, and what was counted.

    Raises:
        BackendError: It ends with an error, or stack and variables are on top of each other.
    """
    program = simulator(tuple(toolchain.host())).folder / "simavr"
    registers = (part.bytes_at, part.marks_at, part.notes_at)
    done = subprocess.run(
        [str(program), libsimavr(), part.mcu, "image.elf",
         *map(str, registers), "states.bin", "result.txt"],
        cwd=built.folder, input=given, check=False, capture_output=True, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise BackendError(f"the image ends with {done.returncode} on {part.mcu}: {said}")
    states = (built.folder / "states.bin").read_bytes()
    lines = (built.folder / "result.txt").read_text().splitlines()
    rows = tuple(tuple(line.split()) for line in lines)
    if _untouched(rows) == 0:
        raise BackendError(
            f"the stack of the test program reaches its variables: {part.mcu} has "
            f"{part.ram_bytes} B of RAM, or something is written beyond its end"
        )
    return states, rows
