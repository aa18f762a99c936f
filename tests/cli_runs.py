"""The command line called in this process: what the fixture ``qspinn`` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from qspinn.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def unwrapped(self) -> Result:
        """The same with its errors in one line, whatever the width of the terminal."""
        return self._replace(err=" ".join(self.err.split()))


Run = Callable[..., Result]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that calls it and takes what it wrote."""

    def run(*args: object) -> Result:
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in args])
        streams = capsys.readouterr()
        code = caught.value.code
        return Result(code if isinstance(code, int) else 0, streams.out, streams.err)

    return run
