"""What every test may ask for: tools that may be absent, data, seeded randomness, golden files."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest

if TYPE_CHECKING:
    from cli_runs import Run

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

# The same examples on every run. `--hypothesis-profile=search` looks for new ones.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("house")


# --- tools that may be absent ---


def packages(*names: str) -> Callable[[], str]:
    def missing() -> str:
        for name in names:
            try:
                distribution(name)
            except PackageNotFoundError:
                return f"{name} is not installed (make setup)"
        return ""

    return missing


def command(name: str) -> Callable[[], str]:
    return lambda: "" if shutil.which(name) else f"{name} is not on the path (make toolchains)"


def folder(variable: str) -> Callable[[], str]:
    def missing() -> str:
        if not (path := os.environ.get(variable)):
            return f"{variable} names no folder"
        return "" if Path(path).is_dir() else f"{variable} names a folder that is not there"

    return missing


def emulator_of_rp2040() -> str:
    from qspinn.backends.mcu.rp2040 import rp2040js

    from qspinn.errors import ToolchainError

    try:
        rp2040js()
    except ToolchainError as error:
        return f"{error} (make toolchains)"
    return ""


LAVA310, LAVA313 = (ROOT / f".venv-lava{n}" / "bin" / "python" for n in (310, 313))


def second(python: Path) -> Callable[[], str]:
    def missing() -> str:
        folder = python.parents[1]
        complete = python.exists() and (folder / ".qspinn-setup").exists()
        return "" if complete else f"no {folder.name} (make setup-{folder.name[6:]})"

    return missing


# Name of a tool -> a function that says why it cannot be used, or nothing where it can.
TOOLS: dict[str, Callable[[], str]] = {
    "cmake": command("cmake"),
    "platformio": packages("platformio"),
    "zig": packages("ziglang"),
    "unicorn": packages("unicorn", "pyelftools"),
    "lava": packages("lava-nc", "scipy", "networkx", "asteval"),
    "lava-dl": packages("lava-dl", "lava-nc", "scipy", "networkx", "asteval"),
    "lava310": second(LAVA310),
    "lava313": second(LAVA313),
    "numba": packages("numba"),
    "torch": packages("torch"),
    "snntorch": packages("snntorch"),
    "norse": packages("norse"),
    "spikingjelly": packages("spikingjelly", "loguru"),
    "sinabs": packages("sinabs", "pbr"),
    "rockpool": packages("rockpool"),
    "nirtorch": packages("nirtorch"),
    "sklearn": packages("scikit-learn"),
    "nir": packages("nir"),
    "onnx": packages("onnx"),
    "pymoo": packages("pymoo"),
    "dask": packages("distributed"),
    "gcc": command("gcc"),
    "g++": command("g++"),
    "arm-gcc": command("arm-none-eabi-gcc"),
    "qemu": command("qemu-system-arm"),
    "riscv-gcc": command("riscv64-unknown-elf-gcc"),
    "qemu-riscv": command("qemu-system-riscv32"),
    "avr-gcc": command("avr-gcc"),
    "simavr": command("simavr"),
    "rp2040js": emulator_of_rp2040,
    "data": folder("QSPINN_DATA"),
    "models": folder("QSPINN_MODELS"),
}
# torch is set up on Python 3.11 alone (scripts/setup.py), so `all` asks for it only there.
ONLY_ON_311 = {"torch", "snntorch", "norse", "spikingjelly", "sinabs", "rockpool", "nirtorch"}


def required_tools() -> set[str]:
    """The tools whose absence is a failure: QSPINN_REQUIRE, a comma list or `all`."""
    names = {name.strip() for name in os.environ.get("QSPINN_REQUIRE", "").split(",")} - {""}
    if unknown := names - TOOLS.keys() - {"all"}:
        raise pytest.UsageError(f"QSPINN_REQUIRE names unknown tools: {', '.join(sorted(unknown))}")
    if "all" in names:
        names |= TOOLS.keys() - (set() if sys.version_info[:2] == (3, 11) else ONLY_ON_311)
    return names


def demand(tool: str) -> None:
    """Skip the running test where `tool` is absent, or fail it where it is required."""
    if reason := TOOLS[tool]():
        if tool in required_tools():
            pytest.fail(f"QSPINN_REQUIRE asks for {tool}: {reason}", pytrace=False)
        pytest.skip(f"needs {tool}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    required_tools()  # a misspelt name must not wait for the first test that needs the tool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("needs"):
            if not marker.args or (unknown := set(marker.args) - TOOLS.keys()):
                what = sorted(unknown) if marker.args else "nothing"
                raise pytest.UsageError(f"{item.nodeid}: needs {what}; known: {sorted(TOOLS)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for tool in marker.args:
            demand(tool)


@pytest.fixture
def require() -> Callable[[str], None]:
    """`require("zig")` inside a test, where a marker would come too early."""
    return demand


@pytest.fixture
def data() -> Path:
    """The folder of data sets."""
    demand("data")
    return Path(os.environ["QSPINN_DATA"]).resolve()


@pytest.fixture
def models() -> Path:
    """The folder of trained networks from elsewhere."""
    demand("models")
    return Path(os.environ["QSPINN_MODELS"]).resolve()


@pytest.fixture
def lava310() -> Path:
    """The interpreter of the environment that has Lava as it ships."""
    demand("lava310")
    return LAVA310


@pytest.fixture
def lava313() -> Path:
    """The interpreter of the environment that has Lava on the newest Python."""
    demand("lava313")
    return LAVA313


# --- the command line ---


@pytest.fixture
def qspinn(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line called in this process."""
    from cli_runs import runner

    return runner(capsys)


# --- randomness ---


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of the test's own: the same on every run, in any order."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


# --- images of the mcu target ---


@pytest.fixture(params=["as it is", "in bands"])
def divided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Images as they are divided anyway, and wherever that is possible."""
    from qspinn.backends.mcu import sums
    from qspinn.backends.mcu.build import build

    if request.param == "in bands":
        monkeypatch.setattr(sums, "_SMALL", 0)
        monkeypatch.setattr(sums, "_SHARE", 20)
    build.cache_clear()
    yield
    build.cache_clear()


# --- golden files ---


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


class Golden(str):
    """The text of a golden file. `assert text == golden` compares; --update-golden writes."""

    path: Path
    update: bool

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        if self.update and (not self.path.exists() or not str.__eq__(self, other)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(other.encode())
            return True
        if not self.path.exists():
            name = self.path.relative_to(ROOT)
            pytest.fail(f"{name} does not exist: run with --update-golden, then read it")
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden text of this test, from tests/golden/<module>/<test>.txt."""
    module = request.path.relative_to(TESTS).with_suffix("")
    name = re.sub(r"[^\w.-]+", "_", request.node.name).strip("_")
    path = TESTS / "golden" / module / f"{name}.txt"
    text = Golden(path.read_bytes().decode() if path.exists() else "")
    text.path = path
    text.update = request.config.getoption("--update-golden")
    return text
