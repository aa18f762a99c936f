"""Frontends: files of trained networks, read into float graphs."""

from __future__ import annotations

from collections.abc import Mapping
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
_OF_ONNX = frozenset(("percentile", "balance", "initial"))


def load_model(
    path: str | Path,
    *,
    data: Any = None,
    encode: Mapping[str, Any] | None = None,
    **options: Any,
) -> Imported:
    """Read a trained network, whatever its format.

    Args:
        path: A `.nir` file, a `.net` file of lava-dl, an `.onnx` file, or a graph as
            `qspinn.storage.save` writes it.
        data: For an `.onnx` file: what its thresholds are balanced on, a `qspinn.datasets.Dataset`
            or samples; other formats need none.
        encode: For an `.onnx` file: how data will become input, ``kind`` and ``gain``.
        options: For the format's own `load`; those that are None count as not given.

    Raises:
        FrontendError: The file is of no known format, damaged, or needs other options.
    """
    path = Path(path)
    start = _start(path)
    if path.suffix == ".onnx" and start:
        from qspinn.frontends import onnx  # and with it the package of that name

        known = {name for name in options if options[name] is not None} & _OF_NIR
        if known:
            raise FrontendError(
                f"an .onnx file has no spikes yet: {', '.join(sorted(known))} cannot be chosen",
                at=str(path),
                hint="its Relus become integrate-and-fire neurons that subtract their threshold",
            )
        chosen = {k: v for k, v in options.items() if k not in _OF_NIR and v is not None}
        return onnx.load(path, data=data, encode=encode, **chosen)
    if balancing := [k for k in options if k in _OF_ONNX and options[k] is not None]:
        raise FrontendError(
            f"spikes already: {', '.join(balancing)} cannot be chosen", at=str(path),
            hint="these say how an .onnx file becomes a spiking network",
        )  # fmt: skip
    options = {k: v for k, v in options.items() if k not in _OF_ONNX}
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
        hint=f"known: .nir, .onnx, .net files of lava-dl and graphs saved as {NATIVE}",
    )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
