"""Plans follow what is chosen for a path, and keep the target's defaults for the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import mlp, param, spikes
from qspinn.backend import backend, default_plan
from qspinn.calibrate import Calibration, observe
from qspinn.choice import Choice, Choices
from qspinn.errors import PlanError
from qspinn.fixed import QFormat, Rounding
from qspinn.interp import run
from qspinn.ir import Array, Graph, Neuron
from qspinn.neurons import spiking
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize
from qspinn.pipeline import lower
from qspinn.plan import Plan, parse
from qspinn.readout import predict, summarize

TARGETS = ("mcu", "loihi")


@pytest.fixture
def data(rng: np.random.Generator) -> Array:
    return spikes(rng, (60, 25, 12))


def canonical(seed: int = 4) -> Graph:
    return canonicalize(mlp(seed))


def seen(graph: Graph, data: Array) -> Calibration:
    return observe(graph, data.astype(float))


def plan(graph: Graph, data: Array, choices: Choices, target: str = "mcu") -> Plan:
    return default_plan(backend(target), graph, seen(graph, data), None, choices)


def agreement(graph: Graph, made: Plan, data: Array) -> float:
    real, ours = (
        predict(g.output, summarize(g, run(g, data))) for g in (graph, quantize(graph, made))
    )
    return float((real == ours).mean())


@pytest.mark.parametrize(
    ("target", "path", "choice", "fmt"),
    [
        ("mcu", "fc1.weight", Choice(bits=3), "s3"),
        ("mcu", "fc1.weight", Choice(bits=1), "b1"),
        ("mcu", "fc1.weight", Choice(form="binary"), "b1"),
        ("mcu", "fc1.weight", Choice(form="ternary"), "s2"),
        ("mcu", "fc1.weight", Choice(bits=16), "s16"),
        ("mcu", "fc1.bias", Choice(bits=5), "s5"),
        ("mcu", "lif1.v", Choice(bits=6), "s6"),
        ("mcu", "lif1.v", Choice(bits=32), "s32"),
        ("mcu", "lif1.decay", Choice(bits=5), "u6f5"),
        ("mcu", "lif1.decay", Choice(form="leak"), "leak4"),
        ("mcu", "lif1.decay", Choice(form="leak", bits=3), "leak3"),
        ("loihi", "fc1.weight", Choice(bits=4), "s4"),
        ("loihi", "fc1.weight", Choice(form="binary"), "b1"),
        ("loihi", "fc1.weight", Choice(form="ternary"), "s2"),
        ("loihi", "lif1.decay", Choice(bits=12), "u13f12"),
    ],
)
def test_formats(target: str, path: str, choice: Choice, fmt: str, data: Array) -> None:
    graph = canonical()
    made, usual = plan(graph, data, {path: choice}, target), plan(graph, data, {}, target)
    assert str(made[path].fmt).startswith(fmt)
    assert ("[-1,1]" in str(made[path].fmt)) == (choice.form == "ternary")
    other = [p for p in usual.entries if "2" in p]
    assert other
    assert all(made[p] == usual[p] for p in other), "the other layer's plan stays"
    assert parse(made.text()).text() == made.text()
    lower(graph, made, backend(target))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("path", ["fc1.weight", "fc1.bias", "lif1.v", "lif1.decay"])
def test_roundings(path: str, rounding: Rounding, data: Array) -> None:
    graph = canonical()
    made = plan(graph, data, {path: Choice(rounding=rounding)})
    assert made[path].rounding is rounding
    assert agreement(graph, made, data) >= 0.9


def test_loihi_rounds_constants_only(data: Array) -> None:
    graph = canonical()
    made = plan(graph, data, {"fc1.weight": Choice(rounding=Rounding.STOCHASTIC)}, "loihi")
    assert made["fc1.weight"].rounding is Rounding.STOCHASTIC
    with pytest.raises(PlanError, match=r"lif1\.v: the rounding stochastic of a state is not off"):
        plan(graph, data, {"lif1.v": Choice(rounding=Rounding.STOCHASTIC)}, "loihi")


def test_scales_follow_their_method_and_group(data: Array) -> None:
    graph = canonical()
    largest = plan(graph, data, {"lif1.scale": Choice(form="max")}).scales["lif1"]
    weight = np.abs(graph["fc1"].params()["weight"].values)
    assert largest == 127 / weight.max()
    each = plan(graph, data, {"lif1.scale": Choice(form="max", group="channel")})
    assert each.scales["lif1"].shape == (9,)
    assert each.scales["lif2"].shape == ()


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_narrow_membranes_keep_steps_below_the_threshold(bits: int, data: Array) -> None:
    graph = canonical()
    made = plan(graph, data, {f"lif{i}.v": Choice(bits=bits) for i in (1, 2)})
    done = quantize(graph, made)
    assert int(done["lif1"].params()["threshold"].values) >= 3
    assert made["lif1.v"].fmt.bits == bits
    assert made["fc1.weight"].fmt.frac >= made["lif1.v"].fmt.frac
    top = np.abs(done["fc1"].params()["weight"].values).max()
    assert 64 <= top <= 128, "the weights use their 8 bits"
    assert agreement(graph, made, data) >= {4: 0.8, 5: 0.85}.get(bits, 0.9)


def test_few_bits_clip_the_largest_weights(data: Array) -> None:
    graph = canonical()
    error = []
    for form in ("max", "error"):
        choices = {"fc1.weight": Choice(form="ternary"), "lif1.scale": Choice(form=form)}
        made = plan(graph, data, choices)
        real = quantize(graph, made)["fc1"].params()["weight"].real / made.scales["lif1"]
        wrong = real - graph["fc1"].params()["weight"].values
        error.append(float(((data.reshape(-1, 12) @ wrong.T) ** 2).mean()))
    assert error[1] < 0.9 * error[0]


def test_binary_weights_are_never_zero(data: Array) -> None:
    graph = canonical()
    made = plan(graph, data, {"fc1.weight": Choice(form="binary")})
    values = quantize(graph, made)["fc1"].params()["weight"].values
    assert np.array_equal(values, np.where(graph["fc1"].params()["weight"].values >= 0, 1, -1))
    unit = made["fc1.weight"].fmt.unit / made.scales["lif1"]
    mean = np.abs(graph["fc1"].params()["weight"].values).mean()
    assert 0.5 * mean < unit < 2 * mean, "the two values lie near the weights' mean magnitude"


@pytest.mark.parametrize("bits", [3, 6, 12, 20])
def test_thresholds_of_a_width_of_their_own(bits: int, data: Array) -> None:
    graph = canonical()
    made = plan(graph, data, {"lif1.threshold": Choice(bits=bits)})
    fmt, v = made["lif1.threshold"].fmt, made["lif1.v"].fmt
    assert fmt.bits == bits
    assert fmt.frac <= v.frac, "comparing it shifts no state"
    held = int(quantize(graph, made)["lif1"].params()["threshold"].values)
    assert held == np.rint(float(made.scales["lif1"]) / fmt.unit)  # the threshold is 1
    assert fmt.frac == v.frac or held.bit_length() == bits - 1, "no bit of the width is idle"


def with_constants(graph: Graph) -> Graph:
    model = spiking(synapse="new", bias=True, reset="value", refractory=True, clamp=True)
    values = {"decay": 0.9, "current_decay": 0.8, "threshold": 1.0, "bias": 0.05, "v_reset": -0.2,
              "refractory": 2, "v_min": -0.7}  # fmt: skip

    def change(node: object) -> object:
        if not isinstance(node, Neuron) or node.name != "lif1":
            return node
        state = node.states["v"]
        held = {name: param(values[name]) for name in model.params}
        return replace(node, model=model, values=held, states=dict.fromkeys(model.states, state))

    return graph.map(change)  # type: ignore[arg-type]


def test_every_constant_and_state_of_a_neuron(data: Array) -> None:
    graph = with_constants(mlp(4))
    choices = {
        "lif1.u": Choice(bits=10, rounding=Rounding.ZERO),
        "lif1.bias": Choice(bits=6, rounding=Rounding.FLOOR),
        "lif1.v_reset": Choice(bits=5),
        "lif1.v_min": Choice(bits=7),
        "lif1.current_decay": Choice(form="leak"),
    }
    made = plan(graph, data, choices)
    for path, choice in choices.items():
        assert made[path].fmt.bits == (choice.bits or 4), path
        assert made[path].rounding is (choice.rounding or made[path].rounding)
    lower(graph, made, backend("mcu"))
    with pytest.raises(PlanError, match=r"lif1\.wait: the bits of a counter cannot be chosen"):
        plan(graph, data, {"lif1.wait": Choice(bits=4)})


def test_a_layers_plan_depends_on_no_other_layer(data: Array) -> None:
    graph, found = canonical(), backend("mcu")
    calibration = seen(graph, data)
    choices = {"fc1.weight": Choice(bits=2), "lif1.v": Choice(bits=5)}
    alone = found.plan(graph, graph["lif2"], calibration, Plan({}), {})
    beside = found.plan(graph, graph["lif2"], calibration, Plan({}), choices)
    assert alone.text() == beside.text()
    assert found.plan(graph, graph["fc1"], calibration, Plan({}), choices).text() == Plan({}).text()


def test_given_lines_come_before_choices(data: Array) -> None:
    graph = canonical()
    given = parse("lif1.v s8f1 floor saturate\nlif1.scale 20")
    made = default_plan(
        backend("mcu"), graph, seen(graph, data), given, {"lif1.v": Choice(bits=20)}
    )
    assert made.scales["lif1"] == 20
    assert made["lif1.v"].fmt == QFormat(8, 1)


@pytest.mark.parametrize(
    ("target", "path", "choice", "what"),
    [
        ("mcu", "fc9.weight", Choice(bits=4), "fc9.weight: mlp has no such path"),
        ("mcu", "fc1.weight", Choice(bits=9), "the bits 9 of a weight is not offered"),
        ("mcu", "fc1.weight", Choice(bits=3, form="ternary"), "the bits 3 of a weight"),
        ("mcu", "fc1.weight", Choice(share=0.5), "the share of a weight cannot be chosen"),
        ("mcu", "lif1.v", Choice(bits=3), "the bits 3 of a state"),
        ("mcu", "lif1.decay", Choice(form="leak", bits=6), "the bits 6 of a coefficient"),
        ("mcu", "lif1.scale", Choice(form="best"), "the form best of a scale"),
        ("mcu", "lif1.scale", Choice(group="neuron"), "the group neuron of a scale"),
        ("mcu", "x.active", Choice(share=0.0), "the share 0.0 of an input list"),
        ("loihi", "fc1.weight", Choice(bits=7), "the bits 7 of a weight"),
        ("loihi", "lif1.v", Choice(bits=16), "the bits 16 of a state"),
        ("loihi", "lif1.threshold", Choice(bits=8), "the bits of a threshold cannot be chosen"),
        ("loihi", "lif1.decay", Choice(form="leak"), "the form leak of a coefficient"),
    ],
)
def test_refused(target: str, path: str, choice: Choice, what: str, data: Array) -> None:
    with pytest.raises(PlanError, match=what):
        plan(canonical(), data, {path: choice}, target)
