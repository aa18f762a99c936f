"""The parts of stages for 8-bit cores that `codesize` and `costparts` both count."""

from __future__ import annotations

import re
from collections import Counter

from .eight import EightUpdate
from .kernelparts import Parts
from .updateparts import operations

_SIZES = {"int16_t": " 16", "int32_t": " 32", "uint8_t": " 16"}


def narrow_parts(stage: EightUpdate) -> Parts:
    """What a neuron takes in values no wider than needed: each operation by its width."""
    parts: Parts = Counter()
    loads, lines = stage.narrow
    for load in loads:
        read = "load table" if "READ" in load.code else "load member"
        parts[f"{read}{_SIZES.get(load.type, ' 64')}"] += 1
        if lane := re.search(r"_get_(\w+)\(", load.code):
            parts[f"load {lane[1]}"] += 1
    for line in lines:
        of_line: Parts = Counter()
        operations(line, of_line)
        width = _SIZES.get(line.split()[1], "")
        for what, count in of_line.items():
            parts[what if what.startswith("literal") else what + width] += count
    for write in stage.writes:
        packed = write.member.lane
        parts[f"store {packed.bits if packed else write.member.type.bits + 100}"] += 1
    return parts
