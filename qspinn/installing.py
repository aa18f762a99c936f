"""How outside tools are installed: the commands for the interpreter and the system at hand."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec

Command = tuple[str, ...]


def pip(*arguments: str) -> tuple[Command, ...]:
    """Commands that install Python packages beside qspinn: by pip, by uv, or by pip put there."""
    python = sys.executable
    if find_spec("pip") is not None:
        return ((python, "-m", "pip", "install", *arguments),)
    if shutil.which("uv"):
        # uv passes over the upper bound of a package's Python by itself, and has no such option.
        kept = (word for word in arguments if word != "--ignore-requires-python")
        return (("uv", "pip", "install", "--python", python, *kept),)
    return (
        (python, "-m", "ensurepip"),
        (python, "-m", "pip", "install", *arguments),
    )


def apt(*packages: str) -> tuple[Command, ...]:
    """The command that installs Debian's packages; none where there is no apt-get."""
    if not shutil.which("apt-get"):
        return ()
    root = os.geteuid() == 0
    return ((*(() if root else ("sudo",)), "apt-get", "install", "-y", *packages),)
