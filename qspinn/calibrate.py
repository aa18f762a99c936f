"""What a float network does on calibration data: the ranges that formats are chosen for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qspinn.fixed import FloatArray
from qspinn.interp import run
from qspinn.ir import CONNECTIONS, Array, Graph, Input, Neuron
from qspinn.ports import entering, parts, places

_BATCH = 16


@dataclass(frozen=True, eq=False)
class Calibration:
    """Observed ranges of a float graph, in real units before scaling; compared by identity.

    Attributes:
        peaks: The largest magnitude stored in each state, ``lif1.v``, before any reset.
        highs: The largest value stored there, or 0.
        currents: The largest magnitude of the summed input of each neuron node.
        input_ranges: By input node the smallest and the largest value that entered.
        rates: Events per step and element of what each connection read.
        inputs: What each connection read, (observations, features), to weigh errors by.
        activity: By input node the mean magnitude that each of its elements received in a step,
            over all data.
        steps: The number of steps a sample lasts; None without data.
        method: How scales follow: ``max``, ``percentile`` or ``error`` (see `planning`).
        group: What shares a scale: ``layer``, or ``channel`` (also a neuron of a linear layer);
            empty: the target's default, mostly ``layer``.
    """

    peaks: Mapping[str, float] = field(default_factory=dict)
    highs: Mapping[str, float] = field(default_factory=dict)
    currents: Mapping[str, float] = field(default_factory=dict)
    input_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    activity: Mapping[str, FloatArray] = field(default_factory=dict)
    steps: int | None = None
    method: str = "error"
    group: str = ""


def observe(
    graph: Graph,
    data: Array,
    keep: int = 512,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Run the float graph on ``data`` (samples, steps, *shape) and note what its values reach.

    Args:
        graph: A float graph.
        data: What its input receives, already encoded.
        keep: About how many observations of each connection's input to keep.
        progress: Told how many samples are done.
    """
    peaks: dict[str, float] = {}
    highs: dict[str, float] = {}
    seen: dict[str, list[Array]] = {}
    connections = {node.name for node in graph.nodes if isinstance(node, CONNECTIONS)}
    every = max(1, data.shape[0] * data.shape[1] // max(keep, 1))
    calls: dict[str, int] = {}

    def watch(path: str, values: Array) -> None:
        if path in connections:
            rows = values.reshape(len(values), -1)
            offset = calls.get(path, 0)
            calls[path] = offset + len(rows)
            seen.setdefault(path, []).append(rows[(-offset) % every :: every].copy())
        else:
            peaks[path] = max(peaks.get(path, 0.0), float(np.abs(values).max()))
            highs[path] = max(highs.get(path, 0.0), float(values.max()))

    for first in range(0, len(data), _BATCH):
        run(graph, data[first : first + _BATCH], watch=watch, record=False)
        if progress:
            progress(min(first + _BATCH, len(data)))
    peaks = {name: steady(peak) for name, peak in peaks.items()}
    neurons, received = [node.name for node in graph.of_type(Neuron)], parts(graph, data)
    inputs = {name: np.concatenate(rows) for name, rows in seen.items()}
    return Calibration(
        peaks={k: v for k, v in peaks.items() if k not in neurons},
        highs={k: steady(v) for k, v in highs.items() if k not in neurons},
        currents={name: peaks[name] for name in neurons},
        input_ranges={
            node.path: (
                float(received[node.name].min(initial=0.0)),
                float(received[node.name].max(initial=0.0)),
            )
            for node in graph.of_type(Input)
        },
        rates={name: float((x != 0).mean()) for name, x in inputs.items()},
        inputs=inputs,
        activity=activity_of(graph, [data]),
        steps=int(data.shape[1]),
    )


def steady(x: float) -> float:
    """To 24 bits: in which order a library adds, on how many cores, moves the last ones.

    Plans hold scales that follow from what was seen, to the last digit.
    """
    mantissa, exponent = np.frexp(x)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, 24)), int(exponent) - 24))


def activity_of(graph: Graph, batches: Iterable[Array]) -> dict[str, FloatArray]:
    """By input the mean magnitude each of its elements received in a step; zeros without data.

    Args:
        graph: The graph the data enter.
        batches: Data as for `observe`; more of them than it runs on make rare inputs known.
    """
    inputs = graph.of_type(Input)
    total, steps = np.zeros(entering(inputs)), 0
    for data in batches:
        for first in range(0, len(data), _BATCH):
            some = data[first : first + _BATCH]
            total += np.abs(some).sum((0, 1))
            steps += some.shape[0] * some.shape[1]
    mean = total / max(steps, 1)
    if len(inputs) == 1:
        return {inputs[0].path: mean}
    return {node.path: mean[place].reshape(node.shape) for node, place in places(inputs)}
