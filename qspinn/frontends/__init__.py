"""Frontends: files of trained networks, read into float graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qspinn.errors import FrontendError
from qspinn.frontends.formats import NIR, OFFERED, SNIFFED, Frontend, frontend_of
from qspinn.frontends.report import Assumption, Imported

if TYPE_CHECKING:
    from qspinn.frontends.nir_repair import Repaired

__all__ = ["Assumption", "Imported", "load_model", "repair"]


def load_model(
    path: str | Path,
    *,
    data: Any = None,
    encode: Mapping[str, Any] | None = None,
    **options: Any,
) -> Imported:
    """Read a trained network, whatever its format.

    Args:
        path: A `.nir` file, a `.net` file of lava-dl, an `.onnx` file, a graph as
            `qspinn.storage.save` writes it, or a file of a format that another package provides
            (see `formats.Frontend`).
        data: For formats that need some, as `.onnx` (thresholds are balanced on them): a
            `qspinn.datasets.Dataset` or samples.
        encode: For these: how data will become input, ``kind`` and ``gain``.
        options: For the format's own `load`; those that are None count as not given.

    Raises:
        FrontendError: The file is of no known format, damaged, or needs other options.
    """
    path = Path(path)
    frontend, given = _chosen(path, options)
    for name, value in {"data": data, "encode": encode}.items():
        if value is not None and name in frontend.options:
            given[name] = value
    return frontend.load(path, **given)


def repair(path: str | Path, **options: Any) -> Repaired:
    """A `.nir` file anew, clean and with its semantics settled, so that it needs no options.

    Args:
        path: The file.
        options: As for `load_model`, which must be able to read it with them.

    Raises:
        FrontendError: The file cannot be read, or is no NIR file.
    """
    path = Path(path)
    frontend, given = _chosen(path, options)
    if frontend.name != NIR.name:
        raise FrontendError(
            f"only NIR files are repaired, this is of the format {frontend.name}", at=str(path)
        )
    from qspinn.frontends.nir_repair import repaired  # h5py and nir are slow to import

    return repaired(path, given)


def _chosen(path: Path, options: dict[str, Any]) -> tuple[Frontend, dict[str, Any]]:
    """A file's frontend, and the options that were given, all of which it knows."""
    frontend = frontend_of(path, _start(path))
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - set(frontend.options)):
        taken = ", ".join(option for option in frontend.options if option not in OFFERED)
        usual = f"it takes {taken}" if taken else "it takes no options"
        raise FrontendError(
            f"{', '.join(unknown)} cannot be chosen for the format {frontend.name}",
            at=str(path),
            hint=getattr(frontend, "about", "") or usual,
        )
    return frontend, given


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SNIFFED)
    except OSError as error:
        raise FrontendError(f"cannot be read: {error.strerror}", at=str(path)) from error
