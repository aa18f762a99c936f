"""Reading HDF5 files of others: within stated bounds, following no links, without pickles."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from qspinn.errors import FrontendError
from qspinn.ir import Array

MAX_MEMBERS = 4096
"""Of a group."""
MAX_ELEMENTS = 1 << 26
"""All arrays of a file together; checked before anything is allocated."""
MAX_TEXT = 4096
MAX_BYTES = 4 * MAX_TEXT
"""Of a text: a letter takes at most four."""
MAX_TEXTS = 1 << 17
MAX_FILE = 1 << 30

Value = Array | str

_HEAP, _NAMES = b"GCOL\1", b"HEAP\0"
_LAST = 1
"""What follows the last free piece of a heap of names."""
_DESCRIPTOR = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
"""A text of any length, as it stands in its dataset."""
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}  # fmt: skip


def shown(name: str) -> str:
    """A name from a file, safe to print on one line."""
    text = name.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else text[:77] + "..."


@contextmanager
def opened(path: Path, hint: str) -> Iterator[h5py.File]:
    """A file, open for reading.

    Args:
        path: Where it is.
        hint: What such a file is, for people whose file is none.

    Raises:
        FrontendError: The file is missing, damaged, too large, or no HDF5.
    """
    at = str(path)
    if not path.is_file():
        raise FrontendError("is no file" if path.exists() else "does not exist", at=at)
    if path.stat().st_size > MAX_FILE:
        raise FrontendError(f"has {path.stat().st_size} bytes, the limit is {MAX_FILE}", at=at)
    try:
        if not h5py.is_hdf5(path):
            what = "is not an HDF5 file" if path.stat().st_size else "is empty"
            raise FrontendError(what, at=at, hint=hint)
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            if file.userblock_size:
                raise FrontendError("has a block of foreign bytes in front", at=at, hint=hint)
            yield file
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        zlib.error,
        MemoryError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise FrontendError(
            f"is damaged or truncated: {reason}", at=at, hint="copy or export it again"
        ) from error


class Reader:
    """Reads groups and data sets of one file and keeps count of what it has taken in."""

    def __init__(self) -> None:
        self.elements = 0

    def children(self, group: h5py.Group, at: str) -> dict[str, Any]:
        """The members of a group; only what lies in the file itself."""
        if len(group) > MAX_MEMBERS:
            raise FrontendError(f"has {len(group)} members, the limit is {MAX_MEMBERS}", at=at)
        found: dict[str, Any] = {}
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                what = "an external" if isinstance(link, h5py.ExternalLink) else "a soft"
                raise FrontendError(
                    f"{shown(name)} is {what} link, which is not followed",
                    at=at,
                    hint="store the data in the file itself",
                )
            found[name] = group[name]
        return found

    def word(self, item: Any, at: str) -> str:
        """One text, alone or as a list of one.

        Raises:
            FrontendError: It is something else.
        """
        if not isinstance(item, h5py.Dataset) or item.size != 1:
            raise FrontendError("is not a text", at=at)
        stored_here(item, at)
        if h5py.check_string_dtype(item.dtype) is None:
            raise FrontendError(f"holds {item.dtype}, not a text", at=at)
        text = item.asstr()[()]
        return _short(str(text if isinstance(text, str) else text.reshape(-1)[0]), at)

    def value(self, item: Any, at: str) -> Value:
        """One dataset: text, or finite numbers."""
        if not isinstance(item, h5py.Dataset):
            raise FrontendError("is a group, not numbers or text", at=at)
        stored_here(item, at)
        if item.shape is None or item.size == 0:
            raise FrontendError("is empty", at=at)
        self.elements += int(item.size)
        if self.elements > MAX_ELEMENTS:
            raise FrontendError(
                f"has shape {item.shape}: more than {MAX_ELEMENTS} numbers in one file", at=at
            )
        if h5py.check_string_dtype(item.dtype) is not None:
            return _text(item, at)
        return _numbers(item, at)


def _check_heaps(path: Path) -> None:
    """Refuse heaps whose pieces HDF5 would walk for ever.

    See the HDF5 File Format Specification, III.D (heaps of names) and III.E (of texts), for
    addresses and lengths of 8 bytes: other files are not written by anything here.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        for start in _places(data, _HEAP):
            size = _number(data, start + 8)
            at, end = start + 16, min(start + size, len(data))
            while at + 16 <= end:
                index = int.from_bytes(data[at : at + 2], "little")
                length = _number(data, at + 8)
                step = length if index == 0 else 16 + (length + 7) // 8 * 8
                if not 0 < step <= end - at:
                    raise OSError("a heap of texts holds an empty piece, or one beyond its end")
                at += step
        left = len(data) // 16  # of all heaps: a piece takes as much
        for start in _places(data, _NAMES):
            size, free, pieces = (_number(data, start + more) for more in (8, 16, 24))
            while free != _LAST and free + 16 <= size and pieces + free + 16 <= len(data):
                if not left:
                    raise OSError("a heap of names holds a circle of free pieces")
                left -= 1
                free = _number(data, pieces + free)


