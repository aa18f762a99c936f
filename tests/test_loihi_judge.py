"""The judge: random networks over the whole domain of Loihi's registers, in every executor.

The reference interpreter, the simulator with both of its engines, and Lava's fixed-point models
give the same states and spikes of every neuron in every step.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.execute import _trace, _written
from qspinn.backends.loihi.layers import layers
from qspinn.backends.loihi.reasons import Reasons

from lava_batch import run_batch
from loihi_nets import written
from networks import Network, describe
from qspinn import interp
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Neuron
from qspinn.plan import Plan
from qspinn.simulate import simulate
from qspinn.validate import compare
from watching import Step, clipped, watched

FEW, MANY = 25, 100
"""Networks that one interpreter runs after each other."""
NORMAL = range(0, 150, FEW)
SLOW = range(150, 2150, MANY)
OTHER_PYTHONS = range(3000, 3200, MANY)
RUNTIME = 10


@lru_cache(maxsize=NORMAL.stop)
def whole(seed: int) -> tuple[Network, Graph]:
    """A network and its lowered graph; a quarter of them start cold."""
    network = describe(seed, profile="whole")
    return network, BACKEND.legalize(network.graph, start="cold" if seed % 4 == 3 else "skewed")


def judged(
    seeds: range, folder: Path, python: str | Path = sys.executable, *, models: bool = True
) -> list[tuple[int, Network, Graph, Trace]]:
    """Every network in Lava, compared with the reference."""
    found = []
    for seed in seeds:
        network, legal = whole(seed)
        place = folder / str(seed)
        place.mkdir()
        _written(legal, network.data, written(legal, place))
        found.append((seed, network, legal, interp.run(legal, network.data)))
    run_batch(python, [folder / str(seed) for seed in seeds], models=models)
    for seed, _, legal, want in found:
        mismatch = compare(want, _trace(legal, folder / str(seed)))
        assert mismatch is None, f"whole{seed}: {mismatch}"
    return found


def judged_by_all(seeds: range, folder: Path, *, legalized: bool = False) -> None:
    """Every network in Lava and in both engines; ``legalized``: as it was before, too."""
    for seed, network, legal, want in judged(seeds, folder):
        for engine in ("numpy", "numba"):
            result = simulate(legal, network.data, threads=1, record="trace", engine=engine)
            assert result.trace is not None
            mismatch = compare(want, result.trace)
            assert mismatch is None, f"whole{seed}, {engine}: {mismatch}"
        if legalized and legal.start == "skewed":
            before = interp.run(network.graph, network.data)
            kept = {name: want.states[name] for name in before.states}
            mismatch = compare(before, Trace(kept, want.outputs))
            assert mismatch is None, f"whole{seed}, legalized: {mismatch}"


@pytest.mark.needs("lava", "numba")
@pytest.mark.parametrize("first", NORMAL)
def test_networks(first: int, tmp_path: Path) -> None:
    judged_by_all(range(first, first + FEW), tmp_path, legalized=True)


@pytest.mark.needs("lava")
def test_networks_in_the_runtime(tmp_path: Path) -> None:
    """What is stepped here is what Lava's own runtime computes."""
    judged(range(RUNTIME), tmp_path, models=False)


@pytest.mark.slow
@pytest.mark.needs("lava", "numba")
@pytest.mark.parametrize("first", SLOW)
def test_many_networks(first: int, tmp_path: Path) -> None:
    judged_by_all(range(first, first + MANY), tmp_path)


@pytest.mark.slow
@pytest.mark.needs("lava310")
@pytest.mark.parametrize("first", OTHER_PYTHONS)
def test_lava_as_it_ships(first: int, tmp_path: Path, lava310: Path) -> None:
    judged(range(first, first + MANY), tmp_path, lava310)


@pytest.mark.slow
@pytest.mark.needs("lava313")
@pytest.mark.parametrize("first", OTHER_PYTHONS)
def test_the_newest_python(first: int, tmp_path: Path, lava313: Path) -> None:
    judged(range(first, first + MANY), tmp_path, lava313)


@pytest.mark.slow
@pytest.mark.needs("lava", "lava310", "lava313")
def test_the_runtime_of_every_python(tmp_path: Path, lava310: Path, lava313: Path) -> None:
    for python in (sys.executable, lava310, lava313):
        place = tmp_path / Path(python).parents[1].name
        place.mkdir()
        judged(range(RUNTIME, 3 * RUNTIME), place, python, models=False)


# --- what the generator covers ---

