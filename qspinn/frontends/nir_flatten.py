"""One flat graph out of nested ones, with names that are safe everywhere and unique."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends.hdf5 import shown
from qspinn.frontends.nir_file import FileNode
from qspinn.frontends.report import IN_FILE, Assumption, inferred
from qspinn.ir import Array

Path = tuple[str, ...]

ADDING = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold")
"""Where several edges mean a sum of currents."""


@dataclass(frozen=True, eq=False)
class Flat:
    """A graph without graphs in it.

    Attributes:
        nodes: By safe name; each carries its safe name.
        sources: What each node reads, in a fixed order.
        ports: (label, declared shape, node whose signal must have it) of inputs and outputs that
            are gone.
    """

    nodes: Mapping[str, FileNode]
    sources: Mapping[str, tuple[str, ...]]
    ports: tuple[tuple[str, Array, str], ...] = ()

    def label(self, name: str) -> str:
        """What the file calls a node, printable."""
        return self.nodes[name].label

    def readers(self) -> dict[str, list[str]]:
        """Who reads each node."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, sources in self.sources.items():
            for source in sources:
                found[source].append(name)
        return found


def flatten(graph: FileNode) -> tuple[Flat, list[Assumption]]:
    """Put nested graphs in place of their nodes: ``lif1`` with a ``lif`` in it is ``lif1.lif``.

    Raises:
        FrontendError: An edge leads nowhere, or several meet where they do not add up.
    """
    notes: list[Assumption] = []
    leaves: dict[Path, FileNode] = {}
    edges: list[tuple[Path, Path]] = []
    _collect(graph, (), leaves, edges, notes)
    sources: dict[Path, list[Path]] = {path: [] for path in sorted(leaves, key=_natural)}
    for source, target in sorted(edges, key=lambda e: (_natural(e[0]), _natural(e[1]))):
        if source in sources[target]:
            notes.append(Assumption(_label(target), "an edge listed twice counts once", IN_FILE))
        else:
            sources[target].append(source)
    ports = _without_ports(leaves, sources)
    notes += _with_ends(leaves, sources)
    names = _safe_names(list(sources))
    if changed := [f"{_label(p)} is {names[p]}" for p in sources if names[p] != _label(p)]:
        notes.append(Assumption("names", ", ".join(changed), IN_FILE))
    flat = Flat(
        {names[p]: replace(leaves[p], name=names[p], origin=_raw(p)) for p in sources},
        {names[p]: tuple(names[s] for s in sources[p]) for p in sources},
        tuple((_label(p), shape, names[s]) for p, shape, s in ports),
    )
    _check_arity(flat)
    return flat, notes


def _collect(
    graph: FileNode,
    prefix: Path,
    leaves: dict[Path, FileNode],
    edges: list[tuple[Path, Path]],
    notes: list[Assumption],
) -> None:
    inside = {node.name: node for node in graph.nodes}
    renamed = _repair(graph, inside, _label(prefix), notes)
    for node in graph.nodes:
        if node.kind == "NIRGraph":
            _collect(node, (*prefix, node.name), leaves, edges, notes)
        else:
            leaves[(*prefix, node.name)] = node
    for a, b in graph.edges:
        source, target = (inside[renamed.get(end, end)] for end in (a, b))
        if source.kind == "Output" or target.kind == "Input":
            raise FrontendError(
                f"the edge {shown(a)} -> {shown(b)} leaves an Output or enters an Input",
                at=_label(prefix) or "edges",
            )
        edges.append((_port(source, prefix, "Output"), _port(target, prefix, "Input")))


def _repair(
    graph: FileNode, inside: Mapping[str, FileNode], at: str, notes: list[Assumption]
) -> dict[str, str]:
    """An edge may name a node that is not there; clear only if just one node lacks edges."""
    named = {end for edge in graph.edges for end in edge}
    missing = sorted(named - inside.keys())
    if not missing:
        return {}
    idle = sorted(n for n in inside.keys() - named if inside[n].kind not in ("Input", "Output"))
    if len(missing) == len(idle) == 1:
        what = f"edges name {shown(missing[0])}, which is not there; read as {shown(idle[0])}"
        notes.append(Assumption(at or "edges", what, inferred("the only node without edges")))
        return {missing[0]: idle[0]}
    raise FrontendError(
        f"an edge names {shown(missing[0])}, which is not among the nodes",
        at=at or "edges",
        hint=f"nodes: {', '.join(shown(n) for n in sorted(inside)[:12])}",
    )


def _port(node: FileNode, prefix: Path, kind: str) -> Path:
    """Where an edge to a node ends: in a nested graph, at its only input or output."""
    path = (*prefix, node.name)
    while node.kind == "NIRGraph":
        found = [inner for inner in node.nodes if inner.kind == kind]
        if len(found) != 1:
            raise FrontendError(
                f"a nested graph with {len(found)} {kind} nodes; an edge to it has no clear end",
                at=_label(path),
            )
        node, path = found[0], (*path, found[0].name)
    return path


