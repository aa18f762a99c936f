"""What is told of a mapping: a file for people, a line for the terminal, facts for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .chips import RESOURCES, Amounts
from .mapper import Filled, binding, fullest
from .mapping import Mapping

_MOST_ROWS = 200
_TITLES = ("neurons", "groups", "axons in", "axon maps", "words")


@dataclass(frozen=True)
class LayerRow:
    """A layer on its cores.

    Attributes:
        name: Its path.
        neurons: All of them.
        cores: The cores that hold some.
        alone: The cores that it needs by itself, at least.
        largest: What its largest slice takes.
        words: What all its slices take.
        binding: What keeps a slice from being larger; of a layer on one core, what it takes most
            of.
    """

    name: str
    neurons: int
    cores: int
    alone: int
    largest: Amounts
    words: int
    binding: str


@dataclass(frozen=True)
class CoreRow:
    """Cores that hold as much of the same layers."""

    first: int
    count: int
    holds: tuple[tuple[str, int], ...]
    used: Amounts
    fullest: str


def layer_rows(mapping: Mapping) -> tuple[LayerRow, ...]:
    """The layers in the order of the network."""
    rows = []
    placed = mapping.high
    for i, load in enumerate(placed.loads):
        pieces = [p for core in placed.cores for p in core.pieces if p.load == i]
        largest = max(pieces, key=lambda p: (p.stop - p.start, p.need))
        size = largest.stop - largest.start
        bound = fullest(largest.need, mapping.most)
        rows.append(
            LayerRow(
                load.name, load.size, len(pieces), placed.bound.alone[i], largest.need,
                sum(p.need[-1] for p in pieces),
                bound if size == load.size else binding(load, size, mapping.most),
            )
        )  # fmt: skip
    return tuple(rows)


def core_rows(mapping: Mapping) -> tuple[CoreRow, ...]:
    """The cores in their order; neighbours that hold as much of the same layers are one row."""
    loads = mapping.high.loads

    def holds(core: Filled) -> tuple[tuple[tuple[str, int], ...], Amounts]:
        return tuple((loads[p.load].name, p.stop - p.start) for p in core.pieces), core.used

    rows, first = [], 0
    for (held, used), same in groupby(mapping.high.cores, key=holds):
        count = len(list(same))
        rows.append(CoreRow(first, count, held, used, fullest(used, mapping.most)))
        first += count
    return tuple(rows)


def summary(mapping: Mapping) -> str:
    """How many cores and chips, how many at least, and what binds."""
    bound = mapping.high.bound
    found = len(mapping.high.cores)
    cores = str(found) if mapping.fewest == found else f"{mapping.fewest} to {found}"
    chips = "1 chip" if mapping.chips == 1 else f"{mapping.chips} chips"
    proved = "the least there can be" if bound.cores == found else f"at least {bound.cores}"
    word = "core" if cores == "1" else "cores"
    text = f"{cores} {word} of {mapping.device.name} on {chips} of {mapping.chip}"
    over = beyond(mapping)
    if over:
        return "\n".join((text, *over))
    return f"{text}; {proved}, by {_called(bound.resource)}"


def beyond(mapping: Mapping) -> tuple[str, ...]:
    """Layers of which one neuron needs more than a core has."""
    worst: dict[tuple[str, str], tuple[int, int]] = {}
    for core in mapping.high.cores:
        name = mapping.high.loads[core.owner(mapping.most)].name
        for what, used, most in zip(RESOURCES, core.used, mapping.most, strict=True):
            if used > most and used > worst.get((name, what), (0, 0))[0]:
                worst[name, what] = used, most
    return tuple(
        f"{name} fits no core: {used} {what}, a core has {most}"
        for (name, what), (used, most) in worst.items()
    )


def text(mapping: Mapping, name: str) -> str:
    """The file: totals, layers, cores, and how far the figures can be trusted."""
    layers = layer_rows(mapping)
    lines = [f"{name}: {summary(mapping)}", ""]
    lines += _table(
        ["layer", "neurons", "cores", "alone", "words", "largest slice", *_TITLES[1:], "binds"],
        [
            [
                row.name, str(row.neurons), str(row.cores), str(row.alone), str(row.words),
                str(row.largest[0]), *map(str, row.largest[1:]), _called(row.binding),
            ]
            for row in layers
        ],
    )  # fmt: skip
    lines += [
        "",
        "alone: the cores that a layer needs at least by itself (convolutions at the upper end).",
        "",
    ]
    rows = core_rows(mapping)
    lines += _table(
        ["core", "holds", *_TITLES],
        [
            [
                _span(row), " + ".join(f"{layer} {size}" for layer, size in row.holds),
                *_shares(row.used, mapping.most),
            ]
            for row in rows[:_MOST_ROWS]
        ],
    )  # fmt: skip
    if len(rows) > _MOST_ROWS:
        lines.append(f"and {len(rows) - _MOST_ROWS} rows more: see facts.mapping in manifest.json")
    lines += ["", *_notes(mapping)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def facts(mapping: Mapping) -> dict[str, Any]:
    """The same for machines."""
    bound = mapping.high.bound
    return {
        "cores": [mapping.fewest, len(mapping.high.cores)],
        "bound": bound.cores,
        "binding": bound.resource,
        "chips": mapping.chips,
        "most": dict(zip(RESOURCES, mapping.most, strict=True)),
        "layers": [
            {
                "layer": row.name, "neurons": row.neurons, "cores": row.cores,
                "alone": row.alone, "words": row.words, "binding": row.binding,
                "largest_slice": dict(zip(RESOURCES, row.largest, strict=True)),
            }
            for row in layer_rows(mapping)
        ],
        "placed": [
            {
                "first": row.first, "count": row.count,
                "holds": [list(held) for held in row.holds],
                "used": dict(zip(RESOURCES, row.used, strict=True)), "fullest": row.fullest,
            }
            for row in core_rows(mapping)
        ],
    }  # fmt: skip


def _called(resource: str) -> str:
    return _TITLES[RESOURCES.index(resource)]


def _span(row: CoreRow) -> str:
    if row.count == 1:
        return str(row.first)
    return f"{row.first}-{row.first + row.count - 1}"


def _shares(used: Amounts, most: Amounts) -> Iterator[str]:
    for n, m in zip(used, most, strict=True):
        yield f"{n} ({n / max(m, 1):.0%})"


def _notes(mapping: Mapping) -> list[str]:
    lines = ["What a core holds, and how sure that is:"]
    lines += _table(
        ["what", "limit", "confidence", "source"],
        [[x.what, x.value, x.confidence, x.source] for x in mapping.device.limits],
    )
    held = ", ".join(f"{m} {what}" for what, m in zip(_TITLES, mapping.most, strict=True))
    lines += ["", f"Counted on: {held} a core."]
    if mapping.low is not mapping.high:
        lines.append(
            "Words of convolutions are known as a range; tables and budgets take its upper end."
        )
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; those of numbers to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    left = [not all(row[i][:1].isdigit() for row in rows) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if flush else cell.rjust(width)
            for cell, width, flush in zip(row, widths, left, strict=True)
        )
        for row in (head, *rows)
    ]
