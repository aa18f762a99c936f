"""`inspect --fix`: a clean file of the same network, for any reader and without options."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nirfiles as nf
from cli_runs import Run
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends import load_model, repair
from qspinn.ir import Graph

ASKED: dict[str, dict[str, Any]] = {
    "lif_norse": {"dt": 1e-4},
    "nir-hist__braille_subgraph": {"dt": 1.0, "dialect": "norse"},
    "braille_noDelay_bias_zero": {"reset": "zero"},
    "braille_noDelay_bias_zero_subgraph": {"reset": "zero"},
    "braille_noDelay_noBias_subtract": {"reset": "subtract"},
    "braille_noDelay_noBias_subtract_subgraph": {"reset": "subtract"},
    "nir-hist__braille_subtract": {"reset": "subtract"},
}
REFUSED = {"nir-hist__scnn_mnist_first": r"0: a Conv2d needs 3 dimensions, not \(1, 2, 34, 34\)"}


def spikes(graph: Graph, seed: int, rate: float = 0.5) -> Any:
    rng = np.random.default_rng(seed)
    drawn = rng.random((2, 40, *graph.input.shape)) < rate
    return drawn.astype(float) * (1 if graph.input.kind == "spike" else graph.input.high)


def outputs(graph: Graph, seed: int = 5) -> Any:
    return interp.run(graph, spikes(graph, seed)).output


def fixed(
    path: Path, folder: Path, *, nodes_added: bool = False, **options: Any
) -> tuple[Path, tuple[str, ...]]:
    """The clean file beside, under the same name, checked for what every one must be."""
    nir = pytest.importorskip("nir")
    made = repair(path, **options)
    folder.mkdir(exist_ok=True)
    out = folder / path.name
    out.write_bytes(made.content)
    again, before = load_model(out), load_model(path, **options)
    assert before.graph.digest == made.imported.graph.digest
    assert (again.graph.digest == before.graph.digest) is not nodes_added
    np.testing.assert_array_equal(outputs(again.graph), outputs(before.graph))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nir.read(out)
    assert not any(isinstance(node, nir.NIRGraph) for node in theirs.nodes.values())
    assert repair(out).changes == (), "what is clean is left alone"
    return out, made.changes


# --- real files ---


@pytest.mark.needs("nir")
def test_every_real_file_is_repaired_or_refused_for_a_reason(models: Path, tmp_path: Path) -> None:
    seen = 0
    for path in sorted((models / "nir").glob("*.nir")):
        if path.stem in REFUSED:
            with pytest.raises(FrontendError, match=REFUSED[path.stem]):
                repair(path)
            continue
        options = ASKED.get(path.stem, {})
        _, changes = fixed(path, tmp_path / "fixed", **options)
        assert outputs(load_model(path, **options).graph).any(), path.stem
        assert any(change.startswith("version: ") for change in changes)
        seen += 1
    assert seen >= 8


@pytest.mark.needs("nir")
@pytest.mark.parametrize("name", ["braille_noDelay_bias_zero", "braille_noDelay_noBias_subtract"])
def test_nested_files_become_what_their_flat_siblings_are(
    name: str, models: Path, tmp_path: Path
) -> None:
    flat, nested = (models / "nir" / f"{name}{end}.nir" for end in ("", "_subgraph"))
    out, changes = fixed(nested, tmp_path / "fixed", **ASKED[name])
    assert "graph: what was nested is flat" in changes
    assert any("is not there; read as lif1" in change for change in changes)
    sibling = load_model(flat, **ASKED[name]).graph
    np.testing.assert_array_equal(outputs(load_model(out).graph), outputs(sibling))
    assert outputs(sibling).any()


# --- one defect each ---


def old_image(**changed: Any) -> dict[str, Any]:
    """A convolutional network as the first exporters wrote them."""
    rng = np.random.default_rng(2)
    conv = nf.node(
        "Conv2d", weight=rng.normal(0.3, 0.4, (3, 2, 3, 3)), bias=np.zeros(3),
        stride=np.array([1.0, 1.0]), padding=1.0, dilation=1, groups=1,
    )  # fmt: skip
    return {
        "input": nf.inlet(2, 6, 6), "0": {**conv, **changed}, "1": nf.counter((1, 3, 6, 6)),
        "2": nf.node("SumPool2d", kernel_size=2.0, stride=[2.0, 2.0], padding=0),
        "3": nf.node("Flatten", start_dim=1, end_dim=-1, input_type=[0, 0, 0, 0]),
        "4": nf.linear(rng.normal(0.1, 0.4, (5, 27))), "5": nf.counter(1),
        "output": nf.outlet(1, 5),
    }  # fmt: skip


def nested() -> dict[str, Any]:
    loop = {"input": nf.inlet(3), "lif": nf.lif(3), "w_rec": nf.linear(0.2 * np.ones((3, 3))),
            "output": nf.outlet(3)}  # fmt: skip
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return nf.tiny(lif={"type": "NIRGraph", "nodes": loop, "edges": edges})


def without(nodes: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: node for name, node in nodes.items() if name not in names}


THREE = {"fc": nf.linear([[3.0, 5.0], [9.0, 2.0], [4.0, 12.0]])}
TINY = nf.tiny(**THREE)
CHAIN = [("input", "fc"), ("fc", "lif"), ("lif", "output")]


@pytest.mark.needs("nir")
@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        (old_image(), None, ["n0: stride is whole numbers now", "n0: padding had shape ()",
                             "n0: input_shape 6 added", "n3: start_dim 1 is now 0",
                             "n1: r had shape (1, 3, 6, 6), has (3, 6, 6)",
                             "n5: r had shape (1,), has (5,)", "output: shape (1, 5) is now (5,)",
                             "n1: v_reset 0 added"]),
        (old_image(padding="same", dilation=1.0), None, ["n0: padding 'same' is now 1"]),
        (without(old_image(), "3"), None, ["n4: a Flatten of (3, 3, 3) is now in front of it"]),
        (nested(), None, ["graph: what was nested is flat"]),
        (TINY, [("input", "fc"), ("fc", "gone"), ("gone", "output")],
         ["edges: edges name gone, which is not there; read as lif"]),
        (TINY, [*CHAIN, ("fc", "lif")], ["lif: an edge listed twice counts once"]),
        ({**TINY, "idle": nf.linear(np.eye(3))}, [*CHAIN, ("lif", "idle")], ["idle: left out"]),
        (without(TINY, "input", "output"), None, ["an Input of shape (2,) added in front of fc",
                                                  "an Output added behind lif"]),
        ({"input": nf.inlet(2), "a b": THREE["fc"], "1.x": nf.lif(3), "output": nf.outlet(3)},
         None, ["names: ", "1.x is n1_x", "a b is a_b"]),
        ({**TINY, "lif": nf.lif(3) | {"r": 2.0, "v_leak": 0.25}}, None, ["lif: r had shape ()"]),
        ({**TINY, "lif": without(nf.lif(3, theta=1.5), "v_reset")}, None, ["v_reset 0 added"]),
        ({**TINY, "lif": without(nf.cuba(3, syn=0.005, mem=0.01), "w_in")}, None,
         ["lif: w_in 1 added"]),
        ({**TINY, "lag": nf.node("Delay", delay=0.002), "out2": nf.outlet(3)},
         [("input", "fc"), ("fc", "lag"), ("lag", "lif"), ("lif", "output")], None),
        ({**TINY, "lag": nf.node("Delay", delay=0.002)},
         [("input", "fc"), ("fc", "lag"), ("lag", "lif"), ("lif", "output")],
         ["lag: delay had shape ()"]),
        ({**TINY, "lif": nf.node("Threshold", threshold=4.0)}, None, ["threshold had shape ()"]),
    ],
)  # fmt: skip
def test_a_defect(nodes: Any, edges: Any, says: Any, tmp_path: Path) -> None:
    names = list(nodes)
    pairs = list(pairwise(names)) if edges is None else edges
    path = nf.write(tmp_path / "net.nir", nodes, pairs)
    options = {"dt": 1e-3, **({"dialect": "nir"} if "tau_syn" in nodes.get("lif", {}) else {})}
    if says is None:
        with pytest.raises(FrontendError):
            repair(path, **options)
        return
    added = "a Flatten of" in says[0]
    _, changes = fixed(path, tmp_path / "fixed", nodes_added=added, **options)
    for words in says:
        assert any(words in change for change in changes), (words, changes)
    assert outputs(load_model(path, **options).graph).any()


@pytest.mark.needs("nir")
@pytest.mark.parametrize(
    "options",
    [
        {"dialect": "sinabs"}, {"dialect": "rockpool", "dt": 1e-3}, {"dialect": "norse"},
        {"dialect": "snntorch", "reset": "subtract"}, {"dialect": "spikingjelly", "dt": 2e-3},
        {"reset": "value", "compare": ">=", "dt": 1e-3, "v_min": -0.3, "v_start": "v_leak"},
        {"integrator": "exact", "r_scale": "decayed", "dt": 1e-3, "reset_timing": "next_discard"},
        {"dialect": "norse", "w_in_scale": "decayed", "v_min": "threshold"},
        {"dialect": "sinabs", "max_spikes": 3, "input_kind": "count", "input_high": 7},
    ],
)  # fmt: skip
@pytest.mark.parametrize("cell", ["lif", "cuba"])
def test_whatever_was_settled_stays_settled(
    cell: str, options: dict[str, Any], tmp_path: Path
) -> None:
    of: Callable[..., Any] = nf.lif if cell == "lif" else lambda n, **k: nf.cuba(n, **k)
    times = {"tau": 0.02} if cell == "lif" else {"syn": 0.01, "mem": 0.02}
    if options.get("dialect") == "sinabs":
        times = {name: 1e3 * t for name, t in times.items()}
    neurons = of(3, **times, r=[1.0, 2.0, 3.0], v_leak=0.1, v_reset=-0.2)
    path = nf.write(tmp_path / "net.nir", nf.tiny(**THREE, lif=neurons))
    fixed(path, tmp_path / "fixed", **({"dt": 1e-3} | options))


def test_other_formats_are_not_repaired(tmp_path: Path) -> None:
    from graphs import mlp
    from qspinn import storage

    storage.save(mlp(), tmp_path / "a.qspinn")
    with pytest.raises(FrontendError, match="only NIR files are repaired"):
        repair(tmp_path / "a.qspinn")


# --- the command ---


@pytest.mark.needs("nir")
def test_the_command(qspinn: Run, tmp_path: Path) -> None:
    path = nf.write(tmp_path / "old.nir", old_image())
    out = tmp_path / "new.nir"
    done = qspinn("inspect", path, "--fix", out)
    assert done.code == 0, done.err
    assert not done.out
    assert "input_shape 6 added" in done.err
    assert f"Wrote {out}" in done.unwrapped().err
    before = out.read_bytes()
    again = qspinn("inspect", path, "--fix", out)
    assert again.code == 2
    assert "exists" in again.err
    assert "--force" in again.err
    assert qspinn("inspect", path, "--fix", out, "--force", "--json").code == 0
    assert out.read_bytes() == before, "the same bytes each time"
    assert qspinn("inspect", out, "--json").code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.nir", "old.nir"]


@pytest.mark.needs("nir")
def test_nothing_is_left_of_what_fails(qspinn: Run, tmp_path: Path) -> None:
    path = nf.write(tmp_path / "old.nir", nf.tiny())
    assert "dt is needed" in qspinn("inspect", path, "--fix", tmp_path / "new.nir").err
    with h5py.File(path, "a") as file:
        del file["node/edges"]
    assert qspinn("inspect", path, "--dt", 1e-3, "--fix", tmp_path / "new.nir").code == 2
    assert qspinn("inspect", path, "--fix", tmp_path / "none" / "new.nir").code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["old.nir"]
