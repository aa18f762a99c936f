"""Weights of every width in tiles: sums are exact, whatever the number of events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import stack_bytes
from qspinn.backends.mcu.storage import stored_as, worth_tiles
from qspinn.backends.mcu.tileforms import BYTES, FORMS, SHIFTS, TileForm, form_for
from qspinn.backends.mcu.tilestage import Tile
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    agrees,
    chain,
    events,
    files_of,
    lif,
    param,
    sections,
    state,
    write,
    zig_object,
)
from mcu_nets import pruned, weights
from qspinn.fixed import QFormat
from qspinn.ir import Array, Delay, Graph, Input, Linear, Neuron, Node, Param

EMULATED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
COUNTS = (0, 1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 17, 18, 34, 35, 85, 86, 126, 127, 255, 256, 258, 300)
"""Events of a step: around what lanes of 4 bits, of a byte, and several rows at once hold."""


def leaky(name: str, sources: tuple[str, ...], size: int, level: int) -> Neuron:
    """Neurons whose packed update does two at a time."""
    made = lif(name, sources, size, level, reset="subtract")
    values = {**made.values, "decay": param(3, "leak4"), "threshold": param(level, "s16f0")}
    return replace(made, values=values, states={"v": state("s16f0")})


def drawn(form: TileForm, outs: int, ins: int, seed: int = 0) -> Param:
    """Random weights of a form; one neuron has the largest alone, one the smallest."""
    rng = np.random.default_rng(seed)
    span = form.span
    values = rng.integers(span.lo, span.hi + 1, (outs, ins))
    values[0], values[1] = span.hi, span.lo
    if form.binary:
        values = np.where(values > 0, 1, -1)
        return Param(values, QFormat(1, 0, binary=True))
    return Param(values, QFormat(8, 0, signed=span.lo < 0))


def rows_for(form: TileForm) -> int:
    """As many inputs as sums of 16 bits allow."""
    return min(300, 32767 // max(form.span.hi, -form.span.lo))


def network(form: TileForm, outs: int = 63) -> Graph:
    """Two layers in tiles of a form: of the caller's events, and of a mask."""
    ins = rows_for(form)
    level = max(form.span.hi - form.span.lo, 2)
    nodes = (
        Input(name="x", shape=(ins,)),
        Linear(name="fc1", inputs=("x",), weight=drawn(form, outs, ins)),
        leaky("lif1", ("fc1",), outs, 3 * level),
        Linear(name="fc2", inputs=("lif1",), weight=drawn(form, 31, outs, 1)),
        lif("lif2", "fc2", 31, 16 * level),
    )
    return chain("forms", *nodes)


def counted(graph: Graph, counts: tuple[int, ...]) -> Array:
    """One sample with so many events in each step."""
    size = graph.input.shape[0]
    rng = np.random.default_rng(3)
    data = np.zeros((1, len(counts), size), np.int64)
    for step, count in enumerate(counts):
        data[0, step, rng.permutation(size)[:count]] = 1
    return data


def forms_of(graph: Graph) -> dict[str, str]:
    """The forms of the connections that are summed by tiles."""
    tiles = [stage for stage in build(graph).stages if isinstance(stage, Tile)]
    return {d.title.split('"')[1]: d.rows.form.name for tile in tiles for d in tile.drives}


# --- the packing ---


