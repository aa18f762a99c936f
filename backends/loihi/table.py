"""What Loihi can express, as a table; what it holds is in `chips`."""

from __future__ import annotations

from qspinn.capabilities import Capabilities
from qspinn.fixed import Interval, Overflow, QFormat, Rounding

STATE = Interval(-(2**23) + 1, 2**23 - 1)
"""The membrane saturates here; the synaptic current wraps one further up, in (-2**23, 2**23]."""
DECAY = QFormat(13, 12, signed=False)
UNITY = 1 << DECAY.frac
INPUT_SHIFT = 6
"""Inputs and thresholds lie six binary places above the states."""
MANTISSA, MOST_BIAS_EXPONENT = 4095, 7
NEVER = 1 << 17
"""A threshold mantissa that no membrane reaches."""
ACTIVATION = 32767
WEIGHT_BITS = (1, 2, 3, 4, 5, 6, 8)
WEIGHT_EXPONENTS = Interval(-8, 7)
MOST_DELAY = 62
GRADED_BITS = 24


def current_format(frac: int) -> QFormat:
    """The synaptic current ``u``."""
    return QFormat(24, frac, True, STATE.lo, STATE.hi + 1)


def membrane_format(frac: int) -> QFormat:
    """The membrane potential ``v``."""
    return QFormat(24, frac, True, STATE.lo, STATE.hi)


OVERFLOWS = {"u": Overflow.WRAP, "v": Overflow.SATURATE}

CAPABILITIES = Capabilities(
    weight_bits=WEIGHT_BITS,
    split_bits=(9,),
    state_bits=(24,),
    weight_forms=("binary", "ternary"),
    decay_forms=("fixed",),
    decay_bits=(12,),
    state_roundings=(Rounding.ZERO,),
    scale_groups=("layer", "channel"),
    scales_apart=True,
    synapse_steps=1,
    notes=(
        "Lava's stock processes express LIF, IF, CubaLIF (reset to zero, >) and LI readouts; other "
        "neurons run as generated process models, in the simulator only.",
        "Weights of both signs are 8-bit mantissas times a power of two; of one sign, 8 bits and a "
        "common sign. Weights of 9 bits take two synapses, one for each sign.",
        "A neuron's summed input must stay within 16 bits in every step: |a| <= 32767.",
        "Each stage of synapses takes a step; the network runs as a pipeline.",
        "Lateral weights behind a delay of 2 steps go by way of one neuron that sends on how many "
        "spiked (graded, Loihi 2); behind 1 step they are a matrix.",
    ),
)
