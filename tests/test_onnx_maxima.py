"""Maxima over windows in ONNX files: of counts, exact in every step, or of a step's spikes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
from cli_runs import Run
from qspinn import job as jobs
from qspinn.backend import backend
from qspinn.choice import Choice
from qspinn.errors import FrontendError
from qspinn.evaluate import chunks
from qspinn.frontends import load_model
from qspinn.frontends.onnx_maxima import counting, halvings, neurons_of
from qspinn.interp import apply, run
from qspinn.ir import Array, Graph, Input, MaxPool2d, Neuron, Output, Shape, SumPool2d
from qspinn.neurons import larger
from qspinn.pipeline import lower
from qspinn.plan import parse
from qspinn.signals import Signal, infer
from test_onnx import samples, scores

Rng = np.random.Generator
STEPS = 12


def alone(pool: MaxPool2d, shape: Shape) -> Graph:
    """Nothing but a maximum of counts, of spikes that come from outside."""
    made: list[str] = []

    def fresh(name: str) -> str:
        made.append(name)
        return f"{name}{len(made)}"

    entry = Input(name="in", shape=shape)
    end = Output(name="out", inputs=("max",), readout="spike_count")
    return Graph("alone", (entry, *counting(pool, shape, fresh), end))


def largest(pool: MaxPool2d, spikes: Array) -> Array:
    """The maximum of the counts after each step; (samples, steps, *shape)."""
    counts = spikes.cumsum(1).astype(np.float64)
    seen = Signal(spikes.shape[2:], "current")
    return np.stack([apply(pool, counts[:, t], seen) for t in range(counts.shape[1])], 1)


@pytest.mark.parametrize("part", range(2))
def test_the_maximum_of_counts_is_exact_in_every_step(part: int, rng: Rng) -> None:
    """Any window, stride and padding; units that fire at any rate, together or in turns."""
    padded = strided = apart = 0
    for _ in range(25):
        kernel = tuple(int(k) for k in rng.integers(1, 8, 2))
        if kernel == (1, 1):
            continue
        stride = tuple(int(s) for s in rng.integers(1, 6, 2))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        shape = (2, *(int(n) for n in rng.integers(8, 14, 2)))
        pool = MaxPool2d(name="max", inputs=("in",), kernel=kernel, stride=stride, padding=padding)
        spikes = (rng.random((2, STEPS, *shape)) < 0.3 * rng.random(shape)).astype(np.int64)
        got = run(alone(pool, shape), spikes.astype(np.float64)).output
        assert set(np.unique(got)) <= {0, 1}
        want = largest(pool, spikes)
        assert np.array_equal(got.cumsum(1), want), (kernel, stride, padding, shape)
        ored = np.stack([apply(pool, s, Signal(shape, "spike")) for s in spikes], 0)
        assert (ored.cumsum(1) >= want).all()
        apart += not np.array_equal(ored.cumsum(1), want)
        padded += any(padding)
        strided += stride != kernel
    assert min(padded, strided) > 5
    assert apart > 15


@pytest.mark.parametrize(
    ("size", "stride", "levels"),
    [
        (1, 1, []), (2, 2, [(1, 2)]), (3, 2, [(1, 1), (1, 2)]), (4, 4, [(1, 2), (1, 2)]),
        (8, 8, [(1, 2), (1, 2), (1, 2)]), (5, 1, [(1, 1), (1, 1), (2, 1)]), (2, 3, [(1, 3)]),
    ],
)  # fmt: skip
def test_halvings(size: int, stride: int, levels: list[tuple[int, int]]) -> None:
    assert halvings(size, stride) == levels


def test_a_window_of_four_takes_three_neurons() -> None:
    pool = MaxPool2d(name="max", inputs=("in",), kernel=(2, 2), stride=(2, 2))
    assert neurons_of(list(alone(pool, (3, 8, 6)).nodes)) == 3 * (3 * 4 * 3)


def network(rng: Rng, kernel: Any = (2, 2), stride: Any = (2, 2), *, between: Any = ()) -> Any:
    """A convolution, a maximum, and a dense layer."""
    pool = MaxPool2d(name="m", inputs=("x",), kernel=tuple(kernel), stride=tuple(stride))
    size = int(np.prod(infer(pool, (Signal((4, 8, 8), "spike"),)).shape))
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "b": rng.normal(0, 0.2, 4),
               "head": of.dense(rng, 4, size)}  # fmt: skip
    return of.chain(
        rng, ("Conv", ["w", "b"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}), *between,
        ("MaxPool", [], {"kernel_shape": list(kernel), "strides": list(stride)}),
        ("Flatten", [], {}), ("Gemm", ["head"], {"transB": 1}),
        shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("balance", ["layer", "channel"])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((1, 4), (2, 4)), ((8, 8), (8, 8))]
)
def test_with_time_the_scores_are_the_networks(
    kernel: Any, stride: Any, balance: str, rng: Rng, tmp_path: Path
) -> None:
    """They are with exact maxima, and not with a step's spikes."""
    made = network(rng, kernel, stride)
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    wanted = of.judged(path, x)
    off = {}
    for how in ("exact", "or"):
        imported = load_model(path, data=x, percentile=100.0, balance=balance, max_pool=how)
        assert imported.reference is not None
        np.testing.assert_allclose(imported.reference(x), wanted, rtol=1e-4, atol=1e-5)
        off[how] = np.abs(scores(imported, x, 256) - wanted).max() / np.abs(wanted).max()
    assert off["exact"] < 0.02
    assert off["or"] > 3 * off["exact"]


