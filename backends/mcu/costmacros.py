"""What a header says of the instructions of an inference, and of what they assume."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from qspinn.cost import ASSUMED_RATE, Activity

from .costmodel import isa_of, typical
from .network import Network

_WIDTH = 96


def macros(network: Network, options: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Names, values and notes of macros: what an inference takes on each core."""
    found = typical(network, Activity.of(options)).items()
    return [
        (f"INSN_TYP_{core.removeprefix('cortex-').upper()}", f"{count}u", _compiler(core))
        for core, count in found
    ]


def _compiler(core: str) -> str:
    return {"gcc": "GCC", "clang": "clang"}[isa_of(core).partition(" ")[2]]


def assumed(network: Network, options: Mapping[str, str]) -> list[str]:
    """Lines of a comment: the steps, and the rates in each."""
    activity = Activity.of(options)
    known = "steps" if activity.steps != 1 else "step"
    if not activity.measured:
        rates = f"with {ASSUMED_RATE:.0%} of all inputs and neurons active in each (assumed)"
    else:
        shares = ", ".join(f"{_share(rate)} of {node}" for node, rate in activity.rates.items())
        rates = f"with {shares} active in each (measured)"
    text = f"Instructions of an inference by a model, at -O2: {activity.steps} {known} {rates}"
    return textwrap.wrap(text.replace("*/", "* /"), _WIDTH)


def _share(rate: float) -> str:
    return f"{100 * rate:.3g} %"
