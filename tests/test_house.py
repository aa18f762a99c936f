"""The rules of the house: layers, import cost, file length, what is in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tree import ROOT, sources, tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The level of each module or folder of qspinn; a module imports from its own level or lower.
# A new module is entered here at the lowest level that its imports allow.
LEVELS = {
    "__init__": 0,  # the version, and nothing that must be imported for it
    "errors": 0,
    "fixed": 0,
    #
    "packing": 1,
    "ir": 1,
    "ports": 1,
    "dynamics": 1,
    "neurons": 1,
    "signals": 1,
    "capabilities": 1,
    "choice": 1,
    "verify": 1,
    "text": 1,
    "storage": 1,
    "unpacking": 1,
    #
    "passes": 2,
    "program": 2,
    "intervals": 2,
    "lowering": 2,
    "interp": 2,
    "simulate": 2,
    "engine": 2,
    "printer": 2,
    "encode": 2,
    "calibrate": 2,
    "plan": 2,
    "planning": 2,
    "balancing": 2,
    "choosing": 2,
    "memory": 2,
    "devices": 2,
    "cost": 2,
    "activity": 2,
    "readout": 2,
    "stats": 2,
    #
    "installing": 3,
    "backend": 3,
    "bench": 3,
    "render": 3,
    "frontends": 3,
    "datasets": 3,
    "stdp": 3,
    "output": 3,
    #
    "pipeline": 4,
    "validate": 4,
    "explore": 4,
    "train": 4,
    "report": 4,
    "gate": 4,
    "grouping": 4,
    "evaluate": 4,
    "stepwise": 4,
    "job": 4,
    "artifact": 4,
    "packages": 4,
    #
    "cli": 5,
}
BACKEND_LEVEL = 3  # backends implement the protocol, and stand beside it

HEAVY = {
    *("torch", "snntorch", "onnx", "lava", "sklearn", "numba", "scipy", "matplotlib", "networkx"),
    *("h5py", "nir", "unicorn", "elftools", "dask", "pymoo"),
    *("norse", "spikingjelly", "sinabs", "rockpool", "nirtorch"),
}

TOP_LEVEL = {
    *("qspinn", "backends", "templates", "tests", "examples", "scripts", "benchmarks"),
    *("constraints", "docs", ".ci", ".gitignore", ".gitattributes"),
    *("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("action.yml", ".pre-commit-hooks.yaml"),
}

LONGEST = 400


def dotted(path: Path) -> str:
    """qspinn/passes/__init__.py -> qspinn.passes"""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


# --- imports ---


def imports(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything imported, also inside functions.

    `from a import b` gives a.b, for b may be a module; only its first parts are looked at.
    """
    package = path.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, *(node.module or "").split("."))).strip(".")
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)


def level(name: str) -> int | None:
    """The level of a module of qspinn by its dotted name; None where the table lacks it."""
    return LEVELS.get((*name.split("."), "__init__")[1])


def is_module(name: str) -> bool:
    """False where `from qspinn import name` can only mean an attribute of the package."""
    path = ROOT.joinpath(*name.split(".")[:2])
    return name == "qspinn" or path.is_dir() or path.with_suffix(".py").is_file()


def breaches(path: Path, source: str) -> Iterator[str]:
    """Every import in `source` that the layers forbid to a file at `path`."""
    backend = path.parts[1] if path.parts[0] == "backends" else None
    own = BACKEND_LEVEL if backend else level(dotted(path))
    if own is None:
        yield f"{path}: in no level of LEVELS (tests/test_house.py)"
        return
    for line, name in imports(path, source):
        if fault := import_fault(name, own, backend):
            yield f"{path}:{line}: {name}: {fault}"


def import_fault(name: str, own: int, backend: str | None) -> str | None:
    """Why a module on level `own` may not import `name`; None where it may."""
    first, second = (*name.split("."), "")[:2]
    if first == "templates":
        return "templates are resources of qspinn.templates"
    if first == "backends" or (first, second) == ("qspinn", "backends"):
        if backend is None:
            return "backends are reached through their entry points"
        return None if (first, second) == ("backends", backend) else "not this backend, relatively"
    if first != "qspinn" or second == "templates":
        return None
    other = level(name if level(name) is not None or is_module(name) else "qspinn")
    if other is None:
        return "in no level of LEVELS (tests/test_house.py)"
    return f"on level {other}, above {own}" if other > own else None


def test_layers() -> None:
    files = sources("qspinn", "backends")
    found = [b for path in files for b in breaches(path, (ROOT / path).read_text())]
    assert not found, "\n".join(found)
    assert any(path.parts[0] == "backends" for path in files)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("qspinn/ir.py", "from qspinn.passes import quantize"),
        ("qspinn/ir.py", "from qspinn import passes"),
        ("qspinn/ir.py", "def f():\n    import qspinn.cli.main"),
        ("qspinn/passes/fold.py", "from ..cli import main"),
        ("qspinn/cli/main.py", "import qspinn.backends.mcu"),
        ("qspinn/cli/main.py", "from qspinn import backends"),
        ("qspinn/cli/main.py", "from backends import mcu"),
        ("qspinn/render.py", "import templates"),
        ("qspinn/nowhere.py", ""),
        ("backends/mcu/emit.py", "from qspinn.pipeline import compile"),
        ("backends/mcu/emit.py", "from qspinn.backends.mcu import devices"),
        ("backends/mcu/emit.py", "from ..loihi import devices"),
        ("backends/mcu/emit.py", "from backends.loihi import devices"),
    ],
)
def test_a_breach_of_the_layers_is_seen(path: str, source: str) -> None:
    assert list(breaches(Path(path), source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("qspinn/cli/main.py", "from qspinn import __version__, ir"),
        ("qspinn/passes/fold.py", "from . import other\nfrom ..ir import Graph"),
        ("backends/mcu/emit.py", "from .devices import TABLE\nfrom qspinn.backend import Artifact"),
    ],
)
def test_the_layers_allow(path: str, source: str) -> None:
    assert not list(breaches(Path(path), source))


