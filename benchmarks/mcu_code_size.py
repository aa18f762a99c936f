"""Fit the code size model of the mcu target to the compiler that is installed.

    python benchmarks/mcu_code_size.py [--networks N] [--write]

Compiles the emitted C of random networks for every instruction set, takes each function's size from
the object and the stack from an emulated core, fits bytes to the parts that `codesize` counts,
and reports how far networks that were left out of a fit are from their estimate. ``--write``
replaces its columns in code.csv and stack.csv of backends/mcu. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import io
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from scipy.optimize import nnls

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from mcu_kept import Kept  # noqa: E402
from mcu_networks import KINDS, larger, options_of, rowed, several, tiled  # noqa: E402
from qspinn.backends.mcu import (  # noqa: E402
    BACKEND,
    codesize,
    fitted,
    toolchain,
)
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.builds import Built, Files  # noqa: E402
from qspinn.backends.mcu.codesize import CODE, STACK  # noqa: E402
from qspinn.backends.mcu.plugin import counted  # noqa: E402
from qspinn.backends.mcu.tileforms import FORMS  # noqa: E402
from qspinn.backends.mcu.tilestage import Tile  # noqa: E402

import network_formats  # noqa: E402
import networks  # noqa: E402
from mcu_builds import events  # noqa: E402
from qspinn import neurons  # noqa: E402
from qspinn.dynamics import Model  # noqa: E402
from qspinn.fixed import Overflow, QFormat, Rounding  # noqa: E402
from qspinn.ir import Array, Graph, Param, Shape, State  # noqa: E402
from qspinn.plan import Plan  # noqa: E402
from qspinn.signals import signals  # noqa: E402

CORES = (
    *("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m55", "rv32imc"),
    "cortex-m7",  # clang knows its pipeline: a column beside that of its instruction set
)
SIZES = (8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 100, 128)
STORED = (*KINDS, "s12")
"""Weights that are added row by row."""
FIXED = len(FORMS) + len(STORED)
"""Networks that are there whatever chance makes: one for every way to store weights."""
KEPT = Kept()
FOLDS = 5
RIDGE, FINE_RIDGE = 0.1, 3.0
FINE = re.compile(
    r"(linear|flat|second|held|member|number|own) | (twice|rest \d|group loop|group rest)$"
)
"""Parts that refine others: few functions have each, so they count for little without evidence."""
SUMS = 1.0
"""How much the sum over a network counts beside its functions."""
STACKS = 4
"""Of so many networks the stack of one is measured."""
STACK_MARGIN = 16
"""Bytes added to the deepest stack seen: compilers differ in what they keep in registers."""


class PlainFormats(network_formats.AnyFormats):
    """What the default plan makes: 8-bit weights, 16-bit states, one rounding, uniform decays."""

    def model(self) -> Model:
        """Leaky neurons."""
        return neurons.spiking(
            synapse=self.pick(("", "new"), (2, 1)),
            bias=self.chance(0.2),
            reset=self.pick(neurons.RESETS, (4, 4, 1)),
            compare=self.pick(neurons.COMPARES),
            refractory=self.chance(0.1),
        )

    def rounding(self, what: str) -> Rounding:
        """The cheapest."""
        return Rounding.FLOOR

    def broadcast(self, shape: Shape) -> Shape:
        """Mostly one value for all."""
        channel = (shape[0], *[1] * (len(shape) - 1))
        return self.pick(((), channel, shape), (6, 2, 1))

    def weights(self, shape: Shape, *, scale: bool = False) -> Param:
        """Mostly 8 bits."""
        if not scale and self.chance(0.1):
            return Param(
                self.rng.choice((-1, 1), shape), QFormat(1, self.between(-6, 0), binary=True)
            )
        bits, signed = self.pick((2, 3, 4, 8, 8, 8, 8, 16)), self.chance(0.85)
        fmt = QFormat(bits, self.between(0, 6), signed)
        return Param(self.spread(shape, fmt), fmt)

    def coefficient(self, places: Shape) -> Param:
        """Mostly 12 fraction bits."""
        if self.chance(0.2):
            fmt = QFormat(4, 0, signed=False, leak=True)
            return Param(self.rng.integers(1, 8, places), fmt, Rounding.FLOOR)
        fmt = QFormat(13, 12, signed=False)
        return Param(self.rng.integers(2000, 4097, places), fmt, Rounding.FLOOR)

    def state(self, name: str, shape: Shape, size: float, point: int) -> State:
        """Mostly 16 bits that saturate."""
        if name in ("fired", "wait"):
            return super().state(name, shape, size, point)
        bits = self.pick((4, 8, 16, 16, 16))
        frac = bits - 3 - int(np.ceil(np.log2(size)))
        frac = min(max(frac, point - 6), point + 2, 40)
        zero = Param(np.zeros((), np.int64), QFormat(bits, frac))
        return State(zero, QFormat(bits, frac), Rounding.FLOOR, Overflow.SATURATE)


@dataclass(frozen=True)
class Seen:
    """One emitted function: its parts, its bytes in the object, and whose it is."""

    parts: Counter[str]
    size: int
    network: int


def corpus(count: int) -> list[tuple[Graph, Array]]:
    """One network of every form of weights, and then two of usual kinds for each random one.

    Beside them, a third of networks that are deep, wide or of images.
    """
    found = [(graph, events(graph, steps=6)) for graph in (*map(tiled, FORMS), *map(rowed, STORED))]
    others = random_networks()
    for nth in range(count - FIXED):
        graph = larger(nth - nth // 3)
        found.append(next(others) if nth % 3 == 2 else (graph, events(graph, steps=6)))
    for graph in map(several, range(count // 3)):
        found.append((graph, events(graph, steps=6)))
    return found


def random_networks() -> Iterator[tuple[Graph, Array]]:
    """Random networks with layers of usual sizes: most are plain, others Loihi's, or any."""
    networks.SIZES = SIZES
    networks.ALL_FORMATS["plain"] = PlainFormats
    networks.ODDS["plain"] = networks.Odds(delay=0.05, current_pool=0.05, scale=0.03, graded=0.02)
    profiles = itertools.cycle(("plain", "any", "loihi", "any"))
    profile = next(profiles)
    for seed in itertools.count(10_000):
        graph, data = networks.random_network(seed, profile=profile)
        if is_usual(graph):
            yield graph, data
            profile = next(profiles)


