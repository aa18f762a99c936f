"""Data files: one ``.npz`` with values, spikes or events, labels, and a split in three.

For a network with several inputs each has an array of its own, ``input.NAME``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from qspinn.encode import MOST_STEPS
from qspinn.errors import FrontendError, QspinnError, located
from qspinn.ir import Array, Graph, Input, Shape
from qspinn.ports import entering, together

PARTS = {"calibrate": 0, "select": 1, "report": 2}
_SHARES = (0.10, 0.55)
INPUT = "input."
_FOR_SPIKES = "for spikes, say --encode none"
_FOR_VALUES = "for values, say --encode rate|phase|latency|direct and --steps"
_WRITE = "write np.savez(FILE, x=..., y=...)"
SPLIT_HINT = (
    "split numbers the part of each sample: 0 to calibrate, 1 to select, 2 to report; without it "
    "10 samples or more are divided"
)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and what is known about them.

    Attributes:
        name: The file's name, for messages.
        x: Values (samples, *shape), spikes (samples, steps, *shape), or None for events and where
            ``inputs`` holds them.
        y: Labels (samples,), or None.
        split: 0 calibrate, 1 select, 2 report, for each sample.
        events: (step, index, count, offsets) arrays, or None.
        dt: Seconds per step, where the file says.
        shut: Parts whose samples may not be read (see `without`).
        inputs: What ``x`` is, for each input by name.
    """

    name: str
    x: Array | None
    y: Array | None
    split: Array
    events: tuple[Array, Array, Array, Array] | None = None
    dt: float | None = None
    shut: tuple[str, ...] = ()
    inputs: Mapping[str, Array] = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Values or spikes, by input; none for events."""
        return tuple(self.inputs.values()) if self.x is None else (self.x,)

    def without(self, part: str) -> Dataset:
        """This data set with one part shut: its samples cannot be read, its labels are -1."""
        y = self.y
        if y is not None:
            y = np.where(self.split == PARTS[part], -1, y.astype(np.int64))
        return replace(self, y=y, shut=(*self.shut, part))

    def part(self, name: str, limit: int | None = None) -> Array:
        """Indices of the samples of one part, at most ``limit`` of them."""
        return np.flatnonzero(self.split == PARTS[name])[:limit]

    def samples(self, index: Array, shape: Shape, *, encoded: bool, steps: int = 0) -> Array:
        """Samples by index, as (n, *shape) or, where the file holds spikes, (n, steps, *shape).

        With ``steps``, spikes are cut, or followed by silence, to that many.

        Raises:
            FrontendError: The file's samples do not have that shape.
            QspinnError: A sample belongs to a part that is shut.
        """
        if self.events is not None and not encoded:
            raise FrontendError(
                "holds events, and values are to be encoded", at=self.name, hint=_FOR_SPIKES
            )
        for name in self.shut:
            found = np.asarray(index)[self.split[index] == PARTS[name]]
            if found.size:
                raise QspinnError(
                    f"sample {found[0]} of its {name} part was asked for; the part is shut",
                    at=self.name,
                )
        if self.events is not None:
            return self._raster(index, shape, steps)
        assert self.x is not None, "a data set has values or events"
        x = self.x[index]
        lead = x.shape[:2] if encoded else x.shape[:1]
        if int(np.prod(x.shape[len(lead) :])) != int(np.prod(shape)):
            raise self._misfit(shape, encoded=encoded)
        x = x.reshape(*lead, *shape)
        if not encoded or not steps or steps == x.shape[1]:
            return x
        silence = [(0, 0), (0, max(0, steps - x.shape[1]))] + [(0, 0)] * len(shape)
        return np.pad(x[:, :steps], silence)

    def _misfit(self, shape: Shape, *, encoded: bool) -> FrontendError:
        assert self.x is not None, "events have no shape"
        what, other, hint = "values", self.x.shape[2:], _FOR_SPIKES
        if encoded:
            what, other, hint = "steps of spikes", self.x.shape[1:], _FOR_VALUES
        fits = self.x.ndim > (1 if encoded else 2) and np.prod(other) == np.prod(shape)
        return FrontendError(
            f"holds samples of {self.x.shape[1:]}, the network takes {what} of shape {shape}",
            at=self.name,
            hint=hint if fits else "",
        )

    def entering(self, graph: Graph, index: Array, *, encoded: bool, steps: int = 0) -> Array:
        """`samples` as they enter a network; of several inputs joined as `qspinn.ports` says.

        Raises:
            FrontendError: An input has no array, or one of another shape.
        """
        nodes = graph.of_type(Input)
        if not self.inputs:
            if len(nodes) > 1 and self.events is None:
                raise FrontendError(
                    f"holds one array, x; {graph.name} has {len(nodes)} inputs", at=self.name,
                    hint=f"give an array for each: {', '.join(f'input.{n.name}' for n in nodes)}",
                )  # fmt: skip
            return self.samples(index, entering(nodes), encoded=encoded, steps=steps)
        wanted, found = {node.name for node in nodes}, set(self.inputs)
        if wanted != found:
            lacking = ", ".join(f"input.{name}" for name in sorted(wanted - found))
            raise FrontendError(
                f"lacks {lacking}" if lacking else
                f"has {', '.join(sorted(found - wanted))}, which {graph.name} has no input for",
                at=self.name, hint=f"the inputs are {', '.join(n.name for n in nodes)}",
            )  # fmt: skip
        received = {}
        for node in nodes:
            one = replace(self, name=f"{self.name}: input.{node.name}", x=self.inputs[node.name])
            part = one.samples(index, node.shape, encoded=encoded, steps=steps)
            received[node.name] = part if encoded else part[:, None]
        joined = together(graph, received)
        return joined if encoded else joined[:, 0]

    def cut(self, steps: int) -> str:
        """What people should know where spikes lie after so many steps; 0 steps cut none."""
        if self.events is not None:
            t, _, c, _ = self.events
            length = int(t.max()) + 1 if t.size else 0
            late, total = c[t >= steps].sum(), c.sum()
        else:
            length = max(x.shape[1] for x in self.arrays)
            late = sum(np.count_nonzero(x[:, steps:]) for x in self.arrays)
            total = sum(np.count_nonzero(x) for x in self.arrays)
        if not steps or not late:
            return ""
        return (
            f"{100 * late / total:.3g} % of the spikes in {self.name} lie beyond the last of "
            f"{steps} steps and are cut; --steps {length} keeps them"
        )

    def _raster(self, index: Array, shape: Shape, steps: int) -> Array:
        assert self.events is not None, "asked only of event files"
        t, i, c, offsets = self.events
        size = int(np.prod(shape))
        if i.size and int(i.max()) >= size:
            raise FrontendError(
                f"has an event at index {i.max()}, the network has {size} inputs", at=self.name
            )
        steps = steps or (int(t.max()) + 1 if t.size else 1)
        raster = np.zeros((len(index), steps, size), np.int64)
        for row, sample in enumerate(index):
            span = slice(int(offsets[sample]), int(offsets[sample + 1]))
            kept = t[span] < steps
            np.add.at(raster[row], (t[span][kept], i[span][kept]), c[span][kept])
        return raster.reshape(len(index), steps, *shape)


def load(path: Path, seed: int = 0) -> Dataset:
    """Read a data file: ``x`` or ``t, i, offsets`` (and ``c``), optionally ``y, split, dt``.

    Instead of ``x`` each of several inputs may have an array of its own, ``input.NAME``.

    Without ``split`` a seeded permutation gives 10 % to calibrate, 45 % to select, 45 % to report.

    Raises:
        FrontendError: The file is damaged, lacks an array, or the arrays do not belong together.
    """
    try:
        # Opened here, because np.load leaves a damaged file open.
        with open(path, "rb") as file:
            _require_archive(file.read(6), str(path))
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files if _wanted(name)}
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, EOFError) as error:
        objects = "allow_pickle" in str(error)
        why = "it holds Python objects, not numbers" if objects else error
        raise FrontendError(
            f"cannot be read as .npz: {why}", at=str(path), hint=_WRITE if objects else ""
        ) from error
    with located(str(path)):
        return _dataset(Path(path).name, arrays, seed)


def _require_archive(start: bytes, at: str) -> None:
    if start.startswith(b"PK"):
        return
    what = "is a .npy: one array without a name" if start == b"\x93NUMPY" else "is no .npz file"
    raise FrontendError(what if start else "is empty", at=at, hint=_WRITE)


def _dataset(name: str, arrays: dict[str, Array], seed: int) -> Dataset:
    inputs = {
        key.removeprefix(INPUT): _values(values, key)
        for key, values in arrays.items()
        if key.startswith(INPUT)
    }
    if not ({"t", "i", "offsets"} <= arrays.keys() or "x" in arrays or inputs):
        raise FrontendError(
            f"has neither x nor t, i and offsets, but {', '.join(sorted(arrays)) or 'nothing'}"
        )
    if inputs and ("x" in arrays or "t" in arrays):
        raise FrontendError(f"has {', '.join(sorted(arrays))}: give x, or an array for each input")
    if len({len(values) for values in inputs.values()}) > 1:
        counts = ", ".join(f"{INPUT}{name} {len(values)}" for name, values in inputs.items())
        raise FrontendError(f"its inputs have different numbers of samples: {counts}")
    events = _events(arrays) if "t" in arrays and "offsets" in arrays else None
    x = None if events or inputs else _values(arrays["x"])
    held = (*inputs.values(), *(() if x is None else (x,)))
    count = len(held[0]) if held else len(arrays["offsets"]) - 1
    y = _labels(arrays["y"], count) if "y" in arrays else None
    split = _default_split(count, seed)
    if "split" in arrays:
        split = _labels(arrays["split"], count, "split")
    return Dataset(name, x, y, split, events, _dt(arrays.get("dt")), inputs=inputs)


def _values(x: Array, name: str = "x") -> Array:
    if x.dtype.kind not in "biuf" or x.ndim < 2:
        raise FrontendError(f"{name} is {x.dtype} of shape {x.shape}, not numbers for each sample")
    if not np.isfinite(x).all():
        raise FrontendError(f"{name} holds NaN or infinite values")
    return x


def _events(arrays: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
    """Event arrays that belong together: step, index, count of each event, offsets of samples."""
    t, i, offsets = arrays["t"], arrays["i"], arrays["offsets"]
    c = arrays.get("c", np.ones(len(t), np.int64))
    for name, array in (("t", t), ("i", i), ("c", c), ("offsets", offsets)):
        if array.dtype.kind not in "biu" or array.ndim != 1:
            raise FrontendError(f"{name} is {array.dtype} of shape {array.shape}, not integers")
        if array.size and int(array.min()) < 0:
            raise FrontendError(f"{name} has the negative value {array.min()}")
    if not len(t) == len(i) == len(c):
        raise FrontendError(f"t, i and c have {len(t)}, {len(i)} and {len(c)} values, not as many")
    steps = np.diff(offsets.astype(np.int64))
    if offsets.size < 2 or offsets[0] != 0 or offsets[-1] != len(t) or (steps < 0).any():
        raise FrontendError(f"offsets do not rise from 0 to the {len(t)} events")
    if t.size and int(t.max()) >= MOST_STEPS:
        raise FrontendError(
            f"an event lies at step {t.max()}, the limit is {MOST_STEPS}",
            hint="t counts time steps of the network, not microseconds",
        )
    return t, i, c, offsets


def _labels(y: Array, count: int, name: str = "y") -> Array:
    if y.shape != (count,):
        raise FrontendError(f"{name} has shape {y.shape}, not ({count},)")
    if y.dtype.kind not in "biu":
        raise FrontendError(f"{name} is {y.dtype}, not integers", hint="number the classes")
    return y


def _dt(dt: Array | None) -> float | None:
    if dt is None:
        return None
    if dt.size != 1 or dt.dtype.kind not in "iuf" or not float(dt.reshape(())) > 0:
        raise FrontendError(f"dt is {dt.dtype} of shape {dt.shape}, not a positive number")
    return float(dt.reshape(()))


def _wanted(name: str) -> bool:
    return name.startswith(INPUT) or name in ("x", "y", "split", "t", "i", "c", "offsets", "dt")


def _default_split(count: int, seed: int) -> Array:
    order = np.random.default_rng(seed).permutation(count)
    split = np.full(count, 2, np.int64)
    split[order[: int(count * _SHARES[0])]] = 0
    split[order[int(count * _SHARES[0]) : int(count * _SHARES[1])]] = 1
    return split
