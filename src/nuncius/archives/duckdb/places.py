"""Where documents lie: cones and regions, by HEALPix cells, and exact angles that decide."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import chain, compress, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nuncius._core.jsontext import from_text
from nuncius.archives.duckdb.cells import bounds, inside, joined
from nuncius.archives.duckdb.columns import CELL, DOCUMENT, EXTRAS
from nuncius.archives.duckdb.find import order_of
from nuncius.archives.duckdb.verdicts import Parameters, Verdict
from nuncius.archives.language import first_documents, matches, sort_documents
from nuncius.sky import cone_ranges, separation_arcsec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.backend import Cones, Find
    from nuncius.archives.duckdb.columns import Columns
    from nuncius.archives.duckdb.files import Export
    from nuncius.archives.language import Document, Projection
    from nuncius.sky import Floats, Region

    _Placed = tuple[list[Document], Floats, Floats]

_AT_ONCE = 1000  # rows whose angles are computed together
_POSITIONS = 20_000  # of a catalog that are matched in one go
_SLACK_ARCSEC = 1e-5  # and a millionth: how far DuckDB's angles may be from ours

# The haversine of the separation, which grows with it.
_HAVERSINE = (
    "pow(sin((radians(dec) - asked_dec) / 2), 2) "
    "+ cos(radians(dec)) * cos(asked_dec) * pow(sin((radians(ra) - asked_ra) / 2), 2)"
)


def cones(export: Export, columns: Columns, query: Cones) -> list[Document]:
    """Return the documents around positions, by position, then by separation.

    Each has `separation_arcsec` and `input_index`, the number of its position.
    """
    parameters = Parameters()
    verdict = Verdict(columns, query.condition, parameters)
    asked, shift, where = _asked(query)
    ties = "".join(f", {tie}" for tie in columns.ties)
    # Within brackets, because a field of the documents may be called as a column of what is asked.
    found = (
        f"SELECT {DOCUMENT}, {EXTRAS}, {'true' if verdict.decides else verdict.sql}, ra, dec{ties} "
        f"FROM {columns.view} WHERE {where} AND {verdict.where}"
    )
    near = (
        f"SELECT found.*, cone, {_HAVERSINE} AS haversine FROM ({found}) AS found(document, extras, verdict, ra, dec{ties}) "
        f"JOIN asked ON ({CELL} >> {shift}) = cell"
    )
    by = f"cone, haversine{ties}"
    # The nearest ones are chosen here only where what is counted is sure to be wanted.
    choose = query.limit is not None and verdict.decides and not query.minimum_arcsec
    most = f" QUALIFY row_number() OVER (PARTITION BY cone ORDER BY {by}) <= {query.limit}" if choose else ""
    statement = (
        f"SELECT document, extras, verdict, ra, dec, cone FROM ({near}) "
        f"WHERE haversine <= {_most_haversine(query.radius_arcsec)!r}{most} ORDER BY {by}"
    )
    rows = export.rows(statement, parameters, tables={"asked": asked})
    hits = [hit for some in _pieces(rows) for hit in _hits(query, some)]
    hits.sort(key=lambda hit: (hit["input_index"], hit["separation_arcsec"]))
    if query.limit is not None:
        taken: Counter[int] = Counter()
        kept = []
        for hit in hits:
            taken[hit["input_index"]] += 1
            if taken[hit["input_index"]] <= query.limit:
                kept.append(hit)
        return kept
    return hits


def _asked(query: Cones) -> tuple[dict[str, Any], int, str]:
    """Return the table of the cells of cones, the shift to them, and the bounds of all of them."""
    index, low, high = cone_ranges(query.ra, query.dec, query.radius_arcsec)
    cone, cell, shift = joined(index, low, high)
    table = {
        "cone": cone,
        "cell": cell,
        "asked_ra": np.radians(query.ra)[cone],
        "asked_dec": np.radians(query.dec)[cone],
    }
    return table, shift, bounds(low, high)


def _most_haversine(radius_arcsec: float) -> float:
    radius = math.radians((radius_arcsec * (1 + 1e-6) + _SLACK_ARCSEC) / 3600)
    return math.sin(radius / 2) ** 2 if radius < math.pi else 2.0


def _pieces(rows: Iterable[tuple[Any, ...]], at_once: int = _AT_ONCE) -> Iterator[list[tuple[Any, ...]]]:
    rest = iter(rows)
    while some := list(islice(rest, at_once)):
        yield some


def _hits(query: Cones, rows: list[tuple[Any, ...]]) -> Iterator[Document]:
    """Give the documents that are within the radius and meet the filter."""
    ra, dec, cone = (np.array([row[column] for row in rows]) for column in (3, 4, 5))
    distance = separation_arcsec(query.ra[cone], query.dec[cone], ra, dec)
    within = np.flatnonzero((distance <= query.radius_arcsec) & (distance >= query.minimum_arcsec))
    for place in within.tolist():
        text, extras, decided = rows[place][:3]
        document = from_text(text, extras)
        if decided or matches(document, query.condition):
            document = query.projection.apply(document)
            document["separation_arcsec"] = float(distance[place])
            document["input_index"] = int(cone[place])
            yield document


def within(
    export: Export,
    columns: Columns,
    region: Region,
    condition: Mapping[str, Any],
    projection: Projection,
    order: Sequence[tuple[str, int]],
    skip: int,
    limit: int | None,
) -> Iterator[Document]:
    """Give the documents in a region that meet a filter; without an order by their cells."""
    by = order_of(columns, order)
    end = None if limit is None else skip + limit
    low, high = region.ranges()
    found = _placed(export, columns, condition, lambda parameters: inside(low, high, parameters), by or None)
    documents: Iterable[Document] = chain.from_iterable(_contained(region, some) for some in found)
    if by is None:
        documents = (
            sort_documents(documents, order) if end is None else first_documents(documents, order, end)
        )
    yield from map(projection.apply, islice(documents, skip, end))


def _contained(region: Region, placed: _Placed) -> Iterator[Document]:
    documents, ra, dec = placed
    return compress(documents, region.contains(ra, dec))


def crossmatch(
    export: Export, left_columns: Columns, right_columns: Columns, left: Find, right: Cones
) -> Iterator[Document]:
    """Give the documents of one catalog that are near some of another, with these as `matches`, the nearest first."""
    found = _placed(export, left_columns, left.condition, lambda _: f"{CELL} IS NOT NULL", None, _POSITIONS)
    for documents, ra, dec in found:
        near: dict[int, list[Document]] = {}
        for hit in cones(export, right_columns, replace(right, ra=ra % 360, dec=dec)):
            near.setdefault(hit.pop("input_index"), []).append(hit)
        for index, matches_of in sorted(near.items()):
            yield {**left.projection.apply(documents[index]), "matches": matches_of}


def _placed(
    export: Export,
    columns: Columns,
    condition: Mapping[str, Any],
    place: Callable[[Parameters], str],
    by: str | None,
    at_once: int = _AT_ONCE,
) -> Iterator[_Placed]:
    """Give documents that meet a filter with their positions, some at a time; without an order by their cells."""
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    statement = (
        f"SELECT {DOCUMENT}, {EXTRAS}, {'true' if verdict.decides else verdict.sql}, ra, dec "
        f"FROM {columns.view} WHERE {place(parameters)} AND {verdict.where} ORDER BY {by or ', '.join(columns.ties)}"
    )
    for rows in _pieces(export.rows(statement, parameters), at_once):
        kept = []
        for text, extras, decided, ra, dec in rows:
            document = from_text(text, extras)
            if decided or matches(document, condition):
                kept.append((document, ra, dec))
        documents, ra, dec = (list(column) for column in zip(*kept, strict=True)) if kept else ([], [], [])
        yield documents, np.array(ra, dtype=float), np.array(dec, dtype=float)
