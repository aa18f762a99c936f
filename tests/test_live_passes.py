"""Forward passes and containers that a graph could say wrongly: read exactly, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from live_nets import (
    assert_same,
    assert_same_output,
    in_double,
    lines,
    lively,
    quietly,
    spikes,
    steps_of,
    tensor,
)
from qspinn import interp
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.errors import FrontendError
from qspinn.frontends.live import load
from qspinn.ir import Linear, Neuron
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize

pytestmark = [
    pytest.mark.needs("snntorch"),
    pytest.mark.filterwarnings("ignore:To copy construct:UserWarning"),
]


@pytest.fixture
def snn() -> Any:
    return quietly("snntorch", seed=5)


def lif(snn: Any) -> Any:
    return snn.Leaky(beta=0.85, threshold=0.3, init_hidden=True)


def passing(snn: Any, forward: Any) -> Any:
    """A network of one step whose forward pass is ``forward(net, x)``."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 5), nn.Linear(8, 5)
            self.lif = lif(snn)

        def forward(self, x: Any) -> Any:
            return forward(self, x)

    return lively(Net())


# --- modules that stand in several places ---


def test_a_layer_in_two_places_shares_its_weights(snn: Any, rng: Any) -> None:
    from torch import nn

    shared = nn.Linear(5, 5)
    net = lively(nn.Sequential(shared, lif(snn), shared, lif(snn)))
    x = spikes(rng, 5)
    model = load(in_double(net))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])
    assert len(model.graph.of_type(Linear)) == len(model.graph.of_type(Neuron)) == 2


def test_a_pooling_in_two_places(snn: Any, rng: Any) -> None:
    from torch import nn

    pool = nn.AvgPool2d(2)
    net = lively(nn.Sequential(
        pool, nn.Conv2d(1, 2, 1), lif(snn), pool, nn.Conv2d(2, 3, 1), lif(snn)
    ))  # fmt: skip
    x = spikes(rng, 1, 8, 8)
    model = load(in_double(net), tensor(x[:, 0]))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])
    assert model.graph.of_type(Neuron)[-1].shape == (3, 2, 2)


def test_neurons_in_two_places_are_refused(snn: Any) -> None:
    from torch import nn

    block = nn.Sequential(nn.Linear(5, 5), lif(snn))
    with pytest.raises(FrontendError, match=r"one state for two places: it is net\.0\.1") as found:
        load(nn.Sequential(block, block))
    assert found.value.at == "net.1.1 (snn.Leaky)"
    assert "its own" in found.value.hint


# --- values that stand side by side, or were changed in place ---


def assigned(net: Any, x: Any) -> Any:
    h = net.a(x)
    h[:, 1:] = 0.0
    return net.lif(h)


def averaged(net: Any, x: Any) -> Any:
    import torch

    return net.lif(torch.stack([net.a(x), net.b(x)]).mean(0))


def joined(net: Any, x: Any) -> Any:
    import torch

    return net.lif(torch.cat([net.a(x), net.b(x)], 1))


def filled(net: Any, x: Any) -> Any:
    import torch

    h = torch.zeros(len(x), 5)
    h[:, :] = net.a(x)
    return net.lif(h)


def zeroed(net: Any, x: Any) -> Any:
    h = net.a(x)
    h[:, 1:].zero_()
    return net.lif(h)


def viewed(net: Any, x: Any) -> Any:
    h = net.a(x)
    h.view(-1).mul_(2)
    return net.lif(h)


def of_data(net: Any, x: Any) -> Any:
    h = net.a(x)
    h.data.mul_(2)
    return net.lif(h)


def data_set(net: Any, x: Any) -> Any:
    h = net.a(x)
    h.data = net.b(x)
    return net.lif(h)


def added_to_a_view(net: Any, x: Any) -> Any:
    h = net.a(x)
    part = h.detach()
    part += net.b(x)
    return net.lif(h)


def rectified(net: Any, x: Any) -> Any:
    import torch

    h = net.a(x)
    torch.nn.functional.relu(h.detach(), inplace=True)
    return net.lif(h)


def written_out(net: Any, x: Any) -> Any:
    import torch

    h = net.a(x)
    torch.add(net.a.bias, net.b(x), out=h)
    return net.lif(h)


def into_a_buffer(net: Any, x: Any) -> Any:
    import torch

    h = torch.zeros(len(x), 5)
    part = h[:]
    part += net.b(x)
    return net.lif(net.a(x) + h)


def as_integers(net: Any, x: Any) -> Any:
    import torch

    return net.lif(net.a(x).to(torch.int32).float())


