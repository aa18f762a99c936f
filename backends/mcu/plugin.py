"""Instructions by function and step on QEMU's boards, counted by a plugin that is built here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.render import render

from . import toolchain
from .builds import Built, Files, in_parts
from .counting import API, Counts, Span, count, parted, spans_of
from .network import Network
from .qemu import emulation, executed, image
from .toolchain import Core

PAINTED = 4096
"""How many bytes below the caller's stack are watched."""


@lru_cache(maxsize=1)
def plugin() -> Built:
    """The plugin, ``count.so``, compiled for this machine.

    Raises:
        ToolchainError: There is no C compiler for this machine.
        BackendError: It fails.
    """
    built = Built((("count.c", render("mcu/count.c").encode()),))
    options = ("-O2", "-shared", "-fPIC", "-std=gnu99", "-o", "count.so", "count.c")
    toolchain.compile_((*toolchain.host(), *options), built.folder)
    return built


def count_qemu(
    files: Files,
    network: Network,
    data: IntArray,
    core: Core,
    compiler: str = "gcc",
    apart: bool = False,
) -> Counts:
    """Everything that a batch (batch, steps, *shape) runs on a board of QEMU: exact, no cycles.

    Raises:
        ToolchainError: A compiler, for the core or for this machine, or QEMU is not installed.
        BackendError: The program fails.
    """
    batch, steps = data.shape[:2]
    command = emulation(core)
    library = plugin().folder / "count.so"
    folder = image(files, network, core, compiler, PAINTED).folder
    found = spans_of((folder / "image.elf").read_bytes(), network, apart)
    spans = [span for span in found if span.name.startswith(f"{network.prefix}_")]
    (folder / "ranges.txt").write_text("".join(_line(span, network) for span in spans))
    command += ["-plugin", f"{library},ranges=ranges.txt,out=counts.txt"]
    rows, stacks = [], [0]

    def program(part: bytes) -> bytes:
        written = executed(command, folder, part, core)
        rows.append(np.loadtxt(folder / "counts.txt", np.int64, ndmin=2)[1:])
        stacks.append(int.from_bytes(written[-4:], "little"))
        return written[:-4]

    in_parts(network, data, program)
    own = [span.name for span in spans if not span.helps]
    table = np.concatenate(rows).reshape(batch, steps + 2, len(own))
    deepest = max(stacks)
    if deepest >= PAINTED:
        raise BackendError(f"a step takes {PAINTED} B of stack or more on {core.name}")
    return Counts(tuple(own), *parted(table), None, deepest)


def counted(
    files: Files,
    network: Network,
    data: IntArray,
    core: Core,
    compiler: str = "gcc",
    apart: bool = False,
) -> Counts:
    """The same on any core that is emulated: by unicorn where it knows the core, else by QEMU.

    Raises:
        ToolchainError: A compiler or an emulator is not installed.
        BackendError: The program fails, or nothing emulates the core.
    """
    if core.unicorn or not core.arm:
        return count(files, network, data, core, compiler, apart)
    return count_qemu(files, network, data, core, compiler, apart)


def _line(span: Span, network: Network) -> str:
    marks = {f"{network.prefix}_{name}" for name in API}
    role = 2 if span.helps else int(span.name in marks)
    return f"{span.start:x} {span.end:x} {role}\n"
