"""How many bytes of code and stack a network takes: a linear model of what is emitted.

Each emitted function is described by counts of its parts; `CODE` says what a part takes on
each instruction set. benchmarks/mcu_code_size.py fits that table to what zig's clang, and
GCC for Arm, make at -O2.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import singledispatch

from qspinn.memory import Device

from .avr import PARTS
from .eight import TILE, EightGather, EightUpdate
from .eightparts import narrow_parts
from .fitted import read
from .foursparts import fours_parts, quad_spikes
from .kernelparts import Parts, drive_parts, reach_parts, turns
from .kernels import ConvKernel, Kernel, PoolKernel
from .network import Banded, Copy, Edge, Gather, Network, Read, Stage, Start, Turn, Update
from .packedimage import FoursImage, PackedImage, RestingImage, WordImage
from .readparts import asked_parts
from .restingparts import resting_functions, resting_parts
from .scatter import ScatterKernel
from .tileforms import WHOLE
from .tileparts import (
    adder_parts,
    image_functions,
    image_parts,
    inlined_sums,
    tile_functions,
    tile_parts,
    tile_stack,
    vector_parts,
)
from .tilestage import Tile
from .toolchain import CORES
from .updateparts import crowd_parts, held_parts, live_values, spikes, update_parts
from .windowparts import window_functions, window_parts, window_stack
from .windowstage import Windows

CODE, STACK = read("code"), read("stack")
"""Bytes of code and of stack by part, for each instruction set, as clang or ``gcc`` makes it."""
VECTORS = "armv81m"
"""The instruction set that has code of its own for tiles."""
_NEAREST = {"armv81m": "armv8m", "rv32ec": "rv32imc"}
"""What stands in for instruction sets, and for cores without one, that were not measured."""


def isa_of(device: Device) -> str:
    """The instruction set of a device; the nearest known where its core is not."""
    if device.core in PARTS:
        return "avr5"
    core = CORES.get(device.core)
    isa = device.core if core is None else core.isa
    return isa if isa in CODE else _NEAREST.get(isa, "armv7em")


def code_bytes(network: Network, device: Device, compiler: str = "clang") -> int:
    """The estimated size of a network's functions as ``clang`` or ``gcc`` makes them at -O2."""
    isa = isa_of(device)
    table = CODE[column(device, compiler)]
    return sum(estimate(parts, table) for parts in functions(network, isa).values())


def column(device: Device, compiler: str) -> str:
    """Which column of `CODE` is a device's: of its core, where that is not as others are."""
    isa, suffix = isa_of(device), "" if compiler == "clang" else f" {compiler}"
    return next(name for name in (f"{device.core}{suffix}", f"{isa}{suffix}", isa) if name in CODE)


def estimate(parts: Parts, table: Mapping[str, float]) -> int:
    """The estimated size of one function, a multiple of two as instructions are."""
    size = sum(count * table.get(part, 0.0) for part, count in parts.items())
    return max(2 * round(size / 2), 2)


def stack_bytes(network: Network, device: Device) -> int:
    """An upper bound of the stack that a call takes."""
    isa = isa_of(device)
    table = STACK[isa]
    linear = table["base"] + table["value"] * pressure(network)
    tiles = (stage for stage in network.stages if isinstance(stage, Tile))
    deepest = (tile_stack(stage, isa, live_values(stage.update)) for stage in tiles)
    places = (stage for stage in network.stages if isinstance(stage, Windows))
    beside = (window_stack(stage, isa, live_values(stage.update)) for stage in places)
    return 8 * math.ceil(max((linear, *deepest, *beside)) / 8)


def pressure(network: Network) -> int:
    """How many values the fullest stage keeps at once, roughly."""
    return max((_pressure(stage) for stage in network.stages), default=0)


def _pressure(stage: Stage) -> int:
    if isinstance(stage, Update):
        return live_values(stage)
    if isinstance(stage, Tile | WordImage | Windows):
        return live_values(stage.update)
    if isinstance(stage, Gather):
        return max((_depth(drive.kernel) for drive in stage.drives), default=4)
    return 4


def _depth(kernel: Kernel) -> int:
    if isinstance(kernel, PoolKernel):
        return 8 + _depth(kernel.next)
    return 16 if isinstance(kernel, ConvKernel | ScatterKernel) else 8


def functions(network: Network, isa: str = "") -> dict[str, Parts]:
    """The parts of every function that an instruction set gets, by its name."""
    vectors = isa == VECTORS
    found = {stage.name: _function(stage, network, vectors) for stage in network.stages}
    prefix = network.prefix
    for stage in network.stages:
        if isinstance(stage, Tile):
            found |= tile_functions(stage, vectors, network.struct)
        elif isinstance(stage, PackedImage):
            found |= image_functions(stage)
        elif isinstance(stage, RestingImage):
            found |= resting_functions(stage)
        elif isinstance(stage, FoursImage):
            found[stage.spike] = quad_spikes()
        elif isinstance(stage, Windows):
            found |= window_functions(stage)
    of_forms = (a for a in network.adders if not (vectors and a.form == WHOLE))
    found |= {f"{prefix}_{adder.name}": adder_parts(adder) for adder in of_forms}
    found |= {f"{prefix}_{name}": parts for name, parts in _api(network).items()}
    return found


