"""The leaky neurons that eight-bit cores have assembly for."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.fixed import Interval
from qspinn.program import Program

from .leaky import LANES16, LeakyStep, leaky_step

MOST_PLACES = 8


@dataclass(frozen=True, slots=True)
class Leaky:
    """v = fit(v - (v >> places) + a); spikes where v >= level; then v is reset.

    Attributes:
        places: The shift.
        saturates: Whether the sum may leave 16 bits, and is kept within.
        level: The least value that spikes.
        subtracts: Whether a reset takes ``reset`` from v; else v becomes ``reset``.
        reset: What it takes or leaves.
    """

    places: int
    saturates: bool
    level: int
    subtracts: bool
    reset: int


def leaky(program: Program) -> Leaky | None:
    """What a list says, where it says this of a current of at most 16 bits, which callers check."""
    step = leaky_step(program)
    if step is None or not _is_bare(step):
        return None
    threshold = step.threshold.lo
    level = threshold + step.beyond
    subtracts = step.reset is None
    reset = threshold if step.reset is None else step.reset
    # Only what reaches the level is reset: the rest of the proved interval does not matter.
    most = max(level, step.high) - reset if subtracts else reset
    if any(value not in LANES16 for value in (level, reset, most)):
        return None
    return Leaky(step.decay.shift, step.next not in LANES16, level, subtracts, reset)


def _is_bare(step: LeakyStep) -> bool:
    """A decay by a shift, the current as it is, one constant threshold, perhaps a 16-bit clip."""
    by_shift = not step.decay.factor and 1 <= step.decay.shift <= MOST_PLACES
    alone = step.gain == 0 and not step.biases and step.fixed == 0
    constant = not step.name and step.threshold.lo == step.threshold.hi
    clip = Interval(step.low, step.high)
    return by_shift and alone and constant and (step.next in clip or clip == LANES16)