@pytest.mark.needs("onnx")
def test_a_maximum_of_averages_is_taken_of_neurons(rng: Rng, tmp_path: Path) -> None:
    window = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0, 0, 0, 0]}
    tensors = {"w": rng.normal(0, 0.4, (4, 2, 3, 3)), "head": of.dense(rng, 4, 36)}
    made = of.chain(
        rng, ("Conv", ["w"], {"pads": [1, 1, 1, 1]}), ("Relu", [], {}),
        ("AveragePool", [], window), ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", [], {}), ("Gemm", ["head"], {"transB": 1}),
        shape=("n", 2, 8, 8), tensors=tensors,
    )  # fmt: skip
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    wanted = of.judged(path, x)
    for how in ("exact", "or"):
        imported = load_model(path, data=x, percentile=100.0, max_pool=how)
        assert imported.reference is not None
        np.testing.assert_allclose(imported.reference(x), wanted, rtol=1e-4, atol=1e-5)
        (total,) = imported.graph.of_type(SumPool2d)
        assert total.inputs[0] in {n.name for n in imported.graph.of_type(Neuron)}
        assert any("maximum of sums of spikes" in a.value for a in imported.assumptions)
    imported = load_model(path, data=x, percentile=100.0)
    off = np.abs(scores(imported, x, 256) - wanted).max() / np.abs(wanted).max()
    assert off < 0.03


@pytest.mark.needs("onnx")
def test_the_report_says_how(rng: Rng, tmp_path: Path) -> None:
    made = network(rng)
    path, x = of.save(tmp_path / "net.onnx", made), samples(rng, made)
    (exact,) = [a for a in load_model(path, data=x).assumptions if "maximum" in a.value]
    assert "exact in every step, by 192 neurons" in exact.value
    assert exact.source == "default"
    imported = load_model(path, data=x, max_pool="or")
    (ored,) = [a for a in imported.assumptions if "maximum" in a.value]
    assert "whether any spike arrived" in ored.value
    assert ored.source == "given"
    assert len(imported.graph.of_type(MaxPool2d)) == 1
    with pytest.raises(FrontendError, match="'mean' is none of exact, or"):
        load_model(path, data=x, max_pool="mean")


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("target", ["mcu", "loihi"])
@pytest.mark.parametrize("bits", [None, 4, 3])
def test_integers_keep_maxima_exact(
    target: str, bits: int | None, rng: Rng, tmp_path: Path
) -> None:
    """Under a target's default formats, and under narrow weights: what they say is a boolean."""
    made = network(rng, (3, 3), (2, 2))
    path, data = of.save(tmp_path / "net.onnx", made), tmp_path / "x.npz"
    np.savez(data, x=samples(rng, made, 40))
    job, chip = jobs.prepare(path, data, encode={"steps": 24}), backend(target)
    pairs = [c.path for c in job.graph.nodes if "_pairs" in c.name]
    assert len(pairs) == 4
    choices = {f"{path}.weight": Choice(bits=bits) for path in pairs} if bits else None
    final = lower(job.graph, jobs.plan_for(job, chip, choices=choices), chip).quantized
    assert job.dataset is not None
    ((fed, _),) = chunks(final, job.dataset, job.encoder, np.arange(40))
    pool = next(n for n in final.of_type(Neuron) if n.model == larger())
    first = final[final[pool.inputs[0]].inputs[0]]
    last = [n for n in final.of_type(Neuron) if n.model == larger()][-1]
    found = [cut(final, name, fed) for name in (first.name, last.name)]
    window = MaxPool2d(name="m", inputs=("x",), kernel=(3, 3), stride=(2, 2))
    assert found[1].any()
    assert np.array_equal(found[1].cumsum(1), largest(window, found[0]))


