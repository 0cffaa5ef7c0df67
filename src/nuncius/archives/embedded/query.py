"""How the archive is asked: what SQLite's indexes can select is selected in SQL, the matcher decides on the rest.

SQL may select too much and never too little: each document is compared with the whole filter again.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nuncius._core.jsontext import from_text
from nuncius.alerts.surveys.base import identifier
from nuncius.alerts.times import JD_OF_MJD_0
from nuncius.archives.documents import survey_of_catalog
from nuncius.archives.embedded.database import quoted
from nuncius.archives.filters import matches, sort_documents
from nuncius.sky import cone_ranges, separation_arcsec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.filters import Document, Projection

_COLUMNS = "id, images, document, extras, annotations"
_AT_ONCE = 400  # bound parameters in one statement; SQLite allows 999 in its oldest builds
_JD_SLACK = 1e-6  # a tenth of a second: what the detour of a Julian date over floats may cost


class Selection:
    """What of a filter SQL can answer with an index, for one catalog of alerts.

    Parameters
    ----------
    catalog : str
        The catalog.
    condition : mapping
        A checked filter.
    """

    def __init__(self, catalog: str, condition: Mapping[str, Any]) -> None:
        self.clauses: list[str] = []
        self.values: list[Any] = []
        self._columns = _lifted_columns(catalog)
        for path, wanted in condition.items():
            if path in self._columns:
                self._lift(path, wanted)
        for part in condition.get("$and", ()):
            for path, wanted in part.items():
                if path in self._columns:
                    self._lift(path, wanted)

    @property
    def where(self) -> str:
        """The WHERE clause, or nothing."""
        return " WHERE " + " AND ".join(self.clauses) if self.clauses else ""

    def _lift(self, path: str, wanted: Any) -> None:
        column, convert = self._columns[path]
        operators = (
            wanted
            if isinstance(wanted, dict) and any(key.startswith("$") for key in wanted)
            else {"$eq": wanted}
        )
        for operator, operand in operators.items():
            if operator in {"$eq", "$in"}:
                self._equal(path, column, convert, operand if operator == "$in" else [operand])
            elif operator in {"$gt", "$gte", "$lt", "$lte"} and column == "mjd":
                self._bound(operator, operand)

    def _equal(self, path: str, column: str, convert: Any, operands: list[Any]) -> None:
        if (
            not operands
            or len(operands) > _AT_ONCE
            or not all(isinstance(value, convert) for value in operands)
        ):
            return
        if column == "mjd" or not all(_fits(column, value) for value in operands):
            return
        self.clauses.append(f"{column} IN ({', '.join('?' * len(operands))})")
        self.values += operands

    def _bound(self, operator: str, operand: Any) -> None:
        if isinstance(operand, bool) or not isinstance(operand, (int, float)):
            return
        sign = -1 if operator.startswith("$g") else 1
        try:
            bound = operand - JD_OF_MJD_0 + sign * _JD_SLACK
        except OverflowError:
            return
        # Dates that an alert can't have are in the document alone: test packets have Unix times in this field.
        self.clauses.append(f"(mjd IS NULL OR mjd {'>=' if sign < 0 else '<='} ?)")
        self.values.append(bound)


def _fits(column: str, value: Any) -> bool:
    """Tell whether a value stands in a column as it stands in the document."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63  # all that SQLite has
    return column != "object_id" or identifier(value) is not None  # "NONE" is a name in the document alone


@cache
def _lifted_columns(catalog: str) -> dict[str, tuple[str, Any]]:
    """Return which paths of a document stand in columns of their own, and the types for which both agree."""
    prefix = survey_of_catalog(catalog).catalog_prefix
    columns: dict[str, tuple[str, Any]] = {"_id": ("_id", str)}
    if prefix == "LSST":
        columns["diaSourceId"] = ("alert_id", int)
    elif prefix != "GENERIC":
        columns["candid"] = ("alert_id", int)
        columns["objectid" if prefix == "WNTR" else "objectId"] = ("object_id", str)
        if prefix != "DECAM":
            columns["candidate.jd"] = ("mjd", (int, float))
    return columns


