"""Fit the cost model of the mcu target to what emulated cores execute.

    python benchmarks/mcu_cost.py [--networks N] [--only ISA] [--write]

Runs the emitted C of random and of usual networks, at several rates of events, on every core that
unicorn emulates, as GCC compiles it; takes the instructions of each function,
fits them to the parts that `costparts` counts, and reports how far networks that were left out of a
fit are from their prediction. ``--write`` replaces cost.csv and cycles.csv of backends/mcu; with
``--only`` just the columns that were measured. Takes about half an hour for all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import mcu_code_size  # noqa: E402
from mcu_code_size import FIXED, STORED  # noqa: E402
from mcu_networks import larger, options_of, rowed, tiled  # noqa: E402
from qspinn.backends.mcu import (  # noqa: E402
    BACKEND,
    costparts,
    fitted,
    toolchain,
)
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.builds import Files  # noqa: E402
from qspinn.backends.mcu.costmodel import COST, CYCLES  # noqa: E402
from qspinn.backends.mcu.counting import count  # noqa: E402
from qspinn.backends.mcu.network import Gather, Network  # noqa: E402
from qspinn.backends.mcu.running import Counts  # noqa: E402
from qspinn.backends.mcu.tileforms import FORMS  # noqa: E402

from mcu_builds import chain, dense, lif, param  # noqa: E402
from qspinn.activity import observed  # noqa: E402
from qspinn.ir import Array, Delay, Graph, Input, Neuron, Node, Scale  # noqa: E402
from qspinn.plan import Plan  # noqa: E402

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
COMPILER = "gcc"
"""What most people's builds are made with."""
RATES = (0.02, 0.1, 0.35)
STEPS, LONGER = 8, 24
"""Of a run, and of one of a network with delays: spikes of the last step do not arrive."""
FOLDS = 5
RARE = 0.3
"""How much networks count that are there only so that every way to store weights is."""
RIDGE = 0.3
SUMS = 3.0
"""How much the sum over a network counts beside its functions."""


@dataclass(frozen=True)
class Seen:
    """One emitted function at work: its parts, the instructions it took, and whose it is."""

    parts: Counts
    instructions: float
    run: int
    network: int
    weight: float = 1.0


@dataclass(frozen=True)
class Run:
    """A network on data."""

    graph: Graph
    data: Array
    network: int
    weight: float = 1.0


RUNS: list[Run] = []


