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
from qspinn.ir import Graph, Input, Linear, Neuron, Node
from qspinn.passes.quantize import input_of
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
    wanted: QFormat,
    entries: Mapping[str, Entry],
    calibration: Calibration,
    given: Plan,
    choices: Choices,
) -> dict[str, Entry]:
    """Entries that make a layer's weights finer than its summed input, if it loses less by that.

    Compared in the mean square of the summed input on the calibration data. Inputs with fraction
    bits of their own have no other way into Lava's LIF: there it is enough to lose little.

    Args:
        graph: A canonical float graph.
        node: Neurons that Lava's LIF can be.
        factor: Their scale.
        wanted: The format that the weights would have without a limit on their point.
        entries: The layer's entries so far, whose weights are whole units of the summed input.
        calibration: What the layer reads.
        given: What is settled already.
        choices: What is asked beside the defaults.
    """
    connection, *more = connections_of(graph, node)
    seen = calibration.inputs.get(connection.name)
    if more or seen is None or not isinstance(connection, Linear) or wanted.binary:
        return {}  # a convolution of Lava has no exponent, and several sums are shifted one by one
    path, places = (
        f"{connection.path}.weight",
        _places(graph, connection, calibration, given, choices),
    )
    fmt = replace(wanted, frac=min(wanted.frac, _finest(wanted) - places))
    if fmt.frac + places <= INPUT.frac or {path, input_of(node)} & given.entries.keys():
        return {}
    made = {path: replace(entries[path], fmt=fmt, note=_NOTE), input_of(node): _ENTRY}
    real, held = np.zeros(()), np.zeros(())
    if connection.bias is not None:
        bias = f"{connection.path}.bias"
        fmt = entries[bias].fmt
        made[bias] = replace(entries[bias], fmt=replace(fmt, frac=min(fmt.frac, INPUT.frac)))
        real = connection.bias.values * factor.reshape(-1)
        held = _held(real, made[bias])
    rows = weight(connection)
    rows = rows * np.broadcast_to(factor.reshape(-1), len(rows))[:, None]
    exact = seen @ rows.T + real
    fine = np.floor(seen @ _held(rows, made[path]).T) + held
    whole = seen @ _held(rows, entries[path]).T + real
    lost, otherwise = (float(((x - exact) ** 2).mean()) for x in (fine, whole))
    little = _LITTLE * float((exact**2).mean()) if places else 0.0
    return made if lost < max(otherwise, little) else {}


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
