"""Counts an inference on an emulated core, by the stages of a step."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from qspinn.bench import Count, StageCount
from qspinn.errors import BackendError, ToolchainError
from qspinn.fixed import IntArray
from qspinn.ir import Array

from . import toolchain
from .builds import sources
from .counting import Counts
from .cycles import NOT_MODELLED, TIMINGS
from .execute import checked
from .network import Network
from .plugin import counted
from .qemu import MACHINES
from .toolchain import CORES, Core

COUNTED = tuple(name for name, core in CORES.items() if core.unicorn or name in MACHINES)
"""The cores that are counted on."""


def core_of(text: str) -> Core:
    """A core by name: ``cortex-m4``, ``M4``, ``m0+``.

    Raises:
        BackendError: There is none, or nothing here emulates it.
    """
    name = text.lower().replace("m0+", "m0plus")
    name = f"cortex-{name}" if re.fullmatch(r"m\d+\w*", name) else name
    if name in COUNTED:
        return CORES[name]
    known = name in CORES
    said = f"nothing here emulates a {name}" if known else f"no core {text!r}"
    raise BackendError(said, hint=f"one of {', '.join(COUNTED)}")


def compiler_for(core: Core, asked: str | None) -> str:
    """The compiler asked for; else GCC, which firmware is built with, and clang without it."""
    if asked is not None:
        return asked
    try:
        toolchain.gcc(core)
    except ToolchainError:
        return "clang"
    return "gcc"


def count(
    folder: Path, network: Network, data: Array, core_name: str, compiler: str | None
) -> Count:
    """Count the emitted files in ``folder`` on a batch (batch, steps, *input shape).

    Args:
        folder: Where they are; it is left as it is.
        network: What they were emitted from.
        data: Integers.
        core_name: As `core_of` reads it.
        compiler: One of `toolchain.COMPILERS`; None: as `compiler_for` says.

    Raises:
        ToolchainError: A tool is missing.
        BackendError: The files do not compile, do not run, or are of another graph; or there is
            no such core or compiler.
    """
    core = core_of(core_name)
    chosen = compiler_for(core, compiler)
    files, batch = sources(folder, network), checked(network, data)
    found = counted(files, network, batch, core, chosen)
    cycles = None if found.cycles is None else found.cycles[0].sum((1, 2))
    return Count(
        core=core.name,
        compiler=f"{named(core, chosen)} -O2",
        stages=tuple(_stages(network, found)),
        once=tuple(_once(network, found)),
        samples=found.steps.sum((1, 2)),
        cycles=cycles,
        stack=found.stack,
        notes=(_note(core),),
    )


def named(core: Core, compiler: str) -> str:
    """A compiler with its version."""
    if compiler == "clang":
        return f"clang of ziglang {version('ziglang')}"
    command = [toolchain.gcc_of(core), "-dumpfullversion"]
    done = subprocess.run(command, check=True, text=True, capture_output=True)
    return f"gcc {done.stdout.strip()}"


def _note(core: Core) -> str:
    if core.name in TIMINGS:
        return f"cycles are a model of the core: {NOT_MODELLED}"
    why = "makers' cores differ" if not core.arm else "it issues two instructions at once"
    return f"cycles of {core.name} are not modelled: {why}"


def _stages(network: Network, found: Counts) -> Iterable[StageCount]:
    titles = {stage.name: stage.title for stage in network.stages}
    titles[f"{network.prefix}_step"] = "checks the input and calls the others"
    for name in (*titles, *(f for f in found.functions if f not in titles)):
        if name in found.functions:
            made = _count(name, titles.get(name, ""), network, found, part=0)
            if made.instructions:
                yield made


def _once(network: Network, found: Counts) -> Iterable[StageCount]:
    for part, word in ((1, "reset"), (2, "winner")):
        what = "before the first step" if word == "reset" else "after the last step"
        yield _count(f"{network.prefix}_{word}", what, network, found, part)


def _count(name: str, title: str, network: Network, found: Counts, part: int) -> StageCount:
    place = found.functions.index(name)
    counts = (found.steps, found.resets, found.winners)[part]
    cycles = None if found.cycles is None else _mean(found.cycles[part], place)
    layer = network.owners.get(name, "")
    return StageCount(name, layer, title, _mean(counts, place), cycles)


def _mean(counts: IntArray, function: int) -> float:
    """Of an inference: the sum over all but the first axis, averaged over that."""
    return float(counts[..., function].sum()) / len(counts)
