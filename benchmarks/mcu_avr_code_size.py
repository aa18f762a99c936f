"""Fit the code size model of AVRs to avr-gcc, and the stack to simavr.

    python benchmarks/mcu_avr_code_size.py [--networks N] [--write]

As mcu_code_size.py for the other cores; the stack is what simavr sees of a whole program, less what
the program takes itself. ``--write`` replaces the column avr5 in code.csv and stack.csv of
backends/mcu. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile

from mcu_code_size import Seen, corpus, errors, fit, save, stack_table  # isort: skip

from mcu_networks import options_of
from qspinn.backends.mcu import BACKEND, codesize, toolchain
from qspinn.backends.mcu.avr import PARTS, AvrPart, avr_gcc
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Built, Files
from qspinn.backends.mcu.simavr import PROGRAM_STACK, measure

from mcu_avr_nets import leaking
from mcu_builds import events
from qspinn.errors import BackendError
from qspinn.ir import Array, Graph
from qspinn.plan import Plan

EVERY = 4
"""Of so many networks the stack of one is measured."""


def function_sizes(files: Files, prefix: str, part: AvrPart) -> dict[str, int]:
    """The bytes of every function in the object."""
    built = Built(files)
    toolchain.compile_([*avr_gcc(part), "-c", f"{prefix}.c", "-o", "object.o"], built.folder)
    elf: Any = ELFFile(io.BytesIO((built.folder / "object.o").read_bytes()))
    symbols = elf.get_section_by_name(".symtab").iter_symbols()
    found = [(s.name.partition(".")[0], s) for s in symbols]  # GCC 5 makes clones: name.isra.0
    return {name: s["st_size"] for name, s in found if s["st_info"]["type"] == "STT_FUNC"}


def seen(graphs: list[tuple[Graph, Array]]) -> Iterator[tuple[list[Seen], tuple[int, int] | None]]:
    """Every function of every network, and (pressure, stack) of some."""
    core = "avr6"
    device = next(d for d in BACKEND.devices.values() if d.core == core)
    for i, (graph, data) in enumerate(graphs):
        options = options_of(graph)
        network = build(graph, options.get("input", ""), eight=True)
        try:
            files = tuple(BACKEND.emit(graph, device, Plan({}, options=options)).files.items())
            sizes = function_sizes(files, network.prefix, PARTS["avr5"])
            stack = None
            if i % EVERY == 0 and not options:
                deepest = measure(files, network, data[:1, :4], PARTS[core]).stack
                stack = (codesize.pressure(network), deepest - PROGRAM_STACK)
        except BackendError:
            continue  # too large for any AVR
        parts = codesize.functions(network)
        yield [Seen(parts[name], sizes[name], i) for name in parts], stack


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=240)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    functions: list[Seen] = []
    stacks: list[tuple[int, int]] = []
    graphs = [leaking(n) for n in range(options.networks // 3)]
    more = [(graph, events(graph, steps=6)) for graph in graphs]
    for some, stack in seen([*corpus(options.networks), *more]):
        functions += some
        stacks += [stack] if stack else []
    keys = sorted({k for s in functions for k, v in s.parts.items() if v})
    e = errors(functions, keys)
    e = e[np.isfinite(e)]
    code, bound = fit(functions, keys), stack_table(stacks)
    sys.stdout.write(
        f"avr5: {len(functions)} functions of {len(e)} networks, {len(keys)} parts; mean error "
        f"{e.mean():+.1%}, spread {e.std():.1%}, within 5 %: {(abs(e) < 0.05).mean():.0%}; "
        f"stack {bound}\n"
    )
    if options.write:
        save({**codesize.CODE, "avr5": code}, {**codesize.STACK, "avr5": bound})


if __name__ == "__main__":
    main()