def _function(stage: Stage, network: Network, vectors: bool) -> Parts:
    if vectors and isinstance(stage, Tile) and stage.vectors:
        parts = vector_parts(stage)
    else:
        parts = parts_of(stage)
        parts[stage.template] += 1
        if vectors and isinstance(stage, Tile):
            parts += inlined_sums(stage)
    parts += reach_parts(members_of(stage), network.struct)
    if isinstance(stage, Banded):
        parts["banded values"] += network.port.value is not None and parts["step input call"]
    if isinstance(stage, Update):
        parts["widths"] += len(_widths(stage, network)) - 1
        parts += _held(stage, network)
    elif isinstance(stage, Tile) and stage.packed is None:
        parts += _held(stage.update, network)
    return parts


def _held(stage: Update, network: Network) -> Parts:
    """What an update holds in registers."""
    names = members_of(stage)
    members = [member for member in network.struct.members if member.name in names]
    parts = held_parts(stage.loads, stage.lines, members)
    pointers = len(names) + sum("READ" in load.code for load in stage.loads)
    return parts + crowd_parts(live_values(stage) + pointers + parts["own literal"])


def _widths(stage: Update, network: Network) -> set[int]:
    """The sizes of the elements that a loop walks over: each wants a pointer of its own."""
    names = members_of(stage) - {stage.mask}
    for load in stage.loads:
        names |= set(re.findall(r"_READ\((\w+) \+ i\)", load.code))
    members = {m.type.bytes for m in network.struct.members if m.name in names}
    return members | {t.type.bytes for t in network.tables if t.name in names} or {0}


@singledispatch
def parts_of(stage: Stage) -> Parts:
    """What a stage is made of, beside its frame."""
    raise AssertionError(f"{type(stage).__name__} has no known parts")


@parts_of.register
def _(stage: Gather) -> Parts:
    parts: Parts = Counter()
    for nth, start in enumerate(stage.fills):
        parts += _fill(start, stage, again=nth > 0)
    for drive in stage.drives:
        parts += drive_parts(drive) + _slot(drive.edge)
    return parts


def _fill(start: Start, stage: Gather, *, again: bool) -> Parts:
    kind = "table" if start.table else ("two" if start.varies else "literal")
    parts: Parts = Counter({f"fill {kind}": 1})
    parts["codes"] += start.codes is not None
    parts["fill again"] += again
    parts["fill planes"] += start.each > 1
    parts["fill factor"] += start.table is not None and start.factor > 1
    parts["fill 64"] += stage.type.bits == 64
    parts["one element"] += stage.count == 1
    return parts


def _slot(edge: Edge) -> Parts:
    return Counter({"delay slot": int(" " in edge.at)})


@parts_of.register
def _(stage: Update) -> Parts:
    return update_parts(stage)


@parts_of.register
def _(stage: EightGather) -> Parts:
    edge = stage.drives[0].edge
    fresh = edge.kind == "list" and not stage.starts
    kind = "fresh" if fresh else "more"
    parts: Parts = Counter({f"tiles {edge.kind} {kind}": 1})
    parts["tiles loop"] += stage.full > 0
    parts["tiles one"] += stage.full == 1
    parts["tiles rest"] += stage.rest > 0
    lanes, long = (TILE if stage.full else 0) + stage.rest, stage.type.bits == 16
    parts[f"tile lane {kind} {stage.bits}"] += lanes
    parts[f"tile long lane {kind} {stage.bits}"] += lanes if long else 0
    parts[f"tile biased lane {kind}"] += lanes if stage.bias and stage.bits == 8 else 0
    parts["tiles wide"] += (stage.full > 0) + (stage.rest > 0) if edge.type.bits == 16 else 0
    for nth, start in enumerate(() if fresh else stage.fills):
        parts += _fill(start, stage, again=nth > 0)
    return parts


@parts_of.register
def _(stage: EightUpdate) -> Parts:
    parts: Parts = Counter()
    if stage.leaky is not None:
        neurons = (TILE if stage.full else 0) + stage.rest
        parts["leaky loop"] += stage.full > 1
        parts["leaky group"] += (stage.full > 0) + (stage.rest > 0)
        parts["leaky neuron"] += neurons
        parts["leaky shift"] += neurons * stage.leaky.places
        parts["leaky clip"] += neurons * stage.leaky.saturates
        return parts
    parts += narrow_parts(stage)
    spikes(stage, parts)
    parts["spike rest"] += bool(stage.mask) and stage.size % 8 != 0
    parts["draws"] += stage.stochastic
    parts["pressure"] += max(live_values(stage) - 4, 0)
    return parts