def part_of_what_is_sent(net: Any, x: Any) -> Any:
    sent = net.lif(net.a(x))
    sent[:, 1:] = 0
    return sent


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (assigned, "reads an assignment to a part of a"),
        (averaged, r"values side by side \(cat, stack, assignment\) of a, b"),
        (joined, r"a cat along dimension 1, which mixes 5 elements with it, of a, b"),
        (filled, r"values side by side \(cat, stack, assignment\) of a"),
        (zeroed, "reads an in-place zero of a"),
        (viewed, "reads an in-place mul of a"),
        (of_data, "reads an in-place mul of a"),
        (data_set, "reads an in-place data of a"),
        (added_to_a_view, "reads an in-place add of a"),
        (rectified, "reads an in-place relu of a"),
        (written_out, "reads add with out= of"),
        (into_a_buffer, "reads an in-place add of"),
        (as_integers, "reads a cast to integers of a"),
        (part_of_what_is_sent, "returns an assignment to a part of what lif sent"),
    ],
)
def test_what_a_graph_cannot_say_is_refused(snn: Any, forward: Any, message: str) -> None:
    import torch

    with pytest.raises(FrontendError, match=message) as found:
        load(passing(snn, forward), torch.ones(2, 8))
    assert found.value.at.startswith("net")


def of_anothers_type(net: Any, x: Any) -> Any:
    """The tensor that gives its type or shape is no summand."""
    other = net.b(x)
    h = net.a(x).type_as(other).view_as(other)
    return net.lif(h)


def test_a_tensor_that_gives_its_type_is_not_read(snn: Any, rng: Any) -> None:
    net, x = in_double(passing(snn, of_anothers_type)), spikes(rng, 8)
    model = load(net, tensor(x[:, 0]))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])
    assert len(model.graph.of_type(Linear)) == 1


# --- what a pass over time returns ---


def recording(snn: Any, what: str, **more: Any) -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(8, 5), snn.Leaky(beta=0.85, threshold=0.3, **more)

        def forward(self, x: Any) -> Any:
            mem, sent, seen = self.lif.init_leaky(), [], []
            filled = torch.zeros(len(x), x.shape[1], 5, dtype=x.dtype)
            for step, now in enumerate(x):
                spk, mem = self.lif(self.fc(now), mem)
                if what == "clamped":
                    mem[:, 1:] = 0
                filled[step] = spk
                sent.append(spk)
                seen.append(mem)
            if what == "mixed":
                return sent[-1] + seen[-1]
            if what == "rates":
                return torch.stack(sent).mean(-1)
            if what == "counts":
                return torch.stack(sent).sum(0)
            if what == "filled":
                return filled
            return torch.stack(seen if what == "mem" else sent)

    return lively(Net())


def test_returned_membranes_are_no_spikes(snn: Any, rng: Any) -> None:
    import torch

    x = torch.ones(4, 1, 8)
    with pytest.raises(FrontendError, match=r"returns a state of net\.lif") as found:
        load(recording(snn, "mem"), x)
    assert "readout=" in found.value.hint
    net = recording(snn, "mem", reset_mechanism="none")
    assert load(net, x, readout="membrane_last").graph.output.readout == "membrane_last"
    assert load(recording(snn, "mem"), x, output="lif").graph.output.readout == "count"


def test_a_state_that_is_changed_between_steps_is_refused(snn: Any) -> None:
    import torch

    with pytest.raises(FrontendError, match="its state in step 1 is not what it returned"):
        load(recording(snn, "clamped"), torch.ones(4, 1, 8))


@pytest.mark.parametrize(
    ("what", "message"),
    [("mixed", "a sum of spikes and states of lif"), ("rates", "over other dimensions than time")],
)
def test_what_is_returned_must_be_the_neurons_spikes(snn: Any, what: str, message: str) -> None:
    import torch

    with pytest.raises(FrontendError, match=message):
        load(recording(snn, what), torch.ones(4, 1, 8))
    assert load(recording(snn, "counts"), torch.ones(4, 1, 8)).graph.output.readout == "count"


@pytest.mark.parametrize("what", ["sent", "filled"])
def test_spikes_may_be_recorded_either_way(snn: Any, rng: Any, what: str) -> None:
    net, x = in_double(recording(snn, what)), spikes(rng, 8)
    model = load(net, tensor(x[:1, :4].swapaxes(0, 1)))
    sent = net(tensor(x.swapaxes(0, 1))).detach().numpy().swapaxes(0, 1)
    assert_same_output(model, x, np.asarray(sent))


# --- layers ---


def test_an_adaptive_pooling_that_keeps_a_dimension(snn: Any, rng: Any) -> None:
    from torch import nn

    net = lively(nn.Sequential(
        nn.Conv2d(1, 2, 3), lif(snn), nn.AdaptiveAvgPool2d((None, 1)), nn.Conv2d(2, 2, 1), lif(snn)
    ))  # fmt: skip
    x = spikes(rng, 1, 6, 8)
    model = load(in_double(net), tensor(x[:, 0]))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])
    assert model.graph.of_type(Neuron)[-1].shape == (2, 4, 1)


