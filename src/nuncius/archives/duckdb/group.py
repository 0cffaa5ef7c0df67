"""`$group`, and what follows it, in DuckDB where that gives what the pipeline of the language gives.

Sums of fractions are rounded at other places than in Python, so that their last digits may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.archives.duckdb.columns import Column
from nuncius.archives.duckdb.find import order_of
from nuncius.archives.duckdb.verdicts import Parameters, Verdict
from nuncius.archives.language.functions.base import fit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.duckdb.columns import Columns
    from nuncius.archives.duckdb.files import Export
    from nuncius.archives.language import Document

    Stages = Sequence[Mapping[str, Any]]

_NUMBERS = frozenset({"integer", "real"})


@dataclass(frozen=True)
class _Outputs:
    """The columns of groups, as a catalog has those of documents."""

    columns: dict[str, Column]
    ties: list[str]
    has_places: bool = False

    def get(self, path: str) -> Column | None:
        return self.columns.get(path)


def grouped(
    export: Export, columns: Columns, condition: Mapping[str, Any], stages: Stages
) -> tuple[Iterator[Document], Stages] | None:
    """Run `$group`, and a `$match`, `$sort`, `$skip` and `$limit` after it.

    Parameters
    ----------
    export : Export
    columns : Columns
        Of the catalog.
    condition : mapping
        A checked filter.
    stages : list of mapping
        Checked stages, of which the first is `$group`.

    Returns
    -------
    groups, stages : iterator of dict, list of mapping
        What came out, and the stages that are left. None in place of both if DuckDB can't say it exactly.
    """
    spec = stages[0]["$group"]
    parameters = Parameters()
    verdict = Verdict(columns, condition, parameters)
    keys = _keys(columns, spec["_id"])
    values = {name: _value(columns, output) for name, output in spec.items() if name != "_id"}
    if not verdict.decides or keys is None or None in values.values():
        return None
    known = {name: column for name, column in values.items() if column is not None}
    selected = [*keys.values(), *known.values()]
    named = {
        name: Column(f"c{number}", column.kind, column.nulls)
        for number, (name, column) in enumerate(zip([*keys, *known], selected, strict=True))
    }
    made = ", ".join(f"{column.sql} AS c{number}" for number, column in enumerate(selected)) or "1 AS c0"
    # Of no documents there is no group.
    by = f"GROUP BY {', '.join(column.sql for column in keys.values())}" if keys else "HAVING count(*) > 0"
    groups = f"SELECT {made} FROM {columns.view} WHERE {verdict.where} {by}"
    tail, rest = _tail(_Outputs(named, [f"c{number}" for number in range(len(keys))]), stages[1:], parameters)
    rows = export.rows(f"SELECT * FROM ({groups}){tail}", parameters)
    return _documents(rows, spec["_id"], len(keys), known), rest


def _keys(columns: Columns, expression: Any) -> dict[str, Column] | None:
    """Return the columns that a group is made by, by their paths in it; None if these are not all plain columns."""
    if expression is None:
        return {}
    named = {"_id": expression}
    if isinstance(expression, dict):
        named = {f"_id.{name}": item for name, item in expression.items() if not name.startswith("$")}
    found = {}
    for name, item in named.items():
        column = _column(columns, item)
        # Within a document a field that is missing and one that is null make two groups.
        if column is None or column.nulls == "odd" or (name != "_id" and column.nulls != "none"):
            return None
        found[name] = column
    return found or None


def _column(columns: Columns, expression: Any) -> Column | None:
    if not isinstance(expression, str) or not expression.startswith("$") or expression.startswith("$$"):
        return None
    return columns.get(expression[1:])


def _value(columns: Columns, output: Mapping[str, Any]) -> Column | None:
    """Return what an accumulator is in SQL, or None if that is not the same."""
    ((operator, argument),) = output.items()
    if operator == "$count":
        return Column("count(*)", "integer", "none")
    if (
        operator == "$sum"
        and isinstance(argument, int)
        and not isinstance(argument, bool)
        and abs(argument) < 2**31
    ):
        return Column(f"count(*) * {argument}", "integer", "none")
    column = _column(columns, argument)
    if column is None or column.nulls == "odd":
        return None
    if operator in {"$min", "$max"}:
        return Column(f"{operator[1:]}({column.sql})", column.kind, "plain")
    if column.kind not in _NUMBERS:
        return None
    total = f"sum({column.sql})" if column.kind == "integer" else f"fsum({column.sql})"
    if operator == "$sum":
        return Column(f"coalesce({total}, 0)", column.kind, "none" if column.kind == "real" else "odd")
    return Column(f"{total} / count({column.sql})", "real", "plain") if operator == "$avg" else None


def _tail(outputs: _Outputs, stages: Stages, parameters: Parameters) -> tuple[str, Stages]:
    """Return the SQL of the stages after a group, as far as there is one, and the stages that are left."""
    rest = list(stages)
    wheres: list[str] = []
    while rest and "$match" in rest[0]:
        before = len(parameters)
        verdict = Verdict(outputs, rest[0]["$match"], parameters)
        if not verdict.decides:
            parameters.cut(before)
            break
        wheres.append(verdict.where)
        rest.pop(0)
    order = ", ".join(outputs.ties)
    if rest and "$sort" in rest[0]:
        by = order_of(outputs, list(rest[0]["$sort"].items()))
        order, rest = (order, rest) if by is None else (by, rest[1:])
    sql = (f" WHERE {' AND '.join(wheres)}" if wheres else "") + (f" ORDER BY {order}" if order else "")
    bounds = {"$skip": 0, "$limit": 0}
    for name in bounds:
        if rest and name in rest[0]:  # not where a sort is left before it
            bounds[name] = rest.pop(0)[name]
    sql += f" LIMIT {bounds['$limit']}" if bounds["$limit"] else ""
    return sql + (f" OFFSET {bounds['$skip']}" if bounds["$skip"] else ""), rest


def _documents(
    rows: Iterator[tuple[Any, ...]], expression: Any, keys: int, outputs: Mapping[str, Column]
) -> Iterator[Document]:
    names = ("_id", *outputs)
    # A sum may be more than 64 bits hold, and is then a fraction.
    large = [name for name, column in outputs.items() if column.nulls == "odd"]
    if not large and keys == 1 and not isinstance(expression, dict):
        return (dict(zip(names, row, strict=True)) for row in rows)
    return (_document(row, names, expression, keys, large) for row in rows)


def _document(
    row: tuple[Any, ...], names: tuple[str, ...], expression: Any, keys: int, large: list[str]
) -> Document:
    identity: Any = row[0] if keys else None
    if isinstance(expression, dict):
        identity = dict(zip(expression, row, strict=False))
    group = dict(zip(names, (identity, *row[keys:]), strict=False))
    return group | {name: fit(group[name]) for name in large}
