"""From a stored document back to a graph: every field of its declared type, every size bounded."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from math import prod
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from qspinn import dynamics, ir
from qspinn.dynamics import Model, Op
from qspinn.errors import FrontendError, located
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.signals import signals

MAX_SIGNAL = 1 << 24
"""Elements of a signal."""
MAX_NUMBER = 1 << 40
"""No integer of a document is larger."""
MAX_OPS = 4096
MAX_DEPTH = 32
"""A graph's document is about ten levels deep."""

_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        ir.Graph, ir.Input, ir.Linear, ir.Lateral, ir.Scale, ir.Conv1d, ir.Conv2d, ir.SumPool2d,
        ir.AvgPool2d, ir.MaxPool2d, ir.Flatten, ir.Delay, ir.Neuron, ir.Output, ir.Param, ir.State,
        Model, Op,
    )
}  # fmt: skip
# From numpy 2.5 on the origin of its alias for arrays is the alias.
_ARRAYS = (np.ndarray, get_origin(ir.Array))
_PLAIN: dict[str, Any] = {"QFormat": QFormat.parse, "Rounding": Rounding, "Overflow": Overflow}
_ARITY = {
    **dict.fromkeys(dynamics.LEAVES, 0), "shr": 1, "not": 1, "store": 1, "select": 3,
}  # fmt: skip


def unpack(document: Any, arrays: list[ir.Array]) -> ir.Graph:
    """The graph that `qspinn.packing.pack` made a document and arrays of.

    Raises:
        FrontendError: The document is none of a graph, or beyond a bound.
    """
    graph = _value(document, arrays, 0)
    if not isinstance(graph, ir.Graph):
        raise FrontendError("holds no graph")
    for node in graph.nodes:
        with located(node.name):
            _sizes(node)
            if isinstance(node, ir.Neuron):
                _model(node.model)
    return graph


def check_signals(graph: ir.Graph) -> None:
    """Refuse signals that are too large to compute.

    Raises:
        FrontendError: One has more than `MAX_SIGNAL` elements.
    """
    for name, signal in signals(graph).items():
        if prod(signal.shape) > MAX_SIGNAL:
            raise FrontendError(
                f"a signal of shape {signal.shape} has more than {MAX_SIGNAL} elements", at=name
            )


def _value(value: Any, arrays: list[ir.Array], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise FrontendError(f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list):
        return tuple(_value(v, arrays, depth + 1) for v in value)
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise FrontendError(f"holds the number {value:.3e}")
    if not isinstance(value, dict):
        return value
    kind = value.get("is")
    if kind in _PLAIN:
        return _PLAIN[kind](value["value"])
    if kind == "array":
        return _numbered(value["value"], arrays)
    if kind == "map":
        return {k: _value(v, arrays, depth + 1) for k, v in value["items"]}
    if kind not in _TYPES:
        raise FrontendError(f"holds a {str(kind)[:40]}, which is no part of a graph")
    return _made(kind, value, arrays, depth)


def _made(kind: str, value: dict[str, Any], arrays: list[ir.Array], depth: int) -> Any:
    items = {k: _value(v, arrays, depth + 1) for k, v in value.items() if k != "is"}
    for name, declared in _declared(_TYPES[kind]).items():
        if name in items and not _is(items[name], declared):
            what = type(items[name]).__name__
            raise FrontendError(f"{kind}.{name} is of type {what}")
    return _TYPES[kind](**items)


def _numbered(number: object, arrays: list[ir.Array]) -> ir.Array:
    if not isinstance(number, int) or not 0 <= number < len(arrays):
        raise FrontendError(f"names array {str(number)[:40]} of {len(arrays)}")
    return arrays[number]


@cache
def _declared(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _is(value: Any, declared: Any) -> bool:
    """Whether a value is of a declared type: those that occur in a graph."""
    origin, inner = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return any(_is(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = (inner[0],) * len(value) if inner[-1] is ... else inner
        return len(value) == len(each) and all(map(_is, value, each))
    if origin in _ARRAYS:
        return isinstance(value, np.ndarray)
    if origin is not None:
        return isinstance(value, Mapping) and all(
            _is(k, inner[0]) and _is(v, inner[1]) for k, v in value.items()
        )
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, declared)


def _sizes(node: ir.Node) -> None:
    shape = getattr(node, "shape", ())
    if not all(size > 0 for size in shape) or prod(shape) > MAX_SIGNAL:
        raise FrontendError(f"{str(shape)[:60]} is no shape of at most {MAX_SIGNAL} elements")
    for name in ("stride", "padding", "dilation", "kernel", "groups", "steps", "high"):
        numbers = getattr(node, name, 1)
        for number in numbers if isinstance(numbers, tuple) else (numbers,):
            if not (0 if name == "padding" else 1) <= number <= 1 << 24:
                raise FrontendError(f"{name} is {number}")
    if isinstance(node, ir.Delay) and prod(shape) * node.steps > MAX_SIGNAL:
        raise FrontendError(f"keeps {shape} for {node.steps} steps: over {MAX_SIGNAL} elements")


def _model(model: Model) -> None:
    """A list in which every operation reads earlier ones, of names that are declared."""
    count = len(model.ops)
    if not 1 <= count <= MAX_OPS:
        raise FrontendError(f"its model has {count} operations, must be 1 to {MAX_OPS}")
    if model.sends not in ("spike", "count", "current") or not 1 <= model.max_out < 1 << 16:
        raise FrontendError(f"its model sends {model.sends[:40]!r} up to {model.max_out}")
    if not 0 <= model.output < count:
        raise FrontendError(f"its model sends operation {model.output} of {count}")
    for at, op in enumerate(model.ops):
        _op(model, at, op)
    if missing := set(model.states) - {op.name for op in model.ops if op.kind == "store"}:
        raise FrontendError(f"its model never stores {min(missing)[:40]!r}")
    if (model.sends == "spike") != (model.ops[model.output].kind in dynamics.MASKS):
        raise FrontendError(f"its model sends as a {model.sends} what is something else")


def _op(model: Model, at: int, op: Op) -> None:
    names = {"state": model.states, "store": model.states, "param": model.params}
    if op.kind not in dynamics.KINDS or len(op.args) != _ARITY.get(op.kind, 2):
        raise FrontendError(f"its model has a {op.kind[:40]!r} of {len(op.args)} operands")
    if not all(0 <= arg < at for arg in op.args) or not _fitting(model, op):
        raise FrontendError(f"operation {at} of its model, a {op.kind}, reads {op.args}")
    if op.kind in names and op.name not in names[op.kind]:
        raise FrontendError(f"operation {at} of its model is of {op.name[:40]!r}")
    if op.kind == "shr" and not 0 <= op.value < 63:
        raise FrontendError(f"operation {at} of its model shifts by {op.value}")


def _fitting(model: Model, op: Op) -> bool:
    """Whether the operands are truth values or numbers, as the operation needs them."""
    masks = [model.ops[arg].kind in dynamics.MASKS for arg in op.args]
    if op.kind == "mul" and model.ops[op.args[1]].kind != "param":
        return False
    wanted = [op.kind in dynamics.LOGIC] * len(masks)
    return masks == ([True, False, False] if op.kind == "select" else wanted)


assert all(is_dataclass(kind) for kind in _TYPES.values())
