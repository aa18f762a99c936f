"""ONNX files: what each operator becomes, and that rates converge to the activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.errors import FrontendError
from qspinn.evaluate import chunks, summary_of
from qspinn.frontends import Imported, load_model
from qspinn.interp import run
from qspinn.ir import Conv1d, Conv2d, Graph, Linear, MaxPool2d, Neuron, Output, SumPool2d
from qspinn.pipeline import canonical, lower

pytestmark = pytest.mark.needs("onnx")

Rng = np.random.Generator


def scores(imported: Imported, x: Any, steps: int) -> Any:
    """What the spiking network says after so many steps, a step's worth."""
    data = np.repeat(np.asarray(x, np.float64)[:, None], steps, axis=1)
    graph = canonical(imported.graph)
    last = graph.of_type(Neuron)[-1].name
    return run(graph, data, record=[f"{last}.v"]).states[f"{last}.v"][:, -1] / steps


def _dense_head(tensors: dict[str, Any], rng: Rng, into: int) -> list[Any]:
    tensors["head"] = of.dense(rng, 4, into)
    return [("Flatten", [], {}), ("Gemm", ["head"], {"transB": 1})]


def gemm(rng: Rng) -> Any:
    tensors = {"w": of.dense(rng, 8, 6).T, "b": rng.normal(0, 0.2, 8), "v": of.dense(rng, 4, 8)}
    return of.chain(
        rng, ("Gemm", ["w", "b"], {"alpha": 0.5, "beta": 2.0}), ("Relu", [], {}),
        ("Gemm", ["v"], {"transB": 1, "alpha": 2.0}), shape=("n", 6), tensors=tensors,
    )  # fmt: skip


def matmul(rng: Rng) -> Any:
    tensors = {"w": of.dense(rng, 8, 6).T, "b": rng.normal(0, 0.2, 8), "v": of.dense(rng, 4, 8).T}
    return of.chain(
        rng, ("MatMul", ["w"], {}), ("Add", ["b"], {}), ("Relu", [], {}), ("Identity", [], {}),
        ("Dropout", [], {}), ("MatMul", ["v"], {}), shape=("n", 6), tensors=tensors,
    )  # fmt: skip


def two_matrices(rng: Rng) -> Any:
    tensors = {"w": of.dense(rng, 8, 6).T, "b": rng.normal(0, 0.2, 8), "v": of.dense(rng, 5, 8).T,
               "u": of.dense(rng, 4, 5).T}  # fmt: skip
    return of.chain(
        rng, ("MatMul", ["w"], {}), ("Add", ["b"], {}), ("MatMul", ["v"], {}), ("Relu", [], {}),
        ("MatMul", ["u"], {}), shape=("n", 6), tensors=tensors,
    )  # fmt: skip


def normalized_input(rng: Rng) -> Any:
    tensors = {"mean": np.array([0.3]), "dev": np.array([0.5]),
               "w": rng.normal(0, 0.3, (3, 2, 3, 3)),
               "b": rng.normal(0, 0.2, 3)}  # fmt: skip
    head = _dense_head(tensors, rng, 3 * 6 * 6)
    return of.chain(
        rng, ("Sub", ["mean"], {}), ("Div", ["dev"], {}),
        ("Conv", ["w", "b"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}), *head,
        shape=("n", 2, 6, 6), tensors=tensors,
    )  # fmt: skip


def convolution(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.3, (4, 1, 3, 3)), "b": rng.normal(0, 0.2, 4),
               "v": rng.normal(0, 0.3, (6, 4, 3, 2))}  # fmt: skip
    head = _dense_head(tensors, rng, 6 * 2 * 7)
    return of.chain(
        rng, ("Conv", ["w", "b"], {"pads": [1, 1, 1, 1], "group": 2}), ("Relu", [], {}),
        ("Conv", ["v"], {"strides": [2, 1], "dilations": [2, 1], "pads": [0, 0, 0, 0]}),
        ("Relu", [], {}), *head, shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip


def same_padding(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.3, (4, 2, 3, 3))}
    head = _dense_head(tensors, rng, 4 * 6 * 6)
    return of.chain(
        rng, ("Conv", ["w"], {"auto_pad": "SAME_UPPER"}), ("Relu", [], {}), *head,
        shape=("n", 2, 6, 6), tensors=tensors,
    )  # fmt: skip


