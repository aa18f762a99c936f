"""Tables of an exploration: the front, what matters most, the verdict, one choice explained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from qspinn.explore.result import Entry, Exploration, Memory, Significance
from qspinn.explore.verdict import Explanation, points
from qspinn.memory import amount, of_each_core
from qspinn.plan import Entry as PlanEntry
from qspinn.report import plots
from qspinn.report.tables import table_of
from qspinn.stats import Estimate

MOST = 24
"""Rows of a front that people read; the file has all."""


def result(exploration: Exploration) -> list[RenderableType]:
    """Everything to print when an exploration ends."""
    shown: list[RenderableType] = [front(exploration)]
    if exploration.significance:
        shown.append(significance(exploration))
    return [*shown, verdict(exploration), *warnings(exploration)]


def front(exploration: Exploration) -> Table:
    """The front, the smallest first, with what is regularly asked of it."""
    all_of_it = exploration.front
    rows = _around(all_of_it, exploration.winner)
    left = len(all_of_it) - len(rows)
    title = f"Front: {len(all_of_it)} of {exploration.evaluations:,} candidates measured"
    if left:
        title += f", {left} of them not shown"
    named = dict.fromkeys(region for entry in rows for region in entry.regions)
    regions = [region for region in named if not of_each_core(region)]
    work = ["instructions"] if any(entry.instructions is not None for entry in rows) else []
    numbers = range(1, 5 + len(regions) + len(work))
    table = table_of(title, "", "memory", *regions, *work, "ratio", "accuracy", "drop", "interval",
                     right=numbers)  # fmt: skip
    for entry in rows:
        chosen = entry.digest == exploration.selected
        table.add_row(
            "▶" if chosen else "",
            str(_memory(entry).network),
            *(str(entry.regions.get(region, "")) for region in regions),
            *(_count(entry.instructions) for _ in work),
            f"{exploration.ratio(entry) or 0:.2f}x",
            f"{100 * _measured(entry).value:.2f} %",
            points(entry.drop.value) if entry.drop else "",
            _span(entry.drop) if entry.drop else "",
            style="bold" if chosen else "",
        )
    return table


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _around(entries: tuple[Entry, ...], winner: Entry | None) -> tuple[Entry, ...]:
    """At most `MOST` neighbours of the winner, or of the most accurate."""
    if len(entries) <= MOST:
        return entries
    at = entries.index(winner) if winner in entries else len(entries)
    first = min(max(0, at - MOST // 2), len(entries) - MOST)
    return entries[first : first + MOST]


def _measured(entry: Entry) -> Estimate:
    assert entry.accuracy is not None, "checked when the exploration was made"
    return entry.accuracy


def _memory(entry: Entry) -> Memory:
    assert entry.memory is not None, "checked when the exploration was made"
    return entry.memory


def _span(estimate: Estimate) -> str:
    return f"[{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}]"


def significance(exploration: Exploration) -> Table:
    """The parameters in the order in which they can give up bits: the cheapest bytes first."""
    table = table_of(
        "Significance: one choice alone, everything else at its finest",
        "parameter", "from", "to", "loses", "interval", "saves", "per KiB", right=(3, 4, 5, 6),
    )  # fmt: skip
    for base, row in _steps(exploration):
        gain = row.difference
        assert gain is not None, "left out otherwise"
        saved = (base.bytes or 0) - (row.bytes or 0)
        table.add_row(
            escape(row.knob), escape(base.option), escape(row.option),
            points(0.0 - gain.value), f"[{-100 * gain.high:+.2f}, {-100 * gain.low:+.2f}]",
            f"{saved} B" if saved > 0 else "", points(-1024 * gain.value / saved)
            if saved > 0 else "",
        )  # fmt: skip
    return table


def _steps(exploration: Exploration) -> list[tuple[Significance, Significance]]:
    """Of each knob, the finest option and the coarsest that is not surely worse."""
    found = []
    for knob in exploration.knobs:
        curve = {s.option: s for s in exploration.significance if s.knob == knob.name}
        rows = [curve[o] for o in knob.options if o in curve and curve[o].difference]
        if not rows or len(knob.options) < 2:
            continue
        base = rows[0]
        safe = [r for r in rows[1:] if r.difference and r.difference.high >= 0.0]
        found.append((base, safe[-1] if safe else rows[min(1, len(rows) - 1)]))
    return sorted(found, key=_price)


def _price(step: tuple[Significance, Significance]) -> tuple[bool, float, str]:
    base, row = step
    saved = (base.bytes or 0) - (row.bytes or 0)
    loss = -row.difference.value if row.difference else 0.0
    return saved <= 0, loss / saved if saved > 0 else loss, row.knob


def verdict(exploration: Exploration) -> Table:
    """What was selected, and how it does on samples that nothing was chosen on."""
    table = table_of("Selected", "", "with 95 % interval")
    winner, report = exploration.winner, exploration.report
    if winner is None or winner.accuracy is None:
        table.add_row("nothing", "no candidate that was measured meets the limits")
        return table
    for words in _choices(winner):
        table.add_row(*words)
    smaller = exploration.ratio(winner) or 0.0
    used = _memory(winner)
    table.add_row("memory", f"{used.network} B = weights {used.weights} + constants "
                            f"{used.constants} + state {used.state}")  # fmt: skip
    table.add_row("in float32", f"{exploration.float_bytes} B, {smaller:.2f} times as much")
    if (active := exploration.float_bytes_active) is not None:
        ratio = active / used.network
        table.add_row("", f"{active} B without the dropped inputs, {ratio:.2f} times as much")
    for region, used_there in winner.regions.items():
        limit = exploration.limits.budget.get(region)
        share = f" of {amount(limit, region)} ({used_there / limit:.1%})" if limit else ""
        table.add_row(region, f"{amount(used_there, region)}{share}")
    if winner.operations is not None:
        spikes = "" if winner.spikes is None else f", {winner.spikes:,.1f} spikes"
        table.add_row("per inference", f"{winner.operations:,.0f} synaptic operations{spikes}")
    if winner.instructions is not None:
        most = exploration.limits.instructions
        allowed = f" of {most:,.0f} ({winner.instructions / most:.1%})" if most else ""
        table.add_row("", f"{winner.instructions:,.0f} instructions{allowed}, by a model")
    _part(table, exploration, "select", winner.accuracy, winner.drop, winner.bound)
    if report is not None:
        _part(table, exploration, "report", report.accuracy, report.drop, report.bound)
        table.add_row("float, report", report.baseline.percent())
    return table


def _choices(winner: Entry) -> Iterator[tuple[str, str]]:
    """The options taken, a line for each node."""
    nodes: dict[str, list[str]] = {}
    for name, option in winner.words.items():
        owner, dot, field = name.partition(".")
        nodes.setdefault(owner, []).append(f"{field} {option}" if dot else option)
    for owner, words in nodes.items():
        yield escape(owner), escape(", ".join(words))


def _part(
    table: Table, exploration: Exploration, part: str, accuracy: Estimate, drop: Estimate | None,
    bound: float | None,
) -> None:  # fmt: skip
    name = f"accuracy, {part}"
    table.add_row(name, escape(f"{accuracy.percent()}, {accuracy.count} samples"))
    if drop is None:
        return
    most = ""
    if bound is not None:
        sure = 100 * exploration.limits.level
        most = f"; at most {points(bound)} with {sure:g} % confidence"
        if exploration.limits.max_drop is not None:
            most += f", {points(exploration.limits.max_drop)} allowed"
    table.add_row(f"drop, {part}", escape(f"{points(drop.value)} {_span(drop)}{most}"))


def warnings(exploration: Exploration) -> list[Text]:
    """What to know before trusting this."""
    found = [f"warning: {words}" for words in exploration.warnings]
    if exploration.optimism is not None:
        found.append(
            f"note: the winner of {exploration.evaluations:,} candidates flatters itself by about "
            f"{points(exploration.optimism)} on the selection part; the report part does not"
        )
    if not exploration.complete:
        found.append("warning: interrupted; this is the best of what was measured until then")
    if note := plots.note():
        found.append(f"note: {note}")
    return [Text(words) for words in found]


def explanations(found: Iterable[Explanation], entry: PlanEntry | None) -> Group:
    """Why a plan path has its width: the verdict in words, and its significance curve."""
    return Group(*(part for one in found for part in _explanation(one, entry)))


def _explanation(one: Explanation, entry: PlanEntry | None) -> Iterator[Text | Table]:
    fmt = f" ({entry.fmt} {entry.rounding} {entry.overflow} {entry.role})" if entry else ""
    taken = f"{one.option}{fmt}" if one.option else "nothing was selected"
    yield Text(f"{one.knob.name}: {taken}", style="bold")
    finest = one.knob.options[0]
    if one.attribution and one.option != finest and (cost := one.attribution.cost):
        yield Text(f"  costs {points(cost.value)} {_span(cost)} against {finest}")
    if one.verdict:
        yield Text(f"  {one.verdict.words}")
    if one.curve:
        yield curve(one)


def curve(one: Explanation) -> Table:
    """A knob's options one at a time."""
    table = table_of(
        "  alone, everything else at its finest", "", "option", "accuracy", "interval", "loses",
        "interval", "distance", "memory", right=(2, 3, 4, 5, 6, 7),
    )  # fmt: skip
    for row in one.curve:
        right, gain = row.accuracy, row.difference
        table.add_row(
            "▶" if row.option == one.option else "",
            escape(row.option),
            f"{100 * right.value:.2f} %" if right else "",
            escape(f"[{100 * right.low:.2f}, {100 * right.high:.2f}]") if right else "",
            points(0.0 - gain.value) if gain else "",
            escape(f"[{-100 * gain.high:+.2f}, {-100 * gain.low:+.2f}]") if gain else "",
            "" if row.distance is None else f"{row.distance:.4g}",
            "" if row.bytes is None else f"{row.bytes} B",
        )
    return table
