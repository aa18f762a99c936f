"""How much of the Braille network's decisions is left on Loihi: qspinn beside the published rule.

The network (NIR paper, 12-38-7, recurrent, trained in snnTorch) reads seven letters from 12 touch
sensors. Its converter for Lava lost 46 points of accuracy. Here both run on drawn spikes, and what
counts is whether an integer network decides as the float network does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qspinn import interp
from qspinn.backend import Backend, backend, default_plan
from qspinn.calibrate import Calibration, observe
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.frontends import load_model
from qspinn.ir import Graph, Linear, Neuron, Node, Output, Param, State
from qspinn.neurons import spiking
from qspinn.pipeline import canonical, lower

STEPS, EPISODES, RATES = 128, 4, (0.005, 0.6)
SHARE, MARGIN = 0.3, 2
HIDDEN = "hidden"
DECAY, THRESHOLD = QFormat(13, 12, signed=False), QFormat(17, 0, signed=False)
CURRENT = QFormat(24, 6, True, -(2**23) + 1, 2**23)
MEMBRANE = QFormat(24, 6, True, -(2**23) + 1, 2**23 - 1)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """How one integer network compares with the float network.

    Attributes:
        name: Which.
        clear: The share of equal decisions where the float network's margin is large enough.
        all: The share of all equal decisions.
        coincidence: By hidden neuron the spikes of both over the spikes of either; None for
            one that never spikes.
    """

    name: str
    clear: float
    all: float
    coincidence: list[float | None]

    def __str__(self) -> str:
        heard = [value for value in self.coincidence if value is not None]
        low, mid, high = np.percentile(heard, [10, 50, 90])
        return (
            f"{self.name:<46}{self.clear:8.1%}{self.all:8.1%}   "
            f"{low:.2f} / {mid:.2f} / {high:.2f} of {len(heard)}"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="braille_noDelay_bias_zero.nir")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data, rest = drawn(options.model, options.samples, options.seed)
    rows = list(compared(options.model, data, rest))
    result = Result.of(options.model, data)
    print(
        f"{len(data)} samples, largest class {result.shares.max():.0%}, margin of {MARGIN} spikes"
    )
    print(f"in {result.clear.sum()} of them; hidden: 10th / 50th / 90th percentile of neurons")
    print(f"{'':<58}{'clear':>8}{'all':>8}   hidden spikes")
    for row in rows:
        print(row)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


@dataclass(frozen=True)
class Result:
    """What a network decides on each sample, and the spikes of its hidden neurons."""

    counts: Array
    hidden: Array

    @classmethod
    def of(cls, model: Path, data: Array) -> Result:
        """The float network as it was trained."""
        return cls.run(canonical(load_model(model, reset="zero").graph), data.astype(float))

    @classmethod
    def run(cls, graph: Graph, data: Array) -> Result:
        """A network on (samples, steps, inputs)."""
        trace = interp.run(watched(graph), data, record=False)
        others = (values for name, values in trace.outputs.items() if name != HIDDEN)
        return cls(next(others).sum(1), trace.outputs[HIDDEN] > 0)

    @property
    def decisions(self) -> Array:
        """The output that spiked most."""
        return np.asarray(self.counts.argmax(1))

    @property
    def clear(self) -> Array:
        """Where the winner is at least `MARGIN` spikes ahead."""
        first, second = np.sort(self.counts, 1)[:, :-3:-1].T
        return np.asarray(first - second >= MARGIN)

    @property
    def shares(self) -> Array:
        """How often each class wins."""
        return np.asarray(np.bincount(self.decisions, minlength=7) / len(self.decisions))

    def row(self, name: str, other: Result) -> Row:
        """Compare an integer network with this one."""
        same = self.decisions == other.decisions
        both, either = (
            (part(self.hidden, other.hidden)).sum((0, 1))
            for part in (np.logical_and, np.logical_or)
        )
        return Row(
            name,
            float(same[self.clear].mean()),
            float(same.mean()),
            [float(b / e) if e else None for b, e in zip(both, either, strict=True)],
        )


def watched(graph: Graph) -> Graph:
    """With an output for the hidden neurons."""
    hidden = graph.of_type(Neuron)[0].name
    return replace(graph, nodes=(*graph.nodes, Output(name=HIDDEN, inputs=(hidden,))))


def drawn(model: Path, samples: int, seed: int) -> tuple[Array, Array]:
    """Spikes (samples, steps, 12) of which no class gets more than `SHARE`; others to calibrate.

    In each of a few episodes each sensor has a rate of its own.
    """
    rng = np.random.default_rng(seed)
    pool, rest = pooled(rng, 3 * samples), pooled(rng, 64)
    most = int(SHARE * samples)
    taken: list[int] = []
    counts = np.zeros(7, int)
    for index, winner in enumerate(Result.of(model, pool).decisions):
        if counts[winner] < most and len(taken) < samples:
            taken.append(index)
            counts[winner] += 1
    assert len(taken) == samples, "more must be drawn"
    return pool[taken], rest


def pooled(rng: np.random.Generator, samples: int) -> Array:
    """Spikes of sensors whose rates are drawn anew for each episode."""
    low, high = np.log(RATES)
    rates = np.exp(rng.uniform(low, high, (samples, EPISODES, 12)))
    return (rng.random((samples, STEPS, 12)) < np.repeat(rates, STEPS // EPISODES, 1)).astype(
        np.int64
    )


def compared(model: Path, data: Array, rest: Array) -> Iterator[Row]:
    """All integer networks beside the float network as it was trained."""
    target, trained = backend("loihi"), Result.of(model, data)
    as_trained = canonical(load_model(model, reset="zero").graph)
    at_spike = canonical(load_model(model, reset="zero", reset_timing="at_spike").graph)
    ours = {
        "qspinn, neurons as trained (simulator only)": (as_trained, ""),
        "  one scale for the layer (--scales layer)": (as_trained, "layer"),
        "qspinn, Lava's LIF (--reset-timing at_spike)": (at_spike, "layer"),
        "  a scale for each neuron (--scales channel)": (at_spike, "channel"),
    }
    yield trained.row(
        "float, reset in the step of the spike", Result.run(at_spike, data.astype(float))
    )
    for name, (graph, group) in ours.items():
        seen = replace(observe(graph, rest.astype(float)), group=group)
        yield trained.row(name, Result.run(quantized(graph, seen, target), data))
    rules = {
        "published rule: weights * 256 cut, bias_mant": {},
        "  the same, weights not clipped by Lava": {"clipped": False},
        "  and biases in the synaptic current": {"clipped": False, "membrane": False},
    }
    for name, rule in rules.items():
        yield trained.row(name, Result.run(published(as_trained, **rule), data))


def quantized(graph: Graph, seen: Calibration, target: Backend) -> Graph:
    """What qspinn compiles by default: the reference that its package equals in every step."""
    return lower(graph, default_plan(target, graph, seen), target).final


# --- the published rule ---


def published(graph: Graph, *, clipped: bool = True, membrane: bool = True) -> Graph:
    """Integers as in the NIR paper's converter: products with 256 and 4095, cut toward zero.

    Args:
        graph: The float graph.
        clipped: Whether weights are what Lava's Dense makes of them: 8 bits and even.
        membrane: Whether biases are ``bias_mant``, which enter the membrane.
    """
    biases = {node.name: node.bias for node in graph.of_type(Linear)}

    def change(node: Node) -> Node:
        if isinstance(node, Linear):
            whole = np.trunc(node.weight.values * 256)
            whole = np.clip(whole, -256, 255) // 2 * 2 if clipped else whole
            bias = None if membrane or node.bias is None else cut(node.bias.values)
            return replace(node, weight=Param(whole, QFormat(16, 0)), bias=bias)
        return neurons(node, biases if membrane else {}) if isinstance(node, Neuron) else node

    return graph.map(change)


def neurons(node: Neuron, biases: dict[str, Param | None]) -> Neuron:
    """Lava's LIF; a threshold of 1 is 255."""
    lost = {name: np.trunc((1 - node.values[name].values) * 4095) for name in
            ("current_decay", "decay")}  # fmt: skip
    found = [cut(bias.values).values for name in node.inputs if (bias := biases.get(name))]
    values = {
        "current_decay": Param(4095 - lost["current_decay"], DECAY, Rounding.ZERO),
        "decay": Param(4096 - lost["decay"], DECAY, Rounding.ZERO),
        "bias": Param(np.asarray(np.sum(found, 0) * 64 if found else 0), MEMBRANE),
        "threshold": Param(np.trunc(node.values["threshold"].values * 131071) // 512, THRESHOLD),
    }
    states = {
        "u": State(Param(np.array(0), CURRENT), CURRENT, Rounding.ZERO, Overflow.WRAP),
        "v": State(Param(np.array(0), MEMBRANE), MEMBRANE, Rounding.ZERO),
    }
    model = spiking(synapse="new", bias=True)
    ordered = {name: values[name] for name in model.params}
    return replace(node, model=model, values=ordered, states=states)


def cut(bias: Array) -> Param:
    """A bias as the converter cuts weights."""
    return Param(np.trunc(bias * 256), QFormat(16, 0))


if __name__ == "__main__":
    main()
