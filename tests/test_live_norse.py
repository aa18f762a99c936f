"""Live Norse modules: the import is the network that Norse runs, spike for spike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_nets import (
    assert_same,
    assert_same_output,
    in_double,
    lively,
    quietly,
    spikes,
    tensor,
    trained,
)
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.live import load
from qspinn.ir import Delay, Neuron, Param

pytestmark = pytest.mark.needs("norse")


@pytest.fixture
def norse() -> Any:
    return quietly("norse.torch", seed=6)


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


def adapting(norse: Any, **rest: Any) -> Any:
    import torch

    values = {"tau_mem_inv": 150.0, "tau_syn_inv": 300.0, "tau_adapt_inv": 80.0, "v_th": 0.2,
              "beta": 0.15, **rest}  # fmt: skip
    return norse.LSNNParameters(**{k: torch.as_tensor(v) for k, v in values.items()})


@pytest.mark.parametrize("rest", [{}, {"v_reset": -0.1, "v_leak": 0.05}], ids=["zero", "value"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_adaptive_thresholds(norse: Any, rng: Any, recurrent: bool, rest: Any) -> None:
    from torch import nn

    p = adapting(norse, **rest)
    made = norse.LSNNRecurrentCell(20, 20, p) if recurrent else norse.LSNNCell(p)
    first = nn.Linear(8, 20)
    net = lively(norse.SequentialState(first, made, nn.Linear(20, 12), cell(norse, "LIFCell")), 4.0)
    if recurrent:  # it has a matrix of its own, and the input of spikes
        net = lively(norse.SequentialState(
            norse.LSNNRecurrentCell(8, 20, p), nn.Linear(20, 12), cell(norse, "LIFCell")
        ), 4.0)  # fmt: skip
        net[0].input_weights.data.mul_(4.0)
    model = check(net, spikes(rng, 8))
    adapted = next(n for n in model.graph.of_type(Neuron) if "adaptation" in n.states)
    still = replace(adapted, values={**adapted.values, "adaptation_step": Param(np.zeros(()))})
    nodes = tuple(still if n is adapted else n for n in model.graph.nodes)
    x = spikes(rng, 8)
    without = interp.run(replace(model.graph, nodes=nodes), x).output
    assert (without != interp.run(model.graph, x).output).mean() > 0.01, "it adapts to nothing"


def test_adaptive_thresholds_over_all_steps(norse: Any, rng: Any) -> None:
    from torch import nn

    net = lively(norse.SequentialState(
        norse.Lift(nn.Linear(8, 20)), norse.LSNN(adapting(norse)),
        norse.LSNNRecurrent(20, 12, adapting(norse)),
    ), 4.0)  # fmt: skip
    net[2].input_weights.data.mul_(4.0)
    x = spikes(rng, 8)
    over_time = tensor(x.swapaxes(0, 1))
    model = load(in_double(net), over_time)
    assert_same_output(model, x, net(over_time)[0].detach().numpy().swapaxes(0, 1))


# --- topologies ---


@pytest.mark.parametrize("rest", [{}, {"v_reset": -0.1, "v_leak": 0.05}], ids=["zero", "value"])
@pytest.mark.parametrize("refractory", [False, True])
def test_recurrent_cells(norse: Any, rng: Any, refractory: bool, rest: Any) -> None:
    import torch
    from torch import nn

    p = parameters(norse, **rest)
    if refractory:
        p = norse.LIFRefracParameters(p, torch.as_tensor(2.0))
    made = (norse.LIFRefracRecurrentCell if refractory else norse.LIFRecurrentCell)(8, 20, p)
    net = norse.SequentialState(made, nn.Linear(20, 12), cell(norse, "LIFCell"))
    model = check(lively(net, 4.0), spikes(rng, 8))
    assert "n0_back" in model.graph.by_name


@pytest.mark.parametrize("kind", ["LICell", "LIBoxCell", "LILinearCell"])
def test_integrators_are_read(norse: Any, rng: Any, kind: str) -> None:
    from torch import nn

    p = {"LIBoxCell": norse.LIBoxParameters}.get(kind, norse.LIParameters)()
    last = norse.LILinearCell(20, 5, p) if kind == "LILinearCell" else getattr(norse, kind)(p)
    middle = nn.Identity() if kind == "LILinearCell" else nn.Linear(20, 5)
    net = lively(norse.SequentialState(nn.Linear(8, 20), cell(norse, "LIFCell"), middle, last))
    model = check(net, spikes(rng, 8), readout="membrane_max")
    assert model.graph.output.readout == "membrane_max"


def learning(norse: Any) -> Any:
    """A convolutional network whose time constants and thresholds are learned, too."""
    import torch
    from torch import nn

    def p() -> Any:
        return norse.LIFParameters(
            tau_mem_inv=nn.Parameter(torch.tensor(150.0)), v_th=nn.Parameter(torch.tensor(0.2))
        )

    class Cell(norse.LIFCell):  # type: ignore[misc, name-defined]
        """norse keeps its parameters out of torch's sight."""

    net = norse.SequentialState(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), Cell(p()), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, groups=2), Cell(p()), nn.Flatten(), nn.Linear(16, 12), Cell(p()),
    )  # fmt: skip
    for name, module in net.named_children():
        if isinstance(module, Cell):
            net.register_parameter(f"tau{name}", module.p.tau_mem_inv)
            net.register_parameter(f"theta{name}", module.p.v_th)
    return lively(net, 4.0)


