"""Where the values of signals are found within a step, and the loops over their events."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.fixed import Interval

from .kernels import Kernel
from .layout import CType, words
from .windows import Image


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the values of a signal are found within a step.

    Attributes:
        kind: ``list`` (the caller's events), ``mask`` (a bit each) or ``dense`` (a value each).
        at: C for the array.
        size: The number of elements.
        span: The interval of a value.
        type: Of an element of the array.
        valued: Whether events carry a value; else each is worth one.
        callers: Whether the array is the caller's.
        fleeting: Whether the array changes before the step ends.
        fours: Whether it is one of words, each of four values.
    """

    kind: str
    at: str
    size: int
    span: Interval
    type: CType
    valued: bool
    callers: bool = False
    fleeting: bool = False
    fours: bool = False

    @property
    def pointer(self) -> str:
        """C for the first element."""
        return f"(const {self.type.name} *){self.at}" if self.fours else self.at

    @property
    def words(self) -> int:
        """Words of a mask."""
        return words(self.size)


@dataclass(frozen=True, eq=False)
class Drive:
    """A loop over the events of an edge that calls a kernel for each."""

    edge: Edge
    kernel: Kernel

    @property
    def fours(self) -> bool:
        """Whether values are looked through four at a time."""
        if not self.edge.fours or not self.kernel.by_place:
            return self.edge.fours
        image: Image = getattr(self.kernel, "image")  # noqa: B009  # those given a place have one
        return image.x.size % 4 == 0 and (not self.kernel.summed or 4 % image.x.kernel == 0)

    @property
    def how(self) -> str:
        """The loop over the events of an image."""
        if self.edge.kind != "dense":
            return {"list": "listed", "mask": "masked"}[self.edge.kind]
        found = "pooled" if self.kernel.summed else "valued"
        return f"{found}_fours" if self.fours else found

    @property
    def value(self) -> str:
        """C for the value of event ``i``; for a list, of event ``e``."""
        return self.value_of("values[e]" if self.edge.kind == "list" else "from[i]")

    def value_of(self, code: str) -> str:
        """A value that is read, in the type the kernel takes."""
        held, wanted = self.edge.type, self.kernel.value_type
        narrower = held.bits == 64 and wanted == "int32_t"
        return f"({wanted}){code}" if narrower or held.name == "uint32_t" else code
