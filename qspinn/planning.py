"""Choosing a plan's numbers: scales that fill the weights' format, points that fill the states'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from qspinn.balancing import balanced
from qspinn.calibrate import Calibration
from qspinn.choice import Choice, Choices
from qspinn.errors import PlanError, located
from qspinn.fixed import FloatArray, IntArray, Overflow, QFormat, Rounding, round_real
from qspinn.ir import Array, Flatten, Graph, Input, Lateral, Linear, Neuron, Node, Output
from qspinn.plan import Entry, Plan
from qspinn.program import Program
from qspinn.readout import output_neuron

METHODS = ("max", "percentile", "error")
GROUPS = ("layer", "channel")

_PERCENTILE = 99.9
_CLIPS = np.linspace(1.0, 0.5, 26)
_LOWER = 0.5 * 2.0 ** (-np.arange(1, 41) / 8.0)
"""Where formats narrower than 8 bits may clip, too: two values lie near the mean magnitude."""
_FEW = 127
_MOVES = np.arange(-12, 16)
_DEEPEST = 7
_WEAKEST = 16.0
_FAR = 8.0
"""A threshold that many times above the largest potential seen is out of reach."""

EntryOf = Callable[[Node], Entry]
BINARY = QFormat(1, 0, binary=True)
TERNARY = QFormat(2, 0, True, -1, 1)
FORMS: Mapping[str, QFormat] = {"binary": BINARY, "ternary": TERNARY}


def connections_of(graph: Graph, neuron: Neuron) -> tuple[Node, ...]:
    """The connections that feed a neuron node."""
    return tuple(graph[name] for name in neuron.inputs)


def weight(connection: Node) -> Array:
    """A connection's weights as rows, one for each output channel or neuron."""
    params = connection.params()
    values = params["weight"].values if "weight" in params else params["scale"].values
    return values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(-1, 1)


def choose_scale(
    graph: Graph, neuron: Neuron, calibration: Calibration, entry_of: EntryOf
) -> FloatArray:
    """The factor that makes the weights fill their format.

    Args:
        graph: A canonical float graph.
        neuron: The node whose connections share the factor.
        calibration: What the connections read, and its ``method``: ``max`` (nothing clips),
            ``percentile`` (99.9 % of the weights fit) or ``error`` (of 26 clipping points, or 66
            below 8 bits, the one whose input current differs least on the calibration data, in
            the mean square). Its ``group`` is ``layer`` or ``channel``: a factor for each output
            channel or neuron.
        entry_of: The weights' format and rounding of each connection.

    With several connections the smallest range counts: wider ones get an exponent of their own.
    By channel nothing clips then, and the exponents are those with which least is lost. A lateral
    weight, a single number, does not count. Membranes that are compared across neurons keep one
    common factor.
    """
    connections = connections_of(graph, neuron)
    connections = tuple(c for c in connections if not isinstance(c, Lateral)) or connections
    rows = [weight(c) for c in connections]
    reach = np.array([np.abs(r).max() for r in rows])
    if not reach.any():
        return np.ones(())
    chosen = int(np.argmin(np.where(reach > 0, reach, np.inf)))
    connection = connections[chosen]
    apart = calibration.group == "channel" and not _compared(graph, neuron)
    if apart and _by_channel(neuron, rows) and len(rows) > 1:
        formats = [entry_of(c).fmt for c in connections]
        tops, units = [top_of(fmt) for fmt in formats], [fmt.unit for fmt in formats]
        return balanced(rows, np.array(tops), np.array(units), chosen, _WEAKEST)
    if apart and _by_channel(neuron, rows):
        limits = np.abs(rows[0]).max(1)
        # A weak channel gets at most so many times the scale: the membranes share their bits.
        limits = np.maximum(limits, limits.max() / _WEAKEST)
    else:
        limits = np.array([reach[chosen]])
    entry = entry_of(connection)
    fmt = entry.fmt
    clip = _clip(connection, rows[chosen], limits, calibration, entry)
    factors: FloatArray = top_of(fmt) * fmt.unit / (limits * clip)
    return factors[0].reshape(()) if factors.size == 1 else factors


