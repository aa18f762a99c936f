"""Plain Python that numba compiles where it is installed, and that means the same without it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use; keep the machine code on disk where numba finds a place for it."""
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return function
    # numba looks whether the function's own file changed, not those of what it calls: the name
    # under which it keeps the code tells of all.
    function.__qualname__ += f"_{_version()}"
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to write to
        return cast(F, numba.njit(nogil=True)(function))


@lru_cache(maxsize=1)
def _version() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
