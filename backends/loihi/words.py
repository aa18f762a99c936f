"""What network.py and README.md say about a network: its nodes, its time, its ports."""

from __future__ import annotations

import numpy as np

from qspinn.ir import Delay, Graph, Input, Neuron, Output, Shape
from qspinn.signals import signals

from .layers import Layer
from .names import identifier, is_image, lava_shape, quoted


def flat(port: str, shape: Shape) -> str:
    """A port whose signal is flat, in C order."""
    return f"{port}.transpose([2, 1, 0]).flatten()" if is_image(shape) else port


def unflat(port: str, shape: Shape) -> str:
    """A flat port as the layer it leads to has it."""
    return (
        f"{port}.reshape({lava_shape(shape)[::-1]}).transpose([2, 1, 0])"
        if is_image(shape)
        else port
    )


def chain(graph: Graph) -> str:
    """The nodes in words: input (64) -> fc1 -> lif1 (128)."""
    known = signals(graph)
    words = []
    for node in graph.nodes:
        if not isinstance(node, (Output, Delay)):
            size = "x".join(map(str, known[node.name].shape))
            sized = f" ({size})" if isinstance(node, (Input, Neuron)) else ""
            words.append(f"{identifier(node.name)}{sized}")
    return " -> ".join(words)


def describe_input(node: Input) -> str:
    """What enters, in words."""
    what = {"spike": "spikes", "count": f"counts up to {node.high}", "current": "values"}[node.kind]
    return f"{what} of shape {node.shape}"


def describe_layer(layer: Layer) -> str:
    """A layer in words."""
    size = int(np.prod(layer.neuron.shape))
    late = f", {steps(layer.shift)} behind the input" if layer.shift else ""
    own = "" if layer.registers is not None else f"; simulator only: {layer.why}"
    return f"{size} {layer.neuron.model.name}{late}{quoted(own)}"


def steps(count: int) -> str:
    """1 step, 2 steps."""
    return f"{count} step" if count == 1 else f"{count} steps"


def about_time(graph: Graph, found: tuple[Layer, ...]) -> tuple[str, ...]:
    """How the steps of Lava relate to those of the network."""
    latest = max(layer.shift for layer in found)
    if graph.start == "cold":
        return ("Every neuron runs from the first step; each synapse process takes one step.",)
    return (
        "Each synapse process takes one step, so layers run behind the input, each from its first",
        f"input on, the last {steps(latest)} behind. run.py aligns what it writes with the input.",
    )
