"""What a target can express, as a table that passes read instead of asking which target it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from qspinn.fixed import Rounding


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The formats, roundings and structures of a target.

    Attributes:
        weight_bits: Widths a weight may have.
        state_bits: Widths a state may have.
        decay_formats: Formats of a decay coefficient: ``fixed`` or ``leak``.
        state_roundings: Roundings available at run time.
        scale_groups: ``layer``, ``channel`` or ``neuron``, coarsest first.
        synapse_steps: Steps that one stage of synapses takes.
        notes: What a person should know, line by line.
    """

    weight_bits: tuple[int, ...]
    state_bits: tuple[int, ...]
    decay_formats: tuple[str, ...]
    state_roundings: tuple[Rounding, ...]
    scale_groups: tuple[str, ...]
    synapse_steps: int = 0
    notes: tuple[str, ...] = field(default=())
