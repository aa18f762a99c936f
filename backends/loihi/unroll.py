"""Connections written out as sparse matrices between flat signals (C order)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import IntArray
from qspinn.ir import Conv1d, Conv2d, Lateral, Linear, Node, Pair, Scale, Shape, SumPool2d
from qspinn.signals import window

from .lateral import matrix
from .reasons import Unfit

_MOST_TERMS = 1 << 26


@dataclass(frozen=True, eq=False)
class Sparse:
    """Non-zero weights from input ``columns[k]`` to output ``rows[k]``, sorted by row."""

    rows: IntArray
    columns: IntArray
    values: IntArray
    shape: tuple[int, int]

    def dense(self) -> IntArray:
        """The matrix (outputs, inputs)."""
        full = np.zeros(self.shape, np.int64)
        full[self.rows, self.columns] = self.values
        return full


def from_dense(matrix: IntArray) -> Sparse:
    """The non-zero entries, row by row."""
    rows, columns = np.nonzero(matrix)
    return sparse(rows, columns, matrix[rows, columns], (matrix.shape[0], matrix.shape[1]))


def sparse(rows: IntArray, columns: IntArray, values: IntArray, shape: tuple[int, int]) -> Sparse:
    """A matrix of entries sorted by row; one without any gets a zero, for Lava needs an entry."""
    if not values.size:
        rows = columns = values = np.zeros(1, np.int64)
    return Sparse(rows, columns, values, shape)


def unroll(node: Node, weights: IntArray, shape: Shape) -> Sparse:
    """The matrix of a connection that reads a signal of ``shape``; ``weights`` are its integers."""
    if isinstance(node, Linear):
        return from_dense(weights)
    if isinstance(node, Scale):
        return diagonal(np.broadcast_to(weights, shape).reshape(-1))
    if isinstance(node, Lateral):
        size = int(np.prod(shape, dtype=np.int64))
        if size * size > _MOST_TERMS:
            raise Unfit(
                f"as a matrix it has {size} x {size} synapses, the limit is {_MOST_TERMS}",
                hint="with a step more of delay before it one neuron stands for it",
            )
        return from_dense(matrix(weights, shape))
    if isinstance(node, Conv1d):
        return _conv(
            weights[:, :, None, :], (shape[0], 1, shape[1]), (1, node.stride), (0, node.padding),
            (1, node.dilation), node.groups,
        )  # fmt: skip
    assert isinstance(node, Conv2d), "the connections"
    image = (shape[0], shape[1], shape[2])
    return _conv(weights, image, node.stride, node.padding, node.dilation, node.groups)


def diagonal(values: IntArray) -> Sparse:
    """A connection from each to itself."""
    (index,) = np.nonzero(values)
    return sparse(index, index, values[index], (values.size, values.size))


def unroll_pool(node: SumPool2d, shape: Shape) -> Sparse:
    """The matrix of ones of a sum over windows."""
    ones = np.ones((shape[0], 1, *node.kernel), np.int64)
    image = (shape[0], shape[1], shape[2])
    return _conv(ones, image, node.stride, node.padding, (1, 1), shape[0])


def compose(second: Sparse, first: Sparse) -> Sparse:
    """The matrix product ``second @ first``.

    Raises:
        Unfit: It would take too many terms to write out.
    """
    starts = np.searchsorted(first.rows, np.arange(first.shape[0] + 1))
    counts = (starts[1:] - starts[:-1])[second.columns]
    terms = int(counts.sum())
    if terms > _MOST_TERMS:
        raise Unfit(f"its pool and weights make {terms} synapses, the limit is {_MOST_TERMS}")
    each = np.repeat(np.arange(second.rows.size), counts)
    within = np.arange(terms) - np.repeat(np.cumsum(counts) - counts, counts)
    picked = starts[second.columns[each]] + within
    keys = second.rows[each] * first.shape[1] + first.columns[picked]
    found, place = np.unique(keys, return_inverse=True)
    values = np.zeros(found.size, np.int64)
    np.add.at(values, place.reshape(-1), second.values[each] * first.values[picked])
    kept = values != 0
    rows, columns = np.divmod(found[kept], first.shape[1])
    return sparse(rows, columns, values[kept], (second.shape[0], first.shape[1]))


def _conv(
    weights: IntArray,
    shape: tuple[int, int, int],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Sparse:
    outs, per_group, kh, kw = weights.shape
    channels, height, width = shape
    ys = window(height, kh, stride[0], padding[0], dilation[0])
    xs = window(width, kw, stride[1], padding[1], dilation[1])
    o, c, i, j, y, x = np.meshgrid(
        *(np.arange(n) for n in (outs, per_group, kh, kw, ys, xs)), indexing="ij"
    )
    sy = y * stride[0] - padding[0] + i * dilation[0]
    sx = x * stride[1] - padding[1] + j * dilation[1]
    value = np.broadcast_to(weights[:, :, :, :, None, None], o.shape)
    real = (sy >= 0) & (sy < height) & (sx >= 0) & (sx < width) & (value != 0)
    group = o // (outs // groups)
    column = ((group * per_group + c) * height + sy) * width + sx
    row = (o * ys + y) * xs + x
    row, column, value = row[real], column[real], value[real]
    order = np.lexsort((column, row))
    size = (outs * ys * xs, channels * height * width)
    return sparse(row[order], column[order], value[order], size)
