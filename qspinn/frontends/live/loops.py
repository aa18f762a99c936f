"""Norse's RecurrentSequential: what it sent in one step is added to what it reads in the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.modules import children, kind, label, leading, leaves
from qspinn.ir import Conv1d, Conv2d, Linear

Leaf = Callable[[Build, str, Any, Sequence[Wire], int], Wire]
"""`walk.leaf`."""

_LINEAR = {
    "Linear", "Conv1d", "Conv2d", "AvgPool2d", "AdaptiveAvgPool2d", "LPPool2d", "Flatten",
    "BatchNorm1d", "BatchNorm2d", "Identity", "Dropout", "Dropout1d", "Dropout2d",
    "AlphaDropout",
}  # fmt: skip
"""Layers that make of a sum the sum of what they make of its parts, but for their biases."""


def looped(
    build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int, leaf: Leaf
) -> Wire:
    """The modules up to the one that sends, and the delay that its spikes come back by.

    In the first step nothing comes back.

    Raises:
        FrontendError: The sum cannot be taken at neurons, or no spikes come back.
    """
    ran = _ran(path, module)
    loops = [place for place, (_, each) in enumerate(ran) if kind(each).looped]
    firing = [place for place, (_, each) in enumerate(ran) if kind(each).neurons is not None]
    if not firing or (loops and loops[-1] > firing[-1]):
        raise FrontendError(
            "has no neurons of its own at its end, whose spikes could come back in the next step"
        )
    first, last = min(firing[0], *loops) if loops else firing[0], firing[-1]
    for where, each in ran[:first]:
        if kind(each).name not in _LINEAR:
            raise FrontendError(
                f"reads a sum, of which {label(where, each)} makes another than of its parts",
                hint="put it behind neurons",
            )
    head = ran[:first]
    currents = [
        _through(build, head, wire, lead, leaf, bias=not at) for at, wire in enumerate(wires)
    ]
    back = _back(build, ran, last, wires[0].shape, lead, leaf)
    if back.shape != wires[0].shape:
        raise FrontendError(f"adds what it sent, {back.shape}, to an input of {wires[0].shape}")
    currents.append(_through(build, head, back, lead, leaf, bias=False))
    for where, each in ran[first:]:
        wire = leaf(build, where, each, currents, lead)
        if where == ran[last][0] and wire.signal.kind == "current":
            raise FrontendError(
                f"sends back the membranes of {label(where, each)}; only spikes can wait a step",
                hint="end it with spiking neurons, or choose others by output_modules",
            )
        currents = [wire]
    return currents[0]


def _ran(path: str, module: Any) -> list[tuple[str, Any]]:
    """What comes before its output, and that; modules behind it have no effect."""
    chosen = module.output_modules
    if not isinstance(chosen, int):
        raise FrontendError(
            f"sends the modules {list(chosen)} side by side, which Norse itself cannot add to the "
            "next input",
            hint="give output_modules one module",
        )
    if leading(module.module) == 2:
        raise FrontendError(
            "has modules that take all steps in one call, and what it sends comes back in the "
            "next call only",
            hint="give it cells, which take one step a call, in a Lift or not",
        )
    inside = list(children(module.module))
    end = range(len(inside))[chosen] + 1
    return [
        found
        for name, each in inside[:end]
        for found in leaves(each, f"{path}.module.{name}" if path else f"module.{name}")
    ]


def _through(
    build: Build, layers: Sequence[tuple[str, Any]], wire: Wire, lead: int, leaf: Leaf, *,
    bias: bool = True,
) -> Wire:  # fmt: skip
    """What the layers make of a wire; of several summands one brings their biases."""
    for where, each in layers:
        wire = leaf(build, where, each, (wire,), lead)
        node = build.nodes[wire.node]
        if not bias and isinstance(node, (Linear, Conv1d, Conv2d)):
            build.nodes[wire.node] = replace(node, bias=None)
    return wire


def _back(
    build: Build, ran: Sequence[tuple[str, Any]], last: int, shape: tuple[int, ...], lead: int,
    leaf: Leaf,
) -> Wire:  # fmt: skip
    """What comes back: the last spikes, behind the layers that follow the neurons."""
    behind = ran[last + 1 :]
    if behind:
        where, each = behind[0]
        if kind(each).name != "Linear" or any(_biased(m) for _, m in behind):
            raise FrontendError(
                f"sends back what {label(where, each)} makes of spikes; a Linear without bias is "
                "read there (in the first step nothing comes back)",
                hint="end it with spiking neurons, or give the Linear bias=False",
            )
        shape = (int(each.in_features),)
    back = build.delayed(build.reserve(ran[last][0]), shape)
    return _through(build, behind, back, lead, leaf)


def _biased(module: Any) -> bool:
    bias = getattr(module, "bias", None)
    return bias is not None and bool(bias.any())