def find(
    database: Database,
    catalog: str,
    condition: Mapping[str, Any],
    projection: Projection,
    order: list[tuple[str, int]],
    skip: int,
    limit: int | None,
) -> Iterator[Document]:
    """Give the documents of a catalog of alerts that meet a filter."""
    found = _matching(database, catalog, condition)
    if order:
        # Sorted without the images, which would not fit into memory; they are fetched for what is left.
        numbered = {id(document): (document, number, count) for document, number, count in found}
        ordered = sort_documents([document for document, _, _ in numbered.values()], order)
        found = (numbered[id(document)] for document in ordered)
    images = _wanted_images(catalog, projection)
    for document, number, image_count in islice(found, skip, None if limit is None else skip + limit):
        if image_count and images:
            with database.errors():
                document.update(_images(database.connection, catalog, number, images))
        yield projection.apply(document)


def count(database: Database, catalog: str, condition: Mapping[str, Any]) -> int:
    """Count the documents of a catalog of alerts that meet a filter."""
    if not condition:
        with database.errors():
            return int(database.connection.execute(f"SELECT count(*) FROM {quoted(catalog)}").fetchone()[0])
    return sum(1 for _ in _matching(database, catalog, condition))


def _matching(
    database: Database, catalog: str, condition: Mapping[str, Any]
) -> Iterator[tuple[Document, int, int]]:
    """Give documents without images, the numbers of their rows, and how many images each has."""
    selection = Selection(catalog, condition)
    statement = f"SELECT {_COLUMNS} FROM {quoted(catalog)}{selection.where} ORDER BY id"
    asked = _asked_images(catalog, condition)
    with database.errors():
        for number, image_count, *row in database.connection.execute(statement, selection.values):
            document = read_document(*row)
            images = _images(database.connection, catalog, number, asked) if image_count and asked else {}
            if not condition or matches({**document, **images} if images else document, condition):
                yield document, number, image_count


