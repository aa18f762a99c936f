"""``qspinn explain``: why a parameter has its width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from qspinn import plan as plans
from qspinn.errors import FrontendError, PlanError, located
from qspinn.explore import files
from qspinn.explore.result import Exploration
from qspinn.explore.rows import plain
from qspinn.explore.verdict import Explanation, explain
from qspinn.output import PLAN
from qspinn.report import exploration as pages
from qspinn.report import tables


@click.command(name="explain")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON on stdout.")
def explain_command(folder: Path, path: str, *, as_json: bool) -> None:
    """Say why PATH, such as fc1.weight, has its width in the exploration in FOLDER.

    What it costs, what the next coarser choice would break and save, and what each choice does
    alone.
    """
    exploration = files.read(folder)
    entry = _planned(files.place(folder), folder).get(path)
    try:
        found = explain(exploration, path)
    except PlanError as error:
        if entry is not None:
            note = f", {entry.note}" if entry.note else ""
            error.message += f"; the plan has it as {entry.fmt}, {entry.role}{note}"
        raise
    tables.console().print(pages.explanations(found, entry))
    if as_json:
        click.echo(json.dumps(_facts(exploration, path, found, entry), indent=2))


def _planned(*folders: Path) -> dict[str, plans.Entry]:
    """The entries of the plan that lies in the first of some folders that has one."""
    for folder in folders:
        if (file := folder / PLAN).is_file():
            with located(str(file)):
                try:
                    return dict(plans.parse(file.read_text(encoding="utf-8")).entries)
                except (OSError, UnicodeDecodeError) as error:
                    raise FrontendError(f"cannot be read: {error}") from error
    return {}


def _facts(
    exploration: Exploration, path: str, found: list[Explanation], entry: plans.Entry | None
) -> dict[str, Any]:
    words = ("fmt", "rounding", "overflow", "role", "note")
    return {
        "path": path,
        "limits": plain(exploration.limits),
        "plan": {word: str(getattr(entry, word)) for word in words} if entry else None,
        "choices": [plain(one) for one in found],
    }
