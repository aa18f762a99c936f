"""Interval analysis of typed lists: the proof that no value leaves its width.

Two correlations that plain intervals lose are kept: the arms of a select are evaluated under its
comparison (without that, a subtracting reset never bounds the membrane), and x - (x >> k) is
evaluated as the monotone function of x that it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qspinn.errors import QuantizeError
from qspinn.fixed import WORD, Interval, Overflow, Rounding
from qspinn.program import TypedOp

Spans = list[Interval | None]
Ops = Sequence[TypedOp]


def evaluate(ops: Ops, leaves: Mapping[str, Interval]) -> Spans:
    """The interval of every value, given those of the leaves (``a``, states, parameters)."""
    spans: Spans = []
    for i, op in enumerate(ops):
        spans.append(_span(ops, i, spans, leaves))
        span = spans[-1]
        if span is not None and span.signed_bits > WORD:
            raise QuantizeError(
                f"{op.kind} needs {span.signed_bits} bits, the limit is {WORD}",
                hint="give the state or the decay fewer fraction bits",
            )
    return spans


def fixpoint(
    ops: Ops,
    finals: Mapping[str, int],
    start: Mapping[str, Interval],
    leaves: Mapping[str, Interval],
    steps: int | None,
) -> tuple[Spans, bool]:
    """Iterate from the initial states until nothing grows, or for ``steps`` steps.

    Returns:
        The interval of every value, and whether it holds for ever (else for ``steps`` steps).
        Terminates because every store clips to a finite range in the list that is analysed.
    """
    states = dict(start)
    rounds = 0
    limit = min(steps, 2000) if steps is not None else 2000
    while True:
        spans = evaluate(ops, {**leaves, **states})
        grown = {name: states[name] | _known(spans[finals[name]]) for name in states}
        if grown == states:
            return spans, True
        rounds += 1
        if steps is not None and rounds >= steps:
            return spans, False
        if rounds >= limit:  # slow growth: jump to the range the last store enforces
            grown = {n: _store_range(ops, finals[n], grown[n], states[n]) for n in states}
        states = grown


def _store_range(ops: Ops, final: int, grown: Interval, before: Interval) -> Interval:
    if grown == before:
        return grown
    ranges = [Interval(op.low, op.high) for op in ops if op.kind == "fit"]
    return _hull([grown, *ranges])


def _hull(spans: Sequence[Interval]) -> Interval:
    return Interval(min(s.lo for s in spans), max(s.hi for s in spans))


def _known(span: Interval | None) -> Interval:
    assert span is not None, "a state is not a mask"
    return span


def _span(ops: Ops, i: int, spans: Spans, leaves: Mapping[str, Interval]) -> Interval | None:
    op = ops[i]
    if op.kind in ("input", "state", "param"):
        return leaves[op.name]
    if op.kind == "const":
        return Interval(op.value, op.value)
    if op.kind in ("gt", "ge", "and", "or", "not"):
        return None
    if op.kind == "select":
        mask, yes, no = op.args
        chosen = _under(ops, spans, leaves, mask, yes, holds=True)
        other = _under(ops, spans, leaves, mask, no, holds=False)
        arms = [arm for arm in (chosen, other) if arm is not None]
        # Where the comparison can never go either way, both refinements are empty: keep the arms.
        return _hull(arms) if arms else _hull([_known(spans[yes]), _known(spans[no])])
    args = [_known(spans[j]) for j in op.args]
    if op.kind == "sub" and _is_leak(ops, op):
        shift = ops[op.args[1]]
        return _monotone(shift, args[0], _counts(shift, spans))
    return _plain(op, args)


def _plain(op: TypedOp, args: list[Interval]) -> Interval:
    x = args[0]
    if op.kind == "fit":
        inside = x.lo >= op.low and x.hi <= op.high
        if inside or op.overflow is Overflow.WRAP:
            return x if inside else Interval(op.low, op.high)
        return Interval(*(min(max(e, op.low), op.high) for e in (x.lo, x.hi)))
    if op.kind == "shl":
        return Interval(x.lo << op.value, x.hi << op.value)
    if op.kind == "shr":
        counts = args[1] if len(args) > 1 else Interval(op.value, op.value)
        return _shifted(x, counts, op.rounding)
    y = args[1]
    if op.kind == "add":
        return Interval(x.lo + y.lo, x.hi + y.hi)
    if op.kind == "sub":
        return Interval(x.lo - y.hi, x.hi - y.lo)
    if op.kind == "mul":
        corners = [a * b for a in (x.lo, x.hi) for b in (y.lo, y.hi)]
        return Interval(min(corners), max(corners))
    if op.kind == "min":
        return Interval(min(x.lo, y.lo), min(x.hi, y.hi))
    assert op.kind == "max", op.kind
    return Interval(max(x.lo, y.lo), max(x.hi, y.hi))


def _counts(shift: TypedOp, spans: Spans) -> Interval:
    if len(shift.args) > 1:
        return _known(spans[shift.args[1]])
    return Interval(shift.value, shift.value)


def _shifted(x: Interval, counts: Interval, rounding: Rounding) -> Interval:
    ends = [
        value
        for e in (x.lo, x.hi)
        for k in (counts.lo, counts.hi)
        for value in _rounded(e, k, rounding)
    ]
    return Interval(min(ends), max(ends))


def _rounded(x: int, k: int, rounding: Rounding) -> tuple[int, ...]:
    if rounding is Rounding.STOCHASTIC:
        return (x >> k, -((-x) >> k))
    return (_exact(x, k, rounding),)


def _exact(x: int, k: int, rounding: Rounding) -> int:
    """`fixed.shr` for one Python integer, which cannot overflow."""
    low, rest = x >> k, x & ((1 << k) - 1)
    if rest == 0 or rounding is Rounding.FLOOR:
        return low
    if rounding is Rounding.ZERO:
        return low + (x < 0)
    half = 1 << (k - 1)
    if rounding is Rounding.NEAREST_EVEN:
        return low + (rest > half or (rest == half and low & 1))
    return low + (rest > half or (rest == half and x > 0))


def _is_leak(ops: Ops, op: TypedOp) -> bool:
    other = ops[op.args[1]]
    return other.kind == "shr" and other.args[0] == op.args[0]


def _monotone(op: TypedOp, x: Interval, counts: Interval) -> Interval:
    """The span of x - round(x / 2**k): it rises with x, and away from zero with k."""
    ends = [
        e - r
        for e in (x.lo, x.hi)
        for k in (counts.lo, counts.hi)
        for r in _rounded(e, k, op.rounding)
    ]
    return Interval(min(ends), max(ends))


def _under(
    ops: Ops,
    spans: Spans,
    leaves: Mapping[str, Interval],
    mask: int,
    arm: int,
    *,
    holds: bool,
) -> Interval | None:
    """The arm's interval where the mask is ``holds``; None if that cannot be."""
    known: dict[int, Interval] = {}
    if not _assume(ops, spans, mask, holds, known):
        return None
    if not known:
        return _known(spans[arm])
    return _again(ops, spans, leaves, arm, known)


