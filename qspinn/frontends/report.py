"""What a frontend hands over: the graph, and every assumption that it took to read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qspinn.errors import FrontendError
from qspinn.ir import Array, Graph
from qspinn.plan import Plan

_SUSPECT = re.compile(r"[\x00-\x1f\x7f-\x9f\"'`\\]")

GIVEN = "given"
IN_FILE = "in the file"
DEFAULT = "default"


def require_plain(name: str) -> None:
    """Refuse a name with quotes, backslashes or control characters; all else is made safe.

    Raises:
        FrontendError: It has one.
    """
    if _SUSPECT.search(name):
        shown = name.encode("unicode_escape").decode("ascii")
        raise FrontendError(
            f"the name {shown[:60]} has quotes, backslashes or control characters in it",
            hint="rename it: letters, digits, spaces, dots, dashes and underscores are safe",
        )


INPUT_KINDS = ("spike", "count", "current")
MOST_COUNTED = 255
"""What an input of counts carries at most, unless that is said."""


def received(kind: str, high: int | None) -> int:
    """The largest value of an input.

    Args:
        kind: What it carries.
        high: The largest count, if it was given.

    Raises:
        FrontendError: There is no such kind, or only counts have a largest value.
    """
    if kind not in INPUT_KINDS:
        raise FrontendError(f"input_kind is one of {', '.join(INPUT_KINDS)}, not {kind!r}")
    if kind == "count":
        return MOST_COUNTED if high is None else high
    if high not in (None, 1):
        raise FrontendError(f"input_high is {high}, but the input is a {kind}",
                            hint="only counts have a largest value: input_kind=count")  # fmt: skip
    return 1


def inferred(reason: str) -> str:
    """The source of an assumption that follows from something seen in the file."""
    return f"inferred: {reason}"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One thing that a file leaves open, or says in its own way, and how it was read.

    Attributes:
        subject: A quantity (``dt``) or a node of the graph.
        value: How it was read.
        source: ``given``, ``in the file``, ``default`` or ``inferred: <reason>``.
    """

    subject: str
    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.value} ({self.source})"


@dataclass(frozen=True)
class Imported:
    """A network as read from a file.

    Attributes:
        graph: The float graph, verified.
        assumptions: For people; `inspect` prints them.
        meta: ``format``, and where the file or the reading says so ``dialect``, ``dt`` (seconds
            per step), ``T``, ``encoder``, ``gain`` and ``names`` (node -> name in the file).
        plan: The formats that a quantized network is already in; of the canonical graph's paths.
        reference: The network without spikes that it was made of, if it was: samples to scores.
    """

    graph: Graph
    assumptions: tuple[Assumption, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan({}))
    reference: Callable[[Array], Array] | None = None

    def __str__(self) -> str:
        size = sum(p.values.size for node in self.graph.nodes for p in node.params().values())
        head = f"{self.graph.name}: {len(self.graph.nodes)} nodes, {size} parameters"
        return "\n  ".join((head, *map(str, self.assumptions)))