@parts_of.register
def _(stage: Banded) -> Parts:
    layer = stage.layer
    reads = stage.gather.reads_input + stage.update.reads_input
    return Counter({"step input call": reads}) + turns("banded", -(-layer.rows // layer.height))


@parts_of.register
def _(stage: Tile) -> Parts:
    return tile_parts(stage)


@parts_of.register
def _(stage: PackedImage) -> Parts:
    return image_parts(stage)


@parts_of.register
def _(stage: FoursImage) -> Parts:
    return fours_parts(stage)


@parts_of.register
def _(stage: RestingImage) -> Parts:
    return resting_parts(stage)


@parts_of.register
def _(stage: Windows) -> Parts:
    return window_parts(stage)


@parts_of.register
def _(stage: Copy) -> Parts:
    parts = _slot(stage.source)
    parts += turns("copy", stage.count)
    parts["copy loop"] += stage.count > 1
    parts["copy widens"] += stage.type != stage.source.type
    parts["delay slot"] += " " in stage.at
    return parts


@parts_of.register
def _(stage: Turn) -> Parts:
    return Counter()


@parts_of.register
def _(stage: Read) -> Parts:
    parts: Parts = Counter({f"read {stage.readout} {stage.edge.kind}": 1})
    if stage.vote is not None:
        parts["vote table"] += stage.vote.labels.table is not None
        parts["vote silent"] += stage.vote.silent
        parts["codes"] += stage.vote.labels.codes is not None
    if stage.edge.kind == "mask" and stage.edge.words > 1:
        parts += turns("read words", stage.edge.words) + Counter({"read words": 1})
    parts += turns("read", stage.edge.size)
    parts["one element"] += stage.edge.size == 1
    return parts


def members_of(stage: Stage) -> set[str]:
    """The members that a stage addresses."""
    found: list[str] = []
    if isinstance(stage, Update):
        found += [load.code for load in stage.loads]
        found += [f"s->{write.member.name}" for write in stage.writes]
        found += [f"s->{stage.mask}"] if stage.mask else []
    elif isinstance(stage, Tile):
        found += [f"s->{name}" for name in members_of(stage.update)]
        found += [f"s->{drive.made.name}" for drive in stage.drives if drive.made]
        found += [drive.edge.at for drive in stage.drives]
    elif isinstance(stage, WordImage):
        found += [stage.sums, *(f"s->{name}" for name in members_of(stage.update))]
        found += (
            [f"s->{stage.counts.name}"] if isinstance(stage, RestingImage) and stage.counts else []
        )
    elif isinstance(stage, Windows):
        found += [f"s->{name}" for name in members_of(stage.update)]
        found += [f"s->{stage.list.name}"]
    elif isinstance(stage, Gather):
        found += [stage.at, *(drive.edge.at for drive in stage.drives)]
    elif isinstance(stage, Copy):
        found += [stage.at, stage.source.at]
    elif isinstance(stage, Read):
        found += [stage.edge.at, f"s->{stage.score.name}" if stage.score else ""]
    return set(re.findall(r"s->(\w+)", " ".join(found)))


def _api(network: Network) -> dict[str, Parts]:
    port, struct = network.port, network.struct
    words = struct.align >= 4 and not struct.padding
    reset: Parts = Counter({"reset": 1}) + turns(
        "reset words" if words else "reset bytes", struct.bytes
    )
    for member, start in network.starts:
        kind = "table" if start.table else ("two" if start.varies else "literal")
        reset[f"reset {kind}"] += 1
        reset["reset planes"] += start.each > 1
        reset["codes"] += start.codes is not None
        if member.lane is not None:
            reset[f"store {member.lane.bits}"] += 1
        reset += turns("reset loop", member.elements if member.lane else member.count)
        reset += reach_parts([member.name], struct)
    step: Parts = Counter({f"step {port.kind}": 1})
    step["step call"] = len(network.called)
    step["step input call"] = sum(stage.reads_input for stage in network.called)
    step["step counts"] += network.counts_steps
    step["step values"] += port.value is not None and port.kind != "current"
    step["step draws"] += network.draws
    step += reach_parts(["step"] if network.counts_steps else [], struct)
    step += turns("step", port.size)
    step["step checks index"] += port.form == "events" and port.index.span.hi >= port.size
    checks = port.value is not None and port.value.span != port.span
    step["step checks value"] += checks and port.form != "load"
    step["step mask"] += port.form == "mask"
    step["step mask rest"] += port.form == "mask" and port.size % 32 != 0
    step["step loaded"] += port.form == "load"
    found = {"reset": reset, "step": step}
    for asked in network.reads:
        found |= asked_parts(asked, struct)
    if port.form == "load":
        found["load"] = Counter({"load": 1, "step input call": len(network.loaded)})
        found["load"]["step checks value"] += checks
    return found
