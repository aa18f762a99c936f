"""Reading an ONNX graph node by node: constants fold, scales melt into weights, layers remain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from qspinn.errors import FrontendError, located
from qspinn.frontends.hdf5 import shown
from qspinn.frontends.nir_flatten import safe
from qspinn.frontends.onnx_constants import constant_of, folded
from qspinn.frontends.onnx_file import MAX_ELEMENTS, FileGraph, FileNode
from qspinn.frontends.onnx_net import Ann, Passing, Steps, Synapses, Units, gathered
from qspinn.frontends.onnx_values import Current, Stepped, Value, Wave
from qspinn.frontends.onnx_weights import Constant, against_zero
from qspinn.frontends.report import IN_FILE, Assumption
from qspinn.ir import Array, Node, Param, Scale, Shape

Args = Sequence[Value | None]
"""None stands for an argument that is left out."""
T = TypeVar("T", bound=Node)
Operator = Callable[["Walk", FileNode, Args], Value]

MOST_UNITS = 1 << 20
"""Of a layer."""
MOST_GATHERED = 1 << 26
"""By the windows of a layer."""
POOLS = ("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean")
THROUGH = ("Flatten", "Reshape", "Squeeze", "MaxPool", "Identity", "Dropout")
"""What integers between QuantizeLinear and DequantizeLinear pass as their values would."""


@dataclass
class Walk:
    """A reading under way.

    Attributes:
        file: The graph.
        lifted: Whether its signals (channels, length) are read as images of height 1, as pools
            know no others.
        shape: Of a sample.
        layers: Those found so far.
        values: What each name of the file stands for.
        notes: What was assumed.
        grain: See `Ann`.
        readers: How many nodes read each name, those aside that ask for its shape.
        names: What the file calls the signals of each layer: scaled, or as they are.
    """

    file: FileGraph
    lifted: bool
    shape: Shape
    input: str
    layers: list[Units | Passing] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    notes: list[Assumption] = field(default_factory=list)
    grain: tuple[float, int, int] | None = None
    readers: Counter[str] = field(default_factory=Counter)
    names: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    placed: set[str] = field(default_factory=set)
    spent: int = 0
    taken: set[str] = field(default_factory=lambda: {"output"})

    @property
    def batch(self) -> int:
        """How many samples the file declares; 1 where it leaves that open."""
        return self.file.shape[0] or 1

    def fresh(self, label: str) -> str:
        """A name for a node, safe everywhere and not yet used."""
        base = safe(label)
        name, count = base, 1
        while name.lower() in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name.lower())
        return name

    def spend(self, constant: Constant) -> None:
        """Count what a graph computes of constants, all of which is kept.

        Raises:
            FrontendError: It is more than a file may hold.
        """
        self.spent += int(constant.values.size)
        if self.spent > 2 * MAX_ELEMENTS:
            raise FrontendError(f"computes more than {2 * MAX_ELEMENTS} numbers from constants",
                                hint="fold them before: onnxsim MODEL")  # fmt: skip

    def note(self, subject: str, text: str) -> None:
        """Note something that the file says in its own way."""
        self.notes.append(Assumption(subject, text, IN_FILE))

    def add(self, layer: Units | Passing) -> str:
        """Append a layer.

        Raises:
            FrontendError: It is far larger than any target holds.
        """
        if isinstance(layer, Passing):
            check_size(layer.node, layer.shape)
        else:
            own = tuple(replace(s, node=self.once(s.node)) for s in layer.synapses)
            layer = replace(layer, synapses=own)
        require_small(layer.shape)
        self.layers.append(layer)
        self.shapes[layer.name] = layer.shape
        return layer.name

    def known(self, name: str, value: Value) -> None:
        """Remember what a name stands for."""
        self.values[name] = value
        held = value.value if isinstance(value, Stepped) else value
        if isinstance(held, Wave):
            self.names[held.layer].append(name)

    def alone(self, x: Wave | Current) -> bool:
        """Whether all that its layer sends goes to the node that reads ``x`` now.

        A name with one reader has no further names but that reader's, so none come later.
        """
        return isinstance(x, Current) or all(self.readers[n] == 1 for n in self.names[x.layer])

    def once(self, node: T) -> T:
        """A node under its own name, or another one if it is in the network already.

        A sum that several layers read is computed in each of them.
        """
        if node.name in self.placed:
            node = replace(node, name=self.fresh(node.name))
        self.placed.add(node.name)
        return node

    # --- what operators are made of ---

    def passed(self, node: Node, shape: Shape, source: Wave) -> Wave:
        """A layer without units behind a signal."""
        return replace(source, layer=self.add(Passing(node, shape)), shape=shape)

    def direct(self, wave: Wave, label: str) -> Current:
        """A signal as it is, as a current."""
        rank = len(wave.shape)
        gain = wave.gain.reshape((1,) * (rank - wave.gain.ndim) + wave.gain.shape)
        node = Scale(name=self.fresh(f"{label}_in"), inputs=(wave.layer,), scale=Param(gain))
        return Current(wave.shape, (Synapses(node),), np.asarray(wave.shift, np.float64))

    def rectified(
        self, value: Wave | Current, label: str, cap: float | None = None,
        steps: Steps | None = None,
    ) -> Wave:  # fmt: skip
        """Units with a Relu, and the maximum that was taken before it."""
        current = self.direct(value, label) if isinstance(value, Wave) else value
        name = self.fresh(label)
        self.add(Units(name, current.shape, current.synapses, current.bias, True, cap, steps))
        wave = Wave(name, current.shape, positive=True)
        if current.pool is None:
            return wave
        return self.passed(replace(self.once(current.pool), inputs=(name,)), current.pooled, wave)

    def ann(self, value: Value) -> Ann:
        """The network whose output is ``value``.

        Raises:
            FrontendError: It is a constant, or ends in a maximum of sums.
        """
        if isinstance(value, Stepped):
            value = value.value
        if isinstance(value, Constant):
            raise FrontendError("does not depend on the input", at=shown(self.file.output))
        current = self.direct(value, "scores") if isinstance(value, Wave) else value
        if current.pool is not None:
            raise FrontendError("the network ends in a maximum of sums", at=current.pool.name,
                                hint="put a Relu behind it, or end in a linear layer")  # fmt: skip
        name = self.fresh("scores")
        self.add(Units(name, current.shape, current.synapses, current.bias, rectified=False))
        declared = {self.input: self.shape, **self.shapes}
        return Ann(self.input, self.shape, tuple(self.layers), declared, self.grain)


def require_small(shape: Shape) -> None:
    """Refuse a signal that is far larger than any target holds.

    Raises:
        FrontendError: It is.
    """
    if int(np.prod(shape, dtype=object)) > MOST_UNITS:
        raise FrontendError(f"has the shape {shape}, more than {MOST_UNITS} elements",
                            hint="no target holds such a layer")  # fmt: skip


def check_size(node: Node, shape: Shape) -> None:
    """Refuse a node of the given output whose windows gather more than anyone computes.

    Raises:
        FrontendError: They do.
    """
    require_small(shape)
    if (size := gathered(node, shape)) > MOST_GATHERED:
        raise FrontendError(f"gathers {size} elements a step, the limit is {MOST_GATHERED}",
                            hint="no target computes such a layer")  # fmt: skip


def walk(file: FileGraph, operators: dict[str, Operator]) -> tuple[Ann, list[Assumption]]:
    """The network of a file.

    Args:
        file: As it was read.
        operators: What each operator makes of signals; those of constants fold.

    Raises:
        FrontendError: It is no network of layers that spiking neurons can stand for.
    """
    nodes = needed(file)
    nodes, dropped = _without_verdict(nodes, file)
    lifted = len(file.shape) == 3 and any(node.op in POOLS for node in nodes)
    shape = tuple(s or 1 for s in file.shape[1:])
    shape = (shape[0], 1, shape[1]) if lifted else shape
    reading = Walk(file, lifted, shape, "")
    reading.input = reading.fresh(safe(file.input))
    reading.shapes[reading.input] = shape
    reading.values = {name: Constant(t.values, t.dtype) for name, t in file.tensors.items()}
    reading.known(file.input, Wave(reading.input, shape))
    reading.readers = Counter(n for node in nodes if node.op != "Shape" for n in node.inputs)
    for node in dropped:
        reading.note(node.label, f"the final {node.op} is left out: the largest score wins")
    for node in nodes:
        with located(node.label):
            _step(reading, node, operators)
    end = next(iter(dropped[0].inputs), "") if dropped else file.output
    if end not in reading.values:
        raise FrontendError("reads nothing", at=dropped[0].label if dropped else file.output)
    ann = reading.ann(reading.values[end])
    return _decided(reading, ann, dropped), reading.notes


def _decided(reading: Walk, ann: Ann, dropped: Sequence[FileNode]) -> Ann:
    """A network of one score, which says no or yes, as one of two: a readout takes the largest.

    Raises:
        FrontendError: A Softmax or ArgMax chooses from one score.
    """
    last = ann.layers[-1]
    assert isinstance(last, Units), "the scores"
    if int(np.prod(last.shape)) != 1:
        return ann
    for node in dropped:
        if node.op not in ("Sigmoid", "Identity"):
            raise FrontendError(
                "has one score, and the largest of one is always the same", at=node.label,
                hint="export two outputs, or the score alone: class 1 is where it is positive",
            )  # fmt: skip
    both = against_zero(last)
    reading.note(last.name, "the file's one score is the second of two, the first is always 0: "
                            "class 1 is where it is positive, class 0 elsewhere")  # fmt: skip
    declared = {**ann.declared, last.name: both.shape}
    return replace(ann, layers=(*ann.layers[:-1], both), declared=declared)


def needed(file: FileGraph) -> list[FileNode]:
    """The nodes that the output depends on."""
    wanted, kept = {file.output}, []
    for node in reversed(file.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _without_verdict(
    nodes: list[FileNode], file: FileGraph
) -> tuple[list[FileNode], list[FileNode]]:
    """Leave out what only chooses among the scores, or makes probabilities of them."""
    dropped: list[FileNode] = []
    while nodes and nodes[-1].op in ("Softmax", "LogSoftmax", "ArgMax", "Sigmoid", "Identity"):
        if nodes[-1].op != "Identity":
            _along_scores(nodes[-1])
        dropped.insert(0, nodes[-1])
        nodes = nodes[:-1]
    return nodes, dropped


def _along_scores(node: FileNode) -> None:
    axis = node.get("axis", 0 if node.op == "ArgMax" else -1)
    if axis not in (1, -1) and node.op != "Sigmoid":
        raise FrontendError(f"takes the axis {axis}, not that of the scores", at=node.label,
                            hint="export it with axis 1, or without it")  # fmt: skip


def _step(reading: Walk, node: FileNode, operators: dict[str, Operator]) -> None:
    missing = [name for name in node.inputs if name and name not in reading.values]
    if missing:
        raise FrontendError(
            f"reads {shown(missing[0])}, a further output of another node",
            hint="only the first output of an operator is read",
        )
    args = [reading.values[name] if name else None for name in node.inputs]
    value: Value
    if node.op == "Constant" and not node.domain:
        value = constant_of(node)
    elif isinstance(args[0] if args else None, Stepped) and node.op in THROUGH:
        value = _through(reading, node, args, operators)
    elif all(isinstance(a, Constant) for a in args if a) and not _quantizes(node):
        value = folded(node, [a for a in args if isinstance(a, Constant)])
    else:
        made = operators.get(f"{node.domain}:{node.op}")
        if made is None:
            raise FrontendError(f"a {node.op} that depends on the input is not read",
                                hint="only constants may go through it")  # fmt: skip
        value = made(reading, node, args)
    if isinstance(value, Constant):
        reading.spend(value)
    reading.known(node.outputs[0], value)


def _quantizes(node: FileNode) -> bool:
    return bool(node.domain) or node.op in ("QuantizeLinear", "DequantizeLinear")


def _through(reading: Walk, node: FileNode, args: Args, operators: dict[str, Operator]) -> Value:
    """The same for the values that integers stand for."""
    held = args[0]
    assert isinstance(held, Stepped), "asked only of those"
    made = operators[f":{node.op}"](reading, node, [held.value, *args[1:]])
    assert isinstance(made, Wave | Current), "of signals come signals"
    return replace(held, value=made)


def constant(args: Args, index: int, what: str) -> Constant | None:
    """An argument that must be a constant; None where it is left out.

    Raises:
        FrontendError: It depends on the input.
    """
    found = args[index] if index < len(args) else None
    if found is None:
        return None
    if not isinstance(found, Constant):
        raise FrontendError(
            f"its {what} depends on the input",
            hint="products of signals have no meaning for spikes: export constant weights",
        )
    return found


def bias_of(values: Array, shape: Shape) -> Array:
    """A bias for each output or channel, broadcasting to a sample."""
    found = np.asarray(values, np.float64).reshape(-1)
    if found.size not in (1, shape[0]):
        raise FrontendError(f"has {found.size} biases for {shape[0]} outputs")
    return found.reshape(-1, *[1] * (len(shape) - 1))
