"""Quantize: apply a plan to a canonical float graph. All approximation in qspinn happens here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.errors import PlanError, QuantizeError, located
from qspinn.fixed import (
    FloatArray,
    IntArray,
    Overflow,
    QFormat,
    Rounding,
    text_key,
    to_int,
    to_real,
)
from qspinn.ir import (
    CONNECTIONS,
    Array,
    Graph,
    Input,
    Lateral,
    Linear,
    Neuron,
    Node,
    Param,
    Scale,
    State,
)
from qspinn.plan import Entry, Plan
from qspinn.planning import linear_readers

_NAMES = {"scale": "weight"}
"""A one-to-one connection's ``scale`` is called weight in plans: ``.scale`` means the factor."""


def quantize(graph: Graph, plan: Plan) -> Graph:
    """Return ``graph`` in integers.

    Everything in the scale group of a neuron (weights and biases of all its connections,
    threshold, states...) is multiplied by the plan's scale and then rounded to its format. The
    weights of inputs that the plan does not keep become 0, so that events there do nothing.

    Raises:
        PlanError: The plan lacks an entry, or names something the graph has not.
        QuantizeError: A value does not fit its format and may not saturate.
    """
    refuse_unknown(graph, plan)
    return graph.map(lambda node: quantize_node(graph, node, plan))


def quantize_node(graph: Graph, node: Node, plan: Plan) -> Node:
    """One node of a canonical float graph in integers, under a plan for its scale group.

    Raises:
        PlanError: The plan lacks an entry.
        QuantizeError: A value does not fit its format and may not saturate.
    """
    seed = int(plan.options.get("seed", "0"))
    return _without(_node(graph, node, plan, seed), _dropped(graph, plan).get(node.name))


def units(graph: Graph, node: Node, plan: Plan) -> dict[str, FloatArray]:
    """How many integers a real unit is worth, by parameter of a node, broadcasting to its values.

    Of a leak it is 1: what its shift count stands for is no multiple of it.
    """
    found: dict[str, FloatArray] = {}
    for name in node.params():
        fmt = plan[path_of(node, name)].fmt
        factor = np.ones(())
        if isinstance(node, CONNECTIONS):
            factor = _along(_factor(graph, node, plan), node, name)
        elif isinstance(node, Neuron) and name in node.model.scaled:
            factor = scale_of(plan, node)
        found[name] = factor * (1.0 if fmt.leak else np.ldexp(1.0, fmt.frac))
    return found


def paths(graph: Graph) -> dict[str, str]:
    """Every path a plan for ``graph`` needs, with what it is: weight, bias, state, constant..."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Input) and node.kind == "current":
            found[f"{node.path}.value"] = "input"
        elif isinstance(node, CONNECTIONS):
            for name in node.params():
                found[path_of(node, name)] = _NAMES.get(name, name)
        elif isinstance(node, Neuron):
            for name in node.values:
                kind = "coefficient" if name in node.model.coefficients else "constant"
                found[f"{node.path}.{name}"] = kind
            for name in node.states:
                found[f"{node.path}.{name}"] = "state"
    return found


def input_of(node: Neuron) -> str:
    """The plan path of a neuron node's summed input: derived, or dropping bits where it is not."""
    return f"{node.path}.input"


def path_of(node: Node, name: str) -> str:
    """The plan path of a connection's parameter."""
    return f"{node.path}.{_NAMES.get(name, name)}"


def scale_of(plan: Plan, node: Neuron) -> FloatArray:
    """The factors of a neuron node, broadcasting to its shape.

    Raises:
        PlanError: Their number is neither 1, nor the channels', nor the neurons'.
    """
    factors = plan.scales.get(node.path, np.ones(()))
    size = int(np.prod(node.shape))
    if factors.size == 1:
        return factors.reshape(())
    if factors.size == size:
        return factors.reshape(node.shape)
    if factors.size == node.shape[0]:
        return factors.reshape(-1, *([1] * (len(node.shape) - 1)))
    raise PlanError(
        f"{factors.size} scales for {size} neurons in {node.shape[0]} channels",
        at=f"{node.path}.scale",
    )


