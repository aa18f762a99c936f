"""What the fuzzer does to a file: bytes of any, HDF5 trees; others have a file each.

A mutant is a function of (kind, seed file, seed, index) and of which of its steps are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from fuzz_onnx import ONNX
from fuzz_words import KINDS, NAMES, TYPES, VALUES, Rng, Step, pick
from fuzz_zip import ZIPPED

MOST_STEPS = 4
_NUMBERS = (0, 1, 2, 255, 256, 32767, 65535, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutate(path: Path, suffix: str, key: Sequence[int], keep: Sequence[int] | None = None) -> int:
    """Change a file in place; ``keep`` are the numbers of the steps that are taken, default all.

    Returns:
        How many steps there are.
    """
    rng = np.random.default_rng(key)
    of_tree = {".qspinn": ZIPPED, ".onnx": ONNX}.get(suffix, HDF5)
    steps = [of_tree[int(rng.integers(len(of_tree)))] for _ in range(rng.integers(MOST_STEPS))]
    # Bytes last: what they break no library can open again to change more.
    least = 0 if steps else 1
    steps += [BYTES[int(rng.integers(len(BYTES)))] for _ in range(rng.integers(least, 2))]
    for number, step in enumerate(steps):
        if keep is None or number in keep:
            _taken(step, path, np.random.default_rng([*key, number]))
    return len(steps)


def _taken(step: Step, path: Path, rng: Rng) -> None:
    before = path.read_bytes()
    try:
        step(path, rng)
    except Exception:  # of whatever library would not make it so
        path.write_bytes(before)


# --- bytes ---


def _flip(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def _number(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    size = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.integers(max(len(data) - size, 1)))
    value = int(_NUMBERS[int(rng.integers(len(_NUMBERS)))]) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, "little")
    path.write_bytes(data)


def _cut(path: Path, rng: Rng) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(len(data)))])


def _move(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    size = int(rng.integers(1, 600))
    a, b = (int(rng.integers(len(data))) for _ in range(2))
    data[b : b + size] = data[a : a + size]
    path.write_bytes(data)


def _length(path: Path, rng: Rng) -> None:
    """Another length for a text, where HDF5 keeps one."""
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL\1")
    heap_at = heap.to_bytes(8, "little", signed=True)
    spots = [at for at in range(len(data) - 16) if data[at + 4 : at + 12] == heap_at]
    if heap > 0 and spots:
        at = spots[int(rng.integers(len(spots)))]
        data[at : at + 4] = int(rng.choice([0, 1, 5000, 1 << 20, 1 << 31, (1 << 32) - 1])).to_bytes(
            4, "little"
        )
        path.write_bytes(data)


def _blank(path: Path, rng: Rng) -> None:
    data = bytearray(path.read_bytes())
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 300))
    piece = data[at : at + size]
    data[at : at + size] = bytes([int(rng.choice([0, 0, 255, 65]))]) * len(piece)
    path.write_bytes(data)


BYTES: tuple[Step, ...] = (_flip, _flip, _number, _number, _cut, _move, _blank, _length)


# --- HDF5 ---


def _places(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return found


def _datasets(file: h5py.File) -> list[str]:
    return [name for name in _places(file) if isinstance(file.get(name), h5py.Dataset)]


def _groups(file: h5py.File) -> list[str]:
    return ["/", *(name for name in _places(file) if isinstance(file.get(name), h5py.Group))]


def _tree(change: Callable[[h5py.File, Rng], None]) -> Step:
    def step(path: Path, rng: Rng) -> None:
        with h5py.File(path, "r+") as file:
            change(file, rng)

    return step


def _drop(file: h5py.File, rng: Rng) -> None:
    del file[pick(_places(file), rng)]


def _retype(file: h5py.File, rng: Rng) -> None:
    name = pick(_datasets(file), rng)
    values = np.resize(np.asarray(rng.normal(0, 2, 64)), file[name].shape or ())
    del file[name]
    file[name] = values.astype(pick(TYPES, rng))


def _reshape(file: h5py.File, rng: Rng) -> None:
    name = pick(_datasets(file), rng)
    old = np.asarray(file[name][()])
    shapes: list[tuple[int, ...]] = [
        (), (0,), (1,), (1, 1), old.shape[::-1], (1, *old.shape), old.shape[1:], (old.size,),
        tuple(2 * n for n in old.shape), (3, 0, 2), (1,) * 32,
    ]  # fmt: skip
    shape = shapes[int(rng.integers(len(shapes)))]
    del file[name]
    file[name] = np.resize(old, shape)


def _entries(file: h5py.File, rng: Rng) -> None:
    name = pick(_datasets(file), rng)
    values = np.array(file[name][()], np.float64)
    flat = values.reshape(-1)
    picked = flat[: int(rng.integers(1, 4))] if rng.random() < 0.3 else flat
    picked[:] = VALUES[int(rng.integers(len(VALUES)))] * (1 if rng.random() < 0.8 else -1)
    del file[name]
    file[name] = values


def _huge(file: h5py.File, rng: Rng) -> None:
    name = pick(_datasets(file), rng)
    rank = max(len(file[name].shape or ()), 1)
    del file[name]
    size = int(rng.choice([1 << 10, 1 << 16, 1 << 20, 1 << 31, 1 << 40]))
    shape = tuple(int(n) for n in np.where(rng.random(rank) < 0.5, 3, size))
    most = int(rng.choice([64, 1 << 24]))
    file.create_dataset(
        name,
        shape,
        pick(TYPES[:8], rng),
        chunks=tuple(min(n, most) for n in shape),
        compression=[None, "gzip", "lzf"][int(rng.integers(3))],
    )


def _word(file: h5py.File, rng: Rng) -> None:
    name = pick(_datasets(file), rng)
    texts = (*KINDS, *NAMES, "", "same", "valid", "é" * 5000, "zero", "subtract")
    del file[name]
    file[name] = pick(texts, rng)


def _kind(file: h5py.File, rng: Rng) -> None:
    """Another type for a node, which keeps its parameters."""
    name = pick([n for n in _datasets(file) if n.endswith("type")], rng)
    del file[name]
    file[name] = pick(KINDS, rng)


def _rename(file: h5py.File, rng: Rng) -> None:
    name = pick(_places(file), rng)
    file.move(name, f"{name.rpartition('/')[0]}/{pick(NAMES, rng)}")


def _swap(file: h5py.File, rng: Rng) -> None:
    a, b = (pick(_places(file), rng) for _ in range(2))
    file.move(a, "aside")
    file.move(b, a)
    file.move("aside", b)


def _link(file: h5py.File, rng: Rng) -> None:
    name, other = (pick(_places(file), rng) for _ in range(2))
    if rng.random() < 0.6:
        del file[name]
    else:
        name = f"{pick(_groups(file), rng)}/{pick(NAMES, rng)}"
    links: tuple[Any, ...] = (
        file[other], h5py.SoftLink(f"/{other}"), h5py.ExternalLink("other.h5", f"/{other}"),
        h5py.SoftLink("/nowhere"), file["/"],
    )  # fmt: skip
    file[name] = links[int(rng.integers(len(links)))]


def _copy(file: h5py.File, rng: Rng) -> None:
    source = pick(_places(file), rng)
    file.copy(source, file[pick(_groups(file), rng)], name=pick(NAMES, rng))


def _attribute(file: h5py.File, rng: Rng) -> None:
    place = file[pick(_places(file), rng)]
    place.attrs[pick(NAMES[:12], rng)] = VALUES[int(rng.integers(len(VALUES)))]


def _edges(file: h5py.File, rng: Rng) -> None:
    """Edges from anywhere to anywhere, some to what is not there."""
    name = pick([n for n in _datasets(file) if n.endswith("edges")], rng)
    pairs = file[name].asstr()[()].astype(object)
    nodes = [*file[name.removesuffix("edges") + "nodes"], pick(NAMES, rng)]
    for _ in range(int(rng.integers(1, 4))):
        choice = rng.random()
        if choice < 0.4:
            pairs[int(rng.integers(len(pairs))), int(rng.integers(2))] = pick(nodes, rng)
        elif choice < 0.7:
            pairs = np.vstack([pairs, [[pick(nodes, rng), pick(nodes, rng)]]])
        else:
            pairs = np.delete(pairs, int(rng.integers(len(pairs))), axis=0)
    del file[name]
    file.create_dataset(name, data=pairs, dtype=h5py.string_dtype())


def _said(file: h5py.File, rng: Rng) -> None:
    """A word of qspinn's metadata, apt or not."""
    words = (
        "dialect", "dt", "integrator", "reset", "reset_timing", "compare", "synapse", "max_spikes",
        "readout", "input_kind", "input_high", "T", "encoder", "gain", "v_min", "v_start",
        "r_scale", "w_in_scale",
    )  # fmt: skip
    values: tuple[Any, ...] = (
        *VALUES, "sinabs", "snntorch", "norse", "exact", "subtract", ">=", "count", "equation",
        "direct", "jump", "threshold", "next_discard", "old", b"x", np.ones(3),
    )  # fmt: skip
    groups = [g for g in _groups(file) if g != "/"]
    place = file[pick(groups, rng)].require_group("metadata/qspinn")
    name = pick(words, rng)
    if name in place:
        del place[name]
    place[name] = values[int(rng.integers(len(values)))]


