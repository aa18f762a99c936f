"""Saved graphs from anywhere: nothing is allocated, nested or called beyond a bound."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphs import mlp
from qspinn import storage
from qspinn.errors import FrontendError
from qspinn.frontends import load_model

Members = dict[str, bytes]


def changed(path: Path, change: Callable[[Members], None]) -> Path:
    """A graph's file with other members."""
    with zipfile.ZipFile(io.BytesIO(storage.dump(mlp()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def header(shape: str, descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def put(**content: bytes) -> Callable[[Members], None]:
    return lambda members: members.update({f"{k[1:]}.npy": v for k, v in content.items()})


def document(change: Callable[[Any], None]) -> Callable[[Members], None]:
    def edit(members: Members) -> None:
        found = json.loads(members["graph.json"])
        change(found["graph"])
        members["graph.json"] = json.dumps(found).encode()

    return edit


def node(at: int, **values: Any) -> Callable[[Members], None]:
    return document(lambda graph: graph["nodes"][at].update(values))


def op(at: int, **values: Any) -> Callable[[Members], None]:
    return document(lambda graph: graph["nodes"][2]["model"]["ops"][at].update(values))


def deep(members: Members) -> None:
    members["graph.json"] = b'{"format":1,"graph":' + b"[" * 500 + b"]" * 500 + b"}"


def many(members: Members) -> None:
    members.update({f"{i}.npy": b"" for i in range(storage.MAX_ARRAYS + 1)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put(_0=bytes(storage.MAX_BYTES + 1)), "unpacks to"),
        (many, "unpacks to 65538 members"),
        (lambda m: m.update({"graph.json": b" " * (1 << 26)}), "its document has more than"),
        (deep, "is nested deeper than 32"),
        (put(_0=header("(2147483648, 2147483648)") + bytes(64)), "is cut or too long"),
        (put(_0=header("(3,)") + bytes(16)), "is cut or too long"),
        (put(_0=header("(-1,)") + bytes(64)), "holds an array of float64"),
        (put(_0=header("(1,)", "|O") + b"cos\nsystem\n(S'true'\ntR."), "holds an array of object"),
        (put(_0=b"\x93NUMPY\x02\x00" + bytes(64)), "holds an array of format"),
        (node(0, shape=[1 << 30]), "x: .*is no shape of at most"),
        (node(0, shape=["a"]), "Input.shape is of type tuple"),
        (node(0, high=1 << 30), "x: high is 1073741824"),
        (node(0, high=1 << 50), "holds the number 1.126e"),
        (node(0, high=True), "Input.high is of type bool"),
        (node(1, weight=None), "Linear.weight is of type NoneType"),
        (node(1, weight={"is": "array", "value": 99}), "names array 99"),
        (node(1, inputs="x"), "Linear.inputs is of type str"),
        (node(-1, name="a\nb"), r"a\\nb has quotes, backslashes or control"),
        (op(3, args=[0, "x"]), "Op.args is of type tuple"),
        (op(3, args=[0]), "its model has a .* of 1 operands"),
        (op(3, args=[0, 99]), "operation 3 of its model.* reads"),
        (op(3, kind="exec"), "its model has a 'exec'"),
        (op(0, kind="state", name="w", args=[]), "operation 0 of its model is of 'w'"),
    ],
)
def test_beyond_a_bound(change: Callable[[Members], None], says: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "a.qspinn", change)
    tracemalloc.start()
    try:
        with pytest.raises(FrontendError, match=says) as error:
            load_model(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20
    assert str(error.value).isprintable()


def test_an_unchanged_graph_is_read(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.qspinn", lambda members: None)
    assert load_model(path).graph.digest == mlp().digest
    assert np.array_equal(storage.load(path).nodes[1].params()["weight"].values,
                          mlp().nodes[1].params()["weight"].values)  # fmt: skip
