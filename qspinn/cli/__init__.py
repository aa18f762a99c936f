"""The command line: `main` is the console script."""

from __future__ import annotations

import importlib
import os
import sys

import click

from qspinn import __version__
from qspinn.errors import UNUSABLE, QspinnError

_COMMANDS = {
    "compile": "qspinn.cli.compile:compile_command",
    "explore": "qspinn.cli.explore:explore_command",
    "validate": "qspinn.cli.validate:validate_command",
    "check": "qspinn.cli.check:check_command",
    "bench": "qspinn.cli.bench:bench_command",
    "inspect": "qspinn.cli.inspect:inspect_command",
    "explain": "qspinn.cli.explain:explain_command",
    "targets": "qspinn.cli.targets:targets_command",
    "doctor": "qspinn.cli.doctor:doctor_command",
}
_HELP = {
    "compile": "Compile a trained network for a target.",
    "explore": "Search the precision of every parameter under a budget.",
    "validate": "Run an artifact again against the reference, bit for bit.",
    "check": "The gate for CI: budgets and bit equality, with an exit code.",
    "bench": "Instructions and cycles of an inference on emulated cores, by layer.",
    "inspect": "What is in a model file, what was assumed, what each target says to it.",
    "explain": "Why a parameter has its width: what the next narrower one would break.",
    "targets": "Targets, devices, capabilities and budgets.",
    "doctor": "Toolchains found, and how to get the rest.",
}


class _Lazy(click.Group):
    """Loads a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_HELP.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qspinn")
def cli() -> None:
    """Compile trained spiking neural networks to bit-exact fixed-point programs.

    Exit codes: 0 ok, 1 a gate failed (budget, accuracy, not bit-exact), 2 usage or unusable
    input, 3 a toolchain is missing.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit; an error the user can act on is one message, no traceback."""
    # Work is shared out by sample; threads inside a matrix product only wait for each other, and
    # their number would decide the last bit of a calibration.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        code = cli.main(args=args, prog_name="qspinn", standalone_mode=False)
    except QspinnError as error:
        report(error)
        sys.exit(error.exit_code)
    except MemoryError:
        click.echo("error: the memory does not suffice", err=True)
        click.echo("  hint: take fewer --steps, or fewer or smaller samples", err=True)
        sys.exit(UNUSABLE)
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        sys.exit(UNUSABLE)
    except click.ClickException as error:
        error.show()
        sys.exit(UNUSABLE)
    sys.exit(code if isinstance(code, int) else 0)


def report(error: QspinnError) -> None:
    """Print what is wrong, where, and what would help."""
    click.echo(f"error: {error.what}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)
