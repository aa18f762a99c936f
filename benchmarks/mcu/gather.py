"""Convolutions that gather beside those that scatter: instructions a step at many activities.

One layer of leaky neurons behind a convolution, fed by random events, runs on emulated cores in
both ways; both must give the reference's states, or the script ends with an error. The last two
columns are what `costmodel` expects of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from counting import COMPILERS, NAMES, checked
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.costmodel import cost

from qspinn.activity import observed
from qspinn.fixed import IntArray, Overflow, QFormat, Rounding
from qspinn.ir import Conv2d, Flatten, Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.neurons import spiking
from qspinn.plan import KERNEL, Plan

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
STEPS = 4


@dataclass(frozen=True)
class Layer:
    """A convolution and its neurons.

    Attributes:
        name: What it is called in the table.
        shape: Of the input: channels, rows, columns.
        outs: Channels of the output.
        kernel: Its side.
        stride: Of the windows.
        padding: Around the image.
        weights: Bits of a weight.
        states: Bits of a membrane.
    """

    name: str
    shape: tuple[int, int, int]
    outs: int
    kernel: int
    stride: int
    padding: int
    weights: int = 8
    states: int = 16

    def graph(self) -> Graph:
        """The network, its weights random."""
        rng = np.random.default_rng(1)
        side = [(s + 2 * self.padding - self.kernel) // self.stride + 1 for s in self.shape[1:]]
        top = (1 << (self.weights - 1)) - 1
        size = (self.outs, self.shape[0], self.kernel, self.kernel)
        held = QFormat(self.states, 0 if self.states == 16 else self.weights - 14)
        level = 12 * top >> -held.frac
        conv = Conv2d(
            name="conv", inputs=("x",), stride=(self.stride, self.stride),
            padding=(self.padding, self.padding),
            weight=Param(rng.integers(-top, top + 1, size), QFormat(self.weights, 0)),
        )  # fmt: skip
        neurons = Neuron(
            name="lif", inputs=("conv",), shape=(self.outs, *side), model=spiking(),
            values={
                "decay": Param(np.array(3840), QFormat(13, 12, signed=False)),
                "threshold": Param(np.array(level), held),
            },
            states={"v": State(Param(np.array(0), held), held, Rounding.FLOOR, Overflow.SATURATE)},
        )  # fmt: skip
        # Behind another layer, as neurons that are counted keep their order.
        flat = Flatten(name="flat", inputs=("lif",))
        narrow = QFormat(8, 0)
        fc = Linear(
            name="fc", inputs=("flat",),
            weight=Param(rng.integers(-99, 99, (2, self.outs * side[0] * side[1])), narrow),
        )  # fmt: skip
        end = replace(neurons, name="end", inputs=("fc",), shape=(2,))
        out = Output(name="out", inputs=("end",))
        x = Input(name="x", shape=self.shape)
        return Graph("layer", (x, conv, neurons, flat, fc, end, out))


LAYERS = (
    Layer("2x34x34, 12 of 6x6, stride 4", (2, 34, 34), 12, 6, 4, 0),
    Layer("12x8x8, 48 of 3x3, stride 2", (12, 8, 8), 48, 3, 2, 1),
    Layer("12x8x8, 48 of 3x3, stride 2, states 8 bits", (12, 8, 8), 48, 3, 2, 1, states=8),
    Layer("16x16x16, 32 of 3x3", (16, 16, 16), 32, 3, 1, 1),
    Layer("16x16x16, 32 of 3x3, weights 2 bits", (16, 16, 16), 32, 3, 1, 1, weights=2),
)


def instructions(graph: Graph, names: frozenset[str], data: IntArray, place: str,
                 compiler: str) -> float:  # fmt: skip
    """The instructions of a step, the states checked against the reference."""
    network = build(graph, gather=names)
    device = BACKEND.devices[BACKEND.default_device]
    files = BACKEND.emit(graph, device, _plan(names)).files
    total = checked(graph, network, files, data, place, compiler)
    return (sum(total.values()) - total["reset"]) / STEPS


def _plan(names: frozenset[str]) -> Plan:
    return Plan({}, options={f"{KERNEL}{name}": "gather" for name in names})


def expected(graph: Graph, names: frozenset[str], data: IntArray, place: str) -> float:
    """The same by the cost model."""
    device = replace(BACKEND.devices[BACKEND.default_device], core=NAMES[place])
    found = cost(build(graph, gather=names), device, observed(graph, data, engine="numpy"))
    assert found is not None, "all of these cores were measured"
    aside = sum(line.instructions for line in found.lines if line.owner == "reset")
    return float((found.instructions - aside) / STEPS)


def report(layer: Layer, arguments: argparse.Namespace) -> None:
    """The rows of a layer."""
    graph, ways = layer.graph(), (frozenset[str](), frozenset({"conv"}))
    sizes = [build(graph, gather=names).struct.bytes for names in ways]
    print(f"\n{layer.name}: state {sizes[0]} B scattering, {sizes[1]} B gathering")
    print("core compiler | input | scatter, k | gather, k | ratio | by the model, k")
    rng = np.random.default_rng(2)
    for place in arguments.cores:
        for compiler in arguments.compilers:
            for rate in RATES:
                data = (rng.random((1, STEPS, *layer.shape)) < rate).astype(np.int64)
                taken = [instructions(graph, n, data, place, compiler) / 1e3 for n in ways]
                guess = [expected(graph, n, data, place) / 1e3 for n in ways]
                print(f"{place:4} {compiler:8} | {rate:5.0%} | {taken[0]:10.1f} | {taken[1]:9.1f} "
                      f"| {taken[0] / taken[1]:5.2f} | {guess[0]:.1f} {guess[1]:.1f}",
                      flush=True)  # fmt: skip


def main() -> None:
    """Print a table for each layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--compilers", nargs="+", default=["gcc"], choices=COMPILERS)
    parser.add_argument("--layers", type=int, nargs="+", default=list(range(len(LAYERS))))
    arguments = parser.parse_args()
    for number in arguments.layers:
        report(LAYERS[number], arguments)


if __name__ == "__main__":
    main()
