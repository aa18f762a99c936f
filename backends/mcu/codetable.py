"""Bytes of code and stack by part and instruction set, fitted by benchmarks/mcu_code_size.py."""

from __future__ import annotations

from collections.abc import Mapping

ISAS = ("armv6m", "armv7m", "armv7em", "armv8m", "rv32imc")
CODE: Mapping[str, Mapping[str, float]] = {isa: {} for isa in ISAS}
STACK: Mapping[str, Mapping[str, float]] = {isa: {"base": 100, "value": 4} for isa in ISAS}
