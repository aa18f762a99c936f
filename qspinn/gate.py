"""The gate for CI: budgets, accuracy and bit equality, each a check with a verdict."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from qspinn.bench import CodeSize
from qspinn.memory import Footprint, amount, excesses, require_regions
from qspinn.stats import Estimate
from qspinn.validate import Verdict

NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer; ``detail`` says what fills a budget, or what differed."""

    group: str
    name: str
    passed: bool
    measured: str
    limit: str
    detail: str = ""


def budget_checks(footprint: Footprint, budget: Mapping[str, int]) -> list[Check]:
    """One check for each region of the budget.

    Raises:
        PlanError: The budget names a region the target has not.
    """
    used = footprint.regions()
    require_regions(used, budget)
    over = {excess.region: excess for excess in excesses(footprint, budget)}
    checks = []
    for region, limit in budget.items():
        lines = over[region].lines if region in over else ()
        detail = "   ".join(f"{line.kind} {line.owner} {line.bytes}" for line in lines[:8])
        measured, most = amount(used[region], region), amount(limit, region)
        checks.append(Check("budget", region, region not in over, measured, most, detail))
    return checks


def with_code(footprint: Footprint, size: CodeSize) -> Footprint:
    """A footprint with the code that a compiler made, in the place of its estimate."""
    return Footprint(
        tuple(
            replace(line, owner=size.compiler, bytes=size.bytes) if line.kind == "code" else line
            for line in footprint.lines
        )
    )


def code_check(footprint: Footprint, size: CodeSize) -> Check:
    """What a compiler made of the code, beside its estimate: a comparison that nothing fails."""
    estimate = footprint.of("code")
    off = f"estimate {estimate} B, {100 * (estimate / size.bytes - 1):+.1f} %"
    return Check("code", size.compiler, True, f"{size.bytes} B", off)


def equality_check(verdict: Verdict) -> Check:
    """Whether an executor equalled the reference."""
    detail = "" if verdict.mismatch is None else str(verdict.mismatch)
    measured = f"{verdict.values} values, {verdict.samples} samples x {verdict.steps} steps"
    passed = verdict.mismatch is None
    return Check("bit equality", verdict.executor, passed, measured, "all equal", detail)


def not_run(executor: str, why: str) -> Check:
    """An equality that nobody could check."""
    return Check("bit equality", executor, False, NOT_RUN, "all equal", why)


def drop_check(drop: Estimate, limit: float) -> Check:
    """Whether quantization costs at most ``limit`` of accuracy on the report part."""
    passed = -drop.value <= limit
    measured = f"{-100 * drop.value:+.2f} pt [{-100 * drop.high:+.2f}, {-100 * drop.low:+.2f}]"
    return Check("accuracy", "drop", passed, measured, f"{100 * limit:.2f} pt")


def as_json(name: str, checks: Sequence[Check]) -> dict[str, object]:
    """The checks as plain data."""
    passed = all(check.passed for check in checks)
    return {"artifact": name, "passed": passed, "checks": [asdict(c) for c in checks]}


def as_junit(name: str, checks: Sequence[Check]) -> bytes:
    """The checks as a JUnit document: a test case each."""
    errors = sum(c.measured == NOT_RUN for c in checks)
    failures = sum(not c.passed for c in checks) - errors
    totals = {"tests": str(len(checks)), "failures": str(failures), "errors": str(errors)}
    root = ET.Element("testsuites", {"name": "qspinn", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": name, **totals, "skipped": "0", "time": "0"})
    for check in checks:
        where = {"classname": f"qspinn.{check.group.replace(' ', '_')}", "name": check.name}
        case = ET.SubElement(suite, "testcase", {**where, "time": "0"})
        if not check.passed:
            message = f"{check.measured}, limit {check.limit}"
            kind = "error" if check.measured == NOT_RUN else "failure"
            failure = ET.SubElement(case, kind, {"message": message, "type": check.group})
            failure.text = check.detail
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document
