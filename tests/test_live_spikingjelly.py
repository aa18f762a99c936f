"""Live SpikingJelly modules: the import is the network that SpikingJelly runs, spike for spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_nets import (
    assert_same,
    assert_same_output,
    in_double,
    lively,
    spikes,
    steps_of,
    tensor,
    trained,
)
from mcu_builds import agrees
from qspinn import interp
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.live import load
from qspinn.frontends.live.modules import kind
from qspinn.ir import Delay, Linear
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize

pytestmark = pytest.mark.needs("spikingjelly")


@pytest.fixture
def sj() -> Any:
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    torch.manual_seed(7)

    class Parts:
        pass

    parts = Parts()
    parts.__dict__.update(functional=functional, layer=layer, neuron=neuron, surrogate=surrogate)
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
ONLINE = ("OTTTLIFNode", "SLTTLIFNode")
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


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("name", ONLINE)
def test_neurons_that_learn_online(sj: Any, rng: Any, name: str, reset: str) -> None:
    """What they keep beside the spikes is for training."""
    from torch import nn

    made = getattr(sj.neuron, name)(tau=3.0, v_threshold=0.25, v_reset=RESETS[reset])
    check(lively(nn.Sequential(nn.Linear(8, 20), made), 5.0).eval(), spikes(rng, 8))


@pytest.mark.parametrize("k", [0.6, 1.3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("decayed", [False, True])
@pytest.mark.parametrize("reset", [0.0, 0.15, None])
def test_rectified_membranes(
    sj: Any, rng: Any, reset: Any, decayed: bool, scaled: bool, k: float
) -> None:
    import torch
    from torch import nn

    made = sj.neuron.KLIFNode(scaled, tau=3.0, decay_input=decayed, v_threshold=0.25, v_reset=reset)
    made.k = nn.Parameter(torch.tensor(k))
    net = in_double(lively(nn.Sequential(nn.Linear(8, 20), made), 5.0))
    model, x = load(net), spikes(rng, 8)
    sent, (membrane,) = steps_of(net, x, lambda m: m.v)
    assert_same(model, x, sent, [membrane * (float(made.k.detach()) if scaled else 1.0)])


@pytest.mark.needs("zig")
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("reset", RESETS)
def test_resonating_membranes(sj: Any, rng: Any, reset: str, mode: str) -> None:
    from torch import nn

    made = sj.neuron.RAFNode(
        b=-0.3, omega=0.6, dt=1.0, v_threshold=0.25, v_reset=RESETS[reset], step_mode=mode,
        store_v_seq=mode == "m",
    )  # fmt: skip
    model = check(lively(nn.Sequential(nn.Linear(8, 20), made), 4.0), spikes(rng, 8), mode)
    x = spikes(rng, 8).astype(int)
    graph, mcu = canonicalize(model.graph), backend("mcu")
    program = mcu.legalize(quantize(graph, default_plan(mcu, graph, observe(graph, x))))
    agrees(program, x, "host")
    assert (interp.run(program, x).output != interp.run(model.graph, x).output).mean() < 0.05


# --- topologies ---


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_trained_convolutional_network(sj: Any, rng: Any, mode: str) -> None:
    import torch
    from torch import nn

    net = lively(nn.Sequential(
        sj.layer.Conv2d(2, 4, 3, padding=1, bias=False), sj.layer.BatchNorm2d(4),
        neuron(sj, "ParametricLIFNode"), sj.layer.MaxPool2d(2), sj.layer.Dropout(0.1),
        sj.layer.Conv2d(4, 4, 3, padding="same"), neuron(sj, "ParametricLIFNode", "subtract"),
        sj.layer.AvgPool2d(5), sj.layer.Flatten(), sj.layer.Linear(4, 12), neuron(sj, "IFNode"),
    ), 4.0)  # fmt: skip
    sj.functional.set_step_mode(net, mode)
    x = spikes(rng, 2, 10, 10)

    def run() -> Any:
        sj.functional.reset_net(net)
        over_time = tensor(x[:, :8]).float()
        if mode == "m":
            return net(over_time.transpose(0, 1)).mean(0)
        return torch.stack([net(now) for now in over_time.unbind(1)]).mean(0)

    trained(net, run)
    sj.functional.reset_net(net)
    for module in net.modules():
        if kind(module).neurons is not None:
            module.store_v_seq = mode == "m"
    sample = tensor(x[:, 0]) if mode == "s" else tensor(x.swapaxes(0, 1))
    check(net, x, mode, sample_input=sample)


def test_containers_over_time_and_recurrence(sj: Any, rng: Any) -> None:
    from torch import nn

    inner = neuron(sj, "IFNode")
    net = lively(nn.Sequential(
        sj.layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)),
        neuron(sj, "LIFNode", mode="m"),
        sj.layer.SeqToANNContainer(nn.Flatten(), nn.Linear(48, 20)),
        neuron(sj, "LIFNode", mode="m"),
        sj.layer.MultiStepContainer(nn.Linear(20, 16), neuron(sj, "IFNode", "value")),
        sj.layer.LinearRecurrentContainer(inner, 16, 16, step_mode="m"),
    ), 4.0).eval()  # fmt: skip
    x = spikes(rng, 2, 6, 6)
    over_time = tensor(x.swapaxes(0, 1))
    model = load(in_double(net), over_time)
    sent = net(over_time).detach().numpy().swapaxes(0, 1)
    assert_same_output(model, x, sent)
    assert len(model.graph.of_type(Delay)) == 1


@pytest.mark.parametrize("decode", [None, "max-mem"])
@pytest.mark.parametrize("leaky", [True, False])
def test_membranes_and_votes_are_read(sj: Any, rng: Any, decode: Any, leaky: bool) -> None:
    from torch import nn

    last = sj.neuron.NonSpikingLIFNode(3.0) if leaky else sj.neuron.NonSpikingIFNode()
    last.decode = decode
    net = lively(nn.Sequential(nn.Linear(8, 20), neuron(sj, "LIFNode", mode="m"), nn.Linear(20, 5)))
    whole = in_double(nn.Sequential(*net, last))
    x = spikes(rng, 8)
    model = load(whole)
    wanted = "membrane_max" if decode else "membrane_last"
    assert model.graph.output.readout == wanted
    last.decode = None
    sent = np.stack([v.detach().numpy() for v in whole(tensor(x).transpose(0, 1))], 1)
    assert_same_output(model, x, sent)

    voting = nn.Sequential(nn.Linear(8, 20), neuron(sj, "IFNode"), sj.layer.VotingLayer(4))
    output = load(voting).graph.output
    assert (output.readout, output.labels) == ("vote", tuple(k // 4 for k in range(20)))


def test_half_a_threshold_and_a_forward_pass_of_its_own(sj: Any, rng: Any) -> None:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(8, 20), nn.Linear(8, 20)
            self.hidden = sj.neuron.HalfThresholdIFNode(0.5)
            self.out = nn.Sequential(nn.Linear(20, 12), neuron(sj, "LIFNode"))

        def forward(self, x: Any) -> Any:
            return self.out(self.hidden(self.left(x) + self.right(x)))

    net, x = in_double(lively(Net())), spikes(rng, 8)
    model = load(net, tensor(x[:, 0]))
    assert_same(model, x, *steps_of(net, x, lambda m: m.v))
    assert len(model.graph.of_type(Linear)) == 3


# --- refusals ---


def test_what_has_no_counterpart_is_refused(sj: Any) -> None:
    from torch import nn

    primitive = sj.neuron.LIFNode(surrogate_function=sj.surrogate.Sigmoid(spiking=False))
    for last, message in (
        (primitive, "no step"),
        (sj.neuron.RAFNode(omega=2.0, dt=1.0), "turns by 2 a step"),
        (sj.neuron.QIFNode(), "counterpart in qspinn: its membrane is squared"),
        (sj.neuron.KLIFNode(v_reset=-0.5), "v_reset=-0.5 and k=1: its membrane is cut"),
        (sj.neuron.ComplementaryLIFNode(), "no exact counterpart"),
        (sj.layer.WSLinear(20, 4), "standardizes its weights"),
    ):
        with pytest.raises(FrontendError, match=message) as found:
            load(nn.Sequential(nn.Linear(8, 20), last))
        assert found.value.at == f"net.1 (spikingjelly.{type(last).__name__})"
    mixed = nn.Sequential(neuron(sj, "IFNode", mode="m"), neuron(sj, "IFNode"))
    with pytest.raises(FrontendError, match="takes all steps at once"):
        load(mixed)
    plain = nn.Sequential(neuron(sj, "IFNode", mode="m"), nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(FrontendError, match="takes in the time and the batch"):
        load(plain, tensor(np.zeros((4, 1, 2, 4))))


# --- through files ---


@pytest.mark.needs("nirtorch")
@pytest.mark.parametrize("reset", ["zero", "value"])
@pytest.mark.parametrize("name", NEURONS)
def test_its_own_export_is_the_same_network(
    sj: Any, rng: Any, tmp_path: Path, name: str, reset: str
) -> None:
    """Hard resets only: NIR has no other, and its exporter says so."""
    from spikingjelly.activation_based.nir_exchange import export_to_nir
    from torch import nn

    net = lively(nn.Sequential(nn.Linear(8, 20), neuron(sj, name, reset)), 4.0)
    x = spikes(rng, 8)
    export_to_nir(net, tensor(x[:, 0]).float(), tmp_path / "net.nir")
    sj.functional.reset_net(net)
    sent, _ = steps_of(in_double(net), x, lambda m: m.v)
    assert 0.02 < sent.mean() < 0.95
    file = load_model(tmp_path / "net.nir", dialect="spikingjelly")
    np.testing.assert_array_equal(interp.run(file.graph, x).output, sent)


def test_a_residual_pass_over_all_steps(sj: Any, rng: Any) -> None:
    """Containers inside a forward pass of its own, and a sum of two branches into neurons."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = sj.layer.SeqToANNContainer(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
            self.first = neuron(sj, "IFNode", mode="m")
            self.branch = sj.layer.Conv2d(3, 3, 3, padding=1, step_mode="m")
            self.skip = sj.layer.Conv2d(3, 3, 1, step_mode="m")
            self.second = neuron(sj, "LIFNode", mode="m")
            self.out = nn.Sequential(
                nn.Flatten(2), nn.Linear(108, 12), neuron(sj, "IFNode", mode="m")
            )

        def forward(self, x: Any) -> Any:
            x = self.first(self.stem(x))
            return self.out(self.second(self.branch(x) + self.skip(x)))

    net, x = in_double(lively(Net(), 4.0).eval()), spikes(rng, 2, 6, 6)
    over_time = tensor(x.swapaxes(0, 1))
    model = load(net, over_time)
    sj.functional.reset_net(net)
    assert_same_output(model, x, net(over_time).detach().numpy().swapaxes(0, 1))
    assert len(model.graph["second"].inputs) == 2
