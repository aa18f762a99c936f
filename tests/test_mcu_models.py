"""Both models of the mcu target, of code and of instructions, know all that can be emitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from qspinn.backends.mcu import BACKEND, costmodel
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.codesize import VECTORS, code_bytes, functions, stack_bytes
from qspinn.backends.mcu.costparts import inference, stage_runs
from qspinn.backends.mcu.network import Network, Stage

from mcu_builds import convolutional, deaf, emitted, mlp, recurrent, rows_alone, valued
from mcu_nets import NETS, camera
from networks import random_network
from qspinn.cost import Activity
from qspinn.ir import Graph

MADE: Mapping[str, Callable[[], Graph]] = {
    "mlp": mlp, "large": lambda: mlp("large", (784, 128, 10)), "deaf": deaf, "valued": valued,
    "recurrent": recurrent, "conv": convolutional, "camera": camera,
    "ternary camera": lambda: camera(20, 8, "t"), "7-bit camera": lambda: camera(20, 8, "s7"),
    **NETS,
}  # fmt: skip
BUSY = Activity(5)


def defined(graph: Graph, **options: str) -> set[str]:
    """The functions in the emitted C that are not parts of others."""
    (text,) = (
        content.decode()
        for name, content in emitted(graph, **options).files.items()
        if name.endswith("_impl.h")
    )
    return set(re.findall(r"^(?:\w+ )*\w+_(?:STAGE|CALLED) (?:\w+ )*(\w+)\(", text, re.M))


def estimated(network: Network) -> None:
    """Every device gets estimates, and none of them is nothing."""
    for device in {d.core: d for d in BACKEND.devices.values()}.values():
        for compiler in ("clang", "gcc"):
            assert code_bytes(network, device, compiler) > 0
        assert stack_bytes(network, device) > 0
        if not network.eight:
            found = costmodel.cost(network, device, BUSY)
            assert (found is not None) == bool(costmodel.isa_of(device.core))
    for run in inference(network, BUSY):
        assert all(n >= 0 for n in run.parts.values()), run.function


@pytest.mark.parametrize("name", MADE)
def test_every_function_is_counted(name: str) -> None:
    graph = MADE[name]()
    network = build(BACKEND.legalize(graph))
    assert set(functions(network)) == defined(graph)
    estimated(network)


@pytest.mark.parametrize("profile", ["any", "loihi"])
def test_every_function_of_random_networks_is_counted(profile: str) -> None:
    for seed in range(6000, 6012):
        graph = random_network(seed, profile=profile)[0]
        network = build(BACKEND.legalize(graph))
        assert set(functions(network)) == defined(graph), seed
        estimated(network)


@pytest.mark.parametrize("name", ["mlp", "conv", "recurrent"])
def test_rows_that_are_not_in_tiles(name: str) -> None:
    with rows_alone():
        graph = MADE[name]()
        network = build(BACKEND.legalize(graph))
        assert set(functions(network)) == defined(graph)
        estimated(network)


@pytest.mark.parametrize(("name", "form"), [("mlp", "mask"), ("deaf", "mask"), ("valued", "load")])
def test_every_form_of_input(name: str, form: str) -> None:
    graph = MADE[name]()
    network = build(graph, form)
    assert set(functions(network)) == defined(graph, input=form)
    estimated(network)


def test_what_is_loaded_once_is_counted_once() -> None:
    def taken(form: str, steps: int) -> float:
        runs = inference(build(valued(), form), Activity(steps))
        return sum(run.parts.get("dense element", 0.0) for run in runs)

    assert taken("load", 20) == taken("load", 5) == taken("values", 1)
    assert taken("values", 20) == 20 * taken("values", 1)


@pytest.mark.parametrize("name", MADE)
def test_networks_for_8_bit_cores(name: str) -> None:
    estimated(build(BACKEND.legalize(MADE[name]()), eight=True))


def test_helium_adds_rows_within_its_stages() -> None:
    network = build(mlp("mlp", (40, 40, 10)))
    assert "mlp_tile_u8" in functions(network)
    vectors = functions(network, VECTORS)
    assert "mlp_tile_u8" not in vectors
    assert any("helium sum two" in parts for parts in vectors.values())


def test_neurons_that_send_nothing_take_less() -> None:
    """The shorter way is taken by the share that sends nothing."""
    network = build(convolutional())
    nodes = {source.node for source in network.sources.values()} - {""}

    def steps(rate: float) -> float:
        busy = Activity(5, dict.fromkeys(nodes, rate))
        runs = inference(network, busy)
        parts = (part for run in runs for part in run.parts.items())
        return sum(count for part, count in parts if part.startswith("each "))

    assert steps(0.0) < steps(0.2) < steps(1.0)


def test_a_stage_without_parts_is_an_error() -> None:
    class Unknown(Stage):
        template = "unknown"

    network = build(mlp())
    stage: Any = Unknown(name="mlp_unknown", title="")
    with pytest.raises(AssertionError, match="no known parts"):
        functions(replace(network, stages=(*network.stages, stage)))
    with pytest.raises(AssertionError, match="no known costs"):
        stage_runs(stage, None)  # type: ignore[arg-type]
