"""The rows that meet a filter, in an order, their documents decoded only where they are wanted."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import OBJECT, ODD
from nuncius.archives.embedded.rows import COLUMNS, asked_images, read_document, read_images, read_rows
from nuncius.archives.embedded.select import Selection
from nuncius.archives.language import Projection, matches, sort_documents
from nuncius.archives.language.bounds import check_time
from nuncius.archives.language.values import found

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.fields import Field
    from nuncius.archives.language import Document

_AT_ONCE = 400  # documents that are read together
_T_COLUMNS = ", ".join(f"t.{name}" for name in ("id", *COLUMNS))


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

    def meets(
        self, database: Database, catalog: str, condition: Mapping[str, Any], images: Sequence[str]
    ) -> bool:
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
        near = _near(condition)
        rows = (
            selected(database, catalog, selection)
            if near is None
            else _nearest_first(database, catalog, selection, *near)
        )
    else:
        most = None if condition else end_of(skip, limit)  # else the matcher may yet drop some
        rows = _sorted(database, catalog, selection, order, most)
    return islice(rows, skip, end_of(skip, limit))


def unsorted(selection: Selection) -> str:
    """Return the SQL of the rows that a filter may be met by, as they came."""
    if selection.way is None:
        # One pass in the order of the rows; nothing is held but the row at hand.
        return f"SELECT id, {', '.join(COLUMNS)}, v FROM {selection.judged(COLUMNS, order=' ORDER BY id')}"
    return _joined(selection, f"SELECT id, v FROM {selection.judged()} ORDER BY id LIMIT -1")


def selected(database: Database, catalog: str, selection: Selection) -> Iterator[Row]:
    """Give the rows that meet the filter of a selection, as they came."""
    with database.errors():
        rows = database.connection.execute(unsorted(selection), selection.parameters)
        yield from _accepted(database, catalog, selection, rows)


def _joined(selection: Selection, numbers: str, *more: str) -> str:
    """Return the SQL that reads documents for the rows of a query, in its order: sorted are numbers alone."""
    others = "".join(f", s.{name}" for name in more)
    return f"SELECT {_T_COLUMNS}, s.v{others} FROM ({numbers}) AS s CROSS JOIN {selection.table} AS t ON t.id = s.id"


def _accepted(
    database: Database, catalog: str, selection: Selection, rows: Iterable[tuple[Any, ...]]
) -> Iterator[Row]:
    """Drop rows on which SQL could not decide and the matcher decides that they don't meet the filter."""
    images = asked_images(catalog, selection.condition)
    for number, image_count, text, extras, brokers, verdict, *_ in rows:
        check_time()
        row = Row(number, image_count, text, extras, brokers)
        if verdict is not None or row.meets(database, catalog, selection.condition, images):
            yield row


def end_of(skip: int, limit: int | None) -> int | None:
    """Return where to stop."""
    return None if limit is None else skip + limit


def read_numbered(database: Database, catalog: str, numbers: Iterable[int]) -> Iterator[Row]:
    """Read rows by their numbers, in the order of these, some at a time."""
    rest = iter(numbers)
    while some := list(islice(rest, _AT_ONCE)):
        with database.errors():
            rows = read_rows(database.connection, quoted(catalog), some)
        for number in some:
            if number in rows:  # else it was deleted meanwhile
                yield Row(number, *rows[number])


def nested(names: Sequence[str], value: Any) -> Document:
    """Return the document that has a value at a path, and nothing else."""
    for name in reversed(names):
        value = {name: value}
    document: Document = value
    return document


# Sorting -------------------------------------------------------------------------------------------------------------


def _sorted(
    database: Database, catalog: str, selection: Selection, order: Sequence[tuple[str, int]], most: int | None
) -> Iterator[Row]:
    """Sort in SQL if each row has a plain value to sort by, else in Python. Sorted are keys; documents come after."""
    statement, _ = sorting(selection, order, most)
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
    for row in selected(database, catalog, selection):
        numbers.append(row.number)
        documents.append(kept.apply(row.read(database, catalog, images)))
    numbered = {id(document): number for document, number in zip(documents, numbers, strict=True)}
    in_order = [numbered[id(document)] for document in sort_documents(documents, order)]
    yield from read_numbered(database, catalog, in_order)


