"""The graph: its rules, its text and its file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from networks import random_network
from qspinn import storage
from qspinn.dynamics import trace
from qspinn.errors import FrontendError, QspinnError, VerifyError
from qspinn.fixed import Interval, QFormat, Rounding
from qspinn.interp import run
from qspinn.ir import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    Param,
    Scale,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.signals import Signal, signals
from qspinn.text import text
from qspinn.verify import verify

BYTE, WORD = QFormat(8, 6), QFormat(16, 6)


def integers(shape: tuple[int, ...], fmt: QFormat = BYTE) -> Param:
    size = int(np.prod(shape))
    return Param(np.arange(size).reshape(shape) % 7 - 3, fmt)


def lif(name: str, source: str, shape: tuple[int, ...], **options: Any) -> Neuron:
    model = spiking(**options)
    values = {
        p: Param(np.array(4), QFormat(8, 3, signed=False)) if "decay" in p else integers((), WORD)
        for p in model.params
    }
    states = {s: State(Param(0, WORD), WORD) for s in model.states}
    return Neuron(
        name=name, inputs=(source,), shape=shape, model=model, values=values, states=states
    )


def small() -> Graph:
    """Two layers, the second one recurrent."""
    return Graph(
        "small",
        (
            Input(name="in", shape=(3,)),
            Linear(name="fc1", inputs=("in",), weight=integers((4, 3)), bias=integers((4,))),
            lif("lif1", "fc1", (4,)),
            Delay(name="back", inputs=("lif2",), shape=(2,), steps=2),
            Linear(name="rec", inputs=("back",), weight=integers((2, 2))),
            Linear(name="fc2", inputs=("lif1",), weight=integers((2, 4))),
            replace(lif("lif2", "fc2", (2,), timing="next_discard"), inputs=("fc2", "rec")),
            Output(name="out", inputs=("lif2",)),
        ),
    )


def changed(name: str, **options: Any) -> Graph:
    return small().map(lambda node: replace(node, **options) if node.name == name else node)


def with_state(name: str, **options: Any) -> Graph:
    node = small()["lif1"]
    assert isinstance(node, Neuron)
    return changed("lif1", states={**node.states, name: replace(node.states[name], **options)})


def with_value(name: str, param: Param) -> Graph:
    node = small()["lif1"]
    assert isinstance(node, Neuron)
    return changed("lif1", values={**node.values, name: param})


def image(*nodes: Node, kind: str = "count") -> Graph:
    """A graph with a picture for its input and an idle weight that makes it an integer one."""
    first = Input(name="in", shape=(4, 6, 5), kind=kind, high=3 if kind == "count" else 1)
    return Graph("image", (first, *nodes, Scale(name="idle", inputs=("in",), scale=integers(()))))


# --- the graph ---


def test_nodes_are_found_by_name_and_type() -> None:
    graph = small()
    assert graph["fc1"].name == "fc1"
    assert [n.name for n in graph.of_type(Linear)] == ["fc1", "rec", "fc2"]
    assert [n.name for n in graph.users("lif2")] == ["back", "out"]
    assert (graph.input.name, graph.output.name) == ("in", "out")
    assert graph.is_integer
    with pytest.raises(VerifyError, match="small has no node 'fc3'"):
        graph["fc3"]
    with pytest.raises(VerifyError, match="small has 2 Input nodes, not 1"):
        replace(graph, nodes=(*graph.nodes, Input(name="i2", shape=(1,)))).input  # noqa: B018


def test_nothing_can_be_changed() -> None:
    graph = small()
    with pytest.raises(FrozenInstanceError):
        graph.name = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        graph["fc1"].params()["weight"].values[0, 0] = 1
    source = np.ones((2, 2))
    param = Param(source)
    source[0, 0] = 5
    assert param.values[0, 0] == 1


def test_parameters_are_replaced_by_name() -> None:
    for name, parameter in (("fc1", "bias"), ("lif1", "threshold")):
        node = small()[name]
        new = integers((), WORD)
        assert node.with_params({parameter: new}).params()[parameter] is new
        assert node.params()[parameter] is not new


def test_an_origin_names_the_node_in_a_plan() -> None:
    node = small()["fc1"]
    assert (node.path, replace(node, origin="fc").path) == ("fc1", "fc")


# --- its rules ---

LINEAR = Linear(name="fc", inputs=("in",), weight=integers((2, 120)))
CONV = Conv2d(name="c", inputs=("in",), weight=integers((2, 4, 3, 3)))
POOL = SumPool2d(name="p", inputs=("in",), kernel=(2, 2), stride=(2, 2))
NAN = Param(np.array([1.0, np.nan, np.inf]))
BROKEN: list[tuple[Graph, str]] = [
    # names and order
    (replace(small(), nodes=(*small().nodes, small()["fc1"])), "fc1: two nodes have this name"),
    (changed("fc1", inputs=("x",)), "fc1: reads 'x', which is not in the graph"),
    (changed("fc1", inputs=("lif1",)), "fc1: reads 'lif1' before it is computed"),
    (replace(small(), start="warm"), "small starts 'warm', not one of"),
    # arity
    (changed("fc1", inputs=("in", "in")), "fc1: Linear takes 1 inputs, not 2"),
    (changed("in", inputs=("lif2",)), "in: reads 'lif2' before"),
    (changed("lif1", inputs=()), "lif1: Neuron takes 1 inputs, not 0"),
    # parameters
    (changed("fc1", weight=NAN), "fc1: weight holds 2 NaN or infinite values of 3"),
    (changed("fc1", weight=Param(np.zeros((0, 3)))), "fc1: weight is empty"),
    (changed("fc1", weight=Param(np.full((4, 3), 128), BYTE)), "weight runs from 128 to 128, outs"),
    (changed("fc1", weight=Param(np.ones((4, 3)))), "small mixes float and integer"),
    (changed("fc1", weight=integers((4, 3), QFormat.parse("leak3"))), "weight"),
    (with_value("threshold", Param(np.array(3), QFormat.parse("leak3"))), "lif1: threshold: only"),
    (with_value("threshold", integers((3,))), r"lif1: threshold of shape \(3,\) does not broadcas"),
    (changed("lif1", values={}), r"lif1: LIF has parameters \('decay', 'threshold'\)"),
    (changed("lif1", states={}), r"lif1: .* and states \('v',\), not"),
    # states
    (with_state("v", fmt=None), "small mixes float and integer parameters or states"),
    (with_state("v", fmt=QFormat.parse("leak3")), "v: a state cannot have the leak format"),
    (with_state("v", init=Param(0.0)), "lif1: v starts from real values, is stored as s16f6"),
    (
        with_state("v", init=Param(0, BYTE), fmt=QFormat(8, 2)),
        "starts from s8f6 values, is stored as s8f2",
    ),
    (with_state("v", init=Param(200, WORD), fmt=BYTE), "v runs from 200 to 200, outside s8f6"),
    (with_state("v", init=integers((3,), WORD)), r"v of shape \(3,\) does not broadcast to \(4,\)"),
    # sources
    (changed("in", kind="event"), "in: Input: the kind is one of .*, not 'event'"),
    (changed("in", high=3), "in: Input: a spike is never at most 3"),
    (changed("in", kind="count", high=0), "in: Input: a count is never at most 0"),
    (changed("in", shape=(0,)), r"in: Input: \(0,\) is no shape"),
    (changed("in", shape=()), r"in: Input: \(\) is no shape"),
    (changed("in", kind="current"), "in: an integer graph's current has a format"),
    (changed("back", steps=0), "back: a delay lasts at least 1 step, not 0"),
    (changed("back", kind="current"), "back: Delay: the kind is one of .*, not 'current'"),
    (changed("back", kind="count", high=3), r"back: delays count\(2,\), reads spike\(2,\)"),
    (changed("back", shape=(3,)), r"rec: weight \(2, 2\) does not fit an input of 3"),
    # readouts
    (changed("out", readout="majority"), "out: a readout is one of"),
    (changed("out", readout="membrane_last"), "out: the readout 'membrane_last' does not read a"),
    (changed("out", inputs=("fc2",)), "out: the readout 'count' does not read a current"),
    # shapes
    (changed("fc1", weight=integers((4, 2))), r"fc1: weight \(4, 2\) does not fit an input of 3"),
    (
        changed("fc1", bias=integers((3,))),
        r"fc1: bias of shape \(3,\) does not broadcast to \(4,\)",
    ),
    (
        changed("fc1", weight=integers((5, 3)), bias=None),
        r"lif1: the neurons have shape \(4,\), an",
    ),
    (changed("lif2", inputs=("fc2", "lif1")), r"lif2: the neurons have shape \(2,\), an input"),
    (changed("lif2", inputs=("rec", "back")), "lif2: neurons take currents; put a connection"),
    (image(LINEAR, replace(LINEAR, name="l2", inputs=("fc",))), "l2: weight .* an input of 2"),
    (image(Flatten(name="f", inputs=("in",), start=2, end=1)), "f: cannot flatten dimensions 2 to"),
    (
        image(replace(CONV, weight=integers((2, 3, 3, 3)))),
        r"c: weight \(2, 3, 3, 3\) with 1 groups",
    ),
    (image(replace(CONV, weight=integers((3, 2, 3, 3)), groups=2)), "with 2 groups does not fit 4"),
    (image(replace(CONV, groups=0)), "with 0 groups does not fit 4 channels"),
    (image(replace(CONV, weight=integers((2, 4, 7, 3)))), "c: a window of 7 does not fit 6"),
    (image(replace(CONV, bias=integers((3,)))), r"c: bias of shape \(3,\) does not broadcast"),
    (image(replace(CONV, stride=(0, 1))), "c: a window of 3 cannot have stride 0, dilation 1"),
    (image(replace(CONV, padding=(0, -1))), "c: a window of 3 cannot have .* padding -1"),
    (image(replace(CONV, dilation=(1, 0))), "c: a window of 3 cannot have .* dilation 0"),
    (
        image(Conv1d(name="c", inputs=("in",), weight=integers((2, 4, 3)))),
        "needs an input of 2 dim",
    ),
    (
        image(LINEAR, replace(CONV, inputs=("fc",))),
        r"c: needs an input of 3 dimensions, not \(2,\)",
    ),
    (image(replace(POOL, padding=(2, 0))), r"p: padding \(2, 0\) exceeds half of the window"),
    (image(replace(POOL, stride=(1, 0))), "p: a window of 2 cannot have stride 0"),
    (image(replace(POOL, kernel=(2, 9))), "p: a window of 9 does not fit 5"),
    (
        image(AvgPool2d(name="p", inputs=("in",), kernel=(2, 2), stride=(1, 1))),
        "p: an integer graph",
    ),
    (
        image(CONV, MaxPool2d(name="p", inputs=("c",), kernel=(2, 2), stride=(1, 1))),
        "p: MaxPool2d t",
    ),
    (image(Scale(name="s", inputs=("in",), scale=integers((3, 1, 1)))), "s: scale of shape"),
    (image(Scale(name="s", inputs=("in",), scale=integers((1, 4, 6, 5)))), "s: scale of shape"),
]


def cases() -> list[Any]:
    return [pytest.param(graph, what, id=what[:40]) for graph, what in BROKEN]


@pytest.mark.parametrize(("graph", "what"), cases())
def test_a_broken_graph_is_refused_by_name(graph: Graph, what: str) -> None:
    with pytest.raises(QspinnError, match=what) as found:
        verify(graph)
    assert isinstance(found.value, VerifyError)


def test_good_graphs_pass_unchanged() -> None:
    for graph in (small(), image(CONV), image(POOL)):
        assert verify(graph) is graph
    for profile in ("any", "loihi"):
        for seed in range(30):
            graph, _ = random_network(seed, profile=profile)
            assert verify(graph) is graph


def test_a_delay_must_hold_what_it_delays() -> None:
    pool = replace(POOL, kernel=(2, 2), stride=(1, 1))
    delay = Delay(name="d", inputs=("p",), shape=(4, 5, 4), kind="count", high=12)
    assert verify(image(pool, delay))
    with pytest.raises(VerifyError, match=r"d: delays values up to 11, reads \[0, 12\]"):
        verify(image(pool, replace(delay, high=11)))


def test_a_sum_needs_at_most_63_bits_and_is_counted_exactly() -> None:
    """Python integers, not int64: a bound that wrapped around would look small."""
    big = QFormat(32, 0)
    for high, fits in ((2**30, True), (2**31, False), (2**40, False)):
        graph = Graph(
            "wide",
            (
                Input(name="in", shape=(2,), kind="count", high=high),
                Linear(name="fc", inputs=("in",), weight=Param(np.full((1, 2), 2**31 - 1), big)),
            ),
        )
        if fits:
            verify(graph)
        else:
            with pytest.raises(
                VerifyError, match=r"fc: a value of \[0, .*\] needs [67]\d bits, the l"
            ):
                verify(graph)


def test_a_graded_neuron_sends_a_state() -> None:
    def body(n: Any) -> None:
        n.v = n.v + n.a
        n.y = n.v + n.a

    model = trace(body, name="odd", states="v", params="", out="y", sends="current")
    node = replace(lif("n", "fc", (2,)), model=model, values={})
    with pytest.raises(VerifyError, match="n: odd sends a value that is no state"):
        verify(image(LINEAR, node))


def test_the_type_of_an_edge() -> None:
    found = signals(small())
    assert found["lif1"] == Signal((4,), "spike", Interval(0, 1))
    assert (found["fc1"].kind, found["fc1"].frac, found["fc1"].size) == ("current", 6, 4)
    assert found["back"].interval == Interval(0, 1)


# --- its text ---


def test_text_of_a_small_network(golden: str) -> None:
    graph = small()
    lowered = replace(
        graph, start="cold", shifts={"lif1": 1},
        nodes=tuple(replace(n, origin="fc") if n.name == "fc1" else n for n in graph.nodes),
    )  # fmt: skip
    assert text(lowered) == golden


def test_text_of_a_float_network(golden: str) -> None:
    def real(node: Node) -> Node:
        if isinstance(node, Neuron):
            states = {k: State() for k in node.states}
            values = {k: Param(p.real) for k, p in node.values.items()}
            return replace(node, values=values, states=states)
        return node.with_params({k: Param(p.real) for k, p in node.params().items()})

    assert text(small().map(real)) == golden


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_text_of_random_networks(seed: int, golden: str) -> None:
    """Pins the generator as well: these networks are everybody's test data."""
    graph, _ = random_network(seed)
    assert text(graph) == golden


