"""``qspinn check``: the gate for CI on an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from qspinn.artifact import Opened, open_folder
from qspinn.bench import Sizing
from qspinn.cli.options import SEED, budget_option
from qspinn.cli.validate import chosen_executors, given_input, run_executor
from qspinn.errors import GATE_FAILED, ToolchainError
from qspinn.gate import (
    Check,
    as_junit,
    budget_checks,
    code_check,
    equality_check,
    not_run,
    with_code,
)
from qspinn.gate import as_json as checks_json
from qspinn.output import write_file
from qspinn.report import tables


def memory_checks(opened: Opened, limits: Mapping[str, int]) -> list[Check]:
    """The budgets, with the code as a compiler makes it where one for the core is installed."""
    footprint, backend = opened.footprint(limits), opened.backend
    size = None
    if isinstance(backend, Sizing):
        size = backend.code_size(opened.folder, opened.graph, opened.device)
    if size is None:
        return budget_checks(footprint, limits)
    return [code_check(footprint, size), *budget_checks(with_code(footprint, size), limits)]


@click.command(name="check")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--budget", help="Such as ram=8KiB,flash=64KiB; the device's limits where unnamed.")
@click.option("--executor", "executors", multiple=True, help="How to run it; may be repeated.")
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False),
              help="Run on its report part; without it, on seeded random input.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=SEED, default=0, help="Of random input.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON on stdout.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the checks as a JUnit document.")  # fmt: skip
def check_command(
    folder: Path,
    budget: str | None,
    executors: tuple[str, ...],
    data: Path | None,
    samples: int,
    seed: int,
    junit: Path | None,
    *,
    as_json: bool,
) -> int:
    """Check the artifact in FOLDER: memory by region, and bit equality.

    Where a compiler for the device's core is installed, its code is measured and counts in the
    place of the estimate. Exit code 1 if a check fails, 3 if one could not run. The table says what
    fills a region, and what differed first.
    """
    opened = open_folder(folder)
    limits = budget_option(budget, dict(opened.device.regions))
    checks = memory_checks(opened, limits)
    values = given_input(opened, data, samples, seed)
    missing: ToolchainError | None = None
    for executor in chosen_executors(opened, executors):
        try:
            checks.append(equality_check(run_executor(opened, values, executor)))
        except ToolchainError as error:
            missing = error
            checks.append(not_run(executor, error.what))
    tables.console().print(tables.checks(checks))
    if junit is not None:
        write_file(junit, as_junit(opened.name, checks))
    if as_json:
        click.echo(json.dumps(checks_json(opened.name, checks), indent=2))
    if missing is not None:
        raise missing
    return 0 if all(check.passed for check in checks) else GATE_FAILED
