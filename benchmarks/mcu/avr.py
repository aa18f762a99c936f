"""Cycles of an inference on an ATmega328P: 196-64-10, few-bit weights, simulated exactly.

    python benchmarks/mcu/avr.py [--rate 0.05] [--steps 25] [--bits 8]

Random weights (standard deviation a quarter of the range), 16-bit membranes, decay v - (v >> 4),
one threshold a layer such that as many hidden neurons spike as inputs, hard reset, index list in,
every check on. Every state after every step is compared with the reference before anything is
printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from qspinn.backends.mcu import BACKEND  # noqa: E402
from qspinn.backends.mcu.avr import PARTS  # noqa: E402
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.execute import record  # noqa: E402
from qspinn.backends.mcu.samples import trace  # noqa: E402
from qspinn.backends.mcu.simavr import measure  # noqa: E402

from mcu_builds import files_of, param, state  # noqa: E402
from qspinn import interp  # noqa: E402
from qspinn.fixed import IntArray  # noqa: E402
from qspinn.ir import Array, Graph, Input, Linear, Neuron, Node, Output  # noqa: E402
from qspinn.neurons import spiking  # noqa: E402
from qspinn.validate import compare  # noqa: E402

SIZES = (196, 64, 10)


def network(sizes: tuple[int, ...], thresholds: tuple[int, ...], bits: int) -> Graph:
    """Leaky neurons without a bias."""
    top = (1 << (bits - 1)) - 1
    rng = np.random.default_rng(1)
    nodes: list[Node] = [Input(name="x", shape=sizes[:1])]
    for layer, threshold in enumerate(thresholds, 1):
        ins, outs = sizes[layer - 1 : layer + 1]
        drawn = rng.normal(0, (top + 1) / 4, (outs, ins))
        weight = param(np.clip(np.rint(drawn), -top, top), f"s{bits}f0")
        nodes.append(Linear(name=f"fc{layer}", inputs=(nodes[-1].name,), weight=weight))
        nodes.append(
            Neuron(
                name=f"lif{layer}", inputs=(f"fc{layer}",), shape=(outs,), model=spiking(),
                values={"threshold": param(threshold, "s16f0"), "decay": param(4, "leak4")},
                states={"v": state("s16f0")},
            )
        )  # fmt: skip
    return Graph("bench", (*nodes, Output(name="out", inputs=(nodes[-1].name,), readout="count")))


def tuned(sizes: tuple[int, ...], data: Array, rate: float, bits: int) -> Graph:
    """The network whose layers spike at about ``rate``: each threshold by bisection."""
    levels: list[int] = []
    for layer in range(1, len(sizes)):
        low, high = 1, 4000
        while high - low > 1:
            level = (low + high) // 2
            graph = network(sizes[: layer + 1], (*levels, level), bits)
            spikes = interp.run(graph, data).outputs["out"].mean()
            low, high = (level, high) if spikes > rate else (low, level)
        levels.append(high)
    return network(sizes, tuple(levels), bits)


def events(graph: Graph, data: Array) -> int:
    """Weights that are added: for every spike into a layer, one a neuron of it."""
    total, source = 0, data
    for layer, size in enumerate(SIZES[1:], 1):
        total += int(source.sum()) * size
        first = [n for n in graph.nodes if n.name not in ("out",)][: 1 + 2 * layer]
        part = Graph("part", (*first, Output(name="out", inputs=(first[-1].name,))))
        source = interp.run(part, data).outputs["out"]
    return total


def main() -> None:
    """Build, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--bits", type=int, choices=(8, 4, 2), default=8)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--dump", type=Path, help="write the emitted files there")
    arguments = parser.parse_args()
    rng = np.random.default_rng(2)
    shape = (arguments.samples, arguments.steps, SIZES[0])
    data: IntArray = (rng.random(shape) < arguments.rate).astype(np.int64)
    graph = BACKEND.legalize(tuned(SIZES, data, arguments.rate, arguments.bits))
    part = PARTS["avr5"]
    device = next(d.name for d in BACKEND.devices.values() if d.core == part.core)
    files, made = files_of(graph, device), build(graph, eight=True)
    if arguments.dump:
        for name, content in files:
            (arguments.dump / name).write_bytes(content)
    difference = compare(interp.run(graph, data), trace(made, record(files, made, data, "simavr")))
    if difference is not None:
        raise SystemExit(f"not exact: {difference}")
    found = measure(files, made, data, part)
    inference = found.cycles.sum() / arguments.samples
    synapses = events(graph, data) / arguments.samples
    what = f"{arguments.steps} steps, {arguments.rate:.0%}, {arguments.bits} bits"
    print(f"{'-'.join(map(str, SIZES))}, {what}: exact")
    print(f"{inference:,.0f} cycles an inference, {inference / 16_000:.1f} ms at 16 MHz")
    print(f"{inference / synapses:.2f} cycles a synaptic operation of {synapses:,.0f}, all in")
    print(f"{found.stack} B of stack, the test program's own included")


if __name__ == "__main__":
    main()
