"""HDF5 files that would cost far more than they hold are refused before HDF5 reads them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import nirfiles as nf
from qspinn.errors import FrontendError
from qspinn.frontends import load_model

TYPE, EDGES, WEIGHT = "node/nodes/fc/type", "node/edges", "node/nodes/fc/weight"


def edited(folder: Path, change: Callable[[h5py.File], None], suffix: str = ".nir") -> Path:
    path = nf.write(folder / f"net{suffix}", nf.tiny())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def instead(place: str, *args: Any, **options: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]
        file.create_dataset(place, *args, **options)

    return change


def refused(path: Path, match: str) -> None:
    with pytest.raises(FrontendError, match=match) as error:
        load_model(path, dt=1e-3)
    assert error.value.at
    assert str(error.value).isprintable()


@pytest.mark.parametrize("place", [TYPE, EDGES])
@pytest.mark.parametrize("length", [(1 << 32) - 1, 1 << 20, 16385])
def test_a_text_that_says_it_is_huge(place: str, length: int, tmp_path: Path) -> None:
    """HDF5 allocates and clears as much as the file says, and only then sees that it is wrong."""
    path = nf.write(tmp_path / "net.nir", nf.tiny())
    with h5py.File(path) as file:
        at = file[place].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at : at + 4] = length.to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, rf"is a text of {length} bytes, the limit is 16384")


def test_a_heap_with_a_piece_beyond_its_end(tmp_path: Path) -> None:
    path = nf.write(tmp_path / "net.nir", nf.tiny())
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    data[at + 24 : at + 32] = ((1 << 64) - 16).to_bytes(8, "little")  # round up: no step at all
    path.write_bytes(data)
    refused(path, "a heap of texts holds an empty piece, or one beyond its end")


def test_a_heap_whose_free_pieces_follow_each_other(tmp_path: Path) -> None:
    """HDF5 takes memory for each, without end."""
    path = nf.write(tmp_path / "net.nir", nf.tiny())
    data = bytearray(path.read_bytes())
    at = data.index(b"HEAP\0")
    free, pieces = (int.from_bytes(data[at + n : at + n + 8], "little") for n in (16, 24))
    data[pieces + free : pieces + free + 8] = free.to_bytes(8, "little")
    path.write_bytes(data)
    refused(path, "a heap of names holds a circle of free pieces")


TEXT = h5py.string_dtype()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (instead(TYPE, (), h5py.string_dtype(length=1 << 30)), "is a text of 1073741824 bytes"),
        (instead(EDGES, (1 << 16, 4), TEXT), "edges of shape"),
        (instead(EDGES, (1 << 17, 2), TEXT), "has 131072 edges"),
        (instead(EDGES, (3, 2), TEXT, chunks=(3, 2)), "holds fewer texts than it says"),
        (instead(EDGES, data=[["input", "fc"]] * 3, dtype=TEXT, compression="lzf"),
         "is text in a form that is not read"),
        (instead(WEIGHT, (3, 2), "f8", chunks=(1 << 14, 1 << 14), maxshape=(None, None)),
         "is stored in pieces of"),
        (instead(WEIGHT, (3, 2), "f8", chunks=(3, 2), scaleoffset=2), "is packed by filter 6"),
        (instead(WEIGHT, (1 << 14, 1 << 14), "i1", chunks=(64, 64)), "more than 67108864 numbers"),
    ],
)  # fmt: skip
def test_costly_data(change: Any, says: str, tmp_path: Path) -> None:
    refused(edited(tmp_path, change), says)


def test_packed_text_and_numbers_are_read(tmp_path: Path) -> None:
    pairs = [["input", "fc"], ["fc", "lif"], ["lif", "output"]]
    values = np.ones((3, 2))
    for options in ({}, {"chunks": (1, 2)}, {"compression": "gzip"}):
        path = edited(tmp_path, instead(EDGES, data=pairs, dtype=TEXT, **options))
        load_model(path, dt=1e-3)
        more = {**options, "shuffle": True, "fletcher32": True} if options else {}
        load_model(edited(tmp_path, instead(WEIGHT, data=values, **more)), dt=1e-3)


@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/layer/0")])
@pytest.mark.parametrize("place", ["layer", "layer/1", "layer/1/weight", "layer/1/neuron"])
def test_links_are_not_followed_in_other_formats(place: str, link: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    with h5py.File(path, "w") as file:
        for number in range(2):
            file[f"layer/{number}/type"] = "dense"
            file[f"layer/{number}/shape"] = [3]
            file[f"layer/{number}/weight"] = np.ones((3, 3))
            for name in ("iDecay", "vDecay", "vThMant"):
                file[f"layer/{number}/neuron/{name}"] = 100
            file[f"layer/{number}/neuron/type"] = "CUBA"
    load_model(path)
    with h5py.File(path, "r+") as file:
        del file[place]
        file[place] = link
    with pytest.raises(FrontendError, match="link, which is not followed"):
        load_model(path)


def test_words_of_a_file_are_printed_safely(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    with h5py.File(path, "w") as file:
        file["layer/0/type"] = "dense"
        file["layer/0/shape"] = [3]
        file["layer/0/weight"] = np.ones((3, 3))
        file["layer/0/neuron/type"] = "\u202e"
    with pytest.raises(FrontendError, match=r"type \\u202e") as error:
        load_model(path)
    assert str(error.value).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of its memory from /proc")
def test_the_fuzzer_finds_nothing_in_a_few_files(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    command = (
        sys.executable, str(root / "scripts" / "fuzz.py"), "--minutes", "10", "--files", "40",
        "--corpus", str(tmp_path / "corpus"), "--seed", "77",
    )  # fmt: skip
    done = subprocess.run(command, check=False, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["nir", "net", "qspinn", "onnx"]
    assert all(" 40 files" in line and " 0 findings" in line for line in lines), lines
