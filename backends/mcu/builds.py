"""Emitted files on their way to an executor: checked, copied aside, with a driver."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.render import render

from .emit import passed
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
        BackendError: A file is missing, or they were emitted from another graph.
    """
    names = tuple(network.prefix + end for end in (".h", "_impl.h", "_data.h", ".c"))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BackendError(f"{folder} lacks {', '.join(missing)}", hint="compile the network again")
    files = tuple((name, (folder / name).read_bytes()) for name in names)
    if f'"{network.model}"'.encode() not in files[0][1]:
        raise BackendError(
            f"{names[0]} was not emitted from this graph", hint="compile the network again"
        )
    return files


def driver(network: Network, io: str) -> str:
    """The program that steps through samples; ``io`` is how it reads and writes."""
    return render(
        "mcu/driver.c.j2", net=network, P=network.prefix, M=network.macro, io=f"mcu/{io}",
        passed=passed(network.port),
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
