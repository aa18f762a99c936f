"""The plan: how each parameter and state is stored, separate from the graph, as readable text.

A line is ``path  format  rounding  overflow  role``. Paths name nodes of the canonical graph:
``fc1.weight``, ``lif1.v``, ``lif1.threshold``, ``lif1.decay``. ``lif1.scale`` holds the positive
factors that multiply everything in the scale group of those neurons before formats apply; one
number, or one for each channel or neuron, stored exactly. ``input.active`` names the inputs that
are listened to, as indices and ranges; without such a line all are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qspinn.errors import PlanError
from qspinn.fixed import FloatArray, IntArray, Overflow, QFormat, Rounding

ROLES = ("free", "fixed", "shared", "derived")
HEAD = "# qspinn plan 1"
_MOST_INPUTS = 1 << 24
RATE, HEARD, STEPS = "rate.", "heard.", "typical_steps"
SILENT, PAIRS, EDGES = "silent.", "pairs.", "edges."
ACTIVITY = (RATE, HEARD, SILENT, PAIRS, EDGES)
"""What keys of options begin with that say how busy a node is."""
"""How options begin that hold an activity, and the one for steps that no encoder gives."""
KERNEL = "kernel."
"""How options begin that say which kernel of the target does a connection, to the same bits."""
OPTIONS = ("encode", "steps", "gain", "seed", "raw", "input", STEPS)
INPUTS = ("events", "mask", "values", "load")
"""How a step is given input: lists, bits, or values, in each step or once for all of them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How one parameter or state is stored.

    ``rounding`` is the offline rounding of a constant; of a state the rounding of each store, and
    of a decay the rounding of its product (its own value is rounded to nearest even).
    ``role``: free, fixed (by the target), shared (with the state it is compared with) or derived
    (proved by interval analysis; shown, never read). ``note`` is a comment. A neuron's ``input``
    is derived, unless the plan makes its sums coarser: then it rounds down.
    """

    fmt: QFormat
    rounding: Rounding = Rounding.NEAREST_EVEN
    overflow: Overflow = Overflow.ERROR
    role: str = "free"
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Entries by path, scales by node, and how inputs become spikes.

    Attributes:
        entries: Formats by path.
        scales: Factors by neuron node; shape () or (channels,) or the layer's shape, flat.
        options: ``encode``, ``steps``, ``gain``, ``seed``, ``raw``: the encoder; ``input``: one of
            INPUTS, or what suits the network; ``assume.<node>``: the observed peak of
            a summed input whose range could not be proved; ``kernel.<connection>``: by which of
            the target's kernels; the activity that costs are told for (see `qspinn.cost`);
            words only.
        active: By input node the flat indices of the inputs kept, ascending; events at others are
            ignored. An input that is not named keeps all.
    """

    entries: Mapping[str, Entry]
    scales: Mapping[str, FloatArray] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    active: Mapping[str, IntArray] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Entry:
        try:
            return self.entries[path]
        except KeyError:
            raise PlanError("the plan gives it no format", at=path) from None

    def with_notes(self, notes: Mapping[str, str]) -> Plan:
        """This plan with comments at some of its entries, beside those that are there."""
        noted: dict[str, Entry] = {}
        for path, note in notes.items():
            entry = self.entries[path]
            if note not in entry.note:
                joined = f"{entry.note}, {note}" if entry.note else note
                noted[path] = replace(entry, note=joined)
        return self.with_entries(noted)

    def with_entries(self, changed: Mapping[str, Entry]) -> Plan:
        """This plan with some entries added or replaced."""
        return replace(self, entries={**self.entries, **changed})

    @property
    def assumed(self) -> dict[str, int]:
        """Observed peaks of summed inputs that a target relies on, by neuron node.

        Raises:
            PlanError: One is no number.
        """
        marks = {k: v for k, v in self.options.items() if k.startswith("assume.")}
        try:
            return {k.partition(".")[2]: int(v) for k, v in marks.items()}
        except ValueError as error:
            raise PlanError(f"an assumed peak is a whole number: {error}") from error

    def text(self) -> str:
        """The plan as text; `parse` is the inverse."""
        lines = [HEAD]
        lines += [f"option {key} = {value}" for key, value in sorted(self.options.items())]
        width = max((len(p) for p in (*self.entries, *self.scales)), default=0) + 2
        owners: dict[str, list[str]] = {}
        for path, entry in self.entries.items():
            owners.setdefault(path.rpartition(".")[0], []).append(_line(path, entry, width))
        for node, factors in self.scales.items():
            numbers = " ".join(repr(float(x)) for x in np.ravel(factors))
            owners.setdefault(node, []).insert(0, f"{node + '.scale':<{width + 6}} {numbers}")
        inputs = {
            node: [f"{node + '.active':<{width + 6}} {_ranges(kept)}", *owners.pop(node, [])]
            for node, kept in self.active.items()
        }
        owners = {**inputs, **owners}
        for rows in owners.values():
            lines += ["", *rows]
        return "\n".join(lines) + "\n"


