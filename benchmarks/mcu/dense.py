"""Instructions of dense networks on emulated cores, as GCC at -O2 makes them.

    python benchmarks/mcu/dense.py [--rates 0.02 0.05 0.1] [--cores m0+ m3 m4 m33 m55 rv32]
                                   [--network mlp|recurrent] [--functions]

The network is 784-128-10 with random 8-bit weights, or 784-400-10 whose hidden layer reads itself:
leaky neurons with 16-bit membranes, v - (v >> 4), one threshold a layer, set to zero at a spike.
Thresholds are such that layers spike about as often as the input. Every state and output is
compared with the reference; a difference ends the program. Counts are per inference of 25 steps,
everything a caller waits for: reset, checks, sums, neurons, readout and the decision. Ends with 1
where 784-128-10 at 5 % takes more than the bounds. Needs arm-none-eabi-gcc,
riscv64-unknown-elf-gcc, unicorn and pyelftools; for m55 qemu-system-arm and gcc.
"""

from __future__ import annotations

import argparse
import bisect
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from qspinn.backends.mcu import BACKEND, toolchain
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Built, Files
from qspinn.backends.mcu.emulate import Board, Emulator
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.plugin import count_qemu
from qspinn.backends.mcu.qemu import run_qemu
from qspinn.backends.mcu.samples import events, trace
from qspinn.backends.mcu.toolchain import CORES, Core

from qspinn import interp
from qspinn.fixed import IntArray, QFormat
from qspinn.ir import Delay, Graph, Input, Linear, Neuron, Node, Output, Param, State
from qspinn.neurons import spiking
from qspinn.plan import Plan
from qspinn.validate import compare

STEPS = 25
SPREAD = 32
"""Standard deviation of the weights."""
LEVELS = range(20, 6000, 20)
"""The thresholds that are tried."""
SHORT = {
    "m0+": "cortex-m0plus", "m3": "cortex-m3", "m4": "cortex-m4", "m33": "cortex-m33",
    "m55": "cortex-m55", "rv32": "rv32imc",
}  # fmt: skip
BOUNDS = {"m0+": (370, 270, 241), "m3": (227, 195, 174), "m4": (228, 150, 133),
          "m33": (228, 150, 133), "m55": (220, 72, 64), "rv32": (272, 272, 165)}  # fmt: skip
"""Thousand instructions at 5 %: portable, best, aim."""


@dataclass(frozen=True)
class Case:
    """A network, its input, and what it does: spikes that cause additions, and their synapses."""

    graph: Graph
    data: IntArray
    synapses: float
    neurons: int


def weights(rng: np.random.Generator, outs: int, ins: int) -> Param:
    """Random weights of 8 bits."""
    values = np.clip(np.rint(rng.normal(0, SPREAD, (outs, ins))), -128, 127).astype(np.int64)
    return Param(values, QFormat.parse("s8f0"))


def leaky(name: str, sources: tuple[str, ...], size: int, threshold: int) -> Neuron:
    """Leaky neurons."""
    values = {
        "threshold": Param(np.array(threshold), QFormat.parse("s16f0")),
        "decay": Param(np.array(4), QFormat.parse("leak4")),
    }
    fmt = QFormat.parse("s16f0")
    states = {"v": State(Param(np.zeros((), np.int64), fmt), fmt)}
    return Neuron(
        name=name, inputs=sources, shape=(size,), model=spiking(compare=">="), values=values,
        states=states,
    )  # fmt: skip


def network(hidden: int, recurrent: bool, thresholds: Sequence[int]) -> Graph:
    """The network with given thresholds."""
    rng = np.random.default_rng(1)
    fed = ("fc1", "rec1") if recurrent else ("fc1",)
    back: tuple[Node, ...] = (
        Delay(name="back", inputs=("lif1",), shape=(hidden,), steps=1),
        Linear(name="rec1", inputs=("back",), weight=weights(rng, hidden, hidden)),
    )
    return Graph(
        "dense",
        (
            Input(name="x", shape=(784,)),
            Linear(name="fc1", inputs=("x",), weight=weights(rng, hidden, 784)),
            *(back if recurrent else ()),
            leaky("lif1", fed, hidden, thresholds[0]),
            Linear(name="fc2", inputs=("lif1",), weight=weights(rng, 10, hidden)),
            leaky("lif2", ("fc2",), 10, thresholds[1]),
            Output(name="out", inputs=("lif2",), readout="count"),
        ),
    )


