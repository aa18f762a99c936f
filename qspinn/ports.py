"""What enters a network as one array, and its inputs' parts of it.

A network with one Input takes (samples, steps, *its shape). One with several takes (samples, steps,
elements): the elements of each Input flat, one after the other in the order of the graph. So all
that hands data on, whole or in pieces, need not know how many inputs there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from qspinn.errors import QspinnError
from qspinn.ir import Array, Graph, Input, Shape


def entering(inputs: Sequence[Input]) -> Shape:
    """The shape of what enters a network with these inputs in a step."""
    return inputs[0].shape if len(inputs) == 1 else (sum(prod(node.shape) for node in inputs),)


def places(inputs: Sequence[Input]) -> Iterator[tuple[Input, slice]]:
    """Each input with its elements among all that enter."""
    first = 0
    for node in inputs:
        last = first + prod(node.shape)
        yield node, slice(first, last)
        first = last


def parts(graph: Graph, data: Array) -> dict[str, Array]:
    """What each input receives of ``data``, by name: (samples, steps, *its shape)."""
    inputs = graph.of_type(Input)
    if len(inputs) == 1:
        return {inputs[0].name: data}
    lead = data.shape[:2]
    return {
        node.name: data[..., place].reshape(*lead, *node.shape) for node, place in places(inputs)
    }


def together(graph: Graph, received: Mapping[str, Array]) -> Array:
    """The inverse of `parts`.

    Raises:
        QspinnError: An input is missing, there are others, or their shapes do not fit.
    """
    inputs = graph.of_type(Input)
    names = [node.name for node in inputs]
    if sorted(names) != sorted(received):
        raise QspinnError(
            f"has the inputs {', '.join(names)}, the data are for {', '.join(received)}",
            at=graph.name,
        )
    for node in inputs:
        found = received[node.name]
        lead = received[names[0]].shape[:2]
        if found.ndim < 2 or found.shape != (*lead, *node.shape):
            wanted = "(samples, steps, " + ", ".join(map(str, node.shape)) + ")"
            raise QspinnError(
                f"data of shape {found.shape} are not {wanted}, for all inputs as many samples "
                f"and steps as {names[0]} has: {lead}",
                at=node.name,
            )
    if len(inputs) == 1:
        return received[names[0]]
    return np.concatenate([received[n].reshape(*lead, -1) for n in names], axis=2)
