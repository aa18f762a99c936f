"""Live Rockpool modules: the import is the network that Rockpool runs, spike for spike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_nets import assert_same_output, quietly, spikes, tensor
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.live import load
from qspinn.frontends.live.modules import kind
from qspinn.ir import Delay, Linear, Neuron

pytestmark = pytest.mark.needs("rockpool")


@pytest.fixture
def rp() -> Iterator[Any]:
    import torch

    quietly("rockpool", seed=9)
    modules = quietly("rockpool.nn.modules.torch", seed=9)
    modules.Sequential = quietly("rockpool.nn.combinators", seed=9).Sequential
    torch.set_default_dtype(torch.float64)  # of its recordings, which are its outputs, too
    try:
        yield modules
    finally:
        torch.set_default_dtype(torch.float32)


def neurons_of(net: Any) -> list[Any]:
    return [m for _, m in net.named_modules() if kind(m).neurons is not None]


class Doubled:
    """A spike function whose result is float64."""

    def __init__(self, made: Any) -> None:
        self.made, self.__self__ = made, made.__self__

    def __call__(self, *values: Any) -> Any:
        return self.made(*values).double()


def rest(net: Any) -> None:
    """Forget what the last run left."""
    for module in neurons_of(net):
        module.reset_state()


def in_double(net: Any) -> Any:
    """float64; Rockpool makes its spikes float32, whatever the rest is."""
    net.double()
    for module in neurons_of(net):
        if hasattr(module, "spike_generation_fn"):
            module.spike_generation_fn = Doubled(module.spike_generation_fn)
    return net


def check(net: Any, x: Any, **options: Any) -> Any:
    """Spikes exactly, membranes but for rounding."""
    model = load(net.double(), **options)
    sent, _, recorded = in_double(net)(tensor(x), record=True)
    trace = assert_same_output(model, x, sent.detach().numpy())
    seen = [v["vmem"] for v in recorded.values() if isinstance(v, dict) and "vmem" in v]
    made = model.graph.of_type(Neuron)
    for neuron, theirs in zip(made, seen, strict=True):
        ours = trace.states[f"{neuron.name}.v"]
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-9)
    return model


def layer(rp: Any, kind: str, size: int = 20, **more: Any) -> Any:
    import torch

    options = {"tau_mem": 0.006, "bias": 0.01, "threshold": 0.4, "dt": 1e-3, **more}
    if kind != "LIFNeuronTorch":
        options = {"tau_syn": 0.003, **options}
    if kind == "LIFBitshiftTorch":  # it sets its time constants anew
        options |= {"tau_mem": torch.full((size,), 0.008), "tau_syn": torch.full((size, 1), 0.004)}
    return getattr(rp, kind)(size, **options)


@pytest.mark.parametrize("most", [None, 1, 3])
@pytest.mark.parametrize("kind", ["LIFTorch", "LIFNeuronTorch", "LIFBitshiftTorch"])
def test_every_neuron_and_number_of_spikes(rp: Any, rng: Any, kind: str, most: Any) -> None:
    import torch

    more = {} if most is None else {"max_spikes_per_dt": torch.tensor(most)}
    made = layer(rp, kind, **more)
    net = rp.Sequential(
        rp.LinearTorch((8, 20)), made, rp.LinearTorch((20, 12), has_bias=True),
        layer(rp, "LIFTorch", 12, **more),
    )  # fmt: skip
    model = check(net, spikes(rng, 8))
    first = model.graph.of_type(Neuron)[0].model.max_out
    assert first == most if most else first > 1


@pytest.mark.parametrize("mode", ["decays", "bitshifts"])
def test_other_leaks_and_a_value_for_each_neuron(rp: Any, rng: Any, mode: str) -> None:
    import torch

    spread = torch.linspace(0.6, 0.9, 20)
    leaks = {"alpha": spread, "beta": spread[:, None].flip(0)}
    if mode == "bitshifts":
        leaks = {"dash_mem": torch.ones(20) * 3, "dash_syn": torch.ones(20, 1) * 2}
    made = rp.LIFTorch(20, leak_mode=mode, threshold=spread / 2, bias=spread / 30)
    for name, value in leaks.items():
        setattr(made, name, torch.nn.Parameter(value))
    check(rp.Sequential(rp.LinearTorch((8, 20)), made), spikes(rng, 8))


@pytest.mark.parametrize("most", [1, 7])
def test_recurrent_neurons(rp: Any, rng: Any, most: int) -> None:
    import torch

    limit = {"max_spikes_per_dt": torch.tensor(most)}
    made = layer(rp, "LIFTorch", has_rec=True, w_rec=torch.randn(20, 20) * 0.1 - 0.05, **limit)
    net = rp.Sequential(rp.LinearTorch((8, 20)), made, rp.LinearTorch((20, 5)), layer(
        rp, "LIFTorch", 5, **limit
    ))  # fmt: skip
    model = check(net, spikes(rng, 8))
    (delay,) = model.graph.of_type(Delay)
    assert delay.high == most


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_synapses_that_decay_alike_are_one(rp: Any, rng: Any, each: bool, recurrent: bool) -> None:
    import torch

    tau = torch.linspace(0.002, 0.01, 20)[:, None].repeat(1, 2) if each else 0.003
    options = {"tau_mem": 0.006, "tau_syn": tau, "bias": 0.01, "threshold": 0.4, "dt": 1e-3}
    if recurrent:
        options |= {"has_rec": True, "w_rec": torch.randn(20, 40) * 0.1 - 0.05}
    made = rp.LIFTorch((40, 20), **options, max_spikes_per_dt=torch.tensor(7))
    net = rp.Sequential(rp.LinearTorch((8, 40), has_bias=True), made)
    model = check(net, spikes(rng, 8))
    assert model.graph.of_type(Linear)[0].weight.values.shape == (20, 8)


def test_currents_are_read(rp: Any, rng: Any) -> None:
    net = rp.Sequential(
        rp.LinearTorch((8, 20)), layer(rp, "LIFTorch"), rp.LinearTorch((20, 5)),
        rp.ExpSynTorch(5, tau=0.004, dt=1e-3),
    )  # fmt: skip
    x = spikes(rng, 8)
    model = load(net.double())
    net[3].isyn = net[3].isyn.double()
    sent = in_double(net)(tensor(x))[0].detach().numpy()
    ours = interp.run(model.graph, x).output
    np.testing.assert_allclose(ours, sent, rtol=1e-9, atol=1e-9)
    assert model.graph.output.readout == "membrane_last"


def test_a_trained_network_in_a_module_of_its_own(rp: Any, rng: Any) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.hidden = rp.LinearTorch((8, 20)), layer(rp, "LIFTorch")
            self.out = rp.Sequential(rp.LinearTorch((20, 12)), layer(rp, "LIFNeuronTorch", 12))

        def forward(self, x: Any) -> Any:
            x, _, _ = self.into(x)
            x, _, _ = self.hidden(x)
            return self.out(x)[0]

    net, x = in_double(Net()), spikes(rng, 8)
    learned = [p for _, p in net.named_parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learned]
    optimizer = torch.optim.Adam(learned, lr=1e-4)
    for _ in range(3):
        rest(net)
        optimizer.zero_grad()
        ((net(tensor(x[:, :20])).mean(1) - 0.3) ** 2).mean().backward()
        optimizer.step()
    assert any(not torch.equal(p, old) for p, old in zip(learned, before, strict=True))
    rest(net)
    model = load(net, tensor(x))
    assert_same_output(model, x, net(tensor(x)).detach().numpy())


def test_what_has_no_counterpart_is_refused(rp: Any) -> None:
    import torch

    unequal = rp.LIFTorch((40, 20), tau_syn=torch.tensor([[0.002, 0.02]]).repeat(20, 1))
    for last, message in (
        (layer(rp, "LIFTorch", noise_std=0.1), "adds noise of 0.1"),
        (layer(rp, "LIFTorch", threshold=0.0), "threshold of 0"),
        (unequal, "2 synapses a neuron whose currents decay differently"),
        (rp.RateTorch(20), "counterpart in qspinn: it sends values"),
    ):
        size = 40 if "synapses" in message else 20
        with pytest.raises(FrontendError, match=message) as found:
            load(rp.Sequential(rp.LinearTorch((8, size)), last))
        assert found.value.at == f"net.1_{type(last).__name__} (rockpool.{type(last).__name__})"


@pytest.mark.needs("nirtorch")
@pytest.mark.filterwarnings("ignore:nirtorch.* is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["LIFTorch", "LIFNeuronTorch"])
def test_its_own_export_is_the_same_network(rp: Any, rng: Any, tmp_path: Path, kind: str) -> None:
    """It leaves out biases of neurons, recurrent weights and limits of spikes."""
    import nir
    from rockpool.nn.modules.torch.nir import to_nir

    net = in_double(rp.Sequential(rp.LinearTorch((8, 20)), layer(rp, kind, bias=0.0)))
    nir.write(tmp_path / "net.nir", to_nir(net))
    x = spikes(rng, 8)
    file = load_model(tmp_path / "net.nir")
    assert (file.meta["dialect"], file.meta["dt"]) == ("rockpool", 1e-3)
    rest(net)
    sent = net(tensor(x))[0].detach().numpy()
    assert 0.02 < (sent > 0).mean() < 0.95
    out = interp.run(file.graph, x[:, :, None]).output  # its input has the batch in its shape
    np.testing.assert_array_equal(out, sent)
