"""MNIST after training: the smallest 784-128-10 that loses at most a point, and what binds it.

    python benchmarks/explore_mnist.py --data mnist.npz [--evaluations N] [--out DIR] [--json FILE]

Selection sees 8000 images that the network was not trained on; the 10000 test images are looked
at once, for the winner. Memory is weights, per-neuron constants and state, packed as they ship,
against the same in 4 bytes each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from mnist_split import write  # numpy reads the variable when it is imported

from qspinn import job as jobs
from qspinn.backend import backend, device_of
from qspinn.explore import files
from qspinn.explore.explorer import explore, manifest
from qspinn.explore.result import Exploration, Limits
from qspinn.explore.runners import Local
from qspinn.explore.settings import Settings
from qspinn.explore.verdict import verdict
from qspinn.output import write_folder

NETWORK = Path(__file__).resolve().parents[1] / "examples" / "mnist" / "mnist.nir"


def main() -> None:
    """Explore, and print what the README says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the exploration's folder, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = write(arguments.data, Path(folder) / "mnist.npz")
        job = jobs.prepare(NETWORK, data)
    target = backend("mcu")
    settings = Settings(
        limits=Limits(max_drop=arguments.max_drop),
        evaluations=arguments.evaluations,
        seed=arguments.seed,
    )
    before = time.process_time()
    found = explore(job, target, device_of(target, None), settings, Local(1))
    seconds = time.process_time() - before
    if found.refusal is not None:
        raise found.refusal
    facts = told(found.exploration, seconds)
    if arguments.out and found.plan:
        written = files.render(found.exploration, found.plan.text())
        write_folder(arguments.out, written, manifest(job, found))
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def told(found: Exploration, seconds: float) -> dict[str, object]:
    """Print the winner, what it costs, and why it is no smaller."""
    winner, report = found.winner, found.report
    assert winner is not None
    assert winner.memory is not None
    assert report is not None
    size = winner.memory.network
    print(f"{found.evaluations} candidates, {found.samples:,} samples, {seconds:.0f} CPU-s")
    print(f"winner: {dict(winner.words)}")
    print(f"memory {size} B: {found.float_bytes / size:.1f} times below float32's "
          f"{found.float_bytes} B")  # fmt: skip
    if found.float_bytes_active:
        print(f"  without the dropped inputs on either side {found.float_bytes_active / size:.1f}")
    print(f"select: drop at most {100 * (winner.bound or 0):.2f} pt with 95 % confidence")
    print(f"report: float {report.baseline.percent()}, integer {report.accuracy.percent()}")
    print(f"  drop {100 * report.drop.value:.2f} pt, at most {100 * report.bound:.2f} pt")
    for warning in found.warnings:
        print(f"  {warning}")
    print("what binds:")
    for row in found.attribution:
        print(f"  {row.knob} {row.option}: {verdict(row, found.limits).words}")
    return {
        "memory": size,
        "ratio": found.float_bytes / size,
        "ratio_active": (found.float_bytes_active or found.float_bytes) / size,
        "words": dict(winner.words),
        "float": report.baseline.value,
        "accuracy": report.accuracy.value,
        "drop": report.drop.value,
        "bound": report.bound,
        "evaluations": found.evaluations,
        "cpu_seconds": seconds,
    }


if __name__ == "__main__":
    main()
