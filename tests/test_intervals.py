"""The proof of widths: sound on everything that runs, and tight where it has to be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lists import random_step
from networks import random_network
from oracle import rounded
from qspinn.dynamics import Model, select, trace
from qspinn.errors import QuantizeError
from qspinn.fixed import Interval, Overflow, QFormat, Rounding, fit, hash32, shr
from qspinn.intervals import evaluate, fixpoint
from qspinn.ir import Neuron, Param, State
from qspinn.lowering import lower
from qspinn.neurons import spiking
from qspinn.program import Program, TypedOp
from qspinn.signals import signals
from watching import watched

ENDS = st.tuples(st.integers(-50, 50), st.integers(0, 12))
spans = ENDS.map(lambda e: Interval(e[0], e[0] + e[1]))


def inside(span: Interval) -> range:
    return range(span.lo, span.hi + 1)


def leaf(name: str) -> TypedOp:
    return TypedOp("state", name=name)


# --- each row of the table: all values of small intervals ---

BINARY = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "min": min, "max": max,
}  # fmt: skip


@pytest.mark.parametrize("kind", BINARY)
@given(x=spans, y=spans)
def test_binary_rows_are_exact_hulls(kind: str, x: Interval, y: Interval) -> None:
    ops = [leaf("x"), leaf("y"), TypedOp(kind, (0, 1))]
    got = evaluate(ops, {"x": x, "y": y})[2]
    values = [BINARY[kind](a, b) for a, b in itertools.product(inside(x), inside(y))]
    assert got == Interval(min(values), max(values))


@pytest.mark.parametrize("rounding", Rounding)
@given(x=spans, counts=st.tuples(st.integers(0, 6), st.integers(0, 3)))
def test_shr_and_leak_rows_are_exact_hulls(
    rounding: Rounding, x: Interval, counts: tuple[int, int]
) -> None:
    k = Interval(counts[0], sum(counts))
    ops = [leaf("x"), leaf("k"), TypedOp("shr", (0, 1), rounding=rounding), TypedOp("sub", (0, 2))]
    got = evaluate(ops, {"x": x, "k": k})
    pairs = [(a, int(r)) for a in inside(x) for b in inside(k) for r in quotients(a, b, rounding)]
    assert got[2] == Interval(min(r for _, r in pairs), max(r for _, r in pairs))
    assert got[3] == Interval(min(a - r for a, r in pairs), max(a - r for a, r in pairs))


def quotients(x: int, k: int, rounding: Rounding) -> list[Fraction]:
    exact = Fraction(x, 2**k)
    if rounding is not Rounding.STOCHASTIC:
        return [rounded(exact, 0, rounding)]
    return [Fraction(x // 2**k), Fraction(-(-x // 2**k))]


@given(x=spans, k=st.integers(0, 5))
def test_shl_row(x: Interval, k: int) -> None:
    ops = [leaf("x"), TypedOp("shl", (0,), value=k)]
    assert evaluate(ops, {"x": x})[1] == Interval(x.lo * 2**k, x.hi * 2**k)


@given(x=spans, lo=st.integers(-40, 20), bits=st.integers(1, 6), overflow=st.sampled_from(Overflow))
def test_fit_row_is_sound_and_exact_when_it_clips(
    x: Interval, lo: int, bits: int, overflow: Overflow
) -> None:
    hi = lo + 2**bits - 1
    op = TypedOp("fit", (0,), low=lo, high=hi, overflow=overflow)
    got = evaluate([leaf("x"), op], {"x": x})[1]
    assert got is not None
    values = fit(np.array(inside(x)), lo, hi, overflow)
    hull = Interval(int(values.min()), int(values.max()))
    assert hull in got
    assert got == hull or overflow is Overflow.WRAP


@pytest.mark.parametrize("kind", ["gt", "ge"])
@pytest.mark.parametrize("negated", [False, True])
@given(x=spans, y=spans, z=spans)
def test_arms_of_a_select_are_narrowed_by_its_comparison(
    kind: str, negated: bool, x: Interval, y: Interval, z: Interval
) -> None:
    mask = [TypedOp(kind, (0, 1)), TypedOp("not", (3,))]
    arm = [TypedOp("sub", (0, 1)), TypedOp("select", (3 + negated, 5, 2))]
    got = evaluate([leaf("x"), leaf("y"), leaf("z"), *mask, *arm], {"x": x, "y": y, "z": z})[6]
    assert got is not None
    for a, b in itertools.product(inside(x), inside(y)):
        holds = (a > b if kind == "gt" else a >= b) != negated
        for c in (z.lo, z.hi):
            assert (a - b if holds else c) in got


def test_a_select_of_one_threshold_is_exact() -> None:
    ops = [
        leaf("v"), TypedOp("const", value=10), TypedOp("gt", (0, 1)), TypedOp("sub", (0, 1)),
        TypedOp("select", (2, 3, 0)),
    ]  # fmt: skip
    assert evaluate(ops, {"v": Interval(-5, 17)})[4] == Interval(-5, 10)


@given(x=spans, y=spans, low=st.integers(-20, 20), high=st.integers(-20, 20))
@example(x=Interval(-2, 3), y=Interval(50, 51), low=1, high=5)
def test_two_comparisons_of_an_aligned_value(x: Interval, y: Interval, low: int, high: int) -> None:
    """Between two multiples of eight there may be no value at all, and that is no error."""
    ops = [
        leaf("x"), TypedOp("shl", (0,), value=3), TypedOp("const", value=low),
        TypedOp("const", value=high), TypedOp("gt", (1, 2)), TypedOp("ge", (3, 1)),
        TypedOp("and", (4, 5)), leaf("y"), TypedOp("select", (6, 0, 7)),
    ]  # fmt: skip
    got = evaluate(ops, {"x": x, "y": y})[8]
    assert got is not None
    for a in inside(x):
        if low < 8 * a <= high:
            assert a in got
        else:
            assert y in got


@pytest.mark.parametrize("part", range(4))
def test_any_list_is_bounded(part: int) -> None:
    """Also lists no model has: every value of sampled leaves lies in its interval."""
    rng = np.random.default_rng(part)
    for _ in range(150):
        step = random_step(rng)
        for i, (op, x) in enumerate(zip(step.program.ops, step.values, strict=True)):
            if op.span is not None:
                assert op.span.lo <= x.min(), (i, step.program.text())
                assert x.max() <= op.span.hi, (i, step.program.text())


# --- whole lists ---


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("profile", ["any", "loihi"])
def test_every_value_of_random_networks_lies_in_its_interval(part: int, profile: str) -> None:
    for seed in range(25 * part, 25 * (part + 1)):
        graph, data = random_network(seed, profile=profile)
        trace, seen = watched(graph, data)
        for step in seen:
            for i, (op, x) in enumerate(zip(step.program.ops, step.values, strict=True)):
                if op.span is not None:
                    assert op.span.lo <= x.min(), (seed, i, step.program.text())
                    assert x.max() <= op.span.hi, (seed, i, step.program.text())
        for node in graph.of_type(Neuron):
            for name, state in node.states.items():
                kept = trace.states[f"{node.name}.{name}"]
                assert state.fmt is not None
                assert state.fmt.range.lo <= kept.min(), (seed, name)
                assert kept.max() <= state.fmt.range.hi, (seed, name)


def test_every_signal_of_random_networks_lies_in_its_interval() -> None:
    from qspinn.interp import run
    from qspinn.ir import Output

    for seed in range(60):
        graph, data = random_network(seed)
        known = signals(graph)
        probes = [Output(name=f"_{n.name}", inputs=(n.name,)) for n in graph.nodes]
        outputs = run(replace(graph, nodes=(*graph.nodes, *probes)), data, record=False).outputs
        for node in graph.nodes:
            x, signal = outputs[f"_{node.name}"], known[node.name]
            assert x.shape[2:] == signal.shape, (seed, node.name)
            assert signal.interval is not None
            assert signal.interval.lo <= x.min(), (seed, node.name)
            assert x.max() <= signal.interval.hi, (seed, node.name)


def neuron(model: Model, fmt: QFormat, decay: Param, threshold: int, **given: Any) -> Neuron:
    values = {
        name: decay if name.endswith("decay") else Param(np.array(threshold), QFormat(20, fmt.frac))
        for name in model.params
    }
    states = {name: State(Param(0, fmt), fmt, **given) for name in model.states}
    return Neuron(name="n", shape=(1,), model=model, values=values, states=states)


def kept(program: Program, name: str) -> Interval:
    span = program.ops[program.finals[name]].span
    assert span is not None
    return span


NO_DECAY = Param(np.array(4096), QFormat(13, 12, signed=False))
LEAK = Param(np.array(4), QFormat(4, signed=False, leak=True))


def test_reset_by_subtraction_bounds_the_membrane_by_its_threshold() -> None:
    node = neuron(spiking(leak=False, reset="subtract"), QFormat(24), NO_DECAY, 100)
    program = lower(node, Interval(0, 60), 0)
    assert kept(program, "v") == Interval(0, 100)
    assert not [op for op in program.ops if op.kind == "fit"]


def test_a_leak_converges_to_its_bound() -> None:
    node = neuron(spiking(), QFormat(24), LEAK, 10**5, rounding=Rounding.FLOOR)
    program = lower(node, Interval(-30, 30), 0)
    # v - (v >> 4) + a rests where v >> 4 is a: at the first such v from either side.
    assert kept(program, "v") == Interval(16 * -29 - 1, 16 * 30)
    assert program.steps is None
    assert not [op for op in program.ops if op.kind == "fit"]


def test_a_leakless_neuron_with_inhibition_has_no_floor() -> None:
    node = neuron(spiking(leak=False), QFormat(16), NO_DECAY, 100)
    program = lower(node, Interval(-7, 3), 0)
    assert kept(program, "v") == Interval(-(2**15), 100)
    assert [op.overflow for op in program.ops if op.kind == "fit"] == [Overflow.SATURATE]


def test_steps_bound_what_grows() -> None:
    node = neuron(spiking(leak=False), QFormat(16), NO_DECAY, 100)
    program = lower(node, Interval(-7, 3), 0, steps=25)
    assert program.steps == 25
    assert kept(program, "v").lo == -7 * 25
    assert not [op for op in program.ops if op.kind == "fit"]
    settled = lower(node, Interval(0, 3), 0, steps=500)
    assert settled.steps is None
    assert kept(settled, "v") == Interval(0, 100)


def test_a_state_declared_free_of_overflow_is_proved_or_refused() -> None:
    model = spiking(leak=False, reset="subtract")
    fine = neuron(model, QFormat(9), NO_DECAY, 100, overflow=Overflow.ERROR)
    assert kept(lower(fine, Interval(0, 60), 0), "v") == Interval(0, 100)
    small = neuron(model, QFormat(8), NO_DECAY, 100, overflow=Overflow.ERROR)
    with pytest.raises(QuantizeError, match=r"may reach \[0, 160\], its range is \[-128, 127\]"):
        lower(small, Interval(0, 60), 0)


@pytest.mark.parametrize(("signed", "what"), [(True, None), (False, "mul needs 64 bits")])
def test_widths_stop_at_63_bits(signed: bool, what: str | None) -> None:
    coefficient = QFormat(32, 32, signed)
    most = Param(np.array(coefficient.range.hi), coefficient)
    node = neuron(spiking(), QFormat(32), most, 1000)
    if what is None:
        program = lower(node, Interval(-(2**40), 2**40), 0)
        assert max(op.span.bits for op in program.ops if op.span) == 63
    else:
        with pytest.raises(QuantizeError, match=f"{what}, the limit is 63"):
            lower(node, Interval(-(2**40), 2**40), 0)


def test_a_rounding_shift_at_the_limit_does_not_overflow() -> None:
    """The push is added before the shift: one bit beside the value must be free."""
    top = np.array([2**62 - 1, -(2**62)])
    for rounding in Rounding:
        for k in (1, 30, 61):
            noise = hash32(1, 2, 3)
            got = shr(
                top, k if rounding is not Rounding.STOCHASTIC else min(k, 32), rounding, noise
            )
            assert got[0] >= 0
            assert got[1] < 0


def test_the_fixpoint_ends_and_holds_for_ever() -> None:
    """A counter without a clip below its store still ends: the store's range stops it."""
    ops = [leaf("v"), TypedOp("const", value=1), TypedOp("add", (0, 1)),
           TypedOp("fit", (2,), low=0, high=10**6)]  # fmt: skip
    spans_, forever = fixpoint(ops, {"v": 3}, {"v": Interval(0, 0)}, {}, None)
    assert forever
    assert spans_[3] == Interval(1, 10**6)


def test_a_select_within_a_select_is_bounded_from_below() -> None:
    def body(n: Any) -> None:
        n.v = n.v + n.a
        up, down = n.v > n.theta, ~(n.v >= n.low)
        n.v = select(up, n.v - n.theta, select(down, n.low, n.v))
        n.s = up

    model = trace(body, name="window", states="v", params="theta low")
    fmt = QFormat(16)
    values = {"theta": Param(np.array([5, 9]), fmt), "low": Param(np.array([-4, -2]), fmt)}
    node = Neuron(name="n", shape=(2,), model=model, values=values,
                  states={"v": State(Param(0, fmt), fmt)})  # fmt: skip
    program = lower(node, Interval(-3, 3), 0)
    assert kept(program, "v").lo == -4
    assert Interval(-4, 9) in kept(program, "v")
