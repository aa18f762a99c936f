"""Shows samples to competing neurons, which count their spikes or learn from them.

Importing this file imports numba, if it is there; see `machine` for how it is written.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qspinn.ir import Array
from qspinn.stdp.compiled import compiled
from qspinn.stdp.machine import Cell, hashed, reset, rounded, step


class Events(NamedTuple):
    """Samples, one after the other; row ``r`` is step ``r % steps`` of sample ``r // steps``.

    Attributes:
        steps: Of a sample.
        offsets: The inputs that are active in row r are ``active[offsets[r]:offsets[r + 1]]``.
        active: See ``offsets``.
    """

    steps: int
    offsets: Array
    active: Array


class Wiring(NamedTuple):
    """What spikes do.

    Attributes:
        forward: The current of each neuron by an input's spike, (inputs, neurons).
        kept: Whether each input is heard, (inputs).
        lateral: The current of each neuron by another's spike, (neurons).
        line: The spikes on their way, (delay, neurons).
        sums: How many they are, (delay).
    """

    forward: Array
    kept: Array
    lateral: Array
    line: Array
    sums: Array


class Desk(NamedTuple):
    """What a step needs room for.

    Attributes:
        current: Of each neuron, in the type of the weights.
        heard: The inputs that are active and kept.
        last: The step of each input's last spike.
    """

    current: Array
    heard: Array
    last: Array


class Held(NamedTuple):
    """How learned numbers become what the network computes with.

    Attributes:
        unit: What 1 is worth in the format's integers, by neuron.
        points: The format's power of two.
        rounding: One of `machine`'s; -1: they are used as they are.
        low: The smallest integer of the format.
        high: The largest.
        times: What the integers are multiplied by, to a common binary point.
        draws: Where it is left to chance, what is added before rounding down.
    """

    unit: Array
    points: float
    rounding: int
    low: float
    high: float
    times: float
    draws: Array


class Learned(NamedTuple):
    """What learning changes.

    Attributes:
        weight: (neurons, inputs), float32.
        threshold: (neurons).
        worth: What a unit of the membrane potential stands for, by neuron.
    """

    weight: Array
    threshold: Array
    worth: Array


class Rule(NamedTuple):
    """`Recipe`'s numbers for one pass, for weights up to ``top`` that are multiples of 1 / grid."""

    rate: float
    rest: float
    offset: float
    activity: Array
    step: float
    goal: float
    length: float
    top: float
    grid: float
    done: float
    share: float


@compiled
def advance(events: Events, row: int, t: int, cell: Cell, wiring: Wiring, desk: Desk) -> int:
    """One step; how many spikes were sent."""
    gather(events, row, t, wiring, desk)
    place = t % wiring.line.shape[0]
    line, others = wiring.line[place], wiring.sums[place]
    drive = cell.rows[cell.current]
    for j in range(line.size):
        drive[j] = desk.current[j] + wiring.lateral[j] * (others - line[j])
    step(cell, t)
    sent = cell.rows[cell.sent]
    total = 0
    for j in range(line.size):
        line[j] = sent[j]
        total += int(sent[j])  # of integers, whose order is free, it becomes vector code
    wiring.sums[place] = total
    return total


@compiled
def gather(events: Events, row: int, t: int, wiring: Wiring, desk: Desk) -> None:
    """Add the weights of the active inputs, four at a time, always in their order."""
    current, heard, forward = desk.current, desk.heard, wiring.forward
    size = 0
    for e in range(events.offsets[row], events.offsets[row + 1]):
        i = events.active[e]
        if wiring.kept[i]:
            desk.last[i] = t
            heard[size] = i
            size += 1
    fours = size - size % 4
    current[:] = 0
    for e in range(0, fours, 4):
        a, b = forward[heard[e]], forward[heard[e + 1]]
        c, d = forward[heard[e + 2]], forward[heard[e + 3]]
        for j in range(current.size):
            current[j] = (((current[j] + a[j]) + b[j]) + c[j]) + d[j]
    for e in range(fours, size):
        a = forward[heard[e]]
        for j in range(current.size):
            current[j] += a[j]


@compiled
def desk_for(wiring: Wiring) -> Desk:
    """Room for one network."""
    inputs, neurons = wiring.forward.shape
    return Desk(
        np.zeros(neurons, wiring.forward.dtype), np.zeros(inputs, np.int64),
        np.zeros(inputs, np.int64),
    )  # fmt: skip


@compiled
def count(events: Events, cell: Cell, wiring: Wiring, counts: Array) -> None:
    """Add the spikes of each sample to its row of ``counts``."""
    neurons = counts.shape[1]
    desk = desk_for(wiring)
    for sample in range(counts.shape[0]):
        reset(cell)
        wiring.line[:] = 0
        wiring.sums[:] = 0
        for t in range(events.steps):
            row = sample * events.steps + t
            if advance(events, row, t, cell, wiring, desk) > 0:
                sent = cell.rows[cell.sent]
                for j in range(neurons):
                    counts[sample, j] += int(sent[j])


