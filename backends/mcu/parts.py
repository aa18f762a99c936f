"""The parts of a network as they are made: names, members, tables, kernels and stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from qspinn.fixed import Interval
from qspinn.ir import Node
from qspinn.signals import Signal

from . import lanes
from .connections import Tables
from .kernels import AddKernel, Kernel, MarkKernel, RaiseKernel
from .layout import Bands, CType, Member, Table, holding, lane_for, words
from .names import Names
from .network import Banded, Copy, Drive, Edge, Gather, Stage, Start
from .pairs import Fours, Pairs, Quads
from .scatter import PAIRS
from .tileforms import FORMS

WORD = CType(32, signed=False)
API = (
    *("sample", "sample_starts", "sample_rows", "sample_events", "sample_values", "sample_mask"),
    *("selftest", "selftest_digest", "selftest_digests", "selftest_mix"),
    "reset", "step", "winner", "output", "score", "state", "state_t", "status", "status_t",
    *("vote", "votes", "load"),
    *("run", "decided", "encode", "encode_active", "active", "raw", "raw_t", "chance", "value"),
    *("key", "scramble", "draw", "bound"),
    *("asr", "asr64", "divide", "join", "mask64", "mix", "mul64", "noise", "ones", "signed"),
    *("wrap", "wrap64"), *lanes.FUNCTIONS, *("get_pair", "put_pair", "get_quad", "put_quad"),
    *(f"tile_{more}u{bits}" for more in ("", "more_") for bits in (8, 16, 32)),
    *(f"tile_{more}u{bits}_two" for more in ("", "more_") for bits in (8, 16, 32)),
    *(
        f"tile_{form.name}_{more}u{bits}"
        for form in FORMS for more in ("", "more_") for bits in (8, 16, 32)
    ),
    *PAIRS, "half_t", "lowest",
    *("flash", *(f"flash_{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32))),
)  # fmt: skip
"""Names of functions and types that no node's function may take."""


