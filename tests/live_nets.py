"""Live networks beside their imports: what the framework computes, neuron by neuron."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from mcu_builds import agrees
from qspinn import interp
from qspinn.backend import backend, default_plan
from qspinn.calibrate import observe
from qspinn.frontends.live.modules import kind
from qspinn.frontends.report import Imported
from qspinn.ir import Neuron
from qspinn.passes.canonicalize import canonicalize
from qspinn.passes.quantize import quantize

Array = np.ndarray[Any, Any]
STEPS = 60


def doubled(value: Any) -> Any:
    """Tensors as float64, in whatever holds them: frameworks send spikes as float32."""
    if hasattr(value, "double"):
        return value.double()
    if hasattr(value, "_fields"):
        return type(value)(*(doubled(v) for v in value))
    if isinstance(value, (tuple, list)):
        return type(value)(doubled(v) for v in value)
    return value


def in_double(net: Any) -> Any:
    """The network with float64 parameters and float64 signals."""
    net.double()
    for module in net.modules():
        if kind(module).neurons is not None:
            module.register_forward_hook(lambda m, i, o: doubled(o))
        if kind(module).layer is not None:  # inside recurrent neurons
            module.register_forward_pre_hook(lambda m, i: doubled(i))
    return net


def lively(net: Any, factor: float = 2.5) -> Any:
    """The network with stronger connections than torch's own, so that its neurons fire."""
    import torch

    with torch.no_grad():
        for module in net.modules():
            if type(module).__name__ in ("Linear", "Conv1d", "Conv2d"):
                module.weight.mul_(factor)
    return net


def spikes(rng: np.random.Generator, *shape: int, rate: float = 0.4, steps: int = STEPS) -> Array:
    """Random spikes, (batch, steps, *shape)."""
    return (rng.random((3, steps, *shape)) < rate).astype(float)


def tensor(values: Array) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def quietly(name: str, seed: int) -> Any:
    """A framework, whatever it warns of when it is imported; torch's draws start anew."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        framework = import_module(name)
    torch.manual_seed(seed)
    return framework


def steps_of(net: Any, x: Array, membrane: Callable[[Any], Any], **of: Any) -> tuple[Array, Any]:
    """Call ``net`` once a step; its outputs, and the membranes of its neurons, (batch, steps, ...).

    Where ``net`` returns a tuple, its first member is the output and the last its next state.
    """
    import torch

    watched = [m for m in net.modules() if kind(m).neurons is not None]
    sent, seen, state = [], [[] for _ in watched], of.get("state", ())
    with torch.no_grad():
        for now in tensor(x).unbind(1):
            found = net(now, *state)
            if isinstance(found, tuple):
                state = (found[1],) if of.get("stateful") else ()
                found = found[0]
            sent.append(found.numpy().copy())
            for values, module in zip(seen, watched, strict=True):
                values.append(membrane(module).detach().double().numpy().copy())
    return np.stack(sent, 1), [np.stack(values, 1) for values in seen]


def assert_same(
    model: Imported, x: Array, sent: Array, membranes: list[Array], *, least: float = 0.01
) -> None:
    """The import equals the framework: spikes exactly, membranes but for rounding.

    A graded output is a membrane, and compared as such.
    """
    trace = assert_same_output(model, x, sent, least=least)
    neurons = model.graph.of_type(Neuron)
    assert len(neurons) == len(membranes)
    for neuron, theirs in zip(neurons, membranes, strict=True):
        ours = trace.states[f"{neuron.name}.v"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=neuron.name)


def assert_same_output(
    model: Imported, x: Array, sent: Array, *, least: float = 0.01
) -> interp.Trace:
    """What leaves the network is the same."""
    trace = interp.run(model.graph, x)
    if model.graph.of_type(Neuron)[-1].model.sends == "current":
        np.testing.assert_allclose(trace.output, sent, rtol=1e-9, atol=1e-9)
    else:
        assert least < (sent > 0).mean() < 0.95, "the test's network says nothing"
        np.testing.assert_array_equal(trace.output, sent)
    return trace


def trained(net: Any, run: Callable[[], Any], *, steps: int = 3) -> Any:
    """A few steps of gradient descent on what ``run`` returns, so that everything moved."""
    import torch

    learned = [p for p in net.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learned]
    optimizer = torch.optim.Adam(learned, lr=0.02)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        ((run() - 0.3) ** 2).mean().backward()
        optimizer.step()
    moved = [not torch.equal(p, old) for p, old in zip(learned, before, strict=True)]
    assert moved.count(True) == len(before) > 0, "not everything was learned"
    return net.eval()


def lines(model: Imported) -> list[str]:
    """The assumptions as people read them."""
    return [str(note) for note in model.assumptions]


def become_integers(model: Imported, x: Array) -> None:
    """The import goes through the whole compiler, and its C computes its integers."""
    graph = canonicalize(model.graph)
    target = backend("mcu")
    plan = default_plan(target, graph, observe(graph, x))
    program = target.legalize(quantize(graph, plan))
    agrees(program, x, "host")
    differ = interp.run(program, x).output != interp.run(model.graph, x).output
    assert differ.mean() < 0.05
