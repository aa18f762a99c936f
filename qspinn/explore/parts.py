"""Honest data use: what may be looked at, and when. The report part is opened once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qspinn.datasets import PARTS, Dataset
from qspinn.errors import PlanError, QspinnError
from qspinn.ir import Array


@dataclass(eq=False)
class Parts:
    """A data set whose report part stays shut until a selection is final.

    Attributes:
        dataset: The whole file; nothing but this class reads it.
        seed: Of the order in which samples are looked at.
        selected: The digest of the selected candidate, once it is final.
    """

    dataset: Dataset
    seed: int = 0
    selected: str | None = None
    _opened: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("calibrate", "select"):
            if not len(self.dataset.part(name)):
                raise PlanError(
                    f"has no sample in its {name} part (split {PARTS[name]})",
                    at=self.dataset.name,
                    hint="leave split out for a seeded permutation in three parts, or compile "
                    "without a search: --evaluations 0",
                )

    @property
    def open(self) -> Dataset:
        """The data set without its report part: no label and no sample of it can be read."""
        return self.dataset.without("report")

    def order(self, name: str, limit: int | None = None) -> Array:
        """The samples of the ``calibrate`` or ``select`` part in a seeded order."""
        if name == "report":
            raise QspinnError("the report part has no order: it is opened once, whole")
        index = self.dataset.part(name)
        drawn = np.random.default_rng([self.seed, PARTS[name]]).permutation(index)
        return np.asarray(drawn[:limit])

    def close(self, digest: str) -> None:
        """Make a selection final; only then can the report part be opened."""
        if self.selected is not None:
            raise QspinnError("a candidate has been selected already")
        self.selected = digest

    def report(self) -> Dataset:
        """The whole data set, once, for the selected candidate.

        Raises:
            QspinnError: Nothing is selected yet, or the part was opened before.
        """
        if self.selected is None:
            raise QspinnError("the report part stays shut until a candidate is selected")
        if self._opened:
            raise QspinnError("the report part was opened before; a second look would choose on it")
        self._opened = True
        return self.dataset
