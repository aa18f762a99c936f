"""The neuron models against an account of their meaning in rationals that reads no list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from network_formats import AnyFormats
from oracle import Oracle
from qspinn import interp
from qspinn.dynamics import Model, maximum, select, trace
from qspinn.errors import VerifyError
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Input, Neuron, Output, Param, State
from qspinn.neurons import RESETS, TIMINGS, integrator, spiking
from qspinn.verify import verify

SHAPE, BATCH, STEPS = (6,), 2, 14


def layer(node: Neuron, fmt: QFormat) -> Graph:
    """Neurons that get the network's input as their current."""
    readout = "membrane_last" if node.model.sends == "current" else "count"
    return verify(
        Graph(
            "layer",
            (
                Input(name="in", shape=node.shape, kind="current", fmt=fmt),
                replace(node, inputs=("in",)),
                Output(name="out", inputs=(node.name,), readout=readout),
            ),
        )
    )


def agree(node: Neuron, rule: Mapping[str, Any], fmt: QFormat, data: Array) -> Trace:
    """Compare every state and output of every neuron with the oracle; give the trace."""
    got = interp.run(layer(node, fmt), data)
    for sample in range(len(data)):
        for neuron in range(node.shape[0]):
            one = Oracle(node, rule, neuron)
            for t in range(data.shape[1]):
                sent = one.step(Fraction(int(data[sample, t, neuron])) * Fraction(2) ** -fmt.frac)
                at = (sample, t, neuron)
                have = {k: int(got.states[f"{node.name}.{k}"][at]) for k in node.states}
                assert have == one.integers(), at
                assert int(got.output[at]) == sent, at
    return got


def undrawn(node: Neuron) -> Neuron:
    """The node with a rounding that draws no random numbers wherever it had one that does."""
    states = {
        k: replace(s, rounding=plain(s.rounding, Rounding.ZERO)) for k, s in node.states.items()
    }
    values = {
        k: replace(p, rounding=plain(p.rounding, Rounding.NEAREST_AWAY))
        for k, p in node.values.items()
    }
    return replace(node, states=states, values=values)


def plain(rounding: Rounding, other: Rounding) -> Rounding:
    return other if rounding is Rounding.STOCHASTIC else rounding


def drawn(seed: int) -> tuple[Neuron, dict[str, Any], QFormat, Array]:
    """A layer of any model with any formats, and currents that make it fire."""
    draw = AnyFormats(np.random.default_rng((seed, 77)))
    rule = draw.rule()
    point, size = draw.between(-2, 6), float(2 ** draw.between(-3, 3))
    model = spiking(**rule)
    values, states = draw.neuron(model, SHAPE, size, point)
    threshold = values["threshold"]
    if rule["max_spikes"] > 1:
        values["threshold"] = replace(threshold, values=np.maximum(threshold.values, 1))
    fmt = QFormat(12, point)
    data = np.rint(draw.rng.normal(0.4, 1.0, (BATCH, STEPS, *SHAPE)) * size * 2.0**point)
    node = Neuron(name="n", shape=SHAPE, model=model, values=values, states=states)
    return undrawn(node), rule, fmt, np.clip(data, -2048, 2047).astype(np.int64)


@pytest.mark.parametrize("part", range(8))
def test_the_models_mean_what_is_written(part: int) -> None:
    fired = steps = 0
    met: Counter[str] = Counter()
    for seed in range(40 * part, 40 * (part + 1)):
        node, rule, fmt, data = drawn(seed)
        try:
            got = agree(node, rule, fmt, data)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {rule}: {error}") from error
        fired += np.count_nonzero(got.output)
        steps += got.output.size
        met.update(f"{name}={value}" for name, value in rule.items())
    assert fired > 0.1 * steps
    assert min(met[f"{k}={v}"] for k, v in WANTED) > 0, met


WANTED = [
    ("synapse", ""), ("synapse", "new"), ("synapse", "old"), ("leak", False), ("bias", True),
    ("reset", "zero"), ("reset", "subtract"), ("reset", "value"), ("timing", "at_spike"),
    ("timing", "next_before_decay"), ("timing", "next_after_decay"), ("timing", "next_discard"),
    ("compare", ">"), ("compare", ">="), ("refractory", True), ("clamp", True),
]  # fmt: skip


