"""``qspinn doctor``: which toolchains are here, and how to get the others."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import asdict

import click

from qspinn.backend import Tool, backends
from qspinn.errors import QspinnError, ToolchainError
from qspinn.installing import Command
from qspinn.report import tables

_OF_INSTALLERS = re.compile(r"-|.*/|(pip|venv|install|apt-get|uv|ensurepip)$")
"""Words of their commands that are no packages: options, paths, their own."""


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--install", "wanted", metavar="NAME", help="Print the commands that install a tool.")
@click.option("--yes", is_flag=True, help="With --install: run them, and look again.")
def doctor_command(*, as_json: bool, wanted: str | None, yes: bool) -> None:
    """List the toolchains of every target: what each is for, and where it was found.

    With --install the commands go to stdout, a line each, and nothing is changed without --yes.
    NAME is a tool, or a part of its name or packages: lava, zig, unicorn, gcc-arm, qemu, simavr.
    Exit codes: 0 printed, installed or here already, 2 no such tool, 3 it cannot be installed
    here, a command failed, or something is still missing after them.
    """
    if yes and wanted is None:
        raise QspinnError("--yes goes with --install", hint="qspinn doctor --install lava --yes")
    if wanted is not None:
        for tool in chosen(listed(), wanted):
            install(tool, run=yes)
        return
    found = listed()
    tables.console().print(tables.tools(found))
    if as_json:
        click.echo(json.dumps([asdict(tool) for tool in found], indent=2))


def listed() -> list[Tool]:
    """The tools of every target, each once."""
    found: list[Tool] = []
    for target in backends().values():
        found += [tool for tool in target.tools() if tool not in found]
    return found


def chosen(found: list[Tool], wanted: str) -> list[Tool]:
    """The tools of that very name, or else those with it in their names or packages.

    Raises:
        QspinnError: There are none.
    """
    word = wanted.lower()
    exact = [tool for tool in found if word in tool.name.lower().split(", ")]
    parts = [t for t in found if word in t.name.lower() or _installs(t, word)]
    if not word or not (exact or parts):
        names = ", ".join(tool.name for tool in found)
        raise QspinnError(f"no target uses a tool {wanted!r}", hint=f"one of {names}")
    return exact or parts


def _installs(tool: Tool, word: str) -> bool:
    """Whether the commands that install a tool have ``word`` in a package that they name."""
    given = (each for command in tool.install for each in command[1:])
    return any(word in each for each in given if not _OF_INSTALLERS.match(each))


def install(tool: Tool, *, run: bool) -> None:
    """Print what installs a tool, or run it.

    Raises:
        ToolchainError: Nobody knows how, or it did not work.
    """
    if tool.found:
        click.echo(f"{tool.name} is here: {tool.found}", err=True)
        return
    for note in tool.notes:
        click.echo(f"{tool.name}: {note}", err=True)
    if not tool.install:
        raise ToolchainError(f"{tool.name} cannot be installed by a command here", hint=tool.hint)
    for command in tool.install:
        click.echo(shlex.join(command))
        if run and (code := run_command(command)):
            raise ToolchainError(f"{shlex.join(command)} failed with exit code {code}")
    if run and not any(again.found for again in listed() if again.name == tool.name):
        raise ToolchainError(f"{tool.name} is still missing", hint=tool.hint)


def run_command(command: Command) -> int:
    """Run a command in the terminal of whoever asked; return its exit code."""
    try:
        return subprocess.run(command, check=False).returncode
    except OSError as error:
        raise ToolchainError(f"{command[0]} does not run: {error}") from error
