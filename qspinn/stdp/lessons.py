"""A network while it learns: the numbers that move, and what the network computes with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, PlanError
from qspinn.fixed import FloatArray, Overflow, Rounding, hash32, text_key
from qspinn.ir import Array, Graph
from qspinn.passes.quantize import path_of, quantize, scale_of
from qspinn.plan import Entry, Plan
from qspinn.stdp import kernels
from qspinn.stdp.lists import rounding_of
from qspinn.stdp.network import grid_for, network, parts
from qspinn.stdp.recipe import Recipe
from qspinn.stdp.showing import shown

_FORGOTTEN = 1e-9
_LONGEST = 1 << 16


class Learner:
    """Weights and thresholds in float, and the network that they make, perhaps under a plan.

    Attributes:
        weight: (neurons, inputs), float32, on a binary grid between samples.
        threshold: (neurons).
        plan: The given one, with weights and thresholds that saturate.
    """

    def __init__(self, graph: Graph, plan: Plan | None, recipe: Recipe) -> None:
        found = parts(graph)
        self.shape, self.recipe = found.source.shape, recipe
        weight = found.linear.weight.values
        low, high = weight.min(), weight.max()
        if low < 0 or high <= 0:
            raise FrontendError(
                f"weights from {low:.6g} to {high:.6g}: STDP learns weights of which some are "
                "positive and none negative",
                at=found.linear.name,
            )
        self.length = float(np.sqrt((weight**2).sum(1)).mean())
        self.top = recipe.bound * self.length
        self.grid = grid_for(self.length, weight.shape[1])
        self.weight = (np.rint(weight * self.grid) / self.grid).astype(np.float32)
        size = len(self.weight)
        threshold = found.neuron.values["threshold"].values
        self.threshold = np.array(
            np.broadcast_to(threshold, found.neuron.shape), np.float64
        ).reshape(-1)
        self.plan = None if plan is None else _saturating(graph, plan)
        if self.plan is None:
            self.weights = self.thresholds = _as_they_are(size)
            self.worth = np.ones(size)
            self.network = network(graph)
        else:
            self._under(graph, self.plan)

    def _under(self, graph: Graph, plan: Plan) -> None:
        found = parts(graph)
        factor = np.array(
            np.broadcast_to(scale_of(plan, found.neuron), found.neuron.shape), np.float64
        ).reshape(-1)
        seed = int(plan.options.get("seed", "0"))
        path = path_of(found.linear, "weight")
        if plan[path].fmt.binary:
            raise PlanError(
                "STDP learns weights that excite, the format b1 holds -1 and 1", at=path,
                hint="u1f0 holds 0 and 1",
            )  # fmt: skip
        span = plan[path].fmt.range
        self.network = network(quantize(graph, plan), max(-span.lo, span.hi))
        self.weights = _held(plan[path], path, factor, self.weight.shape, seed, self.network.times)
        above = f"{found.neuron.path}.threshold"
        self.thresholds = _held(plan[above], above, factor, (len(factor), 1), seed)
        self.worth = 1.0 / factor
        kept = plan.active.get(found.source.path)
        if kept is not None:
            self.network.wiring.kept[:] = False
            self.network.wiring.kept[kept] = True

    def go(self, dataset: Dataset, encoder: Encoder, order: Array, number: int) -> float:
        """Learn from samples in this order, in pass ``number``; how many spikes were sent."""
        recipe, wiring = self.recipe, self.network.wiring
        learned = kernels.Learned(self.weight, self.threshold, self.worth)
        for j in range(len(self.weight)):
            kernels.hold_weights(j, wiring, self.weights, learned)
        share = 1.0 / (recipe.passes * len(order))
        done, spikes = number / recipe.passes, 0.0
        step, activity = recipe.step * len(self.weight) * self.top, _activity(recipe.trace)
        for events, size in shown(self.shape, dataset, encoder, order):
            rule = kernels.Rule(
                recipe.rate, recipe.rest, recipe.offset, activity, step, recipe.goal, self.length,
                self.top, self.grid, done, share,
            )  # fmt: skip
            spikes += kernels.learn(
                events, self.network.cell, wiring, self.weights, self.thresholds, learned, rule
            )
            done += size * share
        return spikes


def _saturating(graph: Graph, plan: Plan) -> Plan:
    """The plan with what is learned kept in its format: it is not known how far it will go."""
    found = parts(graph)
    paths = (path_of(found.linear, "weight"), f"{found.neuron.path}.threshold")
    return plan.with_entries(
        {path: replace(plan[path], overflow=Overflow.SATURATE) for path in paths}
    )


def _as_they_are(size: int) -> kernels.Held:
    return kernels.Held(np.ones(size), 1.0, -1, 0.0, 0.0, 1.0, np.zeros((size, 1)))


def _held(
    entry: Entry, path: str, factor: FloatArray, shape: tuple[int, int], seed: int,
    times: float = 1.0,
) -> kernels.Held:  # fmt: skip
    """What `fixed.to_int` does with an entry's parameter, for one number at a time."""
    draws = np.zeros((shape[0], 1))
    if entry.rounding is Rounding.STOCHASTIC:
        number = np.arange(shape[0] * shape[1]).reshape(shape)
        draws = hash32(text_key(path, seed), 0, number) / 2.0**32
    span = entry.fmt.range
    return kernels.Held(
        factor, 2.0**entry.fmt.frac, rounding_of(entry.rounding), float(span.lo), float(span.hi),
        times, draws,
    )  # fmt: skip


def _activity(trace: float) -> FloatArray:
    """What an input's spike is worth so many steps later; products, the same on any machine."""
    values = [1.0]
    while _FORGOTTEN < values[-1] * trace < 1.0 and len(values) < _LONGEST:
        values.append(values[-1] * trace)
    if trace == 1.0:
        values *= _LONGEST
    return np.array(values)
