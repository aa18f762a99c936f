"""Bit equality of an artifact and the reference, and where it first breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qspinn.backend import Backend
from qspinn.errors import BackendError, MismatchError
from qspinn.fixed import Interval, hash32
from qspinn.interp import Trace, run
from qspinn.ir import Array, Graph, Input
from qspinn.ports import together
from qspinn.signals import signals


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first value that differs: by sample, then step, then order in the graph, then neuron."""

    sample: int
    step: int
    register: str
    neuron: int
    expected: int
    got: int

    def __str__(self) -> str:
        return (
            f"sample {self.sample}, step {self.step}, {self.register}[{self.neuron}]: "
            f"expected {self.expected}, got {self.got}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one executor was compared in: ``mismatch`` is None when every bit was equal."""

    executor: str
    samples: int
    steps: int
    values: int
    mismatch: Mismatch | None = None


def compare(expected: Trace, got: Trace) -> Mismatch | None:
    """The first difference between two traces, or None.

    Raises:
        BackendError: ``got`` lacks a register, or has it in another shape.
    """
    first: tuple[int, int, int, int] | None = None
    found: Mismatch | None = None
    for order, (register, want, have) in enumerate(_registers(expected, got)):
        if np.array_equal(want, have):
            continue
        flat = want != have
        sample, step, neuron = (int(x) for x in np.argwhere(flat)[0])
        key = (sample, step, order, neuron)
        if first is None or key < first:
            first = key
            found = Mismatch(
                sample, step, register, neuron,
                int(want[sample, step, neuron]), int(have[sample, step, neuron]),
            )  # fmt: skip
    return found


def _registers(expected: Trace, got: Trace) -> Iterator[tuple[str, Array, Array]]:
    for ours, theirs in ((expected.states, got.states), (expected.outputs, got.outputs)):
        for register, want in ours.items():
            if register not in theirs:
                raise BackendError(f"the executor did not report {register}")
            have = theirs[register]
            if have.shape != want.shape:
                raise BackendError(f"{register} has shape {have.shape}, expected {want.shape}")
            yield register, _flat(want), _flat(have)


def _flat(values: Array) -> Array:
    return values.reshape(*values.shape[:2], -1).astype(np.int64)


def count_values(trace: Trace) -> int:
    """How many integers a comparison of this trace covers."""
    return sum(int(v.size) for part in (trace.states, trace.outputs) for v in part.values())


def check_artifact(
    backend: Backend,
    folder: Path,
    graph: Graph,
    data: Array,
    executor: str,
    *,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Run the emitted files of ``folder`` against the reference.

    Args:
        backend: The target.
        folder: Where the artifact lies.
        graph: The lowered graph it was emitted from.
        data: Input integers (samples, steps, *shape).
        executor: One of the target's executors.
        batch: How many samples at a time; the comparison stops at the first that differs.
        progress: Told how many samples are done.
    """
    values = 0
    for first in range(0, len(data), batch):
        chunk = data[first : first + batch]
        expected = run(graph, chunk)
        mismatch = compare(expected, backend.run(folder, graph, chunk, executor))
        values += count_values(expected)
        if mismatch is not None:
            moved = Mismatch(
                mismatch.sample + first, mismatch.step, mismatch.register, mismatch.neuron,
                mismatch.expected, mismatch.got,
            )  # fmt: skip
            return Verdict(executor, first + len(chunk), data.shape[1], values, moved)
        if progress:
            progress(first + len(chunk))
    return Verdict(executor, len(data), data.shape[1], values)


def require_equal(verdict: Verdict) -> None:
    """Raise unless every bit was equal.

    Raises:
        MismatchError: With the first divergence.
    """
    if verdict.mismatch is not None:
        raise MismatchError(
            f"is not bit-exact: {verdict.mismatch}",
            at=verdict.executor,
            hint="the artifact was changed, or this is a bug in qspinn: please report it",
        )


def random_input(graph: Graph, samples: int, steps: int, seed: int, rate: float = 0.15) -> Array:
    """Seeded input for a network without data: spikes, counts or values over each input's range."""
    known = signals(graph)
    received = {
        node.name: _random(node, known[node.name].interval, samples, steps, seed, rate, 2 * i)
        for i, node in enumerate(graph.of_type(Input))
    }
    return together(graph, received)


def _random(
    node: Input,
    span: Interval | None,
    samples: int,
    steps: int,
    seed: int,
    rate: float,
    stream: int,
) -> Array:
    low, high = (span.lo, span.hi) if span is not None else (0, node.high)
    shape = (samples, steps, *node.shape)
    index = np.arange(int(np.prod(shape))).reshape(shape)
    draws = np.asarray(hash32(seed, stream + 1, index)).astype(np.int64)
    levels = low + np.asarray(hash32(seed, stream + 2, index)).astype(np.int64) % (high - low + 1)
    if node.kind == "current":
        return levels
    fires = draws < int(rate * 2**32)
    return np.where(fires, np.maximum(levels, 1), 0)
