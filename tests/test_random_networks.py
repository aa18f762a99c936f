"""Random networks: what the generator covers, and that every executor equals the reference.

A network of the profile ``loihi`` is lowered by that target, and the very graph that came out is
simulated and compiled to C as well: one graph, every executor. The others go to C as they are, and
to Lava where it has process models for them.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from networks import NORMAL, SLOW, Case, describe
from qspinn import interp
from qspinn.backend import backend
from qspinn.errors import LegalizeError
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Neuron
from qspinn.output import write_folder
from qspinn.plan import Plan
from qspinn.readout import Summary, predict, summarize
from qspinn.simulate import simulate
from qspinn.validate import compare
from qspinn.verify import verify
from watching import clipped, watched


def cases(*, profile: str = "") -> pytest.MarkDecorator:
    """Parametrize a test by networks, those beyond `NORMAL` marked slow."""
    chosen = [
        pytest.param(case, id=str(case), marks=[pytest.mark.slow] if case in SLOW else [])
        for case in (*NORMAL, *SLOW)
        if case.profile.startswith(profile)
    ]
    return pytest.mark.parametrize("case", chosen)


# --- every executor equals the reference ---


@cache
def lowered(case: Case) -> tuple[Graph, Array]:
    """The graph that all executors run, and its data."""
    network = describe(case.seed, profile=case.profile)
    if case.profile != "loihi":
        return network.graph, network.data
    start = "cold" if case.seed % 4 == 3 else "skewed"
    return backend("loihi").legalize(network.graph, start=start), network.data


@cache
def reference(case: Case) -> Trace:
    return interp.run(*lowered(case))


def part(trace: Trace, samples: int | None, steps: int | None) -> Trace:
    """The first samples and steps of a trace."""
    at = (slice(samples), slice(steps))
    return Trace(*({k: v[at] for k, v in d.items()} for d in (trace.states, trace.outputs)))


def agrees(
    case: Case, got: Trace | None, samples: int | None = None, steps: int | None = None
) -> None:
    """Every state and output of every neuron in every step are equal."""
    want = part(reference(case), samples, steps)
    assert got is not None
    mismatch = compare(want, got)
    assert mismatch is None, f"{case}: {mismatch}"


def decided(case: Case, samples: int | None = None, steps: int | None = None) -> Summary:
    """What the reference gives the readout."""
    return summarize(lowered(case)[0], part(reference(case), samples, steps))


def fields(summary: Summary) -> tuple[Array, ...]:
    return summary.counts, summary.first, summary.last, summary.highest


def artifact(target: str, graph: Graph, folder: Path) -> Path:
    """The graph as files of a target."""
    made = backend(target)
    emitted = made.emit(graph, made.devices[made.default_device], Plan({}))
    write_folder(folder / target, emitted.files, {})
    return folder / target


def simulator_agrees(case: Case, engine: str) -> None:
    graph, data = lowered(case)
    result = simulate(graph, data, threads=1, record="trace", engine=engine)
    agrees(case, result.trace)
    assert result.summary is not None
    for got, want in zip(fields(result.summary), fields(decided(case)), strict=True):
        assert np.array_equal(got, want)


@cases()
def test_numpy_simulator(case: Case) -> None:
    simulator_agrees(case, "numpy")


@pytest.mark.needs("numba")
@cases()
def test_numba_simulator(case: Case) -> None:
    simulator_agrees(case, "numba")


def c_agrees(case: Case, folder: Path, executor: str, samples: int, steps: int) -> None:
    """C against the reference, the decision of its own readout included."""
    from qspinn.backends.mcu.build import build
    from qspinn.backends.mcu.execute import record, sources
    from qspinn.backends.mcu.samples import trace

    graph, data = lowered(case)
    network = build(graph)
    files = sources(artifact("mcu", graph, folder), network)
    found = record(files, network, data[:samples, :steps], executor)
    agrees(case, trace(network, found), samples, steps)
    decision = predict(graph.output, decided(case, samples, steps))
    assert np.array_equal(found.winners, decision)


@pytest.mark.needs("gcc")
@cases()
def test_c_on_the_host(case: Case, tmp_path: Path) -> None:
    c_agrees(case, tmp_path, "host", 3, 99)


@pytest.mark.needs("zig", "unicorn")
@cases()
def test_c_on_an_emulated_core(case: Case, tmp_path: Path) -> None:
    c_agrees(case, tmp_path, "cortex-m4", 2, 8)


@pytest.mark.needs("lava")
@cases(profile="loihi")
def test_lava(case: Case, tmp_path: Path) -> None:
    graph, data = lowered(case)
    agrees(case, backend("loihi").run(artifact("loihi", graph, tmp_path), graph, data, "lava"))


@pytest.mark.needs("lava")
@cases(profile="any")
def test_lava_with_process_models_of_its_own(case: Case, tmp_path: Path) -> None:
    """What Lava's stock processes lack comes with the package; the rest is refused in words."""
    graph, data = lowered(case)
    try:
        legal = backend("loihi").legalize(graph)
    except LegalizeError as error:
        if not error.reasons:
            raise
        return
    got = backend("loihi").run(artifact("loihi", legal, tmp_path), legal, data, "lava")
    mismatch = compare(interp.run(legal, data), got)
    assert mismatch is None, f"{case}: {mismatch}"


