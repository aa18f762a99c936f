"""One file holds one graph: a zip of a JSON document and plain arrays, the same bytes each time."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np

from qspinn import ir
from qspinn.errors import FrontendError, QspinnError
from qspinn.packing import FORMAT, pack
from qspinn.unpacking import check_signals, unpack
from qspinn.verify import verify

_DATE = (1980, 1, 1, 0, 0, 0)
MAX_BYTES = 1 << 29
"""Unpacked; checked before anything is."""
MAX_DOCUMENT = 1 << 25
MAX_ARRAYS = 1 << 16
MAX_RANK = 8


def dump(graph: ir.Graph) -> bytes:
    """The file that holds ``graph``, the same bytes each time."""
    document, arrays = pack(graph)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("graph.json", _DATE), document)
        for i, array in enumerate(arrays):
            member = io.BytesIO()
            np.save(member, _narrow(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{i}.npy", _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def save(graph: ir.Graph, path: Path) -> None:
    """Write ``graph`` to one file, aside first, so that it appears whole or not at all."""
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(dump(graph))
    aside.replace(path)


def load(path: Path) -> ir.Graph:
    """Read what :func:`save` wrote.

    Raises:
        FrontendError: The file is no graph, damaged, or of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [info.file_size for info in archive.infolist()]
            if sum(sizes) > MAX_BYTES or len(sizes) > MAX_ARRAYS:
                raise FrontendError(
                    f"unpacks to {len(sizes)} members of {sum(sizes)} bytes, the limits are "
                    f"{MAX_ARRAYS} and {MAX_BYTES}"
                )
            if archive.getinfo("graph.json").file_size > MAX_DOCUMENT:
                raise FrontendError(f"its document has more than {MAX_DOCUMENT} bytes")
            document = json.loads(archive.read("graph.json"))
            arrays = [_array(archive.read(f"{i}.npy")) for i in range(len(sizes) - 1)]
        if document["format"] != FORMAT:
            raise FrontendError(f"has format {str(document['format'])[:40]}, not {FORMAT}")
        graph = unpack(document["graph"], arrays)
        check_signals(graph)
        return verify(graph)
    except QspinnError as error:
        where = f"{error.at}: " if error.at else ""
        message = f"is not a qspinn graph: {where}{error.message}"
        raise FrontendError(_printable(message), at=str(path), hint=error.hint) from error
    except Exception as error:  # a damaged file can break zip, JSON, numpy and nodes in any way
        message = f"is not a qspinn graph: {error or type(error).__name__}"
        raise FrontendError(_printable(message), at=str(path)) from error


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _array(content: bytes) -> ir.Array:
    """A `.npy` file; its header is held against its size before the array is made."""
    buffer = io.BytesIO(content)
    version = np.lib.format.read_magic(buffer)
    if version != (1, 0):
        raise FrontendError(f"holds an array of format {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(buffer)
    if dtype.kind not in "bif" or len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise FrontendError(f"holds an array of {dtype} of shape {str(shape)[:60]}")
    if math.prod(shape) * dtype.itemsize != len(content) - buffer.tell():
        raise FrontendError(f"an array of {dtype} of shape {str(shape)[:60]} is cut or too long")
    buffer.seek(0)
    array: ir.Array = np.load(buffer, allow_pickle=False)
    return array


def _narrow(array: ir.Array) -> ir.Array:
    """The smallest integer type that holds the values; `Param` widens them again."""
    if array.dtype != np.int64:
        return array
    low, high = array.min(initial=0), array.max(initial=0)
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array