def test_a_flatten_in_front_of_neurons_goes_behind_them(snn: Any, rng: Any) -> None:
    """What each neuron has of its own is reshaped with them."""
    import torch
    from torch import nn

    beta, theta = torch.rand(32) * 0.5 + 0.4, torch.rand(32) * 0.5 + 0.2
    net = lively(nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Flatten(), snn.Leaky(beta, threshold=theta, init_hidden=True),
        nn.Linear(32, 12), lif(snn),
    ))  # fmt: skip
    x = spikes(rng, 1, 6, 6)
    model = load(in_double(net), tensor(x[:, 0]))
    sent, (first, second) = steps_of(net, x, lambda m: m.mem)
    assert_same(model, x, sent, [first.reshape(*first.shape[:2], 2, 4, 4), second])
    moved = model.graph["n2"]
    assert (moved.shape, moved.values["decay"].values.shape) == ((2, 4, 4), (2, 4, 4))
    assert any("moved behind its neurons" in line for line in lines(model))
    graph = canonicalize(model.graph)
    mcu, events = backend("mcu"), x.astype(int)
    plan = default_plan(mcu, graph, observe(graph, events))
    program = mcu.legalize(quantize(graph, plan))
    assert (interp.run(program, events).output != sent).mean() < 0.05


def test_a_flatten_at_the_end_goes_behind_the_last_neurons(snn: Any, rng: Any) -> None:
    from torch import nn

    net = lively(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), lif(snn)))
    x = spikes(rng, 1, 6, 6)
    model = load(in_double(net), tensor(x[:, 0]))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])


def test_branches_that_are_flattened_alike_are_summed_before(snn: Any, rng: Any) -> None:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)
            self.lif, self.fc, self.last = lif(snn), nn.Linear(32, 12), lif(snn)

        def forward(self, x: Any) -> Any:
            return self.last(self.fc(self.lif(self.a(x).flatten(1) + self.b(x).flatten(1))))

    net, x = in_double(lively(Net())), spikes(rng, 1, 6, 6)
    model = load(net, tensor(x[:, 0]))
    assert_same_output(model, x, steps_of(net, x, lambda m: m.mem)[0])


def test_a_flatten_of_currents_is_refused_by_its_path(snn: Any) -> None:
    """Beside another current, which is flat, it must stay where it is."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.flat = nn.Conv2d(1, 2, 3), nn.Linear(36, 32), nn.Flatten()
            self.lif = lif(snn)

        def forward(self, x: Any) -> Any:
            return self.lif(self.flat(self.a(x)) + self.b(x.flatten(1)))

    with pytest.raises(FrontendError, match=r"between a connection and its neurons, net\.lif") as e:
        load(Net(), torch.ones(1, 1, 6, 6))
    assert e.value.at == "net.flat"
    assert e.value.hint == "put nn.Flatten behind the neurons"


def joining(snn: Any, join: Any) -> Any:
    """A loop over time whose recording is joined by ``join``."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(8, 5), snn.Leaky(beta=0.85, threshold=0.3)

        def forward(self, x: Any) -> Any:
            mem, sent = self.lif.init_leaky(), []
            for now in x:
                spk, mem = self.lif(self.fc(now), mem)
                sent.append(spk)
            return join(sent)

    return lively(Net())


def test_steps_are_stacked_not_mixed_with_the_signal(snn: Any, rng: Any) -> None:
    import torch

    x = spikes(rng, 8)
    over_time = tensor(x.swapaxes(0, 1))
    apart = (
        torch.stack,
        lambda sent: torch.stack(sent, 1),
        lambda sent: torch.cat([spk.unsqueeze(1) for spk in sent], dim=1),
    )
    for join in apart:
        net = in_double(joining(snn, join))
        model = load(net, over_time)
        assert interp.run(model.graph, x).output.shape == (*x.shape[:2], 5)
    for dim in (1, -1):
        mixed = joining(snn, lambda sent, dim=dim: torch.cat(sent, dim))
        with pytest.raises(FrontendError, match=f"returns a cat along dimension {dim}") as error:
            load(mixed, over_time.float())
        assert "torch.stack" in error.value.hint
    with pytest.raises(FrontendError, match="along dimension 0, which mixes 3 elements"):
        load(joining(snn, torch.cat), over_time.float())


def test_sparse_tensors_beside_changes_in_place_are_refused(snn: Any) -> None:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(8, 5), lif(snn)

        def forward(self, x: Any) -> Any:
            thin = x.to_sparse()
            return self.lif(self.fc(thin.to_dense().mul_(1.0)))

    with pytest.raises(FrontendError, match=r"layout torch.sparse_coo, whose memory") as caught:
        load(Net(), torch.ones(1, 8))
    assert "strided" in caught.value.hint
