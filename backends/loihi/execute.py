"""Run an emitted package in Lava, and read its registers back."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qspinn.errors import BackendError, ToolchainError
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Neuron, Output
from qspinn.ports import parts

from .interpreters import hint, interpreter, lacks
from .names import identifiers, register_names

EXECUTORS = ("lava", "lava310", "lava-models")
"""Lava's runtime, here or on the Python it was made for; its process models without a runtime."""
_START_SECONDS, _STEP_SECONDS, _SYNAPSES_A_SECOND = 60.0, 0.02, 2e6
_SHOWN_LINES = 20


def run(folder: Path, graph: Graph, data: Array, executor: str) -> Trace:
    """Run the package in ``folder`` on (batch, steps, *input shape) integers.

    Raises:
        ToolchainError: Lava is not installed.
        BackendError: Lava fails, or does not end.
    """
    if executor not in EXECUTORS:
        raise BackendError(f"loihi has no executor {executor!r}", hint=f"one of {EXECUTORS}")
    python = interpreter(executor)
    if not python:
        found = "" if executor == "lava310" else f": {', '.join(lacks())}"
        raise ToolchainError(f"{executor} is not installed{found}", hint=hint(executor))
    with tempfile.TemporaryDirectory() as scratch:
        into = Path(scratch)
        given = _written(graph, np.asarray(data), into)
        options = ("--models",) if executor == "lava-models" else ()
        program = (python, "-B", str(folder.resolve() / "run.py"), *options)
        _call(program, given, into / _sent(graph), _limit(graph, data))
        return _trace(graph, into)


def _limit(graph: Graph, data: Array) -> float:
    """Seconds after which a run counts as hung: far more than any took."""
    synapses = sum(int(p.values.size) for node in graph.nodes for p in node.params().values())
    places = sum(int(np.prod(node.shape)) for node in graph.of_type(Neuron))
    samples, steps = int(data.shape[0]), int(data.shape[0] * (data.shape[1] + len(graph.nodes)))
    step = len(graph.nodes) * _STEP_SECONDS + (synapses + 100 * places) / _SYNAPSES_A_SECOND
    return _START_SECONDS * (1 + samples / 20) + steps * step


def _written(graph: Graph, data: Array, into: Path) -> Path:
    """What run.py reads: one array, or an archive of one for each input."""
    received = parts(graph, data)
    if len(received) == 1:
        np.save(into / "input.npy", data)
        return into / "input.npy"
    arrays: dict[str, Any] = {f"input.{name}": part for name, part in received.items()}
    np.savez(into / "input.npz", **arrays)
    return into / "input.npz"


def _sent(graph: Graph) -> str:
    """The file that run.py leaves."""
    return "out.npy" if len(graph.of_type(Output)) == 1 else "out.npz"


def _call(program: tuple[str, ...], given: Path, out: Path, limit: float) -> None:
    into = out.parent
    command = [
        *program, "--input", str(given), "--output", str(out), "--trace", str(into / "trace"),
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    log = into / "log"
    with log.open("wb") as output:
        # A session of its own: Lava's processes must die with the run that started them.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            cwd=into, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    if code != 0:
        what = (
            f"did not end within {limit:.0f} s" if code is None else f"failed with exit code {code}"
        )
        raise BackendError(f"Lava {what}\n{_last_lines(log)}", at=str(Path(program[2]).parent))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a run, its children included."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_SHOWN_LINES:]) or "  (it printed nothing)"


def _trace(graph: Graph, into: Path) -> Trace:
    idents = identifiers(graph)
    states = {
        f"{node.name}.{name}": _load(into / "trace" / f"{idents[node.name]}.{word}.npy")
        for node in graph.of_type(Neuron)
        for name, word in register_names(node.states).items()
    }
    return Trace(states, _outputs(graph, into / _sent(graph)))


def _outputs(graph: Graph, path: Path) -> dict[str, Array]:
    names = [node.name for node in graph.of_type(Output)]
    if len(names) == 1:
        return {names[0]: _load(path)}
    _require(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[f"output.{name}"].astype(np.int64) for name in names}


def _load(path: Path) -> Array:
    _require(path)
    values: Array = np.load(path, allow_pickle=False).astype(np.int64)
    return values


def _require(path: Path) -> None:
    if not path.is_file():
        raise BackendError(f"Lava left no {path.name}")
