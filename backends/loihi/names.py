"""Python identifiers for a graph's nodes, and the layout of their signals in Lava."""

from __future__ import annotations

import json
import keyword
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from qspinn.ir import Array, Graph, Shape

LONGEST = 48
_USED = """
    build p run np sparse Conv Dense DelayDense DelaySparse GradedVec LIF LIFReset Line Source
    Sparse Watch SignMode csr_matrix MIXED EXCITATORY INHIBITORY NAME INPUTS OUTPUTS LAYERS SETTINGS
    JOINT delays
"""

_PRINTED = re.compile(r"t\d+")
# What the template and Lava's base classes use themselves.
_INHERITED = """
    a a_in advance_to_time_step full id in_ports index interval join late load log model name np
    out_ports pause phase post_guard pre_guard proc_params procs py_ports record ref_ports run
    runtime s s_out save self sent shape start step stop tags time_step values var_ports vars wait
"""


def identifier(text: str) -> str:
    """A Python identifier that looks like ``text``, whatever is in it."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")[:LONGEST].rstrip("_")
    return name if name and not name[0].isdigit() else f"x_{name}".rstrip("_")


def identifiers(graph: Graph) -> dict[str, str]:
    """An identifier for every node, each once."""
    used, taken = set(_USED.split()), set[str]()
    found: dict[str, str] = {}
    for node in graph.nodes:
        base = identifier(node.name)
        name, number = base, 2
        while name in used or name.lower() in taken or keyword.iskeyword(name):
            name, number = f"{base}_{number}", number + 1
        # Without regard to case: names become files, too.
        taken.add(name.lower())
        found[node.name] = name
    return found


def register_names(names: Iterable[str]) -> dict[str, str]:
    """Names of states and parameters as attributes of a process; the first ones have priority."""
    taken = set(_INHERITED.split())
    found: dict[str, str] = {}
    for name in names:
        word = identifier(name)
        while word in taken or keyword.iskeyword(word) or _PRINTED.fullmatch(word):
            word = f"{word}_"
        taken.add(word)
        found[name] = word
    return found


def quoted(text: str) -> str:
    """``text`` on one line of ASCII, for comments and documents."""
    return json.dumps(text)[1:-1].replace("`", "'").replace('"""', "'''")


def is_image(shape: Shape) -> bool:
    """Whether a signal lies as (width, height, channels) in Lava; all others lie flat."""
    return len(shape) in (2, 3)


def lava_shape(shape: Shape) -> Shape:
    """The shape of a signal in Lava."""
    if not is_image(shape):
        return (int(np.prod(shape, dtype=np.int64)),)
    return (shape[-1], shape[1] if len(shape) == 3 else 1, shape[0])


def to_lava(values: Array, shape: Shape) -> Array:
    """Values that broadcast to ``shape``, laid out as Lava has them."""
    full = np.broadcast_to(values, shape)
    if not is_image(shape):
        return full.reshape(-1)
    return full.reshape(shape[0], -1, shape[-1]).transpose(2, 1, 0)
