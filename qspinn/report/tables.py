"""Tables on the terminal; everything goes to stderr, so that stdout stays clean for pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from qspinn.backend import Backend, Tool
from qspinn.cost import ASSUMED_RATE, Activity, Cost
from qspinn.evaluate import Comparison
from qspinn.frontends import Assumption
from qspinn.gate import Check
from qspinn.memory import Device, Footprint, of_each_core
from qspinn.plan import Plan
from qspinn.stepwise import Stepwise
from qspinn.validate import Verdict

_PLAIN = 132
"""Columns where nobody says how many there are: a log, a pipe."""


def console() -> Console:
    """Where people read."""
    found = Console(stderr=True, highlight=False)
    return found if found.is_terminal else Console(stderr=True, highlight=False, width=_PLAIN)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for anything that may take over two seconds; gone when done.

    Yields a function that is told how much is done.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
    )
    with bar:
        task = bar.add_task(escape(what), total=total)
        yield lambda done: bar.update(task, completed=done)


def table_of(title: str, *columns: str, right: Sequence[int] = ()) -> Table:
    """A table without lines; ``right``: the columns of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        justify: JustifyMethod = "right" if i in right else "left"
        last = i == len(columns) - 1
        table.add_column(column, justify=justify, overflow="fold", no_wrap=not last)
    return table


def assumptions(items: Iterable[Assumption], notes: Iterable[str] = ()) -> Table:
    """What an import assumed, and why."""
    table = table_of("Import", "what", "value", "because")
    for item in items:
        table.add_row(escape(str(item.subject)), escape(str(item.value)), escape(item.source))
    for note in notes:
        table.add_row("", "", escape(note))
    return table


def changes(lines: Iterable[str]) -> Table:
    """What a repair made of a file, a line ``place: change`` each."""
    table = table_of("Changed", "where", "what")
    for line in lines:
        where, _, what = line.partition(": ")
        table.add_row(escape(where), escape(what))
    return table


def stepwise(value: Stepwise) -> Table:
    """What a converted network loses, by the number of steps."""
    title = f"Steps (float network, {value.samples} samples of the {value.part} part)"
    if value.reference is not None:
        title += f"; the network it was made of: {value.reference.percent()}"
    table = table_of(title, "T", "accuracy", "agreement with it", right=(0,))
    for row in value.rows:
        right = row.accuracy.percent() if row.accuracy else "no labels"
        table.add_row(str(row.steps), right, row.agreement.percent())
    return table


def plan(value: Plan) -> Table:
    """The plan, a parameter a row."""
    table = table_of("Plan", "parameter", "format", "rounding", "overflow", "role", "")
    for path, entry in value.entries.items():
        table.add_row(
            path, str(entry.fmt), str(entry.rounding), str(entry.overflow), entry.role,
            escape(entry.note),
        )  # fmt: skip
    for node, factors in value.scales.items():
        span = f"{factors.min():.6g}"
        if factors.size > 1:
            span += f" to {factors.max():.6g} ({factors.size} values)"
        table.add_row(f"{node}.scale", span, "", "", "free", "")
    for node, peak in value.assumed.items():
        note = f"assumed: seen up to {peak}, more than proved to fit; checked when run"
        table.add_row(f"{node}.input", "", "", "", "derived", note)
    return table


def footprint(
    value: Footprint, baseline: int, device: Device, listening: int | None = None
) -> Table:
    """Bytes by owner and region, against the float32 baseline and the device.

    ``listening``: the baseline without the inputs that the plan drops, if it drops some.
    """
    table = table_of(f"Memory on {device.name}", "item", "of", "region", "bytes", right=(3,))
    for line in value.lines:
        if not of_each_core(line.region):
            table.add_row(line.kind, escape(line.owner), line.region, str(line.bytes))
    for region, used in value.regions().items():
        limit = device.regions.get(region)
        share = f" of {limit} ({used / limit:.1%})" if limit else ""
        whole = "fullest core" if of_each_core(region) else "total"
        table.add_row(whole, "", region, f"{used}{share}", style="bold")
    network = value.network
    table.add_row("weights + constants + state", "", "", f"{network}")
    table.add_row("the same in float32", "", "", _against(baseline, network))
    if listening is not None:
        without = _against(listening, network)
        table.add_row("float32 without the dropped inputs", "", "", without)
    return table


def _against(baseline: int, network: int) -> str:
    return f"{baseline}  {baseline / network:.2f}x smaller" if network else f"{baseline}"


_SHOWN = 8
"""The parts of a program that are shown one by one."""


