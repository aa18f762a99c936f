"""Rockpool's neurons: exact decays, several spikes a step, the threshold subtracted at once.

Read in Rockpool 3.1. An input is decayed with the synaptic current that it enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell
from qspinn.frontends.live.layers import Handler, array, dropped, matrix
from qspinn.ir import Linear, Param

PACKAGE = "rockpool"
FUNCTIONS = ("StepPWL", "PeriodicExponential")
"""Surrogates whose forward pass is the number of thresholds in the membrane."""
MANY = 1 << 16
"""Rockpool's own limit of spikes a step, which no network reaches."""


def lif(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFTorch, and LIFBitshiftTorch, whose decays are 1 - 2 ** -k."""
    decay = array(module.beta)
    if module.n_synapses > 1:
        wires = [_joined(build, wire, module.n_synapses) for wire in wires]
        decay = np.broadcast_to(decay, (module.size_out, module.n_synapses))
        if (decay != decay[:, :1]).any():
            raise FrontendError(
                f"has {module.n_synapses} synapses a neuron whose currents decay differently",
                hint="give the synapses of a neuron one time constant: their currents are one then",
            )
        decay = decay[:, 0]
    elif decay.ndim:
        decay = decay.squeeze(-1)
    params = {"current_decay": decay, "decay": array(module.alpha)}
    return _neurons(build, path, module, wires, params, gain=decay)


def _joined(build: Build, wire: Wire, synapses: int) -> Wire:
    """Currents of all synapses of a neuron, side by side, as the one that they are together."""
    node = build.nodes[wire.node]
    if not isinstance(node, Linear):
        raise FrontendError(
            f"has {synapses} synapses a neuron; their currents are summed in the weights of a "
            f"LinearTorch right before it, not behind {type(node).__name__}",
            hint="give it as many inputs as neurons",
        )
    weight = node.weight.values
    bias = None if node.bias is None else Param(node.bias.values.reshape(-1, synapses).sum(1))
    summed = weight.reshape(-1, synapses, weight.shape[1]).sum(1)
    name = build.name(f"{build.paths.get(node.name, node.name)}.sum")
    build.note(name, f"the {synapses} synapses of a neuron in one, with the sum of their weights")
    joined = replace(node, name=name, weight=Param(summed), bias=bias)
    return build.add(joined, build.wires[node.inputs[0]].signal)


def membrane(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFNeuronTorch has no synaptic current."""
    return _neurons(build, path, module, wires, {"decay": _decay(module, module.tau_mem)})


def integrator(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """ExpSynTorch sends its current, which is a membrane of ours."""
    _still(module)
    decay = _decay(module, module.tau)
    return build.neurons(
        build.name(path), wires, cell(wires[0].shape, {"decay": decay}, gain=decay)
    )


def _neurons(
    build: Build, path: str, module: Any, wires: Sequence[Wire], params: dict[str, Any], *,
    gain: FloatArray | float = 1.0,
) -> Wire:  # fmt: skip
    _still(module)
    function = getattr(module.spike_generation_fn, "__self__", module.spike_generation_fn)
    kind = getattr(function, "__name__", type(function).__name__)
    if kind not in FUNCTIONS:
        raise FrontendError(f"fires by {kind}; {' and '.join(FUNCTIONS)} are read")
    theta, limit = array(module.threshold), int(module.max_spikes_per_dt)
    if (theta <= 0).any():
        raise FrontendError(f"sends several spikes a step for a threshold of {theta.min():g}")
    params = {**params, "bias": array(module.bias), "threshold": theta}
    shape = wires[0].shape
    made = cell(shape, params, gain=gain, several=limit != 1, compare=">=", reset="subtract")
    name, currents = build.name(path), list(wires)
    if getattr(module, "_has_rec", False):
        back = build.delayed(name, shape)
        weights = array(module.w_rec).T
        weights = weights.reshape(shape[0], -1, shape[0]).sum(1)  # over the synapses of a neuron
        currents.append(matrix(build, f"{path}.w_rec", back, weights, None))
    return build.neurons(name, currents, made, most=0 if limit in (1, MANY) else limit)


def _still(module: Any) -> None:
    if np.any(array(module.noise_std)):
        raise FrontendError(
            f"adds noise of {float(module.noise_std):g}, drawn anew in every run",
            hint="give it noise_std=0",
        )


def _decay(module: Any, tau: Any) -> FloatArray:
    """In the tensors' own precision, as Rockpool multiplies it."""
    import torch

    return array(torch.exp(-module.dt / tau))


def linear(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """LinearTorch keeps its matrix as (inputs, outputs)."""
    bias = None if module.bias is None else array(module.bias)
    kept = Param(bias) if bias is not None and bias.any() else None
    return matrix(build, path, wire, array(module.weight).T, kept)


CELLS: Mapping[str, Neurons] = {
    "LIFTorch": lif,
    "LIFBitshiftTorch": lif,
    "LIFNeuronTorch": membrane,
    "ExpSynTorch": integrator,
}
REFUSED: Mapping[str, str] = {
    "aLIFTorch": "it keeps a current of its own spikes beside its inputs'",
    "RateTorch": "it sends values, not spikes",
    "LowPass": "it sends values, not spikes",
    "BooleanState": "it sends a state that inputs flip",
    "UpDownTorch": "it makes spikes of values; encode them before",
}
"""Why other modules have no counterpart."""
OWN_LAYERS: Mapping[str, Handler] = {
    "LinearTorch": linear,
    "TimeStepDropout": dropped,
    "UnitDropout": dropped,
}
