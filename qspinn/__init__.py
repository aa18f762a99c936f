"""qspinn compiles trained spiking neural networks to bit-exact fixed-point programs."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qspinn")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    """`qspinn.load`, found when it is asked for: a bare `import qspinn` stays quick."""
    if name == "load":
        return import_module("qspinn.frontends.loading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
