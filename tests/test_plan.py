from __future__ import annotations

import numpy as np
import pytest

from qspinn.errors import PlanError
from qspinn.fixed import Overflow, QFormat, Rounding
from qspinn.plan import Entry, Plan, parse

PLAN = Plan(
    {
        "fc1.weight": Entry(QFormat(8, -1), overflow=Overflow.SATURATE),
        "lif1.v": Entry(QFormat(24, 6, True, -5, 7), Rounding.ZERO, Overflow.WRAP, "fixed", "why"),
        "lif1.decay": Entry(QFormat(4, leak=True, signed=False), Rounding.STOCHASTIC),
    },
    {"lif1": np.array([0.1, 1 / 3, 7.0])},
    {"encode": "rate", "steps": "25"},
)


def test_text_golden(golden: str) -> None:
    assert PLAN.text() == golden


def test_text_and_back() -> None:
    back = parse(PLAN.text())
    assert back.entries == PLAN.entries
    assert back.options == PLAN.options
    assert np.array_equal(back.scales["lif1"], PLAN.scales["lif1"]), "scales are stored exactly"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fc1.weight s8", r"line 1: .*needs a format"),
        ("fc1.weight s8 floor error", r"line 1: .*not a format"),
        ("fc1.weight s8f0 sideways error", r"line 1.*sideways"),
        ("fc1.weight s8f0 floor explode", r"line 1.*explode"),
        ("fc1.weight s8f0 floor error liked", r"line 1.*role"),
        ("fc1.weight s99f0 floor error", r"1 to 32 bits, not 99"),
        ("lif1.scale -1", r"positive"),
        ("lif1.scale", r"positive"),
        ("fc1.weight", r"line 1"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        parse(line)


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(PlanError, match=r"fc9\.weight: the plan gives it no format"):
        PLAN["fc9.weight"]


@pytest.mark.parametrize("line", ["fc1.weight s8f0 floor error", "option steps = 4", "a.scale 2"])
def test_a_line_that_repeats_another_is_refused(line: str) -> None:
    with pytest.raises(PlanError, match=r"line 3: .*line 1 gives .* already"):
        parse(f"{line}\n\n{line}\n")
