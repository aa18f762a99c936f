"""The cache of outcomes: what was put is kept, whatever happens to whoever put it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qspinn.errors import QspinnError
from qspinn.explore.store import FORMAT, Key, Outcome, Store

KEY = Key("a" * 64, "b" * 64)
OTHER = Key("c" * 64, "b" * 64)
TRUTH = np.random.default_rng(5).integers(0, 10, 64)


def part(first: int, last: int, classes: int = 1) -> Outcome:
    """What is true of some samples; totals are those of the range."""
    seen = TRUTH[first:last]
    return Outcome(seen * classes, {"lif1": int(seen.sum())}, {"fc1": int((seen**2).sum())})


def test_what_is_put_comes_back_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "outcomes.sqlite"
    with Store(path) as store:
        store.put(KEY, 0, part(0, 20))
        store.put(OTHER, 0, part(0, 10, classes=7000))  # needs two bytes each
    with Store(path) as store:
        found, wide = store.get(KEY, 0, 20), store.get(OTHER, 0, 10)
        assert found is not None
        assert wide is not None
        assert store.get(Key(KEY.program, OTHER.program), 0, 20) is None
    assert np.array_equal(found.predictions, TRUTH[:20])
    assert (found.spikes, found.operations) == (part(0, 20).spikes, part(0, 20).operations)
    assert np.array_equal(wide.predictions, TRUTH[:10] * 7000)


def test_ranges_are_joined_and_cut(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        for first, last in ((0, 10), (10, 30), (20, 40), (45, 50)):
            store.put(KEY, first, part(first, last))
        assert store.known(KEY) == 40
        whole = store.get(KEY, 0, 30)
        assert whole is not None
        assert whole.spikes == part(0, 30).spikes
        assert whole.operations == part(0, 30).operations
        cut = store.get(KEY, 5, 38)
        assert cut is not None
        assert np.array_equal(cut.predictions, TRUTH[5:38])
        assert cut.spikes is None, "no ranges tile this one"
        assert store.get(KEY, 0, 41) is None
        assert store.get(KEY, 38, 46) is None
        store.put(KEY, 40, part(40, 45))
        assert store.known(KEY) == 50


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 23)), max_size=8),
       st.integers(0, 40), st.integers(1, 23))  # fmt: skip
def test_whatever_was_put_an_answer_is_right(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[int, int]], first: int, size: int
) -> None:
    ranges = {(at, at + count) for at, count in puts}
    last = first + size
    with Store(tmp_path_factory.mktemp("store") / "s") as store:
        store.put_all((KEY, a, part(a, b)) for a, b in sorted(ranges))
        found, known = store.get(KEY, first, last), store.known(KEY)
    covered = {i for a, b in ranges for i in range(a, b)}
    assert known == next(i for i in range(65) if i not in covered)
    assert (found is not None) == (set(range(first, last)) <= covered)
    if found is None:
        return
    assert np.array_equal(found.predictions, TRUTH[first:last])
    reached = {first}
    for a, b in sorted(ranges):
        reached |= {b} if a in reached and b <= last else set()
    assert (found.spikes is not None) == (last in reached)
    if found.spikes is not None:
        assert (found.spikes, found.operations) == (
            part(first, last).spikes,
            part(first, last).operations,
        )


def test_a_second_answer_completes_the_first_or_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        store.put(KEY, 0, Outcome(TRUTH[:20]))
        store.put(KEY, 0, part(0, 20))
        store.put(KEY, 0, Outcome(TRUTH[:20]))
        found = store.get(KEY, 0, 20)
        assert found is not None
        assert found.spikes == part(0, 20).spikes
        wrong = TRUTH[:20].copy()
        wrong[7] += 1
        with pytest.raises(QspinnError, match="another answer of aaaaaaaaaaaa on samples 0 to 20"):
            store.put_all([(OTHER, 0, part(0, 5)), (KEY, 0, Outcome(wrong))])
        with pytest.raises(QspinnError, match="another answer"):
            store.put(KEY, 0, Outcome(TRUTH[:20], {"lif1": 1}))
        kept = store.get(KEY, 0, 20)
        assert kept is not None
        assert np.array_equal(kept.predictions, TRUTH[:20])
        assert store.get(OTHER, 0, 5) is None, "all of a batch or none"


@pytest.mark.parametrize("bad", [[-1, 0], [65536]])
def test_predictions_that_cannot_be_kept(tmp_path: Path, bad: list[int]) -> None:
    with Store(tmp_path / "s") as store, pytest.raises(QspinnError, match=r"outside 0\.\.65535"):
        store.put(KEY, 0, Outcome(np.array(bad)))


# --- other processes ---

WRITER = """
import sys
import numpy as np
from pathlib import Path
from qspinn.explore.store import Key, Outcome, Store

