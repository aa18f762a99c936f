"""How many bytes of code and stack a network takes: a linear model of what is emitted.

Each emitted function is described by counts of its parts; `codetable` says what a part takes on
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

from .codetable import CODE, STACK
from .kernelparts import Parts, kernel_parts, literals
from .kernels import ConvKernel, Kernel, PoolKernel
from .network import Banded, Copy, Drive, Edge, Gather, Network, Read, Stage, Start, Turn, Update
from .toolchain import CORES

_OPERATORS = {
    " * ": "mul", " + ": "add", " - ": "sub", " < ": "compare", " > ": "compare",
    " >= ": "compare", " ? ": "select", " & ": "logic", " | ": "logic", "!": "logic",
}  # fmt: skip


def isa_of(device: Device) -> str:
    """The instruction set of a device; the nearest known where its core is not."""
    core = CORES.get(device.core)
    return core.isa if core is not None else "armv7em"


def code_bytes(network: Network, device: Device, compiler: str = "clang") -> int:
    """The estimated size of a network's functions as ``clang`` or ``gcc`` makes them at -O2."""
    isa = isa_of(device)
    table = CODE.get(f"{isa} {compiler}", CODE[isa])
    return sum(estimate(parts, table) for parts in functions(network).values())


def estimate(parts: Parts, table: Mapping[str, float]) -> int:
    """The estimated size of one function, a multiple of two as instructions are."""
    size = sum(count * table.get(part, 0.0) for part, count in parts.items())
    return max(2 * round(size / 2), 2)


def stack_bytes(network: Network, device: Device) -> int:
    """An upper bound of the stack that a call takes."""
    table = STACK[isa_of(device)]
    return 8 * math.ceil((table["base"] + table["value"] * pressure(network)) / 8)


def pressure(network: Network) -> int:
    """How many values the fullest stage keeps at once, roughly."""
    return max((_pressure(stage) for stage in network.stages), default=0)


def _pressure(stage: Stage) -> int:
    if isinstance(stage, Update):
        return live_values(stage)
    if isinstance(stage, Gather):
        return max((_depth(drive.kernel) for drive in stage.drives), default=4)
    return 4


def _depth(kernel: Kernel) -> int:
    if isinstance(kernel, PoolKernel):
        return 8 + _depth(kernel.next)
    return 16 if isinstance(kernel, ConvKernel) else 8


def functions(network: Network) -> dict[str, Parts]:
    """The parts of every emitted function, by its name."""
    found = {stage.name: _function(stage, network) for stage in network.stages}
    prefix = network.prefix
    return {**found, **{f"{prefix}_{name}": parts for name, parts in _api(network).items()}}


def _function(stage: Stage, network: Network) -> Parts:
    parts = parts_of(stage)
    parts[stage.template] += 1
    for name in members_of(stage):
        at = network.struct.offset(name)
        parts["far member"] += at >= 256
        parts["very far member"] += at >= 2048
    if isinstance(stage, Update):
        parts["widths"] += len(_widths(stage, network)) - 1
    return parts


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
        parts += _drive(drive)
    return parts


def _fill(start: Start, stage: Gather, *, again: bool) -> Parts:
    kind = "table" if start.table else ("two" if start.varies else "literal")
    parts: Parts = Counter({f"fill {kind}": 1})
    parts["fill again"] += again
    parts["fill planes"] += start.each > 1
    parts["fill factor"] += start.table is not None and start.factor > 1
    parts["fill 64"] += stage.type.bits == 64
    parts["one element"] += stage.count == 1
    return parts


def _drive(drive: Drive) -> Parts:
    edge = drive.edge
    parts: Parts = Counter({f"drive {edge.kind}": 1})
    parts["drive words"] += edge.kind == "mask" and edge.words > 1
    parts["drive values"] += edge.kind != "mask" and drive.kernel.valued
    parts["one element"] += edge.kind == "dense" and edge.size == 1
    return parts + _slot(edge) + kernel_parts(drive.kernel)


def _slot(edge: Edge) -> Parts:
    return Counter({"delay slot": int(" " in edge.at)})


@parts_of.register
def _(stage: Update) -> Parts:
    parts: Parts = Counter()
    for load in stage.loads:
        parts["load table" if "READ" in load.code else "load member"] += 1
        parts["load two"] += "?" in load.code
        if lane := re.search(r"_get_(\w+)\(", load.code):
            parts[f"load {lane[1]}"] += 1
        parts["load 64"] += load.type == "int64_t"
        literals(load.code, parts)
    for line in stage.lines:
        _operations(line, parts)
    for write in stage.writes:
        packed = write.member.lane
        parts[f"store {packed.bits}" if packed else "store"] += 1
        parts["store 64"] += write.member.type.bits == 64
    _spikes(stage, parts)
    parts["one neuron"] += stage.size == 1
    parts["draws"] += stage.stochastic
    live = live_values(stage)
    parts["pressure"] += max(live - 6, 0)
    parts["high pressure"] += max(live - 10, 0)
    return parts


