"""The emitted C on an emulated RP2040: the states are equal, and the model of cycles holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qspinn.backends.mcu import BACKEND, rp2040
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.plugin import counted
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import agrees, convolutional, events, files_of, mlp, recurrent
from mcu_nets import few_bits, votes
from networks import random_network
from qspinn.errors import BackendError, ToolchainError
from qspinn.ir import Graph
from tree import ROOT

EMULATED = pytest.mark.needs("arm-gcc", "rp2040js", "unicorn")


@EMULATED
@pytest.mark.parametrize("make", [mlp, recurrent, convolutional, votes, few_bits])
def test_every_state_is_equal(make: Callable[[], Graph]) -> None:
    graph = make()
    agrees(graph, events(graph, batch=2, steps=6), rp2040.EXECUTOR)


@EMULATED
def test_random_networks() -> None:
    for seed in (990, 991, 992):
        agrees(*random_network(seed), rp2040.EXECUTOR)


@EMULATED
@pytest.mark.parametrize("make", [mlp, recurrent, convolutional])
def test_modelled_cycles_are_those_of_another_emulator(make: Callable[[], Graph]) -> None:
    """Of every step's call, which here includes setting up its arguments."""
    graph = make()
    data, files, network = events(graph, batch=2, steps=6), files_of(graph), build(graph)
    seen = rp2040.cycles(files, network, data)
    found = counted(files, network, data, CORES["cortex-m0plus"], "gcc")
    assert found.cycles is not None
    model = found.cycles[0].sum(-1)
    assert (abs(seen - model) <= 6 + 0.002 * model).all(), (seen - model, model)


@EMULATED
def test_the_memory_is_the_parts_own() -> None:
    """150,000 membranes of 16 bits do not fit 264 KiB; elsewhere they would."""
    graph = mlp("broad", (4, 150_000), bits=16)
    with pytest.raises(BackendError, match="does not fit the RP2040: 2048 KiB of flash, 264 KiB"):
        record(files_of(graph), build(graph), events(graph, batch=1, steps=1), rp2040.EXECUTOR)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rp2040.rp2040js.cache_clear()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolchainError, match="Node is not installed"):
        rp2040.rp2040js()
    (tool,) = (t for t in BACKEND.tools() if t.name == "rp2040js")
    assert (tool.needed_for, tool.found) == ("rp2040", "")
    assert tool.install[-1] == ("npm", "install", "-g", rp2040.PACKAGE)


def test_the_setup_script_installs_that_version() -> None:
    assert f"rp2040js={rp2040.PACKAGE} " in (ROOT / "scripts" / "toolchains").read_text()
