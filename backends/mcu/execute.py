"""Runs emitted files on any executor, every state read back after every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qspinn.errors import BackendError
from qspinn.fixed import IntArray
from qspinn.interp import Trace
from qspinn.ir import Array

from . import avr, rp2040, toolchain
from .builds import Files, sources
from .emulate import Board
from .hosted import run_hosted
from .network import Network
from .qemu import run_qemu
from .samples import Recording, trace
from .simavr import run_simavr
from .table import EMULATED, EXECUTORS, QEMU
from .toolchain import CORES


def run(folder: Path, network: Network, data: Array, executor: str) -> Trace:
    """Build emitted files aside and run them on a batch (batch, steps, *input shape).

    Args:
        folder: Where they are; it is left as it is.
        network: What they were emitted from.
        data: Integers.
        executor: One of `table.EXECUTORS`.

    Raises:
        ToolchainError: A tool is missing.
        BackendError: The files do not compile, do not run, or are of another graph.
    """
    return trace(network, record(sources(folder, network), network, data, executor))


def record(files: Files, network: Network, data: Array, executor: str) -> Recording:
    """The same, as structs and decisions."""
    batch = checked(network, data)
    if executor == "host":
        return run_hosted(files, network, batch, toolchain.host())
    if executor == "sanitize":
        return run_hosted(files, network, batch, toolchain.sanitizing())
    if executor in EMULATED:
        return Board(files, network, CORES[executor]).run(batch)
    if executor in QEMU:
        return run_qemu(files, network, batch, QEMU[executor])
    if executor in avr.EXECUTORS:
        return run_simavr(files, network, batch, avr.EXECUTORS[executor])
    if executor == rp2040.EXECUTOR:
        return rp2040.run_rp2040(files, network, batch)
    raise BackendError(f"no executor {executor!r}", hint=f"one of {', '.join(EXECUTORS)}")


def checked(network: Network, data: object) -> IntArray:
    """Integer data of the network's shape.

    Raises:
        BackendError: They are none.
    """
    values = np.asarray(data)
    if not np.issubdtype(values.dtype, np.integer) and values.dtype != np.bool_:
        raise BackendError(f"the emitted C takes integers, not {values.dtype}")
    if values.ndim < 2 or int(np.prod(values.shape[2:])) != network.port.size:
        raise BackendError(f"data of shape {values.shape} do not fit {network.port.size} inputs")
    low, high, span = values.min(initial=0), values.max(initial=0), network.port.span
    if values.size and (low < min(span.lo, 0) or high > max(span.hi, 0)):
        raise BackendError(f"data run from {low} to {high}, outside {span}")
    return values.astype(np.int64)
