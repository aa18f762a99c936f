"""A neuron's typed list as a compiled loop, printed to a file so that numba can cache its code.

Everything that varies between networks of one kind is an argument: parameters, hash keys, sizes.
Names are positions, so equal lists are one file whatever their models call things.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from qspinn.engine.layout import Port, lane_type, spanned
from qspinn.fixed import IntArray, Interval, Rounding
from qspinn.ir import Array, Neuron
from qspinn.printer import NUMBA, fits_int32, render
from qspinn.program import Program, TypedOp

_PRELUDE = '''\
"""Printed by qspinn.engine.printed: one step of a typed list, for all neurons of a layer."""

import numba
import numpy as np

int32, int64, u32 = np.int32, np.int64, np.uint32


@numba.njit
def mix(h):
    h = u32(h ^ (h >> u32(16)))
    h = u32(h * u32(0x85EBCA6B))
    h = u32(h ^ (h >> u32(13)))
    h = u32(h * u32(0xC2B2AE35))
    return u32(h ^ (h >> u32(16)))


@numba.njit
def noise(key, step, index):
    h = u32(0x243F6A88)
    h = mix(h ^ u32(u32(key) * u32(0x9E3779B1)))
    h = mix(h ^ u32(u32(step) * u32(0x9E3779B1)))
    return int64(mix(h ^ u32(u32(index) * u32(0x9E3779B1))))


@numba.njit
def draw(x, k, bits):
    return (x + (bits >> (32 - k) if k <= 32 else 0)) >> k


@numba.njit
def toward_zero(x, k):
    q = x >> k
    return q + int64((x < 0) & (x != q << k))


@numba.njit
def near_even(x, k):
    q = x >> k
    rest, half = (x - (q << k)) << 1, 1 << k
    return q + int64((rest > half) | ((rest == half) & (q & 1 == 1)))


@numba.njit
def near_away(x, k):
    q = x >> k
    rest, half = (x - (q << k)) << 1, 1 << k
    return q + int64((rest > half) | ((rest == half) & (x > 0)))
'''


def _type(span: Interval | None) -> str:
    if span is None:
        return ""
    return "int32" if fits_int32(span) else "int64"


DIALECT = replace(
    NUMBA,
    declare="{name} = {type}({code})",
    type_of=_type,
    words={
        **NUMBA.words,
        "shr_zero": "toward_zero({0}, {k})",
        "shr_stochastic": "draw({0}, {k}, noise(keys[{key}], step, index))",
    },
)
"""Each value in 32 bits where its interval allows, which doubles the lanes of a vector."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """The compiled steps of one neuron node, and the arguments that do not change.

    Attributes:
        run: See `source`.
        states: Names of the states, in the order of the arguments.
        start: Of each state, one row of lanes.
        constants: Parameters and, where the list draws, hash keys and element numbers.
    """

    run: Callable[..., None]
    states: tuple[str, ...]
    start: tuple[Array, ...]
    constants: tuple[Any, ...]


def neurons(node: Neuron, program: Program, out: Port) -> Neurons:
    """Print and load the loop of ``node``; it is compiled when first run."""
    program, keys = _keyed(program)
    names = tuple(node.states)
    params = tuple(node.values)
    uniform = {name for name in params if (v := node.values[name].values).min() == v.max()}
    constants: list[Any] = [
        _constant(np.broadcast_to(node.values[name].values, node.shape), name in uniform, out)
        for name in params
    ]
    if keys:
        element = np.arange(out.size) if out.order is None else out.order
        constants += [np.array(keys, np.int64), element.astype(np.int64)]
    start = tuple(
        out.lanes(
            np.broadcast_to(node.states[name].init.values, node.shape),
            state_type(program, name),
        )
        for name in names
    )
    return Neurons(_load(source(program, names, params, uniform)), names, start, tuple(constants))


def state_type(program: Program, name: str) -> np.dtype[np.signedinteger]:
    """int32, or int64 where a state needs it."""
    span = program.ops[program.finals[name]].span
    assert span is not None, "a state is not a mask"
    return lane_type(span | spanned(program.states[name].init.values), 32)


def _constant(values: IntArray, uniform: bool, out: Port) -> Any:
    dtype = lane_type(spanned(values), 32)
    return dtype.type(values.flat[0]) if uniform else out.lanes(values, dtype)


def _keyed(program: Program) -> tuple[Program, list[int]]:
    """The program with its hash keys numbered, and the keys."""
    keys: list[int] = []
    ops: list[TypedOp] = []
    for op in program.ops:
        if op.kind == "shr" and op.rounding is Rounding.STOCHASTIC:
            keys.append(op.key)
            op = replace(op, key=len(keys) - 1)
        ops.append(op)
    return replace(program, ops=tuple(ops)), keys


def source(
    program: Program, states: tuple[str, ...], params: tuple[str, ...], uniform: set[str]
) -> str:
    """The file for a list: ``run(size, start, current, sent, keep, states, traces, constants)``.

    ``current`` and ``sent`` are (samples, steps, lanes), states (samples, lanes); ``start`` is
    the first step's number since reset, and ``keep`` says whether the traces are written.
    """
    leaves = {("input", "a"): "a"}
    leaves |= {("state", name): f"s{i}" for i, name in enumerate(states)}
    leaves |= {("param", name): f"p{i}" for i, name in enumerate(params)}
    body = render(program, DIALECT, lambda op: leaves[op.kind, op.name], "t")
    reads = {"a": "current_row[j]"}
    reads |= {f"s{i}": f"row{i}[j]" for i in range(len(states))}
    reads |= {
        f"p{i}": f"param{i}" + ("" if name in uniform else "[j]") for i, name in enumerate(params)
    }
    loads = [
        f"{name} = {_type(op.span)}({reads[name]})"
        for op in program.ops
        if (name := leaves.get((op.kind, op.name), ""))
    ]
    stores = [f"row{i}[j] = {body.finals[name]}" for i, name in enumerate(states)]
    numbers = range(len(states))
    arguments = [
        *("size", "start", "current", "sent", "keep"),
        *(f"state{i}" for i in numbers),
        *(f"trace{i}" for i in numbers),
        *(f"param{i}" for i in range(len(params))),
        *(("keys", "element") if program.stochastic else ()),
    ]
    inner = [*(["index = element[j]"] if program.stochastic else []), *loads, *body.lines, *stores]
    lines = [
        *("", "", "@numba.njit(nogil=True, cache=CACHE)", f"def run({', '.join(arguments)}):"),
        "    for s in range(current.shape[0]):",
        *(f"        row{i} = state{i}[s]" for i in numbers),
        "        for t in range(current.shape[1]):",
        "            step = start + t",
        "            current_row, sent_row = current[s, t], sent[s, t]",
        "            for j in range(size):",
        *(f"                {line}" for line in inner),
        f"                sent_row[j] = {body.output}",
        "            if keep:",
        "                for j in range(size):",
        *(f"                    trace{i}[s, t, j] = row{i}[j]" for i in numbers),
    ]
    return _PRELUDE + "\n".join(lines) + "\n"


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
            aside = path.with_name(f"{name}.{os.getpid()}.part")
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
