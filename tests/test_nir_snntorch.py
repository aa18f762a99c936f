"""Import against snnTorch itself: its neurons, exported by its own rules, spike by spike."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nirfiles as nf
from qspinn import interp
from qspinn.frontends import load_model

DT = 1e-4
SIZE, STEPS, BATCH = 20, 60, 4
ALPHA, BETA, THETA = 0.7, 0.85, 0.9

pytestmark = pytest.mark.needs("snntorch")


def tau(decay: float) -> float:
    return DT / (1 - decay)


def exported(kind: str, w: Any, b: Any, v: Any, c: Any) -> tuple[dict[str, Any], Any]:
    """What snntorch.export_nir writes (it needs nirtorch, which is not installed)."""
    mem = {"r": tau(BETA) / DT}
    size = SIZE if kind.startswith("R") else ()  # one value stands for all
    if "Synaptic" in kind:
        cell = nf.cuba(
            size, syn=tau(ALPHA), mem=tau(BETA), w_in=tau(ALPHA) / DT, v_threshold=THETA, **mem
        )
    else:
        cell = nf.lif(size, tau=tau(BETA), theta=THETA, **mem)
    if kind.startswith("R"):
        inside = {
            "input": nf.inlet(SIZE), "lif": cell, "w_rec": nf.affine(v, c),
            "output": nf.outlet(SIZE),
        }  # fmt: skip
        edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
        cell = {"type": "NIRGraph", "nodes": inside, "edges": edges}
    nodes = {"input": nf.inlet(8), "0": nf.affine(w, b), "1": cell, "output": nf.outlet(SIZE)}
    return nodes, None


def tensor(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def layer(
    kind: str, reset: str, x: Any, w: Any, b: Any, v: Any, c: Any, alpha: Any = ALPHA,
    beta: Any = BETA, theta: Any = THETA,
) -> Any:  # fmt: skip
    """Spikes of a Linear (w, b) and an snnTorch neuron with recurrent weights (v, c)."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import snntorch as snn

    more = {"threshold": tensor(theta), "reset_mechanism": reset, "beta": tensor(beta)}
    if "Synaptic" in kind:
        more["alpha"] = tensor(alpha)
    if kind.startswith("R"):
        more["linear_features"] = len(w)
    cell = getattr(snn, kind)(**more)
    if kind.startswith("R"):
        cell = cell.double()
        with torch.no_grad():
            cell.recurrent.weight.copy_(tensor(v))
            cell.recurrent.bias.copy_(tensor(c))
    spikes, states = [], ()
    with torch.no_grad():
        for now in (tensor(x) @ tensor(w).T + tensor(b)).unbind(1):
            spike, *rest = cell(now, *states)
            spikes.append(spike.numpy())
            states = (spike.double(), *rest) if kind.startswith("R") else tuple(rest)
    return np.stack(spikes, 1).astype(float)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "RLeaky", "RSynaptic"])
def test_spikes_equal_snntorch(kind: str, reset: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    x = rng.integers(0, 2, (BATCH, STEPS, 8)).astype(float)
    w, b = rng.normal(0.02, 0.4, (SIZE, 8)), rng.normal(0, 0.1, SIZE)
    v, c = rng.normal(-0.1, 0.3, (SIZE, SIZE)), rng.normal(0, 0.05, SIZE)
    nodes, edges = exported(kind, w, b, v, c)
    model = load_model(nf.write(tmp_path / "net.nir", nodes, edges), reset=reset)
    assert model.meta["dialect"] == "snntorch"

    ours = interp.run(model.graph, x).output
    theirs = layer(kind, reset, x, w, b, v, c)
    assert 0.05 < theirs.mean() < 0.6
    np.testing.assert_array_equal(ours, theirs)


def test_an_immediate_reset_is_another_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    x = rng.integers(0, 2, (BATCH, STEPS, 8)).astype(float)
    w = rng.normal(0.1, 0.5, (SIZE, 8))
    zero = np.zeros(SIZE)
    nodes, edges = exported("Synaptic", w, zero, w, zero)
    path = nf.write(tmp_path / "net.nir", nodes, edges)
    theirs = layer("Synaptic", "zero", x, w, zero, w, zero)
    ours = interp.run(load_model(path, reset="zero", reset_timing="at_spike").graph, x).output
    assert (ours != theirs).mean() > 0.05


@pytest.mark.parametrize(
    ("name", "reset"),
    [("braille_noDelay_bias_zero", "zero"), ("braille_noDelay_noBias_subtract", "subtract")],
)
def test_braille_is_the_network_that_was_trained(name: str, reset: str, models: Path) -> None:
    """The decays come from the parameters beside the file, so dt / tau is checked as well."""
    path = models / "nir" / f"{name}.nir"
    trained = json.loads(path.with_suffix(".json").read_text())
    x = np.random.default_rng(13).integers(0, 2, (3, 80, 12)).astype(float)
    with h5py.File(path) as file:
        nodes = file["node/nodes"]
        (w1, b1), (v, c), (w2, b2) = (
            (nodes[n]["weight"][()], nodes[n]["bias"][()] if "bias" in nodes[n] else 0.0)
            for n in ("fc1", "lif1.w_rec", "fc2")
        )
    hidden = layer("RSynaptic", reset, x, w1, b1, v, c, trained["alpha_r"], trained["beta_r"], 1.0)
    theirs = layer(
        "Synaptic",
        reset,
        hidden,
        w2,
        b2,
        None,
        None,
        trained["alpha_out"],
        trained["beta_out"],
        1.0,
    )
    trace = interp.run(load_model(path, reset=reset).graph, x)
    assert 0.02 < theirs.mean() < 0.6
    np.testing.assert_array_equal(trace.output, theirs)
