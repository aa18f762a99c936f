"""Networks for the tests of the loihi target, written by hand in its formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from qspinn.backends.loihi import BACKEND

from qspinn import interp
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Input, Linear, Neuron, Node, Output, Param, Shape, State
from qspinn.neurons import integrator, spiking
from qspinn.plan import Plan

U = QFormat(24, 6, True, -(2**23) + 1, 2**23)
V = QFormat(24, 6, True, -(2**23) + 1, 2**23 - 1)
DECAY = QFormat(13, 12, signed=False)
THETA = QFormat(17, 0, signed=False)
W = QFormat(8, -1)
COUNT = QFormat(4, 0, signed=False)
CHIP = "loihi2"


def state(fmt: QFormat, init: Any = 0, **options: Any) -> State:
    """A state of Loihi's: rounding toward zero, the current wrapping."""
    overflow = Overflow.WRAP if fmt == U else Overflow.SATURATE
    return State(
        Param(init, fmt), fmt, **{"rounding": Rounding.ZERO, "overflow": overflow, **options}
    )


def neuron(
    name: str,
    inputs: tuple[str, ...],
    shape: Shape,
    values: Mapping[str, Any] | None = None,
    *,
    reads_out: bool = False,
    v0: Any = 0,
    **rule: Any,
) -> Neuron:
    """Neurons in Loihi's formats; ``values`` are the integers of decays (4096ths), threshold..."""
    model = integrator(**rule) if reads_out else spiking(**rule)
    given = {"decay": 3500, "current_decay": 3000, "threshold": 200, "bias": 0, "v_min": -12800,
             "v_reset": 640, "refractory": 2, "adaptation_decay": 4000, "adaptation_step": 3000,
             **(values or {})}  # fmt: skip
    formats = {"decay": DECAY, "current_decay": DECAY, "threshold": THETA, "refractory": COUNT,
               "adaptation_decay": DECAY}  # fmt: skip
    params = {key: Param(given[key], formats.get(key, V), Rounding.ZERO) for key in model.params}
    kinds = {"u": state(U), "v": state(V, v0), "fired": state(COUNT), "wait": state(COUNT),
             "adaptation": state(V)}  # fmt: skip
    return Neuron(
        name=name, inputs=inputs, shape=shape, model=model, values=params,
        states={key: kinds[key] for key in model.states},
    )  # fmt: skip


def linear(
    name: str,
    source: str,
    weights: Array,
    bias: Array | None = None,
    fmt: QFormat = W,
    bias_fmt: QFormat = W,
) -> Linear:
    """A connection whose weights are even: format s8f-1."""
    b = None if bias is None else Param(bias, bias_fmt)
    return Linear(name=name, inputs=(source,), weight=Param(weights, fmt), bias=b)


def net(name: str, shape: Shape, nodes: tuple[Node, ...], **options: Any) -> Graph:
    """A graph from its input to the output of its last neurons."""
    last = [node for node in nodes if isinstance(node, Neuron)][-1]
    readout = "membrane_last" if last.model.sends == "current" else "count"
    inputs = Input(name="input", shape=shape, **options)
    out = Output(name="out", inputs=(last.name,), readout=readout)
    return Graph(name, (inputs, *nodes, out))


def spikes(rng: np.random.Generator, shape: Shape, rate: float = 0.3, high: int = 1) -> Array:
    """(batch, steps, ...) integers up to ``high``."""
    return (rng.random(shape) < rate) * rng.integers(1, high + 1, shape)


def written(graph: Graph, folder: Path) -> Path:
    """The package of a legalized graph in a folder of its own."""
    artifact = BACKEND.emit(graph, BACKEND.devices[CHIP], Plan({}))
    for path, content in artifact.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def assert_same(want: Trace, got: Trace) -> None:
    """Every register of ``want`` in every step."""
    for part, other in ((want.states, got.states), (want.outputs, got.outputs)):
        for name, values in part.items():
            np.testing.assert_array_equal(other[name], values, err_msg=name)


def run_both(graph: Graph, data: Array, folder: Path, executor: str = "lava", **how: Any) -> Graph:
    """Legalize, check against the original, run the package, check against the reference."""
    legal = BACKEND.legalize(graph, **how)
    if legal.start == "skewed":
        assert_same(interp.run(graph, data), interp.run(legal, data))
    assert_same(interp.run(legal, data), BACKEND.run(written(legal, folder), legal, data, executor))
    return legal
