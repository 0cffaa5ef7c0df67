"""The columns of an exported catalog: the fields of its documents that DuckDB sees without reading these.

A column has the values of one field, all of one type. Where it is NULL the document has no such field, or null, or (seldom)
something that the column can't hold: a document, an array around it, a NaN. Which of these, is looked up once.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from nuncius.archives.duckdb.files import quoted

if TYPE_CHECKING:
    from nuncius.archives.duckdb.files import Export

Kind: TypeAlias = Literal["integer", "real", "text", "boolean"]
Nulls: TypeAlias = Literal["none", "plain", "odd"]

CELL = "_healpix_29"
DOCUMENT, EXTRAS = "_document", "_extras"

_KINDS: dict[str, Kind] = {
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "DOUBLE": "real",
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
}
_NAME = re.compile(r"[A-Za-z0-9_@:+/ -]{1,200}")  # what needs no escape in a path


@dataclass(frozen=True, slots=True)
class Column:
    """A field that DuckDB can be asked for.

    Parameters
    ----------
    sql : str
        The expression of its values.
    kind : str
        Their type.
    nulls : str
        What NULL stands for: 'none' if there are none; 'plain' if the field is then missing or null; 'odd' if it may
        also be something that only the matcher sees.
    exists : str
        The expression that tells, for plain ones, whether the field is there.
    """

    sql: str
    kind: Kind
    nulls: Nulls
    exists: str = "true"


class Fields(Protocol):
    """What a filter or an order finds its columns in."""

    @property
    def has_places(self) -> bool:
        """Whether there are positions."""
        ...

    @property
    def ties(self) -> list[str]:
        """What puts documents in an order of their own where another one leaves it open."""
        ...

    def get(self, path: str) -> Column | None:
        """Return the column of a field, or None where DuckDB can't be asked for it."""
        ...


class Columns:
    """The columns of a catalog.

    Parameters
    ----------
    export : Export
        The archive.
    catalog : str
        Its name.

    Raises
    ------
    StorageError
        If the files are none that `archive.export` writes.
    """

    def __init__(self, export: Export, catalog: str) -> None:
        self._export = export
        self.catalog = catalog
        self._types, self._fields = export.columns(catalog)
        self._known: dict[str, Column | None] = {}

    @property
    def view(self) -> str:
        """The name of the catalog in SQL; after a fork it is another one."""
        return self._export.view(self.catalog)

    @property
    def has_places(self) -> bool:
        """Whether the documents have positions."""
        return {CELL, "ra", "dec"} <= set(self._types)

    @property
    def ties(self) -> list[str]:
        """What puts documents in an order of their own where another one leaves it open."""
        return [quoted(name) for name in (CELL, "_id") if name in self._types]

    def get(self, path: str) -> Column | None:
        """Return the column of a field, or None where DuckDB can't be asked for it."""
        if path not in self._known:
            self._known[path] = self._column(path)
        return self._known[path]

    def _column(self, path: str) -> Column | None:
        names = path.split(".")
        kind = _KINDS.get(self._types.get(path, "")) if path in self._fields else None
        if kind is None or not all(map(_NAME.fullmatch, names)):
            return None
        sql, place = quoted(path), "$" + "".join(f'."{name}"' for name in names)
        exists = f"json_exists({DOCUMENT}, '{place}')"
        # Not asked of the column itself: for DuckDB a NaN is not there, as the statistics of a file leave it out.
        is_special = f"contains({EXTRAS}, '{json.dumps(names)}')"
        if self._has(is_special):
            return Column(f"CASE WHEN {is_special} THEN NULL ELSE {sql} END", kind, "odd", exists)
        return Column(sql, kind, self._nulls(sql, names), exists)

    def _nulls(self, sql: str, names: list[str]) -> Nulls:
        if not self._has(f"{sql} IS NULL"):
            return "none"
        *outer, place = [
            "$" + "".join(f'."{name}"' for name in names[: count + 1]) for count in range(len(names))
        ]
        hidden = [f"json_type({DOCUMENT}, '{place}') <> 'NULL'"]
        hidden += [f"json_type({DOCUMENT}, '{around}') = 'ARRAY'" for around in outer]
        return "odd" if self._has(f"{sql} IS NULL AND ({' OR '.join(hidden)})") else "plain"

    def _has(self, condition: str) -> bool:
        """Tell whether there is a document for which an SQL condition is true."""
        return any(self._export.rows(f"SELECT 1 FROM {self.view} WHERE {condition} LIMIT 1"))
