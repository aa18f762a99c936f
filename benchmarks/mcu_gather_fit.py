"""Fit what some images add to the cost and code models of the mcu target.

    python benchmarks/mcu_gather_fit.py [--kind KIND] [--networks N] [--new] [--write]

Runs and compiles the emitted C of random networks that gather, that send counts or whose membranes
take a byte, as `mcu_cost` and `mcu_code_size` do others; takes off what the parts come to that
those two have fitted, and fits the rest to the parts that nothing else has. ``--write`` enters them
into cost.csv and code.csv of backends/mcu.
``--new`` leaves alone what they have already.
The two other scripts write files without them: run this one after them. Takes some minutes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import mcu_code_size  # noqa: E402
from mcu_cost import COMPILER, CORES, GATHERED, apart, by_function  # noqa: E402
from qspinn.backends.mcu import (  # noqa: E402
    BACKEND,
    codesize,
    costparts,
    fitted,
    toolchain,
)
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.builds import Files  # noqa: E402
from qspinn.backends.mcu.gathering import gatherable  # noqa: E402
from qspinn.backends.mcu.network import Network  # noqa: E402
from qspinn.backends.mcu.packedfours import takes_byte  # noqa: E402
from qspinn.backends.mcu.plugin import counted  # noqa: E402
from qspinn.backends.mcu.running import Counts  # noqa: E402

from mcu_builds import chain, dense, lif, param, state  # noqa: E402
from mcu_nets import narrowed, weights  # noqa: E402
from qspinn.activity import observed  # noqa: E402
from qspinn.fixed import QFormat  # noqa: E402
from qspinn.ir import (  # noqa: E402
    Array,
    Conv2d,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Param,
    SumPool2d,
)
from qspinn.plan import KERNEL, Plan  # noqa: E402

OWN = {
    "gather": GATHERED,
    "counts": ("resting", "exact count", "four ", "pooled four", "drive four", "place dense four",
               "place pooled four", "quick", "pairs_x"),
    "bytes": ("quad", "fours"),
}  # fmt: skip
"""What the names of parts begin with that only some networks have, by their kind."""
RATES = (0.01, 0.05, 0.25)
STEPS = 4
FOLDS = 4
LEVELS = {"s8": 900, "s6": 220, "s4": 60, "s3": 30, "t": 12, "b1": 16, "s2": 16}


@dataclass(frozen=True)
class Seen:
    """One function: its parts, what it took or takes, and the run it is of."""

    parts: Mapping[str, float]
    taken: float
    run: int


def gathering(nth: int) -> Graph:
    """Two convolutions that gather, of any geometry, with neurons of several kinds."""
    rng = np.random.default_rng(nth)
    shape = (int(rng.choice((1, 2, 2, 3))), *rng.integers(9, 24, 2).tolist())
    nodes: list[Node] = [Input(name="x", shape=shape)]
    if nth % 3 == 2:
        nodes = [
            Input(name="x", shape=(shape[0], 2 * shape[1], 2 * shape[2] + 1)),
            SumPool2d(name="p", inputs=("x",), kernel=(2, 2), stride=(2, 2)),
        ]
    for i in (1, 2):
        kind = str(rng.choice(("s8", "s8", "s8", *LEVELS)))
        kernel, stride = int(rng.choice((2, 3, 3, 4, 5))), int(rng.choice((1, 1, 2, 3)))
        padding = int(rng.choice((0, 0, 1, 2)))
        outs = int(rng.choice((5, 8, 12, 16, 16, 20, 32, 48)))
        source, ins = nodes[-1].name, shape[0]
        held = weights(rng, (outs, ins, kernel, kernel), kind)
        if kind == "s8":
            held = replace(held, values=rng.normal(0, 30, held.values.shape).round().clip(-127, 127)
                           .astype(np.int64))  # fmt: skip
        nodes.append(
            Conv2d(name=f"c{i}", inputs=(source,), weight=held, stride=(stride, stride),
                   padding=(padding, padding))
        )  # fmt: skip
        shape = (outs, *((s + 2 * padding - kernel) // stride + 1 for s in shape[1:]))
        nodes.append(_neurons(rng, i, shape, kind))
    size = int(np.prod(shape))
    nodes += [Flatten(name="flat", inputs=(nodes[-1].name,)), dense(rng, "fc", "flat", 3, size),
              lif("end", "fc", 3, 60)]  # fmt: skip
    return chain("gathers", *nodes)


def _neurons(rng: np.random.Generator, nth: int, shape: tuple[int, ...], kind: str) -> Neuron:
    made = lif(f"l{nth}", f"c{nth}", shape, LEVELS[kind] * 16, reset=str(rng.choice(
        ("zero", "subtract"))))  # fmt: skip
    way = int(rng.integers(0, 5))
    if way == 1:
        return narrowed(made, "s8f-2", 0)
    if way == 2:
        return narrowed(made, "s4f-3", 0)
    if way == 3:
        levels = rng.integers(LEVELS[kind] * 8, LEVELS[kind] * 24, (shape[0], 1, 1))
        return replace(made, values={**made.values, "threshold": param(levels, "s16f4")})
    return made


def counting(nth: int) -> Graph:
    """Images of neurons that add up what comes and send counts, one behind a pool."""
    rng = np.random.default_rng(nth)
    side = int(rng.choice((8, 12, 16)))
    first, second = (int(channels) for channels in rng.choice((4, 8, 12, 16), 2))
    ins, most, kernel = int(rng.choice((1, 2, 3))), int(rng.choice((3, 15, 63))), (3, 3)

    def neurons(name: str, source: str, shape: tuple[int, ...]) -> Neuron:
        level = int(rng.integers(20, 150))
        options = {"leak": False, "reset": "subtract", "compare": ">=", "max_spikes": most}
        made = lif(name, source, shape, 0, clamp=True, **options)
        frac = int(rng.choice((0, 2)))
        fine = QFormat.parse(f"s16f{frac}")
        held = {"threshold": level << frac, "v_min": -level << frac}
        values = {key: Param(np.array(value), fine) for key, value in held.items()}
        return replace(made, values=values, states={"v": state(f"s16f{frac}")})

    def weight(outs: int, ins: int) -> Param:
        kind = str(rng.choice(("s8", "s8", "s8", "s8", "s8", "s4")))
        return weights(rng, (outs, ins, *kernel), kind)

    step = int(rng.choice((1, 1, 2)))
    here = side // step
    half = here // 2
    nodes: list[Node] = [
        Input(name="x", shape=(ins, side, side)),
        Conv2d(name="c1", inputs=("x",), weight=weight(first, ins), padding=(1, 1),
               stride=(step, step)),
        neurons("l1", "c1", (first, here, here)),
        Conv2d(name="c2", inputs=("l1",), weight=weight(second, first), padding=(1, 1)),
        neurons("l2", "c2", (second, here, here)),
        SumPool2d(name="p", inputs=("l2",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c3", inputs=("p",), weight=weight(8, second), padding=(1, 1)),
        neurons("l3", "c3", (8, half, half)), Flatten(name="flat", inputs=("l3",)),
        Linear(name="fc", inputs=("flat",),
               weight=weights(rng, (int(rng.choice((10, 13, 64))), 8 * half * half), "s8")),
    ]  # fmt: skip
    outs = nodes[-1].weight.values.shape[0]  # type: ignore[attr-defined]
    return chain("counts", *nodes, neurons("end", "fc", (outs,)))


def bytewide(nth: int) -> Graph:
    """As `gathering`, with membranes of a byte, which every other network gathers."""
    rng = np.random.default_rng(nth)

    def narrow(node: Node) -> Node:
        if not isinstance(node, Neuron) or node.name == "end":
            return node
        fmt = QFormat.parse(str(rng.choice(("s8f-3", "s8f-3", "s8f-4"))))
        rates = (param(3072, "u13f12"), param(3686, "u13f12"), param(3, "leak4"))
        level = int(node.values["threshold"].values.max()) >> 4 - fmt.frac
        made = lif(node.name, node.inputs, node.shape, 16, reset=str(rng.choice(("zero", "value"))))
        values = {**made.values, "decay": rates[int(rng.integers(0, 3))],
                  "threshold": Param(np.array(min(max(level, 2), 127)), fmt)}  # fmt: skip
        if "v_reset" in values:
            values["v_reset"] = Param(np.array(-3), fmt)
        return replace(made, values=values, states={"v": state(str(fmt))})

    return gathering(nth).map(narrow)


MAKES = {"gather": gathering, "counts": counting, "bytes": bytewide}
KIND = ["gather"]
GRAPHS: list[Graph] = []


def network_of(nth: int) -> tuple[Network, Files]:
    """What is emitted for a network."""
    graph = BACKEND.legalize(GRAPHS[nth])
    scatters = KIND[0] == "counts" or (KIND[0] == "bytes" and nth % 2 > 0)
    names = frozenset[str]() if scatters else frozenset(gatherable(graph))
    form = "mask" if nth % 4 == 3 else ""
    options = {**{f"{KERNEL}{name}": "gather" for name in names}, "input": form}
    device = BACKEND.devices[BACKEND.default_device]
    files = BACKEND.emit(graph, device, Plan({}, options={k: v for k, v in options.items() if v}))
    return build(graph, form, False, names), tuple(files.files.items())


def stimulus(nth: int, rate: float) -> Array:
    """Random events."""
    shape = GRAPHS[nth].input.shape
    return (np.random.default_rng(nth).random((1, STEPS, *shape)) < rate).astype(np.int64)


def run(nth: int, core: str) -> list[tuple[Counts, float]]:
    """The parts and the instructions of every function of a run."""
    which, rate = divmod(nth, len(RATES))
    network, files = network_of(which)
    data = stimulus(which, RATES[rate])
    seen = counted(files, network, data, CORES[core], COMPILER, apart=True)
    total = seen.steps.sum((0, 1)) + seen.resets.sum(0) + seen.winners.sum(0)
    busy = observed(GRAPHS[which], data, engine="numpy")
    owned = list(costparts.inference(network, busy, CORES[core].isa == codesize.VECTORS))
    return list(apart(owned, by_function(seen.functions, total.tolist()), network.prefix))


def fit(seen: Sequence[Seen], known: Mapping[str, float], keys: Sequence[str]) -> dict[str, float]:
    """What each own part takes, none less than nothing, beside what is known of the others."""
    a = np.array([[s.parts.get(key, 0.0) for key in keys] for s in seen])
    rest = np.array([s.taken - _sum(s.parts, known, keys) for s in seen])
    weight = 1 / np.bincount([s.run for s in seen], [s.taken for s in seen])[[s.run for s in seen]]
    own = a.any(1)
    scale = np.linalg.norm(a[own] * weight[own, None], axis=0) + 1e-12
    found, _ = nnls(a[own] * weight[own, None] / scale, rest[own] * weight[own])
    return dict(zip(keys, (found / scale).tolist(), strict=True))


def _sum(parts: Mapping[str, float], table: Mapping[str, float], without: Sequence[str]) -> float:
    return sum(n * table.get(part, 0.0) for part, n in parts.items() if part not in without)


def errors(seen: Sequence[Seen], known: Mapping[str, float], keys: Sequence[str]) -> np.ndarray:
    """The relative error of each run, predicted by a fit without its network."""
    guess, real = np.zeros((2, 1 + max(s.run for s in seen)))
    for fold in range(FOLDS):
        table = {**known, **fit([s for s in seen if _fold(s) != fold], known, keys)}
        for s in seen:
            if _fold(s) == fold:
                guess[s.run] += _sum(s.parts, table, ())
                real[s.run] += s.taken
    return guess[real > 0] / real[real > 0] - 1


def _fold(seen: Seen) -> int:
    return seen.run // len(RATES) % FOLDS


def entered(
    name: str, seen: Sequence[Seen], table: Mapping[str, float], what: str, new: bool
) -> dict[str, float]:
    """A column with the parts that are fitted, which is said."""
    own = {k for s in seen for k, n in s.parts.items() if n and k.startswith(OWN[KIND[0]])}
    keys = sorted(key for key in own if not (new and key in table))
    if not keys:
        return dict(table)
    e = errors(seen, table, keys)
    sys.stdout.write(
        f"{name}: {what} of {len(e)} runs, {len(keys)} parts; left out: mean {e.mean():+.1%}, "
        f"median {np.median(abs(e)):.1%}, within 10 %: {(abs(e) < 0.1).mean():.0%}, "
        f"most {abs(e).max():.0%}\n"
    )
    sys.stdout.flush()
    return {**table, **fit(seen, table, keys)}


def costs(core: str, workers: int) -> list[Seen]:
    """The functions of all runs."""
    runs = range(len(GRAPHS) * len(RATES))
    with get_context("fork").Pool(workers) as pool:
        found = pool.map(partial(run, core=core), runs, chunksize=3)
    return [Seen(p, taken, n) for n, functions in enumerate(found) for p, taken in functions]


def sizes(core: str, compiler: str) -> list[Seen]:
    """The functions of all networks and their bytes."""
    found: list[Seen] = []
    for nth in range(len(GRAPHS)):
        network, files = network_of(nth)
        kind = toolchain.CORES[core]
        isa = kind.isa if kind.isa == codesize.VECTORS else ""
        taken = mcu_code_size.function_sizes(files, network.prefix, kind, compiler)
        found += [Seen(parts, taken[name], nth * len(RATES))
                  for name, parts in codesize.functions(network, isa).items()]  # fmt: skip
    return found


def is_own(graph: Graph) -> bool:
    """Whether a network is one of those that are asked for."""
    if KIND[0] == "counts":
        return True
    layers = [takes_byte(node) for node in graph.of_type(Neuron) if node.name != "end"]
    wide = all(abs(node.weight.values).max() > 7 for node in graph.of_type(Conv2d))
    return bool(gatherable(graph)) and (KIND[0] == "gather" or (all(layers) and wide))


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(OWN), default="gather")
    parser.add_argument("--networks", type=int, default=28)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    KIND[0] = options.kind
    tried = (MAKES[options.kind](nth) for nth in itertools.count())
    made = (BACKEND.legalize(g) for g in tried if all(min(n.shape) > 0 for n in g.of_type(Neuron)))
    GRAPHS.extend(itertools.islice(filter(is_own, made), options.networks))
    new = options.new
    cost, code = fitted.read("cost"), fitted.read("code")
    for core in CORES:
        isa = f"{CORES[core].isa} {COMPILER}"
        if isa not in cost:
            continue
        seen = costs(core, options.workers)
        cost[isa] = entered(isa, seen, cost[isa], "instructions", new)
    for core, compiler in itertools.product(mcu_code_size.CORES, ("clang", "gcc")):
        isa = toolchain.CORES[core].isa + (" gcc" if compiler == "gcc" else "")
        if isa in code:
            code[isa] = entered(isa, sizes(core, compiler), code[isa], "bytes", new)
    if options.write:
        folder = ROOT / "backends" / "mcu"
        (folder / "cost.csv").write_text(fitted.written(cost, 2))
        (folder / "code.csv").write_text(fitted.written(code, 1))


if __name__ == "__main__":
    main()
