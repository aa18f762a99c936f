"""Quantization schemes: after training as it is, or with a network trained for the plan."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from qspinn.errors import PlanError
from qspinn.ir import Graph
from qspinn.plan import Plan

GROUP = "qspinn.schemes"


@runtime_checkable
class Scheme(Protocol):
    """Makes the float network that a plan is applied to.

    A scheme is a pure function of its arguments and its own seed: the same plan, the same network.
    """

    name: str

    def fit(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        """The network to quantize, and the plan to quantize it under.

        Args:
            graph: The canonical float graph; the result has the same nodes and paths.
            plan: Complete. Formats and roundings stay as they are; scales may be learned.
        """


class PostTraining:
    """Post-training quantization (PTQ): the trained values as they are."""

    name = "ptq"

    def fit(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        """Both unchanged."""
        return graph, plan


def schemes(names: tuple[str, ...]) -> dict[str, Scheme]:
    """The schemes by name: ``ptq``, and those that installed packages provide.

    Raises:
        PlanError: One is not installed, or is no scheme.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    found: dict[str, Scheme] = {}
    for name in names:
        if name == PostTraining.name:
            found[name] = PostTraining()
            continue
        if name not in installed:
            raise PlanError(
                f"no package provides the quantization scheme {name!r}",
                hint=f"one of {', '.join(sorted({PostTraining.name, *installed}))}; a package "
                f"provides one through an entry point of the group {GROUP}",
            )
        made = installed[name].load()
        if not isinstance(made, Scheme):
            raise PlanError(f"{installed[name].value} is no quantization scheme")
        found[name] = made
    return found
