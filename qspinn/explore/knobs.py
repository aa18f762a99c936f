"""Which knobs a network and a target have, and what the words on them ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from qspinn.backend import Backend
from qspinn.capabilities import Capabilities
from qspinn.choice import Choice
from qspinn.encode import Encoder
from qspinn.errors import PlanError
from qspinn.explore.space import KINDS, Knob, Space
from qspinn.fixed import Rounding
from qspinn.ir import Flatten, Graph, Input, Lateral, Linear, Neuron, Node
from qspinn.passes.quantize import path_of
from qspinn.plan import Plan
from qspinn.planning import METHODS, connections_of, has_sign, weight

ROUNDING = ":rounding"
"""Ends the name of a knob that turns the rounding of a path."""
FORMS = ("binary", "ternary", "leak")
SHARED = "shared"
ALL = "all"
LADDERS = {
    "weight": ("16", "9", "8", "7", "6", "5", "4", "3", "2", "1", "ternary", "binary"),
    "bias": ("16", "12", "8", "6", "4"),
    "membrane": ("24", "16", "12", "10", "8", "7", "6", "5", "4"),
    "current": ("24", "16", "12", "10", "8", "7", "6", "5", "4"),
    "threshold": ("shared", "8", "6", "4"),
    "decay": ("12", "8", "6", "5", "4", "3", "leak"),
}
"""What is tried of a kind unless it is named, the finest first; as far as the target has it."""
SHARES = ("1", "0.9999", "0.999", "0.995", "0.99", "0.98", "0.95")
"""Shares of all input current that the inputs kept make up, at least."""
_STEPS = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)

QUIET = ("steps", *(kind + ROUNDING for kind in ("bias", "membrane", "current", "decay")))
"""Left alone unless they are named: they cost instructions or accuracy, and save no memory."""

Levels = Mapping[str, Sequence[str]]
"""Words to be tried, by kind, by plan path, or by either followed by ``:rounding``."""


def space_of(
    graph: Graph,
    backend: Backend,
    encoder: Encoder,
    *,
    levels: Levels | None = None,
    given: Plan | None = None,
    schemes: Sequence[str] = ("ptq",),
) -> Space:
    """Every knob that the target's capabilities, the network and the user's levels leave.

    Args:
        graph: A canonical float graph.
        backend: The target.
        encoder: How data become input; its steps are the most that are tried.
        levels: What to try instead of everything the target can; an empty list leaves a knob out.
        given: Paths settled by a plan have no knob.
        schemes: ``ptq``, and others that are installed.

    Raises:
        PlanError: A level names no knob, or a word the knob has not.
    """
    settled = given or Plan({})
    found = [
        *_global(encoder, schemes),
        *_input(graph, backend),
        *(knob for node in graph.of_type(Neuron) for knob in _layer(graph, node, backend)),
    ]
    free = [knob for knob in found if not _is_settled(knob, settled)]
    asked = dict(levels or {})
    _refuse_unknown(asked, found)
    chosen = [_restricted(knob, asked) for knob in free]
    return Space(tuple(knob for knob in chosen if knob.options))


def _global(encoder: Encoder, schemes: Sequence[str]) -> Iterator[Knob]:
    yield Knob("scheme", "scheme", "", tuple(schemes), ordered=False)
    if encoder.steps and encoder.kind != "latency":  # its spikes move with the number of steps
        counts = sorted({max(1, round(encoder.steps * part)) for part in _STEPS}, reverse=True)
        yield Knob("steps", "steps", "", tuple(str(count) for count in counts))


def _input(graph: Graph, backend: Backend) -> Iterator[Knob]:
    if len(graph.of_type(Input)) > 1:
        return  # which of them to drop is for plans to say
    readers = list(_readers(graph, graph.input.name))
    if backend.capabilities.drops_inputs and all(isinstance(r, Linear) for r in readers):
        yield Knob(f"{graph.input.path}.active", "input", "", (ALL, *SHARES))


def _readers(graph: Graph, name: str) -> Iterator[object]:
    for user in graph.users(name):
        if isinstance(user, Flatten):
            yield from _readers(graph, user.name)
        else:
            yield user


def _layer(graph: Graph, node: Neuron, backend: Backend) -> Iterator[Knob]:
    can = backend.capabilities
    constant = _roundings(can.constant_roundings)
    for connection in connections_of(graph, node):
        if isinstance(connection, Lateral):  # a number, and no memory
            continue
        for name in connection.params():
            path, bias = path_of(connection, name), name == "bias"
            kind = "bias" if bias else "weight"
            yield Knob(
                path, kind, node.path, _widths(can.bias_bits) if bias else _weights(can, connection)
            )
            yield Knob(path + ROUNDING, kind, node.path, constant, ordered=False)
    for name in node.states:
        if name in node.model.scaled:
            path, kind = f"{node.path}.{name}", "membrane" if name == "v" else "current"
            yield Knob(path, kind, node.path, _widths(can.state_bits))
            yield Knob(path + ROUNDING, kind, node.path, _roundings(can.state_roundings), False)
    for name in node.values:
        path = f"{node.path}.{name}"
        if name in node.model.coefficients:
            forms = tuple(form for form in can.decay_forms if form in FORMS)
            yield Knob(path, "decay", node.path, (*_widths(can.decay_bits), *forms))
            yield Knob(path + ROUNDING, "decay", node.path, _roundings(can.state_roundings), False)
        elif name == "threshold":
            yield Knob(path, "threshold", node.path, (SHARED, *_widths(can.threshold_bits)))
    yield Knob(f"{node.path}.scale", "scale", node.path, _scales(can), ordered=False)


def _weights(can: Capabilities, connection: Node) -> tuple[str, ...]:
    """Widths and forms; without a sign the forms are no gain, and a single bit is one.

    Weights of both signs can be split into two matrices, where the target has a bit more for that.
    """
    if not has_sign(connection):
        return _widths(can.weight_bits)
    widths = tuple(bits for bits in can.weight_bits if bits > 1)
    if (weight(connection) > 0).any():
        widths += can.split_bits
    return (*_widths(widths), *sorted(can.weight_forms, reverse=True))


def _widths(bits: Iterable[int]) -> tuple[str, ...]:
    return tuple(str(count) for count in sorted(bits, reverse=True))


def _roundings(known: Iterable[Rounding]) -> tuple[str, ...]:
    """The most faithful first: what significance compares the others with."""
    order = (
        Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.ZERO, Rounding.FLOOR,
        Rounding.STOCHASTIC,
    )  # fmt: skip
    return tuple(str(rounding) for rounding in sorted(known, key=order.index))


def _scales(can: Capabilities) -> tuple[str, ...]:
    """The methods for a whole layer, the default first; then that for every channel."""
    methods = sorted(can.scale_methods, key=lambda method: method != METHODS[-1])
    groups = ("/channel",) if "channel" in can.scale_groups else ()
    return (*methods, *(methods[0] + group for group in groups))


def _is_settled(knob: Knob, given: Plan) -> bool:
    path = knob.name.removesuffix(ROUNDING)
    if path == "steps":
        return "steps" in given.options
    owner, _, name = path.rpartition(".")
    return (
        path in given.entries
        or (name == "scale" and owner in given.scales)
        or (name == "active" and owner in given.active)
    )


def _refuse_unknown(asked: Levels, knobs: Sequence[Knob]) -> None:
    names = {knob.name for knob in knobs} | {_kind_key(knob) for knob in knobs}
    for key in asked:
        if key not in names:
            kinds = ", ".join(kind for kind in KINDS if kind in names)
            raise PlanError(
                f"nothing called {key} can be explored",
                hint=f"a kind ({kinds}), a path of the plan, or either followed by {ROUNDING}",
            )


def _kind_key(knob: Knob) -> str:
    return knob.kind + (ROUNDING if knob.name.endswith(ROUNDING) else "")


def _restricted(knob: Knob, asked: Levels) -> Knob:
    """The knob with the options the user asked for; its path goes before its kind."""
    words = asked.get(knob.name, asked.get(_kind_key(knob), _fallback(knob)))
    if unknown := [word for word in words if word not in knob.options]:
        raise PlanError(
            f"{knob.name} cannot be {unknown[0]!r}", hint=f"one of {', '.join(knob.options)}"
        )
    return replace(knob, options=tuple(word for word in knob.options if word in words))


def _fallback(knob: Knob) -> Sequence[str]:
    """What is tried where nothing is asked: a ladder of precisions, or all there is."""
    key = _kind_key(knob)
    if key in QUIET:
        return ()
    found = [word for word in LADDERS.get(key, knob.options) if word in knob.options]
    return found if len(found) > 1 else ()


def choices_of(words: Mapping[str, str]) -> dict[str, Choice]:
    """What the words on the knobs ask of each path."""
    made: dict[str, Choice] = {}
    for name, word in words.items():
        path = name.removesuffix(ROUNDING)
        before = made.get(path, Choice())
        made[path] = _with(before, name, word)
    return made


def _with(choice: Choice, name: str, word: str) -> Choice:
    if name.endswith(ROUNDING):
        return replace(choice, rounding=Rounding(word))
    if name.endswith(".active"):
        return choice if word == ALL else replace(choice, share=float(word))
    if name.endswith(".scale"):
        method, _, group = word.partition("/")
        return replace(choice, form=method, group=group)
    if word in FORMS:
        return replace(choice, form=word)
    return choice if word == SHARED else replace(choice, bits=int(word))
