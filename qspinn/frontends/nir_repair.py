"""A NIR file written anew: flat, of the current schema, its semantics settled in its metadata.

The `nir` package writes; what it then says to its own file is part of the report.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qspinn.frontends.hdf5 import shown
from qspinn.frontends.nir import KEPT, Build, reading
from qspinn.frontends.nir_file import PARAMS, FileNode
from qspinn.frontends.nir_flatten import ADDING
from qspinn.frontends.nir_layers import shaped
from qspinn.frontends.nir_neurons import Cell
from qspinn.frontends.report import Assumption, Imported
from qspinn.ir import Array, Conv1d, Conv2d, Flatten, Input, Node, Output, Shape

_MISSING = {"v_reset": 0.0, "w_in": 1.0}
"""Parameters that old files lack, with the value that NIR gives them."""

_REPAIRS = (
    "read as", "left out", "counts once", "added in front", "added behind", "no delay: ",
)  # fmt: skip
"""What notes say that tell of one."""


@dataclass(frozen=True)
class Repaired:
    """A clean file.

    Attributes:
        content: Its bytes.
        changes: What is not as it was, for people.
        imported: What qspinn makes of it; of the original, which means the same.
    """

    content: bytes
    changes: tuple[str, ...]
    imported: Imported


def repaired(path: Path, options: Mapping[str, Any]) -> Repaired:
    """A file of the same network that needs no option to be read, and that `nir.read` takes.

    Args:
        path: A `.nir` file.
        options: For `nir.load`, which must be able to read it with them.

    Raises:
        FrontendError: It cannot be read.
    """
    import nir

    imported, build = reading(path, options)
    writer = _Writer(build, imported)
    graph = writer.graph()
    buffer = io.BytesIO()
    nir.write(buffer, graph)
    changes = [*writer.changes, *_version(imported, str(nir.version)), *_refused(buffer)]
    return Repaired(buffer.getvalue(), tuple(changes), imported)


def _port(node: Any) -> dict[str, Any]:
    """Qspinn's words for an input or an output."""
    if isinstance(node, Output):
        return {"readout": node.readout}
    high = {"input_high": node.high} if node.kind == "count" else {}
    return {"input_kind": node.kind, **high}


def _version(imported: Imported, new: str) -> list[str]:
    old = str(imported.meta["version"])
    return [] if old == new else [f"version: {shown(old) or 'none'} is now {new}"]


def _refused(buffer: io.BytesIO) -> list[str]:
    """What the reader of the `nir` package says against the file; nothing, if it takes it."""
    import nir

    buffer.seek(0)
    try:
        nir.read(buffer)
    except Exception as error:  # its type check raises what it likes
        return [f"nir.read takes the file with type_check=False only: {shown(str(error))}"]
    return []


