"""ONNX files on the command line: what T steps lose, and an artifact that is proved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxfiles as of
import test_onnx as cases
from cli_runs import Run
from qspinn import job as jobs
from qspinn.evaluate import predictions
from qspinn.stepwise import stepwise
from tree import ROOT

pytestmark = pytest.mark.needs("onnx")

DIGITS = ROOT / "examples" / "digits" / "digits.npz"


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """700 digits between 0 and 1."""
    path = tmp_path_factory.mktemp("pixels") / "pixels.npz"
    with np.load(DIGITS) as file:
        x, y, split = file["x"] / 16.0, file["y"], file["split"]
    some = np.random.default_rng(3).permutation(len(x))[:700]
    np.savez(path, x=x[some], y=y[some], split=split[some])
    return path


@pytest.fixture(scope="module")
def network(pixels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 inputs, 96 random features, and a readout by least squares."""
    rng = np.random.default_rng(7)
    with np.load(pixels) as file:
        x, y = file["x"].reshape(len(file["x"]), -1), file["y"]
    w, b = of.dense(rng, 96, 64) * 2, rng.normal(0, 0.3, 96)
    features = np.maximum(x @ w.T + b, 0)
    inner = features.T @ features + 0.1 * np.eye(96)
    head = np.linalg.solve(inner, features.T @ np.eye(10)[y])
    nodes = [
        of.node("Gemm", ["x", "w", "b"], "fc1", transB=1), of.node("Relu", ["fc1"], "relu1"),
        of.node("Gemm", ["relu1", "v"], "fc2"), of.node("Softmax", ["fc2"], "y", axis=-1),
    ]  # fmt: skip
    made = of.model(nodes, ("batch", 64), {"w": w, "b": b, "v": head})
    return of.save(tmp_path_factory.mktemp("onnx") / "features.onnx", made)


def test_inspect_tells_what_each_number_of_steps_loses(
    qspinn: Run, network: Path, pixels: Path
) -> None:
    done = qspinn("inspect", network, "--data", pixels)
    assert done.code == 0
    for word in ("threshold", "percentile 99.9", "membranes start at", "the final Softmax",
                 "the network it was made of", "mcu: can compile it", "loihi: "):  # fmt: skip
        assert word in " ".join(done.err.split()), word
    facts = json.loads(qspinn("inspect", network, "--data", pixels, "--json").out)["steps"]
    assert [row["steps"] for row in facts["rows"]] == [8, 16, 32, 64, 128]
    agreements = [row["agreement"]["value"] for row in facts["rows"]]
    assert agreements[0] < agreements[-1]
    assert agreements[-1] > 0.98
    assert facts["reference"]["value"] > 0.85


def test_without_data_the_remedy_is_named(qspinn: Run, network: Path) -> None:
    done = qspinn("inspect", network).unwrapped()
    assert done.code == 2
    assert "nothing tells how large its activations are" in done.err
    assert "--data FILE.npz" in done.err


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("encode", ["direct", "rate"])
def test_compile_and_validate(
    qspinn: Run, network: Path, pixels: Path, encode: str, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    done = qspinn("compile", network, "--target", "mcu", "--data", pixels, "--encode", encode,
                  "--steps", 48, "-o", folder, "--json")  # fmt: skip
    assert done.code == 0, done.err
    accuracy = json.loads(done.out)["accuracy"]
    assert accuracy["difference"]["value"] > -0.02
    assert "agreement with it" in done.err
    verdict = qspinn("validate", folder, "--samples", 3, "--data", pixels, "--json")
    assert json.loads(verdict.out)[0]["mismatch"] is None
    assert json.loads((folder / "manifest.json").read_text())["encoder"]["steps"] == 48


def test_explore(qspinn: Run, network: Path, pixels: Path, tmp_path: Path) -> None:
    done = qspinn("explore", network, "--target", "mcu", "--data", pixels, "--steps", 16,
                  "--max-drop", "3%", "-o", tmp_path / "o", "--evaluations", 12, "--try",
                  "weight=8,4", "--try", "membrane=16", "--try", "weight:rounding=nearest_even",
                  "--try", "scale=", "--try", "threshold=", "--try", "bias=")  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "o" / "plan.txt").exists()


