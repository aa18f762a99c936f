"""What a network occupies, defined once: weights, per-neuron constants and state, as shipped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from qspinn.errors import GateError, PlanError
from qspinn.fixed import IntArray
from qspinn.ir import CONNECTIONS, Delay, Graph, Input, Linear, Neuron, Output, Param
from qspinn.planning import linear_readers


@dataclass(frozen=True, slots=True)
class Line:
    """One item of a footprint: what it is, what it belongs to, where it lies, its bytes."""

    kind: str
    owner: str
    region: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of a network on one device.

    Kinds: ``weights``, ``constants`` and ``state`` are the network's own; ``code``, ``stack`` and
    ``input buffer`` are separate lines. RAM for a budget is state + input buffer + stack.
    """

    lines: tuple[Line, ...]

    def of(self, *kinds: str) -> int:
        """The bytes of some kinds of lines."""
        return sum(line.bytes for line in self.lines if line.kind in kinds)

    @property
    def network(self) -> int:
        """Weights, constants and state: what quantization shrinks."""
        return self.of("weights", "constants", "state")

    def regions(self) -> dict[str, int]:
        """Bytes by region, such as ``flash`` and ``ram``; of each core the most in any of them."""
        total: dict[str, int] = {}
        for line in self.lines:
            before = total.get(line.region, 0)
            most = max(before, line.bytes) if of_each_core(line.region) else before + line.bytes
            total[line.region] = most
        return total


def of_each_core(region: str) -> bool:
    """Whether every core has one of that region, so that the fullest counts and not the sum."""
    return region.startswith("core-")


@dataclass(frozen=True, slots=True)
class Limit:
    """One figure of a part, and how far it can be trusted.

    Attributes:
        what: What is limited.
        value: The figure, in words where it is no number.
        confidence: ``measured``: seen in a tool's output or on the part; ``public``: in a document
            or an open program of its makers; ``inferred``: fitted to what was seen;
            ``unconfirmed``: somebody says so.
        source: Where it comes from.
    """

    what: str
    value: str
    confidence: str
    source: str


@dataclass(frozen=True, slots=True)
class Device:
    """A part: its memory by region in bytes, and what a toolchain needs to know.

    Attributes:
        name: As people ask for it.
        regions: Bytes (or cores) that a network may fill: its budget.
        core: The processor core.
        note: What a person should know.
        source: The document that says so.
        options: For the target alone.
        hertz: The highest clock of the core; 0: not known.
        others: Bytes of memory beside the regions, which nothing is counted on.
        checked: What the figures were compared with; empty: with nothing.
        limits: Figures with their sources, for people.
        remedies: By region, what would help where it is too small.
    """

    name: str
    regions: Mapping[str, int]
    core: str = ""
    note: str = ""
    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    hertz: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    checked: str = ""
    limits: tuple[Limit, ...] = ()
    remedies: Mapping[str, str] = field(default_factory=dict)

    def within(self, budget: Mapping[str, int]) -> Device:
        """The part with cores as small as a budget says; totals are compared, and stay."""
        given = {name: size for name, size in budget.items() if of_each_core(name)}
        smaller = {n: min(size, given.get(n, size)) for n, size in self.regions.items()}
        return replace(self, regions=smaller)


@dataclass(frozen=True, slots=True)
class Excess:
    """A region that is too small: what it needs, what it has, what fills it."""

    region: str
    needs: int
    has: int
    lines: tuple[Line, ...]


def excesses(footprint: Footprint, budget: Mapping[str, int]) -> tuple[Excess, ...]:
    """The regions of ``budget`` that ``footprint`` outgrows."""
    used = footprint.regions()
    return tuple(
        Excess(
            region,
            used.get(region, 0),
            limit,
            tuple(
                sorted(
                    (line for line in footprint.lines if line.region == region),
                    key=lambda line: -line.bytes,
                )
            ),
        )
        for region, limit in budget.items()
        if used.get(region, 0) > limit
    )


