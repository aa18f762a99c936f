"""Which samples may be trained on: none that candidates are judged or reported on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qspinn import datasets
from qspinn.datasets import Dataset
from qspinn.errors import FrontendError, PlanError
from qspinn.evaluate import chunks, require_labels
from qspinn.explore.schemes import Lessons
from qspinn.ir import Array
from qspinn.job import Job

JUDGED = ("select", "report")


def lessons(path: Path, job: Job, seed: int = 0) -> Lessons:
    """All samples of a file, for a scheme to train on.

    Args:
        path: A data file; its own split means nothing here.
        job: The network, and the data that candidates are judged on.
        seed: Of the training.

    Raises:
        FrontendError: The file cannot be used, lacks labels, or does not fit the network.
        PlanError: It holds a sample of the parts that decide and report.
    """
    found, judged = datasets.load(path), job.dataset
    if judged is None:
        raise PlanError("candidates are judged on data", hint="give --data FILE.npz")
    if found.y is None:
        raise FrontendError("has no labels to train on", at=str(path))
    require_labels(job.graph, found.y, str(path))
    next(chunks(job.graph, found, job.encoder, np.arange(1)))  # does a sample fit the input?
    index = np.concatenate([judged.part(name) for name in JUDGED])
    shut = set(_digests(judged, index))
    seen = sum(digest in shut for digest in _digests(found, np.arange(len(found.y))))
    if seen:
        raise PlanError(
            f"{seen} of its {len(found.y)} samples are in the {' or the '.join(JUDGED)} part of "
            f"{judged.name}",
            at=str(path),
            hint="train on other samples than those that candidates are judged on",
        )
    return Lessons(found, seed, job.graph)


def _digests(dataset: Dataset, index: Array) -> Iterator[bytes]:
    """What identifies each sample, whatever type its values are stored in."""
    for i in index:
        h = hashlib.sha256()
        for part in _parts(dataset, int(i)):
            h.update(np.ascontiguousarray(part, np.float64).tobytes())
            h.update(b"|")
        yield h.digest()


def _parts(dataset: Dataset, i: int) -> tuple[Array, ...]:
    if dataset.events is None:
        return tuple(x[i] for x in dataset.arrays)
    t, index, count, offsets = dataset.events
    span = slice(int(offsets[i]), int(offsets[i + 1]))
    return t[span], index[span], count[span]
