"""Tracing: what a model function may say, and the list and scale groups it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qspinn import interp
from qspinn.dynamics import KINDS, Model, maximum, minimum, select, trace
from qspinn.errors import VerifyError
from qspinn.ir import Graph, Input, Linear, Neuron, Output, Param, State
from qspinn.neurons import COMPARES, RESETS, TIMINGS, integrator, spiking

Body = Callable[[Any], None]


def lif(n: Any) -> None:
    n.v = n.beta * n.v + n.a
    n.s = n.v > n.theta
    n.v = select(n.s, 0, n.v)


def made(body: Body, states: str = "v", params: str = "beta theta", **options: Any) -> Model:
    return trace(body, name="made", states=states, params=params, **options)


# --- the list ---


def test_a_model_is_its_list() -> None:
    assert made(lif).text().splitlines() == [
        "(v; beta, theta) -> spike",
        "  %0 = param beta",
        "  %1 = state v",
        "  %2 = mul %1, %0",
        "  %3 = input a",
        "  %4 = add %2, %3",
        "  %5 = store v, %4",
        "  %6 = param theta",
        "  %7 = gt %5, %6",
        "  %8 = const 0",
        "  %9 = select %7, %8, %5",
        "  %10 = store v, %9",
        "  s = %7",
    ]


def test_operators_append_their_kind() -> None:
    def body(n: Any) -> None:
        x = maximum(minimum(n.v - n.a, n.p), 0) + (n.v >> 2)
        m = (x < n.p) & ~(x <= n.a) | (x >= 1)
        n.v = select(m, x, n.b * n.v)
        n.s = m

    model = made(body, params="p b")
    assert {op.kind for op in model.ops} == set(KINDS)
    comparisons = [op for op in model.ops if op.kind in ("gt", "ge")]
    names = {i: op.name for i, op in enumerate(model.ops)}
    # x < p is p > x, and x <= a is a >= x.
    assert [names[op.args[0]] for op in comparisons] == ["p", "a", ""]


def test_equal_operations_are_one_and_a_store_is_read_back() -> None:
    def body(n: Any) -> None:
        n.v = n.beta * n.v + n.a
        n.s = n.beta * n.v + n.a > n.beta * n.v + n.a

    kinds = [op.kind for op in made(body).ops]
    assert kinds.count("mul") == 2  # of the old v and, read once more, of the new one
    assert kinds.count("param") == 1
    assert kinds.count("gt") == 1


def test_a_coefficient_may_stand_on_either_side() -> None:
    def left(n: Any) -> None:
        n.v = n.beta * n.v
        n.s = n.v > n.theta

    def right(n: Any) -> None:
        n.v = n.v * n.beta
        n.s = n.v > n.theta

    mul = [next(op for op in made(body).ops if op.kind == "mul") for body in (left, right)]
    for body, op in zip((left, right), mul, strict=True):
        assert [made(body).ops[i].name for i in op.args] == ["v", "beta"]
    assert made(left).coefficients == made(right).coefficients == {"beta"}


def reads_undeclared(n: Any) -> None:
    n.v = n.gamma * n.v


def assigns_param(n: Any) -> None:
    n.beta = n.v


def assigns_input(n: Any) -> None:
    n.a = n.v


def branches(n: Any) -> None:
    if n.v > n.theta:
        n.v = n.a


def multiplies_states(n: Any) -> None:
    n.v = n.v * n.a


def no_output(n: Any) -> None:
    n.v = n.a


def forgets_state(n: Any) -> None:
    n.s = n.a > n.theta


def sends_value(n: Any) -> None:
    n.v = n.a
    n.s = n.v


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (reads_undeclared, "the model reads 'gamma', which it does not declare"),
        (assigns_param, "the model assigns 'beta', which is a parameter"),
        (assigns_input, "the model assigns 'a', which is neither a state nor the output"),
        (branches, "a neuron model cannot branch on a value"),
        (multiplies_states, "one factor of a product must be a parameter"),
        (no_output, "made: the output 's' is never assigned"),
        (forgets_state, r"made: the states \['v'\] are never assigned"),
        (sends_value, "made: 's' is sent as a spike, but is something else"),
    ],
)
def test_what_a_model_must_not_do(body: Body, what: str) -> None:
    with pytest.raises(VerifyError, match=what):
        made(body)


def test_a_mask_is_no_current() -> None:
    with pytest.raises(VerifyError, match="'s' is sent as a current"):
        made(lif, sends="current")


# --- scale groups ---


def test_scale_groups_are_read_off_the_list() -> None:
    cuba = spiking(synapse="new", bias=True, reset="value", clamp=True, refractory=True)
    assert cuba.scaled == {"u", "v", "bias", "threshold", "v_reset", "v_min"}
    assert cuba.coefficients == {"current_decay", "decay"}


def test_a_constant_ties_no_groups_unless_it_is_not_zero() -> None:
    def body(n: Any) -> None:
        n.v = n.a + n.v
        n.s = n.v > 0
        n.w = n.w + 1

    assert made(body, states="v w", params="").scaled == {"v"}

    def pinned(n: Any) -> None:
        n.v = n.a + n.v
        n.s = n.v > 1

    with pytest.raises(VerifyError, match="a constant fixes the scale"):
        assert made(pinned, params="").scaled


def every_model() -> list[Model]:
    models = [
        spiking(synapse=synapse, leak=leak, reset=reset, timing=timing, compare=compare, bias=True)
        for synapse in ("", "new", "old")
        for leak in (True, False)
        for reset in RESETS
        for timing in TIMINGS
        for compare in COMPARES
        if not (timing == "next_discard" and reset == "subtract")
        and (leak or timing != "next_after_decay")  # without a decay, before it is after it
    ]
    models += [spiking(max_spikes=m, reset=r, clamp=True) for m in (3, 15) for r in RESETS]
    models += [spiking(refractory=True, reset=r, synapse="old") for r in RESETS]
    return models


def test_there_are_many_models_and_all_differ() -> None:
    models = every_model()
    assert len(models) == 123
    assert len({(m.ops, m.output) for m in models}) == len(models)


@pytest.mark.parametrize("scale", [0.125, 3.0, 1000.7])
def test_scaling_a_group_changes_no_spike(rng: np.random.Generator, scale: float) -> None:
    for model in every_model():
        values = {
            name: rng.uniform(0.2, 0.9, 6) if name in model.coefficients else rng.normal(0, 0.3, 6)
            for name in model.params
        }
        values["threshold"] = rng.uniform(0.5, 1.5, 6)
        if "refractory" in values:
            values["refractory"] = rng.integers(0, 4, 6).astype(float)
        data = rng.normal(0.4, 1.0, (2, 30, 6))
        graph = plain(model, values, 1.0)
        scaled = {k: v * scale if k in model.scaled else v for k, v in values.items()}
        before, after = (interp.run(g, data).output for g in (graph, plain(model, scaled, scale)))
        assert before.any()
        assert np.array_equal(before, after), model.name


def plain(model: Model, values: dict[str, Any], weight: float) -> Graph:
    return Graph(
        "plain",
        (
            Input(name="in", shape=(6,), kind="current"),
            Linear(name="fc", inputs=("in",), weight=Param(np.eye(6) * weight)),
            Neuron(
                name="n", inputs=("fc",), shape=(6,), model=model,
                values={k: Param(v) for k, v in values.items()},
                states={k: State() for k in model.states},
            ),
            Output(name="out", inputs=("n",)),
        ),
    )  # fmt: skip


# --- the options of the library's models ---


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"reset": "soft"}, "'soft' is none of 'zero', 'subtract', 'value'"),
        ({"timing": "later"}, "'later' is none of"),
        ({"compare": "=="}, "'==' is none of '>', '>='"),
        ({"synapse": "both"}, "'both' is none of '', 'new', 'old'"),
        ({"max_spikes": 2}, "max_spikes is 1, 3, 7, 15, ..., not 2"),
        ({"max_spikes": 0}, "max_spikes is 1, 3, 7, 15, ..., not 0"),
        ({"max_spikes": 3, "refractory": True}, "a refractory neuron sends at most one spike"),
        ({"timing": "next_discard", "refractory": True}, "a late reset allows neither"),
        ({"timing": "next_before_decay", "max_spikes": 3}, "a late reset allows neither"),
        ({"timing": "next_discard", "reset": "subtract"}, "has nothing to discard"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], what: str) -> None:
    with pytest.raises(VerifyError, match=what):
        spiking(**options)


def test_integrators_send_their_membrane() -> None:
    for synapse in ("", "new", "old"):
        model = integrator(synapse=synapse, bias=True)
        assert (model.sends, model.ops[model.output].name) == ("current", "v")
        assert model.name == ("CubaLI" if synapse else "LI")
    assert integrator(leak=False).name == "I"
