"""How many bytes of code and stack a network takes: a linear model of what is emitted.

Each emitted function is described by counts of its parts; `codetable` says what a part takes on
each instruction set. benchmarks/mcu_code_size.py fits that table to what zig's clang, and
GCC for Arm, make at -O2.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import singledispatch

from qspinn.memory import Device

from .codetable import CODE, STACK
from .kernels import (
    ConvKernel,
    Kernel,
    LinearKernel,
    PoolKernel,
    RowKernel,
    ScaleKernel,
    Window,
)
from .network import Copy, Drive, Edge, Gather, Network, Read, Stage, Start, Turn, Update
from .toolchain import CORES

Parts = Counter[str]

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
    return parts + _slot(edge) + _kernel(drive.kernel)


def _slot(edge: Edge) -> Parts:
    return Counter({"delay slot": int(" " in edge.at)})


def _kernel(kernel: Kernel) -> Parts:
    parts: Parts = Counter()
    if isinstance(kernel, PoolKernel):
        return _pool(kernel) + _kernel(kernel.next)
    if isinstance(kernel, RowKernel):
        parts += _row(kernel)
        if isinstance(kernel, ConvKernel):
            lanes = sum(n for part, n in parts.items() if part.startswith("lane"))
            reach = 3 * kernel.image.out_plane * kernel.to.bytes
            parts["conv lane"] += lanes
            parts["conv far lane"] += lanes if reach > 255 else 0
            parts["conv very far lane"] += lanes if reach > 4095 else 0
    wide = kernel.to.bits
    if isinstance(kernel, LinearKernel):
        parts["linear"] += 1
        if kernel.kept is not None:
            parts["kept packed" if kernel.row.lanes > 1 else "kept"] += 1
            parts["kept ranks"] += kernel.kept.ranks is not None
        _arithmetic((), (kernel.rows.stride,), parts)
    elif isinstance(kernel, ConvKernel):
        parts += _conv(kernel)
    elif isinstance(kernel, ScaleKernel):
        parts[f"scale {wide}"] += 1
        parts["scale table"] += kernel.table is not None
        parts["scale value"] += kernel.valued
    else:
        parts[f"{kernel.template} {wide if kernel.valued else 'one'}"] += 1
    return parts


def _row(kernel: RowKernel) -> Parts:
    row, count = kernel.row, kernel.rows.count
    parts: Parts = Counter()
    to = f"{row.to.bits}{' value' if row.scaled else ''}"
    if not row.bits:
        parts[f"row even {to}"] += 1
        parts["row of one"] += count == 1
        return parts
    at_once = max(row.lanes, 4)
    whole, rest = (at_once if count >= at_once else 0), count % at_once
    sign = "s" if row.signed else "u"
    what = "packed" if row.lanes > 1 else "row"
    parts[what] += 1
    parts[f"{what} loop"] += count >= 2 * at_once
    parts[f"{what} once"] += at_once <= count < 2 * at_once
    parts[f"{what} rest"] += rest != 0
    parts["row rest loop"] += row.lanes == 1 and rest > 1
    lanes = whole + (rest if row.lanes > 1 else min(rest, 1))
    parts[f"lane {sign if row.lanes > 1 else ''}{row.bits} {to}"] += lanes
    return parts


def _arithmetic(codes: Iterable[str], factors: Iterable[int], parts: Parts) -> None:
    """Index arithmetic: quotients as they are printed, and products with constants."""
    for code in codes:
        parts["quotient"] += " * " in code
        parts["quotient shift"] += ">>" in code and " * " not in code
        _literals(code, parts)
    for factor in factors:
        power = factor & (factor - 1) == 0
        parts["product"] += not power
        parts["product shift"] += power and factor > 1
        parts["literal 16"] += factor > 255 and not power


def _windows(windows: tuple[Window, ...], parts: Parts, what: str) -> None:
    for window in windows:
        parts[f"{what} axis"] += window.size > 1
        parts[f"{what} loop"] += window.kernel > 1
        parts[f"{what} stride"] += window.stride > 1 and window.places > 1
        parts[f"{what} padding"] += window.padding > 0


def _conv(kernel: ConvKernel) -> Parts:
    parts: Parts = Counter({"conv": 1})
    image = kernel.image
    _windows((image.y, image.x), parts, "conv")
    parts["conv channels"] += image.channels > 1
    parts["conv groups"] += kernel.groups > 1
    codes = (image.channel, image.row, kernel.place(image.y, "y"), kernel.place(image.x, "x"))
    places = (image.plane, image.x.size, image.x.places, image.y.kernel, image.x.kernel)
    _arithmetic(codes, (*places, image.out_plane, kernel.rows.stride), parts)
    parts["conv one place"] += image.out_plane == 1
    return parts


def _pool(kernel: PoolKernel) -> Parts:
    image = kernel.image
    what = "overlap" if kernel.overlaps else "pool"
    parts: Parts = Counter({what: 1})
    _windows((image.y, image.x), parts, what)
    parts[f"{what} channels"] += image.channels > 1
    codes = (image.channel, image.row, image.start(image.y, "y"), image.start(image.x, "x"))
    _arithmetic(codes, (image.plane, image.x.size, image.y.places, image.x.places), parts)
    parts["pool check"] += 0 if kernel.overlaps else len(kernel.checks)
    return parts


@parts_of.register
def _(stage: Update) -> Parts:
    parts: Parts = Counter()
    for load in stage.loads:
        parts["load table" if "READ" in load.code else "load member"] += 1
        parts["load two"] += "?" in load.code
        parts["load 64"] += load.type == "int64_t"
        _literals(load.code, parts)
    for line in stage.lines:
        _operations(line, parts)
    for write in stage.writes:
        parts["store"] += 1
        parts["store 64"] += write.member.type.bits == 64
    parts["spikes"] += bool(stage.mask)
    parts["spike words"] += bool(stage.mask) and stage.words > 1
    parts["spike rest"] += bool(stage.mask) and stage.words > 1 and stage.size % 32 != 0
    parts["planes"] += stage.plane > 0
    parts["one neuron"] += stage.size == 1
    parts["draws"] += stage.stochastic
    live = live_values(stage)
    parts["pressure"] += max(live - 6, 0)
    parts["high pressure"] += max(live - 10, 0)
    return parts


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
    _literals(code, parts)


def _literals(code: str, parts: Parts) -> None:
    for digits in re.findall(r"(?<![\w.])(\d+)u?\b", code):
        value = int(digits)
        power = value & (value - 1) == 0
        parts["literal 32"] += value > 65535 and not power
        parts["literal 16"] += 255 < value <= 65535 and not power


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
        reset["far member"] += network.struct.offset(member.name) >= 256
    step: Parts = Counter({f"step {port.kind}": 1})
    step["step call"] = len(network.stages)
    step["step input call"] = sum(stage.reads_input for stage in network.stages)
    step["step counts"] += network.counts_steps
    step["step checks index"] += port.kind != "current" and port.index.span.hi >= port.size
    step["step checks value"] += port.value is not None and port.value.span != port.span
    winner: Parts = Counter({f"winner {read.readout}": 1})
    winner["winner membrane"] += read.membrane is not None
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
