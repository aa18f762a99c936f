"""The parts the mcu target is made of: index arithmetic, packing, layout, shorter lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.kept import worth_dropping
from qspinn.backends.mcu.kernels import quotient
from qspinn.backends.mcu.lanes import LANES, Lane
from qspinn.backends.mcu.layout import (
    CType,
    Member,
    Rows,
    Struct,
    holding,
    index_type,
    lane_for,
    pack,
    rows_for,
)
from qspinn.backends.mcu.names import Names
from qspinn.backends.mcu.rows import Row
from qspinn.backends.mcu.samples import encode
from qspinn.backends.mcu.simplify import simplified

from mcu_builds import convolutional, events, mlp, recurrent
from networks import random_network
from qspinn.backend import Backend
from qspinn.fixed import Interval
from qspinn.interp import step_program
from qspinn.lowering import programs
from qspinn.program import Program, TypedOp

MASK = (1 << 32) - 1

# --- index arithmetic ---


def evaluated(code: str, n: int) -> int:
    """What C makes of an expression of ``n``, in unsigned 32 bits."""
    value = eval(code.replace("u", "").replace("n_divide", "divmod"), {"n": n, "divmod": divmod})
    return value[0] if isinstance(value, tuple) else value


@given(st.integers(1, 3000), st.integers(1, 70_000))
def test_quotients_are_exact(divisor: int, limit: int) -> None:
    code = quotient("n", divisor, limit, "n")
    step = max(limit // 500, 1)
    for n in {*range(0, limit, step), limit - 1, *range(0, limit, divisor)}:
        product = code.partition(" * ")[2].partition("u")[0]
        if product and "divide" not in code:
            assert n * int(product) <= MASK
        assert evaluated(code, n) == n // divisor


def test_quotients_need_no_division_of_usual_images() -> None:
    assert all("divide" not in quotient("n", d, 1 << 15, "p") for d in range(1, 3000))
    assert "p_divide" in quotient("n", 77357, 232071, "p")


# --- packing ---


def read(row: Row, group: Sequence[int], lane: int) -> int:
    """What the emitted C reads from a lane of a group."""
    pack = sum(int(byte) << (8 * n) for n, byte in enumerate(group))
    code = row.weight(lane) if row.template == "row" else row.field(lane % 4)
    if row.template == "row_bits":
        terms = [term.replace("(uint32_t)@(row", "row(0") for term in row.parts[lane // 4]]
        found = [eval(term, {"row": lambda n: int(group[n])}) for term in terms]
        pack = sum(found) & MASK
    return int(eval(code.replace("(int32_t)", "").replace("u", ""), {"pack": pack}))


@given(st.integers(0, 2**32), st.sampled_from((*range(1, 9), 16, 32)), st.booleans())
def test_packed_weights_come_back(seed: int, bits: int, signed: bool) -> None:
    rng = np.random.default_rng(seed)
    low = -(1 << (bits - 1)) if signed else 0
    values = rng.integers(low, low + (1 << bits), (rng.integers(1, 6), rng.integers(1, 21)))
    if bits == 1 and signed:
        values = 2 * values + 1
    rows = Rows(bits, signed, values.shape[1])
    stored = pack(values, rows).reshape(len(values), rows.stride)
    if bits >= 8:
        assert np.array_equal(stored, values)
        return
    row = Row(bits, signed, CType(16, signed=True), scaled=False)
    for i, j in np.ndindex(values.shape):
        group = stored[i, row.group * (j // row.lanes) :][: row.group]
        assert read(row, [*group, *[0] * row.group], j % row.lanes) == values[i, j]
    assert stored.min() >= 0
    assert stored.max() <= 255
    assert rows.stride == -(-bits * values.shape[1] // 8)


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 21))
def test_packed_trits_come_back(seed: int, rows: int, count: int) -> None:
    values = np.random.default_rng(seed).integers(-1, 2, (rows, count))
    packing = Rows(2, True, count, trits=True)
    stored = pack(values, packing).reshape(rows, packing.stride)
    assert stored.min() >= 0
    assert stored.max() <= 255
    for i in range(rows):
        found: list[int] = []
        for byte in stored[i].tolist():
            for _ in range(5):
                found.append((byte * 3 >> 8) - 1)
                byte = byte * 3 & 255
        assert found[:count] == values[i].tolist()


@pytest.mark.parametrize(
    ("low", "high", "count", "rows"),
    [
        (-2, 1, 8, Rows(2, True, 8)), (0, 3, 8, Rows(2, False, 8)), (-3, 3, 8, Rows(3, True, 8)),
        (0, 7, 8, Rows(3, False, 8)), (-5, 5, 8, Rows(4, True, 8)), (0, 1, 8, Rows(1, False, 8)),
        (-1, 1, 8, Rows(1, True, 8)), (-1, 0, 8, Rows(2, True, 8)), (-4, 3, 2, Rows(4, True, 2)),
        (-8, 8, 8, Rows(5, True, 8)), (0, 63, 8, Rows(6, False, 8)), (-64, 63, 8, Rows(7, True, 8)),
        (-64, 64, 8, Rows(8, True, 8)), (-16, 15, 3, Rows(5, True, 3)),
        (-16, 15, 2, Rows(8, True, 2)), (0, 200, 8, Rows(8, False, 8)),
        (-1, 200, 8, Rows(16, True, 8)),
        (-8, 7, 1, Rows(8, True, 1)), (0, 70_000, 4, Rows(32, True, 4)),
        (0, 1 << 31, 4, Rows(32, False, 4)),
    ],
)  # fmt: skip
def test_the_narrowest_packing(low: int, high: int, count: int, rows: Rows) -> None:
    values = np.full((6, count), low)
    values[0, 0] = high
    assert rows_for(values) == rows


def test_binary_weights_have_no_zeros() -> None:
    rows = np.where(np.random.default_rng(0).random((5, 9)) < 0.5, -1, 1)
    assert rows_for(rows) == Rows(1, True, 9)
    rows[1, 1] = 0
    assert rows_for(rows) == Rows(2, True, 9, trits=True)
    assert rows_for(rows[:, :7]) == Rows(2, True, 7), "two bytes as well, and read faster"


def test_rows_of_zeros_are_worth_dropping_for_what_is_left() -> None:
    """Without them the others take one bit instead of two."""
    values = np.where(np.random.default_rng(1).random((96, 40)) < 0.5, -1, 1)
    values[::24] = 0
    kept = worth_dropping(values)
    assert kept is not None
    assert rows_for(values[kept]) == Rows(1, True, 40)
    values[1, 0] = 3
    assert worth_dropping(values) is None, "four rows of 15 bytes are less than what finds the rest"


# --- narrow states ---


@given(st.integers(0, 2**32), st.sampled_from(LANES))
def test_narrow_states_come_back(seed: int, lane: Lane) -> None:
    rng = np.random.default_rng(seed)
    low = -(1 << (lane.bits - 1)) if lane.signed else 0
    values = rng.integers(low, low + (1 << lane.bits), (3, rng.integers(1, 20)))
    stored = np.zeros((3, lane.length(values.shape[1])), np.uint8)
    for i, j in np.ndindex(values.shape):
        for bit in range(lane.bits):
            at = j * lane.bits + bit
            stored[i, at // 8] |= (int(values[i, j]) >> bit & 1) << at % 8
    assert np.array_equal(lane.unpacked(stored, values.shape[1]), values)


@pytest.mark.parametrize(
    ("low", "high", "count", "name"),
    [
        (0, 1, 40, "u1"), (-1, 0, 40, "s2"), (0, 2, 40, "u2"), (-2, 1, 40, "s2"),
        (-3, 3, 40, "s3"), (0, 7, 40, "u3"), (-8, 7, 40, "s4"), (0, 15, 40, "u4"),
        (-8, 8, 40, "s5"), (0, 63, 40, "u6"), (-64, 63, 40, "s7"), (-64, 64, 40, ""),
        (0, 255, 40, ""), (0, 256, 40, "u9"), (-2048, 2047, 40, "s12"), (-(1 << 14), 0, 40, "s15"),
        (-(1 << 15), 0, 40, ""), (0, 1 << 15, 99, ""), (0, 1, 1, ""), (0, 1, 2, "u1"),
        (0, 7, 2, "u4"), (0, 7, 8, "u4"), (0, 7, 11, "u3"), (0, 31, 2, ""), (0, 63, 5, ""),
        (0, 63, 6, "u6"), (-2048, 2047, 1, ""), (-2048, 2047, 2, "s12"),
    ],
)  # fmt: skip
def test_the_lane_of_the_fewest_bytes(low: int, high: int, count: int, name: str) -> None:
    lane = lane_for(Interval(low, high), count)
    assert (lane.name if lane else "") == name


def test_lanes_hold_no_more_than_is_read() -> None:
    assert [lane.reach for lane in LANES if lane.signed] == [1, 1, 2, 2, 2, 2, 3, 3, 3, 2, 3, 2, 2]
    assert Lane(3, signed=True).length(8) == 4, "a byte is read after the last value's first"
    assert Lane(12, signed=True).length(8) == 12


# --- layout ---


@given(st.integers(-(1 << 62), 1 << 62), st.integers(0, 1 << 62))
def test_types_hold_what_they_must(low: int, size: int) -> None:
    span = Interval(low, min(low + size, 1 << 62))
    kind = holding(span)
    assert span in kind.span
    for bits in (8, 16, 32):
        narrower = [CType(bits, signed) for signed in (True, False) if bits < kind.bits]
        assert not any(span in k.span for k in narrower)


def test_index_types() -> None:
    assert [index_type(n).name for n in (1, 256, 257, 65536, 65537)] == [
        "uint8_t", "uint8_t", "uint16_t", "uint16_t", "uint32_t",
    ]  # fmt: skip


def test_structs_have_holes_only_at_the_end() -> None:
    kinds = [(8, 3), (64, 1), (16, 5), (32, 0), (8, 1)]
    members = [
        Member(f"m{i}", CType(bits, signed=True), count, "state", "", "")
        for i, (bits, count) in enumerate(kinds)
    ]
    struct = Struct.of(members)
    assert [m.name for m in struct.members] == ["m1", "m3", "m2", "m0", "m4"]
    assert [struct.offset(m.name) for m in struct.members] == [0, 8, 12, 22, 25]
    assert (struct.bytes, struct.padding, struct.align) == (32, 6, 8)
    assert Struct(()).bytes == 0


def test_layers_share_their_sums() -> None:
    """One array of each type, and none of a type that a wider one serves as well."""
    network = build(mlp("deep", (100, 64, 48, 24, 12), bits=16))
    assert [m.count for m in network.struct.members if m.role == "scratch"] == [64]


def test_names_are_handed_out_once() -> None:
    names = Names(frozenset({"taken"}))
    assert [names.new(n) for n in ("a b", "a-b", "a_b_2", "taken", "int", "7")] == [
        "a_b", "a_b_2", "a_b_2_2", "taken_2", "int_2", "x_7",
    ]  # fmt: skip


def test_the_input_words_of_an_executor() -> None:
    network = build(mlp("tiny", (3, 2)))
    data = np.array([[[1, 0, 1], [0, 0, 0]]])
    assert np.frombuffer(encode(network.port, data), "<u4").tolist() == [1, 2, 2, 0, 2, 0]


# --- shorter lists ---


def leaf(name: str, low: int, high: int) -> TypedOp:
    return TypedOp("input" if name == "a" else "state", name=name, frac=0, span=Interval(low, high))


def shortened(*ops: TypedOp, output: int = -1) -> list[str]:
    """The kinds of operations that are left."""
    last = output % len(ops)
    program = Program(ops, {}, last, "current", {}, {}, Interval(0, 0))
    return [op.kind for op in simplified(program).ops]


A, V = leaf("a", 0, 9), leaf("v", 5, 20)


@pytest.mark.parametrize(
    ("op", "left"),
    [
        (TypedOp("gt", (0, 0)), ["const"]),
        (TypedOp("ge", (0, 1)), ["input", "state", "ge"]),
        (TypedOp("min", (0, 1), frac=0, span=Interval(0, 9)), ["input", "state", "min"]),
        (TypedOp("min", (0, 0), frac=0, span=Interval(0, 9)), ["input"]),
        (TypedOp("sub", (0, 0), frac=0, span=Interval(0, 0)), ["const"]),
        (TypedOp("add", (0, 1), frac=0, span=Interval(5, 29)), ["input", "state", "add"]),
    ],
)
def test_what_is_decided(op: TypedOp, left: list[str]) -> None:
    assert shortened(A, V, op) == left


def test_a_decided_choice_takes_its_reasons_along() -> None:
    far = TypedOp("const", value=30, frac=0, span=Interval(30, 30))
    ops = (
        A, V, far, TypedOp("gt", (1, 2)), TypedOp("not", (3,)), TypedOp("gt", (0, 1)),
        TypedOp("or", (3, 5)), TypedOp("and", (4, 6)),
        TypedOp("select", (7, 0, 1), frac=0, span=Interval(0, 20)),
    )  # fmt: skip
    assert shortened(*ops) == ["input", "state", "gt", "select"]
    chosen = (*ops[:5], TypedOp("select", (4, 0, 1), frac=0, span=Interval(0, 9)))
    assert shortened(*chosen) == ["input"]
    high = TypedOp("max", (1, 2), frac=0, span=Interval(30, 30))
    assert shortened(A, V, far, high) == ["const"]
    larger = TypedOp("max", (0, 1), frac=0, span=Interval(20, 40))
    assert shortened(A, leaf("w", 20, 40), larger) == ["state"]


@pytest.mark.parametrize("seed", range(40))
def test_shorter_lists_mean_the_same(seed: int) -> None:
    """On values that the proof allows: the interval of each leaf."""
    rng = np.random.default_rng(seed)
    graph, _ = random_network(seed)
    for node, program in programs(graph).items():
        shape = graph.by_name[node].shape  # type: ignore[attr-defined]
        leaves = {
            op.name: rng.integers(op.span.lo, op.span.hi + 1, (50, *shape))
            for op in program.ops
            if op.kind in ("input", "state") and op.span is not None
        }
        leaves |= {name: p.values for name, p in program.params.items()}
        short = simplified(program)
        assert len(short.ops) <= len(program.ops)
        want, sent = step_program(program, leaves, 3, shape)
        got, sent_too = step_program(short, leaves, 3, shape)
        assert all(np.array_equal(*np.broadcast_arrays(want[k], got[k])) for k in want)
        assert np.array_equal(*np.broadcast_arrays(sent, sent_too))


# --- the target as a whole ---


def test_the_backend_keeps_its_promise() -> None:
    assert isinstance(BACKEND, Backend)
    assert BACKEND.default_device in BACKEND.devices
    assert BACKEND.executors[0] == "host"
    graph = recurrent()
    assert BACKEND.legalize(graph) is graph
    assert {t.name for t in BACKEND.tools()} >= {"C compiler", "ziglang", "qemu-system-arm"}


def test_events_stay_in_range() -> None:
    graph = convolutional()
    assert events(graph).shape[2:] == graph.input.shape