def is_usual(graph: Graph) -> bool:
    """Whether no signal is so small that a compiler does away with its loop."""
    known = signals(graph).values()
    return all(s.size >= 6 and min(s.shape[1:], default=2) >= 2 for s in known)


def function_sizes(
    files: Files, prefix: str, core: toolchain.Core, compiler: str = "clang"
) -> dict[str, int]:
    """The bytes of every function in the object, with what aligns the next."""
    return KEPT.get(files, lambda: _sizes(files, prefix, core, compiler), core.name, compiler)


def _sizes(files: Files, prefix: str, core: toolchain.Core, compiler: str) -> dict[str, int]:
    built = Built(files)
    command = toolchain.zig(core)
    if compiler == "gcc":
        command = [toolchain.gcc_of(core), *core.gcc, "-O2", "-std=c99"]
        command += [] if core.arm else ["-ffreestanding"]  # its GCC comes without stdint.h
    toolchain.compile_([*command, "-c", f"{prefix}.c", "-o", "object.o"], built.folder)
    elf: Any = ELFFile(io.BytesIO((built.folder / "object.o").read_bytes()))
    symbols = elf.get_section_by_name(".symtab").iter_symbols()
    step = 2 if core.isa in ("armv6m", "rv32imc") else 4
    return {
        s.name: -(-s["st_size"] // step) * step
        for s in symbols
        if s["st_info"]["type"] == "STT_FUNC"
    }


def measure(
    graphs: list[tuple[Graph, Array]], core: toolchain.Core, compiler: str, stacked: bool
) -> tuple[list[Seen], list[tuple[int, int]]]:
    """Every function of every network, and (pressure, stack) of every network."""
    seen: list[Seen] = []
    stacks: list[tuple[int, int]] = []
    device = replace(BACKEND.devices["generic"], core=core.name)
    isa = codesize.isa_of(device) if core.isa != codesize.VECTORS else codesize.VECTORS
    for i, (graph, data) in enumerate(graphs):
        options = options_of(graph)
        network = build(graph, options.get("input", ""))
        files = tuple(BACKEND.emit(graph, device, Plan({}, options=options)).files.items())
        sizes = function_sizes(files, network.prefix, core, compiler)
        for name, parts in codesize.functions(network, isa).items():
            seen.append(Seen(parts, sizes[name], i))
        if stacked and compiler == "clang" and i % STACKS == 0 and not options:
            deepest = counted(files, network, data[:1, :4], core, compiler).stack
            if not any(isinstance(stage, Tile) for stage in network.stages):
                stacks.append((codesize.pressure(network), deepest))
            elif deepest > codesize.stack_bytes(network, device):
                sys.stdout.write(f"{graph.name} {i}: {deepest} B of stack, more than its bound\n")
    return seen, stacks


def fit(seen: list[Seen], keys: list[str]) -> dict[str, float]:
    """Bytes by part, none negative, that explain best how large functions and networks are.

    An error counts relative to the network it is in, and once more in the sum over the network.
    """
    a = np.array([[s.parts[k] for k in keys] for s in seen], float)
    y = np.array([s.size for s in seen], float)
    owner = np.array([s.network for s in seen])
    total = np.bincount(owner, y)
    scale = total[total > 0].mean() / total[owner]
    sums = np.array([a[owner == n].sum(0) / total[n] for n in np.flatnonzero(total)])
    weight = SUMS * total[total > 0].mean()
    ridge = [FINE_RIDGE if FINE.search(key) else RIDGE for key in keys]
    a = np.vstack([a * scale[:, None], weight * sums, np.diag(ridge)])
    b = np.concatenate([y * scale, np.full(len(sums), weight), np.zeros(len(keys))])
    weights, _ = nnls(a, b, maxiter=100 * len(keys))
    return dict(zip(keys, weights.tolist(), strict=True))


def errors(seen: list[Seen], keys: list[str]) -> np.ndarray:
    """The relative error of each network's code, estimated by a fit without it."""
    count = 1 + max(s.network for s in seen)
    guessed, real = np.zeros(count), np.zeros(count)
    for fold in range(FOLDS):
        table = fit([s for s in seen if s.network // 39 % FOLDS != fold], keys)
        for s in seen:
            if s.network // 39 % FOLDS == fold:
                guessed[s.network] += codesize.estimate(s.parts, table)
                real[s.network] += s.size
    return guessed / real - 1


def stack_table(stacks: list[tuple[int, int]]) -> dict[str, float]:
    """The upper bound, linear in the pressure, that is least on average."""
    x, y = np.array(stacks, float).T
    slopes = np.arange(0.0, 8.0, 0.25)
    bases = np.array([(y - slope * x).max() for slope in slopes])
    best = int((bases + slopes * x.mean()).argmin())
    return {"base": float(np.ceil(bases[best])) + STACK_MARGIN, "value": float(slopes[best])}


def save(code: fitted.Columns, stack: fitted.Columns) -> None:
    """Write both tables."""
    folder = ROOT / "backends" / "mcu"
    (folder / "code.csv").write_text(fitted.written(code, 1))
    (folder / "stack.csv").write_text(fitted.written(stack, 2))


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--only", action="append", default=[], help="such as 'armv6m gcc'")
    parser.add_argument("--code", action="store_true", help="leave the stack as it is")
    parser.add_argument("--keep", type=Path, help="a folder for what was measured")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    KEPT.folder = options.keep
    graphs = corpus(options.networks)
    code, stack = {isa: dict(table) for isa, table in CODE.items()}, dict(STACK)
    for name, compiler in itertools.product(CORES, ("clang", "gcc")):
        core = toolchain.CORES[name]
        if compiler == "gcc" and not core.gcc:
            continue
        own = name if name == "cortex-m7" else core.isa
        if own == name and compiler == "gcc":
            continue  # as for a Cortex-M4
        isa = own if compiler == "clang" else f"{own} gcc"
        if options.only and isa not in options.only:
            continue
        seen, stacks = measure(graphs, core, compiler, not options.code)
        keys = sorted({k for s in seen for k, v in s.parts.items() if v})
        e = errors(seen, keys)
        usual = np.delete(e[FIXED:], np.s_[2 : options.networks - FIXED : 3])
        code[isa] = fit(seen, keys)
        if stacks and own == core.isa:
            stack[isa] = stack_table(stacks)
        line = (
            f"{isa}: {len(seen)} functions of {len(e)} networks, {len(keys)} parts; "
            f"mean error {e.mean():+.1%}, spread {e.std():.1%}, within 5 %: "
            f"{(abs(e) < 0.05).mean():.0%}; usual ones: {usual.std():.1%}, "
            f"{(abs(usual) < 0.05).mean():.0%}, most {abs(usual).max():.1%}; "
            f"stack {stack.get(isa)}"
        )
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if options.write:
            save(code, stack)


if __name__ == "__main__":
    main()
