"""Expected counts of parts: sums and multiples of them; what a cost model adds up."""

from __future__ import annotations

from collections.abc import Iterable


class Counts(dict[str, float]):
    """How often each part is run, on average; parts that are not named are not run."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, float]]) -> Counts:
        """Counts of parts, added up where one is named twice."""
        found = cls()
        for part, count in pairs:
            if count:
                found[part] = found.get(part, 0.0) + float(count)
        return found

    def __add__(self, other: Counts) -> Counts:
        """Both, one after the other."""
        return Counts.of((*self.items(), *other.items()))

    def times(self, factor: float) -> Counts:
        """The same, so many times."""
        return Counts.of((part, count * factor) for part, count in self.items())
