"""Ways to rows: what of a filter an index can answer.

A way leads to too many rows at most, never to too few: the verdict (see `verdicts`) or the matcher decides on each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.archives.embedded.database import quoted
from nuncius.archives.embedded.fields import FALSE, OBJECT, ODD, POSITION, TRUE
from nuncius.archives.embedded.verdicts import is_simple, literal_prefix, next_text, zone
from nuncius.archives.language.values import has_operators, is_id, is_nan, is_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius.archives.embedded.fields import Field, Fields, Lifted
    from nuncius.archives.embedded.verdicts import Parameters

_MOST_PARTS = 60  # reached by one index each
_MOST_CELLS = 3 << 58  # a quarter of the sky; for more of it all rows are read quicker in their order
_ORDER = frozenset({"$gt", "$gte", "$lt", "$lte"})
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
    sure : str, optional
        The condition on rows that certainly meet the filter, if it asks for a range of the field and for nothing else.
    rest : list of str
        Conditions on the rows beside these that may meet it.
    """

    rank: int
    parts: list[str]
    indexes: frozenset[str]
    is_disjoint: bool = True
    path: str | None = None
    sure: str | None = None
    rest: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Range:
    """A range of a key; each bound is a pair, between which SQLite's reading of a fraction may be on either side.

    Parameters
    ----------
    key : str
        The SQL of the key, or of a column.
    lows, highs : list of (str, str)
        The bounds, as the SQL has them.
    ends : (str, str)
        The conditions that hold within the type of the bounds, where there is no bound.
    only_bounds : bool
        Whether nothing else is asked for.
    """

    key: str
    lows: list[tuple[str, str]]
    highs: list[tuple[str, str]]
    ends: tuple[str, str]
    only_bounds: bool

    def way(self, indexes: frozenset[str], beside: list[str], path: str | None) -> Way:
        """Return the way to it, and to the rows beside that have no such key."""
        key, rank = self.key, _RANGE if self.lows and self.highs else _HALF
        part = self._between(
            [f"{key} >= {low}" for low, _ in self.lows], [f"{key} <= {high}" for _, high in self.highs]
        )
        if path is None or not self.only_bounds or max(len(self.lows), len(self.highs)) > 1:
            return Way(rank, [part, *beside], indexes, path=path)
        sure = self._between(
            [f"{key} > {high}" for _, high in self.lows], [f"{key} < {low}" for low, _ in self.highs]
        )
        near = [f"{key} BETWEEN {low} AND {high}" for low, high in self.lows]
        near += [
            # Not twice where both bounds are one.
            f"{key} BETWEEN {low} AND {high}" + "".join(f" AND {key} > {other}" for _, other in self.lows)
            for low, high in self.highs
        ]
        return Way(rank, [part, *beside], indexes, path=path, sure=sure, rest=[*near, *beside])

    def _between(self, lows: list[str], highs: list[str]) -> str:
        low_end, high_end = self.ends
        return " AND ".join([*(lows or filter(None, [low_end])), *(highs or [high_end])])


