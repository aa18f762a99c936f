"""Time the fast simulator against snnTorch and Lava's fixed-point simulator, on the same spikes.

A random network of LIF neurons (784-128-10, 8-bit weights) whose thresholds are tuned so that
about 8 % of the hidden neurons fire in a step. Each contender gets its input ready made: event
lists, a float raster, Lava's ring buffer. CPU-seconds of one thread, interleaved rounds, medians.
The counts of every sample are compared with the reference interpreter's.
"""

from __future__ import annotations

import argparse
import json
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspinn import interp
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.neurons import spiking
from qspinn.simulate import Events, simulate

SIZES = (784, 128, 10)
STEPS = 25
DENSITY = 0.12
RATE = 0.08
DECAY = 3686
"""Of 4096: 0.9 a step."""
POINT = 7
"""Binary point of the membrane: Lava shifts a current left by 6, and its weights are even."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Contender:
    """Something that simulates all samples and returns output counts (samples, outputs)."""

    name: str
    run: Callable[[], Array]


def main() -> None:
    """Run the benchmark."""
    options = parse()
    rng = np.random.default_rng(options.seed)
    raster = (rng.random((options.samples, STEPS, SIZES[0])) < DENSITY).astype(np.uint8)
    graph = tuned(rng, raster[:64])
    events = Events.from_dense(raster)
    contenders = [Contender("qspinn", lambda: counts(graph, events))]
    if find_spec("snntorch"):
        contenders.append(Contender("snnTorch", snntorch(graph, raster)))
    found = [contender.run() for contender in contenders]  # warm: compiled, memory touched
    rates = measure(contenders, options)
    report: dict[str, Any] = {
        "cpu": cpu(), "network": "-".join(map(str, SIZES)), "steps": STEPS,
        "samples": options.samples, "density": DENSITY, "hidden_rate": hidden_rate(graph, events),
        "equals_reference": bool((reference(graph, raster) == found[0]).all()),
        "samples_per_cpu_second": rates, "ratio": {},
    }  # fmt: skip
    for contender, other in zip(contenders[1:], found[1:], strict=True):
        report["ratio"][contender.name] = rates["qspinn"] / rates[contender.name]
        report["counts_equal"] = float((other == found[0]).mean())
    if options.lava and find_spec("lava"):
        lava(graph, raster, options, report)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--lava", type=int, default=20, metavar="N", help="samples through Lava; 0: leave it out"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


# --- the network ---


def build(weights: tuple[Array, ...], thresholds: tuple[int, ...]) -> Graph:
    """The integer graph; thresholds in units of a weight."""
    nodes: list[Any] = [Input(name="input", shape=(SIZES[0],))]
    state = QFormat.parse(f"s24f{POINT}[-8388607,8388607]")
    for i, (w, threshold) in enumerate(zip(weights, thresholds, strict=True), 1):
        fc, lif = f"fc{i}", f"lif{i}"
        weight = Param(w, QFormat(8))
        values = {
            "decay": Param(np.array(DECAY), QFormat(12, 12, signed=False), Rounding.ZERO),
            "threshold": Param(np.array(threshold << POINT), state),
        }
        states = {"v": State(Param(np.array(0), state), state)}
        nodes += [
            Linear(name=fc, inputs=(nodes[-1].name,), weight=weight),
            Neuron(name=lif, inputs=(fc,), shape=(len(w),), model=spiking(), values=values,
                   states=states),
        ]  # fmt: skip
    nodes.append(Output(name="output", inputs=(nodes[-1].name,)))
    return Graph("benchmark", tuple(nodes))


def tuned(rng: np.random.Generator, raster: Array) -> Graph:
    """A random network whose layers fire at `RATE`, by bisection of one threshold after another."""
    drawn = (rng.normal(0, 30, shape) for shape in zip(SIZES[1:], SIZES[:-1], strict=True))
    weights = tuple(np.clip(np.rint(w), -127, 127).astype(np.int64) for w in drawn)
    thresholds: list[int] = []
    for depth in range(len(weights)):
        low, high = 1, 1 << 15
        while high - low > 1:
            middle = (low + high) // 2
            trial = build(weights[: depth + 1], (*thresholds, middle))
            rate = counts(trial, raster).mean() / STEPS
            low, high = (middle, high) if rate > RATE else (low, middle)
        thresholds.append(high)
    return build(weights, tuple(thresholds))


def counts(graph: Graph, data: Array | Events) -> Array:
    """Output spikes of each sample, on one thread."""
    return simulate(graph, data, threads=1).summary.counts


def reference(graph: Graph, raster: Array) -> Array:
    """Output spikes of each sample, from the interpreter."""
    parts = [raster[i : i + 100] for i in range(0, len(raster), 100)]
    return np.concatenate([interp.run(graph, part, record=()).output.sum(1) for part in parts])


def hidden_rate(graph: Graph, events: Events) -> float:
    """Spikes per hidden neuron and step."""
    output = replace(graph.output, inputs=("lif1",))
    return float(counts(replace(graph, nodes=(*graph.nodes[:-1], output)), events).mean() / STEPS)


def layers(graph: Graph) -> list[tuple[Array, int]]:
    """The weights (out, in) and the threshold of each layer."""
    thresholds = [int(n.values["threshold"].values) >> POINT for n in graph.of_type(Neuron)]
    weights = [linear.weight.values for linear in graph.of_type(Linear)]
    return list(zip(weights, thresholds, strict=True))


# --- the others ---


def snntorch(graph: Graph, raster: Array) -> Callable[[], Array]:
    """The network in snnTorch, with its input as a float raster (steps, samples, inputs)."""
    import snntorch
    import torch

    torch.set_num_threads(1)
    stack = []
    for w, threshold in layers(graph):
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        linear.weight.data = torch.from_numpy(w.astype(np.float32))
        leaky = snntorch.Leaky(
            beta=DECAY / 4096, threshold=float(threshold), reset_mechanism="zero", reset_delay=False
        )
        stack.append((linear, leaky))
    x = torch.from_numpy(raster.transpose(1, 0, 2).astype(np.float32).copy())

    def run() -> Array:
        with torch.no_grad():
            membranes = [leaky.reset_mem() for _, leaky in stack]
            total = torch.zeros(())
            for t in range(len(x)):
                s = x[t]
                for i, (linear, leaky) in enumerate(stack):
                    s, membranes[i] = leaky(linear(s), membranes[i])
                total = total + s
        counts: np.ndarray = total.numpy().astype(np.int64)
        return counts

    return run


def lava(graph: Graph, raster: Array, options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Stream samples through Lava, one after the other, and add what it needed to the report."""
    # Lava 0.10 was made for Python 3.10: what our packages carry lets it run here.
    runpy.run_path(str(files("qspinn.templates") / "loihi" / "lava_compat.py"))
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    # Each connection takes a step. The first sample is run alone, to be compared.
    first, rest = STEPS + len(SIZES) - 1, options.lava * STEPS
    stream = raster[np.arange(options.lava) % len(raster)].reshape(rest, -1)
    lead = np.zeros((first, SIZES[0]), np.int64)
    lead[:STEPS] = raster[0]
    source = Source(data=np.concatenate([lead, stream]).T.astype(np.int32))
    out = source.s_out
    for w, threshold in layers(graph):
        dense = Dense(weights=2 * w)
        lif = LIF(shape=(len(w),), du=4095, dv=4096 - DECAY, vth=2 * threshold, bias_mant=0)
        out.connect(dense.s_in)
        dense.a_out.connect(lif.a_in)
        out = lif.s_out
    sink = Sink(shape=(SIZES[-1],), buffer=first)
    out.connect(sink.a_in)
    config = Loihi2SimCfg(select_tag="fixed_pt")
    try:
        sink.run(condition=RunSteps(num_steps=first), run_cfg=config)
        spikes = sink.data.get().sum(1).astype(np.int64)
        begin = time.perf_counter()
        sink.run(condition=RunSteps(num_steps=rest), run_cfg=config)
        seconds = time.perf_counter() - begin
    finally:
        sink.stop()
    events = Events.from_dense(raster)
    walls = []
    for _ in range(5 * options.rounds):  # each takes milliseconds, Lava's run half a second
        begin = time.perf_counter()
        found = counts(graph, events)
        walls.append(time.perf_counter() - begin)
    ours, theirs = len(raster) / statistics.median(walls), options.lava / seconds
    report["samples_per_second"] = {"qspinn": ours, "Lava": theirs}
    report["ratio"]["Lava"] = ours / theirs
    report["equals_lava"] = bool((spikes == found[0]).all())


