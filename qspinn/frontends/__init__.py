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
_OF_NIR = frozenset(
    ("dt", "integrator", "reset", "reset_timing", "compare", "synapse", "dialect", "max_spikes")
)


def load_model(path: str | Path, **options: Any) -> Imported:
    """Read a trained network, whatever its format.

    Args:
        path: A `.nir` file, a `.net` file of lava-dl, or a graph as `qspinn.storage.save` writes
            it.
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
    if start.startswith(_HDF5) or path.suffix in (".nir", ".net"):
        from qspinn.frontends import lava_dl, nir  # h5py is slow to import

        if path.suffix != ".net":
            return nir.load(path, **options)
        known = {name for name in options if options[name] is not None} & _OF_NIR
        if known:
            raise FrontendError(
                f"a .net file leaves nothing open: {', '.join(sorted(known))} cannot be chosen",
                at=str(path),
            )
        return lava_dl.load(path, **{k: v for k, v in options.items() if k not in _OF_NIR})
    raise FrontendError(
        "is of no known format" if start else "is empty",
        at=str(path),
        hint=f"known: .nir files, .net files of lava-dl and graphs saved as {NATIVE}",
    )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
