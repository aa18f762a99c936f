"""The code of emitted files as an installed compiler makes it: measured, not estimated."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

from qspinn.bench import CodeSize
from qspinn.errors import ToolchainError
from qspinn.memory import Device

from . import bench, toolchain
from .avr import PARTS, avr_gcc
from .builds import Built, Files, sources
from .emulate import tool
from .network import Network
from .toolchain import CORES

_CODE = 4
"""The flag of a section that holds instructions: SHF_EXECINSTR."""


def code_size(folder: Path, network: Network, device: Device) -> CodeSize | None:
    """What the files in ``folder`` take as the compiler for a device's core makes them at -O2.

    GCC where it is installed, which firmware is built with, else zig's clang.

    Returns:
        The size; None where there is no compiler for the core.

    Raises:
        BackendError: The files are of another graph, or do not compile.
    """
    files = sources(folder, network)
    try:
        name, command = _compiler(device)
        size = text_bytes(files, network.prefix, command)
    except ToolchainError:
        return None
    return CodeSize(name, size)


def _compiler(device: Device) -> tuple[str, list[str]]:
    """The name and the command of what compiles for a device."""
    if device.core in PARTS:
        command = avr_gcc(PARTS[device.core])
        words = [command[0], "-dumpversion"]
        done = subprocess.run(words, check=True, text=True, capture_output=True)
        return f"avr-gcc {done.stdout.strip()}", command
    if device.core not in CORES:
        raise ToolchainError(f"no compiler for {device.core} is known")
    core = CORES[device.core]
    chosen = bench.compiler_for(core, None) if core.gcc else "clang"
    return bench.named(core, chosen), toolchain.compiler(core, chosen)


def text_bytes(files: Files, prefix: str, command: list[str]) -> int:
    """The bytes of instructions in the object that a command makes of emitted files."""
    built = Built(files)
    toolchain.compile_([*command, "-c", f"{prefix}.c", "-o", "object.o"], built.folder)
    content = (built.folder / "object.o").read_bytes()
    elf = tool("elftools.elf.elffile").ELFFile(io.BytesIO(content))
    return sum(s["sh_size"] for s in elf.iter_sections() if s["sh_flags"] & _CODE)
