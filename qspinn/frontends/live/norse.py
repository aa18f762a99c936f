"""Norse's neurons: Euler steps of dt, reset at the spike, which is strictly above the threshold.

Read in Norse 0.0.7 to 1.1. Whether the input of a step is in the current that moves the membrane
of that step is another matter in 1.1 than before, so the module's own function is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell
from qspinn.frontends.live.layers import array, matrix
from qspinn.frontends.nir_neurons import Cell
from qspinn.ir import Shape

PACKAGE = "norse"
STEPS = ("heaviside", "super", "triangle", "tanh", "circ", "heavi_erfc", "adjoint")
"""Surrogates whose forward pass is the step function."""
_WORDS = ("reset", "synapse")


def lif(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIF and LIFCell: a synaptic current and a membrane."""
    _step(module.p)
    options = {"synapse": _synapse(module), **_fires(module.p)}
    made = _cell(module.p, module.dt, wires[0].shape, **options)
    return build.neurons(build.name(path), wires, made)


def _synapse(module: Any) -> str:
    """Whether a step's input moves the membrane in that step."""
    import torch

    with torch.no_grad():
        quiet, loud = torch.zeros(1, 1), torch.ones(1, 1)
        if hasattr(module, "record_states"):
            quiet, loud = quiet[None], loud[None]
        state = module.state_fallback(quiet)
        step = [each[0] if hasattr(module, "record_states") else each for each in (quiet, loud)]
        moved = [module.activation(x, state, module.p, module.dt)[1] for x in step]
    first, second = (getattr(each, "lif", each).v for each in moved)
    return "old" if torch.equal(first, second) else "new"


