"""Quantization schemes: after training as it is, or with a network trained for the plan."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from qspinn.datasets import Dataset
from qspinn.errors import PlanError
from qspinn.ir import Graph
from qspinn.plan import Plan

GROUP = "qspinn.schemes"


@runtime_checkable
class Scheme(Protocol):
    """Makes the float network that a plan is applied to.

    A scheme is a pure function of its arguments, its lessons and its own seed: the same plan, the
    same network.
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


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a scheme may train on.

    Attributes:
        dataset: Labelled samples, none of which candidates are judged on.
        seed: Of every draw.
        graph: The canonical float graph that candidates are made of, where it is known.
    """

    dataset: Dataset
    seed: int = 0
    graph: Graph | None = None


def schemes(names: tuple[str, ...], lessons: Lessons | None = None) -> dict[str, Scheme]:
    """The schemes by name: ``ptq``, and those that installed packages provide.

    An entry point of the group `GROUP` is a function that makes a scheme of `Lessons`.

    Raises:
        PlanError: One is not installed, is no scheme, or has nothing to train on.
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
        if lessons is None:
            raise PlanError(
                f"the scheme {name} trains the network", hint="give --train-data FILE.npz"
            )
        made = installed[name].load()(lessons)
        if not isinstance(made, Scheme):
            raise PlanError(f"{installed[name].value} is no quantization scheme")
        found[name] = made
    return found
