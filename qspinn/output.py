"""Output folders: they appear whole or not at all, and say what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qspinn.errors import FrontendError, QspinnError

MANIFEST = "manifest.json"
GRAPH = "graph.qspinn"
PLAN = "plan.txt"
FORMAT = 1


def write_folder(folder: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Write ``files`` and a manifest with their hashes to ``folder``.

    Everything is written aside and then renamed. A folder that holds only what qspinn wrote
    before is replaced.

    Raises:
        QspinnError: The folder cannot be written, or holds something qspinn did not write.
    """
    folder = folder.absolute()
    check_folder(folder)
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".qspinn.", dir=folder.parent))
    try:
        with _writing(folder):
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
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Refuse early what `write_folder` would refuse: call it before the work starts.

    Raises:
        QspinnError: The folder holds something qspinn did not write, or cannot be looked into.
    """
    with _writing(folder):
        if not folder.exists():
            place = next(p for p in folder.absolute().parents if p.exists())
            if not place.is_dir() or not os.access(place, os.W_OK):
                raise QspinnError(f"cannot be written: {place} is no folder of yours",
                                  at=str(folder))  # fmt: skip
            return
        if not folder.is_dir():
            raise QspinnError("is a file", at=str(folder), hint="name another folder")
        foreign = _foreign(folder)
    if foreign:
        raise QspinnError(
            f"holds {foreign}, which was not written by qspinn",
            at=str(folder),
            hint="name another folder, or move it away",
        )


def _foreign(folder: Path) -> str:
    """The first file below ``folder`` that is not of an output of ours; empty if all are."""
    found = sorted(p for p in folder.rglob("*") if not p.is_dir())
    if not found:
        return ""
    try:
        ours = {folder / name for name in read_manifest(folder)["files"]} | {folder / MANIFEST}
    except FrontendError:
        return found[0].name
    foreign = [p for p in found if p not in ours and "__pycache__" not in p.parts]
    return str(foreign[0].relative_to(folder)) if foreign else ""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise QspinnError(f"cannot be written: {error.strerror}", at=str(path)) from error


def _replace(folder: Path, aside: Path) -> None:
    if not folder.exists():
        aside.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=".qspinn.old.", dir=folder.parent))
    folder.rename(old / "was")
    try:
        aside.rename(folder)
    except BaseException:  # an interrupt must not lose the old folder either
        (old / "was").rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def check_file(path: Path, *, replace: bool) -> None:
    """Refuse early what `write_file` would refuse, and to write over a file unasked.

    Raises:
        QspinnError: There is one, or it cannot be written there.
    """
    with _writing(path):
        if path.is_dir():
            raise QspinnError("is a folder", at=str(path), hint="name a file")
        if path.exists() and not replace:
            raise QspinnError("exists", at=str(path), hint="name another file, or give --force")
        if not os.access(path.absolute().parent, os.W_OK):
            raise QspinnError("cannot be written: its folder is none of yours", at=str(path))


def write_file(path: Path, content: bytes) -> None:
    """Write one file aside, then rename it.

    Raises:
        QspinnError: It cannot be written.
    """
    aside = path.with_name(f".qspinn.{os.getpid()}")
    with _writing(path):
        try:
            aside.write_bytes(content)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


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
    if not isinstance(manifest.get("files"), dict):
        raise FrontendError(f"{MANIFEST} lists no files", at=str(folder))
    return manifest


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The files of a folder that are missing or not as they were written."""
    changed = []
    for name, code in manifest["files"].items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != code:
            changed.append(name)
    return changed
