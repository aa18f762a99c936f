"""Several inputs in C: one list of events, each input with its place in it."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.joining import joined

from cli_runs import Run
from mcu_builds import dense, lif
from networks import describe
from qspinn import interp
from qspinn.errors import LegalizeError
from qspinn.fixed import QFormat
from qspinn.ir import Array, Conv2d, Flatten, Graph, Input, Output, Param
from qspinn.output import write_folder
from qspinn.plan import Plan
from qspinn.ports import places, together
from qspinn.validate import compare
from test_ports_files import ASKED, arrays, network, saved

SEEDS = range(120)


@cache
def taken() -> tuple[tuple[int, Graph, Array], ...]:
    """Random networks of several inputs that C takes."""
    found = []
    for seed in SEEDS:
        made = describe(seed, profile="wide any")
        graph = made.graph.only("out")
        if len(graph.of_type(Input)) < 2:
            continue
        try:
            found.append((seed, BACKEND.legalize(graph), made.data))
        except LegalizeError:
            continue
    return tuple(found)


def test_one_input_means_the_same() -> None:
    """States and spikes are equal on the same data: the rewrite is exact."""
    kinds = set()
    for seed, graph, data in taken():
        one = joined(graph)
        assert one.input.shape == data.shape[2:]
        mismatch = compare(interp.run(graph, data), interp.run(one, data))
        assert mismatch is None, f"wide any{seed}: {mismatch}"
        kinds |= {tuple(sorted({node.kind for node in graph.of_type(Input)}))}
    assert len(taken()) >= 8
    assert {("spike",), ("count", "spike")} <= kinds


def proves(graph: Graph, data: Array, folder: Path, executor: str = "host") -> str:
    """Every state of every neuron in C; returns the header."""
    emitted = BACKEND.emit(graph, BACKEND.devices[BACKEND.default_device], Plan({}))
    write_folder(folder, emitted.files, {})
    want = interp.run(graph, data)
    mismatch = compare(want, BACKEND.run(folder, graph, data, executor))
    assert mismatch is None, str(mismatch)
    assert want.output.any() or graph.name != "ears"
    return (folder / f"{emitted.name}.h").read_text()


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("nth", range(8))
def test_random_networks_in_c(nth: int, tmp_path: Path) -> None:
    _, graph, data = taken()[nth]
    proves(graph, data, tmp_path / "out")


def ears(rng: np.random.Generator, **options: Any) -> Graph:
    """Two inputs of one layer, one of them an image, and a third of the next layer."""
    return Graph(
        "ears",
        (
            Input(name="left ear", shape=(2, 3, 2), **options),
            Input(name="right", shape=(9,), **options),
            Input(name="mask", shape=(40,), **options),
            Flatten(name="flat", inputs=("left ear",)),
            dense(rng, "fc1", "flat", 8, 12),
            dense(rng, "fc2", "right", 8, 9),
            lif("one", ("fc1", "fc2"), 8, 90),
            dense(rng, "fc3", "one", 60, 8),
            dense(rng, "fc4", "mask", 60, 40),
            lif("two", ("fc3", "fc4"), 60, 90),
            Output(name="out", inputs=("two",)),
        ),
    )


def entered(rng: np.random.Generator, graph: Graph, high: int = 1) -> Array:
    return together(graph, {
        node.name: (rng.random((2, 9, *node.shape)) < 0.3) * rng.integers(1, high + 1)
        for node in graph.of_type(Input)
    })  # fmt: skip


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("kind", ["spike", "count"])
def test_the_header_says_where_each_input_is(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    graph = ears(rng, kind=kind, high=5 if kind == "count" else 1)
    header = proves(graph, entered(rng, graph, 5 if kind == "count" else 1), tmp_path / "out")
    said = dict(re.findall(r"#define EARS_((?:FROM|SIZE|NUM)_\w+) +(\d+)u", header))
    assert said.items() >= {
        "FROM_LEFT_EAR": "0", "SIZE_LEFT_EAR": "12", "FROM_RIGHT": "12", "SIZE_RIGHT": "9",
        "FROM_MASK": "21", "SIZE_MASK": "40", "NUM_INPUTS": "61",
    }.items()  # fmt: skip
    assert len(header.splitlines()) <= 150
    for node, part in places(graph.of_type(Input)):
        word = node.name.upper().replace(" ", "_")
        assert said[f"FROM_{word}"] == str(part.start)


@pytest.mark.needs("zig", "unicorn")
def test_on_an_emulated_core(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = ears(rng)
    proves(graph, entered(rng, graph), tmp_path / "out", "cortex-m4")


def test_weights_for_other_inputs_are_left_out(rng: np.random.Generator) -> None:
    graph = ears(rng)
    device = BACKEND.devices[BACKEND.default_device]
    (line,) = (
        line for line in BACKEND.footprint(graph, device).lines if line.owner == "fc4.weight"
    )
    assert line.bytes < 60 * 61  # 60 neurons, 40 of 61 elements, and an index


def test_what_is_refused(rng: np.random.Generator) -> None:
    graph = ears(rng)
    weight = Param(np.ones((1, 2, 1, 1)), graph["fc1"].params()["weight"].fmt)
    conv = Conv2d(name="conv", inputs=("left ear",), weight=weight)
    seen = (*graph.nodes, conv, lif("three", "conv", (1, 3, 2), 9))
    valued = graph.map(
        lambda n: replace(n, kind="current", fmt=param_format()) if n.name == "right" else n
    )
    cases = {
        "conv: reads left ear, one of 3 inputs, as a Conv2d": Graph("ears", seen),
        "its inputs enter as one list, of one kind and format: left ear spike, right s8f4": valued,
    }
    for says, refused in cases.items():
        with pytest.raises(LegalizeError, match=says):
            BACKEND.legalize(refused)


def param_format() -> QFormat:
    return QFormat(8, 4)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("encoder", ["none", "rate", "direct"])
def test_from_a_nir_file_to_c(encoder: str, qspinn: Run, tmp_path: Path) -> None:
    """With its encoder and self-test, with both outputs and with one."""
    path, out = network(tmp_path / "net.nir"), tmp_path / "out"
    data = saved(tmp_path / "d.npz", **arrays(spikes=encoder == "none"))
    steps = () if encoder == "none" else ("--steps", "8")
    done = qspinn("compile", path, *ASKED, "--data", data, "--encode", encoder, *steps, "--target",
                  "mcu", "--device", "stm32c011", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    assert "_kind_winner" in next(out.glob("*_selftest.h")).read_text()
    done = qspinn("validate", out, "--data", data, "--executor", "host")
    assert (done.code, "equal" in done.err) == (0, True)
    out = tmp_path / "one"
    done = qspinn("compile", path, *ASKED, "--data", data, "--encode", encoder, *steps, "--target",
                  "mcu", "--device", "stm32c011", "--only", "kind", "-o", out)  # fmt: skip
    assert done.code == 0, done.err
    done = qspinn("validate", out, "--data", data, "--executor", "host")
    assert (done.code, "equal" in done.err) == (0, True)
    work = qspinn("bench", out, "--core", "m4", "--data", data, "--json")
    assert work.code in (0, 3)  # 3: no emulator
    assert qspinn("check", out, "--data", data, "--executor", "host").code == 0
