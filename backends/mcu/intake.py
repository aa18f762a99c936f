"""How input reaches the emitted functions: as events, as bits, as values, or loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qspinn.errors import PlanError
from qspinn.ir import CONNECTIONS, Flatten, Graph, Input
from qspinn.plan import INPUTS

from .layout import WORD_BITS, CType, holding, index_type
from .names import prefix_of
from .network import Edge, Port
from .view import View

NATURAL = ""
"""What suits the input: events for spikes and counts, values for currents."""
MARKS = {"mask": "INPUT_MASK", "load": "INPUT_LOADED"}
"""The macro of a form that is not the natural one."""


def form_of(options: Mapping[str, str], node: Input) -> str:
    """What a plan's options ask of an input: one of `qspinn.plan.INPUTS`, or `NATURAL`.

    A current that the encoder repeats in every step is loaded once unless the plan says
    ``input = values``.
    """
    asked = options.get("input", NATURAL)
    if not asked and node.kind == "current" and options.get("encode") == "direct":
        return "load"
    return asked


def settled(graph: Graph, form: str) -> str:
    """The form that the network gets; constant values that more than connections read are passed.

    Raises:
        PlanError: The input is of another kind.
    """
    node = graph.input
    fitting = {"spike": ("events", "mask"), "count": ("events",), "current": ("values", "load")}
    fit = fitting[node.kind]
    if form == NATURAL:
        return fit[0]
    if form not in INPUTS:
        raise PlanError(f"input is passed as {', '.join(INPUTS)}, not as {form!r}", at=node.name)
    if form not in fit:
        raise PlanError(
            f"is asked for as {form}, it carries a {node.kind} for each element",
            at=node.name,
            hint=f"choose {' or '.join(fit)} (--input, or option input in a plan)",
        )
    return "values" if form == "load" and not held(View(graph)) else form


def held(view: View) -> frozenset[str]:
    """The connections whose sums stay the same while the input does; none if more reads it."""
    found: set[str] = set()
    for node in view.graph.nodes:
        if not any(view.origin(source)[0] == view.graph.input.name for source in node.inputs):
            continue
        if isinstance(node, CONNECTIONS):
            found.add(node.name)
        elif not isinstance(node, Flatten) and not view.is_lazy(node):
            return frozenset()
    return frozenset(found)


def form_in(folder: Path, graph: Graph) -> str:
    """The form that the emitted files in ``folder`` were written for."""
    prefix = prefix_of(graph.name)
    header = folder / f"{prefix}.h"
    text = header.read_text(errors="replace") if header.is_file() else ""
    found = (form for form, mark in MARKS.items() if f"{prefix.upper()}_{mark} " in text)
    return next(found, NATURAL)


def port_of(view: View) -> tuple[Port, Edge]:
    """What the caller passes to a step, and where its values are found there."""
    node = view.graph.input
    signal = view.signals[node.name]
    assert signal.interval is not None, "an integer graph"
    size, span = signal.size, signal.interval
    value = None if node.kind == "spike" else holding(span)
    index = index_type(size)
    if view.form == "mask":
        edge = Edge("mask", "mask", size, span, CType(WORD_BITS, signed=False), False, callers=True)
    elif value is not None and node.kind == "current":
        edge = Edge("dense", "values", size, span, value, True, callers=True)
    else:
        edge = Edge("list", "events", size, span, index, node.kind == "count", callers=True)
    return Port(node.kind, view.form, size, index, value, span, signal.frac), edge
