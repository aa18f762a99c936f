"""From a model and formats to the typed list: where precision is lost, and where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from networks import random_network
from qspinn import interp
from qspinn.dynamics import Model, maximum, select, trace
from qspinn.errors import QuantizeError
from qspinn.fixed import Interval, Overflow, QFormat, Rounding, hash32, shr, text_key
from qspinn.ir import Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.lowering import lower, programs
from qspinn.neurons import spiking
from qspinn.program import TYPED_KINDS, Program, TypedOp

WIDE = Interval(-(2**20), 2**20)


def node(
    model: Model,
    params: dict[str, str],
    states: dict[str, str],
    *,
    rounding: Rounding = Rounding.FLOOR,
    overflow: Overflow = Overflow.SATURATE,
    name: str = "n",
) -> Neuron:
    """A node with formats as words; every parameter is 1, every state starts from 0."""
    return Neuron(
        name=name, shape=(4,), model=model,
        values={k: Param(np.array(1), QFormat.parse(f), rounding) for k, f in params.items()},
        states={
            k: State(Param(0, QFormat.parse(f)), QFormat.parse(f), rounding, overflow)
            for k, f in states.items()
        },
    )  # fmt: skip


def made(body: Callable[[Any], None], states: str = "v", params: str = "p") -> Model:
    return trace(body, name="made", states=states, params=params)


def of(program: Program, kind: str) -> list[TypedOp]:
    return [op for op in program.ops if op.kind == kind]


def adds(n: Any) -> None:
    n.v = n.v + n.a
    n.s = n.v > n.p


# --- the list ---


def test_loihis_neuron(golden: str) -> None:
    """`a << 6` and `vth << 6` are nobody's rule: they follow from the binary points."""
    model = spiking(synapse="new", bias=True)
    u, v = "s24f6[-8388607,8388608]", "s24f6[-8388607,8388607]"
    decay = "u13f12"
    formats = {"current_decay": decay, "decay": decay, "bias": "s20f6", "threshold": "u17f0"}
    made = node(model, formats, {"u": u, "v": v}, rounding=Rounding.ZERO)
    wraps = replace(made.states["u"], overflow=Overflow.WRAP)
    half = Param(np.array(2048), QFormat.parse(decay), Rounding.ZERO)
    values = {**made.values, "decay": half, "current_decay": half}
    made = replace(made, states={**made.states, "u": wraps}, values=values)
    assert lower(made, Interval(-32767, 32767), 0).text() + "\n" == golden
    # At the largest activation the current cannot wrap; without its decay it can.
    kinds = [op.overflow for op in lower(made, Interval(-80000, 80000), 0).ops if op.kind == "fit"]
    assert kinds == [Overflow.WRAP, Overflow.SATURATE]


@pytest.mark.parametrize("profile", ["any", "loihi"])
def test_typed_lists_say_everything(profile: str) -> None:
    for seed in range(50):
        graph, _ = random_network(seed, profile=profile)
        for program in programs(graph).values():
            for i, op in enumerate(program.ops):
                assert op.kind in TYPED_KINDS
                assert all(j < i for j in op.args)
                fracs = {program.ops[j].frac for j in op.args} - {None}
                if op.kind in ("add", "sub", "min", "max", "gt", "ge", "select"):
                    assert len(fracs) == 1, (seed, i, program.text())
                assert (op.span is None) == (op.kind in ("gt", "ge", "and", "or", "not"))
                if op.kind in ("shl", "shr") and len(op.args) == 1:
                    assert op.value > 0
                if op.kind == "fit":
                    source = program.ops[op.args[0]].span
                    assert source is not None
                    assert source not in Interval(op.low, op.high)
            for name, i in program.finals.items():
                fmt = program.states[name].fmt
                assert fmt is not None
                assert program.ops[i].frac == fmt.frac
                assert program.ops[i].span in fmt.range


# --- alignment loses nothing, a store does ---


