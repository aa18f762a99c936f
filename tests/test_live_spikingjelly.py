"""Live SpikingJelly modules: the import is the network that SpikingJelly runs, spike for spike."""

from __future__ import annotations

from typing import Any

import pytest

from live_nets import assert_same, in_double, lively, spikes, steps_of, tensor
from qspinn.frontends.live import load
from qspinn.frontends.live.modules import kind

pytestmark = pytest.mark.needs("spikingjelly")


@pytest.fixture
def sj() -> Any:
    import torch
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(7)

    class Parts:
        pass

    parts = Parts()
    parts.__dict__.update(functional=functional, layer=layer, neuron=neuron)
    return parts


def in_mode_m(net: Any, x: Any) -> tuple[Any, list[Any]]:
    """All steps in one call, (time, batch, ...)."""
    import torch

    watched = [m for m in net.modules() if kind(m).neurons is not None]
    with torch.no_grad():
        sent = net(tensor(x).transpose(0, 1)).transpose(0, 1).numpy()
    return sent, [m.v_seq.transpose(0, 1).double().numpy() for m in watched]


def check(net: Any, x: Any, mode: str = "s", **options: Any) -> Any:
    model = load(in_double(net), **options)
    theirs = in_mode_m(net, x) if mode == "m" else steps_of(net, x, lambda m: m.v)
    assert_same(model, x, *theirs)
    return model


NEURONS = {
    "IFNode": {},
    "LIFNode": {"tau": 3.0},
    "LIFNode undecayed": {"tau": 3.0, "decay_input": False},
    "ParametricLIFNode": {"init_tau": 2.5},
    "ParametricLIFNode undecayed": {"init_tau": 2.5, "decay_input": False},
    "CUBALIFNode": {"c_decay": 0.6, "v_decay": 0.8},
}
RESETS = {"zero": 0.0, "value": -0.15, "subtract": None}


def neuron(sj: Any, name: str, reset: str = "zero", mode: str = "s", **more: Any) -> Any:
    made = getattr(sj.neuron, name.split()[0])(
        v_threshold=0.25, v_reset=RESETS[reset], **NEURONS[name], **more
    )
    made.step_mode = mode
    made.store_v_seq = mode == "m"
    return made


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_reset_and_mode(sj: Any, rng: Any, name: str, reset: str, mode: str) -> None:
    from torch import nn

    net = lively(nn.Sequential(
        nn.Linear(8, 20), neuron(sj, name, reset, mode),
        nn.Linear(20, 12), neuron(sj, "LIFNode", mode=mode),
    ), 5.0)  # fmt: skip
    check(net, spikes(rng, 8), mode)
