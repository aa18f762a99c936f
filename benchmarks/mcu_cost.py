"""Fit the cost model of the mcu target to what emulated cores execute.

    python benchmarks/mcu_cost.py [--networks N] [--only ISA] [--quick] [--write]

Runs the emitted C of random and of usual networks, at several rates of events, on every core that
unicorn or QEMU emulates, as GCC compiles it; takes the instructions of each function,
fits them to the parts that `costparts` counts, and reports how far networks that were left out of a
fit are from their prediction; ``--quick`` leaves that out. ``--write`` replaces columns of cost.csv
and cycles.csv of backends/mcu. Takes some minutes for each core.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import mcu_code_size  # noqa: E402
import mcu_row_networks  # noqa: E402
from mcu_code_size import STORED  # noqa: E402
from mcu_cost_fit import Seen, beside, fit, report  # noqa: E402
from mcu_kept import Kept  # noqa: E402
from mcu_networks import few_bits, larger, options_of, rowed, several, tiled  # noqa: E402
from qspinn.backends.mcu import (  # noqa: E402
    BACKEND,
    costparts,
    fitted,
    toolchain,
)
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.builds import Files  # noqa: E402
from qspinn.backends.mcu.codesize import VECTORS  # noqa: E402
from qspinn.backends.mcu.costmodel import COST  # noqa: E402
from qspinn.backends.mcu.network import Gather, Network  # noqa: E402
from qspinn.backends.mcu.plugin import counted  # noqa: E402
from qspinn.backends.mcu.running import Counts  # noqa: E402
from qspinn.backends.mcu.tileforms import FORMS  # noqa: E402

from mcu_builds import chain, deaf, dense, lif, mlp, param  # noqa: E402
from qspinn.activity import observed  # noqa: E402
from qspinn.ir import Array, Delay, Graph, Input, Neuron, Node, Scale  # noqa: E402
from qspinn.plan import Plan  # noqa: E402

CORES = {
    **{
        name: toolchain.CORES[name]
        for name in ("cortex-m4", "cortex-m0plus", "cortex-m3", "cortex-m33", "rv32imc",
                     "cortex-m55")
    },
    toolchain.RV32EC.name: toolchain.RV32EC,
}  # fmt: skip
"""In the order in which they are fitted: later ones are drawn to one of the earlier."""
GATHERED = ("window", "bitmap")
"""What the names of parts begin with that `mcu_gather_fit` fits."""
COMPILER = "gcc"
"""What most people's builds are made with."""
RATES = (0.02, 0.1, 0.35)
STEPS, LONGER = 8, 24
"""Of a run, and of one of a network with delays: spikes of the last step do not arrive."""
BESIDE = 2000
"""The number, times 3, of the first of the networks of `mcu_row_networks`."""
MANY = 4000
"""The same of those of many layers, of large ones, or of images."""
ALONE = 1000
"""The number, times 3, of the first of the networks that are there for a way to store weights."""
RARE = 0.3
"""How much networks count that are there only so that every way to store weights is."""
FIRST, NEAREST = "armv7em gcc", {"rv32ec gcc": "rv32imc gcc", "armv81m gcc": "armv8m gcc"}
"""The column that others are drawn to; and of some the one."""


@dataclass(frozen=True)
class Run:
    """A network on data."""

    graph: Graph
    data: Array
    network: int
    weight: float = 1.0


RUNS: list[Run] = []
KEPT = Kept()


