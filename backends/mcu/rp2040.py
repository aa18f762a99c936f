"""Runs emitted files as a whole image on the RP2040 in rp2040js, which counts cycles.

Node runs the emulator, which is a package of npm. The memory is the part's own, so an image that
does not fit is refused; the flash answers at once, as if all of it were in the cache.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from functools import lru_cache

import numpy as np

from qspinn.backend import Tool
from qspinn.errors import BackendError, ToolchainError
from qspinn.fixed import IntArray
from qspinn.installing import Command, apt
from qspinn.render import render

from .builds import Files, in_parts
from .emulate import tool
from .network import Network
from .qemu import LIMIT_SECONDS, Machine, image
from .samples import Recording
from .toolchain import CORES

EXECUTOR = "rp2040"
BOARD = Machine(
    "rp2040", 0x1000_0000, 2 << 20, 0x2000_0000, 264 << 10, io="rp2040_io.c", timed=True
)
PACKAGE = "rp2040js@1.4.1"
HINT = f"make toolchains, or npm install -g {PACKAGE}"
HINT_NODE = "make toolchains, or apt-get install nodejs npm"
STEP = 1
"""The mark before a step's call, as driver.c.j2 sets it."""
MARK_CYCLES = 5
"""Of the store that sets the first mark: a peripheral's register is slow."""


def run_rp2040(files: Files, network: Network, data: IntArray) -> Recording:
    """Run on the emulated part.

    Raises:
        ToolchainError: arm-none-eabi-gcc, Node or rp2040js is not installed.
        BackendError: The program fails, or does not fit the part.
    """
    return in_parts(network, data, lambda given: _run(files, network, given)[0])


def cycles(files: Files, network: Network, data: IntArray) -> IntArray:
    """The cycles of every step's call with its arguments, (batch, steps).

    Args:
        files: The emitted files.
        network: What they were emitted from.
        data: (batch, steps, *input shape).

    Raises:
        ToolchainError: arm-none-eabi-gcc, Node or rp2040js is not installed.
        BackendError: The program fails, or does not fit the part.
    """
    marks: list[IntArray] = []

    def noted(given: bytes) -> bytes:
        states, rows = _run(files, network, given)
        marks.append(rows)
        return states

    in_parts(network, data, noted)
    pairs = np.concatenate(marks).reshape(-1, 2, 2)
    took = pairs[:, 1, 1] - pairs[:, 0, 1] - MARK_CYCLES
    steps: IntArray = took[pairs[:, 0, 0] == STEP]
    return steps.reshape(data.shape[:2])


def _run(files: Files, network: Network, given: bytes) -> tuple[bytes, IntArray]:
    """What the image writes for some samples, and its marks: (marks, what and cycle)."""
    library = rp2040js()
    try:
        folder = image(files, network, CORES["cortex-m0plus"], machine=BOARD).folder
    except BackendError as error:
        if "overflowed by" not in str(error):
            raise
        raise BackendError(
            f"the test program does not fit the RP2040: {BOARD.rom_bytes >> 10} KiB of flash, "
            f"{BOARD.ram_bytes >> 10} KiB of RAM",
            hint="it holds the network, its state and a full event buffer; choose narrower formats",
        ) from error
    (folder / "samples.bin").write_bytes(given)
    (folder / "image.bin").write_bytes(_flash((folder / "image.elf").read_bytes()))
    (folder / "rp2040.cjs").write_text(render("mcu/rp2040.cjs"))
    done = subprocess.run(
        ["node", "rp2040.cjs", library, "image.bin", "cycles.txt"],
        cwd=folder, check=False, capture_output=True, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-2000:]
        raise BackendError(f"the image ends with {done.returncode} on {BOARD.name}: {said}")
    rows = np.loadtxt(folder / "cycles.txt", np.int64, ndmin=2)
    return (folder / "states.bin").read_bytes(), rows


@lru_cache(maxsize=1)
def rp2040js() -> str:
    """Where the emulator is: on $NODE_PATH, or among the packages that npm installed for all.

    Raises:
        ToolchainError: It, or Node, is not installed.
    """
    if shutil.which("node") is None:
        raise ToolchainError("Node is not installed", hint=HINT_NODE)
    places = [os.environ.get("NODE_PATH", "")]
    if npm := shutil.which("npm"):
        places.append(_said(npm, "root", "-g"))
    given = {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, places))}
    found = _said("node", "-p", "require.resolve('rp2040js')", env=given)
    if not found:
        raise ToolchainError("rp2040js is not installed", hint=HINT)
    return found


def _said(*command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints; nothing where it fails."""
    done = subprocess.run(command, check=False, text=True, capture_output=True, env=env)
    return "" if done.returncode else done.stdout.strip()


def tools() -> tuple[Tool, ...]:
    """What the executor uses, found or not."""
    try:
        found = rp2040js()
    except ToolchainError:
        found = ""
    install: tuple[Command, ...] = (("npm", "install", "-g", PACKAGE),)
    if shutil.which("npm") is None:
        install = (*apt("nodejs", "npm"), *install)
    return (Tool("rp2040js", EXECUTOR, found, HINT, install),)


def _flash(elf: bytes) -> bytes:
    """What flash holds: the segments of an image, from the board's first address on."""
    segments = [
        (segment["p_paddr"] - BOARD.rom, segment.data())
        for segment in tool("elftools.elf.elffile").ELFFile(io.BytesIO(elf)).iter_segments()
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
    ]
    flash = bytearray(max(at + len(data) for at, data in segments))
    for at, data in segments:
        flash[at : at + len(data)] = data
    return bytes(flash)
