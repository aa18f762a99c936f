"""The network that learns: competing neurons, as a graph and as the arrays that are stepped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qspinn.errors import VerifyError
from qspinn.fixed import Interval
from qspinn.ir import (
    VOTE,
    Array,
    Delay,
    Graph,
    Input,
    Lateral,
    Linear,
    Neuron,
    Node,
    Output,
    Param,
    Shape,
    State,
)
from qspinn.neurons import spiking
from qspinn.signals import signals
from qspinn.stdp import lists
from qspinn.stdp.kernels import Wiring
from qspinn.stdp.lists import cell_of
from qspinn.stdp.machine import Cell
from qspinn.stdp.recipe import Recipe

_SIGNIFICANT = 1 << 24
"""A float32 holds integers up to here."""
_POINTS = 40
_BRIGHTEST = 0.3
"""The first weights are random below it, before their vectors get their length."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The nodes of a graph of competing neurons; see `parts`."""

    source: Input
    linear: Linear
    lateral: Lateral
    delay: Delay
    neuron: Neuron


@dataclass(frozen=True, eq=False)
class Network:
    """A graph as arrays.

    Attributes:
        cell: Its neurons.
        wiring: What spikes do.
        times: What the integer weights are multiplied by, to the point of the input current.
    """

    cell: Cell
    wiring: Wiring
    times: float = 1.0


def new(recipe: Recipe, shape: Shape) -> Graph:
    """A network that has learned nothing: random weights, and a vote without a class."""
    inputs, neurons = int(np.prod(shape)), recipe.neurons
    weight = np.random.default_rng([recipe.seed]).random((neurons, inputs)) * _BRIGHTEST
    weight *= recipe.length / np.sqrt((weight**2).sum(1, keepdims=True))
    grid = grid_for(recipe.length, inputs)
    nodes: tuple[Node, ...] = (
        Input(name="input", shape=shape),
        Linear(name="fc", inputs=("input",), weight=Param(np.rint(weight * grid) / grid)),
        Delay(name="back", inputs=("exc",), shape=(neurons,), steps=recipe.delay),
        Lateral(name="inh", inputs=("back",), weight=Param(np.array(-recipe.inhibition))),
        Neuron(
            name="exc", inputs=("fc", "inh"), shape=(neurons,), model=spiking(clamp=True),
            values={
                "decay": Param(np.array(recipe.decay)),
                "threshold": Param(np.full(neurons, recipe.threshold)),
                "v_min": Param(np.array(0.0)),
            },
            states={"v": State()},
        ),
        Output(name="output", inputs=("exc",), readout=VOTE, labels=(0,) * neurons),
    )  # fmt: skip
    return Graph("stdp", nodes)


def parts(graph: Graph) -> Parts:
    """The nodes of competing neurons: one layer, inhibited by its own spikes, that votes.

    Raises:
        VerifyError: The graph is none of these.
    """
    linears, laterals, layers = (
        graph.of_type(Linear), graph.of_type(Lateral), graph.of_type(Neuron),
    )  # fmt: skip
    if not len(linears) == len(laterals) == len(layers) == 1 or graph.output.readout != VOTE:
        raise VerifyError(
            f"{len(layers)} layers of neurons, {len(linears)} linear and {len(laterals)} lateral "
            f"connections, and the readout {graph.output.readout}: STDP learns one of each, with "
            "a vote",
            at=graph.name,
        )
    linear, lateral, neuron = linears[0], laterals[0], layers[0]
    source, delay = graph[linear.inputs[0]], graph[lateral.inputs[0]]
    if not isinstance(source, Input) or not isinstance(delay, Delay) or not (
        delay.inputs == graph.output.inputs == (neuron.name,)
        and sorted(neuron.inputs) == sorted((linear.name, lateral.name))
    ):  # fmt: skip
        raise VerifyError(
            "STDP learns input, linear, neurons, output, with the neurons' spikes delayed and "
            "lateral; this graph is wired otherwise",
            at=graph.name,
        )
    if linear.bias is not None or "threshold" not in neuron.values or neuron.model.max_out > 1:
        raise VerifyError(
            "STDP learns weights without bias, and neurons with a threshold that send one spike "
            "a step at most",
            at=neuron.name,
        )
    if source.kind != "spike" or source.high > 1:
        raise VerifyError(f"STDP learns from spikes, not from a {source.kind}", at=source.name)
    return Parts(source, linear, lateral, delay, neuron)


