"""Make the environments that qspinn is developed in, or bring them up to date.

Run by `make setup`, `make setup-lava310`, `make setup-lava313` and `make lock`, with nothing but
the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 10)

EXTRAS = ("fast", "mcu", "loihi", "explore", "dask", "dev")
# torch is set up where a CPU build of it is at hand; elsewhere it would pull gigabytes of CUDA.
TORCH_EXTRAS = ("train", "bench", "frameworks")
TORCH_PYTHON = (3, 11)
# What they declare would bring torchvision, torchaudio and tensorboard, which their neurons do not
# import, and an older nir than ours. What they do import is the extra `frameworks`.
FRAMEWORKS = ("norse>=1.1", "spikingjelly>=2.0", "sinabs>=3.1")

# Both declare Python < 3.11 and numpy < 2. qspinn's own shim lets them run on what is newer.
LAVA = ("lava-nc==0.10.0", "lava-dl==0.6.0")

# Second environments, with nothing but Lava and what it runs on: on the Python that it was released
# for, as it ships, and on the newest, where its declared limits are passed over.
LAVA_PYTHONS = {"lava310": (3, 10), "lava313": (3, 13)}
LAVA_NEEDS = ("numpy", "scipy", "networkx", "asteval")

# What `lock` may not go past. On 3.10 numpy stays at the version Lava was released with.
LIMITS = {(3, 10): ("numpy<2",), (3, 11): ("torch==2.13.0",)}


class SetupError(Exception):
    """What stands in the way, in words for the person who ran make."""


def main() -> int:
    """Do the one task named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("main", *LAVA_PYTHONS, "lock"))
    parser.add_argument("--keep", action="store_true", help="keep the interpreter .venv has")
    arguments = parser.parse_args()
    try:
        if arguments.task == "main":
            set_up(ROOT / ".venv", keep=arguments.keep)
        elif arguments.task in LAVA_PYTHONS:
            set_up_lava(arguments.task)
        else:
            lock()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"setup: failed ({error.returncode}): {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


# --- the three tasks ---


def set_up(venv: Path, *, keep: bool) -> None:
    """Fill `venv` with qspinn (editable), all its extras and Lava, at the pinned versions."""
    standing = version_of(python_in(venv), "pip")
    version = standing if keep and standing else sys.version_info[:2]
    check_supported(version)
    pins = pins_for(version)
    stamp = Stamp(venv, version, ROOT / "pyproject.toml", pins)
    if stamp.matches():
        print(f"setup: {venv.name} is up to date")
        return
    stamp.remove()
    if standing != version:
        create(venv, sys.executable)
    if not pins.exists():
        print(f"setup: no pins for Python {dotted(version)}: taking the newest packages")
    print(f"setup: filling {venv.name}, Python {dotted(version)} (minutes, the first time)")
    install_all(python_in(venv), version, pins)
    stamp.write()
    print(f"setup: {venv.name} is ready")


def set_up_lava(task: str) -> None:
    """Fill `.venv-TASK` with Lava alone, on 3.10 as it was released."""
    venv, version = ROOT / f".venv-{task}", LAVA_PYTHONS[task]
    pins = ROOT / "constraints" / f"{task}.txt"
    stamp = Stamp(venv, version, pins)
    if stamp.matches():
        print(f"setup: {venv.name} is up to date")
        return
    stamp.remove()
    if version_of(python_in(venv), "pip") != version:
        python = next((p for p in pythons(version) if version_of(p) == version), None)
        if python is None:
            message = f"no Python {dotted(version)} found, so Lava is not tested on it"
            required = os.environ.get("QSPINN_REQUIRE", "").split(",")
            if "all" in required or task in required:
                raise SetupError(f"{message}; QSPINN_REQUIRE asks for it")
            print(f"setup: {message}")
            return
        create(venv, python)
    print(f"setup: filling {venv.name}")
    install_lava(python_in(venv), version, pins)
    stamp.write()
    print(f"setup: {venv.name} is ready")


def install_lava(python: str, version: tuple[int, ...], pins: Path | None = None) -> None:
    """Install Lava alone; what it declares is heeded only on the Python that it declares."""
    pip(python, "--upgrade", "pip", pins=pins)
    if version == LAVA_PYTHONS["lava310"]:
        pip(python, LAVA[0], pins=pins)
        return
    pip(python, *LAVA_NEEDS, pins=pins)
    pip(python, "--no-deps", "--ignore-requires-python", LAVA[0], pins=pins)