class Ways:
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
        column, indexes = lifted.column, frozenset([lifted.index])
        # What the column can't have is NULL there.
        beside = [] if column == "_id" else [f"{column} IS NULL"]
        if lifted.is_time:
            path = of.path if lifted.is_exact and of.index is None else None
            found = self._range(column, wanted, lifted.offset, lifted.slack)
            return [] if found is None else [found.way(indexes, beside, path)]
        parts = []
        for values in _listed(wanted):
            of_column = _of_column(values, texts_only=column == "object_id")
            if of_column is not None:
                parts.append((_ONE if column == "_id" else _FEW, f"{column} {self._in(of_column)}"))
        if column != "alert_id":
            parts += [(_RANGE, f"{column} {clause}") for clause in self._prefix(wanted)]
        return [Way(rank, [part, *beside], indexes) for rank, part in parts]

    # Indexes of fields -------------------------------------------------------------------------------------------------

    def _by_index(self, of: Field, wanted: Mapping[str, Any]) -> list[Way]:
        assert of.index is not None
        indexes, odd = frozenset([of.index]), f"{of._key} = {ODD}"
        found = [
            (_SOME, parts) for values in _listed(wanted) if (parts := self._values(of, values)) is not None
        ]
        found += [(_RANGE, [f"{of._key} {clause}"]) for clause in self._prefix(wanted)]
        ways = [
            Way(rank, [*parts, odd], indexes, is_disjoint=len(parts) == 1, path=of.path)
            for rank, parts in found
        ]
        span = self._range(of._key, wanted)
        return ways if span is None else [*ways, span.way(indexes, [odd], of.path)]

    def _values(self, of: Field, values: Sequence[Any]) -> list[str] | None:
        """Return conditions on the key that any of the values meets, or None if that can't be said."""
        key, parts = of._key, []
        simple = [str(value) if is_id(value) else value for value in values]
        listed = [value for value in simple if is_simple(value)]
        if listed:
            parts.append(f"{key} {self._in(listed)}")
        for value in simple:
            if is_simple(value) or isinstance(value, (list, bytes, datetime)):
                continue  # listed, or odd where they are
            if value is None:
                parts.append(f"{key} IS NULL")
            elif isinstance(value, bool):
                parts.append(f"{key} = {TRUE if value else FALSE}")
            elif isinstance(value, (int, float)):
                if not is_nan(value):  # odd where it is
                    parts.append(f"{key} {self._near(value)}")
            elif isinstance(value, dict):
                parts.append(f"{key} = {OBJECT}")
            else:
                return None
        return parts if parts and len(parts) < _MOST_PARTS else None

    def _near(self, value: float) -> str:
        low, high = zone(value)
        if isinstance(value, int) and -(2**63) <= value < 2**63 and float(value) != value:
            return f"= {self._bind(value)}"  # no fraction is that number
        return f"BETWEEN {self._bind(low)} AND {self._bind(high)}"

    def _range(
        self, key: str, wanted: Mapping[str, Any], offset: float = 0.0, slack: float = 0.0
    ) -> _Range | None:
        """Return the range of a key that a condition asks for; of a column from which the field differs, with slack."""
        lows, highs, kinds, only_bounds = [], [], set(), True
        for operator, operand in wanted.items():
            is_bound = operator in _ORDER and (_is_number(operand) or _is_text_bound(operand))
            is_bound = is_bound or (operator == "$eq" and slack > 0 and _is_number(operand))
            only_bounds = only_bounds and is_bound and operator != "$eq"
            if not is_bound:
                continue
            kinds.add(isinstance(operand, str))
            if isinstance(operand, str):
                bounds = self._bind(operand), self._bind(operand)
            else:
                low, high = zone(operand)
                bounds = self._bind(low - offset - slack), self._bind(high - offset + slack)
            if not operator.startswith("$l"):
                lows.append(bounds)
            if not operator.startswith("$g"):
                highs.append(bounds)
        if len(kinds) != 1:  # nothing, or a number and a text, which no plain value can meet both
            return None
        ends = (f"{key} >= ''", f"{key} < x''") if kinds.pop() else ("", f"{key} < ''")
        return _Range(key, lows, highs, ends, only_bounds=only_bounds)

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
        if int((high - low).sum()) > _MOST_CELLS:
            return []
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
    return is_number(value) and not is_nan(value)


def _of_column(values: Sequence[Any], *, texts_only: bool) -> list[Any] | None:
    """Return the values of a column of ids that equal any of these, or None if that can't be said."""
    found: list[Any] = []
    for value in values:
        if is_id(value):
            found.append(str(value))
        elif isinstance(value, str) and is_simple(value):
            found.append(value)
        elif not _is_number(value) or texts_only or not -(2**63) <= value < 2**63:
            return None
        elif value == int(value):  # an id is no fraction
            found.append(int(value))
    return found


def _is_text_bound(value: Any) -> bool:
    """Tell whether a value is a text that SQLite can hold."""
    return isinstance(value, str) and is_simple(value)
