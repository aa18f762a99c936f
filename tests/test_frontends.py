"""Formats are found through entry points, ours and those of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nirfiles as nf
from cli_runs import Run
from graphs import mlp
from qspinn import storage
from qspinn.cli import report
from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.formats import GROUP, Format, Frontend, frontends
from qspinn.frontends.report import Imported

OF_OTHERS = """
from graphs import mlp
from qspinn.frontends.report import Assumption, Imported

class Toy:
    name, suffixes, options = "toy", [".toy", ".nir2"], ["seed"]
    def sniff(self, start):
        return start.startswith(b"TOY")
    def load(self, path, *, seed=0):
        return Imported(mlp(seed), (Assumption("seed", str(seed), "given"),), {"format": "toy"})

TOY = Toy()
class Twin(Toy):
    name, options = "twin", []
    def sniff(self, start):
        return start.startswith(b"TWIN")
TWIN = Twin()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that installs a package with these entry points, as pip would leave it."""

    def install(**points: str) -> None:
        info = tmp_path / "others" / "toy_format-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-format\nVersion: 1.0\n")
        lines = (f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text("\n".join((f"[{GROUP}]", *lines)) + "\n")
        (tmp_path / "others" / "toy_format.py").write_text(OF_OTHERS)
        monkeypatch.syspath_prepend(tmp_path / "others")

    yield install
    sys.modules.pop("toy_format", None)


def model(path: Path, content: bytes = b"TOY 1") -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path, match: str, **options: Any) -> str:
    with pytest.raises(FrontendError, match=match) as error:
        load_model(path, **options)
    assert error.value.at == str(path)
    return error.value.hint


def test_our_own_formats_are_entry_points() -> None:
    found, broken = frontends()
    assert not broken
    assert {"nir", "lava-dl", "qspinn"} <= found.keys()
    assert all(isinstance(f, Frontend) and isinstance(f, Format) for f in found.values())


def test_another_package_adds_a_format(installed: Any, tmp_path: Path) -> None:
    path = model(tmp_path / "a.toy")
    assert "nir (.nir)" in refused(path, "is of no known format")
    installed(toy="toy_format:TOY")
    for name in ("a.toy", "A.TOY", "a.nir2", "without"):
        made = load_model(model(tmp_path / name), seed=3, dt=None)
        assert isinstance(made, Imported)
        assert made.graph.digest == mlp(3).digest
    hint = refused(path, "dt, reset cannot be chosen for the format toy", dt=1e-3, reset="zero")
    assert hint == "it takes seed"
    assert "toy (.toy, .nir2)" in refused(model(tmp_path / "b", b"?"), "is of no known format")


def test_two_formats_with_one_suffix_are_told_apart_by_content(
    installed: Any, tmp_path: Path
) -> None:
    installed(toy="toy_format:TOY", twin="toy_format:TWIN")
    assert load_model(model(tmp_path / "a.toy"), seed=1).graph.digest == mlp(1).digest
    refused(model(tmp_path / "b.toy", b"TWIN"), "for the format twin", seed=1)
    refused(model(tmp_path / "c.toy", b"else"), "could be of any of toy, twin")


def test_a_broken_package_stands_in_the_way_of_no_other_format(
    installed: Any, tmp_path: Path
) -> None:
    installed(bad="toy_format:NONE", gone="no_such_module:X", odd="toy_format:Toy.name",
              toy="toy_format:TOY")  # fmt: skip
    assert load_model(model(tmp_path / "a.toy")).graph.digest == mlp(0).digest
    path = nf.write(tmp_path / "a.nir", nf.tiny())
    assert load_model(path, dt=1e-3).meta["format"] == "nir"
    hint = refused(model(tmp_path / "a.bin", b"?"), "is of no known format")
    for word in ("bad (AttributeError", "gone (ModuleNotFoundError", "odd (toy_format:Toy.name is"):
        assert word in hint


def test_files_are_known_by_their_content_where_the_suffix_says_nothing(tmp_path: Path) -> None:
    nf.write(tmp_path / "anything", nf.tiny())
    assert load_model(tmp_path / "anything", dt=1e-3).meta["format"] == "nir"
    storage.save(mlp(), tmp_path / "graph.bin")
    assert load_model(tmp_path / "graph.bin").meta["format"] == "qspinn"
    hint = refused(tmp_path / "graph.bin", "dt cannot be chosen", dt=np.float64(0.1))
    assert "settled already" in hint


@pytest.mark.parametrize(
    ("words", "value"), [("3", 3), ("true", True), ("[1, 2]", [1, 2]), ("half", "half"), ("", "")]
)
def test_options_of_other_formats_come_from_the_command_line(
    words: str, value: object, installed: Any, qspinn: Run, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As JSON writes them, or as words."""
    installed(toy="toy_format:TOY")
    path = model(tmp_path / "a.toy")
    import toy_format

    given: list[object] = []
    monkeypatch.setattr(toy_format, "mlp", lambda seed: given.append(seed) or mlp(3))
    folder = tmp_path / "out"
    for command in (("inspect",), ("compile", "--target", "mcu", "-o", folder)):
        done = qspinn(command[0], path, *command[1:], "--option", f"seed={words}")
        assert done.code == 0, done.err
    assert given == [value, value]
    done = qspinn("inspect", path, "--option", "speed=3").unwrapped()
    assert done.code == 2
    assert "speed cannot be chosen for the format toy" in done.err
    assert "it takes seed" in done.err


def test_an_error_says_its_hint_in_python_and_once_on_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = model(tmp_path / "a.dat", b"?")
    with pytest.raises(FrontendError) as caught:
        load_model(path)
    error = caught.value
    assert str(error) == f"{path}: is of no known format (hint: {error.hint})"
    report(error)
    said = capsys.readouterr().err
    assert said == f"error: {path}: is of no known format\n  hint: {error.hint}\n"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_is_told_the_way(tmp_path: Path, *, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    for name in ("a.pt", "a_name_that_is_long_enough_to_fill_the_first_bytes.pth"):
        path = tmp_path / name
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
        assert "qspinn.load(module, sample_input)" in refused(path, "is a PyTorch file")
