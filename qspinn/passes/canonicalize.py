"""Canonicalize: one form for everything a float graph can say in several ways.

Gains move forward into the weights they meet, averages become sums, every neuron is fed by a
connection, and a reset to a value becomes a reset to zero of the shifted membrane.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qspinn.errors import VerifyError, located
from qspinn.ir import (
    CONNECTIONS,
    Array,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Lateral,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
    SumPool2d,
)
from qspinn.neurons import spiking
from qspinn.passes.compose import compose, without_idle
from qspinn.signals import Signal, signals

_SEVERAL = 3
"""A matrix of fewer neurons than this is uniform by chance."""


def canonicalize(graph: Graph) -> Graph:
    """Return a graph of the same behaviour in canonical form; it must be float."""
    for step in (
        _without_unread,  # first: what nobody reads needs no meaning
        _means_to_sums,  # before the gains move: it makes gains
        without_idle,
        _scales_into_weights,
        compose,  # after the scales: one between two maps would keep them apart
        _scales_into_weights,  # those behind a pool that went into a convolution
        _uniform,  # after the scales: a gain may be what makes weights differ
        _connect_neurons,  # after the scales: whatever still feeds spikes to neurons
        _without_frozen,
        _zero_reset,
    ):
        graph = step(graph)
    return graph


def _without_unread(graph: Graph) -> Graph:
    wanted: set[str] = set()
    ahead = [node.name for node in graph.of_type(Output)]
    while ahead:
        name = ahead.pop()
        if name not in wanted:
            wanted.add(name)
            ahead += graph[name].inputs
    kept = tuple(n for n in graph.nodes if n.name in wanted or isinstance(n, Input))
    return replace(graph, nodes=kept)


def _means_to_sums(graph: Graph) -> Graph:
    """An average is a sum and a gain of one over the window's size (zero padding counted)."""
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    taken = set(graph.by_name)
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))
        if not isinstance(node, AvgPool2d):
            nodes.append(node)
            continue
        gain = _fresh(f"{node.name}_gain", taken)
        size = node.kernel[0] * node.kernel[1]
        nodes.append(
            SumPool2d(
                name=node.name, inputs=node.inputs, kernel=node.kernel, stride=node.stride,
                padding=node.padding,
            )
        )  # fmt: skip
        nodes.append(Scale(name=gain, inputs=(node.name,), scale=Param(np.array(1.0 / size))))
        renamed[node.name] = gain
    return _redirected_delays(replace(graph, nodes=tuple(nodes)), renamed)


def _redirected_delays(graph: Graph, renamed: dict[str, str]) -> Graph:
    """A delay may read a node that was renamed after it."""

    def redirect(node: Node) -> Node:
        if not isinstance(node, Delay):
            return node
        return replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))

    return graph.map(redirect)


def _scales_into_weights(graph: Graph) -> Graph:
    """Fold each scale into the connection before or after it, where one can take it."""
    known, left = signals(graph), []
    ahead = deque(node.name for node in graph.of_type(Scale))
    while ahead:
        node = graph.by_name[ahead.popleft()]
        assert isinstance(node, Scale), "it keeps its name and its type"
        changed = _backward(graph, node) or _forward(graph, node, known)
        if changed is None:
            left.append(node.name)
            continue
        graph = _absorbed(graph, node, changed)
        ahead.extend(left)  # what was in their way may be gone
        left.clear()
    return graph


def _backward(graph: Graph, scale: Scale) -> dict[str, Node] | None:
    """The connection in front, with the gain in its weights; None if it cannot take it."""
    source = graph[scale.inputs[0]]
    if not isinstance(source, CONNECTIONS) or len(graph.users(source.name)) > 1:
        return None
    merged = _after(source, scale.scale.values)
    return None if merged is None else {source.name: merged}


def _absorbed(graph: Graph, scale: Scale, changed: dict[str, Node]) -> Graph:
    nodes = []
    for node in graph.nodes:
        if node is scale:
            continue
        node = changed.get(node.name, node)
        if scale.name in node.inputs:
            inputs = tuple(scale.inputs[0] if i == scale.name else i for i in node.inputs)
            node = replace(node, inputs=inputs)
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _after(source: Node, gain: Array) -> Node | None:
    """``source`` with its output scaled by ``gain``; None if the gain varies within a channel."""
    if isinstance(source, Scale):
        return replace(source, scale=Param(source.scale.values * gain))
    if isinstance(source, Lateral):
        return replace(source, weight=Param(source.weight.values * gain))
    assert isinstance(source, (Linear, Conv1d, Conv2d)), "the connections"
    rank = source.weight.values.ndim
    per_out = _per_channel(gain, rank - 1)
    if per_out is None:
        return None
    weight = source.weight.values * per_out.reshape(-1, *([1] * (rank - 1)))
    bias = None if source.bias is None else Param(source.bias.values * per_out)
    return replace(source, weight=Param(weight), bias=bias)


