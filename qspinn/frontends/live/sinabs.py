"""sinabs' neurons: several spikes a step, at or above the threshold, subtracted at once.

Read in sinabs 3.1. An input is decayed with the synaptic current that it enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell
from qspinn.frontends.live.layers import LAYERS, Handler, array, sum_pool
from qspinn.frontends.nir_neurons import Cell
from qspinn.ir import Linear, Param

PACKAGE = "sinabs"


def lif(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIF and IAF, with or without synaptic current, and recurrent."""
    params, gain = _coefficients(module)
    fires, several, most = _firing(module)
    return _built(build, path, module, wires, {**params, **fires}, gain, several, most)


def _built(
    build: Build, path: str, module: Any, wires: Sequence[Wire], params: dict[str, Any],
    gain: FloatArray, several: bool, most: int,
) -> Wire:  # fmt: skip
    """The neurons with their reset."""
    reset, to = _reset(module, params)
    if to:
        # sinabs adds the reset value in every step: a membrane that is counted from there.
        params["bias"] = params.get("decay", 1.0) * to
        params |= {"v_min": params["v_min"] - to} if "v_min" in params else {}
        build.note(path, f"adds its reset value {to:g} in every step, as sinabs does; its "
                   "membrane is counted from there")  # fmt: skip
    made = cell(wires[0].shape, params, gain=gain, several=several, compare=">=",
                reset=reset, start=-to)  # fmt: skip
    return _looped(build, path, module, wires, made, gain, most)


def _looped(build: Build, path: str, module: Any, wires: Sequence[Wire], made: Cell,
            gain: FloatArray, most: int) -> Wire:  # fmt: skip
    """The neurons, with their feedback where they have one."""
    name, currents, start = build.name(path), list(wires), None
    if hasattr(module, "rec_connect"):
        back = build.delayed(name, wires[0].shape)
        wire, start = _feedback(build, f"{path}.rec_connect", module.rec_connect, back)
        currents.append(wire)
        start = None if start is None else start * gain
    return _started(build, name, currents, made, start, most)


def _started(build: Build, name: str, currents: list[Wire], made: Cell, bias: FloatArray | None,
             most: int) -> Wire:  # fmt: skip
    """The neurons; a recurrent bias, which is absent in the first step, is taken back there."""
    if bias is None:
        return build.neurons(name, currents, made, most=most)
    decay = made.values.get("current_decay", made.values.get("decay", np.ones(())))
    if (decay == 0).any():
        raise FrontendError("its recurrent bias is absent in the first step, and its decay is 0")
    start = -bias / decay
    build.note(name, "starts so that the recurrent bias is absent in the first step, as in sinabs")
    if "current_decay" in made.values:
        return build.neurons(name, currents, made, current=start, most=most)
    return build.neurons(name, currents, made, membrane=made.start + start, most=most)


def _feedback(build: Build, path: str, module: Any, back: Wire) -> tuple[Wire, FloatArray | None]:
    """The recurrent connection, and its bias where it has one."""
    inner = [m for m in module.modules() if not list(m.children())]
    shape, wire = back.shape, back
    for place, each in enumerate(inner):
        kind = type(each).__name__
        if kind == "Linear" and place == len(inner) - 1:
            weight = Param(array(each.weight) * wire.factor)
            bias = None if each.bias is None or not each.bias.any() else Param(array(each.bias))
            node = Linear(name=build.name(path), inputs=(wire.node,), weight=weight, bias=bias)
            wire = build.add(node, wire.signal)
            if wire.shape != shape:
                raise FrontendError(f"rec_connect sends {wire.shape} to neurons of {shape}")
            return wire, None if bias is None else bias.values
        if kind not in ("Flatten", "Identity", "Dropout"):
            break
        wire = LAYERS[kind](build, path, each, wire, 1)
    kinds = ", ".join(type(each).__name__ for each in inner)
    raise FrontendError(f"its rec_connect is {kinds}; a Linear, after a Flatten or not, is read")


