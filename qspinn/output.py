"""Output folders: they appear whole or not at all, and say what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qspinn.errors import FrontendError, QspinnError

MANIFEST = "manifest.json"
GRAPH = "graph.qspinn"
PLAN = "plan.txt"
FORMAT = 1


def write_folder(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Write ``files`` and a manifest with their hashes to ``folder``.

    Everything is written aside and then renamed. A folder that qspinn wrote before is replaced.

    Raises:
        QspinnError: The folder cannot be written, or holds something qspinn did not write.
    """
    folder = folder.absolute()
    ours = (folder / MANIFEST).is_file()
    if folder.exists() and not ours and not (folder.is_dir() and not any(folder.iterdir())):
        raise QspinnError(
            "exists and was not written by qspinn", at=str(folder), hint="name another folder"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise QspinnError(f"cannot be written: {error.strerror}", at=str(folder)) from error
    try:
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        hashes = {n: hashlib.sha256(c).hexdigest() for n, c in sorted(files.items())}
        manifest = {"format": FORMAT, **facts, "files": hashes}
        text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=True)
        (aside / MANIFEST).write_text(text + "\n", encoding="utf-8")
        aside.chmod(0o755)
        _replace(folder, aside)
    except OSError as error:
        raise QspinnError(f"cannot be written: {error.strerror}", at=str(folder)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace(folder: Path, aside: Path) -> None:
    if not folder.exists():
        aside.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(old / "was")
    try:
        aside.rename(folder)
    except OSError:
        (old / "was").rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Write one file aside, then rename it.

    Raises:
        QspinnError: It cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise QspinnError(f"cannot be written: {error.strerror}", at=str(path)) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that `write_folder` wrote.

    Raises:
        FrontendError: It has none, or one that cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FrontendError(
            f"has no readable {MANIFEST}: {error}",
            at=str(folder),
            hint="name a folder that qspinn compile wrote",
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FrontendError(f"{MANIFEST} is not of format {FORMAT}", at=str(folder))
    return manifest


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files of a folder that are missing or not as they were written."""
    changed = []
    for name, code in manifest.get("files", {}).items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != code:
            changed.append(name)
    return changed
