"""An exploration as files, for people and for machines, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from qspinn.errors import FrontendError
from qspinn.explore import rows
from qspinn.explore.result import Attribution, Entry, Exploration, Significance
from qspinn.explore.significance import Step, order
from qspinn.explore.space import Space
from qspinn.explore.verdict import verdict
from qspinn.ir import Graph
from qspinn.output import MANIFEST, PLAN, changed_files, read_manifest
from qspinn.report import plots
from qspinn.storage import dump

FORMAT = 1
FRONT, CANDIDATES = "front.json", "candidates.csv"
SIGNIFICANCE, ATTRIBUTION = "significance.csv", "attribution.csv"
ORDER = "order.csv"
"""The steps by which parameters give up bits, the cheapest in accuracy for a byte first."""
TRAINED = "trained.qspinn"
FOLDER = "explore"
"""Where they lie inside the output of ``qspinn compile``."""
_TABLES: dict[str, tuple[str, type]] = {
    "entries": (CANDIDATES, Entry),
    "significance": (SIGNIFICANCE, Significance),
    "attribution": (ATTRIBUTION, Attribution),
}


def render(
    exploration: Exploration, plan: str, trained: Graph | None = None, *, draw: bool = True
) -> dict[str, bytes]:
    """Every file an exploration leaves behind; the same value gives the same bytes.

    Args:
        exploration: What was found.
        plan: The winner's plan as text; empty: there is no winner.
        trained: The float network that the plan belongs to, where it is no longer the one that
            was given: a model file for ``qspinn compile``, with this plan.
        draw: Whether to draw the plots, where there is something to draw with.
    """
    facts = json.dumps(summary(exploration), indent=2, sort_keys=True, allow_nan=False)
    files = {FRONT: f"{facts}\n".encode()}
    extra = _extra(exploration)
    for name, (file, kind) in _TABLES.items():
        files[file] = rows.write(getattr(exploration, name), kind, extra.get(file, ()))
    if exploration.significance:
        steps = order(exploration.significance, Space(exploration.knobs))
        files[ORDER] = rows.write(steps, Step)
    if plan:
        files[PLAN] = plan.encode()
    if trained is not None:
        files[TRAINED] = dump(trained)
    return {**files, **(plots.draw(exploration) if draw else {})}


def summary(exploration: Exploration) -> dict[str, Any]:
    """What ``front.json`` says: the front, the winner, and all but the long tables."""
    head = {f.name: rows.plain(getattr(exploration, f.name))
            for f in fields(exploration) if f.name not in _TABLES}  # fmt: skip
    front = [_entry(exploration, entry) for entry in exploration.front]
    winner = exploration.winner and _entry(exploration, exploration.winner)
    return {"format": FORMAT, **head, "winner": winner, "front": front}


def _entry(exploration: Exploration, entry: Entry) -> dict[str, Any]:
    used = entry.memory.network if entry.memory else None
    return {**rows.plain(entry), "network_bytes": used, "smaller": exploration.ratio(entry)}


def _extra(exploration: Exploration) -> dict[str, list[dict[str, Any]]]:
    """Columns that follow from others, for people."""
    candidates = [
        {
            "network": entry.memory.network if entry.memory else None,
            "selected": entry.digest == exploration.selected,
        }
        for entry in exploration.entries
    ]
    words = [{"verdict": verdict(row, exploration.limits).words} for row in exploration.attribution]
    return {CANDIDATES: candidates, ATTRIBUTION: words}


def place(folder: Path) -> Path:
    """Where the explorer's files lie: in ``folder``, or below it in ``explore``.

    Raises:
        FrontendError: In neither.
    """
    for found in (folder, folder / FOLDER):
        if (found / FRONT).is_file():
            return found
    raise FrontendError(
        f"holds no {FRONT}",
        at=str(folder),
        hint="name a folder that qspinn explore wrote, or qspinn compile with --data",
    )


def read(folder: Path) -> Exploration:
    """The exploration that a folder holds, there or below it in ``explore``.

    Raises:
        FrontendError: It holds none, or one that was changed or cannot be read.
    """
    found = place(folder)
    _unchanged(folder, found)
    try:
        return _read({name: (found / name).read_bytes() for name in _names()})
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FrontendError(
            f"the exploration cannot be read: {what}", at=str(found), hint="explore again"
        ) from error


def _names() -> list[str]:
    return [FRONT, *(file for file, _ in _TABLES.values())]


def _unchanged(folder: Path, found: Path) -> None:
    """Refuse files that are not as the folder's manifest has them; without one, all go."""
    if not (folder / MANIFEST).is_file():
        return
    ours = {(found / name).relative_to(folder).as_posix() for name in (*_names(), PLAN)}
    changed = set(changed_files(folder, read_manifest(folder))) & ours
    if changed:
        raise FrontendError(
            f"{', '.join(sorted(changed))} not as qspinn wrote it", at=str(folder),
            hint="explore again",
        )  # fmt: skip


def _read(files: Mapping[str, bytes]) -> Exploration:
    head: Any = json.loads(files[FRONT])
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ValueError(f"{FRONT} is not of format {FORMAT}")
    tables: dict[str, Any] = {
        name: rows.read(files[file], kind) for name, (file, kind) in _TABLES.items()
    }
    exploration: Exploration = rows.build(Exploration, head, given=tables)
    if [row["digest"] for row in head["front"]] != [e.digest for e in exploration.front]:
        raise ValueError(f"the fronts of {FRONT} and {CANDIDATES} differ")
    return exploration
