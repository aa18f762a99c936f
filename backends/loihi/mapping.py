"""The mapping of a network to neuro cores: which layer lies on which, and how full they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qspinn.ir import Graph
from qspinn.memory import Device

from .chips import CORES, LOIHI2, RESOURCES, Amounts, Core
from .layers import Layer
from .loads import Cut, Load, Shared, is_image, loads, reaching
from .mapper import Bound, Filled, bound, fewest, in_order

_MOST_ROUNDS = 64


@dataclass(frozen=True)
class Placement:
    """Layers on cores, and the bound beneath their number."""

    loads: tuple[Load, ...]
    cores: tuple[Filled, ...]
    bound: Bound


@dataclass(frozen=True)
class Mapping:
    """A network on the cores of a chip.

    Attributes:
        device: The chip.
        most: What one of its cores holds.
        high: With convolutions at the upper end of what is known: what budgets are compared with.
        low: At the lower end; the same where there are none.
    """

    device: Device
    most: Amounts
    high: Placement
    low: Placement

    @property
    def fewest(self) -> int:
        """The cores at the lower end; a mapping for the upper end will do there, too."""
        return min(len(self.low.cores), len(self.high.cores))

    @property
    def chips(self) -> int:
        """The chips that hold the cores."""
        return -(-len(self.high.cores) // self.chip)

    @property
    def chip(self) -> int:
        """The cores of a chip."""
        return self.device.regions["cores"]


def limits(device: Device) -> Amounts:
    """What a core of the device holds."""
    a, b, c, d, e = (device.regions[f"core-{what}"] for what in RESOURCES)
    return a, b, c, d, e


def mapped(graph: Graph, found: tuple[Layer, ...], device: Device) -> Mapping:
    """Map the layers of a legalized graph to the cores of a device.

    A layer of which one neuron needs more than a core has is placed all the same, beyond the limit:
    what is done about it is left to the comparison with the device.
    """
    core, most = CORES.get(device.core, LOIHI2), limits(device)
    high = _placed(graph, found, core, most, high=True)
    ranged = any(isinstance(part, Shared) for load in high.loads for part in load.parts)
    low = _placed(graph, found, core, most, high=False) if ranged else high
    return Mapping(device, most, high, low)


def _placed(
    graph: Graph, found: tuple[Layer, ...], core: Core, most: Amounts, *, high: bool
) -> Placement:
    """The best of some ways to cut images; which these are depends on the chip, not on budgets."""
    sets = [
        _reaching(loads(graph, found, Cut(core, way, high)), core, most)
        for way in _ways(graph, found, core, high=high)
    ]
    beneath = _least([bound(floor, most) for floor, _ in sets])
    tried: list[Placement] = []
    for _, made in sets:
        cores = fewest(made, most, beneath.cores, mix=not core.copies)
        tried.append(Placement(made, cores, beneath))
        if len(cores) <= beneath.cores and not _beyond(tried[-1], most):
            break
    return min(tried, key=lambda placement: (_beyond(placement, most), len(placement.cores)))


def _least(bounds: Sequence[Bound]) -> Bound:
    """What holds whichever way images are cut."""
    least = min(bounds, key=lambda one: one.cores)
    alone = tuple(min(each) for each in zip(*(one.alone for one in bounds), strict=True))
    return replace(least, alone=alone)


def _ways(
    graph: Graph, found: tuple[Layer, ...], core: Core, *, high: bool
) -> tuple[frozenset[str], ...]:
    """Which layers to cut by channels: none, those whose pixels no core holds, or all images."""
    usual = loads(graph, found, Cut(core, frozenset(), high))
    tall = {load.name for load in usual if not _holds(core.most, load.need(0, load.grain))}
    images = [layer for layer in found if is_image(layer)]
    some = frozenset(layer.name for layer in images if layer.neuron.path in tall)
    every = frozenset(layer.name for layer in images)
    return tuple(dict.fromkeys((frozenset[str](), some, every)))


def _holds(most: Amounts, need: Amounts) -> bool:
    return all(n <= m for n, m in zip(need, most, strict=True))


def _reaching(
    made: tuple[Load, ...], core: Core, most: Amounts
) -> tuple[tuple[Load, ...], tuple[Load, ...]]:
    """Layers with their output axons: the fewest there can be, and those that will do."""
    if not core.copies:
        found = tuple(reaching(load, core, {}) for load in made)
        return found, found
    reached: dict[str, int] = {}
    for _ in range(_MOST_ROUNDS):
        found = tuple(reaching(load, core, reached) for load in made)
        counts = {load.name: len(in_order((load,), (0,), most)) for load in found}
        if counts == reached:
            break
        reached = counts
    # A layer that begins in a core of another may lie on one more than by itself.
    more = {name: count + 1 for name, count in reached.items()}
    return found, tuple(reaching(load, core, more) for load in made)


def _beyond(placement: Placement, most: Amounts) -> int:
    """How many cores hold more than they can."""
    return sum(any(n > m for n, m in zip(core.used, most, strict=True)) for core in placement.cores)