def leak(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """ExpLeak sends its membrane."""
    if module.min_v_mem is not None:
        raise FrontendError("keeps its membrane above min_v_mem, which an integrator here does not")
    params, gain = _coefficients(module)
    return build.neurons(build.name(path), wires, cell(wires[0].shape, params, gain=gain))


def adaptive(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """ALIF: a spike raises the threshold."""
    params, gain = _coefficients(module)
    if module.norm_input and "current_decay" in params:
        # Here the normalization is stored in the current, and acts in every later step again.
        params["current_decay"] = params["current_decay"] * (1 - params["decay"])
    decay = array(module.alpha_adapt_calculated)
    fires, several, most = _firing(module, array(module.b0))
    step = array(module.adapt_scale) * (1 - decay)
    if several and (step < 0).any():
        raise FrontendError("sends several spikes a step, and a spike lowers its threshold")
    params |= {**fires, "adaptation_decay": decay, "adaptation_step": step}
    return _built(build, path, module, wires, params, gain, several, most)


def _coefficients(module: Any) -> tuple[dict[str, Any], FloatArray]:
    """The decays and the input's gain."""
    plain = getattr(module, "tau_mem", None) is None and not getattr(module, "train_alphas", False)
    decay, gain = array(module.alpha_mem_calculated), np.ones(())
    params: dict[str, Any] = {} if plain else {"decay": decay}
    current = module.alpha_syn_calculated
    if current is not None:
        params = {"current_decay": array(current), **params}
        gain = array(current)
    return params, gain * (1 - decay) if module.norm_input else gain


def _firing(module: Any, threshold: FloatArray | None = None) -> tuple[dict[str, Any], bool, int]:
    """Threshold and floor; whether several spikes a step are possible; the module's own limit."""
    theta = array(module.spike_threshold) if threshold is None else threshold
    found: dict[str, Any] = {"threshold": theta}
    if module.min_v_mem is not None:
        found["v_min"] = array(module.min_v_mem)
    function = module.spike_fn
    kind = getattr(function, "__name__", type(function).__name__)
    limit = getattr(function, "max_num_spikes_per_bin", None)
    known = ("SingleSpike", "MultiSpike", "MaxSpike")
    if kind not in known:
        raise FrontendError(f"fires by {kind}; {', '.join(known)} are read")
    if kind == "SingleSpike":
        return found, False, 0
    if (theta <= 0).any():
        raise FrontendError(f"sends several spikes a step for a threshold of {theta.min():g}")
    return found, limit != 1, int(limit or 0)


def _reset(module: Any, params: dict[str, Any]) -> tuple[str, float]:
    """The kind of the reset, and what sinabs adds to the membrane with it in every step.

    What a spike takes is a parameter where it is not the threshold.
    """
    function = module.reset_fn
    kind = type(function).__name__
    if kind == "MembraneSubtract":
        value = function.subtract_value
        fixed = "adaptation_decay" not in params
        if value is None or (fixed and np.all(array(value) == params["threshold"])):
            return "subtract", 0.0
        params["reset_step"] = array(value)
        return "amount", 0.0
    if kind == "MembraneReset":
        return "zero", float(function.reset_value)
    raise FrontendError(f"resets by {kind}; MembraneSubtract and MembraneReset are read")


CELLS: Mapping[str, Neurons] = {
    **dict.fromkeys(("LIF", "LIFSqueeze", "LIFRecurrent", "LIFRecurrentSqueeze"), lif),
    **dict.fromkeys(("IAF", "IAFSqueeze", "IAFRecurrent", "IAFRecurrentSqueeze"), lif),
    **dict.fromkeys(("ExpLeak", "ExpLeakSqueeze"), leak),
    **dict.fromkeys(("ALIF", "ALIFSqueeze", "ALIFRecurrent"), adaptive),
}
REFUSED: Mapping[str, str] = {
    "NeuromorphicReLU": "it quantizes and sends values, without time",
    "QuantizeLayer": "it rounds values",
    "SpikingMaxPooling2dLayer": "it passes the input on that spiked most, which it counts",
    "Merge": "it reads two inputs; write the sum in a forward pass",
}
"""Why other modules have no counterpart."""
OWN_LAYERS: Mapping[str, Handler] = {"SumPool2d": sum_pool}
