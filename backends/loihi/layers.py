"""A legalized graph as layers: neurons as Lava runs them, and the synapses that feed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray, Interval
from qspinn.ir import (
    CONNECTIONS,
    Conv1d,
    Conv2d,
    Graph,
    Lateral,
    Linear,
    Neuron,
    Node,
    Param,
    Shape,
)
from qspinn.lowering import programs
from qspinn.program import Program
from qspinn.signals import Signal, signals, summed

from .reasons import Reasons, Unfit
from .signs import slimmer
from .stock import Registers, full_model, moved, point_of, registers, rewritten, why_not
from .synapses import Kernel, Synapse, synapse
from .table import ACTIVATION, INPUT_SHIFT
from .weights import Packed, parts

_CONV_SUM, _CHANNEL = 1 << 23, 1 << 31
"""Lava wraps a convolution's sum at 24 bits, and sends 32-bit integers."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One Neuron node and what feeds it.

    Attributes:
        neuron: The node.
        synapses: One for each connection.
        registers: Of Lava's LIF; None if the neurons need a process model of their own.
        why: Why no stock process will do, in words; empty if one does.
        line: Biases of the connections as synapses of a line that spikes every step.
        bias: The same biases, (shape), for a process model of our own.
        bound: The proved interval of the summed input, in its own units.
        program: The typed list of the neurons.
        shift: The steps by which the target runs it late.
    """

    neuron: Neuron
    synapses: tuple[Synapse, ...]
    registers: Registers | None
    why: str
    line: tuple[Packed, ...]
    bias: IntArray
    bound: Interval
    program: Program
    shift: int

    @property
    def name(self) -> str:
        """The node's name."""
        return self.neuron.name

    @property
    def proved(self) -> bool:
        """Whether the summed input provably stays within 16 bits."""
        return within_activation(self.bound)


def within_activation(bound: Interval) -> bool:
    """Whether a summed input stays within Loihi's 16 bits."""
    return bound in Interval(-ACTIVATION, ACTIVATION)


def connections(graph: Graph, neuron: Neuron) -> tuple[Node, ...]:
    """The connections that feed a neuron node.

    Raises:
        Unfit: Something else does.
    """
    found = tuple(graph[name] for name in neuron.inputs)
    for node in found:
        if not isinstance(node, CONNECTIONS):
            raise Unfit(
                f"is fed by the {type(node).__name__} {node.name}, not by a connection",
                hint="put weights in between",
            )
    return found


def weight_of(node: Node) -> Param:
    """The weights of a connection."""
    params = node.params()
    return params["weight"] if "weight" in params else params["scale"]


def weights_at(node: Node, unit: int, known: Mapping[str, Signal]) -> IntArray:
    """A connection's weights at the binary point ``unit`` of its target's input.

    Raises:
        Unfit: They are finer than that.
    """
    weight = weight_of(node)
    assert weight.fmt is not None, "an integer graph"
    point = weight.fmt.frac + known[node.inputs[0]].frac
    return moved(weight.values, point, unit, f"the weights of {node.name}")


def shifted(
    node: Node, unit: int, places: int, known: Mapping[str, Signal]
) -> tuple[IntArray, int]:
    """A connection's weights, and how many low bits the exponent drops of their sum.

    They are at the binary point ``unit``; or, where they have bits below it, at ``unit + places``.

    Raises:
        Unfit: They are finer than that.
    """
    weights = weights_at(node, unit + places, known)
    if (weights & ((1 << places) - 1)).any():
        return weights, places
    return weights >> places, 0


def dropped(neuron: Neuron, known: Mapping[str, Signal]) -> int:
    """How many low bits the neurons drop of the sum of their currents."""
    if neuron.input_format is None:
        return 0
    return max(summed(tuple(known[i] for i in neuron.inputs)).frac - neuron.input_format.frac, 0)


def bias_at(node: Node, unit: int, shape: Shape) -> IntArray:
    """A connection's bias for each neuron at the binary point ``unit``; zeros where it has none.

    Raises:
        Unfit: It is finer than that.
    """
    bias = node.params().get("bias")
    if bias is None:
        return np.zeros(shape, np.int64)
    assert bias.fmt is not None, "an integer graph"
    values = moved(bias.values, bias.fmt.frac, unit, f"the bias of {node.name}")
    channels = values.reshape(-1, *([1] * (len(shape) - 1)))
    return np.broadcast_to(channels, shape).astype(np.int64)


def stock_form(
    graph: Graph, neuron: Neuron, known: Mapping[str, Signal]
) -> tuple[Neuron, tuple[str, ...]]:
    """The neuron as Lava's LIF, and the connections whose bias it took into the membrane.

    Raises:
        Unfit: Lava's LIF cannot compute the same.
    """
    if full_model(neuron.model) is None:
        raise Unfit(why_not(neuron))
    point = point_of(neuron)
    unit = point - INPUT_SHIFT
    feeding = connections(graph, neuron)
    current = summed(tuple(known[i] for i in neuron.inputs))
    assert current.interval is not None, "an integer graph"
    places = dropped(neuron, known)
    if places:
        _require_shift(neuron, feeding, unit, places, known)
    for node in feeding:
        weights_at(node, unit + places, known)
    biased = tuple(node.name for node in feeding if "bias" in node.params())
    rest = np.zeros((), np.int64)
    if "u" not in neuron.states and biased:
        try:
            total = _total_bias(feeding, point, neuron.shape)
            return rewritten(neuron, total, current.interval, current.frac), biased
        except Unfit:
            pass  # the biases stay with their connections, as synapses of a line
    lif = rewritten(neuron, rest, current.interval, current.frac)
    line_of(feeding, unit, neuron.shape)
    return lif, ()


