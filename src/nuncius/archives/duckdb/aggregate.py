"""Pipelines: the stages at the beginning that DuckDB can answer, and the language for those after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nuncius.archives.duckdb.find import count, find, order_of, statement_of
from nuncius.archives.duckdb.group import grouped
from nuncius.archives.duckdb.verdicts import Parameters, Verdict
from nuncius.archives.embedded.aggregate import leading
from nuncius.archives.embedded.explain import Explanation
from nuncius.archives.language import Projection, run_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nuncius.archives.duckdb.columns import Columns
    from nuncius.archives.duckdb.files import Export
    from nuncius.archives.language import Document

_EVERYTHING = Projection(None)


def aggregate(
    export: Export, columns: Columns, others: Mapping[str, Columns], pipeline: Sequence[Mapping[str, Any]]
) -> Iterator[Document]:
    """Return what a checked pipeline makes of the documents of a catalog.

    Parameters
    ----------
    export : Export
        The archive.
    columns : Columns
        Of the catalog.
    others : mapping
        The columns of the other catalogs that the pipeline reads.
    pipeline : list of mapping
        What `check_pipeline` returned.
    """

    def select(name: str, condition: Mapping[str, Any]) -> Iterator[Document]:
        return find(export, others[name], condition, _EVERYTHING)

    condition, rest = leading(pipeline)
    documents, rest = _begin(export, columns, condition, rest)
    return run_pipeline(documents, rest, select=select) if rest else iter(documents)


def _begin(
    export: Export, columns: Columns, condition: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]
) -> tuple[Iterable[Document], list[Mapping[str, Any]]]:
    """Run as many stages as DuckDB can; return what they give, and the stages that are left."""
    rest = list(stages)
    if rest and "$sortByCount" in rest[0]:
        by_count = {"_id": rest[0]["$sortByCount"], "count": {"$sum": 1}}
        rest[:1] = [{"$group": by_count}, {"$sort": {"count": -1}}]
    if rest and "$count" in rest[0]:
        number = count(export, columns, condition)
        return ([{rest[0]["$count"]: number}] if number else []), rest[1:]
    if rest and "$group" in rest[0]:
        groups = grouped(export, columns, condition, rest)
        if groups is not None:
            return groups[0], list(groups[1])
    bounds: dict[str, Any] = {"$sort": {}, "$skip": 0, "$limit": None}
    for name in bounds:
        if rest and name in rest[0]:
            bounds[name] = rest.pop(0)[name]
    order = list(bounds["$sort"].items())
    return find(export, columns, condition, _EVERYTHING, order, bounds["$skip"], bounds["$limit"]), rest


def explain(columns: Columns, condition: Mapping[str, Any], order: Sequence[tuple[str, int]]) -> Explanation:
    """Say how a question is answered."""
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    by = order_of(columns, order)
    statement = statement_of(columns, verdict, by or "")
    sort = "" if not order else "Python" if by is None else "SQL"
    return Explanation(
        columns.catalog, dict(condition), statement, len(parameters), verdict.residual, sort=sort
    )