def notes(graph: Graph, plan: Plan) -> dict[str, str]:
    """What a plan costs visibly, by path: constants that are clipped, decays that are moved."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            factor = _factor(graph, node, plan)
            for name, param in node.params().items():
                path = path_of(node, name)
                found[path] = _clipped(param.values * _along(factor, node, name), plan[path])
        elif isinstance(node, Neuron):
            for name, param in node.values.items():
                path = f"{node.path}.{name}"
                scaled = scale_of(plan, node) if name in node.model.scaled else np.ones(())
                moved = name in node.model.coefficients and plan[path].fmt.leak
                note = _moved if moved else _clipped
                found[path] = note(param.values * scaled, plan[path])
    return {path: note for path, note in found.items() if note}


def _clipped(values: FloatArray, entry: Entry) -> str:
    span, real = entry.fmt.range, np.ldexp(values, entry.fmt.frac)
    share = float(((real < span.lo - 0.5) | (real >= span.hi + 0.5)).mean())
    return f"{share:.2%} clipped" if share else ""


def _moved(values: FloatArray, entry: Entry) -> str:
    kept = to_real(to_int(values, entry.fmt), entry.fmt)
    ends = [f"{x.min():.6g}" + (f" to {x.max():.6g}" if x.max() > x.min() else "")
            for x in (values, kept)]  # fmt: skip
    return f"{ends[0]} becomes {ends[1]}"


def refuse_unknown(graph: Graph, plan: Plan) -> None:
    """Refuse a plan that speaks of something the graph has not.

    Raises:
        PlanError: It names the first.
    """
    known = {**paths(graph), **{input_of(n): "input" for n in graph.of_type(Neuron)}}
    read = {path for path, entry in plan.entries.items() if entry.role != "derived"}
    if extra := sorted(read - known.keys()):
        raise PlanError(f"the plan names {extra[0]}, which {graph.name} has not",
                        hint=f"it has {', '.join(sorted(known)[:12])}")  # fmt: skip
    neurons = {node.path for node in graph.of_type(Neuron)}
    if extra := sorted(plan.scales.keys() - neurons):
        raise PlanError(f"the plan scales {extra[0]}, which is no neuron node of {graph.name}")
    inputs = {node.path for node in graph.of_type(Input)}
    if extra := sorted(plan.active.keys() - inputs):
        raise PlanError(f"the plan keeps inputs of {extra[0]}, which is no input of {graph.name}")


def _dropped(graph: Graph, plan: Plan) -> dict[str, IntArray]:
    """The columns of weights that a plan drops, by linear node."""
    found: dict[str, IntArray] = {}
    for node in graph.of_type(Input):
        kept, size = plan.active.get(node.path), int(np.prod(node.shape))
        if kept is None:
            continue
        with located(f"{node.path}.active"):
            if kept.size and (kept.min() < 0 or kept.max() >= size):
                raise PlanError(f"keeps inputs up to {kept.max()}, there are {size}")
            rest = np.setdiff1d(np.arange(size), kept)
            found.update({reader.name: rest for reader in linear_readers(graph, node)})
    return found


def _without(node: Node, columns: IntArray | None) -> Node:
    """A linear node that ignores some of its inputs."""
    if columns is None or not isinstance(node, Linear):
        return node
    values = node.weight.values.copy()
    values[:, columns] = 0
    return replace(node, weight=replace(node.weight, values=values))


def _node(graph: Graph, node: Node, plan: Plan, seed: int) -> Node:
    if isinstance(node, Input) and node.kind == "current":
        return replace(node, fmt=plan[f"{node.path}.value"].fmt)
    if isinstance(node, CONNECTIONS):
        factor = _factor(graph, node, plan)
        changed = {
            name: _constant(path_of(node, name), param, _along(factor, node, name), plan, seed)
            for name, param in node.params().items()
        }
        return node.with_params(changed)
    return _neurons(node, plan, seed) if isinstance(node, Neuron) else node


def _factor(graph: Graph, node: Node, plan: Plan) -> FloatArray:
    """The scale of the neurons a connection feeds, as (channels or outputs, 1, ...)."""
    targets = [user for user in graph.users(node.name) if isinstance(user, Neuron)]
    with located(node.path):
        if not targets:
            raise QuantizeError("feeds no neuron, so nothing gives its weights a scale")
        factors = [scale_of(plan, target) for target in targets]
        if any(not np.array_equal(factors[0], f) for f in factors[1:]):
            names = ", ".join(t.name for t in targets)
            raise PlanError(f"feeds {names}, which have different scales")
    return factors[0]


def _along(factor: FloatArray, node: Node, name: str) -> FloatArray:
    """The factor in the layout of a connection's parameter."""
    if factor.ndim == 0 or isinstance(node, Lateral | Scale):
        return factor
    if name == "bias":
        return _per_output(factor, node)
    weight: Array = node.params()["weight"].values
    return _per_output(factor, node).reshape(-1, *([1] * (weight.ndim - 1)))


