"""The table of `qspinn bench`: what an inference costs, by layer and stage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from qspinn.bench import Bench, LayerWork, StageCount
from qspinn.report.tables import table_of

_COLUMNS = ("layer", "function", "instructions", "cycles", "share", "spikes", "operations",
            "per operation")  # fmt: skip


def bench(name: str, value: Bench, notes: Sequence[str] = ()) -> Table:
    """An inference on average: stages in order, with what each layer had to do on its first."""
    count = value.count
    samples = len(count.samples)
    title = f"{name} on {count.core}, {count.compiler}: an inference of {value.steps} steps"
    title += f", the mean of {samples}" if samples > 1 else ""
    table = table_of(title, *_COLUMNS, right=range(2, len(_COLUMNS)))
    layers = {layer.name: layer for layer in value.layers}
    running = {stage.layer for stage in count.stages}
    sources = [layer for layer in value.layers if layer.name not in running]
    for source in sources:
        word = "the input" if len(sources) == 1 else "an input"
        table.add_row(escape(source.name), word, "", "", "", _number(source.spikes))
    for owner, stages in groupby(count.stages, key=lambda stage: stage.layer):
        for nth, stage in enumerate(stages):
            layer = layers.get(owner) if nth == 0 else None
            table.add_row(escape(owner) if nth == 0 else "", *_stage(stage, layer, value))
    per = _ratio(value.instructions, value.operations)
    table.add_row(
        "total", "", _number(value.instructions), _number(value.cycles), "", "",
        _number(value.operations), per, style="bold",
    )  # fmt: skip
    for stage in count.once:
        what = f"{stage.name} {stage.what}"
        table.add_row("once", escape(what), _number(stage.instructions), _number(stage.cycles))
    table.caption = escape("\n".join((*_facts(value), *notes)))
    table.caption_justify = "left"
    return table


def _stage(stage: StageCount, layer: LayerWork | None, value: Bench) -> tuple[str, ...]:
    share = f"{stage.instructions / value.instructions:.1%}" if value.instructions else ""
    cells = (escape(stage.name), _number(stage.instructions), _number(stage.cycles), share)
    if layer is None:
        return cells
    per = _ratio(value.of_layer(layer.name), layer.operations)
    return (*cells, _number(layer.spikes), _number(layer.operations), per)


def _facts(value: Bench) -> list[str]:
    lines = [f"deepest stack of a call: {value.count.stack} B"]
    if value.seconds is not None:
        lines.append(f"{1e3 * value.seconds:.3g} ms at {value.hertz / 1e6:g} MHz")
    return [*lines, *value.count.notes]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _ratio(value: float, by: float) -> str:
    return f"{value / by:.2f}" if by else ""