def test_a_trained_convolutional_network(norse: Any, rng: Any) -> None:
    import torch

    net, x = learning(norse), spikes(rng, 2, 10, 10)

    def run() -> Any:
        out, state = [], None
        for now in tensor(x[:, :10]).float().unbind(1):
            spk, state = net(now, state)
            out.append(spk)
        return torch.stack(out).mean(0)

    trained(net, run)
    check(net, x, sample_input=tensor(x[:, 0]))


def looped(norse: Any, kind: str) -> Any:
    """Networks whose output comes back in the next step, of 8 inputs."""
    from torch import nn

    one, two = cell(norse, "LIFCell"), cell(norse, "LIFBoxCell subtract")
    if kind == "one":  # a current and spikes meet at neurons
        return norse.SequentialState(nn.Linear(8, 20), norse.RecurrentSequential(one))
    if kind == "head":  # spikes meet in front of connections with biases
        return norse.RecurrentSequential(
            nn.Linear(8, 20), nn.BatchNorm1d(20), nn.Identity(), one, nn.Linear(20, 8), two
        )
    if kind == "middle":  # what follows the module that sends has no effect
        inner = norse.RecurrentSequential(
            nn.Linear(8, 8), one, nn.Linear(8, 3), two, output_modules=1
        )
        return norse.SequentialState(inner, nn.Linear(8, 12), cell(norse, "IAFCell"))
    if kind == "tail":  # a matrix between the neurons and what is added
        inner = norse.RecurrentSequential(one, nn.Linear(20, 20, bias=False))
        return norse.SequentialState(nn.Linear(8, 20), inner, two)
    if kind == "own":  # neurons with a matrix and a loop of their own
        inner = norse.RecurrentSequential(
            norse.LIFRecurrentCell(8, 8, parameters(norse)), cell(norse, "LIFRefracCell")
        )
        return norse.SequentialState(inner, nn.Linear(8, 12), two)
    inner = norse.RecurrentSequential(norse.RecurrentSequential(one), two)
    return norse.SequentialState(nn.Linear(8, 20), inner)


def membranes_of(state: Any) -> list[Any]:
    """The membranes in a state, in the order of the modules."""
    if hasattr(state, "v") or hasattr(state, "lif"):
        return [getattr(state, "lif", state).v.double().numpy()]
    parts = state.state if hasattr(state, "cache") else state if isinstance(state, list) else ()
    return [v for each in parts if each is not None for v in membranes_of(each)]


