"""The scratch of a step: how wide sums over synapses are, and how many are kept at once.

An image of many neurons is updated in bands, some rows of every channel at a time: then the sums
of a band take the place of those of the whole image, which would outweigh narrow states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from qspinn.ir import Conv1d, Conv2d, Neuron, Node, Output
from qspinn.program import Program

from .connections import entries
from .layout import Bands, CType, Member, holding, lane_for
from .names import Names
from .scatter import PAIR, pairable
from .tiles import TileSum, rest
from .view import View, sum_type

_SHARE = 8
"""Sums take at most about one part in so many of what the states take."""
PAIR_BITS = 16
_SMALL = 256
"""Bytes of sums that do not repay going through the events once a band."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the sums of a layer are.

    Attributes:
        member: The array, which other layers use as well.
        count: How many elements of it.
        bands: How the layer is divided; None where it is summed as a whole.
        image: How sums lie whose channels are side by side: the whole image, or a band of it;
            None: channel by channel.
        pairs: Whether two sums share a word.
    """

    member: Member
    count: int
    bands: Bands | None
    image: Bands | None = None
    pairs: bool = False

    @property
    def type(self) -> CType:
        """What is added to: sums, or words of two."""
        return CType(32, signed=False) if self.pairs else self.member.type

    @property
    def at(self) -> str:
        """C for the array."""
        return f"{'(uint32_t *)' if self.pairs else ''}s->{self.member.name}"

    def read(self, prefix: str) -> str:
        """C for the sum of a neuron: the loop that updates it counts ``j`` where the two differ."""
        index = "j" if self.image or self.bands else "i"
        if self.pairs:
            return f"{prefix}_half(s->{self.member.name}, {index})"
        return f"s->{self.member.name}[{index}]"

    @property
    def band(self) -> int:
        """Rows that are summed at a time; 0: all."""
        return self.bands.height if self.bands else 0


def sums(view: View, places: Names, done: Mapping[str, TileSum]) -> dict[str, Scratch]:
    """The scratch of every layer that has sums; layers of one type share an array.

    Args:
        view: The graph.
        places: Hands out names of members.
        done: What is summed by tiles, which keep their sums in registers.
    """
    needed: dict[str, CType] = {}
    bands: dict[str, Bands | None] = {}
    counts: dict[str, int] = {}
    images: dict[str, Bands | None] = {}
    paired: set[str] = set()
    for node in view.graph.of_type(Neuron):
        if rest(view, node, done.get(node.name)):
            lazy = view.lazy_inputs(node)  # all of them: their biases start the sums
            frac = view.current(node).frac
            kind = needed[node.name] = sum_type([view.reach(x, frac) for x in lazy])
            cut = bands[node.name] = _bands(view, node, kind)
            counts[node.name] = cut.size if cut else view.signals[node.name].size
            image = images[node.name] = _image(view, node, cut)
            if image and kind.bits == PAIR_BITS and all(map(pairable, _convolutions(lazy))):
                paired.add(node.name)
    types = shared(needed, counts)
    # Pairs need an array of words, which other layers may have to use as well.
    halved = {name: n // 2 if name in paired else n for name, n in counts.items()}
    wide = shared({n: PAIR if n in paired else kind for n, kind in needed.items()}, halved)
    if all(wide[name] == PAIR for name in paired) and (
        _bytes((wide[n], halved[n]) for n in wide) <= _bytes((types[n], counts[n]) for n in types)
    ):
        types, counts = wide, halved
    else:
        paired.clear()
    sizes: dict[CType, int] = {}
    for name, kind in types.items():
        sizes[kind] = max(sizes.get(kind, 0), counts[name])
    for name, cut in bands.items():
        if cut is not None:
            # An array that others need anyway is used whole: fewer bands, fewer visits of events.
            row = counts[name] // cut.height
            taller = _taller(cut, sizes[types[name]] // row)
            bands[name] = None if taller.height == taller.rows else taller
            images[name] = images[name] and taller
            counts[name] = row * taller.height
    arrays = {
        kind: Member(
            places.new(f"sum{kind.bits}"), kind, size, "scratch", "sums",
            "scratch: sums over synapses",
        )
        for kind, size in sizes.items()
    }  # fmt: skip
    return {
        name: Scratch(arrays[kind], counts[name], bands[name], images[name], name in paired)
        for name, kind in types.items()
    }


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


def _taller(bands: Bands, height: int) -> Bands:
    """Bands of at most so many rows, none much lower than the others."""
    count = -(-bands.rows // height)
    return replace(bands, height=-(-bands.rows // count))


def lies_flat(view: View, node: Neuron, program: Program, sends: str = "spike") -> bool:
    """Whether the states of an image may lie place by place: nothing else numbers its neurons."""
    used = {op.name for op in program.ops if op.kind == "param"}
    kept = [param.values for name, param in node.values.items() if name in used]
    return (
        program.sends == sends
        and not program.stochastic
        and len(view.lazy_inputs(node)) == len(node.inputs)
        and all(view.source(x.inputs[0]).name != node.name for x in view.graph.of_type(Output))
        and all(state.init.values.size == 1 for state in node.states.values())
        and all(len(entries(values, node.shape)[0]) <= node.shape[0] for values in kept)
    )


def _image(view: View, node: Neuron, bands: Bands | None) -> Bands | None:
    """How sums lie with channels last; None where not all come from convolutions."""
    lazy = view.lazy_inputs(node)
    if len(_convolutions(lazy)) < len(lazy):
        return None
    if any(view.signals[x.name].shape != node.shape for x in lazy):
        return None
    channels, *rows, columns = node.shape
    height = rows[0] if rows else 1
    return bands or Bands(channels, height, columns, height)


def _convolutions(nodes: Sequence[Node]) -> list[Conv1d | Conv2d]:
    return [node for node in nodes if isinstance(node, Conv1d | Conv2d)]


def _state_bytes(view: View) -> int:
    """About what the states of all neurons take."""
    bits = 0
    for node in view.graph.of_type(Neuron):
        for state in node.states.values():
            assert state.fmt is not None, "an integer graph"
            span, size = state.fmt.range, view.signals[node.name].size
            lane = lane_for(span, size)
            bits += (lane.bits if lane else holding(span).bits) * size
    return bits // 8
