"""Live snnTorch modules: the import is the network that snnTorch runs, spike for spike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qspinn
from live_nets import (
    assert_same,
    assert_same_output,
    become_integers,
    in_double,
    lines,
    lively,
    quietly,
    spikes,
    steps_of,
    tensor,
    trained,
)
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends.live import load
from qspinn.ir import Delay, Neuron

pytestmark = [
    pytest.mark.needs("snntorch"),
    pytest.mark.filterwarnings("ignore:To copy construct:UserWarning"),
    pytest.mark.filterwarnings("ignore:nirtorch.* is being deprecated:DeprecationWarning"),
]

FULL = {
    "Leaky": {"beta": 0.85},
    "Lapicque": {"beta": 0.85, "R": 2.0},
    "Synaptic": {"alpha": 0.7, "beta": 0.85},
    "RLeaky": {"beta": 0.85, "linear_features": 20},
    "RSynaptic": {"alpha": 0.7, "beta": 0.85, "linear_features": 20},
    "Alpha": {"alpha": 0.85, "beta": 0.7},
}


@pytest.fixture
def snn() -> Any:
    """Modules keep their states in themselves, and a list of all modules there are."""
    return quietly("snntorch", seed=5)


def neuron(snn: Any, kind: str, **more: Any) -> Any:
    options = {"threshold": 0.9, "init_hidden": True, **FULL[kind], **more}
    return getattr(snn, kind)(**options)


def check(net: Any, x: Any, **options: Any) -> Any:
    model = load(in_double(net), **options)
    assert_same(model, x, *steps_of(net, x, lambda m: m.mem))
    return model


def full(snn: Any, kind: str, size: int, **more: Any) -> Any:
    """A value for every neuron: snnTorch's exporter fails where one stands for all (nir 1.0.8)."""
    import torch

    made = neuron(snn, kind, **more)
    for name in ("alpha", "beta", "threshold"):
        if not kind.startswith("R") and hasattr(made, name):
            setattr(made, name, torch.full((size,), float(getattr(made, name))))
    return made


def dense(snn: Any, kind: str, **more: Any) -> Any:
    from torch import nn

    return lively(nn.Sequential(
        nn.Linear(8, 20), neuron(snn, kind, **more),
        nn.Linear(20, 12), neuron(snn, "Leaky", threshold=0.2),
    ))  # fmt: skip


CASES = [
    (kind, reset, late)
    for kind in FULL
    for reset in ("subtract", "zero", "none")
    for late in (True, False)
    if late or kind not in ("Lapicque", "RSynaptic", "Alpha")
]


@pytest.mark.parametrize(("kind", "reset", "late"), CASES)
def test_every_neuron_and_reset(snn: Any, rng: Any, kind: str, reset: str, late: bool) -> None:
    more = {} if kind in ("Lapicque", "RSynaptic", "Alpha") else {"reset_delay": late}
    check(dense(snn, kind, reset_mechanism=reset, **more), spikes(rng, 8))


@pytest.mark.parametrize("v", [-0.4, "each"])
@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
def test_a_feedback_of_one_number_or_one_each(snn: Any, rng: Any, kind: str, v: Any) -> None:
    import torch

    given = torch.rand(20) - 0.7 if v == "each" else v
    more = {"all_to_all": False, "V": given, "linear_features": None}
    check(dense(snn, kind, **more), spikes(rng, 8))


def test_a_neuron_that_fires_as_it_moves(snn: Any, rng: Any) -> None:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.out = nn.Linear(8, 20), nn.Linear(20, 12)
            self.hidden = snn.DeltaLeaky(0.4, beta=0.85, init_hidden=True)
            self.last = neuron(snn, "Leaky", threshold=0.2)

        def forward(self, x: Any) -> Any:
            spk, _ = self.hidden(self.fc(x))
            return self.last(self.out(spk))

    net, x = in_double(lively(Net())), spikes(rng, 8)
    model = load(net, tensor(x[:, 0]))
    net.hidden.reset_mem()
    assert_same(model, x, *steps_of(net, x, lambda m: m.mem))