def fit_error(
    name: str,
    place: str,
    found: tuple[Excess, ...],
    devices: list[str],
    remedies: Mapping[str, str] | None = None,
) -> GateError:
    """The refusal: the object, the quantities, the limits and what would help.

    Args:
        name: The network.
        place: The device or the budget it does not fit.
        found: The regions that are too small.
        devices: The devices that would hold it.
        remedies: What helps by region, where it is not fewer bits for the largest parts.
    """
    rows = [_row(excess) for excess in found]
    usual, known = "give the largest parts fewer bits with --plan", remedies or {}
    helps = dict.fromkeys(known.get(excess.region, usual) for excess in found)
    fits = f"; it fits {', '.join(devices[:4])}" if devices else ""
    return GateError(
        "\n  ".join((f"{name} does not fit {place}", *rows)), hint=f"{'; '.join(helps)}{fits}"
    )


def _row(excess: Excess) -> str:
    needs, has = amount(excess.needs, excess.region), amount(excess.has, excess.region)
    parts = "   ".join(f"{line.owner or line.kind} {line.bytes}" for line in excess.lines[:6])
    return f"{excess.region}: needs {needs}, the limit is {has}\n    {parts}"


def amount(value: int, region: str) -> str:
    """A quantity in the region's unit: bytes, cores, or what ``core-`` is followed by."""
    if of_each_core(region):
        return f"{value} {region.removeprefix('core-')}"
    return f"{value}" if region == "cores" else f"{value} B"


def require_regions(known: Iterable[str], budget: Mapping[str, int]) -> None:
    """Refuse a budget for a region that is none of the known ones.

    Raises:
        PlanError: It names the region and those there are.
    """
    known = list(known)
    if unknown := sorted(budget.keys() - set(known)):
        raise PlanError(
            f"the budget limits {unknown[0]!r}, which the target has not",
            hint=f"it has {', '.join(known)}",
        )


def parse_budget(text: str) -> dict[str, int]:
    """Read ``ram=8KiB,flash=64KiB``; units are B, KiB, MiB, kB and MB, or none.

    Raises:
        PlanError: The text is no budget.
    """
    units = {"MiB": 1 << 20, "KiB": 1 << 10, "MB": 10**6, "kB": 10**3, "KB": 10**3, "B": 1, "": 1}
    budget: dict[str, int] = {}
    for part in text.split(","):
        region, equals, amount = (x.strip() for x in part.partition("="))
        found = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", amount)
        digits, unit = found.groups() if found else ("", "?")
        if not equals or not region or unit not in units:
            raise PlanError(f"{part!r} is no budget", hint="write ram=8KiB,flash=64KiB")
        budget[region] = int(digits) * units[unit]
    return budget


def float_bytes(graph: Graph, active: Mapping[str, IntArray] | None = None) -> int:
    """The baseline of every ratio: each stored parameter and state variable in 4 bytes.

    Counted on the same graph: delay lines and labels included, and a uniform neuron parameter left
    out on both sides, since it is part of the code.

    Args:
        graph: The float graph.
        active: As in a plan, the inputs kept: weights of others are left out, too, which shows
            what quantization saves beside what dropping them does. By default all count.
    """
    kept = {
        reader.name: indices.size
        for node in graph.of_type(Input)
        if (indices := (active or {}).get(node.path)) is not None
        for reader in linear_readers(graph, node)
    }
    total = 0
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            total += sum(p.values.size for p in node.params().values())
            if isinstance(node, Linear) and node.name in kept:
                outs, ins = node.weight.values.shape
                total -= outs * (ins - kept[node.name])
        elif isinstance(node, Delay):
            total += node.steps * prod(node.shape)
        elif isinstance(node, Output):
            total += len(node.labels)
        elif isinstance(node, Neuron):
            size = prod(node.shape)
            total += len(node.states) * size
            total += sum(constants(p, size) for p in node.values.values())
    return 4 * total


def constants(param: Param, size: int) -> int:
    """How many values of a neuron parameter are stored: none if uniform (it becomes code)."""
    values = param.values
    return 0 if (values == values.flat[0]).all() else size
