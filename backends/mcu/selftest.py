"""The self-test: a recorded input, and digests of what the reference makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qspinn.backend import Sample
from qspinn.fixed import IntArray, Interval
from qspinn.interp import Trace, run
from qspinn.ir import Array, Graph, Output
from qspinn.readout import predict, summarize

from .emit import passed
from .layout import WORD_BITS, CType, Member, Table, holding
from .names import quoted
from .network import Network, Port, Read
from .samples import Event, events, mask

MOST_BYTES = 1 << 15
"""What the recorded input may take in flash; longer samples are cut."""

Row = tuple[IntArray, ...]
"""What is in the buffers of a step."""
_DIGEST = CType(32, signed=False)


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array of the caller's that a step reads: its name, its type, what it holds."""

    name: str
    type: CType
    what: str


@dataclass(frozen=True, slots=True)
class Part:
    """A loop of the digest: so many values, C for value ``i``, and what they are."""

    count: int
    code: str
    note: str


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A recorded sample as templates print it.

    Attributes:
        origin: Where it comes from.
        steps: Its length.
        most: The most events in a step, and at least 1; else the words or the values.
        unit: What is counted: ``EVENTS``, ``WORDS`` or ``VALUES``.
        winner: The decision after the last step.
        others: The same of every further output.
        label: What the data say it is; None where nobody says.
        buffers: What a step reads, in the order of its arguments.
        tables: The input and the digests.
        parts: What a digest adds up.
    """

    origin: str
    steps: int
    most: int
    unit: str
    winner: int
    others: tuple[tuple[Read, int], ...]
    label: int | None
    buffers: tuple[Buffer, ...]
    tables: tuple[Table, ...]
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Its constants."""
        return sum(table.bytes for table in self.tables)

    @property
    def repeats(self) -> bool:
        """Whether steps share their input."""
        return any(table.name.endswith("_sample_rows") for table in self.tables)

    @property
    def starts(self) -> bool:
        """Whether steps differ in length."""
        return any(table.name.endswith("_sample_starts") for table in self.tables)

    @property
    def constant(self) -> bool:
        """Whether all steps have one input."""
        rows = [t for t in self.tables if t.name.endswith("_sample_rows")]
        return self.steps == 1 or any(not table.values.any() for table in rows)

    @property
    def passed(self) -> str:
        """The buffers as arguments that follow another."""
        return "".join(f", {buffer.name}" for buffer in self.buffers)


def buffers(port: Port) -> tuple[Buffer, ...]:
    """What a caller fills before a step, or before loading it."""
    if port.form == "mask":
        return (Buffer("mask", CType(WORD_BITS, signed=False), "words of bits"),)
    found = []
    if port.form == "events":
        found.append(Buffer("events", port.index, "indices"))
    if port.value is not None:
        found.append(Buffer("values", port.value, "values"))
    return tuple(found)


def content(port: Port, event: Event) -> Row:
    """What is in the buffers of a step."""
    if port.form == "mask":
        return (mask(port, event).astype(np.int64),)
    found = [event.indices] if port.form == "events" else []
    return (*found, event.values) if port.value is not None else tuple(found)


def unit_of(port: Port) -> str:
    """What a step's input is counted in."""
    return {"events": "EVENTS", "mask": "WORDS"}.get(port.form, "VALUES")


def given(port: Port) -> str:
    """The arguments of a step after the state, with the comma before them."""
    return "" if port.form == "load" else f", {passed(port)}"


def self_test(network: Network, graph: Graph, sample: Sample) -> SelfTest:
    """What the reference makes of a sample.

    Args:
        network: Made from ``graph``.
        graph: The legalized graph.
        sample: Its input; what exceeds `MOST_BYTES` is cut off at the end.
    """
    port, prefix = network.port, network.prefix
    rows = [content(port, e) for e in events(port, sample.data.reshape(-1, port.size))]
    unique, places = shared(rows)
    steps = fitting(port, unique, places)
    told = quoted(sample.origin)[1:-1]
    if steps < len(rows):
        told = f"{told}, its first {steps} steps"
    trace = run(graph, sample.data[None, :steps])
    winner, *others = (
        int(predict(node, summarize(graph, trace, node))[0]) for node in graph.of_type(Output)
    )
    digests = Table(
        f"{prefix}_selftest_digests", _DIGEST, digest(network, trace), "self-test", "",
        "What the states and outputs add up to after each step.", align=_DIGEST.bytes,
    )  # fmt: skip
    return SelfTest(
        origin=told,
        steps=steps,
        most=max(1, *(len(row[0]) for row in rows[:steps])),
        unit=unit_of(port),
        winner=winner,
        others=tuple(zip(network.others, others, strict=True)),
        label=sample.label,
        buffers=buffers(port),
        tables=(digests, *input_tables(network, unique, places[:steps])),
        parts=tuple(parts(network)),
    )