store = Store(Path(sys.argv[1]))
answers = np.arange(4000) % 10
mode, name = sys.argv[2:4]
def batch():
    for i in range(400):
        yield Key(f"{name}{i}", "data"), 0, Outcome(answers, {"lif": i}, {"fc": 3 * i})
        if i == 300:
            print("half", flush=True)
            sys.stdin.read()
if mode == "batch":
    store.put_all(batch())
else:
    for i in range(int(mode)):
        store.put(Key(f"{name}{i}", "data"), 0, Outcome(answers, {"lif": i}, {"fc": 3 * i}))
        print(i, flush=True)
"""


def writer(path: Path, mode: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), mode, name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kept(path: Path, name: str, count: int) -> list[bool]:
    with Store(path) as store:
        found = [store.get(Key(f"{name}{i}", "data"), 0, 4000) for i in range(count)]
    right = np.arange(4000) % 10
    assert all(
        f is None or (np.array_equal(f.predictions, right) and f.spikes == {"lif": i})
        for i, f in enumerate(found)
    )
    return [f is not None for f in found]


def test_a_killed_writer_loses_at_most_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with writer(path, "100000", "p") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(120)]
        process.kill()
        lines += process.stdout.readlines()
        assert process.wait() == -signal.SIGKILL
    done = int([line for line in lines if line.endswith("\n")][-1]) + 1
    assert done >= 120
    there = kept(path, "p", done + 3)
    assert all(there[:done])
    assert sum(there[done:]) <= 1, "one more may have been kept and not told"
    with sqlite3.connect(path) as base:
        assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    base.close()


def test_a_writer_killed_in_a_batch_leaves_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Store(path) as store:
        store.put(Key("p0", "old"), 0, part(0, 9))
    with writer(path, "batch", "p") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        with Store(path) as store:  # nobody waits for the writer to read what is there
            assert store.known(Key("p0", "old")) == 9
            assert store.get(Key("p0", "data"), 0, 4000) is None
        process.kill()
    assert not any(kept(path, "p", 400))
    with Store(path) as store:
        assert store.known(Key("p0", "old")) == 9


def test_several_may_start_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    crowd = [writer(path, "25", name) for name in "abcd"]
    for process in crowd:
        assert process.communicate()[0].split() == [str(i) for i in range(25)]
        assert process.returncode == 0
    assert all(all(kept(path, name, 25)) for name in "abcd")


# --- files that are not what they should be ---


def filled(path: Path) -> Path:
    with Store(path) as store:
        store.put_all((Key(f"p{i}", "d"), 0, Outcome(np.full(3000, i))) for i in range(40))
    return path


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"years of work\n" * 100)
    with pytest.raises(QspinnError, match="not a database") as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert "delete it" in caught.value.hint
    with sqlite3.connect(tmp_path / "t") as base:
        base.execute("CREATE TABLE mine (x)")
    base.close()
    with pytest.raises(QspinnError, match="of something else"):
        Store(tmp_path / "t")


def test_a_cut_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def read() -> None:
        with Store(path) as store:
            for i in range(40):
                store.get(Key(f"p{i}", "d"), 0, 3000)

    with pytest.raises(QspinnError, match="damaged") as caught:
        read()
    assert "delete it" in caught.value.hint


def test_a_changed_byte(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    content = bytearray(path.read_bytes())
    content[content.index(bytes([17]) * 2000) + 1000] = 18
    path.write_bytes(content)
    with Store(path) as store:
        assert store.get(Key("p16", "d"), 0, 3000) is not None
        with pytest.raises(QspinnError, match="damaged: a row is not as it was written"):
            store.get(Key("p17", "d"), 0, 3000)


def test_another_format(tmp_path: Path) -> None:
    path = filled(tmp_path / "s")
    with sqlite3.connect(path) as base:
        base.execute("UPDATE format SET version = ?", (FORMAT + 1,))
    base.close()
    with pytest.raises(QspinnError, match=f"of format {FORMAT + 1}, this qspinn has {FORMAT}"):
        Store(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QspinnError, match="cannot be made") as caught:
        Store(tmp_path / "file" / "s")
    assert "QSPINN_CACHE" in caught.value.hint
    (tmp_path / "folder").mkdir()
    with pytest.raises(QspinnError, match="cannot be used"):
        Store(tmp_path / "folder")
