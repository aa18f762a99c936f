"""What the readout keeps between steps, and how elements vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspinn.fixed import QFormat
from qspinn.ir import VOTE, Output, Param
from qspinn.readout import FULL_VOTE

from .connections import Tables
from .layout import Member
from .network import Edge, Start
from .parts import WORD, Parts

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


def score(node: Output, edge: Edge, size: int, parts: Parts) -> Member | None:
    """Where the readout keeps its result, if it needs to.

    Args:
        node: The output.
        edge: What leaves the network.
        size: How many results there are.
        parts: Takes the member.
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
    made = parts.member("score", kind, size, "readout", owner, note)
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
