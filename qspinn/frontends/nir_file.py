"""Reading a `.nir` file (HDF5) into plain nodes: within stated bounds, following no links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from qspinn.errors import FrontendError, located
from qspinn.frontends.report import require_plain
from qspinn.ir import Array

MAX_NODES = 4096
MAX_EDGES = 1 << 16
MAX_DEPTH = 8
MAX_ELEMENTS = 1 << 26
"""All arrays of a file together; checked before anything is allocated."""
MAX_TEXT = 4096
MAX_FILE = 1 << 30

Value = Array | str
Edge = tuple[str, str]

PARAMS: dict[str, str] = {
    "Input": "shape",
    "Output": "shape",
    "Affine": "weight bias",
    "Linear": "weight",
    "Scale": "scale",
    "Conv1d": "weight stride padding dilation groups bias? input_shape?",
    "Conv2d": "weight stride padding dilation groups bias? input_shape?",
    "SumPool2d": "kernel_size stride padding",
    "AvgPool2d": "kernel_size stride padding",
    "Flatten": "start_dim end_dim input_type?",
    "Delay": "delay",
    "Threshold": "threshold",
    "I": "r",
    "IF": "r v_threshold v_reset?",
    "LI": "tau r v_leak",
    "LIF": "tau r v_leak v_threshold v_reset?",
    "CubaLI": "tau_syn tau_mem r v_leak w_in?",
    "CubaLIF": "tau_syn tau_mem r v_leak v_threshold v_reset? w_in?",
}
"""The node types of NIR and their parameters; a question mark is one that old files lack."""

_HEAP = b"GCOL\1\0\0\0"
_BESIDE = {"type", "metadata", "input_type", "output_type"}


@dataclass(frozen=True, eq=False)
class FileNode:
    """A node as the file has it: its type, its arrays and texts, and for a graph what is in it.

    Attributes:
        name: Its name; any text at all.
        kind: NIR's type.
        params: Finite numbers (float64 or int64) or text.
        meta: What qspinn wrote into the node's metadata.
        nodes: The nodes of a graph.
        edges: The edges of a graph, by name.
        origin: What the file calls it, where that differs from ``name``.
    """

    name: str
    kind: str
    params: Mapping[str, Value] = field(default_factory=dict)
    meta: Mapping[str, Value] = field(default_factory=dict)
    nodes: tuple[FileNode, ...] = ()
    edges: tuple[Edge, ...] = ()
    origin: str = ""

    @property
    def label(self) -> str:
        """What the file calls it, as it can be printed."""
        return shown(self.origin or self.name)

    def array(self, name: str) -> Array:
        """A parameter that must be numbers.

        Raises:
            FrontendError: It is text.
        """
        value = self.params[name]
        if isinstance(value, str):
            raise FrontendError(f"{name} is the text {shown(value)}, not numbers", at=self.label)
        return value


def shown(name: str) -> str:
    """A name from a file, safe to print on one line."""
    text = name.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 80 else text[:77] + "..."


def read(path: Path) -> tuple[FileNode, str]:
    """The root graph of a file and the version of NIR that wrote it.

    Raises:
        FrontendError: The file is missing, damaged, no NIR, or exceeds a bound.
    """
    at = str(path)
    if not path.is_file():
        raise FrontendError("is no file" if path.exists() else "does not exist", at=at)
    if path.stat().st_size > MAX_FILE:
        raise FrontendError(f"has {path.stat().st_size} bytes, the limit is {MAX_FILE}", at=at)
    try:
        if not h5py.is_hdf5(path):
            what = "is not an HDF5 file" if path.stat().st_size else "is empty"
            raise FrontendError(what, at=at, hint="a .nir file is what nir.write(...) makes")
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            return _Reader().file(file, at)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise FrontendError(
            f"is damaged or truncated: {reason}", at=at, hint="copy or export it again"
        ) from error


class _Reader:
    """Walks one file and keeps count of what it has taken in."""

    def __init__(self) -> None:
        self.nodes = 0
        self.elements = 0

    def file(self, file: h5py.File, at: str) -> tuple[FileNode, str]:
        root = self.children(file, at).get("node")
        if not isinstance(root, h5py.Group):
            raise FrontendError(
                "holds no NIR graph: there is no group 'node'", at=at, hint=_other_format(file)
            )
        version = self.children(file, at).get("version")
        graph = self.node(root, "", 0)
        if graph.kind != "NIRGraph":
            raise FrontendError(f"holds a single {graph.kind}, not a graph", at=at)
        text = self.value(version, "version") if isinstance(version, h5py.Dataset) else ""
        return graph, text if isinstance(text, str) else ""

    def children(self, group: h5py.Group, at: str) -> dict[str, Any]:
        """The members of a group; only what lies in the file itself."""
        if len(group) > MAX_NODES:
            raise FrontendError(f"has {len(group)} members, the limit is {MAX_NODES}", at=at)
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

    def node(self, group: h5py.Group, name: str, depth: int) -> FileNode:
        at = shown(name) or "node"
        with located(at):
            require_plain(name)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise FrontendError(f"the file has more than {MAX_NODES} nodes", at=at)
        if depth > MAX_DEPTH:
            raise FrontendError(f"graphs are nested deeper than {MAX_DEPTH}", at=at)
        members = self.children(group, at)
        kind = self.value(members["type"], f"{at}.type") if "type" in members else ""
        if not isinstance(kind, str) or not kind:
            raise FrontendError("has no type", at=at)
        meta = self.metadata(members.get("metadata"), at)
        if kind == "NIRGraph":
            return FileNode(
                name, kind, {}, meta, self.inner(members, at, depth), self.edges(members, at)
            )
        if kind not in PARAMS:
            raise FrontendError(
                f"has the unknown type {shown(kind)}", at=at, hint=f"known: {', '.join(PARAMS)}"
            )
        return FileNode(name, kind, self.params(kind, members, at), meta)

    def inner(self, members: Mapping[str, Any], at: str, depth: int) -> tuple[FileNode, ...]:
        nodes = members.get("nodes")
        if not isinstance(nodes, h5py.Group):
            raise FrontendError("is a graph without nodes", at=at)
        inside = self.children(nodes, at)
        for name, item in inside.items():
            if not isinstance(item, h5py.Group):
                raise FrontendError("is not a group and so no node", at=shown(name))
        return tuple(self.node(item, name, depth + 1) for name, item in inside.items())

    def edges(self, members: Mapping[str, Any], at: str) -> tuple[Edge, ...]:
        item = members.get("edges")
        if not isinstance(item, h5py.Dataset):
            raise FrontendError("is a graph without edges", at=at)
        if item.size == 0:
            return ()
        if (
            len(item.shape) != 2
            or item.shape[1] != 2
            or h5py.check_string_dtype(item.dtype) is None
        ):
            raise FrontendError(f"edges of shape {item.shape} are no pairs of names", at=at)
        if item.shape[0] > MAX_EDGES:
            raise FrontendError(f"has {item.shape[0]} edges, the limit is {MAX_EDGES}", at=at)
        _stored_here(item, f"{at}.edges")
        return tuple(_pairs(item, f"{at}.edges"))

    def params(self, kind: str, members: Mapping[str, Any], at: str) -> dict[str, Value]:
        words = PARAMS[kind].split()
        known = {word.rstrip("?") for word in words}
        if missing := [w for w in words if not w.endswith("?") and w not in members]:
            raise FrontendError(f"a {kind} without {', '.join(missing)}", at=at)
        if extra := sorted(members.keys() - known - _BESIDE):
            names = ", ".join(shown(name) for name in extra)
            raise FrontendError(f"a {kind} with the unknown parameter {names}", at=at)
        return {
            name: self.value(item, f"{at}.{name}")
            for name, item in members.items()
            if name in known and not _left_empty(item, name, words)
        }

    def metadata(self, item: Any, at: str) -> dict[str, Value]:
        """What lies under ``qspinn``; metadata is free-form, and all else in it is not ours."""
        if not isinstance(item, h5py.Group) or "qspinn" not in item:
            return {}
        own = self.children(item, at)["qspinn"]
        if not isinstance(own, h5py.Group):
            raise FrontendError("metadata.qspinn is not a group", at=at)
        found = self.children(own, at)
        return {k: self.value(v, f"{at}.metadata.qspinn.{shown(k)}") for k, v in found.items()}

    def value(self, item: Any, at: str) -> Value:
        """One dataset: text, or finite numbers."""
        if not isinstance(item, h5py.Dataset):
            raise FrontendError("is a group, not numbers or text", at=at)
        _stored_here(item, at)
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


def _left_empty(item: Any, name: str, words: list[str]) -> bool:
    """Whether an optional parameter is there without a value, as Python's None is written."""
    return f"{name}?" in words and isinstance(item, h5py.Dataset) and item.shape is None