def refractory(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFRefracCell: after a spike the membrane is held for rho_reset steps."""
    made = _refractory(module, wires[0].shape, synapse=_synapse(module))
    return build.neurons(build.name(path), wires, made)


def _refractory(module: Any, shape: Shape, *, synapse: str = "new") -> Cell:
    _step(module.p.lif)
    steps = np.ceil(array(module.p.rho_reset))
    fires = {"synapse": synapse, "refractory": steps, **_fires(module.p.lif)}
    return _cell(module.p.lif, module.dt, shape, **fires)


def adaptive(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LSNN and LSNNCell: a spike raises the threshold; the current moves the membrane late."""
    made = _adaptive(module, wires[0].shape)
    return build.neurons(build.name(path), wires, made)


def _adaptive(module: Any, shape: Shape) -> Cell:
    """What the threshold is above v_th has decayed when a step compares with it."""
    p = module.p
    _step(p)
    decay = 1 - array(module.dt * p.tau_adapt_inv)
    return _cell(p, module.dt, shape, synapse="old", adaptation_decay=decay,
                 adaptation_step=decay * array(p.beta), **_fires(p))  # fmt: skip


def recurrent(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFRecurrent, LIFRefracRecurrent and LSNNRecurrent with their two matrices."""
    name, weights = build.name(path), array(module.recurrent_weights)
    shape = (len(weights),)
    if hasattr(module.p, "lif"):
        made = _refractory(module, shape)
    elif hasattr(module.p, "tau_adapt_inv"):
        made = _adaptive(module, shape)
    else:
        _step(module.p)
        made = _cell(module.p, module.dt, shape, **_fires(module.p))
    _flat(wires)
    back = build.delayed(name, shape)
    into = array(module.input_weights)
    currents = [
        *(matrix(build, f"{path}.input_weights", wire, into, None) for wire in wires),
        matrix(build, f"{path}.recurrent_weights", back, weights, None),
    ]
    return build.neurons(name, currents, made)


def lif_box(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFBoxCell: the input is the membrane's current of this step alone."""
    p = module.p
    _step(p)
    reset = getattr(p.reset_method, "__name__", "")
    if reset not in ("reset_value", "reset_subtract"):
        raise FrontendError(
            f"resets by {reset or p.reset_method!r}; reset_value and reset_subtract are known"
        )
    fires = _fires(p) if reset == "reset_value" else {"threshold": p.v_th, "reset": "subtract"}
    return build.neurons(build.name(path), wires, _cell(p, module.dt, wires[0].shape, **fires))


def integrator(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LI, LICell and LIBoxCell send their membrane."""
    synapse = {"synapse": _synapse(module)} if hasattr(module.p, "tau_syn_inv") else {}
    made = _cell(module.p, module.dt, wires[0].shape, **synapse)
    return build.neurons(build.name(path), wires, made)


def linear_integrator(
    build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int
) -> Wire:
    """LILinearCell: with a matrix in front."""
    _flat(wires)
    weights = array(module.input_weights)
    currents = [matrix(build, f"{path}.input_weights", wire, weights, None) for wire in wires]
    made = _cell(module.p, module.dt, currents[0].shape)
    return build.neurons(build.name(path), currents, made)


def iaf(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """IAFCell: no leak, and dt has no meaning."""
    p = module.p
    _step(p)
    made = cell(wires[0].shape, _plain(_fires(p)), start=p.v_reset, reset=_kind(p.v_reset))
    return build.neurons(build.name(path), wires, made)


def _cell(p: Any, dt: float, shape: Shape, **fires: Any) -> Cell:
    """The decays in the tensors' own precision, as norse multiplies them."""
    share = dt * p.tau_mem_inv
    params = {"decay": 1 - array(share), "bias": array(share) * array(p.v_leak), **_plain(fires)}
    if hasattr(p, "tau_syn_inv"):
        params["current_decay"] = 1 - array(dt * p.tau_syn_inv)
    for name in ("decay", "current_decay", "adaptation_decay"):
        if name in params and (params[name] < 0).any():
            raise FrontendError(
                f"dt = {dt:g} exceeds a time constant: an Euler step would give the "
                f"{name.replace('_', ' ')} {params[name].min():g}"
            )
    options = {name: fires[name] for name in _WORDS if name in fires}
    return cell(shape, params, gain=array(share), start=p.v_leak, **options)


def _fires(p: Any) -> dict[str, Any]:
    kind = _kind(p.v_reset)
    value = {"v_reset": p.v_reset} if kind == "value" else {}
    return {"threshold": p.v_th, "reset": kind, **value}


def _kind(v_reset: Any) -> str:
    return "value" if array(v_reset).any() else "zero"


def _plain(fires: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fires.items() if name not in _WORDS}


def _step(p: Any) -> None:
    if p.method not in STEPS:
        raise FrontendError(f"its threshold function {p.method!r} is none of {', '.join(STEPS)}")


def _flat(wires: Sequence[Wire]) -> None:
    for wire in wires:
        if len(wire.shape) != 1:
            raise FrontendError(
                f"multiplies the last dimension of a signal of shape {wire.shape}",
                hint="flatten the signal first",
            )


CELLS: Mapping[str, Neurons] = {
    "LIF": lif,
    "LIFCell": lif,
    "LIFRecurrent": recurrent,
    "LIFRecurrentCell": recurrent,
    "LIFRefracCell": refractory,
    "LIFRefracRecurrentCell": recurrent,
    "LIFRefracRecurrent": recurrent,
    "LIFBoxCell": lif_box,
    "LI": integrator,
    "LICell": integrator,
    "LIBoxCell": integrator,
    "LILinearCell": linear_integrator,
    "IAF": iaf,
    "IAFCell": iaf,
    "LSNN": adaptive,
    "LSNNCell": adaptive,
    "LSNNRecurrent": recurrent,
    "LSNNRecurrentCell": recurrent,
}
_PRODUCTS = "its membrane is multiplied by another state"
_EXPONENT = "its membrane moves by an exponential of itself"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("Izhikevich", "IzhikevichCell", "IzhikevichRecurrent",
                     "IzhikevichRecurrentCell"), "its membrane is squared"),
    **dict.fromkeys(("LIFEx", "LIFExCell", "LIFExRecurrent", "LIFExRecurrentCell"), _EXPONENT),
    **dict.fromkeys(("LIFAdEx", "LIFAdExCell", "LIFAdExRecurrent", "LIFAdExRecurrentCell",
                     "LIFAdExRefracCell", "LIFAdExRefracRecurrent",
                     "LIFAdExRefracRecurrentCell"), _EXPONENT),
    "CobaLIFCell": _PRODUCTS,
    "LIFMCRecurrentCell": "its neurons are coupled through their membranes",
    "LIFMCRefracRecurrentCell": "its neurons are coupled through their membranes",
    "LIFCorrelation": "it correlates spikes beside its neurons",
}  # fmt: skip
"""Why other neurons have no counterpart."""
