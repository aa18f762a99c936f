"""Runs emitted files on this machine, as they are or under sanitizers."""

from __future__ import annotations

import subprocess
from functools import lru_cache

from qspinn.errors import BackendError
from qspinn.fixed import IntArray

from . import toolchain
from .builds import Built, Files, driver, in_parts
from .network import Network
from .samples import Recording

LIMIT_SECONDS = 600


@lru_cache(maxsize=4)
def hosted(files: Files, network: Network, command: tuple[str, ...]) -> Built:
    """The driver for this machine, built with a compiler command."""
    built = Built(files)
    (built.folder / "driver.c").write_text(driver(network, "hosted.c"))
    options = ("-std=c99", "-O2", "-o", "driver", "driver.c", f"{network.prefix}.c")
    toolchain.compile_((*command, *options), built.folder)
    return built


def run_hosted(files: Files, network: Network, data: IntArray, command: list[str]) -> Recording:
    """Run on this machine.

    Raises:
        BackendError: The program fails; the message holds what it said.
    """
    built = hosted(files, network, tuple(command))

    def program(part: bytes) -> bytes:
        done = subprocess.run(
            [str(built.folder / "driver")], input=part, check=False, capture_output=True,
            timeout=LIMIT_SECONDS, cwd=built.folder,
        )  # fmt: skip
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-2000:]
            raise BackendError(f"the driver ends with {done.returncode}: {said}")
        return done.stdout

    return in_parts(network, data, program)