def _far(file: h5py.File, rng: Rng) -> None:
    """Data that lie in another file, raw or virtual."""
    name = pick(_datasets(file), rng)
    shape = file[name].shape or (1,)
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, shape, "f8", external=[("/dev/zero", 0, 1 << 20)])
        return
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource("other.h5", "x", shape)
    file.create_virtual_dataset(name, layout)


def _odd(file: h5py.File, rng: Rng) -> None:
    """Types that few expect: records, lists of lists, references, nothing at all."""
    name = pick(_datasets(file), rng)
    del file[name]
    made: tuple[Callable[[], Any], ...] = (
        lambda: file.create_dataset(name, data=np.zeros(3, [("a", "f4"), ("b", "i2")])),
        lambda: file.create_dataset(name, (3,), h5py.vlen_dtype(np.dtype("f8"))),
        lambda: file.create_dataset(name, data=h5py.Empty("f4")),
        lambda: file.create_dataset(name, (2,), h5py.ref_dtype),
        lambda: file.create_dataset(name, (2, 2), h5py.enum_dtype({"A": 0, "B": 1}, "i4")),
        lambda: file.create_dataset(name, (2, 2), h5py.string_dtype()),
        lambda: file.create_dataset(name, (), h5py.string_dtype(length=1 << 30)),
        lambda: file.create_dataset(name, data=["a"], dtype=h5py.string_dtype(), chunks=(1,)),
        lambda: file.create_dataset(
            name, data=["a"], dtype=h5py.string_dtype(), compression="gzip"
        ),
        lambda: file.create_group(name),
    )
    made[int(rng.integers(len(made)))]()


HDF5: tuple[Step, ...] = tuple(
    _tree(change)
    for change in (
        _drop, _retype, _reshape, _entries, _entries, _huge, _word, _kind, _rename, _swap, _link,
        _copy, _attribute, _edges, _said, _far, _odd,
    )
)  # fmt: skip
