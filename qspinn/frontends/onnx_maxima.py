"""Maxima of rates: neurons that have fired, after every step, as often as the busiest they watch.

Two inputs need one neuron, which remembers by how much one is ahead. A window is halved into two
windows that may overlap, first along the rows and then along the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd

import numpy as np

from qspinn.ir import Conv2d, MaxPool2d, Neuron, Node, Pair, Param, Shape, State
from qspinn.neurons import SECOND, larger
from qspinn.signals import Signal, infer

MAXIMA = ("exact", "or")
"""How a maximum over windows is taken: of the counts of spikes so far, or of a step's spikes."""
_WEIGHTS = np.array([1.0 - SECOND, SECOND])
_BETWEEN = 1.5
"""A threshold between what both inputs together and the first one alone bring."""


def counting(pool: MaxPool2d, shape: Shape, fresh: Callable[[str], str]) -> list[Node]:
    """The nodes that take a maximum of counts over windows; the last one has the pool's name.

    Args:
        pool: The maximum, of 0/1 spikes.
        shape: Of what it reads.
        fresh: Makes an unused name of one.
    """
    nodes: list[Node] = []
    read = pool.inputs[0]
    for axis in (1, 0):
        steps = halvings(pool.kernel[axis], pool.stride[axis])
        if not steps and pool.stride[axis] > 1:
            apart = _along(axis, pool.stride[axis], 1)
            nodes.append(MaxPool2d(name=fresh(f"{pool.name}_every"), inputs=(read,), kernel=(1, 1),
                                   stride=apart))  # fmt: skip
            read, shape = nodes[-1].name, _behind(nodes[-1], shape)
        for at, (apart_by, stride) in enumerate(steps):
            pairs = Conv2d(
                name=fresh(f"{pool.name}_pairs"), inputs=(read,), groups=shape[0],
                weight=Param(np.tile(_WEIGHTS.reshape(1, 1, *_along(axis, 2, 1)),
                                     (shape[0], 1, 1, 1))),
                dilation=_along(axis, apart_by, 1), stride=_along(axis, stride, 1),
                padding=_along(axis, 0 if at else pool.padding[axis], 0),
            )  # fmt: skip
            shape = _behind(pairs, shape)
            nodes += [pairs, _neurons(fresh(f"{pool.name}_larger"), pairs.name, shape)]
            read = nodes[-1].name
    assert nodes, "a window of one element is no maximum"
    return [*nodes[:-1], replace(nodes[-1], name=pool.name)]


def halvings(size: int, stride: int) -> list[tuple[int, int]]:
    """How far apart the two inputs of each neuron lie, and its stride, from the input on.

    Both count in elements of the level before. A window of ``size`` is two windows of half of it,
    rounded up; each level computes no more places than the next one reads.
    """
    if size == 1:
        return []
    half = (size + 1) // 2
    apart = size - half
    grid = gcd(apart, stride)
    return [*halvings(half, grid), (apart // grid, stride // grid)]


def neurons_of(nodes: list[Node]) -> int:
    """How many neurons some nodes have."""
    return sum(int(np.prod(node.shape)) for node in nodes if isinstance(node, Neuron))


def _along(axis: int, size: int, other: int) -> Pair:
    return (size, other) if axis == 0 else (other, size)


def _behind(node: Node, shape: Shape) -> Shape:
    return infer(node, (Signal(shape, "spike"),)).shape


def _neurons(name: str, source: str, shape: Shape) -> Neuron:
    values = {"threshold": Param(np.array(_BETWEEN))}
    return Neuron(name=name, inputs=(source,), shape=shape, model=larger(), values=values,
                  states={"v": State()})  # fmt: skip
