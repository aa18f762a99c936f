"""Live sinabs modules: the import is the network that sinabs runs, spike for spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_nets import (
    assert_same,
    assert_same_output,
    become_integers,
    in_double,
    lines,
    lively,
    spikes,
    tensor,
    trained,
)
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.live import load
from qspinn.frontends.live.modules import kind
from qspinn.ir import Neuron

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


# --- topologies ---


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["IAF", "IAF synapse", "LIF", "LIF synapse"])
def test_recurrent_neurons(sl: Any, rng: Any, name: str, bias: bool) -> None:
    """A bias of the feedback is absent in the first step, as sinabs starts from zeros behind it."""
    import torch
    from torch import nn

    kind = f"{name.split()[0]}Recurrent"
    made = getattr(sl, kind)(
        rec_connect=nn.Sequential(nn.Flatten(), nn.Linear(20, 20, bias=bias)),
        spike_threshold=torch.tensor(0.3125), **firing("single"), **NEURONS[name],
    )  # fmt: skip
    with torch.no_grad():
        made.rec_connect[1].weight.mul_(0.3)
    net = lively(nn.Sequential(nn.Linear(8, 20), made, nn.Linear(20, 12), neuron(sl, "LIF plain")))
    model, x = load(in_double(net)), spikes(rng, 8)
    with torch.no_grad():
        sent = net(tensor(x)).numpy()
    trace = assert_same_output(model, x, sent)
    # What sinabs records of a recurrent layer is overwritten in the next step; the last is not.
    last = made.v_mem.double().detach().numpy()
    np.testing.assert_allclose(trace.states["n1.v"][:, -1], last, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fires", ["single", "multi", "three"])
@pytest.mark.parametrize("name", NEURONS)
def test_a_reset_value_is_added_in_every_step(sl: Any, rng: Any, name: str, fires: str) -> None:
    from sinabs.activation import MembraneReset
    from torch import nn

    to = 0.0625
    options = {**firing(fires), "reset_fn": MembraneReset(to)}
    made = neuron(sl, name, **{**options, "fires": fires})
    net = in_double(lively(nn.Sequential(nn.Linear(8, 20), made)))
    model, x = load(net), spikes(rng, 8)
    sent, (membrane,) = simulated(net, x)
    assert_same(model, x, sent, [membrane - to])
    assert any("in every step" in line for line in lines(model))


@pytest.mark.parametrize("amount", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("fires", ["single", "multi", "three"])
@pytest.mark.parametrize("name", ["IAF floor", "LIF plain", "LIF synapse"])
def test_a_spike_may_take_more_or_less_than_the_threshold(
    sl: Any, rng: Any, name: str, fires: str, amount: float
) -> None:
    from sinabs.activation import MembraneSubtract
    from torch import nn

    made = neuron(sl, name, **{**firing(fires), "reset_fn": MembraneSubtract(amount)})
    net = lively(nn.Sequential(nn.Linear(8, 20), made), 1.5)
    model = check(net, spikes(rng, 8))
    assert "reset_step" in model.graph["n1"].values
    if amount < 0.3125 and fires == "multi":
        assert any("no bound was found" in line for line in lines(model))


@pytest.mark.needs("zig")
@pytest.mark.parametrize("adaptive", [False, True])
def test_these_models_become_integers(sl: Any, rng: Any, adaptive: bool) -> None:
    from sinabs.activation import MembraneSubtract
    from torch import nn

    made = neuron(sl, "LIF plain", **{**firing("three"), "reset_fn": MembraneSubtract(0.25)})
    if adaptive:
        options = {**NEURONS["LIF plain"], **firing("three"), "tau_adapt": 8.0}
        made = sl.ALIF(adapt_scale=0.5, **options)
    net = lively(nn.Sequential(nn.Linear(8, 20), made))
    become_integers(load(net), spikes(rng, 8).astype(int))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("fires", ["multi", "multi zero", "three", "single zero", "amount", "to"])
def test_adaptive_neurons_with_every_reset(sl: Any, rng: Any, fires: str, recurrent: bool) -> None:
    import torch
    from sinabs.activation import MembraneReset, MembraneSubtract
    from torch import nn

    options = {**NEURONS["LIF plain"], "tau_adapt": 8.0, "adapt_scale": 0.5}
    options |= firing(fires if fires not in ("amount", "to") else "multi")
    options |= {"reset_fn": MembraneSubtract(0.125)} if fires == "amount" else {}
    options |= {"reset_fn": MembraneReset(0.0625)} if fires == "to" else {}
    if recurrent:
        options["rec_connect"] = nn.Linear(20, 20, bias=False)
        options["rec_connect"].weight.data.mul_(0.3)
    made = (sl.ALIFRecurrent if recurrent else sl.ALIF)(
        spike_threshold=torch.tensor(0.25), **options
    )
    net, x = in_double(lively(nn.Sequential(nn.Linear(8, 20), made), 2.0)), spikes(rng, 8)
    model = load(net)
    with torch.no_grad():
        sent = net(tensor(x)).numpy()
    trace = assert_same_output(model, x, sent)
    shift = 0.0625 if fires == "to" else 0.0
    last = made.v_mem.double().detach().numpy() - shift
    # sinabs adapts in float32 where spikes are float32.
    np.testing.assert_allclose(trace.states["n1.v"][:, -1], last, rtol=1e-5, atol=1e-5)
    assert (sent.max() > 1) == (not fires.startswith("single"))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", ["LIF", "LIF synapse", "LIF alphas"])
def test_adaptive_neurons(sl: Any, rng: Any, name: str, recurrent: bool) -> None:
    import torch
    from torch import nn

    options = {"tau_adapt": 8.0, "adapt_scale": 0.5, **NEURONS[name], **firing("single")}
    if recurrent:
        options["rec_connect"] = nn.Linear(20, 20)
    made = (sl.ALIFRecurrent if recurrent else sl.ALIF)(
        spike_threshold=torch.tensor(0.25), **options
    )
    net = lively(nn.Sequential(nn.Linear(8, 20), made), 4.0)
    x = spikes(rng, 8)
    model = load(in_double(net))
    with torch.no_grad():
        sent = net(tensor(x)).numpy()
    # sinabs adapts in float32 where spikes are float32.
    assert 0.02 < sent.mean() < 0.9
    np.testing.assert_array_equal(interp.run(model.graph, x).output, sent)
    assert "adaptation" in model.graph["n1"].states


def test_a_trained_convolutional_network(sl: Any, rng: Any) -> None:
    """Squeezed neurons take time in the batch, as sinabs' own examples have it."""
    import torch
    from torch import nn

    def fires(name: str, size: int) -> Any:
        options = {"spike_threshold": torch.tensor(0.3125), **firing("multi"), **NEURONS[name]}
        return getattr(sl, f"{name.split()[0]}Squeeze")(batch_size=size, **options)

    net = lively(nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), fires("LIF alphas", 3),
        sl.SumPool2d(2), nn.Conv2d(4, 4, 2), fires("IAF floor", 3), nn.Dropout2d(0.1),
        nn.AvgPool2d(3), nn.Flatten(), nn.Linear(4, 12), fires("LIF alphas", 3),
    ))  # fmt: skip
    x = spikes(rng, 2, 10, 10)

    def run() -> Any:
        for module in net.modules():
            if kind(module).neurons is not None:
                module.reset_states()
        return net(tensor(x[:, :8]).float().flatten(0, 1))

    trained(net, run)
    for module in net.modules():
        if kind(module).neurons is not None:
            module.reset_states()
    flat = tensor(x).flatten(0, 1)
    model = load(in_double(net), flat)
    sent = net(flat).detach().numpy().reshape(3, -1, 12)
    assert_same_output(model, x, sent)
    assert model.graph.of_type(Neuron)[1].model.max_out > 1