@pytest.mark.parametrize("kind", ["one", "head", "middle", "tail", "own", "nested"])
def test_what_is_sent_comes_back_in_the_next_step(norse: Any, rng: Any, kind: str) -> None:
    import torch

    net, x = in_double(lively(looped(norse, kind), 4.0)).eval(), spikes(rng, 8)
    for module in net.modules():
        if hasattr(module, "recurrent_weights"):
            module.input_weights.data.mul_(4.0)
            module.recurrent_weights.data.mul_(4.0)
    model = load(net)
    sent, seen, state = [], [], None
    with torch.no_grad():
        for now in tensor(x).unbind(1):
            out, state = net(now, state)
            sent.append(out.numpy())
            seen.append(membranes_of(state))
    membranes = [np.stack(steps, 1) for steps in zip(*seen, strict=True)]
    if kind == "middle":
        del membranes[1]
    assert_same(model, x, np.stack(sent, 1), membranes)
    delays = model.graph.of_type(Delay)
    assert len(delays) == (2 if kind in ("own", "nested") else 1)
    first = interp.run(model.graph, x[:, :1]).output
    np.testing.assert_array_equal(first, np.stack(sent, 1)[:, :1])


def test_loops_over_time_and_in_a_forward_pass(norse: Any, rng: Any) -> None:
    """Lifted, and one step a call with the state that it returned."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.loop = nn.Linear(8, 20), norse.RecurrentSequential(
                cell(norse, "LIFCell"), nn.Linear(20, 20, bias=False), cell(norse, "LIFBoxCell")
            )  # fmt: skip

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.loop(self.into(x), state)

    net, x = in_double(lively(Net(), 4.0)), spikes(rng, 8)
    model, over_time = load(net, tensor(x[:, 0])), tensor(x.swapaxes(0, 1))
    lifted = nn.Sequential(norse.Lift(net.into), norse.Lift(net.loop))
    with torch.no_grad():
        sent = lifted(over_time)[0].numpy().swapaxes(0, 1)
    assert_same_output(model, x, sent)
    again = load(lifted, over_time)
    assert_same_output(again, x, sent)
    assert len(model.graph.of_type(Delay)) == len(again.graph.of_type(Delay)) == 1


def test_all_steps_at_once(norse: Any, rng: Any) -> None:
    """norse's layers over time, and Lift for what takes single steps."""
    from torch import nn

    net = lively(norse.SequentialState(
        norse.Lift(nn.Conv2d(2, 3, 3)), norse.LIF(parameters(norse)), nn.Flatten(2),
        nn.Linear(48, 20), norse.LIFRecurrent(20, 12, parameters(norse)),
    ), 4.0)  # fmt: skip
    x = spikes(rng, 2, 6, 6)
    over_time = tensor(x.swapaxes(0, 1))
    model = load(in_double(net), over_time)
    assert_same_output(model, x, net(over_time)[0].detach().numpy().swapaxes(0, 1))
    with pytest.raises(FrontendError, match="takes in the time and the batch"):
        load(norse.SequentialState(norse.LIF(), nn.Flatten()), over_time)
    mixed = norse.SequentialState(norse.LIF(), norse.LIFCell())
    with pytest.raises(FrontendError, match="all steps at once"):
        load(mixed, over_time)


