"""The training loop: the integer program forward, straight through it back. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from math import cos, pi
from typing import Any

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder, encode
from qspinn.evaluate import chunks
from qspinn.fixed import hash32
from qspinn.ir import Array, Graph
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.readout import predict
from qspinn.signals import signals
from qspinn.train.adam import Adam
from qspinn.train.latent import Latent
from qspinn.train.lists import Tensor, Tensors
from qspinn.train.losses import logits, loss, unit_of
from qspinn.train.network import Network, Outcome
from qspinn.train.recipe import Recipe

torch: Any = import_module("torch")

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the samples: the mean loss, and the accuracy where it was asked for."""

    loss: float
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Trained:
    """A network trained for a plan.

    Attributes:
        graph: The float graph; ``quantize(graph, plan)`` is the program that was trained.
        plan: The plan, its scales moved where they were learned.
        epochs: What each pass brought.
        predictions: The program's decision on each sample that was checked, after the last pass.
    """

    graph: Graph
    plan: Plan
    epochs: tuple[Epoch, ...]
    predictions: Array


Told = Callable[[int, Epoch], None]


def train(
    graph: Graph, plan: Plan, dataset: Dataset, encoder: Encoder, recipe: Recipe,
    index: Array, check: Array, told: Told | None,
) -> Trained:  # fmt: skip
    """See `fitting.fit`, which has checked the arguments."""
    with _single():
        return _Training(graph, plan, dataset, encoder, recipe).run(index, check, told)


@contextmanager
def _single() -> Iterator[None]:
    """One thread: sums of gradients depend on how they are divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Training:
    """A network on its way."""

    def __init__(
        self, graph: Graph, plan: Plan, dataset: Dataset, encoder: Encoder, recipe: Recipe
    ) -> None:
        self.graph, self.dataset, self.encoder, self.recipe = graph, dataset, encoder, recipe
        self.latent = Latent(graph, plan, recipe)
        self.adam = Adam(self.latent.rates())
        self.networks: dict[int, Network] = {}
        self.teacher: tuple[Network, Tensors] | None = None
        if recipe.distilled:
            network = Network(graph, recipe.device)
            self.teacher = network, network.leaves(graph)
        self.updates = 0

    def run(self, index: Array, check: Array, told: Told | None) -> Trained:
        """Every epoch."""
        recipe = self.recipe
        total = recipe.epochs * -(-len(index) // recipe.batch)
        epochs: list[Epoch] = []
        predictions = np.zeros(0, np.int64)
        for number in range(recipe.epochs):
            losses = []
            for some in self.batches(index, number):
                share = 0.5 * (1.0 + cos(pi * self.updates / total))
                losses.append(self.update(some, number, share))
            accuracy = None
            if len(check):
                predictions = self.answers(check)
                accuracy = float((predictions == self.labels(check)).mean())
            epochs.append(Epoch(float(np.mean(losses)), accuracy))
            if told:
                told(number, epochs[-1])
        return Trained(self.latent.graph, self.latent.plan, tuple(epochs), predictions)

    def batches(self, index: Array, number: int) -> Iterator[Array]:
        """The samples in an order of the epoch's own."""
        order = np.random.default_rng([self.recipe.seed, number]).permutation(index)
        yield from (order[k : k + self.recipe.batch]
                    for k in range(0, len(order), self.recipe.batch))  # fmt: skip

    def labels(self, some: Array) -> Array:
        """The right classes."""
        assert self.dataset.y is not None, "checked by fit"
        return self.dataset.y[some]

    def update(self, some: Array, number: int, share: float) -> float:
        """One step, of a share of the full rate; the loss before it."""
        recipe, latent = self.recipe, self.latent
        self.updates += 1
        plan = latent.plan_for(
            self.wider(number),
            int(hash32(recipe.seed, self.updates)) if recipe.stochastic else None,
        )
        made = quantize(latent.graph, plan)
        network = self.network(self.wider(number), made)
        leaves = {
            key: leaf.requires_grad_(key in latent.nodes or bool(latent.scales))
            for key, leaf in network.leaves(made).items()
        }
        drawn = replace(self.encoder, seed=int(hash32(recipe.seed, number, self.encoder.seed)))
        source = self.source(network, some, drawn)
        found = self.evidence(made, network.run(source, leaves), plan)
        labels = torch.as_tensor(self.labels(some).astype(np.int64), device=recipe.device)
        value = loss(found, labels, self.taught(some, drawn, source), recipe.distilled)
        value.backward()
        gradients = {
            key: leaf.grad.cpu().double().numpy()
            for key, leaf in leaves.items()
            if leaf.grad is not None
        }
        latent.move(self.adam.step(latent.pull(gradients, plan), share))
        return float(value.detach())

    def wider(self, number: int) -> int:
        """Bits that weights have beyond the plan in an epoch."""
        last = max(self.recipe.epochs - 1, 1)
        return -(-self.recipe.wider * (self.recipe.epochs - 1 - number) // last)

    def network(self, wider: int, made: Graph) -> Network:
        """What is fixed of the program, by the width of its weights."""
        if wider not in self.networks:
            self.networks[wider] = Network(made, self.recipe.device)
        return self.networks[wider]

    def source(self, network: Network, some: Array, encoder: Encoder) -> Tensor:
        """Encoded samples as a network receives them, (steps, samples, *shape)."""
        graph = network.graph
        node = graph.input
        if node.kind == "spike" and encoder.kind in ("rate", "latency"):
            data = encode(self.dataset.samples(some, node.shape, encoded=False), encoder, some)
        else:
            data = np.concatenate([d for d, _ in chunks(graph, self.dataset, encoder, some)])
        rows = torch.from_numpy(np.ascontiguousarray(np.swapaxes(data, 0, 1)))
        return rows.to(self.recipe.device).to(network.kinds[node.name])

    def evidence(self, graph: Graph, outcome: Outcome, plan: Plan | None) -> Tensor:
        """The logits of an outcome."""
        edge = signals(graph)[graph.output.name]
        highs = edge.interval.hi if edge.interval and edge.kind == "count" else 1
        return logits(graph.output.readout, outcome, unit_of(graph, plan), highs)

    def taught(self, some: Array, encoder: Encoder, source: Tensor) -> Tensor | None:
        """What the float network says."""
        if self.teacher is None:
            return None
        network, leaves = self.teacher
        if self.graph.input.kind == "current":
            source = self.source(network, some, encoder)
        with torch.no_grad():
            return self.evidence(self.graph, network.run(source, leaves), None)

    def answers(self, index: Array) -> Array:
        """The program's decisions, on the samples as they are encoded for everybody."""
        made = quantize(self.latent.graph, self.latent.plan)
        network = self.network(0, made)
        leaves = network.leaves(made)
        found = []
        with torch.no_grad():
            for first in range(0, len(index), _CHUNK):
                source = self.source(network, index[first : first + _CHUNK], self.encoder)
                summary = network.run(source, leaves).summary()
                found.append(predict(made.output, summary))
        return np.concatenate(found)
