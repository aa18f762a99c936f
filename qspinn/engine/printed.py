"""A neuron's typed list as a compiled loop, printed to a file so that numba can cache its code.

The file depends on the structure of the list alone (see `structure`): formats, ranges and
constants are arguments. Names are positions, so equal structures are one file whatever their
models call things.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from types import ModuleType

import numpy as np

from qspinn.engine.layout import Port, lane_type, spanned
from qspinn.engine.structure import LANES, Structure, structure
from qspinn.ir import Array, Neuron
from qspinn.program import Program

_FILE = '''\
"""Printed by qspinn.engine.printed: a block of steps of a layer of neurons."""
# of the code that makes vectors: {version}

import numba

from qspinn.engine.vectors import UNITS, steps

LINES = (
{lines}
)
many = steps(LINES, {states}, {output}, {membrane}, UNITS)
one = steps(LINES, {states}, {output}, {membrane}, 1)


@numba.njit(nogil=True, cache=CACHE)
def run(each, start, numbers, current, sent, states, traces, params, element, summary):
    units = current.shape[0] * each
    whole = units - units % UNITS
    for u in range(0, whole, UNITS):
        many(u, each, start, numbers, current, sent, states, traces, params, element, summary)
    for u in range(whole, units):
        one(u, each, start, numbers, current, sent, states, traces, params, element, summary)
'''


@dataclass(frozen=True, eq=False)
class Neurons:
    """The compiled steps of one neuron node, and the arguments that do not change.

    Attributes:
        loop: See `source`.
        states: Names of the states, in the order of the arguments.
        start: Of each state, one row of lanes.
        each: The vectors of a sample.
        numbers: The numbers of the structure.
        params: Rows of lanes of the parameters that differ between neurons.
        element: Where the list draws, the element in each lane.
    """

    loop: Callable[..., None]
    states: tuple[str, ...]
    start: tuple[Array, ...]
    each: int
    numbers: Array
    params: tuple[Array, ...]
    element: Array | None

    def run(
        self, start: int, current: Array, sent: Array | None, states: tuple[Array, ...],
        traces: tuple[Array, ...] | None = None, summary: tuple[Array, ...] | None = None,
    ) -> None:  # fmt: skip
        """Step a block from step ``start`` on.

        Args:
            start: The number of the first step since reset.
            current: (samples, steps, lanes).
            sent: Of the same shape; None: what is sent is not wanted.
            states: Each (samples, lanes), before the block; afterwards, after it.
            traces: Each (samples, steps, lanes), where every state in every step is wanted.
            summary: Counts, first spike and, of neurons with a membrane potential, its maximum,
                each (samples, lanes), to which the block is added.
        """
        self.loop(
            self.each, start, self.numbers, current, sent, states, traces, self.params,
            self.element, summary,
        )  # fmt: skip


def neurons(node: Neuron, program: Program, out: Port) -> Neurons:
    """Print and load the loop of ``node``; it is compiled when first run."""
    names = tuple(node.states)
    parts = structure(program, names)
    start = tuple(
        out.lanes(
            np.broadcast_to(node.states[name].init.values, node.shape),
            state_type(program, name),
        )
        for name in names
    )
    params = tuple(_row(node, name, out) for name in parts.params)
    element = out.lanes(np.arange(out.size), np.dtype(np.int32)) if parts.stochastic else None
    loop = _load(source(parts, names.index("v") if "v" in names else -1))
    each = -(-out.size // LANES)
    return Neurons(loop, names, start, each, parts.numbers, params, element)


def state_type(program: Program, name: str) -> np.dtype[np.signedinteger]:
    """int32, or int64 where a state needs it."""
    span = program.ops[program.finals[name]].span
    assert span is not None, "a state is not a mask"
    return lane_type(span | spanned(program.states[name].init.values), 32)


def _row(node: Neuron, name: str, out: Port) -> Array:
    values = np.broadcast_to(node.values[name].values, node.shape)
    return out.lanes(values, lane_type(spanned(values), 32))


def source(parts: Structure, membrane: int) -> str:
    """The file for a structure.

    Its ``run`` takes the vectors of a sample, the number of the first step, and what
    `Neurons.run` names; ``membrane`` is the state whose maximum a summary holds, or -1.
    """
    return _FILE.format(
        version=_version(),
        lines="\n".join(f"    {tuple(line)!r}," for line in parts.lines),
        states=parts.states, output=parts.output, membrane=membrane,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _version() -> str:
    """Of the module that makes vectors of a file: numba's cache sees only the file change."""
    vectors = Path(__file__).with_name("vectors.py")  # to import it would need numba
    return hashlib.sha256(vectors.read_bytes()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where printed loops are kept: QSPINN_CACHE, or the platform's folder for caches."""
    if named := os.environ.get("QSPINN_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "qspinn"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "qspinn" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qspinn"


@lru_cache(maxsize=256)
def _load(text: str) -> Callable[..., None]:
    name = f"qspinn_neurons_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    module = _from_file(name, text) or _from_text(name, text)
    run: Callable[..., None] = module.run
    return run


def _from_file(name: str, text: str) -> ModuleType | None:
    """Import the text from the cache, written there if need be; None where nothing can be."""
    path = cache_folder() / f"{name}.py"
    try:
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{name}.{os.getpid()}.{get_ident()}.part")
            aside.write_text(text)
            aside.replace(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None, "the name ends in .py"
        assert spec.loader is not None, "the name ends in .py"
        module = importlib.util.module_from_spec(spec)
        module.__dict__["CACHE"] = True
        sys.modules[name] = module  # numba looks its functions up by module
        spec.loader.exec_module(module)
    except (OSError, RuntimeError):  # RuntimeError: numba finds no place for its own cache
        sys.modules.pop(name, None)
        return None
    return module


def _from_text(name: str, text: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__["CACHE"] = False
    sys.modules[name] = module
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module