def batch_norm(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.3, (4, 2, 3, 3)), "b": rng.normal(0, 0.2, 4)}
    for name in ("", "2"):
        tensors |= {
            f"scale{name}": rng.normal(0, 1, 4), f"shift{name}": rng.normal(0, 0.3, 4),
            f"mean{name}": rng.normal(0, 0.3, 4), f"var{name}": rng.uniform(0.3, 2, 4),
        }  # fmt: skip
    tensors["v"] = rng.normal(0, 0.3, (3, 4, 3, 3))
    head = _dense_head(tensors, rng, 3 * 6 * 6)
    # The second one stands before a padded convolution: what it adds is not padded.
    return of.chain(
        rng, ("Conv", ["w", "b"], {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["scale", "shift", "mean", "var"], {"epsilon": 1e-3}),
        ("Relu", [], {}), ("BatchNormalization", ["scale2", "shift2", "mean2", "var2"], {}),
        ("Conv", ["v"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}), *head,
        shape=("n", 2, 6, 6), tensors=tensors,
    )  # fmt: skip


def pools(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "v": rng.normal(0, 0.4, (5, 4, 3, 3))}
    tensors["head"] = of.dense(rng, 4, 5)
    return of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}),
        ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["v"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}), ("GlobalAveragePool", [], {}),
        ("Flatten", [], {}), ("Gemm", ["head"], {"transB": 1}),
        shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip


def padded_pool(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "add": rng.normal(0, 0.3, (1, 4, 1, 1)),
               "times": rng.uniform(0.5, 2, (4, 1, 1))}  # fmt: skip
    head = _dense_head(tensors, rng, 4 * 4 * 4)
    return of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}), ("Mul", ["times"], {}),
        ("Add", ["add"], {}),
        ("AveragePool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1],
                             "count_include_pad": 1}),
        *head, shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip


def reduced_mean(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "v": of.dense(rng, 4, 4)}
    return of.chain(
        rng, ("Conv", ["w"], {}), ("Relu", [], {}), ("ReduceMean", [], {"axes": [2, 3],
                                                                       "keepdims": 0}),
        ("Gemm", ["v"], {"transB": 1}), shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip


def one_dimension(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3)), "b": rng.normal(0, 0.2, 4)}
    head = _dense_head(tensors, rng, 4 * 8)
    return of.chain(
        rng, ("Conv", ["w", "b"], {"pads": [2, 2], "dilations": [2], "strides": [2]}),
        ("Relu", [], {}), *head, shape=("n", 2, 16), tensors=tensors,
    )  # fmt: skip


def one_dimension_pooled(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3)), "b": rng.normal(0, 0.2, (4, 1))}
    head = _dense_head(tensors, rng, 4 * 8)
    return of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1]}), ("Add", ["b"], {}), ("Relu", [], {}),
        ("AveragePool", [], {"kernel_shape": [2], "strides": [2]}), *head,
        shape=("n", 2, 16), tensors=tensors,
    )  # fmt: skip


def relu6(rng: Rng) -> Any:
    tensors = {"w": of.dense(rng, 8, 6).T * 3, "low": np.array(0.0), "high": np.array(1.0),
               "v": of.dense(rng, 4, 8).T}  # fmt: skip
    return of.chain(
        rng, ("MatMul", ["w"], {}), ("Clip", ["low", "high"], {}), ("MatMul", ["v"], {}),
        shape=("n", 6), tensors=tensors,
    )  # fmt: skip


