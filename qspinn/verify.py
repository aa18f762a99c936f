"""The rules every graph obeys, checked between passes."""

from __future__ import annotations

import numpy as np

from qspinn.errors import VerifyError, located
from qspinn.ir import READOUTS, AvgPool2d, Delay, Graph, Input, Neuron, Node, Output, Param, State
from qspinn.signals import Signal, signals

KINDS = ("spike", "count", "current")


def verify(graph: Graph) -> Graph:
    """Return ``graph`` unchanged if it obeys the rules of the IR.

    Raises:
        VerifyError: It does not; the error names the node.
    """
    _names(graph)
    for node in graph.nodes:
        with located(node.name):
            _node(node)
    formats = {p.fmt is None for n in graph.nodes for p in n.params().values()}
    if len(formats) > 1:
        raise VerifyError(f"{graph.name} mixes float and integer parameters")
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
    for name, param in node.params().items():
        _values(name, param)
    if isinstance(node, Input) and node.kind not in KINDS:
        raise VerifyError(f"an input is one of {KINDS}, not {node.kind!r}")
    if isinstance(node, Output) and node.readout not in READOUTS:
        raise VerifyError(f"a readout is one of {READOUTS}, not {node.readout!r}")
    if isinstance(node, Delay) and node.steps < 1:
        raise VerifyError(f"a delay lasts at least 1 step, not {node.steps}")
    if isinstance(node, Neuron):
        _neuron(node)


def _neuron(node: Neuron) -> None:
    model = node.model
    if set(node.values) != set(model.params) or set(node.states) != set(model.states):
        raise VerifyError(
            f"{model.name} has parameters {model.params} and states {model.states}, "
            f"not {tuple(node.values)} and {tuple(node.states)}"
        )
    for name, state in node.states.items():
        _state(name, state)


def _state(name: str, state: State) -> None:
    _values(name, state.init)
    if state.fmt is not None and state.fmt.leak:
        raise VerifyError(f"{name}: a state cannot have the leak format")


def _values(name: str, param: Param) -> None:
    if not np.isfinite(param.values).all():
        bad = np.count_nonzero(~np.isfinite(param.values))
        raise VerifyError(f"{name} holds {bad} NaN or infinite values of {param.values.size}")
    if param.values.size == 0:
        raise VerifyError(f"{name} is empty")
    if param.fmt is None:
        return
    lo, hi, span = int(param.values.min()), int(param.values.max()), param.fmt.range
    if lo < span.lo or hi > span.hi:
        raise VerifyError(f"{name} runs from {lo} to {hi}, outside {param.fmt}")


def _edges(graph: Graph, node: Node, known: dict[str, Signal]) -> None:
    args = [known[i] for i in node.inputs]
    if isinstance(node, Neuron) and any(x.kind != "current" for x in args):
        raise VerifyError("neurons take currents; put a connection in front of them")
    if isinstance(node, AvgPool2d) and graph.is_integer:
        raise VerifyError("an integer graph has no average; canonicalize makes it a sum")
    if isinstance(node, Delay) and (args[0].shape, args[0].kind) != (node.shape, node.kind):
        raise VerifyError(f"delays {node.kind}{node.shape}, reads {args[0].kind}{args[0].shape}")
    if isinstance(node, Output):
        graded = args[0].kind == "current"
        if graded != node.readout.startswith("membrane"):
            raise VerifyError(f"the readout {node.readout!r} does not read a {args[0].kind}")
    span = known[node.name].interval
    if span is not None and span.bits > 63:
        raise VerifyError(f"a value of {span} needs {span.bits} bits, the limit is 63")
