"""What a target can do of what is asked: choices are refused by name before any plan is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from qspinn.capabilities import Capabilities
from qspinn.choice import Choice, Choices
from qspinn.errors import PlanError, located
from qspinn.ir import Graph, Input, Neuron
from qspinn.passes.quantize import paths
from qspinn.planning import GROUPS

_LEAK_BITS = (1, 2, 3, 4, 5)
_BITS_OF_FORM = {"binary": (1,), "ternary": (2,)}


def require_choices(can: Capabilities, graph: Graph, choices: Choices) -> None:
    """Refuse what the graph has not, or the target cannot do.

    Raises:
        PlanError: It names the path, what is asked and what there is.
    """
    known = choosable(graph)
    for path, choice in choices.items():
        with located(path):
            if path not in known:
                raise PlanError(f"{graph.name} has no such path", hint=f"it has {_few(known)}")
            _require(can, known[path], choice)


def choosable(graph: Graph) -> dict[str, str]:
    """Every path a choice can name, with what it is.

    That is ``weight``, ``bias``, ``state``, ``counter`` (a state whose width follows from its
    values), ``coefficient``, ``threshold``, ``constant``, ``whole`` (a constant that counts),
    ``scale``, ``input`` or ``input list``.
    """
    found = paths(graph)
    for node in graph.nodes:
        if isinstance(node, Input):
            found[f"{node.path}.active"] = "input list"
        if not isinstance(node, Neuron):
            continue
        found[f"{node.path}.scale"] = "scale"
        for name in node.states:
            if name not in node.model.scaled:
                found[f"{node.path}.{name}"] = "counter"
        for name in node.values:
            if name == "threshold":
                found[f"{node.path}.{name}"] = "threshold"
            elif name not in (*node.model.scaled, *node.model.coefficients):
                found[f"{node.path}.{name}"] = "whole"
    return found


def _require(can: Capabilities, kind: str, choice: Choice) -> None:
    allowed: dict[str, Iterable[object]] = _allowed(can, kind, choice)
    for field in fields(choice):
        asked = getattr(choice, field.name)
        if asked == field.default:
            continue
        options = tuple(allowed.get(field.name, ()))
        if not options:
            raise PlanError(f"the {field.name} of {_a(kind)} cannot be chosen here")
        if asked not in options:
            raise PlanError(
                f"the {field.name} {asked} of {_a(kind)} is not offered",
                hint=f"one of {', '.join(map(str, options))}",
            )


def _allowed(can: Capabilities, kind: str, choice: Choice) -> dict[str, Iterable[object]]:
    if kind == "weight":
        bits = _BITS_OF_FORM.get(choice.form, (*can.weight_bits, *can.split_bits))
        return {"bits": bits, "form": can.weight_forms, "rounding": can.constant_roundings}
    if kind in ("bias", "constant"):
        return {"bits": can.bias_bits, "rounding": can.constant_roundings}
    if kind == "threshold":
        return {"bits": can.threshold_bits, "rounding": can.constant_roundings}
    if kind == "state":
        return {"bits": can.state_bits, "rounding": can.state_roundings}
    if kind == "coefficient":
        bits = _LEAK_BITS if choice.form == "leak" else can.decay_bits
        return {"bits": bits, "form": can.decay_forms, "rounding": can.state_roundings}
    if kind == "scale":
        groups = [group for group in GROUPS if group in can.scale_groups]
        return {"form": can.scale_methods, "group": groups}
    if kind == "input":
        return {"bits": range(2, 17)}
    if kind == "input list" and choice.share is not None and 0.0 < choice.share <= 1.0:
        return {"share": (choice.share,)}
    return {"share": ("above 0, at most 1",)} if kind == "input list" else {}


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _few(paths: Iterable[str]) -> str:
    return ", ".join(list(paths)[:12])
