"""How many steps a compiled network needs until its decision cannot change any more.

    python examples/early_exit.py DIR --data mnist-split.npz [--samples N]

DIR is what `qspinn compile` wrote, the data are what it was compiled with. The emitted C says the
same: `<name>_decided()` in `<name>_run.h`, and `<name>_run()` stops there if the macro
<NAME>_EARLY_EXIT is defined.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from qspinn import datasets
from qspinn.artifact import open_folder
from qspinn.evaluate import chunks
from qspinn.interp import Trace, run
from qspinn.readout import exits, output_neuron, predict, summarize


def main() -> None:
    """Run the report part in full, and compare with the decision at each exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    opened = open_folder(arguments.folder)
    graph, dataset = opened.graph, datasets.load(arguments.data)
    index = dataset.part("report", arguments.samples)
    source = output_neuron(graph)
    kept = [f"{source.name}.v"] if source is not None and "v" in source.states else []
    full, early, when, steps = [], [], [], 1
    for data, _ in chunks(graph, dataset, opened.encoder, index):
        trace = run(graph, data, record=kept)
        steps, stop = data.shape[1], exits(graph, trace)
        full.append(predict(graph.output, summarize(graph, trace)))
        for sample, step in enumerate(stop):
            seen = summarize(graph, _first(trace, sample, int(step)))
            early.append(int(predict(graph.output, seen)[0]))
        when.append(stop)
    decisions, stops = np.concatenate(full), np.concatenate(when)
    if not np.array_equal(decisions, early):
        raise SystemExit("a decision has changed after its exit: please report this")
    print(f"{len(stops)} samples of {steps} steps: every decision at its exit is the full run's")
    print(
        f"steps until it is settled: {stops.mean():.1f} in the mean, a tenth by step "
        f"{np.quantile(stops, 0.1):.0f}, half by {np.quantile(stops, 0.5):.0f}, nine tenths by "
        f"{np.quantile(stops, 0.9):.0f}: {1 - stops.mean() / steps:.1%} are saved"
    )


def _first(trace: Trace, sample: int, steps: int) -> Trace:
    part = (slice(sample, sample + 1), slice(0, steps))
    return Trace(
        {name: values[part] for name, values in trace.states.items()},
        {name: values[part] for name, values in trace.outputs.items()},
    )


if __name__ == "__main__":
    main()
