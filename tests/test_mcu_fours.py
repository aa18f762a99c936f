"""Images of leaky neurons whose membranes take a byte: four at a time, scattered and gathered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, packedimage
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import instructions
from qspinn.backends.mcu.gathering import gatherable
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.packedfours import PackedFours
from qspinn.backends.mcu.packedimage import FoursImage
from qspinn.backends.mcu.toolchain import CORES
from qspinn.backends.mcu.windowstage import Windows

from mcu_builds import agrees, busy, chain, events, files_of, lif, param, state
from mcu_nets import weights
from qspinn import interp
from qspinn.fixed import QFormat
from qspinn.ir import Conv1d, Conv2d, Flatten, Graph, Input, Linear, Neuron
from qspinn.plan import KERNEL, Plan

DECAYS = {
    "three quarters": param(3072, "u13f12"), "nine tenths": param(3686, "u13f12"),
    "an eighth goes": param(3, "leak4"), "little goes": param(9, "leak4"), "none": None,
    "nearly all goes": param(1, "u13f12"), "it grows": param(5000, "u13f12"),
}  # fmt: skip


def layer(
    name: str, source: str, shape: tuple[int, ...], level: int, bits: str = "s8f0",
    decay: str = "three quarters", low: int | None = None, start: int = 0, **options: Any,
) -> Neuron:  # fmt: skip
    """Leaky neurons with membranes of a byte."""
    rate = DECAYS[decay]
    options = {"leak": rate is not None, **options}
    made = lif(name, source, shape, level, clamp=low is not None, **options)
    fmt = QFormat.parse(bits)
    whole = ("threshold", "v_reset", "bias")
    values = {k: replace(v, fmt=fmt) if k in whole else v for k, v in made.values.items()}
    if rate is not None:
        values["decay"] = rate
    if low is not None:
        values["v_min"] = param(low, bits)
    states = {k: state(bits, start) if k == "v" else v for k, v in made.states.items()}
    return replace(made, values=values, states=states)


def images(level: int, rows: int = 11, bias: int = 0, **options: Any) -> Graph:
    """Two images, and a dense layer."""
    rng = np.random.default_rng(level + 200)
    starts = param(np.full(8, bias), "s8f0") if bias else None
    return chain(
        "fours", Input(name="x", shape=(3, rows, 9)),
        Conv2d(name="c1", inputs=("x",), weight=weights(rng, (12, 3, 3, 3), "s8"), padding=(1, 1)),
        layer("l1", "c1", (12, rows, 9), level, **options),
        Conv2d(name="c2", inputs=("l1",), weight=weights(rng, (8, 12, 3, 3), "s8"), stride=(2, 1),
               bias=starts),
        layer("l2", "c2", (8, (rows - 1) // 2, 7), level, **options),
        Flatten(name="flat", inputs=("l2",)),
        Linear(name="fc", inputs=("flat",),
               weight=weights(rng, (5, 56 * ((rows - 1) // 2)), "s4")),
        lif("end", "fc", (5,), 30),
    )  # fmt: skip


CASES: dict[str, tuple[dict[str, Any], int]] = {
    "as compiled": ({"level": 11, "bits": "s8f-3"}, 2),
    "finer": ({"level": 100, "bits": "s8f-1"}, 2),
    "coarse": ({"level": 5, "bits": "s8f-5"}, 2),
    "as fine": ({"level": 90}, 2),
    "finer than weights": ({"level": 100, "bits": "s8f2"}, 2),
    "a factor of 12 bits": ({"level": 11, "bits": "s8f-3", "decay": "nine tenths"}, 2),
    "a shift": ({"level": 11, "bits": "s8f-3", "decay": "an eighth goes"}, 2),
    "a long shift": ({"level": 11, "bits": "s8f-3", "decay": "little goes"}, 2),
    "no decay": ({"level": 11, "bits": "s8f-3", "decay": "none"}, 2),
    "nothing is left": ({"level": 11, "bits": "s8f-3", "decay": "nearly all goes"}, 2),
    "growth": ({"level": 11, "bits": "s8f-3", "decay": "it grows"}, 2),
    "reset below zero": ({"level": 11, "bits": "s8f-3", "reset": "value"}, 2),
    "clipped": ({"level": 11, "bits": "s8f-3", "low": -7}, 2),
    "clipped above zero": ({"level": 11, "bits": "s8f-3", "low": 3}, 2),
    "at zero": ({"level": 0, "bits": "s8f-3", "compare": ">="}, 2),
    "below zero": ({"level": -9, "bits": "s8f-3"}, 2),
    "at the top": ({"level": 127, "bits": "s8f-3", "compare": ">="}, 2),
    "from a start": ({"level": 11, "bits": "s8f-3", "start": -100}, 2),
    "a start that spikes": ({"level": 11, "bits": "s8f-3", "start": 100}, 2),
    "a bias": ({"level": 90, "bias": 5}, 2),
    "subtracting": ({"level": 11, "bits": "s8f-3", "reset": "subtract"}, 0),
    "refractory": ({"level": 11, "bits": "s8f-3", "refractory": True}, 0),
    "even bands": ({"level": 11, "bits": "s8f-3", "rows": 13}, 2),
}  # fmt: skip


def gathered(graph: Graph) -> tuple[Network, tuple[tuple[str, bytes], ...]]:
    """The network whose convolutions gather, and its files."""
    lowered = BACKEND.legalize(graph)
    names = frozenset(gatherable(lowered))
    assert names
    options = {f"{KERNEL}{name}": "gather" for name in names}
    device = BACKEND.devices["generic"]
    files = BACKEND.emit(lowered, device, Plan({}, options=options)).files
    return build(lowered, gather=names), tuple(files.items())


def packed(network: Network) -> list[PackedFours]:
    """The layers that are updated four at a time."""
    kinds = (FoursImage, Windows)
    found = [stage.packed for stage in network.stages if isinstance(stage, kinds)]
    return [made for made in found if isinstance(made, PackedFours)]


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("divided")
@pytest.mark.parametrize("name", CASES)
def test_scattered_under_sanitizers(name: str) -> None:
    options, count = CASES[name]
    graph = images(**options)
    assert len(packed(build(BACKEND.legalize(graph)))) == count
    agrees(graph, busy(graph, 8), "sanitize")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", CASES)
def test_gathered_under_sanitizers(name: str) -> None:
    options, count = CASES[name]
    graph = images(**options)
    made = gathered(graph)
    assert len(packed(made[0])) == count
    agrees(graph, busy(graph, 6), "sanitize", made)


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
@pytest.mark.parametrize("name", ["as compiled", "a factor of 12 bits", "reset below zero"])
def test_on_cores(name: str, core: str) -> None:
    graph = images(**CASES[name][0])
    agrees(graph, busy(graph, 3), core)
    agrees(graph, busy(graph, 3), core, gathered(graph))


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("executor", ["qemu-cortex-m3", "qemu-cortex-m33"])
def test_in_qemu(executor: str) -> None:
    graph = images(**CASES["as compiled"][0])
    agrees(graph, busy(graph, 4), executor)


def test_the_cases_cover_what_there_is() -> None:
    found = [p for o, _ in CASES.values() for p in packed(build(BACKEND.legalize(images(**o))))]
    for name in ("wide", "right", "gain", "floor"):
        assert {getattr(p, name) > 0 for p in found} == {True, False}, name
    traces = [interp.run(images(**o), busy(images(**o), 4)) for o, _ in CASES.values()]
    spikes = [np.mean(t.states["l1.v"]) for t in traces]
    assert len(set(spikes)) > len(CASES) // 2
    assert sum(bool(t.output.any()) for t in traces) > len(CASES) // 2


@pytest.mark.needs("gcc")
def test_one_dimension() -> None:
    rng = np.random.default_rng(4)
    graph = chain(
        "line", Input(name="x", shape=(2, 30)),
        Conv1d(name="c", inputs=("x",), weight=weights(rng, (8, 2, 5), "s8"), padding=2),
        layer("l", "c", (8, 30), 11, "s8f-3"), Flatten(name="flat", inputs=("l",)),
        Linear(name="fc", inputs=("flat",), weight=weights(rng, (5, 240), "s8")),
        lif("end", "fc", (5,), 60),
    )  # fmt: skip
    assert packed(build(BACKEND.legalize(graph)))
    agrees(graph, busy(graph, 6), "sanitize")
    agrees(graph, busy(graph, 6), "sanitize", gathered(graph))


@pytest.mark.needs("zig", "unicorn")
def test_it_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = images(**CASES["as compiled"][0])
    data, core = events(graph, batch=1, steps=4) * (np.arange(9) < 2), CORES["cortex-m3"]
    taken = [instructions(files_of(graph), build(graph), data, core).sum()]
    monkeypatch.setattr(packedimage, "takes_byte", lambda node: False)
    build.cache_clear()
    taken.append(instructions(files_of(graph), build(graph), data, core).sum())
    build.cache_clear()
    assert taken[0] < 0.9 * taken[1]


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("wrong", ["add", "low", "floor", "reset", "right"])
def test_wrong_constants_are_noticed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = images(**CASES["reset below zero"][0])
    right = packed(build(BACKEND.legalize(graph)))[0]
    broken = replace(right, **{wrong: getattr(right, wrong) + 1})
    monkeypatch.setattr(packedimage, "packed_fours", lambda *_: broken)
    build.cache_clear()
    try:
        with pytest.raises(AssertionError, match="expected"):
            agrees(graph, busy(graph, 8), "host")
    finally:
        build.cache_clear()