def residual(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.3, (3, 2, 3, 3)), "v": rng.normal(0, 0.3, (3, 3, 3, 3)),
               "b": rng.normal(0, 0.3, 3), "head": of.dense(rng, 4, 3 * 6 * 6)}  # fmt: skip
    nodes = [
        of.node("Conv", ["x", "w"], "c1", pads=[1, 1, 1, 1]), of.node("Relu", ["c1"], "r1"),
        of.node("Conv", ["r1", "v", "b"], "c2", pads=[1, 1, 1, 1]),
        of.node("Add", ["c2", "r1"], "sum"), of.node("Relu", ["sum"], "r2"),
        of.node("Flatten", ["r2"], "flat"), of.node("Gemm", ["flat", "head"], "y", transB=1),
    ]  # fmt: skip
    return of.model(nodes, ("n", 2, 6, 6), tensors)


def bias_for_each_neuron(rng: Rng) -> Any:
    tensors = {"w": rng.normal(0, 0.3, (3, 2, 3, 3)), "b": rng.normal(0, 0.5, (1, 3, 6, 6))}
    head = _dense_head(tensors, rng, 3 * 6 * 6)
    return of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1, 1, 1]}), ("Add", ["b"], {}), ("Relu", [], {}), *head,
        shape=("n", 2, 6, 6), tensors=tensors,
    )  # fmt: skip


def computed_shape(rng: Rng) -> Any:
    """``x.view(x.size(0), -1)`` as torch writes it."""
    tensors = {"w": rng.normal(0, 0.3, (3, 2, 3, 3)), "zero": np.array(0), "axes": np.array([0]),
               "rest": np.array([-1]), "head": of.dense(rng, 4, 3 * 4 * 4)}  # fmt: skip
    nodes = [
        of.node("Conv", ["x", "w"], "c"), of.node("Relu", ["c"], "r"),
        of.node("Shape", ["r"], "shape"), of.node("Gather", ["shape", "zero"], "batch", axis=0),
        of.node("Unsqueeze", ["batch", "axes"], "one"),
        of.node("Concat", ["one", "rest"], "target", axis=0),
        of.node("Reshape", ["r", "target"], "flat"),
        of.node("Gemm", ["flat", "head"], "y", transB=1),
    ]  # fmt: skip
    return of.model(nodes, ("n", 2, 6, 6), tensors)


def image_of_a_flat_input(rng: Rng) -> Any:
    tensors = {"shape": np.array([-1, 2, 6, 6]), "w": rng.normal(0, 0.3, (3, 2, 3, 3))}
    head = _dense_head(tensors, rng, 3 * 4 * 4)
    return of.chain(
        rng, ("Reshape", ["shape"], {}), ("Conv", ["w"], {}), ("Relu", [], {}), *head,
        shape=("n", 72), tensors=tensors,
    )  # fmt: skip


CASES = (
    gemm, matmul, two_matrices, normalized_input, convolution, same_padding, batch_norm, pools,
    padded_pool, reduced_mean, one_dimension, one_dimension_pooled, relu6, residual,
    bias_for_each_neuron, computed_shape, image_of_a_flat_input,
)  # fmt: skip


def samples(rng: Rng, made: Any, count: int = 12) -> Any:
    dims = made.graph.input[0].type.tensor_type.shape.dim
    return rng.uniform(-0.2, 1.0, (count, *(d.dim_value for d in dims[1:]))).astype(np.float32)


