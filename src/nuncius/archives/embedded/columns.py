"""The columns that documents make when they are written as a table: one for each field whose values are of one type."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nuncius.archives.language import Document

AS_JSON = ":json"  # behind the name of a column whose values are JSON, for no single type holds them

_SMALL, _LARGE, _HUGE, _FLOAT, _TRUTH, _TEXT, _BYTES, _UTC, _LOCAL, _LIST = (1 << bit for bit in range(10))
_EXACT = 2**53  # whole numbers up to here are floats without loss

_TYPES = {
    _SMALL: "int64",
    _LARGE: "int64",
    _SMALL | _LARGE: "int64",
    _FLOAT: "float64",
    _FLOAT | _SMALL: "float64",
    _TRUTH: "bool_",
    _TEXT: "string",
    _BYTES: "binary",
    _UTC: "utc",
    _LOCAL: "local",
}


@dataclass(slots=True)
class _Field:
    """What has been seen of a field: which kinds of values, and the fields within it."""

    kinds: int = 0
    inner: dict[str, _Field] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Parameters
    ----------
    name : str
        Its name: the path of the field, with `AS_JSON` behind it if no single type holds its values.
    path : tuple of str
        Where its values stand in a document.
    type : str
        ``"int64"``, ``"float64"``, ``"bool_"``, ``"string"``, ``"binary"``, ``"utc"`` or ``"local"`` (times), ``"json"``.
    """

    name: str
    path: tuple[str, ...]
    type: str


class Columns:
    """Finds the columns of documents: `see` each of them, then take `found`.

    Parameters
    ----------
    leave_out : collection of tuple
        Paths that make no columns.
    """

    def __init__(self, leave_out: Sequence[tuple[str, ...]] = ()) -> None:
        self._fields: dict[str, _Field] = {}
        self._leave_out = frozenset(leave_out)

    def see(self, document: Document) -> None:
        """Note the fields of a document."""
        _see(document, self._fields)

    def found(self) -> list[Column]:
        """Return the columns, in the order in which their fields were first seen."""
        return list(self._columns(self._fields, ()))

    def _columns(self, fields: dict[str, _Field], above: tuple[str, ...]) -> Iterator[Column]:
        for name, seen in fields.items():
            path = (*above, name)
            # A name with a dot would be taken for a path.
            if "." in name or path in self._leave_out:
                continue
            if seen.kinds:
                kind = _TYPES.get(seen.kinds, "json")
                yield Column(".".join(path) + (AS_JSON if kind == "json" else ""), path, kind)
            yield from self._columns(seen.inner, path)


def _see(document: Document, fields: dict[str, _Field]) -> None:
    for name, value in document.items():
        if value is None:
            continue
        seen = fields.get(name)
        if seen is None:
            seen = fields[name] = _Field()
        kind = value.__class__
        if kind is dict:
            _see(value, seen.inner)
        elif kind is float:
            seen.kinds |= _FLOAT
        elif kind is int:
            seen.kinds |= (
                _SMALL if -_EXACT <= value <= _EXACT else _LARGE if -(2**63) <= value < 2**63 else _HUGE
            )
        else:
            seen.kinds |= _kind(value)


def _kind(value: Any) -> int:
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, bool):
        return _TRUTH
    if isinstance(value, bytes):
        return _BYTES
    if isinstance(value, datetime):
        return _LOCAL if value.tzinfo is None else _UTC
    return _LIST


def values_at(documents: Sequence[Document], column: Column) -> list[Any]:
    """Return the values of a column, None where a document has none."""
    values: list[Any] = [*documents]
    for name in column.path:
        values = [value.get(name) if value.__class__ is dict else None for value in values]
    if column.type == "json":
        # What JSON can't hold is written as in the texts of documents.
        return [None if value is None else json_text(value) for value in values]
    # Documents may stand where others have values.
    return [None if value.__class__ is dict else value for value in values]


def json_text(value: Any) -> str:
    """Write any value of a document as JSON."""
    text, _ = to_text({"": value})
    return text[len('{"":') : -1]
