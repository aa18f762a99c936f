"""Values as a JSON document and plain arrays: what is stored, and what identifies a graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from qspinn.fixed import QFormat

FORMAT = 1
"""Version of the document."""


def pack(value: Any) -> tuple[str, list[npt.NDArray[Any]]]:
    """The document of a tree of dataclasses, and the arrays it refers to by number."""
    arrays: list[npt.NDArray[Any]] = []
    document = {"format": FORMAT, "graph": _encode(value, arrays)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")), arrays


def digest(value: Any) -> str:
    """SHA-256 of the document and every array, in hexadecimal."""
    document, arrays = pack(value)
    h = hashlib.sha256(document.encode())
    for array in arrays:
        h.update(str((array.dtype.str, array.shape)).encode())
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def _encode(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(value, Enum):
        return {"is": type(value).__name__, "value": value.value}
    if isinstance(value, QFormat):
        return {"is": "QFormat", "value": str(value)}
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"is": "array", "value": len(arrays) - 1}
    if is_dataclass(value):
        items = {f.name: _encode(getattr(value, f.name), arrays) for f in fields(value)}
        return {"is": type(value).__name__, **items}
    if isinstance(value, tuple):
        return [_encode(v, arrays) for v in value]
    if isinstance(value, Mapping):
        return {"is": "map", "items": [[k, _encode(v, arrays)] for k, v in value.items()]}
    return value
