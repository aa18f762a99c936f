"""Judges candidates: their memory from the target, their answers from the exact program."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qspinn.activity import activity, no_model, shares
from qspinn.engine.sweep import Tally
from qspinn.errors import QspinnError
from qspinn.evaluate import predictions
from qspinn.explore.library import Library, Variant
from qspinn.explore.outputs import distance, float_outputs
from qspinn.explore.problem import BoolArray, Score
from qspinn.explore.result import Limits
from qspinn.explore.space import Candidate, Space
from qspinn.explore.stimulus import Stimulus
from qspinn.explore.store import Key, Outcome, Store
from qspinn.fixed import FloatArray
from qspinn.ir import Array, Graph
from qspinn.memory import Footprint, excesses
from qspinn.readout import predict

BATCH = 64
"""Candidates whose outcomes are kept at a time: what an interrupt can lose."""

_HEARD = 1000
"""At most so many samples tell how often inputs send something."""


class Runner(Protocol):
    """Simulates graphs on a part of a stimulus: here, in threads, or elsewhere."""

    def run(
        self, graphs: Sequence[Graph], stimulus: Stimulus, first: int, last: int, steps: int
    ) -> list[Tally]:
        """What each graph does with samples ``first`` to ``last``."""


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one program on one stimulus.

    Attributes:
        answers: The decision for each of the first samples.
        spikes: Sent on those samples, in total, by neuron node; None: not counted throughout.
        operations: Synaptic operations on those samples, in total, by connection; or None.
    """

    answers: Array
    spikes: Mapping[str, int] | None
    operations: Mapping[str, int] | None

    def followed(self, other: Outcome) -> Record:
        """This record with the next samples added."""
        answers = np.concatenate([self.answers, other.predictions])
        return Record(
            answers.astype(np.min_scalar_type(answers.max())),  # there are thousands of records
            _sum(self.spikes, other.spikes),
            _sum(self.operations, other.operations),
        )


_NOTHING = Record(np.zeros(0, np.int64), {}, {})


def _sum(
    one: Mapping[str, int] | None, other: Mapping[str, int] | None
) -> Mapping[str, int] | None:
    if one is None or other is None:
        return None
    return {name: one.get(name, 0) + count for name, count in other.items()}


