"""What compilers and emulators said, kept between runs: another fit measures nothing again."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from qspinn.backends.mcu.builds import Files

Found = TypeVar("Found")
_FIGURES = re.compile(
    rb"(?m)^#define \w+_(CODE_BYTES|STACK_BYTES|INSN_TYP_\w+) .*$|/\*.*?\*/", re.S
)
"""What fits change in a file, and no code depends on."""


class Kept:
    """A folder of results by the files they come from; without one nothing is kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def get(self, files: Files, make: Callable[[], Found], *of: Hashable) -> Found:
        """What ``make`` finds of some files, asked in a way that ``of`` tells."""
        if self.folder is None:
            return make()
        sources = [(name, _FIGURES.sub(b"", text)) for name, text in files]
        place = self.folder / hashlib.sha256(repr((sources, of)).encode()).hexdigest()
        if place.is_file():
            found: Any = pickle.loads(place.read_bytes())  # written below
            return found  # type: ignore[no-any-return]
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(".part")
        partial.write_bytes(pickle.dumps(made))
        partial.replace(place)
        return made
