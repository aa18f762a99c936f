"""The cache of outcomes on disk, addressed by what was run: one file, each answer kept at once."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np

from qspinn.errors import QspinnError
from qspinn.ir import Array

FORMAT = 2
"""Raised when a row's meaning changes, or what a program computes on its data."""
_WAIT = 60.0
"""Seconds to wait for another process that is writing."""
_MARK = 0x71737031
"""What makes the file ours, in its header."""
_SCHEMA = """
CREATE TABLE format (version INTEGER NOT NULL);
CREATE TABLE outcome (
    program TEXT NOT NULL,
    data TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    predictions BLOB NOT NULL,
    width INTEGER NOT NULL,
    totals TEXT NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (program, data, first, last)
);
"""
_PUT = "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_GET = (
    "SELECT first, last, predictions, width, totals, crc FROM outcome "
    "WHERE program = ? AND data = ? AND first < ? AND last > ? ORDER BY first, last DESC"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A program and the data it is run on, by digest; the data's covers encoding and order."""

    program: str
    data: str


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a program decided about a range of samples.

    Attributes:
        predictions: The winning output of each sample.
        spikes: Spikes sent by each neuron node over the range; None: not counted.
        operations: Synaptic operations of each connection over the range; None: not counted.
    """

    predictions: Array
    spikes: Mapping[str, int] | None = None
    operations: Mapping[str, int] | None = None


class Store:
    """An open cache; several processes may have it open, and one writes at a time.

    What `put` has returned from is kept, whatever then happens to this process. Used by several
    threads in turn.

    Raises:
        QspinnError: The file is damaged, of another format, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(
                path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
        try:
            with self._guarded():
                # A log beside the file, or where that cannot be a journal: neither loses a commit
                # to a killed process.
                self._base.execute("PRAGMA journal_mode = WAL")
                self._base.execute("PRAGMA synchronous = NORMAL")
                self._prepare()
        except BaseException:
            self._base.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def put(self, key: Key, first: int, outcome: Outcome) -> None:
        """Keep what was decided about the samples from ``first`` on; on return it is on disk."""
        self.put_all([(key, first, outcome)])

    def put_all(self, answers: Iterable[tuple[Key, int, Outcome]]) -> None:
        """Keep several outcomes, all of them or, where this is cut off, none.

        Raises:
            QspinnError: One contradicts what is there.
        """
        with self._lock, self._guarded(), self._writing():
            for key, first, outcome in answers:
                self._put(key, first, outcome)

    def get(self, key: Key, first: int, last: int) -> Outcome | None:
        """What is known of the samples ``first`` to ``last`` - 1; None unless all of them.

        Totals are given where ranges that were put tile this one.
        """
        if first >= last:
            raise QspinnError(f"no samples from {first} to {last}", at=str(self.path))
        pieces = self._pieces(key, first, last)
        if (chain := _tiling(pieces, first, last)) is not None:
            return _joined(chain)
        predictions = np.empty(last - first, np.int64)
        at = first
        for piece in pieces:
            if piece.first <= at < piece.last:
                end = min(piece.last, last)
                taken = piece.outcome.predictions[at - piece.first : end - piece.first]
                predictions[at - first : end - first] = taken
                at = end
        return Outcome(predictions) if at == last else None

    def known(self, key: Key) -> int:
        """How many samples are known from the first one on, without a gap."""
        with self._lock, self._guarded():
            rows = self._base.execute(
                "SELECT first, last FROM outcome WHERE program = ? AND data = ? ORDER BY first",
                (key.program, key.data),
            ).fetchall()
        count = 0
        for first, last in rows:
            if first > count:
                break
            count = max(count, last)
        return count

    def _prepare(self) -> None:
        """Make the tables in a new file; refuse one that is not ours or of another format."""
        if not self._tables():
            with self._writing():
                if not self._tables():  # another process may have been faster
                    self._create()
        (mark,) = self._base.execute("PRAGMA application_id").fetchone()
        if mark != _MARK or not {"format", "outcome"} <= self._tables():
            raise self._error("is a database of something else", "name another file")
        version = self._base.execute("SELECT version FROM format").fetchall()
        if version != [(FORMAT,)]:
            found = ", ".join(str(v) for (v,) in version) or "none"
            raise self._error(f"is of format {found}, this qspinn has {FORMAT}")

    def _tables(self) -> set[str]:
        return {name for (name,) in self._base.execute("SELECT name FROM sqlite_master")}

    def _create(self) -> None:
        for statement in _SCHEMA.strip().split(";")[:-1]:
            self._base.execute(statement)
        self._base.execute("INSERT INTO format VALUES (?)", (FORMAT,))
        self._base.execute(f"PRAGMA application_id = {_MARK}")

    def _put(self, key: Key, first: int, outcome: Outcome) -> None:
        count = len(outcome.predictions)
        if not count or first < 0:
            raise QspinnError(f"no samples: {count} from {first}", at=str(self.path))
        blob, width = _packed(outcome.predictions, str(self.path))
        same = [p for p in self._rows(key, first, first + count)
                if (p.first, p.last) == (first, first + count)]  # fmt: skip
        if same:
            outcome = self._merged(key, same[0], outcome)
        totals = json.dumps([outcome.spikes, outcome.operations], sort_keys=True)
        row = (key.program, key.data, first, first + count, blob, width, totals)
        self._base.execute(_PUT, (*row, _crc(blob, totals)))

    def _merged(self, key: Key, old: _Piece, new: Outcome) -> Outcome:
        """Both answers to one question; they agree where both say something."""
        was = old.outcome
        pairs = ((was.spikes, new.spikes), (was.operations, new.operations))
        agree = all(a is None or b is None or a == b for a, b in pairs)
        if not agree or not np.array_equal(was.predictions, new.predictions):
            raise self._error(
                f"holds another answer of {key.program[:12]} on samples {old.first} to {old.last}"
            )
        spikes, operations = (a if b is None else b for a, b in pairs)
        return Outcome(new.predictions, spikes, operations)

    def _pieces(self, key: Key, first: int, last: int) -> list[_Piece]:
        with self._lock, self._guarded():
            return list(self._rows(key, first, last))

    def _rows(self, key: Key, first: int, last: int) -> Iterator[_Piece]:
        found = self._base.execute(_GET, (key.program, key.data, last, first)).fetchall()
        for start, end, blob, width, totals, crc in found:
            if crc != _crc(blob, totals) or len(blob) != width * (end - start):
                raise self._error("is damaged: a row is not as it was written")
            spikes, operations = json.loads(totals)
            predictions = np.frombuffer(blob, f"<u{width}").astype(np.int64)
            yield _Piece(start, end, Outcome(predictions, spikes, operations))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._error(f"cannot be used: {error}", "QSPINN_CACHE names another folder"
                              ) from error  # fmt: skip
        except sqlite3.DatabaseError as error:
            raise self._error(f"is damaged: {error}") from error
        except OSError as error:
            raise self._error(f"cannot be made: {error.strerror}",
                              "QSPINN_CACHE names another folder") from error  # fmt: skip

    def _error(self, what: str, hint: str = "") -> QspinnError:
        again = "delete it: it holds only what can be computed again"
        return QspinnError(f"the cache {what}", at=str(self.path), hint=hint or again)


@dataclass(frozen=True, eq=False)
class _Piece:
    first: int
    last: int
    outcome: Outcome


def _packed(predictions: Array, at: str) -> tuple[bytes, int]:
    """Predictions as bytes, and how many each takes."""
    lowest, highest = int(predictions.min()), int(predictions.max())
    if lowest < 0 or highest > 0xFFFF:
        raise QspinnError(f"predictions run from {lowest} to {highest}, outside 0..65535", at=at)
    width = 1 if highest <= 0xFF else 2
    return predictions.astype(f"<u{width}").tobytes(), width


def _crc(blob: bytes, totals: str) -> int:
    return zlib.crc32(totals.encode(), zlib.crc32(blob))


def _tiling(pieces: Iterable[_Piece], first: int, last: int) -> list[_Piece] | None:
    """Pieces that follow each other from ``first`` to ``last``, the longest where there is choice.

    Pieces come in the order of their first samples, so whatever leads to one was seen before it.
    """
    ways: dict[int, list[_Piece]] = {first: []}
    for piece in pieces:
        if piece.first in ways and piece.last not in ways and piece.last <= last:
            ways[piece.last] = [*ways[piece.first], piece]
    return ways.get(last)


def _joined(chain: list[_Piece]) -> Outcome:
    outcomes = [piece.outcome for piece in chain]
    return Outcome(
        np.concatenate([o.predictions for o in outcomes]),
        _summed([o.spikes for o in outcomes]),
        _summed([o.operations for o in outcomes]),
    )


def _summed(parts: list[Mapping[str, int] | None]) -> dict[str, int] | None:
    total: dict[str, int] = {}
    for part in parts:
        if part is None:
            return None
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