def test_a_forward_pass_with_states(norse: Any, rng: Any) -> None:
    """A module that takes one step, and its own state with a feedback from the step before."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.back = nn.Linear(8, 20), nn.Linear(12, 20, bias=False)
            self.hidden = cell(norse, "LIFCell")
            self.rest = norse.SequentialState(nn.Linear(20, 12), cell(norse, "LIFCell"))

        def forward(self, x: Any, state: Any = None) -> Any:
            last, first, second = state or (torch.zeros(len(x), 12, dtype=x.dtype), None, None)
            spk, first = self.hidden(self.into(x) + self.back(last), first)
            out, second = self.rest(spk, second)
            return out, (out, first, second)

    net, x = in_double(lively(Net(), 4.0)), spikes(rng, 8)
    model = load(net, tensor(x[:, 0]))
    sent, state = [], None
    for now in tensor(x).unbind(1):
        out, state = net(now, state)
        sent.append(out.detach().numpy())
    assert_same_output(model, x, np.stack(sent, 1))
    assert len(model.graph.of_type(Delay)) == 1


def test_the_current_of_older_versions_moves_the_membrane_late(norse: Any, rng: Any) -> None:
    """Before 1.1 the feed-forward step ended with its input."""
    from norse.torch.functional.threshold import threshold
    from torch import nn

    def step(x: Any, state: Any, p: Any, dt: float) -> Any:
        v = state.v + dt * p.tau_mem_inv * ((p.v_leak - state.v) + state.i)
        i = state.i - dt * p.tau_syn_inv * state.i
        z = threshold(v - p.v_th, p.method, p.alpha)
        return z, type(state)(v=(1 - z) * v + z * p.v_reset, i=i + x)

    older = cell(norse, "LIFCell")
    older.activation = step
    net = lively(norse.SequentialState(nn.Linear(8, 20), older))
    model = check(net, spikes(rng, 8))
    assert "current_decay" in model.graph["n1"].values
    now = load(norse.SequentialState(nn.Linear(8, 20), cell(norse, "LIFCell")))
    assert now.graph["n1"].model.ops != model.graph["n1"].model.ops


# --- refusals ---


def test_what_has_no_counterpart_is_refused(norse: Any) -> None:
    import torch
    from torch import nn

    slow = norse.LIFParameters(tau_mem_inv=torch.tensor(2000.0))
    odd = norse.LIFBoxParameters(reset_method=lambda z, v, r, t: v)
    logistic = norse.LIFParameters(method="logistic")
    for last, message in (
        (norse.LIFCell(slow), "exceeds a time constant"),
        (norse.LIFBoxCell(odd), "reset_value and reset_subtract are known"),
        (norse.LIFCell(logistic), "'logistic' is none of"),
        (norse.IzhikevichCell(norse.tonic_spiking), "counterpart in qspinn: its membrane is squ"),
        (norse.RecurrentSequential(norse.LICell()), "membranes of net.1.module.0 .norse.LICell"),
        (norse.RecurrentSequential(norse.LIF()), "all steps in one call"),
        (norse.RecurrentSequential(nn.Identity()), "has no neurons of its own"),
        (norse.RecurrentSequential(norse.LIFCell(), nn.Linear(20, 20)), "a Linear without bias"),
        (norse.RecurrentSequential(norse.LIFCell(), nn.Linear(20, 9, bias=False)), r"sent, .9,."),
        (
            norse.RecurrentSequential(norse.LIFCell(), norse.LIFCell(), output_modules=[0, 1]),
            "side by side",
        ),
    ):
        with pytest.raises(FrontendError, match=message) as found:
            load(norse.SequentialState(nn.Linear(8, 20), last))
        assert found.value.at == f"net.1 (norse.{type(last).__name__})"


# --- through files ---


@pytest.mark.needs("nirtorch")
@pytest.mark.filterwarnings("ignore:nirtorch.* is being deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["LIFCell", "LIFBoxCell", "IAFCell"])
@pytest.mark.parametrize(("scale", "dt"), [(1e-3, 1e-6), (1.0, 1e-3)])
def test_its_own_export_is_the_same_network(
    norse: Any, rng: Any, tmp_path: Path, kind: str, scale: float, dt: float
) -> None:
    """Its exporter multiplies time constants by its argument dt, 1e-3 where none is given."""
    import nir
    import torch
    from norse.torch.utils.export_nir import to_nir
    from torch import nn

    # nir 1.0.8 cannot write norse's scalars, so each neuron gets its own.
    each = {"tau_mem_inv": 150.0, "tau_syn_inv": 300.0, "v_th": 0.3, "v_leak": 0.0, "v_reset": 0.0}
    made = cell(norse, kind, **{name: [value] * 20 for name, value in each.items()})
    net = lively(norse.SequentialState(nn.Linear(8, 20), made))
    nir.write(tmp_path / "net.nir", to_nir(net, torch.zeros(8), dt=scale))
    x = spikes(rng, 8)
    sent, _ = simulated(in_double(net), x)
    assert 0.02 < sent.mean() < 0.9
    file = load_model(tmp_path / "net.nir", dialect="norse", dt=dt)
    np.testing.assert_array_equal(interp.run(file.graph, x).output, sent)