@pytest.mark.parametrize("synapse", ["", "new", "old"])
@pytest.mark.parametrize("leak", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_integrators(synapse: str, leak: bool, bias: bool) -> None:
    """LI, CubaLI, I and CubaI keep what a neuron does whose threshold is out of reach."""
    draw = AnyFormats(np.random.default_rng(5))
    model = integrator(synapse=synapse, leak=leak, bias=bias)
    data = np.rint(draw.rng.normal(2, 9, (BATCH, STEPS, *SHAPE))).astype(np.int64)
    for _ in range(6):
        values, states = draw.neuron(model, SHAPE, 8.0, 0)
        node = undrawn(Neuron(name="n", shape=SHAPE, model=model, values=values, states=states))
        never = {"threshold": Param(np.array(2**31 - 1), QFormat(32, -8))}
        silent = spiking(synapse=synapse, leak=leak, bias=bias)
        fired = replace(node, model=silent, values={**node.values, **never})
        rule = {"synapse": synapse, "leak": leak, "bias": bias}
        want = agree(fired, rule, QFormat(8), data)
        got = interp.run(layer(node, QFormat(8)), data)
        assert not want.output.any()
        assert all(np.array_equal(want.states[k], got.states[k]) for k in want.states)
        assert np.array_equal(got.output, got.states["n.v"])


def test_a_refractory_neuron_rests_for_as_many_steps_as_it_says() -> None:
    model = spiking(refractory=True, leak=False)
    one = QFormat(8)
    values = {
        "threshold": Param(np.array(9), one),
        "refractory": Param(np.arange(6), QFormat(3, signed=False)),
    }
    states = {"v": State(Param(0, one), one), "wait": State(Param(0, one), one)}
    node = Neuron(name="n", shape=SHAPE, model=model, values=values, states=states)
    out = interp.run(layer(node, one), np.full((1, 30, 6), 10)).output[0]
    gaps = [np.diff(np.flatnonzero(out[:, i])) for i in range(6)]
    assert [set(g) for g in gaps] == [{1}, {2}, {3}, {4}, {5}, {6}]


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("options", [{}, {"max_spikes": 7}, {"refractory": True}, {"clamp": True}])
def test_without_decays_integers_are_the_reals(
    timing: str, reset: str, options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Where nothing is rounded and nothing clips, the two meanings of a model are one."""
    try:
        model = spiking(leak=False, bias=True, reset=reset, timing=timing, **options)
    except VerifyError:
        return
    fmt, small = QFormat(28, 3), QFormat(4, signed=False)
    values = {name: Param(rng.integers(-9, 10, SHAPE), fmt) for name in model.params}
    values["threshold"] = Param(rng.integers(5, 30, SHAPE), fmt)
    if "refractory" in values:
        values["refractory"] = Param(rng.integers(0, 4, SHAPE), small)
    kinds = {"fired": small, "wait": small}
    states = {name: State(Param(0, kinds.get(name, fmt)), kinds.get(name, fmt))
              for name in model.states}  # fmt: skip
    node = Neuron(name="n", shape=SHAPE, model=model, values=values, states=states)
    data = rng.integers(-10, 20, (2, 40, *SHAPE))
    got = interp.run(layer(node, QFormat(8, 3)), data)
    real = replace(
        node,
        states={k: State() for k in states},
        values={k: Param(p.real) for k, p in values.items()},
    )
    graph = layer(real, QFormat(8, 3)).map(
        lambda n: replace(n, fmt=None) if isinstance(n, Input) else n
    )
    want = interp.run(graph, data / 8)
    assert np.array_equal(got.output, want.output)
    assert got.output.any()
    for name, values_ in want.states.items():
        assert np.array_equal(got.states[name] * kinds.get(name[2:], fmt).unit, values_)


# --- a model that only this file knows ---


def diehl_cook() -> Model:
    """An adaptive threshold h and a refractory counter."""

    def body(n: Any) -> None:
        ready = ~(n.wait > 0)
        n.v = select(ready, n.beta * n.v + n.a, n.v)
        n.s = ready & (n.v > n.theta + n.h)
        n.v = select(n.s, n.v_reset, n.v)
        n.h = n.rho * n.h + select(n.s, n.step, 0)
        n.wait = select(n.s, n.hold, maximum(n.wait - 1, 0))

    return trace(
        body, name="DiehlCook", states="v h wait", params="beta theta rho step v_reset hold"
    )


def test_a_new_model_needs_no_other_line(rng: np.random.Generator) -> None:
    model = diehl_cook()
    assert model.scaled == {"v", "h", "theta", "step", "v_reset"}
    wide, small, decay = QFormat(16, 4), QFormat(4, signed=False), QFormat(8, 8, signed=False)
    theta, step = rng.integers(40, 90, SHAPE), rng.integers(5, 60, SHAPE)
    values = {
        "beta": Param(np.array(230), decay, Rounding.FLOOR),
        "rho": Param(np.array(5), QFormat(3, signed=False, leak=True), Rounding.ZERO),
        "theta": Param(theta, wide), "step": Param(step, wide),
        "v_reset": Param(np.array(-20), wide), "hold": Param(np.array(2), small),
    }  # fmt: skip
    states = {
        "v": State(Param(0, wide), wide, Rounding.FLOOR, Overflow.SATURATE),
        "h": State(Param(0, wide), wide, Rounding.FLOOR, Overflow.SATURATE),
        "wait": State(Param(0, small), small),
    }
    node = Neuron(name="n", shape=SHAPE, model=model, values=values, states=states)
    data = rng.integers(-3, 8, (2, 60, *SHAPE))
    got = interp.run(layer(node, QFormat(8)), data)

    v, h, wait = (np.zeros((2, *SHAPE), np.int64) for _ in range(3))
    for t in range(60):
        ready = wait == 0
        v = np.where(ready, (v * 230) // 256 + data[:, t] * 16, v)
        s = ready & (v > theta + h)
        v = np.where(s, -20, v)
        h = h - np.trunc(h / 32).astype(np.int64) + np.where(s, step, 0)
        wait = np.where(s, 2, np.maximum(wait - 1, 0))
        assert np.array_equal(got.output[:, t], s)
        for name, want in (("v", v), ("h", h), ("wait", wait)):
            assert np.array_equal(got.states[f"n.{name}"][:, t], want), (name, t)
    assert got.output.mean() > 0.1
    assert got.states["n.h"].max() > 60
