"""Count the neuro cores of networks on both Loihi chips, beside what Intel's compiler logged.

For each network, under the plan that ``qspinn compile --device`` gives it without data: the cores
of the mapping (at both ends, where words of convolutions are known as a range), the bound that no
mapping goes below, the resource that binds, and how long mapping took.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from qspinn.backends.loihi.chips import DEVICES
from qspinn.backends.loihi.footprint import layers_of
from qspinn.backends.loihi.mapping import mapped

from qspinn.ir import Graph

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

# Run as a script, this file is no module of that name: the one of the tests is.
from loihi_cores import LOGGED, networks  # type: ignore[attr-defined]  # noqa: E402


@dataclass(frozen=True)
class Row:
    """A network on a chip."""

    network: str
    device: str
    neurons: int
    fewest: int
    cores: int
    bound: int
    binding: str
    logged: int
    milliseconds: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=os.environ.get("QSPINN_MODELS"),
                        help="the folder of trained networks; default QSPINN_MODELS")  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the rows to a file")
    options = parser.parse_args()
    rows = []
    print(f"{'network':22} {'device':7} {'neurons':>8} {'cores':>9} {'bound':>6} {'binds':8} "
          f"{'logged':>6} {'ms':>7}")  # fmt: skip
    models = Path(options.models) if options.models else None
    for name, made in networks(models, ROOT / "examples").items():
        for device in DEVICES:
            rows.append(row := measured(name, made(device), device))
            span = str(row.cores) if row.fewest == row.cores else f"{row.fewest} to {row.cores}"
            print(f"{row.network:22} {row.device:7} {row.neurons:>8} {span:>9} {row.bound:>6} "
                  f"{row.binding:8} {row.logged or '':>6} {row.milliseconds:>7.1f}")  # fmt: skip
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def measured(name: str, graph: Graph, device: str) -> Row:
    """Map a network three times; the time is the least."""
    found, times = layers_of(graph), []
    for _ in range(3):
        before = time.process_time()
        mapping = mapped(graph, found, DEVICES[device])
        times.append(time.process_time() - before)
    high = mapping.high
    logged = LOGGED.get(name, 0) if device == "loihi2" else 0
    return Row(
        name, device, sum(load.size for load in high.loads), mapping.fewest, len(high.cores),
        high.bound.cores, high.bound.resource, logged, 1e3 * min(times),
    )  # fmt: skip


if __name__ == "__main__":
    main()
