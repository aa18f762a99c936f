"""What the fuzzer does to a saved graph: its members, their headers, the document."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_words import NAMES, TYPES, VALUES, Rng, Step, pick


def _zip(change: Callable[[dict[str, bytes], Rng], None]) -> Step:
    def step(path: Path, rng: Rng) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members, rng)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return step


def _member(members: dict[str, bytes], rng: Rng) -> None:
    name = pick(list(members), rng)
    if rng.random() < 0.5:
        del members[name]
    else:
        members[pick(["graph.json", "0.npy", "../x", "99.npy", "a"], rng)] = members[name]


def _array(members: dict[str, bytes], rng: Rng) -> None:
    """Another header: a shape or a type that the data are not."""
    name = pick([n for n in members if n.endswith(".npy")], rng)
    shapes = ("()", "(0,)", "(3,)", "(2147483648, 2147483648)", "(1099511627776,)", "(-1,)", "3")
    header = (
        f"{{'descr': '{pick((*TYPES, '|O', '<U9', 'x'), rng)}', 'fortran_order': "
        f"{pick(['True', 'False', '1'], rng)}, 'shape': {pick(shapes, rng)}, }}\n"
    ).encode("latin1")
    rest = members[name][128:] if rng.random() < 0.7 else b"cos\nsystem\n(S'true'\ntR."
    members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


def _numbers(members: dict[str, bytes], rng: Rng) -> None:
    name = pick([n for n in members if n.endswith(".npy")], rng)
    values = np.array(np.load(io.BytesIO(members[name])), np.float64)
    values.reshape(-1)[: int(rng.integers(1, 9))] = VALUES[int(rng.integers(len(VALUES)))]
    buffer = io.BytesIO()
    np.save(buffer, values)
    members[name] = buffer.getvalue()


def _bomb(members: dict[str, bytes], rng: Rng) -> None:
    size = int(rng.choice([1 << 20, 1 << 20, 1 << 20, 1 << 27]))
    members[pick(["graph.json", "0.npy", "1.npy"], rng)] = bytes(size)


def _deep(members: dict[str, bytes], rng: Rng) -> None:
    depth = int(rng.choice([100, 900, 3000, 100_000]))
    open_, close = ("[", "]") if rng.random() < 0.5 else ('{"is":"map","items":[["a",', "]]}")
    members["graph.json"] = (
        '{"format":1,"graph":' + open_ * depth + "1" + close * depth + "}"
    ).encode()


def _document(members: dict[str, bytes], rng: Rng) -> None:
    """One value in the document replaced, dropped, or put where another was."""
    document = json.loads(members["graph.json"])
    spots: list[tuple[Any, Any]] = []
    ahead = [document]
    while ahead:
        here = ahead.pop()
        keys = here if isinstance(here, dict) else range(len(here))
        spots += [(here, key) for key in keys]
        ahead += [here[key] for key in keys if isinstance(here[key], (dict, list))]
    words = (*NAMES, "Graph", "Linear", "Neuron", "Param", "array", "map", "spike", "s99f9", "")
    for _ in range(1 if rng.random() < 0.7 else 4):
        here, key = spots[int(rng.integers(len(spots)))]
        other, name = spots[int(rng.integers(len(spots)))]
        values: tuple[Any, ...] = (
            None, True, -1, 0, 1, 7, 2**40, 2**70, 1e300, float("nan"), [], {}, [1, 2], "",
            pick(words, rng), other[name],
        )  # fmt: skip
        here[key] = values[int(rng.integers(len(values)))]
    members["graph.json"] = json.dumps(document).encode()


ZIPPED: tuple[Step, ...] = (
    *(_zip(change) for change in (_member, _array, _array, _numbers, _numbers, _deep, _bomb)),
    *(_zip(_document) for _ in range(20)),
)
