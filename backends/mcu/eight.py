"""What is emitted for 8-bit cores: sums in tiles of eight neurons, and values no wider than needed.

A tile's sixteen registers hold its sums while all events go by. For that a layer's weights lie tile
by tile, and as unsigned bytes: weight w is w + 128, and what that adds is taken off once. The table
has the size that it has elsewhere. The same files compile for any core, to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from qspinn.errors import BackendError
from qspinn.ir import Array
from qspinn.memory import Device

from .avr import LARGEST_TABLE, PARTS, REACH
from .eight_leaky import Leaky, leaky
from .kept import Kept
from .kernels import Kernel, LinearKernel, PoolKernel, RowKernel
from .layout import WORD_BITS, CType, Rows, Table, pack, words
from .network import Gather, Network, Stage, Update

TILE = 8
BITS = (8, 4, 2)
_STAGE = ("name", "title", "reads_input")
_GATHER = frozenset((*_STAGE, "at", "type", "count", "starts", "drives"))
_LOOP = ("size", "plane", "stochastic", "loads", "lines", "writes", "mask", "sent")
_LINEAR = frozenset(("name", "to", "valued", "gain", "title", "table", "rows", "uniform", "kept"))
_ROWS = frozenset(("bits", "signed", "count"))
_UPDATE = frozenset((*_STAGE, *_LOOP, "narrow", "program", "calm"))
"""What templates for 8-bit cores read, or may leave aside: a layer with more keeps its own."""
BYTE = CType(8, signed=False)
SHORT = CType(16, signed=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class EightUpdate(Update):
    """Neurons in narrow types, their spikes collected byte by byte.

    Attributes:
        leaky: What eight neurons at a time do in assembly, where they are of that kind.
        v: The member that holds the membranes then.
        current: C for the array of their input currents.
        held: The type of one of those.
    """

    template: ClassVar[str] = "eight_update"
    leaky: Leaky | None = None
    v: str = ""
    current: str = ""
    held: CType = SHORT

    @property
    def full(self) -> int:
        """Groups of eight."""
        return self.size // TILE

    @property
    def rest(self) -> int:
        """Neurons of the last group, if it has fewer."""
        return self.size % TILE


@dataclass(frozen=True, eq=False, kw_only=True)
class EightGather(Gather):
    """Sums of eight neurons at a time, over all events.

    Attributes:
        table: The weights: tile, input, neuron of the tile.
        bits: Of a weight: 8, 4 or 2.
        bias: What was added to each.
    """

    template: ClassVar[str] = "eight_gather"
    table: Table
    bits: int
    bias: int

    @property
    def full(self) -> int:
        """Tiles of eight."""
        return self.count // TILE

    @property
    def rest(self) -> int:
        """Neurons of the last tile, if it has fewer."""
        return self.count % TILE


def is_eight(device: Device) -> bool:
    """Whether a device's core has 8-bit registers."""
    return device.core in PARTS


def for_eight(network: Network) -> Network:
    """The network with what suits an 8-bit core: the same states, in the same places."""
    stages = tuple(_adapted(stage, network) for stage in network.stages)
    tables = {stage.table.name: stage.table for stage in stages if isinstance(stage, EightGather)}
    called = [k for stage in stages if _is_generic(stage) for k in _kernels(stage)]
    kernels = tuple(k for k in network.kernels if any(k is other for other in called))
    rows = {k.row for k in kernels if isinstance(k, RowKernel)}
    unread = _lookups(network.kernels) - _lookups(kernels)
    kept = [table for table in network.tables if table.name not in unread]
    return replace(
        network,
        stages=stages,
        tables=tuple(tables.get(table.name, table) for table in kept),
        kernels=kernels,
        rows=tuple(row for row in network.rows if row in rows),
    )


def check_reach(network: Network, device: Device) -> None:
    """Refuse constants that an AVR cannot address.

    Raises:
        BackendError: An array has more bytes than avr-gcc accepts, or all together more than LPM
            reaches.
    """
    if not is_eight(device):
        return
    hint = "choose fewer bits, drop inputs, or make layers smaller"
    for table in network.tables:
        if table.bytes > LARGEST_TABLE:
            message = f"takes {table.bytes} B; an array on an AVR has at most {LARGEST_TABLE} B"
            raise BackendError(message, at=table.owner, hint=hint)
    if (total := sum(table.bytes for table in network.tables)) > REACH:
        raise BackendError(
            f"the constants take {total} B; an AVR reads at most {REACH} B of flash", hint=hint
        )


def _is_plain(what: Stage | Kernel | Rows, known: frozenset[str]) -> bool:
    """Whether something has nothing that the templates for 8-bit cores do not know."""
    return all(getattr(what, f.name) == f.default for f in fields(what) if f.name not in known)


