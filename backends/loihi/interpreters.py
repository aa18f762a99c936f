"""The interpreters that can run Lava: what each has, what it lacks, and how it gets that."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from qspinn.backend import Tool
from qspinn.installing import Command, pip

NAMED = "QSPINN_LAVA_PYTHON"
LAVA = "lava-nc==0.10.0"
NEEDS = ("numpy", "scipy", "networkx", "asteval")
MADE_FOR = (3, 10)
_BESIDE = Path(__file__).resolve().parents[2] / ".venv-lava310"
"""Where the second environment is looked for, unless another is named."""
_HERE, _SHIPPED = "running Lava packages", "running them on Lava as it ships (Python 3.10)"


def interpreter(executor: str) -> str:
    """The Python that runs an executor; empty if there is none."""
    if executor != "lava310":
        return "" if lacks() else sys.executable
    named = os.environ.get(NAMED, "")
    found = Path(named) if named else _BESIDE / "bin" / "python"
    return str(found) if found.is_file() else ""


def lacks() -> tuple[str, ...]:
    """What this interpreter lacks to run Lava, in words; nothing if it can."""
    missing = [] if find_spec("lava") else [LAVA.partition("==")[0]]
    missing += [name for name in NEEDS if find_spec(name) is None]
    words = [f"{name} is missing" for name in missing]
    wanted = LAVA.partition("==")[2]
    if find_spec("lava") and (other := _version("lava-nc")) != wanted:
        words.append(f"lava-nc is {other or 'of no known version'}, {wanted} is needed")
    return tuple(words)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def hint(executor: str) -> str:
    """How to get an executor, in words."""
    if executor == "lava310":
        return f"make setup-lava310, or name a Python 3.10 with lava-nc in {NAMED}"
    return "qspinn doctor --install lava"


def tools() -> tuple[Tool, ...]:
    """Both interpreters, found or not."""
    return (
        Tool("lava", _HERE, interpreter("lava"), hint("lava"), commands(), _notes()),
        Tool("lava310", _SHIPPED, interpreter("lava310"), hint("lava310"), *_second()),
    )


def commands() -> tuple[Command, ...]:
    """What installs Lava for this interpreter."""
    if sys.version_info[:2] == MADE_FOR:
        return pip(LAVA)
    return pip(*NEEDS) + pip("--ignore-requires-python", "--no-deps", LAVA)


def _notes() -> tuple[str, ...]:
    if sys.version_info[:2] == MADE_FOR:
        return (*lacks(), "lava-nc declares numpy below 2: pip takes a newer one back to 1.26")
    return (
        *lacks(),
        "lava-nc declares Python 3.10 and numpy below 2, so pip must pass over what it declares; "
        "numpy 2 will do, every package brings the few fixes that Lava needs on it",
    )


def _second() -> tuple[tuple[Command, ...], tuple[str, ...]]:
    """A second environment where it is looked for, if a Python 3.10 is on the path."""
    python = shutil.which("python3.10")
    if python is None:
        return (), ("no python3.10 on the path: install one, or name another in " + NAMED,)
    named = os.environ.get(NAMED, "")
    inside = Path(named) if named else _BESIDE / "bin" / "python"
    place = str(inside.parents[1])
    made = ((python, "-m", "venv", place), (str(inside), "-m", "pip", "install", LAVA))
    return made, (f"it goes to {place}; {NAMED} names the Python of another place",)