# --- lowering for Loihi is exact ---


@pytest.mark.parametrize("part", range(4))
def test_legalized_networks_have_the_same_spikes_and_states(part: int) -> None:
    shifted = 0
    for seed in range(50 * part, 50 * (part + 1)):
        network = describe(seed, profile="loihi")
        before, after = network.graph, backend("loihi").legalize(network.graph)
        shifted += any(after.shifts.values())
        want, got = (interp.run(g, network.data) for g in (before, after))
        assert np.array_equal(want.output, got.output), seed
        for name, values in want.states.items():
            assert np.array_equal(values, got.states[name]), (seed, name)
    assert shifted > 30


# --- what the generator covers ---

# Every choice that must occur in 300 networks, and in how many of them at least.
COVERED: dict[str, dict[str, str]] = {
    "any": {
        "node": "Input 300, Linear 150, Scale 50, Conv1d 20, Conv2d 40, SumPool2d 25, MaxPool2d 8, "
        "Flatten 30, Delay 80, LIF 80, IF 25, CubaLIF 80, CubaIF 25, LI 8, CubaLI 20, I 4, CubaI 4",
        "depth": "1 30, 2 30, 3 30, 4 15",
        "reset": "zero 60, subtract 60, value 60",
        "timing": "at_spike 100, next_before_decay 30, next_after_decay 30, next_discard 30",
        "compare": "> 90, >= 90",
        "synapse": "new 50, old 50",
        "refractory": "True 25",
        "max_spikes": "3 12, 7 12, 15 12",
        "clamp": "True 40",
        "adaptive": "True 40",
        "leak": "True 100, False 50",
        "bias": "True 60",
        "bias point": "finer 30, coarser or equal 30",
        "decay": "leak 80, fixed 100, signed 40, coarse 4, grows 10",
        "decay rounding": "floor 50, zero 50, nearest_even 50, nearest_away 50, stochastic 50",
        "state rounding": "floor 50, zero 50, nearest_even 50, nearest_away 50, stochastic 50",
        "overflow": "saturate 100, wrap 80",
        "range": "full 100, unsigned 20, narrow saturate 50, narrow wrap 40",
        "state bits": "2 15, 3 15, 4 20, 5 20, 6 20, 7 20, 8 40, 10 15, 12 15, 16 40, "
        "20 15, 24 20, 31 10, 32 10",
        "state point": "-1 50, 0 10, 1 50",
        "threshold point": "-1 30, 0 80, 1 30",
        "weight bits": "1 15, 2 20, 3 20, 4 20, 5 15, 6 20, 7 15, 8 60, 10 15, 12 15, 16 20, 24 15",
        "weight signed": "True 100, False 60",
        "conv1d": "s 8, p 8, d 8, g 8",
        "conv2d": "s (2, 1) 8, p (1, 1) 8, p (0, 1) 8, d (1, 2) 8, g True 8",
        "pool": "SumPool2d spike padded 4, SumPool2d count plain 2, SumPool2d current padded 4, "
        "MaxPool2d spike plain 2, MaxPool2d count plain 1",
        "delay": "1 spike 30, 2 spike 15, 3 spike 10, 1 count 8, 2 count 4",
        "parameter": "uniform 100, channel 40, neuron 100",
        "initial": "non-zero 80",
        "near range": "weight 50, threshold 20, initial 30",
        "edge": "recurrent 50, skip 25, direct current 12, shared current 12",
        "tail": "delay 6, connection 6, pool 3",
        "input": "spike 1 30, spike 2 15, spike 3 30, count 1 10, count 3 8, current 1 8",
        "dropped": "any 80",
        "readout": "count 40, first_spike 40, membrane_last 15, membrane_max 15, vote 20",
    },
    "loihi": {
        "node": "Linear 150, Lateral 30, Scale 30, Conv1d 15, Conv2d 30, SumPool2d 15, "
        "MaxPool2d 5, Flatten 15, Delay 80",
        "depth": "1 30, 2 30, 3 30, 4 15",
        "model": "LIF 40, IF 10, CubaLIF 120, CubaIF 30, LI 8, CubaLI 25, I 1, CubaI 5",
        "bias": "membrane 90, synapse 50",
        "weights": "mixed 150, excitatory 60",
        "weight bits": "2 50, 4 50, 6 50, 8 100",
        "weight exponent": "0 100, 1 60, 2 60",
        "parameter": "uniform 100, channel 30, neuron 100",
        "initial": "non-zero 50",
        "near range": "weight 50, activation 20, initial 20",
        "edge": "recurrent 50, skip 12, shared current 10",
        "dropped": "MIXED 1 4, MIXED 4 4, MIXED 7 4, EXCITATORY 8 2",
        "input": "spike 1 60, spike 3 30, count 1 10, count 3 5",
        "readout": "count 40, first_spike 40, membrane_last 15, membrane_max 15, vote 20",
    },
}


