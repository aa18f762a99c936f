"""Graphs that qspinn saved (`.qspinn`): nothing is left to assume."""

from __future__ import annotations

from pathlib import Path

from qspinn import storage
from qspinn.frontends.report import IN_FILE, Assumption, Imported, require_plain


def load(path: Path) -> Imported:
    """Read a graph as `qspinn.storage.save` wrote it.

    Raises:
        FrontendError: The file is no graph, damaged, or of another version.
    """
    graph = storage.load(path)
    for name in (graph.name, *graph.by_name):
        require_plain(name)
    note = Assumption(graph.name, "as it was saved", IN_FILE)
    return Imported(graph, (note,), {"format": "qspinn"})