def _adapted(stage: Stage, network: Network) -> Stage:
    if isinstance(stage, Update) and _is_plain(stage, _UPDATE):
        return _updated(stage, network)
    if isinstance(stage, Gather) and _is_plain(stage, _GATHER) and _is_tiled(stage, network):
        (drive,) = stage.drives
        assert isinstance(drive.kernel, LinearKernel), "as tiles need"
        assert drive.kernel.table is not None, "as tiles need"
        bits = drive.kernel.rows.bits
        bias = 1 << (bits - 1) if drive.kernel.rows.signed else 0
        name = drive.kernel.table.name
        (stored,) = (table for table in network.tables if table.name == name)
        rows = _every_row(drive.kernel, stored)
        table = _tiles(stored, rows, bits, bias)
        return EightGather(**_fields(stage), table=table, bits=bits, bias=bias)
    return stage


def _updated(stage: Update, network: Network) -> EightUpdate:
    """A layer of neurons, in assembly if it is the usual kind and its values have 16 bits."""
    made = EightUpdate(**_fields(stage))
    found = leaky(stage.program) if stage.program is not None and stage.mask else None
    if found is None or len(stage.loads) != 2 or len(stage.writes) != 1:
        return made
    types = {f"s->{m.name}[i]": m.type for m in network.struct.members if m.lane is None}
    (write,) = stage.writes
    (current,) = {load.code for load in stage.loads} - {f"s->{write.member.name}[i]"}
    kind = types.get(current)
    if write.member.type != SHORT or kind not in (SHORT, CType(8, signed=True)):
        return made
    return replace(
        made, leaky=found, v=write.member.name, current=current.removesuffix("[i]"), held=kind
    )


def _fields(stage: Stage) -> dict[str, Any]:
    return {f.name: getattr(stage, f.name) for f in fields(stage)}


def _is_tiled(stage: Gather, network: Network) -> bool:
    """Whether a layer's sums are made in tiles: one matrix of 8-bit weights, and spikes."""
    if len(stage.drives) != 1 or stage.type.bits > 16:
        return False
    edge, kernel = stage.drives[0].edge, stage.drives[0].kernel
    if not isinstance(kernel, LinearKernel) or kernel.table is None:
        return False
    if not (_is_plain(kernel, _LINEAR) and _is_plain(kernel.rows, _ROWS)):
        return False
    if kernel.kept is not None and kernel.kept.count * 8 < kernel.kept.size * 7:
        return False  # finding a row takes long, but much is left out
    sharing = [k for k in network.kernels if getattr(k, "table", None) is kernel.table]
    return (
        edge.kind in ("list", "mask")
        and edge.type.bits <= (16 if edge.kind == "list" else 32)
        and not kernel.valued
        and kernel.gain == 1
        and kernel.rows.bits in BITS
        and len(sharing) == 1
        and all(start.each == 1 for start in stage.starts)
        and kernel.rows.stride * edge.size <= LARGEST_TABLE
    )


def _every_row(kernel: LinearKernel, stored: Table) -> Array:
    """The weights (input, neuron), rows of zeros included."""
    packing = kernel.rows
    rows = stored.values.reshape(-1, packing.stride)
    if packing.bits < TILE:
        codes = rows[:, :, None] >> np.arange(0, TILE, packing.bits) & ((1 << packing.bits) - 1)
        half = 1 << (packing.bits - 1) if packing.signed else 0
        rows = (codes.reshape(len(rows), -1)[:, : packing.count] ^ half) - half
    kept = kernel.kept
    if kept is None:
        return rows
    every = np.zeros((kept.size, packing.count), np.int64)
    every[_stored_rows(kept)] = rows
    return every


def _stored_rows(kept: Kept) -> Array:
    """Which rows are stored, as booleans."""
    lookup = kept.bits
    found = lookup.literals if lookup.table is None else lookup.table.values
    full = np.resize(np.asarray(found, np.int64), words(kept.size))
    if lookup.table is None and len(lookup.literals) == 2:
        full[1:] = lookup.literals[1]
    bits = full[:, None] >> np.arange(WORD_BITS) & 1
    return bits.reshape(-1)[: kept.size].astype(bool)


def _tiles(table: Table, rows: Array, bits: int, bias: int) -> Table:
    """The weights (input, neuron) as tile, input, neuron of the tile, without a sign."""
    groups = [rows[:, n : n + TILE] + bias for n in range(0, rows.shape[1], TILE)]
    tiles = [pack(group, Rows(bits, False, group.shape[1])) for group in groups]
    note = f"{table.note}; neurons in tiles of {TILE}" + (f", {bias} added" if bias else "")
    return replace(table, type=BYTE, values=np.concatenate(tiles), note=note)


def _lookups(kernels: Iterable[Kernel]) -> set[str]:
    """The tables in which rows are looked up."""
    kept = [k.kept for k in kernels if isinstance(k, LinearKernel) and k.kept is not None]
    found = [x.table for k in kept for x in (k.bits, k.ranks) if x is not None]
    return {table.name for table in found if table is not None}


def _is_generic(stage: Stage) -> bool:
    return isinstance(stage, Gather) and not isinstance(stage, EightGather)


def _kernels(stage: Stage) -> list[Kernel]:
    """The kernels that a stage calls, and those that they call."""
    assert isinstance(stage, Gather), "only sums call kernels"
    found = [drive.kernel for drive in stage.drives]
    for kernel in found:
        if isinstance(kernel, PoolKernel):
            found.append(kernel.next)
    return found