@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize("beta", [0.7, "each"])
def test_a_membrane_that_nothing_resets(snn: Any, rng: Any, beta: Any, fires: bool) -> None:
    """It takes all steps at once."""
    import torch
    from torch import nn

    value = torch.rand(20) * 0.5 + 0.4 if beta == "each" else beta
    made = snn.StateLeaky(value, 20, threshold=0.9, output=fires)
    net, x = in_double(lively(nn.Sequential(nn.Linear(8, 20), made))), spikes(rng, 8)
    over_time = tensor(x.swapaxes(0, 1))
    model, sent = load(net, over_time), net(over_time)
    spk, mem = (v.detach().numpy().swapaxes(0, 1) for v in (sent if fires else (sent, sent)))
    assert_same(model, x, spk, [mem])
    short = nn.Sequential(nn.Linear(8, 20), snn.StateLeaky(0.7, 20, kernel_truncation_steps=5))
    with pytest.raises(FrontendError, match="after 5 steps"):
        load(short, over_time)


@pytest.mark.parametrize("fires", [True, False])
def test_linear_leaky_neurons(snn: Any, rng: Any, fires: bool) -> None:
    from torch import nn

    made = snn.LinearLeaky(0.8, 8, 20, threshold=0.5, output=fires)
    net, x = in_double(lively(nn.Sequential(made))), spikes(rng, 8)
    model, sent = load(net), net(tensor(x.swapaxes(0, 1)))
    spk, mem = (v.detach().numpy().swapaxes(0, 1) for v in (sent if fires else (sent, sent)))
    assert_same(model, x, spk, [mem])


@pytest.mark.parametrize("beta", [0.85, None, "each"])
@pytest.mark.parametrize("kind", ["LeakyParallel", "LeakyKernel"])
def test_rectified_neurons(snn: Any, rng: Any, kind: str, beta: Any) -> None:
    """Without a beta, snnTorch draws decays of both signs."""
    import torch
    from torch import nn

    Kind = getattr(__import__(f"snntorch._neurons.{kind.lower()}", fromlist=[kind]), kind)
    each = 0.85 if beta == "each" else beta
    first = Kind(8, 20, beta=each, threshold=0.4, learn_beta=True, graded_spikes_factor=1.5)
    if beta == "each":
        first.rnn.weight_hh_l0.data.copy_(torch.diag(torch.linspace(-0.4, 0.9, 20)))
    second = Kind(20, 12, beta=0.7, threshold=torch.linspace(0.1, 0.5, 12), bias=False)
    net, x = nn.Sequential(first, nn.Dropout(0.1), second).double().eval(), spikes(rng, 8)
    for module in (first, second):  # it sends spikes of float32
        module.spike_grad = lambda over: (over > 0).double()
        module.rnn.weight_ih_l0.data.mul_(2.5)
    over_time = tensor(x.swapaxes(0, 1))
    middle = first(over_time)
    membranes = [first.rnn(over_time)[0], second.rnn(middle)[0]]
    seen = [m.detach().numpy().swapaxes(0, 1) for m in membranes]
    assert all((m == 0).mean() > 0.01 for m in seen), "nothing was cut at zero"
    model = load(net)
    assert_same(model, x, net(over_time).detach().numpy().swapaxes(0, 1), seen)
    assert ("turn" in model.graph.of_type(Neuron)[0].values) == (beta != 0.85)


def test_membranes_that_are_coupled_are_refused(snn: Any) -> None:
    with pytest.raises(FrontendError, match=r"380 values .* beside its diagonal"):
        load(snn.LeakyParallel(8, 20, weight_hh_enable=True))


# --- topologies ---


def run_over(net: Any, x: Any) -> Any:
    """The mean output of a network of snnTorch's hidden states over all steps."""
    import torch
    from snntorch import utils

    utils.reset(net)
    return torch.stack([net(now) for now in x.unbind(1)]).mean(0)


def test_a_trained_convolutional_network(snn: Any, rng: Any) -> None:
    from snntorch import utils
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4),
        neuron(snn, "Leaky", learn_beta=True, learn_threshold=True),
        nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Conv2d(4, 6, 3, stride=2, padding="valid"), nn.AvgPool2d(1),
        neuron(snn, "Synaptic", learn_alpha=True, threshold=0.1), nn.Flatten(),
        nn.Linear(24, 10), neuron(snn, "Leaky", threshold=0.1, reset_mechanism="zero"),
    )  # fmt: skip
    x = spikes(rng, 2, 10, 10)
    # In float32, as snnTorch keeps its resets: else it rounds what it subtracts.
    trained(lively(net), lambda: run_over(net, tensor(x[:, :8]).float()))
    utils.reset(net)
    model = check(net, x, sample_input=tensor(x[:, 0]))
    assert any("folded into" in line for line in lines(model))


