"""Import of NIR files: what the graph computes, and what is said about it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nirfiles as nf
from qspinn import interp, storage
from qspinn.errors import FrontendError
from qspinn.frontends import load_model, nir_file
from qspinn.frontends.nir import load
from qspinn.frontends.report import Imported
from qspinn.ir import Conv1d, Conv2d, Delay, Flatten, Input, Linear, Neuron, Node, Output, Scale


def noted(model: Imported, subject: str) -> str:
    """The value and source of the only assumption on a subject."""
    (found,) = (a for a in model.assumptions if a.subject == subject)
    return f"{found.value} ({found.source})"


def kinds(model: Imported) -> list[str]:
    return [type(node).__name__ for node in model.graph.nodes]


def spikes(rng: np.random.Generator, *shape: int, rate: float = 0.5) -> Any:
    return (rng.random(shape) < rate).astype(float)


# --- one neuron, recorded on other platforms from lif_norse.nir ---


def run_trace(models: Path, recording: str, file: str = "lif_norse", **options: Any) -> Any:
    """Recorded (input, voltage, spikes), our voltages and spikes."""
    x, v, s = np.loadtxt(models / "traces" / f"lif_{recording}.csv", delimiter=",").T
    graph = load(models / "nir" / f"{file}.nir", **options).graph
    (neuron,) = graph.of_type(Neuron)
    trace = interp.run(graph, (x > 0).astype(float).reshape(1, -1, 1))
    return v, s, trace.states[f"{neuron.name}.v"].ravel(), trace.output.ravel()


def test_norse_is_euler(models: Path) -> None:
    v, s, ours, fired = run_trace(models, "norse", dt=1e-4)
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_allclose(ours, v, atol=2e-7)


@pytest.mark.parametrize("recording", ["snntorch", "spinnaker2"])
def test_other_euler_platforms_in_units_of_the_input(recording: str, models: Path) -> None:
    v, s, ours, fired = run_trace(models, recording, dt=1e-4, integrator="euler")
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_allclose(ours, v * 0.04, atol=2e-5)


def test_nengo_is_exact_in_units_of_the_threshold(models: Path) -> None:
    v, s, ours, fired = run_trace(models, "nengo", dt=1e-4, integrator="exact")
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_allclose(ours, v * 0.1, atol=1e-8)


def test_the_exact_solution_up_to_its_first_spike(models: Path) -> None:
    """Behind a spike it resets within the step, which no fixed step can follow."""
    v, s, ours, fired = run_trace(models, "exact", dt=1e-4, integrator="exact")
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_allclose(ours[:460], v[:460], atol=1e-8)


@pytest.mark.parametrize("recording", ["rockpool", "sinabs"])
def test_rockpool_file(recording: str, models: Path) -> None:
    v, s, ours, fired = run_trace(models, recording, "lif_rockpool")
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_allclose(ours, v, atol=2e-7)


def test_spyx_resets_in_the_next_step(models: Path) -> None:
    """Its voltages are before the reset and its spikes a step late, as Lava's are."""
    late = {"reset": "subtract", "reset_timing": "next_after_decay"}
    v, s, ours, fired = run_trace(models, "spyx", dt=1e-4, **late)
    np.testing.assert_array_equal(fired[:-1], s[1:])
    np.testing.assert_allclose(ours, v, atol=2e-7)


# --- whole real files ---


def test_braille(models: Path) -> None:
    model = load_model(models / "nir" / "braille_noDelay_bias_zero.nir", reset="zero")
    assert kinds(model) == [
        "Input",
        "Linear",
        "Delay",
        "Linear",
        "Neuron",
        "Linear",
        "Neuron",
        "Output",
    ]
    hidden, last = model.graph.of_type(Neuron)
    assert (hidden.shape, last.shape) == ((38,), (7,))
    for node, alpha, beta in ((hidden, 0.55, 0.9), (last, 0.5, 0.55)):
        np.testing.assert_allclose(node.values["current_decay"].values, alpha, rtol=1e-6)
        np.testing.assert_allclose(node.values["decay"].values, beta, rtol=1e-6)
    assert noted(model, "reset timing").startswith("next_discard (inferred: ")
    assert model.meta["names"] == {"lif1_lif": "lif1.lif", "lif1_w_rec": "lif1.w_rec"}


