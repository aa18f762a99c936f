"""Live Norse modules: the import is the network that Norse runs, spike for spike."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from live_nets import assert_same, in_double, lively, spikes, tensor
from qspinn.frontends.live import load

pytestmark = pytest.mark.needs("norse")


@pytest.fixture
def norse() -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        import norse.torch

    torch.manual_seed(6)
    return norse.torch


def simulated(net: Any, x: Any) -> tuple[Any, list[Any]]:
    """Norse's cells, called once a step with the state that they returned."""
    import torch

    sent, states, state = [], [], None
    with torch.no_grad():
        for now in tensor(x).unbind(1):
            out, state = net(now, state)
            sent.append(out.numpy().copy())
            seen = [getattr(s, "lif", s).v for s in state if s is not None]
            states.append([v.double().numpy() for v in seen])
    shapes = [np.broadcast_shapes(*(v.shape for v in vs)) for vs in zip(*states, strict=True)]
    membranes = [
        np.stack([np.broadcast_to(s[k], shape) for s in states], 1)
        for k, shape in enumerate(shapes)
    ]
    return np.stack(sent, 1), membranes


def check(net: Any, x: Any, **options: Any) -> Any:
    model = load(in_double(net), **options)
    assert_same(model, x, *simulated(net, x))
    return model


def parameters(norse: Any, **more: Any) -> Any:
    import torch

    values = {"tau_mem_inv": 150.0, "tau_syn_inv": 300.0, "v_th": 0.3, **more}
    return norse.LIFParameters(**{k: torch.as_tensor(v) for k, v in values.items()})


CELLS = ("LIFCell", "LIFBoxCell subtract", "LIFBoxCell", "IAFCell", "LIFRefracCell")


def cell(norse: Any, kind: str, **more: Any) -> Any:
    import torch
    from norse.torch.functional.reset import reset_subtract

    p = parameters(norse, **more)
    if kind.startswith("LIFBoxCell"):
        values = {"tau_mem_inv": p.tau_mem_inv, "v_th": p.v_th, "v_reset": p.v_reset}
        values |= {"v_leak": p.v_leak}
        values |= {"reset_method": reset_subtract} if "subtract" in kind else {}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**values))
    if kind == "IAFCell":
        return norse.IAFCell(norse.IAFParameters(v_th=p.v_th, v_reset=p.v_reset))
    if kind == "LIFRefracCell":
        return norse.LIFRefracCell(norse.LIFRefracParameters(p, torch.as_tensor(3.0)), dt=1e-3)
    return norse.LIFCell(p, dt=1e-3)


@pytest.mark.parametrize("rest", [{}, {"v_reset": -0.1, "v_leak": 0.05}], ids=["zero", "value"])
@pytest.mark.parametrize("kind", CELLS)
def test_every_neuron_and_reset(norse: Any, rng: Any, kind: str, rest: Any) -> None:
    from torch import nn

    net = lively(norse.SequentialState(
        nn.Linear(8, 20), cell(norse, kind, **rest), nn.Linear(20, 12), cell(norse, "LIFCell"),
    ))  # fmt: skip
    check(net, spikes(rng, 8))
