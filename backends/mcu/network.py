"""A network as its C sees it: members, tables, kernels, and the stages of a step in order.

Everything here is words and numbers for templates; `build` makes it from a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from qspinn.fixed import Interval

from .kernels import Kernel, Row
from .layout import Bands, CType, Member, Struct, Table, words


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
    """

    kind: str
    at: str
    size: int
    span: Interval
    type: CType
    valued: bool
    callers: bool = False
    fleeting: bool = False

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
    def value(self) -> str:
        """C for the value of event ``i``; for a list, of event ``e``."""
        code = "values[e]" if self.edge.kind == "list" else "from[i]"
        held, wanted = self.edge.type, self.kernel.value_type
        narrower = held.bits == 64 and wanted == "int32_t"
        return f"({wanted}){code}" if narrower or held.name == "uint32_t" else code


@dataclass(frozen=True, eq=False)
class Start:
    """A constant of every element: a literal, two of them, or a table.

    Attributes:
        literals: The value of all elements, or of the first and the second entry.
        table: The entries, where there are more.
        each: How many elements in a row share an entry.
        factor: What values are multiplied by when read.
    """

    literals: tuple[int, ...] = (0,)
    table: Table | None = None
    each: int = 1
    factor: int = 1

    @property
    def varies(self) -> bool:
        """Whether elements differ."""
        return self.table is not None or len(self.literals) > 1

    def read(self, index: str, kind: CType, macro: str) -> str:
        """C for the entry with an index, before the factor; literals are of type ``kind``."""
        if self.table is not None:
            return f"{macro}_READ({self.table.name} + {index})"
        first, *second = (number(value, kind) for value in self.literals)
        # Two entries are code: compilers would fold such a table into code as well.
        return f"({index} == 0u ? {first} : {second[0]})" if second else first

    def amount(self, to: CType, index: str, macro: str) -> str:
        """C for what is written to an element; ``index`` is its entry's."""
        if self.table is None:
            scaled = Start(tuple(value * self.factor for value in self.literals))
            code = scaled.read(index, to, macro)
            return code if len(self.literals) == 1 else f"({to.name}){code}"
        code = self.read(index, to, macro)
        if to.bits == 64:
            code = f"(int64_t){code}"
        if self.factor != 1:
            return f"({to.name})({code} * {self.factor})"
        return code if self.table.type.span in to.span else f"({to.name}){code}"


def number(value: int, kind: CType) -> str:
    """An integer literal of a type."""
    if not kind.signed:
        return f"{value}u"
    if value == kind.span.lo and kind.bits >= 32:
        return f"(-{-value - 1} - 1)"
    return str(value)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """A function that a step calls.

    Attributes:
        template: The file below ``mcu/stages`` that prints it.
        name: The C function.
        title: The comment above it.
        reads_input: Whether it takes the caller's arrays.
        bands: How the layer is divided, where the stage does a band that begins at row ``first``.
    """

    template: ClassVar[str]
    name: str
    title: str
    reads_input: bool = False
    bands: Bands | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Stage):
    """Fill an array with its start and add what every event of some edges contributes.

    Attributes:
        at: C for the array.
        type: Of its elements.
        count: How many they are.
        starts: Summed; nothing means zeros.
        drives: What is added.
    """

    template: ClassVar[str] = "gather"
    at: str
    type: CType
    count: int
    starts: tuple[Start, ...] = ()
    drives: tuple[Drive, ...] = ()

    @property
    def fills(self) -> tuple[Start, ...]:
        """What is written first, and what is added to that."""
        if self.bands is None:
            return self.starts or (Start(),)
        # One entry a channel: of each there are only some rows.
        planes = (replace(s, each=self.bands.plane if s.each > 1 else 1) for s in self.starts)
        return tuple(planes) or (Start(),)


