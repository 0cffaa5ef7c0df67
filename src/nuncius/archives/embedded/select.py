"""Which rows of a catalog SQL reads for a filter: those that an index leads to, or all.

An index leads to too many rows at most, never to too few: the verdict (see `verdicts`) or the matcher decides on each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import FALSE, OBJECT, ODD, POSITION, TRUE, Fields
from nuncius.archives.embedded.verdicts import (
    Parameters,
    Verdict,
    has_operators,
    is_simple,
    literal_prefix,
    next_text,
    zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nuncius.archives.embedded.database import Database
    from nuncius.archives.embedded.fields import Field, Lifted

_MOST_PARTS = 60  # reached by one index each
_SPATIAL = ("$geoWithin", "$geoIntersects", "$nearSphere", "$near")

# How few rows a way is likely to read; the least is taken.
_ONE, _FEW, _SOME, _RANGE, _HALF, _MANY = range(6)


@dataclass(frozen=True)
class Way:
    """A way to the rows that a filter may be met by.

    Parameters
    ----------
    rank : int
        How many rows it is likely to read, compared with other ways.
    parts : list of str
        SQL conditions that an index answers each; a row may meet any of them.
    indexes : frozenset of str
        The names of these indexes.
    is_disjoint : bool
        Whether no row meets two of the parts.
    path : str, optional
        The field whose key these indexes have, so that no document is needed for it.
    """

    rank: int
    parts: list[str]
    indexes: frozenset[str]
    is_disjoint: bool = True
    path: str | None = None


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
        way = _Ways(fields, parameters).to(condition)
        return cls(quoted(catalog), fields, condition, parameters, verdict, way, dict(verdict.columns))

    @property
    def is_covered(self) -> bool:
        """Whether the index alone has all that the verdict looks at."""
        way = self.way
        return way is not None and way.path is not None and set(self.columns) <= {f'"k:{way.path}"'}

    def key(self, of: Field) -> str:
        """Add the key of a field to what is read of each row, and return its name."""
        name = f'"k:{of.path}"'
        self.columns[name] = of.key
        return name

    def rows(self, columns: Iterable[str] = (), *, order: str = "") -> str:
        """Return the SQL that reads rows: `id`, the given columns of the table, and what the verdict is made of.

        Each expression on the document is there computed once, however often the verdict uses it: SQLite runs a query
        with a limit by itself, and does not merge it into the one around it.
        """
        computed = (f"{sql} AS {name}" for name, sql in self.columns.items())
        select = f"SELECT {', '.join(['id', *columns, *computed])} FROM {self.table}"
        return f"({' UNION ALL '.join(f'{select}{where}' for where in self._wheres())}{order} LIMIT -1)"

    def judged(self, columns: Iterable[str] = (), *, order: str = "") -> str:
        """Return the SQL of the rows that may meet the filter, with the verdict as `v`: 1, or NULL if unknown."""
        columns = list(columns)
        with_verdict = f"SELECT *, {self.verdict.sql} AS v FROM {self.rows(columns, order=order)} LIMIT -1"
        return f"(SELECT * FROM ({with_verdict}) WHERE v IS NOT 0 LIMIT -1)"

    def _wheres(self) -> list[str]:
        way = self.way
        if way is None:
            return [""]
        if way.is_disjoint:
            return [f" WHERE {part}" for part in way.parts]
        one_by_one = " UNION ALL ".join(f"SELECT id FROM {self.table} WHERE {part}" for part in way.parts)
        return [f" WHERE id IN ({one_by_one})"]


class _Ways:
    """Finds the shortest way to the rows that a filter may be met by."""

    def __init__(self, fields: Fields, parameters: Parameters) -> None:
        self._fields = fields
        self._bind = parameters.bind

    def to(self, condition: Mapping[str, Any]) -> Way | None:
        """Return the shortest way, or None if no index leads there."""
        ways = [way for key, value in condition.items() for way in self._of(key, value)]
        return min(ways, key=lambda way: way.rank, default=None)

    def _of(self, key: str, value: Any) -> list[Way]:
        if key == "$and":
            return [way for part in value if (way := self.to(part)) is not None]
        if key == "$or":
            return self._either([self.to(part) for part in value])
        if key.startswith("$"):
            return []
        wanted = (
            value if has_operators(value) else {"$regex" if isinstance(value, re.Pattern) else "$eq": value}
        )
        if key == POSITION:
            return self._place(wanted)
        of = self._fields[key]
        if of is None:
            return []
        ways = self._by_column(of, of.lifted, wanted) if of.lifted is not None else []
        return [*ways, *self._by_index(of, wanted)] if of.index is not None else ways

    def _either(self, ways: Sequence[Way | None]) -> list[Way]:
        found = [way for way in ways if way is not None]
        parts = list(dict.fromkeys(part for way in found for part in way.parts))
        if len(found) < len(ways) or len(parts) > _MOST_PARTS:
            return []
        if len(found) == 1:
            return found
        rank = min(_MANY, max(way.rank for way in found) + 1)
        return [Way(rank, parts, frozenset().union(*(way.indexes for way in found)), is_disjoint=False)]

    # Columns -----------------------------------------------------------------------------------------------------------

    def _by_column(self, of: Field, lifted: Lifted, wanted: Mapping[str, Any]) -> list[Way]:
        column, found = lifted.column, []
        if lifted.is_time:
            found += self._span(lifted, wanted)
        else:
            for values in _listed(wanted):
                of_column = _of_column(values, texts_only=column == "object_id")
                if of_column is not None:
                    found.append((_ONE if column == "_id" else _FEW, f"{column} {self._in(of_column)}"))
            if column != "alert_id":
                found += [(_RANGE, f"{column} {clause}") for clause in self._prefix(wanted)]
        # What the column can't have is NULL there.
        beside = [] if column == "_id" else [f"{column} IS NULL"]
        path = of.path if lifted.is_exact and of.index is None else None
        return [Way(rank, [part, *beside], frozenset([lifted.index]), path=path) for rank, part in found]

    def _span(self, lifted: Lifted, wanted: Mapping[str, Any]) -> list[tuple[int, str]]:
        bounds = []
        for operator, operand in wanted.items():
            if not _is_number(operand) or operator not in {"$eq", "$gt", "$gte", "$lt", "$lte"}:
                continue
            low, high = zone(operand)
            if not operator.startswith("$l"):
                bounds.append(f"mjd >= {self._bind(low - lifted.offset - lifted.slack)}")
            if not operator.startswith("$g"):
                bounds.append(f"mjd <= {self._bind(high - lifted.offset + lifted.slack)}")
        return [(_RANGE if len(bounds) > 1 else _HALF, " AND ".join(bounds))] if bounds else []

    # Indexes of fields -------------------------------------------------------------------------------------------------

    def _by_index(self, of: Field, wanted: Mapping[str, Any]) -> list[Way]:
        found = [
            (_SOME, parts) for values in _listed(wanted) if (parts := self._values(of, values)) is not None
        ]
        found += [(_RANGE, [f"{of._key} {clause}"]) for clause in self._prefix(wanted)]
        found += [(rank, [clause]) for rank, clause in self._range(of, wanted)]
        assert of.index is not None
        odd = f"{of._key} = {ODD}"
        return [
            Way(rank, [*parts, odd], frozenset([of.index]), is_disjoint=len(parts) == 1, path=of.path)
            for rank, parts in found
        ]

    def _values(self, of: Field, values: Sequence[Any]) -> list[str] | None:
        """Return conditions on the key that any of the values meets, or None if that can't be said."""
        key, parts = of._key, []
        simple = [str(value) if type(value).__name__ == "ObjectId" else value for value in values]
        listed = [value for value in simple if is_simple(value)]
        if listed:
            parts.append(f"{key} {self._in(listed)}")
        for value in simple:
            if is_simple(value) or isinstance(value, (list, bytes, datetime)):
                continue  # listed, or odd where it is
            if value is None:
                parts.append(f"{key} IS NULL")
            elif isinstance(value, bool):
                parts.append(f"{key} = {TRUE if value else FALSE}")
            elif _is_number(value):
                parts.append(f"{key} {self._near(value)}")
            elif isinstance(value, dict):
                parts.append(f"{key} = {OBJECT}")
            else:
                return None
        return parts if parts and len(parts) < _MOST_PARTS else None

    def _near(self, value: float) -> str:
        low, high = zone(value)
        if isinstance(value, int) and low < high and float(value) != value:
            return f"= {self._bind(value)}"  # no fraction is that number
        return f"BETWEEN {self._bind(low)} AND {self._bind(high)}"

    def _range(self, of: Field, wanted: Mapping[str, Any]) -> list[tuple[int, str]]:
        key, lows, highs, kinds = of._key, [], [], set()
        for operator, operand in wanted.items():
            if operator not in {"$gt", "$gte", "$lt", "$lte"} or not (
                _is_number(operand) or is_text_bound(operand)
            ):
                continue
            kinds.add(isinstance(operand, str))
            low, high = (operand, operand) if isinstance(operand, str) else zone(operand)
            if operator.startswith("$g"):
                lows.append(f"{key} >= {self._bind(low)}")
            else:
                highs.append(f"{key} <= {self._bind(high)}")
        if len(kinds) != 1:  # nothing, or a number and a text, which no plain value can meet both
            return []
        of_texts = kinds.pop()
        low_end, high_end = (f"{key} >= ''", f"{key} < x''") if of_texts else ("", f"{key} < ''")
        clauses = [*(lows or filter(None, [low_end])), *(highs or [high_end])]
        return [(_RANGE if lows and highs else _HALF, " AND ".join(clauses))]

    def _prefix(self, wanted: Mapping[str, Any]) -> list[str]:
        """Return the range of the texts that a regular expression can match."""
        if "$regex" not in wanted:
            return []
        prefix, _ = literal_prefix(wanted["$regex"], wanted.get("$options", ""))
        after = next_text(prefix)
        return [] if after is None else [f"BETWEEN {self._bind(prefix)} AND {self._bind(after)}"]

    def _in(self, values: Sequence[Any]) -> str:
        if len(values) == 1:
            return f"= {self._bind(values[0])}"
        return f"IN (SELECT value FROM json_each({self._bind(json.dumps(values))}))"

    # Places ------------------------------------------------------------------------------------------------------------

    def _place(self, wanted: Mapping[str, Any]) -> list[Way]:
        from nuncius.archives.language import geo_region

        operator = next((name for name in _SPATIAL if name in wanted), None)
        if operator is None:
            return []
        region: Any = geo_region(operator, wanted[operator])
        table = quoted(self._fields.catalog)
        low, high = region.ranges()
        ranges = self._bind(json.dumps([[int(a), int(b)] for a, b in zip(low, high, strict=True)]))
        inside = (
            f"id IN (SELECT t.id FROM json_each({ranges}) AS r CROSS JOIN {table} AS t "
            "ON t.hpx >= json_extract(r.value, '$[0]') AND t.hpx < json_extract(r.value, '$[1]'))"
        )
        index = f"{self._fields.catalog}:by_place"
        return [Way(_SOME, [inside, "hpx IS NULL"], frozenset([index]))]


def _listed(wanted: Mapping[str, Any]) -> list[list[Any]]:
    """Return the lists of values of which a field must have one."""
    lists = [[wanted["$eq"]]] if "$eq" in wanted else []
    return [*lists, list(wanted["$in"])] if wanted.get("$in") else lists


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def _of_column(values: Sequence[Any], *, texts_only: bool) -> list[Any] | None:
    """Return the values of a column of ids that equal any of these, or None if that can't be said."""
    found: list[Any] = []
    for value in values:
        if type(value).__name__ == "ObjectId":
            found.append(str(value))
        elif isinstance(value, str) and is_simple(value):
            found.append(value)
        elif not _is_number(value) or texts_only or not -(2**63) <= value < 2**63:
            return None
        elif value == int(value):  # an id is no fraction
            found.append(int(value))
    return found


def is_text_bound(value: Any) -> bool:
    """Tell whether a value is a text that SQLite can hold."""
    return isinstance(value, str) and is_simple(value)
