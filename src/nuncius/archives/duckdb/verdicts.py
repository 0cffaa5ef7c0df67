"""Filters as DuckDB's SQL: true where a document meets the filter, false where not, NULL where only the matcher can say.

SQL's AND, OR and NOT treat NULL just so. A column has one type, so most traps of the language (texts beside numbers, true
and 1, arrays) are decided when the filter is compiled; what is left are the documents without a value in the column.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from nuncius.archives.duckdb.cells import inside
from nuncius.archives.duckdb.columns import CELL
from nuncius.archives.embedded.verdicts import literal_prefix, next_text
from nuncius.archives.language import geo_region
from nuncius.archives.language.geo import NEAR, WITHIN
from nuncius.archives.language.values import has_operators, is_id, is_nan, is_number
from nuncius.archives.wanted import POSITION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius.archives.duckdb.columns import Column, Fields

_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_MOST_LEAVES = 300  # DuckDB takes expressions a thousand levels deep
_MANY = 20  # values of one type in $in, from which on they are given as a list
_LARGEST = 2**63
_REGIONS = (*WITHIN, *NEAR)
_TYPES = {
    "integer": frozenset({"number", "int", "long"}),
    "real": frozenset({"number"}),
    "text": frozenset({"string"}),
    "boolean": frozenset({"bool"}),
}


class Parameters(dict[str, Any]):
    """The values of a statement, by name."""

    def bind(self, value: Any) -> str:
        """Add a value, and return what stands for it in the SQL."""
        name = f"v{len(self)}"
        self[name] = value
        return f"${name}"

    def cut(self, length: int) -> None:
        """Forget all values but the first: DuckDB refuses some that nothing asks for."""
        for name in list(self)[length:]:
            del self[name]


class Verdict:
    """A filter as an SQL expression.

    Parameters
    ----------
    columns : Fields
        What DuckDB can be asked for.
    condition : mapping
        A checked filter.
    parameters : Parameters
        Where its values go.
    """

    def __init__(self, columns: Fields, condition: Mapping[str, Any], parameters: Parameters) -> None:
        self.residual: dict[str, Any] = {}
        """The parts of the filter that DuckDB leaves to the matcher, at least for some documents."""
        self.where = ""
        """The condition of a document for which the filter is not false; the files' statistics serve it."""
        self._columns = columns
        self._parameters = parameters
        self._leaves = 0
        self._undecided = False
        before = len(parameters)
        self.sql = self._top(condition)
        if self._leaves > _MOST_LEAVES:
            parameters.cut(before)
            self.sql, self.where, self.residual = "NULL::BOOLEAN", "true", dict(condition)

    @property
    def decides(self) -> bool:
        """Whether it is true or false for every document."""
        return not self.residual

    def _top(self, condition: Mapping[str, Any]) -> str:
        parts, wheres = [], []
        for key, value in condition.items():
            inner = [item for part in value for item in part.items()] if key == "$and" else [(key, value)]
            for path, wanted in inner:
                self._undecided = False
                where = self._place(wanted) if path == POSITION else None
                part = (
                    f"CASE WHEN {where} THEN NULL::BOOLEAN ELSE false END"
                    if where
                    else self._part(path, wanted)
                )
                parts.append(part)
                wheres.append(where or (f"{part} IS NOT FALSE" if self._undecided else part))
                if self._undecided:
                    self.residual[key] = value
        self.where = _all(wheres)
        return _all(parts)

    def _place(self, wanted: Any) -> str | None:
        """Return the condition of the cells in which a region that is asked for may lie."""
        regions = (
            [operator for operator in wanted if operator in _REGIONS] if isinstance(wanted, dict) else []
        )
        if not regions or not self._columns.has_places:
            return None
        self._undecided = True
        region = geo_region(regions[0], wanted[regions[0]])
        return f"({CELL} IS NULL OR {inside(*region.ranges(), self._parameters)})"

    def _part(self, key: str, value: Any) -> str:
        self._leaves += 1
        if key == "$comment":
            return "true"
        if key in {"$and", "$or", "$nor"}:
            parts = [_all([self._part(*item) for item in part.items()]) for part in value]
            if key == "$and":
                return _all(parts)
            either = "(" + " OR ".join(parts) + ")"
            return either if key == "$or" else f"(NOT {either})"
        column = None if key.startswith("$") else self._columns.get(key)
        return self._unknown() if column is None else self._meets(column, value)

    def _meets(self, column: Column, wanted: Any) -> str:
        if not has_operators(wanted):
            return (
                self._regex(column, wanted, "")
                if isinstance(wanted, re.Pattern)
                else self._equals(column, wanted)
            )
        return _all(
            [self._operator(column, operator, wanted) for operator in wanted if operator != "$options"]
        )

    def _operator(self, column: Column, operator: str, wanted: Mapping[str, Any]) -> str:
        self._leaves += 1
        operand = wanted[operator]
        if operator in _SIGNS:
            return self._compares(column, _SIGNS[operator], operand)
        if operator in {"$eq", "$ne"}:
            return self._negated(operator == "$ne", self._equals(column, operand))
        if operator in {"$in", "$nin"}:
            return self._negated(operator == "$nin", self._any(column, operand))
        if operator == "$not":
            return self._negated(True, self._meets(column, operand))
        if operator == "$exists":
            return self._negated(not operand, self._exists(column))
        if operator == "$regex":
            return self._regex(column, operand, wanted.get("$options", ""))
        if operator == "$type":
            return self._type(column, operand)
        return self._unknown()

    def _negated(self, negate: bool, sql: str) -> str:
        return f"(NOT {sql})" if negate else sql

    def _unknown(self) -> str:
        self._undecided = True
        return "NULL::BOOLEAN"

    # Values ------------------------------------------------------------------------------------------------------------

    def _there(self, column: Column, test: str, *, otherwise: str = "false") -> str:
        """Say what holds where the column has a value, and what where the document has none or null."""
        if column.nulls == "none":
            return test
        if column.nulls == "plain":
            join = "AND" if otherwise == "false" else "OR"
            return f"({column.sql} IS {'NOT ' if join == 'AND' else ''}NULL {join} {test})"
        self._undecided = True
        return f"CASE WHEN {column.sql} IS NOT NULL THEN {test} END" if test in {"true", "false"} else test

    def _equals(self, column: Column, wanted: Any) -> str:
        if wanted is None:
            return self._there(column, "false", otherwise="true")
        if isinstance(wanted, re.Pattern):
            return self._regex(column, wanted, "")
        return self._there(column, self._same(column, wanted))

    def _same(self, column: Column, wanted: Any) -> str:
        """Compare a value that is there with another one."""
        if is_id(wanted):
            wanted = str(wanted)  # ids are kept as texts, which the language takes for the same
        if isinstance(wanted, bool) and column.kind == "boolean":
            return f"{column.sql} = {str(wanted).lower()}"
        if isinstance(wanted, str) and column.kind == "text" and _is_text(wanted):
            return f"{column.sql} = {self._parameters.bind(wanted)}"
        if is_number(wanted) and column.kind in {"integer", "real"}:
            return self._number(column, "=", wanted)
        return "false"  # of another type

    def _any(self, column: Column, wanted: Sequence[Any]) -> str:
        listed = [value for value in wanted if _is_listed(column, value)]
        others = [value for value in wanted if not _is_listed(column, value)]
        if len(listed) < _MANY:
            listed, others = [], list(wanted)
        self._leaves += len(others)
        parts = [self._meets(column, value) for value in others]
        if listed:
            kind = "VARCHAR" if column.kind == "text" else "BIGINT"
            members = f"(SELECT unnest({self._parameters.bind(listed)}::{kind}[]))"
            parts.append(self._there(column, f"{column.sql} IN {members}"))
        return "(" + " OR ".join(parts) + ")" if parts else "false"

    def _exists(self, column: Column) -> str:
        if column.nulls == "none":
            return "true"
        if column.nulls == "plain":
            return f"({column.sql} IS NOT NULL OR {column.exists})"
        self._undecided = True
        return f"CASE WHEN {column.sql} IS NOT NULL THEN true END"

    # Order -------------------------------------------------------------------------------------------------------------

    def _compares(self, column: Column, sign: str, operand: Any) -> str:
        if operand is None or is_nan(operand):  # only equality is left of such a comparison
            return self._equals(column, operand) if "=" in sign else "false"
        if is_id(operand):
            return self._unknown() if column.kind == "text" else self._there(column, "false")
        test = "false"
        if isinstance(operand, bool):
            if column.kind == "boolean":
                test = f"{column.sql} {sign} {str(operand).lower()}"
        elif is_number(operand):
            if column.kind in {"integer", "real"}:
                test = self._number(column, sign, operand)
        elif isinstance(operand, str) and column.kind == "text":
            if not _is_text(operand):
                return self._unknown()
            test = f"{column.sql} {sign} {self._parameters.bind(operand)}"
        return self._there(column, test)

    def _number(self, column: Column, sign: str, operand: float) -> str:
        """Compare with a number exactly: DuckDB would make a fraction of a large whole number first."""
        if is_nan(operand):
            return "false"
        sign, bound = (_whole_bound if column.kind == "integer" else _real_bound)(sign, operand)
        if bound is None:
            return "true" if sign == "true" else "false"
        return f"{column.sql} {sign} {self._parameters.bind(bound)}"

    # The rest ----------------------------------------------------------------------------------------------------------

    def _regex(self, column: Column, pattern: Any, options: str) -> str:
        if column.kind != "text":
            return self._there(column, "false")
        prefix, whole = literal_prefix(pattern, options)
        after = next_text(prefix)
        if after is None:
            return self._unknown()
        low, high = self._parameters.bind(prefix), self._parameters.bind(after)
        begins = f"({column.sql} >= {low} AND {column.sql} < {high})"
        if whole:
            return self._there(column, begins)
        self._undecided = True  # Python's expressions decide on what begins so
        outside = self._there(column, f"CASE WHEN {begins} THEN NULL::BOOLEAN ELSE false END")
        return outside if column.nulls != "odd" else f"CASE WHEN {column.sql} IS NOT NULL THEN {outside} END"

    def _type(self, column: Column, names: Sequence[str]) -> str:
        if not set(names).isdisjoint(_TYPES[column.kind]):
            return (
                self._there(column, "true")
                if column.nulls == "none" or "null" not in names
                else self._unknown()
            )
        if column.kind == "real" and not {"double", "int", "long"}.isdisjoint(names):
            return self._unknown()  # the column may have whole numbers too
        return self._unknown() if "null" in names else self._there(column, "false")


