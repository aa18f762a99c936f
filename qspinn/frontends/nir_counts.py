"""How many spikes a neuron can send in one step: a bound from the weights that holds for ever."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qspinn.fixed import FloatArray
from qspinn.frontends.nir_neurons import Cell
from qspinn.interp import apply
from qspinn.ir import CONNECTIONS, Array, Node, Param
from qspinn.signals import Signal

MOST = 255
"""Where the proof would need more spikes a step than this, this many are sent at most."""

Highs = Array | None
"""The most that each element of a signal can be, or None where it has no bound or no sign."""


def passed(node: Node, highs: Highs, *, graded: bool) -> Highs:
    """What a stateless node makes of the bounds; inhibition may be absent, so it counts nothing."""
    if highs is None or (graded and isinstance(node, CONNECTIONS)):
        return None
    if isinstance(node, CONNECTIONS):
        weights = {k: p for k, p in node.params().items() if k != "bias"}
        excited = {k: Param(np.maximum(p.values, 0)) for k, p in weights.items()}
        node = node.with_params(excited)
    found: Array = apply(node, highs[None], Signal(highs.shape, "count"))[0]
    return found


def spikes(cell: Cell, currents: Sequence[Highs]) -> Highs:
    """The most spikes of each neuron in a step.

    What is left of the potential lies below the threshold, the leak only lowers it, and the step
    adds at most the current: so at most 1 + floor(current / threshold) thresholds fit. A threshold
    that falls again, or a reset that takes less than the threshold, leaves more.
    """
    if any(c is None for c in currents) or "adaptation_decay" in cell.values:
        return None
    if (cell.values.get("reset_step", np.inf) < cell.values["threshold"]).any():
        return None
    drive: FloatArray = np.maximum(np.sum([c for c in currents if c is not None], axis=0), 0)
    if "current_decay" in cell.values:
        if (cell.values["current_decay"] >= 1).any():
            return None
        drive = drive / (1 - cell.values["current_decay"])
    drive = drive + cell.values.get("bias", np.zeros(()))
    # The division is rounded; a hair more keeps the bound one.
    with np.errstate(over="ignore", invalid="ignore"):
        fits = np.floor(drive / cell.values["threshold"] * (1 + 1e-12) + 1e-9)
    most: FloatArray = np.maximum(1 + fits, 1)
    return most if np.isfinite(most).all() else None


def enough(highs: Highs) -> tuple[int, bool]:
    """The smallest 2**b - 1 that is not below the bound, and whether `MOST` cut it off."""
    if highs is None or not highs.max() <= MOST:
        return MOST, True
    return (1 << int(highs.max()).bit_length()) - 1, False
