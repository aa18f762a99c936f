"""The graph: frozen nodes in topological order, with named parameters.

Every node's output is one signal. Within a step signals travel at once, in the order of the list;
what arrives later goes through a `Delay`, and a cycle must contain one. A graph is float (no
parameter has a format) or integer (every one has).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qspinn.dynamics import Model
from qspinn.errors import VerifyError
from qspinn.fixed import Overflow, QFormat, Rounding, to_real
from qspinn.packing import digest

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
Pair = tuple[int, int]

READOUTS = ("count", "first_spike", "membrane_last", "membrane_max")
"""Those that decide for an output element; see `VOTE` for the other one."""
VOTE = "vote"
"""The label vote: each output element speaks for a class."""


@dataclass(frozen=True, eq=False)
class Param:
    """A constant tensor: float64 without a format, int64 with one.

    ``rounding`` is how a product with this coefficient is rounded back to the value's point.
    """

    values: Array
    fmt: QFormat | None = None
    rounding: Rounding = Rounding.FLOOR

    def __post_init__(self) -> None:
        dtype = np.float64 if self.fmt is None else np.int64
        values = np.array(self.values, dtype)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def real(self) -> Array:
        """The values as real numbers (in scaled units once quantized)."""
        return self.values if self.fmt is None else to_real(self.values, self.fmt)


@dataclass(frozen=True, eq=False)
class State:
    """How a state variable is stored between steps, and what it starts from."""

    init: Param = field(default_factory=lambda: Param(np.zeros(())))
    fmt: QFormat | None = None
    rounding: Rounding = Rounding.FLOOR
    overflow: Overflow = Overflow.SATURATE


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """What all nodes share.

    Attributes:
        name: Unique in the graph.
        inputs: Names of the nodes it reads; several only where a sum of currents is meant.
        origin: The node of the canonical graph it came from; plan paths name that one.
    """

    name: str
    inputs: tuple[str, ...] = ()
    origin: str = ""

    def params(self) -> dict[str, Param]:
        """Parameters by name, without those that are absent."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in found.items() if isinstance(v, Param)}

    def with_params(self, changed: Mapping[str, Param]) -> Node:
        """This node with some parameters replaced."""
        options: dict[str, Any] = dict(changed)
        return replace(self, **options)

    @property
    def path(self) -> str:
        """The name under which a plan knows this node."""
        return self.origin or self.name


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """Where data enters: spikes (0 or 1), counts (0 to ``high``) or values of format ``fmt``."""

    shape: Shape
    kind: str = "spike"
    high: int = 1
    fmt: QFormat | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Node):
    """y = W x + b, with W of shape (out, in). The input is read flat."""

    weight: Param
    bias: Param | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Node):
    """y = s * x, elementwise: a one-to-one connection. ``scale`` broadcasts to the input."""

    scale: Param


@dataclass(frozen=True, eq=False, kw_only=True)
class Lateral(Node):
    """y_j = w * sum of all x_i but x_j: everyone reaches all others with one weight.

    Lateral inhibition as a number instead of a matrix. ``weight`` broadcasts to the input.
    """

    weight: Param


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv1d(Node):
    """Cross-correlation; weight (out, in / groups, k), input (channels, length)."""

    weight: Param
    bias: Param | None = None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Node):
    """Cross-correlation; weight (out, in / groups, kh, kw), input (channels, height, width)."""

    weight: Param
    bias: Param | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class SumPool2d(Node):
    """The sum over each window; zero padding."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool2d(Node):
    """The mean over each window, zero padding counted; only in float graphs."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2d(Node):
    """The maximum over each window; of spikes, whether any arrived."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Flatten(Node):
    """Dimensions ``start`` to ``end`` (of the signal, without batch or time) become one."""

    start: int = 0
    end: int = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class Delay(Node):
    """The input ``steps`` steps ago (at least 1); zeros before that. ``shape`` is its signal's."""

    shape: Shape
    steps: int = 1
    kind: str = "spike"
    high: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Neuron(Node):
    """Neurons of one model; their input is the sum of all incoming currents.

    ``values`` holds the model's parameters, each broadcasting to ``shape``. The sum enters the
    model in ``input_format``: what lies below its binary point is dropped, rounding down, and its
    range is proved. None: it enters as it is.
    """

    shape: Shape
    model: Model
    values: Mapping[str, Param]
    states: Mapping[str, State]
    input_format: QFormat | None = None

    def params(self) -> dict[str, Param]:
        """The model's parameters by name."""
        return dict(self.values)

    def with_params(self, changed: Mapping[str, Param]) -> Node:
        """This node with some parameters replaced."""
        return replace(self, values={**self.values, **changed})


