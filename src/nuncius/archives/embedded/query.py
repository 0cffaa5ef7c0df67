"""How the archive is asked: SQL decides on the rows that it can decide on, the matcher on the others.

Names of catalogs may be those of alerts, of reference catalogs, and of the histories of objects (``…_aux``).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import OBJECT, ODD, create_index, drop_index, indexes
from nuncius.archives.embedded.rows import (
    COLUMNS,
    asked_images,
    read_document,
    read_images,
    read_rows,
    wanted_images,
)
from nuncius.archives.embedded.select import Selection
from nuncius.archives.language import Projection, distinct_values, matches, sort_documents

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document

__all__ = [
    "auxiliary",
    "count",
    "create_index",
    "distinct",
    "drop_index",
    "estimated_count",
    "find",
    "indexes",
    "read_document",
]

_AT_ONCE = 400  # documents that are read together
_T_COLUMNS = ", ".join(f"t.{name}" for name in ("id", *COLUMNS))


def find(
    database: Database,
    catalog: str,
    condition: Mapping[str, Any],
    projection: Projection,
    order: Sequence[tuple[str, int]] = (),
    skip: int = 0,
    limit: int | None = None,
) -> Iterator[Document]:
    """Give the documents of a catalog that meet a checked filter.

    Without an order they come as they came into the archive.
    """
    if is_auxiliary(catalog):
        found: Iterable[Document] = auxiliary(database, catalog, condition)
        found = sort_documents(list(found), list(order)) if order else found
        yield from map(projection.apply, islice(found, skip, _end(skip, limit)))
        return
    images = wanted_images(catalog, projection)
    for row in select(database, catalog, condition, order, skip, limit):
        yield projection.apply(row.read(database, catalog, images))


def count(
    database: Database, catalog: str, condition: Mapping[str, Any], skip: int = 0, limit: int | None = None
) -> int:
    """Count the documents of a catalog that meet a checked filter."""
    if is_auxiliary(catalog):
        found = sum(1 for _ in auxiliary(database, catalog, condition))
    elif not condition:
        found = _allread_numbered(database, catalog)
    else:
        found = _count(database, catalog, condition)
    left = max(0, found - skip)
    return left if limit is None else min(left, limit)


def estimated_count(database: Database, catalog: str) -> int:
    """Tell about how many documents a catalog has, at once.

    It is the span of the numbers of the rows, which is exact unless something was deleted in the middle; the documents
    of histories are counted.
    """
    if is_auxiliary(catalog):
        return count(database, catalog, {})
    with database.errors():
        first, last = database.connection.execute(
            f"SELECT (SELECT min(id) FROM {quoted(catalog)}), (SELECT max(id) FROM {quoted(catalog)})"
        ).fetchone()
    return 0 if first is None else int(last - first + 1)


def distinct(database: Database, catalog: str, field: str, condition: Mapping[str, Any]) -> list[Any]:
    """Return the values that a field has in the documents that meet a checked filter, each once, in order."""
    names = field.split(".")
    if is_auxiliary(catalog):
        return distinct_values(auxiliary(database, catalog, condition), field)
    selection = Selection.of(database, catalog, condition)
    of = selection.fields[field]
    if of is None:
        return distinct_values(find(database, catalog, condition, Projection([names[0]])), field)
    key = selection.key(of)
    # Rows that SQL can't decide on come by their number, all others by the text of the value.
    plain = f"v = 1 AND {key} IS NOT {ODD}"
    text = "json_quote(_id)" if field == "_id" else of.text
    statement = (
        f"SELECT DISTINCT CASE WHEN {plain} THEN NULL ELSE id END, CASE WHEN {plain} THEN {text} END "
        f"FROM {selection.judged(['_id', 'document'])}"
    )
    documents: list[Document] = []
    numbers = []
    with database.errors():
        for number, value in database.connection.execute(statement, selection.parameters):
            if number is not None:
                numbers.append(number)
            elif value is not None:
                documents.append(_nested(names, from_text(f'{{"value":{value}}}', None)["value"]))
    kept = Projection([names[0]])
    documents += (kept.apply(document) for document in _checked(database, catalog, numbers, condition, names[0]))
    return distinct_values(documents, field)


def is_auxiliary(catalog: str) -> bool:
    """Tell whether a catalog is that of the histories."""
    return catalog.endswith("_aux")


# Selecting rows ------------------------------------------------------------------------------------------------------


class Row:
    """A row that meets a filter; its document is decoded when it is wanted."""

    __slots__ = ("_document", "_parts", "image_count", "number")

    def __init__(self, number: int, image_count: int, *parts: Any) -> None:
        self.number = number
        self.image_count = image_count
        self._parts = parts
        self._document: Document | None = None

    @property
    def document(self) -> Document:
        """The document without images."""
        if self._document is None:
            self._document = read_document(*self._parts)
        return self._document

    def read(self, database: Database, catalog: str, images: Sequence[str]) -> Document:
        """Return the document with images."""
        document = self.document
        if self.image_count and images:
            with database.errors():
                document = {**document, **read_images(database.connection, catalog, self.number, images)}
        return document

    def meets(self, database: Database, catalog: str, condition: Mapping[str, Any], images: Sequence[str]) -> bool:
        """Ask the matcher."""
        return matches(self.read(database, catalog, images), condition)


def select(
    database: Database,
    catalog: str,
    condition: Mapping[str, Any],
    order: Sequence[tuple[str, int]] = (),
    skip: int = 0,
    limit: int | None = None,
) -> Iterator[Row]:
    """Give the rows of a catalog that meet a filter, in an order, by default that in which they came."""
    selection = Selection.of(database, catalog, condition)
    if not order:
        rows = _unsorted(database, catalog, selection)
    else:
        most = None if condition else _end(skip, limit)  # else the matcher may yet drop some
        rows = _sorted(database, catalog, selection, order, most)
    return islice(rows, skip, _end(skip, limit))


def _unsorted(database: Database, catalog: str, selection: Selection) -> Iterator[Row]:
    if selection.way is None:
        # One pass in the order of the rows; nothing is held but the row at hand.
        statement = f"SELECT id, {', '.join(COLUMNS)}, v FROM {selection.judged(COLUMNS, order=' ORDER BY id')}"
    else:
        statement = _joined(selection, f"SELECT id, v FROM {selection.judged(['document'])} ORDER BY id LIMIT -1")
    with database.errors():
        yield from _accepted(database, catalog, selection, database.connection.execute(statement, selection.parameters))


def _joined(selection: Selection, numbers: str, *more: str) -> str:
    """Return the SQL that reads documents for the rows of a query, in its order: sorted are numbers alone."""
    others = "".join(f", s.{name}" for name in more)
    return (
        f"SELECT {_T_COLUMNS}, s.v{others} FROM ({numbers}) AS s CROSS JOIN {selection.table} AS t ON t.id = s.id"
    )


def _accepted(
    database: Database, catalog: str, selection: Selection, rows: Iterable[tuple[Any, ...]]
) -> Iterator[Row]:
    """Drop rows on which SQL could not decide and the matcher decides that they don't meet the filter."""
    images = asked_images(catalog, selection.condition)
    for number, image_count, text, extras, annotations, verdict, *_ in rows:
        row = Row(number, image_count, text, extras, annotations)
        if verdict is not None or row.meets(database, catalog, selection.condition, images):
            yield row