@pytest.mark.parametrize("profile", COVERED)
def test_every_choice_occurs(profile: str) -> None:
    met = Counter(tag for seed in range(300) for tag in describe(seed, profile=profile).tags)
    rare = []
    for kind, row in COVERED[profile].items():
        for entry in re.split(r", (?![^(]*\))", row):  # commas outside parentheses
            value, _, least = entry.rpartition(" ")
            if met[f"{kind}:{value}"] < int(least):
                rare.append(f"{kind}:{value} {met[f'{kind}:{value}']} < {least}")
    assert not rare


@pytest.mark.parametrize("profile", COVERED)
def test_neurons_fire_and_stores_act(profile: str) -> None:
    """Silent networks and ranges that nothing reaches would test nothing."""
    fired = places = ties = 0
    acted: Counter[str] = Counter()
    for seed in range(100):
        network = describe(seed, profile=profile)
        _, seen = watched(network.graph, network.data)
        for step in seen:
            program = step.program
            if program.sends != "current":
                sent = np.broadcast_to(
                    step.values[program.output], (len(network.data), *step.shape)
                )
                fired, places = fired + np.count_nonzero(sent), places + sent.size
            for op in program.ops:
                if op.kind in ("gt", "ge"):
                    x, y = (step.values[i] for i in op.args)
                    ties += np.count_nonzero(x == y)
        for overflow, count in clipped(seen):
            acted[overflow] += count
    assert fired > 0.05 * places
    assert acted["saturate"] > 50
    assert acted["wrap"] > 50
    assert ties > 100 or profile == "loihi"


def test_networks_are_small_valid_and_the_same_each_time() -> None:
    for profile in COVERED:
        for seed in range(40):
            one, again = (describe(seed, profile=profile) for _ in range(2))
            assert one.graph.digest == again.graph.digest
            assert np.array_equal(one.data, again.data)
            assert verify(one.graph).is_integer
            assert one.data.shape[0] in (2, 3)
            assert one.data.shape[1] in range(8, 17)
            assert len(one.graph.of_type(Neuron)) in range(1, 9)
            assert one.tags


def test_loihi_networks_need_only_stock_processes() -> None:
    for seed in range(200):
        network = describe(seed, profile="loihi")
        made = backend("loihi")
        legal = made.legalize(network.graph)
        files = made.emit(legal, made.devices[made.default_device], Plan({})).files
        assert not [name for name in files if name.startswith("neurons_")], seed
