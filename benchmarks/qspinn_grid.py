"""The default search beside Q-SpiNN's grid: the same network, samples and memory model.

The grid takes one precision for each kind of parameter and one rounding, and measures all of it.
The default search chooses per layer, and may measure a tenth of the grid's number. Fronts are
compared by what they dominate: accuracy above ten points below the float network, memory below
the grid's largest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mnist_split

from qspinn.backend import backend, device_of
from qspinn.explore.front import Front, front_of
from qspinn.explore.grid import REWARDS, Reward, grid, q_spinn, rewarded, solutions
from qspinn.explore.guided import guided
from qspinn.explore.judge import Judge
from qspinn.explore.knobs import space_of
from qspinn.explore.library import Library
from qspinn.explore.parts import Parts
from qspinn.explore.problem import Score
from qspinn.explore.race import EXACT
from qspinn.explore.runners import Local
from qspinn.explore.schemes import schemes
from qspinn.explore.stimulus import Stimulus
from qspinn.job import Job, prepare
from qspinn.memory import float_bytes

MODEL = Path(__file__).resolve().parents[1] / "examples" / "mnist" / "mnist.nir"
ROUNDINGS = ("nearest_even", "floor", "stochastic")
LEVELS = {
    "weight": ("8", "7", "6", "5", "4", "3", "2"),
    "bias": ("16", "8"),
    "membrane": ("16", "12", "10", "8", "6"),
    "threshold": ("shared",),
    "decay": ("12", "8", "6", "4"),
    "scale": (),
    "input": (),
    "weight:rounding": ROUNDINGS,
    "bias:rounding": ROUNDINGS,
    "membrane:rounding": ROUNDINGS,
}
DROP = 0.01
BELOW = 0.1
"""Of accuracy, below the float network: where the volume starts."""


def main() -> None:
    """Measure the grid, search with a tenth of it, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="MNIST.npz")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        job = prepare(MODEL, mnist_split.write(options.data, Path(folder) / "mnist.npz"))
    report = [compared(job, seed) for seed in range(options.seeds)]
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def compared(job: Job, seed: int) -> dict[str, Any]:
    """Both searches on samples in the order of a seed."""
    judge = judged(job, seed)
    space = judge.space
    everyone = grid(space)
    accuracy, memory = float(judge.baseline.mean()), float_bytes(job.graph)
    print(f"seed {seed}: grid of {len(everyone)}, whole space {space.size:.2g}, "
          f"float {accuracy:.2%}, {memory} B")  # fmt: skip
    ours = taken(guided(judged(job, seed), limit=len(everyone) // 10, rule=EXACT))
    theirs = taken(q_spinn(judge))
    corner = [accuracy - BELOW, float(max(s.memory for s in theirs["scores"]))]
    report: dict[str, Any] = {"seed": seed, "float": accuracy, "float_bytes": memory}
    for name, found in (("guided", ours), ("q-spinn", theirs)):
        front: Front = found["front"]
        within = [s.memory for s in front if s.accuracy >= accuracy - DROP]
        report[name] = {
            "evaluations": len(found["scores"]), "cpu_seconds": round(found["seconds"], 1),
            "hypervolume": front.hypervolume(corner), "smallest": min(within, default=None),
            "front": [[s.memory, s.accuracy] for s in front],
        }  # fmt: skip
        print(f"  {name:8} {len(found['scores']):5} evaluations, {found['seconds']:6.1f} CPU-s, "
              f"volume {front.hypervolume(corner):8.1f}, {len(front)} on the front, within 1 pt "
              f"{min(within, default=0)} B")  # fmt: skip
    missed = 100 * max(ours["front"].losses(theirs["front"]), default=0.0)
    report["worst_point"] = missed
    print(f"  at the worst point of the grid's front the search is {missed:+.2f} pt behind")
    able = solutions(theirs["scores"], accuracy - DROP)
    for form in REWARDS:
        best = rewarded(able, Reward(form, memory, accuracy))
        if best is not None:
            report[form] = [best.memory, best.accuracy]
            print(f"  q-spinn, {form} reward: {best.memory} B, {best.accuracy:.2%}", flush=True)
    return report


def judged(job: Job, seed: int) -> Judge:
    """The network as a problem on the selection part."""
    assert job.dataset is not None, "prepared with data"
    target = backend("mcu")
    space = space_of(job.graph, target, job.encoder, levels=LEVELS)
    library = Library(
        job.graph, job.calibration, job.encoder, target, device_of(target, None), space,
        schemes(("ptq",)),
    )  # fmt: skip
    parts = Parts(job.dataset, seed)
    select, screen = parts.order("select"), parts.order("calibrate", 256)
    return Judge(
        library,
        Stimulus(job.graph, parts.open, job.encoder, select),
        Stimulus(job.graph, parts.open, job.encoder, screen),
        Local(threads=1),
    )


def taken(search: Iterator[Score]) -> dict[str, Any]:
    """All scores of a search, their front, and the CPU-seconds it took."""
    begin = time.process_time()
    scores = list(search)
    return {
        "scores": scores, "front": front_of(scores), "seconds": time.process_time() - begin,
    }  # fmt: skip


if __name__ == "__main__":
    main()
