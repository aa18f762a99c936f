"""Reading a `.nir` file (HDF5) into plain nodes: within stated bounds, following no links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from qspinn.errors import FrontendError, located
from qspinn.frontends.hdf5 import MAX_TEXT, Reader, Value, opened, shown, stored_here
from qspinn.frontends.report import require_plain
from qspinn.ir import Array

MAX_NODES = 4096
MAX_EDGES = 1 << 16
MAX_DEPTH = 8

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


def read(path: Path) -> tuple[FileNode, str]:
    """The root graph of a file and the version of NIR that wrote it.

    Raises:
        FrontendError: The file is missing, damaged, no NIR, or exceeds a bound.
    """
    with opened(path, hint="a .nir file is what nir.write(...) makes") as file:
        return _Reader().file(file, str(path))


class _Reader(Reader):
    """Walks one file."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = 0

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
        stored_here(item, f"{at}.edges")
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


def _left_empty(item: Any, name: str, words: list[str]) -> bool:
    """Whether an optional parameter is there without a value, as Python's None is written."""
    return f"{name}?" in words and isinstance(item, h5py.Dataset) and item.shape is None


def _pairs(item: h5py.Dataset, at: str) -> Iterator[Edge]:
    # A few rows at a time: many entries may share one long text, which counts once in the file.
    for start in range(0, item.shape[0], 64):
        for a, b in item.asstr()[start : start + 64]:
            if max(len(a), len(b)) > MAX_TEXT:
                raise FrontendError(f"names a node in more than {MAX_TEXT} letters", at=at)
            yield str(a), str(b)


def _other_format(file: h5py.File) -> str:
    if "layer" in file:
        return "this looks like a lava-dl network: such files are called .net"
    return "a .nir file is what nir.write(...) makes"


def walk(graph: FileNode) -> Iterator[FileNode]:
    """All nodes of a graph that are no graphs, at any depth."""
    for node in graph.nodes:
        if node.kind == "NIRGraph":
            yield from walk(node)
        else:
            yield node
