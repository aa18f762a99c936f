"""The additive model: what each option adds to a loss, and the front it predicts, by programming.

Losses add over knobs. Memory is asked of the problem for whole layers, since the parts of one
layer share their storage; over layers its differences add. Both are predictions: whoever uses
the front asks for the exact memory of its candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from qspinn.explore.problem import Problem
from qspinn.explore.space import Candidate, Space
from qspinn.fixed import FloatArray
from qspinn.ir import Array

COMBINATIONS = 2048
"""Of a layer's own options; with more its knobs count as layers of their own."""
WIDEST = 2048
"""Points of a partial front kept: beyond, the best in each of so many slices of memory."""

Effects = Mapping[tuple[int, int], float]
"""What an option of a knob, both by position, adds to the loss of the base candidate."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Ways to set some knobs: what each adds to memory and loss, and the options it takes."""

    memory: FloatArray
    loss: FloatArray
    options: tuple[tuple[tuple[int, int], ...], ...]


def predicted_front(problem: Problem, base: Candidate, effects: Effects) -> list[Candidate]:
    """The candidates that the additive model expects on the front, the smallest first.

    Args:
        problem: For the memory.
        base: An accepted candidate that the effects refer to.
        effects: Options that are not listed are not taken.
    """
    found = _Part(np.zeros(1), np.zeros(1), ((),))
    for group in groups(problem.space):
        found = _pruned(_sum(found, _pruned(_part(problem, base, effects, group))))
    made = []
    for options in found.options:
        candidate = list(base)
        for knob, option in options:
            candidate[knob] = option
        made.append(tuple(candidate))
    return made


def groups(space: Space) -> list[tuple[int, ...]]:
    """The knobs whose memory is asked for together: those of a layer, if they are few."""
    layers: dict[str, list[int]] = {}
    for k, knob in enumerate(space.knobs):
        layers.setdefault(knob.layer or f":{k}", []).append(k)
    found: list[tuple[int, ...]] = []
    for group in layers.values():
        few = prod(len(space.knobs[k].options) for k in group) <= COMBINATIONS
        found += [tuple(group)] if few else [(k,) for k in group]
    return found


def _part(problem: Problem, base: Candidate, effects: Effects, group: Sequence[int]) -> _Part:
    """All accepted ways to set the knobs of a group, the others as in ``base``."""
    start = problem.memory(base)
    assert start is not None, "the base is accepted"
    choices = [
        [o for o in range(len(problem.space.knobs[k].options)) if o == base[k] or (k, o) in effects]
        for k in group
    ]
    memory, loss, ways = [], [], []
    for taken in product(*choices):
        candidate = list(base)
        for k, option in zip(group, taken, strict=True):
            candidate[k] = option
        size = problem.memory(tuple(candidate))
        if size is None:
            continue
        way = tuple((k, o) for k, o in zip(group, taken, strict=True) if o != base[k])
        memory.append(float(size - start))
        loss.append(sum(effects[key] for key in way))
        ways.append(way)
    return _Part(np.array(memory), np.array(loss), tuple(ways))


def _sum(a: _Part, b: _Part) -> _Part:
    """Every way of the one with every way of the other."""
    memory = (a.memory[:, None] + b.memory).ravel()
    loss = (a.loss[:, None] + b.loss).ravel()
    kept = _front(memory, loss)
    options = tuple(a.options[i // len(b.loss)] + b.options[i % len(b.loss)] for i in kept)
    return _Part(memory[kept], loss[kept], options)


def _pruned(part: _Part) -> _Part:
    kept = _front(part.memory, part.loss)
    if len(kept) > WIDEST:
        span = part.memory[kept]
        slices = np.floor((span - span[0]) / (span[-1] - span[0]) * (WIDEST - 1))
        # Ascending in memory, the last of a slice has its smallest loss.
        kept = kept[np.append(np.flatnonzero(np.diff(slices)), len(kept) - 1)]
    return _Part(part.memory[kept], part.loss[kept], tuple(part.options[i] for i in kept))


def _front(memory: FloatArray, loss: FloatArray) -> Array:
    """The positions on the front, by memory; of equals the first."""
    order = np.lexsort((np.arange(len(memory)), loss, memory))
    sorted_loss = loss[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(sorted_loss)[:-1]])
    chosen: Array = order[sorted_loss < before]
    return chosen
