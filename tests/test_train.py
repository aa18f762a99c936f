"""Training under a plan: what is trained is, bit for bit, what is deployed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from graphs import lif, mlp, param
from networks import random_network
from qspinn import interp
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.choice import Choice
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, PlanError, QspinnError, ToolchainError
from qspinn.fixed import Rounding
from qspinn.ir import (
    Array,
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Neuron,
    Node,
    Output,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.passes.quantize import quantize
from qspinn.pipeline import canonical
from qspinn.plan import Plan
from qspinn.readout import predict, summarize
from qspinn.simulate import simulate
from qspinn.train.fitting import fit
from qspinn.train.recipe import Recipe

pytestmark = pytest.mark.needs("torch")

STEPS, SAMPLES = 8, 60
SHORT, RATE = Recipe(epochs=2, batch=16, rate=0.03), Encoder("rate", STEPS)


def neurons(name: str, source: str, shape: tuple[int, ...], **rule: Any) -> Neuron:
    """Spiking neurons of any rule; thresholds in reach of weights drawn around zero."""
    model = spiking(**rule)
    numbers = {"decay": 0.875, "current_decay": 0.6, "threshold": 1.0, "bias": 0.05,
               "refractory": 2.0, "v_reset": 0.0, "v_min": -3.0}  # fmt: skip
    values = {name: param(numbers[name]) for name in model.params}
    states = {name: State() for name in model.states}
    return Neuron(
        name=name, inputs=(source,), shape=shape, model=model, values=values, states=states
    )


def dense(rng: np.random.Generator, readout: str = "count", **rule: Any) -> Graph:
    nodes: list[Node] = [Input(name="x", shape=(12,))]
    source = "x"
    for i, (outs, ins) in enumerate(((10, 12), (4, 10)), 1):
        w = param(rng.normal(0.15, 0.5, (outs, ins)))
        b = param(rng.normal(0, 0.1, outs))
        nodes.append(Linear(name=f"fc{i}", inputs=(source,), weight=w, bias=b))
        source = f"lif{i}"
        nodes.append(neurons(source, f"fc{i}", (outs,), **rule))
    nodes.append(Output(name="out", inputs=(source,), readout=readout))
    return Graph("dense", tuple(nodes))


def images(rng: np.random.Generator) -> Graph:
    def w(*shape: int) -> Any:
        return param(rng.normal(0.2, 0.5, shape))

    return Graph("images", (
        Input(name="x", shape=(2, 8, 8)),
        Conv2d(name="c1", inputs=("x",), weight=w(4, 1, 3, 3), bias=w(4), padding=(1, 1), groups=2),
        neurons("lif1", "c1", (4, 8, 8)),
        SumPool2d(name="pool", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)),
        Conv2d(name="c2", inputs=("pool",), weight=w(3, 4, 2, 2), stride=(2, 1), dilation=(1, 2)),
        neurons("lif2", "c2", (3, 2, 2), reset="subtract"),
        Delay(name="late", inputs=("lif2",), shape=(3, 2, 2), steps=2),
        MaxPool2d(name="most", inputs=("late",), kernel=(2, 2), stride=(1, 1), padding=(1, 1)),
        Flatten(name="flat", inputs=("most",)),
        Linear(name="fc", inputs=("flat",), weight=w(4, 27)),
        neurons("lif3", "fc", (4,)),
        Output(name="out", inputs=("lif3",)),
    ))  # fmt: skip


def signal(rng: np.random.Generator) -> Graph:
    """A convolution in time over counts, and currents that two connections add up."""
    return Graph("signal", (
        Input(name="x", shape=(2, 9), kind="count", high=3),
        Conv1d(name="c", inputs=("x",), weight=param(rng.normal(0.1, 0.4, (3, 2, 3))), stride=2),
        neurons("lif1", "c", (3, 4), max_spikes=3, reset="subtract"),
        Flatten(name="flat", inputs=("lif1",)),
        Flatten(name="skip", inputs=("x",)),
        Linear(name="fc", inputs=("flat",), weight=param(rng.normal(0.1, 0.3, (4, 12)))),
        Linear(name="side", inputs=("skip",), weight=param(rng.normal(0, 0.1, (4, 18)))),
        replace(neurons("lif2", "fc", (4,)), inputs=("fc", "side")),
        Output(name="out", inputs=("lif2",)),
    ))  # fmt: skip


def recurrent(rng: np.random.Generator) -> Graph:
    graph = dense(rng)
    back = Delay(name="back", inputs=("lif1",), shape=(10,), steps=1)
    loop = Linear(name="rec", inputs=("back",), weight=param(rng.normal(0, 0.3, (10, 10))))
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == "lif1":
            nodes += [back, loop, replace(node, inputs=("fc1", "rec"))]
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


@dataclass(frozen=True)
class Kind:
    """A network, what is asked of its plan, and how it is trained."""

    graph: Any
    choices: Mapping[str, Choice]
    recipe: Recipe = SHORT
    encoder: Encoder = RATE


def states(**roundings: Rounding) -> dict[str, Choice]:
    return {f"{n}.v": Choice(bits=8, rounding=r) for n, r in roundings.items()}


EVERYTHING = ("weight", "bias", "threshold", "decay", "scale")
FEW = {"fc1.weight": Choice(bits=3), "fc2.weight": Choice(bits=4)}
TERNARY = {"fc1.weight": Choice(form="ternary"), "fc2.weight": Choice(bits=2)}
KINDS = {
    "lif": Kind(dense, FEW),
    "ternary": Kind(dense, TERNARY),
    "binary": Kind(dense, {"fc1.weight": Choice(form="binary"), "fc2.weight": Choice(bits=8)}),
    "subtract": Kind(lambda rng: dense(rng, reset="subtract", compare=">="), FEW),
    "late": Kind(lambda rng: dense(rng, reset="subtract", timing="next_before_decay"), FEW),
    "refractory": Kind(lambda rng: dense(rng, refractory=True, bias=True, clamp=True), FEW),
    "cuba": Kind(lambda rng: dense(rng, synapse="new"), FEW),
    "leak": Kind(
        dense,
        {**FEW, "lif1.decay": Choice(form="leak")},
        replace(SHORT, learned=EVERYTHING),
    ),
    "first_spike": Kind(lambda rng: dense(rng, "first_spike"), FEW),
    "roundings": Kind(dense, {**FEW, **states(lif1=Rounding.STOCHASTIC, lif2=Rounding.ZERO)}),
    "more roundings": Kind(
        dense, {**FEW, **states(lif1=Rounding.NEAREST_EVEN, lif2=Rounding.NEAREST_AWAY)}
    ),
    "random weights": Kind(dense, {"fc1.weight": Choice(bits=3, rounding=Rounding.STOCHASTIC)}),
    "membrane": Kind(lambda rng: mlp(1, readout="membrane_last"), FEW),
    "images": Kind(images, {"c1.weight": Choice(bits=3), "lif1.v": Choice(bits=8)}),
    "signal": Kind(signal, {"c.weight": Choice(bits=4)}, encoder=Encoder()),
    "recurrent": Kind(recurrent, {**FEW, "rec.weight": Choice(bits=3)}),
    "channels": Kind(
        dense, {**TERNARY, "lif1.scale": Choice(group="channel")},
        replace(SHORT, learned=EVERYTHING),
    ),
    "all options": Kind(
        dense, TERNARY,
        Recipe(epochs=3, batch=16, rate=0.03, learned=EVERYTHING, wider=3, distilled=0.5,
               stochastic=True),
    ),
    "values": Kind(
        lambda rng: replace(dense(rng), nodes=(Input(name="x", shape=(12,), kind="current"),
                                               *dense(rng).nodes[1:])),
        FEW, replace(SHORT, distilled=0.3), Encoder("direct", STEPS),
    ),
}  # fmt: skip


def problem(kind: Kind, target: str = "mcu") -> tuple[Graph, Plan, Dataset]:
    rng = np.random.default_rng(5)
    graph = canonical(kind.graph(rng))
    shape, encoded = graph.input.shape, kind.encoder.kind == "none"
    classes = rng.integers(0, 4, SAMPLES)
    means = rng.random((4, *shape))
    x = np.clip(means[classes] + rng.normal(0, 0.15, (SAMPLES, *shape)), 0, 1)
    if encoded:
        x = rng.binomial(graph.input.high, x[:, None], (SAMPLES, STEPS, *shape))
    data = Dataset("made", x, classes, np.zeros(SAMPLES, np.int64))
    sample = fed(graph, data, kind.encoder)[:16]
    plan = default_plan(backend(target), graph, observe(graph, sample), None, kind.choices)
    return graph, replace(plan, options={**plan.options, **kind.encoder.options()}), data


def states_of(recorded: Mapping[str, Any]) -> dict[str, Array]:
    """The states of a recorded run as a trace holds them, (samples, steps, *shape)."""
    return {
        name: values.transpose(0, 1).cpu().numpy().astype(np.int64)
        for name, values in recorded.items()
    }


def fed(graph: Graph, data: Dataset, encoder: Encoder) -> Array:
    from qspinn.evaluate import chunks

    index = np.arange(SAMPLES)
    return np.concatenate([d for d, _ in chunks(graph, data, encoder, index)])


@pytest.mark.parametrize("name", KINDS)
def test_what_is_trained_is_what_is_deployed(name: str) -> None:
    from qspinn.train.network import Network

    kind = KINDS[name]
    graph, plan, data = problem(kind)
    check = np.arange(20, SAMPLES)
    trained = fit(graph, plan, data, kind.encoder, kind.recipe, check=check)
    program = quantize(trained.graph, trained.plan)
    assert program.digest != quantize(graph, plan).digest
    inputs = fed(program, data, kind.encoder)
    summary = simulate(program, inputs[check], engine="numpy").summary
    assert summary is not None
    answers = predict(program.output, summary)
    np.testing.assert_array_equal(trained.predictions, answers)
    assert data.y is not None
    assert trained.epochs[-1].accuracy == (answers == data.y[check]).mean()

    import torch

    network = Network(program)
    source = torch.from_numpy(np.swapaxes(inputs[:5], 0, 1).copy()).float()
    with torch.no_grad():
        outcome = network.run(source, network.leaves(program), record=True)
    trace, ours = interp.run(program, inputs[:5]), states_of(outcome.states)
    assert ours.keys() == trace.states.keys()
    for path, values in trace.states.items():
        np.testing.assert_array_equal(ours[path], values, err_msg=path)
    for ending, states in ((outcome.summary(), summarize(program, trace)),):
        for field in ("counts", "first", "last", "highest"):
            np.testing.assert_array_equal(getattr(ending, field), getattr(states, field))


def test_a_network_trained_for_loihi_is_the_one_that_is_lowered() -> None:
    kind = Kind(lambda rng: dense(rng, synapse="new"), {"fc1.weight": Choice(bits=4)})
    graph, plan, data = problem(kind, "loihi")
    everyone = np.arange(SAMPLES)
    trained = fit(graph, plan, data, kind.encoder, kind.recipe, check=everyone)
    program = quantize(trained.graph, trained.plan)
    assert program.digest != quantize(graph, plan).digest
    final = backend("loihi").legalize(program, assume_activation=trained.plan.assumed)
    inputs = fed(program, data, kind.encoder)
    ours, lowered = interp.run(program, inputs), interp.run(final, inputs)
    np.testing.assert_array_equal(lowered.output, ours.output)
    for path, values in ours.states.items():
        np.testing.assert_array_equal(lowered.states[path], values, err_msg=path)
    np.testing.assert_array_equal(trained.predictions, ours.output.sum(1).argmax(1))


def test_torch_is_loaded_when_training_starts() -> None:
    code = "import sys, qspinn.train.fitting, qspinn.train.scheme; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.ZERO])
def test_training_starts_at_the_nearest_network(rounding: Rounding) -> None:
    from qspinn.train.latent import Latent

    cut = {f"fc{i}.weight": Choice(bits=2, rounding=rounding) for i in (1, 2)}
    graph, plan, _ = problem(Kind(dense, cut))
    near = {path: replace(plan[path], rounding=Rounding.NEAREST_EVEN) for path in cut}

    def weights(graph: Graph, plan: Plan) -> Array:
        integers = quantize(graph, plan)
        return np.concatenate(
            [integers[name].params()["weight"].values.ravel() for name in ("fc1", "fc2")]
        )

    nearest = weights(graph, plan.with_entries(near))
    started = weights(Latent(graph, plan, SHORT).graph, plan)
    np.testing.assert_array_equal(started, nearest)
    assert started.max() == 1, "the outermost level stays in reach"
    assert (weights(graph, plan) != nearest).any()


def test_formats_stay_and_only_what_is_learned_moves() -> None:
    kind = KINDS["ternary"]
    graph, plan, data = problem(kind)
    recipe = replace(kind.recipe, learned=("weight",))
    trained = fit(graph, plan, data, kind.encoder, recipe)
    assert trained.plan is plan
    for node in graph.nodes:
        for name, value in node.params().items():
            after = trained.graph[node.name].params()[name]
            same = np.array_equal(value.values, after.values)
            assert same == (name != "weight"), f"{node.name}.{name}"
    ones = quantize(trained.graph, plan)["fc1"].params()["weight"].values
    assert set(np.unique(ones)) == {-1, 0, 1}


def test_thresholds_that_a_layer_shares_stay_shared() -> None:
    kind = KINDS["leak"]
    graph, plan, data = problem(kind)
    full = graph.map(
        lambda n: replace(n, values={k: param(np.full(n.shape, p.values))
                                     for k, p in n.values.items()})
        if isinstance(n, Neuron) else n
    )  # fmt: skip
    trained = fit(full, plan, data, kind.encoder, replace(kind.recipe, learned=EVERYTHING[2:]))
    moved = 0
    for node in trained.graph.of_type(Neuron):
        for name in ("threshold", "decay"):
            values = node.values[name].values
            assert np.unique(values).size == 1
            moved += values.flat[0] != full[node.name].params()[name].values.flat[0]
    assert moved == 4
    assert trained.plan.scales["lif1"] != plan.scales["lif1"]


def test_a_seed_is_a_network() -> None:
    kind = KINDS["all options"]
    graph, plan, data = problem(kind)
    made = [
        quantize(t.graph, t.plan).digest
        for seed in (0, 0, 1)
        for t in [fit(graph, plan, data, kind.encoder, replace(kind.recipe, seed=seed))]
    ]
    assert made[0] == made[1] != made[2]


def test_training_helps() -> None:
    kind = KINDS["ternary"]
    graph, plan, data = problem(kind)
    everyone = np.arange(SAMPLES)
    recipe = Recipe(epochs=25, batch=16, rate=0.05, distilled=0.0)  # nobody to learn from
    trained = fit(graph, plan, data, kind.encoder, recipe, check=everyone)
    inputs = fed(graph, data, kind.encoder)
    before = simulate(quantize(graph, plan), inputs.astype(np.int64), engine="numpy").summary
    assert before is not None
    chance = (predict(graph.output, before) == data.y).mean()
    assert trained.epochs[-1].accuracy is not None
    assert trained.epochs[-1].accuracy > max(0.9, chance + 0.2)
    assert trained.epochs[-1].loss < trained.epochs[0].loss


@pytest.mark.parametrize("seed", [*range(6), 7, 10, 16, 28, 44, 326])
def test_random_networks_run_exactly(seed: int) -> None:
    import torch

    from qspinn.train.network import Network

    graph, data = random_network(seed)
    if seed == 326:
        with pytest.raises(QspinnError, match="may need 56 bits"):
            Network(graph)
        return
    network = Network(graph)
    with torch.no_grad():
        source = torch.from_numpy(np.swapaxes(data, 0, 1).copy()).double()
        outcome = network.run(source, network.leaves(graph), record=True)
    trace, ours = interp.run(graph, data), states_of(outcome.states)
    assert ours.keys() == trace.states.keys()
    for path, values in trace.states.items():
        np.testing.assert_array_equal(ours[path], values, err_msg=path)
    for field in ("counts", "first", "last", "highest"):
        theirs = getattr(summarize(graph, trace), field)
        np.testing.assert_array_equal(getattr(outcome.summary(), field), theirs)


def test_products_that_may_lose_bits_are_not_used() -> None:
    import torch

    from qspinn.train.network import Network

    graph, plan, _ = problem(KINDS["ternary"])
    program = quantize(graph, plan)
    assert Network(program).kinds["fc1"] is torch.float32
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert Network(program).kinds["fc1"] is torch.float64
    finally:
        torch.set_float32_matmul_precision(before)


def test_adam_finds_the_bottom_of_a_bowl() -> None:
    from qspinn.train.adam import Adam

    place, adam = np.array([3.0, -2.0]), Adam({"x": 0.1})
    first = adam.step({"x": 2 * place}, 0.5)["x"]
    np.testing.assert_allclose(first, [-0.05, 0.05], rtol=1e-9)
    for count in range(400):
        place = place + adam.step({"x": 2 * place}, 1 - count / 400)["x"]
    assert np.abs(place).max() < 1e-3


def test_gradients_are_those_of_the_surrogate() -> None:
    """A leaky layer by the list, and written out for torch's own differentiation."""
    import torch

    from qspinn.train.lists import SLOPE
    from qspinn.train.network import Network

    graph = Graph("one", (
        Input(name="x", shape=(6,)),
        Linear(name="fc", inputs=("x",), weight=param(np.linspace(-0.3, 0.9, 30).reshape(5, 6))),
        lif("lif", "fc", 5),
        Output(name="out", inputs=("lif",)),
    ))  # fmt: skip
    torch.manual_seed(3)
    source = (torch.rand(7, 4, 6) < 0.5).float()
    asked = torch.rand(7, 4, 5)
    network = Network(graph)
    ours = {key: leaf.requires_grad_() for key, leaf in network.leaves(graph).items()}
    (network.run(source, ours).sent * asked).sum().backward()

    theirs = {key: leaf.detach().clone().requires_grad_() for key, leaf in ours.items()}
    v, total = torch.zeros(4, 5), torch.zeros(())
    for x, weight in zip(source, asked, strict=True):
        v = theirs["lif.decay"] * v + x @ theirs["fc.weight"].T
        width = theirs["lif.threshold"].detach()
        far = v - theirs["lif.threshold"]
        slope = (1 / (width * (1 + SLOPE * far.abs() / width) ** 2)).detach()
        spike = (far > 0).float() + slope * (far - far.detach())
        v = v * (1 - spike.detach())
        total = total + (spike * weight).sum()
    total.backward()
    for key, leaf in theirs.items():
        assert leaf.grad.abs().max() > 0.01
        torch.testing.assert_close(ours[key].grad, leaf.grad, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_network_without_spikes_are_exact() -> None:
    """An integrator's potential is linear in the weights: differences give the slope."""
    import torch

    from qspinn.train.network import Network

    neuron = Neuron(name="li", inputs=("fc",), shape=(3,), model=integrator(synapse="old"),
                    values={"decay": param(0.75), "current_decay": param(0.5)},
                    states={"v": State(), "u": State()})  # fmt: skip
    graph = Graph("li", (
        Input(name="x", shape=(4,)),
        Linear(name="fc", inputs=("x",), weight=param(np.zeros((3, 4)))),
        neuron, Output(name="out", inputs=("li",), readout="membrane_last"),
    ))  # fmt: skip
    source = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (6, 2, 4))).float()
    network = Network(graph)
    leaves = {key: leaf.requires_grad_() for key, leaf in network.leaves(graph).items()}
    network.run(source, leaves).potential[-1].sum().backward()
    slope = leaves["fc.weight"].grad
    for i in range(3):
        for j in range(4):
            with torch.no_grad():
                bumped = {key: leaf.detach().clone() for key, leaf in leaves.items()}
                bumped["fc.weight"][i, j] += 1.0
                found = network.run(source, bumped).potential[-1].sum()
            torch.testing.assert_close(found, slope[i, j])


def test_what_cannot_be_trained_is_refused_by_name() -> None:
    kind = KINDS["lif"]
    graph, plan, data = problem(kind)
    with pytest.raises(FrontendError, match="no labels"):
        fit(graph, plan, replace(data, y=None), kind.encoder)
    with pytest.raises(FrontendError, match="labels from 0 to 4, the network 4 classes"):
        fit(graph, plan, replace(data, y=np.arange(SAMPLES) % 5), kind.encoder)
    with pytest.raises(FrontendError, match="no sample"):
        fit(graph, plan, data, kind.encoder, index=np.zeros(0, np.int64))
    with pytest.raises(PlanError, match="no format"):
        fit(graph, Plan({}), data, kind.encoder)
    with pytest.raises(PlanError, match="'delay' cannot be learned"):
        Recipe(learned=("delay",))
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ToolchainError, match="no cuda device"):
            fit(graph, plan, data, kind.encoder, Recipe(device="cuda"))
