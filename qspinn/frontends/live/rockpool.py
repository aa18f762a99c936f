"""Rockpool's neurons: exact decays, several spikes a step, the threshold subtracted at once.

Read in Rockpool 3.1. An input is decayed with the synaptic current that it enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell
from qspinn.frontends.live.layers import Handler, array, dropped, matrix
from qspinn.ir import Param

PACKAGE = "rockpool"
FUNCTIONS = ("StepPWL", "PeriodicExponential")
"""Surrogates whose forward pass is the number of thresholds in the membrane."""
MANY = 1 << 16
"""Rockpool's own limit of spikes a step, which no network reaches."""


def lif(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFTorch, and LIFBitshiftTorch, whose decays are 1 - 2 ** -k."""
    if module.n_synapses != 1:
        raise FrontendError(
            f"has {module.n_synapses} synapses a neuron, each with a current of its own",
            hint="give it as many inputs as neurons",
        )
    decay = array(module.beta).squeeze(-1) if module.beta.ndim else array(module.beta)
    params = {"current_decay": decay, "decay": array(module.alpha)}
    return _neurons(build, path, module, wires, params, gain=decay)


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
        currents.append(matrix(build, f"{path}.w_rec", back, array(module.w_rec).T, None))
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