def top_of(fmt: QFormat) -> int:
    """The largest magnitude a format holds on both sides of zero; for one bit, on either."""
    return fmt.range.hi or -fmt.range.lo


def _by_channel(neuron: Neuron, rows: list[Array]) -> bool:
    """Whether each connection has a row of weights for each channel of the neurons."""
    return all(len(each) == neuron.shape[0] for each in rows)


def _compared(graph: Graph, neuron: Neuron) -> bool:
    """Whether a readout compares the membrane potentials of these neurons with each other."""
    if neuron.model.sends == "current":
        return True
    readouts = {node.readout for node in graph.of_type(Output)}
    return "first_spike" in readouts and output_neuron(graph) is neuron


def _clip(
    connection: Node, rows: Array, limits: Array, calibration: Calibration, entry: Entry
) -> float:
    if calibration.method == "max":
        return 1.0
    if calibration.method == "percentile":
        return float(min(1.0, np.percentile(np.abs(rows) / limits[:, None], _PERCENTILE)))
    clips = np.concatenate([_CLIPS, _LOWER]) if top_of(entry.fmt) < _FEW else _CLIPS
    return float(clips[_least(connection, tuple(limits), entry, calibration, tuple(clips))])


@lru_cache(maxsize=512)
def _least(
    connection: Node,
    limits: tuple[float, ...],
    entry: Entry,
    calibration: Calibration,
    factors: tuple[float, ...],
) -> int:
    """Which of the factors makes limits at which weights clip that lose least.

    Remembered: whoever compares plans asks the same for every width of a state.
    """
    rows, seen = weight(connection), calibration.inputs.get(connection.name)
    errors = [_error(connection, rows, np.array(limits) * f, seen, entry) for f in factors]
    return int(np.argmin(errors))


def _error(connection: Node, rows: Array, limits: Array, seen: Array | None, entry: Entry) -> float:
    factor = (top_of(entry.fmt) / limits)[:, None]
    wrong = _held(rows * factor, entry) / factor - rows
    if isinstance(connection, Linear) and seen is not None:
        wrong = seen @ wrong.T
    return float((wrong**2).mean())


def _held(scaled: FloatArray, entry: Entry) -> FloatArray:
    """What a format makes of values in units of its last place."""
    if entry.fmt.binary:
        return np.where(scaled >= 0, 1.0, -1.0)
    span = entry.fmt.range
    return np.clip(round_real(scaled, entry.rounding), span.lo, span.hi)


def fitted(connection: Node, factor: FloatArray, entry: Entry, calibration: Calibration) -> QFormat:
    """The entry's format with its point moved so that scaled weights lose least.

    Measured as for the method ``error``: what a few large weights lose by clipping is weighed
    against the bit that all of them lose by one more halving.
    """
    rows, fmt = weight(connection), entry.fmt
    if isinstance(connection, Lateral):
        rows = connection.weight.values.reshape(-1, 1)
        rows = np.broadcast_to(rows, (max(len(rows), factor.size), 1))
    limits = np.broadcast_to(top_of(fmt) * fmt.unit / factor.reshape(-1), (len(rows),))
    moves = _moves(float((np.abs(rows).max(1) / limits).max()))
    best = _least(connection, tuple(limits), entry, calibration, tuple(2.0**moves))
    return replace(fmt, frac=fmt.frac - int(moves[best]))


def _moves(reach: float) -> IntArray:
    """The moves worth trying where the largest weight is ``reach`` times its limit.

    Beyond the one at which nothing clips each loses a bit more, as does each far below it.
    """
    if reach <= 0:
        return _MOVES
    whole = int(np.clip(np.ceil(np.log2(reach)), _MOVES[0], _MOVES[-1]))
    return _MOVES[(whole - _DEEPEST <= _MOVES) & (whole + 1 >= _MOVES)]