@given(st.integers(0, 2**32), st.sampled_from(FORMS), st.integers(1, 70), st.integers(1, 5))
def test_fields_lie_where_they_are_added(seed: int, form: TileForm, outs: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(form.span.lo, form.span.hi + 1, (rows, outs))
    if form.binary:
        values = np.where(values > 0, 1, -1)
    words = form.pack(values)
    tiles = -(-outs // form.lanes)
    assert words.size * 4 == form.size(rows, outs)
    assert words.min() >= 0
    assert words.max() < 1 << 32
    table = words.reshape(tiles, rows, form.words)
    for row, out in np.ndindex(values.shape):
        tile, lane = divmod(out, form.lanes)
        word, field = divmod(lane, 32 // form.field)
        move = SHIFTS[form.field][field // 4] + 8 * BYTES[field % 4]
        code = int(table[tile, row, word]) >> move & ((1 << form.field) - 1)
        found = 2 * code - 1 if form.binary else code - form.bias
        assert found == values[row, out]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_lanes_hold_what_is_added_to_them(form: TileForm) -> None:
    if form.field == 8:
        assert form.together * form.top <= 255
        return
    first = 255 if form.field == 4 else 15
    assert form.block * form.top <= first
    assert (form.block + 1) * form.top > first
    assert form.together * form.top < 1 << form.field
    if form.field < 4:
        assert form.blocks * form.top <= 255
        assert form.blocks % form.block == 0


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (-1, 1, "t"), (0, 1, "u1"), (-2, 1, "s2"), (0, 3, "u2"), (-4, 3, "s3"), (0, 7, "u3"),
        (-8, 7, "s4"), (0, 15, "u4"), (-9, 7, "s6"), (0, 16, "s6"), (0, 32, "u6"), (-32, 31, "s6"),
        (0, 63, "u6"), (-33, 0, "s7"), (0, 127, "u7"), (-128, 127, "s8"), (0, 255, "u8"),
        (-1, 128, ""), (0, 256, ""),
    ],
)  # fmt: skip
def test_the_narrowest_form(low: int, high: int, name: str) -> None:
    values = np.zeros((9, 9), np.int64)
    values[0, 0], values[1, 1] = low, high
    form = form_for(values)
    assert (form.name if form else "") == name


def test_signs_alone_take_a_bit() -> None:
    values = np.where(np.random.default_rng(0).random((9, 9)) < 0.5, -1, 1)
    form = form_for(values)
    assert form is not None
    assert form.name == "b1"


# --- the same bits ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_sums_of_any_number_of_events(form: TileForm) -> None:
    graph = network(form)
    assert set(forms_of(graph).values()) == {form.name}
    agrees(graph, counted(graph, COUNTS), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", EMULATED)
def test_sums_on_cores(core: str) -> None:
    for form in FORMS:
        graph = network(form)
        agrees(graph, counted(graph, (0, 1, 3, 6, 7, 18, 36, 87, 128, 258, 300)), core)


@pytest.mark.needs("arm-gcc", "qemu")
@pytest.mark.parametrize("name", ["s3", "s4", "s6", "s7", "t", "b1"])
def test_sums_with_gcc(name: str) -> None:
    graph = network(next(form for form in FORMS if form.name == name))
    for executor in ("qemu-cortex-m0", "qemu-cortex-m3", "qemu-cortex-m4"):
        agrees(graph, counted(graph, COUNTS), executor)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["b1", "t", "s2", "s3", "u4", "s7"])
@pytest.mark.parametrize("outs", [16, 17, 33, 96])
def test_tiles_of_many_sizes(name: str, outs: int) -> None:
    form = next(form for form in FORMS if form.name == name)
    graph = network(form, outs)
    agrees(graph, counted(graph, (0, 5, 40, 150, 200)), "sanitize")


def loops(first: str, second: str) -> Graph:
    """A layer that reads itself, with lists too long for one part, and weights of two forms."""
    rng = np.random.default_rng(7)
    size = 310
    nodes: list[Node] = [
        Input(name="x", shape=(120,)),
        Linear(name="fc", inputs=("x",), weight=weights(rng, (size, 120), first)),
        Delay(name="back", inputs=("lif",), shape=(size,), steps=1),
        Linear(name="rec", inputs=("back",), weight=weights(rng, (size, size), second)),
        leaky("lif", ("fc", "rec"), size, 12),
        Linear(name="fc2", inputs=("lif",), weight=weights(rng, (33, size), second)),
        lif("end", "fc2", 33, 100),
    ]
    return chain("loops", *nodes)


@pytest.mark.needs("gcc", "zig", "unicorn")
@pytest.mark.parametrize(
    ("first", "second", "same"),
    [("s4", "t", True), ("b1", "s2", True), ("t", "t", True), ("s7", "t", False)],
)
def test_layers_that_read_themselves(first: str, second: str, same: bool) -> None:
    graph = loops(first, second)
    assert ("fc" in forms_of(graph)) == same, "a tile of 16 and one of 32 are not summed together"
    assert forms_of(graph)["rec"] == second
    data = events(graph, batch=1, steps=8)
    agrees(graph, data, "sanitize")
    agrees(graph, data, "cortex-m4")


# --- bytes ---


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_bytes_of_tiles_are_what_is_predicted(form: TileForm, tmp_path: Path) -> None:
    graph = network(form)
    network_made = write(tmp_path, graph)
    predicted = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device])
    found = {line.owner: line.bytes for line in predicted.lines if line.kind == "weights"}
    assert found["fc1.weight"] == 4 * form.words * rows_for(form) * (64 // form.lanes)
    for core in ("cortex-m0plus", "rv32imc"):
        real = sections(zig_object(tmp_path, CORES[core], network_made.prefix))
        assert real["rodata"] == predicted.of("weights", "constants")


@pytest.mark.parametrize(
    ("kind", "outs", "zeros", "tiles"),
    [
        ("s8", 128, 0.0, True), ("s8", 128, 0.5, True), ("s8", 128, 0.8, False),
        ("s5", 128, 0.0, True), ("s5", 144, 0.0, True), ("s4", 40, 0.0, True),
        ("s4", 33, 0.0, True), ("s4", 9, 0.0, False), ("b1", 128, 0.5, True),
        ("b1", 128, 0.9, False),
        ("s16", 128, 0.0, False), ("s3", 128, 0.0, True),
    ],
)  # fmt: skip
def test_tiles_unless_another_form_is_much_smaller(
    kind: str, outs: int, zeros: float, tiles: bool
) -> None:
    values = pruned(np.random.default_rng(0), (700, outs), kind, zeros).values
    assert worth_tiles(values) == tiles


def test_small_layers_are_in_tiles_whatever_it_takes() -> None:
    values = pruned(np.random.default_rng(0), (128, 10), "t", 0.0).values
    assert stored_as(values, droppable=True) == (None, None)
    assert worth_tiles(values), "128 rows of two words, and not of two bytes"


@pytest.mark.parametrize(("fmt", "taken"), [("s5f0", 40), ("s8f0", 63), ("s12f0", 128)])
def test_a_narrow_membrane_stays_narrow(fmt: str, taken: int) -> None:
    """Two in a word, which are updated at once, are for those that do not fit a byte."""
    graph = network(FORMS[-2])
    narrow = replace(graph["lif1"], states={"v": state(fmt)})
    graph = graph.map(lambda node: narrow if node.name == "lif1" else node)
    lines = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device]).lines
    assert next(line.bytes for line in lines if line.owner == "lif1.v") == taken


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_the_stack_of_narrow_tiles_stays_within_its_bound(core: str) -> None:
    device = next(d for d in BACKEND.devices.values() if d.core == core)
    for name in ("b1", "t", "s4", "u7"):
        graph = network(next(form for form in FORMS if form.name == name))
        data = counted(graph, (0, 20, 250))
        used = stack_bytes(files_of(graph), build(graph), data, CORES[core])
        assert 0 < used <= BACKEND.footprint(graph, device).of("stack")