def _per_output(factor: FloatArray, node: Node) -> FloatArray:
    if isinstance(node, Linear):
        return factor.reshape(-1)
    if factor.size != factor.shape[0]:
        with located(node.path):
            raise PlanError("a convolution's weights are shared: scale per layer or channel")
    return factor.reshape(-1)


def _constant(path: str, param: Param, factor: FloatArray, plan: Plan, seed: int) -> Param:
    entry = plan[path]
    with located(path):
        values = to_int(
            param.values * factor, entry.fmt, entry.rounding, entry.overflow, text_key(path, seed)
        )
    return Param(values, entry.fmt)


def _neurons(node: Neuron, plan: Plan, seed: int) -> Neuron:
    factor = scale_of(plan, node)
    one = np.ones(())
    values: dict[str, Param] = {}
    for name, param in node.values.items():
        path = f"{node.path}.{name}"
        if name in node.model.coefficients:
            values[name] = _coefficient(path, param, plan[path])
        else:
            scaled = factor if name in node.model.scaled else one
            values[name] = _constant(path, param, scaled, plan, seed)
    states = {
        name: _state(f"{node.path}.{name}", state, plan,
                     factor if name in node.model.scaled else one)
        for name, state in node.states.items()
    }  # fmt: skip
    return replace(node, values=values, states=states, input_format=_entering(node, plan))


def _entering(node: Neuron, plan: Plan) -> QFormat | None:
    """The format in which the summed input enters, if the plan gives it one."""
    path = input_of(node)
    entry = plan.entries.get(path)
    if entry is None or entry.role == "derived":
        return None
    with located(path):
        if entry.rounding is not Rounding.FLOOR or entry.overflow is not Overflow.ERROR:
            raise PlanError(
                f"a summed input rounds down and never overflows, the plan says {entry.rounding} "
                f"and {entry.overflow}",
                hint="write floor and error",
            )
        if entry.fmt.leak or entry.fmt.binary:
            raise PlanError(f"a summed input cannot have the format {entry.fmt}")
    return entry.fmt


def _coefficient(path: str, param: Param, entry: Entry) -> Param:
    """A decay is rounded to nearest; the entry's rounding is that of its products."""
    with located(path):
        return Param(to_int(param.values, entry.fmt), entry.fmt, entry.rounding)


def _state(path: str, state: State, plan: Plan, factor: FloatArray) -> State:
    entry = plan[path]
    with located(path):
        if entry.fmt.binary:
            raise PlanError("only weights can have a binary format", hint="write s4f0")
        start = to_int(state.init.values * factor, entry.fmt, overflow=Overflow.SATURATE)
    return State(Param(start, entry.fmt), entry.fmt, entry.rounding, entry.overflow)
