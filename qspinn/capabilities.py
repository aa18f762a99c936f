"""What a target can express, as a table that passes read instead of asking which target it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from qspinn.fixed import Rounding


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The formats, roundings and structures of a target.

    Attributes:
        weight_bits: Widths a weight may have; what a width takes in memory is the target's matter.
        split_bits: Widths beyond those, at which weights of both signs take two synapses each.
        weight_forms: Other formats of weights: ``binary``, ``ternary``.
        state_bits: Widths a state may have.
        bias_bits: Widths a connection's bias and other constants in the membrane's units may have;
            empty: fixed.
        threshold_bits: Widths of a threshold; empty: fixed.
        decay_forms: Formats of a decay coefficient: ``fixed`` or ``leak``.
        decay_bits: Fraction bits of a fixed decay.
        constant_roundings: Roundings of constants, which happen offline.
        state_roundings: Roundings of states and of decays' products, at run time.
        scale_methods: How scales are chosen, as in `planning.METHODS`.
        scale_groups: ``layer``, ``channel`` or ``neuron``, coarsest first.
        scales_apart: Whether some neurons have a scale for each channel by default, and that may
            cost memory on some devices.
        drops_inputs: Whether a plan's ``input.active`` saves memory.
        inputs: How a step may be given its input, of `plan.INPUTS`; empty: there is no choice.
        synapse_steps: Steps that one stage of synapses takes.
        notes: What a person should know, line by line.
    """

    weight_bits: tuple[int, ...]
    state_bits: tuple[int, ...]
    decay_forms: tuple[str, ...]
    decay_bits: tuple[int, ...]
    state_roundings: tuple[Rounding, ...]
    scale_groups: tuple[str, ...]
    split_bits: tuple[int, ...] = ()
    weight_forms: tuple[str, ...] = ()
    bias_bits: tuple[int, ...] = ()
    threshold_bits: tuple[int, ...] = ()
    constant_roundings: tuple[Rounding, ...] = tuple(Rounding)
    scale_methods: tuple[str, ...] = ("max", "percentile", "error")
    scales_apart: bool = False
    drops_inputs: bool = False
    inputs: tuple[str, ...] = ()
    synapse_steps: int = 0
    notes: tuple[str, ...] = field(default=())
