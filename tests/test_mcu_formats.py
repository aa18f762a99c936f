"""States and weights of any width, packed: the same bits, and the bytes that are promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build

from mcu_builds import agrees, chain, events, lif, param, rows_alone
from mcu_nets import NETS, any_width, few_values, narrowed, weights
from qspinn import interp
from qspinn.fixed import Rounding
from qspinn.ir import Conv2d, Delay, Flatten, Graph, Input, Linear, Neuron

EMULATED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")


def image(bits: int) -> Graph:
    """Narrow images in bands, with a loop through a delay, that draw random numbers."""
    rng = np.random.default_rng(bits)
    shape = (5, 13, 11)
    first = Conv2d(
        name="c1", inputs=("x",), weight=weights(rng, (5, 2, 3, 3), "s5"), padding=(1, 1)
    )
    back = Delay(name="back", inputs=("lif",), shape=shape, steps=2)
    loop = Conv2d(
        name="loop", inputs=("back",), weight=weights(rng, (5, 5, 1, 1), "s3"), padding=(0, 0)
    )
    neurons = narrowed(lif("lif", ("c1", "loop"), shape, 3), f"s{bits}f0", 1)
    decay = param(3686, "u13f12", Rounding.STOCHASTIC)
    neurons = replace(neurons, values={**neurons.values, "decay": decay})
    flat = Flatten(name="flat", inputs=("lif",))
    end = Linear(name="fc", inputs=("flat",), weight=weights(rng, (9, 5 * 13 * 11), "s7"))
    return chain(
        "image", Input(name="x", shape=(2, 13, 11)), first, back, loop, neurons, flat, end,
        narrowed(lif("end", "fc", 9, 3, refractory=True), "s12f0", 0),
    )  # fmt: skip


def states_of(graph: Graph) -> dict[str, int]:
    lines = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device]).lines
    return {line.owner: line.bytes for line in lines if line.kind == "state"}


@pytest.mark.parametrize("sign", ["s", "u"])
def test_a_state_of_so_many_bits_takes_so_many(sign: str) -> None:
    """But for one byte, which is read beside the last value where values straddle bytes."""
    graph = any_width(sign)
    found = states_of(graph)
    for node in graph.of_type(Neuron):
        fmt, size = node.states["v"].fmt, int(np.prod(node.shape))
        assert fmt is not None
        exact = -(-size * fmt.bits // 8)
        assert exact <= found[f"{node.name}.v"] <= exact + 1, str(fmt)


def test_the_narrow_neurons_are_busy() -> None:
    for graph in (any_width("s"), any_width("u"), image(5), image(12)):
        trace = interp.run(graph, events(graph))
        kept = {name: values for name, values in trace.states.items() if name.endswith(".v")}
        assert all(len(np.unique(values)) > 2 for values in kept.values())


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("bits", [3, 5, 7, 9, 12])
def test_images_of_narrow_states(bits: int) -> None:
    graph = image(bits)
    assert any(s.template == "banded" for s in build(graph).stages)
    agrees(graph, events(graph), "sanitize")


def test_few_different_constants_are_stored_once() -> None:
    graph = few_values()
    lines = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device]).lines
    found = {line.owner: line.bytes for line in lines if line.kind == "constants"}
    assert found["c.bias.code"] == 130 + 2, "half a byte each, and the rest of a word"
    assert found["c.bias"] == 2 * 13 + 2
    assert found["l.threshold.code"] == 65 + 3
    assert found["l.threshold"] == 2 * 3 + 2
    assert found["l.v.start.code"] == 33 + 3, "of two values it is code what they are"
    assert "l.v.start" not in found
    assert found["lif1.threshold.code"] == 300 // 4 + 1
    assert found["lif2.threshold.code"] == 701 + 3
    assert found["lif2.threshold"] == 2 * 17 + 2
    assert found["out.labels.code"] == 351 + 1


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize("name", ["few bits", "more bits", "pruned"])
def test_rows_that_are_not_in_tiles(name: str) -> None:
    with rows_alone():
        graph = NETS[name]()
        assert not build(graph).adders
        agrees(graph, events(graph), "sanitize")
        for core in ("cortex-m0plus", "cortex-m4", "rv32imc"):
            agrees(graph, events(graph, batch=1, steps=5), core)