@dataclass(frozen=True, eq=False, kw_only=True)
class Output(Node):
    """Where a result leaves, and how a decision is read from it; of several the first decides.

    Attributes:
        readout: One of `READOUTS`, or `VOTE`.
        labels: For a vote, the class of each element; -1: it speaks for none.
    """

    readout: str = "count"
    labels: tuple[int, ...] = ()


CONNECTIONS = (Linear, Lateral, Scale, Conv1d, Conv2d)
"""Nodes that turn spikes into currents; the only ones with weights."""
POOLS = (SumPool2d, AvgPool2d, MaxPool2d)

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order (a Delay may read a later node), compared by digest.

    Attributes:
        name: The network's name; emitters make identifiers of it.
        nodes: The nodes.
        start: ``skewed``: every layer starts with its first input, as the trained network did;
            ``cold``: every neuron runs from the target's first step.
        shifts: For a lowered graph, the steps by which the target runs each node late.
    """

    name: str
    nodes: tuple[Node, ...]
    start: str = "skewed"
    shifts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        try:
            return self.by_name[name]
        except KeyError:
            raise VerifyError(f"{self.name} has no node {name!r}") from None

    def of_type(self, kind: type[N]) -> tuple[N, ...]:
        """The nodes of one type, in order."""
        return tuple(node for node in self.nodes if isinstance(node, kind))

    def users(self, name: str) -> tuple[Node, ...]:
        """The nodes that read ``name``."""
        return self._readers.get(name, ())

    @cached_property
    def _readers(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                found.setdefault(source, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def map(self, change: Callable[[Node], Node]) -> Graph:
        """The graph with every node replaced by ``change(node)``."""
        return replace(self, nodes=tuple(change(node) for node in self.nodes))

    @property
    def input(self) -> Input:
        """The only input.

        Raises:
            VerifyError: There are several (see `qspinn.ports`), or none.
        """
        found = self.of_type(Input)
        if len(found) != 1:
            raise VerifyError(f"{self.name} has {len(found)} Input nodes, not 1")
        return found[0]

    @property
    def output(self) -> Output:
        """The output that decides: the first.

        Raises:
            VerifyError: There is none.
        """
        found = self.of_type(Output)
        if not found:
            raise VerifyError(f"{self.name} has no Output node")
        return found[0]

    def only(self, name: str) -> Graph:
        """The graph without its outputs but the one named ``name``; passes drop what it needs not.

        Raises:
            VerifyError: There is no such output.
        """
        _, *others = self.deciding(name).of_type(Output)
        return replace(self, nodes=tuple(node for node in self.nodes if node not in others))

    def deciding(self, name: str) -> Graph:
        """The graph with its outputs at the end, the one named ``name`` first: it decides.

        Raises:
            VerifyError: There is no such output.
        """
        outputs = self.of_type(Output)
        if name not in {node.name for node in outputs}:
            raise VerifyError(
                f"{self.name} has no output {name!r}",
                hint=f"one of {', '.join(node.name for node in outputs)}",
            )
        others = (node for node in self.nodes if not isinstance(node, Output))
        ordered = sorted(outputs, key=lambda node: node.name != name)
        return replace(self, nodes=(*others, *ordered))

    @property
    def is_integer(self) -> bool:
        """Whether every parameter and state has a format."""
        params = [p for node in self.nodes for p in node.params().values()]
        states = [s for node in self.of_type(Neuron) for s in node.states.values()]
        formats = [*(p.fmt for p in params), *(s.fmt for s in states)]
        return bool(formats) and None not in formats

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that has meaning: the identity of the graph."""
        return digest(self)
