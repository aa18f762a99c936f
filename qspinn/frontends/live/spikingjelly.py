"""SpikingJelly's neurons: charge, fire where the membrane reaches the threshold, reset at once.

Read in SpikingJelly 0.0.0.0.14 and 2.0. A hard reset also is where membranes start and rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qspinn import neurons
from qspinn.dynamics import Model
from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.cells import Neurons, cell, compares, refuse
from qspinn.frontends.live.layers import LAYERS, Handler, array, flatten

PACKAGE = "spikingjelly"


def integrate_and_fire(
    build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int
) -> Wire:
    """IFNode, SimpleIFNode, and HalfThresholdIFNode, which starts half way."""
    return _neurons(build, path, module, wires, {})


def leaky(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """LIFNode and SimpleLIFNode: it decays toward the reset value."""
    return _leaky(build, path, module, wires, 1.0 / module.tau)


def parametric(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """ParametricLIFNode: 1 / tau is the sigmoid of a weight."""
    return _leaky(build, path, module, wires, array(module.w.detach().sigmoid()))


def current_based(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """CUBALIFNode: its membrane decays toward zero."""
    params = {"current_decay": module.c_decay, "decay": module.v_decay}
    return _neurons(build, path, module, wires, params)


def rectified(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """KLIFNode: its charge is multiplied by k and cut at zero; with `scale_reset` v is k times v.

    What is cut before a threshold above zero is cut behind it as well.
    """
    k, share, rest = array(module.k), 1.0 / module.tau, module.v_reset or 0.0
    if module.v_threshold <= 0 or rest < 0 or (k <= 0).any():
        raise FrontendError(
            f"has v_threshold={module.v_threshold:g}, v_reset={rest:g} and k={k.min():g}: its "
            "membrane is cut at zero, between the three"
        )
    kept = np.ones(()) if module.scale_reset else k
    params = {"decay": (1 - share) * kept, "bias": share * rest * k, "v_min": 0.0}
    if module.scale_reset:
        build.note(path, f"its membrane is k = {k:g} times the module's")
    reset = None if module.v_reset is None else rest * float(k / kept)
    gain = k * (share if module.decay_input else 1.0)
    return _neurons(build, path, module, wires, params, gain=gain, reset=reset)


def resonating(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """RAFNode: its membrane and another state turn about each other by omega * dt a step."""
    turn = module.omega * module.dt
    if turn > math.pi / 2:
        raise FrontendError(f"turns by {turn:.3g} a step; coefficients here are not negative")
    share = math.exp(module.b * module.dt)
    params = {"cosine": share * math.cos(turn), "sine": share * math.sin(turn)}
    return _neurons(build, path, module, wires, params, model=neurons.resonator)


def _leaky(build: Build, path: str, module: Any, wires: Sequence[Wire], share: Any) -> Wire:
    rest = module.v_reset or 0.0
    params = {"decay": 1 - share, "bias": share * rest}
    gain = share if module.decay_input else 1.0
    return _neurons(build, path, module, wires, params, gain=gain)


def _neurons(
    build: Build, path: str, module: Any, wires: Sequence[Wire], params: dict[str, Any], *,
    gain: Any = 1.0, reset: Any = ..., model: Callable[[str, str], Model] | None = None,
) -> Wire:  # fmt: skip
    import torch

    refuse(module, _neuron_precision=None)
    reset = module.v_reset if reset is ... else reset
    kind = "subtract" if reset is None else "value" if reset else "zero"
    params = {**params, "threshold": module.v_threshold}
    if kind == "value":
        params["v_reset" if model is None else "back_to"] = reset
    compare = compares(module.surrogate_function, torch.zeros(()))
    # Not always the reset value: a SimpleBaseNode starts from zero.
    begin = float(module._memories_rv["v"]) * (reset / module.v_reset if reset else 1.0)
    made = cell(wires[0].shape, params, gain=gain, start=begin, reset=kind, compare=compare)
    own = None if model is None else model(kind, compare)
    return build.neurons(build.name(path), wires, made, model=own)


def integrator(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """NonSpikingIFNode and NonSpikingLIFNode: membranes that are read, as `decode` says."""
    how = {None: "", "last-mem": "membrane_last", "last_mem": "membrane_last",
           "max-mem": "membrane_max"}  # fmt: skip
    if module.decode not in how:
        raise FrontendError(
            f"reads its membranes by {module.decode!r}",
            hint="max-mem and the last value are read here",
        )
    share = None if not hasattr(module, "tau") else array(1.0 / array(module.tau))
    params = {} if share is None else {"decay": 1 - share}
    name = build.name(path)
    made = cell(wires[0].shape, params, gain=1.0 if share is None else share)
    if how[module.decode]:
        build.readouts[name] = how[module.decode]
    return build.neurons(name, wires, made)


def voting(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """VotingLayer: the mean of the spikes of a class's neurons."""
    size = int(module.voting_size)
    if len(wire.shape) != 1 or wire.shape[0] % size or wire.signal.kind == "current":
        raise FrontendError(f"votes by groups of {size} of a signal of shape {wire.shape}")
    return Wire(wire.node, wire.signal, wire.factor, size)