def test_leaks_are_read_and_repeated_layers(sl: Any, rng: Any) -> None:
    import torch
    from torch import nn

    net = lively(nn.Sequential(
        sl.Repeat(nn.Conv2d(2, 3, 3)), neuron(sl, "LIF"), nn.Flatten(2), nn.Linear(48, 5),
        sl.ExpLeak(tau_mem=5.0, norm_input=True),
    ))  # fmt: skip
    x = spikes(rng, 2, 6, 6)
    model = load(in_double(net), tensor(x))
    with torch.no_grad():
        sent = net(tensor(x)).numpy()
    assert_same_output(model, x, sent)
    assert model.graph.output.readout == "membrane_last"


def test_counts_are_bounded(sl: Any, rng: Any) -> None:
    from sinabs.activation import MaxSpike
    from torch import nn

    net = nn.Sequential(nn.Linear(8, 4, bias=False), neuron(sl, "IAF"))
    with_torch_ones(net, 1.0)
    model = load(net)
    assert model.graph["n1"].model.max_out == 31  # 8 / 0.3125 and one more
    assert any("at most 31 spikes" in line for line in lines(model))
    assert load(net, max_spikes=3).graph["n1"].model.max_out == 3
    net[1].spike_fn = MaxSpike(5)
    with pytest.raises(FrontendError, match="at most 5 spikes"):
        load(net)
    with_torch_ones(net, 0.1)
    assert load(net).graph["n1"].model.max_out == 3


