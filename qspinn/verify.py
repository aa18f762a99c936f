"""The rules every graph obeys, checked between passes."""

from __future__ import annotations

import numpy as np

from qspinn.errors import VerifyError, located
from qspinn.fixed import WORD, Interval
from qspinn.ir import (
    CONNECTIONS,
    READOUTS,
    VOTE,
    AvgPool2d,
    Delay,
    Graph,
    Input,
    Neuron,
    Node,
    Output,
    Param,
    State,
)
from qspinn.signals import Signal, signals

KINDS = ("spike", "count", "current")
STARTS = ("skewed", "cold")


def verify(graph: Graph) -> Graph:
    """Return ``graph`` unchanged if it obeys the rules of the IR.

    Raises:
        VerifyError: It does not; the error names the node.
    """
    if graph.start not in STARTS:
        raise VerifyError(f"{graph.name} starts {graph.start!r}, not one of {STARTS}")
    _names(graph)
    for node in graph.nodes:
        with located(node.name):
            _node(node)
    states = [s for n in graph.of_type(Neuron) for s in n.states.values()]
    formats = {p.fmt is None for n in graph.nodes for p in n.params().values()}
    if len(formats | {s.fmt is None for s in states}) > 1:
        raise VerifyError(f"{graph.name} mixes float and integer parameters or states")
    known = signals(graph)
    for node in graph.nodes:
        with located(node.name):
            _edges(graph, node, known)
    return graph


def _names(graph: Graph) -> None:
    seen: set[str] = set()
    everyone = {node.name for node in graph.nodes}
    for node in graph.nodes:
        with located(node.name):
            if node.name in seen:
                raise VerifyError("two nodes have this name")
            for source in node.inputs:
                if source not in everyone:
                    raise VerifyError(f"reads {source!r}, which is not in the graph")
                if source not in seen and not isinstance(node, Delay):
                    raise VerifyError(
                        f"reads {source!r} before it is computed",
                        hint="a cycle must pass through a Delay",
                    )
        seen.add(node.name)


def _node(node: Node) -> None:
    arity = 0 if isinstance(node, Input) else 1
    if len(node.inputs) != arity and not (isinstance(node, Neuron) and node.inputs):
        raise VerifyError(f"{type(node).__name__} takes {arity} inputs, not {len(node.inputs)}")
    coefficients = node.model.coefficients if isinstance(node, Neuron) else frozenset()
    for name, param in node.params().items():
        _values(name, param)
        if param.fmt is not None and param.fmt.leak and name not in coefficients:
            raise VerifyError(f"{name}: only a decay can have the leak format")
        if param.fmt is not None and param.fmt.binary and not _is_weight(node, name):
            raise VerifyError(f"{name}: only weights can have a binary format")
    if isinstance(node, Input | Delay):
        _source(node)
    if isinstance(node, Output):
        _readout(node)
    if isinstance(node, Delay) and node.steps < 1:
        raise VerifyError(f"a delay lasts at least 1 step, not {node.steps}")
    if isinstance(node, Neuron):
        _neuron(node)


def readouts_of(*, graded: bool) -> tuple[str, ...]:
    """The readouts of graded values, or of spikes."""
    return tuple(name for name in READOUTS if name.startswith("membrane") == graded)


def _readout(node: Output) -> None:
    if node.readout not in (*READOUTS, VOTE):
        raise VerifyError(f"a readout is one of {(*READOUTS, VOTE)}, not {node.readout!r}")
    if bool(node.labels) != (node.readout == VOTE):
        raise VerifyError(f"the readout {node.readout!r} has {len(node.labels)} labels")
    if node.labels and not (min(node.labels) >= -1 and max(node.labels) >= 0):
        raise VerifyError(
            f"labels run from {min(node.labels)} to {max(node.labels)}",
            hint="a label is a class from 0 on, or -1; some element must speak for a class",
        )
    if node.labels and max(node.labels) >= len(node.labels):
        raise VerifyError(f"{len(node.labels)} elements cannot speak for class {max(node.labels)}")
    if missing := set(range(max(node.labels, default=-1) + 1)) - set(node.labels):
        raise VerifyError(f"no element speaks for class {min(missing)}")


