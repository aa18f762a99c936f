"""Words and cores of networks on Loihi, beside what Intel's compiler logged; budgets of a core."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping as MappingOf
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND, mapreport
from qspinn.backends.loihi.chips import CORES, DEVICES, RESOURCES, Core
from qspinn.backends.loihi.footprint import layers_of
from qspinn.backends.loihi.mapping import Mapping, mapped
from qspinn.backends.loihi.synapses import Kernel
from qspinn.backends.loihi.synmem import loihi1_kernel, loihi1_row, loihi2_kernel, slice_words

from cli_runs import Run
from loihi_cores import LOGGED, dense, legal, model, networks, pilotnet, records
from loihi_nets import linear, neuron
from networks import describe
from qspinn.fixed import QFormat
from qspinn.ir import Conv2d, Graph, Param
from qspinn.memory import excesses
from qspinn.plan import Plan
from tree import ROOT

MNIST = ROOT / "examples" / "mnist" / "mnist.nir"
CONFIDENCE = {"measured", "public", "inferred", "unconfirmed"}


def mapping(graph: Graph, device: str = "loihi2", **budget: int) -> Mapping:
    limits = {name.replace("_", "-"): size for name, size in budget.items()}
    return mapped(graph, layers_of(graph), DEVICES[device].within(limits))


# --- words of synaptic memory ---

# What Intel's compiler logged for Loihi 2: axons, neurons, weight bits, words of synaptic memory.
WORDS = [
    (200, 256, 8, 16200), (200, 255, 8, 16000), (200, 85, 8, 5400), (256, 200, 8, 16128),
    (2560, 100, 3, 61440), (2560, 17, 3, 12800), (100, 50, 4, 1300), (50, 10, 5, 150),
    (10, 1, 6, 10), (2560, 100, 4, 66560), (2560, 17, 4, 12800), (100, 50, 6, 1500),
    (10, 1, 4, 10),
]  # fmt: skip


@pytest.mark.parametrize(("axons", "neurons", "bits", "words"), WORDS)
def test_synaptic_memory_is_what_intel_s_compiler_logs(
    axons: int, neurons: int, bits: int, words: int
) -> None:
    assert slice_words(axons, neurons, bits) == words


def test_the_logged_mean_of_a_layer_on_twelve_cores() -> None:
    """100 neurons in slices of 9: eleven whole ones and a single neuron."""
    words = [slice_words(2560, n, 3) for n in (*[9] * 11, 1)]
    assert sum(words) // len(words) == 7253


# Logged convolutions of pilotnet_snn, 3 x 3: outputs, inputs, weight bits, words.
CONVOLUTIONS = [
    (24, 3, 5, 81), (36, 24, 4, 864), (48, 36, 4, 1620), (64, 48, 4, 2160), (64, 64, 4, 2880),
]  # fmt: skip


def kernel(outs: int, ins: int, size: int = 3, groups: int = 1, **geometry: Any) -> Kernel:
    image = (ins * groups, geometry.pop("height", 9), geometry.pop("width", 9))
    usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), **geometry}
    return Kernel(np.ones((outs, ins, size, size), np.int64), image, groups=groups, **usual)


@pytest.mark.parametrize(("outs", "ins", "bits", "words"), CONVOLUTIONS)
def test_logged_convolutions_lie_in_the_range(outs: int, ins: int, bits: int, words: int) -> None:
    found = loihi2_kernel(kernel(outs, ins), bits, outs)
    assert found.low <= words <= found.high
    assert found.high < 1.7 * words


def bits_per_axon(n_weights: int, each: int) -> int:
    """nengo-loihi's formula, written as it is there."""
    bits = 0
    for i in range(0, n_weights, 64):
        n = min(n_weights - i, 64)
        bits += -64 * (-(n * each + 4 + 6) // 64)
    return bits


def test_rows_of_loihi_1_are_nengo_loihi_s() -> None:
    for n in (0, 1, 2, 63, 64, 65, 127, 128, 129, 1000):
        for bits, delay, index in ((8, 0, 0), (3, 0, 1024), (5, 62, 0), (1, 1, 40), (8, 7, 4096)):
            each = bits + delay.bit_length() + {0: 0, 40: 6, 1024: 10, 4096: 12}[index]
            assert 64 * loihi1_row(n, bits, delay, index) == bits_per_axon(n, each)


def test_borders_of_loihi_1() -> None:
    """Pixels inside reach 9 taps; 25 sets of them in all, with (1 + 2 + 3 + 2 + 1) ** 2 taps."""
    found = loihi1_kernel(kernel(64, 2), 8, 64)
    once = 9 * -(-(64 * (8 + 12) + 10) // 64)
    assert found.low == 2 * once
    assert found.high == 2 * 81 * (once // 9)
    strided = loihi1_kernel(kernel(64, 2, size=2, stride=(2, 2), height=8, width=8), 8, 64)
    assert strided.low == strided.high == 2 * 4 * (once // 9)


# --- limits ---


def test_every_figure_has_a_source_and_a_confidence() -> None:
    for name, device in DEVICES.items():
        core, limits = CORES[name], {limit.what: limit for limit in device.limits}
        assert {limit.confidence for limit in device.limits} <= CONFIDENCE
        assert all(limit.source and limit.value for limit in device.limits)
        for what, most in zip(RESOURCES, core.most, strict=True):
            assert limits[f"core-{what}"].value.split()[0] == str(most)
            assert device.regions[f"core-{what}"] == most
        assert limits["cores of a chip"].value == str(core.chip) == str(device.regions["cores"])
        assert device.regions["synmem"] == 8 * core.chip * core.most[-1]


def test_targets_shows_limits(qspinn: Run) -> None:
    told = qspinn("targets", "loihi").unwrapped().err
    assert "12000 of 64 bits measured" in told
    assert "loihi1: limits" in told
    facts = json.loads(qspinn("targets", "loihi", "--json").out)["loihi"]["devices"]["loihi2"]
    assert {limit["confidence"] for limit in facts["limits"]} == CONFIDENCE


# --- cores of networks ---

# Network: cores on Loihi 2 and their bound, on Loihi 1 and their bound.
COUNTED = {
    "784-128-10": (3, 3, 1, 1),
    "784-400-400": (13, 13, 5, 4),
    "nmnist": (1, 1, 2, 2),
    "tiny": (1, 1, 2, 2),
    "mnist 784-128-64-10": (3, 3, 1, 1),
    "oxford": (3, 3, 1, 1),
    "braille": (1, 1, 1, 1),
    "cnn_sinabs": (4, 4, 10, 9),
    "pilotnet_sdnn": (30, 30, 121, 117),
}
MADE = ("784-128-10", "784-400-400", "nmnist", "pilotnet_sdnn")


def assert_counted(name: str, graph_for: Callable[[str], Graph]) -> None:
    found = []
    for device in ("loihi2", "loihi1"):
        made = mapping(graph_for(device), device)
        assert made.fewest <= len(made.high.cores)
        assert not mapreport.beyond(made)
        found += [len(made.high.cores), made.high.bound.cores]
    assert tuple(found) == COUNTED[name]
    assert found[0] <= 1.1 * LOGGED.get(name, found[0])


@pytest.mark.parametrize("name", MADE)
def test_cores_of_networks(name: str) -> None:
    assert_counted(name, networks(None, ROOT / "examples")[name])


@pytest.mark.needs("models")
@pytest.mark.parametrize("name", [name for name in COUNTED if name not in MADE])
def test_cores_of_trained_networks(name: str, models: Path) -> None:
    assert_counted(name, networks(models, ROOT / "examples")[name])


@pytest.mark.slow
@pytest.mark.needs("lava-dl")
def test_cores_of_the_recorded_drive() -> None:
    folder = records()
    assert folder is not None
    made = mapping(model(folder / "gts/pilotnet_lif/network.net", "loihi2"))
    assert len(made.high.cores) == made.high.bound.cores == 39 <= 1.1 * LOGGED["pilotnet_lif"]


def test_a_bound_is_not_above_what_can_be_done() -> None:
    """Four cores of Loihi 1 hold 784-400-400, cut by blocks of 64 synapses; not found yet."""
    made = mapping(networks(None, ROOT / "examples")["784-400-400"]("loihi1"), "loihi1")
    first, second = made.high.loads
    ends = ((0, 126, 252, 378, 400), (0, 54, 108, 162, 400))
    for (a, b), (c, d) in zip(*(pairwise(each) for each in ends), strict=True):
        used = map(sum, zip(first.need(a, b), second.need(c, d), strict=True))
        assert all(n <= m for n, m in zip(used, made.most, strict=True))
    assert made.high.bound.cores <= 4


def test_every_neuron_lies_on_a_core() -> None:
    made = mapping(pilotnet())
    placed = np.zeros(len(made.high.loads), np.int64)
    for core in made.high.cores:
        for piece in core.pieces:
            placed[piece.load] += piece.stop - piece.start
    assert placed.tolist() == [load.size for load in made.high.loads]


@pytest.mark.parametrize("region", [f"core_{what}" for what in RESOURCES])
@pytest.mark.parametrize("device", ["loihi2", "loihi1"])
def test_smaller_cores_are_never_fewer(region: str, device: str) -> None:
    draw = np.random.default_rng(3)
    weights = Param(draw.integers(-8, 8, (6, 2, 3, 3)), QFormat(8, -1))
    nodes = [
        Conv2d(name="conv", inputs=("input",), weight=weights),
        neuron("one", ("conv",), (6, 8, 10), {"decay": draw.integers(1, 9, (6, 1, 1))}),
        linear("fc", "one", draw.integers(-8, 8, (30, 480))),
        neuron("two", ("fc",), (30,), {"decay": draw.integers(1, 4, 30)}),
    ]
    graph = legal("mixed", (2, 10, 12), nodes)
    most = DEVICES[device].regions[region.replace("_", "-")]
    counts = []
    for share in (1.0, 0.5, 0.3, 0.2, 0.1, 0.05):
        made = mapping(graph, device, **{region: int(np.ceil(most * share))})
        if mapreport.beyond(made):
            break
        counts.append(len(made.high.cores))
    assert len(counts) > 1
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("region", "most"), [("core_words", 1500), ("core_words", 500), ("core_axons", 300)]
)
def test_no_layer_needs_more_than_the_bound(region: str, most: int) -> None:
    """Images can be cut in several ways; what holds for a layer must hold for each of them."""
    made = mapping(
        networks(None, ROOT / "examples")["nmnist"]("loihi1"), "loihi1", **{region: most}
    )
    for placement in (made.high, made.low):
        assert max(placement.bound.alone) <= placement.bound.cores <= len(placement.cores)


@pytest.mark.parametrize("device", ["loihi2", "loihi1"])
def test_random_networks_are_mapped(device: str) -> None:
    most = 0
    for seed in range(12):
        graph, counts = BACKEND.legalize(describe(seed, profile="loihi").graph), []
        for words in (12000, 300, 100, 40):
            made = mapping(graph, device, core_words=words)
            if mapreport.beyond(made):
                break
            assert len(made.high.cores) >= made.high.bound.cores
            counts.append(len(made.high.cores))
        assert counts == sorted(counts)
        most = max(most, *counts)
    assert most > 5, "some need several cores"


def test_decays_of_their_own_need_groups() -> None:
    """Neurons of one group are put side by side."""
    decays = np.arange(40) % 20
    graph = legal("own", (9,), [
        linear("fc", "input", np.ones((40, 9))), neuron("lif", ("fc",), (40,), {"decay": decays}),
    ])  # fmt: skip
    made = mapping(graph)
    assert len(made.high.cores) == made.high.bound.cores == 3
    assert made.high.bound.resource == "groups"
    assert [core.used[:2] for core in made.high.cores] == [(16, 8), (16, 8), (8, 4)]


def test_channels_of_large_kernels_are_cut() -> None:
    """A kernel of 6912 words at the least does not fit 4000; some of its channels do."""
    weights = Param(np.ones((48, 128, 3, 3)), QFormat(8, -1))
    graph = legal("deep", (128, 3, 3), [
        Conv2d(name="conv", inputs=("input",), weight=weights),
        neuron("lif", ("conv",), (48, 1, 1)),
    ])  # fmt: skip
    made = mapping(graph, core_words=4000)
    assert not mapreport.beyond(made)
    assert len(made.high.cores) > 1
    assert all(core.used[-1] <= 4000 for core in made.high.cores)


def test_a_layer_with_too_many_inputs_fits_no_core() -> None:
    graph = dense(5000, 3)
    device = DEVICES["loihi1"]
    (excess,) = excesses(BACKEND.footprint(graph, device), device.regions)
    assert (excess.region, excess.needs, excess.has) == ("core-axons", 5000, 4096)
    assert "lif1 fits no core: 5000 axons, a core has 4096" in mapreport.summary(
        mapping(graph, "loihi1")
    )
    assert not excesses(BACKEND.footprint(graph, DEVICES["loihi2"]), DEVICES["loihi2"].regions)


# --- what is told ---


def test_the_report(golden: str) -> None:
    assert mapreport.text(mapping(dense(784, 400, 40)), "dense") == golden


def test_the_package_has_the_mapping() -> None:
    graph = pilotnet()
    artifact = BACKEND.emit(graph, DEVICES["loihi2"], Plan({}))
    facts: MappingOf[str, Any] = artifact.facts["mapping"]
    assert json.loads(json.dumps(facts)) == facts
    assert sum(row["count"] for row in facts["placed"]) == facts["cores"][1] == 30
    assert (
        sum(row["neurons"] for row in facts["layers"])
        == 118_909
        == sum(row["count"] * size for row in facts["placed"] for _, size in row["holds"])
    )
    text = artifact.files["mapping.txt"].decode()
    assert text.startswith(f"pilotnet_sdnn: {mapreport.summary(mapping(graph))}\n")
    assert "Words of convolutions are known as a range" in text
    assert max(map(len, text.splitlines())) < 300


def test_equal_cores_are_told_once() -> None:
    made = mapping(dense(8000, 300))
    (row, *rest) = mapreport.core_rows(made)
    assert (row.first, row.count, row.holds) == (0, 150, (("lif1", 2),))
    assert not rest
    assert "2 chips of 120" in mapreport.summary(made)
    assert len(mapreport.text(made, "wide").splitlines()) < 50


# --- budgets ---


@pytest.mark.parametrize("device", ["loihi1", "loihi2"])
def test_compile_and_check_within_a_budget(device: str, qspinn: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    budget = "cores=4,core-words=9000"
    done = qspinn("compile", MNIST, "--target", "loihi", "--device", device, "--budget", budget,
                  "-o", folder, "--json").unwrapped()  # fmt: skip
    assert done.code == 0, done.err
    assert f"cores of {device} on 1 chip" in done.err
    regions = json.loads(done.out)["regions"]
    assert regions["core-words"] <= 9000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["facts"]["mapping"]["most"]["words"] == 9000
    assert manifest["facts"]["mapping"]["cores"][1] == regions["cores"] <= 4
    failed = qspinn(
        "check", folder, "--budget", "cores=1,core-words=7000", "--samples", 1, "--json"
    )
    (cores, words, *_) = json.loads(failed.out)["checks"]
    assert (cores["name"], cores["passed"]) == ("cores", False)
    assert "cores lif1" in cores["detail"]
    assert words["passed"], "the mapping keeps to it"


def test_a_refusal_names_the_largest_and_what_helps(qspinn: Run, tmp_path: Path) -> None:
    def refused(budget: str) -> str:
        done = qspinn(
            "compile", MNIST, "--target", "loihi", "--budget", budget, "-o", tmp_path / "o"
        )
        assert done.code == 1
        return done.unwrapped().err

    told = refused("core-words=500")
    assert "core-words: needs 784 words, the limit is 500 words lif1 784" in told
    assert "a neuron has more synapses than a core's memory: give its weights fewer bits" in told
    told = refused("cores=2")
    assert "cores: needs 3, the limit is 2 lif1 3" in told
    assert "give the largest layers fewer bits" in told
    told = qspinn("compile", MNIST, "--target", "loihi", "--budget", "core-word=5", "-o",
                  tmp_path / "o").unwrapped().err  # fmt: skip
    assert "core-words" in told, "the hint lists what there is"


def test_both_chips_share_names_of_regions() -> None:
    one, two = DEVICES.values()
    assert one.regions.keys() == two.regions.keys()
    assert isinstance(CORES[one.core], Core)
