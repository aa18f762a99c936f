"""snnTorch's neurons: a spike resets in the next step, unless reset_delay is off.

Read in snnTorch 0.9 and 1.0. The reset of a step is ``mem > threshold`` of the membrane before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell, compares, refuse
from qspinn.frontends.live.layers import LAYERS, array
from qspinn.frontends.nir_neurons import span
from qspinn.ir import Param, Scale
from qspinn.neurons import unreset, without_delay

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
    """Two synaptic currents of a shape of their own."""
    raise FrontendError(
        "keeps two synaptic currents, and its membrane is their difference: qspinn has no such "
        "neuron",
        hint="train with snn.Synaptic",
    )


def _neurons(
    build: Build, path: str, module: Any, wires: Sequence[Wire], params: dict[str, Any], *,
    zero: str, gain: Any = 1.0, feedback: bool = False,
) -> Wire:  # fmt: skip
    refuse(module, inhibition=False, state_quant=False)
    shape, synapse = wires[0].shape, "new" if "current_decay" in params else ""
    kind, factor = module.reset_mechanism, array(module.graded_spikes_factor)
    if factor.size != 1:
        raise FrontendError(f"sends spikes of {factor.size} different values")
    params["threshold"] = module.threshold
    compare = compares(module.spike_grad, module.threshold + 0.0)
    if compare != ">":
        raise FrontendError(f"its spike function fires at {compare} the threshold, its reset at >")
    late = bool(getattr(module, "reset_delay", True))
    name = build.name(path)
    model = None
    if kind == "none":
        model = unreset(synapse=synapse)
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
        model = without_delay(synapse=synapse) if kind == "subtract" else None
    currents = list(wires)
    if feedback:
        back = build.delayed(name, shape)
        currents.append(_feedback(build, f"{path}.recurrent", module.recurrent, back))
    return build.neurons(name, currents, made, model=model, factor=float(factor.reshape(())))


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
}
