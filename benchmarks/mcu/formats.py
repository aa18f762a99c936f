"""Instructions of the dense network of dense.py with narrower weights, in every form there is.

    python benchmarks/mcu/formats.py [--forms s8 s7 s6 s5 s4 s3 s2 t b1] [--path portable|best]
                                     [--cores m0+ m3 m4 m33 rv32] [--rates 0.02 0.05 0.1]
                                     [--zeros SHARE]

As dense.py does: the same network, input and comparison with the reference. Thousands of
instructions of an inference, how they grow with synaptic operations, what every neuron takes in
every step, the bytes of the weights, and the functions that add them. ``--zeros`` prunes so many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import dense
import numpy as np
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.toolchain import CORES

from qspinn.fixed import QFormat
from qspinn.ir import Param

KINDS = ("s8", "s7", "s6", "s5", "s4", "s3", "s2", "t", "b1")
SHARE = 4
"""The standard deviation is this part of the largest weight."""


def weights_of(kind: str, zeros: float) -> Callable[[np.random.Generator, int, int], Param]:
    """What draws random weights of a form, of which so many are 0."""

    def drawn(rng: np.random.Generator, outs: int, ins: int) -> Param:
        if kind == "b1":
            values = rng.choice((-1, 1), (outs, ins))
        elif kind == "t":
            values = rng.integers(-1, 2, (outs, ins))
        else:
            top = 1 << int(kind[1:]) - 1
            values = np.rint(rng.normal(0, max(top / SHARE, 0.8), (outs, ins)))
            values = np.clip(values, -top, top - 1).astype(np.int64)
        values = values * (rng.random((outs, ins)) >= zeros)
        bits = {"b1": 2, "t": 2}.get(kind) or int(kind[1:])
        return Param(values, QFormat(bits, 0))

    return drawn


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forms", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--cores", nargs="+", default=list(dense.SHORT), choices=list(dense.SHORT))
    parser.add_argument("--path", default="portable", choices=["portable", "best"])
    parser.add_argument("--zeros", type=float, default=0.0)
    asked = parser.parse_args()
    print(f"{'form':5} {'core':5}" + "".join(f"{f'{r:.0%}':>9}" for r in asked.rates), end="")
    print(f"{'i/SOP':>9} {'i/neuron':>9} {'weights':>9}  functions")
    for kind in asked.forms:
        dense.weights = weights_of(kind, asked.zeros)  # type: ignore[assignment]
        dense.LEVELS = levels(kind)
        dense.case.cache_clear()
        cases = [dense.case("mlp", rate) for rate in asked.rates]
        network = build(BACKEND.legalize(cases[0].graph))
        size = sum(t.bytes for t in network.tables if t.kind == "weights")
        names = " ".join(f.name for f in (*network.adders, *network.rows))
        for short in asked.cores:
            core = CORES[dense.SHORT[short]]
            found = [dense.measured(c, core, asked.path == "portable") for c in cases]
            totals = [sum(f.values()) for f in found]
            print(f"{kind:5} {short:5}" + "".join(f"{t / 1000:9.1f}" for t in totals), end="")
            if len(cases) > 1:
                slope = (totals[-1] - totals[0]) / (cases[-1].synapses - cases[0].synapses)
                rest = (totals[0] - slope * cases[0].synapses) / (cases[0].neurons * dense.STEPS)
                print(f"{slope:9.3f} {rest:9.1f}", end="")
            print(f" {size:9}  {names}", flush=True)


def levels(kind: str) -> range:
    """The thresholds that are tried."""
    top = {"b1": 4, "t": 4}.get(kind) or 1 << int(kind[1:]) - 1
    return range(max(top // 6, 1), 48 * top, max(top // 6, 1))


if __name__ == "__main__":
    main()