def test_what_is_said_of_braille(models: Path, golden: str) -> None:
    model = load_model(models / "nir" / "braille_noDelay_noBias_subtract.nir", reset="subtract")
    assert "".join(f"{a}\n" for a in model.assumptions) == golden


@pytest.mark.parametrize("name", ["braille_noDelay_bias_zero", "braille_noDelay_noBias_subtract"])
def test_the_nested_file_with_a_dangling_edge_is_the_same_network(name: str, models: Path) -> None:
    flat = load(models / "nir" / f"{name}.nir", reset="zero")
    nested = load(models / "nir" / f"{name}_subgraph.nir", reset="zero")
    x = spikes(np.random.default_rng(1), 2, 40, 12)
    np.testing.assert_array_equal(
        interp.run(nested.graph, x).output, interp.run(flat.graph, x).output
    )
    assert "is not there; read as lif1" in noted(nested, "lif1")


def test_old_files(models: Path) -> None:
    old = load(models / "nir" / "nir-hist__braille_subtract.nir", reset="subtract")
    assert old.meta["dialect"] == "snntorch"
    wrong = load(models / "nir" / "nir-hist__braille_subgraph.nir", dt=1, dialect="nir")
    assert noted(wrong, "hidden.input").startswith("declares 12 elements; read as the (38,) that")
    with pytest.raises(FrontendError, match=r"0: a Conv2d needs 3 dimensions") as error:
        load(models / "nir" / "nir-hist__scnn_mnist_first.nir")
    assert "batch" in error.value.hint


def correlate(x: Any, node: Conv2d) -> Any:
    """Convolution tap by tap."""
    w, (sy, sx), (py, px) = node.weight.values, node.stride, node.padding
    x = np.pad(x, ((0, 0), (py, py), (px, px)))
    high = (x.shape[1] - w.shape[2]) // sy + 1
    wide = (x.shape[2] - w.shape[3]) // sx + 1
    y = np.zeros((len(w), high, wide))
    for i in range(w.shape[2]):
        for j in range(w.shape[3]):
            patch = x[:, i : i + sy * high : sy, j : j + sx * wide : sx]
            y += np.tensordot(w[:, :, i, j], patch, 1)
    return y


def sinabs_step(v: Any, current: Any) -> tuple[Any, Any]:
    """IAF with threshold 1: n = trunc(v), subtract, floor at -1."""
    v = v + current
    n = np.maximum(np.trunc(v), 0)
    return np.maximum(v - n, -1), n


