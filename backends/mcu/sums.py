"""The scratch of a step: how wide sums over synapses are, and how many are kept at once.

An image of many neurons is updated in bands, some rows of every channel at a time: then the sums
of a band take the place of those of the whole image, which would outweigh narrow states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from qspinn.ir import Conv2d, Neuron

from .layout import Bands, CType, Member, holding, lane_for
from .names import Names
from .view import View, sum_type

_SHARE = 8
"""Sums take at most about one part in so many of what the states take."""
_SMALL = 256
"""Bytes of sums that do not repay going through the events once a band."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the sums of a layer are.

    Attributes:
        member: The array, which other layers use as well.
        count: How many elements of it.
        bands: How the layer is divided; None where it is summed as a whole.
    """

    member: Member
    count: int
    bands: Bands | None


def sums(view: View, places: Names) -> dict[str, Scratch]:
    """The scratch of every layer that has sums; layers of one type share an array.

    Args:
        view: The graph.
        places: Hands out names of members.
    """
    needed: dict[str, CType] = {}
    bands: dict[str, Bands | None] = {}
    counts: dict[str, int] = {}
    for node in view.graph.of_type(Neuron):
        if lazy := view.lazy_inputs(node):
            frac = view.current(node).frac
            kind = needed[node.name] = sum_type([view.reach(x, frac) for x in lazy])
            cut = bands[node.name] = _bands(view, node, kind)
            counts[node.name] = cut.size if cut else view.signals[node.name].size
    types = shared(needed, counts)
    sizes: dict[CType, int] = {}
    for name, kind in types.items():
        sizes[kind] = max(sizes.get(kind, 0), counts[name])
    arrays = {
        kind: Member(
            places.new(f"sum{kind.bits}"), kind, size, "scratch", "sums",
            "scratch: sums over synapses",
        )
        for kind, size in sizes.items()
    }  # fmt: skip
    return {name: Scratch(arrays[kind], counts[name], bands[name]) for name, kind in types.items()}


def shared(needed: Mapping[str, CType], counts: Mapping[str, int]) -> dict[str, CType]:
    """The types that take the fewest bytes: a layer may sum in a wider one that others need.

    Args:
        needed: The narrowest type of each layer.
        counts: How many sums it has at once.
    """
    kinds = sorted(set(needed.values()), key=lambda kind: kind.bits)
    best: dict[str, CType] = {}
    least = 0
    for number in range(1, len(kinds) + 1):
        for chosen in combinations(kinds, number):
            if chosen[-1] != kinds[-1]:
                continue
            types = {
                name: next(k for k in chosen if k.bits >= kind.bits)
                for name, kind in needed.items()
            }
            size = _bytes((kind, counts[name]) for name, kind in types.items())
            if not best or size < least:
                best, least = types, size
    return best


def _bytes(arrays: Iterable[tuple[CType, int]]) -> int:
    """What layers take that share an array of each type."""
    sizes: dict[CType, int] = {}
    for kind, count in arrays:
        sizes[kind] = max(sizes.get(kind, 0), count)
    return sum(kind.bytes * count for kind, count in sizes.items())


def _bands(view: View, node: Neuron, kind: CType) -> Bands | None:
    """How a layer is divided; None where its sums are few, or come from more than images."""
    lazy = view.lazy_inputs(node)
    if len(node.shape) != 3 or not all(isinstance(x, Conv2d) for x in lazy):
        return None
    channels, rows, columns = node.shape
    limit = max(_state_bytes(view) // _SHARE, _SMALL)
    row = channels * columns * kind.bytes
    if rows * row <= limit:
        return None
    count = -(-rows // max(limit // row, 1))
    return Bands(channels, rows, columns, -(-rows // count)) if count > 1 else None


def _state_bytes(view: View) -> int:
    """About what the states of all neurons take."""
    bits = 0
    for node in view.graph.of_type(Neuron):
        for state in node.states.values():
            assert state.fmt is not None, "an integer graph"
            lane = lane_for(state.fmt.range)
            each = lane.bits if lane else holding(state.fmt.range).bits
            bits += each * view.signals[node.name].size
    return bits // 8
