"""``qspinn doctor``: what it finds, what it says is missing, and the commands that install it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from qspinn.backends.loihi import interpreters

from cli_runs import Run
from qspinn import installing
from qspinn.backend import Tool
from qspinn.cli import doctor
from qspinn.errors import QspinnError
from qspinn.installing import Command

PIP = f"{sys.executable} -m pip install"
Here = Callable[..., None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """`here("numpy", python=(3, 12))`: the packages and the Python that there seem to be."""

    def pretend(*packages: str, python: tuple[int, int] = (3, 11), lava: str = "0.10.0") -> None:
        found = lambda name: name if name in packages else None  # noqa: E731
        monkeypatch.setattr(interpreters, "find_spec", found)
        monkeypatch.setattr(interpreters, "_version", lambda name: lava)
        monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
        monkeypatch.setattr(installing, "find_spec", lambda name: name)

    return pretend


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """The commands that would have been run."""
    commands: list[Command] = []
    monkeypatch.setattr(doctor, "run_command", lambda c: commands.append(c) or 0)
    return commands


@pytest.mark.parametrize(
    ("python", "lines"),
    [
        ((3, 10), [f"{PIP} lava-nc==0.10.0"]),
        *(((3, minor), [f"{PIP} numpy scipy networkx asteval",
                        f"{PIP} --ignore-requires-python --no-deps lava-nc==0.10.0"])
          for minor in (11, 12, 13)),
    ],
)  # fmt: skip
def test_how_lava_is_installed(
    python: tuple[int, int], lines: list[str], here: Here, qspinn: Run, ran: list[Command]
) -> None:
    here("numpy", "scipy", python=python)
    done = qspinn("doctor", "--install", "lava")
    assert done.code == 0
    assert done.out.splitlines() == lines
    for part in (
        "lava-nc is missing",
        "networkx is missing",
        "asteval is missing",
        "numpy below 2",
    ):
        assert part in done.err
    assert "scipy is missing" not in done.err
    assert not ran


def test_yes_runs_the_commands_and_looks_again(here: Here, qspinn: Run, ran: list[Command]) -> None:
    here("numpy")
    done = qspinn("doctor", "--install", "lava", "--yes")
    assert done.code == 3
    assert "lava is still missing" in done.err
    assert [command[-1] for command in ran] == ["asteval", "lava-nc==0.10.0"]


def test_yes_succeeds_where_it_is_found_afterwards(
    here: Here, qspinn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    here()

    def run(command: Command) -> int:
        if "--no-deps" in command:
            here("lava", *interpreters.NEEDS)
        return 0

    monkeypatch.setattr(doctor, "run_command", run)
    assert qspinn("doctor", "--install", "lava", "--yes").code == 0
    again = qspinn("doctor", "--install", "lava", "--yes")
    assert again.code == 0
    assert again.out == ""
    assert f"lava is here: {sys.executable}" in again.err


def test_a_command_that_fails(here: Here, qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    here()
    monkeypatch.setattr(doctor, "run_command", lambda command: 7)
    done = qspinn("doctor", "--install", "lava", "--yes")
    assert done.code == 3
    assert "asteval failed with exit code 7" in done.err
    assert done.out.count("\n") == 1


def test_another_lava_is_named(here: Here, qspinn: Run) -> None:
    here("lava", *interpreters.NEEDS, lava="0.9.0")
    done = qspinn("doctor", "--install", "lava")
    assert "lava-nc is 0.9.0, 0.10.0 is needed" in done.err
    tools = {tool["name"]: tool for tool in json.loads(qspinn("doctor", "--json").out)}
    assert tools["lava"]["found"] == ""
    assert "lava-nc is 0.9.0, 0.10.0 is needed" in tools["lava"]["notes"]


def tool(name: str, *install: Command, found: str = "") -> Tool:
    return Tool(name, "something", found, f"get {name}", install)


TOOLS = [
    tool("ziglang", ("python", "-m", "pip", "install", "ziglang")),
    tool("unicorn, pyelftools", ("python", "-m", "pip", "install", "unicorn", "pyelftools")),
    tool("arm-none-eabi-gcc", ("apt-get", "install", "-y", "gcc-arm-none-eabi")),
    tool("qemu-system-arm", ("apt-get", "install", "-y", "qemu-system-arm")),
    tool("qemu-system-riscv32", ("apt-get", "install", "-y", "qemu-system-misc"), found="there"),
    tool("chip"),
]


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("zig", "python -m pip install ziglang\n"),
        ("Unicorn", "python -m pip install unicorn pyelftools\n"),
        ("pyelftools", "python -m pip install unicorn pyelftools\n"),
        ("gcc-arm", "apt-get install -y gcc-arm-none-eabi\n"),
        ("qemu", "apt-get install -y qemu-system-arm\n"),
        ("qemu-system-riscv32", ""),
    ],
)
def test_other_tools(name: str, out: str, qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "listed", lambda: TOOLS)
    done = qspinn("doctor", "--install", name)
    assert (done.code, done.out) == (0, out)
    assert ("is here: there" in done.err) == name.startswith("qemu")


def test_what_no_command_installs(qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "listed", lambda: TOOLS)
    done = qspinn("doctor", "--install", "chip")
    assert done.code == 3
    assert "hint: get chip" in done.err
    unknown = qspinn("doctor", "--install", "vivado")
    assert unknown.code == 2
    assert "no target uses a tool 'vivado'" in unknown.err
    assert "one of ziglang, unicorn, pyelftools," in unknown.err
    assert qspinn("doctor", "--yes").code == 2


def test_a_missing_program_is_told(qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "listed", lambda: [tool("x", ("/no/such/program", "install"))])
    done = qspinn("doctor", "--install", "x", "--yes")
    assert done.code == 3
    assert "/no/such/program does not run" in done.err


def test_every_tool_says_how_to_get_it() -> None:
    for found in doctor.listed():
        assert found.hint
        assert all(found.install), found.name


# --- the commands ---


def test_python_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--ignore-requires-python", "--no-deps", "x")
    monkeypatch.setattr(installing, "find_spec", lambda name: None)
    monkeypatch.setattr(installing.shutil, "which", lambda name: f"/bin/{name}")
    assert installing.pip(*options) == (
        ("uv", "pip", "install", "--python", sys.executable, "--no-deps", "x"),
    )
    monkeypatch.setattr(installing.shutil, "which", lambda name: None)
    first, second = installing.pip("x")
    assert first == (sys.executable, "-m", "ensurepip")
    assert second == (sys.executable, "-m", "pip", "install", "x")


def test_system_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(installing.os, "geteuid", lambda: 0)
    assert installing.apt("a", "b") == (("apt-get", "install", "-y", "a", "b"),)
    monkeypatch.setattr(installing.os, "geteuid", lambda: 1000)
    assert installing.apt("a") == (("sudo", "apt-get", "install", "-y", "a"),)
    monkeypatch.setattr(installing.shutil, "which", lambda name: None)
    assert installing.apt("a") == ()


def test_a_second_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(interpreters.NAMED, str(tmp_path / "lava" / "bin" / "python"))
    monkeypatch.setattr(interpreters.shutil, "which", lambda name: f"/bin/{name}")
    made = interpreters.tools()[1]
    assert made.install == (
        ("/bin/python3.10", "-m", "venv", str(tmp_path / "lava")),
        (str(tmp_path / "lava/bin/python"), "-m", "pip", "install", "lava-nc==0.10.0"),
    )
    assert str(tmp_path / "lava") in made.notes[0]
    monkeypatch.setattr(interpreters.shutil, "which", lambda name: None)
    none = interpreters.tools()[1]
    assert none.install == ()
    assert "no python3.10 on the path" in none.notes[0]


def test_words_of_installers_are_no_packages() -> None:
    command = ("/bin/python", "-m", "pip", "install", "unicorn>=2")
    tool = Tool("emulator", "running", "", "", (command,))
    assert doctor.chosen([tool], "unicorn") == [tool]
    for word in ("install", "pip", "-m", "python"):
        with pytest.raises(QspinnError, match="no target uses a tool"):
            doctor.chosen([tool], word)
