"""Leaky neurons of an image two at a time, where their states lie as their sums do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from qspinn.fixed import Interval
from qspinn.ir import Neuron
from qspinn.program import Program

from .layout import Member, Table, holding
from .network import Drive, Stage, Start, Update, Write
from .packedfours import PackedFours, packed_fours, takes_byte
from .packedlif import Lanes, PackedLif, packed_lif
from .parts import Parts
from .resting import Resting, resting
from .sums import Scratch, lies_flat
from .view import View
from .windows import quotient

Pairwise = PackedLif | Resting | PackedFours
"""What is known of an update of several neurons at once."""


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
class WordImage(Stage):
    """One step of a layer, the neurons of a word at once.

    Attributes:
        update: The neurons, one at a time.
        exact: The C function that updates the two of a word one at a time, if there is one.
        constants: What the packed update computes with.
        sums: C for the array of sums.
    """

    update: Update
    exact: str
    constants: Table
    sums: str

    @property
    def exact_title(self) -> str:
        """The comment above `exact`."""
        return f"{self.update.title[:-1]}, for the two of word `at` alone."


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedImage(WordImage):
    """A layer of leaky neurons.

    Attributes:
        packed: How two of them are updated.
        spike: The C function of words in which neurons spike, or that are out of range.
    """

    template: ClassVar[str] = "packed"
    packed: PackedLif
    spike: str


@dataclass(frozen=True, eq=False, kw_only=True)
class FoursImage(WordImage):
    """A layer of leaky neurons whose membranes take a byte.

    Attributes:
        packed: How four of them are updated.
        spike: The C function of words in which neurons spike.
    """

    template: ClassVar[str] = "fours"
    packed: PackedFours
    spike: str


@dataclass(frozen=True, eq=False, kw_only=True)
class RestingImage(WordImage):
    """A layer of neurons that add up what comes, and may send counts.

    Attributes:
        packed: How two of them are updated.
        counts: The member that takes what they send; None where spikes are noted in a mask.
        drives: What is added to its sums.
    """

    template: ClassVar[str] = "resting"
    packed: Resting
    counts: Member | None
    drives: tuple[Drive, ...] = ()

    @property
    def words(self) -> int:
        """Words that are cleared."""
        return self.update.words if self.counts is None else self.counts.elements


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
    if node.shape[0] % 2 or not _takes_half(node):
        return None
    made = packed_lif(program, sums, biases, params)
    if made is None or made.biases or made.thresholds is not None:
        return None
    return made


def image_update(
    node: Neuron, program: Program, sums: Lanes, biases: tuple[Start, ...],
    params: Mapping[str, Start],
) -> PackedLif | PackedFours | None:  # fmt: skip
    """The update of the neurons of a word at once, as `image_lif`; or of four that take a byte."""
    if takes_byte(node):
        constant = not any(start.varies for start in params.values())
        return packed_fours(program, sums.reach, sums.gain, biases) if constant else None
    return image_lif(node, program, sums, biases, params)


def laid_out(
    view: View, node: Neuron, program: Program, place: Scratch, params: Mapping[str, Start],
    eight: bool,
) -> tuple[bool, Pairwise | None]:  # fmt: skip
    """Whether states lie as their sums do, and how two of them are updated at once.

    Args:
        view: The graph.
        node: The layer.
        program: Its typed list.
        place: Where its sums are.
        params: Where each parameter is found.
        eight: Whether it is for cores with 8-bit registers.
    """
    if place.image is None:
        return False, None
    flat = lies_flat(view, node, program)
    if not place.pairs or node.shape[0] % 2 or eight:
        return flat, None
    sums = ImageSums.of(view, node)
    packed = image_update(node, program, sums, (), params) if flat else None
    if packed is not None:
        return True, packed
    counts = view.in_fours(node) and lies_flat(view, node, program, "count")
    made = None
    if (flat or counts) and _takes_half(node) and not any(p.varies for p in params.values()):
        made = resting(program, sums.reach)
    return flat or made is not None, made


def _takes_half(node: Neuron) -> bool:
    """Whether a layer has no state but membranes of half a word."""
    if set(node.states) != {"v"}:
        return False
    held = node.states["v"]
    assert held.fmt is not None, "an integer graph"
    span = held.fmt.range | Interval(int(held.init.values.min()), int(held.init.values.max()))
    return holding(span).bits == 16


def by_place(
    update: Update, node: Neuron, place: Scratch, packed: Pairwise | None, flat: bool,
    parts: Parts, sent: Member | None,
) -> Update | WordImage:  # fmt: skip
    """A layer that is updated where its sums are; in pairs, where it may be.

    Args:
        update: The neurons, one at a time.
        node: The layer.
        place: Where its sums are.
        packed: The packed update; None where there is none.
        flat: Whether its states lie as its sums do.
        parts: Hands out names and takes constants.
        sent: The member that takes what it sends.
    """
    at = quotient("i", node.shape[0], update.size, parts.prefix) if flat else ""
    made = replace(update, bands=place.bands, image=place.image, place=at)
    if packed is None:
        return made
    sums = f"s->{place.member.name}"
    exact = "" if isinstance(packed, PackedFours) else parts.function("exact", node.name)
    constants = parts.constants(node, packed.constants)
    if isinstance(packed, PackedLif):
        return PackedImage(
            name=made.name, title=made.title, bands=made.bands, update=made, packed=packed,
            exact=exact, spike=parts.function("spike", node.name), constants=constants, sums=sums,
        )  # fmt: skip
    if isinstance(packed, PackedFours):
        return FoursImage(
            name=made.name, title=made.title, bands=made.bands, update=made, packed=packed,
            exact="", spike=parts.function("spike", node.name), constants=constants, sums=sums,
        )  # fmt: skip
    counts = None if update.mask else sent
    made = _without(made, counts)
    return RestingImage(
        name=made.name, title=made.title, bands=made.bands, update=made, packed=packed, exact=exact,
        constants=constants, sums=sums, counts=counts,
    )  # fmt: skip


def _without(update: Update, member: Member | None) -> Update:
    """The same, less what is written to a member."""

    def others(writes: tuple[Write, ...]) -> tuple[Write, ...]:
        return tuple(write for write in writes if write.member is not member)

    calm = update.calm and replace(update.calm, writes=others(update.calm.writes))
    return replace(update, writes=others(update.writes), calm=calm)