def _spikes(stage: Update, parts: Parts) -> None:
    """How neurons are counted, and their spikes kept."""
    masked = bool(stage.mask)
    if stage.bands is not None:
        parts["bands"] += 1
        parts["bands rest"] += stage.bands.rows % stage.bands.height != 0
        parts["spikes in bands"] += masked
        return
    parts["spikes"] += masked
    parts["spike words"] += masked and stage.words > 1
    parts["spike rest"] += masked and stage.words > 1 and stage.size % 32 != 0
    parts["planes"] += stage.plane > 0


def _operations(line: str, parts: Parts) -> None:
    head, code = line.split(" = ", 1)
    wide = " 64" if "int64_t" in head or "64" in code else ""
    call = re.search(r"_((?:mul_)?(?:shr|shr64|mul64|wrap|wrap64)(?:_[a-z_]+)?)\(", code)
    if call:
        varies = "" if re.search(r", \(?-?\d+\)?[,)]", code) else " varies"
        parts[f"{call[1]}{varies}"] += 1
        parts["noise"] += "_noise(" in code
    elif clip := re.search(r" < \(?(-?\d+)\)? \? .* > (\d+) \? ", code):
        low, high = int(clip[1]), int(clip[2])
        parts[f"clip{' to bits' if low == -high - 1 else ''}{wide}"] += 1  # one instruction on some
    else:
        for sign, what in _OPERATORS.items():
            if found := code.count(sign):
                factor = re.search(r" \* (\d+)", code)
                power = factor and int(factor[1]) & (int(factor[1]) - 1) == 0
                parts[("shift" if what == "mul" and power else what) + wide] += found
    literals(code, parts)


def live_values(stage: Update) -> int:
    """The most values that are needed at once, by where each is last read."""
    names = [load.name for load in stage.loads]
    texts = [load.code for load in stage.loads]
    for line in stage.lines:
        head, code = line.split(" = ", 1)
        names.append(head.split()[-1])
        texts.append(code)
    texts += [write.code for write in stage.writes] + [stage.sent]
    last = {
        name: max((i for i, text in enumerate(texts) if re.search(rf"\b{name}\b", text)), default=i)
        for i, name in enumerate(names)
    }
    alive = [sum(1 for j in range(i + 1) if last[names[j]] > i) for i in range(len(names))]
    return max(alive, default=0)


@parts_of.register
def _(stage: Banded) -> Parts:
    return Counter({"step input call": stage.gather.reads_input + stage.update.reads_input})


@parts_of.register
def _(stage: Copy) -> Parts:
    parts = _slot(stage.source)
    parts["copy loop"] += stage.count > 1
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
    parts["read words"] += stage.edge.kind == "mask" and stage.edge.words > 1
    parts["one element"] += stage.edge.size == 1
    return parts


def members_of(stage: Stage) -> set[str]:
    """The members that a stage addresses."""
    found: list[str] = []
    if isinstance(stage, Update):
        found += [load.code for load in stage.loads]
        found += [f"s->{write.member.name}" for write in stage.writes]
        found += [f"s->{stage.mask}"] if stage.mask else []
    elif isinstance(stage, Gather):
        found += [stage.at, *(drive.edge.at for drive in stage.drives)]
    elif isinstance(stage, Copy):
        found += [stage.at, stage.source.at]
    elif isinstance(stage, Read):
        found += [stage.edge.at, "s->score"]
    return set(re.findall(r"s->(\w+)", " ".join(found)))


def _api(network: Network) -> dict[str, Parts]:
    port, read = network.port, network.read
    reset: Parts = Counter({"reset": 1})
    for member, start in network.starts:
        kind = "table" if start.table else ("two" if start.varies else "literal")
        reset[f"reset {kind}"] += 1
        reset["reset planes"] += start.each > 1
        if member.lane is not None:
            reset[f"store {member.lane.bits}"] += 1
        reset["far member"] += network.struct.offset(member.name) >= 256
    step: Parts = Counter({f"step {port.kind}": 1})
    step["step call"] = len(network.called)
    step["step input call"] = sum(stage.reads_input for stage in network.called)
    step["step counts"] += network.counts_steps
    step["step checks index"] += port.kind != "current" and port.index.span.hi >= port.size
    step["step checks value"] += port.value is not None and port.value.span != port.span
    winner: Parts = Counter({f"winner {read.readout}": 1})
    winner["winner membrane"] += read.membrane is not None
    winner["winner gains"] += read.vote is not None and read.vote.gains.varies
    output: Parts = Counter({f"output {read.edge.kind}": 1})
    far = any(network.struct.offset(n) >= 256 for n in re.findall(r"s->(\w+)", read.edge.at))
    for parts in (winner, output):
        parts["far member"] += far
        parts["one element"] += read.edge.size == 1
    found = {"reset": reset, "step": step, "winner": winner, "output": output}
    if read.score is not None:
        found["score"] = Counter({"score": 1, "score 64": int(read.score.type.bits == 64)})
        found["score"]["far member"] += network.struct.offset(read.score.name) >= 256
    return found
