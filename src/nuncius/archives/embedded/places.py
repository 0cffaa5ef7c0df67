"""Where documents lie: cones, regions and cross-matches, through the index of HEALPix cells.

The index gives what lies in the cells of a region, which is somewhat more than the region; exact angles decide.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from nuncius.archives.embedded import query
from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.rows import asked_images, read_document, read_images, wanted_images
from nuncius.archives.language import Projection, matches, sort_documents
from nuncius.archives.language.bounds import check_time
from nuncius.sky import cone_ranges, separation_arcsec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.language import Document
    from nuncius.sky import Region

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

_AT_ONCE = 400  # bound parameters in one statement; SQLite allows 999 in its oldest builds
_POSITIONS = 10_000  # of a catalog that are matched in one go
_PAIRS = 100_000  # what one go may find: it bounds the memory where sources are crowded
_DOCUMENTS = 1000  # that are in memory at once
_ROW = "id, ra, dec, images, document, extras, annotations"


class _Hits(NamedTuple):
    """What lies within a radius of positions: by position, then by distance."""

    cone: Integers
    number: Integers  # of a row
    ra: Floats
    dec: Floats
    distance: Floats  # arcseconds

    def take(self, which: Any) -> _Hits:
        """Return some of them."""
        return _Hits(
            self.cone[which], self.number[which], self.ra[which], self.dec[which], self.distance[which]
        )


# Cones ---------------------------------------------------------------------------------------------------------------


def cones(
    database: Database,
    name: str,
    ra: Any,
    dec: Any,
    radius_arcsec: float,
    condition: Mapping[str, Any],
    projection: Projection,
    limit: int | None,
    *,
    minimum_arcsec: float = 0.0,
) -> list[Document]:
    """Return the documents around positions, in the order of the positions, then of the distance.

    Parameters
    ----------
    database : Database
    name : str
        A catalog of alerts, or a reference catalog.
    ra, dec : array of float, shape (n,)
        ICRS degrees.
    radius_arcsec, minimum_arcsec : float
        The largest and the smallest distance; both belong to it.
    condition : mapping
        A checked filter.
    projection : Projection
        Which fields.
    limit : int, optional
        The most documents for each position.

    Returns
    -------
    list of dict
        Each with `separation_arcsec` and `input_index`, the number of its position.

    Raises
    ------
    StorageError
        If the archive can't be read.
    DeadlineError
        If the deadline of the database is over.
    """
    with database.errors():
        hits = _hits(database.connection, name, ra, dec, radius_arcsec, minimum_arcsec)
        if limit is not None and not condition:
            hits = _nearest(hits, limit)
        reader = _Reader(database, name, condition, projection)
        rows = reader.rows(hits.number, hits.ra, hits.dec)
        found = []
        taken: dict[int, int] = defaultdict(int)
        for cone, number, distance in _triples(hits):
            if limit is not None and taken[cone] >= limit:
                continue
            check_time()
            document = reader.document(rows.get(number))
            if document is None:
                continue
            taken[cone] += 1
            document["separation_arcsec"] = distance
            document["input_index"] = cone
            found.append(document)
        return found


def _hits(
    connection: sqlite3.Connection,
    name: str,
    ra: Any,
    dec: Any,
    radius_arcsec: float,
    minimum_arcsec: float = 0.0,
) -> _Hits:
    """Find the rows around positions."""
    index, low, high = cone_ranges(ra, dec, radius_arcsec)
    select = _near_one if len(ra) == 1 and len(index) <= _AT_ONCE else _near_many
    candidates = select(connection, quoted(name), index, low, high)
    if not candidates:
        return _Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))
    cone, number, near_ra, near_dec = (np.array(column) for column in zip(*candidates, strict=True))
    distance = separation_arcsec(ra[cone], dec[cone], near_ra, near_dec)
    inside = np.flatnonzero((distance <= radius_arcsec) & (distance >= minimum_arcsec))
    inside = inside[np.lexsort((number[inside], distance[inside], cone[inside]))]
    return _Hits(cone, number, near_ra, near_dec, distance).take(inside)


def _triples(hits: _Hits) -> Iterator[tuple[int, int, float]]:
    return zip(hits.cone.tolist(), hits.number.tolist(), hits.distance.tolist(), strict=True)


def _nearest(hits: _Hits, limit: int) -> _Hits:
    """Keep the first hits of each position."""
    begins = np.searchsorted(hits.cone, hits.cone)  # where the hits of the same position begin
    kept = np.arange(len(hits.cone)) - begins < limit
    return hits.take(kept)


def _near_one(connection: sqlite3.Connection, table: str, index: Any, low: Any, high: Any) -> list[Any]:
    clauses = " OR ".join(["hpx >= ? AND hpx < ?"] * len(index))
    bounds = np.stack([low, high], axis=1).ravel().tolist()
    return _collected(connection.execute(f"SELECT 0, id, ra, dec FROM {table} WHERE {clauses}", bounds))


def _near_many(connection: sqlite3.Connection, table: str, index: Any, low: Any, high: Any) -> list[Any]:
    # Sorted by cell, so that the index is walked once and not jumped about in. Values in the statement are quicker than
    # a temporary table, and leave nothing behind when the deadline breaks a statement off.
    order = np.argsort(low)
    asked = np.stack([index[order], low[order], high[order]], axis=1)
    found: list[Any] = []
    step = _AT_ONCE // 3
    for start in range(0, len(asked), step):
        some = asked[start : start + step]
        cursor = connection.execute(
            f"WITH asked(cone, low, high) AS (VALUES {', '.join(['(?, ?, ?)'] * len(some))}) "
            f"SELECT cone, id, ra, dec FROM asked CROSS JOIN {table} ON hpx >= low AND hpx < high",
            some.ravel().tolist(),
        )
        found += _collected(cursor)
    return found


def _collected(cursor: sqlite3.Cursor) -> list[Any]:
    found: list[Any] = []
    while rows := cursor.fetchmany(_DOCUMENTS):
        found += rows
        check_time()
    return found


# Regions -------------------------------------------------------------------------------------------------------------


def within(
    database: Database,
    name: str,
    region: Region,
    condition: Mapping[str, Any],
    projection: Projection,
    order: list[tuple[str, int]],
    skip: int,
    limit: int | None,
) -> Iterator[Document]:
    """Give the documents in a region; without a sort order as they came into the archive.

    Raises
    ------
    StorageError
        If the archive can't be read.
    DeadlineError
        If the deadline of the database is over.
    """
    with database.errors():
        places = _within(database, name, region)
        if condition and len(places[0]) * 20 > _size(database, name):
            # For so many rows the filter is answered quicker without their documents.
            wanted = np.fromiter((row.number for row in query.select(database, name, condition)), np.int64)
            chosen = np.isin(places[0], wanted)
            places, condition = (places[0][chosen], places[1][chosen], places[2][chosen]), {}
        stop = None if limit is None else skip + limit
        if not order:
            reader = _Reader(database, name, condition, projection)
            found = (reader.finished(document, row) for row, document in reader.pairs(*places))
            yield from islice(found, skip, stop)
            return
        # Sorted without the images, which would not fit into memory; they are fetched for what is left.
        plain = _Reader(database, name, condition, Projection(None), images=False)
        numbered = {id(document): (document, row) for row, document in plain.pairs(*places)}
        reader = _Reader(database, name, {}, projection)
        for document in sort_documents([document for document, _ in numbered.values()], order)[skip:stop]:
            yield reader.finished(*numbered[id(document)])


def _within(database: Database, name: str, region: Region) -> tuple[Integers, Floats, Floats]:
    """Return the numbers and positions of the rows in a region, in the order of the numbers."""
    low, high = region.ranges()
    parts = [(np.empty(0, np.int64), np.empty(0), np.empty(0))]
    step = _AT_ONCE // 2
    for start in range(0, len(low), step):
        bounds = np.stack([low[start : start + step], high[start : start + step]], axis=1)
        statement = (
            f"WITH asked(low, high) AS (VALUES {', '.join(['(?, ?)'] * len(bounds))}) "
            f"SELECT id, ra, dec FROM asked CROSS JOIN {quoted(name)} ON hpx >= low AND hpx < high"
        )
        cursor = database.connection.execute(statement, bounds.ravel().tolist())
        while rows := cursor.fetchmany(_PAIRS):
            number, ra, dec = _arrays(rows)
            inside = region.contains(ra, dec)
            parts.append((number[inside], ra[inside], dec[inside]))
            database.check_deadline()
    number, ra, dec = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(number)
    return number[order], ra[order], dec[order]


def _arrays(rows: list[Any]) -> tuple[Integers, Floats, Floats]:
    """Turn rows of number, right ascension and declination into columns."""
    if not rows:
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    number, ra, dec = zip(*rows, strict=True)
    return np.array(number, np.int64), np.array(ra, np.float64), np.array(dec, np.float64)


# Cross-matches -------------------------------------------------------------------------------------------------------


def crossmatch(
    database: Database,
    left: str,
    right: str,
    radius_arcsec: float,
    *,
    condition: Mapping[str, Any],
    projection: Projection,
    right_condition: Mapping[str, Any],
    right_projection: Projection,
    limit: int | None,
) -> Iterator[Document]:
    """Give each document of one catalog that has neighbours in another one, with these.

    Parameters
    ----------
    database : Database
    left, right : str
        Catalogs of alerts or reference catalogs. A catalog matched with itself finds each source itself, too.
    radius_arcsec : float
        The largest distance.
    condition, right_condition : mapping
        Checked filters.
    projection, right_projection : Projection
        Which fields.
    limit : int, optional
        The most neighbours of each document, the nearest first; 1 for the nearest alone.

    Yields
    ------
    dict
        The document, and in its field `matches` a list of its neighbours, each with `separation_arcsec`. The documents
        come in no order that has a meaning.

    Raises
    ------
    StorageError
        If the archive can't be read.
    DeadlineError
        If the deadline of the database is over.

    Notes
    -----
    A catalog is read in pieces, so the memory does not grow with its size. Where the other one is much smaller, only
    what lies near its sources is looked at.
    """
    reader = _Reader(database, left, {}, projection)
    neighbours = _Reader(database, right, right_condition, right_projection)
    with database.errors():
        for numbers, ra, dec in _sources(database, left, right, radius_arcsec, condition):
            for hits in _pieces(database, right, ra, dec, radius_arcsec):
                if limit is not None and not right_condition:
                    hits = _nearest(hits, limit)  # noqa: PLW2901 - the same hits, fewer
                for group in _groups(hits):
                    positions = np.unique(group.cone)
                    rows = reader.rows(numbers[positions], ra[positions], dec[positions])
                    for position, near in _neighbours(neighbours, group, limit).items():
                        document = reader.document(rows.get(int(numbers[position])))
                        if document is not None:
                            yield {**document, "matches": near}


def _sources(
    database: Database, left: str, right: str, radius_arcsec: float, condition: Mapping[str, Any]
) -> Iterator[tuple[Integers, Floats, Floats]]:
    """Give the rows and positions of the left catalog that may have a match, in pieces."""
    if condition:
        # The filter is answered first, as every filter is.
        wanted = query.select(database, left, condition)
        while numbers := [row.number for row in islice(wanted, _AT_ONCE)]:
            yield _positions(database, left, numbers)
    elif _size(database, right) * 10 < _size(database, left):
        found = [np.empty(0, np.int64)]
        for _, ra, dec in _all_sources(database, right):
            found += [hits.number for hits in _pieces(database, left, ra, dec, radius_arcsec)]
        near = np.unique(np.concatenate(found)).tolist()
        for start in range(0, len(near), _AT_ONCE):
            yield _positions(database, left, near[start : start + _AT_ONCE])
    else:
        yield from _all_sources(database, left)


def _all_sources(database: Database, name: str) -> Iterator[tuple[Integers, Floats, Floats]]:
    """Give the rows and positions of a whole catalog in the order of cells, which is that of the index."""
    # Piece by piece from where the last one ended: a statement left open would keep the log of the file from shrinking.
    statement = (
        f"SELECT hpx, ra, dec, id FROM {quoted(name)} WHERE (hpx, ra, dec, id) > (?, ?, ?, ?) "
        "ORDER BY hpx, ra, dec, id LIMIT ?"
    )
    last: tuple[Any, ...] = (-1, 0.0, 0.0, 0)
    while rows := database.connection.execute(statement, (*last, _POSITIONS)).fetchall():
        last = rows[-1]
        yield _arrays([(number, ra, dec) for _, ra, dec, number in rows])


def _positions(database: Database, name: str, numbers: list[int]) -> tuple[Integers, Floats, Floats]:
    """Return some rows and their positions, as far as they have one."""
    marks = ", ".join("?" * len(numbers))
    statement = f"SELECT id, ra, dec FROM {quoted(name)} WHERE id IN ({marks}) AND hpx IS NOT NULL"
    return _arrays(database.connection.execute(statement, numbers).fetchall())


def _size(database: Database, name: str) -> int:
    """Return about how many rows a catalog has."""
    return int(database.connection.execute(f"SELECT max(id) FROM {quoted(name)}").fetchone()[0] or 0)


def _pieces(database: Database, name: str, ra: Floats, dec: Floats, radius_arcsec: float) -> Iterator[_Hits]:
    """Find the rows around positions, so many at a time that what is found fits into memory."""
    start, step = 0, min(len(ra), _POSITIONS // 10)
    while start < len(ra):
        hits = _hits(
            database.connection, name, ra[start : start + step], dec[start : start + step], radius_arcsec
        )
        database.check_deadline()
        yield hits._replace(cone=hits.cone + start)
        start += step
        step = max(1, min(_POSITIONS, step * 4, step * _PAIRS // max(len(hits.cone), 1)))


def _groups(hits: _Hits) -> Iterator[_Hits]:
    """Cut hits into groups of about as many documents as may be in memory, between two positions."""
    start = 0
    while start < len(hits.cone):
        stop = start + _DOCUMENTS
        if stop < len(hits.cone):
            first = int(np.searchsorted(hits.cone, hits.cone[stop]))
            stop = first if first > start else int(np.searchsorted(hits.cone, hits.cone[stop], side="right"))
        yield hits.take(slice(start, stop))
        start = stop


def _neighbours(reader: _Reader, hits: _Hits, limit: int | None) -> dict[int, list[Document]]:
    """Return the documents of hits, by position."""
    rows = reader.rows(hits.number, hits.ra, hits.dec)
    found: dict[int, list[Document]] = {}
    for cone, number, distance in _triples(hits):
        if limit is not None and len(found.get(cone, ())) >= limit:
            continue
        document = reader.document(rows.get(number))
        if document is not None:
            document["separation_arcsec"] = distance
            found.setdefault(cone, []).append(document)
    return found


# Documents -----------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads the documents of rows, as far as they meet a filter, with the images and fields that are wanted."""

    def __init__(
        self,
        database: Database,
        name: str,
        condition: Mapping[str, Any],
        projection: Projection,
        *,
        images: bool = True,
    ) -> None:
        self._database = database
        self._name = name
        self._condition = condition
        self._projection = projection
        self._asked = asked_images(name, condition)
        self._wanted = wanted_images(name, projection) if images else ()

    def rows(self, numbers: Integers, ra: Floats, dec: Floats) -> dict[int, tuple[Any, ...]]:
        """Return rows by their numbers, without those that another program has deleted or replaced meanwhile."""
        unique, first = np.unique(numbers, return_index=True)
        places = dict(
            zip(unique.tolist(), zip(ra[first].tolist(), dec[first].tolist(), strict=True), strict=True)
        )
        found: dict[int, tuple[Any, ...]] = {}
        for start in range(0, len(unique), _AT_ONCE):
            check_time()
            some = unique[start : start + _AT_ONCE].tolist()
            marks = ", ".join("?" * len(some))
            statement = f"SELECT {_ROW} FROM {quoted(self._name)} WHERE id IN ({marks})"
            for row in self._database.connection.execute(statement, some):
                if row[1:3] == places[row[0]]:
                    found[row[0]] = row
        return found

    def document(self, row: tuple[Any, ...] | None) -> Document | None:
        """Return the document of a row, or None if it is not wanted."""
        document = None if row is None else self._checked(row)
        return None if row is None or document is None else self.finished(document, row)

    def pairs(self, numbers: Integers, ra: Floats, dec: Floats) -> Iterator[tuple[tuple[Any, ...], Document]]:
        """Give rows and their documents that meet the filter, without images, in the order of the numbers."""
        for start in range(0, len(numbers), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            rows = self.rows(numbers[some], ra[some], dec[some])
            for number in numbers[some].tolist():
                row = rows.get(number)
                document = None if row is None else self._checked(row)
                if row is not None and document is not None:
                    yield row, document

    def finished(self, document: Document, row: tuple[Any, ...]) -> Document:
        """Add the images of a document and leave out what is not wanted."""
        if row[3] and self._wanted:
            document.update(self._images(row, self._wanted))
        return self._projection.apply(document)

    def _checked(self, row: tuple[Any, ...]) -> Document | None:
        document = read_document(*row[4:])
        if not self._condition:
            return document
        images = self._images(row, self._asked) if row[3] and self._asked else {}
        return document if matches({**document, **images} if images else document, self._condition) else None

    def _images(self, row: tuple[Any, ...], fields: tuple[str, ...]) -> Document:
        return read_images(self._database.connection, self._name, row[0], fields)
