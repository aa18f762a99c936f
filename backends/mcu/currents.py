"""The input current of a neuron as C: what it adds up, in which type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from qspinn.fixed import Interval
from qspinn.ir import Neuron, Node, Param
from qspinn.printer import c_type

from .connections import Tables, bias_of
from .layout import CType, computing
from .network import Edge, Start
from .sums import Scratch
from .tiles import TileSum
from .view import ZERO, View

INT = CType(32, signed=True)


def current_code(
    node: Neuron, view: View, edges: Mapping[str, Edge], place: Scratch | None,
    tiles: TileSum | None, biases: Iterable[Start], prefix: str,
) -> tuple[str, bool]:  # fmt: skip
    """C for the input current of neuron ``i``, and whether it reads the caller's arrays.

    Args:
        node: The layer.
        view: The graph.
        edges: Where signals are found.
        place: Where sums are, if it has such.
        tiles: What is in the local variable ``sum``, if anything.
        biases: What is in neither.
        prefix: What every name starts with.
    """
    current = view.current(node)
    assert current.interval is not None, "an integer graph"
    terms: list[tuple[str, CType, int]] = []
    if place is not None:
        terms.append((place.read(prefix), place.member.type, 1))
    for bias in biases:
        index = "i" if bias.each == 1 else "channel"
        terms.append((bias.amount(INT, index, prefix.upper()), INT, 1))
    if tiles is not None:
        terms.append(("sum", INT, tiles.gain))
    reaches = [view.reach(x, current.frac) for x in view.lazy_inputs(node)]
    callers = False
    for name in node.inputs:
        source = view.source(name)
        if view.is_lazy(source):
            continue
        edge, move = edges[source.name], current.frac - view.signals[name].frac
        at = f"({edge.at})" if " " in edge.at else edge.at
        terms.append((f"{at}[i]", edge.type, 1 << move))
        span = edge.span | ZERO
        reaches.append(Interval(span.lo << move, span.hi << move))
        callers = callers or edge.callers
    kind = computing(Interval(sum(r.lo for r in reaches), sum(r.hi for r in reaches)))
    code = " + ".join(_term(*t, kind, len(terms) > 1 or t[2] > 1) for t in terms)
    wanted = c_type(current.interval)
    return (code if kind.name == wanted else f"({wanted})({code})"), callers


def biases(view: View, tables: Tables, nodes: Sequence[Node], frac: int) -> Iterator[Start]:
    """What sums with the binary point ``frac`` start from."""
    for node in nodes:
        bias = getattr(node, "bias", None)
        if not isinstance(bias, Param) or bias.fmt is None:
            continue
        factor = 1 << (frac - bias.fmt.frac)
        start = bias_of(node, view.signals[node.name], tables, factor)
        if start is not None:
            yield start


def _term(code: str, held: CType, gain: int, kind: CType, computed: bool) -> str:
    """A value that is read, in the type the current is summed in."""
    narrow = held.bits < 32 and computed  # int may have 16 bits
    cast = f"({kind.name}){code}" if narrow or (kind.bits == 64) != (held.bits == 64) else code
    return cast if gain == 1 else f"{cast} * {gain}"
