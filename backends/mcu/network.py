"""A network as its C sees it: members, tables, kernels, and the stages of a step in order.

Everything here is words and numbers for templates; `build` makes it from a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from qspinn.fixed import Interval
from qspinn.program import Program

from .edges import Drive as Drive  # where others look for it
from .edges import Edge as Edge
from .joining import Place
from .kernels import Kernel
from .lanes import Lane
from .layout import Bands, CType, Member, Struct, Table, words
from .origins import Source
from .rows import Row
from .sparse import SparseRow
from .starts import Start as Start  # where others look for it
from .starts import number as number
from .tileforms import WHOLE, TileForm

if TYPE_CHECKING:
    from .quiet import Calm
    from .readouts import Vote


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
        last: Channels of an image, if those of a place lie side by side; else 0.
        pairs: Whether two sums share a word.
    """

    template: ClassVar[str] = "gather"
    at: str
    type: CType
    count: int
    starts: tuple[Start, ...] = ()
    drives: tuple[Drive, ...] = ()
    half: ClassVar[CType] = CType(32, signed=True)
    last: int = 0
    pairs: bool = False

    @property
    def fills(self) -> tuple[Start, ...]:
        """What is written first, and what is added to that."""
        if self.bands is None or self.last:
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
        image: How the sums lie, where the channels of a place lie side by side; else None.
        calm: A shorter way for neurons that send nothing; None: all go one way.
        place: C for the place of neuron ``i`` where states lie as the sums do; else empty.
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
    image: Bands | None = None
    calm: Calm | None = None
    place: str = ""
    narrow: tuple[tuple[Load, ...], tuple[str, ...]] = ((), ())
    """Loads and lines in the narrowest types, for 8-bit cores."""
    program: Program | None = None
    """The typed list, which kernels are matched on."""

    @property
    def shares(self) -> bool:
        """Whether states of several neurons share a byte."""
        return any(isinstance(write.member.lane, Lane) for write in self.writes)

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
    update: Stage


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Read(Stage):
    """Note what the readout needs of this step.

    Attributes:
        readout: As in `qspinn.ir.Output`.
        output: The name of the output node.
        edge: What leaves the network.
        score: The member that keeps the running result, if the readout has one.
        membrane: The member that decides ties of the first spike, if there is one.
        vote: Whom each element votes for, if that is how it is decided.
        word: What it is called in names of C; empty where it is the only output.
        decides: Whether the functions and macros that name no output are of this one.
    """

    template: ClassVar[str] = "read"
    readout: str
    output: str
    edge: Edge
    score: Member | None
    membrane: Member | None
    vote: Vote | None = None
    word: str = ""
    decides: bool = True

    @property
    def start(self) -> str:
        """What the names of its functions start with, after the network's prefix."""
        return "" if self.decides else f"{self.word}_"

    @property
    def end(self) -> str:
        """What the names of its macros end with."""
        return "" if self.decides else f"_{self.word.upper()}"

    @property
    def decisions(self) -> int:
        """How many there are to choose from."""
        return self.edge.size if self.vote is None else self.vote.classes


@dataclass(frozen=True, slots=True)
class TileAdder:
    """The function that adds the rows of a list to the sums of a tile.

    Attributes:
        index: The type of an element of the list.
        more: Whether it adds to sums that are there; else it begins anew.
        form: How the weights of a row lie.
    """

    index: CType
    more: bool
    form: TileForm = WHOLE

    @property
    def name(self) -> str:
        """Its name, without the network's prefix."""
        form = "" if self.form == WHOLE else f"{self.form.name}_"
        return f"tile_{form}{'more_' if self.more else ''}u{self.index.bits}"


@dataclass(frozen=True, slots=True)
class Port:
    """What the caller passes to a step.

    Attributes:
        kind: ``spike``, ``count`` or ``current``.
        form: ``events`` or ``mask``; ``values`` or, where they are passed once, ``load``.
        size: Inputs.
        index: The type of an index.
        value: The type of a value; None for spikes.
        span: The allowed values.
        frac: Their binary point.
    """

    kind: str
    form: str
    size: int
    index: CType
    value: CType | None
    span: Interval
    frac: int = 0

    @property
    def bytes(self) -> int:
        """The caller's buffer in the worst case."""
        if self.form == "mask":
            return words(self.size) * 4
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
        read: What the output that decides keeps; the last of the stages, but for other outputs'.
        others: The same of every further output.
        states: The member of each state, ``lif1.v``.
        counts_steps: Whether the state keeps the step since reset.
        worst_sops: The weights that a step adds at most, where that was asked.
        ignored: Inputs whose weights are all zeros.
        owners: The node that a stage was made for, by the stage's name.
        sources: Whose events the arrays hold, by their C.
        adders: The functions that add rows of tiles.
        gathers: Bit n: convolution n of the graph gathers.
        inputs: Where each of several inputs has its elements; empty of one.
    """

    prefix: str
    title: str
    model: str
    port: Port
    struct: Struct
    starts: tuple[tuple[Member, Start], ...]
    tables: tuple[Table, ...]
    kernels: tuple[Kernel, ...]
    rows: tuple[Row | SparseRow, ...]
    stages: tuple[Stage, ...]
    read: Read
    states: Mapping[str, Member]
    shapes: Mapping[str, tuple[int, ...]]
    counts_steps: bool
    others: tuple[Read, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    adders: tuple[TileAdder, ...] = ()
    worst_sops: int = 0
    ignored: int = 0
    gathers: int = 0
    inputs: tuple[Place, ...] = ()

    @property
    def called(self) -> tuple[Stage, ...]:
        """The stages that a step itself calls."""
        loaded = self.loaded
        return tuple(s for s in self.stages if s.bands is None and s not in loaded)

    @property
    def loaded(self) -> tuple[Stage, ...]:
        """The stages that are called once, when values are loaded."""
        return tuple(s for s in self.stages if s.reads_input and self.port.form == "load")

    @property
    def reads(self) -> tuple[Read, ...]:
        """What every output keeps, the one that decides first."""
        return (self.read, *self.others)

    @property
    def draws(self) -> bool:
        """Whether a step draws random numbers."""
        stages = (getattr(stage, "update", stage) for stage in self.stages)
        return any(getattr(stage, "stochastic", False) for stage in stages)

    @property
    def eight(self) -> bool:
        """Whether some stage has a form for 8-bit cores."""
        return any(stage.template.startswith("eight_") for stage in self.stages)

    @property
    def assembled(self) -> bool:
        """Whether rows of weights are added in assembly where a core has Thumb-2."""
        rows = (row for row in self.rows if isinstance(row, Row))
        return any(table.macro for table in self.tables) or any(row.assembled for row in rows)

    @property
    def macro(self) -> str:
        """What every macro starts with."""
        return self.prefix.upper()
