"""From rectified units to neurons: thresholds are what activations reach, spikes carry them.

A neuron adds up the same sum in every step, fires when the threshold is reached and subtracts it,
so its rate times the threshold is the activation, clipped at the threshold and rounded to one
part in T. What a spike is worth, the threshold, goes into the weights that read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray, Overflow, QFormat, Rounding
from qspinn.frontends.onnx_maxima import MAXIMA, counting
from qspinn.frontends.onnx_net import Ann, Grid, Passing, Synapses, Units
from qspinn.frontends.onnx_values import per_channel
from qspinn.frontends.onnx_weights import times_inputs
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    State,
)
from qspinn.neurons import integrator, spiking
from qspinn.passes.quantize import path_of
from qspinn.plan import Entry, Plan
from qspinn.verify import verify

BALANCES = ("layer", "channel")
STARTS = ("half", "zero")
READOUT = "membrane_last"
MOST_INPUT_BITS = 16
_FEWEST_SAMPLES, _ROOM = 8, 1 << 26
"""Activations that are held at once, and samples that are looked at in any case."""
_WEAKEST = 64
"""A channel's threshold is not smaller than the largest one's so-manieth part."""


def thresholds(ann: Ann, x: Array | None, percentile: float, balance: str) -> dict[str, FloatArray]:
    """The threshold of every layer of rectified units, () or broadcasting to its shape.

    Args:
        ann: The network.
        x: Calibration samples; None: none are known.
        percentile: Of the activations of a layer, or of each channel, zeros included.
        balance: ``layer`` or ``channel``.

    Raises:
        FrontendError: Nothing tells what a layer's activations reach.
    """
    seen = _activations(ann, x) if x is not None and len(x) else {}
    found: dict[str, FloatArray] = {}
    for layer in ann.layers:
        if not isinstance(layer, Units) or not layer.rectified:
            continue
        if layer.steps is not None:
            found[layer.name] = np.array(layer.steps.unit * layer.steps.most)
        elif layer.name in seen:
            found[layer.name] = _reached(layer, seen[layer.name], percentile, balance)
        else:
            raise FrontendError(
                "nothing tells how large its activations are", at=layer.name,
                hint="give --data FILE.npz with x: thresholds are balanced on its calibration part",
            )  # fmt: skip
    return found


def _activations(ann: Ann, x: Array) -> dict[str, Array]:
    """What each layer of units sends, (samples, *shape); float32 is plenty for a percentile."""
    names = [u.name for u in ann.layers if isinstance(u, Units) and u.rectified and not u.steps]
    total = sum(int(np.prod(ann.declared[name])) for name in names)
    x = x[: max(_FEWEST_SAMPLES, _ROOM // max(total, 1))]
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for first in range(0, len(x), ann.batch):
        found = ann.activations(x[first : first + ann.batch])
        for name in names:
            parts[name].append(found[name].astype(np.float32))
    return {name: np.concatenate(each) for name, each in parts.items()}


def _reached(layer: Units, seen: Array, percentile: float, balance: str) -> FloatArray:
    if balance == "channel":
        rows = np.moveaxis(seen, 1, 0).reshape(layer.shape[0], -1)
        each = np.percentile(rows, percentile, axis=1).astype(np.float64)
        each = np.where(each > 0, each, rows.max(1))
    else:
        each = np.array([np.percentile(seen, percentile)], np.float64)
        each = np.where(each > 0, each, seen.max())
    each = each if each.any() else np.ones(len(each))
    each = np.maximum(each, each.max() / _WEAKEST)
    each = each if layer.cap is None else np.minimum(each, layer.cap)
    shape = () if balance == "layer" else (-1, *[1] * (len(layer.shape) - 1))
    found: FloatArray = each.reshape(shape)
    return found


@dataclass(frozen=True)
class Balanced:
    """Spiking neurons that stand for a network.

    Attributes:
        graph: The float graph.
        plan: The formats that keep a quantized file's integers.
        kept: Weights whose integers it keeps, by node.
        lost: Why others are not kept, by node.
    """

    graph: Graph
    plan: Plan
    kept: Mapping[str, Grid] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)


def balanced(
    ann: Ann, name: str, units: Mapping[str, FloatArray], *, start: str, kind: str = "current",
    high: int = 1, readout: str = READOUT, maxima: str = MAXIMA[0],
) -> Balanced:  # fmt: skip
    """The spiking network.

    Args:
        ann: The network.
        name: Of the graph.
        units: Thresholds by layer.
        start: Whether membranes begin at ``half`` of the threshold, so that rates are rounded to
            nearest, or at ``zero``, so that they are rounded down.
        kind: Of the input.
        high: The largest count there.
        readout: How the scores are read.
        maxima: Whether a maximum over windows is ``exact``, of the counts of spikes so far, or
            the ``or`` of the spikes of each step.
    """
    build = _Build(ann, dict(units), start, maxima)
    build.worth[ann.input] = np.ones(())
    build.taken = {name.lower() for name in ann.names}
    build.nodes.append(Input(name=ann.input, shape=ann.shape, kind=kind, high=high))
    for layer in ann.layers:
        if isinstance(layer, Passing):
            build.passing(layer)
        else:
            build.neurons(layer)
    build.nodes.append(Output(name="output", inputs=(ann.layers[-1].name,), readout=readout))
    graph = verify(Graph(name, tuple(build.nodes)))
    return Balanced(graph, build.plan(graph), build.grids, build.lost)


@dataclass
class _Build:
    """A conversion under way; ``worth`` is what a spike of each layer stands for."""

    ann: Ann
    units: dict[str, FloatArray]
    start: str
    maxima: str
    nodes: list[Node] = field(default_factory=list)
    worth: dict[str, FloatArray] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    scales: dict[str, FloatArray] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def passing(self, layer: Passing) -> None:
        """A pool or another shape: a spike stays worth what it was."""
        source = layer.node.inputs[0]
        worth = self.worth[source]
        if worth.size > 1:
            full = np.broadcast_to(worth, self.ann.declared[source])
            each = per_channel(full, self.ann.declared[source])
            assert each is not None, "thresholds are the same within a channel"
            if len(layer.shape) == 1:
                worth = full.reshape(-1)
            else:
                worth = each.reshape(-1, *[1] * (len(layer.shape) - 1))
        self.worth[layer.name] = worth
        node = layer.node
        if isinstance(node, MaxPool2d) and node.kernel != (1, 1) and self.maxima == "exact":
            self.nodes += counting(node, self.ann.declared[source], self.fresh)
        else:
            self.nodes.append(node)

    def fresh(self, name: str) -> str:
        """A name that no node has yet; it is taken from then on."""
        found, count = name, 1
        while found.lower() in self.taken:
            count += 1
            found = f"{name}_{count}"
        self.taken.add(found.lower())
        return found

    def neurons(self, layer: Units) -> None:
        """The connections of a layer, and its neurons."""
        made = [self.connection(s) for s in layer.synapses]
        nodes, own = self.biased(layer, [s.node for s in made])
        self.nodes += nodes
        self.nodes.append(self.cell(layer, tuple(node.name for node in nodes), own))
        self.keep(layer, made)

    def connection(self, synapses: Synapses) -> Synapses:
        """Weights for spikes instead of values."""
        source = synapses.source
        return times_inputs(synapses, self.worth[source], self.ann.declared[source])

    def biased(self, layer: Units, nodes: list[Node]) -> tuple[list[Node], Param | None]:
        """The connections, one with the bias; and what only the neurons can hold."""
        if not np.any(layer.bias):
            return nodes, None
        each = per_channel(layer.bias, layer.shape)
        for at, node in enumerate(nodes):
            if each is not None and isinstance(node, Linear | Conv1d | Conv2d):
                held: Node = replace(node, bias=Param(each))
                return [*nodes[:at], held, *nodes[at + 1 :]], None
        return nodes, Param(np.broadcast_to(layer.bias, layer.shape))

    def cell(self, layer: Units, inputs: tuple[str, ...], bias: Param | None) -> Neuron:
        """Neurons that integrate and fire, or only integrate."""
        values = {} if bias is None else {"bias": bias}
        if not layer.rectified:
            model = integrator(leak=False, bias=bias is not None)
            return Neuron(name=layer.name, inputs=inputs, shape=layer.shape, model=model,
                          values=values, states={"v": State()})  # fmt: skip
        model = spiking(leak=False, reset="subtract", compare=">=", bias=bias is not None)
        unit = self.units[layer.name]
        self.worth[layer.name] = unit
        values["threshold"] = Param(unit)
        init = State(Param(unit / 2 if self.start == "half" else np.zeros(())))
        return Neuron(name=layer.name, inputs=inputs, shape=layer.shape, model=model,
                      values={k: values[k] for k in model.params}, states={"v": init})  # fmt: skip

    # --- the integers of quantized files ---

    def keep(self, layer: Units, made: list[Synapses]) -> None:
        """Settle the scale of neurons so that their weights are the file's integers."""
        if not any(s.grid for s in layer.synapses):
            return
        why = self._why_not(layer, made)
        if why:
            self.lost |= {s.node.name: why for s in layer.synapses if s.grid}
            return
        kept = {s.node.name: s.grid for s in made if s.grid is not None}
        scale = 1.0 / next(iter(kept.values())).scale
        self.grids |= kept
        self.scales[layer.name] = scale[0].reshape(()) if _same(scale) else scale

    def _why_not(self, layer: Units, made: list[Synapses]) -> str:
        found = [s.grid for s in made if s.grid is not None]
        if len(found) < len(made):
            return "its neurons are also fed by weights that are no integers, or a spike into it "\
                   "is not worth the same everywhere"  # fmt: skip
        # Each is a product of numbers of the file, whose last binary places depend on its order.
        if any(not np.allclose(g.scale, found[0].scale, rtol=1e-9, atol=0) for g in found[1:]):
            return "its neurons are fed by weights of another scale, too"
        scale = 1.0 / found[0].scale
        if not all(_integers(s, scale, s.grid) for s in made if s.grid is not None):
            return "in float64 their scale does not tell them apart"
        if not layer.rectified and not _same(found[0].scale):
            return "the scores are compared, so they share one scale, and its weights have several"
        return ""

    def plan(self, graph: Graph) -> Plan:
        """The formats under which the kept integers are the weights."""
        entries = {
            path_of(graph[name], "weight"): Entry(grid.fmt, Rounding.NEAREST_EVEN, Overflow.ERROR)
            for name, grid in self.grids.items()
        }
        entry = _grain(self.ann.grain) if self.ann.grain is not None else None
        if entry is not None and graph.input.kind == "current":
            entries[f"{self.ann.input}.value"] = entry
        return Plan(entries, self.scales)


def _integers(synapses: Synapses, scale: FloatArray, grid: Grid) -> bool:
    """Whether weights of that scale round to the integers of a grid, every one."""
    (weight,) = synapses.node.params().values()
    rows = scale.reshape(-1, *[1] * (weight.values.ndim - 1))
    return np.array_equal(np.rint(weight.values * rows), grid.values)


def _grain(grain: tuple[float, int, int]) -> Entry | None:
    """The format of a quantized input, if its unit is a power of two."""
    unit, low, high = grain
    mantissa, exponent = np.frexp(unit)
    if mantissa != 0.5:
        return None
    span = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1) + (low < 0)
    frac = 1 - int(exponent)
    if span > MOST_INPUT_BITS or not -32 <= frac <= 62:
        return None
    fmt = QFormat(span, frac, low < 0)
    exact = fmt if (fmt.range.lo, fmt.range.hi) == (low, high) else QFormat(
        span, frac, low < 0, low, high)  # fmt: skip
    return Entry(exact, Rounding.NEAREST_EVEN, Overflow.SATURATE)


def _same(scale: FloatArray) -> bool:
    return bool((scale == scale[0]).all())
