"""The cost model against what emulated cores execute, and where its figures appear."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, chances, costmodel, toolchain
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.codesize import VECTORS
from qspinn.backends.mcu.costmodel import COST
from qspinn.backends.mcu.costparts import inference
from qspinn.backends.mcu.counting import count
from qspinn.backends.mcu.plugin import counted
from qspinn.backends.mcu.running import Counts
from qspinn.backends.mcu.scan import scan

from cli_runs import Run
from mcu_builds import convolutional, deaf, emitted, events, files_of, mlp, recurrent
from mcu_nets import camera, few_bits, votes
from networks import random_network
from qspinn.activity import observed
from qspinn.cost import ASSUMED_RATE, Activity
from qspinn.errors import PlanError
from qspinn.explore.files import read
from qspinn.ir import Conv2d, Graph
from qspinn.plan import parse
from test_mcu_footprint import cuba
from tree import ROOT

DIGITS = ROOT / "examples" / "digits" / "digits.nir"
DATA = ROOT / "examples" / "digits" / "digits.npz"
OFF = 0.05
"""How far predicted instructions are off, at most."""
ROUGH = {"deep": 0.055, "camera": 0.055, "few bits": 0.09}
"""The same of networks where compilers do one thing or another with the loops over weights."""

USUAL: Mapping[str, Callable[[], Graph]] = {
    "mlp": lambda: mlp("mlp", (64, 32, 10)),
    "large": lambda: mlp("large", (784, 128, 10)),
    "packed": lambda: mlp("packed", (64, 40, 10), bits=4),
    "deaf": lambda: deaf("deaf"),
    "cuba": cuba,
    "recurrent": recurrent,
    "conv": convolutional,
    "wide conv": lambda: convolutional("wide", 16, 16),
    "votes": votes,
    "deep": lambda: mlp("deep", (100, 64, 48, 24, 12), bits=16),
    "deaf, packed": lambda: deaf("packed", (200, 64, 10), 2),
    "camera": camera,
    "few bits": few_bits,
}
"""None of them is among those that the table was fitted to."""


def error(graph: Graph, core: str, compiler: str, table: Mapping[str, float]) -> float:
    """By how much the model misses the instructions of a sample."""
    network = build(graph)
    data = events(graph, batch=1, steps=6 if graph.of_type(Conv2d) else 24)
    seen = counted(files_of(graph), network, data, toolchain.CORES[core], compiler)
    real = int(seen.steps.sum() + seen.resets.sum() + seen.winners.sum()) / len(data)
    vectors = toolchain.CORES[core].isa == VECTORS
    runs = inference(network, observed(graph, data, engine="numpy"), vectors)
    return sum(costmodel.instructions(run.parts, table) for run in runs) / real - 1


@pytest.mark.needs("unicorn", "arm-gcc")
@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_usual_networks(name: str, core: str) -> None:
    """Nearly the instructions that a core executes, spikes that come together included."""
    table = COST[f"{toolchain.CORES[core].isa} gcc"]
    assert abs(error(USUAL[name](), core, "gcc", table)) < ROUGH.get(name, OFF)


@pytest.mark.slow
@pytest.mark.needs("unicorn", "arm-gcc", "riscv-gcc")
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m33", "rv32imc"])
@pytest.mark.parametrize("name", USUAL)
def test_usual_networks_on_other_cores(name: str, core: str) -> None:
    table = COST[f"{toolchain.CORES[core].isa} gcc"]
    assert abs(error(USUAL[name](), core, "gcc", table)) < ROUGH.get(name, OFF)


@pytest.mark.needs("unicorn", "riscv-gcc")
@pytest.mark.parametrize("name", ["mlp", "packed", "votes"])
def test_a_core_without_a_multiplier(name: str) -> None:
    """A CH32V003: sixteen registers, and products by a function."""
    graph = USUAL[name]()
    network, data = build(graph), events(graph, batch=1, steps=24)
    real = count(files_of(graph), network, data, toolchain.RV32EC, "gcc")
    told = BACKEND.cost(graph, BACKEND.devices["ch32v003"], observed(graph, data, engine="numpy"))
    taken = int(real.steps.sum() + real.resets.sum() + real.winners.sum())
    assert told is not None
    assert abs(told.instructions / taken - 1) < 2 * OFF


@pytest.mark.needs("unicorn", "arm-gcc")
def test_a_wrong_table_is_seen() -> None:
    wrong = {**COST["armv7em gcc"], "tile row": 1.3 * COST["armv7em gcc"]["tile row"]}
    assert abs(error(USUAL["large"](), "cortex-m4", "gcc", wrong)) > 0.05


def test_every_stage_has_costs() -> None:
    """What random networks run has a price wherever it was measured."""
    table = COST["armv7em gcc"]
    for seed in range(900, 930):
        for run in inference(build(random_network(seed)[0]), Activity(4)):
            assert all(n >= 0 for n in run.parts.values())
    priced = {p for run in inference(build(USUAL["large"]()), Activity(4)) for p in run.parts}
    assert priced <= table.keys()


# --- how much happens ---


@pytest.mark.parametrize("bits", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, 1.0])
def test_the_expected_scan_is_that_of_all_words(bits: int, rate: float) -> None:
    busy = turns = skips = 0.0
    for word in itertools.product((0, 1), repeat=bits):
        chance = math.prod(rate if bit else 1 - rate for bit in word)
        left = sum(bit << i for i, bit in enumerate(word))
        busy += chance * (left != 0)
        while left:
            while left & 15 == 0:
                left >>= 4
                skips += chance
            left >>= 1
            turns += chance
    found = scan(bits, rate)
    for one, other in ((found.busy, busy), (found.turns, turns), (found.skips, skips)):
        assert math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    assert (found.words, found.spikes) == (1, bits * rate)


def test_words_are_scanned_one_by_one() -> None:
    one, all_of_them = scan(32, 0.2), scan(100, 0.2)
    assert all_of_them.turns == 3 * one.turns + scan(4, 0.2).turns


def test_more_events_cost_more() -> None:
    for make in USUAL.values():
        network = build(make())
        nodes = {source.node for source in network.sources.values()} - {""}
        totals = [
            sum(costmodel.instructions(run.parts, COST["armv7em gcc"]) for run in runs)
            for rate in (0.02, 0.2)
            for runs in [inference(network, Activity(10, dict.fromkeys(nodes, rate)))]
        ]
        assert 0 < totals[0] < totals[1]


def test_counts_add_up() -> None:
    one = Counts.of([("a", 2), ("b", 0), ("a", 1)])
    assert one == {"a": 3}
    assert one + Counts.of([("b", 2)]) == {"a": 3, "b": 2}
    assert one.times(2) == {"a": 6}


# --- what is assumed ---


def test_an_activity_is_part_of_a_plan() -> None:
    busy = Activity(25, {"x": 0.123456, "lif1": 0.05}, {"x": 0.75}, {"x": 0.5}, {"lif1": 0.0625})
    options = busy.options()
    assert options == {
        "rate.x": "0.123", "rate.lif1": "0.05", "heard.x": "0.75", "silent.x": "0.5",
        "pairs.lif1": "0.0625", "typical_steps": "25",
    }  # fmt: skip
    lines = "".join(f"option {k} = {v}\n" for k, v in options.items())
    plan = parse(f"# qspinn plan 1\n{lines}")
    assert parse(plan.text()).options == options
    rates = {"x": 0.123, "lif1": 0.05}
    assert Activity.of(plan.options) == Activity(25, rates, {"x": 0.75}, {"x": 0.5}, busy.pairs)


def test_an_older_plan_says_less() -> None:
    found = Activity.of({"rate.lif1": "0.2", "heard.x": "0.5", "typical_steps": "3"})
    assert found == Activity(3, {"lif1": 0.2}, {"x": 0.5})
    assert found.pair("lif1") == 1 - 0.8**2


def test_nothing_known_is_a_rate_that_is_told() -> None:
    assert Activity.of({}).rate("lif1") == ASSUMED_RATE == 0.05
    assert Activity.of({"steps": "30"}).steps == 30
    assert Activity.of({"steps": "0", "typical_steps": "7"}).steps == 7
    for options in ({"rate.x": "much"}, {"rate.x": "1.5"}, {"typical_steps": "some"}):
        with pytest.raises(PlanError):
            Activity.of(options)


def test_observed_activity() -> None:
    graph = deaf("deaf")
    data = events(graph, batch=3, steps=12)
    seen = observed(graph, data)
    assert seen == observed(graph, data, engine="numpy")
    assert seen.steps == 12
    assert seen.rates["x"] == (data != 0).mean()
    used = graph["fc1"].params()["weight"].values.any(0)
    assert seen.heard["x"] == (data[..., used] != 0).sum() / (data != 0).sum()
    assert 0 < seen.rates["lif1"] < 1
    assert seen.silent["x"] == 1 - (data != 0).any(-1).mean()
    assert seen.rates["lif1"] <= seen.pairs["lif1"] <= 2 * seen.rates["lif1"]


def test_silent_steps_are_seen() -> None:
    """Neurons that inhibit each other fire together, or not at all."""
    graph = votes()
    busy = observed(graph, events(graph, steps=24), engine="numpy")
    independent = (1 - busy.rates["exc"]) ** 40
    assert busy.silent["exc"] > 0.3 > independent
    network, table = build(graph), COST["armv6m gcc"]
    both = [
        sum(costmodel.instructions(run.parts, table) for run in inference(network, activity))
        for activity in (busy, replace(busy, silent={}))
    ]
    assert both[0] < both[1]


def test_spikes_within_an_image_reach_further() -> None:
    """What lies on the edges is seen by fewer windows: known, it is no longer assumed."""
    graph = USUAL["few bits"]()
    busy = observed(graph, events(graph, steps=6), engine="numpy")
    assert 0 < busy.edges["l1"] < 22 / 42  # the share of the places
    network = build(graph)
    told = [
        sum(run.parts.get("scatter row", 0.0) for run in inference(network, activity))
        for activity in (busy, replace(busy, edges={}), replace(busy, edges={"l1": 22 / 42}))
    ]
    assert told[0] > told[1]
    assert math.isclose(told[1], told[2], rel_tol=0.01)


@pytest.mark.parametrize(("count", "rate", "most"), [(9, 0.3, 4), (30, 0.9, 7), (5, 0.0, 2)])
def test_expected_blocks(count: int, rate: float, most: int) -> None:
    seen = np.random.default_rng(1).binomial(count, rate, 200_000)
    assert math.isclose(chances.blocks(count, rate, most), (-(-seen // most)).mean(), rel_tol=0.01)
    assert math.isclose(chances.rest(count, rate, most), (seen % most).mean(), rel_tol=0.01)
    assert (chances.blocks(count, 1.0, most), chances.rest(count, 1.0, most)) == (
        -(-count // most), count % most,
    )  # fmt: skip


def test_a_refinement_counts_where_it_was_measured() -> None:
    parts = Counts.of([("row", 2), ("row: twice", 2), ("other", 1)])
    assert costmodel.instructions(parts, {"row": 10.0}) == 21
    assert costmodel.instructions(parts, {"row": 10.0, "row: twice": -3.0}) == 15


# --- where it is told ---


def test_a_header_tells_what_an_inference_takes() -> None:
    graph = mlp("mlp", (64, 32, 10))
    assumed = emitted(graph, steps="20").files["mlp.h"].decode()
    assert re.search(r"by a model, at -O2: 20 steps with 5% of all inputs", assumed)
    busy = {"steps": "20", "rate.x": "0.3", "rate.lif1": "0.2", "rate.lif2": "0.1"}
    told = emitted(graph, **busy).files["mlp.h"].decode()
    assert "30 % of x, 20 % of lif1, 10 % of lif2" in told.replace("\n *  ", " ")
    for core in ("M0PLUS", "M3", "M4", "M33", "RV32IMC"):
        few, many = (
            int(m[1]) for text in (assumed, told)
            if (m := re.search(rf"#define MLP_INSN_TYP_{core} +(\d+)u", text))
        )  # fmt: skip
        assert 10_000 < few < many < 1_000_000
    assert len(told.splitlines()) <= 150


def test_cores_that_nobody_measured_have_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = mlp()
    monkeypatch.delitem(COST, "rv32ec gcc")
    for name, known in (("attiny85", True), ("ch32v003", False), ("stm32h743xi", True)):
        device = BACKEND.devices[name]
        assert BACKEND.models(device) == known
        found = BACKEND.cost(graph, device, Activity(10))
        assert (found is not None) == known
    assert found is not None
    assert found.core == "cortex-m7"
    assert found.milliseconds is not None
    assert found.milliseconds == 1e3 * found.instructions * found.cycles / 480e6


@pytest.fixture
def qspinn(qspinn: Run) -> Run:
    return lambda *args: qspinn(*args).unwrapped()


def test_compile_tells_it(tmp_path: Path, qspinn: Run) -> None:
    words = ("compile", DIGITS, "--target", "mcu", "--device", "stm32f411xe", "--json")
    code, out, err = qspinn(*words, "--data", DATA, "-o", tmp_path / "out")
    assert code == 0, err
    assert "Instructions of an inference on cortex-m4, as gcc compiles it (model)" in err
    told = json.loads(out)["cost"]
    assert told["core"] == "cortex-m4"
    assert 0.01 < told["rates"]["input"] < 0.6
    assert told["milliseconds"] > 0
    rounding = len(told["lines"]) / 2 + 0.5  # every line and the total are whole numbers
    assert abs(sum(told["lines"].values()) - told["instructions"]) <= rounding
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["cost"] == told
    plan = (tmp_path / "out" / "plan.txt").read_text()
    assert "option rate.input = " in plan
    header = (tmp_path / "out" / "digits.h").read_text()
    typical = re.search(r"DIGITS_INSN_TYP_M4 +(\d+)u", header)
    assert typical
    assert int(typical[1]) == float(f"{told['instructions']:.3g}")
    assert "(measured)" in header
    # The same plan without data tells the same.
    again = qspinn(*words, "--plan", tmp_path / "out" / "plan.txt", "-o", tmp_path / "again")
    assert json.loads(again[1])["cost"]["instructions"] == told["instructions"]
    assert (tmp_path / "again" / "digits.h").read_text() == header


def test_compile_refuses_what_takes_too_long(
    tmp_path: Path, qspinn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compile", DIGITS, "--target", "mcu", "-o", tmp_path / "out")
    code, _, err = qspinn(*words, "--max-instructions", "1000")
    assert code == 1
    assert re.search(r"digits: an inference takes [\d,]+ instructions .* the limit is 1,000", err)
    monkeypatch.delitem(COST, "rv32ec gcc")
    code, _, err = qspinn(*words, "--max-instructions", "1000", "--device", "ch32v003")
    assert code == 2
    assert "no model of the instructions of rv32ec" in err


SMALL = (
    "--target", "mcu", "--data", DATA, "--max-drop", "3%", "--try", "weight=8,4",
    "--try", "membrane=16,8", "--try", "weight:rounding=nearest_even", "--try", "scale=",
    "--try", "decay=", "--try", "threshold=", "--try", "bias=", "--try", "input=all",
    "--try", "steps=24,14,7",
)  # fmt: skip


def test_the_explorer_keeps_to_a_limit(
    tmp_path: Path, qspinn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QSPINN_CACHE", str(tmp_path / "cache"))
    words = ("explore", DIGITS, *SMALL, "--objective", "accuracy", "--objective", "instructions")
    code, _, err = qspinn(*words, "-o", tmp_path / "free")
    assert code == 0, err
    free = read(tmp_path / "free")
    measured = [e for e in free.entries if e.complete]
    assert all(e.instructions for e in measured)
    assert len({e.instructions for e in measured}) > 6
    front = sorted((e.instructions or 0.0, e.accuracy.value) for e in free.front if e.accuracy)
    assert front == sorted(front, key=lambda pair: pair[1]), "the more accurate take more"
    assert free.winner is not None
    limit = sorted(e.instructions or 0.0 for e in measured)[len(measured) // 3]
    again = ("explore", DIGITS, *SMALL, "--max-instructions", limit, "-o", tmp_path / "kept")
    code, _, err = qspinn(*again)
    kept = read(tmp_path / "kept")
    if code:
        assert "the obstacle: instructions" in err
    else:
        assert kept.winner is not None
        assert 0 < (kept.winner.instructions or 0) <= limit
        assert f"instructions of {limit:,.0f}" in err
    assert kept.limits.instructions == limit
    code, _, err = qspinn(*again[:-2], "-o", tmp_path / "none", "--max-instructions", "5")
    assert code == 1
    assert "the obstacle: instructions" in err


def test_no_limit_where_nobody_counts(tmp_path: Path, qspinn: Run) -> None:
    words = ("explore", DIGITS, "--target", "loihi", "--data", DATA, "-o", tmp_path / "out")
    for option in (("--max-instructions", "5"), ("--objective", "instructions")):
        code, _, err = qspinn(*words, *option)
        assert code == 2
        assert "no model of the instructions" in err
