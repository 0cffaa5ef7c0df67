"""Filters as SQL: which rows are read, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import Fields
from nuncius.archives.embedded.verdicts import Parameters, Verdict
from nuncius.archives.embedded.ways import Ways
from nuncius.archives.language.patterns import compile_pattern

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.fields import Field
    from nuncius.archives.embedded.ways import Way


@dataclass(frozen=True)
class Selection:
    """A filter on a catalog, as SQL.

    Parameters
    ----------
    table : str
        The quoted name of the table.
    fields : Fields
        The fields of the catalog.
    condition : mapping
        The checked filter.
    parameters : Parameters
        The values of the SQL.
    verdict : Verdict
        What a row is worth.
    way : Way, optional
        How to come to the rows; None reads all.
    """

    table: str
    fields: Fields
    condition: Mapping[str, Any]
    parameters: Parameters
    verdict: Verdict
    way: Way | None
    columns: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, database: Database, catalog: str, condition: Mapping[str, Any], *, with_documents: bool = True
    ) -> Selection:
        """Compile a checked filter."""
        fields, parameters = Fields(database, catalog), Parameters()
        verdict = Verdict(fields, condition, parameters, with_documents=with_documents)
        if verdict.has_patterns:
            _teach_patterns(database.connection)
        way = Ways(fields, parameters).to(condition)
        return cls(quoted(catalog), fields, condition, parameters, verdict, way, dict(verdict.columns))

    @classmethod
    def attempts(cls, database: Database, catalog: str, condition: Mapping[str, Any]) -> Iterator[Selection]:
        """Compile a filter for an index alone, and for the documents if that can't say all (see `is_covered`)."""
        yield cls.of(database, catalog, condition, with_documents=False)
        yield cls.of(database, catalog, condition)

    @property
    def is_covered(self) -> bool:
        """Whether an index alone has all that is looked at; it is read much quicker than the documents."""
        return not self.verdict.with_documents and self._covering is not None

    @property
    def _covering(self) -> str | None:
        """The name of the one key that is looked at, if an index has it."""
        if len(self.columns) != 1:
            return None
        ((name, _),) = self.columns.items()
        path = name.removeprefix('"k:').removesuffix('"')
        if self.way is not None:
            return name if self.way.path == path else None
        of = self.fields[path]
        return name if of is not None and of.index is not None and not name.startswith('"e:') else None

    def key(self, of: Field) -> str:
        """Add the key of a field to what is read of each row, and return its name."""
        return self.column("k", of, of.key)

    def column(self, kind: str, of: Field, sql: str) -> str:
        """Add an expression on a field to what is read of each row, and return its name."""
        name = f'"{kind}:{of.path}"'
        self.columns[name] = sql
        return name

    def rows(
        self, columns: Sequence[str] = (), *, order: str = "", parts: Sequence[str] | None = None
    ) -> str:
        """Return the SQL that reads rows: `id`, the given columns of the table, and what the verdict is made of.

        Each expression on the document is there computed once, however often the verdict uses it: SQLite runs a query
        with a limit by itself, and does not merge it into the one around it.
        """
        if "(document ->" in self.verdict.sql and "document" not in columns:
            columns = [*columns, "document"]
        elif self.is_covered and self.way is None and not order:
            order = f" ORDER BY {self._covering}"  # so that SQLite reads the index and not the table
        computed = (f"{sql} AS {name}" for name, sql in self.columns.items())
        select = f"SELECT {', '.join(['id', *columns, *computed])} FROM {self.table}"
        wheres = self._wheres() if parts is None else [f" WHERE {part}" for part in parts]
        return f"({' UNION ALL '.join(f'{select}{where}' for where in wheres)}{order} LIMIT -1)"

    def judged(
        self, columns: Sequence[str] = (), *, order: str = "", parts: Sequence[str] | None = None
    ) -> str:
        """Return the SQL of the rows that may meet the filter, with the verdict as `v`: 1, or NULL if unknown."""
        rows = self.rows(columns, order=order, parts=parts)
        return f"(SELECT * FROM (SELECT *, {self.verdict.sql} AS v FROM {rows} LIMIT -1) WHERE v IS NOT 0 LIMIT -1)"

    def counted(self) -> str:
        """Return the SQL of two numbers: of rows that meet the filter, and of those on which the matcher decides."""
        way = self.way
        if (
            self.is_covered
            and way is not None
            and way.sure is not None
            and list(self.condition) == [way.path]
        ):
            sure = f"(SELECT count(*) FROM {self.table} WHERE {way.sure})"
            return (
                f"SELECT {sure} + coalesce(sum(v), 0), count(*) - count(v) FROM {self.judged(parts=way.rest)}"
            )
        return f"SELECT coalesce(sum(v), 0), count(*) - count(v) FROM {self.judged()}"

    def _wheres(self) -> list[str]:
        way = self.way
        if way is None:
            return [""]
        if way.is_disjoint:
            return [f" WHERE {part}" for part in way.parts]
        one_by_one = " UNION ALL ".join(f"SELECT id FROM {self.table} WHERE {part}" for part in way.parts)
        return [f" WHERE id IN ({one_by_one})"]


def _teach_patterns(connection: sqlite3.Connection) -> None:
    """Let a connection match regular expressions as the matcher does."""
    known = "SELECT 1 FROM pragma_function_list WHERE name = 'matches_pattern'"
    if connection.execute(known).fetchone() is None:
        connection.create_function("matches_pattern", 3, _matches_pattern, deterministic=True)


def _matches_pattern(pattern: str, options: str, text: str) -> bool:
    return compile_pattern(pattern, options, "$regex").search(text) is not None
