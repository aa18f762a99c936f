"""Linear maps with no neurons between them become one: the same sums, and one layer of weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from qspinn.interp import apply
from qspinn.ir import (
    CONNECTIONS,
    Array,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Graph,
    Linear,
    MaxPool2d,
    Node,
    Pair,
    Param,
    Scale,
    SumPool2d,
)
from qspinn.signals import Signal, signals

MOST_WEIGHTS = 1 << 22
"""No map is composed into one with more; it then stays as it is, and is refused by name later."""
MOST_COLUMNS = 1 << 16
"""Elements between two maps of which the second is a matrix."""

_MAPS = (Linear, Conv2d, SumPool2d)


def compose(graph: Graph) -> Graph:
    """Merge every linear map into the one it reads, if nothing else reads that one.

    The merged map has the name of the second. A Flatten between them goes with them.
    """
    known, nodes = signals(graph), dict(graph.by_name)
    readers = Counter(source for node in graph.nodes for source in node.inputs)
    for name in graph.by_name:  # what a map reads stands before it, merged already
        while isinstance(nodes.get(name), _MAPS):
            found = _merged(nodes, nodes[name], known, readers)
            if found is None:
                break
            nodes[name], gone = found
            for each in gone:
                del nodes[each]
    return replace(graph, nodes=tuple(nodes.values()))


def growth(before: Graph, after: Graph) -> str:
    """What merging cost, for people; empty where it saved weights or changed nothing."""
    counts = [
        sum(p.values.size for n in g.of_type(Node) if isinstance(n, CONNECTIONS)
            for p in n.params().values())
        for g in (before, after)
    ]  # fmt: skip
    if counts[1] <= counts[0]:
        return ""
    gone = [n.name for n in before.nodes if isinstance(n, CONNECTIONS) and n.name not in
            after.by_name and not isinstance(n, Scale)]  # fmt: skip
    them = "it" if len(gone) == 1 else "them"
    return (
        f"{', '.join(gone) or 'layers'} had no neurons behind {them} and went into what follows: "
        f"{counts[1]} weights instead of {counts[0]}"
    )


def without_idle(graph: Graph) -> Graph:
    """Leave out what changes nothing: a Flatten of what is flat, a window of one element."""
    known = signals(graph)
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if _idle(node, known):
            source = node.inputs[0]
            renamed[node.name] = renamed.get(source, source)
    kept = (n for n in graph.nodes if n.name not in renamed)
    return replace(
        graph,
        nodes=tuple(replace(n, inputs=tuple(renamed.get(i, i) for i in n.inputs)) for n in kept),
    )


def _idle(node: Node, known: Mapping[str, Signal]) -> bool:
    if isinstance(node, Flatten):
        return known[node.name].shape == known[node.inputs[0]].shape
    if isinstance(node, SumPool2d | AvgPool2d | MaxPool2d):
        return (node.kernel, node.stride, node.padding) == ((1, 1), (1, 1), (0, 0))
    return False


def _merged(
    nodes: Mapping[str, Node], node: Node, known: Mapping[str, Signal], readers: Mapping[str, int]
) -> tuple[Node, set[str]] | None:
    """``node`` with the map it reads in it, and the names of the nodes that it replaces."""
    between: list[Node] = []
    first = nodes[node.inputs[0]]
    while isinstance(first, Flatten) and readers[first.name] == 1:
        between.append(first)
        first = nodes[first.inputs[0]]
    if not isinstance(first, (Linear, Conv1d, Conv2d, SumPool2d)) or readers[first.name] > 1:
        return None
    if isinstance(first, SumPool2d) and known[first.inputs[0]].kind != "current":
        return None  # sums of spikes need no weights
    one: Node | None = None
    if isinstance(node, Linear):
        one = _matrix(node, first, known)
    elif isinstance(node, Conv2d | SumPool2d) and isinstance(first, Conv2d) and not between:
        one = _window(node, first)
    return None if one is None else (one, {first.name, *(n.name for n in between)})


def _matrix(
    node: Linear, first: Linear | Conv1d | Conv2d | SumPool2d, known: Mapping[str, Signal]
) -> Linear | None:
    """A matrix behind any map is a matrix."""
    signal, rows = known[first.inputs[0]], node.weight.values
    own = rows.size + sum(p.values.size for p in first.params().values())
    if len(rows) * signal.size > max(MOST_WEIGHTS, own) or rows.shape[1] > MOST_COLUMNS:
        return None
    constant = apply(first, np.zeros((1, *signal.shape)), signal).reshape(-1)
    offset = rows @ constant + (0.0 if node.bias is None else node.bias.values)
    if isinstance(first, Linear):
        weight = rows @ first.weight.values
    else:
        plain = first if isinstance(first, SumPool2d) else replace(first, bias=None)
        weight = _through(rows, plain, signal)
    return replace(
        node, inputs=first.inputs, weight=Param(weight),
        bias=Param(offset) if np.any(offset) else None,
    )  # fmt: skip


def _through(rows: Array, first: Node, signal: Signal) -> Array:
    """``rows`` times the matrix of ``first``, of which a part at a time is made."""
    product = np.zeros((len(rows), signal.size))
    part = max(1, (1 << 22) // max(rows.shape[1], signal.size))
    for start in range(0, signal.size, part):
        stop = min(start + part, signal.size)
        unit = np.zeros((stop - start, signal.size))
        unit[np.arange(stop - start), np.arange(start, stop)] = 1.0
        columns = apply(first, unit.reshape(-1, *signal.shape), signal)
        product[:, start:stop] = rows @ columns.reshape(stop - start, -1).T
    return product


def _window(node: Conv2d | SumPool2d, first: Conv2d) -> Conv2d | None:
    """Windows over windows are larger windows, where no border of zeros comes between them."""
    outer = node if isinstance(node, Conv2d) else None
    if node.padding != (0, 0) or (outer is not None and (outer.groups, first.groups) != (1, 1)):
        return None
    inner, kernel = first.weight.values, _kernel(node)
    spread = [(inner.shape[2 + i] - 1) * first.dilation[i] + 1 for i in range(2)]
    reach = (1, 1) if outer is None else outer.dilation
    apart = [reach[i] * first.stride[i] for i in range(2)]
    sizes = [spread[i] + (kernel[i] - 1) * apart[i] for i in range(2)]
    channels = len(inner if outer is None else outer.weight.values)
    if prod((channels, inner.shape[1], *sizes)) > MOST_WEIGHTS:
        return None
    weight = np.zeros((channels, inner.shape[1], *sizes))
    for y, x in np.ndindex(*kernel):
        part = inner if outer is None else np.tensordot(outer.weight.values[..., y, x], inner, 1)
        top, left = y * apart[0], x * apart[1]
        weight[
            :, :, top : top + spread[0] : first.dilation[0],
            left : left + spread[1] : first.dilation[1],
        ] += part  # fmt: skip
    return Conv2d(
        name=node.name, inputs=first.inputs, origin=node.origin, weight=Param(weight),
        bias=_offset(node, first), padding=first.padding, groups=first.groups,
        stride=(first.stride[0] * node.stride[0], first.stride[1] * node.stride[1]),
    )  # fmt: skip


def _kernel(node: Conv2d | SumPool2d) -> Pair:
    if isinstance(node, SumPool2d):
        return node.kernel
    rows, columns = node.weight.values.shape[2:]
    return rows, columns


def _offset(node: Conv2d | SumPool2d, first: Conv2d) -> Param | None:
    inner = np.zeros(len(first.weight.values)) if first.bias is None else first.bias.values
    if isinstance(node, SumPool2d):
        offset = inner * prod(node.kernel)
    else:
        own = 0.0 if node.bias is None else node.bias.values
        offset = node.weight.values.sum((2, 3)) @ inner + own
    return Param(offset) if np.any(offset) else None
