from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from graphs import mlp
from qspinn.bench import CodeSize
from qspinn.errors import BackendError, MismatchError, PlanError
from qspinn.gate import (
    as_json,
    as_junit,
    budget_checks,
    code_check,
    drop_check,
    equality_check,
    with_code,
)
from qspinn.interp import Trace
from qspinn.memory import Device, Footprint, Line, excesses, fit_error, float_bytes, parse_budget
from qspinn.stats import Estimate
from qspinn.validate import Mismatch, Verdict, compare, random_input, require_equal

FOOTPRINT = Footprint((
    Line("weights", "fc1", "flash", 5000), Line("code", "", "flash", 1200),
    Line("state", "lif1", "ram", 400), Line("input buffer", "", "ram", 128),
    Line("stack", "", "ram", 200),
))  # fmt: skip


def test_budgets_pass_and_fail_by_region() -> None:
    checks = budget_checks(FOOTPRINT, {"ram": 728, "flash": 6000})
    assert [(c.name, c.passed) for c in checks] == [("ram", True), ("flash", False)]
    assert checks[1].measured == "6200 B"
    assert "fc1 5000" in checks[1].detail
    assert FOOTPRINT.network == 5400


def test_a_refusal_names_object_quantity_limit_and_parts() -> None:
    error = fit_error("digits", "tiny", excesses(FOOTPRINT, {"ram": 512}), ["big"])
    text = str(error)
    assert "digits does not fit tiny" in text
    assert "ram: needs 728 B, the limit is 512 B" in text
    assert "it fits big" in error.hint
    assert "lif1 400   stack 200   input buffer 128" in text


CORES = Footprint((
    Line("cores", "fc1", "cores", 3), Line("cores", "fc2", "cores", 1),
    Line("core", "fc1", "core-words", 900), Line("core", "fc2", "core-words", 1100),
))  # fmt: skip


def test_of_each_core_the_fullest_counts() -> None:
    assert CORES.regions() == {"cores": 4, "core-words": 1100}
    (check,) = budget_checks(CORES, {"core-words": 1000})
    assert (check.measured, check.limit, check.passed) == ("1100 words", "1000 words", False)
    assert check.detail == "core fc2 1100   core fc1 900"


def test_a_refusal_tells_what_helps_where() -> None:
    over = excesses(CORES, {"cores": 3, "core-words": 1000})
    error = fit_error("digits", "tiny", over, [], {"core-words": "put a smaller layer before it"})
    assert "cores: needs 4, the limit is 3" in str(error)
    assert "core-words: needs 1100 words, the limit is 1000 words" in str(error)
    assert error.hint == (
        "give the largest parts fewer bits with --plan; put a smaller layer before it"
    )


def test_a_budget_makes_cores_smaller_and_nothing_else() -> None:
    device = Device("chip", {"cores": 9, "core-words": 1000, "core-axons": 70})
    smaller = device.within({"cores": 2, "core-words": 600, "core-axons": 90})
    assert smaller.regions == {"cores": 9, "core-words": 600, "core-axons": 70}


def test_a_misspelt_region_is_refused() -> None:
    with pytest.raises(PlanError, match="limits 'rma', which the target has not") as caught:
        budget_checks(FOOTPRINT, {"rma": 1})
    assert caught.value.hint == "it has flash, ram"


@pytest.mark.parametrize(
    ("text", "value"),
    [("ram=8KiB", {"ram": 8192}), ("ram=16,flash=64KiB", {"ram": 16, "flash": 65536}),
     ("flash=1MB", {"flash": 10**6}), ("ram=512B", {"ram": 512})],
)  # fmt: skip
def test_budget_units(text: str, value: dict[str, int]) -> None:
    assert parse_budget(text) == value


@pytest.mark.parametrize("text", ["ram", "ram=", "ram=lots", "=5", "ram=-1", "ram=1.5KiB", "ram=²"])
def test_bad_budgets_are_usage_errors(text: str) -> None:
    with pytest.raises(PlanError, match="is no budget") as caught:
        parse_budget(text)
    assert caught.value.exit_code == 2


def test_measured_code_takes_the_place_of_its_estimate() -> None:
    size = CodeSize("gcc 12.2.1", 1500)
    shown = code_check(FOOTPRINT, size)
    assert (shown.passed, shown.measured, shown.limit) == (
        True,
        "1500 B",
        "estimate 1200 B, -20.0 %",
    )
    measured = with_code(FOOTPRINT, size)
    assert measured.regions() == {"flash": 6500, "ram": 728}
    (check,) = budget_checks(measured, {"flash": 6400})
    assert not check.passed
    assert "code gcc 12.2.1 1500" in check.detail


def test_junit_has_a_case_per_check() -> None:
    verdict = Verdict("host", 2, 10, 500, Mismatch(1, 3, "lif1.v", 7, -4, 5))
    checks = [*budget_checks(FOOTPRINT, {"ram": 16}), equality_check(verdict)]
    root = ET.fromstring(as_junit("digits", checks))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text == "sample 1, step 3, lif1.v[7]: expected -4, got 5"
    assert as_json("digits", checks)["passed"] is False
    with pytest.raises(MismatchError, match="host: is not bit-exact: sample 1, step 3"):
        require_equal(verdict)


def test_drop_is_measured_against_its_limit() -> None:
    assert drop_check(Estimate(-0.004, -0.02, 0.01, 500), 0.01).passed
    assert not drop_check(Estimate(-0.02, -0.03, 0.01, 500), 0.01).passed
    assert drop_check(Estimate(0.02, 0.0, 0.04, 500), 0.0).passed


def trace(**states: np.ndarray) -> Trace:
    return Trace({k.replace("__", "."): v for k, v in states.items()}, {"out": np.zeros((2, 3, 2))})


def test_the_first_divergence_is_by_sample_then_step_then_layer() -> None:
    u, v = np.zeros((2, 3, 2), int), np.zeros((2, 3, 2), int)
    want = trace(a__v=u, b__v=v)
    wrong_a, wrong_b = u.copy(), v.copy()
    wrong_a[1, 0, 0] = 9
    wrong_b[0, 2, 1] = 8
    found = compare(want, trace(a__v=wrong_a, b__v=wrong_b))
    assert found == Mismatch(0, 2, "b.v", 1, 0, 8)
    assert compare(want, want) is None
    with pytest.raises(BackendError, match=r"did not report b\.v"):
        compare(want, trace(a__v=u))
    with pytest.raises(BackendError, match=r"a\.v has shape"):
        compare(want, trace(a__v=u[:1], b__v=v))


def test_random_input_is_seeded_and_fits() -> None:
    graph = mlp()
    one, two = random_input(graph, 3, 8, 5), random_input(graph, 3, 8, 5)
    assert np.array_equal(one, two)
    assert set(np.unique(one)) == {0, 1}
    assert not np.array_equal(one, random_input(graph, 3, 8, 6))


def test_the_float_baseline_counts_what_is_stored() -> None:
    # 12x9 + 9 and 9x4 + 4 weights and biases, 13 membranes; uniform decays and thresholds are code
    assert float_bytes(mlp()) == 4 * (12 * 9 + 9 + 9 * 4 + 4 + 13)
