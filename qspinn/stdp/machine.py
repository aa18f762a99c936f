"""Steps neurons by their list of operations; importing this file imports numba, if it is there.

Integers are computed in float64, which holds them exactly up to 53 bits: one machine steps a
source list on real numbers and a typed list on integers. Written for numba and for plain Python
alike: scalars that meet are of one type, and nothing depends on how sums are grouped.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qspinn.ir import Array
from qspinn.stdp.compiled import compiled

NONE, ADD, SUB, MUL, LOW, HIGH, ABOVE, REACHES, SELECT, SHIFT, CLIP, WRAP = range(12)
FLOOR, ZERO, EVEN, AWAY, RANDOM = range(5)
_BELOW_HALF = 0.49999999999999994
_ALL = 0xFFFFFFFF


class Cell(NamedTuple):
    """One layer of neurons.

    Attributes:
        ops: A row for each operation: what it does, three operands by position, a rounding, and
            the key of its draws.
        ends: What ``CLIP`` and ``WRAP`` keep, the smallest and the largest; a row each.
        rows: The value of each operation, (operations, neurons); those of the leaves stay.
        current: The operation that is the input current.
        states: The operations that are the states.
        finals: The operations they are kept from.
        start: What the states start from, (states, neurons).
        sent: The operation that is sent.
        reached: The two operations whose comparison decides about a spike.
        threshold: The operation that is the threshold.
    """

    ops: Array
    ends: Array
    rows: Array
    current: int
    states: Array
    finals: Array
    start: Array
    sent: int
    reached: Array
    threshold: int


@compiled
def mixed(h: int) -> int:
    """`fixed.hash32`'s mixing, on integers below 2**32."""
    h = h ^ (h >> 16)
    h = (h * 0x85EBCA6B) & _ALL
    h = h ^ (h >> 13)
    h = (h * 0xC2B2AE35) & _ALL
    return h ^ (h >> 16)


@compiled
def hashed(h: int, word: int) -> int:
    """The hash ``h`` with one more word."""
    return mixed(h ^ ((word * 0x9E3779B1) & _ALL))


@compiled
def rounded(x: float, rounding: int, draw: float) -> float:
    """An integer; ``draw`` is from [0, 1) and decides where that is left to chance."""
    if rounding == FLOOR:
        return float(np.floor(x))
    if rounding == ZERO:
        return float(np.trunc(x))
    if rounding == EVEN:
        return float(np.rint(x))
    if rounding == AWAY:
        return float(np.copysign(np.floor(np.abs(x) + _BELOW_HALF), x))
    return float(np.floor(x + draw))


@compiled
def reset(cell: Cell) -> None:
    """Begin a sample."""
    for s in range(cell.states.size):
        cell.rows[cell.states[s]] = cell.start[s]


@compiled
def step(cell: Cell, t: int) -> None:
    """Step ``t`` of all neurons, whose input currents lie in their row."""
    rows = cell.rows
    for o in range(cell.ops.shape[0]):
        kind = cell.ops[o, 0]
        x, y, z = rows[cell.ops[o, 1]], rows[cell.ops[o, 2]], rows[o]
        if kind == NONE:
            continue
        if kind <= MUL:
            combine(kind, x, y, z)
        elif kind <= REACHES:
            compare(kind, x, y, z)
        elif kind == SELECT:
            other = rows[cell.ops[o, 3]]
            for j in range(z.size):
                z[j] = y[j] if x[j] != 0.0 else other[j]
        elif kind == SHIFT:
            shift(cell.ops[o], x, y, z, t)
        else:
            fit(kind, cell.ends[o, 0], cell.ends[o, 1], x, z)
    for s in range(cell.states.size):
        rows[cell.states[s]] = rows[cell.finals[s]]


# Each operation is a loop of its own: so it becomes vector code.


@compiled
def combine(kind: int, x: Array, y: Array, z: Array) -> None:
    """Add, subtract or multiply."""
    if kind == ADD:
        for j in range(z.size):
            z[j] = x[j] + y[j]
    elif kind == SUB:
        for j in range(z.size):
            z[j] = x[j] - y[j]
    else:
        for j in range(z.size):
            z[j] = x[j] * y[j]


@compiled
def compare(kind: int, x: Array, y: Array, z: Array) -> None:
    """The smaller, the larger, or 1 where the first is above the second or reaches it."""
    if kind == LOW:
        for j in range(z.size):
            z[j] = min(x[j], y[j])
    elif kind == HIGH:
        for j in range(z.size):
            z[j] = max(x[j], y[j])
    elif kind == ABOVE:
        for j in range(z.size):
            z[j] = 1.0 if x[j] > y[j] else 0.0
    else:
        for j in range(z.size):
            z[j] = 1.0 if x[j] >= y[j] else 0.0


@compiled
def shift(op: Array, x: Array, y: Array, z: Array, t: int) -> None:
    """Multiply by a power of two, ``y``, up to 1 and round."""
    rounding = op[4]
    if rounding == RANDOM:
        key = hashed(hashed(0x243F6A88, int(op[5])), t)
        for j in range(z.size):
            noise = np.floor(hashed(key, j) / (4294967296.0 * y[j]))
            z[j] = np.floor((x[j] + noise) * y[j])
    elif rounding == FLOOR:
        for j in range(z.size):
            z[j] = np.floor(x[j] * y[j])
    elif rounding == EVEN:
        for j in range(z.size):
            z[j] = np.rint(x[j] * y[j])
    else:
        for j in range(z.size):
            z[j] = rounded(x[j] * y[j], rounding, 0.0)


@compiled
def fit(kind: int, low: float, high: float, x: Array, z: Array) -> None:
    """Keep integers between two ends, by clipping or modulo the length of the range."""
    if kind == CLIP:
        for j in range(z.size):
            z[j] = min(max(x[j], low), high)
        return
    size = high - low + 1.0
    for j in range(z.size):
        z[j] = x[j] - size * np.floor((x[j] - low) / size)


def kinds() -> dict[str, int]:
    """What the operations of source lists and typed lists are called here; masks are 0 and 1."""
    return {
        "add": ADD, "sub": SUB, "mul": MUL, "shl": MUL, "and": MUL, "min": LOW, "store": LOW,
        "max": HIGH, "or": HIGH, "gt": ABOVE, "ge": REACHES, "not": REACHES, "select": SELECT,
        "shr": SHIFT,
    }  # fmt: skip