@pytest.mark.parametrize("kind", ["RLeaky", "RSynaptic"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_recurrence_one_to_one_and_by_convolution(
    snn: Any, rng: Any, kind: str, reset: str
) -> None:
    import torch
    from torch import nn

    none = {"linear_features": None, "reset_mechanism": reset}
    net = lively(nn.Sequential(
        nn.Conv2d(2, 3, 3), neuron(snn, kind, conv2d_channels=3, kernel_size=3, **none),
        nn.Flatten(), nn.Linear(48, 12),
        neuron(snn, kind, all_to_all=False, V=torch.rand(12) - 0.7, **none),
    ))  # fmt: skip
    x = spikes(rng, 2, 6, 6)
    check(net, x, sample_input=tensor(x[:, 0]))


def test_parameters_of_every_neuron_and_graded_spikes(snn: Any, rng: Any) -> None:
    import torch
    from torch import nn

    beta, theta = torch.rand(20) * 0.5 + 0.6, torch.rand(20) + 0.2  # some are above 1: clamped
    net = lively(nn.Sequential(
        nn.Linear(8, 20), neuron(snn, "Leaky", beta=beta, threshold=theta, learn_beta=True,
                                 graded_spikes_factor=0.75),
        nn.Linear(20, 12), neuron(snn, "Leaky", threshold=0.2),
    ))  # fmt: skip
    model = check(net, spikes(rng, 8))
    assert model.graph["n1"].values["decay"].values.max() == 1.0


@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_membranes_are_read_where_nothing_resets_them(snn: Any, rng: Any, kind: str) -> None:
    from torch import nn

    net = lively(nn.Sequential(
        nn.Linear(8, 20), neuron(snn, "Leaky"),
        nn.Linear(20, 5), neuron(snn, kind, reset_mechanism="none"),
    ))  # fmt: skip
    x = spikes(rng, 8)
    model = load(in_double(net), readout="membrane_last")
    _, membranes = steps_of(net, x, lambda m: m.mem)
    assert_same(model, x, membranes[-1], membranes)
    with pytest.raises(FrontendError, match="does not read spikes"):
        load(dense(snn, "Leaky"), readout="membrane_max")


# --- forward passes of one's own ---


def looping(snn: Any, first: str = "loop") -> Any:
    """The tutorials' network: states in the loop, a feedback, both recordings returned."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleList([nn.Linear(8, 20), nn.Linear(20, 12), nn.Linear(12, 20)])
            self.lif1 = snn.Leaky(beta=0.85, threshold=0.9)
            self.lif2 = snn.Synaptic(0.6, 0.85, threshold=0.3, reset_mechanism="zero")
            self.seen: list[int] = []

        def forward(self, x: Any) -> Any:
            mem1 = self.lif1.init_leaky()
            syn2, mem2 = self.lif2.init_synaptic()
            last = torch.zeros(x.shape[1], 12, dtype=x.dtype)
            spikes, membranes = [], []
            for now in x:
                self.seen.append(len(self.seen))
                into = self.body[0](now.flatten(1)) + self.body[2](last)
                spk1, mem1 = self.lif1(torch.relu(into) if first == "relu" else into, mem1)
                spk2, syn2, mem2 = self.lif2(self.body[1](spk1), syn2, mem2)
                last = spk2 if first != "constant" else spk2 + 1
                spikes.append(spk2)
                membranes.append(mem2)
            return torch.stack(spikes), torch.stack(membranes)

    return lively(Net())


def test_a_loop_over_time_with_feedback(snn: Any, rng: Any) -> None:
    net, x = in_double(looping(snn)), spikes(rng, 2, 4)
    model = load(net, tensor(x[:1, :4].swapaxes(0, 1)))
    spk, mem = (v.detach().numpy().swapaxes(0, 1) for v in net(tensor(x.swapaxes(0, 1))))
    trace = interp.run(model.graph, x)
    assert 0.02 < spk.mean() < 0.9
    np.testing.assert_array_equal(trace.output, spk)
    np.testing.assert_allclose(trace.states["lif2.v"], mem, rtol=1e-9, atol=1e-9)


def test_a_module_is_left_as_it_was(snn: Any, rng: Any) -> None:
    import torch

    net, x = looping(snn), torch.ones(4, 2, 8)
    net.train()
    net(x)[0].sum().backward()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    mem, grads = net.lif1.mem, [p.grad.clone() for p in net.parameters()]
    seen, hidden, draw = list(net.seen), mem.detach().clone(), torch.get_rng_state()
    load(net, x)
    assert (net.training, net.lif1.training, net.seen) == (True, True, seen)
    assert net.lif1.mem is mem
    assert torch.equal(mem, hidden)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), draw)
    assert not [*net.lif1._forward_hooks, *net.lif1._forward_pre_hooks]


@pytest.mark.parametrize(
    ("first", "message"),
    [("relu", "reads relu of body.0, body.2"), ("constant", "a sum with a constant")],
)
def test_what_stands_between_modules_is_refused(snn: Any, first: str, message: str) -> None:
    import torch

    with pytest.raises(FrontendError, match=message) as found:
        load(looping(snn, first), torch.ones(4, 2, 8))
    assert "net." in found.value.at


def test_one_step_shows_no_feedback(snn: Any) -> None:
    import torch

    with pytest.raises(FrontendError, match="one step of time"):
        load(looping(snn), torch.ones(1, 2, 8))
    with pytest.raises(FrontendError, match="run to see") as found:
        load(looping(snn))
    assert "sample_input" in found.value.hint


# --- refusals ---


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("Leaky", {"state_quant": lambda v: v}, "state_quant"),
        ("Leaky", {"inhibition": True}, "inhibition"),
        ("Leaky", {"spike_grad": lambda v: v.sigmoid()}, "no step"),
        ("RSynaptic", {"reset_delay": False}, "never applies"),
        ("Leaky", {"threshold": -1.0, "reset_delay": False}, "negative threshold"),
    ],
)
@pytest.mark.filterwarnings("ignore:Inhibition:UserWarning")
def test_what_has_no_counterpart_is_refused_by_path(
    snn: Any, kind: str, more: Any, message: str
) -> None:
    from torch import nn

    net = nn.Sequential(nn.Sequential(nn.Linear(8, 20), neuron(snn, kind, **more)))
    with pytest.raises(FrontendError, match=message) as found:
        load(net)
    assert found.value.at == f"net.0.1 (snn.{kind})"


def test_layers_without_counterpart(snn: Any) -> None:
    from torch import nn

    gated = snn.SLSTM(20, 10, init_hidden=True)
    for last, where, why in (
        (gated, "net.1 (snn.SLSTM)", "counterpart in qspinn: its gates"),
        (nn.ReLU(), "net.1 (nn.ReLU)", "no exact counterpart"),
    ):
        with pytest.raises(FrontendError, match=why) as found:
            load(nn.Sequential(nn.Linear(8, 20), last))
        assert found.value.at == where
        assert found.value.hint


def test_a_subclass_that_behaves_otherwise_is_no_leaky(snn: Any) -> None:
    from torch import nn

    class Mine(snn.Leaky):  # type: ignore[misc, name-defined]
        def _base_state_function(self, input_: Any) -> Any:
            return super()._base_state_function(2 * input_)

    class Named(snn.Leaky):  # type: ignore[misc, name-defined]
        """Another name."""

    options = {"beta": 0.9, "init_hidden": True}
    assert load(nn.Sequential(nn.Linear(8, 20), Named(**options)))
    with pytest.raises(FrontendError):
        load(nn.Sequential(nn.Linear(8, 20), Mine(**options)))


# --- behind the import, and through files ---


@pytest.mark.needs("zig")
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("Leaky", {"reset_delay": False}), ("Leaky", {"reset_mechanism": "none"}),
        ("Alpha", {"reset_mechanism": "zero"}), ("Alpha", {"reset_mechanism": "subtract"}),
    ],
)  # fmt: skip
def test_models_that_no_file_has_become_integers(snn: Any, rng: Any, kind: str, more: Any) -> None:
    become_integers(load(dense(snn, kind, **more)), spikes(rng, 8).astype(int))


@pytest.mark.needs("zig")
def test_rectified_neurons_become_integers(snn: Any, rng: Any) -> None:
    net = snn.LeakyParallel(8, 20, threshold=0.2)  # decays of both signs
    become_integers(load(net), spikes(rng, 8).astype(int))


@pytest.mark.needs("nirtorch")
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "RLeaky", "RSynaptic"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_its_own_export_says_all_but_the_reset(
    snn: Any, rng: Any, tmp_path: Path, kind: str, reset: str
) -> None:
    import nir
    from snntorch.export_nir import export_to_nir
    from torch import nn

    net = lively(nn.Sequential(nn.Linear(8, 20), full(snn, kind, 20, reset_mechanism=reset)))
    x = spikes(rng, 8)
    nir.write(tmp_path / "net.nir", export_to_nir(net, tensor(x[0, 0]).float()))
    live = load(in_double(net))
    sent, _ = steps_of(net, x, lambda m: m.mem)
    assert 0.02 < sent.mean() < 0.9
    np.testing.assert_array_equal(interp.run(live.graph, x).output, sent)
    file = qspinn.load(tmp_path / "net.nir", dialect="snntorch", reset=reset)
    assert file.meta["dialect"] == "snntorch"
    np.testing.assert_array_equal(interp.run(file.graph, x).output, sent)


@pytest.mark.needs("nirtorch")
def test_a_network_that_nirtorch_made(snn: Any, rng: Any) -> None:
    from snntorch.export_nir import export_to_nir
    from snntorch.import_nir import import_from_nir
    from torch import nn

    made = lively(nn.Sequential(
        nn.Linear(8, 20), full(snn, "Leaky", 20), nn.Linear(20, 12), full(snn, "Leaky", 12)
    ))  # fmt: skip
    graph = export_to_nir(made, tensor(spikes(rng, 8)[0, 0]).float())
    net, x = in_double(import_from_nir(graph)), spikes(rng, 8)
    model = qspinn.load(net, tensor(x[:, 0]))
    sent = []
    state = None
    for now in tensor(x).unbind(1):
        out, state = net(now, state)
        sent.append(out.detach().numpy())
    assert_same_output(model, x, np.stack(sent, 1))


# --- what a run cannot show is refused ---


def passing(snn: Any, forward: Any) -> Any:
    """A network of one step whose forward pass is ``forward(net, x)``."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.back = nn.Linear(8, 20), nn.Linear(20, 20)
            self.lif = snn.Synaptic(0.6, 0.85, threshold=0.3)
            self.states = self.lif.init_synaptic()
            self.last: Any = None

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return lively(Net())


def backwards(net: Any, x: Any) -> Any:
    spk, syn, mem = net.lif(net.fc(x), *net.states)
    net.states = (mem, syn)
    return spk


def forgetful(net: Any, x: Any) -> Any:
    return net.lif(net.fc(x), *net.lif.init_synaptic())[0]


def membranes_back(net: Any, x: Any) -> Any:
    import torch

    last = torch.zeros(len(x), 20) if net.last is None else net.last
    now = net.fc(x) + net.back(last)
    spk, syn, net.last = net.lif(now, *net.states)
    net.states = (syn, net.last)
    return spk


def deciding(net: Any, x: Any) -> Any:
    spk, *net.states = net.lif(net.fc(x), *net.states)
    return spk if spk.sum() > 2 else spk * 0


def twice(net: Any, x: Any) -> Any:
    spk, *net.states = net.lif(net.fc(x), *net.states)
    spk, *net.states = net.lif(net.back(spk), *net.states)
    return spk


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (backwards, "in another order"),
        (forgetful, "its state in step 1"),
        (membranes_back, "reads output 2 of net.lif"),
        (deciding, "takes values out"),
        (twice, "in one run"),
    ],
)
def test_what_a_run_cannot_show_is_refused(snn: Any, forward: Any, message: str) -> None:
    import torch

    with pytest.raises(FrontendError, match=message):
        load(passing(snn, forward), torch.ones(2, 8))