def _per_channel(gain: Array, rank: int) -> Array | None:
    if gain.size == 1:
        return gain.reshape(1)
    shaped = gain.reshape((1,) * (rank - gain.ndim) + gain.shape)
    flat = shaped.reshape(shaped.shape[0], -1)
    return flat[:, 0] if (flat == flat[:, :1]).all() else None


def _forward(graph: Graph, scale: Scale, known: Mapping[str, Signal]) -> dict[str, Node] | None:
    """The connections that read the scaled signal, with the gain in their weights."""
    gain = scale.scale.values
    if gain.size > 1:
        gain = np.broadcast_to(gain, known[scale.name].shape)
    return _ahead(graph, scale.name, gain, known)


def _ahead(
    graph: Graph, name: str, gain: Array, known: Mapping[str, Signal]
) -> dict[str, Node] | None:
    """All that read ``name`` with ``gain``, one or one for each element, in their weights."""
    changed: dict[str, Node] = {}
    for user in graph.users(name):
        found = _taken(graph, user, gain, known)
        if found is None:
            return None
        changed |= found
    return changed or None


def _taken(
    graph: Graph, user: Node, gain: Array, known: Mapping[str, Signal]
) -> dict[str, Node] | None:
    if isinstance(user, SumPool2d | Flatten):
        passed = _past(user, gain, known)
        return None if passed is None else _ahead(graph, user.name, passed, known)
    if isinstance(user, Scale):
        return {user.name: replace(user, scale=Param(user.scale.values * gain))}
    if isinstance(user, Linear):
        return {user.name: replace(user, weight=Param(user.weight.values * gain.reshape(-1)))}
    if isinstance(user, Lateral) and gain.size == 1:
        return {user.name: replace(user, weight=Param(user.weight.values * gain.item()))}
    channels = _per_channel(gain, gain.ndim)
    if isinstance(user, Conv1d | Conv2d) and channels is not None:
        # Zeros at the border are zeros, scaled or not.
        weight = user.weight.values
        grouped = np.broadcast_to(channels, weight.shape[1] * user.groups).reshape(user.groups, -1)
        each = np.repeat(grouped, len(weight) // user.groups, axis=0)
        weight = weight * each.reshape(*each.shape, *[1] * (weight.ndim - 2))
        return {user.name: replace(user, weight=Param(weight))}
    return None


def _past(user: SumPool2d | Flatten, gain: Array, known: Mapping[str, Signal]) -> Array | None:
    """The gain behind a pool or a Flatten, where one element of it has one."""
    if gain.size == 1:
        return gain
    if isinstance(user, Flatten):
        return gain.reshape(known[user.name].shape)
    channels = _per_channel(gain, gain.ndim)
    if channels is None:
        return None
    return np.broadcast_to(channels.reshape(-1, 1, 1), known[user.name].shape)


def _uniform(graph: Graph) -> Graph:
    """A square matrix with one weight everywhere but on its diagonal is a `Lateral`.

    What stands on the diagonal becomes a `Scale` beside it.
    """
    changed: dict[str, tuple[Node, ...]] = {}
    taken, known = set(graph.by_name), signals(graph)
    for node in graph.of_type(Linear):
        found = _evenly(node)
        readers = graph.users(node.name)
        flat = len(known[node.inputs[0]].shape) == 1
        if found is None or not flat or not all(isinstance(user, Neuron) for user in readers):
            continue
        off, own = found
        nodes: list[Node] = [Lateral(name=node.name, inputs=node.inputs, weight=Param(off))]
        if own:
            name = _fresh(f"{node.name}_own", taken)
            nodes.append(Scale(name=name, inputs=node.inputs, scale=Param(own)))
        changed[node.name] = tuple(nodes)
    also = {name: tuple(n.name for n in nodes) for name, nodes in changed.items()}
    found_nodes: list[Node] = []
    for old in graph.nodes:
        inputs = tuple(x for i in old.inputs for x in also.get(i, (i,)))
        found_nodes += changed.get(old.name, (replace(old, inputs=inputs),))
    return replace(graph, nodes=tuple(found_nodes))


def _evenly(node: Linear) -> tuple[Array, Array] | None:
    """The weight off the diagonal and that on it, if there are only these two and no bias."""
    weight = node.weight.values
    size = len(weight)
    if node.bias is not None or weight.shape != (size, size) or size < _SEVERAL:
        return None
    off, own = weight[0, 1], weight[0, 0]
    expected = np.where(np.eye(size, dtype=bool), own, off)
    return (off, own) if off and np.array_equal(weight, expected) else None


def _connect_neurons(graph: Graph) -> Graph:
    """Feed neurons through a connection, a scale of one where a file has none."""
    kinds = signals(graph)
    nodes: list[Node] = []
    taken = set(graph.by_name)
    for node in graph.nodes:
        if isinstance(node, Neuron):
            inputs = []
            for source in node.inputs:
                if isinstance(graph[source], CONNECTIONS):
                    inputs.append(source)
                    continue
                if kinds[source].kind == "current" and not isinstance(graph[source], Input):
                    _refuse_current(graph[source], node)
                name = _fresh(f"{node.name}_in", taken)
                nodes.append(Scale(name=name, inputs=(source,), scale=Param(np.array(1.0))))
                inputs.append(name)
            node = replace(node, inputs=tuple(inputs))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _refuse_current(source: Node, node: Neuron) -> None:
    if isinstance(source, (Flatten, SumPool2d, MaxPool2d, Delay)):
        with located(node.name):
            raise VerifyError(
                f"is fed by {source.name}, a {type(source).__name__} of currents",
                hint="put the neurons before it, or fold it into the weights",
            )


def _fresh(name: str, taken: set[str]) -> str:
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name}{n}"
    taken.add(candidate)
    return candidate