class Judge:
    """A `Problem` on a real network: see there for what it answers."""

    def __init__(
        self,
        library: Library,
        select: Stimulus,
        screen: Stimulus,
        runner: Runner,
        store: Store | None = None,
    ) -> None:
        self.library, self.select, self.screen = library, select, screen
        self.runner, self.store = runner, store
        self.refusals: dict[Candidate, QspinnError] = {}
        self.asked: dict[str, int] = {}
        self.seen: dict[str, Candidate] = {}
        self.stop: Callable[[], bool] = lambda: False
        self._records: dict[str, Record] = {}
        self._instructions: dict[str, float] = {}
        self._inputs: dict[int, FloatArray] = {}
        self._distances: dict[str, float] = {}
        self._reference: FloatArray | None = None
        self._float: Array | None = None

    @property
    def space(self) -> Space:
        """What can be chosen."""
        return self.library.space

    @property
    def samples(self) -> int:
        """The size of the selection part."""
        return len(self.select.index)

    @property
    def labelled(self) -> bool:
        """Whether there are labels; without them, agreement with the float network counts."""
        return self.select.dataset.y is not None

    @property
    def baseline(self) -> BoolArray:
        """Which samples the float network gets right."""
        return np.asarray(self.float_answers == self._truth(self.samples))

    @property
    def float_answers(self) -> Array:
        """The float network's decisions on the selection part."""
        if self._float is None:
            self._float = self._kept_float()
        return self._float

    def _kept_float(self) -> Array:
        key = Key(f"float {self.library.graph.digest}", self.select.digest)
        kept = self.store.get(key, 0, self.samples) if self.store else None
        if kept is not None:
            return kept.predictions
        stimulus = self.select
        answers = predictions(
            self.library.graph, stimulus.dataset, stimulus.encoder, stimulus.index
        )
        if self.store:
            self.store.put(key, 0, Outcome(answers))
        return answers

    def _truth(self, count: int) -> Array:
        labels = self.select.dataset.y
        if labels is None:
            return self.float_answers[:count]
        found: Array = labels[self.select.index[:count]]
        return found

    def memory(self, candidate: Candidate) -> int | None:
        """Bytes of weights, constants and state; None: the target refuses the candidate."""
        footprint = self.footprint(candidate)
        return None if footprint is None else footprint.network

    def footprint(self, candidate: Candidate) -> Footprint | None:
        """The memory by line and region; None: the target refuses the candidate."""
        try:
            return self.library.footprint(candidate)
        except QspinnError as error:
            self.refusals[candidate] = error
            return None

    def regions(self, candidate: Candidate) -> Mapping[str, int]:
        """What a candidate needs by region; it must not have been refused."""
        return self.library.footprint(candidate).regions()

    def fits(self, candidate: Candidate, budget: Mapping[str, int]) -> bool:
        """Whether a budget holds a candidate."""
        return not excesses(self.library.footprint(candidate), budget)

    def within(self, candidate: Candidate, limits: Limits) -> bool:
        """Whether a candidate that was judged keeps to every limit but that on the accuracy."""
        most, instructions = limits.operations, limits.instructions
        if most is not None and self.operations(candidate) > most:
            return False
        if instructions is not None and self.instructions(candidate) > instructions:
            return False
        return self.fits(candidate, limits.budget)

    def digest(self, candidate: Candidate) -> str:
        """The candidate's identity; of one that cannot be made, its options'."""
        try:
            return self.library.variant(candidate).digest
        except QspinnError:
            words = repr(sorted(self.space.words(candidate).items()))
            return hashlib.sha256(words.encode()).hexdigest()

    @property
    def steps(self) -> int:
        """The most steps of a sample."""
        return self.library.encoder.steps or self.select.steps

    def operations(self, candidate: Candidate) -> float:
        """Synaptic operations for a sample of the selection part, on average."""
        counts = self.record(candidate).operations
        assert counts is not None, "it was judged on all samples"
        return sum(counts.values()) / self.samples

    def instructions(self, candidate: Candidate) -> float:
        """Instructions for a sample of the selection part on the device's core, by its model.

        Raises:
            PlanError: The target has no model of the core.
        """
        variant = self.library.variant(candidate)
        if variant.digest not in self._instructions:
            spikes = self.record(candidate).spikes
            assert spikes is not None, "it was judged on all samples"
            steps = variant.steps or self.steps
            busy = activity(variant.graph, self._heard(steps), spikes, steps * self.samples, steps)
            cost = self.library.cost(candidate, busy)
            if cost is None:
                raise no_model(self.library.device)
            self._instructions[variant.digest] = cost.instructions
        return self._instructions[variant.digest]

    @property
    def counts_instructions(self) -> bool:
        """Whether the target has a model of the device's core."""
        return self.library.counts_instructions

    def _heard(self, steps: int) -> FloatArray:
        """How often each element of the input sends something in the first so many steps."""
        if steps not in self._inputs:
            some = self.select.part((), 0, min(self.samples, _HEARD))
            self._inputs[steps] = shares(some, steps)
        return self._inputs[steps]

    def spikes(self, candidate: Candidate) -> float:
        """Spikes sent for a sample of the selection part, on average."""
        counts = self.record(candidate).spikes
        assert counts is not None, "it was judged on all samples"
        return sum(counts.values()) / self.samples

    def correct(self, candidates: Sequence[Candidate], count: int) -> list[BoolArray]:
        """Which of the first ``count`` samples each candidate gets right."""
        variants = [self.library.variant(candidate) for candidate in candidates]
        self._know(variants, count)
        truth = self._truth(count)
        return [self._records[v.digest].answers[:count] == truth for v in variants]

    def record(self, candidate: Candidate) -> Record:
        """All that is known of a candidate that was judged."""
        return self._records[self.library.variant(candidate).digest]

    def finished(self) -> list[Score]:
        """The candidates that are known on all samples, whoever asked and was not answered."""
        truth, whole = self._truth(self.samples), []
        for digest, candidate in self.seen.items():
            answers = self._records[digest].answers
            memory = self.memory(candidate)
            if len(answers) >= self.samples and memory is not None:
                right = answers[: self.samples] == truth
                whole.append(Score(candidate, memory, right, complete=True))
        return whole

    @property
    def evaluations(self) -> int:
        """How many different programs were asked for."""
        return len(self.asked)

    @property
    def used(self) -> int:
        """How many samples they were asked about, whether or not that was known already."""
        return sum(self.asked.values())

    def _know(self, variants: Sequence[Variant], count: int) -> None:
        """Simulate what is not known yet of the first ``count`` samples, batch by batch."""
        missing: dict[tuple[int, int], dict[str, Variant]] = {}
        for variant in variants:
            self.asked[variant.digest] = max(count, self.asked.get(variant.digest, 0))
            self.seen.setdefault(variant.digest, variant.candidate)
            known = len(self._recall(variant.digest, count).answers)
            if known < count:
                missing.setdefault((variant.steps, known), {})[variant.digest] = variant
        for (steps, known), found in sorted(missing.items()):
            ordered = sorted(found.values(), key=lambda variant: variant.layers)
            for first in range(0, len(ordered), BATCH):
                if self.stop():
                    raise KeyboardInterrupt
                self._simulate(ordered[first : first + BATCH], known, count, steps)

    def _recall(self, digest: str, count: int) -> Record:
        """What is known of the first ``count`` samples, in this process or on disk."""
        record = self._records.get(digest, _NOTHING)
        if len(record.answers) < count and self.store:
            key = Key(digest, self.select.digest)
            known = min(self.store.known(key), count)
            if known > len(record.answers) and (kept := self.store.get(key, 0, known)):
                record = Record(kept.predictions, kept.spikes, kept.operations)
        self._records[digest] = record
        return record

    def _simulate(self, batch: Sequence[Variant], first: int, last: int, steps: int) -> None:
        graphs = [variant.graph for variant in batch]
        tallies = self.runner.run(graphs, self.select, first, last, steps)
        outcomes = [
            Outcome(predict(graph.output, tally.summary), tally.spikes, tally.operations)
            for graph, tally in zip(graphs, tallies, strict=True)
        ]
        if self.store:
            keys = [Key(variant.digest, self.select.digest) for variant in batch]
            starts = [first] * len(batch)
            self.store.put_all(zip(keys, starts, outcomes, strict=True))
        for variant, outcome in zip(batch, outcomes, strict=True):
            self._records[variant.digest] = self._records[variant.digest].followed(outcome)

    def distance(self, candidates: Sequence[Candidate]) -> list[float]:
        """The mean squared distance of the outputs to the float network's, without labels."""
        variants = [self.library.variant(candidate) for candidate in candidates]
        fresh = {v.digest: v for v in variants if v.digest not in self._distances}
        by_steps: dict[int, list[Variant]] = {}
        for variant in sorted(fresh.values(), key=lambda variant: variant.layers):
            by_steps.setdefault(variant.steps, []).append(variant)
        for steps, some in sorted(by_steps.items()):
            if self.stop():
                raise KeyboardInterrupt
            self._measure(some, steps)
        return [self._distances[variant.digest] for variant in variants]

    def _measure(self, variants: Sequence[Variant], steps: int) -> None:
        if self._reference is None:
            self._reference = float_outputs(self.library.graph, self.screen)
        most = self.screen.encoder.steps
        graphs = [variant.graph for variant in variants]
        tallies = self.runner.run(graphs, self.screen, 0, len(self.screen.index), steps)
        for variant, tally in zip(variants, tallies, strict=True):
            self._distances[variant.digest] = distance(
                variant.graph, variant.plan, tally.summary, self._reference,
                steps / most if most else 1.0,
            )  # fmt: skip