@lru_cache(maxsize=16)
def case(kind: str, rate: float, samples: int = 2) -> Case:
    """The network whose layers spike as often as its input, on random spikes."""
    recurrent = kind == "recurrent"
    hidden = 400 if recurrent else 128
    rng = np.random.default_rng(2)
    data = (rng.random((samples, STEPS, 784)) < rate).astype(np.int64)

    chosen = thresholds_for(hidden, recurrent, data, rate)
    graph = network(hidden, recurrent, chosen)
    fired = hidden_spikes(graph, data)
    own = fired * (hidden + 10 if recurrent else 10)
    total = data.sum() / samples * hidden + own / samples
    return Case(graph, data, float(total), hidden + 10)


def hidden_spikes(graph: Graph, data: IntArray) -> int:
    """The spikes of the hidden layer: those of the graph that ends there."""
    ends = replace(graph.output, inputs=("lif1",))
    nodes = tuple(n for n in graph.nodes if n.name not in ("fc2", "lif2", graph.output.name))
    got = interp.run(Graph("hidden", (*nodes, ends)), data)
    return int(got.outputs[ends.name].sum())


def thresholds_for(hidden: int, recurrent: bool, data: IntArray, rate: float) -> tuple[int, int]:
    """Thresholds at which both layers spike at about ``rate``."""

    def first(threshold: int) -> float:
        fired = hidden_spikes(network(hidden, recurrent, (threshold, 1)), data)
        return float(fired / (data.shape[0] * STEPS * hidden))

    def second(threshold: int) -> float:
        got = interp.run(network(hidden, recurrent, (one, threshold)), data)
        return float(got.output.mean())

    one = LEVELS[bisect.bisect_left(LEVELS, -rate, key=lambda t: -first(t))]
    two = LEVELS[bisect.bisect_left(LEVELS, -rate, key=lambda t: -second(t))]
    return one, two


def image(files: Files, prefix: str, core: Core, portable: bool) -> bytes:
    """What GCC makes of emitted files, with nothing beside them."""
    built = Built(files)
    command = [
        *toolchain.gcc(core), "-nostdlib", "-Wall", "-Wextra", "-Werror",
        f"-Wl,--entry={prefix}_step", *([f"-D{prefix.upper()}_PORTABLE_ONLY"] if portable else ()),
        f"{prefix}.c", "-o", "image.elf",
    ]  # fmt: skip
    toolchain.compile_(command, built.folder)
    return bytes((built.folder / "image.elf").read_bytes())


class GccBoard(Board):  # type: ignore[misc]
    """A board with an image of GCC's."""

    def __init__(self, made: bytes, network: Network, core: Core) -> None:
        self.network, self.port = network, network.port
        self.emulator = Emulator(made, core)
        self.state = self.emulator.allocate(network.struct.bytes)
        self.indices = self.emulator.allocate(self.port.size * self.port.index.bytes)
        self.values = self.indices


@contextmanager
def profile(emulator: Emulator) -> Iterator[Counter[str]]:
    """Count the instructions of each function in the calls inside."""
    total: Counter[str] = Counter()
    marked = sorted((at & ~1, name) for name, at in emulator.symbols.items() if name[:1].isalpha())
    starts = [at for at, _ in marked]
    known: dict[tuple[int, int], tuple[str, int]] = {}

    def block(uc: object, address: int, size: int, _: object) -> None:
        found = known.get((address, size))
        if found is None:
            name = marked[bisect.bisect_right(starts, address) - 1][1]
            code = emulator.read(address, size)
            found = known[address, size] = name, emulator.instructions_in(code)
        total[found[0]] += found[1]

    hook = emulator.uc.hook_add(emulator.block, block)
    try:
        yield total
    finally:
        emulator.uc.hook_del(hook)


