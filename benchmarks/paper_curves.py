"""Accuracy against the width of the weights: both schemes, the paper's three roundings.

    python benchmarks/paper_curves.py --data DIR [--only NAME] [--svg FILE] [--page FILE]

One width for all weights of a network, measured on its selection part: nothing here is reported on
test samples. Truncation (TR), rounding to nearest (RN) and stochastic rounding (SR) are applied to
the weights and to what the states store. Points that were measured are kept and not done twice.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # reads the variable when it is imported
from paper import fill, once
from paper_networks import CASES, Made

from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.choice import Choice
from qspinn.evaluate import predictions
from qspinn.explore.lessons import lessons
from qspinn.explore.schemes import Scheme, schemes
from qspinn.fixed import Rounding
from qspinn.ir import CONNECTIONS, Graph, Lateral, Neuron
from qspinn.job import Job
from qspinn.passes.quantize import path_of, quantize

WIDTHS: Mapping[str, tuple[int, ...]] = {
    "mnist": (8, 6, 4, 3, 2),
    "stdp-400": (8, 4, 3, 2, 1),
    "nmnist": (8, 4, 3, 2),
}
STATE_BITS: Mapping[str, int] = {"mnist": 8, "stdp-400": 16, "nmnist": 8}
ROUNDINGS = {"TR": Rounding.FLOOR, "RN": Rounding.NEAREST_EVEN, "SR": Rounding.STOCHASTIC}
SCHEMES = ("ptq", "itq")
SAMPLES = 4000
"""Of the selection part, at most."""


def main() -> None:
    """Measure what is missing, print every curve, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.add_argument("--only", action="append", choices=sorted(WIDTHS), metavar="NAME")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--page", type=Path, help="write the curves into this file")
    arguments = parser.parse_args()
    curves: dict[str, dict[str, float]] = {}
    for name in arguments.only or WIDTHS:
        folder = arguments.out / name / "0"
        folder.mkdir(parents=True, exist_ok=True)
        curves[name] = measured(name, CASES[name].make(arguments.data, folder, 0), folder)
        print("\n".join(told(name, curves[name])), flush=True)
    if arguments.svg:
        draw(curves, arguments.svg)
    if arguments.page:
        rows = (line for name, found in curves.items() for line in told(name, found))
        fill(arguments.page, "curves", "\n".join(("", *rows)))


def measured(name: str, made: Made, folder: Path) -> dict[str, float]:
    """The accuracy of every point of a network, by ``scheme rounding width``, and ``float``."""
    job = jobs.prepare(made.model, made.data, encode=dict(made.encode))
    known = schemes(SCHEMES, lessons(made.lessons, job))
    found: dict[str, float] = {}

    def keep(key: str, make: Callable[[], float]) -> None:
        path = folder / f"curve-{key.replace(' ', '-')}.json"
        found[key] = once(path, lambda: {"accuracy": make()})["accuracy"]

    keep("float", partial(share, job, job.graph))
    for scheme in SCHEMES:
        for word in ROUNDINGS:
            for bits in WIDTHS[name]:
                keep(f"{scheme} {word} {bits}",
                     partial(point, name, job, known[scheme], word, bits))  # fmt: skip
    return found


def point(name: str, job: Job, scheme: Scheme, word: str, bits: int) -> float:
    """The accuracy of one network: every weight of so many bits, rounded in one way."""
    rounding = ROUNDINGS[word]
    choices = {}
    for node in job.graph.nodes:
        if isinstance(node, CONNECTIONS) and not isinstance(node, Lateral):
            choices[path_of(node, "weight")] = Choice(bits=bits, rounding=rounding)
        if isinstance(node, Neuron):
            choices[f"{node.path}.v"] = Choice(bits=STATE_BITS[name], rounding=rounding)
    plan = jobs.plan_for(job, backend("mcu"), choices=choices)
    return share(job, quantize(*scheme.fit(job.graph, plan)))


def share(job: Job, graph: Graph) -> float:
    """What a network gets right of the selection part."""
    assert job.dataset is not None, "prepared with data"
    assert job.dataset.y is not None, "with labels"
    index = job.dataset.part("select", SAMPLES)
    answers = predictions(graph, job.dataset, job.encoder, index)
    return float((answers == job.dataset.y[index]).mean())


def told(name: str, found: Mapping[str, float]) -> Iterator[str]:
    """The points of a network as a Markdown table, in percent."""
    widths = WIDTHS[name]
    yield (
        f"**{CASES[name].title}**, float {100 * found['float']:.2f} %, states of "
        f"{STATE_BITS[name]} bits, the first {SAMPLES} samples"
    )
    yield ""
    yield "| bits | " + " | ".join(f"{s.upper()} {w}" for s in SCHEMES for w in ROUNDINGS) + " |"
    yield "|---|" + "---|" * (len(SCHEMES) * len(ROUNDINGS))
    for bits in widths:
        row = [found[f"{s} {w} {bits}"] for s in SCHEMES for w in ROUNDINGS]
        yield f"| {bits} | " + " | ".join(f"{100 * x:.2f}" for x in row) + " |"
    yield ""


def draw(curves: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """The same as a picture: a panel for each network."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "qspinn"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.4), squeeze=False)
    colours = dict(zip(ROUNDINGS, ("tab:orange", "tab:blue", "tab:green"), strict=True))
    for panel, (name, found) in zip(panels[0], curves.items(), strict=True):
        widths = np.array(WIDTHS[name])
        for scheme, line in zip(SCHEMES, (":", "-"), strict=True):
            for word, colour in colours.items():
                values = [100 * found[f"{scheme} {word} {bits}"] for bits in WIDTHS[name]]
                label = f"{scheme.upper()} {word}"
                panel.plot(widths, values, line, marker="o", ms=3, color=colour, label=label)
        panel.axhline(100 * found["float"], color="black", lw=0.8, label="float")
        panel.set_title(CASES[name].title, fontsize=9)
        panel.set_xlabel("bits of a weight")
        panel.set_xticks(widths)
    panels[0][0].set_ylabel("accuracy on the selection part, %")
    panels[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "qspinn"})


if __name__ == "__main__":
    main()
