"""Runs emitted files as a whole image on QEMU's boards, built by arm-none-eabi-gcc."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache

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
    """A board of QEMU: its name and where its memory lies."""

    name: str
    rom: int
    rom_bytes: int
    ram: int
    ram_bytes: int


_MPS2 = {"rom": 0x0, "rom_bytes": 4 << 20, "ram": 0x2000_0000, "ram_bytes": 4 << 20}
MACHINES = {
    # Armv6-M code is Armv7-M code too, and the board with the Cortex-M3 has the memory.
    "cortex-m0": Machine("mps2-an385", **_MPS2),
    "cortex-m3": Machine("mps2-an385", **_MPS2),
    "cortex-m4": Machine("mps2-an386", **_MPS2),
    "cortex-m33": Machine("mps2-an505", 0x1000_0000, 4 << 20, 0x3800_0000, 2 << 20),
}


@lru_cache(maxsize=4)
def image(files: Files, network: Network, core: Core) -> Built:
    """The image that steps through a file of samples."""
    built, machine = Built(files), MACHINES[core.name]
    written = {
        "driver.c": driver(network, "semihosted.c"),
        "startup.c": render("mcu/startup.c"),
        "image.ld": render("mcu/image.ld.j2", machine=machine),
    }
    for name, text in written.items():
        (built.folder / name).write_text(text)
    command = [
        toolchain.arm_gcc(), *core.gcc, "-O2", "-std=c99", "-ffreestanding", "-nostdlib",
        "-T", "image.ld", "startup.c", "driver.c", f"{network.prefix}.c", "-lgcc",
        "-o", "image.elf",
    ]  # fmt: skip
    toolchain.compile_(command, built.folder)
    return built


def run_qemu(files: Files, network: Network, data: IntArray, core: Core) -> Recording:
    """Run on a board.

    Raises:
        ToolchainError: arm-none-eabi-gcc or qemu-system-arm is not installed.
        BackendError: The program fails.
    """
    emulator = toolchain.qemu()
    folder = image(files, network, core).folder
    command = [
        emulator, "-M", MACHINES[core.name].name, "-display", "none", "-monitor", "none",
        "-serial", "none", "-semihosting-config", "enable=on,target=native",
        "-kernel", "image.elf",
    ]  # fmt: skip

    def program(part: bytes) -> bytes:
        (folder / "samples.bin").write_bytes(part)
        done = subprocess.run(
            command, cwd=folder, check=False, capture_output=True, timeout=LIMIT_SECONDS
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-2000:]
            raise BackendError(f"the image ends with {done.returncode} on {core.name}: {said}")
        return (folder / "states.bin").read_bytes()

    return in_parts(network, data, program)
