"""lava-dl's `.net` files: integers as they are, against netx in Lava and lava-dl's own records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.mcu import BACKEND as MCU

from netx_nets import run_netx
from qspinn import interp, job
from qspinn.backend import Backend
from qspinn.errors import FrontendError, LegalizeError
from qspinn.fixed import QFormat
from qspinn.frontends import load_model
from qspinn.ir import VOTE, Graph, Neuron
from qspinn.passes.quantize import quantize
from qspinn.pipeline import canonical, lower
from qspinn.plan import Entry, Plan

Layer = Mapping[str, Any]
Ints = npt.NDArray[np.int64]
CUBA = {"type": "CUBA", "iDecay": 1024, "vDecay": 300, "vThMant": 90, "refDelay": 1}
LIF = {**CUBA, "iDecay": 4096, "vDecay": 500}


def write(path: Path, *layers: Layer) -> Path:
    """A file as SLAYER writes it."""
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for name, value in layer.items():
                if name == "type":
                    group.create_dataset(name, (1,), "S10", [value.encode()])
                elif name == "neuron":
                    for key, entry in value.items():
                        group.create_dataset(f"neuron/{key}", data=entry)
                else:
                    group.create_dataset(name, data=value)
    return path


def even(rng: np.random.Generator, *shape: int, most: int = 100) -> Any:
    """Weights of both signs as SLAYER quantizes them."""
    return 2.0 * rng.integers(-most // 2, most // 2, shape)


def dense(weight: Any, neuron: Any = CUBA, **more: Any) -> Layer:
    found = {"type": "dense", "shape": [len(weight)], "weight": weight, **more}
    return found if neuron is None else {**found, "neuron": neuron}


def conv(weight: Any, shape: list[int], neuron: Any = CUBA, **more: Any) -> Layer:
    usual = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    return {"type": "conv", "shape": shape, "weight": weight, "neuron": neuron, **usual, **more}


def inlet(*shape: int) -> Layer:
    return {"type": "input", "shape": list(shape)}


def integer(path: Path) -> Graph:
    """The integers of a file, as the reference runs them."""
    imported = load_model(path)
    return quantize(canonical(imported.graph), imported.plan)


def spikes(graph: Graph, seed: int, steps: int = 24, rate: float = 0.3) -> Ints:
    rng = np.random.default_rng(seed)
    return (rng.random((1, steps, *graph.input.shape)) < rate).astype(np.int64)


# --- what netx makes of the same file ---


def rich(rng: np.random.Generator) -> list[Layer]:
    return [
        inlet(12),
        dense(even(rng, 20, 12), delay=rng.integers(0, 5, 20).astype(float)),
        {**dense(even(rng, 14, 20)), "type": "dense_rec", "weight_rec": even(rng, 14, 14)},
        dense(even(rng, 9, 14), LIF),
    ]


def image(rng: np.random.Generator) -> list[Layer]:
    return [
        inlet(2, 9, 11),
        conv(even(rng, 6, 2, 3, 3), [6, 4, 5], stride=[2, 2]),
        conv(even(rng, 4, 3, 3, 2, 1), [4, 6, 4], LIF, padding=[2, 0], groups=2),
        {"type": "flatten", "shape": [96]},
        dense(even(rng, 7, 96), {**CUBA, "vDecay": rng.integers(100, 900, 7)}),
    ]


def delayed(rng: np.random.Generator) -> list[Layer]:
    return [
        dense(even(rng, 16, 10), delay=3.0),
        dense(even(rng, 8, 16), LIF, delay=rng.integers(0, 63, 16).astype(float)),
    ]


@pytest.mark.needs("lava-dl", "torch")
@pytest.mark.parametrize("make", [rich, image, delayed])
def test_netx_computes_the_same(make: Callable[[Any], list[Layer]], tmp_path: Path) -> None:
    path = write(tmp_path / "a.net", *make(np.random.default_rng(3)))
    graph = integer(path)
    data = spikes(graph, 5, steps=80 if make is delayed else 24)
    ours = interp.run(graph, data).output[0]
    assert 0.02 < ours.mean() < 0.9
    np.testing.assert_array_equal(np.moveaxis(ours, 0, -1), netx(path, data[0], tmp_path))


@pytest.mark.needs("lava-dl", "torch")
def test_netx_computes_the_same_with_biases(tmp_path: Path) -> None:
    """Lava's biases act from the first step on; with resets a layer starts with its first input."""
    rng = np.random.default_rng(7)
    layers = (
        dense(even(rng, 16, 10), bias=rng.integers(-40, 40, 16).astype(float)),
        dense(even(rng, 8, 16), LIF, bias=rng.integers(-9, 30, 8).astype(float)),
    )
    path = write(tmp_path / "a.net", *layers)
    graph = integer(path)
    data = spikes(graph, 5)
    ours = interp.run(graph, data).output[0]
    assert 0.02 < ours.mean() < 0.9
    theirs = netx(path, data[0], tmp_path, reset=32)
    np.testing.assert_array_equal(np.moveaxis(ours, 0, -1), theirs)