# --- measuring and telling ---


def measure(contenders: list[Contender], options: argparse.Namespace) -> dict[str, float]:
    """Samples per CPU-second of each contender: the median of interleaved rounds."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(options.rounds):
        for contender in contenders:
            begin = time.process_time()
            contender.run()
            seconds[contender.name].append(time.process_time() - begin)
    return {name: options.samples / statistics.median(taken) for name, taken in seconds.items()}


def cpu() -> dict[str, Any]:
    """The processor and the vector instructions that count here."""
    name, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    flags: list[str] = []
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = value.split()
    vector = ("sse4_2", "avx", "avx2", "avx_vnni", "avx512", "amx", "asimd", "sve")
    return {"name": name, "vector": [flag for flag in flags if flag.startswith(vector)]}


def show(report: dict[str, Any]) -> None:
    """Print the report as a small table."""
    print(f"{report['cpu']['name']}  ({' '.join(report['cpu']['vector'])})")
    print(
        f"{report['network']}, {report['steps']} steps, {report['samples']} samples, "
        f"{report['density']:.0%} of inputs and {report['hidden_rate']:.1%} of hidden neurons fire"
    )
    for name, rate in report["samples_per_cpu_second"].items():
        print(f"  {name:<10} {rate:>10,.0f} samples per CPU-second{ratio(report, name)}")
    equal = "equal" if report["equals_reference"] else "DIFFER FROM"
    print(f"  counts {equal} the reference interpreter's on every sample")
    if "counts_equal" in report:
        print(f"  {report['counts_equal']:.2%} of snnTorch's counts are equal (it uses float32)")
    for name, rate in report.get("samples_per_second", {}).items():
        print(f"  {name:<10} {rate:>10,.1f} samples per second{ratio(report, name)}")
    if "equals_lava" in report:
        print(f"  counts {'equal' if report['equals_lava'] else 'DIFFER FROM'} Lava's")


def ratio(report: dict[str, Any], name: str) -> str:
    """How many times as fast qspinn is."""
    return f"   qspinn is {report['ratio'][name]:,.1f} x" if name in report["ratio"] else ""


if __name__ == "__main__":
    main()