def _check_heaps(path: Path) -> None:
    """Refuse a heap of texts with a piece of free space of no size: HDF5 walks it for ever."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        start = data.find(_HEAP)
        while start >= 0:
            size = int.from_bytes(data[start + 8 : start + 16], "little")
            at, end = start + 16, min(start + size, len(data))
            while at + 16 <= end:
                index = int.from_bytes(data[at : at + 2], "little")
                length = int.from_bytes(data[at + 8 : at + 16], "little")
                if index == 0 and length == 0:
                    raise OSError("a heap of texts holds an empty piece")
                at += length if index == 0 else 16 + (length + 7) // 8 * 8
            start = data.find(_HEAP, start + 8)


def _stored_here(item: h5py.Dataset, at: str) -> None:
    if item.is_virtual or item.external:
        raise FrontendError(
            "is stored in another file, which is not followed",
            at=at,
            hint="store the data in the file itself",
        )


def _text(item: h5py.Dataset, at: str) -> str:
    if item.shape != ():
        raise FrontendError(f"is a list of texts of shape {item.shape}, not one", at=at)
    text = str(item.asstr()[()])
    if len(text) > MAX_TEXT:
        raise FrontendError(f"is a text of {len(text)} letters, the limit is {MAX_TEXT}", at=at)
    return text


def _pairs(item: h5py.Dataset, at: str) -> Iterator[Edge]:
    # A few rows at a time: many entries may share one long text, which counts once in the file.
    for start in range(0, item.shape[0], 64):
        for a, b in item.asstr()[start : start + 64]:
            if max(len(a), len(b)) > MAX_TEXT:
                raise FrontendError(f"names a node in more than {MAX_TEXT} letters", at=at)
            yield str(a), str(b)


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


def _other_format(file: h5py.File) -> str:
    if "layer" in file:
        return "this looks like a lava-dl network, which this version does not read"
    return "a .nir file is what nir.write(...) makes"


def walk(graph: FileNode) -> Iterator[FileNode]:
    """All nodes of a graph that are no graphs, at any depth."""
    for node in graph.nodes:
        if node.kind == "NIRGraph":
            yield from walk(node)
        else:
            yield node