def test_text_of_every_node(golden: str) -> None:
    pools = [
        kind(name=kind.__name__.lower(), inputs=("in",), kernel=(2, 2), stride=(2, 1))
        for kind in (SumPool2d, AvgPool2d, MaxPool2d)
    ]
    graph = image(
        CONV,
        replace(
            CONV, name="c2", stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=integers((2,))
        ),
        *pools,
        Flatten(name="flat", inputs=("in",), start=1),
        Conv1d(name="c1", inputs=("flat",), weight=integers((2, 2, 3)), groups=2),
        Linear(
            name="w", inputs=("c1",), weight=Param(integers((3, 56)).values, BYTE, Rounding.ZERO)
        ),
        replace(lif("li", "w", (3,)), model=integrator(), values={"decay": integers((3,))}),
        Output(name="out", inputs=("li",), readout="membrane_max"),
    )
    assert text(graph) == golden


def test_equal_texts_of_large_tensors_mean_equal_values() -> None:
    graph = small()
    weight = graph["fc1"].params()["weight"]
    other = replace(weight, values=np.where(weight.values == 2, 1, weight.values))
    assert text(graph) != text(changed("fc1", weight=other))


# --- its identity and its file ---


def test_the_digest_is_the_identity() -> None:
    assert small().digest == small().digest
    variants = [
        changed("fc1", weight=integers((4, 3), QFormat(9, 6))),
        changed("fc1", weight=replace(integers((4, 3)), rounding=Rounding.ZERO)),
        changed("fc1", bias=None),
        changed("back", steps=3),
        changed("out", readout="first_spike"),
        with_state("v", rounding=Rounding.ZERO),
        replace(small(), name="other"),
        replace(small(), start="cold"),
        replace(small(), shifts={"lif1": 1}),
        small(),
    ]
    assert len({g.digest for g in variants}) == len(variants)


