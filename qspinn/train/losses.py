"""What is asked of a network's outputs, as far as a gradient can see it. Imports torch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from qspinn.fixed import FloatArray
from qspinn.ir import Graph
from qspinn.passes.quantize import scale_of
from qspinn.plan import Plan
from qspinn.readout import output_neuron
from qspinn.signals import signals
from qspinn.train.lists import Tensor
from qspinn.train.network import Outcome

torch: Any = import_module("torch")
functional: Any = import_module("torch.nn.functional")

SHARPNESS = 10.0
"""A class that leads by a tenth of the steps leads by one logit."""
_HALF_LIFE = 0.125
"""Of the weight of a spike in a first-spike readout, as a share of the steps."""


def logits(readout: str, outcome: Outcome, unit: FloatArray, highs: int = 1) -> Tensor:
    """The evidence for each class that a readout's decision follows.

    Args:
        readout: Of the output node. For ``first_spike`` spikes count the less the later they come.
        outcome: What the network did.
        unit: What 1 is worth of a membrane potential.
        highs: The most spikes in a step.
    """
    steps = outcome.sent.shape[0]
    if readout in ("membrane_last", "membrane_max"):
        last = readout == "membrane_last"
        found = outcome.potential[-1] if last else outcome.potential.amax(0)
        return found * torch.as_tensor(unit, dtype=found.dtype, device=found.device)
    if readout == "first_spike":
        order = torch.arange(steps, device=outcome.sent.device, dtype=outcome.sent.dtype)
        weight = torch.exp2(-order / (steps * _HALF_LIFE)).reshape(-1, 1, 1)
        return SHARPNESS * (outcome.sent.clamp(max=1) * weight).sum(0) / weight.sum()
    return outcome.sent.sum(0) * (SHARPNESS / (steps * highs))


def unit_of(graph: Graph, plan: Plan | None) -> FloatArray:
    """What an integer of the membrane potential that is read out means in real units."""
    owner = output_neuron(graph)
    if plan is None or not graph.is_integer:
        return np.ones(())
    if owner is None or "v" not in owner.states:
        return np.ldexp(np.ones(()), -signals(graph)[graph.output.name].frac)
    fmt = owner.states["v"].fmt
    assert fmt is not None, "the graph is integer"
    factor = scale_of(plan, owner)
    return np.ldexp(1.0 / factor, -fmt.frac).reshape(-1) if factor.ndim else fmt.unit / factor


def loss(found: Tensor, labels: Tensor, taught: Tensor | None, share: float) -> Tensor:
    """Cross entropy with the labels, and with what the float network says.

    Args:
        found: Logits.
        labels: The right classes.
        taught: The float network's logits; None: nobody is asked.
        share: The float network's share of the loss.
    """
    own = functional.cross_entropy(found, labels)
    if taught is None:
        return own
    odds = functional.log_softmax(taught, 1)
    far = functional.kl_div(
        functional.log_softmax(found, 1), odds, reduction="batchmean", log_target=True
    )
    return (1.0 - share) * own + share * far
