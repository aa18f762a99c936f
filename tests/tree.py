"""The files of the repository, for tests about the repository itself."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def tree(*under: str) -> tuple[Path, ...]:
    """Files that are tracked or could be (git ignores none of them), relative to the root."""
    git = ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others")
    command = (*git, "--exclude-standard", "--", *under)
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    names = sorted(set(out.decode().split("\0")) - {""})
    return tuple(Path(name) for name in names if (ROOT / name).is_file())


def sources(*under: str) -> list[Path]:
    """The Python files among them."""
    return [path for path in tree(*under) if path.suffix == ".py"]
