"""Modules to nodes, in the order in which containers run them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qspinn.errors import FrontendError, located
from qspinn.frontends.live.build import Build, Wire
from qspinn.frontends.live.layers import RANKS, array, matrix
from qspinn.frontends.live.loops import looped
from qspinn.frontends.live.modules import (
    STEPWISE,
    children,
    kind,
    label,
    leading,
    leaves,
    unread,
)
from qspinn.ir import Param, Shape


def follow(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """The nodes of a module and of what it contains; returns what it sends."""
    found = kind(module)
    if not found.ordered:
        return leaf(build, path, module, (wire,), lead)
    inner = lead - 1 if found.name in STEPWISE and lead > 1 else lead
    for name, each in children(module):
        wire = follow(build, f"{path}.{name}" if path else name, each, wire, inner)
    return wire


def leaf(build: Build, path: str, module: Any, wires: Sequence[Wire], lead: int) -> Wire:
    """The nodes of one module of a framework that reads the sum of ``wires``.

    A layer may stand in several places, which then share its weights; neurons may not.

    Raises:
        FrontendError: It has no exact counterpart, or cannot read what is sent to it.
    """
    found = kind(module)
    with located(label(path, module)):
        _require_plain(build, path, module)
        if any(wire.votes for wire in wires):
            raise FrontendError("lies behind a VotingLayer, which is the end of a network")
        if found.neurons is not None:
            _require_own_state(build, path, module)
            return found.neurons(build, path, module, wires, lead)
        if found.looped:
            return looped(build, path, module, wires, lead, leaf)
        if len(wires) > 1:
            raise FrontendError(
                "reads a sum of signals; only neurons can",
                hint="give each summand a connection of its own, in front of the neurons",
            )
        if found.layer is not None:
            return found.layer(build, path, module, wires[0], lead)
        if (found.package, found.name) == ("spikingjelly", "LinearRecurrentContainer"):
            return _recurrent(build, path, module, wires[0], lead)
        raise unread(module)


def _require_own_state(build: Build, path: str, module: Any) -> None:
    """Refuse neurons that stand in two places: each of ours has a state of its own."""
    first = build.stateful.setdefault(id(module), path)
    if first != path:
        raise FrontendError(
            f"keeps one state for two places: it is net.{first} as well",
            hint="give each use neurons of its own",
        )


def _require_plain(build: Build, path: str, module: Any) -> None:
    """Refuse weights that hooks compute: what a module holds of them may be stale."""
    own = [name for name, _ in module.named_parameters(recurse=False)]
    computed = [n for n in own if n.endswith("_orig") or n in ("weight_g", "weight_v")]
    if computed:
        raise FrontendError(
            f"computes its weights from {', '.join(computed)} in a hook",
            hint="make them permanent first: torch.nn.utils.prune.remove, remove_weight_norm",
        )
    if module._forward_hooks or module._forward_pre_hooks:
        build.note(path or "net", "has hooks, which are not read")


def _recurrent(build: Build, path: str, module: Any, wire: Wire, lead: int) -> Wire:
    """SpikingJelly's LinearRecurrentContainer: a matrix over the input and the last spikes."""
    inner = f"{path}.sub_module" if path else "sub_module"
    if kind(module.sub_module).neurons is None or len(wire.shape) != 1:
        raise FrontendError(
            "is read around one module of neurons, and for a flat signal",
            hint="put other layers in front of it",
        )
    weight, size = array(module.rc.weight), wire.shape[0]
    if weight.shape[1] != size + len(weight):
        raise FrontendError(f"its matrix {weight.shape} does not fit an input of {size}")
    bias = None if module.rc.bias is None else Param(array(module.rc.bias))
    name = build.reserve(inner)
    back = build.delayed(name, (len(weight),))
    currents = [
        matrix(build, f"{path}.rc", wire, weight[:, :size], bias),
        matrix(build, f"{path}.rc_back", back, weight[:, size:], None),
    ]
    return leaf(build, inner, module.sub_module, currents, lead)


def _inner(module: Any) -> Iterator[tuple[str, Any]]:
    """The leaves, those inside a loop as well."""
    for path, each in leaves(module):
        if kind(each).looped:
            yield from _inner(each.module)
        else:
            yield path, each


def input_shape(module: Any, sample: Any, lead: int) -> Shape:
    """The shape of one step of one sample.

    Raises:
        FrontendError: Nothing says it.
    """
    rank = size = None
    for _, each in _inner(module):
        name = kind(each).name
        if name in ("Flatten", "Identity") or name.startswith("Dropout"):
            rank = rank if name != "Flatten" else -1
            continue
        if rank is None:
            rank = RANKS.get(name)
        sizes = ("in_features", "input_size", "size_in")
        inner = getattr(each, "linear", getattr(each, "rnn", each))
        size = next((getattr(inner, n) for n in sizes if hasattr(inner, n)), None)
        break
    if sample is None:
        if size is None or rank == -1:
            raise FrontendError(
                "nothing in it says which shape its input has",
                hint="give sample_input, such as the module's own input for one sample",
            )
        return (int(size),)
    shape = tuple(int(n) for n in sample.shape)
    if rank is not None and rank > 0 and len(shape) == rank:
        return shape
    if len(shape) <= lead or (rank is not None and rank > 0 and len(shape) - lead != rank):
        dims = "time, batch" if lead == 2 else "batch"
        raise FrontendError(
            f"sample_input has shape {shape}; the module takes ({dims}, ...)"
            + (f" with {rank} dimensions of the signal" if rank and rank > 0 else "")
        )
    return shape[lead:]


__all__ = ["follow", "input_shape", "leading", "leaf"]