def weight_format(choice: Choice, default: QFormat, *, signed: bool = True) -> QFormat:
    """The format that a choice asks of weights; a single bit is binary, or 0 and 1 unsigned."""
    if choice.form:
        return FORMS[choice.form]
    if choice.bits is None:
        return replace(default, signed=signed)
    return BINARY if choice.bits == 1 and signed else QFormat(choice.bits, 0, signed)


def has_sign(connection: Node) -> bool:
    """Whether some weight of a connection is negative; else all bits can be magnitude."""
    return bool((weight(connection) < 0).any())


def scaled_as(calibration: Calibration, choice: Choice) -> Calibration:
    """The calibration with the method and the group that a scale's choice asks for."""
    method, group = choice.form or calibration.method, choice.group or calibration.group
    if (method, group) == (calibration.method, calibration.group):
        return calibration
    return _scaled_as(calibration, method, group)


@lru_cache(maxsize=16)
def _scaled_as(calibration: Calibration, method: str, group: str) -> Calibration:
    return replace(calibration, method=method, group=group)


def input_plan(graph: Graph, node: Input, calibration: Calibration, choices: Choices) -> Plan:
    """What a plan says of an input: the format of its values, and which inputs are kept."""
    entries: dict[str, Entry] = {}
    if node.kind == "current":
        bits = choices.get(f"{node.path}.value", Choice()).bits
        entries[f"{node.path}.value"] = value_entry(calibration, bits or 8, node.path)
    share = choices.get(f"{node.path}.active", Choice()).share
    if share is None:
        return Plan(entries)
    kept = active_inputs(graph, calibration, share, node)
    return Plan(entries, active={node.path: kept})


def active_inputs(
    graph: Graph, calibration: Calibration, share: float, node: Input | None = None
) -> IntArray:
    """The fewest inputs that contribute at least ``share`` of all current, ascending.

    An input contributes its activity times the squared norm of its weights. With a share of 1
    every input is kept that was ever active.

    Raises:
        PlanError: Something else than linear layers reads the input, or no data show its activity.
    """
    node = node or graph.input
    activity = calibration.activity.get(node.path)
    with located(f"{node.path}.active"):
        readers = linear_readers(graph, node)
        if activity is None:
            raise PlanError("no data say which inputs are active", hint="give --data")
        if not 0.0 < share <= 1.0:
            raise PlanError(f"the share of the current kept lies in (0, 1], not at {share}")
    flat = activity.reshape(-1)
    parts = flat * sum((np.square(r.weight.values).sum(0) for r in readers), np.zeros(flat.size))
    if share == 1.0 or not parts.any():
        return np.flatnonzero(flat > 0)
    order = np.argsort(-parts, kind="stable")
    summed = np.cumsum(parts[order])
    count = int(np.searchsorted(summed, share * summed[-1])) + 1
    return np.sort(order[:count])


def linear_readers(graph: Graph, node: Node) -> tuple[Linear, ...]:
    """The linear layers that read a node, flattened or not.

    Raises:
        PlanError: Something else reads it, too.
    """
    found: list[Linear] = []
    for user in graph.users(node.name):
        if isinstance(user, Flatten):
            found += linear_readers(graph, user)
        elif isinstance(user, Linear):
            found.append(user)
        else:
            raise PlanError(
                f"{user.name}, a {type(user).__name__}, reads it",
                hint="inputs can be dropped only where linear layers alone read them",
            )
    return tuple(found)


def value_entry(calibration: Calibration, bits: int = 8, path: str = "") -> Entry:
    """The format of values that enter the network: as fine as what was seen allows."""
    low, high = calibration.input_ranges.get(path, (0.0, 1.0))
    signed = low < 0
    top = (1 << (bits - signed)) - 1
    frac = point(max(-low, high), top + 1, bits - signed)
    return Entry(QFormat(bits, frac, signed), overflow=Overflow.SATURATE)


