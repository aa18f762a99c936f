from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qspinn.errors import FrontendError, QspinnError
from qspinn.output import changed_files, read_manifest, write_file, write_folder

FILES = {"a.h": b"one\n", "sub/b.txt": b"two\n"}


def test_a_folder_appears_whole_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("first", "again"):
        write_folder(tmp_path / name, FILES, {"name": "net"})
    first, again = (
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*")
         if p.is_file()} for n in ("first", "again")
    )  # fmt: skip
    assert first == again
    manifest = read_manifest(tmp_path / "first")
    assert manifest["name"] == "net"
    assert changed_files(tmp_path / "first", manifest) == []
    (tmp_path / "first" / "a.h").write_text("changed")
    (tmp_path / "first" / "sub" / "b.txt").unlink()
    assert changed_files(tmp_path / "first", manifest) == ["a.h", "sub/b.txt"]


def test_ours_is_replaced_and_others_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_folder(folder, FILES, {})
    write_folder(folder, {"c.h": b""}, {})
    assert sorted(p.name for p in folder.iterdir()) == ["c.h", "manifest.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "nothing aside is left"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    with pytest.raises(QspinnError, match="was not written by qspinn"):
        write_folder(mine, FILES, {})
    assert (mine / "thesis.tex").read_text() == "years"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(QspinnError, match="cannot be written"):
        write_folder(blocker / "out", FILES, {})
    with pytest.raises(QspinnError, match="cannot be written"):
        write_file(tmp_path / "none" / "x.xml", b"")
    assert os.listdir(tmp_path) == ["file"]


def test_a_failure_half_way_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    write_folder(folder, FILES, {"turn": 1})
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target) == folder and self.name != "was":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(QspinnError, match="No space left"):
        write_folder(folder, FILES, {"turn": 2})
    assert read_manifest(folder)["turn"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"format": 99})])
def test_bad_manifests(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(FrontendError, match=r"manifest\.json"):
        read_manifest(tmp_path)