def corpus(count: int) -> list[Run]:
    """Random networks, and twice as many of usual kinds, each of those at several rates."""
    found: list[Run] = []
    random = (graph for graph, _ in mcu_code_size.random_networks())
    for nth in range(count):
        usual = nth % 3 > 0
        graph = usual_network(nth - nth // 3 - 1) if usual else next(random)
        while not is_counted(graph):
            graph = next(random)
        rates = [RATES[(nth + more) % len(RATES)] for more in range(1 + usual)]
        found += [Run(graph, stimulus(graph, rate, nth), nth) for rate in rates]
    found += [
        Run(graph, stimulus(graph, RATES[nth % 2 + 1], nth), 3 * (BESIDE + nth) + 1)
        for nth, graph in enumerate(map(beside_usual, range(count)))
    ]
    found += [
        Run(graph, stimulus(graph, RATES[nth % 3], nth), 3 * (MANY + nth) + 1)
        for nth, graph in enumerate(map(several, range(count // 2)))
    ]
    # Whatever chance has made, every way to store weights is there; those are no usual networks.
    for nth, graph in enumerate((*map(tiled, FORMS), *map(rowed, STORED))):
        at = 3 * (ALONE + nth)
        found += [Run(graph, stimulus(graph, rate, at), at, RARE) for rate in RATES[1:]]
    return found


def beside_usual(nth: int) -> Graph:
    """Networks in which rows of weights of all formats and lengths come often."""
    made = mcu_row_networks.MADE
    return made[nth % len(made)](nth)


def usual_network(nth: int) -> Graph:
    """One of the kinds of `mcu_networks`, of which few bits come often, `small`, or an `echo`."""
    if nth % 12 == 5:
        return echo(nth // 6)
    if nth % 12 == 11:
        return small(np.random.default_rng(nth), nth // 12)
    if nth % 6 == 2:
        return few_bits(np.random.default_rng(nth), nth)
    graph = larger(nth - nth // 3)
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


def small(rng: np.random.Generator, nth: int) -> Graph:
    """Two dense layers, the second too small for tiles; inputs are left out of every other."""
    sizes = (
        int(rng.integers(40, 400)),
        int(rng.integers(12, 90)),
        int(rng.choice((5, 10, 11, 26))),
    )
    bits = int(rng.choice((8, 8, 8, 4, 2)))
    return (deaf if nth % 2 else mlp)("small", sizes, bits)


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
def prepared(nth: int, vectors: bool) -> tuple[Files, list[costparts.Owned]]:
    """The emitted files of a run's network, and what the run makes it run."""
    run = RUNS[nth]
    device = BACKEND.devices[BACKEND.default_device]
    options = options_of(run.graph)
    files = tuple(BACKEND.emit(run.graph, device, Plan({}, options=options)).files.items())
    busy = observed(run.graph, run.data, engine="numpy")
    return files, list(costparts.inference(network_of(run.graph), busy, vectors))


def measure(nth: int, core: str, compiler: str) -> tuple[list[tuple[Counts, float]], float]:
    """The parts and the instructions of every function of a run, and cycles an instruction."""
    vectors = CORES[core].isa == VECTORS
    run, (files, owned) = RUNS[nth], prepared(nth, vectors)
    network, made = network_of(run.graph), CORES[core]
    seen = KEPT.get(
        files, lambda: counted(files, network, run.data, made, compiler, apart=True),
        core, compiler, run.data.tobytes(), "apart",
    )  # fmt: skip
    total = seen.steps.sum((0, 1)) + seen.resets.sum(0) + seen.winners.sum(0)
    taken = by_function(seen.functions, (total / len(run.data)).tolist())
    functions = list(apart(owned, taken, network.prefix))
    return functions, sum(int(c.sum()) for c in seen.cycles or ()) / int(total.sum())


def by_function(names: Sequence[str], counts: Sequence[float]) -> dict[str, float]:
    """What functions took; what a compiler moves out of one is its own: GCC's .part and .isra."""
    taken: dict[str, float] = {}
    for name, n in zip(names, counts, strict=True):
        own = name.split(".")[0]
        taken[own] = taken.get(own, 0.0) + n
    return taken


def apart(
    owned: Sequence[costparts.Owned], taken: Mapping[str, float], prefix: str
) -> Iterator[tuple[Counts, float]]:
    """The parts and the instructions of each function that a compiler made one of."""
    parts: dict[str, Counts] = {}
    for one in owned:
        name = one.function if one.function in taken else one.owner
        parts[name] = parts.get(name, Counts()) + one.parts
    # Two that `winner` calls; nothing else is left that has no parts.
    inner = {f"{prefix}_{name}" for name in ("output", "score")}
    for name, found in parts.items():
        more = sum(taken.get(f, 0.0) for f in inner) if name == f"{prefix}_winner" else 0.0
        yield found, taken.get(name, 0.0) + more
    assert sum(taken.values()) == sum(taken.get(f, 0.0) for f in {*parts, *inner}), "all is counted"


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


def save(cost: fitted.Columns, cycles: Mapping[str, float]) -> None:
    """Enter columns into both tables, as they are by now."""
    folder = ROOT / "backends" / "mcu"
    each_of = {isa: {"cycles an instruction": each} for isa, each in cycles.items()}
    for name, columns in (("cost", cost), ("cycles", each_of)):
        text = fitted.written({**fitted.read(name), **columns}, 2)
        (folder / f"{name}.csv").write_text(text)


def has(owned: Sequence[costparts.Owned], start: str) -> bool:
    """Whether a function runs parts whose names begin so."""
    return any(part.startswith(start) for of in owned for part in of.parts)


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=150)
    parser.add_argument("--only", action="append", default=[], help="such as 'armv6m gcc'")
    parser.add_argument("--parts", default="", help="fit those that begin so: others stay")
    parser.add_argument("--quick", action="store_true", help="fit, and do not report")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for what was measured")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    KEPT.folder = options.keep
    RUNS.extend(corpus(options.networks))
    for nth in range(len(RUNS)):
        prepared(nth, vectors=False)
    if options.parts:
        RUNS[:] = [
            run
            for nth, run in enumerate(RUNS)
            if has(prepared(nth, vectors=False)[1], options.parts)
        ]
        prepared.cache_clear()
    cost = {isa: dict(table) for isa, table in COST.items()}
    for core in CORES:
        isa = f"{CORES[core].isa} {COMPILER}"
        if options.only and isa not in options.only:
            continue
        seen, each = measured(core, COMPILER, options.workers)
        keys = sorted({k for s in seen for k in s.parts if k.startswith(options.parts)})
        stays = {k: v for k, v in cost.get(isa, {}).items() if not k.startswith(options.parts)}
        if options.parts:
            seen = beside(seen, keys, stays)
        prior = None if isa == FIRST or options.parts else cost.get(NEAREST.get(isa, FIRST))
        others = {
            k: v for k, v in cost.get(isa, {}).items() if k.startswith(GATHERED) or k not in keys
        }
        cost[isa] = others | stays | fit(seen, keys, prior)
        if options.write:
            save({isa: cost[isa]}, {isa: each} if each and not options.parts else {})
        if not options.quick:
            sys.stdout.write(f"{report(isa, seen, keys, each, prior)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