def shared(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """The different inputs in order of appearance, and which of them each step has."""
    unique: list[Row] = []
    known: dict[tuple[bytes, ...], int] = {}
    places = []
    for row in rows:
        code = tuple(array.tobytes() for array in row)
        if code not in known:
            known[code] = len(unique)
            unique.append(row)
        places.append(known[code])
    return unique, places


def fitting(port: Port, unique: Sequence[Row], places: Sequence[int]) -> int:
    """How many steps of a sample fit `MOST_BYTES`; at least one."""
    sizes = [
        sum(len(array) * b.type.bytes for array, b in zip(row, buffers(port), strict=True))
        for row in unique
    ]
    within = int((np.cumsum(sizes) <= MOST_BYTES).sum())
    return max(1, next((t for t, place in enumerate(places) if place >= within), len(places)))


def input_tables(network: Network, unique: Sequence[Row], places: Sequence[int]) -> list[Table]:
    """The input of each step; what several steps share is stored once."""
    port, used = network.port, unique[: max(places) + 1]
    arrays: dict[str, tuple[IntArray, str]] = {}
    if len(used) < len(places):
        arrays["rows"] = np.array(places, np.int64), "Which input each step has."
    if port.form == "events":
        starts = np.cumsum([0, *(len(row[0]) for row in used)])
        arrays["starts"] = starts, "Where each input begins and the one before ends."
    for i, buffer in enumerate(buffers(port)):
        note = f"The {buffer.what} of all inputs."
        arrays[buffer.name] = _joined([row[i] for row in used]), note
    types = {buffer.name: buffer.type for buffer in buffers(port)}
    made = []
    for name, (values, note) in arrays.items():
        kind, title = types.get(name) or holding(_span(values)), f"{network.prefix}_sample_{name}"
        made.append(Table(title, kind, values, "self-test", "", note, kind.bytes))
    return made


def _joined(arrays: Sequence[IntArray]) -> IntArray:
    """All of them in a row; one zero where they are empty, since C has no empty arrays."""
    joined: IntArray = np.concatenate(arrays)
    return joined if joined.size else np.zeros(1, np.int64)


def _span(values: IntArray) -> Interval:
    return Interval(int(values.min()), int(values.max()))


def parts(network: Network) -> list[Part]:
    """What a digest adds up, in the order of `digest`."""
    found = []
    for name, member in network.states.items():
        code = f"(uint32_t)({member.read('i', network.prefix)})"
        found.append(Part(member.count, code, quoted(name)))
    for read in network.reads:
        output = f"(uint32_t){network.prefix}_{read.start}output(s, i)"
        note = "what left the network" + (f" as {read.word}" if read.word else "")
        found.append(Part(read.edge.size, output, note))
    return found


def as_stored(member: Member, values: Array) -> Array:
    """The values of a state (steps, *shape) in the order in which `Member.read` finds them."""
    places = replace(member, lane=None).values(np.arange(member.count))
    stored = np.empty((len(values), member.count), np.int64)
    stored[:, places] = values.reshape(len(values), -1)
    return stored


def digest(network: Network, trace: Trace) -> IntArray:
    """What states and outputs add up to after each step of a batch of one."""
    flat = [as_stored(member, trace.states[name][0]) for name, member in network.states.items()]
    sent = (trace.outputs[read.output][0] for read in network.reads)
    flat += [values.reshape(len(values), -1) for values in sent]
    values = (np.concatenate(flat, axis=1).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)
    k = np.arange(values.shape[1], dtype=np.uint32)
    h = values ^ (k * np.uint32(0x9E3779B1))
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h = h ^ (h >> np.uint32(16))
    total: IntArray = h.sum(axis=1, dtype=np.uint32).astype(np.int64)
    return total
