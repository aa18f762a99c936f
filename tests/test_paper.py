"""The results table of `make paper`: rows, means, and the page they are put into."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tree import ROOT


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("paper", "mnist_split")):
            del sys.modules[name]


def facts(seed: int, drop: float) -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    return {
        "seed": seed,
        "accuracy": {
            "float": estimate(0.95),
            "integer": estimate(0.95 - drop),
            "difference": estimate(-drop),
        },
        "bytes": {"weights": 900, "constants": 20, "state": 80},
        "baseline": 20_000,
        "baseline_active": 12_000,
        "selected": {"scheme": "itq"},
        "schemes": {"ptq": None, "itq": {"bytes": 1000}},
        "bits": 2.0,
        "spikes": 10.0,
        "operations": 1234.0,
        "checks": {"host": {"samples": 5}, "core": {"samples": 2}, "lava": {"samples": 1}},
    }


def test_a_row_a_seed_and_their_mean(scripts: None) -> None:
    from paper_table import table

    lines = table({"stdp-400": [facts(n, drop) for n, drop in enumerate((0.0, 0.01, 0.02))]})
    head, rule, *rows = lines.splitlines()
    assert head.count("|") == rule.count("|") == rows[0].count("|") == rows[-1].count("|")
    assert [row.split("|")[1].strip()[-6:] for row in rows] == [
        "seed 0",
        "seed 1",
        "seed 2",
        ", mean",
    ]
    assert "none, 1,000 B" in rows[1]
    assert "-1.00 pt [-2.00, +0.00]" in rows[1]
    assert "900 + 20 + 80 = 1,000 B" in rows[1]
    assert "20.0× (12.0×)" in rows[1]
    assert "-1.00 pt" in rows[-1]


def test_some_seeds_have_no_mean(scripts: None) -> None:
    from paper_table import table

    assert "mean" not in table({"stdp-400": [facts(0, 0.0)]})


def test_a_page_is_filled_between_its_marks(scripts: None, tmp_path: Path) -> None:
    from paper import fill

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results: begin -->\nold\n<!-- results: end -->\nb\n")
    for text in ("new", "newer"):
        fill(page, "results", text)
        assert page.read_text() == f"a\n<!-- results: begin -->\n{text}\n<!-- results: end -->\nb\n"
    with pytest.raises(ValueError, match="marks"):
        fill(page, "curves", "text")
