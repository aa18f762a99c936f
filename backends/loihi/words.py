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


def counted(count: int, what: str) -> str:
    """1 input, 2 inputs."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def steps(count: int) -> str:
    """1 step, 2 steps."""
    return counted(count, "step")


def about_time(graph: Graph, found: tuple[Layer, ...]) -> tuple[str, ...]:
    """How the steps of Lava relate to those of the network."""
    latest = max(layer.shift for layer in found)
    if graph.start == "cold":
        return ("Every neuron runs from the first step; each synapse process takes one step.",)
    return (
        "Each synapse process takes one step, so layers run behind the input, each from its first",
        f"input on, the last {steps(latest)} behind. run.py aligns what it writes with the input.",
    )


# --- inputs and outputs ---

_DECISIONS = {
    "count": "the output that spiked most",
    "first_spike": "the output that spiked first, of several the one with the highest potential",
    "membrane_last": "the output with the highest potential after the last step",
    "membrane_max": "the output with the highest potential of all steps",
}


def files_of(graph: Graph) -> tuple[str, str, str]:
    """Names for the files of input, of output and of classes: archives where they hold several."""
    into, out = ("npz" if len(graph.of_type(kind)) > 1 else "npy" for kind in (Input, Output))
    return f"spikes.{into}", f"out.{out}", f"classes.{out}"


def about_ports(graph: Graph) -> tuple[str, ...]:
    """What enters and what leaves, with shapes and names."""
    return (*_about_inputs(graph), *_about_outputs(graph))


def _about_inputs(graph: Graph) -> tuple[str, ...]:
    known, inputs = signals(graph), graph.of_type(Input)
    found = []
    for node in inputs:
        span = known[node.name].interval
        assert span is not None, "an integer graph"
        found.append((_steps(node.shape), f"from {span.lo} to {span.hi}"))
    if len(inputs) == 1:
        ((shape, low),) = found
        return (f"`spikes.npy` holds integers of shape {shape}, {low}.",)
    each = (
        f"* `input.{quoted(node.name)}`: {shape}, {low}"
        for node, (shape, low) in zip(inputs, found, strict=True)
    )
    apart = " ".join(f"--input {quoted(n.name)}=spikes{i}.npy" for i, n in enumerate(inputs, 1))
    return (
        "`spikes.npz` holds an array of integers for each input, as many samples and steps in all:",
        "", *each, "", f"Each may come from a file of its own: `{apart}`.",
    )  # fmt: skip


def _about_outputs(graph: Graph) -> tuple[str, ...]:
    known, outputs = signals(graph), graph.of_type(Output)
    found = []
    for node in outputs:
        graded = known[node.name].kind == "current"
        words = "membrane potentials after each step" if graded else "spikes"
        found.append(f"{words}, {_steps(known[node.name].shape)}")
    if len(outputs) == 1:
        return (
            f"`out.npy` receives {found[0]},",
            f"`classes.npy` the class of each sample: {_decision(outputs[0])}.",
        )
    each = (
        f"* `output.{quoted(node.name)}`: {sent}; the class: {_decision(node)}"
        for node, sent in zip(outputs, found, strict=True)
    )
    return (
        "`out.npz` receives what each output sends, `classes.npz` under the same names the class "
        "of each sample:", "", *each, "",
    )  # fmt: skip


def _steps(shape: Shape) -> str:
    return f"(samples, steps{''.join(f', {n}' for n in shape)})"


def _decision(node: Output) -> str:
    if node.labels:
        return f"a vote of the {len(node.labels)} outputs, divided by those of each class"
    return _DECISIONS[node.readout]