@dataclass(frozen=True, slots=True)
class Load:
    """A constant of the loop body: what is read before anything is written."""

    type: str
    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Write:
    """What a loop writes to the elements of a member.

    Attributes:
        member: The member.
        code: C for the value.
        plain: Whether the value is the same everywhere, or copied: compilers make a library call
            of such a loop unless they are kept from it.
    """

    member: Member
    code: str
    plain: bool

    @property
    def target(self) -> str:
        """C for the array."""
        if self.plain:
            return f"((volatile {self.member.type.name} *)s->{self.member.name})"
        return f"s->{self.member.name}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Update(Stage):
    """One step of a layer of neurons.

    Attributes:
        size: Neurons.
        plane: Neurons of a channel, where some parameter is one a channel; else 0.
        stochastic: Whether it draws random numbers.
        loads: What is read.
        lines: The typed list as C.
        writes: What members keep.
        mask: The member that takes spikes as bits, or empty.
        sent: C for what is sent.
    """

    template: ClassVar[str] = "update"
    size: int
    plane: int
    stochastic: bool
    loads: tuple[Load, ...]
    lines: tuple[str, ...]
    writes: tuple[Write, ...]
    mask: str
    sent: str

    @property
    def words(self) -> int:
        """Words of the mask."""
        return words(self.size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Banded(Stage):
    """Sum and update a layer band by band.

    Attributes:
        layer: How it is divided.
        gather: Sums a band.
        update: Updates its neurons.
    """

    template: ClassVar[str] = "banded"
    layer: Bands
    gather: Gather
    update: Update


@dataclass(frozen=True, eq=False, kw_only=True)
class Copy(Stage):
    """Copy an array into a member."""

    template: ClassVar[str] = "copy"
    source: Edge
    at: str
    type: CType
    count: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Turn(Stage):
    """Move a delay line on by one slot."""

    template: ClassVar[str] = "turn"
    member: Member
    steps: int


@dataclass(frozen=True, eq=False)
class Vote:
    """How output elements vote for classes.

    Attributes:
        classes: How many there are.
        labels: The class of each element; ``classes``: it speaks for none.
        silent: Whether some element speaks for none.
        gains: What a spike for each class is worth.
    """

    classes: int
    labels: Start
    silent: bool
    gains: Start


@dataclass(frozen=True, eq=False, kw_only=True)
class Read(Stage):
    """Note what the readout needs of this step.

    Attributes:
        readout: As in `qspinn.ir.Output`.
        edge: What leaves the network.
        score: The member that keeps the running result, if the readout has one.
        membrane: The member that decides ties of the first spike, if there is one.
        vote: Whom each element votes for, if that is how it is decided.
    """

    template: ClassVar[str] = "read"
    readout: str
    edge: Edge
    score: Member | None
    membrane: Member | None
    vote: Vote | None = None

    @property
    def decisions(self) -> int:
        """How many there are to choose from."""
        return self.edge.size if self.vote is None else self.vote.classes


@dataclass(frozen=True, slots=True)
class Port:
    """What the caller passes to a step.

    Attributes:
        kind: ``spike``, ``count`` or ``current``.
        size: Inputs.
        index: The type of an index.
        value: The type of a value; None for spikes.
        span: The allowed values.
    """

    kind: str
    size: int
    index: CType
    value: CType | None
    span: Interval

    @property
    def bytes(self) -> int:
        """The caller's buffer in the worst case."""
        each = self.value.bytes if self.value else 0
        return self.size * (each if self.kind == "current" else each + self.index.bytes)


@dataclass(frozen=True, eq=False)
class Network:
    """Everything that templates print.

    Attributes:
        prefix: Starts every name; also the files' name.
        title: The network's own name, fit for a comment.
        model: The digest of the graph.
        port: The input.
        struct: The state.
        starts: What reset writes beyond zeros: members with a literal or a table.
        tables: Constants in flash.
        kernels: Each after those it calls.
        rows: The functions that add rows of weights.
        stages: In the order of a step.
        read: The last of them.
        states: The member of each state, ``lif1.v``.
        output: The name of the output node.
        counts_steps: Whether the state keeps the step since reset.
        ignored: Inputs whose weights are all zeros.
    """

    prefix: str
    title: str
    model: str
    port: Port
    struct: Struct
    starts: tuple[tuple[Member, Start], ...]
    tables: tuple[Table, ...]
    kernels: tuple[Kernel, ...]
    rows: tuple[Row, ...]
    stages: tuple[Stage, ...]
    read: Read
    states: Mapping[str, Member]
    shapes: Mapping[str, tuple[int, ...]]
    output: str
    counts_steps: bool
    ignored: int = 0

    @property
    def called(self) -> tuple[Stage, ...]:
        """The stages that a step itself calls."""
        return tuple(stage for stage in self.stages if stage.bands is None)

    @property
    def macro(self) -> str:
        """What every macro starts with."""
        return self.prefix.upper()
