"""Data files: one ``.npz`` with values, spikes or events, labels, and a split in three."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qspinn.errors import FrontendError
from qspinn.ir import Array, Shape

PARTS = {"calibrate": 0, "select": 1, "report": 2}
_SHARES = (0.10, 0.55)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and what is known about them.

    Attributes:
        name: The file's name, for messages.
        x: Values (samples, *shape), spikes (samples, steps, *shape), or None for events.
        y: Labels (samples,), or None.
        split: 0 calibrate, 1 select, 2 report, for each sample.
        events: (step, index, count, offsets) arrays, or None.
        dt: Seconds per step, where the file says.
    """

    name: str
    x: Array | None
    y: Array | None
    split: Array
    events: tuple[Array, Array, Array, Array] | None = None
    dt: float | None = None

    def part(self, name: str, limit: int | None = None) -> Array:
        """Indices of the samples of one part, at most ``limit`` of them."""
        return np.flatnonzero(self.split == PARTS[name])[:limit]

    def samples(self, index: Array, shape: Shape, *, encoded: bool) -> Array:
        """Samples by index, as (n, *shape) or, where the file holds spikes, (n, steps, *shape).

        Raises:
            FrontendError: The file's samples do not have that shape.
        """
        if self.events is not None:
            return self._raster(index, shape)
        assert self.x is not None, "a data set has values or events"
        x = self.x[index]
        lead = x.shape[:2] if encoded else x.shape[:1]
        if int(np.prod(x.shape[len(lead) :])) != int(np.prod(shape)):
            what = "steps of spikes" if encoded else "values"
            raise FrontendError(
                f"holds samples of {self.x.shape[1:]}, the network takes {what} of shape {shape}",
                at=self.name,
                hint="" if encoded else "for spikes, say --encode none",
            )
        return x.reshape(*lead, *shape)

    def _raster(self, index: Array, shape: Shape) -> Array:
        assert self.events is not None, "asked only of event files"
        t, i, c, offsets = self.events
        size = int(np.prod(shape))
        if i.size and int(i.max()) >= size:
            raise FrontendError(
                f"has an event at index {i.max()}, the network has {size} inputs", at=self.name
            )
        steps = int(t.max()) + 1 if t.size else 1
        raster = np.zeros((len(index), steps, size), np.int64)
        for row, sample in enumerate(index):
            span = slice(int(offsets[sample]), int(offsets[sample + 1]))
            np.add.at(raster[row], (t[span], i[span]), c[span])
        return raster.reshape(len(index), steps, *shape)


def load(path: Path, seed: int = 0) -> Dataset:
    """Read a data file: ``x`` or ``t, i, offsets`` (and ``c``), optionally ``y, split, dt``.

    Without ``split`` a seeded permutation gives 10 % to calibrate, 45 % to select, 45 % to report.

    Raises:
        FrontendError: The file is damaged, lacks an array, or the arrays do not belong together.
    """
    try:
        # Opened here, because np.load leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if _wanted(name)}
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise FrontendError(f"cannot be read as .npz: {error}", at=str(path)) from error
    with_events = {"t", "i", "offsets"} <= arrays.keys()
    if not with_events and "x" not in arrays:
        raise FrontendError(
            f"has neither x nor t, i and offsets, but {', '.join(sorted(arrays)) or 'nothing'}",
            at=str(path),
        )
    count = len(arrays["offsets"]) - 1 if with_events else len(arrays["x"])
    y = arrays.get("y")
    split = arrays.get("split", _default_split(count, seed))
    for name, array in (("y", y), ("split", split)):
        if array is not None and array.shape != (count,):
            raise FrontendError(f"{name} has shape {array.shape}, not ({count},)", at=str(path))
    if not with_events and not np.isfinite(np.asarray(arrays["x"], np.float64)).all():
        raise FrontendError("x holds NaN or infinite values", at=str(path))
    events = None
    if with_events:
        ones = np.ones(len(arrays["t"]), np.int64)
        events = (arrays["t"], arrays["i"], arrays.get("c", ones), arrays["offsets"])
    dt = float(arrays["dt"]) if "dt" in arrays else None
    return Dataset(Path(path).name, arrays.get("x"), y, split, events, dt)


def _wanted(name: str) -> bool:
    return name in ("x", "y", "split", "t", "i", "c", "offsets", "dt")


def _default_split(count: int, seed: int) -> Array:
    order = np.random.default_rng(seed).permutation(count)
    split = np.full(count, 2, np.int64)
    split[order[: int(count * _SHARES[0])]] = 0
    split[order[int(count * _SHARES[0]) : int(count * _SHARES[1])]] = 1
    return split
