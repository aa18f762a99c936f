"""Networks with several outputs for the mcu target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mcu_builds import chain, convolutional, dense, lif, param, recurrent, state
from networks import random_network
from qspinn.ir import Array, Delay, Flatten, Graph, Input, Neuron, Node, Output
from qspinn.neurons import integrator
from qspinn.signals import signals


def with_outputs(graph: Graph, *nodes: Output) -> Graph:
    """The graph with further outputs."""
    return replace(graph, nodes=(*graph.nodes, *nodes))


def forked(name: str = "forked") -> Graph:
    """A hidden layer that leaves as well, twice; every readout; the input itself, and late."""
    rng = np.random.default_rng(61)
    labels = tuple(int(n) for n in rng.integers(-1, 4, 24))
    value = Neuron(
        name="li", inputs=("fc3",), shape=(6,), model=integrator(),
        values={"decay": param(4, "leak4")}, states={"v": state("s16f2")},
    )  # fmt: skip
    nodes: tuple[Node, ...] = (
        Input(name="x", shape=(40,)), dense(rng, "fc1", "x", 24, 40), lif("hidden", "fc1", 24, 60),
        dense(rng, "fc2", "hidden", 5, 24), lif("end", "fc2", 5, 60, reset="subtract"),
        dense(rng, "fc3", "hidden", 6, 24), value,
        Delay(name="late", inputs=("x",), shape=(40,), steps=2),
        Output(name="kind", inputs=("end",), readout="first_spike"),
        Output(name="Who votes?", inputs=("hidden",), readout="vote", labels=labels),
        Output(name="step", inputs=("hidden",), readout="count"),
        Output(name="high", inputs=("li",), readout="membrane_max"),
        Output(name="last", inputs=("li",), readout="membrane_last"),
        Output(name="wire", inputs=("x",), readout="count"),
        Output(name="again", inputs=("x",), readout="first_spike"),
        Output(name="echo", inputs=("late",), readout="count"),
    )  # fmt: skip
    return Graph(name, nodes)


def image_outputs() -> Graph:
    """An image of neurons that is hidden and leaves, beside the last layer."""
    graph = convolutional("pictures")
    hidden = Output(name="map", inputs=("lif1",), readout="first_spike")
    flat = Output(name="flatmap", inputs=("flat",), readout="count")
    return with_outputs(graph, hidden, flat)


def looping() -> Graph:
    """A layer that reads itself, and an integrator that decides."""
    return with_outputs(
        recurrent("looping"), Output(name="first", inputs=("lif1",), readout="first_spike")
    )


def two_inputs() -> Graph:
    """Two inputs of a size each, and two outputs."""
    rng = np.random.default_rng(62)
    graph = chain(
        "both", Input(name="a", shape=(20,)), Input(name="b", shape=(9,)),
        dense(rng, "fa", "a", 12, 20), dense(rng, "fb", "b", 12, 9),
        lif("l1", ("fa", "fb"), 12, 60), dense(rng, "fc", "l1", 4, 12), lif("l2", "fc", 4, 50),
    )  # fmt: skip
    return with_outputs(graph, Output(name="early", inputs=("l1",), readout="count"))


NETS = {"forked": forked, "image": image_outputs, "looping": looping}


def random_outputs(seed: int) -> tuple[Graph, Array]:
    """A random network whose neurons leave as well, some of them, with any readout."""
    graph, data = random_network(seed)
    rng, known = np.random.default_rng(seed), signals(graph)
    found: list[Node] = []
    for node in graph.of_type(Neuron):
        size, graded = known[node.name].size, known[node.name].kind == "current"
        kinds = ("membrane_last", "membrane_max") if graded else ("count", "first_spike", "vote")
        readout = str(rng.choice(kinds))
        labels = rng.integers(0, 3, size) if readout == "vote" else ()
        if readout == "vote" and len(set(map(int, labels))) <= max(map(int, labels)):
            readout, labels = "count", ()
        source = node.name
        if len(known[node.name].shape) > 1 and rng.random() < 0.5:
            source = f"flat {node.name}"
            found.append(Flatten(name=source, inputs=(node.name,)))
        found.append(
            Output(
                name=f"out of {node.name}", inputs=(source,), readout=readout,
                labels=tuple(int(n) for n in labels),
            )
        )  # fmt: skip
    return replace(graph, nodes=(*graph.nodes, *found)), data