def flattened(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """Its own Flatten sees one step at a time, in either mode."""
    return flatten(build, path, module, wire, 1 if module.step_mode == "m" else lead)


CELLS: Mapping[str, Neurons] = {
    "IFNode": integrate_and_fire,
    "SimpleIFNode": integrate_and_fire,
    "HalfThresholdIFNode": integrate_and_fire,
    "LIFNode": leaky,
    "SimpleLIFNode": leaky,
    "ParametricLIFNode": parametric,
    "CUBALIFNode": current_based,
    "KLIFNode": rectified,
    "RAFNode": resonating,
    "OTTTLIFNode": leaky,
    "SLTTLIFNode": leaky,
    "NonSpikingIFNode": integrator,
    "NonSpikingLIFNode": integrator,
}
_VALUES = "it sends values, not spikes of 0 or 1"
_SEQUENCE = "it reads all steps at once, later ones as well"
REFUSED: Mapping[str, str] = {
    "QIFNode": "its membrane is squared", "EIFNode": "its membrane moves by an exponential",
    "IzhikevichNode": "its membrane is squared",
    "GatedLIFNode": "its gates differ from step to step",
    "ComplementaryLIFNode": "its reset is a sigmoid of a state",
    "ActivationAwareIFNode": "its thresholds follow what it is converted from",
    "FlexSN": "its dynamics are code of the user's",
    "OutlierAwareThresholdNode": _VALUES, "HGNode": _VALUES,
    "LIAFNode": _VALUES, "ILIFNode": _VALUES, "FewSpikeNode": _VALUES,
    "TernaryIFNode": "it sends -1, too", "TernaryLIFNode": "it sends -1, too",
    "STBIFNode": "it sends -1, too",
    "PSN": _SEQUENCE, "MaskedPSN": _SEQUENCE, "SlidingPSN": _SEQUENCE,
    "MPBNLIFNode": "it normalizes its membrane", "DSRIFNode": _VALUES, "DSRLIFNode": _VALUES,
    **dict.fromkeys(("NoisyCUBALIFNode", "NoisyILCCUBALIFNode", "NoisyNonSpikingIFNode"),
                    "its noise is drawn anew in every run"),
    **dict.fromkeys(("ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"),
                    "it mixes neurons between its steps"),
    "ElementWiseRecurrentContainer": "it combines signals by a function of the user's",
    "SynapseFilter": "it sends values, and keeps them in a state of a connection",
    "Delay": "it delays whatever it reads; spikes wait in a forward pass of one's own",
    "WSLinear": "it standardizes its weights in every call; take them out into a Linear",
    "WSConv2d": "it standardizes its weights in every call; take them out into a Conv2d",
}  # fmt: skip
"""Why other modules have no counterpart."""
_SAME = (
    "Linear", "Conv1d", "Conv2d", "AvgPool2d", "AdaptiveAvgPool2d", "MaxPool2d", "BatchNorm1d",
    "BatchNorm2d", "Dropout", "Dropout2d",
)  # fmt: skip
OWN_LAYERS: Mapping[str, Handler] = {
    **{name: LAYERS[name] for name in _SAME},
    "Flatten": flattened,
    "VotingLayer": voting,
}
