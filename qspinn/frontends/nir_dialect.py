"""What NIR leaves open, as each framework means it; `nir_writers` tells who wrote a file.

Read in the exporters, importers and neurons of snnTorch 1.0, Norse, sinabs 3.1, Rockpool and
SpikingJelly. Neither dt, nor the integrator, nor the kind and timing of a reset, nor `>=`, nor
several spikes a step has a place in the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEAKY = ("LI", "LIF", "CubaLI", "CubaLIF")
COUNTERS = ("I", "IF")
RESETTING = ("IF", "LIF", "CubaLIF")
SPIKING = (*RESETTING, "Threshold")
INTEGRATORS = ("euler", "exact")
STARTS = ("zero", "v_leak", "v_reset")
SCALES = ("equation", "jump", "decayed")
"""What the gains r and w_in mean; see `Dialect`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a framework computes one step of NIR's equations.

    Attributes:
        dt: Seconds (or the file's unit of time) per step, where the framework fixes it.
        integrator: ``euler``: a decay is 1 - dt/tau; ``exact``: exp(-dt/tau).
        membrane: What a current adds to a leaky membrane: ``equation``, r * (1 - decay); ``jump``,
            r; ``decayed``, r * dt / (tau * decay).
        counter: What it adds to a membrane without leak: ``equation``, r * dt; ``jump``, r.
        current: What a spike adds to a synaptic current: ``equation``, w_in * (1 - decay);
            ``jump``, w_in; ``decayed``, w_in * decay.
        synapse: Whether the ``new`` or the ``old`` current enters the membrane.
        reset: The kind of reset where the file cannot say; none: to v_reset.
        compare: ``>`` or ``>=``.
        several: Whether a neuron may send several spikes a step.
        floor: Whether membranes without leak stay above -threshold.
        start: Where membranes start: ``zero``, ``v_leak`` or ``v_reset``.
    """

    name: str
    dt: float | None = None
    integrator: str = "euler"
    membrane: str = "equation"
    counter: str = "equation"
    current: str = "equation"
    synapse: str = "new"
    reset: str | None = None
    compare: str = ">"
    several: bool = False
    floor: bool = False
    start: str = "zero"

    def timing(self, kind: str, reset: str, *, recurrent: bool) -> str:
        """When the reset happens; snnTorch resets in the next step, and `zero` drops its input.

        Its Leaky alone clears the old potential first and keeps the input.
        """
        if self.name != "snntorch":
            return "at_spike"
        keeps_input = reset == "subtract" or (kind in ("LIF", "IF") and not recurrent)
        return "next_after_decay" if keeps_input else "next_discard"


DIALECTS: Mapping[str, Dialect] = {
    d.name: d
    for d in (
        Dialect("nir"),
        Dialect("snntorch", dt=1e-4),
        Dialect("norse", counter="jump", current="jump", start="v_leak"),
        Dialect(
            "sinabs", dt=1.0, integrator="exact", membrane="jump", counter="jump",
            current="decayed", reset="subtract", compare=">=", several=True, floor=True,
        ),
        Dialect(
            "rockpool", integrator="exact", membrane="decayed", current="decayed",
            reset="subtract", compare=">=", several=True,
        ),
        Dialect("spikingjelly", dt=1e-4, compare=">=", start="v_reset"),
    )
}  # fmt: skip
