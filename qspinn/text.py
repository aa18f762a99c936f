"""The graph as text: for people, diffs and golden tests."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np

from qspinn.ir import Array, Graph, Neuron, Node, Output, Param, State

_QUIET = ("name", "inputs", "origin", "values", "states", "model", "shape")


def text(graph: Graph) -> str:
    """A stable form: one node a line, its parameters below it.

    Large tensors are shown by shape, range and the first digits of their SHA-256.
    """
    lines = [f"graph {graph.name} start={graph.start}"]
    for node in graph.nodes:
        lines.extend(_node(node, graph.shifts.get(node.name, 0)))
    return "\n".join(lines) + "\n"


def _node(node: Node, shift: int) -> list[str]:
    kind = node.model.name if isinstance(node, Neuron) else type(node).__name__
    options = [
        f"{f.name}={_plain(getattr(node, f.name))}"
        for f in fields(node)
        if f.name not in (*_QUIET, "labels")
        and not isinstance(getattr(node, f.name), Param)
        and getattr(node, f.name) is not None
    ]
    if isinstance(node, Output) and node.labels:
        options.append(f"labels={_values(np.array(node.labels))}")
    shape = getattr(node, "shape", None)
    if shape is not None:
        options.insert(0, f"shape={_plain(shape)}")
    if shift:
        options.append(f"shift={shift}")
    if node.origin and node.origin != node.name:
        options.append(f"origin={node.origin}")
    lines = [f"  {node.name} = {kind}({', '.join(node.inputs)}) {' '.join(options)}".rstrip()]
    lines += [f"    {name}: {_param(p)}" for name, p in node.params().items()]
    if isinstance(node, Neuron):
        lines += [f"    {name} = {_state(s)}" for name, s in node.states.items()]
        lines += [f"    {row}" for row in node.model.text().splitlines()]
    return lines


def _plain(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _param(param: Param) -> str:
    head = f"{param.fmt} {param.rounding}" if param.fmt else "real"
    return f"{head} {_values(param.values)}"


def _state(state: State) -> str:
    head = f"{state.fmt} {state.rounding} {state.overflow}" if state.fmt else "real"
    return f"{head} from {_values(state.init.values)}"


def _values(values: Array) -> str:
    if values.size <= 4:
        # Without whitespace: numpy starts a new line for every row.
        return "".join(np.array2string(values, separator=",", precision=12).split())
    code = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:8]
    return f"[{_plain(values.shape)}] {values.min():.6g}..{values.max():.6g} #{code}"
