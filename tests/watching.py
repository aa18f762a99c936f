"""See every intermediate value of a reference run, not only what it reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np

from qspinn import interp
from qspinn.interp import Trace
from qspinn.ir import Array, Graph
from qspinn.program import Program


@dataclass(frozen=True, eq=False)
class Step:
    """One step of one layer: its list, when, and what every operation gave, by position."""

    program: Program
    time: int
    shape: tuple[int, ...]
    values: tuple[Array, ...]


def watched(graph: Graph, data: Array) -> tuple[Trace, list[Step]]:
    """Run the reference; also give every step of every layer."""
    seen: list[Step] = []
    step = interp.step_program

    def spy(
        program: Program, leaves: Mapping[str, Array], t: int, shape: tuple[int, ...]
    ) -> tuple[dict[str, Array], Array]:
        # With every operation declared final, the interpreter itself hands out all values.
        everything = replace(program, finals={str(i): i for i in range(len(program.ops))})
        values, sent = step(everything, leaves, t, shape)
        seen.append(Step(program, t, shape, tuple(np.asarray(x) for x in values.values())))
        return {name: values[str(i)] for name, i in program.finals.items()}, sent

    with patch.object(interp, "step_program", spy):
        return interp.run(graph, data), seen


def clipped(seen: Iterable[Step]) -> Iterator[tuple[str, int]]:
    """For each store that may act: how it overflows, and how often it did."""
    for step in seen:
        for op in step.program.ops:
            if op.kind == "fit":
                x = step.values[op.args[0]]
                yield str(op.overflow), int(np.count_nonzero((x < op.low) | (x > op.high)))
