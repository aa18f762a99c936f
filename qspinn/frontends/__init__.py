"""Frontends: files of trained networks, read into float graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.formats import SNIFFED, frontend_of
from qspinn.frontends.report import Assumption, Imported

__all__ = ["Assumption", "Imported", "load_model"]


def load_model(path: str | Path, **options: Any) -> Imported:
    """Read a trained network, whatever its format.

    Args:
        path: A `.nir` file, a `.net` file of lava-dl, a graph as `qspinn.storage.save` writes it,
            or a file of a format that another package provides (see `formats.Frontend`).
        options: For the format's own `load`; those that are None count as not given.

    Raises:
        FrontendError: The file is of no known format, damaged, or needs other options.
    """
    path = Path(path)
    frontend = frontend_of(path, _start(path))
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - set(frontend.options)):
        taken = ", ".join(frontend.options)
        usual = f"it takes {taken}" if taken else "it takes no options"
        raise FrontendError(
            f"{', '.join(unknown)} cannot be chosen for the format {frontend.name}",
            at=str(path),
            hint=getattr(frontend, "about", "") or usual,
        )
    return frontend.load(path, **given)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFFED)
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