@pytest.mark.parametrize(
    "code",
    [
        "import qspinn",
        "import sys; sys.argv = ['qspinn', '--help']\n"
        "from qspinn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code",
    ],
    ids=["import", "help"],
)
def test_import_cost(code: str, tmp_path: Path) -> None:
    end = "\nimport sys; print('loaded:', *{name.split('.')[0] for name in sys.modules})"
    command = (sys.executable, "-c", code + end)
    run = subprocess.run(command, cwd=tmp_path, check=False, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr
    loaded = set(run.stdout.rpartition("loaded:")[2].split())
    assert "qspinn" in loaded
    assert not loaded & HEAVY


# --- the tree ---


def test_no_long_files() -> None:
    files = [p for p in tree() if p.suffix == ".py" and p.parts[0] != "tests"]
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in files}
    assert not {path: length for path, length in lengths.items() if length > LONGEST}


def test_top_level() -> None:
    assert not {path.parts[0] for path in tree()} - TOP_LEVEL


def test_no_hosts_and_no_machine_paths() -> None:
    # One letter of each in brackets, or this file would be the first that is found.
    hosts = r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(org|com)|deb\.deb[i]an"
    folders = r"/(wo[r]k|ro[o]t|fa[r]m)/|/(ho[m]e|Us[e]rs|tm[p])/[a-z]|/op[t]/py[p]i"
    pattern = re.compile(f"{hosts}|{folders}".encode())
    found = {str(p): hit[0] for p in tree() if (hit := pattern.search((ROOT / p).read_bytes()))}
    assert not found


def test_pins_are_plain() -> None:
    lines = [
        line for path in tree("constraints") for line in (ROOT / path).read_text().splitlines()
    ]
    assert lines
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed() -> None:
    files = sources("qspinn", "backends", "templates")
    names = {".".join(path.parent.parts) for path in files if path.name == "__init__.py"}
    installed = {re.sub(r"^(?=backends|templates)", "qspinn.", name) for name in names}
    assert set(project()["tool"]["setuptools"]["packages"]) == installed


def test_every_python_folder_is_a_package() -> None:
    folders = {path.parent for path in sources("qspinn", "backends")}
    assert not {str(f) for f in folders if not (ROOT / f / "__init__.py").is_file()}


def test_every_backend_is_an_entry_point() -> None:
    folders = {p.parts[1] for p in sources("backends") if len(p.parts) > 2}
    entries = project()["project"]["entry-points"]["qspinn.backends"]
    assert entries == {name: f"qspinn.backends.{name}:BACKEND" for name in folders}


def test_goldens_have_their_tests() -> None:
    """A golden file whose test was renamed or removed is dead weight."""
    dead = []
    for path in tree("tests/golden"):
        module = (ROOT / "tests").joinpath(*path.parts[2:-1]).with_suffix(".py")
        test = re.match(r"test_\w*", path.name)
        if not module.exists() or not test or not defines(module, test[0]):
            dead.append(str(path))
    assert not dead


def defines(module: Path, name: str) -> bool:
    """True where a test of `module` is called `name`, or `name` less what a parameter added."""
    tests = re.findall(r"^ *def (test_\w+)", module.read_text(), re.MULTILINE)
    return any(name == test or name.startswith(f"{test}_") for test in tests)


# --- what conftest.py promises ---


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", "1 skipped"), ("models", "1 error"), ("all", "1 error"), ("zig", "1 skipped")],
)
def test_an_absent_tool_skips_or_fails(
    required: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QSPINN_MODELS", raising=False)
    monkeypatch.setenv("QSPINN_REQUIRE", required)
    code = "import pytest\n@pytest.mark.needs('models')\ndef test_it() -> None:\n    pass\n"
    assert outcome in run_pytest(tmp_path, code)


@pytest.mark.parametrize("marker", ["'modells'", ""])
def test_a_misspelt_need_is_an_error(marker: str, tmp_path: Path) -> None:
    code = f"import pytest\n@pytest.mark.needs({marker})\ndef test_it() -> None:\n    pass\n"
    assert "known: ['arm-gcc'" in run_pytest(tmp_path, code)


def test_a_golden_file_is_written_and_compared(tmp_path: Path) -> None:
    code = "def test_it(golden: str) -> None:\n    assert 'one\\n' == golden\n"
    assert "--update-golden" in run_pytest(tmp_path, code)
    assert "1 passed" in run_pytest(tmp_path, code, "--update-golden")
    assert (tmp_path / "golden" / "test_it" / "test_it.txt").read_text() == "one\n"
    assert "1 passed" in run_pytest(tmp_path, code)
    assert "1 failed" in run_pytest(tmp_path, code.replace("one\\n", "two\\n"))


def run_pytest(folder: Path, code: str, *options: str) -> str:
    """Run `code` as the only test beside a copy of our conftest.py; return what it printed."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_it.py").write_text(code)
    plain = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly")
    command = (sys.executable, "-B", "-m", "pytest", "-c", "none.ini", *plain, *options)
    (folder / "none.ini").write_text("[pytest]\nmarkers = needs\n")
    run = subprocess.run(command, cwd=folder, check=False, text=True, capture_output=True)
    return run.stdout + run.stderr
