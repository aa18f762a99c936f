"""From the differential equations of NIR's neurons to one step of ours.

Our neurons have no input gain, u = current_decay * u + a and v = decay * v + u (+ bias), so the
gains of NIR (r, w_in and what the integrator makes of dt / tau) are returned, to be folded into
the weights in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qspinn.dynamics import Model
from qspinn.errors import FrontendError
from qspinn.fixed import FloatArray
from qspinn.frontends.nir_dialect import SPIKING
from qspinn.frontends.nir_file import FileNode
from qspinn.frontends.nir_layers import shaped
from qspinn.frontends.nir_rules import Rules
from qspinn.ir import Array, Param, Shape, State
from qspinn.neurons import integrator, spiking

ROUND_OFF = 1e-6
"""A gain this close to 1 is 1: files keep r and tau in float32, and frameworks mean 1."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A neuron node, discretized, without its place in the graph.

    Attributes:
        kind: NIR's type.
        values: Parameters of the model: scalars where all neurons share a value.
        gain: Factors for the input current, scalar or of the neurons' shape.
        start: Where the membranes start.
        options: For `neurons.spiking` or `neurons.integrator`.
        several: Whether it may send several spikes a step (its most is yet to be found).
        unused: A remark on what the file says and the rules set aside.
    """

    kind: str
    values: Mapping[str, Array]
    gain: FloatArray
    start: Array
    options: Mapping[str, str | bool] = field(default_factory=dict)
    several: bool = False
    unused: str = ""

    @property
    def fires(self) -> bool:
        """Whether it sends spikes, not its membrane potential."""
        return self.kind in SPIKING

    def model(self, max_spikes: int = 1) -> Model:
        """The model, sending at most ``max_spikes`` a step."""
        options: dict[str, Any] = dict(self.options)
        if self.fires:
            return spiking(max_spikes=max_spikes, **options)
        return integrator(**options)

    def states(self, model: Model) -> dict[str, State]:
        """The states of ``model`` with their initial values."""
        zero = np.zeros(())
        return {n: State(Param(self.start if n == "v" else zero)) for n in model.states}

    def params(self) -> dict[str, Param]:
        """The parameters as the IR keeps them."""
        return {name: Param(value) for name, value in self.values.items()}

    def describe(self) -> str:
        """One line for people."""
        words = [f"{k} {span(v)}" for k, v in self.values.items()]
        if (self.gain != 1).any():
            words.append(f"input gain {span(self.gain)} (in the weights)")
        if self.unused:
            words.append(self.unused)
        return f"{self.kind}: {', '.join(words) or 'no parameters'}"


def discretize(node: FileNode, shape: Shape, rules: Rules, *, recurrent: bool) -> Cell:
    """One step of a neuron node.

    Args:
        node: The node as the file has it.
        shape: Of the neurons.
        rules: How they are computed.
        recurrent: Whether the node's own spikes come back to it.

    Raises:
        FrontendError: A parameter does not fit the shape, or dt does not fit a time constant.
    """
    values = {name: shaped(node, name, shape) for name in node.params}
    step = _Step(node, rules, values)
    found: dict[str, FloatArray] = {}
    gain: FloatArray = np.ones(())
    if "tau_syn" in values:
        found["current_decay"], gain = step.synapse()
    leak, into = step.membrane()
    if leak is not None:
        found["decay"] = leak
        rest = values.get("v_leak", np.zeros(()))
        if np.any(rest):
            found["bias"] = rest * step.share(values.get("tau", values.get("tau_mem")), leak)
    options: dict[str, str | bool] = {
        "synapse": rules["synapse"].value if "tau_syn" in values else "",
        "leak": leak is not None,
        "bias": "bias" in found,
    }
    several = False
    if node.kind in SPIKING:
        options |= _firing(node, rules, values, found, recurrent=recurrent)
        several = _several(node, rules, found["threshold"], str(options["timing"]))
    start = values.get(rules["v_start"].value, np.zeros(()))
    target = values.get("v_reset", np.zeros(()))
    aside = np.any(target) and options["reset"] != "value"
    unused = f"v_reset {span(target)} is not used" if aside else ""
    slim = {name: _slim(value) for name, value in found.items()}
    return Cell(node.kind, slim, _slim(_snap(gain * into)), _slim(start), options, several, unused)


class _Step:
    """The coefficients of one node under one set of rules."""

    def __init__(self, node: FileNode, rules: Rules, values: Mapping[str, FloatArray]) -> None:
        self.node, self.rules, self.values = node, rules, values
        self.euler = rules["integrator"].value == "euler"

    def decay(self, tau: FloatArray, name: str) -> FloatArray:
        dt = self.rules.need_dt(self.node.label, f"{name} is {span(tau)}")
        if not self.euler:
            return np.exp(-dt / tau)
        if (dt > tau).any():
            raise FrontendError(
                f"dt {dt:g} exceeds {name} {tau.min():g}: an Euler step would give the decay "
                f"{1 - dt / tau.min():g}",
                at=self.node.label,
                hint="give dt (--dt) in the unit of the file's time constants, or the exact "
                "integrator (--integrator exact)",
            )
        return np.asarray(1 - dt / tau)

    def share(self, tau: FloatArray | None, decay: FloatArray) -> FloatArray:
        """1 - decay, without cancellation."""
        if tau is None:
            return np.asarray(1 - decay)
        dt = self.rules.dt or 0.0
        return np.asarray(dt / tau if self.euler else -np.expm1(-dt / tau))

    def synapse(self) -> tuple[FloatArray, FloatArray]:
        tau, weight = self.values["tau_syn"], self.values.get("w_in", np.ones(()))
        decay = self.decay(tau, "tau_syn")
        gains = {"equation": self.share(tau, decay), "jump": np.ones(()), "decayed": decay}
        return decay, np.asarray(weight * gains[self.rules["w_in_scale"].value])

    def membrane(self) -> tuple[FloatArray | None, FloatArray]:
        """The decay, or None without a leak, and what a current adds to the membrane."""
        if self.node.kind == "Threshold":
            return np.zeros(()), np.ones(())  # a membrane that forgets: v is the current
        r = self.values["r"]
        if "tau" not in self.values and "tau_mem" not in self.values:
            scale = self.rules.scale(self.node.kind)
            if scale == "jump":
                return None, r
            if scale == "decayed":
                raise FrontendError("r_scale decayed needs a leak", at=self.node.label)
            return None, r * self.rules.need_dt(self.node.label, "it integrates r times its input")
        name = "tau" if "tau" in self.values else "tau_mem"
        tau = self.values[name]
        decay = self.decay(tau, name)
        scale = self.rules.scale(self.node.kind)
        if scale == "jump":
            return decay, r
        if scale == "decayed":
            dt = self.rules.need_dt(self.node.label, f"{name} is {span(tau)}")
            return decay, r * dt / (tau * decay)
        return decay, r * self.share(tau, decay)


def _firing(
    node: FileNode,
    rules: Rules,
    values: Mapping[str, FloatArray],
    found: dict[str, FloatArray],
    *,
    recurrent: bool,
) -> dict[str, str | bool]:
    """Options of the reset; adds threshold, reset value and floor to ``found``."""
    threshold = values["threshold" if node.kind == "Threshold" else "v_threshold"]
    found["threshold"] = threshold
    target = values.get("v_reset", np.zeros(()))
    reset = rules["reset"].value or ("value" if np.any(target) else "zero")
    if node.kind == "Threshold":
        reset, timing = "zero", "at_spike"
    else:
        timing = rules["reset_timing"].value
        timing = timing or rules.dialect.timing(node.kind, reset, recurrent=recurrent)
    if reset == "value":
        found["v_reset"] = target
    floor = rules.floor(node.kind)
    if floor != "none":
        found["v_min"] = -threshold if floor == "threshold" else np.asarray(float(floor))
        if floor != "threshold" and (found["v_min"] >= threshold).any():
            raise FrontendError(
                f"v_min {span(found['v_min'])} is not below the threshold {span(threshold)}",
                at=node.label,
            )
    return {
        "reset": reset,
        "timing": timing,
        "compare": rules["compare"].value if node.kind != "Threshold" else ">",
        "clamp": floor != "none",
    }


def _several(node: FileNode, rules: Rules, threshold: FloatArray, timing: str) -> bool:
    given = rules["max_spikes"].value
    if node.kind == "Threshold":
        return False
    wanted = (rules.dialect.several and timing == "at_spike") or (given or 1) > 1
    if wanted and given != 1 and threshold.min() <= 0:
        raise FrontendError(
            f"several spikes a step need a positive threshold, not {threshold.min():g}",
            at=node.label,
            hint="allow one spike a step (--max-spikes 1)",
        )
    return bool(wanted)


def _slim(values: FloatArray) -> FloatArray:
    """One number where all are the same."""
    return values.ravel()[:1].reshape(()) if (values == values.flat[0]).all() else values


def _snap(gain: FloatArray) -> FloatArray:
    return np.where(np.abs(gain - 1) <= ROUND_OFF, 1.0, gain)


def span(values: Array) -> str:
    """The value, or the lowest and the highest."""
    low, high = f"{values.min():g}", f"{values.max():g}"
    return low if low == high else f"{low} to {high}"
