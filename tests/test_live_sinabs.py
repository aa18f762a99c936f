"""Live sinabs modules: the import is the network that sinabs runs, spike for spike."""

from __future__ import annotations

from typing import Any

import pytest

from live_nets import assert_same, in_double, lively, spikes, tensor
from qspinn.frontends.live import load
from qspinn.frontends.live.modules import kind

pytestmark = pytest.mark.needs("sinabs")


@pytest.fixture
def sl() -> Any:
    import torch
    from sinabs import layers

    torch.manual_seed(8)
    return layers


def simulated(net: Any, x: Any) -> tuple[Any, list[Any]]:
    """All steps in one call, (batch, time, ...)."""
    import torch

    watched = [m for m in net.modules() if kind(m).neurons is not None]
    for module in watched:
        module.record_states = True
        module.reset_states()
    with torch.no_grad():
        sent = net(tensor(x)).numpy()
    return sent, [m.recordings["v_mem"].double().numpy() for m in watched]


def check(net: Any, x: Any, **options: Any) -> Any:
    model = load(in_double(net), **options)
    assert_same(model, x, *simulated(net, x))
    return model


def firing(name: str) -> dict[str, Any]:
    from sinabs.activation import (
        MaxSpike,
        MembraneReset,
        MembraneSubtract,
        MultiSpike,
        SingleSpike,
    )

    fn = {"single": SingleSpike, "multi": MultiSpike, "three": MaxSpike(3)}[name.split()[0]]
    reset = MembraneReset() if name.endswith("zero") else MembraneSubtract()
    return {"spike_fn": fn, "reset_fn": reset}


FIRING = ("multi", "multi zero", "single", "single zero", "three")
NEURONS = {
    "IAF": {},
    "IAF floor": {"min_v_mem": -0.3},
    "IAF synapse": {"tau_syn": 3.0},
    "LIF": {"tau_mem": 6.0},
    "LIF plain": {"tau_mem": 6.0, "norm_input": False, "min_v_mem": -0.2},
    "LIF synapse": {"tau_mem": 6.0, "tau_syn": 3.0},
    "LIF alphas": {"tau_mem": 6.0, "tau_syn": 3.0, "train_alphas": True},
}


def neuron(sl: Any, name: str, fires: str = "multi", **more: Any) -> Any:
    import torch

    # sinabs multiplies spikes by the threshold in float32, whatever the rest is.
    options = {"spike_threshold": torch.tensor(0.3125), **firing(fires), **NEURONS[name], **more}
    return getattr(sl, name.split()[0])(**options)


@pytest.mark.parametrize("fires", FIRING)
@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_and_reset(sl: Any, rng: Any, name: str, fires: str) -> None:
    from torch import nn

    net = lively(nn.Sequential(
        nn.Linear(8, 20), neuron(sl, name, fires), nn.Linear(20, 12), neuron(sl, "LIF plain"),
    ))  # fmt: skip
    check(net, spikes(rng, 8))