def cost(value: Cost) -> Table:
    """What an inference takes, the largest parts first, and the activity that this assumes."""
    title = f"Instructions of an inference on {value.core}, as {value.compiler} compiles it (model)"
    table = table_of(title, "part", "instructions", "", right=(1,))
    lines = sorted(value.lines, key=lambda line: -line.instructions)
    whole = value.instructions
    rest = sum(line.instructions for line in lines[_SHOWN:])
    rows = [(line.owner, line.instructions) for line in lines[:_SHOWN]]
    for owner, count in [*rows, *([("the rest", rest)] if rest else [])]:
        table.add_row(escape(owner), f"{count:,.0f}", f"{count / whole:.1%}" if whole else "")
    time = value.milliseconds
    steps = value.activity.steps
    told = f"{steps} steps" if steps > 1 else "one step (--steps says how many a sample has)"
    if time is not None:
        clock = f"{value.hertz / 1e6:g} MHz and {value.cycles:.2f} cycles each"
        told += f", {clock}: {time:.3g} ms"
    table.add_row("total", f"{whole:,.0f}", told, style="bold")
    table.add_row("active in a step", "", escape(_active(value.activity)))
    return table


def _active(value: Activity) -> str:
    if not value.measured:
        return f"{ASSUMED_RATE:.0%} of everything, assumed; --data tells"
    return ", ".join(f"{node} {100 * rate:.3g} %" for node, rate in value.rates.items())


def accuracy(value: Comparison) -> Table:
    """Float and integer accuracy with 95 % intervals, and the paired difference."""
    title = f"Accuracy on the {value.part} part, {value.float.count} samples"
    table = table_of(title, "network", "with 95 % interval")
    table.add_row("float", value.float.percent())
    table.add_row("integer", value.integer.percent())
    d = value.difference
    points = f"{100 * d.value:+.2f} pt [{100 * d.low:+.2f}, {100 * d.high:+.2f}]"
    table.add_row("difference, paired", points)
    return table


def verdicts(values: Iterable[Verdict]) -> Table:
    """What was compared bit for bit, and the first difference if there is one."""
    table = table_of("Bit equality with the reference", "executor", "samples", "steps", "values",
                   "verdict", right=(1, 2, 3))  # fmt: skip
    for v in values:
        verdict = "equal" if v.mismatch is None else str(v.mismatch)
        table.add_row(v.executor, str(v.samples), str(v.steps), f"{v.values:,}", escape(verdict))
    return table


def checks(values: Iterable[Check]) -> Table:
    """A gate's checks, and what fills a region or differed first."""
    table = table_of("Checks", "verdict", "check", "of", "measured", "limit", "")
    for check in values:
        verdict = "pass" if check.passed else "FAIL"
        table.add_row(
            verdict, check.group, check.name, check.measured, check.limit, escape(check.detail)
        )
    return table


def devices(target: Backend, known: Mapping[str, Device] | None = None) -> Table:
    """A target's devices with their memory by region, and what is to be known of each.

    ``known``: All there are; by default the target's own.
    """
    shown = (target.devices if known is None else known).values()
    table = table_of(f"{target.name}: devices", "device", "core", "clock", "memory", "source",
                     right=(2,))  # fmt: skip
    for device in shown:
        whole = ((r, size) for r, size in device.regions.items() if not of_each_core(r))
        memory = ", ".join(f"{region} {kib(size)}" for region, size in whole)
        default = " (default)" if device.name == target.default_device else ""
        table.add_row(
            device.name + default, device.core, _clock(device), memory, escape(_about(device))
        )
    return table


def _about(device: Device) -> str:
    """Where its figures come from, what is beside the memory counted on, and notes."""
    beside = ", ".join(f"{name} {kib(size)}" for name, size in device.others.items())
    words = (
        device.source,
        "not checked" if device.source and not device.checked else "",
        f"beside them {beside}" if beside else "",
        device.note,
    )
    return "; ".join(filter(None, words))


def limits(device: Device) -> Table:
    """A device's figures, where each comes from and how far it can be trusted."""
    table = table_of(f"{device.name}: limits", "what", "limit", "confidence", "source")
    for limit in device.limits:
        table.add_row(limit.what, escape(limit.value), limit.confidence, escape(limit.source))
    return table


def _clock(device: Device) -> str:
    return f"{device.hertz / 1e6:g} MHz" if device.hertz else ""


def kib(size: int) -> str:
    """An amount of memory in the largest unit that divides it; small numbers as they are."""
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return str(size)


def capabilities(target: Backend) -> Table:
    """What a target can express."""
    table = table_of(f"{target.name}: capabilities", "what", "values")
    can = target.capabilities
    forms = (*map(str, can.weight_bits), *can.weight_forms)
    table.add_row("weight bits", " ".join(forms))
    table.add_row("state bits", " ".join(map(str, can.state_bits)))
    table.add_row("decays", " ".join(can.decay_forms))
    table.add_row("roundings of states", " ".join(map(str, can.state_roundings)))
    table.add_row("scales per", " ".join(can.scale_groups))
    table.add_row("steps per synapse stage", str(can.synapse_steps))
    table.add_row("executors", " ".join(target.executors))
    for note in can.notes:
        table.add_row("", escape(note))
    return table


def tools(found: Iterable[Tool]) -> Table:
    """Toolchains found, and how to get the rest."""
    table = table_of("Toolchains", "tool", "for", "found", "how to get it")
    for tool in found:
        hint = "" if tool.found else "; ".join((tool.hint, *tool.notes))
        table.add_row(tool.name, escape(tool.needed_for), escape(tool.found or "no"), escape(hint))
    return table
