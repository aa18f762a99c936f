"""What the target can express."""

from __future__ import annotations

from qspinn.capabilities import Capabilities
from qspinn.fixed import Rounding

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
    synapse_steps=0,
    notes=(
        "any format of 1 to 32 bits; in memory weights take 1 (binary), 2, 3, 4, 8, 16 or 32 bits "
        "each, states 1, 2, 4, 8, 16 or 32",
        "sums of large images are kept for some rows at a time: a step takes 30 to 70 % longer "
        "than with all of them in memory",
        "rows of weights that are all 0, as of dropped inputs, are left out where that saves bytes",
        "a parameter that is equal for all neurons, or all of a channel, is stored once",
        "a rounding that is not floor costs 5 to 16 instructions, stochastic rounding 16 to 27",
        "any model of the thirteen operations; no product needs more than 32-bit multiplication",
        "memory sizes of parts: mcu/devices.py says which were checked; --budget sets your own",
    ),
)

EMULATED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
QEMU = {
    f"qemu-{name}": CORES[name] for name in ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33")
}
EXECUTORS = ("host", "sanitize", *EMULATED, *QEMU)
