"""What a frontend is, and which are installed: entry points of the group `GROUP`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile, ZipFile

from qspinn.errors import FrontendError
from qspinn.frontends.report import Imported

GROUP = "qspinn.frontends"
SNIFFED = 64
"""As many of a file's first bytes `Frontend.sniff` is shown."""
_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What PyTorch files start with that are no zip archives, as before version 1.6."""
_LIVE = (
    "load the module in Python: qspinn.load(module, sample_input) gives its graph, "
    "qspinn.storage.save(loaded.graph, path) a .qspinn file"
)
OFFERED = ("data", "encode")
"""What a frontend may ask for beside its options: see `frontends.load_model`."""


@runtime_checkable
class Frontend(Protocol):
    """A file format that networks are read from.

    An entry point of the group `GROUP` is one such object. Its module is loaded for every file
    that is read, of whatever format, so it imports what is heavy inside `load`.
    """

    name: str
    """For people, and unique: ``nir``."""
    suffixes: Sequence[str]
    """Of its files: ``.nir``. A file with one of them is its own, whatever is in it."""
    options: Sequence[str]
    """The keywords that `load` takes; `load_model` refuses others in its name.

    Those of `OFFERED` among them are handed over where they are known, and need not be given.
    """

    def sniff(self, start: bytes) -> bool:
        """Whether a file with another suffix, or none, is its: by the first `SNIFFED` bytes."""

    def load(self, path: Path, **options: Any) -> Imported:
        """Read a file.

        Args:
            path: An existing file, not empty.
            options: Some of `options`, none of which is None.

        Raises:
            FrontendError: The file cannot be read, or not without more options; says which.
        """


@dataclass(frozen=True, slots=True)
class Format:
    """A frontend whose module is loaded when the first of its files is read.

    Attributes:
        module: Where its ``load`` is.
        magic: What its files start with; empty: nothing that would tell.
        about: Added where an option is refused: why none is left open.
    """

    name: str
    suffixes: tuple[str, ...]
    options: tuple[str, ...]
    module: str
    magic: bytes = b""
    about: str = ""

    def sniff(self, start: bytes) -> bool:
        """Whether a file starts as those of this format do."""
        return bool(self.magic) and start.startswith(self.magic)

    def load(self, path: Path, **options: Any) -> Imported:
        """Read a file."""
        imported: Imported = import_module(self.module).load(path, **options)
        return imported


READING = ("readout", "input_kind", "input_high")
"""Options of every format that leaves open what its input and output mean."""

NIR = Format(
    "nir", (".nir",),
    ("dt", "integrator", "reset", "reset_timing", "compare", "synapse", "dialect", "max_spikes",
     "v_min", "v_start", "r_scale", "w_in_scale", *READING),
    "qspinn.frontends.nir", b"\x89HDF\r\n\x1a\n",
)  # fmt: skip
LAVA_DL = Format(  # HDF5, too: only the suffix tells it from NIR
    "lava-dl", (".net",), READING, "qspinn.frontends.lava_dl",
    about="its integers leave nothing open",
)  # fmt: skip
ONNX = Format(
    "onnx", (".onnx",), ("percentile", "balance", "initial", "max_pool", *READING,
                          *OFFERED),
    "qspinn.frontends.onnx",
    about="it has no spikes yet: its Relus become integrate-and-fire neurons that subtract their "
    "threshold",
)  # fmt: skip
NATIVE = Format(
    "qspinn", (".qspinn",), (), "qspinn.frontends.native", b"PK\x03\x04",
    about="a saved graph is settled already; give the option when importing the file that it was "
    "made from",
)  # fmt: skip


def frontends() -> tuple[dict[str, Frontend], dict[str, str]]:
    """The installed frontends by name, and why others cannot be used, by entry point."""
    found: dict[str, Frontend] = {}
    broken: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        try:
            frontend = point.load()
        except Exception as error:  # code of others; a format that is not asked for is not needed
            broken[point.name] = f"{type(error).__name__}: {error}"
            continue
        if not isinstance(frontend, Frontend):
            broken[point.name] = f"{point.value} is no frontend"
        elif frontend.name in found and found[frontend.name] is not frontend:
            broken[point.name] = f"{point.value} has the name of another, {frontend.name}"
        else:
            found[frontend.name] = frontend
    return found, broken


def frontend_of(path: Path, start: bytes) -> Frontend:
    """The frontend that reads a file: by its suffix, or else by its first bytes.

    Raises:
        FrontendError: None does, or several do; or the file is empty.
    """
    if not start:
        raise FrontendError("is empty", at=str(path))
    found, broken = frontends()
    named = [f for f in found.values() if path.suffix.lower() in f.suffixes]
    if not named and _of_torch(path, start):
        raise FrontendError("is a PyTorch file", at=str(path), hint=_LIVE)
    like = [f for f in found.values() if f.sniff(start)]
    fitting = [f for f in named if f in like] if len(named) > 1 else named or like
    if len(fitting) == 1:
        return fitting[0]
    formats = ", ".join(
        f"{name} ({', '.join(f.suffixes)})" if f.suffixes else name for name, f in found.items()
    )
    hint = f"known: {formats}; others are entry points of the group {GROUP}"
    if broken:
        reasons = "; ".join(f"{name} ({why})" for name, why in broken.items())
        hint += f"; installed, but of no use: {reasons}"
    several = ", ".join(f.name for f in fitting or named)
    what = f"could be of any of {several}" if several else "is of no known format"
    raise FrontendError(what, at=str(path), hint=hint)


def _of_torch(path: Path, start: bytes) -> bool:
    """Whether PyTorch wrote a file: pickled objects, alone or in a zip archive."""
    if not start.startswith(b"PK"):
        return start.startswith(_TORCH)
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (BadZipFile, OSError, ValueError, NotImplementedError):  # zipfile: a later version
        return False
