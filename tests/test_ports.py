"""Networks of several inputs and outputs: what enters as one array, and every executor on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from networks import Network, describe
from qspinn import interp
from qspinn.engine.events import Events
from qspinn.engine.sweep import sweep
from qspinn.errors import QspinnError, VerifyError
from qspinn.ir import Array, Graph, Input, Linear, Neuron, Output, Param
from qspinn.ports import entering, parts, together
from qspinn.readout import Summary, summarize
from qspinn.simulate import simulate
from qspinn.storage import load, save
from qspinn.validate import compare, random_input

SEEDS = range(25)
PROFILES = ("wide", "wide any")
EVERY = [(profile, seed) for profile in PROFILES for seed in SEEDS]


@lru_cache(maxsize=len(EVERY))
def network(profile: str, seed: int) -> Network:
    return describe(seed, profile=profile)


def two() -> Graph:
    """Two inputs of different shapes, and two outputs."""
    return Graph(
        "two",
        (
            Input(name="left", shape=(2, 1, 2)),
            Input(name="right", shape=(3,), kind="count", high=4),
            Linear(name="fc", inputs=("left",), weight=Param(np.ones((3, 4)))),
            Output(name="sums", inputs=("fc",), readout="membrane_last"),
            Output(name="copy", inputs=("right",)),
        ),
    )


def test_one_array_for_all_inputs() -> None:
    graph = two()
    assert entering(graph.of_type(Input)) == (7,)
    data = np.arange(2 * 3 * 7).reshape(2, 3, 7)
    found = parts(graph, data)
    assert {name: part.shape for name, part in found.items()} == {
        "left": (2, 3, 2, 1, 2), "right": (2, 3, 3),
    }  # fmt: skip
    assert found["left"][0, 0].ravel().tolist() == [0, 1, 2, 3]
    assert found["right"][1, 2].tolist() == [39, 40, 41]
    assert np.array_equal(together(graph, found), data)


@pytest.mark.parametrize(
    ("received", "says"),
    [
        ({"left": (2, 3, 2, 1, 2)}, "has the inputs left, right, the data are for left"),
        ({"left": (2, 3, 2, 1, 2), "wrong": (2, 3, 3)}, "the data are for left, wrong"),
        ({"left": (2, 3, 4), "right": (2, 3, 3)}, r"left: data of shape \(2, 3, 4\) are not"),
        ({"left": (2, 3, 2, 1, 2), "right": (2, 4, 3)}, r"right: data .* as left has: \(2, 3\)"),
        ({"left": (2,), "right": (2, 3, 3)}, r"left: data of shape \(2,\)"),
    ],
)
def test_arrays_that_do_not_fit(received: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(QspinnError, match=says):
        together(two(), {name: np.zeros(shape) for name, shape in received.items()})


def test_each_input_has_its_own_range() -> None:
    profile, seed = next(
        (p, s) for p, s in EVERY if {n.kind for n in network(p, s).graph.of_type(Input)} > {"count"}
    )
    graph, data = network(profile, seed).graph, network(profile, seed).data
    spiking = next(node for node in graph.of_type(Input) if node.kind == "spike")
    received = {name: part.copy() for name, part in parts(graph, data).items()}
    received[spiking.name].flat[0] = 2
    wrong = together(graph, received)
    # Events tell of what was sent alone.
    for run in (interp.run, simulate, lambda g, d: simulate(g, Events.from_dense(d))):
        with pytest.raises(QspinnError, match=f"^{spiking.name}: data run from [01] to 2, outside"):
            run(graph, wrong)
    with pytest.raises(QspinnError, match="are not \\(batch, steps"):
        interp.run(graph, data[..., :-1])
    with pytest.raises(QspinnError, match="are not \\(samples, steps"):
        simulate(graph, data[..., :-1])


def test_the_first_output_decides() -> None:
    graph = two()
    assert graph.output.name == "sums"
    other = graph.deciding("copy")
    assert [node.name for node in other.of_type(Output)] == ["copy", "sums"]
    assert other.output.name == "copy"
    with pytest.raises(VerifyError, match="two has no output 'both'") as refusal:
        graph.deciding("both")
    assert "sums, copy" in refusal.value.hint


def require_equal(one: Summary, other: Summary) -> None:
    for name in ("counts", "first", "last", "highest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def every_way(data: Array) -> Iterator[Array | Events]:
    yield data
    yield Events.from_dense(data)


@pytest.mark.parametrize(
    "engine", ["numpy", pytest.param("numba", marks=pytest.mark.needs("numba"))]
)
@pytest.mark.parametrize(("profile", "seed"), EVERY)
def test_the_simulator_equals_the_reference(profile: str, seed: int, engine: str) -> None:
    made = network(profile, seed)
    want = interp.run(made.graph, made.data)
    wanted = summarize(made.graph, want)
    for data in every_way(made.data):
        result = simulate(made.graph, data, engine=engine, record="trace", threads=1)
        assert result.trace is not None
        mismatch = compare(want, result.trace)
        assert mismatch is None, str(mismatch)
        alone = simulate(made.graph, data, engine=engine, threads=1).summary
        (tally,) = sweep([made.graph], data, engine=engine, threads=1)
        for found in (result.summary, alone, tally.summary):
            require_equal(found, wanted)


@pytest.mark.needs("numba")
def test_many_graphs_on_the_same_inputs() -> None:
    """A sweep runs what differs alone, also where a part of the inputs is all that is read anew."""
    made = network("wide any", 3)
    last = made.graph.of_type(Neuron)[-1]
    copy = made.graph.map(lambda node: node.with_params(node.params()) if node is last else node)
    graphs = [made.graph, copy, made.graph.deciding(made.graph.of_type(Output)[-1].name)]
    for graph, tally in zip(graphs, sweep(graphs, made.data, threads=1), strict=True):
        require_equal(tally.summary, summarize(graph, interp.run(graph, made.data)))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("seed", SEEDS[:8])
def test_torch_equals_the_simulator(seed: int) -> None:
    from qspinn.engine import torched

    made = network("wide any", seed)
    (want,) = sweep([made.graph], made.data, operations=True)
    for data in every_way(made.data):
        (got,) = torched.sweep([made.graph], data, device="cpu")
        assert dict(got.spikes) == dict(want.spikes)
        assert dict(got.operations) == dict(want.operations)
        require_equal(got.summary, want.summary)


def test_directly_encoded_inputs_are_summed_once() -> None:
    made = network("wide any", 0)
    data = np.repeat(made.data[:, :1], made.data.shape[1], axis=1)
    want = interp.run(made.graph, data)
    for form in every_way(data):
        got = simulate(made.graph, form, record="trace", threads=1).trace
        assert got is not None
        assert compare(want, got) is None


def test_model_files_keep_them(tmp_path: Path) -> None:
    for profile, seed in EVERY[::7]:
        graph = network(profile, seed).graph
        save(graph, tmp_path / "net.qspinn")
        assert load(tmp_path / "net.qspinn").digest == graph.digest


def test_generated_input_fits_every_input() -> None:
    graph = two()
    data = random_input(graph, 20, 30, seed=1)
    found = parts(graph, data)
    assert (found["left"].max(), found["right"].max()) == (1, 4)
    assert found["right"].min() == 0
    assert np.array_equal(data, random_input(graph, 20, 30, seed=1))


COVERED = {
    "inputs:1": 3, "inputs:2": 15, "inputs:3": 12, "outputs:1": 4, "outputs:2": 15, "outputs:3": 12,
    "input reaches:a branch": 12, "input reaches:layer 1": 8, "input reaches:layer 2": 5,
    "input reaches:layer 3": 2, "output reads:others": 15, "output reads:the last neurons": 10,
    "output reads:a delay": 8,
}  # fmt: skip
"""In how many of the networks each occurs, at least."""


def test_what_the_networks_have() -> None:
    met: Counter[str] = Counter()
    fired = count = 0
    for profile, seed in EVERY:
        made = network(profile, seed)
        met.update(made.tags)
        kinds = {node.kind for node in made.graph.of_type(Input)}
        shapes = {len(node.shape) for node in made.graph.of_type(Input)}
        met.update({"kinds": len(kinds) > 1, "ranks": len(shapes) > 1})
        trace = interp.run(made.graph, made.data, record=False)
        fired += sum(np.count_nonzero(sent) for sent in trace.outputs.values())
        count += sum(sent.size for sent in trace.outputs.values())
    rare = {word: met[word] for word, least in COVERED.items() if met[word] < least}
    assert not rare
    assert met["kinds"] >= 10
    assert met["ranks"] >= 10
    assert fired > 0.05 * count
