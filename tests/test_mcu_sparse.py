"""Pruned weights: only those that are left are stored, in as many bytes as promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.kernels import RowKernel
from qspinn.backends.mcu.layout import rows_for
from qspinn.backends.mcu.sparse import Code, Sparse, gaps, mapped, smallest
from qspinn.backends.mcu.storage import stored_as
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    agrees,
    chain,
    compiles,
    events,
    lif,
    rows_alone,
    sections,
    write,
    zig_object,
)
from mcu_nets import pruned
from qspinn.ir import Array, Conv2d, Flatten, Graph, Input, Linear, Node

EMULATED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
SHARES = (0.5, 0.8, 0.95)


def dense_net(kind: str, zeros: float) -> Graph:
    """Two pruned layers, of spikes."""
    rng = np.random.default_rng(int(100 * zeros))
    level = {"b1": 2, "s4": 8, "u4": 16, "s8": 200, "s12": 2000}[kind]
    nodes: list[Node] = [Input(name="x", shape=(90,))]
    for name, ins, outs in (("1", 90, 130), ("2", 130, 61)):
        weight = pruned(rng, (outs, ins), kind, zeros)
        nodes.append(Linear(name=f"fc{name}", inputs=(nodes[-1].name,), weight=weight))
        nodes.append(lif(f"lif{name}", f"fc{name}", outs, 16 * level))
    return chain("pruned", *nodes)


def image_net(kind: str, zeros: float) -> Graph:
    """Convolutions of counts and of spikes, and what reads values, pruned."""
    rng = np.random.default_rng(int(100 * zeros) + 1)
    first = Conv2d(
        name="c1", inputs=("x",), weight=pruned(rng, (30, 3, 3, 3), kind, zeros), stride=(1, 2),
        padding=(1, 1), groups=1,
    )  # fmt: skip
    second = Conv2d(
        name="c2", inputs=("l1",), weight=pruned(rng, (26, 15, 3, 3), kind, zeros), groups=2
    )
    nodes = (
        Input(name="x", shape=(3, 9, 8), kind="count", high=5), first,
        lif("l1", "c1", (30, 9, 4), 40, max_spikes=3), second, lif("l2", "c2", (26, 7, 2), 40),
        Flatten(name="flat", inputs=("l2",)),
        Linear(name="fc", inputs=("flat",), weight=pruned(rng, (40, 364), kind, zeros)),
        lif("l3", "fc", 40, 20),
    )  # fmt: skip
    return chain("pruned_image", *nodes)


def codes(graph: Graph) -> list[str]:
    """The codes of the connections of a network, in order; empty where every weight is stored."""
    found = [k for k in build(graph).kernels if isinstance(k, RowKernel)]
    return ["" if k.sparse is None else k.sparse.kind for k in found]


@pytest.fixture(autouse=True)
def _rows() -> Iterator[None]:
    """Small networks would be in tiles, which do without these codes."""
    with rows_alone():
        yield


# --- the codes ---


def decoded(found: Sparse, columns: int) -> Array:
    """The weights of a code, read as the emitted C reads them."""
    code, rows = found.code, []
    for n, start in enumerate(found.starts[: None if code.kind == "map" else -1].tolist()):
        row = np.zeros(columns, np.int64)
        if code.kind == "gaps":
            at = 0
            for entry in found.elements[start : found.starts[n + 1]].tolist():
                assert code.type.span.lo <= entry <= code.type.span.hi
                at += entry & ((1 << code.gap_bits) - 1)
                row[at] += entry >> code.gap_bits
        else:
            marks = found.elements[start : start + -(-columns // 8)]
            where = [c for c in range(columns) if marks[c // 8] >> c % 8 & 1]
            at = 8 * (start + len(marks))
            for nth, column in enumerate(where):
                bits = [at + nth * code.bits + b for b in range(code.bits)]
                value = sum((int(found.elements[b // 8]) >> b % 8 & 1) << n for n, b in
                            enumerate(bits))  # fmt: skip
                half = 1 << code.bits - 1
                if code.bits == 1 and code.signed:
                    value = 2 * value - 1
                elif code.signed:
                    value = (value ^ half) - half
                row[column] = value
        rows.append(row)
    return np.array(rows)


@given(
    st.integers(0, 2**32), st.sampled_from(("s2", "s4", "u4", "s8", "u8", "s13")),
    st.integers(1, 400), st.floats(0.02, 0.98),
)  # fmt: skip
def test_what_is_stored_comes_back(seed: int, kind: str, columns: int, zeros: float) -> None:
    rng = np.random.default_rng(seed)
    values = pruned(rng, (rng.integers(1, 12), columns), kind, zeros).values
    if not values.any():
        return
    bits, signed = int(kind[1:]), kind[0] == "s"
    for width in (8, 16, 32):
        if bits <= width - 2:
            found = gaps(values, Code("gaps", bits, signed, width))
            assert np.array_equal(decoded(found, columns), values)
            # An entry for every weight, and one for every full distance without any.
            most = (1 << width - bits) - 1
            assert found.elements.size <= np.count_nonzero(values) + values.size // most
    if bits <= 8:
        left = mapped(values, Code("map", bits, signed))
        assert np.array_equal(decoded(left, columns), values)


def test_binary_weights_left_take_a_bit() -> None:
    values = pruned(np.random.default_rng(0), (20, 33), "b1", 0.7).values
    found = mapped(values, Code("map", 1, signed=True))
    assert np.array_equal(decoded(found, 33), values)
    counts = np.count_nonzero(values, axis=1)
    assert found.elements.size == 20 * 5 + int((-(-counts // 8)).sum())


@pytest.mark.parametrize(
    ("kind", "zeros", "code"),
    [
        ("s8", 0.05, ""), ("s8", 0.5, "map 8 8"), ("s8", 0.8, "map 8 8"), ("s8", 0.95, "gaps 8 16"),
        ("s4", 0.1, ""), ("s4", 0.5, "map 4 8"), ("s4", 0.8, "gaps 4 8"), ("s4", 0.95, "gaps 4 8"),
        ("b1", 0.5, ""), ("b1", 0.8, "map 1 8"), ("b1", 0.95, "gaps 2 8"), ("u4", 0.8, "gaps 4 8"),
        ("s12", 0.5, "gaps 12 16"), ("s15", 0.5, ""), ("s15", 0.8, "gaps 15 32"),
        ("s16", 0.95, "gaps 16 32"),
    ],
)  # fmt: skip
def test_the_smallest_form(kind: str, zeros: float, code: str) -> None:
    values = pruned(np.random.default_rng(1), (300, 128), kind, zeros).values
    kept, found = stored_as(values, droppable=True)
    assert kept is None
    said = f"{found.code.kind} {found.code.bits} {found.code.width}" if found else ""
    assert said == code


def test_few_rows_are_stored_whole() -> None:
    values = pruned(np.random.default_rng(1), (7, 999), "s8", 0.9).values
    assert smallest(values) is None
    assert stored_as(values, droppable=True) == (None, None)


def test_rows_of_zeros_have_no_start_where_that_is_smaller() -> None:
    values = pruned(np.random.default_rng(2), (900, 64), "s8", 0.9).values.copy()
    values[100:800] = 0
    kept, found = stored_as(values, droppable=True)
    assert found is not None
    assert kept is not None
    assert np.array_equal(kept, values.any(1))
    assert np.array_equal(decoded(found, 64), values[kept])
    unchanged, found = stored_as(values, droppable=False)
    assert unchanged is None
    assert found is not None
    assert found.starts.size == 901


# --- bytes ---


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("zeros", SHARES)
@pytest.mark.parametrize("kind", ["s8", "s4", "b1"])
def test_bytes_are_what_is_predicted(kind: str, zeros: float, tmp_path: Path) -> None:
    for make in (dense_net, image_net):
        graph = make(kind, zeros)
        network = write(tmp_path, graph)
        predicted = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device])
        for core in ("cortex-m0plus", "rv32imc"):
            real = sections(zig_object(tmp_path, CORES[core], network.prefix))
            assert real["rodata"] == predicted.of("weights", "constants")
            assert real["data"] == real["bss"] == 0
        matrices = [n.params()["weight"].values for n in graph.nodes if "weight" in n.params()]
        whole = sum(rows_for(m.reshape(len(m), -1).T).stride * m[0].size for m in matrices)
        left = sum(np.count_nonzero(m) for m in matrices)
        assert predicted.of("weights") < whole + 12
        if zeros > 0.9:
            each = 1 if kind != "s8" else 2
            starts = sum(2 * (m[0].size + 1) for m in matrices)
            assert predicted.of("weights") < 1.9 * (left * each) + starts + 12


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("zeros", SHARES)
def test_bytes_of_gcc(zeros: float, tmp_path: Path) -> None:
    graph = image_net("s8", zeros)
    prefix = write(tmp_path, graph).prefix
    predicted = BACKEND.footprint(graph, BACKEND.devices[BACKEND.default_device])
    compiles(tmp_path, "arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-O2", "-std=c99",
             "-c", f"{prefix}.c", "-o", "gcc.o")  # fmt: skip
    real = sections(tmp_path / "gcc.o")
    assert real["rodata"] == predicted.of("weights", "constants")


# --- the same bits ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("zeros", SHARES)
@pytest.mark.parametrize("kind", ["s8", "s4", "u4", "b1", "s12"])
def test_pruned_layers_under_sanitizers(kind: str, zeros: float) -> None:
    graph = dense_net(kind, zeros)
    agrees(graph, events(graph), "sanitize")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("zeros", SHARES)
@pytest.mark.parametrize("kind", ["s8", "s4", "u4", "b1", "s12"])
def test_pruned_images_under_sanitizers(kind: str, zeros: float) -> None:
    graph = image_net(kind, zeros)
    agrees(graph, events(graph), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.parametrize(("kind", "zeros"), [("s8", 0.5), ("s4", 0.8), ("b1", 0.8), ("s8", 0.95)])
def test_pruned_networks_on_cores(kind: str, zeros: float, core: str) -> None:
    assert any(codes(dense_net(kind, zeros)))
    for graph in (dense_net(kind, zeros), image_net(kind, zeros)):
        agrees(graph, events(graph, batch=1, steps=5), core)


@pytest.mark.needs("gcc")
def test_every_code_of_every_sum_is_tried() -> None:
    """By the networks above, as far as their sums have these widths."""
    names: set[str] = set()
    for kind in ("s8", "s4", "u4", "b1", "s12"):
        for zeros in SHARES:
            for make in (dense_net, image_net):
                names |= {row.name for row in build(make(kind, zeros)).rows}
    found = {name.removeprefix("row_").rpartition("_i")[0] for name in names}
    assert {"map_s8", "map_s4", "map_b1", "map_u4", "gaps_8_s4", "gaps_8_u4", "gaps_8_s2",
            "gaps_16_s8", "gaps_16_s12", "t"} <= found  # fmt: skip


@pytest.mark.needs("gcc")
def test_rows_left_out_of_a_code_are_found() -> None:
    rng = np.random.default_rng(5)
    weight = pruned(rng, (70, 400), "s8", 0.93)
    weight = replace(weight, values=weight.values * (rng.random(400) < 0.3))
    nodes = (
        Input(name="x", shape=(400,), kind="count", high=3),
        Linear(name="fc", inputs=("x",), weight=weight),
        lif("lif", "fc", 70, 900),
    )
    graph = chain("left", *nodes)
    kernel = next(k for k in build(graph).kernels if isinstance(k, RowKernel))
    assert kernel.sparse is not None
    assert getattr(kernel, "kept", None) is not None
    agrees(graph, events(graph), "sanitize")
