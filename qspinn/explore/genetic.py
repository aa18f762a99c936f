"""NSGA-II of the library pymoo: an independent cross-check of what the other searches find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qspinn.errors import ToolchainError
from qspinn.explore.problem import Problem, Score
from qspinn.explore.space import Candidate

POPULATION = 40


def nsga2(
    problem: Problem, *, limit: int, seed: int, population: int = POPULATION
) -> Iterator[Score]:
    """Evolve a population towards the front; each distinct candidate is measured once.

    Every generation is one round of complete measurements. Ends after ``limit`` of them, or when
    several generations in a row brought no new candidate.

    Raises:
        ToolchainError: pymoo is not installed.
    """
    if problem.space.size <= min(limit, population):  # nothing to evolve
        everyone = list(problem.space.all())
        yield from (score for _, score in _measured(problem, everyone) if score is not None)
        return
    algorithm, evaluator = _algorithm(problem, population, seed)
    known: dict[Candidate, Score | None] = {}
    idle = 0
    while idle < 10:
        asked = algorithm.ask()
        rows = [tuple(int(x) for x in row) for row in np.rint(asked.get("X"))]
        new = sorted(set(rows) - known.keys())[: limit - sum(s is not None for s in known.values())]
        for candidate, score in _measured(problem, new):
            known[candidate] = score
            if score is not None:
                yield score
        if any(row not in known for row in rows):
            return
        idle = 0 if new else idle + 1
        costs = np.array([_costs(known[row]) for row in rows])
        evaluator(asked, costs)
        algorithm.tell(infills=asked)


def _measured(
    problem: Problem, candidates: list[Candidate]
) -> Iterator[tuple[Candidate, Score | None]]:
    """The scores of the candidates that the problem accepts, and None for the others."""
    memories = {candidate: problem.memory(candidate) for candidate in candidates}
    accepted = [candidate for candidate in candidates if memories[candidate] is not None]
    found = problem.correct(accepted, problem.samples) if accepted else []
    rights = dict(zip(accepted, found, strict=True))
    for candidate, memory in memories.items():
        if memory is None:
            yield candidate, None
        else:
            yield candidate, Score(candidate, memory, rights[candidate], True)


def _costs(score: Score | None) -> tuple[float, float]:
    """What is made small; a refused candidate is worse than any other."""
    return (0.0, 1e18) if score is None else (-score.accuracy, float(score.memory))


def _algorithm(problem: Problem, population: int, seed: int) -> tuple[Any, Any]:
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as Variables
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.problems.static import StaticProblem
    except ImportError as error:
        raise ToolchainError(
            "NSGA-II needs pymoo, which is not installed", hint="pip install 'qspinn[explore]'"
        ) from error
    top = np.array([len(knob.options) - 1 for knob in problem.space.knobs])
    variables = Variables(n_var=len(top), n_obj=2, xl=0 * top, xu=top, vtype=int)
    repair = RoundingRepair()
    algorithm = NSGA2(
        pop_size=population, sampling=IntegerRandomSampling(), eliminate_duplicates=True,
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=repair),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=repair),
    )  # fmt: skip
    algorithm.setup(variables, termination=("n_gen", 1 << 30), seed=seed, verbose=False)

    def evaluate(asked: Any, costs: Any) -> None:
        algorithm.evaluator.eval(StaticProblem(variables, F=costs), asked)

    return algorithm, evaluate
