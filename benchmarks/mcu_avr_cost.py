"""Fit the cost model of AVRs to what simavr executes.

    python benchmarks/mcu_avr_cost.py [--networks N] [--tiny] [--keep DIR] [--write]

As mcu_cost.py for the other cores, on an ATmega2560, or, with ``--tiny``, on an ATtiny85, which
does not multiply and holds small networks only; simavr counts instructions and cycles of whole
calls, so that parts are fitted to networks and not to functions. ``--write`` replaces the column of
these AVRs in cost.csv and cycles.csv of backends/mcu.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mcu_cost import RATES, Run, corpus, save, stimulus
from mcu_cost_fit import Seen, fit, report

from mcu_kept import Kept  # isort: skip
from mcu_networks import options_of
from mcu_row_networks import rowwise
from qspinn.backends.mcu import BACKEND, costparts
from qspinn.backends.mcu.avr import PARTS, AvrPart
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.costmodel import AVR, COST, TINY
from qspinn.backends.mcu.running import Counts
from qspinn.backends.mcu.simavr import Measured, measure

from mcu_avr_nets import biased, leaking, packed, tiled
from mcu_builds import deaf, mlp
from mcu_nets import excitatory
from qspinn.activity import observed
from qspinn.errors import BackendError
from qspinn.plan import Plan

STEPS = 6


def runs(count: int) -> list[Run]:
    """The networks of other cores, and as many of those that AVRs have kernels for."""
    found, last = corpus(count), 10 * count
    made = [leaking(nth) for nth in range(count)]
    made += [tiled(f"tiled{ins}", ins) for ins in (20, 70, 200)]
    made += [packed(f"packed{bits}", bits, 90) for bits in (2, 4)] + [biased()]
    for nth, graph in enumerate(made):
        rates = [RATES[(nth + more) % len(RATES)] for more in range(2)]
        # Their numbers are those of usual networks: not divisible by 3.
        at = last + nth + nth // 2 + 1 - last % 3
        found += [Run(graph, stimulus(graph, rate, at), at) for rate in rates]
    return found


def tiny(count: int) -> list[Run]:
    """Networks that an ATtiny85 has room for."""
    found = []
    for nth in range(count):
        rng = np.random.default_rng((nth, 4))
        ins, outs = int(rng.integers(8, 60)), int(rng.integers(3, 24))
        kind, bits = nth % 5, int(rng.choice((2, 4, 8, 8)))
        if kind == 0:
            graph = leaking(1000 + nth, 49)
        elif kind == 1:
            labels = tuple((np.arange(outs) % 3).tolist())
            graph = excitatory("votes", outs, labels, ins=ins, adaptive=bool(nth % 2))
        elif kind == 2:
            graph = rowwise(nth)
        else:
            graph = (deaf if kind == 3 else mlp)("tiny", (ins, outs, int(rng.integers(3, 8))), bits)
        rates = (RATES[nth % 3], RATES[(nth + 1) % 3])
        at = nth + nth // 2 + 1  # not divisible by 3
        found += [Run(graph, stimulus(graph, rate, nth), at) for rate in rates]
    return found


def counted(kept: Kept, all_of_them: list[Run], part: AvrPart) -> Iterator[tuple[Seen, float]]:
    """What a run took, and cycles an instruction."""
    device = next(d for d in BACKEND.devices.values() if d.core == part.core)
    for i, run in enumerate(all_of_them):
        options, data = options_of(run.graph), run.data[:, :STEPS]
        network = build(run.graph, options.get("input", ""), eight=True)
        if network.port.form == "load":
            continue
        try:
            made = BACKEND.emit(run.graph, device, Plan({}, options=options)).files
            files = tuple(made.items())
            found: Measured = kept.get(
                files, lambda f=files, n=network, d=data: measure(f, n, d, part),  # type: ignore[misc]
                part.mcu, data.tobytes(),
            )  # fmt: skip
        except BackendError:
            continue  # too large for the part
        parts = Counts()
        for owned in costparts.inference(network, observed(run.graph, data, engine="numpy")):
            parts += owned.parts
        taken, cycles = float(found.instructions.mean()), float(found.samples.mean())
        yield Seen(parts, taken, i, run.network, run.weight), cycles / taken


def main() -> None:
    """Measure, fit, report and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=90)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for what was measured")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    name, part = (TINY, PARTS["avr25"]) if options.tiny else (AVR, PARTS["avr6"])
    all_of_them = (tiny if options.tiny else runs)(options.networks)
    found = list(counted(Kept(options.keep), all_of_them, part))
    seen = [one for one, _ in found]
    each = float(np.median([ratio for one, ratio in found if one.network % 3]))
    keys = sorted({part for one in seen for part in one.parts})
    prior = COST[AVR] if options.tiny else None
    sys.stdout.write(f"{report(name, seen, keys, each, prior)}\n")
    if options.write:
        save({name: fit(seen, keys, prior)}, {name: each})


if __name__ == "__main__":
    main()
