"""Runs emitted files as a whole image on QEMU's boards, built by GCC."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.render import render

from . import toolchain
from .builds import Built, Files, driver, in_parts
from .network import Network
from .samples import Recording
from .toolchain import Core

LIMIT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Machine:
    """A board: its name and where its memory lies, and how else its emulator is told to start.

    Attributes:
        io: The template that says how a program reads and writes there.
        timed: Whether that has a place for marks of time.
    """

    name: str
    rom: int
    rom_bytes: int
    ram: int
    ram_bytes: int
    options: tuple[str, ...] = ()
    io: str = "semihosted.c"
    timed: bool = False


def _mps2(name: str) -> Machine:
    return Machine(name, 0x0, 4 << 20, 0x2000_0000, 4 << 20)


MACHINES = {
    # Armv6-M code is Armv7-M code too, and the board with the Cortex-M3 has the memory.
    "cortex-m0": _mps2("mps2-an385"),
    "cortex-m0plus": _mps2("mps2-an385"),
    "cortex-m3": _mps2("mps2-an385"),
    "cortex-m4": _mps2("mps2-an386"),
    "cortex-m7": _mps2("mps2-an500"),
    "cortex-m33": Machine("mps2-an505", 0x1000_0000, 4 << 20, 0x3800_0000, 2 << 20),
    "cortex-m55": Machine("mps3-an547", 0x0, 512 << 10, 0x2000_0000, 512 << 10),
    "rv32imc": Machine(
        "virt", 0x8000_0000, 4 << 20, 0x8040_0000, 4 << 20, ("-cpu", "rv32", "-bios", "none")
    ),
}


@lru_cache(maxsize=4)
def image(
    files: Files,
    network: Network,
    core: Core,
    compiler: str = "gcc",
    painted: int = 0,
    machine: Machine | None = None,
) -> Built:
    """The image that steps through a file of samples; GCC makes all but the network.

    Args:
        files: The emitted files.
        network: What they were emitted from.
        core: The core it is for.
        compiler: Of the network, one of `toolchain.COMPILERS`.
        painted: Bytes of stack that every call is watched in; the deepest use is the output's last
            word. 0: it is not watched.
        machine: Where it lies; None: on the core's own of `MACHINES`.
    """
    built, machine = Built(files), machine or MACHINES[core.name]
    written = {
        "driver.c": driver(network, machine.io, painted, timed=machine.timed),
        "startup.c": render("mcu/startup.c" if core.arm else "mcu/startup_riscv.c"),
        "image.ld": render("mcu/image.ld.j2", machine=machine),
    }
    for name, text in written.items():
        (built.folder / name).write_text(text)
    own = [*toolchain.compiler(core, compiler), "-c", f"{network.prefix}.c", "-o", "network.o"]
    command = [
        *toolchain.gcc(core), "-nostdlib", "-T", "image.ld", "startup.c", "driver.c", "network.o",
        "-lgcc", "-o", "image.elf",
    ]  # fmt: skip
    toolchain.compile_(own, built.folder)
    toolchain.compile_(command, built.folder)
    return built


def run_qemu(
    files: Files, network: Network, data: IntArray, core: Core, compiler: str = "gcc"
) -> Recording:
    """Run on a board.

    Raises:
        ToolchainError: GCC or QEMU for the core is not installed.
        BackendError: The program fails.
    """
    command = emulation(core)
    folder = image(files, network, core, compiler).folder
    return in_parts(network, data, lambda part: executed(command, folder, part, core))


def executed(command: list[str], folder: Path, part: bytes, core: Core) -> bytes:
    """What the image in ``folder`` writes for some samples.

    Raises:
        BackendError: The program fails; the message holds what it said.
    """
    (folder / "samples.bin").write_bytes(part)
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, timeout=LIMIT_SECONDS
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise BackendError(f"the image ends with {done.returncode} on {core.name}: {said}")
    return (folder / "states.bin").read_bytes()


def emulation(core: Core) -> list[str]:
    """The command that runs an image for a core, to be completed by more options.

    Raises:
        ToolchainError: QEMU is not installed.
    """
    machine = MACHINES[core.name]
    return [
        toolchain.qemu(core), "-M", machine.name, *machine.options, "-display", "none",
        "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native",
        "-kernel", "image.elf",
    ]  # fmt: skip
