"""Images that are summed and updated some rows at a time: the same bits in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.mcu import BACKEND, sums
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.layout import Bands, CType
from qspinn.backends.mcu.network import Banded, Network

from mcu_builds import agrees, chain, events, files_of, lif, param, state
from mcu_nets import camera, weights
from networks import random_network
from qspinn.fixed import Rounding
from qspinn.ir import Conv2d, Delay, Graph, Input, Neuron
from qspinn.neurons import integrator
from test_mcu_run import RARE


def uneven() -> Graph:
    """Strides, dilation, groups, a loop, draws, counts, values, and a last band of fewer rows."""
    rng = np.random.default_rng(32)
    bias = param(rng.integers(-20, 20, 4), "s8f4")
    first = Conv2d(
        name="c1", inputs=("x",), weight=weights(rng, (4, 1, 3, 3), "s4"), bias=bias,
        stride=(2, 1), padding=(4, 2), dilation=(3, 2), groups=2,
    )  # fmt: skip
    loop = Conv2d(
        name="loop", inputs=("back",), weight=weights(rng, (4, 4, 3, 1), "b1"), padding=(1, 0)
    )
    level = rng.integers(60, 90, (4, 1, 1))
    drawn = lif("lif1", ("c1", "loop"), (4, 13, 20), level, max_spikes=3)
    decay = param(3686, "u13f12", Rounding.STOCHASTIC)
    drawn = replace(drawn, values={**drawn.values, "decay": decay})
    back = Delay(name="back", inputs=("lif1",), shape=(4, 13, 20), kind="count", high=3)
    down = Conv2d(
        name="c2", inputs=("lif1",), weight=weights(rng, (2, 4, 2, 2), "s2"), padding=(1, 0)
    )
    graded = Neuron(
        name="li", inputs=("c2",), shape=(2, 14, 19), model=integrator(),
        values={"decay": param(rng.integers(2000, 4000, (2, 14, 19)), "u13f12")},
        states={"v": state("s16f4")},
    )  # fmt: skip
    last = Conv2d(name="c3", inputs=("li",), weight=weights(rng, (3, 2, 5, 3), "s2"), stride=(1, 2))
    end = lif("end", "c3", (3, 10, 9), 500)
    x = Input(name="x", shape=(2, 24, 20), kind="count", high=3)
    return chain("uneven", x, first, back, loop, drawn, down, graded, last, end)


def bands_of(network: Network) -> dict[str, Bands]:
    return {s.name: s.layer for s in network.stages if isinstance(s, Banded)}


@pytest.fixture(params=["one row", "several rows"])
def always(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bands wherever there is an image."""
    monkeypatch.setattr(sums, "_SMALL", 0)
    monkeypatch.setattr(sums, "_SHARE", 10**9 if request.param == "one row" else 3)
    build.cache_clear()
    yield
    build.cache_clear()


def test_sums_no_longer_outweigh_narrow_states() -> None:
    lines = BACKEND.footprint(camera(), BACKEND.devices[BACKEND.default_device]).lines
    named = {(line.kind, line.owner): line.bytes for line in lines}
    assert named["state", "lif1.v"] == 8 * 17 * 17 // 2
    assert named["state", "sums"] == 8 * 17 * 2, "a row of every channel, not 17"
    assert bands_of(build(camera())) == {
        "camera_bands_lif1": Bands(8, 17, 17, 1), "camera_bands_lif2": Bands(16, 6, 6, 1),
    }  # fmt: skip


def test_the_uneven_network_is_uneven() -> None:
    heights = {b.height for b in bands_of(build(uneven())).values()}
    assert any(b.rows % b.height for b in bands_of(build(uneven())).values())
    assert heights - {1}


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("make", [camera, uneven])
def test_bands_under_sanitizers(make: Callable[[], Graph]) -> None:
    graph = make()
    agrees(graph, events(graph, steps=8), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "rv32imc"])
@pytest.mark.parametrize("make", [camera, uneven])
def test_bands_on_cores(make: Callable[[], Graph], core: str) -> None:
    graph = make()
    agrees(graph, events(graph, batch=1, steps=4), core)


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("always")
def test_any_image_in_bands() -> None:
    """Random networks, and those of test_mcu_run.py, divided however small they are."""
    tried = 0
    for make in (RARE["geometry"], RARE["few bits"], RARE["narrow states"]):
        tried += bool(bands_of(build(make())))
        agrees(make(), events(make()), "sanitize")
    for seed in range(60, 70):
        graph, data = random_network(seed)
        if bands_of(build(graph)):
            tried += 1
            agrees(graph, data, "sanitize")
    assert tried > 3


def test_small_images_are_summed_as_a_whole() -> None:
    rng = np.random.default_rng(33)
    conv = Conv2d(name="c", inputs=("x",), weight=weights(rng, (4, 1, 3, 3), "s2"))
    graph = chain("small", Input(name="x", shape=(1, 8, 8)), conv, lif("lif", "c", (4, 6, 6), 30))
    assert not bands_of(build(graph))
    assert b"uint32_t first" not in dict(files_of(graph))["small_impl.h"]


@given(
    st.lists(
        st.tuples(st.sampled_from((8, 16, 32, 64)), st.integers(1, 999)), min_size=1, max_size=5
    )
)
def test_layers_share_arrays_as_well_as_they_can(layers: list[tuple[int, int]]) -> None:
    needed = {str(i): CType(bits, signed=True) for i, (bits, _) in enumerate(layers)}
    counts = {str(i): count for i, (_, count) in enumerate(layers)}

    def size(types: dict[str, CType]) -> int:
        arrays = {
            kind: max(counts[n] for n in types if types[n] == kind) for kind in types.values()
        }
        return sum(kind.bytes * count for kind, count in arrays.items())

    found = sums.shared(needed, counts)
    assert all(found[n].bits >= needed[n].bits for n in needed)
    wider = [[k for k in set(needed.values()) if k.bits >= needed[n].bits] for n in needed]
    every = [dict(zip(needed, chosen, strict=True)) for chosen in product(*wider)]
    assert size(found) == min(map(size, every))
