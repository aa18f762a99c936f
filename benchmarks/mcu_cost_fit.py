"""How the parts of a cost model are fitted to what functions were seen to take.

A part takes some instructions each time, none fewer than 0. A part with a colon in its name refines
the one before the colon: what that takes more, or less, in a case of its own. How much a part is
drawn to what is known beforehand follows from how much figures differ, and how exact counts are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from qspinn.backends.mcu.costmodel import REFINES, UNSEEN
from qspinn.backends.mcu.running import Counts
from scipy.optimize import nnls

FOLDS = 5
NOISE = 0.02
"""By how much a function is expected to miss, relative to what errors are relative to."""
SPREAD, REFINED = 10.0, 3.0
"""By how many instructions a part differs from what is known beforehand; and a refinement."""
LEAST = 0.01
"""The share of a run that a function counts for at least."""
SUMS = 2.0
"""How much the sum over a network counts beside its functions."""


@dataclass(frozen=True)
class Seen:
    """One emitted function at work: its parts, the instructions it took, and whose it is."""

    parts: Counts
    instructions: float
    run: int
    network: int
    weight: float = 1.0
    total: float = 0.0
    """Its share of what its run took, where ``instructions`` are only some of its own."""


def beside(seen: Sequence[Seen], keys: Sequence[str], table: Mapping[str, float]) -> list[Seen]:
    """Functions that have some of the parts, less what their other parts take by a table."""
    chosen = set(keys)
    runs: dict[int, list[Seen]] = {}
    for s in seen:
        runs.setdefault(s.run, []).append(s)
    found = []
    for of_run in runs.values():
        some = [s for s in of_run if chosen & s.parts.keys()]
        total = sum(s.instructions for s in of_run)
        for s in some:
            other = sum(
                n * table.get(part, 0.0) for part, n in s.parts.items() if part not in chosen
            )
            found.append(replace(s, instructions=s.instructions - other, total=total / len(some)))
    return found


def fit(
    seen: Sequence[Seen], keys: Sequence[str], prior: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Instructions by part that explain best what functions and networks take.

    An error counts relative to the geometric mean of what the function and its run take, and once
    more, in the sum over a run, relative to that.

    Args:
        seen: What was measured.
        keys: The parts.
        prior: What parts that are rare or small in all networks are drawn to: what they take on
            another core; None: an instruction, and nothing for a refinement.
    """
    at = {key: i for i, key in enumerate(keys)}
    a = np.zeros((len(seen), len(keys)))
    for row, s in zip(a, seen, strict=True):
        for part, n in s.parts.items():
            if part in at:
                row[at[part]] = n
    y = np.array([s.instructions for s in seen], float)
    run = np.array([s.run for s in seen])
    total = np.bincount(run, [s.total or s.instructions for s in seen])[run]
    weight = np.array([s.weight for s in seen])
    each = weight / np.sqrt(total * np.maximum(y, LEAST * total))
    whole = SUMS * weight / total
    sums = np.zeros((run.max() + 1, len(keys) + 1))
    np.add.at(sums, run, np.column_stack([a, y]) * whole[:, None])
    refines = np.array([REFINES in key for key in keys])
    ridge = NOISE / np.where(refines, REFINED, SPREAD)
    drawn = ridge * [known(prior or {}, key) for key in keys]
    left = np.vstack([a * each[:, None], sums[:, :-1], np.diag(ridge)])
    right = np.concatenate([y * each, sums[:, -1], drawn])
    # A refinement may be less than nothing: it is the difference of two that are not.
    left = np.hstack([left, -left[:, refines]])
    scale = np.linalg.norm(left, axis=0)
    square = np.asarray(np.linalg.qr(np.column_stack([left / scale, right]), mode="r"))
    found, _ = nnls(square[:, :-1], square[:, -1], maxiter=100 * len(scale))
    found = found / scale
    result = found[: len(keys)]
    result[refines] -= found[len(keys) :]
    return dict(zip(keys, result.tolist(), strict=True))


def known(table: Mapping[str, float], part: str) -> float:
    """What a part takes by a table, or else is taken to."""
    return table.get(part, 0.0 if REFINES in part else UNSEEN)


def predicted(seen: Sequence[Seen], table: Mapping[str, float]) -> np.ndarray:
    """The predicted over the real instructions of each run."""
    guess, real = np.zeros((2, 1 + max(s.run for s in seen)))
    for s in seen:
        guess[s.run] += sum(n * known(table, part) for part, n in s.parts.items())
        real[s.run] += s.instructions
    return guess[real > 0] / real[real > 0]


def errors(
    seen: Sequence[Seen], keys: Sequence[str], prior: Mapping[str, float] | None = None
) -> Iterator[tuple[int, float]]:
    """Of each run its network, and its relative error, predicted by a fit without the network."""
    for fold in range(FOLDS):
        table = fit([s for s in seen if fold_of(s) != fold], keys, prior)
        rest = [s for s in seen if fold_of(s) == fold]
        networks = {s.run: s.network for s in rest if s.instructions}
        of_run = predicted(rest, table) - 1
        yield from zip((networks[run] for run in sorted(networks)), of_run, strict=True)


def fold_of(seen: Seen) -> int:
    """The part of the networks that one is in, however kinds follow each other."""
    return seen.network * 2654435761 % (1 << 32) * FOLDS >> 32


def report(
    name: str, seen: Sequence[Seen], keys: Sequence[str], each: float,
    prior: Mapping[str, float] | None = None,
) -> str:  # fmt: skip
    """How well networks that were left out are predicted."""
    found = list(errors(seen, keys, prior))
    e = np.abs([error for _, error in found])
    u = np.abs([error for network, error in found if network % 3])
    return (
        f"{name}: {len(seen)} functions, {len(keys)} parts; {len(e)} runs left out: median "
        f"{np.median(e):.1%}, within 5 %: {(e < 0.05).mean():.0%}, most {e.max():.0%}; "
        f"{len(u)} of usual networks: median {np.median(u):.1%}, within 5 %: "
        f"{(u < 0.05).mean():.0%}, most {u.max():.1%}; "
        f"{each:.2f} cycles an instruction"
    )