def test_sinabs_network(models: Path) -> None:
    model = load_model(models / "nir" / "cnn_sinabs.nir")
    graph = model.graph
    body = "Conv2d Neuron Conv2d Neuron SumPool2d Conv2d Neuron SumPool2d Flatten"
    assert " ".join(kinds(model)) == f"Input {body} Linear Neuron Linear Neuron Output"
    assert [n.shape for n in graph.of_type(Neuron)] == [
        (16, 16, 16), (16, 16, 16), (8, 8, 8), (256,), (10,)
    ]  # fmt: skip
    assert [n.model.max_out for n in graph.of_type(Neuron)] == [7, 63, 255, 255, 255]
    assert noted(model, "dialect").startswith("sinabs (inferred: ")
    assert any("waits in the membrane" in a.value for a in model.assumptions)

    x = spikes(np.random.default_rng(2), 1, 3, 2, 34, 34, rate=0.3)
    trace = interp.run(graph, x)
    v: dict[str, Any] = {n.name: np.zeros(n.shape) for n in graph.of_type(Neuron)}
    most = 0
    for t in range(3):
        y: Any = x[0, t]
        for node in graph.nodes:
            if isinstance(node, Conv2d):
                y = correlate(y, node)
            elif isinstance(node, Linear):
                y = node.weight.values @ y.ravel()
            elif node.name in ("n4", "n7"):
                y = y.reshape(len(y), y.shape[1] // 2, 2, y.shape[2] // 2, 2).sum((2, 4))
            elif isinstance(node, Neuron):
                v[node.name], y = sinabs_step(v[node.name], y)
                most = max(most, y.max())
                np.testing.assert_allclose(
                    trace.states[f"{node.name}.v"][0, t], v[node.name], atol=1e-9
                )
        np.testing.assert_array_equal(trace.output[0, t], y)
    assert most > 1
    assert trace.output.sum() > 0


# --- the equations, stepped literally ---


def literally(cell: dict[str, Any], currents: Any, dt: float, *, exact: bool) -> Any:
    """NIR's equations for a CubaLIF, one step after the other, inputs held over the step."""
    i = v = np.zeros(currents.shape[1])
    out = []

    def approach(x: Any, goal: Any, tau: Any) -> Any:
        return goal + (x - goal) * np.exp(-dt / tau) if exact else x + dt / tau * (goal - x)

    for s in currents:
        i = approach(i, cell["w_in"] * s, cell["tau_syn"])
        v = approach(v, cell["v_leak"] + cell["r"] * i, cell["tau_mem"])
        z = v > cell["v_threshold"]
        v = np.where(z, cell["v_reset"], v)
        out.append(z.astype(float))
    return np.array(out)


@pytest.mark.parametrize("integrator", ["euler", "exact"])
def test_equations(integrator: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n, dt = 12, 1e-3
    w, b = rng.normal(1, 4, (n, 6)), rng.normal(-1, 1, n)
    cell = nf.cuba(
        n, syn=rng.uniform(2e-3, 2e-2, n), mem=rng.uniform(2e-3, 2e-2, n), r=rng.uniform(1, 3, n),
        w_in=rng.uniform(1, 3, n), v_leak=rng.normal(0, 0.2, n), v_reset=rng.normal(-0.2, 0.1, n),
        v_threshold=rng.uniform(0.5, 1.5, n),
    )  # fmt: skip
    nodes = {"input": nf.inlet(6), "fc": nf.affine(w, b), "lif": cell, "output": nf.outlet(n)}
    model = load(nf.write(tmp_path / "net.nir", nodes), dt=dt, integrator=integrator)
    assert noted(model, "dialect").startswith("nir ")
    assert noted(model, "reset") == "value (default)"

    x = spikes(rng, 80, 6)
    ours = interp.run(model.graph, x[None]).output[0]
    theirs = literally(cell, x @ w.T + b, dt, exact=integrator == "exact")
    assert 0.05 < theirs.mean() < 0.6
    np.testing.assert_array_equal(ours, theirs)


def image_net(r: Any, *between: tuple[str, dict[str, Any]], shape: Any) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    conv = nf.node(
        "Conv2d", weight=rng.normal(0, 1, (3, 2, 3, 3)), bias=rng.normal(0, 1, 3), stride=1,
        padding="same", dilation=1, groups=1,
    )  # fmt: skip
    cell = nf.lif(shape, tau=0.01, r=r)
    return {
        "input": nf.inlet(2, 6, 6), "conv": conv, **dict(between), "lif": cell,
        "output": nf.outlet(*shape),
    }  # fmt: skip


POOL = ("pool", nf.node("AvgPool2d", kernel_size=[2, 2], stride=[2, 2], padding=[0, 0]))
SPATIAL = np.random.default_rng(5).uniform(1, 30, (3, 6, 6))


@pytest.mark.parametrize(
    ("r", "between", "shape", "links"),
    [
        (20.0, (), (3, 6, 6), 0),
        (np.array([10.0, 20.0, 30.0]).reshape(3, 1, 1), (), (3, 6, 6), 0),
        (20.0, (POOL,), (3, 3, 3), 0),
        (SPATIAL, (), (3, 6, 6), 1),
    ],
    ids=["common", "by channel", "through a pool", "by neuron"],
)
def test_gains_go_into_the_weights(
    r: Any, between: Any, shape: Any, links: int, tmp_path: Path
) -> None:
    model = load(nf.write(tmp_path / "a.nir", image_net(r, *between, shape=shape)), dt=1e-3)
    assert len(model.graph.of_type(Scale)) == links
    x = spikes(np.random.default_rng(6), 1, 1, 2, 6, 6)
    plain = nf.write(tmp_path / "b.nir", image_net(10.0, *between, shape=shape))
    unit = interp.run(load(plain, dt=1e-3, reset="subtract").graph, x)
    ours = interp.run(load(tmp_path / "a.nir", dt=1e-3, reset="subtract").graph, x)
    before = (s.states["lif.v"] + s.output for s in (ours, unit))  # undo the reset
    scaled, one = before
    np.testing.assert_allclose(scaled[0, 0], one[0, 0] * r / 10, atol=1e-9)


def test_a_neuron_without_connection_gets_one(tmp_path: Path) -> None:
    nodes = {"input": nf.inlet(3), "lif": nf.lif(3, tau=0.01, r=2.0), "output": nf.outlet(3)}
    model = load(nf.write(tmp_path / "net.nir", nodes), dt=1e-3)
    (link,) = model.graph.of_type(Scale)
    np.testing.assert_allclose(link.scale.values, 0.2)


def test_several_edges_into_a_neuron_are_a_sum(tmp_path: Path) -> None:
    one = nf.linear(np.eye(2))
    nodes = {
        "input": nf.inlet(2), "a": one, "b": one, "if": nf.counter(2, theta=1.5),
        "output": nf.outlet(2),
    }  # fmt: skip
    edges = [("input", "a"), ("input", "b"), ("a", "if"), ("b", "if"), ("if", "output")]
    graph = load(nf.write(tmp_path / "net.nir", nodes, edges), dialect="sinabs").graph
    out = interp.run(graph, np.ones((1, 1, 2))).output
    np.testing.assert_array_equal(out, np.ones((1, 1, 2)))


# --- cycles and delays ---


def test_a_cycle_across_layers_is_delayed_behind_its_last_neuron(tmp_path: Path) -> None:
    nodes = {
        "input": nf.inlet(2), "fc": nf.linear(np.eye(2)), "a": nf.counter(2),
        "mid": nf.linear(np.eye(2)), "b": nf.counter(2),
        "back": nf.affine(-np.eye(2), [0.5, 0.5]), "output": nf.outlet(2),
    }  # fmt: skip
    edges = [*pairwise(["input", "fc", "a", "mid", "b", "output"]), ("b", "back"), ("back", "a")]
    model = load(nf.write(tmp_path / "net.nir", nodes, edges), dialect="sinabs")
    (delay,) = model.graph.of_type(Delay)
    assert (delay.inputs, delay.steps) == (("b",), 1)
    assert noted(model, delay.name).startswith("1 step between b and back (inferred: ")
    assert model.graph["back"].inputs == (delay.name,)


def test_feedback_that_also_feeds_forward_is_refused(tmp_path: Path) -> None:
    one = nf.linear(np.eye(2))
    nodes = {
        "input": nf.inlet(2), "fc": one, "a": nf.counter(2), "w": one, "b": nf.counter(2),
        "output": nf.outlet(2),
    }  # fmt: skip
    edges = [*pairwise(["input", "fc", "a", "w", "b", "output"]), ("w", "a")]
    with pytest.raises(FrontendError, match="w: feeds the cycle through a and b") as error:
        load(nf.write(tmp_path / "net.nir", nodes, edges), dialect="sinabs")
    assert "connection of its own" in error.value.hint


def test_delays_are_counted_in_steps_and_wait_in_front_of_the_weights(tmp_path: Path) -> None:
    lag = nf.node("Delay", delay=np.full(3, 0.0031))
    nodes = {
        "input": nf.inlet(2), "fc": nf.linear(np.ones((3, 2))), "lag": lag,
        "lif": nf.lif(3, r=20.0), "output": nf.outlet(3),
    }  # fmt: skip
    model = load(nf.write(tmp_path / "net.nir", nodes), dt=1e-3)
    assert kinds(model) == ["Input", "Delay", "Linear", "Neuron", "Output"]
    assert noted(model, "lag") == "delays by 3 steps (inferred: dt is 0.001)"
    x = np.zeros((1, 6, 2))
    x[0, 1] = 1
    assert np.flatnonzero(interp.run(model.graph, x).output[0, :, 0]).tolist() == [4]
    assert "Delay" not in kinds(load(tmp_path / "net.nir", dt=0.01))


def test_a_delay_in_a_cycle_is_its_delay(tmp_path: Path) -> None:
    nodes = {
        "input": nf.inlet(2), "fc": nf.linear(np.eye(2)), "a": nf.counter(2),
        "back": nf.linear(-np.eye(2)), "lag": nf.node("Delay", delay=np.array(0.002)),
        "output": nf.outlet(2),
    }  # fmt: skip
    edges = [*pairwise(["input", "fc", "a", "output"]), *pairwise(["a", "back", "lag", "a"])]
    model = load(nf.write(tmp_path / "net.nir", nodes, edges), dialect="sinabs", dt=1e-3)
    (delay,) = model.graph.of_type(Delay)
    assert (delay.steps, delay.inputs, delay.kind, delay.high) == (2, ("a",), "count", 255)


# --- layers ---


def test_conv1d_and_flatten(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    conv = nf.node(
        "Conv1d", input_shape=9, weight=rng.normal(size=(4, 1, 3)), bias=np.zeros(4), stride=2,
        padding="valid", dilation=1, groups=2,
    )  # fmt: skip
    nodes = {
        "input": nf.inlet(2, 9), "conv": conv, "if": nf.counter((4, 4)),
        "flat": nf.node("Flatten", start_dim=1, end_dim=-1, input_type=np.zeros(3, int)),
        "fc": nf.linear(rng.normal(size=(2, 16))), "last": nf.counter(2), "output": nf.outlet(2),
    }  # fmt: skip
    graph = load(nf.write(tmp_path / "net.nir", nodes), dialect="sinabs").graph
    (found,) = graph.of_type(Conv1d)
    assert (found.stride, found.padding, found.groups, found.bias) == (2, 0, 2, None)
    (flat,) = graph.of_type(Flatten)
    assert (flat.start, flat.end) == (0, -1)


@pytest.mark.parametrize(
    ("declared", "start", "flattened"),
    [
        ([2, 3, 4], 1, (2, 12)),
        ([1, 2, 3, 4], 1, (24,)),
        ([0, 0, 0, 0], 2, (2, 12)),
        (None, 0, (24,)),
    ],
)
def test_flatten_counts_with_or_without_a_batch(
    declared: Any, start: int, flattened: Any, tmp_path: Path
) -> None:
    flat = nf.node("Flatten", start_dim=start, end_dim=-1)
    flat |= {} if declared is None else {"input_type": np.array(declared)}
    nodes = {"input": nf.inlet(2, 3, 4), "flat": flat, "if": nf.counter(1), "output": nf.outlet(24)}
    path = nf.write(tmp_path / "net.nir", nodes)
    (neuron,) = load(path, dialect="sinabs").graph.of_type(Neuron)
    assert neuron.shape == flattened


@pytest.mark.parametrize(
    ("cell", "name", "readout"),
    [
        (nf.node("LI", tau=0.01, r=2.0, v_leak=0.1), "LI", "membrane_last"),
        (nf.node("I", r=2.0), "I", "membrane_last"),
        (
            nf.node("CubaLI", tau_syn=0.02, tau_mem=0.01, r=2.0, v_leak=0.0),
            "CubaLI",
            "membrane_last",
        ),
        (nf.node("Threshold", threshold=0.5), "LIF", "count"),
    ],
)
def test_other_neurons(cell: Any, name: str, readout: str, tmp_path: Path) -> None:
    model = load(nf.write(tmp_path / "net.nir", nf.tiny(lif=cell)), dt=1e-3)
    (neuron,) = model.graph.of_type(Neuron)
    (output,) = model.graph.of_type(Output)
    assert (neuron.model.name, output.readout) == (name, readout)
    x = np.array([[[1.0, 0.0], [0.0, 0.0]]])
    out = interp.run(model.graph, x).output[0, :, 0]
    expected = {
        "LI": [0.01 + 0.2, 0.21 * 0.9 + 0.01], "I": [2e-3, 2e-3],
        "CubaLI": [0.05 * 0.2, 0.05 * 0.2 * (0.95 + 0.9)], "LIF": [1, 0],
    }  # fmt: skip
    np.testing.assert_allclose(out, expected[name], atol=1e-12)


# --- who wrote it, and who decides ---


def detected(tmp_path: Path, cell: Any, **options: Any) -> str:
    model = load(nf.write(tmp_path / "net.nir", nf.tiny(lif=cell)), **options)
    return f"{model.meta['dialect']} {model.meta.get('dt')}"


def test_dialects(tmp_path: Path) -> None:
    x = 0.04
    cells = {
        "snntorch 0.0001": nf.lif(3, tau=5e-4, r=5.0),
        "rockpool 0.0001": nf.lif(3, tau=2.5e-3, r=np.exp(-x) / x),
        "nir 0.001": nf.lif(3, tau=np.array([5e-3, 4e-3, 3e-3]), r=[5.0, 4.0, 3.0]),
        "spikingjelly 0.0001": nf.counter(3, r=1e4),
    }
    for expected, cell in cells.items():
        options = {"reset": "subtract"} if expected.startswith("snntorch") else {}
        assert detected(tmp_path, cell, **options) == expected
    assert detected(tmp_path, nf.lif(3, tau=0.01, r=1.0), dt=1e-3) == "norse 0.001"
    assert detected(tmp_path, nf.lif(3, tau=0.01, r=[1.0, 2.0, 3.0]), dt=1e-3) == "nir 0.001"
    assert detected(tmp_path, nf.counter(3), dialect="nir", dt=1e-3) == "nir 0.001"


def test_one_ratio_of_tau_to_r_is_no_dt(tmp_path: Path) -> None:
    with pytest.raises(FrontendError, match="dt is needed"):
        detected(tmp_path, nf.lif(3, tau=0.02, r=2.0))


def test_norse_with_synapses(tmp_path: Path) -> None:
    """A spike adds all of w_in to its LIFCell's current, and that moves the membrane at once."""
    cell = nf.cuba(3, syn=0.005, mem=0.01)
    model = load(nf.write(tmp_path / "net.nir", nf.tiny(lif=cell)), dt=1e-3, dialect="norse")
    x = np.array([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    trace = interp.run(model.graph, x)
    np.testing.assert_allclose(trace.states["lif.v"][0, :, 0], [0.1, 0.17, 0.9 * 0.17 + 0.064])


def test_spikes_of_several_in_a_step(tmp_path: Path) -> None:
    nodes = nf.tiny(fc=nf.linear(np.full((3, 2), 2.5)), lif=nf.counter(3))
    path = nf.write(tmp_path / "net.nir", nodes)
    ones = np.ones((1, 3, 2))
    for options, most, sent in (
        ({"dialect": "sinabs"}, 7, [5, 5, 5]),
        ({"dialect": "sinabs", "max_spikes": 3}, 3, [3, 3, 3]),
        ({"dialect": "sinabs", "max_spikes": 1}, 1, [1, 1, 1]),
        ({"dialect": "norse"}, 1, [1, 1, 1]),
    ):
        (neuron,) = load(path, **options).graph.of_type(Neuron)
        assert neuron.model.max_out == most
        out = interp.run(load(path, **options).graph, ones).output
        np.testing.assert_array_equal(out[0, :, 0], sent)
    model = load(path, dialect="sinabs", max_spikes=3)
    notes = [a.value for a in model.assumptions if a.source == "given"]
    assert notes == ["sinabs", "at most 3 spikes a step; what exceeds them waits in the membrane"]


def test_the_file_wins_over_its_dialect_and_options_over_the_file(tmp_path: Path) -> None:
    said = {
        "dt": 1e-3, "integrator": "euler", "reset": "subtract", "reset_timing": "next_after_decay",
        "comparison": ">=", "T": 24, "encoder": "rate", "gain": 0.0625, "readout": "first_spike",
    }  # fmt: skip
    path = nf.write(tmp_path / "net.nir", nf.tiny(lif=nf.lif(3, tau=5e-4 * 10, r=5.0)), **said)
    model = load(path)
    assert noted(model, "dialect") == "nir (in the file)"
    assert noted(model, "reset") == "subtract (in the file)"
    assert noted(model, "fires at") == ">= (in the file)"
    assert noted(model, "readout") == "first_spike (in the file)"
    assert {k: model.meta[k] for k in ("T", "encoder", "gain", "dt")} == {
        "T": 24, "encoder": "rate", "gain": 0.0625, "dt": 1e-3
    }  # fmt: skip
    other = load(path, reset="zero", compare=">", readout="count", dt=2e-3)
    assert noted(other, "reset") == "zero (given)"
    assert noted(other, "fires at") == "> (given)"
    assert noted(other, "dt") == "0.002 (given)"


def test_a_delayed_loop_of_counts(tmp_path: Path) -> None:
    lag = nf.node("Delay", delay=0.002)
    nodes = nf.tiny(lif=nf.counter(3), lag=lag, lag2=lag, back=nf.linear(-np.eye(3)))
    edges = [*pairwise(nf.tiny()), *pairwise(["lif", "lag", "lag2", "back", "lif"])]
    path = nf.write(tmp_path / "net.nir", nodes, edges)
    graph = load(path, dialect="sinabs", dt=1e-3).graph
    assert [(d.kind, d.high, d.steps) for d in graph.of_type(Delay)] == [("count", 255, 2)] * 2
    few = load(path, dialect="sinabs", dt=1e-3, max_spikes=3).graph
    assert [d.high for d in few.of_type(Delay)] == [3, 3]
    assert interp.run(few, np.ones((1, 5, 2))).output.max() == 2


def test_a_node_may_have_words_of_its_own(tmp_path: Path) -> None:
    cell = nf.lif(3) | {"metadata/qspinn/reset": "subtract"}
    path = nf.write(tmp_path / "net.nir", nf.tiny(lif=cell))
    assert load(path, dt=1e-3).graph.of_type(Neuron)[0].model.text() == (
        load(path, dt=1e-3, reset="subtract").graph.of_type(Neuron)[0].model.text()
    )


@pytest.mark.needs("nir")
def test_what_the_nir_package_writes(tmp_path: Path) -> None:
    import nir

    one = np.ones(5)
    neurons = nir.LIF(
        tau=0.01 * one, r=10 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one,
        metadata={"qspinn": {"reset": "subtract"}},
    )  # fmt: skip
    nodes = {
        "input": nir.Input({"input": np.array([2, 6, 6])}),
        "conv": nir.Conv2d((6, 6), np.ones((3, 2, 3, 3)), 1, "same", 1, 1, np.zeros(3)),
        "if": nir.IF(r=np.ones((3, 6, 6)), v_threshold=np.ones((3, 6, 6))),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([3, 3, 3])}, 0, -1),
        "fc": nir.Affine(weight=np.ones((5, 27)), bias=one),
        "lif": neurons,
        "output": nir.Output({"output": np.array([5])}),
    }
    words = {"dt": 1e-3, "integrator": "euler", "reset": "zero", "T": 24}
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"qspinn": words})
    nir.write(tmp_path / "net.nir", graph)
    model = load(tmp_path / "net.nir")
    body = "Conv2d Neuron SumPool2d Flatten Linear Neuron"
    assert " ".join(kinds(model)) == f"Input {body} Output"
    assert (model.meta["T"], model.meta["dt"]) == (24, 1e-3)
    np.testing.assert_allclose(model.graph["lif"].params()["decay"].values, 0.9)
    assert noted(model, "dialect") == "nir (in the file)"
    resets = [a.value for a in model.assumptions if a.subject == "reset"]
    assert resets == ["zero (if)", "subtract (lif)"]


@pytest.mark.needs("nir")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["lif_norse", "cnn_sinabs", "braille_noDelay_bias_zero"])
def test_what_the_nir_package_reads(name: str, models: Path) -> None:
    import nir

    ours, _ = nir_file.read(models / "nir" / f"{name}.nir")
    theirs = nir.read(models / "nir" / f"{name}.nir")
    assert {n.name for n in ours.nodes} == set(theirs.nodes)
    assert set(ours.edges) == set(theirs.edges)
    compared = 0
    for node in ours.nodes:
        assert node.kind == type(theirs.nodes[node.name]).__name__
        for key in ("weight", "bias", "tau", "tau_mem", "tau_syn", "r", "w_in", "v_threshold"):
            if key in node.params:
                compared += 1
                np.testing.assert_array_equal(
                    node.array(key), getattr(theirs.nodes[node.name], key)
                )
    assert compared >= 5


