"""Several inputs as one: the elements of all in a row, the very array that enters a network.

Linear layers read their own part of it; weights for the others would be zeros, whose rows the
emitted code leaves out as it does those of dropped inputs. Nothing else in the network changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from qspinn.cost import Activity
from qspinn.ir import Array, Flatten, Graph, Input, Linear, Node
from qspinn.ports import entering, places
from qspinn.signals import Signals

from .names import Names, quoted


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input's elements are among all: its macros' name, the first, how many."""

    macro: str
    title: str
    first: int
    size: int


def named(graph: Graph) -> tuple[Place, ...]:
    """The places of several inputs, in order; nothing of one."""
    inputs, names = graph.of_type(Input), Names()
    if len(inputs) == 1:
        return ()
    return tuple(
        Place(names.new(node.name.upper(), "INPUT"), quoted(node.name), part.start, _size(part))
        for node, part in places(inputs)
    )


def _size(part: slice) -> int:
    return int(part.stop - part.start)


def hindered(graph: Graph, known: Signals) -> Iterator[str]:
    """What keeps several inputs from being one."""
    inputs = graph.of_type(Input)
    if len(inputs) < 2:
        return
    forms = {(node.kind == "current", node.fmt) for node in inputs}
    if len(forms) > 1:
        words = ", ".join(f"{n.name} {n.kind if n.fmt is None else n.fmt}" for n in inputs)
        yield (
            f"its inputs enter as one list, of one kind and format: {words}; "
            "give all of them one format in the plan, or the encoder none"
        )
    for node in inputs:
        for reader, _ in _readers(graph, node):
            if not isinstance(reader, Linear):
                yield (
                    f"{reader.name}: reads {node.name}, one of {len(inputs)} inputs, as a "
                    f"{type(reader).__name__}; C has linear layers there only: write it as one, "
                    "or target loihi"
                )


def _readers(graph: Graph, node: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """What reads a node, behind which Flattens."""
    for user in graph.users(node.name):
        if isinstance(user, Flatten):
            for reader, passed in _readers(graph, user):
                yield reader, (user.name, *passed)
        else:
            yield user, ()


@lru_cache(maxsize=16)
def joined(graph: Graph) -> Graph:
    """The graph with one input, which takes the same data; itself, if it has one.

    Args:
        graph: A legalized graph.
    """
    inputs = graph.of_type(Input)
    if len(inputs) == 1:
        return graph
    taken, name = set(graph.by_name), "input"
    while name in taken:
        name += "_"
    (total,) = entering(inputs)
    high = max(node.high for node in inputs)
    kind = inputs[0].kind if inputs[0].kind == "current" else "count" if high > 1 else "spike"
    one = Input(name=name, shape=(total,), kind=kind, high=high, fmt=inputs[0].fmt)
    changed: dict[str, Node] = {}
    gone = {node.name for node in inputs}
    for node, part in places(inputs):
        for reader, passed in _readers(graph, node):
            assert isinstance(reader, Linear), "others were refused"
            values = _spread(reader.weight.values, part, total)
            weight = replace(reader.weight, values=values)
            changed[reader.name] = replace(reader, inputs=(name,), weight=weight)
            gone |= set(passed)
    nodes = tuple(changed.get(node.name, node) for node in graph.nodes if node.name not in gone)
    return replace(graph, nodes=(one, *nodes))


def _spread(weights: Array, part: slice, total: int) -> Array:
    """Weights for one part of all elements, zeros for the rest."""
    wide = np.zeros((len(weights), total), weights.dtype)
    wide[:, part] = weights
    return wide


def together(graph: Graph, activity: Activity) -> Activity:
    """The activity of the joined graph: its input is as busy as all of them on average."""
    inputs = graph.of_type(Input)
    if len(inputs) == 1 or not activity.measured:
        return activity
    sizes = {node.name: _size(part) for node, part in places(inputs)}
    busy = sum(activity.rate(name) * size for name, size in sizes.items()) / sum(sizes.values())
    rates = {k: rate for k, rate in activity.rates.items() if k not in sizes}
    source = joined(graph).input.name
    return replace(activity, rates={source: busy, **rates}, heard={})
