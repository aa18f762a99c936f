"""Fitted figures as files: what is written reads back, and a part may be missing in a column."""

from __future__ import annotations

import pytest
from qspinn.backends.mcu import fitted

COLUMNS = {"armv6m": {"add 16": 22.7, "base": 72.0}, "rv32imc": {"base": 44.0, "scan, list": -0.5}}


def test_files_round_trip() -> None:
    text = fitted.written(COLUMNS, 1)
    assert text.splitlines()[:2] == ["part,armv6m,rv32imc", "add 16,22.7,"]
    assert fitted.parse(text) == COLUMNS


@pytest.mark.parametrize("name", ["code", "stack", "cost", "cycles"])
def test_files_are_as_benchmarks_write_them(name: str) -> None:
    columns = fitted.read(name)
    assert fitted.parse(fitted.written(columns, 1 if name == "code" else 2)) == columns
    assert all(columns.values())