def _all(parts: list[str]) -> str:
    return "(" + " AND ".join(parts) + ")" if len(parts) > 1 else parts[0] if parts else "true"


def _whole_bound(sign: str, operand: float) -> tuple[str, int | None]:
    """Turn a comparison of whole numbers with any number into one with a whole number; without one it is constant."""
    if isinstance(operand, float):
        if math.isinf(operand):
            return _constant(sign, operand > 0), None
        if not operand.is_integer():
            if sign == "=":
                return "false", None
            # All beyond a fraction is beyond the next whole number, and that number too.
            sign, operand = sign[0] + "=", math.ceil(operand) if sign[0] == ">" else math.floor(operand)
        operand = int(operand)
    if not -_LARGEST <= operand < _LARGEST:
        return _constant(sign, operand > 0), None
    return sign, operand


def _real_bound(sign: str, operand: float) -> tuple[str, float | None]:
    """Turn a comparison of fractions with any number into one with a fraction; without one it is constant."""
    try:
        near = float(operand)
    except OverflowError:
        near = math.inf if operand > 0 else -math.inf
    if near == operand:
        return sign, near
    if sign == "=":
        return "false", None
    # A whole number between two fractions: whether the nearer one of them counts depends on its side.
    beyond = near > operand if sign[0] == ">" else near < operand
    return sign[0] + ("=" if beyond else ""), near


def _constant(sign: str, is_above: bool) -> str:
    """Say what holds for all numbers when the other one is above, or below, all of them."""
    return "true" if sign[0] == ("<" if is_above else ">") else "false"


def _is_text(value: str) -> bool:
    """Tell whether a text is one of Unicode: halves of surrogate pairs are in no column."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_listed(column: Column, value: Any) -> bool:
    """Tell whether a value can stand in a list of DuckDB's."""
    if isinstance(value, str):
        return column.kind == "text" and _is_text(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and column.kind == "integer" and -_LARGEST <= value < _LARGEST