def _line(path: str, entry: Entry, width: int) -> str:
    words = f"{path:<{width}} {entry.fmt!s:<28} {entry.rounding!s:<13} {entry.overflow!s:<9}"
    note = f"  # {entry.note}" if entry.note else ""
    return f"{words} {entry.role}{note}".rstrip()


def parse(text: str) -> Plan:
    """Read a plan.

    Raises:
        PlanError: A line cannot be read, or says again what another says; the error gives its
            number.
    """
    seen: dict[str, int] = {}
    entries: dict[str, Entry] = {}
    scales: dict[str, FloatArray] = {}
    options: dict[str, str] = {}
    active: dict[str, IntArray] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line, _, note = raw.partition("#")
        words = line.split()
        if not words:
            continue
        name = line.partition("=")[0].strip() if words[0] == "option" else words[0]
        try:
            if name in seen:
                raise PlanError(f"line {seen[name]} gives {name} already")
            seen[name] = number
            if words[0] == "option":
                key, _, value = line.partition("option")[2].partition("=")
                options[_option(key.strip())] = value.strip()
            elif words[0].endswith(".active"):
                active[words[0][: -len(".active")]] = _indices(words[1:])
            elif words[0].endswith(".scale"):
                scales[words[0][: -len(".scale")]] = _factors(words[1:])
            else:
                entries[words[0]] = _entry(words[1:], note.strip())
        except (ValueError, IndexError, PlanError) as error:
            raise PlanError(f"line {number}: {raw.strip()!r}: {error}") from error
    return Plan(entries, scales, options, active)


def _option(key: str) -> str:
    if key not in OPTIONS and not key.startswith(("assume.", *ACTIVITY, KERNEL)):
        raise PlanError(
            f"an option is {', '.join(OPTIONS)}, or assume., rate., heard., silent., "
            "pairs., edges. or kernel.<node>"
        )
    return key


def _factors(words: list[str]) -> FloatArray:
    factors = np.array([float(w) for w in words])
    if not factors.size or not (np.isfinite(factors).all() and (factors > 0).all()):
        raise PlanError("a scale is a positive number")
    return factors[0].reshape(()) if factors.size == 1 else factors


def _ranges(kept: IntArray) -> str:
    """Ascending indices as ``13-15 20``; ``none`` where there are none."""
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1) if kept.size else []
    words = (f"{run[0]}-{run[-1]}" if run.size > 1 else f"{run[0]}" for run in runs)
    return " ".join(words) or "none"


def _indices(words: list[str]) -> IntArray:
    if not words:
        raise PlanError("needs indices and ranges, such as 13-15 20, or none")
    if words == ["none"]:
        return np.zeros(0, np.int64)
    found: list[int] = []
    for word in words:
        first, dash, last = word.partition("-")
        run = range(int(first), int(last if dash else first) + 1)
        if not run or (found and run[0] <= found[-1]):
            raise PlanError("indices and ranges ascend", hint="write 13-15 20 22-40")
        if run[-1] >= _MOST_INPUTS:
            raise PlanError(f"an index lies below {_MOST_INPUTS}, not at {run[-1]}")
        found.extend(run)
    return np.array(found, np.int64)


def _entry(words: list[str], note: str) -> Entry:
    if len(words) < 3:
        raise PlanError("needs a format, a rounding and an overflow")
    fmt, rounding, overflow, *role = words
    if role and role[0] not in ROLES:
        raise PlanError(f"a role is one of {', '.join(ROLES)}")
    return Entry(
        QFormat.parse(fmt),
        Rounding(rounding),
        Overflow(overflow),
        role[0] if role else "free",
        note,
    )