def netx(path: Path, data: Ints, folder: Path, reset: int = 0) -> Ints:
    """Output spikes (shape, steps) of netx for spikes (steps, shape)."""
    stages = len(load_model(path).graph.of_type(Neuron))
    # The first layer behind an input without neurons begins one step later.
    options = {"reset_interval": reset, "reset_offset": 1} if reset else {}
    job = {"net": path, "data": np.moveaxis(data, 0, -1), "options": options,
           "steps": len(data) + stages}  # fmt: skip
    (found,) = run_netx([job], folder)
    return found["out"][..., stages:].astype(np.int64)


# --- lava-dl's own records ---


@pytest.fixture(scope="module")
def records() -> Path:
    """The ground truth in lava-dl's wheel."""
    folder = Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
    assert folder.is_dir(), "the wheel has its tests in it"
    return folder


def bare(source: Path, target: Path) -> Graph:
    """The network of a file whose input values are those that enter its first neurons."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        old.copy("layer", new)
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            del new[f"layer/0/{name}"]
            new[f"layer/0/{name}"] = value
    imported = load_model(target)
    entries = {**imported.plan.entries, "input.value": Entry(QFormat(9, 0))}
    return quantize(canonical(imported.graph), Plan(entries, imported.plan.scales))


@pytest.mark.needs("lava-dl")
def test_the_recorded_tiny_network(records: Path, tmp_path: Path) -> None:
    graph = bare(records / "tiny.net", tmp_path / "tiny.net")
    image = np.load(records / "gts/tinynet/input_bias.npy").astype(np.int64).transpose(2, 1, 0)
    ours = interp.run(graph, np.broadcast_to(image, (1, 15, *image.shape))).output[0]
    truth = np.load(records / "gts/tinynet/output.npy")[0]
    assert truth.sum() == 92
    np.testing.assert_array_equal(np.moveaxis(ours, 0, -1), truth[..., 1:])


@pytest.mark.needs("lava-dl")
def test_the_recorded_digits(records: Path) -> None:
    """N-TIDIGITS: delays of each neuron, 3,000 steps."""
    folder = records / "gts/ntidigits"
    graph = integer(folder / "ntidigits.net")
    assert graph.output.readout == VOTE
    assert graph.output.labels == tuple(np.repeat(range(11), 22))
    data = np.load(folder / "input.npy").astype(np.int64).T.reshape(1, 3000, 1, 1, 64)
    ours = interp.run(graph, data, record=False).output[0].T
    truth = np.load(folder / "output.npy")
    assert truth.sum() == 22_572
    np.testing.assert_array_equal(ours[:, :-4], truth[:, 4:])


@pytest.mark.needs("lava-dl")
def test_the_recorded_drive(records: Path, tmp_path: Path) -> None:
    """PilotNet: every membrane until the chip's layers were reset, one step later a layer.

    Where a neuron spikes the chip's probe reads a marker, and the membrane is zero.
    """
    folder = records / "gts/pilotnet_lif"
    graph = bare(folder / "network.net", tmp_path / "pilotnet.net")
    image = np.load(folder / "image.npy").astype(np.int64).transpose(2, 1, 0)
    ours = interp.run(graph, np.broadcast_to(image, (1, 18, *image.shape)))
    layers = [f"conv-{i}" for i in range(5)] + [f"fc-{i}" for i in range(3)]
    neurons = [node.name for node in graph.of_type(Neuron)][1:-1]
    for depth, (layer, name) in enumerate(zip(layers, neurons, strict=True), 1):
        fired, v = (np.load(folder / f"{layer}{what}.npy") for what in ("", "-v"))
        truth = np.where(fired, 0, v).transpose(*reversed(range(v.ndim)))
        last = min(17 + depth, 24)
        np.testing.assert_array_equal(
            ours.states[f"{name}.v"][0, : last - depth], truth[depth:last]
        )


# --- through the pipeline ---


@pytest.mark.parametrize("backend", [BACKEND, MCU], ids=["loihi", "mcu"])
@pytest.mark.parametrize("make", [rich, image])
def test_compiling_changes_no_integer(
    make: Callable[[Any], list[Layer]], backend: Backend, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.net", *make(np.random.default_rng(3)))
    prepared = job.prepare(path)
    lowered = lower(prepared.graph, job.plan_for(prepared, backend), backend)
    data = spikes(prepared.graph, 5)
    ours, theirs = interp.run(integer(path), data), interp.run(lowered.final, data)
    np.testing.assert_array_equal(ours.output, theirs.output)
    for name in ours.states.keys() & theirs.states.keys():
        np.testing.assert_array_equal(ours.states[name], theirs.states[name])


@pytest.mark.needs("models")
@pytest.mark.parametrize(("name", "cores"), [("mnist_netx", 3), ("oxford", 3), ("tiny", 1)])
def test_real_networks_compile(name: str, cores: int, models: Path) -> None:
    prepared = job.prepare(models / "lava-dl" / f"{name}.net")
    lowered = lower(prepared.graph, job.plan_for(prepared, BACKEND), BACKEND)
    found = BACKEND.footprint(lowered.final, BACKEND.devices["loihi2"])
    assert found.of("cores") == cores


def test_weights_that_the_chip_lacks_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.net", dense([[511.0, -3.0], [1.0, 0.0]]))
    prepared = job.prepare(path)
    with pytest.raises(LegalizeError, match="need 10 bits"):
        lower(prepared.graph, job.plan_for(prepared, BACKEND), BACKEND)


# --- what is said of a file ---


def test_neurons_that_never_fire_are_read_out(tmp_path: Path) -> None:
    weight = [[2.0, 4.0, -6.0]]
    alone = load_model(write(tmp_path / "a.net", dense(weight, None)))
    never = {"type": "CUBA", "iDecay": 0, "vDecay": 4096, "vThMant": 1 << 17}
    said = load_model(write(tmp_path / "b.net", dense(weight, never)))
    assert alone.graph.output.readout == "membrane_last"
    data = np.array([[[1, 0, 0], [1, 1, 0], [0, 0, 1]]])
    for imported in (alone, said):
        graph = quantize(canonical(imported.graph), imported.plan)
        np.testing.assert_array_equal(
            interp.run(graph, data).output.reshape(-1), np.array([2, 8, 2]) * 64
        )


def test_what_is_changed_or_left_is_reported(tmp_path: Path) -> None:
    layer = dense([[2.75, -3.5]], {**CUBA, "gradedSpike": True, "refDelay": 4}, delay=[70.0])
    told = "\n".join(map(str, load_model(write(tmp_path / "a.net", layer)).assumptions))
    for words in ("2 of 2 entries of weight lose their fraction", "gradedSpike is set aside",
                  "refDelay is set aside", "clamped to 62", "CubaLIF, fires above 90"):  # fmt: skip
        assert words in told


GOOD = [[2.0, 4.0]]


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([{"type": "unpool", "shape": [3]}], "layer 0: is of type 'unpool'"),
        ([dense(GOOD, {**CUBA, "type": "SDNN"})], "layer 0: its neurons are of type SDNN"),
        ([dense(GOOD, {**CUBA, "iDecay": 5000})], "iDecay is 5000, must be an integer of 0"),
        ([dense(GOOD, {"type": "CUBA", "iDecay": 1, "vDecay": 1})], "has no vThMant"),
        ([dense(GOOD, bias=[1.0, 2.0, 3.0])], "3 values of bias for neurons of shape"),
        ([dense(GOOD, delay=[1.0, 1.0, 1.0])], "has 3 delays for weights of shape"),
        ([dense(GOOD), dense(GOOD)], "layer 1: its weights take 2 inputs, the layer before has 1"),
        ([inlet(1, 4, 4), dense(GOOD)], "layer 1: reads an image of shape"),
        ([conv([[[[2.0]]]], [1, 3, 3])], "nothing says how large its input is"),
        ([inlet(3), inlet(3)], "layer 1: is an input layer behind other layers"),
        ([inlet(3)], "holds no layer of neurons"),
        ([inlet(1, 3, 3), conv([[[[2.0]]]], [1, 3, 3], delay=[2.0])], "behind a convolution"),
        ([inlet(1, 3, 3), conv([[[[2.0]]]], [1, 9, 9])], "says its shape is"),
        ([inlet(1, 3, 3), conv([[[[2.0]]]], [1e300, 1e300, 9])], "says its shape is [1.e+300"),
        ([inlet(1, 3, 3), conv([[[[2.0]]]], [[1, 9], [9, 9]])], "is [[1 9] [9 9]], but"),
        ([{**dense(GOOD), "type": "dense_rec", "weight_rec": [[1.0, 2.0]]}], "weight_rec has"),
        ([dense(GOOD), {"type": "average", "shape": [4]}], "averages 1 neurons in 4 groups"),
    ],
)  # fmt: skip
def test_bad_files(layers: list[Layer], says: str, tmp_path: Path) -> None:
    with pytest.raises(FrontendError) as caught:
        load_model(write(tmp_path / "a.net", *layers))
    assert says in str(caught.value)


def test_files_that_are_no_networks(tmp_path: Path) -> None:
    empty, text = tmp_path / "a.net", tmp_path / "b.net"
    h5py.File(empty, "w").close()
    text.write_text("no")
    for path, says in ((empty, "holds no layers"), (text, "is not an HDF5 file")):
        with pytest.raises(FrontendError, match=says):
            load_model(path)
    with h5py.File(empty, "a") as file:
        file["layer/1/type"] = "dense"
    with pytest.raises(FrontendError, match="none is called 0"):
        load_model(empty)


def test_options_of_another_format_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.net", dense(GOOD))
    with pytest.raises(FrontendError, match="reset cannot be chosen for the format lava-dl"):
        load_model(path, reset="zero")
    assert load_model(path, readout="first_spike").graph.output.readout == "first_spike"
