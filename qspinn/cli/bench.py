"""``qspinn bench``: instructions and modelled cycles of an inference, by layer."""

from __future__ import annotations

import json
from pathlib import Path

import click

from qspinn.artifact import Opened, open_folder
from qspinn.bench import Bench, as_json, counting, work
from qspinn.cli.options import SEED
from qspinn.cli.validate import given_input
from qspinn.report import benches, tables


@click.command(name="bench")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--core", "cores", multiple=True,
              help="Such as m4 or cortex-m55; may be repeated. Default: the device's.")  # fmt: skip
@click.option("--compiler", type=click.Choice(["gcc", "clang"]),
              help="Default: gcc where it is installed, else the clang of ziglang.")  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False),
              help="Run on its report part; without it, on seeded random input.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=SEED, default=0, help="Of random input.")
@click.option("--json", "as_text", is_flag=True, help="Print the counts as JSON on stdout.")
def bench_command(
    folder: Path,
    cores: tuple[str, ...],
    compiler: str | None,
    data: Path | None,
    samples: int,
    seed: int,
    *,
    as_text: bool,
) -> None:
    """Count what an inference of the artifact in FOLDER costs on emulated cores.

    Instructions are exact for the compiler and the samples; cycles are a model, where there is
    one. Exit code 2 where the core is not known, 3 where a compiler or emulator is missing.
    """
    opened = open_folder(folder)
    target = counting(opened.backend)
    values = given_input(opened, data, samples, seed)
    layers = work(opened.graph, values)
    asked = cores or (opened.device.core,)
    found: dict[str, Bench] = {}
    with tables.progress(f"{opened.name} on emulated cores", len(asked)) as done:
        for number, core in enumerate(asked, 1):
            count = target.count(folder, opened.graph, values, core, compiler)
            hertz = clock(opened) if count.core == opened.device.core else 0
            found[count.core] = Bench(count, layers, values.shape[1], hertz)
            done(number)
    for bench in found.values():
        tables.console().print(benches.bench(opened.name, bench, notes(opened, bench, data)))
    if as_text:
        click.echo(json.dumps(as_json(opened.name, opened.device.name, found), indent=2))


def notes(opened: Opened, bench: Bench, data: Path | None) -> tuple[str, ...]:
    """What a person should know beside the counts."""
    device = opened.device
    known = device.note if bench.count.core == device.core else ""
    return (
        *((f"{device.name}: {known}",) if known else ()),
        *(() if data else ("on random input: --data FILE counts on yours",)),
    )


def clock(opened: Opened) -> int:
    """The device's clock in Hz; 0 where it is not known."""
    return int(getattr(opened.device, "hertz", 0))
