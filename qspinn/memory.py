"""What a network occupies, defined once: weights, per-neuron constants and state, as shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qspinn.errors import GateError
from qspinn.ir import CONNECTIONS, Graph, Neuron, Param


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
        """Bytes by region, such as ``flash`` and ``ram``."""
        total: dict[str, int] = {}
        for line in self.lines:
            total[line.region] = total.get(line.region, 0) + line.bytes
        return total


@dataclass(frozen=True, slots=True)
class Device:
    """A part: its memory by region in bytes, and what a toolchain needs to know."""

    name: str
    regions: Mapping[str, int]
    core: str = ""
    note: str = ""
    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


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


def fit_error(name: str, device: str, excess: Excess) -> GateError:
    """The refusal: the object, the quantity, the limit and what would help."""
    parts = "   ".join(f"{line.owner or line.kind} {line.bytes}" for line in excess.lines[:6])
    return GateError(
        f"{name} does not fit {device} ({excess.region} {excess.has} B): "
        f"needs {excess.needs} B\n  {parts}"
    )


def parse_budget(text: str) -> dict[str, int]:
    """Read ``ram=8KiB,flash=64KiB``; units are B, KiB, MiB, kB and MB.

    Raises:
        GateError: The text is no budget.
    """
    units = {"MiB": 1 << 20, "KiB": 1 << 10, "MB": 10**6, "kB": 10**3, "KB": 10**3, "B": 1, "": 1}
    budget: dict[str, int] = {}
    for part in text.split(","):
        region, equals, amount = (x.strip() for x in part.partition("="))
        digits = amount.rstrip("iBKMkb")
        unit = amount[len(digits) :]
        if not equals or not region or not digits.isdigit() or unit not in units:
            error = GateError(f"{part!r} is no budget", hint="write ram=8KiB,flash=64KiB")
            error.exit_code = 2
            raise error
        budget[region] = int(digits) * units[unit]
    return budget


def float_bytes(graph: Graph) -> int:
    """The baseline of every ratio: each stored parameter and state variable in 4 bytes.

    Counted on the same graph; a uniform parameter is one scalar, as it is in the generated code.
    """
    total = 0
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            total += sum(p.values.size for p in node.params().values())
        elif isinstance(node, Neuron):
            size = 1
            for n in node.shape:
                size *= n
            total += len(node.states) * size
            total += sum(constants(p, size) for p in node.values.values())
    return 4 * total


def constants(param: Param, size: int) -> int:
    """How many values of a neuron parameter are stored: none if uniform (it becomes code)."""
    values = param.values
    return 0 if (values == values.flat[0]).all() else size
