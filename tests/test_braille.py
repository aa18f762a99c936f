"""The recurrent Braille network on loihi: it decides as the float network does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tree import ROOT


@pytest.fixture
def braille(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark's script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import braille_loihi

    yield braille_loihi
    del sys.modules["braille_loihi"]


def test_decisions_are_kept(braille: Any, models: Path) -> None:
    """At least 95 % of the clear ones; the rule published for this network keeps fewer than half.

    Inputs are drawn, and no class gets more than 30 % of them.
    """
    model = models / "nir" / "braille_noDelay_bias_zero.nir"
    data, rest = braille.drawn(model, 200, seed=0)
    trained = braille.Result.of(model, data)
    assert trained.shares.max() <= 0.3
    assert trained.clear.sum() > 200 / 2
    graph = braille.canonical(braille.load_model(model, reset="zero").graph)
    seen = braille.observe(graph, rest.astype(float))
    ours = braille.quantized(graph, seen, braille.backend("loihi"))
    kept = trained.row("qspinn", braille.Result.run(ours, data))
    assert kept.clear >= 0.95
    rule = trained.row("rule", braille.Result.run(braille.published(graph), data))
    assert rule.clear < 0.5
    heard = [[v for v in row.coincidence if v is not None] for row in (kept, rule)]
    assert np.median(heard[0]) > 2 * np.median(heard[1])