def test_input_kinds(tmp_path: Path) -> None:
    path = nf.write(tmp_path / "net.nir", nf.tiny(lif=nf.counter(3)))
    (plain,) = load(path, dialect="sinabs").graph.of_type(Input)
    (counts,) = load(path, dialect="sinabs", input_kind="count", input_high=7).graph.of_type(Input)
    (values,) = load(path, dialect="sinabs", input_kind="current").graph.of_type(Input)
    assert [(n.kind, n.high) for n in (plain, counts, values)] == [
        ("spike", 1), ("count", 7), ("current", 1)
    ]  # fmt: skip
    said = nf.write(tmp_path / "said.nir", nf.tiny(lif=nf.counter(3)), encoder="direct")
    assert load(said, dialect="sinabs").graph.input.kind == "current"


# --- names ---


def test_names_become_safe_and_unique(tmp_path: Path) -> None:
    names = ["input", "0", "n0", "a*b", "a.b", "A_B", "größe", "x" * 90]
    body = {
        name: nf.counter(2) if i % 2 else nf.linear(np.eye(2)) for i, name in enumerate(names[1:])
    }
    nodes = {"input": nf.inlet(2), **body, "out put": nf.outlet(2)}
    model = load(nf.write(tmp_path / "3 nets!.nir", nodes), dialect="sinabs")
    found = [node.name for node in model.graph.nodes]
    assert len({n.lower() for n in found}) == len(found)
    assert all(n.isascii() and n.isidentifier() and n[0].isalpha() and len(n) <= 45 for n in found)
    assert {"n0", "n0_2"} <= set(found)
    assert model.graph.name.isidentifier()
    assert "\n" not in noted(model, "names")
    assert "a*b is a_b" in noted(model, "names")


