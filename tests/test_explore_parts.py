from __future__ import annotations

import numpy as np
import pytest

from qspinn.datasets import Dataset
from qspinn.errors import PlanError, QspinnError
from qspinn.explore.parts import Parts


def dataset(split: list[int]) -> Dataset:
    n = len(split)
    x = np.arange(n * 2, dtype=np.float64).reshape(n, 2)
    return Dataset("d.npz", x, np.arange(n) % 3, np.array(split))


@pytest.fixture
def parts() -> Parts:
    return Parts(dataset([0, 0, 1, 1, 1, 2, 2]), seed=3)


def test_selection_cannot_read_the_report_part(parts: Parts) -> None:
    shown = parts.open
    assert shown.samples(np.array([0, 4]), (2,), encoded=False).shape == (2, 2)
    with pytest.raises(QspinnError, match="sample 5 of its report part"):
        shown.samples(np.array([2, 5]), (2,), encoded=False)
    assert shown.y is not None
    assert shown.y.tolist() == [0, 1, 2, 0, 1, -1, -1]


def test_the_report_part_is_opened_once_and_only_after_a_selection(parts: Parts) -> None:
    with pytest.raises(QspinnError, match="shut until a candidate is selected"):
        parts.report()
    parts.close("abc")
    whole = parts.report()
    assert whole.samples(np.array([5]), (2,), encoded=False).tolist() == [[10.0, 11.0]]
    with pytest.raises(QspinnError, match="second look"):
        parts.report()


def test_a_selection_is_final(parts: Parts) -> None:
    parts.close("abc")
    with pytest.raises(QspinnError, match="already"):
        parts.close("def")


def test_the_order_is_seeded_and_stays_within_its_part(parts: Parts) -> None:
    order = parts.order("select")
    assert sorted(order) == [2, 3, 4]
    assert order.tolist() == Parts(parts.dataset, seed=3).order("select").tolist()
    orders = {tuple(Parts(parts.dataset, seed=seed).order("select")) for seed in range(20)}
    assert len(orders) > 3
    with pytest.raises(QspinnError, match="opened once"):
        parts.order("report")


@pytest.mark.parametrize(("split", "part"), [([1, 2], "calibrate"), ([0, 2], "select")])
def test_a_part_without_samples_is_named(split: list[int], part: str) -> None:
    with pytest.raises(PlanError, match=f"no sample in its {part} part"):
        Parts(dataset(split))