def _count(database: Database, catalog: str, condition: Mapping[str, Any]) -> int:
    selection = Selection.of(database, catalog, condition)
    statement = "SELECT coalesce(sum(v), 0), count(*) - count(v) FROM "
    with database.errors():
        execute = database.connection.execute
        if selection.is_covered:
            # Without the documents first: the index alone is much quicker.
            by_index = Selection.of(database, catalog, condition, with_documents=False)
            found, unknown = execute(statement + by_index.judged(), by_index.parameters).fetchone()
        else:
            found, unknown = execute(statement + selection.judged(["document"]), selection.parameters).fetchone()
    # Of one moment: what came in between is counted wholly or not at all.
    return sum(1 for _ in _unsorted(database, catalog, selection)) if unknown else int(found)


def _all_rows(database: Database, catalog: str) -> int:
    with database.errors():
        return int(database.connection.execute(f"SELECT count(*) FROM {quoted(catalog)}").fetchone()[0])


def _end(skip: int, limit: int | None) -> int | None:
    return None if limit is None else skip + limit


def _checked(
    database: Database, catalog: str, numbers: Sequence[int], condition: Mapping[str, Any], field: str
) -> Iterator[Document]:
    """Give the documents of rows if they meet a filter."""
    asked = {*asked_images(catalog, condition), *asked_images(catalog, {field: 1})}
    for row in read_numbered(database, catalog, numbers):
        document = row.read(database, catalog, tuple(asked))
        if matches(document, condition):
            yield document


def read_numbered(database: Database, catalog: str, numbers: Iterable[int]) -> Iterator[Row]:
    """Read rows by their numbers, in the order of these, some at a time."""
    rest = iter(numbers)
    while some := list(islice(rest, _AT_ONCE)):
        with database.errors():
            found = read_rows(database.connection, quoted(catalog), some)
        for number in some:
            if number in found:  # else it was deleted meanwhile
                yield Row(number, *found[number])


def _nested(names: Sequence[str], value: Any) -> Document:
    for name in reversed(names):
        value = {name: value}
    found: Document = value
    return found


# Sorting -------------------------------------------------------------------------------------------------------------


