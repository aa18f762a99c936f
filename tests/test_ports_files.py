"""Several inputs and outputs from files to a package: `.nir`, data with an array for each input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nirfiles as nf
from cli_runs import Run
from qspinn import datasets, interp, storage
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, QspinnError, VerifyError
from qspinn.evaluate import chunks
from qspinn.fixed import Overflow, to_int
from qspinn.frontends import load_model, repair
from qspinn.ir import Array, Graph, Input, Output
from qspinn.job import prepare
from qspinn.ports import parts, together

SAMPLES, STEPS = 40, 10
ASKED = ("--dt", "1e-3", "--dialect", "nir", "--reset", "zero", "--r-scale", "jump")
OPTIONS: dict[str, Any] = {"dt": 1e-3, "dialect": "nir", "reset": "zero", "r_scale": "jump"}
SHAPES = {"camera": (2, 3, 3), "sound": (5,)}


def network(path: Path, *, deep: bool = True, **changed: Any) -> Path:
    """Two inputs, of which one enters a layer deeper unless told not to; early and late outputs."""
    rng = np.random.default_rng(7)
    into, size = ("lif2", 4) if deep else ("lif1", 8)
    nodes = {
        "camera": nf.inlet(2, 3, 3), "sound": nf.inlet(5),
        "fc1": nf.linear(rng.normal(0.2, 0.5, (8, 18))), "lif1": nf.lif(8),
        "fc2": nf.linear(rng.normal(0.2, 0.6, (4, 8))),
        "fc3": nf.linear(rng.normal(0.2, 0.6, (size, 5))), "lif2": nf.lif(4),
        "kind": nf.outlet(4), "early": nf.outlet(8), **changed,
    }  # fmt: skip
    edges = [
        ("camera", "fc1"), ("fc1", "lif1"), ("lif1", "fc2"), ("fc2", "lif2"), ("sound", "fc3"),
        ("fc3", into), ("lif2", "kind"), ("lif1", "early"),
    ]  # fmt: skip
    return nf.write(path, nodes, edges)


def arrays(*, spikes: bool = True) -> dict[str, Array]:
    rng = np.random.default_rng(8)
    lead = (SAMPLES, STEPS) if spikes else (SAMPLES,)
    found = {f"input.{name}": rng.random((*lead, *shape)) for name, shape in SHAPES.items()}
    if spikes:
        found = {name: (values < 0.3).astype(np.uint8) for name, values in found.items()}
    return {**found, "y": rng.integers(0, 4, SAMPLES)}


def saved(path: Path, **given: Array) -> Path:
    with path.open("wb") as file:
        np.savez(file, **given)  # type: ignore[arg-type]
    return path


# --- data files ---


def test_each_input_has_an_array(tmp_path: Path) -> None:
    given = arrays()
    data = datasets.load(saved(tmp_path / "d.npz", **given))
    graph = load_model(network(tmp_path / "net.nir"), **OPTIONS).graph
    index = np.array([3, 0])
    for steps in (0, 6, 14):
        found = parts(graph, data.entering(graph, index, encoded=True, steps=steps))
        for name in SHAPES:
            want = given[f"input.{name}"][index]
            length = steps or STEPS
            assert found[name].shape == (2, length, *SHAPES[name])
            np.testing.assert_array_equal(found[name][:, :STEPS], want[:, :length])
            assert not found[name][:, STEPS:].any()
    shut = data.without("report")
    with pytest.raises(QspinnError, match="part was asked for; the part is shut"):
        shut.entering(graph, data.part("report"), encoded=True)


def test_values_are_encoded_alike(tmp_path: Path) -> None:
    """The draws of an input do not depend on how its file came, joined or apart."""
    given = arrays(spikes=False)
    apart = datasets.load(saved(tmp_path / "a.npz", **given))
    graph = load_model(network(tmp_path / "net.nir"), **OPTIONS).graph
    rows = [given[f"input.{node.name}"].reshape(SAMPLES, -1) for node in graph.of_type(Input)]
    index = np.arange(5)
    for kind in ("rate", "latency"):
        ((found, _),) = chunks(graph, apart, Encoder(kind, 7, gain=0.7), index)
        one = Graph("one", (Input(name="x", shape=(23,)),))
        joined = datasets.load(saved(tmp_path / "b.npz", x=np.concatenate(rows, 1)))
        ((want, _),) = chunks(one, joined, Encoder(kind, 7, gain=0.7), index)
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"input.sound": None}, "d.npz: lacks input.sound"),
        ({"input.more": np.zeros((SAMPLES, STEPS, 2))}, "has more, which net has no input for"),
        ({"input.sound": np.zeros((SAMPLES, STEPS, 4))}, r"d.npz: input.sound: holds samples of"),
        ({"input.sound": np.zeros((7, STEPS, 5))}, "different numbers of samples: input.camera 40"),
        ({"x": np.zeros((SAMPLES, 23))}, "give x, or an array for each input"),
        ({"input.sound": np.full((SAMPLES, STEPS, 5), np.nan)}, "input.sound holds NaN"),
        ({"input.sound": np.array(["a"])}, "input.sound is <U1 of shape"),
        ({"input.sound": np.zeros((SAMPLES, 4, 5))}, "sound: data of shape .* are not"),
    ],
)
def test_data_that_do_not_fit(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    given = {k: v for k, v in {**arrays(), **changed}.items() if v is not None}
    graph = load_model(network(tmp_path / "net.nir"), **OPTIONS).graph
    with pytest.raises(Exception, match=says) as refusal:
        datasets.load(saved(tmp_path / "d.npz", **given)).entering(
            graph, np.arange(2), encoded=True
        )
    assert type(refusal.value).__module__ == "qspinn.errors"


def test_one_array_is_not_enough(tmp_path: Path) -> None:
    graph = load_model(network(tmp_path / "net.nir"), **OPTIONS).graph
    data = datasets.load(saved(tmp_path / "d.npz", x=np.zeros((4, STEPS, 23))))
    with pytest.raises(FrontendError, match="holds one array, x; net has 2 inputs") as refusal:
        data.entering(graph, np.arange(2), encoded=True)
    assert refusal.value.hint == "give an array for each: input.camera, input.sound"


def test_events_count_through_all_inputs(tmp_path: Path) -> None:
    graph = load_model(network(tmp_path / "net.nir"), **OPTIONS).graph
    events = {"t": np.array([0, 1]), "i": np.array([0, 20]), "offsets": np.array([0, 2])}
    data = datasets.load(saved(tmp_path / "d.npz", **events))
    found = parts(graph, data.entering(graph, np.array([0]), encoded=True, steps=3))
    assert found["camera"][0, 0, 0, 0, 0] == found["sound"][0, 1, 2] == 1
    assert sum(part.sum() for part in found.values()) == 2


# --- NIR files ---


def test_a_file_with_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    imported = load_model(network(tmp_path / "net.nir"), **OPTIONS)
    graph = imported.graph
    assert [(n.name, n.shape) for n in graph.of_type(Input)] == list(SHAPES.items())
    assert [n.name for n in graph.of_type(Output)] == ["early", "kind"]
    notes = {a.subject: a.value for a in imported.assumptions}
    assert notes["readout of early"] == notes["readout of kind"] == "count"
    assert "camera" in notes
    assert "sound" in notes


def test_each_port_says_what_it_is(tmp_path: Path) -> None:
    """Metadata of a node say what one input carries, and how one output is read."""
    said = {"metadata/qspinn/input_kind": "count", "metadata/qspinn/input_high": 7}
    path = network(
        tmp_path / "net.nir", sound={**nf.inlet(5), **said},
        early={**nf.outlet(8), "metadata/qspinn/readout": "first_spike"},
    )  # fmt: skip
    graph = load_model(path, **OPTIONS).graph
    assert {n.name: (n.kind, n.high) for n in graph.of_type(Input)} == {
        "camera": ("spike", 1), "sound": ("count", 7),
    }  # fmt: skip
    assert {n.name: n.readout for n in graph.of_type(Output)} == {
        "early": "first_spike", "kind": "count",
    }  # fmt: skip
    # An option is for those it suits.
    graded = network(tmp_path / "b.nir", lif1=nf.node("LI", tau=np.ones(8) * 0.01, r=np.ones(8),
                                                     v_leak=np.zeros(8)))  # fmt: skip
    mixed = load_model(graded, **OPTIONS, readout="membrane_max").graph
    assert {n.name: n.readout for n in mixed.of_type(Output)} == {
        "early": "membrane_max", "kind": "count",
    }  # fmt: skip


def test_a_file_written_anew_means_the_same(tmp_path: Path) -> None:
    said = {"metadata/qspinn/input_kind": "count", "metadata/qspinn/input_high": 7}
    path = network(tmp_path / "net.nir", sound={**nf.inlet(5), **said})
    made = repair(path, **OPTIONS)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "net.nir").write_bytes(made.content)
    again = load_model(tmp_path / "new" / "net.nir").graph
    want = load_model(path, **OPTIONS).graph
    assert [n.name for n in again.of_type(Output)] == [n.name for n in want.of_type(Output)]
    rng = np.random.default_rng(1)
    data = {"camera": rng.random((3, 12, 2, 3, 3)) < 0.3, "sound": rng.integers(0, 8, (3, 12, 5))}
    one, other = (
        interp.run(g, together(g, {k: v.astype(float) for k, v in data.items()}))
        for g in (want, again)
    )
    assert sum(values.sum() for values in one.outputs.values()) > 20
    for name, values in one.outputs.items():
        np.testing.assert_array_equal(other.outputs[name], values)


def test_an_input_that_nothing_needs(tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir", more=nf.inlet(2))
    with pytest.raises(FrontendError, match="more: no output depends on it"):
        load_model(path, **OPTIONS)


# --- the command line, end to end ---


def test_which_output_decides(tmp_path: Path) -> None:
    path, data = network(tmp_path / "net.nir"), saved(tmp_path / "d.npz", **arrays())
    job = prepare(path, data, encode={"kind": "none"}, options={**OPTIONS, "decide": "kind"})
    assert job.graph.output.name == "kind"
    assert job.notes == (
        "of the outputs kind, early the first decides: accuracy is what kind answers (--decide "
        "names another)",
    )
    with pytest.raises(VerifyError, match="net has no output 'more'"):
        prepare(path, data, encode={"kind": "none"}, options={**OPTIONS, "decide": "more"})


@pytest.mark.needs("lava")
def test_from_a_nir_file_to_classes(qspinn: Run, tmp_path: Path) -> None:
    """Compiled, proved in Lava, checked, and run as the package's README says."""
    path, out = network(tmp_path / "net.nir"), tmp_path / "out"
    given = {**arrays(), "split": np.repeat([0, 2], SAMPLES // 2)}
    data = saved(tmp_path / "d.npz", **given)
    qspinn("compile", path, *ASKED, "--data", data, "--encode", "none", "--decide", "kind",
           "--target", "loihi", "-o", out)  # fmt: skip
    done = qspinn("validate", out, "--data", data, "--samples", "3", "--executor", "lava")
    assert re.search(r"lava +3 +10 .* equal", done.err)
    facts = json.loads((out / "manifest.json").read_text())["facts"]
    assert facts["outputs"] == {"kind": "count", "early": "count"}
    assert facts["readout"] == "count"
    command = [sys.executable, "-B", "run.py", "--models", "--input", str(data), "--output",
               str(tmp_path / "o.npz"), "--decide", str(tmp_path / "c.npz")]  # fmt: skip
    subprocess.run(command, cwd=out, check=True, timeout=300)
    graph = storage.load(out / "graph.qspinn")
    received = {name: given[f"input.{name}"].astype(np.int64) for name in SHAPES}
    trace = interp.run(graph, together(graph, received))
    with np.load(tmp_path / "o.npz") as sent, np.load(tmp_path / "c.npz") as classes:
        for name in ("kind", "early"):
            np.testing.assert_array_equal(sent[f"output.{name}"], trace.outputs[name])
            counts = trace.outputs[name].sum(1)
            np.testing.assert_array_equal(classes[f"output.{name}"], counts.argmax(1))
    right = (trace.outputs["kind"].sum(1).argmax(1) == given["y"])[SAMPLES // 2 :].mean()
    accuracy = json.loads((out / "manifest.json").read_text())["accuracy"]
    assert accuracy["integer"]["value"] == pytest.approx(right)


@pytest.mark.needs("lava")
@pytest.mark.parametrize("encoder", ["rate", "direct"])
def test_values_at_every_input(qspinn: Run, encoder: str, tmp_path: Path) -> None:
    path, out = network(tmp_path / "net.nir", deep=encoder == "rate"), tmp_path / "out"
    data = saved(tmp_path / "d.npz", **arrays(spikes=False))
    qspinn("compile", path, *ASKED, "--data", data, "--encode", encoder, "--steps", "8",
           "--target", "loihi", "-o", out)  # fmt: skip
    kinds = {node.kind for node in storage.load(out / "graph.qspinn").of_type(Input)}
    assert kinds == {"current" if encoder == "direct" else "spike"}
    done = qspinn("validate", out, "--data", data, "--samples", "2", "--executor", "lava-models")
    assert re.search(r"lava-models +2 +8 .* equal", done.err)


def test_without_data(qspinn: Run, tmp_path: Path) -> None:
    path, out = network(tmp_path / "net.nir"), tmp_path / "out"
    qspinn("compile", path, *ASKED, "--target", "loihi", "-o", out)
    assert {node.name for node in storage.load(out / "graph.qspinn").of_type(Input)} == set(SHAPES)


@pytest.mark.needs("numba")
@pytest.mark.parametrize("encoder", ["none", "direct"])
def test_a_search_over_several_inputs(qspinn: Run, encoder: str, tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir", deep=encoder == "none")
    data = saved(tmp_path / "d.npz", **arrays(spikes=encoder == "none"))
    steps = () if encoder == "none" else ("--steps", "6")
    out = tmp_path / "out"
    done = qspinn("compile", path, *ASKED, "--data", data, "--encode", encoder, *steps, "--target",
                  "loihi", "--max-drop", "90%", "--evaluations", "12", "-o", out)  # fmt: skip
    assert "Accuracy on the report part" in done.err
    assert (out / "explore" / "front.json").is_file()


def test_training_takes_one_input(tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir")
    data = saved(tmp_path / "d.npz", **arrays())
    pytest.importorskip("torch")
    from qspinn.backend import backend
    from qspinn.errors import PlanError
    from qspinn.explore.schemes import Lessons
    from qspinn.job import plan_for
    from qspinn.train.fitting import fit
    from qspinn.train.scheme import itq

    job = prepare(path, data, encode={"kind": "none"}, options=OPTIONS)
    assert job.dataset is not None
    says = "net: has 2 inputs; only networks with one are trained"
    with pytest.raises(PlanError, match=says):
        itq(Lessons(job.dataset, seed=0, graph=job.graph))
    with pytest.raises(PlanError, match=says):
        fit(job.graph, plan_for(job, backend("loihi")), job.dataset, job.encoder)


@pytest.mark.needs("lava")
def test_values_beside_spikes(qspinn: Run, tmp_path: Path) -> None:
    """One input is given values in every step, the other spikes; the file says which."""
    said = {"metadata/qspinn/input_kind": "current"}
    path = network(tmp_path / "net.nir", deep=False, sound={**nf.inlet(5), **said})
    given = arrays()
    given["input.sound"] = np.random.default_rng(2).normal(0, 0.3, (SAMPLES, STEPS, 5))
    data, out = saved(tmp_path / "d.npz", **given), tmp_path / "out"
    done = qspinn("compile", path, *ASKED, "--data", data, "--encode", "none", "--target", "loihi",
                  "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    graph = storage.load(out / "graph.qspinn")
    assert {n.name: n.kind for n in graph.of_type(Input)} == {"camera": "spike", "sound": "current"}
    done = qspinn("validate", out, "--data", data, "--samples", "2", "--executor", "lava-models")
    assert re.search(r"lava-models +2 +10 .* equal", done.err)
    ((fed, _),) = chunks(graph, datasets.load(data), Encoder("none"), np.arange(3))
    fmt = next(n.fmt for n in graph.of_type(Input) if n.name == "sound")
    want = to_int(given["input.sound"][:3], fmt, overflow=Overflow.SATURATE)
    np.testing.assert_array_equal(parts(graph, fed)["sound"], want)
