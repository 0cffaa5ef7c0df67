"""Finding and counting documents: DuckDB decides on those that it can decide on, the matcher on the others."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from nuncius._core.jsontext import from_text
from nuncius.archives.duckdb.columns import DOCUMENT, EXTRAS
from nuncius.archives.duckdb.verdicts import Parameters, Verdict
from nuncius.archives.language import (
    Projection,
    distinct_values,
    first_documents,
    geo_region,
    matches,
    sort_documents,
)
from nuncius.archives.language.geo import NEAR, sorted_by_distance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.duckdb.columns import Columns, Fields
    from nuncius.archives.duckdb.files import Export
    from nuncius.archives.language import Document


def find(
    export: Export,
    columns: Columns,
    condition: Mapping[str, Any],
    projection: Projection,
    order: Sequence[tuple[str, int]] = (),
    skip: int = 0,
    limit: int | None = None,
) -> Iterator[Document]:
    """Give the documents that meet a checked filter; without an order as they lie in the files, which is by cells."""
    end = None if limit is None else skip + limit
    near = None if order else near_of(condition)
    if near is not None:
        documents: Iterable[Document] = _nearest_first(select(export, columns, condition), *near)
    elif (by := order_of(columns, order)) is not None:
        documents = select(export, columns, condition, by, end)
    else:
        found = select(export, columns, condition)
        documents = sort_documents(found, order) if end is None else first_documents(found, order, end)
    yield from map(projection.apply, islice(documents, skip, end))


def select(
    export: Export, columns: Columns, condition: Mapping[str, Any], by: str = "", most: int | None = None
) -> Iterator[Document]:
    """Give the documents that meet a checked filter, in an order of DuckDB's."""
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    statement = statement_of(columns, verdict, by)
    if most is not None and verdict.decides:
        statement += f" LIMIT {most}"
    for text, extras, decided in export.rows(statement, parameters):
        document = from_text(text, extras)
        if decided or matches(document, condition):
            yield document


def statement_of(columns: Columns, verdict: Verdict, by: str = "") -> str:
    """Return the SQL of the documents for which a verdict is not false."""
    order = f" ORDER BY {by}" if by else ""
    return (
        f"SELECT {DOCUMENT}, {EXTRAS}, {'true' if verdict.decides else verdict.sql} "
        f"FROM {columns.view} WHERE {verdict.where}{order}"
    )


def order_of(columns: Fields, order: Sequence[tuple[str, int]]) -> str | None:
    """Return an order in SQL, ties by place and id; nothing for no order, None if only Python can sort."""
    if not order:
        return ""
    parts = []
    for path, direction in order:
        column = columns.get(path)
        if column is None or column.nulls == "odd":
            return None
        parts.append(f"{column.sql} {'ASC NULLS FIRST' if direction > 0 else 'DESC NULLS LAST'}")
    return ", ".join([*parts, *columns.ties])


def count(export: Export, columns: Columns, condition: Mapping[str, Any]) -> int:
    """Count the documents that meet a checked filter."""
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    if verdict.decides:
        return int(export.one(f"SELECT count(*) FROM {columns.view} WHERE {verdict.where}", parameters)[0])
    judged = f"SELECT {verdict.sql} FROM {columns.view} WHERE {verdict.where}"
    tally = f"SELECT count(*) FILTER (verdict), count(*) FILTER (verdict IS NULL) FROM ({judged}) AS judged(verdict)"
    decided, unknown = export.one(tally, parameters)
    if unknown:
        statement = f"SELECT {DOCUMENT}, {EXTRAS} FROM {columns.view} WHERE ({verdict.sql}) IS NULL"
        decided += sum(matches(from_text(*row), condition) for row in export.rows(statement, parameters))
    return int(decided)


def distinct(export: Export, columns: Columns, path: str, condition: Mapping[str, Any]) -> list[Any]:
    """Return the values of a field in the documents that meet a checked filter, each once, in order."""
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    column = columns.get(path)
    if column is None or column.nulls == "odd" or not verdict.decides:
        kept = Projection([path.partition(".")[0]])
        return distinct_values(find(export, columns, condition, kept), path)
    # A field that is null counts as a value, one that is missing does not.
    there = "" if column.nulls == "none" else f" AND ({column.sql} IS NOT NULL OR {column.exists})"
    statement = f"SELECT DISTINCT {column.sql} FROM {columns.view} WHERE {verdict.where}{there}"
    return distinct_values([{"value": value} for (value,) in export.rows(statement, parameters)], "value")


def near_of(condition: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return field and operand of a filter's `$nearSphere`, by whose distance the answer is sorted."""
    for path, wanted in condition.items():
        parts = wanted if path == "$and" else []
        found = next(filter(None, map(near_of, parts)), None)
        if found is not None:
            return found
        if isinstance(wanted, dict) and not NEAR.isdisjoint(wanted):
            return path, next(operand for operator, operand in wanted.items() if operator in NEAR)
    return None


def _nearest_first(
    documents: Iterable[Document], path: str, operand: Mapping[str, Any]
) -> Iterator[Document]:
    everywhere: Any = geo_region("$nearSphere", {"$geometry": operand["$geometry"]})
    placed = sorted_by_distance(documents, path, everywhere, (everywhere.ra, everywhere.dec))
    return (document for document, _, _ in placed)
