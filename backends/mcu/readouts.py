"""What the readout keeps between steps, and how elements vote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qspinn.fixed import QFormat
from qspinn.ir import VOTE, Graph, Output, Param
from qspinn.readout import FULL_VOTE, output_neuron

from .connections import Tables
from .layout import Member
from .names import Names
from .network import Edge, Read, Start
from .parts import WORD, Parts
from .view import View

_WHOLE = QFormat(32, 0)
NEVER = (1 << 32) - 1
"""The step of a spike that never came."""


@dataclass(frozen=True, eq=False)
class Vote:
    """How output elements vote for classes.

    Attributes:
        classes: How many there are.
        labels: The class of each element; ``classes``: it speaks for none.
        silent: Whether some element speaks for none.
        gains: What a spike for each class is worth.
        speakers: How many elements speak for each class.
    """

    classes: int
    labels: Start
    silent: bool
    gains: Start
    speakers: tuple[int, ...]


def words_of(graph: Graph) -> dict[str, str]:
    """What each of several outputs is called in names of C; nothing of one."""
    outputs, names = graph.of_type(Output), Names()
    if len(outputs) == 1:
        return {}
    return {node.name: names.new(node.name.upper(), "OUTPUT").lower() for node in outputs}


def taken(graph: Graph) -> Iterator[str]:
    """The functions of several outputs, without the network's prefix."""
    for word in words_of(graph).values():
        for name in ("winner", "output", "score", "vote", "votes"):
            yield f"{word}_{name}"


def reading(
    node: Output, view: View, parts: Parts, states: Mapping[str, Member], kept: dict[str, Edge]
) -> Read:
    """What an output keeps.

    Args:
        node: The output.
        view: Of its graph.
        parts: Takes what it needs.
        states: The member of each state.
        kept: What is stored for outputs, by whose signal it is; grows.
    """
    graph = view.graph
    decides, word = node is graph.output, words_of(graph).get(node.name, "")
    end = "" if decides else f"_{word}"
    source = view.source(node.inputs[0])
    edge = kept.get(source.name, parts.edges[source.name])
    if edge.callers or edge.fleeting:
        to, _ = parts.store(
            f"out{end}", view.signals[source.name], "spikes", node.path, "what left in this step"
        )
        parts.keep(f"keep_output{end}", "Keeps what leaves the network.", edge, to)
        edge = kept[source.name] = to
    membrane, neuron = None, output_neuron(graph, node)
    if node.readout == "first_spike" and neuron is not None:
        found = states.get(f"{neuron.name}.v")
        membrane = found if found is not None and found.count == edge.size else None
    vote = vote_of(node, parts.tables) if node.readout == VOTE else None
    size = edge.size if vote is None else vote.classes
    return Read(
        name=parts.function(f"read{end}"), title="Notes what the readout needs of this step.",
        readout=node.readout, output=node.name, edge=edge,
        score=score(node, edge, size, parts, f"score{end}"), membrane=membrane, vote=vote,
        word=word, decides=decides,
    )  # fmt: skip


def score(node: Output, edge: Edge, size: int, parts: Parts, name: str) -> Member | None:
    """Where the readout keeps its result, if it needs to.

    Args:
        node: The output.
        edge: What leaves the network.
        size: How many results there are.
        parts: Takes the member.
        name: The member's.
    """
    if node.readout == "membrane_last":
        return None
    kind = edge.type if node.readout == "membrane_max" else WORD
    note, first = {
        "count": ("spikes since reset", 0),
        VOTE: ("spikes for each class since reset", 0),
        "first_spike": ("the step of the first spike, or 0xFFFFFFFF", NEVER),
        "membrane_max": ("the largest value since reset", kind.span.lo),
    }[node.readout]
    owner, note = f"{node.path}.score", f"readout: {note}"
    made = parts.member(name, kind, size, "readout", owner, note)
    if first:
        parts.starts.append((made, Start((first,))))
    return made


def vote_of(node: Output, tables: Tables) -> Vote:
    """How the elements of an output vote."""
    classes = max(node.labels) + 1
    labels = np.array(node.labels)
    speakers = np.bincount(labels[labels >= 0], minlength=classes)
    spoken = np.where(labels < 0, classes, labels)
    return Vote(
        classes,
        tables.start(node, "labels", Param(spoken, _WHOLE), spoken.shape),
        bool((labels < 0).any()),
        tables.start(node, "gains", Param(FULL_VOTE // speakers, _WHOLE), (classes,)),
        tuple(speakers.tolist()),
    )
