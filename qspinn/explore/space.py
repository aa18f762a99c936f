"""The space of candidates: knobs with options, finest first, and what a candidate is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from qspinn.errors import PlanError

KINDS = (
    "weight", "bias", "membrane", "current", "threshold", "decay", "scale", "input", "steps",
    "scheme",
)  # fmt: skip
"""What a knob turns: Q-SpiNN's parameters, and what is chosen beside their precision."""

Candidate = tuple[int, ...]
"""The option taken of each knob, by position."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that can be chosen.

    Attributes:
        name: The plan path, such as ``fc1.weight`` (its width) or ``fc1.weight:rounding``.
        kind: One of `KINDS`.
        layer: The path of the neuron node it belongs to; empty: the whole network.
        options: Words for people and plans, the finest (most bits) first.
        ordered: Whether neighbouring options are neighbouring precisions.
    """

    name: str
    kind: str
    layer: str
    options: tuple[str, ...]
    ordered: bool = True


@dataclass(frozen=True)
class Space:
    """All combinations of the options of some knobs."""

    knobs: tuple[Knob, ...]

    @property
    def size(self) -> int:
        """The number of candidates."""
        return prod(len(knob.options) for knob in self.knobs)

    @property
    def finest(self) -> Candidate:
        """The candidate that takes every knob's first option."""
        return (0,) * len(self.knobs)

    def all(self) -> Iterator[Candidate]:
        """Every candidate, in lexicographic order."""
        return product(*(range(len(knob.options)) for knob in self.knobs))

    def words(self, candidate: Candidate) -> dict[str, str]:
        """The options taken, by the knobs' names."""
        pairs = zip(self.knobs, candidate, strict=True)
        return {knob.name: knob.options[taken] for knob, taken in pairs}

    def index(self, name: str) -> int:
        """The position of the knob called ``name``.

        Raises:
            PlanError: There is none.
        """
        for i, knob in enumerate(self.knobs):
            if knob.name == name:
                return i
        known = ", ".join(knob.name for knob in self.knobs[:12])
        raise PlanError(f"nothing called {name} is explored", hint=f"there are {known}")

    def moved(self, candidate: Candidate, knob: int, option: int) -> Candidate:
        """The candidate with one option changed."""
        return (*candidate[:knob], option, *candidate[knob + 1 :])

    def tied(self, groups: Sequence[Sequence[int]]) -> Iterator[Candidate]:
        """The candidates in which the knobs of a group take options of the same words.

        A knob that lacks a word of its group's first one takes its finest option.
        """
        heads = [self.knobs[group[0]] for group in groups]
        for taken in product(*(range(len(head.options)) for head in heads)):
            made = list(self.finest)
            for group, head, option in zip(groups, heads, taken, strict=True):
                word = head.options[option]
                for knob in group:
                    options = self.knobs[knob].options
                    made[knob] = options.index(word) if word in options else 0
            yield tuple(made)
