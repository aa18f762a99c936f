"""Evaluate a grid of 5,292 quantizations of the MNIST network on 10,000 images, all exactly.

126 variants of the first layer (7 weight widths, 3 roundings, 2 scales, 3 decays) times 42 of the
second (7 widths, 2 scales, 3 decays). A random subset is compared with plain simulation, a few
samples of it with the reference interpreter. CPU-seconds of one thread; the images are encoded
beforehand.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspinn import interp
from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.encode import Encoder, encode
from qspinn.engine.sweep import sweep
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import Graph, Node
from qspinn.passes.quantize import quantize_node
from qspinn.plan import Entry, Plan
from qspinn.readout import Summary
from qspinn.simulate import Events, simulate

NETWORK = Path(__file__).resolve().parents[1] / "examples" / "mnist" / "mnist.nir"
WIDTHS = (8, 7, 6, 5, 4, 3, 2)
ROUNDINGS = (Rounding.NEAREST_EVEN, Rounding.FLOOR, Rounding.STOCHASTIC)
CLIPS = (1.0, 1.6)
"""Scales: of the one at which no weight is clipped."""
DECAYS = ("u13f12", "u7f6", "leak4")
CALIBRATED = 500
STATE_BITS = 16

Array = npt.NDArray[Any]


def main() -> None:
    """Run the benchmark."""
    options = parse()
    with np.load(options.data) as file:
        images, labels = file["x_train"].reshape(-1, 784), file["y_train"]
    count = min(options.samples, len(images) - CALIBRATED)
    graphs = candidates(images[count : count + CALIBRATED], labels[count : count + CALIBRATED])
    events = encoded(images[:count])
    y = labels[:count]

    def right(summary: Summary, samples: slice) -> Array:
        found: Array = summary.counts.argmax(1) == y[samples]
        return found

    sweep(graphs[:: len(graphs) // 60], events.take(np.arange(20)), threads=1)  # compiles
    begin, wall = time.process_time(), time.perf_counter()
    tallies = sweep(graphs, events, threads=1, read=right)
    seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    correct = np.array([tally.read for tally in tallies])
    chosen = np.random.default_rng(options.seed).permutation(len(graphs))[: options.check]
    plain = checked(graphs, correct, chosen, events, y)
    accuracy = correct.mean(1)
    report = {
        "candidates": len(graphs), "samples": count, "cpu_seconds": seconds, "wall_seconds": wall,
        "candidates_per_cpu_second": len(graphs) / seconds, "plain_cpu_seconds_each": plain,
        "times_as_fast_as_plain": plain * len(graphs) / seconds, "checked": len(chosen),
        "accuracy": [float(accuracy.min()), float(accuracy.max())],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="MNIST.npz",
                        help="x_train (images 28x28 or flat, uint8) and y_train")  # fmt: skip
    parser.add_argument("--samples", type=int, default=10_000, metavar="N")
    parser.add_argument("--check", type=int, default=20, metavar="N", help="simulated plainly too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def encoded(images: Array) -> Events:
    """Rate-coded spikes of some images."""
    encoder, every = Encoder("rate", 25, 1 / 255), np.arange(len(images))
    chunks = [slice(i, i + 500) for i in range(0, len(images), 500)]
    parts = [Events.from_dense(encode(images[c], encoder, every[c])) for c in chunks]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.offsets) for p in parts]))])
    return Events((784,), 25, offsets, np.concatenate([part.index for part in parts]))


# --- the candidates ---


def candidates(images: Array, labels: Array) -> list[Graph]:
    """Integer graphs that share the nodes of the layers they have in common."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calibration.npz"
        np.savez(path, x=images, y=labels, split=np.zeros(len(images), np.uint8))
        job = jobs.prepare(NETWORK, path)
    base = jobs.plan_for(job, backend("mcu"))
    first, second, (x, *_, out) = [], [], job.graph.nodes
    for width, rounding, clip, decay in product(WIDTHS, ROUNDINGS, CLIPS, DECAYS):
        first.append(layer(job.graph, base, 1, width, rounding, clip, decay))
    for width, clip, decay in product(WIDTHS, CLIPS, DECAYS):
        second.append(layer(job.graph, base, 2, width, ROUNDINGS[0], clip, decay))
    nodes = [(x, *one, *two, out) for one, two in product(first, second)]
    return [replace(job.graph, nodes=each) for each in nodes]


def layer(
    graph: Graph, base: Plan, nth: int, width: int, rounding: Rounding, clip: float, decay: str
) -> tuple[Node, Node]:
    """One layer in integers: its scale fills the weights' format, its states follow the scale."""
    fc, lif = f"fc{nth}", f"lif{nth}"
    weight = base[f"{fc}.weight"]
    scale = base.scales[lif] * ((1 << (width - 1)) - 1) / (2 ** (weight.fmt.bits - 1) - 1) * clip
    finer = int(np.floor(np.log2(float(base.scales[lif].max() / scale.max()))))
    state = QFormat(STATE_BITS, base[f"{lif}.v"].fmt.frac + finer)
    changed: dict[str, Entry] = {
        f"{fc}.weight": replace(weight, fmt=QFormat(width, 0), rounding=rounding),
        f"{lif}.decay": replace(base[f"{lif}.decay"], fmt=QFormat.parse(decay)),
    }
    for path in (f"{fc}.bias", f"{lif}.v", f"{lif}.threshold"):
        changed[path] = replace(base[path], fmt=state)
    plan = replace(base.with_entries(changed), scales={**base.scales, lif: scale})
    made = [quantize_node(graph, graph[name], plan) for name in (fc, lif)]
    return made[0], made[1]


# --- checking and telling ---


def checked(
    graphs: list[Graph], correct: Array, chosen: Array, events: Events, labels: Array
) -> float:
    """Compare with plain simulation and the interpreter; CPU-seconds of a plain simulation.

    Raises:
        SystemExit: Something differs.
    """
    some = np.arange(0, len(events), max(1, len(events) // 10))[:10]
    raster = events.take(some).to_dense()
    seconds = []
    for i in chosen:
        begin = time.process_time()
        summary = simulate(graphs[i], events, threads=1).summary
        seconds.append(time.process_time() - begin)
        trace = interp.run(graphs[i], raster, record=())
        if (summary.counts[some] != trace.output.sum(1)).any():
            raise SystemExit(f"candidate {i}: the simulator differs from the interpreter")
        if ((summary.counts.argmax(1) == labels) != correct[i]).any():
            raise SystemExit(f"candidate {i}: the sweep differs from plain simulation")
    return float(np.median(seconds)) if seconds else float("nan")


def show(report: dict[str, Any]) -> None:
    """Print the report."""
    low, high = report["accuracy"]
    print(
        f"{report['candidates']:,} candidates x {report['samples']:,} images: "
        f"{report['cpu_seconds']:.1f} CPU-seconds (wall {report['wall_seconds']:.1f} s), "
        f"{report['candidates_per_cpu_second']:.0f} candidates a CPU-second"
    )
    print(
        f"  one alone takes {report['plain_cpu_seconds_each'] * 1e3:.0f} ms: sharing makes it "
        f"{report['times_as_fast_as_plain']:.0f} times as fast"
    )
    print(f"  {report['checked']} of them equal plain simulation on every image")
    print(f"  accuracy {low:.2%} to {high:.2%}; at most {report['peak_memory_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
