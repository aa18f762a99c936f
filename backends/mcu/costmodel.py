"""Instructions and time of an inference: what `costparts` counts, times what `COST` says."""

from __future__ import annotations

from collections.abc import Mapping

from qspinn.cost import Activity, Cost, CostLine
from qspinn.memory import Device

from . import costeight, costresting, costtiles, costwindows  # noqa: F401  # register what they run
from .codesize import VECTORS
from .costparts import inference
from .fitted import read
from .network import Network
from .running import Counts
from .toolchain import CORES

COST = read("cost")
"""Instructions by part, for each instruction set and compiler."""
CYCLES = {isa: column["cycles an instruction"] for isa, column in read("cycles").items()}
"""Of usual networks, by the models of `cycles`."""
TYPICAL = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")
"""The cores whose instructions a header tells: of others less is known."""

AVR, TINY = "avr5 gcc", "avr25 gcc"
"""The columns of the AVRs that multiply, and of those that do not."""
_AVRS = ("avr5", "avr51", "avr6")
_ALONE = {**dict.fromkeys(_AVRS, AVR), "avr25": TINY, "rv32ec": "rv32ec gcc"}
"""The columns of cores that no executor runs as they are."""

_ISSUES = {"cortex-m7": 0.8, "cortex-m55": 0.9, "cortex-m85": 0.7, "rv32imc": 1.3, "rv32ec": 1.5}
"""Cycles per instruction where `cycles` has no model: a guess, as makers' cores differ."""


def isa_of(core: str) -> str:
    """The instruction set, as `COST` names it, of a core; empty: it has none.

    GCC's code is counted where it was measured: it is what most people's builds are made of.
    """
    if (alone := _ALONE.get(core, "")) in COST:
        return alone
    known = CORES.get(core)
    isa = known.isa if known is not None else ""
    return next((name for name in (f"{isa} gcc", f"{isa} clang") if name in COST), "")


UNSEEN = 1.0
"""Instructions of a part that no network had that was measured."""
REFINES = ": "
"""In the name of what a part takes more, or less, in a case of its own: before the case."""


def instructions(parts: Counts, table: Mapping[str, float]) -> float:
    """What parts take."""
    unseen = ((part, 0.0 if REFINES in part else UNSEEN) for part in parts)
    return sum(parts[part] * table.get(part, least) for part, least in unseen)


def cost(network: Network, device: Device, activity: Activity) -> Cost | None:
    """What an inference takes on a device, by a model; None: its core was not measured."""
    isa = isa_of(device.core)
    if not isa:
        return None
    taken: dict[str, float] = {}
    for run in inference(network, activity, isa.startswith(VECTORS)):
        owner = run.owner.removeprefix(f"{network.prefix}_")
        taken[owner] = taken.get(owner, 0.0) + instructions(run.parts, COST[isa])
    lines = tuple(CostLine(owner, count) for owner, count in taken.items())
    cycles = _ISSUES.get(device.core, CYCLES.get(isa, 1.0))
    return Cost(device.core, isa.partition(" ")[2], lines, activity, cycles, device.hertz)


def typical(network: Network, activity: Activity) -> dict[str, int]:
    """Instructions of an inference by core, to three digits: no model knows more."""
    runs = {vectors: list(inference(network, activity, vectors)) for vectors in (False, True)}
    found = {}
    for core in _AVRS[:1] if network.eight else TYPICAL:
        if isa := isa_of(core):
            of_core = runs[isa.startswith(VECTORS)]
            found[core] = rounded(sum(instructions(run.parts, COST[isa]) for run in of_core))
    return found


def rounded(value: float) -> int:
    """To three digits."""
    return int(float(f"{value:.3g}"))