def point(reach: float, top: int, most: int) -> int:
    """The finest binary point, at most ``most``, at which ``reach`` stays within ``top``."""
    if reach <= 0:
        return most
    return min(most, int(np.floor(np.log2(top / reach))))


def reach_of(
    neuron: Neuron, state: str, factor: FloatArray, calibration: Calibration
) -> FloatArray:
    """The largest magnitude a state needs to hold, in scaled units, for each factor.

    Observed on the calibration data where there are any, and not less than a threshold within
    reach: one that is never even approached need not be held exactly.
    """
    peak = calibration.peaks.get(f"{neuron.name}.{state}", 0.0)
    start = float(np.abs(neuron.states[state].init.values).max())
    held = max(peak, start, threshold_held(neuron, calibration) if state == "v" else 0.0)
    return held * factor


def threshold_held(neuron: Neuron, calibration: Calibration) -> float:
    """The largest threshold that formats must hold: none that is far beyond what was seen."""
    if "threshold" not in neuron.values:
        return 0.0
    largest = float(np.abs(neuron.values["threshold"].values).max())
    peak = calibration.peaks.get(f"{neuron.name}.v", 0.0)
    return min(largest, _FAR * peak) if peak > 0 else largest


def threshold_entry(
    neuron: Neuron,
    fmt: QFormat,
    factor: FloatArray,
    role: str,
    rounding: Rounding = Rounding.NEAREST_EVEN,
) -> Entry:
    """The threshold's entry; one beyond its format becomes the format's largest, and says so."""
    largest = float(np.abs(neuron.values["threshold"].values).max() * factor.max())
    if largest <= fmt.range.hi * fmt.unit:
        return Entry(fmt, rounding, role=role)
    note = "out of reach: the largest value stands for it"
    return Entry(fmt, rounding, Overflow.SATURATE, role, note)


def counter_entry(neuron: Neuron, state: str) -> Entry:
    """The format of a state outside the scale group: the last spike, or the refractory counter."""
    most = 1 if state == "fired" else int(np.max(neuron.values["refractory"].values))
    return _unsigned(most, Rounding.FLOOR)


def constant_entry(neuron: Neuron, name: str) -> Entry:
    """The format of a whole-number parameter outside the scale group."""
    return _unsigned(int(np.max(neuron.values[name].values)), Rounding.NEAREST_EVEN)


def _unsigned(most: int, rounding: Rounding) -> Entry:
    fmt = QFormat(max(1, most.bit_length()), 0, signed=False)
    return Entry(fmt, rounding, role="fixed")


def in_graph_order(entries: Mapping[str, Entry], graph: Graph) -> dict[str, Entry]:
    """The entries in the order of the graph's nodes, so that a plan reads like its network."""
    order = {node.path: i for i, node in enumerate(graph.nodes)}
    return dict(sorted(entries.items(), key=lambda item: order[item[0].rpartition(".")[0]]))


def derived(graph: Graph, lists: Mapping[str, Program]) -> dict[str, Entry]:
    """What interval analysis proved: the width of every summed input and computed value.

    Args:
        graph: The quantized graph.
        lists: Its typed lists.
    """
    found: dict[str, Entry] = {}
    for node in graph.of_type(Neuron):
        program = lists[node.name]
        span = program.input_span
        widest = max((op.span.bits for op in program.ops if op.span is not None), default=1)
        clips = sorted({str(op.overflow) for op in program.ops if op.kind == "fit"})
        note = f"proved {span}, widest value {widest} bits, " + (
            f"may {' and '.join(clips)}" if clips else "no state leaves its range"
        )
        frac = next(op.frac for op in program.ops if op.kind == "input") or 0
        fmt, role = QFormat(min(span.signed_bits, 32), frac), "derived"
        if node.input_format is not None:
            fmt, role = node.input_format, "free"
        found[f"{node.path}.input"] = Entry(fmt, Rounding.FLOOR, role=role, note=note)
    return found
