"""qspinn compiles trained spiking neural networks to bit-exact fixed-point programs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qspinn")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