def _asked_images(catalog: str, condition: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the images that a filter asks about, which are not in the text of a document."""
    names = set(_top_level(condition))
    return tuple(field for field in survey_of_catalog(catalog).cutout_fields if field in names)


def _top_level(condition: Mapping[str, Any]) -> Iterator[str]:
    for key, value in condition.items():
        if key.startswith("$"):
            for part in value:
                yield from _top_level(part)
        else:
            yield key.partition(".")[0]


def read_document(text: str, extras: str | None, annotations: str | None) -> Document:
    """Make the document of a row."""
    document = from_text(text, extras)
    if annotations:
        document["annotations"] = {
            # A pair where there is what JSON can't hold.
            name: from_text(*((part, None) if isinstance(part, str) else part))
            for name, part in from_text(annotations, None).items()
        }
    return document


def _wanted_images(catalog: str, projection: Projection) -> tuple[str, ...]:
    return tuple(field for field in survey_of_catalog(catalog).cutout_fields if projection.wants(field))


def _images(connection: sqlite3.Connection, catalog: str, number: int, fields: Sequence[str]) -> Document:
    """Return the images of an alert in the shape in which the packet had them."""
    found = {}
    statement = f"SELECT field, file_name, data FROM {quoted(f'{catalog}:images')} WHERE alert = ?"
    for field, file_name, data in connection.execute(statement, (number,)):
        if field in fields:
            found[field] = data if file_name is None else {"fileName": file_name, "stampData": data}
    return {field: found[field] for field in fields if field in found}


# Cones ---------------------------------------------------------------------------------------------------------------


def cones(
    database: Database,
    catalog: str,
    ra: Any,
    dec: Any,
    radius_arcsec: float,
    condition: Mapping[str, Any],
    projection: Projection,
    limit: int | None,
) -> list[Document]:
    """Return the documents within a radius of positions, in the order of the positions, then of the distance."""
    index, low, high = cone_ranges(ra, dec, radius_arcsec)
    with database.errors():
        select = _near_one if len(ra) == 1 and len(index) <= _AT_ONCE else _near_many
        candidates = select(database.connection, quoted(catalog), index, low, high)
        if not candidates:
            return []
        cone, number, near_ra, near_dec = (np.array(column) for column in zip(*candidates, strict=True))
        distance = separation_arcsec(ra[cone], dec[cone], near_ra, near_dec)
        inside = np.flatnonzero(distance <= radius_arcsec)
        inside = inside[np.lexsort((number[inside], distance[inside], cone[inside]))]
        hits = zip(cone[inside].tolist(), number[inside].tolist(), distance[inside].tolist(), strict=True)
        return _documents_of_hits(database, catalog, list(hits), condition, projection, limit)


def _near_one(connection: sqlite3.Connection, table: str, index: Any, low: Any, high: Any) -> list[Any]:
    clauses = " OR ".join(["hpx >= ? AND hpx < ?"] * len(index))
    bounds = np.stack([low, high], axis=1).ravel().tolist()
    return connection.execute(f"SELECT 0, id, ra, dec FROM {table} WHERE {clauses}", bounds).fetchall()


def _near_many(connection: sqlite3.Connection, table: str, index: Any, low: Any, high: Any) -> list[Any]:
    # Sorted by cell, so that the index is walked once and not jumped about in.
    order = np.argsort(low)
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS cones (cone INTEGER, low INTEGER, high INTEGER)")
    connection.execute("DELETE FROM temp.cones")
    connection.execute("BEGIN")
    try:
        connection.executemany(
            "INSERT INTO temp.cones VALUES (?, ?, ?)",
            zip(index[order].tolist(), low[order].tolist(), high[order].tolist(), strict=True),
        )
    finally:
        connection.execute("COMMIT")
    return connection.execute(
        f"SELECT cone, id, ra, dec FROM temp.cones CROSS JOIN {table} ON hpx >= low AND hpx < high"
    ).fetchall()


def _documents_of_hits(
    database: Database,
    catalog: str,
    hits: list[tuple[int, int, float]],
    condition: Mapping[str, Any],
    projection: Projection,
    limit: int | None,
) -> list[Document]:
    wanted, asked = _wanted_images(catalog, projection), _asked_images(catalog, condition)
    rows = _rows(database.connection, quoted(catalog), [number for _, number, _ in hits])
    found = []
    taken: dict[int, int] = defaultdict(int)
    for cone, number, distance in hits:
        if limit is not None and taken[cone] >= limit:
            continue
        image_count, *row = rows[number]
        document = read_document(*row)
        images = _images(database.connection, catalog, number, asked) if image_count and asked else {}
        if condition and not matches({**document, **images} if images else document, condition):
            continue
        taken[cone] += 1
        if image_count and wanted:
            document.update(_images(database.connection, catalog, number, wanted))
        document = projection.apply(document)
        document["separation_arcsec"] = distance
        document["input_index"] = cone
        found.append(document)
    return found


def _rows(connection: sqlite3.Connection, table: str, numbers: list[int]) -> dict[int, tuple[Any, ...]]:
    rows: dict[int, tuple[Any, ...]] = {}
    unique = sorted(set(numbers))
    for start in range(0, len(unique), _AT_ONCE):
        some = unique[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        for number, *row in connection.execute(f"SELECT {_COLUMNS} FROM {table} WHERE id IN ({marks})", some):
            rows[number] = tuple(row)
    return rows


# Histories -----------------------------------------------------------------------------------------------------------


def auxiliary(database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[Document]:
    """Give the documents of ``…_alerts_aux``: for each object its histories, put together."""
    points = quoted(f"{catalog.removesuffix('_aux')}:points")
    wanted = condition.get("_id")
    names = [wanted] if isinstance(wanted, str) else wanted.get("$in") if isinstance(wanted, dict) else None
    where, values = "", []
    if (
        isinstance(names, list)
        and names
        and len(names) <= _AT_ONCE
        and all(isinstance(name, str) for name in names)
    ):
        where, values = f" WHERE object_id IN ({', '.join('?' * len(names))})", names
    lists = survey_of_catalog(catalog).history_lists
    statement = (
        f"SELECT object_id, list, document, extras FROM {points}{where} ORDER BY object_id, list, mjd, point"
    )
    current: Document = {}
    with database.errors():
        for object_id, list_name, text, extras in database.connection.execute(statement, values):
            if current.get("_id") != object_id:
                if current and matches(current, condition):
                    yield current
                current = {"_id": object_id, **{name: [] for name in lists}}
            current[list_name].append(from_text(text, extras))
    if current and matches(current, condition):
        yield current