def with_torch_ones(net: Any, value: float) -> None:
    import torch

    with torch.no_grad():
        net[0].weight.fill_(value)


# --- refusals ---


def test_what_has_no_counterpart_is_refused(sl: Any) -> None:
    import torch
    from torch import nn

    for last, message in (
        (sl.ALIF(tau_mem=3.0, tau_adapt=9.0, adapt_scale=-1.0, **firing("multi")), "spike lowers"),
        (neuron(sl, "LIF", spike_fn=torch.relu), "fires by"),
        (neuron(sl, "LIF", spike_threshold=torch.tensor(0.0)), "threshold of 0"),
        (sl.ExpLeak(tau_mem=3.0, min_v_mem=-1.0), "min_v_mem"),
        (sl.NeuromorphicReLU(), "no exact counterpart"),
        (
            sl.LIFRecurrent(tau_mem=3.0, rec_connect=nn.Sequential(nn.Linear(20, 20), nn.ReLU())),
            "rec_connect is Linear, ReLU",
        ),
    ):
        with pytest.raises(FrontendError, match=message) as found:
            load(nn.Sequential(nn.Linear(8, 20), last))
        assert found.value.at == f"net.1 (sinabs.{type(last).__name__})"


# --- through files ---


@pytest.mark.needs("nirtorch")
@pytest.mark.filterwarnings("ignore:nirtorch.* is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["IAF floor", "LIF plain"])
def test_its_own_export_is_the_same_network(sl: Any, rng: Any, tmp_path: Path, name: str) -> None:
    """It has no place for norm_input, tau_syn, min_v_mem nor single spikes: those of import."""
    import nir
    import torch
    from sinabs.nir import to_nir
    from torch import nn

    each = {} if name == "IAF floor" else {"tau_mem": torch.full((20,), 6.0)}
    options = {
        **NEURONS[name], **firing("multi"), **each,
        "min_v_mem": -0.3125 if name == "IAF floor" else None,
        "spike_threshold": torch.full((20,), 0.3125),
    }  # fmt: skip
    kind = name.split()[0]
    net = lively(nn.Sequential(nn.Linear(8, 20), getattr(sl, kind)(**options)))
    squeezed = nn.Sequential(net[0], getattr(sl, f"{kind}Squeeze")(batch_size=1, **options))
    nir.write(tmp_path / "net.nir", to_nir(squeezed, torch.zeros(1, 8)))
    x = spikes(rng, 8)
    sent, _ = simulated(in_double(net), x)
    assert 0.02 < (sent > 0).mean() < 0.9
    # Norse writes counters alike, and leaky neurons in steps of 1 could be the bare equations'.
    given = {"dialect": "sinabs"} | ({"r_scale": "jump"} if name == "LIF plain" else {})
    file = load_model(tmp_path / "net.nir", **given)
    assert file.meta["dialect"] == "sinabs"
    np.testing.assert_array_equal(interp.run(file.graph, x).output, sent)