def _sorted(
    database: Database, catalog: str, selection: Selection, order: Sequence[tuple[str, int]], most: int | None
) -> Iterator[Row]:
    """Sort in SQL if each row has a plain value to sort by, else in Python. Sorted are keys; documents come after."""
    statement = _sorting(selection, order, most)
    if statement is not None:
        with database.errors():
            cursor = database.connection.execute(statement, selection.parameters)
            first = cursor.fetchone()
            if first is None or not first[-1]:
                rows = _accepted(database, catalog, selection, _from(first, cursor))
                yield from rows
                return
            cursor.close()
    kept = _sort_projection(order)
    images = asked_images(catalog, dict(order))
    numbers = []
    documents = []
    for row in _unsorted(database, catalog, selection):
        numbers.append(row.number)
        documents.append(kept.apply(row.read(database, catalog, images)))
    numbered = {id(document): number for document, number in zip(documents, numbers, strict=True)}
    in_order = [numbered[id(document)] for document in sort_documents(documents, list(order))]
    yield from read_numbered(database, catalog, in_order)


def _from(first: tuple[Any, ...] | None, cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    if first is not None:
        yield first
        yield from cursor


def _sorting(selection: Selection, order: Sequence[tuple[str, int]], most: int | None) -> str | None:
    """Return the SQL of the rows in an order, whose last column is not 0 in the first row if SQL can't sort them."""
    fields = [selection.fields[path] for path, _ in order]
    down = [" DESC" if direction < 0 else "" for _, direction in order]
    limit = -1 if most is None else most
    of = fields[0]
    if len(order) == 1 and of is not None and (selection.way is None or selection.way.path == of.path):
        by_index = _order_of_index(selection, of)
        if by_index is not None:
            column, odd = by_index
            rows = selection.judged(["document", column] if column == "mjd" else ["document"],
                                    order=f" ORDER BY {column}{down[0]}, id")  # fmt: skip
            return _joined(selection, f"SELECT id, v, ({odd}) AS odd FROM {rows} LIMIT {limit}", "odd")
    keys = [selection.key(field) for field in fields if field is not None]
    if len(keys) < len(order):
        return None
    odd = " OR ".join(f"coalesce({key} IN ({ODD}, {OBJECT}), 0)" for key in keys)
    by = ", ".join(f"{key}{direction}" for key, direction in zip(keys, down, strict=True))
    rows = selection.judged(["document"])
    return _joined(
        selection, f"SELECT id, v, {odd} AS odd FROM {rows} ORDER BY odd DESC, {by}, id LIMIT {limit}", "odd"
    )


def _order_of_index(selection: Selection, of: Any) -> tuple[str, str] | None:
    """Return what an index is sorted by, and the condition under which that is not the order of the documents."""
    if of.index is not None:
        key = selection.key(of)
        return key, f"SELECT EXISTS (SELECT 1 FROM {selection.table} WHERE {of._key} IN ({ODD}, {OBJECT}))"
    if of.lifted is not None and of.lifted.is_exact:
        return "mjd", f"SELECT EXISTS (SELECT 1 FROM {selection.table} WHERE mjd IS NULL)"
    return None


def _sort_projection(order: Sequence[tuple[str, int]]) -> Projection:
    """Return the projection to what documents are sorted by."""
    paths = {path.partition(".")[0] if any(name.isdigit() for name in path.split(".")) else path for path, _ in order}
    outer = {path for path in paths if not any(path.startswith(f"{other}.") for other in paths)}
    return Projection(dict.fromkeys(sorted(outer), 1))


# Histories -----------------------------------------------------------------------------------------------------------


def auxiliary(database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[Document]:
    """Give the documents of ``…_alerts_aux``: for each object its histories, put together."""
    import json

    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    names = _object_names(condition)
    where = "" if names is None else " WHERE object_id IN (SELECT value FROM json_each(?))"
    lists = survey_of_catalog(catalog).history_lists
    statement = (
        f"SELECT object_id, list, document, extras FROM {points}{where} ORDER BY object_id, list, mjd, point"
    )
    current: Document = {}
    with database.errors():
        rows = database.connection.execute(statement, () if names is None else (json.dumps(names),))
        for object_id, list_name, text, extras in rows:
            if current.get("_id") != object_id:
                if current and matches(current, condition):
                    yield current
                current = {"_id": object_id, **{name: [] for name in lists}}
            current[list_name].append(from_text(text, extras))
    if current and matches(current, condition):
        yield current


def _object_names(condition: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the objects that a filter asks for, or None if it may ask for all."""
    wanted = condition.get("_id")
    if isinstance(wanted, dict):
        wanted = wanted.get("$in", wanted.get("$eq"))
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(names, list) and all(isinstance(name, str) and "\0" not in name for name in names):
        return names
    found = (_object_names(part) for part in condition.get("$and", ()))
    return next((names for names in found if names is not None), None)
