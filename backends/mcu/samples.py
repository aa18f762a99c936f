"""Samples as the bytes that executors read, and states as the bytes that they give back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qspinn.fixed import IntArray
from qspinn.interp import Trace
from qspinn.ir import Array

from .layout import WORD_BITS, words
from .network import Network, Port, Read

CHUNK_BYTES = 1 << 25
"""How much an executor may give back at once."""


@dataclass(frozen=True, eq=False)
class Event:
    """One step's input: the caller's arrays of `Port`."""

    indices: IntArray
    values: IntArray


def events(port: Port, data: Array) -> Iterator[Event]:
    """The input of each step of one sample (steps, size)."""
    for row in data:
        if port.kind == "current":
            yield Event(np.zeros(0, np.int64), row)
        else:
            (found,) = np.nonzero(row)
            yield Event(found, row[found])


def mask(port: Port, event: Event) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The events of a step as a bit for each input."""
    bits = np.zeros(words(port.size), np.uint32)
    ones = np.uint32(1) << (event.indices % WORD_BITS).astype(np.uint32)
    np.bitwise_or.at(bits, event.indices // WORD_BITS, ones)
    return bits


def encode(port: Port, data: IntArray) -> bytes:
    """A batch (batch, steps, size) as the words that templates/mcu/driver.c.j2 reads."""
    batch, steps = data.shape[:2]
    flat = data.reshape(batch * steps, -1)
    head = np.array([batch, steps], np.int64)
    if port.kind == "current":
        return _words(np.concatenate([head, flat.reshape(-1)]))
    row, index = np.nonzero(flat)
    counts = np.bincount(row, minlength=len(flat))
    copies = 2 if port.value else 1
    starts = np.cumsum(1 + copies * counts) - (1 + copies * counts)
    body = np.zeros(int((1 + copies * counts).sum()), np.int64)
    body[starts] = counts
    nth = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    body[starts[row] + 1 + nth] = index
    if port.value:
        body[starts[row] + 1 + counts[row] + nth] = flat[row, index]
    return _words(np.concatenate([head, body]))


def _words(values: IntArray) -> bytes:
    return (values & 0xFFFFFFFF).astype("<u4").tobytes()


def batches(network: Network, batch: int, steps: int) -> Iterator[slice]:
    """Parts of a batch whose states fit `CHUNK_BYTES`."""
    each = max(CHUNK_BYTES // max(steps * network.struct.bytes, 1), 1)
    for start in range(0, batch, each):
        yield slice(start, min(start + each, batch))


@dataclass(frozen=True, eq=False)
class Recording:
    """What an executor saw.

    Attributes:
        states: The structs after each step, (batch, steps).
        winners: The decision after the last step, (batch,).
        others: That of every further output, (batch, others).
    """

    states: np.ndarray[Any, Any]
    winners: IntArray
    others: IntArray = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def decode(network: Network, raw: bytes, batch: int, steps: int) -> Recording:
    """What templates/mcu/driver.c.j2 wrote."""
    states, winners = (network.struct.dtype(), (steps,)), ("<u4", (len(network.reads),))
    sample = np.dtype([("states", *states), ("winners", *winners)])
    found = np.frombuffer(raw, sample)
    if len(found) != batch:
        raise ValueError(f"{len(raw)} bytes are not {batch} samples of {sample.itemsize}")
    answers = found["winners"].astype(np.int64)
    return Recording(found["states"], answers[:, 0], answers[:, 1:])


def trace(network: Network, recording: Recording) -> Trace:
    """A recording as the trace of the interpreter."""
    batch, steps = recording.states.shape
    states = {
        name: member.values(recording.states[member.name]).reshape(
            batch, steps, *network.shapes[name]
        )
        for name, member in network.states.items()
    }
    return Trace(states, {read.output: left(network, read, recording) for read in network.reads})


def left(network: Network, read: Read, recording: Recording) -> Array:
    """What left through an output in every step."""
    edge = read.edge
    batch, steps = recording.states.shape
    held = recording.states[edge.at.removeprefix("s->")]
    if edge.kind == "mask":
        bits = held[..., :, None] >> np.arange(WORD_BITS, dtype=np.uint32) & np.uint32(1)
        held = bits.reshape(batch, steps, -1)[..., : edge.size]
    return held.astype(np.int64).reshape(batch, steps, *network.shapes[read.output])


def joined(parts: list[Recording]) -> Recording:
    """The recordings of the parts of a batch."""
    return Recording(
        np.concatenate([p.states for p in parts]), np.concatenate([p.winners for p in parts]),
        np.concatenate([p.others for p in parts]),
    )  # fmt: skip
