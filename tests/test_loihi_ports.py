"""Several inputs and outputs on Loihi: random networks in Lava, and the package that users see."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.execute import _trace, _written
from qspinn.backends.loihi.footprint import layers_of
from qspinn.backends.loihi.mapping import mapped

from lava_batch import run_batch
from loihi_nets import linear, neuron, run_both, spikes, written
from networks import Network, describe
from qspinn import interp
from qspinn.errors import LegalizeError
from qspinn.interp import Trace
from qspinn.ir import Array, Delay, Graph, Input, Output
from qspinn.plan import Plan
from qspinn.ports import together
from qspinn.readout import predict, summarize
from qspinn.validate import compare

MODELS = range(60)
RUNTIME = range(100, 106)
SLOW = range(2000, 2300, 100)


@lru_cache(maxsize=MODELS.stop)
def wide(seed: int) -> tuple[Network, Graph]:
    """A network and its lowered graph; a quarter of them start cold."""
    network = describe(seed, profile="wide")
    return network, BACKEND.legalize(network.graph, start="cold" if seed % 4 == 3 else "skewed")


def judged(seeds: Iterable[int], folder: Path, *, models: bool = True) -> None:
    """Every network in Lava and as it was before it was lowered, compared with the reference."""
    for seed in seeds:
        network, legal = wide(seed)
        place = folder / str(seed)
        place.mkdir()
        _written(legal, network.data, written(legal, place))
    run_batch(sys.executable, [folder / str(seed) for seed in seeds], models=models)
    for seed in seeds:
        network, legal = wide(seed)
        want = interp.run(legal, network.data)
        mismatch = compare(want, _trace(legal, folder / str(seed)))
        assert mismatch is None, f"wide{seed}: {mismatch}"
        if legal.start == "skewed":
            before = interp.run(network.graph, network.data)
            kept = {name: want.states[name] for name in before.states}
            mismatch = compare(before, Trace(kept, want.outputs))
            assert mismatch is None, f"wide{seed}, legalized: {mismatch}"


@pytest.mark.needs("lava")
@pytest.mark.parametrize("first", MODELS[::20])
def test_networks(first: int, tmp_path: Path) -> None:
    judged(range(first, first + 20), tmp_path)


@pytest.mark.needs("lava")
def test_networks_in_the_runtime(tmp_path: Path) -> None:
    """Among them inputs with nothing in common, which Lava takes for networks of their own."""
    assert any(apart(wide(seed)[1]) > 1 for seed in RUNTIME)
    judged(RUNTIME, tmp_path, models=False)


@pytest.mark.needs("lava")
def test_lateral_weights_that_a_relay_cannot_take_back(tmp_path: Path) -> None:
    """Among weights of both signs -128 is stored, and 128 is not: they become a matrix."""
    judged((1228,), tmp_path)


@pytest.mark.slow
@pytest.mark.needs("lava")
@pytest.mark.parametrize("first", SLOW)
def test_many_networks(first: int, tmp_path: Path) -> None:
    judged(range(first, first + SLOW.step), tmp_path)


def apart(graph: Graph) -> int:
    """How many parts of a graph have nothing in common."""
    part = {node.name: {node.name} for node in graph.nodes}
    for node in graph.nodes:
        for source in node.inputs:
            joined = part[node.name] | part[source]
            part |= dict.fromkeys(joined, joined)
    return len({frozenset(names) for names in part.values()})


COVERED = {
    ("inputs", 1): 4, ("inputs", 2): 20, ("inputs", 3): 12,
    ("outputs", 1): 2, ("outputs", 2): 18, ("outputs", 3): 15,
    "an input reaches layers at several depths": 5, "an input reaches a deep layer": 3,
    "outputs of different shifts": 20, "a delayed output": 10, "apart": 10, "kinds": 8, "ranks": 8,
    "graded and spikes": 8, "one run": 5, "a run each": 25,
}  # fmt: skip
"""In how many of the networks each occurs, at least."""


def occurs(network: Network, legal: Graph) -> set[Any]:
    """What a network has of the above."""
    inputs, outputs = legal.of_type(Input), legal.of_type(Output)
    found: set[Any] = {("inputs", len(inputs)), ("outputs", min(len(outputs), 3))}
    depths: dict[str, set[int]] = {node.name: set() for node in inputs}
    for layer in layers_of(legal):
        for synapse in layer.synapses:
            if synapse.source in depths:
                depths[synapse.source].add(layer.shift)
    found |= {"an input reaches layers at several depths"} if any(
        len(each) > 1 for each in depths.values()
    ) else set()  # fmt: skip
    found |= {"an input reaches a deep layer"} if any(
        min(each, default=0) > 1 for each in depths.values()
    ) else set()  # fmt: skip
    shifts = {legal.shifts.get(node.name, 0) for node in outputs}
    found |= {"outputs of different shifts"} if len(shifts) > 1 else set()
    if any(isinstance(legal[node.inputs[0]], Delay) for node in outputs):
        found.add("a delayed output")
    found |= {"apart"} if apart(legal) > 1 else set()
    found |= {"kinds"} if len({node.kind for node in inputs}) > 1 else set()
    found |= {"ranks"} if len({len(node.shape) for node in inputs}) > 1 else set()
    readouts = {node.readout.startswith("membrane") for node in outputs}
    found |= {"graded and spikes"} if len(readouts) > 1 else set()
    facts = BACKEND.emit(legal, BACKEND.devices["loihi2"], Plan({})).facts
    found.add("one run" if facts["samples"] == "one run" else "a run each")
    return found


def test_what_the_networks_have() -> None:
    met: Counter[Any] = Counter()
    fired = places = 0
    for seed in MODELS:
        network, legal = wide(seed)
        met.update(occurs(network, legal))
        trace = interp.run(legal, network.data, record=False)
        fired += sum(np.count_nonzero(sent) for sent in trace.outputs.values())
        places += sum(sent.size for sent in trace.outputs.values())
    rare = {word: met[word] for word, least in COVERED.items() if met[word] < least}
    assert not rare
    assert fired > 0.05 * places


# --- a network written by hand, as a user has it ---


def cameras(rng: np.random.Generator) -> Graph:
    """Two inputs; the second enters a layer deeper. An early output and a late one."""
    return Graph(
        "cameras",
        (
            Input(name="left", shape=(6,)),
            Input(name="right eye", shape=(2, 3, 2), kind="count", high=3),
            linear("fc1", "left", rng.integers(-60, 60, (8, 6))),
            neuron("lif1", ("fc1",), (8,)),
            linear("fc2", "lif1", rng.integers(-60, 60, (5, 8))),
            linear("fc3", "right eye", rng.integers(-20, 60, (5, 12))),
            neuron("lif2", ("fc2", "fc3"), (5,)),
            Output(name="late", inputs=("lif2",), readout="first_spike"),
            Output(
                name="early", inputs=("lif1",), labels=(0, 1, 1, 0, 2, 2, -1, 0), readout="vote"
            ),
        ),
    )


def entered(rng: np.random.Generator, graph: Graph, samples: int = 3) -> dict[str, Array]:
    return {
        "left": spikes(rng, (samples, 9, 6)),
        "right eye": spikes(rng, (samples, 9, 2, 3, 2), high=3),
    }


@pytest.mark.needs("lava")
@pytest.mark.parametrize("start", ["skewed", "cold"])
def test_inputs_and_outputs_at_different_depths(
    start: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    graph = cameras(rng)
    legal = run_both(graph, together(graph, entered(rng, graph)), tmp_path, start=start)
    if start == "skewed":
        assert dict(legal.shifts) == {"lif1": 1, "lif2": 2, "late": 2, "early": 1}


def package(rng: np.random.Generator, folder: Path) -> tuple[Graph, dict[str, Array]]:
    graph = cameras(rng)
    legal = BACKEND.legalize(graph)
    written(legal, folder)
    return legal, entered(rng, graph)


def called(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "run.py", *words, "--models"], cwd=folder, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.needs("lava")
@pytest.mark.parametrize("form", ["one archive", "files", "both"])
def test_the_package_as_its_readme_says(
    form: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    legal, received = package(rng, tmp_path)
    said = (tmp_path / "README.md").read_text()
    assert "* `input.left`: (samples, steps, 6), from 0 to 1" in said
    assert "* `input.right eye`: (samples, steps, 2, 3, 2), from 0 to 3" in said
    assert "* `output.early`: spikes, (samples, steps, 8); the class: a vote of the 8" in said
    assert "run.py --input spikes.npz --output out.npz --decide classes.npz" in said
    np.save(tmp_path / "left.npy", received["left"])
    np.save(tmp_path / "right.npy", received["right eye"])
    np.savez(tmp_path / "spikes.npz", **{f"input.{k}": v for k, v in received.items()})  # type: ignore[arg-type]
    np.savez(tmp_path / "more.npz", **{"input.left": received["left"], "y": np.arange(3)})  # type: ignore[arg-type]
    words = {
        "one archive": ("--input", "spikes.npz"),
        "files": ("--input", "left=left.npy", "--input", "right eye=right.npy"),
        "both": ("--input", "more.npz", "--input", "right eye=right.npy"),
    }[form]
    done = called(tmp_path, *words, "--output", "out.npz", "--decide", "classes.npz")
    assert done.returncode == 0, done.stderr
    data = together(legal, received)
    want = interp.run(legal, data)
    with np.load(tmp_path / "out.npz") as out, np.load(tmp_path / "classes.npz") as classes:
        assert sorted(out) == sorted(classes) == ["output.early", "output.late"]
        for name in ("early", "late"):
            np.testing.assert_array_equal(out[f"output.{name}"], want.outputs[name])
            first = legal.deciding(name)
            one = summarize(first, Trace(want.states, {name: want.outputs[name]}))
            np.testing.assert_array_equal(classes[f"output.{name}"], predict(first.output, one))


@pytest.mark.needs("lava")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("left.npy",), "left.npy: nothing for the input right eye: give right eye=FILE.npy"),
        (("left=left.npy", "right eye=left.npy"), r"left.npy: has the shape \(3, 9, 6\), not"),
        (("left=left.npy", "right eye=short.npy"), "the inputs differ in samples and steps"),
        (("left=left.npy", "right eye=high.npy"), "high.npy: runs from 0 to 4, the input takes 0"),
    ],
)
def test_input_that_does_not_fit(
    words: tuple[str, ...], says: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    _, received = package(rng, tmp_path)
    right = received["right eye"]
    saved = {
        "left": received["left"],
        "short": right[:, :5],
        "high": np.where(right == 3, 4, right),
    }
    for name, array in saved.items():
        np.save(tmp_path / f"{name}.npy", array)
    options = [word for path in words for word in ("--input", path)]
    done = called(tmp_path, *options, "--output", "out.npz")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.search(says, done.stderr)
    assert not (tmp_path / "out.npz").exists()


def test_there_is_no_net_file(rng: np.random.Generator) -> None:
    artifact = BACKEND.emit(BACKEND.legalize(cameras(rng)), BACKEND.devices["loihi2"], Plan({}))
    assert not [path for path in artifact.files if path.endswith(".net")]
    (reason,) = artifact.facts["netx"]["why_not"]
    assert reason == (
        "cameras: has 2 inputs and 2 outputs; a .net file is a chain with one of each; use the "
        "Lava package"
    )
    assert b"a .net file is a chain with one of each" in artifact.files["README.md"]


def test_what_cannot_be_read_is_refused_by_name(rng: np.random.Generator) -> None:
    graph = cameras(rng)
    nodes = (*graph.nodes, Output(name="copy", inputs=("right eye",)))
    with pytest.raises(LegalizeError) as refusal:
        BACKEND.legalize(Graph("cameras", nodes))
    assert refusal.value.reasons == ("copy: reads right eye, a Input; only neurons can be read",)


def test_each_input_has_axons_of_its_own(rng: np.random.Generator) -> None:
    """A layer that two inputs feed has an input axon for each element that it reads of either."""
    legal = BACKEND.legalize(cameras(rng))
    device = BACKEND.devices["loihi2"]
    mapping = mapped(legal, layers_of(legal), device)
    _, _, axons, _, _ = next(x for x in mapping.high.loads if x.name == "lif2").need(0, 5)
    assert axons == 8 + 12
    alone = legal.map(lambda node: replace(node, inputs=("fc2",)) if node.name == "lif2" else node)
    alone = replace(
        alone, nodes=tuple(n for n in alone.nodes if n.name not in ("fc3", "right eye"))
    )
    (fewer,) = (
        load.need(0, 5)[2]
        for load in mapped(alone, layers_of(alone), device).high.loads
        if load.name == "lif2"
    )
    assert fewer == 8
