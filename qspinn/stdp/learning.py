"""Learning without labels: samples are shown, spikes move weights, and neurons get classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError
from qspinn.fixed import hash32
from qspinn.ir import Array, Graph, Shape
from qspinn.passes.quantize import quantize
from qspinn.plan import Plan
from qspinn.stdp.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of learning.

    Attributes:
        graph: A float network. Its weights lie on a binary grid, so that sums are exact.
        plan: What it was learned for, if anything; weights and thresholds may saturate.
        spikes: Sent for a sample in each pass, on average.
    """

    graph: Graph
    plan: Plan | None
    spikes: tuple[float, ...]


def learn(
    dataset: Dataset,
    encoder: Encoder,
    recipe: Recipe | None = None,
    *,
    graph: Graph | None = None,
    plan: Plan | None = None,
    index: Array | None = None,
    told: Callable[[int, float], None] | None = None,
) -> Learned:
    """Learn by spike timing (STDP) with homeostasis, and give every neuron its class.

    The labels are used for the classes alone. With a plan, the network that learns is the integer
    program that the plan makes of it: in-training quantization. The same arguments give the same
    network, with numba and without.

    Args:
        dataset: Labelled samples.
        encoder: How they become spikes; each pass draws its own.
        recipe: How to learn.
        graph: A float network to learn on with; None: a new one.
        plan: Complete, for the graph.
        index: The samples to learn from; None: all.
        told: Called after each pass, with its number and the spikes sent for a sample.

    Raises:
        FrontendError: The labels are missing, or there is nothing to learn from.
        VerifyError: The graph is no single layer of competing neurons.
        QspinnError: The plan does not fit, or needs numbers too large to be exact.
    """
    from qspinn.stdp import lessons, network

    recipe = recipe or Recipe()
    some = np.arange(len(dataset.split)) if index is None else np.asarray(index)
    if dataset.y is None:
        raise FrontendError("has no labels to give classes by", at=dataset.name)
    if not len(some):
        raise FrontendError("has no sample to learn from", at=dataset.name)
    graph = graph or network.new(recipe, shape_of(dataset, encoder))
    learner = lessons.Learner(graph, plan, recipe)
    spikes: list[float] = []
    for number in range(recipe.passes):
        order = np.random.default_rng([recipe.seed, number]).permutation(some)
        seed = int(hash32(recipe.seed, number, encoder.seed))
        sent = learner.go(dataset, replace(encoder, seed=seed), order, number)
        spikes.append(sent / len(order))
        if told:
            told(number, spikes[-1])
    after = network.with_values(graph, learner.weight, learner.threshold)
    program = after if learner.plan is None else quantize(after, learner.plan)
    shown = np.random.default_rng([recipe.seed, recipe.passes]).permutation(some)[: recipe.shown]
    answers = counts(program, dataset, encoder, shown)
    classes = classes_of(answers, dataset.y[shown], int(dataset.y.max()) + 1)
    return Learned(network.with_labels(after, classes), learner.plan, tuple(spikes))


def counts(graph: Graph, dataset: Dataset, encoder: Encoder, index: Array) -> Array:
    """The spikes of each neuron for each sample: the interpreter's, sooner.

    Of a float graph that is so where its weights lie on a binary grid, as learned ones do.

    Raises:
        VerifyError: The graph is no single layer of competing neurons.
    """
    from qspinn.stdp import kernels, network, showing

    made = network.network(graph)
    found = np.zeros((len(index), made.wiring.forward.shape[1]), np.int64)
    done = 0
    for events, size in showing.shown(graph.input.shape, dataset, encoder, index):
        kernels.count(events, made.cell, made.wiring, found[done : done + size])
        done += size
    return found


def classes_of(answers: Array, labels: Array, classes: int) -> tuple[int, ...]:
    """The class that each neuron answers most, on average; -1 where it never does.

    A class that no neuron prefers gets the one that answers it most, of those that others can
    spare.

    Raises:
        FrontendError: There are fewer neurons than classes.
    """
    neurons = answers.shape[1]
    if neurons < classes:
        raise FrontendError(f"{neurons} neurons cannot stand for {classes} classes")
    mean = np.array(
        [answers[labels == c].sum(0) / max(1, int((labels == c).sum())) for c in range(classes)]
    )
    best = np.where(mean.max(0) > 0, mean.argmax(0), -1)
    for c in sorted(set(range(classes)) - set(best.tolist())):
        spare = (best < 0) | (np.bincount(best[best >= 0], minlength=classes)[best] > 1)
        best[int(np.argmax(np.where(spare, mean[c], -1.0)))] = c
    return tuple(best.tolist())


def shape_of(dataset: Dataset, encoder: Encoder) -> Shape:
    """Of the input that a new network needs.

    Raises:
        FrontendError: The data do not say.
    """
    if dataset.x is None:
        raise FrontendError(
            "its events do not say how many inputs there are", at=dataset.name,
            hint="give a graph to learn on with",
        )  # fmt: skip
    return tuple(dataset.x.shape[2 if encoder.kind == "none" else 1 :])
