"""The emitted C on AVRs: states equal in simavr, memory as the linker sees it, cycles bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, avr
from qspinn.backends.mcu.avr import PARTS
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.eight import EightGather, EightUpdate, is_eight
from qspinn.backends.mcu.eight_leaky import leaky
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.network import Network, Update
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.simavr import measure

from mcu_avr_nets import biased, dense, leaking, leaks, packed, saturating, tiled
from mcu_builds import (
    WARNINGS,
    chain,
    compiles,
    convolutional,
    deaf,
    elf_of,
    events,
    files_of,
    lif,
    mlp,
    param,
    recurrent,
    sections,
    state,
    undefined,
    write,
)
from mcu_nets import NETS, votes
from networks import random_network
from qspinn import interp
from qspinn.activity import observed
from qspinn.errors import BackendError, ToolchainError
from qspinn.ir import Array, Graph, Input, Neuron
from qspinn.neurons import integrator
from qspinn.readout import predict, summarize
from qspinn.validate import compare

SMALL, LARGE = "simavr", "simavr-atmega2560"
HELPERS = {
    "__adddi3", "__adddi3_s8", "__ashldi3", "__cmpdi2", "__cmpdi2_s8", "__lshrdi3", "__mulhisi3",
    "__mulohisi3", "__mulshisi3", "__mulsi3", "__muluhisi3", "__subdi3", "__umulhisi3",
    "__usmulhisi3",
}  # fmt: skip
"""What an AVR's compiler may call: it has no instruction for these."""


def agrees(graph: Graph, data: Array, executor: str, device: str) -> Network:
    """As `mcu_builds.agrees`, of files emitted for a device."""
    network = build(BACKEND.legalize(graph), eight=is_eight(BACKEND.devices[device]))
    found = record(files_of(graph, device), network, data, executor)
    want = interp.run(graph, data)
    mismatch = compare(want, trace(network, found))
    assert mismatch is None, str(mismatch)
    assert np.array_equal(found.winners, predict(graph.output, summarize(graph, want)))
    return network


def few() -> Graph:
    """Tiles of two bits and of 8-bit sums, of narrow indices."""
    return packed("few", 2, 60)


def narrow_int() -> Graph:
    """16-bit terms whose sum, and a 16-bit start whose product, need more."""
    rng = np.random.default_rng(3)
    bias = param(rng.integers(-20000, 20000, 6), "s16f2")
    values = {"decay": param(3000, "u13f12")}
    fmt = param(0, "s16f2").fmt

    def neuron(name: str, inputs: tuple[str, ...], v: str) -> Neuron:
        return Neuron(name=name, inputs=inputs, shape=(6,), model=integrator(),
                      values=values, states={"v": state(v)})  # fmt: skip

    return chain(
        "ints", replace(Input(name="x", shape=(6,), kind="current"), fmt=fmt),
        neuron("y", ("x",), "s16f2"), neuron("v", ("x", "y"), "s24f2"),
        dense("fc", "v", np.eye(6, dtype=int), "s8f6", bias=bias), neuron("z", ("fc",), "s32f8"),
        readout="membrane_last",
    )  # fmt: skip


MADE = {
    "tiled": tiled, "packed": packed, "few": few, "biased": biased, "saturating": saturating,
    "narrow int": narrow_int,
}  # fmt: skip
SMALL_NETS = {name: make for name, make in NETS.items() if name != "few values"}
"""Those whose arrays an AVR can address."""
USUAL = {"mlp": mlp, "recurrent": recurrent, "deaf": deaf, **SMALL_NETS}
LONG = set(SMALL_NETS) - {"votes"}
AVR_OFF, TINY_OFF = 0.065, 0.1
"""How far predicted instructions are off, at most; without a multiplier."""