def test_options_reach_the_conversion(qspinn: Run, network: Path, pixels: Path) -> None:
    done = qspinn("inspect", network, "--data", pixels, "--percentile", 95, "--balance", "channel",
                  "--initial", "zero", "--readout", "membrane_max").unwrapped()  # fmt: skip
    assert done.code == 0
    for word in ("percentile 95 of the activations of each channel", "zero given",
                 "membrane_max given"):  # fmt: skip
        assert word in done.err


@pytest.mark.parametrize("encode", ["direct", "rate", "phase"])
def test_a_row_is_what_a_run_of_so_many_steps_gives(
    network: Path, pixels: Path, encode: str
) -> None:
    """Of the float and of the integer program; measured here one by one."""
    from qspinn.backend import backend
    from qspinn.pipeline import lower

    job = jobs.prepare(network, pixels, encode={"kind": encode, "steps": 24})
    assert job.dataset is not None
    assert job.dataset.y is not None
    assert job.imported.reference is not None
    target = backend("mcu")
    final = lower(job.graph, jobs.plan_for(job, target), target).final
    index = job.dataset.part("select", 100)
    values = job.dataset.samples(index, job.graph.input.shape, encoded=False)
    wanted = job.imported.reference(values).argmax(1)
    for graph in (job.graph, final):
        table = stepwise(graph, job.imported.reference, job.dataset, job.encoder, steps=(3, 8),
                         samples=100)  # fmt: skip
        assert table is not None
        assert [row.steps for row in table.rows] == [3, 8, 24]
        for row in table.rows:
            encoder = replace(job.encoder, steps=row.steps)
            given = predictions(graph, job.dataset, encoder, index)
            assert row.agreement.value == (given == wanted).mean()
            assert row.accuracy is not None
            assert row.accuracy.value == (given == job.dataset.y[index]).mean()


def test_data_without_labels_tell_the_agreement(
    qspinn: Run, network: Path, pixels: Path, tmp_path: Path
) -> None:
    with np.load(pixels) as file:
        np.savez(tmp_path / "x.npz", x=file["x"], split=file["split"])
    done = qspinn("inspect", network, "--data", tmp_path / "x.npz", "--json")
    facts = json.loads(done.out)["steps"]
    assert facts["reference"] is None
    assert all(row["accuracy"] is None for row in facts["rows"])
    assert facts["rows"][-1]["agreement"]["value"] > 0.98


def test_values_in_bytes_are_scaled_by_the_gain(
    network: Path, pixels: Path, tmp_path: Path
) -> None:
    """Bytes of which 255 means 1, with the gain 1/255, are the network's own values."""
    with np.load(pixels) as file:
        x, y, split = np.rint(file["x"] * 255).astype(np.uint8), file["y"], file["split"]
    np.savez(tmp_path / "bytes.npz", x=x, y=y, split=split)
    np.savez(tmp_path / "reals.npz", x=x / 255.0, y=y, split=split)
    asked = {"steps": 16}
    made = [
        jobs.prepare(network, tmp_path / "bytes.npz", encode={**asked, "gain": 1 / 255}),
        jobs.prepare(network, tmp_path / "reals.npz", encode=asked),
    ]
    first, second = (job.graph[job.graph.nodes[2].name] for job in made)
    np.testing.assert_allclose(
        first.params()["threshold"].values, second.params()["threshold"].values, rtol=1e-9
    )
    assert all(job.stepwise is not None for job in made)
    assert made[0].stepwise == made[1].stepwise


@pytest.mark.slow
@pytest.mark.needs("gcc")
@pytest.mark.parametrize(
    "case", [cases.residual, cases.bias_for_each_neuron, cases.padded_pool, cases.one_dimension],
    ids=lambda case: case.__name__,
)  # fmt: skip
def test_every_kind_of_layer_is_proved(
    qspinn: Run, case: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    made = case(rng)
    path, data = of.save(tmp_path / "net.onnx", made), tmp_path / "x.npz"
    np.savez(data, x=cases.samples(rng, made, 40))
    folder = tmp_path / "out"
    common = ("--data", data, "--steps", 12)
    assert qspinn("compile", path, "--target", "mcu", *common, "-o", folder).code == 0
    done = qspinn("validate", folder, "--samples", 3, "--data", data, "--json")
    (verdict,) = json.loads(done.out)
    assert verdict["mismatch"] is None
    assert verdict["values"] > 0
