"""Why a choice of the winner stands: what its next coarser option would break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qspinn.errors import PlanError
from qspinn.explore.result import Attribution, Exploration, Limits, Significance
from qspinn.explore.space import Knob

BREAKS = ("accuracy", "target", "memory", "nothing", "unknown", "end")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What stands against the next coarser option.

    Attributes:
        breaks: ``accuracy`` (it would lose more than allowed), ``target`` (refused), ``memory``
            (it would save none), ``nothing`` (it was possible), ``unknown`` (not measured), or
            ``end`` (there is no coarser one).
        words: The same for people.
    """

    breaks: str
    words: str


def verdict(row: Attribution, limits: Limits) -> Verdict:
    """Judge the next coarser option of one choice."""
    if not row.coarser:
        return Verdict("end", f"nothing coarser than {row.option} was explored")
    if row.refused:
        return Verdict("target", f"{row.coarser} is refused: {row.refused}")
    if row.saved is not None and row.saved <= 0:
        more = f" ({-row.saved} B more)" if row.saved < 0 else ""
        return Verdict("memory", f"{row.coarser} would save no memory{more}")
    saving = "" if row.saved is None else f" and save {row.saved} B"
    if row.next_cost is None:
        return Verdict("unknown", f"{row.coarser} was not measured beside the winner")
    cost = f"{row.coarser} would cost {points(row.next_cost.value)}{saving}"
    if limits.max_drop is None or row.next_drop is None or row.next_bound is None:
        return Verdict("nothing", f"{cost}; no limit forbids it")
    total = f"a drop of {points(row.next_drop.value)}, at most {points(row.next_bound)}"
    sure = f"with {100 * limits.level:g} % confidence"
    if row.next_bound > limits.max_drop:
        most = points(limits.max_drop)
        return Verdict("accuracy", f"{cost}: {total} {sure}, where {most} are allowed")
    return Verdict("nothing", f"{cost}: {total} {sure}, within the limit on these samples")


def points(share: float) -> str:
    """A share as points of accuracy."""
    return f"{round(100 * share, 2) + 0.0:.2f} pt"  # no -0.00


@dataclass(frozen=True)
class Explanation:
    """Everything known about one choice.

    Attributes:
        knob: What could be chosen.
        option: What the winner takes; empty: there is no winner.
        attribution: What that costs; None: it was not attributed.
        verdict: What stands against the next coarser option; None: not attributed.
        curve: The knob's options one at a time, in order.
    """

    knob: Knob
    option: str
    attribution: Attribution | None
    verdict: Verdict | None
    curve: tuple[Significance, ...]


def explain(exploration: Exploration, path: str) -> list[Explanation]:
    """What is known about the choices at a plan path: its width, its rounding.

    Raises:
        PlanError: Nothing was explored there; the hint lists what was.
    """
    knobs = [k for k in exploration.knobs if path in (k.name, k.name.partition(":")[0])]
    if not knobs:
        raise PlanError(
            f"nothing was explored at {path}", at=exploration.network,
            hint=f"explored: {', '.join(paths(exploration.knobs))}",
        )  # fmt: skip
    return [_explanation(exploration, knob) for knob in knobs]


def paths(knobs: Sequence[Knob]) -> list[str]:
    """The plan paths that the knobs turn, each once."""
    return list(dict.fromkeys(knob.name.partition(":")[0] for knob in knobs))


def _explanation(exploration: Exploration, knob: Knob) -> Explanation:
    winner = exploration.winner
    row = next((a for a in exploration.attribution if a.knob == knob.name), None)
    order = {option: i for i, option in enumerate(knob.options)}
    curve = [s for s in exploration.significance if s.knob == knob.name]
    curve.sort(key=lambda s: order.get(s.option, len(order)))
    return Explanation(
        knob,
        winner.words.get(knob.name, "") if winner else "",
        row,
        verdict(row, exploration.limits) if row else None,
        tuple(curve),
    )