def test_a_state_that_the_module_keeps_itself(snn: Any, rng: Any) -> None:
    """Its last spikes come back, kept in an attribute between the calls."""
    import torch

    def kept(net: Any, x: Any) -> Any:
        last = torch.zeros(len(x), 20, dtype=x.dtype) if net.last is None else net.last
        net.last, *net.states = net.lif(net.fc(x) + net.back(last), *net.states)
        return net.last

    net, x = in_double(passing(snn, kept)), spikes(rng, 8)
    net.states = tuple(s.double() for s in net.states)
    model = load(net, tensor(x[:, 0]))
    assert net.last is None
    sent = np.stack([net(now).detach().numpy() for now in tensor(x).unbind(1)], 1)
    assert_same_output(model, x, sent)
    assert len(model.graph.of_type(Delay)) == 1


def test_several_results_need_a_choice(snn: Any) -> None:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Linear(8, 20), neuron(snn, "Leaky"))
            self.b = nn.Sequential(nn.Linear(20, 5), neuron(snn, "Leaky"))

        def forward(self, x: Any) -> Any:
            first = self.a(x)
            return first, self.b(first)

    with pytest.raises(FrontendError, match=r"2 modules: a\.1, b\.1") as found:
        load(Net(), torch.ones(1, 8))
    assert "output=" in found.value.hint
    assert load(Net(), torch.ones(1, 8), output="a.1").graph.output.inputs == ("a_1",)
    with pytest.raises(FrontendError, match="no module that ran"):
        load(Net(), torch.ones(1, 8), output="c")