def _require_shift(
    neuron: Neuron, feeding: tuple[Node, ...], unit: int, places: int, known: Mapping[str, Signal]
) -> None:
    """Check that a weight exponent drops what the neurons drop of their summed input.

    Raises:
        Unfit: It drops other bits, or not of that sum.
    """
    fmt = neuron.input_format
    assert fmt is not None, "something is dropped"
    if fmt.frac != unit:
        raise Unfit(
            f"the summed input is rounded to {fmt.frac} fraction bits, the LIF's has {unit}",
            hint=f"give it {unit} in the plan",
        )
    for node in feeding:
        bias_at(node, unit, neuron.shape)
    finer = [node.name for node in feeding if shifted(node, unit, places, known)[1]]
    if len(finer) > 1:
        raise Unfit(
            f"{' and '.join(finer)} have weights finer than the summed input, and Lava shifts the "
            "sum of each by itself",
            hint="give the weights of all but one no more fraction bits than the input",
        )


def line_of(feeding: tuple[Node, ...], unit: int, shape: Shape) -> tuple[Packed, ...]:
    """Biases as weights of a line that spikes every step; nothing where they are all zero.

    Raises:
        Unfit: They are too fine, or too large.
    """
    total = _total_bias(feeding, unit, shape)
    return parts(total.reshape(-1, 1)) if total.any() else ()


def _total_bias(feeding: tuple[Node, ...], unit: int, shape: Shape) -> IntArray:
    total: IntArray = sum(
        (bias_at(node, unit, shape) for node in feeding), start=np.zeros(shape, np.int64)
    )
    return total


def bound_of(
    feeding: tuple[Node, ...], unit: int, shape: Shape, known: Mapping[str, Signal]
) -> Interval:
    """The interval of the summed input at the binary point ``unit``: the worst of all neurons."""
    low, high = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for node in feeding:
        span = known[node.inputs[0]].interval
        assert span is not None, "an integer graph"
        weights = weights_at(node, unit, known)
        up, down = (_per_neuron(node, np.maximum(w, 0), shape) for w in (weights, -weights))
        bias = bias_at(node, unit, shape)
        # Zero padding: a window at the border may see less than the whole row.
        high = high + np.maximum(up * span.hi - down * span.lo, 0) + bias
        low = low + np.minimum(up * span.lo - down * span.hi, 0) + bias
    return Interval(int(low.min()), int(high.max()))


def _per_neuron(node: Node, weights: IntArray, shape: Shape) -> IntArray:
    if isinstance(node, (Linear, Conv1d, Conv2d)):
        rows = weights.reshape(weights.shape[0], -1).sum(1)
        weights = rows.reshape(-1, *([1] * (len(shape) - 1)))
    if isinstance(node, Lateral):
        weights = weights * (int(np.prod(shape, dtype=np.int64)) - 1)
    full: IntArray = np.broadcast_to(weights, shape).astype(np.int64)
    return full


def layers(graph: Graph, reasons: Reasons) -> tuple[Layer, ...]:
    """Every Neuron node of a legalized graph as a layer; what does not fit becomes a reason."""
    known, lists = signals(graph), programs(graph)
    found: list[Layer] = []
    for node in graph.of_type(Neuron):
        with reasons.at(node.name):
            found.append(_layer(graph, node, known, lists[node.name], reasons))
    return tuple(found)


def _layer(
    graph: Graph, node: Neuron, known: dict[str, Signal], program: Program, reasons: Reasons
) -> Layer:
    if program.stochastic:
        raise Unfit(
            "rounds states or products stochastically, with draws that Loihi cannot make",
            hint=f"give {node.path} another rounding in the plan",
        )
    feeding = connections(graph, node)
    held, why = _registers(graph, node, known)
    if held is not None:
        unit, places = point_of(node) - INPUT_SHIFT, dropped(node, known)
    else:
        unit, places = summed(tuple(known[i] for i in node.inputs)).frac, 0
    bound = bound_of(feeding, unit + places, node.shape, known)
    bound = Interval(bound.lo >> places, bound.hi >> places)
    made: list[Synapse] = []
    for connection in feeding:
        with reasons.at(connection.name):
            weights, drop = shifted(connection, unit, places, known)
            made.append(slimmer(synapse(graph, connection, node, weights, known, drop)))
            _refuse_overflow(made[-1], bound)
    return Layer(
        neuron=node,
        synapses=tuple(made),
        registers=held,
        why=why,
        line=line_of(feeding, unit, node.shape) if held is not None else (),
        bias=_total_bias(feeding, unit, node.shape),
        bound=bound,
        program=program,
        shift=graph.shifts.get(node.name, 0),
    )


def _registers(
    graph: Graph, node: Neuron, known: dict[str, Signal]
) -> tuple[Registers | None, str]:
    try:
        stock_form(graph, node, known)
    except Unfit as error:
        return None, error.message
    held = registers(node)
    return held, "" if held is not None else "its list is not written as Lava's LIF"


def _refuse_overflow(made: Synapse, bound: Interval) -> None:
    """Refuse sums that Lava's integers could not hold; for stock neurons 16 bits are tighter."""
    largest = max(abs(bound.lo), bound.hi) + (made.drop > 0)  # what was dropped is less than one
    limit = _CONV_SUM if isinstance(made.form, Kernel) else _CHANNEL
    down = max(-min(p.exponent for p in made.packed), 0) if made.message_bits else 0
    if largest << down >= limit:
        raise Unfit(
            f"the input of {made.target} may reach {largest << down}, the limit is {limit - 1}",
            hint="choose a smaller scale",
        )
