"""Small `.nir` files for tests, written without the `nir` package, so that they may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Nodes = Mapping[str, Mapping[str, Any]]
Edges = Sequence[tuple[str, str]]


def write(path: Path, nodes: Nodes, edges: Edges | None = None, **metadata: Any) -> Path:
    """A file with these nodes; without edges a chain in the order of the nodes."""
    with h5py.File(path, "w") as file:
        file["version"] = "1.0.8"
        put_graph(file.create_group("node"), nodes, edges, metadata)
    return path


def put_graph(group: Any, nodes: Nodes, edges: Edges | None, metadata: Mapping[str, Any]) -> None:
    names = list(nodes)
    pairs = list(pairwise(names)) if edges is None else list(edges)
    group["type"] = "NIRGraph"
    group.create_dataset(
        "edges", data=np.array(pairs, dtype=object).reshape(-1, 2), dtype=h5py.string_dtype()
    )
    for key, value in metadata.items():
        group[f"metadata/qspinn/{key}"] = value
    inside = group.create_group("nodes")
    for name, node in nodes.items():
        own = inside.create_group(name)
        if node["type"] == "NIRGraph":
            put_graph(own, node["nodes"], node["edges"], {})
            continue
        for key, value in node.items():
            own[key] = value


def node(kind: str, **params: Any) -> dict[str, Any]:
    return {"type": kind, **params}


def inlet(*shape: int) -> dict[str, Any]:
    return node("Input", shape=np.array(shape))


def outlet(*shape: int) -> dict[str, Any]:
    return node("Output", shape=np.array(shape))


def linear(weight: Any) -> dict[str, Any]:
    return node("Linear", weight=np.asarray(weight, float))


def affine(weight: Any, bias: Any) -> dict[str, Any]:
    return node("Affine", weight=np.asarray(weight, float), bias=np.asarray(bias, float))


def lif(
    size: Any, *, tau: Any = 0.01, r: Any = 1.0, theta: Any = 1.0, **more: Any
) -> dict[str, Any]:
    one = np.ones(size)
    given = {"v_leak": 0.0, "v_reset": 0.0, **more}
    return node(
        "LIF", tau=tau * one, r=r * one, v_threshold=theta * one,
        **{k: v * one for k, v in given.items()},
    )  # fmt: skip


def cuba(size: Any, *, syn: Any, mem: Any, r: Any = 1.0, w_in: Any = 1.0, **more: Any) -> Any:
    one = np.ones(size)
    given = {"v_leak": 0.0, "v_reset": 0.0, "v_threshold": 1.0, **more}
    return node(
        "CubaLIF", tau_syn=syn * one, tau_mem=mem * one, r=r * one, w_in=w_in * one,
        **{k: v * one for k, v in given.items()},
    )  # fmt: skip


def counter(size: Any, *, r: Any = 1.0, theta: Any = 1.0) -> dict[str, Any]:
    return node("IF", r=r * np.ones(size), v_threshold=theta * np.ones(size))


def tiny(**changed: Any) -> dict[str, Any]:
    """A sound network of three neurons, with some nodes replaced."""
    nodes = {"input": inlet(2), "fc": linear(np.ones((3, 2))), "lif": lif(3), "output": outlet(3)}
    return {**nodes, **changed}
