"""Instructions and modelled cycles by function and step, on cores that unicorn emulates."""

from __future__ import annotations

import bisect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qspinn.fixed import IntArray

from .builds import Files
from .cycles import TIMINGS
from .emulate import Board, Emulator, linked, tool
from .network import Network
from .samples import events
from .thumb import decode
from .toolchain import Core


@dataclass(frozen=True, slots=True)
class Span:
    """Where a function lies.

    Attributes:
        name: The function.
        start: Its first address.
        end: The address past its last.
        helps: Whether what it runs counts for the function that called it.
    """

    name: str
    start: int
    end: int
    helps: bool


API = ("reset", "step", "winner")
"""The functions that are called from outside while it is counted."""


def spans_of(image: bytes, network: Network, apart: bool = False) -> tuple[Span, ...]:
    """The functions of a linked image, in the order of their addresses.

    What is neither a stage nor called from outside helps whoever calls it.

    Args:
        image: The image.
        network: What it is of.
        apart: Whether each function of the network counts for itself.
    """
    table = tool("elftools.elf.elffile").ELFFile(io.BytesIO(image)).get_section_by_name(".symtab")
    prefix = f"{network.prefix}_"
    counted = {f"{prefix}{name}" for name in API} | {s.name for s in network.stages}
    found: dict[int, Span] = {}
    for symbol in table.iter_symbols():
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]:
            start = symbol["st_value"] & ~1
            end, name = start + symbol["st_size"], symbol.name
            helps = not (name in counted or (apart and name.startswith(prefix)))
            found[start] = Span(name, start, end, helps)
    return tuple(found[start] for start in sorted(found))


@dataclass(frozen=True, eq=False)
class Counts:
    """What was executed.

    Attributes:
        functions: The stages, and what is called from outside; what one of them calls beside
            these is counted as its own.
        steps: Instructions of each step by function, (samples, steps, functions).
        resets: Of each reset, (samples, functions).
        winners: Of each decision, (samples, functions).
        cycles: The same three in modelled cycles; None where the core has no model.
        stack: The deepest stack of a call, in bytes.
    """

    functions: tuple[str, ...]
    steps: IntArray
    resets: IntArray
    winners: IntArray
    cycles: tuple[IntArray, IntArray, IntArray] | None
    stack: int


@dataclass(slots=True)
class Block:
    """A piece of straight code run for a function.

    Attributes:
        address: Where it is.
        size: Its bytes.
        function: The function that it counts for.
        runs: How often it ran.
        jumps: How often a jump at its end was taken.
    """

    address: int
    size: int
    function: int
    runs: int = 0
    jumps: int = 0


class Meter:
    """Counts blocks of code as they run; `take` says by function what ran since it was asked."""

    def __init__(self, emulator: Emulator, spans: Sequence[Span]) -> None:
        self.emulator, self.spans = emulator, spans
        self.starts = [span.start for span in spans]
        self.timing = TIMINGS.get(emulator.core.name)
        self.blocks: dict[tuple[int, int, int], Block] = {}
        self.owners: dict[int, int] = {}
        self.worth: dict[tuple[int, ...], tuple[int, int, int]] = {}
        self.function = -1
        self.last: Block | None = None
        self.hook = emulator.uc.hook_add(emulator.block, self._ran)

    def _ran(self, uc: Any, address: int, size: int, _: object) -> None:
        owner = self.owners.get(address)
        if owner is None:
            owner = self.owners[address] = self._owner(address)
        if owner >= 0:
            self.function = owner
        key = (address, size, self.function)
        block = self.blocks.get(key)
        if block is None:
            block = self.blocks[key] = Block(*key)
        last = self.last
        if last is not None and last.address + last.size != address:
            last.jumps += 1
        block.runs += 1
        self.last = block

    def _owner(self, address: int) -> int:
        """The function at an address; -1 where that helps another."""
        place = bisect.bisect_right(self.starts, address) - 1
        assert address < self.spans[place].end, "all code is in functions"
        return -1 if self.spans[place].helps else place

    def take(self) -> tuple[IntArray, IntArray]:
        """Instructions and cycles by function since the last time; zeros where not modelled."""
        if self.last is not None:
            self.last.jumps += 1  # back to the caller
        found = np.zeros((2, len(self.spans)), np.int64)
        for block in self.blocks.values():
            if block.runs:
                count, straight, refill = self._worth(block.address, block.size)
                found[0, block.function] += block.runs * count
                found[1, block.function] += block.runs * straight + block.jumps * refill
                block.runs = block.jumps = 0
        self.last = None
        return found[0], found[1]

    def _worth(self, *where: int) -> tuple[int, int, int]:
        """Its instructions and cycles, and what a jump at its end costs more."""
        if where not in self.worth:
            code = self.emulator.read(*where)
            straight = refill = 0
            if self.timing is not None:
                straight, refill = self.timing.straight(tuple(decode(code))), self.timing.refill
            self.worth[where] = (self.emulator.instructions_in(code), straight, refill)
        return self.worth[where]


def count(
    files: Files,
    network: Network,
    data: IntArray,
    core: Core,
    compiler: str = "clang",
    apart: bool = False,
) -> Counts:
    """Everything that a batch (batch, steps, *shape) runs on a core of unicorn: exact.

    With ``apart`` each function of the network counts for itself.

    Raises:
        ToolchainError: The compiler or unicorn is not installed.
        BackendError: The compiler or unicorn does not know the core, or a step is refused.
    """
    batch, steps = data.shape[:2]
    spans = spans_of(linked(files, network.prefix, core, compiler), network, apart)
    board = Board(files, network, core, compiler)
    meter = Meter(board.emulator, spans)
    rows: list[tuple[IntArray, IntArray]] = []
    with board.emulator.watching_stack() as deepest:
        for sample in data.reshape(batch, steps, network.port.size):
            board.reset()
            rows.append(meter.take())
            for event in events(network.port, sample):
                board.step(event)
                rows.append(meter.take())
            board.winner()
            board.others()  # they count for the first
            rows.append(meter.take())
    own = [i for i, span in enumerate(spans) if not span.helps]
    table = np.array(rows, np.int64).reshape(batch, steps + 2, 2, len(spans))[..., own]
    cycles = parted(table[:, :, 1]) if meter.timing is not None else None
    functions = tuple(spans[i].name for i in own)
    return Counts(functions, *parted(table[:, :, 0]), cycles, deepest[0])


def parted(rows: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of samples (samples, 1 + steps + 1, functions): those of steps, resets and winners."""
    return rows[:, 1:-1], rows[:, 0], rows[:, -1]
