"""The wheel: holds every file of the source, and works from outside the tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tree import ROOT, tree

INSTALLED = {"qspinn": "qspinn", "backends": "qspinn/backends", "templates": "qspinn/templates"}
OTHER = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that neither stale outputs of a build nor ignored files get in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in (*tree(*INSTALLED), *map(Path, OTHER)):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out))
    run = subprocess.run((*build, str(source)), check=False, text=True, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_exactly_the_sources(wheel: Path) -> None:
    expected = {
        str(Path(INSTALLED[path.parts[0]]).joinpath(*path.parts[1:])) for path in tree(*INSTALLED)
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    assert "qspinn/py.typed" in held
    assert "qspinn/backends/__init__.py" in held
    assert "qspinn/templates/__init__.py" in held


INSIDE = """
import json
from importlib.metadata import entry_points, version

from jinja2 import PackageLoader

import qspinn

backends = {point.name: point.load() for point in entry_points(group="qspinn.backends")}
facts = {
    "file": qspinn.__file__,
    "version": version("qspinn"),
    "backends": sorted(backends),
    "templates": PackageLoader("qspinn.templates", ".").list_templates(),
}
print(json.dumps(facts))
"""


def test_the_wheel_works_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    python = str(venv / "bin" / "python")
    run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=tmp_path)
    pip = ("-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "-q")
    run(sys.executable, *pip, str(wheel), cwd=tmp_path)
    # What qspinn depends on comes from this environment. Python reads no .pth files in a folder
    # that a .pth file names, so an editable install that lies there stays out.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site.strip(), "rest.pth").write_text("\n".join(sorted(here)) + "\n")

    assert "Usage" in run(str(venv / "bin" / "qspinn"), "--help", cwd=tmp_path)
    facts = json.loads(run(python, "-c", INSIDE, cwd=tmp_path))
    assert Path(facts["file"]).is_relative_to(venv)
    assert facts["version"] == wheel.name.split("-")[1]
    assert facts["backends"] == ["loihi", "mcu"]
    ours = {str(path.relative_to("templates")) for path in tree("templates")}
    assert ours <= set(facts["templates"])


def run(*command: str, cwd: Path) -> str:
    """Run a command outside the tree, away from this environment's settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=env, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