def stored(graph: Graph, tmp_path: Path) -> Graph:
    path = tmp_path / "graph.qspinn"
    storage.save(graph, path)
    return storage.load(path)


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    for profile in ("any", "loihi"):
        for seed in range(25):
            graph, data = random_network(seed, profile=profile)
            again = stored(graph, tmp_path)
            assert again.digest == graph.digest
            assert text(again) == text(graph)
            assert np.array_equal(run(again, data).output, run(graph, data).output)
    lowered = replace(small(), start="cold", shifts={"lif1": 1, "lif2": 3})
    assert stored(lowered, tmp_path).shifts == lowered.shifts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.qspinn"]


def test_real_values_are_stored_exactly(tmp_path: Path) -> None:
    values = np.array([[0.1, -1e-300, 1 / 3, np.pi]])
    graph = Graph("f", (Input(name="in", shape=(4,)),
                        Linear(name="fc", inputs=("in",), weight=Param(values))))  # fmt: skip
    again = stored(graph, tmp_path)["fc"].params()["weight"]
    assert again.fmt is None
    assert again.values.tobytes() == values.tobytes()


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        storage.save(small(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, or with any byte changed: an error of ours, or the same graph."""
    path = tmp_path / "graph.qspinn"
    storage.save(small(), path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:n] for n in (0, 1, 50, len(whole) // 2, len(whole) - 1)]
    flipped = []
    for at in rng.integers(0, len(whole), 400):
        bad = bytearray(whole)
        bad[at] ^= int(rng.integers(1, 256))
        flipped.append(bytes(bad))
    refused = 0
    for bad in cut + flipped:
        path.write_bytes(bad)
        try:
            graph = storage.load(path)
        except FrontendError:
            refused += 1
        else:
            assert graph.digest == small().digest
    assert refused > 300


def edited(path: Path, change: Callable[[dict[str, Any]], Any], drop: str = "") -> None:
    """Rewrite the document inside a stored graph."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != drop}
    document = json.loads(members["graph.json"])
    members["graph.json"] = json.dumps(change(document) or document).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())


def set_at(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (set_at("format", value=99), "has format 99, not 1"),
        (lambda d: [d], "is not a qspinn graph"),
        (lambda d: {"format": 1}, "is not a qspinn graph"),
        (lambda d: {"format": 1, "graph": "hello"}, "holds no graph"),
        (set_at("graph", "nodes", 0, "is", value="os"), "is not a qspinn graph"),
        (set_at("graph", "nodes", 0, "bad", value=1), "is not a qspinn graph"),
        (
            set_at("graph", "nodes", 1, "weight", "fmt", "value", value="s99f0"),
            "not a qspinn graph",
        ),
        (set_at("graph", "nodes", 1, "weight", "fmt", "value", value=7), "is not a qspinn graph"),
        (set_at("graph", "nodes", 1, "weight", "rounding", "value", value="up"), "not a qspinn"),
        (
            set_at("graph", "nodes", 1, "weight", "values", "value", value=99),
            "is not a qspinn graph",
        ),
        (set_at("graph", "nodes", 1, "weight", "values", value="text"), "is not a qspinn graph"),
        (set_at("graph", "nodes", 1, "weight", value=None), "is not a qspinn graph"),
        (set_at("graph", "nodes", 1, "inputs", value=["nobody"]), "is not a qspinn graph"),
        (set_at("graph", "nodes", 3, "steps", value="two"), "is not a qspinn graph"),
        (set_at("graph", "nodes", value=[]), None),
    ],
)
def test_a_document_that_means_nothing_is_refused(
    change: Callable[[dict[str, Any]], Any], what: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "graph.qspinn"
    storage.save(small(), path)
    edited(path, change)
    if what is None:
        assert storage.load(path).nodes == ()
        return
    with pytest.raises(FrontendError, match=what):
        storage.load(path)


def test_missing_arrays_and_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.qspinn"
    with pytest.raises(FrontendError, match=r"graph\.qspinn: is not a qspinn graph"):
        storage.load(path)
    storage.save(small(), path)
    edited(path, lambda d: None, drop="3.npy")
    with pytest.raises(FrontendError, match="is not a qspinn graph"):
        storage.load(path)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.qspinn"
    storage.save(small(), path)
    member = io.BytesIO()
    np.save(member, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**members, "0.npy": member.getvalue()}.items():
            archive.writestr(name, data)
    with pytest.raises(FrontendError, match="is not a qspinn graph"):
        storage.load(path)
