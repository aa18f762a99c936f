"""Whether a convolution scatters or gathers: what takes fewer instructions, by the cost model."""

from __future__ import annotations

from collections.abc import Mapping

from qspinn.cost import Activity
from qspinn.ir import Graph
from qspinn.memory import Device, excesses
from qspinn.plan import KERNEL

from .build import build
from .costmodel import cost
from .eight import is_eight
from .footprint import footprint
from .gathering import GATHER, SCATTER, asked, gatherable
from .intake import form_of


def ways(
    graph: Graph, device: Device, activity: Activity, options: Mapping[str, str]
) -> dict[str, str]:
    """What each convolution does that could do both, and that a plan says nothing of, as options.

    They are decided one after the other, from the input on: what they share, the scratch and the
    functions that add rows, costs no instructions. None takes more memory than there is.

    Args:
        graph: A legalized graph.
        device: The device, its memory the budget; where its core was not measured, nothing is
            decided.
        activity: How often things spike.
        options: The plan's.
    """
    if is_eight(device) or not activity.measured:
        return {}
    form, chosen = form_of(options, graph.input), asked(options, graph)
    open_ = [name for name in gatherable(graph) if f"{KERNEL}{name}" not in options]
    found: dict[str, str] = {}
    for name in open_:
        both = [build(graph, form, False, held) for held in (chosen, chosen | {name})]
        scattered, gathered = (cost(network, device, activity) for network in both)
        if scattered is None or gathered is None:
            return {}
        now, then = (excesses(footprint(network, device), device.regions) for network in both)
        better = gathered.instructions < scattered.instructions and (bool(now) or not then)
        chosen = chosen | {name} if better else chosen
        found[f"{KERNEL}{name}"] = GATHER if better else SCATTER
    return found
