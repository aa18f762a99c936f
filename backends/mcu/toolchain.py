"""Compilers: what is installed, how it is called, and what to say where it is not."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qspinn.backend import Tool
from qspinn.errors import BackendError, ToolchainError
from qspinn.installing import apt, pip

HINT_PIP = "pip install 'qspinn[mcu]'"
HINT_APT = "make toolchains, or apt-get install gcc-arm-none-eabi qemu-system-arm"
HINT_RISCV = "make toolchains, or apt-get install gcc-riscv64-unknown-elf qemu-system-misc"


@dataclass(frozen=True, slots=True)
class Core:
    """A processor core as compilers and emulators know it.

    Attributes:
        name: As Arm or RISC-V say it.
        isa: The instruction set that decides code size.
        target: zig's.
        cpu: zig's.
        gcc: Options of GCC, `gcc_of` names it; empty where Debian's does not know the core.
        unicorn: The name of unicorn's constant for its model; empty for RISC-V, and for cores
            that unicorn does not know.
    """

    name: str
    isa: str
    target: str
    cpu: str
    gcc: tuple[str, ...]
    unicorn: str

    @property
    def arm(self) -> bool:
        """Whether it is a core of Arm."""
        return self.target.startswith("thumb")


_THUMB, _RISCV = "thumb-freestanding-eabi", "riscv32-freestanding-none"
_HELIUM = "thumb-freestanding-eabihf"


def _arm(name: str, isa: str, model: str) -> Core:
    return Core(name, isa, _THUMB, name.replace("-", "_"), (f"-mcpu={name}", "-mthumb"), model)


CORES = {
    core.name: core
    for core in (
        _arm("cortex-m0", "armv6m", "UC_CPU_ARM_CORTEX_M0"),
        _arm("cortex-m0plus", "armv6m", "UC_CPU_ARM_CORTEX_M0"),
        _arm("cortex-m3", "armv7m", "UC_CPU_ARM_CORTEX_M3"),
        _arm("cortex-m4", "armv7em", "UC_CPU_ARM_CORTEX_M4"),
        _arm("cortex-m7", "armv7em", "UC_CPU_ARM_CORTEX_M7"),
        _arm("cortex-m33", "armv8m", "UC_CPU_ARM_CORTEX_M33"),
        # Helium: GCC has it with floats in registers only, zig where it is asked for by name.
        Core(
            "cortex-m55", "armv81m", _HELIUM, "cortex_m55+mve_fp",
            ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"), "",
        ),
        Core("cortex-m85", "armv81m", _HELIUM, "cortex_m85+mve_fp", (), ""),
        Core(
            "rv32imc", "rv32imc", _RISCV, "generic_rv32+m+c",
            ("-march=rv32imc", "-mabi=ilp32"), "",
        ),
    )
}  # fmt: skip

RV32EC = Core("rv32ec", "rv32ec", _RISCV, "generic_rv32+e+c", ("-march=rv32ec", "-mabi=ilp32e"), "")
"""The core of a CH32V003, sixteen registers and no multiplier: counted, and not run by `check`."""

COMPILERS = ("clang", "gcc")
FREESTANDING = ("-O2", "-std=c99", "-ffreestanding", "-fno-builtin", "-fno-unwind-tables")


def zig(core: Core) -> list[str]:
    """The command that compiles for a core with the zig of PyPI.

    Raises:
        ToolchainError: It is not installed.
    """
    if find_spec("ziglang") is None:
        raise ToolchainError("ziglang is not installed", hint=HINT_PIP)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", core.target]
    return [*command, f"-mcpu={core.cpu}", *FREESTANDING]


def gcc(core: Core) -> list[str]:
    """The command that compiles for a core with the GCC of Debian, or of $PATH.

    Raises:
        ToolchainError: It is not installed.
        BackendError: It does not know the core.
    """
    if not core.gcc:
        raise BackendError(f"no GCC is known for {core.name}", hint="compile with clang")
    return [gcc_of(core), *core.gcc, *FREESTANDING]


def compiler(core: Core, name: str) -> list[str]:
    """The command that compiles for a core: ``clang`` (zig's) or ``gcc``.

    Raises:
        ToolchainError: It is not installed.
        BackendError: There is no such compiler, or it does not know the core.
    """
    if name not in COMPILERS:
        raise BackendError(f"no compiler {name!r}", hint=f"one of {', '.join(COMPILERS)}")
    return zig(core) if name == "clang" else gcc(core)


def gcc_of(core: Core) -> str:
    """Where the GCC for a core is.

    Raises:
        ToolchainError: It is not installed.
    """
    return arm_gcc() if core.arm else _on_path("riscv64-unknown-elf-gcc", HINT_RISCV)


def host() -> list[str]:
    """The command that compiles for this machine: $CC, cc, gcc, clang, or zig.

    Raises:
        ToolchainError: There is no C compiler.
    """
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise ToolchainError("no C compiler is installed", hint=f"install gcc, or {HINT_PIP}")


def sanitizing() -> list[str]:
    """The command that compiles for this machine with address and undefined-behaviour checks.

    Raises:
        ToolchainError: There is neither gcc nor clang.
    """
    for name in ("gcc", "clang"):
        if found := shutil.which(name):
            return [
                found, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ]  # fmt: skip
    raise ToolchainError("sanitizers need gcc or clang", hint="apt-get install gcc")


def arm_gcc() -> str:
    """Where arm-none-eabi-gcc is.

    Raises:
        ToolchainError: It is not installed.
    """
    return _on_path("arm-none-eabi-gcc")


def qemu(core: Core) -> str:
    """Where the emulator of a core's boards is.

    Raises:
        ToolchainError: It is not installed.
    """
    return _on_path("qemu-system-arm") if core.arm else _on_path("qemu-system-riscv32", HINT_RISCV)


def _on_path(name: str, hint: str = HINT_APT) -> str:
    if found := shutil.which(name):
        return found
    raise ToolchainError(f"{name} is not installed", hint=hint)


def compile_(command: Sequence[str], folder: Path) -> None:
    """Run a compiler in ``folder``.

    Raises:
        BackendError: It fails; the message ends with what it said.
    """
    done = subprocess.run(command, cwd=folder, check=False, text=True, capture_output=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise BackendError(f"{Path(command[0]).name} fails on the emitted C:\n{said}")


def tools() -> tuple[Tool, ...]:
    """What `run` can use, found or not."""
    zig_found = "ziglang" if find_spec("ziglang") else ""
    emulator = "unicorn" if find_spec("unicorn") and find_spec("elftools") else ""
    compiler = next((w for n in ("cc", "gcc", "clang") if (w := shutil.which(n))), zig_found)
    checked = next((w for n in ("gcc", "clang") if (w := shutil.which(n))), "")
    cores = "cortex-m*, rv32imc"
    return (
        Tool("C compiler", "host", compiler, f"install gcc, or {HINT_PIP}", pip("ziglang")),
        Tool("sanitizers", "sanitize", checked, "apt-get install gcc", apt("gcc")),
        Tool("ziglang", cores, zig_found, HINT_PIP, pip("ziglang")),
        Tool("unicorn, pyelftools", cores, emulator, HINT_PIP, pip("unicorn", "pyelftools")),
        _command("arm-none-eabi-gcc", "qemu-cortex-*", HINT_APT, "gcc-arm-none-eabi"),
        _command("qemu-system-arm", "qemu-cortex-*", HINT_APT, "qemu-system-arm"),
        _command("riscv64-unknown-elf-gcc", "qemu-rv32imc", HINT_RISCV, "gcc-riscv64-unknown-elf"),
        _command("qemu-system-riscv32", "qemu-rv32imc", HINT_RISCV, "qemu-system-misc"),
    )


def _command(name: str, needed_for: str, hint: str, package: str) -> Tool:
    return Tool(name, needed_for, shutil.which(name) or "", hint, apt(package))
