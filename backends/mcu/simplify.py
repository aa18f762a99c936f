"""Shorter typed lists that mean the same: what the intervals decide is decided here, once.

A compiler would find most of this too, and then drop a table that the footprint counts, or warn.
"""

from __future__ import annotations

from dataclasses import replace

from qspinn.fixed import Interval
from qspinn.program import Program, TypedOp


def simplified(program: Program) -> Program:
    """The list with constants folded, decided choices made, and nothing that is not needed."""
    ops: list[TypedOp] = []
    at: list[int] = []
    for op in program.ops:
        op = replace(op, args=tuple(at[j] for j in op.args))
        alias = _alias(op, ops)
        if alias is None:
            ops.append(_folded(op, ops))
            alias = len(ops) - 1
        at.append(alias)
    finals = {name: at[i] for name, i in program.finals.items()}
    return pruned(replace(program, ops=tuple(ops), finals=finals, output=at[program.output]))


def _mask(value: bool) -> TypedOp:
    return TypedOp("const", value=int(value))


def _folded(op: TypedOp, ops: list[TypedOp]) -> TypedOp:
    """``op``, or the constant that it is."""
    if op.span is not None:
        constant = op.span.lo == op.span.hi and op.kind != "const"
        return TypedOp("const", value=op.span.lo, frac=op.frac, span=op.span) if constant else op
    decided = _decided(op, ops)
    return op if decided is None else _mask(decided)


def _decided(op: TypedOp, ops: list[TypedOp]) -> bool | None:
    """What a mask always is, if that is known."""
    args = [ops[j] for j in op.args]
    if op.kind in ("gt", "ge"):
        return _compared(op, args[0].span, args[1].span)
    known = [bool(a.value) if a.kind == "const" else None for a in args]
    if op.kind == "not":
        return None if known[0] is None else not known[0]
    if op.kind in ("and", "or"):
        decisive = op.kind == "or"
        if decisive in known:
            return decisive
        return not decisive if None not in known else None
    return None


def _compared(op: TypedOp, x: Interval | None, y: Interval | None) -> bool | None:
    assert x is not None, "values are compared"
    assert y is not None, "values are compared"
    if op.args[0] == op.args[1]:
        return op.kind == "ge"
    gap = 1 if op.kind == "gt" else 0
    if x.lo >= y.hi + gap:
        return True
    return False if x.hi < y.lo + gap else None


def _alias(op: TypedOp, ops: list[TypedOp]) -> int | None:
    """The earlier operation whose value ``op`` always has, if there is one."""
    if op.kind == "select":
        mask, yes, no = op.args
        if ops[mask].kind == "const":
            return yes if ops[mask].value else no
        return yes if yes == no else None
    if op.kind in ("and", "or"):
        for this, other in (op.args, op.args[::-1]):
            if ops[this].kind == "const" and bool(ops[this].value) == (op.kind == "and"):
                return other
        return op.args[0] if op.args[0] == op.args[1] else None
    if op.kind in ("min", "max"):
        return _chosen(op, ops)
    return None


def _chosen(op: TypedOp, ops: list[TypedOp]) -> int | None:
    """The operand that a minimum or maximum always is, if their intervals tell."""
    for this, other in (op.args, op.args[::-1]):
        x, y = ops[this].span, ops[other].span
        assert x is not None, "values are ordered"
        assert y is not None, "values are ordered"
        if this == other or (x.hi <= y.lo if op.kind == "min" else x.lo >= y.hi):
            return this
    return None


def pruned(program: Program) -> Program:
    """The list without operations that nothing reads, which a C compiler would warn of."""
    needed = {*program.finals.values(), program.output}
    for i in reversed(range(len(program.ops))):
        if i in needed:
            needed.update(program.ops[i].args)
    order = sorted(needed)
    moved = {old: new for new, old in enumerate(order)}
    ops = tuple(
        replace(program.ops[i], args=tuple(moved[j] for j in program.ops[i].args)) for i in order
    )
    finals = {name: moved[i] for name, i in program.finals.items()}
    return replace(program, ops=ops, finals=finals, output=moved[program.output])