def _places(data: mmap, mark: bytes) -> Iterator[int]:
    start = data.find(mark)
    while start >= 0:
        yield start
        start = data.find(mark, start + len(mark))


def _number(data: mmap, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def stored_here(item: h5py.Dataset, at: str) -> None:
    """Refuse what lies in another file.

    Raises:
        FrontendError: It does.
    """
    if item.is_virtual or item.external:
        raise FrontendError(
            "is stored in another file, which is not followed",
            at=at,
            hint="store the data in the file itself",
        )
    _affordable(item, at)


def _affordable(item: h5py.Dataset, at: str) -> None:
    """Refuse what takes HDF5 more memory to read than its values do, or code of others."""
    plan = item.id.get_create_plist()
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    if foreign := set(filters) - _FILTERS:
        raise FrontendError(f"is packed by filter {min(foreign)}, which is not read", at=at)
    if item.chunks and math.prod(item.chunks) > MAX_ELEMENTS:
        raise FrontendError(f"is stored in pieces of {item.chunks} values", at=at)
    text = h5py.check_string_dtype(item.dtype)
    if text is not None and text.length is not None and text.length > MAX_BYTES:
        raise FrontendError(f"is a text of {text.length} bytes, the limit is {MAX_BYTES}", at=at)
    if text is None or text.length is not None or not item.size:
        return
    if item.size > MAX_TEXTS:
        raise FrontendError(f"holds {item.size} texts, the limit is {MAX_TEXTS}", at=at)
    lengths = np.frombuffer(_descriptors(item, filters, at), _DESCRIPTOR)["length"]
    if lengths.size < item.size:
        raise FrontendError("holds fewer texts than it says", at=at)
    if (longest := int(lengths.max())) > MAX_BYTES:
        raise FrontendError(f"is a text of {longest} bytes, the limit is {MAX_BYTES}", at=at)


def _descriptors(item: h5py.Dataset, filters: list[int], at: str) -> bytes:
    """What stands in the file for texts: HDF5 believes its lengths before it looks further."""
    layout = item.id.get_create_plist().get_layout()
    with open(item.file.filename, "rb") as file:
        if layout == h5py.h5d.CONTIGUOUS:
            file.seek(item.id.get_offset() or 0)
            return file.read(item.size * _DESCRIPTOR.itemsize)
        if layout == h5py.h5d.CHUNKED and filters in ([], [h5py.h5z.FILTER_DEFLATE]):
            return b"".join(_pieces(item, file, packed=bool(filters)))
    raise FrontendError(
        "is text in a form that is not read", at=at, hint="write it without filters"
    )


def _pieces(item: h5py.Dataset, file: BinaryIO, *, packed: bool) -> Iterator[bytes]:
    size = math.prod(item.chunks) * _DESCRIPTOR.itemsize
    for number in range(min(item.id.get_num_chunks(), MAX_MEMBERS)):
        info = item.id.get_chunk_info(number)
        file.seek(info.byte_offset)
        content = file.read(min(info.size, size) if not packed else info.size)
        if packed and not info.filter_mask:
            content = zlib.decompressobj().decompress(content, size)
        yield content[: len(content) // _DESCRIPTOR.itemsize * _DESCRIPTOR.itemsize]


def _text(item: h5py.Dataset, at: str) -> str:
    if item.shape != ():
        raise FrontendError(f"is a list of texts of shape {item.shape}, not one", at=at)
    return _short(str(item.asstr()[()]), at)


def _short(text: str, at: str) -> str:
    if len(text) > MAX_TEXT:
        raise FrontendError(f"is a text of {len(text)} letters, the limit is {MAX_TEXT}", at=at)
    return text


def _numbers(item: h5py.Dataset, at: str) -> Array:
    kind = item.dtype.kind
    if kind not in "biuf":
        raise FrontendError(f"holds {item.dtype}, not real numbers", at=at)
    with np.errstate(invalid="ignore"):  # NaN has a message of its own
        values = np.asarray(item[()]).astype(np.float64 if kind in "fu" else np.int64)
    if kind == "f" and not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise FrontendError(f"holds {bad} NaN or infinite values of {values.size}", at=at)
    return values