def test_the_coarser_operand_moves_left() -> None:
    program = lower(node(made(adds), {"p": "s8f2"}, {"v": "s30f6"}), WIDE, 4)
    moves = [(program.ops[op.args[0]].name, op.value, op.frac) for op in of(program, "shl")]
    assert moves == [("a", 2, 6), ("p", 4, 6)]
    assert not of(program, "shr")


def test_a_coarse_state_is_rounded_when_stored() -> None:
    made_ = node(made(adds), {"p": "s8f2"}, {"v": "s30f1"}, rounding=Rounding.NEAREST_AWAY)
    program = lower(made_, WIDE, 4)
    (shift,) = of(program, "shr")
    assert (shift.value, shift.rounding, shift.frac) == (3, Rounding.NEAREST_AWAY, 1)
    (move, other) = of(program, "shl")
    assert [program.ops[i].name for i in (*move.args, *other.args)] == ["v", ""]


def test_constants_take_the_point_of_their_neighbours() -> None:
    def body(n: Any) -> None:
        n.v = maximum(n.v - 3, n.a)
        n.s = n.v > n.p

    program = lower(node(made(body), {"p": "s8f2"}, {"v": "s30f5"}), WIDE, 0)
    assert [(op.value, op.frac) for op in of(program, "const") if op.span == Interval(96, 96)]
    coarse = node(made(body), {"p": "s8f-2"}, {"v": "s30f-1"})
    with pytest.raises(QuantizeError, match=r"the constant 3 is no multiple of 2\*\*1"):
        lower(coarse, WIDE, -4)


def test_a_zero_fits_every_point() -> None:
    def body(n: Any) -> None:
        n.v = n.v + n.a
        n.s = n.v > n.p
        n.v = select(n.s, 0, n.v)

    lower(node(made(body), {"p": "s8f-2"}, {"v": "s20f-3"}), WIDE, -4)


def scales(n: Any) -> None:
    n.v = n.p * n.v + n.a
    n.s = n.v > n.q


@pytest.mark.parametrize(
    ("coefficient", "kinds"),
    [
        ("u13f12", ["mul", "shr"]),  # the product goes back to the point of v
        ("u4f0", ["mul"]),  # nothing to round
        ("u4f-3", ["mul", "shl"]),
        ("leak3", ["shr", "sub"]),  # v - (v >> k)
    ],
)
def test_products(coefficient: str, kinds: list[str]) -> None:
    model = made(scales, params="p q")
    made_ = node(model, {"p": coefficient, "q": "s8f6"}, {"v": "s16f6"}, rounding=Rounding.ZERO)
    program = lower(made_, Interval(-90, 90), 6)
    found = [op for op in program.ops if op.kind in ("mul", "shr", "shl", "sub")]
    assert [op.kind for op in found] == kinds
    assert found[-1].frac == 6
    assert [op.rounding for op in of(program, "shr")] == [Rounding.ZERO] * kinds.count("shr")


def test_idle_stores_are_dropped_and_others_kept() -> None:
    model = spiking(leak=False)  # zero at every spike, so v never passes 1 + 9
    formats = {"threshold": "s8f0"}
    fine = lower(node(model, formats, {"v": "s5f0"}), Interval(0, 9), 0)
    assert not of(fine, "fit")
    tight = lower(node(model, formats, {"v": "s4f0"}), Interval(0, 9), 0)
    (store,) = of(tight, "fit")
    assert (store.low, store.high, store.overflow) == (-8, 7, Overflow.SATURATE)


def test_a_wrapping_range_has_a_power_of_two() -> None:
    odd = node(made(adds), {"p": "s8f0"}, {"v": "s8f0[-100,100]"}, overflow=Overflow.WRAP)
    with pytest.raises(QuantizeError, match="a wrapping range has 2\\*\\*k values, not 201"):
        lower(odd, WIDE, 0)


def test_a_source_shift_loses_what_the_author_said() -> None:
    def body(n: Any) -> None:
        n.v = n.v - (n.v >> 3) + n.a
        n.s = n.v > n.p

    made_ = node(made(body), {"p": "s8f6"}, {"v": "s20f6"}, rounding=Rounding.NEAREST_EVEN)
    (shift,) = of(lower(made_, Interval(-90, 90), 6), "shr")
    assert (shift.value, shift.frac, shift.rounding) == (3, 6, Rounding.NEAREST_EVEN)