@compiled
def learn(
    events: Events, cell: Cell, wiring: Wiring, weights: Held, thresholds: Held, learned: Learned,
    rule: Rule,
) -> float:  # fmt: skip
    """Learn from every sample; how many spikes were sent."""
    neurons = learned.threshold.size
    samples = (events.offsets.size - 1) // events.steps
    desk = desk_for(wiring)
    moved = np.zeros(neurons, np.uint8)
    spikes = 0.0
    for sample in range(samples):
        left = 1.0 - (1.0 - rule.rest) * (rule.done + rule.share * sample)
        reset(cell)
        wiring.line[:] = 0
        wiring.sums[:] = 0
        desk.last[:] = -rule.activity.size
        for j in range(neurons):
            learned.threshold[j] -= left * rule.step * rule.goal / neurons
            hold_threshold(j, cell, thresholds, learned)
        for t in range(events.steps):
            row = sample * events.steps + t
            total = advance(events, row, t, cell, wiring, desk)
            if total > 0:
                spikes += total
                j = winner(cell, learned)
                learned.threshold[j] += left * rule.step
                hold_threshold(j, cell, thresholds, learned)
                potentiate(j, t, left * rule.rate, desk.last, rule, learned)
                hold_weights(j, wiring, weights, learned)
                moved[j] = 1
        for j in range(neurons):
            if moved[j]:
                restore(j, rule, learned)
                hold_weights(j, wiring, weights, learned)
                moved[j] = 0
    return spikes


@compiled
def winner(cell: Cell, learned: Learned) -> int:
    """Of the neurons that sent a spike, the one that is furthest above its threshold."""
    sent, high, low = (
        cell.rows[cell.sent], cell.rows[cell.reached[0]], cell.rows[cell.reached[1]],
    )  # fmt: skip
    best, most = 0, -np.inf
    for j in range(sent.size):
        if sent[j] > 0:
            margin = (high[j] - low[j]) * learned.worth[j]
            if margin > most:
                best, most = j, margin
    return best


@compiled
def potentiate(j: int, t: int, rate: float, last: Array, rule: Rule, learned: Learned) -> None:
    """Move a neuron's weights towards the inputs that were active just before its spike."""
    for i in range(last.size):
        age = t - last[i]
        active = rule.activity[age] if age < rule.activity.size else 0.0
        w = np.float64(learned.weight[j, i])
        move = active - rule.offset
        w += rate * move * (rule.top - w if move > 0 else w)
        learned.weight[j, i] = min(max(w, 0.0), rule.top)


@compiled
def restore(j: int, rule: Rule, learned: Learned) -> None:
    """Bring the vector of a neuron's weights back to its length, on the grid."""
    square = 0.0
    for i in range(learned.weight.shape[1]):
        w = np.float64(learned.weight[j, i])
        square += w * w
    if square == 0.0:
        return
    factor = rule.length / np.sqrt(square)
    for i in range(learned.weight.shape[1]):
        w = min(np.float64(learned.weight[j, i]) * factor, rule.top)
        learned.weight[j, i] = np.rint(w * rule.grid) / rule.grid


@compiled
def held(x: float, j: int, i: int, form: Held) -> float:
    """What the network computes with."""
    if form.rounding < 0:
        return x
    whole = rounded(x * form.unit[j] * form.points, form.rounding, form.draws[j, i])
    return min(max(whole, form.low), form.high) * form.times


@compiled
def hold_threshold(j: int, cell: Cell, form: Held, learned: Learned) -> None:
    """Give the network a neuron's threshold."""
    cell.rows[cell.threshold, j] = held(learned.threshold[j], j, 0, form)


@compiled
def hold_weights(j: int, wiring: Wiring, form: Held, learned: Learned) -> None:
    """Give the network a neuron's weights."""
    one_draw = form.draws.shape[1] == 1
    for i in range(wiring.kept.size):
        if wiring.kept[i]:
            x = np.float64(learned.weight[j, i])
            wiring.forward[i, j] = held(x, j, 0 if one_draw else i, form)


@compiled
def fired(
    key: Array, steps: int, index: Array, chance: Array, ends: Array, out: Array, offsets: Array
) -> int:
    """List the spikes of the rate encoder; see `encode.encode`, whose spikes these are.

    Args:
        key: Of each sample.
        steps: Of a sample.
        index: The inputs that are not 0, sample after sample.
        chance: Theirs, of 65536.
        ends: Where each sample's begin; and the end.
        out: Gets the inputs that are active, row after row.
        offsets: Gets where each row begins; and the end.
    """
    found = 0
    for sample in range(key.size):
        first, size = ends[sample], ends[sample + 1] - ends[sample]
        hits = np.zeros(size, np.uint8)
        own = hashed(0x243F6A88, int(key[sample]))
        for t in range(steps):
            offsets[sample * steps + t] = found
            now = hashed(own, t)
            for k in range(size):
                hits[k] = (hashed(now, int(index[first + k])) >> 16) < chance[first + k]
            for k in range(size):
                out[found] = index[first + k]
                found += int(hits[k])
    offsets[key.size * steps] = found
    return found