def corpus(count: int) -> list[Run]:
    """Random networks, and twice as many of usual kinds, each of those at several rates."""
    found: list[Run] = []
    random = (g for g, _ in mcu_code_size.corpus(2 * count)[FIXED + 1 :: 2])
    for nth in range(count):
        usual = nth % 3 > 0
        graph = usual_network(nth - nth // 3 - 1) if usual else next(random)
        while not is_counted(graph):
            graph = next(random)
        rates = RATES if usual else (RATES[nth % len(RATES)],)
        found += [Run(graph, stimulus(graph, rate, nth), nth) for rate in rates]
    # Whatever chance has made, every way to store weights is there; those are no usual networks.
    for graph in (*map(tiled, FORMS), *map(rowed, STORED)):
        count += 3 - count % 3
        found += [Run(graph, stimulus(graph, rate, count), count, RARE) for rate in RATES[1:]]
    return found


def usual_network(nth: int) -> Graph:
    """One of the kinds of `mcu_networks`, or an `echo`."""
    if nth % 6 == 5:
        return echo(nth // 6)
    graph = larger(nth - nth // 6)
    return replace(graph, name="valued") if graph.name == "loaded" else graph


def echo(nth: int) -> Graph:
    """Neurons that fire when their input does, so that spikes are as independent as events."""
    rng = np.random.default_rng(nth)
    size, outs = int(rng.integers(5, 300)), int(rng.integers(4, 100))
    bits = int(rng.choice((2, 3, 4, 8, 16)))
    return chain(
        "echo", Input(name="x", shape=(size,)),
        Scale(name="copy", inputs=("x",), scale=param(100, "s8f0")),
        lif("lif1", "copy", size, 50),
        dense(rng, "fc", "lif1", outs, size, bits), lif("lif2", "fc", outs, 300),
    )  # fmt: skip


def is_counted(graph: Graph) -> bool:
    """Whether how often every array holds an event is known."""
    stages = network_of(graph).stages
    edges = [drive.edge for s in stages if isinstance(s, Gather) for drive in s.drives]
    nodes = {network_of(graph).sources[edge.at].node for edge in edges}
    return all(n and _sends(graph[n]) != "current" for n in nodes)


def _sends(node: Node) -> str:
    return node.model.sends if isinstance(node, Neuron) else "spike"


def stimulus(graph: Graph, rate: float, seed: int) -> Array:
    """Random input of a rate."""
    rng, node = np.random.default_rng(seed), graph.input
    size = (1, LONGER if graph.of_type(Delay) else STEPS, *node.shape)
    if node.kind == "current":
        assert node.fmt is not None, "an integer graph"
        span = node.fmt.range
        return rng.integers(span.lo, span.hi + 1, size)
    return rng.integers(1, node.high + 1, size) * (rng.random(size) < rate)


def network_of(graph: Graph) -> Network:
    """A network with its input passed as its plan says."""
    return build(graph, options_of(graph).get("input", ""))


@cache
def prepared(nth: int) -> tuple[Files, dict[str, Counts]]:
    """The emitted files of a run's network, and the parts that the run makes it run."""
    run = RUNS[nth]
    device = BACKEND.devices[BACKEND.default_device]
    options = options_of(run.graph)
    files = tuple(BACKEND.emit(run.graph, device, Plan({}, options=options)).files.items())
    busy = observed(run.graph, run.data, engine="numpy")
    parts: dict[str, Counts] = {}
    for owned in costparts.inference(network_of(run.graph), busy):
        parts[owned.owner] = parts.get(owned.owner, Counts()) + owned.parts
    return files, parts


def measure(nth: int, core: str, compiler: str) -> tuple[list[tuple[Counts, float]], float]:
    """The parts and the instructions of every function of a run, and cycles an instruction."""
    run, (files, parts) = RUNS[nth], prepared(nth)
    seen = count(files, network_of(run.graph), run.data, toolchain.CORES[core], compiler)
    total = seen.steps.sum((0, 1)) + seen.resets.sum(0) + seen.winners.sum(0)
    taken = dict(zip(seen.functions, (total / len(run.data)).tolist(), strict=True))
    # What a compiler moves out of a function is that function's: GCC's .part and .isra.
    functions = [(p, sum(n for f, n in taken.items() if f.split(".")[0] == name))
                 for name, p in parts.items()]  # fmt: skip
    return functions, sum(int(c.sum()) for c in seen.cycles or ()) / int(total.sum())


def measured(core: str, compiler: str, workers: int) -> tuple[list[Seen], float]:
    """The functions of all runs, and cycles an instruction of the usual ones; 0: no model."""
    work = partial(measure, core=core, compiler=compiler)
    # Forked, so that what is prepared already is not prepared again.
    with get_context("fork").Pool(workers) as pool:
        found = pool.map(work, range(len(RUNS)), chunksize=6)
    seen = [
        Seen(parts, taken, i, RUNS[i].network, RUNS[i].weight)
        for i, (functions, _) in enumerate(found)
        for parts, taken in functions
    ]
    usual = [cycles for run, (_, cycles) in zip(RUNS, found, strict=True) if run.network % 3]
    return seen, float(np.median(usual))


def fit(seen: Sequence[Seen], keys: Sequence[str]) -> dict[str, float]:
    """Instructions by part, none negative, that explain best what functions and networks take.

    An error counts relative to the run it is in, and once more in the sum over the run.
    """
    a = np.array([[s.parts.get(k, 0.0) for k in keys] for s in seen], float)
    y = np.array([s.instructions for s in seen], float)
    run = np.array([s.run for s in seen])
    total = np.bincount(run, y)
    counted = np.array([s.weight for s in seen]) / total[run]
    a, y = a * counted[:, None], y * counted
    at = np.flatnonzero(total)
    sums = SUMS * np.array([a[run == n].sum(0) for n in at])
    # A part that is rare or small in all networks is drawn to 1: about an instruction.
    size = np.sqrt((a**2).mean(0)) * np.sqrt(len(a)) + 1e-12
    ridge = RIDGE * np.minimum(size, np.median(size)) / 10
    a = np.vstack([a, sums, np.diag(ridge)])
    b = np.concatenate([y, SUMS * np.bincount(run, y)[at], ridge])
    scale = np.linalg.norm(a, axis=0)
    weights, _ = nnls(a / scale, b, maxiter=100 * len(keys))
    return dict(zip(keys, (weights / scale).tolist(), strict=True))


def predicted(seen: Sequence[Seen], table: Mapping[str, float]) -> np.ndarray:
    """The predicted over the real instructions of each run."""
    guess, real = np.zeros((2, 1 + max(s.run for s in seen)))
    for s in seen:
        guess[s.run] += sum(n * table.get(part, 0.0) for part, n in s.parts.items())
        real[s.run] += s.instructions
    return guess[real > 0] / real[real > 0]


def errors(seen: Sequence[Seen], keys: Sequence[str]) -> Iterator[float]:
    """The relative error of each run, predicted by a fit without its network."""
    for fold in range(FOLDS):
        table = fit([s for s in seen if fold_of(s) != fold], keys)
        yield from predicted([s for s in seen if fold_of(s) == fold], table) - 1


def fold_of(seen: Seen) -> int:
    """The part of the networks that one is in, however kinds follow each other."""
    return seen.network * 2654435761 % (1 << 32) * FOLDS >> 32


def report(name: str, seen: Sequence[Seen], keys: Sequence[str], each: float) -> str:
    """How well networks that were left out are predicted."""
    e = np.abs(list(errors(seen, keys)))
    usual = [s for s in seen if s.network % 3 > 0]
    u = np.abs(list(errors(usual, keys)))
    return (
        f"{name}: {len(seen)} functions, {len(keys)} parts; {len(e)} runs left out: median "
        f"{np.median(e):.1%}, within 5 %: {(e < 0.05).mean():.0%}, most {e.max():.0%}; "
        f"{len(u)} of usual networks: median {np.median(u):.1%}, within 5 %: "
        f"{(u < 0.05).mean():.0%}, most {u.max():.1%}; "
        f"{each:.2f} cycles an instruction"
    )


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=150)
    parser.add_argument("--only", action="append", default=[], help="such as 'armv6m gcc'")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    RUNS.extend(corpus(options.networks))
    for nth in range(len(RUNS)):
        prepared(nth)
    kept = COST if options.only else {}
    cost, cycles = {isa: dict(table) for isa, table in kept.items()}, dict(CYCLES)
    for core in CORES:
        isa = f"{toolchain.CORES[core].isa} {COMPILER}"
        if options.only and isa not in options.only:
            continue
        seen, each = measured(core, COMPILER, options.workers)
        cycles |= {isa: each} if each else {}
        keys = sorted({k for s in seen for k in s.parts})
        cost[isa] = fit(seen, keys)
        sys.stdout.write(f"{report(isa, seen, keys, each)}\n")
        sys.stdout.flush()
        if options.write:
            folder = ROOT / "backends" / "mcu"
            (folder / "cost.csv").write_text(fitted.written(cost, 2))
            each_of = {isa: {"cycles an instruction": each} for isa, each in cycles.items()}
            (folder / "cycles.csv").write_text(fitted.written(each_of, 2))


if __name__ == "__main__":
    main()
