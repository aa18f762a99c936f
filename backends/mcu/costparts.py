"""What an inference runs, in counts of parts: each stage under a given activity.

A stage that is new registers what it runs with `stage_parts`, or, where it is several functions,
with `stage_runs`, as costtiles.py does; `costmodel.COST` says how many instructions a part takes,
and benchmarks/mcu_cost.py fits that to emulated cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch

from qspinn.cost import Activity

from .busy import Busy
from .chances import mean, mixed
from .costimages import image_parts
from .costkernels import event_parts, fours_parts
from .kernels import LateralKernel
from .network import Banded, Copy, Drive, Edge, Gather, Network, Read, Stage, Start, Turn, Update
from .running import Counts
from .scan import scan
from .updateparts import (
    in_image,
    line_parts,
    live_values,
    load_parts,
    parted,
    ways,
    write_parts,
)

Runs = Mapping[str, Counts]
"""What is run, by the name of the emitted function."""


@dataclass(frozen=True)
class Owned:
    """What a function runs for a stage, or for itself where a user calls it."""

    owner: str
    function: str
    parts: Counts


def inference(network: Network, activity: Activity, vectors: bool = False) -> Iterator[Owned]:
    """What an inference runs, by stage and emitted function.

    Args:
        network: The network.
        activity: The steps of an inference, and the rates in each.
        vectors: Whether the core has Helium.
    """
    busy, steps, prefix = Busy(network, activity, vectors), activity.steps, network.prefix
    for stage in network.stages:
        times = 1 if stage in network.loaded else steps
        for function, parts in stage_runs(stage, busy).items():
            yield Owned(stage.name, function, parts.times(times))
    own = {"step": _step(busy).times(steps), "reset": _reset(network), "winner": Counts()}
    for read in network.reads:  # whoever counts asks every output
        own["winner"] += _winner(read)
    if network.port.form == "load":
        own["load"] = _load(busy)
    for name, parts in own.items():
        yield Owned(f"{prefix}_{name}", f"{prefix}_{name}", parts)


@singledispatch
def stage_runs(stage: Stage, busy: Busy) -> Runs:
    """What a stage runs in a step, by function: most are one."""
    return {stage.name: stage_parts(stage, busy)}


@singledispatch
def stage_parts(stage: Stage, busy: Busy) -> Counts:
    """What a stage of one function runs in a step."""
    raise AssertionError(f"{type(stage).__name__} has no known costs")


@stage_parts.register
def _(stage: Gather, busy: Busy) -> Counts:
    found = Counts.of([("gather", 1)])
    for nth, start in enumerate(stage.fills):
        found += _fill(start, stage, again=nth > 0)
    found = found.times(busy.calls(stage))
    rows = stage.bands.rows if stage.bands else 0
    for drive in stage.drives:
        if drive.kernel.by_place:  # in all bands: each sees a part of the image
            heard = busy.heard(drive.edge, drive.kernel)
            found += image_parts(drive, busy.rate(drive.edge), rows, heard, busy.edges(drive.edge))
        else:
            found += drive_parts(drive, busy)
    return found


def _fill(start: Start, stage: Gather, *, again: bool) -> Counts:
    kind = "table" if start.table else ("two" if start.varies else "literal")
    wide = " 64" if stage.type.bits == 64 else ""
    what = f"fill {'again ' if again else ''}"
    if stage.pairs and not start.varies:
        return Counts.of([(f"{what}base", 1), (f"{what}pair", stage.count)])
    if stage.last and (stage.pairs or start.each > 1):
        places = stage.count * (2 if stage.pairs else 1) // stage.last
        return Counts.of(
            [
                (f"{what}base", 1), (f"{what}place", places),
                (f"{what}{'pair' if stage.pairs else 'element'} {kind}", stage.count),
            ]
        )  # fmt: skip
    planes = stage.count // start.each if start.each > 1 else 0
    return Counts.of(
        [
            (f"{what}base", 1), (f"{what}element{wide}", stage.count),
            (f"{what}{kind}{wide}", planes or stage.count), (f"{what}plane", planes),
            (f"{what}factor", (planes or stage.count) if start.factor > 1 else 0),
            (f"{what}code", (planes or stage.count) if start.codes else 0),
        ]
    )  # fmt: skip


def drive_parts(drive: Drive, busy: Busy) -> Counts:
    """What the loop over the events of an edge runs in a step, with what they cause."""
    edge, kernel = drive.edge, drive.kernel
    rate = busy.rate(edge)
    found = event_parts(kernel, busy.heard(edge, kernel)).times(edge.size * rate)
    bursts = busy.bursts(edge)
    found += mixed(bursts, lambda rate: events_parts(edge, rate, valued=kernel.valued))
    if isinstance(kernel, LateralKernel):
        some = mean(bursts, lambda rate: 1.0 - (1.0 - rate) ** edge.size)
        found += Counts.of([("spread", 1), ("spread element", kernel.size * some)])
    return found


def events_parts(edge: Edge, rate: float, *, valued: bool) -> Counts:
    """What finding the events of an edge takes, without what they cause."""
    found = Counts.of([("delay slot", " " in edge.at)])
    if edge.kind == "mask":
        return found + scan_parts(edge.size, rate, edge.words)
    count = edge.size * rate
    if edge.kind == "list":
        values = count if valued else 0
        return found + Counts.of([("list", 1), ("list event", count), ("list value", values)])
    if edge.fours:
        return found + Counts.of([("dense", 1)]) + fours_parts(edge.size, rate)
    wide = " 64" if edge.type.bits == 64 else ""
    return found + Counts.of([("dense", 1), (f"dense element{wide}", edge.size),
                              ("dense event", count)])  # fmt: skip


def scan_parts(size: int, rate: float, words: int) -> Counts:
    """What it takes to find the spikes in a mask."""
    seen = scan(size, rate)
    return Counts.of(
        [
            ("scan", 1), ("scan word", seen.words if words > 1 else 0), ("scan busy", seen.busy),
            ("scan turn", seen.turns), ("scan skip", seen.skips), ("scan spike", seen.spikes),
        ]
    )  # fmt: skip


@stage_parts.register
def _(stage: Update, busy: Busy) -> Counts:
    calls = busy.calls(stage)
    sent = busy.sent(stage.mask) if stage.mask else 1.0
    found = each_neuron(stage, sent) + Counts.of(
        [("update", calls), ("each neuron", stage.size), ("draws call", stage.stochastic and calls)]
    )
    bands = stage.bands or stage.image
    if bands is not None and not stage.place:
        found += Counts.of([("band row", calls * bands.channels)])
    if not stage.mask:
        return found
    spikes = stage.size * busy.sent(stage.mask)
    if in_image(stage):
        by_place, tests = bool(stage.place), 0 if parted(stage) else stage.size
        counted = stage.size if by_place and stage.plane else 0
        return found + Counts.of(
            [
                ("band word", stage.words), ("spike test", tests), ("spike", spikes),
                ("spike in band", stage.size - tests and spikes),
                ("spike by place", spikes * by_place), ("band channel", counted),
                *((f"spike {part}", spikes * n) for part, n in _resets(stage)),
            ]
        )  # fmt: skip
    return found + Counts.of(
        [
            ("spike bit", stage.size), ("spike check", stage.size if stage.words > 1 else 0),
            ("spike word", stage.words), ("spike", spikes),
            *((f"spike {part}", spikes * n) for part, n in _resets(stage)),
        ]
    )  # fmt: skip


def each_neuron(stage: Update, sent: float = 0.0) -> Counts:
    """What the typed list of all neurons of a layer takes.

    Args:
        stage: The layer.
        sent: The share of its neurons that send something: all others may have a shorter way.
    """
    every, *two = ways(stage)
    found = _each(load_parts(stage.loads)) + _each(every)
    if two:
        calm, others = two
        found += _each(calm).times(1.0 - sent) + _each(others).times(sent)
    return (found + pressure(stage)).times(stage.size)


def one_way(stage: Update, neurons: float) -> Counts:
    """The same of so many neurons that all go one way."""
    parts = load_parts(stage.loads) + line_parts(stage.lines) + write_parts(stage.writes)
    return (_each(parts) + pressure(stage)).times(neurons)


def pressure(stage: Update) -> Counts:
    """Values that are needed at once and that cores may have no registers for."""
    live = live_values(stage)
    return Counts.of([("each spilled", max(live - 6, 0)), ("each spilled more", max(live - 10, 0))])


_ALIKE = {
    **dict.fromkeys(
        ("add", "sub", "mul", "shift", "logic", "compare", "select", "shr_floor"), "operation"
    ),
    **dict.fromkeys(("load member", "load table", "store"), "access"),
}
"""What takes about an instruction each: which of them takes less is a refinement."""


def _each(parts: Mapping[str, int]) -> Counts:
    found = Counts.of((f"each {_ALIKE.get(part, part)}", count) for part, count in parts.items())
    alike = ((f"each {_ALIKE[part]}: {part}", n) for part, n in parts.items() if part in _ALIKE)
    return found + Counts.of(alike)


def _resets(stage: Update) -> list[tuple[str, int]]:
    """What may be done for neurons that fire alone, where a compiler branches."""
    if parted(stage):
        return []
    chosen = sum(line.count(" ? ") for line in stage.lines)
    return [("choice", chosen)]


@stage_parts.register
def _(stage: Banded, busy: Busy) -> Counts:
    bands = -(-stage.layer.rows // stage.layer.height)
    reads = stage.gather.reads_input + stage.update.reads_input
    return Counts.of([("banded", 1), ("banded call", bands), ("banded input", bands * reads)])


_FEW = 4
"""Turns of a loop that compilers write out."""


@stage_parts.register
def _(stage: Copy, busy: Busy) -> Counts:
    wide = " 64" if stage.type.bits == 64 else ""
    slots = (" " in stage.at) + (" " in stage.source.at)
    if stage.count <= _FEW:
        return Counts.of([("copy few", 1), ("copy one", stage.count), ("copy few slots", slots)])
    return Counts.of([("copy", 1), (f"copy element{wide}", stage.count), ("copy slot", slots)])


@stage_parts.register
def _(stage: Turn, busy: Busy) -> Counts:
    return Counts.of([("turn", 1)])


@stage_parts.register
def _(stage: Read, busy: Busy) -> Counts:
    edge, rate = stage.edge, busy.rate(stage.edge)
    found = Counts.of([("read", 1)])
    if edge.kind != "mask":
        wide = " 64" if edge.type.bits == 64 else ""
        found += Counts.of([(f"read dense {stage.readout}{wide}", edge.size)])
    else:
        bursts = busy.bursts(edge)
        found += mixed(bursts, lambda rate: scan_parts(edge.size, rate, edge.words))
        found += Counts.of([(f"note {stage.readout}", edge.size * rate)])
    if stage.vote is not None:
        votes = edge.size * (rate if edge.kind == "mask" else 1.0)
        table = stage.vote.labels.table is not None
        silent = votes * stage.vote.silent
        found += Counts.of([("vote table", votes * table), ("vote silent", silent)])
    return found


def _step(busy: Busy) -> Counts:
    """What the function that a user calls runs beside the stages."""
    network = busy.network
    found = Counts.of(
        [
            ("step", 1), ("step call", len(network.called)),
            ("step input call", sum(stage.reads_input for stage in network.called)),
            ("step counts", network.counts_steps),
        ]
    )  # fmt: skip
    return found + (_checks(busy) if network.port.form in ("events", "values") else Counts())


def _load(busy: Busy) -> Counts:
    """What the function runs that takes values once, beside the stages."""
    calls = len(busy.network.loaded)
    return Counts.of([("step", 1), ("step input call", calls)]) + _checks(busy)


def _checks(busy: Busy) -> Counts:
    """What it takes to see that all that is passed is in range."""
    network, port = busy.network, busy.network.port
    values = port.kind == "current"
    rate = busy.activity.rate(network.sources["values" if values else "events"].node)
    events = port.size * (1.0 if values else rate)
    index = not values and port.index.span.hi >= port.size
    value = port.value is not None and port.value.span != port.span
    return Counts.of(
        [
            ("check", (index or value) * events), ("check index", index * events),
            ("check value", value * events),
        ]
    )  # fmt: skip


def _reset(network: Network) -> Counts:
    size = network.struct.bytes
    what, turns = ("word", size / 4) if network.struct.align >= 4 else ("byte", size)
    pairs: list[tuple[str, float]] = [("reset", 1), (f"reset {what}", turns)]
    for member, start in network.starts:
        kind = "table" if start.table else ("two" if start.varies else "literal")
        count = member.count if start.each == 1 else member.count // start.each
        if member.lane is not None and member.lane.name in ("pair", "quad") and not start.varies:
            pairs += [("reset start", 1), ("reset pair", member.elements)]
            continue
        pairs += [("reset start", 1), ("reset element", member.count), (f"reset {kind}", count)]
        pairs += [("reset plane", count if start.each > 1 else 0)]
        pairs += [(f"reset lane {member.lane.name}", member.count)] if member.lane else []
    return Counts.of(pairs)


def _winner(read: Read) -> Counts:
    wide = " 64" if read.score is None and read.edge.type.bits == 64 else ""
    gains = read.vote is not None and read.vote.gains.varies
    return Counts.of(
        [
            ("winner", 1), (f"winner {read.readout}{wide}", read.decisions - 1),
            ("winner gains", (read.decisions - 1) * gains),
        ]
    )  # fmt: skip
