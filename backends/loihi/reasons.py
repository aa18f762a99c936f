"""What stands in the way of a graph: every reason is collected before one error names them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qspinn.errors import LegalizeError, QspinnError


class Unfit(QspinnError):
    """One thing that a part of the target cannot express: the quantity, the limit, the remedy."""


class Reasons:
    """The reasons found so far, each opening with the object it is about."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """Note what is raised inside as a reason about ``name``."""
        try:
            yield
        except Unfit as error:
            self.add(name, error)

    def add(self, name: str, error: Unfit) -> None:
        """Note one reason about ``name``, unless it is known."""
        remedy = f"; {error.hint}" if error.hint else ""
        text = f"{error.at or name}: {error.message}{remedy}"
        if text not in self.found:
            self.found.append(text)

    def raise_if_any(self, graph_name: str) -> None:
        """Raise one error with every reason.

        Raises:
            LegalizeError: There is a reason.
        """
        if self.found:
            count = "1 reason" if len(self.found) == 1 else f"{len(self.found)} reasons"
            raise LegalizeError(f"loihi cannot run {graph_name}: {count}", tuple(self.found))
