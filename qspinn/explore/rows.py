"""Frozen values as JSON and as rows of CSV, and back, by the types of their fields."""

from __future__ import annotations

import csv
import io
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

from qspinn.stats import Estimate

T = TypeVar("T")

_ESTIMATE = {"value": "", "low": "_low", "high": "_high", "count": "_samples"}
"""How the columns of an estimate end."""


def plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def build(kind: Any, value: Any, given: Mapping[str, Any] | None = None) -> Any:
    """The inverse of `plain` for a value of type ``kind``; ``given``: fields known already.

    Raises:
        TypeError: It holds something of another type.
        KeyError: It lacks a field.
    """
    kind, optional = _inner(kind)
    if value is None and optional:
        return None
    if _has_fields(kind):
        known = given or {}
        wanted = {name: hint for name, hint in _hints(kind).items() if name not in known}
        return kind(**known, **{name: build(t, value[name]) for name, t in wanted.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(build(inner[0], item) for item in _expect(value, list))
    if origin is not None:
        return {key: build(inner[1], item) for key, item in _expect(value, dict).items()}
    if kind is float and type(value) is int:
        return float(value)
    return _expect(value, kind)


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _has_fields(kind: Any) -> bool:
    return is_dataclass(kind)


def _inner(kind: Any) -> tuple[Any, bool]:
    """The type without its None, and whether it had one."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(t for t in typing.get_args(kind) if t is not types.NoneType), True
    return kind, False


def write(rows: Sequence[Any], kind: Any, extra: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Rows of one type as CSV; ``extra``: columns of each row that `read` ignores.

    A mapping becomes a column for each key, ``words:fc1.weight``; an estimate becomes four.
    """
    cells = [dict(_cells(row, kind)) for row in rows]
    for line, more in zip(cells, extra, strict=False):
        line |= {name: _word(value) for name, value in more.items()}
    columns = _columns(kind, rows)
    columns += [name for name in (extra[0] if extra else ()) if name not in columns]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue().encode()


def read(content: bytes, kind: type[T]) -> tuple[T, ...]:
    """The inverse of `write`.

    Raises:
        ValueError: A cell cannot be read.
        KeyError: A column is missing.
    """
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
    return tuple(_row(kind, row) for row in rows)


def _parts(name: str, kind: Any) -> dict[str, str]:
    """The columns of a field that is itself a value with fields, by those."""
    return {part: name + _ESTIMATE[part] if kind is Estimate else part for part in _hints(kind)}


def _columns(kind: Any, rows: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for name, hint in _hints(kind).items():
        inner, _ = _inner(hint)
        if _has_fields(inner):
            found += _parts(name, inner).values()
        elif typing.get_origin(inner) is not None:
            keys = dict.fromkeys(key for row in rows for key in getattr(row, name))
            found += [f"{name}:{key}" for key in keys]
        else:
            found.append(name)
    return found


def _cells(row: Any, kind: Any) -> Iterator[tuple[str, str]]:
    for name in _hints(kind):
        value = getattr(row, name)
        if is_dataclass(value):
            parts = _parts(name, type(value))
            yield from ((column, _word(getattr(value, part))) for part, column in parts.items())
        elif isinstance(value, Mapping):
            yield from ((f"{name}:{key}", _word(item)) for key, item in value.items())
        elif value is not None:
            yield name, _word(value)


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


def _row(kind: Any, row: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {}
    for name, hint in _hints(kind).items():
        inner, optional = _inner(hint)
        if _has_fields(inner):
            values[name] = _nested(inner, _parts(name, inner), row, optional)
        elif typing.get_origin(inner) is not None:
            start, of = f"{name}:", typing.get_args(inner)[1]
            taken = {key: word for key, word in row.items() if key.startswith(start) and word}
            values[name] = {key[len(start) :]: _value(of, word) for key, word in taken.items()}
        else:
            values[name] = None if optional and not row[name] else _value(inner, row[name])
    return kind(**values)


def _nested(kind: Any, parts: Mapping[str, str], row: Mapping[str, str], optional: bool) -> Any:
    if optional and not any(row[column] for column in parts.values()):
        return None
    hints = _hints(kind)
    return kind(**{part: _value(hints[part], row[column]) for part, column in parts.items()})


def _value(kind: type, word: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}[word]
    return kind(word)