def lock() -> None:
    """Install the newest packages aside, then pin exactly those for this Python."""
    version = sys.version_info[:2]
    check_supported(version)
    with tempfile.TemporaryDirectory() as folder:
        limits = Path(folder) / "limits.txt"
        limits.write_text("\n".join(LIMITS.get(version, ())))
        venv = Path(folder) / "venv"
        create(venv, sys.executable)
        install_all(python_in(venv), version, limits)
        write_pins(python_in(venv), pins_for(version))
        for task in (t for t, wanted in LAVA_PYTHONS.items() if wanted == version):
            venv = Path(folder) / task
            create(venv, sys.executable)
            install_lava(python_in(venv), version)
            write_pins(python_in(venv), ROOT / "constraints" / f"{task}.txt")


# --- the pieces ---


class Stamp:
    """Tells whether an environment was made from exactly these inputs, in this place."""

    def __init__(self, venv: Path, version: tuple[int, ...], *inputs: Path) -> None:
        self.venv = venv
        self.path = venv / ".qspinn-setup"
        digest = hashlib.sha256(repr((version, str(ROOT))).encode())
        for path in (Path(__file__), *inputs):
            digest.update(path.read_bytes() if path.exists() else b"absent")
        self.digest = digest.hexdigest()

    def matches(self) -> bool:
        """True where the environment also still runs."""
        return (
            self.path.exists()
            and self.path.read_text() == self.digest
            and version_of(python_in(self.venv)) is not None
        )

    def remove(self) -> None:
        """Forget it first: what is half done must not look done."""
        if self.path.exists():
            self.path.unlink()

    def write(self) -> None:
        """Remember that the environment is complete."""
        self.path.write_text(self.digest)


def install_all(python: str, version: tuple[int, ...], pins: Path) -> None:
    """Install the build tools, qspinn with its extras, and what declares too much without it."""
    extras = EXTRAS + (TORCH_EXTRAS if version == TORCH_PYTHON else ())
    pip(python, "--upgrade", "pip", "setuptools", "wheel", pins=pins)
    editable = f"{ROOT}[{','.join(extras)}]"
    pip(python, "--no-build-isolation", "--editable", editable, pins=pins)
    pip(python, "--no-deps", "--ignore-requires-python", *LAVA, pins=pins)
    if version == TORCH_PYTHON:
        pip(python, "--no-deps", *FRAMEWORKS, pins=pins)


def pip(python: str, *arguments: str, pins: Path | None = None) -> None:
    """Run `pip install`, held to `pins`; it prints nothing but errors."""
    constraint = ("--constraint", str(pins)) if pins is not None and pins.exists() else ()
    quiet = ("-qq", "--disable-pip-version-check", "--no-input")
    command = (python, "-m", "pip", "install", *quiet, *constraint, *arguments)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def write_pins(python: str, path: Path) -> None:
    """Write every installed version as `name==version`, without build tags such as +cpu."""
    command = (python, "-m", "pip", "freeze", "--all", "--exclude", "qspinn")
    frozen = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    pins = [line.partition("+")[0] for line in frozen.splitlines()]
    if odd := [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.!]+", pin)]:
        raise SetupError(f"not a plain pin: {odd[0]}")
    path.write_text("\n".join(sorted(pins, key=str.lower)) + "\n")
    print(f"setup: {len(pins)} pins in {path.relative_to(ROOT)}")


def create(venv: Path, python: str) -> None:
    """Make an empty environment, in place of any that is there."""
    print(f"setup: creating {venv.name}")
    subprocess.run((python, "-m", "venv", "--clear", str(venv)), check=True)


def pythons(version: tuple[int, ...]) -> Iterator[str]:
    """Places where that Python may be; a pyenv shim among them need not run."""
    yield sys.executable
    if found := shutil.which(f"python{dotted(version)}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found_there = pyenv.glob(f"versions/{dotted(version)}*/bin/python")
    yield from map(str, sorted(found_there, reverse=True))


def python_in(venv: Path) -> str:
    """The interpreter of an environment."""
    return str(venv / "bin" / "python")


def version_of(python: str, needs: str = "sys") -> tuple[int, ...] | None:
    """Major and minor version of an interpreter; None where it does not run, or lacks a module.

    An environment whose making was cut off has no pip.
    """
    command = (python, "-c", f"import sys, {needs}; print(*sys.version_info[:2])")
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return None
    return tuple(map(int, run.stdout.split())) if run.returncode == 0 else None


def pins_for(version: tuple[int, ...]) -> Path:
    """The constraints file of a Python version; it need not exist."""
    return ROOT / "constraints" / f"python{dotted(version)}.txt"


def check_supported(version: tuple[int, ...]) -> None:
    """Refuse a Python that is too old, and say how to name another."""
    if version < OLDEST:
        raise SetupError(
            f"qspinn needs Python {dotted(OLDEST)} or newer, this is {dotted(version)}"
            " (name another: make setup PYTHON=python3.11)"
        )


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as people do: 3.10."""
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.exit(main())
