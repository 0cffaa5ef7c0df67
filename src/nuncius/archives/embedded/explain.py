"""What an archive does for a question, in words: which part ran in SQL, which index served, and what would help."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.aggregate import leading, pushed
from nuncius.archives.embedded.fields import POSITION
from nuncius.archives.embedded.histories import is_histories, statement_of
from nuncius.archives.embedded.reading import sorting, unsorted
from nuncius.archives.embedded.select import Selection
from nuncius.archives.language.values import has_operators

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database

_USED = re.compile(r"USING (?:COVERING )?INDEX (.+?)(?: \(|$)")
_NARROW = frozenset({"$eq", "$in", "$gt", "$gte", "$lt", "$lte"})


@dataclass(frozen=True)
class Explanation:
    """How a question is answered.

    Parameters
    ----------
    catalog : str
        The catalog that was asked.
    condition : dict
        The filter.
    sql : str
        The statement that SQLite runs; values are bound, and not in it.
    parameters : int
        How many values are bound.
    residual : dict
        The part of the filter that SQL leaves to the matcher, which decodes each document that is read; ``{}`` if there
        is none. Documents with odd values (arrays, NaN) in fields that the filter asks about are always for the matcher.
    index : tuple of str
        The indexes that serve.
    scans : bool
        Whether every document is read.
    sort : str
        Who sorts: ``""`` (nobody), ``"index"``, ``"SQL"`` or ``"Python"``.
    stages : int
        Of a pipeline, how many of the first stages SQL is asked for.
    hint : str
        What would help, or nothing.
    """

    catalog: str
    condition: dict[str, Any]
    sql: str
    parameters: int
    residual: dict[str, Any]
    index: tuple[str, ...] = ()
    scans: bool = False
    sort: str = ""
    stages: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self._lines())
        return f"<b>{html.escape(self.catalog)}</b><ul>{lines}</ul><pre>{html.escape(self.sql)}</pre>"

    def _lines(self) -> Iterator[str]:
        served = f"with index {', '.join(self.index)}" if self.index else "without an index"
        if self.residual:
            yield f"SQL selects documents {served}; the matcher then decides on {', '.join(self.residual)}"
        elif self.condition:
            yield f"the whole filter ran in SQL, {served}"
        if self.scans:
            yield (
                "no index serves this: every document is read" if self.condition else "every document is read"
            )
        if self.sort:
            how = {"index": "the index gives the order", "SQL": "SQL sorts", "Python": "Python sorts"}
            yield how[self.sort]
        if self.stages is not None:
            yield f"{self.stages} stages of the pipeline run in SQL, as far as the values are plain"
        if self.hint:
            yield self.hint


def explain(
    database: Database,
    catalog: str,
    condition: Mapping[str, Any],
    order: Sequence[tuple[str, int]] = (),
    pipeline: Sequence[Mapping[str, Any]] | None = None,
) -> Explanation:
    """Say how a question is answered.

    Parameters
    ----------
    database : Database
        The archive.
    catalog : str
        Any catalog.
    condition : mapping
        A checked filter.
    order : list of (str, int)
        A checked sort order.
    pipeline : list of mapping, optional
        A checked pipeline, in place of filter and order.
    """
    stages = None
    if pipeline is not None:
        condition, rest = leading(pipeline)
        stages = len(pipeline) - len(rest) + pushed(rest)
        order = list(rest[0]["$sort"].items()) if rest and "$sort" in rest[0] else []
    if is_histories(catalog):
        return _of_histories(catalog, condition, order, stages)
    selection = Selection.of(database, catalog, condition)
    in_order, by_index = sorting(selection, order, None) if order else (None, False)
    statement = in_order or unsorted(selection)
    plan = _plan(database, statement, selection.parameters)
    own = {f"sqlite_autoindex_{catalog}_1": f"{catalog}:by_id"}  # SQLite names the index of a unique column
    scans = f"SCAN {catalog}" in plan
    return Explanation(
        catalog,
        dict(condition),
        statement,
        len(selection.parameters),
        dict(selection.verdict.residual),
        tuple(sorted({own.get(name, name) for line in plan for name in _USED.findall(line)})),
        scans,
        "" if not order else "Python" if in_order is None else "index" if by_index else "SQL",
        stages,
        _hint(selection, order) if scans else "",
    )


def _plan(database: Database, statement: str, parameters: Mapping[str, Any]) -> list[str]:
    with database.errors():
        return [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def _hint(selection: Selection, order: Sequence[tuple[str, int]]) -> str:
    paths = [*_narrowing(selection.condition), *(path for path, _ in order[:1])]
    fields = (selection.fields[path] for path in paths if path != POSITION)
    path = next((f.path for f in fields if f and not (f.index or f.lifted or f.guard)), None)
    return "" if path is None else f"archive.create_index({selection.fields.catalog!r}, {path!r}) would help"


def _narrowing(condition: Mapping[str, Any]) -> Iterator[str]:
    """Give the fields whose index would lead to fewer documents."""
    for key, wanted in condition.items():
        if key in {"$and", "$or"}:
            for part in wanted:
                yield from _narrowing(part)
        elif not key.startswith("$") and (not has_operators(wanted) or _NARROW & set(wanted)):
            yield key


def _of_histories(
    catalog: str,
    condition: Mapping[str, Any],
    order: Sequence[tuple[str, int]],
    stages: int | None,
) -> Explanation:
    statement, names = statement_of(catalog, condition)
    by_name = () if names is None else (f"{catalog}:_id",)
    hint = "" if by_name else "name the objects by _id; nothing else of the histories has an index"
    bound = 0 if names is None else 1
    sort = "Python" if order else ""
    return Explanation(
        catalog, dict(condition), statement, bound, dict(condition), by_name, not by_name, sort, stages, hint
    )