# --- every state of every step ---


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("executor", [LARGE, "host", "sanitize"])
def test_what_is_made_for_8_bits(name: str, executor: str) -> None:
    """And the same files elsewhere, where they take the portable path."""
    graph = MADE[name]()
    agrees(graph, events(graph), executor, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_saturation_happens() -> None:
    graph = saturating()
    rng = np.random.default_rng(1)
    data = (rng.random((2, 30, 250)) < 0.9).astype(np.int64)
    agrees(graph, data, LARGE, "atmega2560")
    v = interp.run(graph, data).states["lif.v"]
    assert v.min() == -(1 << 15)
    assert (v == (1 << 15) - 1 - 20_000).any()
    (stage,) = (s for s in build(graph, eight=True).stages if isinstance(s, EightUpdate))
    assert stage.leaky is not None
    assert stage.leaky.saturates


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_input_and_all_of_it(rate: float) -> None:
    for graph in (biased(), packed(), tiled("all_bytes", 256)):
        data = np.full((1, 6, *graph.input.shape), int(rate))
        agrees(graph, data, LARGE, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in USUAL]
)
def test_usual_networks(name: str) -> None:
    graph = USUAL[name]()
    agrees(graph, events(graph, batch=1, steps=6), LARGE, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("seed", range(940, 943))
def test_random_networks(seed: int) -> None:
    agrees(*random_network(seed), LARGE, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 40))]
)
def test_random_networks_of_the_usual_kind(seed: int) -> None:
    graph = leaking(seed, 64)
    agrees(graph, events(graph, seed=seed), LARGE, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_files_that_were_made_for_others() -> None:
    """They are slower, and as right; this struct is padded elsewhere."""
    graph = recurrent()
    assert build(graph).struct.padding
    agrees(graph, events(graph, batch=1, steps=5), SMALL, "generic")


@pytest.mark.slow
@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("seed", range(900, 940))
def test_more_random_networks(seed: int) -> None:
    agrees(*random_network(seed), LARGE, "atmega2560")
    agrees(*random_network(seed), LARGE, "generic")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("option", ["-DTILED_PORTABLE_ONLY", "-DTILED_ROM=", "-DTILED_TRUST"])
def test_macros(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is made for 8 bits, with constants in RAM, and without checks."""
    options = [option, "-DTILED_READ(a)=(*(a))"] if "ROM" in option else [option]
    monkeypatch.setattr(avr, "OPTIONS", (*avr.OPTIONS, *options))
    graph = tiled("tiled", 24, (9, 3))
    agrees(graph, events(graph, seed=len(option)), SMALL, "atmega328p")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_a_core_without_multiplication() -> None:
    graph = tiled("tiny", 16, (9, 3))
    agrees(graph, events(graph), "simavr-attiny85", "attiny85")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_an_error_is_caught() -> None:
    """A wrong weight, in flash, shows."""
    graph = tiled()
    network, data = build(graph, eight=True), events(graph)
    files = dict(files_of(graph, "atmega2560"))
    text = files["tiled_data.h"].decode()
    first = text.index("{\n") + 6
    digits = text[first : text.index("u,", first)]
    wrong = text[:first] + str((int(digits) + 90) % 256) + text[first + len(digits) :]
    files["tiled_data.h"] = wrong.encode()
    found = record(tuple(files.items()), network, np.ones_like(data), LARGE)
    assert compare(interp.run(graph, np.ones_like(data)), trace(network, found)) is not None


# --- what is chosen ---


def test_tiles_and_leaks_are_found() -> None:
    made = build(tiled(), eight=True)
    kinds = [type(stage) for stage in made.stages[:-1]]
    assert kinds == [EightGather, EightUpdate] * 3
    found = [s.leaky for s in made.stages if isinstance(s, EightUpdate)]
    assert [(f.places, f.level, f.subtracts, f.reset) for f in found if f] == [
        (1, 201, False, 0), (2, 400, True, 400), (3, 601, False, -300),
    ]  # fmt: skip
    assert not made.kernels
    assert not made.rows


@pytest.mark.parametrize(
    "neuron",
    [
        leaks("n", "fc", 4, 9, places=9),
        leaks("n", "fc", 4, 9, fmt="s20f0"),
        lif("n", "fc", 4, 9),
        leaks("n", "fc", 4, 9, timing="next_before_decay"),
    ],
)
def test_other_neurons_are_not(neuron: Neuron) -> None:
    rng = np.random.default_rng(0)
    fc = dense("fc", "x", rng.integers(-128, 128, (4, 5)))
    other = chain("other", Input(name="x", shape=(5,)), fc, neuron)
    (stage,) = (s for s in build(other).stages if isinstance(s, Update))
    assert stage.program is not None
    found = leaky(stage.program)
    (made_for,) = (s for s in build(other, eight=True).stages if isinstance(s, EightUpdate))
    assert found is None or made_for.leaky is None


def test_other_devices_get_what_they_got() -> None:
    assert not build(tiled()).eight
    assert b"_EIGHT " not in b"".join(dict(files_of(tiled(), "rp2040")).values())


# --- memory ---


@pytest.mark.needs("avr-gcc", "unicorn")
@pytest.mark.parametrize("name", ["tiled", "biased", "mlp", "recurrent", "votes", "conv"])
def test_memory_as_the_linker_sees_it(name: str, tmp_path: Path) -> None:
    """Constants to the byte, the struct by its assertion, code within 6 %, few undefined names."""
    make = {**MADE, **USUAL, "votes": votes, "conv": lambda: convolutional(side=8)}[name]
    graph, device = make(), BACKEND.devices["atmega328p"]
    write(tmp_path, graph, "atmega328p")
    network = build(BACKEND.legalize(graph), eight=True)
    command = ("avr-gcc", "-mmcu=atmega328p", "-O2", "-std=c99", *WARNINGS)
    compiles(tmp_path, *command, "-c", f"{network.prefix}.c", "-o", "avr.o")
    found, predicted = sections(tmp_path / "avr.o"), BACKEND.footprint(graph, device)
    flash = sum(
        s["sh_size"]
        for s in elf_of(tmp_path / "avr.o").iter_sections()
        if s.name.startswith(".progmem")
    )
    assert flash == predicted.of("weights", "constants")
    assert found["rodata"] == found["data"] == found["bss"] == 0
    assert predicted.of("state") == network.struct.bytes - network.struct.padding
    assert set(undefined(tmp_path / "avr.o")) <= HELPERS
    assert abs(predicted.of("code") / found["text"] - 1) < 0.06, f"{found['text']} B"


@pytest.mark.needs("avr-gcc", "unicorn")
@pytest.mark.parametrize("name", ["tiled", "votes", "biased"])
def test_cplusplus(name: str, tmp_path: Path) -> None:
    network = write(tmp_path, {**MADE, **USUAL}[name](), "atmega328p")
    (tmp_path / "a.cpp").write_text(f'#include "{network.prefix}.c"\n')
    command = ("avr-g++", "-mmcu=atmega328p", "-O2", "-std=c++11", *WARNINGS)
    compiles(tmp_path, *command, "-c", "a.cpp", "-o", "a.o")
    assert set(undefined(tmp_path / "a.o")) <= HELPERS


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_the_stack_is_bounded() -> None:
    for graph in (tiled(), mlp(), votes()):
        found = measure(
            files_of(graph, "atmega2560"), build(graph, eight=True), events(graph, batch=1),
            PARTS["avr6"],
        )  # fmt: skip
        footprint = BACKEND.footprint(graph, BACKEND.devices["atmega2560"])
        assert 20 < found.stack <= footprint.of("stack") + 40  # the program's own


def test_too_large_for_an_avr() -> None:
    graph = mlp("large", (784, 48, 10))
    with pytest.raises(BackendError, match=r"fc1.weight: takes 37632 B; .* at most 32767 B"):
        files_of(graph, "atmega2560")


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_too_large_for_a_part() -> None:
    graph = mlp("large", (1200, 8, 4))
    files, network = files_of(graph, "atmega328p"), build(graph, eight=True)
    with pytest.raises(BackendError, match=r"takes .* RAM.*: atmega328p has 2048 B of RAM"):
        record(files, network, events(graph, steps=2), SMALL)


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_a_stack_without_room() -> None:
    """What fits the part beside almost no stack: never a wrong state instead of an error."""
    graph = mlp("large", (970, 8, 4))
    files, network = files_of(graph, "atmega328p"), build(graph, eight=True)
    with pytest.raises(BackendError, match=r"stack .* reaches its variables|ends with"):
        record(files, network, events(graph, batch=1, steps=2), SMALL)


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avr.shutil, "which", lambda name: None)
    monkeypatch.setattr(avr, "find_library", lambda name: None)
    for call in (lambda: avr.avr_gcc(PARTS["avr5"]), avr.libsimavr):
        with pytest.raises(ToolchainError) as caught:
            call()
        assert "simavr" in caught.value.hint
    assert not any(tool.found for tool in avr.tools())


# --- speed ---


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
def test_cycles() -> None:
    """A layer of whole tiles and usual neurons: what the kernels were made for, with a margin."""
    graph = tiled("fast", 200, (64,))
    data = events(graph, batch=1, steps=4)
    files, network = files_of(graph, "atmega328p"), build(graph, eight=True)
    cycles = measure(files, network, data, PARTS["avr5"]).cycles
    again = measure(files, network, data, PARTS["avr5"]).cycles
    assert np.array_equal(cycles, again)
    synapses = data.sum() * 64
    assert cycles.sum() < 7 * synapses + 4 * 64 * 45 + 4 * 1500 + 30 * data.sum()


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("name", ["mlp", "deaf", "tiled", "votes"])
def test_predicted_instructions(name: str) -> None:
    """Roughly what an ATmega2560 executes, and cycles by the ratio of usual networks."""
    graph = {**MADE, **USUAL}[name]()
    data, network = events(graph, batch=1, steps=8), build(graph, eight=True)
    found = measure(files_of(graph, "atmega2560"), network, data, PARTS["avr6"])
    device = BACKEND.devices["atmega2560"]
    told = BACKEND.cost(graph, device, observed(graph, data, engine="numpy"))
    assert told is not None
    assert abs(told.instructions / found.instructions[0] - 1) < AVR_OFF
    assert abs(told.instructions * told.cycles / found.samples[0] - 1) < 2 * AVR_OFF


@pytest.mark.needs("avr-gcc", "simavr", "gcc", "unicorn")
@pytest.mark.parametrize("name", ["mlp", "tiled", "votes"])
def test_predicted_instructions_without_a_multiplier(name: str) -> None:
    """The same of an ATtiny85, whose products are a function."""
    graph = {"mlp": mlp(), "tiled": tiled("tiled", 24, (13, 6)), "votes": USUAL["votes"]()}[name]
    data, network = events(graph, batch=1, steps=8), build(graph, eight=True)
    found = measure(files_of(graph, "attiny85"), network, data, PARTS["avr25"])
    told = BACKEND.cost(graph, BACKEND.devices["attiny85"], observed(graph, data, engine="numpy"))
    assert told is not None
    assert abs(told.instructions / found.instructions[0] - 1) < TINY_OFF
