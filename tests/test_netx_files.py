"""`.net` files read, compiled and written again; and networks trained with SLAYER."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND

from netx_nets import Made, assert_netx_computes, made
from qspinn import interp, job, storage
from qspinn.fixed import QFormat
from qspinn.frontends import load_model
from qspinn.ir import Array, Delay, Graph, Neuron, Output
from qspinn.passes.quantize import quantize
from qspinn.pipeline import canonical, lower
from qspinn.plan import Entry, Plan
from tree import ROOT

INTEGERS = ("weight", "weight_rec", "delay", "bias", "stride", "padding", "dilation", "groups",
            "neuron/iDecay", "neuron/vDecay", "neuron/vThMant")  # fmt: skip
IMAGE = Plan({"input.value": Entry(QFormat(9, 0))})
"""Whole values at the input, for files whose input layer has neurons."""


def again(path: Path, folder: Path) -> Made:
    """A file compiled for loihi, and the one that comes out."""
    prepared = job.prepare(path)
    given = IMAGE if prepared.graph.input.kind == "current" else None
    done = lower(prepared.graph, job.plan_for(prepared, BACKEND, given), BACKEND)
    artifact = BACKEND.emit(done.final, BACKEND.devices["loihi2"], done.plan)
    facts = artifact.facts["netx"]
    assert facts["file"], facts["why_not"]
    out = folder / path.name
    out.write_bytes(artifact.files[facts["file"]])
    return Made(done.final, facts, out)


def numbers(path: Path) -> Iterator[tuple[str, Array]]:
    """What netx reads of a file: integers by layer, those of layers that compute something."""
    with h5py.File(path) as file:
        for index in range(len(file["layer"])):
            group = file[f"layer/{index}"]
            for name in INTEGERS:
                if name in group:
                    yield f"{index}/{name}", np.trunc(group[name][()]).astype(np.int64)


def assert_same_numbers(old: Path, new: Path) -> None:
    """Every integer, whatever its shape; the delay of a weight of zero may be any."""
    ours = dict(numbers(new))
    for name, theirs in numbers(old):
        if name.endswith("bias") and not theirs.any():
            assert name not in ours or not ours[name].any()
            continue
        found = ours[name]
        if name.endswith("delay"):
            weight = dict(numbers(old))[name.replace("delay", "weight")]
            used = weight != 0
            theirs, found = spread(theirs, weight)[used], spread(found, weight)[used]
        assert theirs.size == found.size or theirs.size == 1 or found.size == 1, name
        np.testing.assert_array_equal(*np.broadcast_arrays(theirs.ravel(), found.ravel()), name)


def spread(delays: Array, weight: Array) -> Array:
    """Delays for each synapse, clamped as netx does."""
    delays = np.minimum(delays, 62)
    rows = delays.size == len(weight) and delays.ndim == 1
    return np.broadcast_to(delays[:, None] if rows else delays, weight.shape)


def assert_same_graph(old: Path, new: Path) -> Graph:
    """The digest of what is read; a vote is not in what netx reads."""
    one, two = (load_model(path).graph for path in (old, new))
    if one.output.labels:
        one = one.map(
            lambda node: (
                replace(node, labels=(), readout="count") if isinstance(node, Output) else node
            )
        )
    assert one.digest == two.digest
    return two


@pytest.mark.needs("models")
@pytest.mark.parametrize("name", ["mnist_netx", "oxford", "tiny"])
def test_real_files_come_out_as_they_went_in(name: str, models: Path, tmp_path: Path) -> None:
    path = models / "lava-dl" / f"{name}.net"
    new = again(path, tmp_path).path
    assert_same_graph(path, new)
    assert_same_numbers(path, new)


LARGE = ("gts/ntidigits/ntidigits.net", "gts/pilotnet_lif/network.net")
WHEEL = ("mnist.net", "tiny.net", *(pytest.param(x, marks=pytest.mark.slow) for x in LARGE))


@pytest.mark.needs("lava-dl")
@pytest.mark.parametrize("name", WHEEL)
def test_files_in_the_wheel_come_out_as_they_went_in(name: str, tmp_path: Path) -> None:
    path = Path(str(distribution("lava-dl").locate_file(f"tests/lava/lib/dl/netx/{name}")))
    new = again(path, tmp_path).path
    assert_same_graph(path, new)
    assert_same_numbers(path, new)


@pytest.mark.slow
@pytest.mark.needs("lava-dl")
def test_a_network_of_another_format(tmp_path: Path) -> None:
    """MNIST from a NIR file, its biases rounded to what netx knows."""
    prepared = job.prepare(ROOT / "examples" / "mnist" / "mnist.nir")
    coarse = Plan({f"fc{k}.bias": Entry(QFormat(13, 0)) for k in (1, 2)})
    done = lower(prepared.graph, job.plan_for(prepared, BACKEND, coarse), BACKEND)
    rng = np.random.default_rng(1)
    data = (rng.random((1, 25, *done.final.input.shape)) < 0.12).astype(np.int64)
    net = made(done.final, tmp_path)
    assert net.facts["needs_reset"]
    assert interp.run(net.graph, data).output.any()
    assert_netx_computes([(net, data)], tmp_path)


# --- SLAYER ---

TRAINED = ("dense", "each", "recurrent", "delays", "conv", "bias")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks trained with SLAYER, and what it makes of eight samples each."""
    folder = tmp_path_factory.mktemp("slayer")
    script = Path(__file__).with_name("slayer_runner.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def evaluated(folder: Path, name: str) -> tuple[Array, Array]:
    """Input and output spikes (samples, steps, *shape) of SLAYER."""
    with np.load(folder / f"{name}.npz") as found:
        data, out = (np.moveaxis(found[key], -1, 1).astype(np.int64) for key in ("data", "out"))
    assert 0.05 < out.mean() < 0.8
    return data, out


@pytest.mark.needs("lava-dl", "torch")
@pytest.mark.parametrize("name", TRAINED)
def test_slayer_computes_the_same(name: str, trained: Path) -> None:
    """Each layer sends a step late; nothing else is different."""
    data, out = evaluated(trained, name)
    imported = load_model(trained / f"{name}.net")
    if name == "bias":
        assert any(node.values["bias"].values.any() for node in imported.graph.of_type(Neuron))
        imported = replace(imported, graph=at_once(imported.graph))
    ours = interp.run(quantize(canonical(imported.graph), imported.plan), data).output
    late = 1 if name == "bias" else len(imported.graph.of_type(Neuron))
    np.testing.assert_array_equal(ours[:, :-late], out[:, late:])


@pytest.mark.needs("lava-dl", "torch")
@pytest.mark.parametrize("name", TRAINED)
def test_a_live_slayer_network_is_its_file(name: str, trained: Path) -> None:
    live, file = storage.load(trained / f"{name}.qspinn"), load_model(trained / f"{name}.net").graph
    assert storage.dump(replace(live, name=file.name)) == storage.dump(file)


@pytest.mark.needs("lava-dl", "torch")
def test_a_live_slayer_network_that_no_file_can_hold_is_refused(trained: Path) -> None:
    with np.load(trained / "refused.npz") as found:
        said = {name: str(found[name]) for name in found.files}
    assert said.pop("own") == ""
    for name, words in {
        "unrun": "forward pass of its own", "scaled": "between its blocks, in front of blocks.0",
        "mixed": "is a ReLU among blocks of SLAYER's", "option": "max_spikes cannot be chosen",
    }.items():  # fmt: skip
        assert words in said[name], said


def at_once(graph: Graph) -> Graph:
    """The same with all layers starting in one step, not each with its first input.

    It is so in SLAYER, where a layer's bias acts before the layer before it can have sent a spike;
    netx, with its resets, starts each layer a step after the one before.
    """
    nodes: list[Any] = []
    for node in graph.nodes:
        source = graph[node.inputs[0]] if node.inputs else None
        if isinstance(source, Neuron) and not isinstance(node, Output):
            late = f"{source.name}_late"
            nodes.append(Delay(name=late, inputs=(source.name,), shape=source.shape))
            node = replace(node, inputs=(late,))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.needs("lava-dl", "torch")
def test_what_slayer_trained_comes_out_and_runs_in_netx(trained: Path, tmp_path: Path) -> None:
    nets = []
    for name in TRAINED:
        path = trained / f"{name}.net"
        net = again(path, tmp_path)
        if name == "conv":  # the others have an input layer that netx does without
            assert_same_graph(path, net.path)
            assert_same_numbers(path, net.path)
        nets.append((net, evaluated(trained, name)[0]))
    assert_netx_computes(nets, tmp_path)
