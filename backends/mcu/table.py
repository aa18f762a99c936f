"""What the target can express."""

from __future__ import annotations

from qspinn.capabilities import Capabilities
from qspinn.fixed import Rounding
from qspinn.plan import INPUTS

from . import avr, rp2040
from .qemu import MACHINES
from .toolchain import CORES

CAPABILITIES = Capabilities(
    weight_bits=(1, 2, 3, 4, 5, 6, 7, 8, 16, 32),
    weight_forms=("binary", "ternary"),
    state_bits=tuple(range(4, 33)),
    bias_bits=tuple(range(2, 33)),
    threshold_bits=tuple(range(2, 33)),
    decay_forms=("fixed", "leak"),
    decay_bits=tuple(range(1, 17)),
    state_roundings=tuple(Rounding),
    scale_groups=("layer", "channel", "neuron"),
    drops_inputs=True,
    inputs=INPUTS,
    synapse_steps=0,
    notes=(
        "any format of 1 to 32 bits; in memory weights take 1 (binary), 1.6 (ternary), 2 to 8, 16 "
        "or 32 bits each, states 1 to 16, 32 or 64: several share bytes where that takes fewer",
        "weights of which many are 0 are stored without them, where that takes fewer bytes",
        "sums of large images are kept for some rows at a time: a step takes 30 to 70 % longer "
        "than with all of them in memory",
        "a step takes a list of events, a bit for each input (--input mask), or values; those that "
        "stay are loaded once for all steps, which keeps the first layer's sums in RAM",
        "dense layers that read spikes lie in tiles, from 9 outputs and 512 weights on: of 16 "
        "outputs with weights of 5 to 8 bits in a byte each, or of 32 with 1, 2 or 4 bits each; "
        "the last is padded; unless another form takes less than half of that, and 2 KiB less",
        "membranes of 9 to 16 bits that are updated two at a time take 16 bits each",
        "rows of weights that are all 0, as of dropped inputs, are left out where that saves bytes",
        "a parameter that is equal for all neurons, or all of a channel, is stored once; a few "
        "values of many neurons are stored once each, and which a neuron has",
        "a rounding that is not floor costs 5 to 16 instructions, stochastic rounding 16 to 27",
        "any model of the thirteen operations; no product needs more than 32-bit multiplication",
        "figures of parts: mcu/devices.toml says which were checked; --budget sets your own limits",
    ),
)

EMULATED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imc")
QEMU = {f"qemu-{name}": CORES[name] for name in MACHINES}
EXECUTORS = ("host", "sanitize", *EMULATED, *QEMU, *avr.EXECUTORS, rp2040.EXECUTOR)