def _from(first: tuple[Any, ...] | None, cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    if first is not None:
        yield first
        yield from cursor


def sorting(
    selection: Selection, order: Sequence[tuple[str, int]], most: int | None
) -> tuple[str | None, bool]:
    """Return the SQL of the rows in an order, and whether an index has that order.

    Its last column is not 0 in the first row if SQL can't sort them. It is None if SQL can't be asked for the fields.
    """
    fields = [selection.fields[path] for path, _ in order]
    down = [" DESC" if direction < 0 else "" for _, direction in order]
    limit = -1 if most is None else most
    of = fields[0]
    if len(order) == 1 and of is not None and (selection.way is None or selection.way.path == of.path):
        by_index = _order_of_index(selection, of)
        if by_index is not None:
            column, odd = by_index
            columns = [column] if column == "mjd" else []
            rows = selection.judged(columns, order=f" ORDER BY {column}{down[0]}, id")
            numbers = f"SELECT id, v, ({odd}) AS odd FROM {rows} LIMIT {limit}"
            return _joined(selection, numbers, "odd"), True
    keys = [selection.key(field) for field in fields if field is not None]
    if len(keys) < len(order):
        return None, False
    odd = " OR ".join(f"coalesce({key} IN ({ODD}, {OBJECT}), 0)" for key in keys)
    by = ", ".join(f"{key}{direction}" for key, direction in zip(keys, down, strict=True))
    rows = selection.judged()
    numbers = f"SELECT id, v, {odd} AS odd FROM {rows} ORDER BY odd DESC, {by}, id LIMIT {limit}"
    return _joined(selection, numbers, "odd"), False


def _order_of_index(selection: Selection, of: Field) -> tuple[str, str] | None:
    """Return what an index is sorted by, and the condition under which that is not the order of the documents."""
    if of.index is not None:
        key = selection.key(of)
        return key, f"SELECT EXISTS (SELECT 1 FROM {selection.table} WHERE {of._key} IN ({ODD}, {OBJECT}))"
    if of.lifted is not None and of.lifted.is_exact:
        return "mjd", f"SELECT EXISTS (SELECT 1 FROM {selection.table} WHERE mjd IS NULL)"
    return None


def _sort_projection(order: Sequence[tuple[str, int]]) -> Projection:
    """Return the projection to what documents are sorted by."""
    paths = {
        path.partition(".")[0] if any(name.isdigit() for name in path.split(".")) else path
        for path, _ in order
    }
    outer = {path for path in paths if not any(path.startswith(f"{other}.") for other in paths)}
    return Projection(dict.fromkeys(sorted(outer), 1))


def _near(condition: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the field and the operand of the `$nearSphere` in a filter, which sorts by distance."""
    for path, wanted in condition.items():
        if path == "$and":
            inner = next(filter(None, map(_near, wanted)), None)
            if inner is not None:
                return inner
        elif isinstance(wanted, dict):
            operand = next(
                (wanted[operator] for operator in ("$nearSphere", "$near") if operator in wanted), None
            )
            if operand is not None:
                return path, operand
    return None


def _nearest_first(
    database: Database, catalog: str, selection: Selection, path: str, operand: Mapping[str, Any]
) -> Iterator[Row]:
    from nuncius.archives.language import geo_region
    from nuncius.archives.language.geo import positions_of, sorted_by_distance

    point = {"$geometry": operand["$geometry"]}
    everywhere: Any = geo_region("$nearSphere", point)
    names = path.split(".")
    placed: list[Document] = []
    numbers = []
    for row in selected(database, catalog, selection):
        places = positions_of(found(row.document, names))
        positions = [{"type": "Point", "coordinates": [ra - 180.0, dec]} for ra, dec in places]
        placed.append(nested(names, positions))
        numbers.append(row.number)
    numbered = {id(document): number for document, number in zip(placed, numbers, strict=True)}
    ordered = sorted_by_distance(placed, path, everywhere, (everywhere.ra, everywhere.dec))
    yield from read_numbered(database, catalog, [numbered[id(document)] for document, _, _ in ordered])
