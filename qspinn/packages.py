"""What a compilation adds to an artifact for its users: a recorded sample, and packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qspinn.backend import Backend, Packager, Sample
from qspinn.errors import PlanError
from qspinn.evaluate import Comparison, chunks, summary_of
from qspinn.ir import Array
from qspinn.job import ASSUMED_STEPS, Job, manifest
from qspinn.pipeline import Compiled
from qspinn.readout import predict
from qspinn.validate import random_input

MOST_TRIED = 1000
"""How many samples are tried in search of one that is classified correctly."""


def kinds_of(target: Backend, text: str | None) -> tuple[str, ...]:
    """The kinds of packages that a comma list names; ``all`` names all.

    Raises:
        PlanError: The target does not make such packages.
    """
    asked = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    if not asked:
        return ()
    if not isinstance(target, Packager):
        raise PlanError(f"{target.name} makes no packages", hint="leave out --package")
    if unknown := [kind for kind in asked if kind not in (*target.packages, "all")]:
        raise PlanError(
            f"{target.name} makes no {unknown[0]!r} package",
            hint=f"one of {', '.join(target.packages)}, or all",
        )
    return target.packages if "all" in asked else asked


def record(job: Job, compiled: Compiled) -> Sample:
    """The first sample of the report part that is classified correctly, or generated input.

    Where none of the first `MOST_TRIED` is, the first one.
    """
    graph, dataset = compiled.lowered.final, job.dataset
    if dataset is None or not len(index := dataset.part("report", MOST_TRIED)):
        steps = job.encoder.steps or ASSUMED_STEPS
        data = random_input(graph, 1, steps, seed=0)[0]
        if job.encoder.kind == "direct":
            data = np.repeat(data[:1], steps, axis=0)
        return Sample(data, "generated input")
    first: Sample | None = None
    for data, some in chunks(graph, dataset, job.encoder, index):
        labels = None if dataset.y is None else dataset.y[some]
        first = first or _sample(job, data[0], int(some[0]), labels, 0)
        if labels is None:
            return first
        (right,) = np.nonzero(predict(graph.output, summary_of(graph, data)) == labels)
        if right.size:
            nth = int(right[0])
            return _sample(job, data[nth], int(some[nth]), labels, nth)
    assert first is not None, "the part has a sample"
    return first


def _sample(job: Job, data: Array, place: int, labels: Array | None, nth: int) -> Sample:
    assert job.dataset is not None, "it was taken from one"
    label = -1 if labels is None else int(labels[nth])
    origin = f"sample {place} of {job.dataset.name}"
    return Sample(data, origin, label if label >= 0 else None)


def self_tested(job: Job, compiled: Compiled, target: Backend) -> Compiled:
    """A compilation whose artifact can test itself, where the target knows how."""
    if not isinstance(target, Packager):
        return compiled
    sample = record(job, compiled)
    lowered = compiled.lowered
    artifact = target.self_tested(
        compiled.artifact, lowered.final, compiled.device, lowered.plan, sample
    )
    return replace(compiled, artifact=artifact)


def render(
    job: Job,
    compiled: Compiled,
    target: Backend,
    kinds: Sequence[str],
    comparison: Comparison | None,
    budget: Mapping[str, int],
) -> dict[str, bytes]:
    """The files of packages, by path below the output folder.

    Args:
        job: What was asked.
        compiled: What `self_tested` returned.
        target: Makes the packages.
        kinds: Some of its ``packages``.
        comparison: The accuracy, if there are data.
        budget: As the manifest has it.
    """
    files: dict[str, bytes] = {}
    if isinstance(target, Packager):
        facts = manifest(job, compiled, comparison, budget) if kinds else {}
        lowered = compiled.lowered
        for kind in kinds:
            files |= target.package(
                compiled.artifact, lowered.final, compiled.device, lowered.plan, facts, kind
            )
    return files
