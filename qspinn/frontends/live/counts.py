"""How many spikes neurons may send in a step, and what the delays behind them carry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qspinn.errors import FrontendError
from qspinn.frontends import nir_counts
from qspinn.frontends.nir_counts import Highs
from qspinn.frontends.report import GIVEN, inferred
from qspinn.ir import Delay, Input, Neuron, Node, Output, SumPool2d

if TYPE_CHECKING:
    from qspinn.frontends.live.build import Build


def limit(build: Build) -> None:
    """Settle how many spikes each neuron may send, and what the delays carry."""
    highs: dict[str, Highs] = {}
    loops = _loops(build.nodes)
    for name, node in build.nodes.items():
        before = [highs.get(i) for i in node.inputs]
        if isinstance(node, Input):
            full = np.full(node.shape, float(node.high))
            highs[name] = None if node.kind == "current" else full
        elif isinstance(node, Neuron):
            highs[name] = _limited(build, name, node, before, looped=name in loops)
        elif isinstance(node, Delay):
            highs[name] = before[0]
        elif not isinstance(node, Output):
            source = build.wires.get(node.inputs[0])
            graded = source is None or source.signal.kind == "current"
            highs[name] = nir_counts.passed(node, before[0], graded=graded)
    for name, node in build.nodes.items():
        if isinstance(node, Delay):
            high = _sent(build, node.inputs[0])
            build.nodes[name] = replace(node, kind="count" if high > 1 else "spike", high=high)


def _sent(build: Build, name: str) -> int:
    """The largest count that a node can send, for the delay behind it."""
    node = build.nodes[name]
    if isinstance(node, Neuron):
        return node.model.max_out
    if isinstance(node, Input):
        return node.high
    most = _sent(build, node.inputs[0])
    return most * node.kernel[0] * node.kernel[1] if isinstance(node, SumPool2d) else most


def _limited(
    build: Build, name: str, node: Neuron, currents: list[Highs], *, looped: bool
) -> Highs:
    cell = build.cells[name]
    if not cell.fires:
        return None
    if not cell.several:
        return np.ones(node.shape)
    bound = None if looped else nir_counts.spikes(cell, currents)
    given, declared = build.choices.max_spikes, build.most.get(name, 0)
    most, cut = nir_counts.enough(bound)
    if declared and (bound is None or bound.max() > declared):
        most, cut = _declared(build, name, declared), False
    elif given is not None:
        most, cut = given, bound is None or bound.max() > given
    if most > 1 or cut:
        _note_most(build, name, most, bound, cut=cut)
    build.nodes[name] = replace(node, model=cell.model(most))
    return np.full(node.shape, float(most)) if bound is None else np.minimum(bound, most)


def _declared(build: Build, name: str, most: int) -> int:
    if not whole_bits(most):
        raise FrontendError(
            f"sends at most {most} spikes a step; qspinn's limits are 1, 3, 7, 15, ...",
            at=build.paths.get(name, name),
        )
    return most


def _note_most(build: Build, name: str, most: int, bound: Highs, *, cut: bool) -> None:
    given = build.choices.max_spikes is not None
    why = "no bound was found" if bound is None else f"the weights allow {int(bound.max())}"
    stays = build.cells[name].options["reset"] in ("subtract", "amount")
    rest = "waits in the membrane" if stays else "is lost"
    end = f"; what exceeds them {rest}" if cut else ""
    plural = "s" * (most > 1)
    build.note(name, f"at most {most} spike{plural} a step{end}", GIVEN if given else inferred(why))


def _loops(nodes: dict[str, Node]) -> set[str]:
    """The nodes whose own output comes back to them."""
    found: set[str] = set()
    for name in nodes:
        seen: set[str] = set()
        todo = [name]
        while todo:
            for source in nodes[todo.pop()].inputs:
                if source not in seen:
                    seen.add(source)
                    todo.append(source)
        if name in seen:
            found.add(name)
    return found


def whole_bits(most: int) -> bool:
    """Whether it is one of 1, 3, 7, 15, ..."""
    return most >= 1 and not most & (most + 1)
