"""A layer of neurons as a C loop: the typed list, printed, and what it reads and stores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from qspinn.ir import Neuron
from qspinn.printer import Dialect, Printed, avr_dialect, c_dialect, c_type, render
from qspinn.program import Program, TypedOp

from .layout import CType, Member
from .names import Names, quoted
from .network import Load, Start, Update, Write
from .quiet import HELD, Calm, needed, quiet

# What the loop of templates/mcu/stages/update.c.j2 calls its own variables.
_LOCALS = frozenset(
    {"s", "i", "j", "channel", "place", "fired", "step", "first", "rows", "count", "end"}
) | {"sum", "sums", "lanes", "tile", "at", "n", "next"}


@dataclass
class _Leaves:
    """The leaves as local constants, each read once and before any store."""

    current: str
    members: Mapping[str, Member]
    params: Mapping[str, Start]
    prefix: str
    dialect: Dialect
    names: Names = field(default_factory=lambda: Names(_LOCALS))
    known: dict[str, str] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    literals: dict[str, str] = field(default_factory=dict)

    def __call__(self, op: TypedOp) -> str:
        key = f"{op.kind} {op.name}"
        if key not in self.known:
            self.known[key] = self.read(op)
        return self.known[key]

    def read(self, op: TypedOp) -> str:
        if op.kind == "input":
            return self.load(op, self.current)
        if op.kind == "state":
            member = self.members[op.name]
            narrows = member.type.bits == 64 and c_type(op.span) == "int32_t"
            code = member.read("i", self.prefix)
            return self.load(op, f"{'(int32_t)' if narrows else ''}{code}")
        start = self.params[op.name]
        if not start.varies:
            return c_dialect(self.prefix).number(start.literals[0])
        place = "i" if start.each == 1 else "channel"
        kind = CType(64 if c_type(op.span) == "int64_t" else 32, signed=True)
        return self.load(op, start.read(place, kind, self.prefix.upper()))

    def load(self, op: TypedOp, code: str) -> str:
        # t0, t1... are the printer's.
        name = f"{op.name}_" if re.fullmatch(r"t\d+", op.name) else op.name
        name = self.names.new(name)
        self.loads.append(Load(self.dialect.type_of(op.span), name, code))
        return name


def is_plain(op: TypedOp) -> bool:
    """Whether a value is read or constant, and not computed."""
    constant = op.span is not None and op.span.lo == op.span.hi
    return constant or op.kind in ("input", "state", "param", "const")


def update(
    node: Neuron,
    program: Program,
    *,
    name: str,
    prefix: str,
    current: str,
    members: Mapping[str, Member],
    params: Mapping[str, Start],
    sent: Member | None,
) -> Update:
    """The stage that updates the neurons of ``node``.

    Args:
        node: The layer.
        program: Its typed list.
        name: The C function.
        prefix: The network's.
        current: C for the input current of neuron ``i``.
        members: Where each state lies.
        params: Where each parameter is found.
        sent: The member that takes what is sent, unless that is a state anyway.
    """
    leaves = _Leaves(current, members, params, prefix, c_dialect(prefix))
    printed = render(program, leaves.dialect, leaves)
    narrow = _Leaves(current, members, params, prefix, avr_dialect(prefix))
    narrowly = render(program, narrow.dialect, narrow)
    writes = list(_kept(program, printed, leaves, members))
    mask = sent.name if sent is not None and program.sends == "spike" else ""
    if sent is not None and not mask:
        writes.append(Write(sent, printed.output, is_plain(program.ops[program.output])))
    size = int(np.prod(node.shape, dtype=np.int64))
    calm = _calm(program, printed, leaves, members, None if mask else sent)
    planes = [p.each for p in params.values() if p.varies and p.each > 1]
    return Update(
        name=name,
        title=f"{quoted(node.name)}: {size} {node.model.name} neurons, one step each.",
        size=size,
        plane=max(planes, default=0),
        stochastic=program.stochastic,
        loads=tuple(leaves.loads),
        lines=tuple(printed.lines),
        writes=tuple(writes),
        mask=mask,
        sent=printed.output,
        calm=calm,
        program=program,
        narrow=(tuple(narrow.loads), tuple(narrowly.lines)),
    )


def _calm(
    program: Program,
    printed: Printed,
    leaves: _Leaves,
    members: Mapping[str, Member],
    sent: Member | None,
) -> Calm | None:
    """A shorter way for neurons that send nothing, if there is one."""
    found = quiet(program)
    if found is None:
        return None
    name = f"t{found.value}"

    def leaf(op: TypedOp) -> str:
        return name if op.name == HELD else leaves(op)

    made = render(found.program, c_dialect(leaves.prefix), leaf, "q")
    # Compilers make no library call of a loop that stores on one of two ways only.
    writes = [
        Write(write.member, write.code, False)
        for write in _kept(found.program, made, leaves, members)
    ]
    if sent is not None:
        writes.append(Write(sent, made.output, False))
    first = needed(program, found.value)
    before = tuple(
        line for line in printed.lines if int(line.split(" = ")[0].split()[-1][1:]) in first
    )
    limit = c_dialect(leaves.prefix).number(found.below)
    return Calm(f"{name} < {limit}", before, tuple(made.lines), tuple(writes))


def _kept(
    program: Program, printed: Printed, leaves: _Leaves, members: Mapping[str, Member]
) -> Iterator[Write]:
    """The states that a step changes."""
    for state, code in printed.finals.items():
        if code != leaves.known.get(f"state {state}"):
            yield Write(members[state], code, is_plain(program.ops[program.finals[state]]))
