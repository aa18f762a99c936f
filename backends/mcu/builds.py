"""Emitted files on their way to an executor: checked, copied aside, with a driver."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.ir import Graph
from qspinn.render import render

from .emit import FORMAT, passed
from .names import prefix_of
from .network import Network
from .samples import Recording, batches, decode, encode, joined

Files = tuple[tuple[str, bytes], ...]
"""The emitted files, hashable."""


class Built:
    """Emitted files compiled in a folder of their own, which goes with the object."""

    def __init__(self, files: Files) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qspinn-"))
        # Not a TemporaryDirectory: it warns where a cache drops it.
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        for name, content in files:
            (self.folder / name).write_bytes(content)


def sources(folder: Path, network: Network) -> Files:
    """The emitted files of a network in ``folder``.

    Raises:
        BackendError: A file is missing, or they were emitted from another graph or by a version
            that lays out the state in another way.
    """
    names = tuple(network.prefix + end for end in (".h", "_impl.h", "_data.h", ".c"))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BackendError(f"{folder} lacks {', '.join(missing)}", hint="compile the network again")
    files = tuple((name, (folder / name).read_bytes()) for name in names)
    if f'"{network.model}"'.encode() not in files[0][1]:
        raise BackendError(
            f"{names[0]} was not emitted from this graph", hint="compile the network again"
        )
    format_ = re.search(rf"{network.macro}_FORMAT +(\d+)".encode(), files[0][1])
    if format_ is None or int(format_[1]) != FORMAT:
        raise BackendError(
            f"{names[0]} is of another version of qspinn than this one",
            hint="compile the network again",
        )
    declared = re.findall(rf"{network.macro}_STATE_BYTES +(\d+)u".encode(), files[0][1])
    size = max(map(int, declared), default=network.struct.bytes)  # an AVR pads nothing
    if size != network.struct.bytes:
        raise BackendError(
            f"{names[0]} has a state of {size} B, this version of qspinn makes "
            f"{network.struct.bytes} B of it",
            hint="compile the network again",
        )
    return files


def made_for_eight(folder: Path, graph: Graph) -> bool:
    """Whether the files in ``folder`` are laid out for cores with 8-bit registers."""
    prefix = prefix_of(graph.name)
    header = folder / f"{prefix}.h"
    return header.is_file() and f"#define {prefix.upper()}_EIGHT " in header.read_text()


def driver(network: Network, io: str, painted: int = 0, *, timed: bool = False) -> str:
    """The program that steps through samples.

    Args:
        network: What it steps.
        io: The template that says how it reads and writes.
        painted: Bytes of stack that it watches, on cores only; 0: none.
        timed: Whether it marks when a call begins and ends, in ``MARKS`` of ``io``.
    """
    return render(
        "mcu/driver.c.j2", net=network, P=network.prefix, M=network.macro, io=f"mcu/{io}",
        passed=passed(network.port), painted=painted, timed=timed,
    )  # fmt: skip


def in_parts(network: Network, data: IntArray, program: Callable[[bytes], bytes]) -> Recording:
    """Feed a batch to a program part by part."""
    batch, steps = data.shape[:2]
    flat = data.reshape(batch, steps, network.port.size)
    parts = [
        decode(network, program(encode(network.port, flat[part])), len(flat[part]), steps)
        for part in batches(network, batch, steps)
    ]
    return joined(parts)
