from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qspinn.datasets import load
from qspinn.errors import FrontendError


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})
    return path


def test_values_labels_and_split(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", x=np.arange(24).reshape(6, 4), y=np.arange(6) % 2,
                 split=[0, 0, 1, 2, 2, 2], dt=0.001, license="text is ignored")  # fmt: skip
    data = load(path)
    assert data.part("report").tolist() == [3, 4, 5]
    assert data.part("report", 2).tolist() == [3, 4]
    assert data.dt == 0.001
    assert data.samples(np.array([1]), (2, 2), encoded=False).tolist() == [[[4, 5], [6, 7]]]


def test_a_default_split_is_seeded_and_disjoint(tmp_path: Path) -> None:
    path = write(tmp_path / "d.npz", x=np.zeros((200, 3)))
    data, again, other = load(path), load(path), load(path, seed=1)
    parts = [set(data.part(p)) for p in ("calibrate", "select", "report")]
    assert [len(p) for p in parts] == [20, 90, 90]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert np.array_equal(data.split, again.split)
    assert not np.array_equal(data.split, other.split)


def test_events_become_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "e.npz", t=[0, 2, 2, 1], i=[1, 3, 3, 0], c=[1, 2, 1, 5],
                 offsets=[0, 3, 4], split=[2, 2])  # fmt: skip
    raster = load(path).samples(np.array([0, 1]), (2, 2), encoded=True)
    assert raster.shape == (2, 3, 2, 2)
    assert raster[0, 2, 1, 1] == 3
    assert raster[0, 0, 0, 1] == 1
    assert raster[1].sum() == raster[1, 1, 0, 0] == 5
    longer = load(path).samples(np.array([0]), (2, 2), encoded=True, steps=5)
    assert longer.shape == (1, 5, 2, 2)
    assert longer[0, 3:].sum() == 0
    assert load(path).samples(np.array([0]), (2, 2), encoded=True, steps=1).sum() == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": [1]}, "neither x nor t, i and offsets"),
        ({"x": [[1.0]], "y": [1, 2]}, r"y has shape \(2,\), not \(1,\)"),
        ({"x": [[np.nan]]}, "NaN or infinite"),
        ({"x": ["a", "b"]}, "x is <U1"),
        ({"x": 3.0}, r"of shape \(\)"),
        ({"x": [[1j]]}, "x is complex"),
        ({"x": [[1.0]], "y": ["cat"]}, "y is <U3, not integers"),
        ({"x": [[1.0]], "dt": [1.0, 2.0]}, "dt is float64"),
        ({"x": [[1.0]], "dt": "fast"}, "dt is <U4"),
        ({"t": [0.5], "i": [0], "offsets": [0, 1]}, "t is float64"),
        ({"t": [0, 1], "i": [0], "offsets": [0, 2]}, "have 2, 1 and 2 values"),
        ({"t": [0], "i": [-1], "offsets": [0, 1]}, "i has the negative value -1"),
        ({"t": [0], "i": [0], "c": [0.5], "offsets": [0, 1]}, "c is float64"),
        ({"t": [0], "i": [0], "offsets": [1, 0]}, "offsets do not rise"),
        ({"t": [0], "i": [0], "offsets": [0]}, "offsets do not rise"),
        ({"t": [10**12], "i": [0], "offsets": [0, 1]}, "step 1000000000000, the limit"),
    ],
)
def test_bad_files(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(FrontendError, match=message):
        load(write(tmp_path / "d.npz", **arrays))


def test_unreadable_files(tmp_path: Path) -> None:
    damaged = tmp_path / "d.npz"
    for content in (b"", b"no zip", b"PK\x03\x04 cut"):
        damaged.write_bytes(content)
        with pytest.raises(FrontendError, match=r"d\.npz"):
            load(damaged)
    pickled = tmp_path / "p.npz"
    np.savez(pickled, x=np.array([object()]))
    with pytest.raises(FrontendError, match=r"cannot be read as \.npz: it holds Python objects"):
        load(pickled)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "is a .npy: one array without a name"),
        (b"0.1 0.2\n", "is no .npz file"),
        (b"", "is empty"),
    ],
)
def test_other_files_are_told_how_to_write_one(
    tmp_path: Path, content: bytes | None, what: str
) -> None:
    path = tmp_path / "d.npy"
    if content is None:
        np.save(path, np.zeros((3, 4)))
    else:
        path.write_bytes(content)
    with pytest.raises(FrontendError) as caught:
        load(path)
    assert caught.value.what == f"{path}: {what}"
    assert caught.value.hint == "write np.savez(FILE, x=..., y=...)"


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    data = load(write(tmp_path / "d.npz", x=np.zeros((3, 5))))
    with pytest.raises(FrontendError, match=r"samples of \(5,\), the network takes values"):
        data.samples(np.array([0]), (4,), encoded=False)
    events = load(write(tmp_path / "e.npz", t=[0], i=[7], offsets=[0, 1]))
    with pytest.raises(FrontendError, match="index 7, the network has 4 inputs"):
        events.samples(np.array([0]), (4,), encoded=True)


@pytest.mark.parametrize(
    ("x", "encoded", "hint"),
    [
        ((9, 63), False, ""),
        ((9, 5, 64), False, "for spikes, say --encode none"),
        ((9, 5, 63), False, ""),
        ((9, 64), True, "for values, say --encode rate|phase|latency|direct and --steps"),
        ((9, 5, 63), True, ""),
    ],
)
def test_only_a_shape_that_would_fit_gets_a_hint(
    tmp_path: Path, x: tuple[int, ...], hint: str, *, encoded: bool
) -> None:
    data = load(write(tmp_path / "d.npz", x=np.zeros(x)))
    with pytest.raises(FrontendError, match="holds samples of") as caught:
        data.samples(np.array([0]), (64,), encoded=encoded)
    assert caught.value.hint == hint


def test_events_are_not_encoded(tmp_path: Path) -> None:
    events = load(write(tmp_path / "e.npz", t=[0], i=[1], offsets=[0, 1]))
    with pytest.raises(FrontendError, match=r"e\.npz: holds events") as caught:
        events.samples(np.array([0]), (4,), encoded=False)
    assert caught.value.hint == "for spikes, say --encode none"


def test_what_steps_cut_is_told(tmp_path: Path) -> None:
    events = load(write(tmp_path / "e.npz", t=[0, 9, 4], i=[0, 1, 2], c=[1, 2, 1],
                        offsets=[0, 2, 3]))  # fmt: skip
    assert (events.cut(0), events.cut(10)) == ("", "")
    assert events.cut(9) == (
        "50 % of the spikes in e.npz lie beyond the last of 9 steps and are cut; "
        "--steps 10 keeps them"
    )
    raster = np.zeros((2, 8, 4), np.uint8)
    raster[0, 0, :3] = raster[1, 6, 2] = 1
    dense = load(write(tmp_path / "d.npz", x=raster))
    assert dense.cut(5).startswith("25 % of the spikes in d.npz lie beyond the last of 5 steps")
    assert (dense.cut(7), dense.cut(8), dense.cut(0)) == ("", "", "")