# --- the door ---


def test_load_model_reads_graphs_that_were_saved(tmp_path: Path) -> None:
    graph = load(nf.write(tmp_path / "net.nir", nf.tiny()), dt=1e-3).graph
    for name in ("net.qspinn", "net"):
        storage.save(graph, tmp_path / name)
        assert load_model(tmp_path / name, dt=None).graph.digest == graph.digest
    with pytest.raises(FrontendError, match="dt cannot be chosen"):
        load_model(tmp_path / "net", dt=1e-3)
    (tmp_path / "net.nir").rename(tmp_path / "other")
    assert load_model(tmp_path / "other", dt=1e-3).graph.digest != ""


def test_the_same_file_gives_the_same_graph(tmp_path: Path) -> None:
    nodes = nf.tiny()
    edges = list(pairwise(nodes))
    first = load(nf.write(tmp_path / "net.nir", nodes, edges), dt=1e-3).graph
    again = load(nf.write(tmp_path / "net.nir", nodes, edges[::-1]), dt=1e-3).graph
    assert first.digest == again.digest


def test_what_the_output_does_not_need_is_left_out(tmp_path: Path) -> None:
    nodes = nf.tiny(spare=nf.linear(np.ones((4, 3))))
    edges = [*pairwise(["input", "fc", "lif", "output"]), ("lif", "spare")]
    model = load(nf.write(tmp_path / "net.nir", nodes, edges), dt=1e-3)
    assert all(isinstance(n, Node) and n.name != "spare" for n in model.graph.nodes)
    assert noted(model, "spare").startswith("left out")