def measured(made: Case, core: Core, portable: bool) -> Counter[str]:
    """Instructions of each function in an inference; states and outputs are compared."""
    part = BACKEND.devices["generic"]
    graph = BACKEND.legalize(made.graph)
    emitted = BACKEND.emit(graph, part, Plan({}))
    network, files = build(graph), tuple(emitted.files.items())
    if not core.unicorn and core.arm:
        return measured_in_qemu(made, network, files, core, portable)
    made_image = image(files, network.prefix, core, portable)
    board = GccBoard(made_image, network, core)
    mismatch = compare(interp.run(made.graph, made.data), trace(network, board.run(made.data)))
    if mismatch is not None:
        raise SystemExit(f"{core.name}: {mismatch}")
    board = GccBoard(made_image, network, core)  # blocks translated without a hook have none
    with profile(board.emulator) as total:
        for sample in made.data:
            board.reset()
            for event in events(network.port, sample.reshape(STEPS, -1)):
                board.step(event)
            board.winner()
    return Counter({name: count // len(made.data) for name, count in total.items()})


def measured_in_qemu(
    made: Case, network: Network, files: Files, core: Core, portable: bool
) -> Counter[str]:
    """The same on a board of QEMU, where a stage includes what it calls."""
    define = f"#define {network.macro}_PORTABLE_ONLY\n".encode() if portable else b""
    files = tuple((n, define + c if n == f"{network.prefix}.c" else c) for n, c in files)
    recording = run_qemu(files, network, made.data, core)
    mismatch = compare(interp.run(made.graph, made.data), trace(network, recording))
    if mismatch is not None:
        raise SystemExit(f"{core.name}: {mismatch}")
    found = count_qemu(files, network, made.data, core)
    total = found.steps.sum((0, 1)) + found.resets.sum(0) + found.winners.sum(0)
    return Counter(dict(zip(found.functions, (total // len(made.data)).tolist(), strict=True)))


def row(short: str, portable: bool, cases: Sequence[Case], *, functions: bool) -> list[int]:
    """Measure a core and print its line; instructions of each case."""
    found = [measured(c, CORES[SHORT[short]], portable) for c in cases]
    totals = [sum(f.values()) for f in found]
    path = "portable" if portable else "best"
    print(f"{short:5} {path:9}" + "".join(f"{t / 1000:9.1f}" for t in totals), end="")
    if len(cases) > 1:
        slope = (totals[-1] - totals[0]) / (cases[-1].synapses - cases[0].synapses)
        rest = (totals[0] - slope * cases[0].synapses) / (cases[0].neurons * STEPS)
        print(f"{slope:9.3f} {rest:9.1f}", end="")
    print(f"  {BOUNDS[short]}", flush=True)
    if functions:
        for name, count in found[len(found) // 2].most_common():
            print(f"    {name:40} {count:9}")
    return totals


def main() -> int:
    """Print the table; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--cores", nargs="+", default=list(SHORT), choices=list(SHORT))
    parser.add_argument("--network", default="mlp", choices=["mlp", "recurrent"])
    parser.add_argument("--functions", action="store_true", help="print each function's")
    asked = parser.parse_args()
    print("thousand instructions an inference; bounds at 5 %, 784-128-10: portable, best, aim")
    print(f"{'core':5} {'path':9}" + "".join(f"{f'{r:.0%}':>9}" for r in asked.rates), end="")
    print(f"{'i/SOP':>9} {'i/neuron':>9}  bounds" if len(asked.rates) > 1 else "  bounds")
    cases = [case(asked.network, rate) for rate in asked.rates]
    missed = 0
    for short in asked.cores:
        for nth, portable in enumerate((True, False)):
            totals = row(short, portable, cases, functions=asked.functions)
            if asked.network == "mlp" and 0.05 in asked.rates:
                missed += totals[asked.rates.index(0.05)] > 1000 * BOUNDS[short][nth]
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
