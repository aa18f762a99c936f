"""One file holds one graph: a zip of a JSON document and plain arrays, the same bytes each time."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from qspinn import ir
from qspinn.dynamics import Model, Op
from qspinn.errors import FrontendError
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.packing import FORMAT, pack
from qspinn.verify import verify

_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        ir.Input, ir.Linear, ir.Lateral, ir.Scale, ir.Conv1d, ir.Conv2d, ir.SumPool2d, ir.AvgPool2d,
        ir.MaxPool2d, ir.Flatten, ir.Delay, ir.Neuron, ir.Output, ir.Param, ir.State, Model, Op,
    )
}  # fmt: skip
_DATE = (1980, 1, 1, 0, 0, 0)
_LIMIT = 1 << 30


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
            if sum(info.file_size for info in archive.infolist()) > _LIMIT:
                raise FrontendError(f"{path} unpacks to more than {_LIMIT} bytes")
            document = json.loads(archive.read("graph.json"))
            count = len(archive.namelist()) - 1
            arrays = [
                np.load(io.BytesIO(archive.read(f"{i}.npy")), allow_pickle=False)
                for i in range(count)
            ]
        if document["format"] != FORMAT:
            raise FrontendError(f"{path} has format {document['format']}, not {FORMAT}")
        graph = _unpack(document["graph"], arrays)
        if not isinstance(graph, ir.Graph):
            raise FrontendError(f"{path} holds no graph")
        return verify(graph)
    except FrontendError:
        raise
    except Exception as error:  # a damaged file can break zip, JSON, numpy and nodes in any way
        raise FrontendError(f"{path} is not a qspinn graph: {error}") from error


def _narrow(array: ir.Array) -> ir.Array:
    """The smallest integer type that holds the values; `Param` widens them again."""
    if array.dtype != np.int64:
        return array
    low, high = array.min(initial=0), array.max(initial=0)
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array


def _unpack(value: Any, arrays: list[ir.Array]) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(v, arrays) for v in value)
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind == "array":
        return arrays[value["value"]]
    if kind == "QFormat":
        return QFormat.parse(value["value"])
    if kind in ("Rounding", "Overflow"):
        return (Rounding if kind == "Rounding" else Overflow)(value["value"])
    if kind == "map":
        return {k: _unpack(v, arrays) for k, v in value["items"]}
    items = {k: _unpack(v, arrays) for k, v in value.items() if k != "is"}
    return (ir.Graph if kind == "Graph" else _TYPES[kind])(**items)