def _is_weight(node: Node, name: str) -> bool:
    return isinstance(node, CONNECTIONS) and name != "bias"


def _source(node: Input | Delay) -> None:
    kinds = KINDS if isinstance(node, Input) else KINDS[:2]
    what = type(node).__name__
    if node.kind not in kinds:
        raise VerifyError(f"{what}: the kind is one of {kinds}, not {node.kind!r}")
    most = 1 if node.kind == "spike" else node.high
    if node.kind != "current" and not 1 <= node.high <= most:
        raise VerifyError(f"{what}: a {node.kind} is never at most {node.high}")
    if not node.shape or min(node.shape) < 1:
        raise VerifyError(f"{what}: {node.shape} is no shape")


def _neuron(node: Neuron) -> None:
    model = node.model
    if set(node.values) != set(model.params) or set(node.states) != set(model.states):
        raise VerifyError(
            f"{model.name} has parameters {model.params} and states {model.states}, "
            f"not {tuple(node.values)} and {tuple(node.states)}"
        )
    for name, state in node.states.items():
        _state(name, state)
    enters = node.input_format
    if enters is not None and (enters.leak or enters.binary):
        raise VerifyError(f"its input cannot have the format {enters}")


def _state(name: str, state: State) -> None:
    _values(name, state.init)
    if state.fmt is None:
        return
    if state.fmt.leak or state.fmt.binary:
        what = "leak" if state.fmt.leak else "binary"
        raise VerifyError(f"{name}: a state cannot have the {what} format")
    start = state.init
    if start.fmt is None or start.fmt.frac != state.fmt.frac:
        raise VerifyError(
            f"{name} starts from {start.fmt or 'real'} values, is stored as {state.fmt}"
        )
    _within(name, start, state.fmt.range, str(state.fmt))


def _values(name: str, param: Param) -> None:
    if not np.isfinite(param.values).all():
        bad = np.count_nonzero(~np.isfinite(param.values))
        raise VerifyError(f"{name} holds {bad} NaN or infinite values of {param.values.size}")
    if param.values.size == 0:
        raise VerifyError(f"{name} is empty")
    if param.fmt is not None:
        _within(name, param, param.fmt.range, str(param.fmt))


def _within(name: str, param: Param, span: Interval, limit: str) -> None:
    lo, hi = int(param.values.min()), int(param.values.max())
    if lo < span.lo or hi > span.hi:
        raise VerifyError(f"{name} runs from {lo} to {hi}, outside {limit}")


def _edges(graph: Graph, node: Node, known: dict[str, Signal]) -> None:
    args = [known[i] for i in node.inputs]
    if isinstance(node, Neuron) and any(x.kind != "current" for x in args):
        raise VerifyError("neurons take currents; put a connection in front of them")
    if isinstance(node, Input) and graph.is_integer and node.kind == "current" and not node.fmt:
        raise VerifyError("an integer graph's current has a format")
    if isinstance(node, AvgPool2d) and graph.is_integer:
        raise VerifyError("an integer graph has no average; canonicalize makes it a sum")
    if isinstance(node, Delay):
        _delayed(node, args[0])
    if isinstance(node, Output):
        graded = args[0].kind == "current"
        if graded != node.readout.startswith("membrane"):
            raise VerifyError(
                f"the readout {node.readout!r} does not read a {args[0].kind}",
                hint=f"readouts (--readout) that do: {', '.join(readouts_of(graded=graded))}",
            )
        if node.labels and len(node.labels) != args[0].size:
            raise VerifyError(f"has {len(node.labels)} labels for {args[0].size} elements")
    span = known[node.name].interval
    if span is not None and span.signed_bits > WORD:
        raise VerifyError(f"a value of {span} needs {span.signed_bits} bits, the limit is {WORD}")


def _delayed(node: Delay, x: Signal) -> None:
    if (x.shape, x.kind) != (node.shape, node.kind):
        raise VerifyError(f"delays {node.kind}{node.shape}, reads {x.kind}{x.shape}")
    if x.interval is not None and x.interval not in Interval(0, node.high):
        raise VerifyError(f"delays values up to {node.high}, reads {x.interval}")
