"""What the two Loihi chips hold: every figure with its source and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qspinn.memory import Device, Limit

from .synmem import Row, loihi1_row, loihi2_row

WORD_BYTES = 8
RESOURCES = ("neurons", "groups", "axons", "maps", "words")
"""What a core has so many of; a device's regions call them ``core-neurons`` and so on."""

Amounts = tuple[int, int, int, int, int]
"""A number for each of `RESOURCES`."""


@dataclass(frozen=True, slots=True)
class Core:
    """One generation of neuro cores.

    Attributes:
        most: What a core holds.
        chip: The cores of a chip that networks may use.
        row: Words of synaptic memory of one input axon.
        shared_axons: Input axons of a convolution that reads spikes, where they do not depend on
            its image; 0: one for each pixel that a slice sees.
        copies: Whether a neuron needs an output axon for each core that it reaches; else one will
            do for a layer.
        pixel_slots: Output axons that a pixel of an image takes for a convolution and a core.
        thresholds: Whether neurons of different thresholds are different groups; if not, only
            those of different decays.
    """

    most: Amounts
    chip: int
    row: Row
    shared_axons: int
    copies: bool
    pixel_slots: int
    thresholds: bool


LOIHI2 = Core((4095, 8, 16000, 16000, 12000), 120, loihi2_row, 2, False, 2, False)
LOIHI1 = Core((1024, 8, 4096, 4096, 16384), 128, loihi1_row, 0, True, 2, True)
CORES = {"loihi2": LOIHI2, "loihi1": LOIHI1}

_LOGS = "core tables in lava-dl's notebooks of 2022-23"
_NENGO = "nengo-loihi: block, allocator and validation"

_BOTH = (
    Limit("weight bits", "1 to 6, 8", "public", "nengo-loihi, lava-dl netx"),
    Limit("weight exponent", "-8 to 7", "public", "brian2-loihi; nengo-loihi takes -7 to 7"),
    Limit("synaptic delay", "0 to 62", "public", "lava-dl netx, brian2-loihi"),
    Limit("threshold", "17 bits, 6 places up", "public", "nengo-loihi, Lava"),
    Limit("bias", "12 bits and a sign, 3 bits of exponent", "public", "nengo-loihi, Lava"),
    Limit("summed input of a step", "16 bits", "public", "Lava"),
)
_LIMITS2 = (
    Limit("cores of a chip", "120", "inferred", "Lava's mapper counts so many; 128 are public"),
    Limit("core-neurons", "4095", "inferred", f"percentages in {_LOGS}; 8192 are public"),
    Limit("core-groups", "8", "inferred", f"percentages in {_LOGS}; counted are sets of equal "
          "decays in a layer; whether thresholds need groups, too, is not known"),
    Limit("core-axons", "16000", "inferred", f"percentages in {_LOGS}"),
    Limit("core-maps", "16000", "inferred", f"percentages in {_LOGS}"),
    Limit("core-words", "12000 of 64 bits", "measured", "registers['SynMem'] in the same logs"),
    Limit("words of a dense row", "(neurons x (bits + 12) + 10) / 64, up", "inferred",
          "fitted; all 14 logged values are met"),
    Limit("words of a sparse row", "the same of its synapses alone", "unconfirmed",
          "no sparse layer was logged"),
    Limit("words of a convolution", "5 to 8 bits a weight and padding", "inferred",
          "10 logged layers; on every core anew"),
    Limit("axons of a convolution", "1 or 2 a core", "inferred", "10 logged layers; 2 are counted"),
    Limit("axon maps", "1 a neuron and layer; 1 or 2 a pixel before a convolution", "inferred",
          "the same logs, where neurons reach up to 12 cores; 2 are counted"),
    Limit("u and v", "24 bits", "public", "Lava's LIF"),
    Limit("message", "24 bits", "unconfirmed", "Lava's spike types; 32 are advertised"),
    Limit("memory of a core", "192 KiB in all", "unconfirmed", "often quoted; nothing counts it"),
    *_BOTH,
)  # fmt: skip
_LIMITS1 = (
    Limit("cores of a chip", "128", "public", "Davies et al. 2018, nengo-loihi"),
    Limit("core-neurons", "1024", "public", f"Davies et al. 2018; {_NENGO}"),
    Limit("core-groups", "8", "unconfirmed", "nengo-loihi: 32 sets of decays, 8 or 16 thresholds "
          "(it is unsure itself); the least is counted, of both together"),
    Limit("core-axons", "4096", "public", _NENGO),
    Limit("core-maps", "4096", "public", f"{_NENGO}; one for each core that a neuron reaches"),
    Limit("core-words", "16384 of 64 bits", "public", f"128 KiB; {_NENGO}"),
    Limit("words of a row", "by 64 synapses (bits + index + delay each, 10 together), up", "public",
          "nengo-loihi: bits_per_axon; index 0 or 6 to 12 bits"),
    Limit("words of a convolution", "one kernel to one for each border", "inferred",
          "nengo-loihi stores a kernel anew for each set of taps that a pixel reaches"),
    Limit("axons of a convolution", "1 a pixel", "public", "nengo-loihi: population spikes"),
    Limit("u and v", "23 bits and a sign", "public", "nengo-loihi"),
    *_BOTH,
)  # fmt: skip

REMEDIES = {
    "cores": "give the largest layers fewer bits with --plan, or take fewer neurons",
    "core-words": "a neuron has more synapses than a core's memory: give its weights fewer bits, "
    "or put a smaller layer before it",
    "core-axons": "a neuron has more inputs than a core has axons: put a smaller layer before it, "
    "or leave inputs out of the model (a matrix keeps axons of inputs that the plan drops)",
    "core-groups": "give neurons of one layer the same decays and thresholds (--scales layer)",
    "core-maps": "a neuron reaches more cores than it has axons for: make the next layer smaller",
}
"""What helps where a region is too small."""


def _device(name: str, note: str, source: str, limits: tuple[Limit, ...]) -> Device:
    core = CORES[name]
    regions: Mapping[str, int] = {
        "cores": core.chip,
        "synmem": core.most[-1] * core.chip * WORD_BYTES,
        **{f"core-{what}": most for what, most in zip(RESOURCES, core.most, strict=True)},
    }
    return Device(
        name, regions, core=name, note=note, source=source, limits=limits, remedies=REMEDIES
    )


DEVICES = {
    "loihi2": _device(
        "loihi2",
        "what Intel's compiler gives a core, partly inferred from its logs; the chip may hold more",
        "lava-dl notebooks 2022-23, lava mapper",
        _LIMITS2,
    ),
    "loihi1": _device(
        "loihi1", "the first chip's cores; qspinn's formats are those of Lava", "Davies et al. "
        "2018, nengo-loihi", _LIMITS1,
    ),
}  # fmt: skip