def network(graph: Graph, plan_top: float = 0.0) -> Network:
    """A float or an integer graph as arrays.

    Args:
        graph: Competing neurons; see `parts`.
        plan_top: What the magnitude of an integer weight may become while it is learned.

    Raises:
        VerifyError: The graph has other nodes.
        QuantizeError: An integer may be too large to be exact.
    """
    found = parts(graph)
    size = int(np.prod(found.neuron.shape))
    weight, lateral = found.linear.weight.values, found.lateral.weight.values
    times = across = 1.0
    if graph.is_integer:
        known = signals(graph)
        points = [known[node.name].frac for node in (found.linear, found.lateral)]
        times, across = (2.0 ** (max(points) - point) for point in points)
        top = max(plan_top, float(np.abs(weight).max())) * times * weight.shape[1]
        most = float(np.abs(lateral).max()) * across * size
        current = Interval(int(-top - most), int(top + most))
        made = lists.whole(found.neuron, max(points), current)
        dtype: type[np.floating] = np.float32 if top < _SIGNIFICANT else np.float64
    else:
        made = lists.real(found.neuron)
        dtype = lanes(weight)
    cell = cell_of(made, found.neuron)
    wiring = Wiring(
        np.ascontiguousarray(weight.T * times).astype(dtype),
        np.ones(weight.shape[1], np.bool_),
        np.array(np.broadcast_to(lateral * across, found.neuron.shape), np.float64).reshape(-1),
        np.zeros((found.delay.steps, size)),
        np.zeros(found.delay.steps),
    )
    return Network(cell, wiring, times)


def grid_for(length: float, inputs: int) -> float:
    """The finest binary grid on which float32 sums any weights of a vector's length exactly."""
    return float(2.0 ** np.floor(np.log2(_SIGNIFICANT) - 0.1 - np.log2(length * inputs**0.5)))


def lanes(weight: Array) -> type[np.floating]:
    """float32 where sums of these weights are exact in it, else float64."""
    for points in range(_POINTS):
        scaled = np.ldexp(weight, points)
        if np.abs(scaled).sum(1).max() >= _SIGNIFICANT:
            break
        if (scaled % 1 == 0).all():
            return np.float32
    return np.float64


def with_values(graph: Graph, weight: Array, threshold: Array) -> Graph:
    """The graph with other weights and thresholds."""
    found = parts(graph)
    changed: Mapping[str, Mapping[str, Param]] = {
        found.linear.name: {"weight": Param(weight)},
        found.neuron.name: {"threshold": Param(threshold.reshape(found.neuron.shape))},
    }
    return graph.map(
        lambda node: node.with_params(changed[node.name]) if node.name in changed else node
    )


def adapting(graph: Graph, recipe: Recipe, steps: int) -> Graph:
    """The graph with thresholds that go on adapting as they did at the end of learning.

    What a threshold has above the lowest one, and above `Recipe`'s first, becomes a state: each
    spike raises it, and it decays as fast as ``goal`` spikes in a sample's steps balance.

    Raises:
        VerifyError: The graph is none that `new` makes.
    """
    found = parts(graph)
    neuron = found.neuron
    if neuron.model != spiking(clamp=True):
        raise VerifyError(
            f"a {neuron.model.name} of other rules than a learned network's cannot be made to "
            "adapt here",
            at=neuron.name,
        )
    threshold = neuron.values["threshold"].values
    base = min(recipe.threshold, float(threshold.min()))
    above = np.broadcast_to(threshold - base, neuron.shape)
    top = float(found.linear.weight.values.max())
    step = recipe.step * recipe.rest * top * neuron.shape[0]
    lost = step * recipe.goal / (steps * max(float(above.sum()), step))
    values = {
        **neuron.values,
        "threshold": Param(np.array(base)),
        "adaptation_decay": Param(np.array(max(0.0, 1.0 - lost))),
        "adaptation_step": Param(np.array(step)),
    }
    states = {**neuron.states, "adaptation": State(Param(above))}
    model = spiking(clamp=True, adaptive=True)
    changed = replace(neuron, model=model, values=values, states=states)
    return graph.map(lambda node: changed if node is neuron else node)


def with_labels(graph: Graph, labels: tuple[int, ...]) -> Graph:
    """The graph with other classes of its neurons."""
    return graph.map(
        lambda node: replace(node, labels=labels) if isinstance(node, Output) else node
    )
