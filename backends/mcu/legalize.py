"""What C cannot do, said in full; everything else is left as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qspinn.errors import LegalizeError, QspinnError
from qspinn.fixed import WORD, Interval, Rounding
from qspinn.ir import Delay, Flatten, Graph, Input, Node, Output
from qspinn.lowering import programs
from qspinn.signals import Signals, signals
from qspinn.verify import verify

from .joining import hindered

MOST_ELEMENTS = 1 << 28

Rule = Callable[[Graph, Signals], Iterator[str]]


def legalize(graph: Graph) -> Graph:
    """``graph`` itself, if C can express it.

    Raises:
        LegalizeError: It cannot; the error holds every reason.
    """
    if not graph.is_integer:
        raise LegalizeError(f"{graph.name} is not quantized", hint="give it a plan")
    verify(graph)
    known = signals(graph)
    reasons = tuple(reason for rule in RULES for reason in rule(graph, known))
    if reasons:
        raise LegalizeError(f"{graph.name} cannot become C, for {len(reasons)} reasons:", reasons)
    return graph


def _ends(graph: Graph, known: Signals) -> Iterator[str]:
    if not graph.of_type(Input):
        yield "it has no Input node"
    if not graph.of_type(Output):
        yield "it has no Output node"
    yield from hindered(graph, known)


def _spikes(graph: Graph, known: Signals) -> Iterator[str]:
    for name, signal in known.items():
        if signal.kind == "spike" and signal.interval and signal.interval not in Interval(0, 1):
            yield f"{name}: carries spikes up to {signal.interval.hi}; declare it a count"
        if signal.size > MOST_ELEMENTS:
            yield f"{name}: has {signal.size} elements, the limit is {MOST_ELEMENTS}"


def _delays(graph: Graph, known: Signals) -> Iterator[str]:
    for node in graph.of_type(Delay):
        source, held = known[node.inputs[0]], known[node.name]
        if source.interval and held.interval and source.interval not in held.interval:
            yield (
                f"{node.name}: is declared for {held.interval}, "
                f"{node.inputs[0]} sends {source.interval}"
            )
        if _turns_in_circles(graph, node):
            yield f"{node.name}: delays that only read each other carry nothing; remove them"


def _turns_in_circles(graph: Graph, start: Delay) -> bool:
    seen: set[str] = set()
    node: Node = start
    while isinstance(node, (Delay, Flatten)):
        if node.name in seen:
            return True
        seen.add(node.name)
        node = graph[node.inputs[0]]
    return False


def _shifts(graph: Graph, known: Signals) -> Iterator[str]:
    try:
        lists = programs(graph)
    except QspinnError as error:
        yield str(error)
        return
    for name, program in lists.items():
        for op in program.ops:
            if op.kind != "shr":
                continue
            counts = program.ops[op.args[1]].span if len(op.args) > 1 else None
            lo, hi = (counts.lo, counts.hi) if counts else (op.value, op.value)
            limit = 32 if op.rounding is Rounding.STOCHASTIC else WORD - 1
            if lo < 0 or hi > limit:
                yield f"{name}: shifts by {lo} to {hi} bits ({op.rounding}), C by 0 to {limit}"


RULES: tuple[Rule, ...] = (_ends, _spikes, _delays, _shifts)
"""Each names every place that breaks it."""