@pytest.mark.parametrize(
    ("state", "frac", "rounding", "what"),
    [
        ("s8f-10", 60, Rounding.FLOOR, "v drops 70 bits at once, the limit is 62"),
        ("s8f-10", 25, Rounding.STOCHASTIC, "v drops 35 bits at once, the limit is 32"),
    ],
)
def test_shifts_have_a_limit(state: str, frac: int, rounding: Rounding, what: str) -> None:
    made_ = node(made(adds), {"p": "s8f0"}, {"v": state}, rounding=rounding)
    with pytest.raises(QuantizeError, match=what):
        lower(made_, Interval(-1, 1), frac)


def test_what_has_no_format_is_refused() -> None:
    half = node(made(adds), {"p": "s8f0"}, {"v": "s8f0"})
    bare = replace(half, values={"p": Param(np.ones(()))})
    with pytest.raises(QuantizeError, match="p has no format"):
        lower(bare, WIDE, 0)
    plain = Graph(
        "plain",
        (
            Input(name="in", shape=(4,)),
            Linear(name="fc", inputs=("in",), weight=Param(np.ones((4, 4)))),
            replace(half, inputs=("fc",)),
            Output(name="out", inputs=("n",)),
        ),
    )
    with pytest.raises(QuantizeError, match="n: the graph is not quantized"):
        programs(plain)


# --- random draws ---


def noisy(name: str, timing: str = "at_spike") -> Neuron:
    model = spiking(synapse="new", reset="subtract", timing=timing)
    formats = {"current_decay": "u8f8", "decay": "leak3", "threshold": "s9f4"}
    states = {"u": "s12f2", "v": "s12f1"} | ({"fired": "u1f0"} if timing != "at_spike" else {})
    return node(model, formats, states, rounding=Rounding.STOCHASTIC, name=name)


def keys(neuron: Neuron) -> list[int]:
    return [op.key for op in of(lower(neuron, Interval(-90, 90), 3), "shr")]


def test_every_place_that_draws_has_its_own_stream() -> None:
    found = keys(noisy("n"))
    assert found == [
        text_key(f"n.{what}") for what in ("current_decay.1", "u.2", "decay.3", "v.4", "v.5")
    ]
    assert not set(found) & set(keys(noisy("m")))
    assert keys(replace(noisy("split_0"), origin="n")) == found


def test_a_stream_depends_on_its_place_only() -> None:
    """Not on values, widths or how many operations stand in between."""
    first = noisy("n")
    states = {k: replace(s, fmt=replace(s.fmt, bits=20)) for k, s in first.states.items() if s.fmt}
    assert keys(replace(first, states=states)) == keys(first)


def test_noise_is_a_function_of_key_step_and_neuron() -> None:
    fmt = QFormat(20, 0)
    model = made(adds)
    made_ = node(model, {"p": "s20f0"}, {"v": "s20f0"}, rounding=Rounding.STOCHASTIC)
    graph = Graph(
        "g",
        (
            Input(name="in", shape=(4,), kind="current", fmt=QFormat(8, 5)),
            replace(made_, inputs=("in",)),
            Output(name="out", inputs=("n",)),
        ),
    )
    data = np.random.default_rng(1).integers(-100, 100, (3, 7, 4))
    data[1] = data[0]
    got = interp.run(graph, data).states["n.v"]
    v = np.zeros((3, 4), np.int64)
    for t in range(7):
        noise = hash32(text_key("n.v.1"), t, np.arange(4))
        v = shr(v * 32 + data[:, t], 5, Rounding.STOCHASTIC, noise)
        assert np.array_equal(got[:, t], v)
    assert np.array_equal(got[0], got[1])  # equal samples draw equal numbers
    assert fmt.range.lo <= got.min()


def test_programs_are_cached_by_node() -> None:
    graph, _ = random_network(3)
    first, again = programs(graph), programs(graph)
    assert all(first[name] is again[name] for name in first)
