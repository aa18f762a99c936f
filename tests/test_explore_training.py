"""Which candidates a search trains, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graphs import mlp
from problems import FakeProblem, layered
from qspinn.calibrate import Calibration
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.errors import FrontendError, PlanError
from qspinn.explore.guided import guided
from qspinn.explore.lessons import lessons
from qspinn.explore.problem import Score
from qspinn.explore.settings import Settings
from qspinn.explore.space import Candidate, Knob, Space
from qspinn.explore.training import trained
from qspinn.explore.twins import Untrained, scheme_of, untrained
from qspinn.frontends.report import Imported
from qspinn.job import Job
from qspinn.stats import drop_bound


class Taught(FakeProblem):
    """Half of what is lost without training is lost with it; training saves no memory."""

    def damage(self, candidate: Candidate) -> float:
        return super().damage((0, *candidate[1:])) * (0.5 if candidate[0] else 1.0)

    def memory(self, candidate: Candidate) -> int | None:
        return super().memory((0, *candidate[1:]))


def problem(schemes: int = 2) -> Taught:
    names = ("ptq", "itq", "other")[:schemes]
    knobs = layered(3, 5).knobs
    return Taught(Space((Knob("scheme", "scheme", "", names, ordered=False), *knobs)))


def accepted(score: Score, ours: Taught, most: float) -> bool:
    return score.complete and drop_bound(score.correct, ours.baseline) <= most


def test_a_space_without_training_has_the_same_candidates() -> None:
    ours = problem()
    assert scheme_of(ours.space) == 0
    less = untrained(ours.space, 0)
    assert less.size * 2 == ours.space.size
    assert scheme_of(less) is None
    assert all(less.words(c) == ours.space.words(c) for c in less.all())


@pytest.mark.parametrize("schemes", [2, 3])
def test_training_finds_a_smaller_network_with_few_trainings(schemes: int) -> None:
    ours, most = problem(schemes), 0.03
    cheap = list(guided(Untrained(ours, 0)))
    assert all(candidate[0] == 0 for candidate in ours.asked)

    def accepts(score: Score) -> bool:
        return accepted(score, ours, most)

    start = min(s.memory for s in cheap if s.complete and accepts(s))
    found = list(trained(ours, 0, cheap, accepts=accepts, most=16))
    assert 0 < len(found) <= 16
    assert {s.candidate[0] for s in found} == set(range(1, schemes))
    assert len({s.candidate for s in found}) == len(found)
    assert all(s.complete for s in found)
    best = min(s.memory for s in found if accepts(s))
    assert best < start
    whole = [ours.score((1, *c[1:])) for c in untrained(ours.space, 0).all()]
    ideal = min(s.memory for s in whole if accepts(s))
    if schemes == 2:  # of three quarters of the way there is to go
        assert start - best >= 0.75 * (start - ideal)


def test_without_a_limit_the_front_is_trained() -> None:
    ours = problem()
    cheap = list(guided(Untrained(ours, 0)))
    found = list(trained(ours, 0, cheap, accepts=None, most=5))
    assert len(found) == 5
    twins = {(0, *s.candidate[1:]) for s in found}
    assert twins <= {s.candidate for s in cheap if s.complete}
    assert list(trained(ours, 0, [], accepts=None, most=5)) == []


def test_where_nothing_is_accepted_untrained_the_best_is_trained_first() -> None:
    ours = problem()
    cheap = [ours.score((0, 4, 4, 4)), ours.score((0, 4, 3, 4))]
    most = float(ours.baseline.mean() - cheap[1].accuracy) / 2
    found = list(trained(ours, 0, cheap, accepts=lambda s: accepted(s, ours, most), most=3))
    assert found[0].candidate == (1, 4, 3, 4)


def test_what_trains_comes_after_what_does_not() -> None:
    with pytest.raises(PlanError, match="itq comes first"):
        Settings(schemes=("itq", "ptq"))


def file(folder: Path, name: str, **arrays: object) -> Path:
    np.savez(folder / name, **arrays)  # type: ignore[arg-type]
    return folder / name


def judged(rng: np.random.Generator) -> Dataset:
    x, y = rng.integers(0, 200, (30, 6)).astype(np.uint8), rng.integers(0, 3, 30)
    return Dataset("judged.npz", x, y, np.repeat([0, 1, 2], 10))


def job(data: Dataset, inputs: int = 6, encoder: Encoder | None = None) -> Job:
    graph = mlp(sizes=(inputs, 5, 3))
    encoder = encoder or Encoder("rate", 4, 1 / 200)
    return Job(Path("net.nir"), Imported(graph, ()), graph, encoder, data, Calibration(), ())


def test_no_judged_sample_is_trained_on(rng: np.random.Generator, tmp_path: Path) -> None:
    data = judged(rng)
    assert data.x is not None
    assert data.y is not None
    other = rng.integers(0, 200, (9, 6))
    fine = file(tmp_path, "fine.npz", x=np.concatenate([data.x[:10], other]), y=np.zeros(19, int))
    taught = lessons(fine, job(data), 3)
    assert taught.dataset.y is not None
    assert (len(taught.dataset.y), taught.seed) == (19, 3)
    for i in (10, 29):
        x = np.concatenate([other, data.x[i : i + 1]]).astype(np.float32)
        leaking = file(tmp_path, "leaking.npz", x=x, y=np.zeros(10, int))
        with pytest.raises(PlanError, match=r"1 of its 10 samples .* judged\.npz"):
            lessons(leaking, job(data))
    with pytest.raises(FrontendError, match="no labels"):
        lessons(file(tmp_path, "bare.npz", x=other), job(data))
    with pytest.raises(FrontendError, match="labels from 0 to 3, the network 3 classes"):
        lessons(file(tmp_path, "more.npz", x=other, y=np.arange(9) % 4), job(data))
    with pytest.raises(FrontendError, match=r"samples of \(6,\), .* of shape \(7,\)"):
        lessons(fine, job(data, 7))


def test_events_are_samples_too(rng: np.random.Generator, tmp_path: Path) -> None:
    t, i = np.tile(np.arange(5), 12), rng.integers(0, 8, 60)
    offsets = np.arange(0, 61, 5)
    events = (t, i, np.ones(60, np.int64), offsets)
    data = replace(judged(rng), x=None, y=np.zeros(12, int), split=np.repeat([0, 1, 2], 4),
                   events=events)  # fmt: skip
    arrays = {"t": t[:20], "i": i[:20], "offsets": offsets[:5], "y": np.zeros(4, int)}
    asks = job(data, 8, Encoder())
    assert lessons(file(tmp_path, "fine.npz", **arrays), asks).dataset.events is not None
    arrays = {"t": t[40:], "i": i[40:], "offsets": offsets[:5], "y": np.zeros(4, int)}
    with pytest.raises(PlanError, match="4 of its 4 samples"):
        lessons(file(tmp_path, "leaking.npz", **arrays), asks)
