"""The histories of objects: how they stand in the file, and as documents what ``…_alerts_aux`` holds."""

from __future__ import annotations

import json
import re
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius._core.jsontext import from_lines, to_lines
from nuncius.archives.documents import mjd_of_entry, survey_of_catalog
from nuncius.archives.embedded.database import insert_rows, quoted
from nuncius.archives.embedded.verdicts import is_text
from nuncius.archives.language import matches
from nuncius.archives.language.values import has_operators, is_id

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document


PointRow: TypeAlias = "tuple[str, str, str, float | None, float | None, str, str | None]"
POINT_COLUMNS = ("object_id", "list", "point", "mjd", "last_mjd", "document", "extras")  # of a `PointRow`

ENTRIES = "list, point, document, extras"
"""The columns that `read_entries` needs, as a statement names them."""


def row_of(object_id: str, list_name: str, keys: Iterable[str], entries: Sequence[Document]) -> PointRow:
    """Make the row of some entries of one list, with their keys as `key_of_entry` makes them."""
    times = [mjd_of_entry(entry) for entry in entries]
    known = [mjd for mjd in times if mjd is not None]
    first, last = (min(known), max(known) if len(known) == len(times) else inf) if known else (None, None)
    texts, extras = to_lines(entries)
    return object_id, list_name, "\n".join(keys), first, last, texts, extras


def read_entries(rows: Iterable[tuple[str, str, str, str | None]]) -> dict[str, list[Document]]:
    """Put the rows of one object together: by list its entries in the order of their times, each once."""
    found: dict[str, dict[str, Document]] = {}
    for list_name, keys, texts, extras in rows:
        entries = found.setdefault(list_name, {})
        for key, entry in _keyed(keys, from_lines(texts, extras)):
            entries.setdefault(key, entry)
    return {list_name: _by_time(entries) for list_name, entries in found.items()}


def _keyed(keys: str, entries: Sequence[Document]) -> Iterable[tuple[str, Document]]:
    """Put the entries of a row and their keys together."""
    # Layouts 1 and 2 kept a key as it was, even with an end of a line in it.
    return [(keys, entries[0])] if len(entries) == 1 else zip(keys.split("\n"), entries, strict=True)


def _by_time(entries: Mapping[str, Document]) -> list[Document]:
    timed = [(mjd_of_entry(entry), key) for key, entry in entries.items()]
    timed.sort(key=lambda pair: (-inf if pair[0] is None else pair[0], pair[1]))
    return [entries[key] for _, key in timed]


def prune_histories(connection: sqlite3.Connection, catalog: str, limit: float) -> None:
    """Delete entries from before a time (MJD), within a transaction."""
    points = quoted(f"{catalog}:points")
    connection.execute(f"DELETE FROM {points} WHERE coalesce(last_mjd, mjd) < ?", (limit,))
    # What is left of the rows that hold both older and newer entries; it begins at the limit, so it is not met again.
    statement = f"SELECT {', '.join(POINT_COLUMNS)} FROM {points} WHERE mjd < ?"
    for object_id, list_name, point, first, _, texts, extras in connection.execute(statement, (limit,)):
        connection.execute(
            f"DELETE FROM {points} WHERE object_id = ? AND list = ? AND point = ? AND mjd = ?",
            (object_id, list_name, point, first),
        )
        left = []
        for key, entry in _keyed(point, from_lines(texts, extras)):
            mjd = mjd_of_entry(entry)
            if mjd is None or mjd >= limit:
                left.append((key, entry))
        if left:
            row = row_of(object_id, list_name, *zip(*left, strict=True))
            insert_rows(connection, f"{catalog}:points", POINT_COLUMNS, [row], known="IGNORE")


def is_histories(catalog: str) -> bool:
    """Tell whether a catalog is that of the histories."""
    return catalog.endswith("_aux")


def histories(database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[Document]:
    """Give the documents of ``…_alerts_aux``: for each object its histories, put together."""
    statement, names = statement_of(catalog, condition)
    lists = survey_of_catalog(catalog).history_lists
    with database.errors():
        rows = database.connection.execute(statement, () if names is None else (json.dumps(names),))
        for object_id, of_object in groupby(rows, itemgetter(0)):
            found = read_entries(row[1:] for row in of_object)
            document = {"_id": object_id, **{name: [] for name in lists}, **found}
            if matches(document, condition):
                yield document


def count_histories(database: Database, catalog: str, condition: Mapping[str, Any]) -> int:
    """Count the documents of ``…_alerts_aux`` that meet a filter."""
    if condition:
        return sum(1 for _ in histories(database, catalog, condition))
    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    with database.errors():
        found = database.connection.execute(f"SELECT count(*) FROM (SELECT DISTINCT object_id FROM {points})")
        return int(found.fetchone()[0])


def statement_of(catalog: str, condition: Mapping[str, Any]) -> tuple[str, list[str] | None]:
    """Return the SQL of the entries of histories, and the names of the objects that a filter asks for, if it does."""
    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    names = _object_names(condition)
    where = "" if names is None else " WHERE object_id IN (SELECT value FROM json_each(?))"
    return (
        f"SELECT object_id, {ENTRIES} FROM {points}{where} ORDER BY object_id, list",
        names,
    )


def _object_names(condition: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the objects that a filter asks for, or None if it may ask for all."""
    if "_id" in condition:
        wanted = condition["_id"]
        if has_operators(wanted):
            values = list(wanted["$in"]) if "$in" in wanted else [wanted["$eq"]] if "$eq" in wanted else None
        else:
            values = [wanted]
        if values is not None and not any(isinstance(value, re.Pattern) for value in values):
            # Nothing but a text, or the id that is one, can be equal to a name.
            names = [str(value) for value in values if isinstance(value, str) or is_id(value)]
            return [name for name in names if is_text(name)]
    named = (_object_names(part) for part in condition.get("$and", ()))
    return next((names for names in named if names is not None), None)