def _without_frozen(graph: Graph) -> Graph:
    """An adaptation that neither decays nor steps is a part of the threshold."""
    return graph.map(lambda node: _thawed(node) if isinstance(node, Neuron) else node)


def _thawed(node: Neuron) -> Neuron:
    if not {"adaptation_decay", "adaptation_step"} <= node.values.keys():
        return node
    values = dict(node.values)
    decay, step = values.pop("adaptation_decay").values, values.pop("adaptation_step").values
    if (decay != 1.0).any() or step.any() or not node.model.name.endswith(("ALIF", "AIF")):
        return node
    model = spiking(**{**rule_of(node), "adaptive": False})
    start = node.states["adaptation"].init.values
    values["threshold"] = Param(values["threshold"].values + start)
    states = {name: state for name, state in node.states.items() if name != "adaptation"}
    return replace(node, model=model, values=values, states=states)


def _zero_reset(graph: Graph) -> Graph:
    """Substitute w = v - v_reset, so that a reset to a value is a reset to zero.

    Every use of v moves along: the threshold and the clamp by v_reset, the membrane's bias by
    (1 - decay) v_reset, the initial state by v_reset.
    """
    return graph.map(lambda node: _shifted(node) if isinstance(node, Neuron) else node)


def _shifted(node: Neuron) -> Neuron:
    if "v_reset" not in node.values:
        return node
    rule = rule_of(node)
    if rule["timing"] == "next_after_decay" or node.model.max_out > 1:
        # The reset replaces what was left of v, but not the leak's pull toward v_reset; and how
        # often the threshold goes into v is not how often theta - v_reset goes into v - v_reset.
        return node
    r = node.values["v_reset"].values
    values = {k: v for k, v in node.values.items() if k != "v_reset"}
    decay = values["decay"].values if "decay" in values else np.ones(())
    old = values["bias"].values if "bias" in values else np.zeros(())
    bias = old - (1.0 - decay) * r
    for name in ("threshold", "v_min"):
        if name in values:
            values[name] = Param(values[name].values - r)
    if np.any(bias):
        values["bias"] = Param(bias)
    else:
        values.pop("bias", None)
    start = node.states["v"]
    states = {**node.states, "v": State(Param(start.init.values - r))}
    model = spiking(**{**rule, "reset": "zero", "bias": "bias" in values})
    ordered = {name: values[name] for name in model.params}
    return replace(node, model=model, values=ordered, states=states)


def rule_of(node: Neuron) -> dict[str, object]:
    """The options of `neurons.spiking` whose list equals this node's model.

    Raises:
        VerifyError: The model is none of the standard ones.
    """
    for options in _rules(node):
        if spiking(**options).ops == node.model.ops:
            return options
    with located(node.name):
        raise VerifyError(f"{node.model.name} with a reset to a value is no standard model")


def _rules(node: Neuron) -> list[dict[str, object]]:
    names = set(node.values)
    fixed = {
        "leak": "decay" in names, "bias": "bias" in names, "refractory": "refractory" in names,
        "clamp": "v_min" in names, "max_spikes": node.model.max_out,
        "adaptive": "adaptation" in node.states,
    }  # fmt: skip
    resets = ("value",) if "v_reset" in names else ("zero", "subtract")
    synapses = ("new", "old") if "u" in node.states else ("",)
    late = "fired" in node.states
    timings = ("next_before_decay", "next_after_decay", "next_discard") if late else ("at_spike",)
    return [
        {**fixed, "reset": r, "synapse": s, "timing": t, "compare": c}
        for r in resets
        for s in synapses
        for t in timings
        for c in (">", ">=")
        if not (t == "next_discard" and r == "subtract")
    ]
