"""Every error a user can meet: what went wrong, where, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

OK, GATE_FAILED, UNUSABLE, NO_TOOLCHAIN = 0, 1, 2, 3
"""Exit codes of the command line."""


class QspinnError(Exception):
    """Something the user can act on.

    Args:
        message: What is wrong, with the quantity and the limit.
        hint: What would help.
        at: The object, as a path such as ``lif1.threshold``.
    """

    exit_code = UNUSABLE

    def __init__(self, message: str, *, hint: str = "", at: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.at = at
        self.during = ""

    def __str__(self) -> str:
        return f"{self.what} (hint: {self.hint})" if self.hint else self.what

    @property
    def what(self) -> str:
        """What is wrong and where, for those who show the hint apart."""
        where = f"{self.at}: " if self.at else ""
        when = f" (during {self.during})" if self.during else ""
        return f"{where}{self.message}{when}"


class FrontendError(QspinnError):
    """A model or data file that cannot be used as it is."""


class VerifyError(QspinnError):
    """A graph that breaks the rules of the IR."""


class PlanError(QspinnError):
    """A plan that cannot be read, or that does not match its graph or target."""


class QuantizeError(QspinnError):
    """A value or a state that its format cannot hold."""


class LegalizeError(QspinnError):
    """A graph that a target cannot express; carries every reason found."""

    def __init__(self, message: str, reasons: tuple[str, ...] = (), *, hint: str = "") -> None:
        super().__init__("\n  ".join((message, *reasons)), hint=hint)
        self.reasons = reasons


class BackendError(QspinnError):
    """A target whose artifact could not be built or run."""


class ToolchainError(BackendError):
    """A tool that is needed and not installed."""

    exit_code = NO_TOOLCHAIN


class GateError(QspinnError):
    """A budget, an accuracy or a bit equality that does not hold."""

    exit_code = GATE_FAILED


class MismatchError(GateError):
    """Two executors that do not agree bit for bit."""


@contextmanager
def located(path: str) -> Iterator[None]:
    """Give errors raised inside the place ``path``, unless they already name one."""
    try:
        yield
    except QspinnError as error:
        error.at = error.at or path
        raise


@contextmanager
def during(step: str) -> Iterator[None]:
    """Give errors raised inside the name of the step that was running."""
    try:
        yield
    except QspinnError as error:
        error.during = error.during or step
        raise