def _assume(ops: Ops, spans: Spans, mask: int, holds: bool, known: dict[int, Interval]) -> bool:
    """Narrow the compared values; False if the mask cannot be ``holds``."""
    op = ops[mask]
    if op.kind == "not":
        return _assume(ops, spans, op.args[0], not holds, known)
    if (op.kind == "and") == holds and op.kind in ("and", "or"):
        return all(_assume(ops, spans, j, holds, known) for j in op.args)
    if op.kind not in ("gt", "ge"):
        return True
    big, small = op.args if holds else op.args[::-1]
    strict = (op.kind == "gt") == holds
    return _order(ops, spans, big, small, int(strict), known)


def _order(
    ops: Ops, spans: Spans, big: int, small: int, gap: int, known: dict[int, Interval]
) -> bool:
    """Assume value ``big`` >= value ``small`` + gap."""
    x, y = known.get(big) or _known(spans[big]), known.get(small) or _known(spans[small])
    lo, hi = max(x.lo, y.lo + gap), min(y.hi, x.hi - gap)
    if lo > x.hi or y.lo > hi:
        return False
    return _narrow(ops, big, lo, x.hi, known) and _narrow(ops, small, y.lo, hi, known)


def _narrow(ops: Ops, i: int, lo: int, hi: int, known: dict[int, Interval]) -> bool:
    """Note that a value lies within lo and hi; False if it cannot."""
    if lo > hi:
        return False
    known[i] = Interval(lo, hi)
    op = ops[i]
    if op.kind != "shl":
        return True
    # An aligned value narrows what it was made of; between two multiples there may be none.
    return _narrow(ops, op.args[0], -(-lo >> op.value), hi >> op.value, known)


def _again(
    ops: Ops, spans: Spans, leaves: Mapping[str, Interval], i: int, known: dict[int, Interval]
) -> Interval:
    """Evaluate one value anew with some values narrowed."""
    if i in known:
        return known[i]
    op = ops[i]
    if op.kind == "select" or not op.args:
        return _known(spans[i])
    fresh = {j: _again(ops, spans, leaves, j, known) for j in op.args if spans[j] is not None}
    trial: Spans = [fresh.get(j, s) for j, s in enumerate(spans[: max(op.args) + 1])]
    span = _span(ops, i, trial, leaves)
    before = _known(spans[i])
    result = _known(span)
    lo, hi = max(result.lo, before.lo), min(result.hi, before.hi)
    known[i] = Interval(lo, hi) if lo <= hi else before
    return known[i]
