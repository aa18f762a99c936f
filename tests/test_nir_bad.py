"""Files that cannot be used: one clear error each, which says where and what would help."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nirfiles as nf
from qspinn.errors import UNUSABLE, FrontendError
from qspinn.frontends import hdf5, load_model, nir_file

OPTIONS: dict[str, Any] = {"dt": 1e-3}


def refused(path: Path, **options: Any) -> FrontendError:
    """The error, checked for what every error must have."""
    with pytest.raises(FrontendError) as caught:
        load_model(path, **options)
    error = caught.value
    assert error.exit_code == UNUSABLE
    assert error.at
    assert error.message
    assert "\n" not in str(error)
    assert str(error).isprintable()
    return error


def says(path: Path, pattern: str, **options: Any) -> FrontendError:
    error = refused(path, **{**OPTIONS, **options})
    assert re.search(pattern, str(error)), str(error)
    return error


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = nf.write(tmp_path / "good.nir", nf.tiny())
    load_model(path, **OPTIONS)
    return path


# --- not a file of ours ---


def test_missing(tmp_path: Path) -> None:
    says(tmp_path / "no.nir", r"no\.nir: cannot be read: No such file")


def test_folder(tmp_path: Path) -> None:
    says(tmp_path, "cannot be read: Is a directory")


def test_empty(tmp_path: Path) -> None:
    for name in ("empty.nir", "empty"):
        (tmp_path / name).touch()
        says(tmp_path / name, "is empty")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "a.nir").write_text("weights: 1 2 3")
    (tmp_path / "a.txt").write_text("weights: 1 2 3")
    assert "nir.write" in says(tmp_path / "a.nir", "is not an HDF5 file").hint
    assert ".nir" in says(tmp_path / "a.txt", "is of no known format").hint


def test_damaged_graph_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "a.qspinn").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(FrontendError, match="is not a qspinn graph"):
        load_model(tmp_path / "a.qspinn")


def test_truncated_anywhere(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    for length in range(1, len(whole), 97):
        (tmp_path / "cut.nir").write_bytes(whole[:length])
        refused(tmp_path / "cut.nir", **OPTIONS)


def test_damaged_anywhere(good: Path, tmp_path: Path) -> None:
    """Where a hole hits nothing of use the file may load; nothing but our error may be raised."""
    whole = good.read_bytes()
    messages = []
    for start in range(0, len(whole) - 200, 211):
        (tmp_path / "bad.nir").write_bytes(whole[:start] + bytes(200) + whole[start + 200 :])
        try:
            load_model(tmp_path / "bad.nir", **OPTIONS)
        except FrontendError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(message.isprintable() for message in messages)


def test_a_heap_that_would_be_walked_for_ever(good: Path) -> None:
    whole = bytearray(good.read_bytes())
    at = whole.index(b"GCOL")
    whole[at + 16 : at + 80] = bytes(64)
    good.write_bytes(whole)
    says(good, "a heap of texts holds an empty piece")


def test_other_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nir", "w") as file:
        file["layer/0/type"] = "dense"
    assert "lava-dl" in says(tmp_path / "a.nir", "holds no NIR graph").hint


def test_single_node(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nir", "w") as file:
        file["node/type"] = "Linear"
        file["node/weight"] = np.ones((2, 2))
    says(tmp_path / "a.nir", "holds a single Linear")


# --- bounds, before anything is allocated ---


def test_huge_declared_array(good: Path) -> None:
    with h5py.File(good, "a") as file:
        del file["node/nodes/fc/weight"]
        file["node/nodes/fc"].create_dataset(
            "weight", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1024, 1024)
        )
    says(good, r"fc\.weight: has shape \(1048576, 1048576\)")


def test_huge_signal(tmp_path: Path) -> None:
    path = nf.write(tmp_path / "a.nir", nf.tiny(input=nf.inlet(1 << 15, 1 << 15)))
    says(path, "input: a signal of shape")


def test_too_many_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_file, "MAX_NODES", 6)
    nodes = {f"n{i}": nf.linear(np.eye(2)) for i in range(5)}
    path = nf.write(tmp_path / "a.nir", {"input": nf.inlet(2), **nodes, "output": nf.outlet(2)})
    says(path, "more than 6 nodes")
    monkeypatch.setattr(hdf5, "MAX_MEMBERS", 6)
    says(path, "has 7 members, the limit is 6")


def test_deep_nesting(tmp_path: Path) -> None:
    inner: dict[str, Any] = nf.lif(3)
    for _ in range(12):
        nodes = {"input": nf.inlet(3), "a": inner, "output": nf.outlet(3)}
        inner = {"type": "NIRGraph", "nodes": nodes, "edges": list(pairwise(nodes))}
    says(nf.write(tmp_path / "a.nir", nf.tiny(lif=inner)), "nested deeper than 8")


def test_a_group_within_itself(good: Path) -> None:
    with h5py.File(good, "a") as file:
        file["node/nodes/loop"] = file["node"]
    says(good, "nested deeper than 8|more than 4096 nodes")


@pytest.mark.parametrize("place", ["node", "node/nodes/fc", "node/nodes/fc/weight", "node/edges"])
def test_links_are_not_followed(place: str, good: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((3, 2))
    for link in (h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/version")):
        with h5py.File(good, "a") as file:
            del file[place]
            file[place] = link
        says(good, "is (an external|a soft) link, which is not followed")


def test_data_in_another_file(good: Path, tmp_path: Path) -> None:
    np.ones((3, 2)).tofile(tmp_path / "raw.bin")
    with h5py.File(good, "a") as file:
        group = file["node/nodes/fc"]
        del group["weight"]
        group.create_dataset("weight", (3, 2), "f8", external=[(str(tmp_path / "raw.bin"), 0, 48)])
    says(good, r"fc\.weight: is stored in another file")


def test_virtual_data(good: Path, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((3, 2), "f8")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((3, 2))
        layout[:] = h5py.VirtualSource(other["x"])
    with h5py.File(good, "a") as file:
        group = file["node/nodes/fc"]
        del group["weight"]
        group.create_virtual_dataset("weight", layout)
    says(good, r"fc\.weight: is stored in another file")


# --- nodes and numbers ---


def swap(**nodes: Any) -> Callable[[Path], Path]:
    return lambda folder: nf.write(folder / "a.nir", nf.tiny(**nodes))


def conv(**changed: Any) -> Any:
    node = nf.node(
        "Conv2d", weight=np.ones((1, 1, 3, 3)), bias=np.zeros(1), stride=1, padding=0, dilation=1,
        groups=1,
    )  # fmt: skip
    return {**node, **changed}


IMAGE = {"input": nf.inlet(1, 4, 4)}


@pytest.mark.parametrize(
    ("nodes", "pattern"),
    [
        ({"lif": nf.node("Izhikevich", a=1.0)}, "lif: has the unknown type Izhikevich"),
        ({"lif": nf.node("", tau=1.0)}, "lif: has no type"),
        ({"lif": nf.node("LIF", tau=1.0, r=1.0)}, "lif: a LIF without v_leak, v_threshold"),
        ({"lif": nf.lif(3, t_ref=1.0)}, "a LIF with the unknown parameter t_ref"),
        ({"fc": nf.linear([[1, np.nan], [np.inf, 1], [1, 1]])}, "fc.weight: holds 2 NaN or inf"),
        ({"lif": nf.lif(3, tau=np.inf)}, "lif.tau: holds 3 NaN or infinite values of 3"),
        ({"fc": nf.node("Linear", weight=np.ones((3, 2), complex))}, "fc.weight: holds complex128"),
        ({"fc": nf.node("Linear", weight="heavy")}, "fc: weight is the text heavy, not numbers"),
        ({"fc": nf.node("Linear", weight=np.ones((0, 2)))}, "fc.weight: is empty"),
        ({"fc": nf.linear(np.ones((3, 4)))}, r"fc: weight \(3, 4\) does not fit an input of 2"),
        ({"fc": nf.linear(np.ones(3))}, "fc: weight has 1 dimensions, not 2"),
        ({"fc": nf.affine(np.ones((3, 2)), np.ones(2))}, r"fc: bias has shape \(2,\), not \(3,\)"),
        ({"lif": nf.lif(4)}, r"lif: [a-z_]+ has shape \(4,\), but the signal .* \(3,\)"),
        ({"lif": nf.lif(3, v_leak=np.ones(3)) | {"r": np.ones(2)}}, "lif: has parameters of 3 and"),
        ({"output": nf.outlet(5)}, r"output: has shape \(5,\), but \(3,\) arrives"),
        ({"input": nf.inlet(2, 0)}, "input: shape is .*not whole numbers from 1 up"),
        ({"lif": nf.lif(3, tau=-1.0)}, "lif: tau must be positive, not -1"),
        ({**IMAGE, "fc": conv(input_shape=[5, 5])}, r"fc: input_shape is \(5, 5\), but the signal"),
        ({**IMAGE, "fc": conv(weight=np.ones((1, 2, 3, 3)))}, "fc: weight .* does not fit 1 chan"),
        ({**IMAGE, "fc": conv(weight=np.ones((1, 1, 9, 9)))}, "fc: a window of 9 does not fit 4"),
        ({**IMAGE, "fc": conv(stride=0)}, "fc: stride is .*not whole numbers from 1 up"),
        ({**IMAGE, "fc": conv(stride=[1.5, 1])}, "fc: stride is .*not whole numbers from 1 up"),
        ({**IMAGE, "fc": conv(groups=0)}, "fc: groups is .*not whole numbers from 1 up"),
        ({**IMAGE, "fc": conv(padding="full")}, "fc: padding is numbers, 'same' or 'valid'"),
        (
            {**IMAGE, "fc": conv(padding="same", weight=np.ones((1, 1, 2, 2)))},
            "fc: padding 'same' for the kernel .* is not the same on both sides",
        ),
        ({**IMAGE, "fc": conv(padding="same", stride=2)}, "fc: padding 'same' has no meaning with"),
        (
            {"fc": nf.node("Flatten", start_dim=2, end_dim=-1)},
            r"fc: cannot flatten dimensions 2 to -1|fc: start_dim",
        ),
        (
            {"fc": nf.node("Delay", delay=np.array([0.001, 0.004]))},
            "fc: delays of 0.001 to 0.004, 1 to 4 steps",
        ),
        ({"fc": nf.node("Delay", delay=1e9)}, "fc: a delay of 1e.12 steps; the limit is 4096"),
    ],
)  # fmt: skip
def test_nodes(nodes: Any, pattern: str, tmp_path: Path) -> None:
    says(swap(**nodes)(tmp_path), pattern)


def test_several_spikes_for_no_threshold(tmp_path: Path) -> None:
    pattern = "lif: several spikes a step need a positive threshold"
    says(swap(lif=nf.counter(3, theta=0.0))(tmp_path), pattern, dialect="sinabs")


def test_several_spikes_without_a_bound(tmp_path: Path) -> None:
    """As many as fit into a number that overflows are none that a proof can name."""
    path = swap(fc=nf.linear(np.full((3, 2), 1e30)), lif=nf.counter(3, theta=1e-300))(tmp_path)
    told = [a.value for a in load_model(path, dialect="sinabs").assumptions if a.subject == "lif"]
    assert any("at most 255 spikes a step" in line for line in told), told


def test_a_delay_behind_a_bias(tmp_path: Path) -> None:
    nodes = {
        "input": nf.inlet(2), "fc": nf.affine(np.ones((3, 2)), np.ones(3)),
        "lag": nf.node("Delay", delay=0.002), "lif": nf.lif(3), "output": nf.outlet(3),
    }  # fmt: skip
    path = nf.write(tmp_path / "a.nir", nodes)
    assert (
        "in front of fc"
        in says(path, r"lag: delays the current of fc \(Affine\), with a bias").hint
    )


# --- time ---


def test_missing_dt(good: Path) -> None:
    error = refused(good)
    assert "dt is needed (tau is 0.01)" in str(error)
    assert error.hint.startswith("give dt")


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"dt": 1.0}, "lif: dt 1 exceeds tau 0.01: an Euler step would give the decay -99"),
        ({"dt": 0.0}, "dt: must be a positive number, not 0.0"),
        ({"dt": float("nan")}, "dt: must be a positive number"),
        ({"dialect": "brian"}, "dialect: must be one of nir, snntorch"),
        ({"reset": "hard"}, "reset: must be one of zero, subtract, value, not hard"),
        ({"compare": "=>"}, "compare: must be one of >, >=, not =>"),
        ({"max_spikes": 6}, "max_spikes: must be 1, 3, 7, 15, ..., not 6"),
        ({"max_spikes": 0}, "max_spikes: must be a positive number, not 0"),
        ({"max_spikes": 2**20 - 1}, "max_spikes: must be whole, at most 65535"),
        ({"input_high": 1.5}, "input_high: must be whole"),
        ({"dt": "fast"}, "dt: must be a positive number, not fast"),
        ({"max_spikes": 3, "reset_timing": "next_after_decay"}, "lif: a late reset allows neither"),
        ({"reset": "subtract", "reset_timing": "next_discard"}, "lif: a subtracting reset has"),
        ({"readout": "membrane_last"}, "output: the readout membrane_last does not read spikes"),
        ({"readout": "loudest"}, "readout: must be one of count"),
        ({"input_high": 9}, "input: input_high is 9, but the input is a spike"),
    ],
)
def test_options(options: Any, pattern: str, good: Path) -> None:
    says(good, pattern, **options)


@pytest.mark.parametrize(
    ("word", "pattern"),
    [
        ({"reset": "hard"}, r"metadata\.qspinn\.reset: must be one of"),
        ({"dt": -1.0}, r"metadata\.qspinn\.dt: must be a positive number, not -1"),
        ({"dt": np.ones(3)}, r"metadata\.qspinn\.dt: is an array"),
        ({"reset": 1}, r"metadata\.qspinn\.reset: must be one of zero, subtract, value, not 1"),
    ],
)
def test_words_of_the_file(word: Any, pattern: str, tmp_path: Path) -> None:
    says(nf.write(tmp_path / "a.nir", nf.tiny(), **word), pattern)


# --- edges ---


@pytest.mark.parametrize(
    ("edges", "pattern"),
    [
        ([("input", "fc"), ("fc", "lif"), ("lif", "outputt")], "an edge names outputt, which is"),
        ([("input", "fc"), ("fc", "lif"), ("lif", "x"), ("y", "output")], "an edge names x, which"),
        ([("input", "fc"), ("lif", "output")], "lif: no edge leads to this LIF"),
        (
            [("input", "fc"), ("fc", "lif")],
            "output: no edge leads to this Output",
        ),
        ([("fc", "input")], "the edge fc -> input leaves an Output or enters an Input"),
        ([], "no edge leads to"),
    ],
)
def test_edges(edges: Any, pattern: str, tmp_path: Path) -> None:
    says(nf.write(tmp_path / "a.nir", nf.tiny(), edges), pattern)


def test_edges_that_are_no_pairs(good: Path) -> None:
    for wrong in (np.array([1, 2, 3]), np.array([["a", "b", "c"]], dtype="S1"), np.ones((2, 2))):
        with h5py.File(good, "a") as file:
            del file["node/edges"]
            file["node/edges"] = wrong
        says(good, "node: edges of shape .* are no pairs of names")


def test_several_edges_into_a_connection(tmp_path: Path) -> None:
    nodes = nf.tiny(other=nf.linear(np.ones((2, 2))), one=nf.linear(np.ones((2, 2))))
    edges = [("input", "one"), ("input", "other"), ("one", "fc"), ("other", "fc")]
    path = nf.write(tmp_path / "a.nir", nodes, [*edges, ("fc", "lif"), ("lif", "output")])
    assert (
        "a connection of its own"
        in says(path, r"fc: this Linear takes one edge, not 2 \(one, oth").hint
    )


def test_two_inputs(tmp_path: Path) -> None:
    path = nf.write(
        tmp_path / "a.nir", {"input2": nf.inlet(2), **nf.tiny()}, list(pairwise(nf.tiny()))
    )
    says(path, "input2: no output depends on it")


def test_a_cycle_without_spikes(tmp_path: Path) -> None:
    li = nf.node("LI", tau=np.ones(3) * 0.01, r=np.ones(3), v_leak=np.zeros(3))
    nodes = nf.tiny(lif=li, back=nf.linear(np.eye(3)))
    edges = [*pairwise(nf.tiny()), ("lif", "back"), ("back", "lif")]
    says(nf.write(tmp_path / "a.nir", nodes, edges), "lif: a cycle without spikes: lif -> back")


def test_a_cycle_of_weights_and_delays(tmp_path: Path) -> None:
    lag, one = nf.node("Delay", delay=0.002), nf.linear(np.eye(3))
    edges = [*pairwise(nf.tiny()), *pairwise(["a", "b", "lag", "a"])]
    path = nf.write(tmp_path / "a.nir", nf.tiny(a=one, b=one, lag=lag), edges)
    says(path, "lag: a cycle without spikes, through")


def test_a_delay_of_no_step_that_reads_itself(tmp_path: Path) -> None:
    edges = [*pairwise(nf.tiny()), ("lag", "lag"), ("lag", "lif")]
    path = nf.write(tmp_path / "a.nir", nf.tiny(lag=nf.node("Delay", delay=np.zeros(3))), edges)
    says(path, "lag: a cycle without spikes, through itself")


def test_a_cycle_that_no_input_reaches(tmp_path: Path) -> None:
    nodes = nf.tiny(a=nf.lif(3), w=nf.linear(np.eye(3)))
    edges = [*pairwise(nf.tiny()), ("a", "w"), ("w", "a")]
    says(nf.write(tmp_path / "a.nir", nodes, edges), "no signal from the input ever arrives here")


@pytest.mark.parametrize("name", ["a+b", "..", "é\u202e", "x" * 3000, "a.b", "%s{0}"])
def test_odd_names_in_errors(name: str, tmp_path: Path) -> None:
    nodes = {"input": nf.inlet(2), name: nf.linear(np.ones((3, 4))), "output": nf.outlet(3)}
    error = says(nf.write(tmp_path / "a.nir", nodes), "does not fit an input of 2")
    assert len(error.at) <= 80


@pytest.mark.parametrize("name", ['a"b', "a\nb", "it's", "back\\slash", "bell\x07"])
def test_suspect_names_are_refused(name: str, tmp_path: Path) -> None:
    nodes = {"input": nf.inlet(2), name: nf.linear(np.ones((3, 2))), "output": nf.outlet(3)}
    says(nf.write(tmp_path / "a.nir", nodes), "has quotes, backslashes or control characters")