def cut(graph: Graph, name: str, data: Array) -> Array:
    """The spikes of one layer."""
    at = next(i for i, node in enumerate(graph.nodes) if node.name == name)
    end = Output(name="output", inputs=(name,), readout="spike_count")
    return run(Graph("part", (*graph.nodes[: at + 1], end)), data).output


@pytest.mark.needs("onnx", "gcc")
@pytest.mark.parametrize(("target", "how"), [("mcu", "exact"), ("mcu", "or")])
def test_artifacts_are_proved(qspinn: Run, target: str, how: str, rng: Rng, tmp_path: Path) -> None:
    prove(qspinn, target, how, rng, tmp_path)


@pytest.mark.needs("onnx", "lava")
@pytest.mark.parametrize("how", ["exact", "or"])
def test_packages_for_lava_are_proved(qspinn: Run, how: str, rng: Rng, tmp_path: Path) -> None:
    prove(qspinn, "loihi", how, rng, tmp_path)


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("target", ["mcu", "loihi"])
def test_a_search_keeps_maxima(qspinn: Run, target: str, rng: Rng, tmp_path: Path) -> None:
    """The plan that it finds lowers to neurons that are still exact."""
    made = network(rng)
    path, data, folder = of.save(tmp_path / "net.onnx", made), tmp_path / "x.npz", tmp_path / "out"
    x = samples(rng, made, 200)
    np.savez(data, x=x, y=of.judged(path, x).argmax(1))
    kinds = ("membrane", "threshold", "scale", "bias", "weight:rounding", "steps")
    idle = [word for kind in kinds for word in ("--try", f"{kind}=")]
    done = qspinn("explore", path, "--target", target, "--data", data, "--steps", 12,
                  "--max-drop", "90%", "--workers", 1, "--try", "weight=8,4", *idle,
                  "-o", folder)  # fmt: skip
    assert done.code == 0, done.err
    job = jobs.prepare(path, data, encode={"steps": 12})
    chip = backend(target)
    plan = jobs.plan_for(job, chip, parse((folder / "plan.txt").read_text()))
    final = lower(job.graph, plan, chip).quantized
    assert job.dataset is not None
    ((fed, _),) = chunks(final, job.dataset, job.encoder, np.arange(20))
    made_of = [n for n in final.of_type(Neuron) if n.model == larger()]
    found = [cut(final, final[final[n.inputs[0]].inputs[0]].name, fed) for n in made_of[:1]]
    found.append(cut(final, made_of[-1].name, fed))
    window = MaxPool2d(name="m", inputs=("x",), kernel=(2, 2), stride=(2, 2))
    assert found[1].any()
    assert np.array_equal(found[1].cumsum(1), largest(window, found[0]))


def prove(qspinn: Run, target: str, how: str, rng: Rng, tmp_path: Path) -> None:
    made = network(rng, (3, 2), (2, 2))
    path, data, folder = of.save(tmp_path / "net.onnx", made), tmp_path / "x.npz", tmp_path / "out"
    np.savez(data, x=samples(rng, made, 40))
    done = qspinn("compile", path, "--target", target, "--data", data, "--steps", 10,
                  "--max-pool", how, "-o", folder)  # fmt: skip
    assert done.code == 0, done.err
    (verdict,) = json.loads(
        qspinn("validate", folder, "--samples", 2, "--data", data, "--json").out
    )
    assert verdict["mismatch"] is None
    assert verdict["values"] > 0
