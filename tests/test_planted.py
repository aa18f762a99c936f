"""Errors planted in the emitted C are caught by the comparison that every executor goes through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from networks import NORMAL, Case, describe
from planted import ERRORS
from qspinn import interp
from qspinn.backend import backend
from qspinn.ir import Array, Graph
from qspinn.output import write_folder
from qspinn.plan import Plan
from qspinn.readout import predict, summarize
from qspinn.validate import Mismatch, compare

pytestmark = pytest.mark.needs("gcc")


def emitted(case: Case) -> tuple[Graph, Array, dict[str, bytes]]:
    network, mcu = describe(case.seed, profile=case.profile), backend("mcu")
    files = mcu.emit(network.graph, mcu.devices[mcu.default_device], Plan({})).files
    return network.graph, network.data, dict(files)


def verdict(graph: Graph, data: Array, files: dict[str, bytes], folder: Path) -> Mismatch | str:
    """What the comparison says of these files; nothing if they equal the reference."""
    from qspinn.backends.mcu.build import build
    from qspinn.backends.mcu.execute import record, sources
    from qspinn.backends.mcu.samples import trace

    write_folder(folder, files, {})
    network = build(graph)
    found = record(sources(folder, network), network, data, "host")
    want = interp.run(graph, data)
    if mismatch := compare(want, trace(network, found)):
        return mismatch
    decisions = predict(graph.output, summarize(graph, want))
    return "" if np.array_equal(found.winners, decisions) else "decision"


@pytest.mark.parametrize("error", ERRORS)
def test_a_planted_error_is_caught(error: str, tmp_path: Path) -> None:
    """By two networks of the normal run, of the first that have what it is about."""
    caught: list[Mismatch | str] = []
    for case in reversed(NORMAL):
        graph, data, files = emitted(case)
        (name,) = (name for name in files if name.endswith("_impl.h"))
        text = files[name].decode()
        wrong = ERRORS[error](text)
        if wrong == text:
            continue
        if not caught:
            assert not verdict(graph, data, files, tmp_path / f"{case}")
        found = verdict(graph, data, {**files, name: wrong.encode()}, tmp_path / f"{case}x")
        caught += [found] if found else []
        if len(caught) == 2:
            break
    assert len(caught) == 2, f"{error}: the networks of the normal run do not notice"
    # Only a readout's tie leaves every state as it is.
    assert [found == "decision" for found in caught] == [error == "tie"] * 2