class Parts:
    """Everything made so far."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.names = Names(frozenset(f"{prefix}_{word}" for word in API))
        self.places = Names()
        self.tables = Tables(prefix, self.names, {})
        self.members: list[Member] = []
        self.starts: list[tuple[Member, Start]] = []
        self.edges: dict[str, Edge] = {}
        self.kernels: list[Kernel] = []
        self.stages: list[Stage] = []
        self.owners: dict[str, str] = {}

    def make(self, nodes: Iterable[Node], each: Callable[[Node], None]) -> None:
        """Make every node, and note whose the stages are."""
        for node in nodes:
            before = len(self.stages)
            each(node)
            self.owners.update((stage.name, node.name) for stage in self.stages[before:])

    def function(self, *parts: str) -> str:
        """A new name for a function."""
        return self.names.new("_".join((self.prefix, *parts)))

    def member(
        self, name: str, kind: CType, count: int, role: str, owner: str, note: str
    ) -> Member:
        """A new member of the state struct."""
        return self.keep_member(Member(self.places.new(name), kind, count, role, owner, note))

    def packed(
        self, name: str, span: Interval, count: int, owner: str, note: str, places: int = 0
    ) -> Member:
        """A new member for states of neurons; narrow ones share bytes where that saves some."""
        lane = lane_for(span, count)
        kind = holding(span) if lane is None else CType(8, signed=False)
        if lane is not None:
            note += f", {lane.note}"
        if places:
            note += ", all channels of a place side by side"
        return self.keep_member(
            Member(self.places.new(name), kind, count, "state", owner, note, lane, places)
        )

    def pairs(
        self, name: str, held: Pairs | Quads, count: int, owner: str, note: str, places: int = 0
    ) -> Member:
        """A new member for membranes of two or four neurons a word."""
        many = "two" if isinstance(held, Pairs) else "four"
        note += f", plus {held.offset} and {many} a word"
        return self.keep_member(
            Member(self.places.new(name), WORD, count, "state", owner, note, held, places)
        )

    def constants(self, node: Node, values: tuple[int, ...]) -> Table:
        """A table of words that code computes with."""
        held = np.array(values, np.int64)
        return self.tables.add(node, "lanes", "constants", WORD, held, "of two neurons at once")

    def keep_member(self, made: Member) -> Member:
        """Enter a member of the state struct."""
        self.members.append(made)
        return made

    def store(
        self, name: str, signal: Signal, role: str, owner: str, note: str, slots: int = 1,
        fours: bool = False,
    ) -> tuple[Edge, Member]:  # fmt: skip
        """A member that holds a signal, ``slots`` times over: bits for spikes, else values.

        With ``fours``, counts of a byte may be read four at a time.
        """
        assert signal.interval is not None, "an integer graph"
        spikes = signal.kind == "spike"
        kind = WORD if spikes else holding(signal.interval)
        count = words(signal.size) if spikes else signal.size
        if fours:
            made = Member(self.places.new(name), WORD, count, role, owner, note, Fours())
            self.keep_member(made)
            at = f"s->{made.name}"
            edge = Edge("dense", at, count, signal.interval, kind, valued=True, fours=True)
            return edge, made
        made = self.member(name, kind, count * slots, role, owner, note)
        shape = "mask" if spikes else "dense"
        return (
            Edge(shape, f"s->{made.name}", signal.size, signal.interval, kind, valued=not spikes),
            made,
        )

    def kernel(self, made: Kernel) -> Kernel:
        """A new kernel; it comes after those it calls."""
        self.kernels.append(made)
        return made

    def add(self, name: str, to: CType, valued: bool, gain: int = 1) -> Kernel:
        """A kernel that adds an event to its element."""
        title = "adds an event to its element"
        return self.kernel(AddKernel(name=name, to=to, valued=valued, gain=gain, title=title))

    def most(self, name: str, edge: Edge) -> Kernel:
        """A kernel of a maximum: of spikes, whether any arrived."""
        if edge.kind == "mask":
            return self.mark(name)
        title = "keeps the largest value"
        return self.kernel(RaiseKernel(name=name, to=edge.type, valued=True, title=title))

    def mark(self, name: str) -> Kernel:
        """A kernel that sets the bit of an event."""
        title = "sets the bit of an event"
        return self.kernel(MarkKernel(name=name, to=WORD, valued=False, title=title))

    def gather(
        self, name: str, title: str, edge: Edge, drives: tuple[Drive, ...],
        starts: tuple[Start, ...] = (), bands: Bands | None = None, last: int = 0,
        pairs: bool = False,
    ) -> Gather:  # fmt: skip
        """A stage that fills an array from events; ``last``, ``pairs``: see `Gather`."""
        made = Gather(
            name=self.function(name), title=title, at=edge.at, type=edge.type,
            count=edge.words if edge.kind == "mask" else edge.size,
            reads_input=any(d.edge.callers for d in drives), starts=starts, drives=drives,
            bands=bands, last=last, pairs=pairs,
        )  # fmt: skip
        self.stages.append(made)
        return made

    def banded(self, name: str, title: str, bands: Bands, gather: Gather, update: Stage) -> None:
        """A stage that calls two others for every band."""
        reads = gather.reads_input or update.reads_input
        self.stages.append(
            Banded(
                name=name, title=title, reads_input=reads, layer=bands, gather=gather, update=update
            )
        )

    def keep(self, name: str, title: str, source: Edge, to: Edge) -> None:
        """A stage that stores a signal that would be gone later."""
        if source.kind == "list":
            function = self.function(name, "event")
            masked = to.kind == "mask"
            kernel = self.mark(function) if masked else self.add(function, to.type, valued=True)
            self.gather(name, title, to, (Drive(source, kernel),))
            return
        self.stages.append(
            Copy(
                name=self.function(name), title=title, reads_input=source.callers, source=source,
                at=to.at, type=to.type, count=to.words if to.kind == "mask" else to.size,
            )
        )  # fmt: skip
