"""What the target can express."""

from __future__ import annotations

from qspinn.capabilities import Capabilities
from qspinn.fixed import Rounding

from .toolchain import CORES

CAPABILITIES = Capabilities(
    weight_bits=(2, 4, 8, 16, 32),
    state_bits=(8, 16, 32),
    decay_formats=("fixed", "leak"),
    state_roundings=tuple(Rounding),
    scale_groups=("layer", "channel", "neuron"),
    synapse_steps=0,
    notes=(
        "any format of 1 to 32 bits; weights take 2, 4, 8, 16 or 32 bits each, states 8, 16 or 32",
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
