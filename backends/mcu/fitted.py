"""Figures that benchmarks fit to compilers and cores, as CSV files: a row a part, a column each."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.resources import files

Columns = Mapping[str, Mapping[str, float]]


def read(name: str) -> dict[str, dict[str, float]]:
    """The file ``<name>.csv`` beside this module: by column, the figure of every part it has."""
    return parse((files(__package__) / f"{name}.csv").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, dict[str, float]]:
    """The columns of a file; an empty cell is a part that the column never saw."""
    head, *rows = csv.reader(io.StringIO(text))
    return {
        name: {row[0]: float(row[at]) for row in rows if row[at]}
        for at, name in enumerate(head[1:], 1)
    }


def written(columns: Columns, digits: int) -> str:
    """The text of a file, parts in alphabetic order, figures with so many digits."""
    out = io.StringIO()
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(["part", *columns])
    for part in sorted({part for column in columns.values() for part in column}):
        cells = (column.get(part) for column in columns.values())
        sheet.writerow([part, *("" if cell is None else f"{cell:.{digits}f}" for cell in cells)])
    return out.getvalue()
