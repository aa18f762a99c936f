"""What the frameworks' neurons have in common: coefficients to cells, checks of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire, spread
from qspinn.frontends.live.layers import array
from qspinn.frontends.nir_neurons import Cell
from qspinn.ir import Shape

Neurons = Callable[[Build, str, Any, Sequence[Wire], int], Wire]
"""Makes neurons of the module at a path, which sum the wires' currents."""


def cell(shape: Shape, params: Mapping[str, Any], *, gain: Any = 1.0, start: Any = 0.0,
         several: bool = False, **options: str | bool) -> Cell:  # fmt: skip
    """A cell of neurons of ``shape``.

    Args:
        shape: Of the neurons.
        params: Parameters of the model by their names there; a zero bias is none.
        gain: What the input is multiplied by.
        start: Where the membranes start.
        several: Whether more than one spike a step is possible.
        options: For `neurons.spiking` where there is a threshold, else for `neurons.integrator`.
    """
    values = {name: spread(array(value), shape) for name, value in params.items()}
    if "bias" in values and not values["bias"].any():
        del values["bias"]
    fires = "threshold" in values
    kind = ("Cuba" if "current_decay" in values else "") + ("LIF" if fires else "LI")
    if "decay" not in values and kind in ("LIF", "LI"):
        kind = "IF" if fires else "I"
    leak, bias = "decay" in values, "bias" in values
    synapse = "new" if "current_decay" in values else ""
    found: dict[str, str | bool] = {"synapse": synapse, "leak": leak, "bias": bias, **options}
    if fires:
        found = {"reset": "zero", "timing": "at_spike", "compare": ">", **found}
        found |= {
            "clamp": "v_min" in values,
            "refractory": "refractory" in values,
            "adaptive": "adaptation_decay" in values,
        }
    return Cell(
        kind, values, spread(array(gain), shape), spread(array(start), shape), found, several
    )


def compares(function: Callable[[Any], Any], like: Any) -> str:
    """``>`` or ``>=``: where a spike function, called with v - threshold, begins to fire.

    Raises:
        FrontendError: It is no step from 0 to 1 at zero.
    """
    import torch

    edge = torch.finfo(like.dtype).tiny
    steps = [-1e3, -3.0, -1.0, -0.5, -1e-3, -edge, 0.0, edge, 1e-3, 0.5, 1.0, 3.0, 1e3]
    with torch.no_grad():
        sent = array(function(torch.tensor(steps, dtype=like.dtype, device=like.device))).tolist()
    for word, at_zero in ((">", 0.0), (">=", 1.0)):
        if sent == [0.0] * 6 + [at_zero] + [1.0] * 6:
            return word
    raise FrontendError(
        f"its spike function is no step at the threshold: it sends {sent[4:9]} around it",
        hint="choose a surrogate whose forward pass sends spikes of 0 or 1",
    )


def refuse(module: Any, **wanted: Any) -> None:
    """Refuse attributes that differ from what can be represented."""
    for name, value in wanted.items():
        found = getattr(module, name, value)
        if found is not value and found != value:
            raise FrontendError(f"has {name}={found!r}, which has no exact counterpart here")
