"""The real numbers behind a quantized network: what an update moves, and how it is rounded.

They are quantized by `passes.quantize`, like any float graph, so the program that is trained is
the program that ships.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qspinn.fixed import FloatArray, QFormat, Rounding
from qspinn.ir import CONNECTIONS, Array, Graph, Neuron, Node, Param
from qspinn.passes.quantize import path_of, units
from qspinn.plan import Plan
from qspinn.planning import top_of
from qspinn.train.recipe import Recipe

_SCALE = ".scale"


class Latent:
    """The parameters of a float graph under a plan, and the scales of the plan, as they move.

    Attributes:
        values: What is learned: parameters by node and name, and by path the binary logarithms of
            what the scales are multiplied by.
    """

    def __init__(self, graph: Graph, plan: Plan, recipe: Recipe) -> None:
        self.start, self.given, self.recipe = graph, plan, recipe
        self.nodes = {
            f"{node.name}.{name}": (node, name)
            for node in graph.nodes
            for name in node.params()
            if kind_of(node, name) in recipe.learned
        }
        self.scales = {
            node.path: node.path + _SCALE
            for node in graph.of_type(Neuron)
            if "scale" in recipe.learned and node.path in plan.scales
        }
        self.values: dict[str, FloatArray] = {
            **{key: _tied(*place) for key, place in self.nodes.items()},
            **{key: np.zeros(()) for key in self.scales.values()},
        }
        self._lift()
        self.move({})

    def _lift(self) -> None:
        """Start weights that are cut off half a step further out: at the nearest network.

        Cut off as they are, few bits may leave a network that never spikes and cannot learn.
        """
        if self.recipe.wider or self.recipe.stochastic:
            return  # they do not start on the grid of the plan
        for key, (node, name) in self.nodes.items():
            if kind_of(node, name) == "weight":
                rounding = self.given[path_of(node, name)].rounding
                half = 0.5 / units(self.start, node, self.given)[name]
                self.values[key] = self.values[key] + half * _outwards(rounding, self.values[key])

    @property
    def graph(self) -> Graph:
        """The float graph as it is now."""
        moved: dict[str, dict[str, Param]] = {}
        for key, (node, name) in self.nodes.items():
            shape = node.params()[name].values.shape
            moved.setdefault(node.name, {})[name] = Param(np.broadcast_to(self.values[key], shape))
        return self.start.map(
            lambda node: node.with_params(moved[node.name]) if node.name in moved else node
        )

    @property
    def plan(self) -> Plan:
        """The plan with the scales as they are now."""
        if not self.scales:
            return self.given
        moved = {
            path: self.given.scales[path] * 2.0 ** self.values[key]
            for path, key in self.scales.items()
        }
        return replace(self.given, scales={**self.given.scales, **moved})

    def rates(self) -> dict[str, float]:
        """How far an update moves each value, at first."""
        rate = self.recipe.rate
        shares = {key: self.reach(*place) for key, place in self.nodes.items()}
        return {key: rate * shares.get(key, 1.0) for key in self.values}

    def reach(self, node: Node, name: str) -> float:
        """How far values of a kind go: the measure of an update."""
        values = node.params()[name].values
        if kind_of(node, name) == "decay":
            return float(np.mean(1.0 - values)) or 1e-3
        if kind_of(node, name) == "threshold":
            return float(np.abs(values).mean())
        if not isinstance(node, CONNECTIONS):
            return float(np.abs(values).max()) or 1.0
        weight = "scale" if "scale" in node.params() else "weight"
        worth = units(self.start, node, self.given)[weight]
        return float(np.mean(top_of(self.given[path_of(node, weight)].fmt) / worth))

    def plan_for(self, wider: int = 0, draw: int | None = None) -> Plan:
        """The plan that an update is made under.

        Args:
            wider: Bits that weights have beyond the plan.
            draw: The seed of weights that are rounded at random; None: as the plan says.
        """
        plan = self.plan
        for node in self.start.nodes:
            if isinstance(node, CONNECTIONS):
                path = path_of(node, "scale" if "scale" in node.params() else "weight")
                entry = plan[path]
                rounding = entry.rounding if draw is None else Rounding.STOCHASTIC
                fmt = widened(entry.fmt, wider)
                plan = plan.with_entries({path: replace(entry, fmt=fmt, rounding=rounding)})
        if draw is None:
            return plan
        return replace(plan, options={**plan.options, "seed": str(draw)})

    def pull(self, gradients: Mapping[str, FloatArray], plan: Plan) -> dict[str, FloatArray]:
        """The gradients of what is learned, from those of the integers under a plan.

        They go straight through the rounding. Where a weight is clipped its value moves back as
        soon as a gradient says so, since `move` holds it at the edge; a scale feels clipped
        values not at all.
        """
        graph = self.graph if self.scales else self.start
        found = {key: np.zeros(()) for key in self.scales.values()}
        for node in graph.nodes:
            taken = {
                n: gradients[k] for n in node.params() if (k := f"{node.name}.{n}") in gradients
            }
            worth = units(graph, node, plan) if taken else {}
            for name, gradient in taken.items():
                real = gradient * worth[name]
                key = f"{node.name}.{name}"
                if key in self.nodes:
                    found[key] = _summed(real, self.values[key].shape)
                scale = self.scales.get(self.owner(node, name))
                if scale is not None:
                    values = node.params()[name].values
                    inside = _inside(values * worth[name], plan[path_of(node, name)].fmt)
                    found[scale] = found[scale] + np.log(2.0) * (real * values * inside).sum()
        return found

    def owner(self, node: Node, name: str) -> str:
        """The neurons whose scale a parameter follows, by path; empty: it follows none."""
        if isinstance(node, Neuron):
            return node.path if name in node.model.scaled else ""
        targets = [user for user in self.start.users(node.name) if isinstance(user, Neuron)]
        return targets[0].path if len(targets) == 1 else ""

    def move(self, steps: Mapping[str, FloatArray]) -> None:
        """Add to the values; those that leave their formats stop at the edges."""
        for key, step in steps.items():
            self.values[key] = self.values[key] + step
        plan = self.plan
        for key, (node, name) in self.nodes.items():
            entry, worth = plan[path_of(node, name)], units(self.start, node, plan)[name]
            fmt = entry.fmt
            edges = np.array([fmt.range.lo, fmt.range.hi], np.float64)
            low, high = (x / worth for x in edges + 0.5 * _outwards(entry.rounding, edges))
            if kind_of(node, name) == "decay":
                low, high = np.zeros(()), np.minimum(1.0, np.ones(()) if fmt.leak else high)
            if kind_of(node, name) == "threshold":
                low = 1.0 / worth
            if self.values[key].ndim == 0:
                low, high = np.asarray(low.max()), np.asarray(high.min())
            self.values[key] = np.clip(self.values[key], low, np.maximum(low, high))


def kind_of(node: Node, name: str) -> str:
    """What a parameter is, in the words of `Recipe.learned`; empty: nothing that is learned."""
    if isinstance(node, CONNECTIONS):
        return "bias" if name == "bias" else "weight"
    if isinstance(node, Neuron) and name in node.model.coefficients:
        return "decay"
    return name if name in ("threshold", "bias") else ""


def widened(fmt: QFormat, bits: int) -> QFormat:
    """A format of the same reach whose steps are finer by so many halvings."""
    if not bits:
        return fmt
    if fmt.binary or fmt.lo is not None:
        reach = fmt.range.hi << bits
        return QFormat((fmt.bits + fmt.binary) + bits, fmt.frac + bits, True, -reach, reach)
    return QFormat(fmt.bits + bits, fmt.frac + bits, fmt.signed)


def _outwards(rounding: Rounding, values: FloatArray) -> FloatArray:
    """Where a rounding pulls values away from: 1 is up, 0 where it goes both ways."""
    if rounding is Rounding.FLOOR:
        return np.ones(values.shape)
    return np.sign(values) if rounding is Rounding.ZERO else np.zeros(values.shape)


def _tied(node: Node, name: str) -> FloatArray:
    """A parameter's values; a single one where all neurons share it."""
    values: FloatArray = node.params()[name].values
    first = values.reshape(-1)[:1]
    if kind_of(node, name) == "weight" or not (values == first).all():
        return values
    return first.reshape(())


def _summed(gradient: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The gradient of values that broadcast to its shape."""
    lead = gradient.ndim - len(shape)
    kept = gradient.sum(tuple(range(lead)))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and kept.shape[i] > 1)
    total: FloatArray = np.asarray(kept.sum(axes, keepdims=True) if axes else kept)
    return total


def _inside(scaled: FloatArray, fmt: QFormat) -> Array:
    return (scaled > fmt.range.lo) & (scaled < fmt.range.hi)