@pytest.mark.parametrize("balance", ["layer", "channel"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_operators(case: Any, balance: str, rng: Rng, tmp_path: Path) -> None:
    """The network is the reference evaluator's, and with time the spiking one is the network."""
    made = case(rng)
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    imported = load_model(path, data=x, percentile=100.0, balance=balance)
    wanted = of.judged(path, x)
    assert imported.reference is not None
    np.testing.assert_allclose(imported.reference(x), wanted, rtol=1e-4, atol=1e-5)
    values = x.reshape(len(x), *imported.graph.input.shape)
    spread = np.abs(wanted).max()
    off = {t: float(np.abs(scores(imported, values, t) - wanted).max() / spread) for t in (8, 256)}
    assert off[256] < 0.05
    assert off[256] < off[8] or off[8] < 0.02


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_integer_programs_of_them(case: Any, rng: Rng, tmp_path: Path) -> None:
    """Under the default plan of a target their scores go with the float network's."""
    made = case(rng)
    path, data = of.save(tmp_path / "net.onnx", made), tmp_path / "x.npz"
    np.savez(data, x=samples(rng, made, 40))
    job = jobs.prepare(path, data, encode={"steps": 24})
    target = backend("mcu")
    quantized = lower(job.graph, jobs.plan_for(job, target), target).quantized
    assert quantized.is_integer
    assert job.dataset is not None
    said = []
    for graph in (job.graph, quantized):
        ((fed, _),) = chunks(graph, job.dataset, job.encoder, np.arange(40))
        said.append(summary_of(graph, fed).last.ravel())
    assert np.corrcoef(*said)[0, 1] > 0.99


def test_other_operators_than_these_are_seen_as_such(tmp_path: Path, rng: Rng) -> None:
    """The judge is no rubber stamp: a network with another weight is another one."""
    made = gemm(rng)
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    wanted = of.judged(path, x)
    made.graph.initializer[0].raw_data = (of.dense(rng, 8, 6).T.astype(np.float32)).tobytes()
    imported = load_model(of.save(tmp_path / "net.onnx", made), data=x)
    assert imported.reference is not None
    assert not np.allclose(imported.reference(x), wanted, atol=0.01)


def test_a_fixed_batch_is_set_apart(rng: Rng, tmp_path: Path) -> None:
    tensors = {"w": rng.normal(0, 0.3, (3, 2, 3, 3)), "shape": np.array([5, -1]),
               "head": of.dense(rng, 4, 48)}  # fmt: skip
    layers = [("Conv", ["w"], {}), ("Relu", [], {}), ("Reshape", ["shape"], {}),
              ("Gemm", ["head"], {"transB": 1})]  # fmt: skip
    path = of.save(
        tmp_path / "net.onnx", of.chain(rng, *layers, shape=(5, 2, 6, 6), tensors=tensors)
    )
    x = rng.random((5, 2, 6, 6)).astype(np.float32)
    imported = load_model(path, data=x)
    assert imported.reference is not None
    np.testing.assert_allclose(imported.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-5)


# --- exact properties ---


def hidden(path: Path, x: Any, **options: Any) -> tuple[Imported, Any, float]:
    """An import, the activations of its first layer before the Relu, and its threshold."""
    imported = load_model(path, data=x, **options)
    first = imported.graph.of_type(Linear)[0]
    assert first.bias is not None
    z = np.asarray(x, np.float64) @ first.weight.values.T + first.bias.values
    neuron = imported.graph.of_type(Neuron)[0]
    return imported, z, float(neuron.values["threshold"].values)


def dyadic(rng: Rng, cap: float | None) -> Any:
    """Numbers that sums of hundreds of them are exact with."""
    tensors = {
        "w": rng.integers(-32, 33, (16, 6)) / 64, "b": rng.integers(-16, 17, 16) / 64,
        "v": rng.integers(-32, 33, (4, 16)) / 64,
        "low": np.array(0.0), "high": np.array(cap or 0.0),
    }  # fmt: skip
    rectifier = ("Clip", ["low", "high"], {}) if cap else ("Relu", [], {})
    return of.chain(
        rng, ("Gemm", ["w", "b"], {"transB": 1}), rectifier, ("Gemm", ["v"], {"transB": 1}),
        shape=("n", 6), tensors=tensors,
    )  # fmt: skip


@pytest.mark.parametrize("initial", ["half", "zero"])
@pytest.mark.parametrize("cap", [None, 0.5])
def test_a_neuron_of_constant_input_counts(
    initial: str, cap: float | None, rng: Rng, tmp_path: Path
) -> None:
    """After T steps it has fired floor((T z + v0) / threshold) times, at most T; always exactly."""
    path = of.save(tmp_path / "net.onnx", dyadic(rng, cap))
    x = rng.integers(0, 65, (40, 6)) / 64
    imported, z, theta = hidden(path, x, percentile=100.0, initial=initial)
    assert theta == (cap or z.max())
    start = theta / 2 if initial == "half" else 0.0
    until = next(i for i, n in enumerate(imported.graph.nodes) if isinstance(n, Neuron)) + 1
    nodes = imported.graph.nodes[:until]
    end = Output(name="output", inputs=(nodes[-1].name,), readout="count")
    sent = run(Graph("hidden", (*nodes, end)), np.repeat(x[:, None], 60, axis=1)).output.cumsum(1)
    t = np.arange(1, 61)[None, :, None]
    expected = np.clip(np.floor((t * z[:, None] + start) / theta), 0, t)
    assert (sent == expected).all()
    assert (sent[:, -1] > 0).mean() > 0.2
    assert (expected == t).all(1).any()
    assert (z > theta).any() == (cap is not None)


def test_scores_are_off_by_half_a_spike_of_each_neuron(rng: Rng, tmp_path: Path) -> None:
    path = of.save(tmp_path / "net.onnx", of.mlp(rng, (6, 24, 4)))
    x = rng.random((40, 6))
    imported, z, _ = hidden(path, x, percentile=100.0, initial="half")
    assert imported.reference is not None
    wanted = imported.reference(x)
    weight = imported.graph.of_type(Linear)[-1].weight.values  # a spike's worth is in it
    fires = z > 0
    worst = []
    for steps in (1, 4, 16, 64, 256):
        off = np.abs(scores(imported, x, steps) - wanted)
        bound = (fires[:, None, :] * np.abs(weight)).sum(-1) * 0.5 / steps
        assert (off <= bound + 1e-9).all()
        worst.append(off.max())
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > 10 * worst[-1] > 0


def test_where_membranes_start_is_chosen_by_the_error(rng: Rng, tmp_path: Path) -> None:
    path = of.save(tmp_path / "net.onnx", of.mlp(rng, (6, 24, 24, 4)))
    x = rng.random((64, 6))
    found = {start: load_model(path, data=x, initial=start) for start in ("half", "zero")}
    chosen = load_model(path, data=x)
    (note,) = [a for a in chosen.assumptions if a.subject == "membranes start at"]
    assert "scores are off by" in note.source
    wanted = chosen.reference(x)  # type: ignore[misc]
    errors = {
        start: np.sqrt(((scores(made, x[:32], 32) - wanted[:32]) ** 2).mean())
        for start, made in found.items()
    }
    best = min(errors, key=errors.__getitem__)
    assert chosen.graph.digest == found[best].graph.digest
    assert errors["half"] != errors["zero"]


# --- what becomes of a file ---


def test_what_a_network_consists_of(rng: Rng, tmp_path: Path) -> None:
    made = pools(rng)
    imported = load_model(of.save(tmp_path / "my net.onnx", made), data=samples(rng, made))
    graph = imported.graph
    assert graph.name == "my_net"
    assert [type(n).__name__ for n in graph.nodes] == [
        "Input", "Conv2d", "Neuron", "SumPool2d", "Conv2d", "Neuron", "SumPool2d", "Flatten",
        "Linear", "Neuron", "Output",
    ]  # fmt: skip
    assert graph.input.kind == "current"
    assert graph.output.readout == "membrane_last"
    assert imported.meta["encoder"] == "direct"
    assert graph.of_type(SumPool2d)[1].kernel == (4, 4)
    assert not graph.of_type(Conv1d)
    assert len(graph.of_type(Conv2d)) == 2


@pytest.mark.parametrize("order", [("Relu", "MaxPool"), ("MaxPool", "Relu")])
def test_a_maximum_is_taken_of_spikes(order: tuple[str, str], rng: Rng, tmp_path: Path) -> None:
    """Before or behind the Relu it is the same; what it is takes neurons or, if asked, none."""
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "b": rng.normal(0, 0.2, 4)}
    head = _dense_head(tensors, rng, 4 * 3 * 3)
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    made = of.chain(
        rng, ("Conv", ["w", "b"], {}),
        *((op, [], window if op == "MaxPool" else {}) for op in order), *head,
        shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    exact = load_model(path, data=x)
    imported = load_model(path, data=x, max_pool="or")
    assert len(exact.graph.of_type(Neuron)) == len(imported.graph.of_type(Neuron)) + 2
    assert exact.reference is not None
    np.testing.assert_allclose(exact.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-5)
    names = [type(n).__name__ for n in imported.graph.nodes]
    assert names.index("Neuron") + 1 == names.index("MaxPool2d")
    assert imported.graph.of_type(MaxPool2d)[0].kernel == (2, 2)
    assert any("whether any spike arrived" in a.value for a in imported.assumptions)
    np.testing.assert_allclose(imported.reference(x), of.judged(path, x), rtol=1e-4, atol=1e-5)  # type: ignore[misc]


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax", "ArgMax", "Sigmoid"])
def test_a_final_verdict_is_left_out(end: str, rng: Rng, tmp_path: Path) -> None:
    made = of.mlp(rng)
    plain = load_model(of.save(tmp_path / "net.onnx", made), data=np.eye(6))
    attributes = {} if end == "Sigmoid" else {"axis": 1}
    made.graph.node.append(of.node(end, [made.graph.output[0].name], "verdict", **attributes))
    made.graph.output[0].name = "verdict"
    imported = load_model(of.save(tmp_path / "net.onnx", made), data=np.eye(6))
    assert imported.graph.digest == plain.graph.digest
    assert any(f"final {end} is left out" in a.value for a in imported.assumptions)


def test_a_network_that_ends_in_a_relu_is_still_read_by_membranes(rng: Rng, tmp_path: Path) -> None:
    made = of.chain(
        rng, ("Gemm", ["w"], {"transB": 1}), ("Relu", [], {}), shape=("n", 6),
        tensors={"w": of.dense(rng, 4, 6)},
    )  # fmt: skip
    path, x = of.save(tmp_path / "net.onnx", made), rng.random((10, 6))
    imported = load_model(path, data=x, percentile=100.0)
    wanted = of.judged(path, x)
    assert np.abs(scores(imported, x, 256) - wanted).max() < 0.01 * wanted.max()


def test_names_are_safe_and_unique(rng: Rng, tmp_path: Path) -> None:
    made = of.mlp(rng, (6, 8, 8, 4))
    for node, name in zip(made.graph.node, ("a/b", "A.b", "output", "../x\n", ""), strict=True):
        node.name = name
    imported = load_model(of.save(tmp_path / "1;rm.onnx", made), data=rng.random((9, 6)))
    names = [n.name for n in imported.graph.nodes]
    assert len({n.lower() for n in names}) == len(names)
    assert all(n.isidentifier() and n.isascii() for n in (*names, imported.graph.name))


def test_thresholds_are_percentiles(rng: Rng, tmp_path: Path) -> None:
    path = of.save(tmp_path / "net.onnx", of.mlp(rng))
    x = rng.random((100, 6))
    _, z, full = hidden(path, x, percentile=100.0)
    _, _, some = hidden(path, x, percentile=90.0)
    # Activations are looked at in float32.
    assert full == pytest.approx(np.maximum(z, 0).max(), rel=1e-6)
    assert some == pytest.approx(np.percentile(np.maximum(z, 0), 90), rel=1e-6)
    each = load_model(path, data=x, percentile=100.0, balance="channel").graph.of_type(Neuron)[0]
    highest = np.maximum(z, 0).max(0)
    np.testing.assert_allclose(
        each.values["threshold"].values, np.maximum(highest, highest.max() / 64), rtol=1e-6
    )


def test_without_data_only_a_quantized_network_is_read(rng: Rng, tmp_path: Path) -> None:
    path = of.save(tmp_path / "net.onnx", of.mlp(rng))
    with pytest.raises(FrontendError, match="nothing tells how large its activations are") as e:
        load_model(path)
    assert "--data" in e.value.hint
