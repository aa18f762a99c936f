"""How much of the true front of a four-layer network the searches find, and what racing saves.

The network is 784-128-128-128-10 on MNIST, trained here if it is not in the folder `--out` yet. All
candidates are enumerated first, exactly (kept in the same folder); then each search is run on the
same answers, for several seeds: a seed permutes the selection samples and draws those that are
screened without labels. What is lost is the accuracy lacking at each point of the true front.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from four_layers import prepared
from tables import WIDTHS, Table, four_layer_table

from qspinn.explore.front import Front, front_of
from qspinn.explore.genetic import nsga2
from qspinn.explore.guided import guided
from qspinn.explore.problem import Problem, Score
from qspinn.explore.race import CLOSE, COARSE, EXACT, Rule, race, samples_used
from qspinn.explore.space import Candidate, Space

MARKS = (30, 60, 100, 200, 300)

Search = Callable[[Problem, int], Iterator[Score]]


@dataclass
class Counted:
    """A table that counts what is screened."""

    table: Table
    screened: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """The table's answer, counted."""
        self.screened += len(candidates)
        return self.table.distance(candidates)


def main() -> None:
    """Enumerate, search, race, tell."""
    options = parse()
    network, data = prepared(options.data, options.out)
    whole = four_layer_table(network, data, options.out / "table.npz")
    report: dict[str, Any] = {"float": float(whole.baseline.mean()), "samples": whole.samples}
    for name, table in (("7^4", widths_alone(whole)), ("3 x 7^4", whole)):
        true = true_front(table)
        print(f"\n{name}: {table.space.size} candidates, {len(true)} on the front")
        found = {"front": [[s.memory, s.accuracy, *s.candidate] for s in true]}
        report[name] = found | {"search": {}, "race": races(table, true, options.seeds)}
        searches: dict[str, Search] = {"guided": by_guide, "random": at_random}
        if find_spec("pymoo"):
            searches["NSGA-II"] = by_evolution
        for title, search in searches.items():
            report[name]["search"][title] = searched(title, search, table, true, options.seeds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="MNIST.npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def widths_alone(table: Table) -> Table:
    """The part of the table with the default scale: widths are all that is chosen."""
    some = len(WIDTHS) ** (len(table.space.knobs) - 1)
    space = Space(table.space.knobs[1:])
    return replace(
        table, space=space, memories=table.memories[:some], right=table.right[:some],
        counts=table.counts[:some],
    )  # fmt: skip


def true_front(table: Table) -> Front:
    """The front of all candidates."""
    rows = zip(table.space.all(), table.memories, table.right, strict=True)
    return front_of(Score(c, int(memory), right, True) for c, memory, right in rows)


# --- the searches ---


def by_guide(problem: Problem, seed: int) -> Iterator[Score]:
    """The default strategy, made to search: both spaces are small enough to be enumerated."""
    return guided(problem, limit=MARKS[-1], enumerated=0)


def by_evolution(problem: Problem, seed: int) -> Iterator[Score]:
    """NSGA-II."""
    return nsga2(problem, limit=MARKS[-1], seed=seed)


def at_random(problem: Problem, seed: int) -> Iterator[Score]:
    """Candidates drawn at random."""
    everyone = list(problem.space.all())
    drawn = np.random.default_rng(seed).permutation(len(everyone))[: MARKS[-1]]
    for i in drawn:
        memory = problem.memory(everyone[i])
        assert memory is not None, "the table refuses none"
        (right,) = problem.correct([everyone[i]], problem.samples)
        yield Score(everyone[i], memory, right, True)


def searched(
    title: str, search: Search, table: Table, true: Front, seeds: int
) -> list[dict[str, Any]]:
    """Losses along the true front after so many evaluations, for each seed."""
    found = []
    for seed in range(seeds):
        problem = Counted(table.shuffled(seed))
        scores: list[Score] = []
        row: dict[str, Any] = {"seed": seed, "loss": {}}
        for score in search(problem, seed):
            scores.append(score)
            if len(scores) in MARKS:
                losses = 100 * np.array(front_of(scores).losses(true))
                row["loss"][len(scores)] = {
                    "mean": round(float(losses.mean()), 4), "worst": round(float(losses.max()), 4),
                    "screened": problem.screened, "samples": samples_used(scores),
                }  # fmt: skip
        found.append(row)
        cells = (f"{n}: {x['mean']:.3f}/{x['worst']:.2f}" for n, x in row["loss"].items())
        print(f"  {title:8} seed {seed}  mean/worst pt after  {'  '.join(cells)}"
              f"   {problem.screened} screened", flush=True)  # fmt: skip
    return found


# --- racing ---


def races(table: Table, true: Front, seeds: int) -> list[dict[str, Any]]:
    """What racing through the whole space saves and loses."""
    everyone = list(table.space.all())
    found = []
    for rule in (EXACT, CLOSE, COARSE):
        saved, lost = [], []
        for seed in range(seeds):
            scores = list(race(table.shuffled(seed), everyone, rule))
            saved.append(table.space.size * table.samples / samples_used(scores))
            lost.append(100 * max(front_of(scores).losses(true)))
        found.append(told(rule, saved, lost))
    return found


def told(rule: Rule, saved: list[float], lost: list[float]) -> dict[str, Any]:
    """One line, and the same as data."""
    times = " ".join(f"{x:.2f}" for x in saved)
    worst = " ".join(f"{x:.2f}" for x in lost)
    print(f"  racing z={rule.z} eps={100 * rule.eps:.1f} pt: {times} times fewer samples, "
          f"worst loss {worst} pt", flush=True)  # fmt: skip
    return {"z": rule.z, "eps": rule.eps, "saved": saved, "worst": lost}


if __name__ == "__main__":
    main()
