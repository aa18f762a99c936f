"""Weights finer than the summed input they make: a weight exponent drops low bits of the sum.

A summed input holds 16 bits, whatever it sums. Where many inputs leave few of them to each weight,
or where the inputs themselves have fraction bits, mantissas keep all their bits and the exponent
shifts the sum down. That rounds once, and down, where rounding weights errs once an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qspinn.calibrate import Calibration
from qspinn.choice import Choices
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding, round_real
from qspinn.ir import Graph, Input, Lateral, Neuron, Node, SumPool2d
from qspinn.passes.quantize import input_of, path_of
from qspinn.plan import Entry, Plan
from qspinn.planning import connections_of, input_plan, weight

from .synapses import way
from .table import WEIGHT_EXPONENTS

INPUT = QFormat(32, 0)
"""A summed input as Lava's channels hold it; that 16 bits are enough is shown elsewhere."""
_ENTRY = Entry(INPUT, Rounding.FLOOR, Overflow.ERROR, "free")
_NOTE = "finer than the summed input, whose low bits are dropped"
_LITTLE = 2.0**-10
"""Part of the summed input's mean square: 3 % of its size."""


def dropping(
    graph: Graph,
    node: Neuron,
    factor: FloatArray,
    wanted: Mapping[str, QFormat],
    entries: Mapping[str, Entry],
    calibration: Calibration,
    given: Plan,
    choices: Choices,
) -> dict[str, Entry]:
    """Entries that make weights finer than the summed input they enter, if it loses less by that.

    Of several connections it is one: each has an exponent of its own, and sums that are shifted one
    by one are not their shifted sum. Compared in the mean square of what it adds to the summed
    input on the calibration data. Inputs with fraction bits of their own have no other way into
    Lava's LIF: there it is enough to lose little.

    Args:
        graph: A canonical float graph.
        node: Neurons that Lava's LIF can be.
        factor: Their scale.
        wanted: By connection, the format that the weights would have without a limit on their
            point; of those that have an exponent, which Lava's convolutions have not.
        entries: The layer's entries so far, whose weights are whole units of the summed input.
        calibration: What the layer reads.
        given: What is settled already.
        choices: What is asked beside the defaults.
    """
    connections = connections_of(graph, node)
    if any(isinstance(connection, Lateral) for connection in connections):
        return {}  # few of many compete: spikes came no nearer, and mantissas took more words
    settled = {**entries, **given.entries}
    places = {c.name: _places(graph, c, calibration, given, choices) for c in connections}
    valued = [c for c in connections if places[c.name]]
    biases, shift = _biases(connections, factor, settled)
    if len(valued) > 1 or {input_of(node), *biases} & given.entries.keys():
        return {}
    found: dict[str, Entry] = {}
    most = 0.0
    for connection in valued or connections:
        path, seen = path_of(connection, "weight"), calibration.inputs.get(connection.name)
        fmt = wanted.get(connection.name)
        if seen is None or fmt is None or fmt.binary or path in given.entries:
            continue
        others = [c for c in connections if c is not connection]
        if len(graph.users(connection.name)) > 1 or _pooled(graph, connection):
            continue
        if any(settled[path_of(c, "weight")].fmt.frac > INPUT.frac for c in others):
            continue
        own = places[connection.name]
        fmt = replace(fmt, frac=min(fmt.frac, _finest(fmt) - own))
        if fmt.frac + own <= INPUT.frac:
            continue
        made = replace(entries[path], fmt=fmt, note=_NOTE)
        rows = weight(connection)
        rows = rows * np.broadcast_to(factor.reshape(-1), len(rows))[:, None]
        exact = seen @ rows.T
        fine = np.floor(seen @ _held(rows, made).T) + shift
        whole = seen @ _held(rows, entries[path]).T
        lost, otherwise = (float(((x - exact) ** 2).mean()) for x in (fine, whole))
        little = _LITTLE * float((exact**2).mean()) if own else 0.0
        if (gain := max(otherwise, little) - lost) > most:
            found, most = {path: made, input_of(node): _ENTRY, **biases}, gain
    return found


def _biases(
    connections: tuple[Node, ...], factor: FloatArray, entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], FloatArray]:
    """The biases in whole units of the summed input, and by how much that moves it."""
    made: dict[str, Entry] = {}
    moved = np.zeros(())
    for connection in connections:
        bias = connection.params().get("bias")
        if bias is None:
            continue
        path = path_of(connection, "bias")
        fmt = entries[path].fmt
        made[path] = replace(entries[path], fmt=replace(fmt, frac=min(fmt.frac, INPUT.frac)))
        real = bias.values * factor.reshape(-1)
        moved = moved + _held(real, made[path]) - real
    return made, moved


def _pooled(graph: Graph, connection: Node) -> bool:
    """Whether it reads a pool, whose windows may add up weights to more bits than a synapse has."""
    return any(isinstance(node, SumPool2d) for node in way(graph, connection).between)


def _finest(fmt: QFormat) -> int:
    """The most binary places by which an exponent shifts sums of such weights down."""
    mixed = fmt.signed and fmt.range.hi > 0
    return -WEIGHT_EXPONENTS.lo - mixed


def _places(
    graph: Graph, connection: Node, calibration: Calibration, given: Plan, choices: Choices
) -> int:
    """The fraction bits of what a connection reads."""
    source = way(graph, connection).source
    if not isinstance(source, Input) or source.kind != "current":
        return 0
    planned = input_plan(graph, source, calibration, choices)
    path = f"{source.path}.value"
    return given.entries.get(path, planned.entries[path]).fmt.frac


def _held(values: FloatArray, entry: Entry) -> FloatArray:
    """Real values as a format holds them."""
    fmt = entry.fmt
    whole = round_real(np.ldexp(values, fmt.frac), entry.rounding)
    return np.ldexp(np.clip(whole, fmt.range.lo, fmt.range.hi), -fmt.frac)
