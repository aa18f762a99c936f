"""Frontends: files of trained networks, read into float graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qspinn import storage
from qspinn.errors import FrontendError
from qspinn.frontends.report import IN_FILE, Assumption, Imported

__all__ = ["Assumption", "Imported", "load_model"]

NATIVE = ".qspinn"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


def load_model(path: str | Path, **options: Any) -> Imported:
    """Read a trained network, whatever its format; the content decides, not the name.

    Args:
        path: A `.nir` file, or a graph as `qspinn.storage.save` writes it.
        options: For the format's own `load`; those that are None count as not given.

    Raises:
        FrontendError: The file is of no known format, damaged, or needs other options.
    """
    path = Path(path)
    start = _start(path)
    if start.startswith(_ZIP) or path.suffix == NATIVE:
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise FrontendError(
                f"a saved graph is settled already: {', '.join(given)} cannot be chosen",
                at=str(path),
                hint="give the option when importing the file that it was made from",
            )
        graph = storage.load(path)
        note = Assumption(graph.name, "as it was saved", IN_FILE)
        return Imported(graph, (note,), {"format": "qspinn"})
    if start.startswith(_HDF5) or path.suffix == ".nir":
        from qspinn.frontends import nir  # h5py is slow to import

        return nir.load(path, **options)
    raise FrontendError(
        "is of no known format" if start else "is empty",
        at=str(path),
        hint=f"known: .nir files and graphs saved as {NATIVE}",
    )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