def _without_ports(
    leaves: dict[Path, FileNode], sources: dict[Path, list[Path]]
) -> list[tuple[Path, Array, Path]]:
    """Drop the inputs and outputs of nested graphs: who reads one reads what it reads."""
    gone = [p for p in sources if len(p) > 1 and leaves[p].kind in ("Input", "Output")]
    ports: list[tuple[Path, Array, Path]] = []
    for port in gone:
        before = sources.pop(port)
        shape = leaves.pop(port).array("shape")
        for other in sources.values():
            if port in other:
                at = other.index(port)
                other[at : at + 1] = [s for s in before if s not in other]
        ports = [
            (p, s, b) for p, s, source in ports for b in (before if source == port else [source])
        ]
        ports += [(port, shape, source) for source in before]
    return ports


def _with_ends(leaves: dict[Path, FileNode], sources: dict[Path, list[Path]]) -> list[Assumption]:
    """Add an Input or Output where none is and only one node can be meant to have it."""
    notes: list[Assumption] = []
    kinds = {leaf.kind for leaf in leaves.values()}
    read = {source for found in sources.values() for source in found}
    if "Input" not in kinds:
        roots = [path for path, found in sources.items() if not found]
        shape = _needed(leaves[roots[0]]) if len(roots) == 1 else None
        if shape is not None:
            path = _free("input", leaves)
            leaves[path] = FileNode(path[0], "Input", {"shape": np.array(shape)})
            sources[path] = []
            sources[roots[0]].append(path)
            what = f"an Input of shape {shape} added in front of {_label(roots[0])}"
            notes.append(Assumption("nodes", what, inferred("the only node that reads nothing")))
    if "Output" not in kinds:
        ends = [path for path in sources if path not in read and leaves[path].kind != "Input"]
        if len(ends) == 1:
            path = _free("output", leaves)
            leaves[path] = FileNode(path[0], "Output")
            sources[path] = [ends[0]]
            what = f"an Output added behind {_label(ends[0])}"
            notes.append(Assumption("nodes", what, inferred("the only node that nothing reads")))
    return notes


def _needed(node: FileNode) -> tuple[int, ...] | None:
    """The shape that a node's parameters demand of its input, if they do."""
    if node.kind in ("Linear", "Affine") and node.array("weight").ndim == 2:
        return (int(node.array("weight").shape[1]),)
    if node.kind in ("Conv1d", "Conv2d") and "input_shape" in node.params:
        channels = node.array("weight").shape[1] * int(np.ravel(node.array("groups"))[0])
        return (int(channels), *(int(n) for n in np.ravel(node.array("input_shape"))))
    if "v_threshold" in node.params and node.array("v_threshold").ndim:
        return node.array("v_threshold").shape
    return None


def _free(name: str, leaves: Mapping[Path, FileNode]) -> Path:
    taken = {_raw(path).lower() for path in leaves}
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return (free,)


def _check_arity(flat: Flat) -> None:
    for name, sources in flat.sources.items():
        kind, label = flat.nodes[name].kind, flat.label(name)
        if kind != "Input" and not sources:
            raise FrontendError(f"no edge leads to this {kind}", at=label)
        if len(sources) > 1 and kind not in ADDING:
            who = ", ".join(flat.label(s) for s in sources)
            raise FrontendError(
                f"this {kind} takes one edge, not {len(sources)} ({who})",
                at=label,
                hint="only neurons add up currents: give each source a connection of its own "
                "into the neuron",
            )
    for kind in ("Input", "Output"):
        found = [node.label for node in flat.nodes.values() if node.kind == kind]
        if not found:
            raise FrontendError(f"the graph has no {kind} node", at="node")


def _safe_names(paths: list[Path]) -> dict[Path, str]:
    """Letters, digits and underscores, starting with a letter; unique even without case."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    # Names that are safe already keep themselves, whatever comes before them.
    for path in sorted(paths, key=lambda p: (safe(_raw(p)) != _raw(p), _natural(p))):
        base = safe(_raw(path))
        name, count = base, 1
        while name.lower() in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name.lower())
        names[path] = name
    return names


def safe(text: str) -> str:
    """An identifier made of ``text``."""
    if len(text) <= 40 and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
        return text
    word = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:40].rstrip("_")
    return word if word[:1].isalpha() else f"n{word}"


def _raw(path: Path) -> str:
    return ".".join(path)


def _label(path: Path) -> str:
    return shown(_raw(path))


def _natural(path: Path) -> list[list[tuple[int, str]]]:
    """Sort key that puts 2 before 10."""
    split = [re.findall(r"\d+|\D+", part) for part in path]
    return [
        [(int(w[:18]), "") if w.isdecimal() and w.isascii() else (-1, w) for w in s] for s in split
    ]
