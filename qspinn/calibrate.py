"""What a float network does on calibration data: the ranges that formats are chosen for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qspinn.ir import Array, Graph


@dataclass(frozen=True)
class Calibration:
    """Observed ranges of a float graph, in real units before scaling.

    Attributes:
        peaks: The largest magnitude stored in each state, ``lif1.v``, before any reset.
        rates: Spikes per step and neuron of each node that sends spikes.
        inputs: A sample of what each connection reads, (samples, features), to weigh errors by.
        steps: The number of steps a sample lasts.
    """

    peaks: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    steps: int | None = None


def observe(graph: Graph, data: Array, keep: int = 256) -> Calibration:
    """Run the float graph on ``data`` (batch, steps, *shape) and note what its values reach."""
    from qspinn.interp import observe_states

    peaks, rates, inputs = observe_states(graph, np.asarray(data, np.float64), keep)
    return Calibration(peaks, rates, inputs, int(data.shape[1]))