class _Writer:
    """Makes nodes of the `nir` package, and keeps count of what they have that the file's lack."""

    def __init__(self, build: Build, imported: Imported) -> None:
        self.build = build
        self.flat = build.flat
        self.changes = [f"{a.subject}: {a.value}" for a in imported.assumptions if _tells(a)]
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def graph(self) -> Any:
        """The whole graph with qspinn's words."""
        import nir

        wanted = [n for n in self.build.nodes if n in self.flat.nodes]
        if self.flat.ports:
            self.changes.append("graph: what was nested is flat")
        for name in wanted:
            if self.inserted(name):
                continue
            self.nodes[name] = self.node(self.flat.nodes[name])
            for source in self.flat.sources[name]:
                self.connect(self.origin_of(source), name)
        return nir.NIRGraph(
            self.nodes, self.edges, metadata={"qspinn": self.settled()}, type_check=False
        )

    def inserted(self, name: str) -> bool:
        """Whether a delay is ours: reading the file again puts it there again."""
        node = self.flat.nodes[name]
        return node.kind == "Delay" and "delay" not in node.params

    def origin_of(self, name: str) -> str:
        """The node before the delays that are ours."""
        while self.inserted(name):
            name = self.flat.sources[name][0]
        return name

    def connect(self, source: str, target: str) -> None:
        """An edge; by NIR's types a matrix that reads an image needs a Flatten."""
        import nir

        shape = self.build.shapes[source]
        if self.flat.nodes[target].kind in ("Linear", "Affine") and len(shape) > 1:
            between = f"{target}_flat"
            while between in self.flat.nodes:
                between += "_"
            self.nodes[between] = nir.Flatten({"input": np.array(shape)}, 0, -1)
            self.edges.append((source, between))
            self.changes.append(f"{target}: a Flatten of {shape} is now in front of it")
            source = between
        self.edges.append((source, target))

    def settled(self) -> dict[str, Any]:
        """Qspinn's words for the whole graph: none of them is left to a dialect."""
        rules = self.build.rules
        words: dict[str, Any] = {
            "dialect": "nir", "integrator": rules["integrator"].value,
            "synapse": rules["synapse"].value, "compare": rules["compare"].value,
        }  # fmt: skip
        for kind in (Output, Input):
            if len(nodes := self.of_type(kind)) == 1:  # of several each says its own
                words |= _port(nodes[0])
        words |= {"dt": rules.dt} if rules.dt is not None else {}
        return words | {k: v for k, v in rules.written.items() if k in KEPT and k != "readout"}

    def of_type(self, kind: Any) -> list[Any]:
        """Our nodes of one type."""
        return [node for node in self.build.nodes.values() if isinstance(node, kind)]

    # --- nodes ---

    def node(self, node: FileNode) -> Any:
        """One node of the `nir` package."""
        import nir

        shape = self.build.shapes[node.name]
        if node.kind == "Input":
            return nir.Input({"input": np.array(shape)}, metadata=self.port_words(node.name))
        if node.kind == "Output":
            self.note_shape(node, shape)
            return nir.Output({"output": np.array(shape)}, metadata=self.port_words(node.name))
        values: dict[str, Any] = {
            name: value for name, value in node.params.items() if name in _names(node.kind)
        }
        (before,) = {self.build.shapes[s] for s in self.flat.sources[node.name]}
        made = self.build.made.get(node.name)
        values |= _whole(made, node, before) if made is not None else {}
        if node.kind in ("Delay", "Scale", *ADDING):
            values = self.spread(node, shape)
        for name, value in values.items():
            self.note(node, name, value)
        words = self.words(node.name)
        return getattr(nir, node.kind)(
            **{k: _narrow(v) for k, v in values.items()},
            metadata={"qspinn": words} if words else {},
        )

    def port_words(self, name: str) -> dict[str, Any]:
        """Qspinn's words for one of several inputs or outputs."""
        node = self.build.nodes[name]
        several = len(self.of_type(type(node))) > 1
        return {"qspinn": _port(node)} if several else {}

    def spread(self, node: FileNode, shape: Shape) -> dict[str, Array]:
        """All parameters, one value for each element."""
        names = [n for n in _names(node.kind) if n in node.params or n in _MISSING]
        return {
            name: np.broadcast_to(
                shaped(node, name, shape) if name in node.params else _MISSING[name], shape
            )
            for name in names
        }

    def words(self, name: str) -> dict[str, Any]:
        """Qspinn's words for one node of neurons."""
        cell = self.build.cells.get(name)
        if cell is None or cell.kind == "Threshold":
            return {}
        rules = self.build.rules.at(self.flat.nodes[name])
        words: dict[str, Any] = {"r_scale": rules.scale(cell.kind)}
        words |= {"v_start": rules["v_start"].value} if np.any(cell.start) else {}
        if cell.kind.startswith("Cuba"):
            words |= {"w_in_scale": rules["w_in_scale"].value, "synapse": rules["synapse"].value}
        if "decay" in cell.values:
            words["integrator"] = rules["integrator"].value
        return words | (self.firing(name, cell) if cell.fires else {})

    def firing(self, name: str, cell: Cell) -> dict[str, Any]:
        """Qspinn's words for neurons that spike."""
        rules = self.build.rules.at(self.flat.nodes[name])
        node: Any = self.build.nodes[name]
        return {
            "reset": cell.options["reset"], "reset_timing": cell.options["timing"],
            "compare": cell.options["compare"], "max_spikes": node.model.max_out,
            "v_min": rules.floor(cell.kind),
        }  # fmt: skip

    # --- the report ---

    def note_shape(self, node: FileNode, shape: Shape) -> None:
        if "shape" in node.params and tuple(np.ravel(node.array("shape"))) != shape:
            old = tuple(int(n) for n in np.ravel(node.array("shape")))
            self.changes.append(f"{node.name}: shape {old} is now {shape}")

    def note(self, node: FileNode, name: str, value: Any) -> None:
        """Say what a parameter was, if it is now another."""
        if name not in node.params:
            what = f"{name} {_span(value)} added"
        elif isinstance(old := node.params[name], str):
            what = f"{name} {old!r} is now {_span(value)}"
        elif np.shape(value) != np.shape(old):
            what = f"{name} had shape {np.shape(old)}, has {np.shape(value)}"
        elif np.asarray(value).dtype.kind in "iu" and old.dtype.kind == "f":
            what = f"{name} is whole numbers now"
        elif not np.array_equal(value, old):
            what = f"{name} {_span(old)} is now {_span(value)}"
        else:
            return
        self.changes.append(f"{node.name}: {what}")


def _tells(note: Assumption) -> bool:
    """Whether a note of the import is one of a repair."""
    return note.subject == "names" or any(word in note.value for word in _REPAIRS)


def _names(kind: str) -> list[str]:
    return [word.rstrip("?") for word in PARAMS[kind].split()]


def _whole(made: Node, node: FileNode, before: Shape) -> dict[str, Any]:
    """The parameters of a stateless node that are sizes, as whole numbers."""
    if isinstance(made, Flatten):
        rank = len(before)
        end = -1 if made.end % rank == rank - 1 else made.end % rank
        return {"input_type": np.array(before), "start_dim": made.start, "end_dim": end}
    if isinstance(made, Conv1d | Conv2d):
        flat = isinstance(made, Conv1d)
        sizes = {n: getattr(made, n) for n in ("stride", "padding", "dilation")}
        bias = node.params.get("bias", np.zeros(len(made.weight.values)))
        return {
            **{n: v if flat else np.array(v) for n, v in sizes.items()}, "groups": made.groups,
            "input_shape": before[1] if flat else np.array(before[1:]), "bias": bias,
        }  # fmt: skip
    if node.kind in ("SumPool2d", "AvgPool2d"):
        pool: Any = made
        sizes = {"kernel_size": pool.kernel, "stride": pool.stride, "padding": pool.padding}
        return {name: np.array(size) for name, size in sizes.items()}
    return {}


def _narrow(value: Any) -> Any:
    """Numbers in float32, if none of them changes."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        small = value.astype(np.float32)
    return small if np.array_equal(small, value) else np.ascontiguousarray(value)


def _span(value: Any) -> str:
    values = np.asarray(value)
    if values.dtype.kind in "biuf" and values.ndim and (values == values.flat[0]).all():
        return f"{values.flat[0]:g}"
    if values.size <= 4:
        return str(values.tolist())
    return f"{values.min():g} to {values.max():g}"
