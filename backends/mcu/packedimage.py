"""Leaky neurons of an image two at a time, where their states lie as their sums do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from qspinn.fixed import Interval
from qspinn.ir import Neuron
from qspinn.program import Program

from .layout import Table, holding
from .network import Stage, Start, Update
from .packedlif import Lanes, PackedLif, packed_lif
from .parts import Parts
from .sums import Scratch
from .view import View
from .windows import quotient


@dataclass(frozen=True, slots=True)
class ImageSums:
    """What is known of sums of which two share a word, each plus 2^15.

    Attributes:
        reach: The interval of a sum.
        gain: What it is multiplied by.
    """

    reach: Interval
    gain: int = 1

    @classmethod
    def of(cls, view: View, node: Neuron) -> ImageSums:
        """The sums of a layer's connections and their biases."""
        frac = view.current(node).frac
        reaches = [view.reach(x, frac) for x in view.lazy_inputs(node)]
        return cls(Interval(sum(r.lo for r in reaches), sum(r.hi for r in reaches)))


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedImage(Stage):
    """One step of a layer, two neurons at once.

    Attributes:
        update: The neurons, one at a time.
        packed: How two of them are updated.
        exact: The C function that updates the two of a word one at a time.
        spike: The C function of words in which neurons spike, or that are out of range.
        constants: What the packed update computes with: three words.
        sums: C for the array of sums.
    """

    template: ClassVar[str] = "packed"
    update: Update
    packed: PackedLif
    exact: str
    spike: str
    constants: Table
    sums: str

    @property
    def exact_title(self) -> str:
        """The comment above `exact`."""
        return f"{self.update.title[:-1]}, for the two of word `at` alone."


def image_lif(
    node: Neuron, program: Program, sums: Lanes, biases: tuple[Start, ...],
    params: Mapping[str, Start],
) -> PackedLif | None:  # fmt: skip
    """The packed update of a layer whose states lie place by place; None where there is none.

    Two membranes take a word, so those that take less than half of one are left as they are.

    Args:
        node: The layer.
        program: Its typed list.
        sums: What is known of its sums.
        biases: What is added to them.
        params: Where each parameter is found.
    """
    if set(node.states) != {"v"} or node.shape[0] % 2:
        return None
    held = node.states["v"]
    assert held.fmt is not None, "an integer graph"
    span = held.fmt.range | Interval(int(held.init.values.min()), int(held.init.values.max()))
    if holding(span).bits != 16:
        return None
    made = packed_lif(program, sums, biases, params)
    if made is None or made.biases or made.thresholds is not None:
        return None
    return made


def by_place(
    update: Update, node: Neuron, place: Scratch, packed: PackedLif | None, flat: bool, parts: Parts
) -> Update | PackedImage:
    """A layer that is updated where its sums are; in pairs, where it may be.

    Args:
        update: The neurons, one at a time.
        node: The layer.
        place: Where its sums are.
        packed: The packed update; None where there is none.
        flat: Whether its states lie as its sums do.
        parts: Hands out names and takes constants.
    """
    at = quotient("i", node.shape[0], update.size, parts.prefix) if flat else ""
    made = replace(update, bands=place.bands, image=place.image, place=at)
    if packed is None:
        return made
    return PackedImage(
        name=made.name, title=made.title, bands=made.bands, update=made, packed=packed,
        exact=parts.function("exact", node.name), spike=parts.function("spike", node.name),
        constants=parts.constants(node, packed.constants), sums=f"s->{place.member.name}",
    )  # fmt: skip