COVERED = {
    "mode": {"MIXED": 60, "EXCITATORY": 60, "INHIBITORY": 60},
    "bits": dict.fromkeys((1, 2, 3, 4, 5, 6, 8), 15),
    "exponent": {**dict.fromkeys(range(-8, 7), 6), 7: 2},
    "dropped": dict.fromkeys(range(1, 9), 4),
    "dropping exponent": dict.fromkeys(range(-8, 0), 1),
    "dropping": {"MIXED": 15, "EXCITATORY": 15, "INHIBITORY": 15, "delayed": 8},
    "decay": {"none": 40, "all": 40, "one part": 20, "but one part": 20},
    "threshold": {"never": 4, "highest": 1},
    "bias exponent": dict.fromkeys(range(8), 8),
    "bias": {"in the membrane": 60, "as synapses": 30},
    "lag": {0: 130, 1: 25, 4: 2, "50 or more": 6},
    "message bits": {0: 110, 2: 8, 4: 3, 8: 3, 12: 2},
    "edge": {"recurrent": 25, "relay": 5, "convolution": 15, "sparse": 1},
    "per neuron": {"du": 20, "dv": 20, "vth": 20, "bias_mant": 15},
    "start": {"cold": 30, "skewed": 100},
    "first state": {"rest": 60, "anywhere": 40},
    "samples": {"one run with resets": 15, "a run each": 80},
    "acted": {"saturate": 25, "wrap": 8},
}
"""In how many of 150 networks each occurs, at least."""
PARTS = {0: "none", 1: "one part", 4095: "but one part", 4096: "all"}
"""What a state loses in a step, of 4096."""


def occurs(graph: Graph, joint: bool) -> set[tuple[str, object]]:
    """What a lowered network has of the above."""
    found: set[tuple[str, object]] = {("start", graph.start)}
    found.add(("samples", "one run with resets" if joint else "a run each"))
    for layer in layers(graph, Reasons()):
        held = layer.registers
        assert held is not None, f"{layer.name}: {layer.why}"
        lost = np.unique(np.append(held.du + 1, held.dv))
        found |= {("decay", word) for part, word in PARTS.items() if part in lost}
        found |= {("threshold", "never")} if (held.vth == 1 << 17).any() else set()
        found |= {("threshold", "highest")} if (held.vth == (1 << 17) - 1).any() else set()
        for name in ("du", "dv", "vth", "bias_mant"):
            many = np.unique(getattr(held, name)).size > 1
            found |= {("per neuron", name)} if many else set()
        if held.bias_mant.any():
            used = np.unique(held.bias_exp[held.bias_mant != 0])
            found |= {("bias", "in the membrane"), *(("bias exponent", int(e)) for e in used)}
        found |= {("bias", "as synapses")} if layer.line else set()
        found.add(("first state", "rest" if held.starts_at_rest else "anywhere"))
        for synapse in layer.synapses:
            form = type(synapse.form).__name__
            edges = {"Relay": "relay", "Kernel": "convolution", "Sparse": "sparse"}
            found |= {("edge", edges[form])} if form in edges else set()
            found |= {("edge", "recurrent")} if synapse.source == synapse.target else set()
            found |= {("lag", synapse.lag), ("message bits", synapse.message_bits)}
            found |= {("lag", "50 or more")} if synapse.lag >= 50 else set()
            for packed in synapse.packed:
                if synapse.drop:
                    found |= {("dropped", synapse.drop), ("dropping", packed.mode)}
                    found |= {("dropping exponent", packed.exponent)}
                    found |= {("dropping", "delayed")} if synapse.lag else set()
                if packed.mantissa.any():
                    found |= {("mode", packed.mode), ("bits", packed.bits)}
                    found.add(("exponent", packed.exponent))
    return found


def lost(step: Step) -> Array:
    """The sums of which bits are dropped."""
    for op in step.program.ops:
        if op.kind == "shr" and step.program.ops[op.args[0]].kind == "input":
            total = step.values[op.args[0]]
            return total[total & ((1 << op.value) - 1) != 0]
    return np.zeros(0, np.int64)


def test_every_register_goes_to_its_ends() -> None:
    """At least 5 % of neuron-steps spike, stores act, and everything above occurs."""
    met: Counter[tuple[str, object]] = Counter()
    fired = places = below = above = 0
    for seed in range(NORMAL.stop):
        network, legal = whole(seed)
        facts = BACKEND.emit(legal, BACKEND.devices["loihi2"], Plan({})).facts
        joint = facts["samples"] == "one run"
        trace, seen = watched(legal, network.data)
        met.update(occurs(legal, joint))
        met.update({("acted", overflow) for overflow, count in clipped(seen) if count})
        for step in seen:
            if step.program.sends != "current":
                sent = np.broadcast_to(step.values[step.program.output], (2, *step.shape))
                fired, places = fired + np.count_nonzero(sent), places + sent.size
            low = lost(step)
            below, above = below + np.count_nonzero(low < 0), above + np.count_nonzero(low > 0)
        assert legal.of_type(Neuron)
        assert trace.states
    rare = [
        f"{kind} {value}: {met[kind, value]} < {least}"
        for kind, row in COVERED.items()
        for value, least in row.items()
        if met[kind, value] < least
    ]
    assert not rare
    assert fired > 0.05 * places
    assert min(below, above) > 500
