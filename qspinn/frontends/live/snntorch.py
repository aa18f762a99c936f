"""snnTorch's neurons: a spike resets in the next step, unless reset_delay is off.

Read in snnTorch 0.9 and 1.0. The reset of a step is ``mem > threshold`` of the membrane before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qspinn import neurons
from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell, compares, refuse
from qspinn.frontends.live.layers import LAYERS, array, matrix
from qspinn.frontends.nir_neurons import span
from qspinn.ir import Param, Scale

PACKAGE = "snntorch"


def leaky(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """Leaky: `zero` clears what was left of the potential and keeps the step's input."""
    params = {"decay": module.beta.clamp(0, 1)}
    return _neurons(build, path, module, wires, params, zero="next_after_decay")


def lapicque(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """Lapicque: its decay is 1 - dt / RC, whatever beta says."""
    decay = 1 - module.time_step / (module.R * module.C)
    gain = module.R * (1 / (module.R * module.C)) * module.time_step
    build.note(
        path,
        f"the decay is 1 - dt/RC, {span(array(decay))}, as its forward pass has it; beta, "
        f"{span(array(module.beta))}, is not used",
    )
    return _neurons(build, path, module, wires, {"decay": decay}, zero="next_discard", gain=gain)


def synaptic(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """Synaptic: `zero` drops the input of the step after a spike, too."""
    params = {"current_decay": module.alpha.clamp(0, 1), "decay": module.beta.clamp(0, 1)}
    return _neurons(build, path, module, wires, params, zero="next_discard")


def recurrent(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """RLeaky and RSynaptic: their last spikes come back through `recurrent`."""
    synapses = hasattr(module, "alpha")
    if synapses and not module.reset_delay:
        raise FrontendError(
            "has reset_delay=False, which snnTorch's RSynaptic never applies to its state",
            hint="build it with reset_delay=True, which is what it computes",
        )
    params = {"decay": module.beta.clamp(0, 1)}
    if synapses:
        params = {"current_decay": module.alpha.clamp(0, 1), **params}
    return _neurons(build, path, module, wires, params, zero="next_discard", feedback=True)


def alpha(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """Alpha: its currents are scaled by what snnTorch scales their difference by."""
    _require(module)
    rise, fall = (array(getattr(module, name).clamp(0, 1)) for name in ("alpha", "beta"))
    with np.errstate(divide="ignore"):
        gain = np.log(rise) / (np.log(fall) - np.log(rise)) + 1
    reset = module.reset_mechanism
    params = {"threshold": module.threshold, "excitation_decay": rise, "inhibition_decay": fall}
    if reset == "subtract":
        params |= {"step": gain * array(module.threshold), "share": 1 / gain}
    timing = {"zero": "next_discard", "subtract": "next_after_decay", "none": "at_spike"}[reset]
    made = cell(wires[0].shape, params, gain=gain, reset=reset, timing=timing)
    return build.neurons(build.name(path), wires, made, model=neurons.alpha(reset))


def delta(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """DeltaLeaky: it compares steps of its membrane, and resets nothing."""
    _require(module)
    params = {"decay": module.beta, "threshold": module.delta_threshold}
    made = cell(wires[0].shape, params, reset="none")
    return build.neurons(build.name(path), wires, made, model=neurons.delta())


def unending(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """StateLeaky: its convolution over all steps is a decay, and nothing resets it.

    LinearLeaky has a connection in front.
    """
    import torch

    if module.kernel_truncation_steps is not None:
        raise FrontendError(
            f"forgets its input after {module.kernel_truncation_steps} steps, which no decay does",
            hint="give it kernel_truncation_steps=None",
        )
    name = build.name(path)
    if hasattr(module, "linear"):
        inner = module.linear
        wires = _connected(build, f"{path}.linear", wires, inner.weight, inner.bias)
    shape = wires[0].shape
    params = {"decay": torch.exp(-1 / module.tau)}
    if not module.output:
        return build.neurons(name, wires, cell(shape, params))
    _require(module)
    made = cell(shape, {**params, "threshold": module.threshold}, reset="none")
    build.readable[name] = cell(shape, params)
    return build.neurons(name, wires, made, model=neurons.unreset(), factor=_factor(module))


def rectified(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LeakyParallel and LeakyKernel: an RNN with a rectifier, whose hidden state is a membrane.

    Its coefficients are the RNN's own; beta is only what they were built with.
    """
    _require(module)
    inner = module.rnn
    hidden = array(inner.weight_hh_l0)
    keep = np.diagonal(hidden)
    across = hidden - np.diag(keep)
    if across.any():
        raise FrontendError(
            f"couples its membranes: rnn.weight_hh_l0 has {np.count_nonzero(across)} values of up "
            f"to {np.abs(across).max():g} beside its diagonal",
            hint="build it with weight_hh_enable=False, which leaves each neuron its own decay; "
            "or send spikes back, by RLeaky",
        )
    bias = inner.bias_ih_l0 + inner.bias_hh_l0 if inner.bias else None
    name = build.name(path)
    wires = _connected(build, f"{path}.rnn", wires, inner.weight_ih_l0, bias)
    signed = bool((keep < 0).any())
    params = {"decay": np.maximum(keep, 0), "threshold": module.threshold}
    params |= {"turn": np.maximum(-keep, 0)} if signed else {}
    made = cell(wires[0].shape, params, reset="none")
    model = neurons.rectified(signed=signed)
    return build.neurons(name, wires, made, model=model, factor=_factor(module))


def _connected(
    build: Build, path: str, wires: Sequence[Wire], weight: Any, bias: Any
) -> Sequence[Wire]:
    """The wires behind a module's own matrix; its bias comes once."""
    kept = None if bias is None or not bias.any() else Param(array(bias))
    weights = array(weight)
    for wire in wires:
        if wire.shape != weights.shape[1:]:
            raise FrontendError(
                f"multiplies the last dimension of a signal of shape {wire.shape}",
                hint="flatten the signal first",
            )
    rest = [matrix(build, path, wire, weights, None) for wire in wires[1:]]
    return [matrix(build, path, wires[0], weights, kept), *rest]


def _factor(module: Any) -> float:
    """What a spike is multiplied by."""
    factor = array(module.graded_spikes_factor)
    if factor.size != 1:
        raise FrontendError(f"sends spikes of {factor.size} different values")
    return float(factor.reshape(()))


def _neurons(
    build: Build, path: str, module: Any, wires: Sequence[Wire], params: dict[str, Any], *,
    zero: str, gain: Any = 1.0, feedback: bool = False,
) -> Wire:  # fmt: skip
    _require(module)
    shape, synapse = wires[0].shape, "new" if "current_decay" in params else ""
    kind, factor = module.reset_mechanism, _factor(module)
    params["threshold"] = module.threshold
    late = bool(getattr(module, "reset_delay", True))
    name = build.name(path)
    model = None
    if kind == "none":
        model = neurons.unreset(synapse=synapse)
        made = cell(shape, params, gain=gain, reset="none")
        build.readable[name] = cell(
            shape, {k: v for k, v in params.items() if k != "threshold"}, gain=gain
        )
    elif late:
        timing = "next_after_decay" if kind == "subtract" else zero
        made = cell(shape, params, gain=gain, reset=kind, timing=timing)
    else:
        if (array(module.threshold) < 0).any():
            raise FrontendError("has a negative threshold and reset_delay=False")
        made = cell(shape, params, gain=gain, reset=kind)
        model = neurons.without_delay(synapse=synapse) if kind == "subtract" else None
    currents = list(wires)
    if feedback:
        back = build.delayed(name, shape)
        currents.append(_feedback(build, f"{path}.recurrent", module.recurrent, back))
    return build.neurons(name, currents, made, model=model, factor=factor)


def _require(module: Any) -> None:
    """Refuse what no neuron of snnTorch's may have here."""
    refuse(module, inhibition=False, state_quant=False)
    compare = compares(module.spike_grad, module.threshold + 0.0)
    if compare != ">":
        raise FrontendError(f"its spike function fires at {compare} the threshold, its reset at >")


def _feedback(build: Build, path: str, module: Any, back: Wire) -> Wire:
    """The connection of a layer to itself."""
    if hasattr(module, "V"):
        weights = np.broadcast_to(array(module.V), back.shape)
        node = Scale(name=build.name(path), inputs=(back.node,), scale=Param(weights))
        return build.add(node, back.signal)
    return LAYERS[type(module).__name__](build, path, module, back, 1)


CELLS: Mapping[str, Neurons] = {
    "Leaky": leaky,
    "Lapicque": lapicque,
    "Synaptic": synaptic,
    "RLeaky": recurrent,
    "RSynaptic": recurrent,
    "Alpha": alpha,
    "DeltaLeaky": delta,
    "StateLeaky": unending,
    "LinearLeaky": unending,
    "LeakyParallel": rectified,
    "LeakyKernel": rectified,
}
REFUSED: Mapping[str, str] = {
    "SLSTM": "its gates multiply states and pass them through sigmoid and tanh",
    "SConv2dLSTM": "its gates multiply states and pass them through sigmoid and tanh",
    "AssociativeLeaky": "it multiplies states with each other",
}
"""Why other neurons have no counterpart."""
