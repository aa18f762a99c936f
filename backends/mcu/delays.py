"""Delay lines: where they lie, and how each stores at the end of a step what it will give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qspinn.ir import Delay
from qspinn.signals import Signal

from .layout import Member, index_type
from .names import quoted
from .network import Edge, Turn
from .parts import Parts
from .view import View


def delay_line(node: Delay, signal: Signal, parts: Parts, slots: dict[str, Member]) -> Edge:
    """Where a line's oldest values are found; of several steps, ``slots`` says where that is."""
    steps = f"{node.steps} steps" if node.steps > 1 else "step"
    edge, line = parts.store(
        f"{node.name}_line", signal, "delay", node.path,
        f"{quoted(node.name)}: the last {steps}", slots=node.steps,
    )  # fmt: skip
    at = edge.at
    if node.steps > 1:
        slot = slots[node.name] = parts.member(
            f"{node.name}_slot", index_type(node.steps), 0, "delay", node.path,
            f"{quoted(node.name)}: where the oldest is",
        )  # fmt: skip
        at = f"{at} + s->{slot.name} * {line.count // node.steps}u"
    return replace(edge, at=at, fleeting=True)


def push(view: View, parts: Parts, slots: Mapping[str, Member]) -> None:
    """Store into every delay line, first into those that read another line, then move on.

    Args:
        view: The graph.
        parts: Takes the stages.
        slots: Where the oldest is of the lines of several steps.
    """
    delays = list(view.graph.of_type(Delay))
    while delays:
        sources = {d.name: view.source(d.inputs[0]).name for d in delays}
        read = {source for name, source in sources.items() if source != name}
        node = next(d for d in delays if d.name not in read)
        delays.remove(node)
        title = f"{quoted(node.name)}: stores what it will give in {node.steps} steps."
        source, line = parts.edges[sources[node.name]], parts.edges[node.name]
        parts.keep(f"store_{node.name}", title, source, line)
        if node.name in slots:
            parts.stages.append(
                Turn(
                    name=parts.function("turn", node.name), steps=node.steps,
                    member=slots[node.name], title=f"{quoted(node.name)}: moves on.",
                )
            )  # fmt: skip
