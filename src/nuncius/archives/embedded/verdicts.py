"""Filters as SQL: what a row is worth, as far as SQL can say.

A filter becomes an SQL expression over the keys of its fields (see `fields`) that is 1 where a document meets the filter,
0 where it doesn't, and NULL where only the matcher can say. SQL's AND, OR and NOT treat NULL just so. So nothing is
ever decided wrongly, and each trap of the language (arrays, missing fields, true and 1, texts and numbers) is an
unknown or stands in the key.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nuncius.archives.embedded.fields import FALSE, OBJECT, ODD, TRUE
from nuncius.archives.language.patterns import compile_pattern
from nuncius.archives.language.values import has_operators, is_id, is_nan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nuncius.archives.embedded.fields import Field, Fields

UNKNOWN = "NULL"
MOST_LEAVES = 150  # SQLite allows expressions a thousand levels deep; each of ours takes a few
_MANY = 20  # values of $in, from which on they are given as one list

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_ROUNDING = 1e-14  # relative; SQLite reads the fractions of JSON exactly to 15 digits
_SMALLEST = 1e-300
_SPECIAL = frozenset(".^$*+?{}[]\\|()")


class Parameters(dict[str, Any]):
    """The values of a statement, by name."""

    def bind(self, value: Any) -> str:
        """Add a value, and return what stands for it in the SQL."""
        name = f"v{len(self)}"
        self[name] = value
        return f":{name}"


class Verdict:
    """A filter as an SQL expression.

    Parameters
    ----------
    fields : Fields
        The fields of the catalog.
    condition : mapping
        A checked filter.
    parameters : Parameters
        Where its values go.
    with_documents : bool
        Whether the expression may look at the JSON text, for numbers that lie too near at a bound for SQLite's reading.
    """

    def __init__(
        self,
        fields: Fields,
        condition: Mapping[str, Any],
        parameters: Parameters,
        *,
        with_documents: bool = True,
    ) -> None:
        self.columns: dict[str, str] = {}
        """The SQL of what the expression is made of, by the names that it has there."""
        self.residual: dict[str, Any] = {}
        """The parts of the filter that SQL leaves to the matcher, also for fields with plain values."""
        self.with_documents = with_documents
        self.has_patterns = False
        """Whether the expression calls `matches_pattern`, which SQLite does not have by itself."""
        self._fields = fields
        self._parameters = parameters
        self._leaves = 0
        self._undecided = False
        self.sql = self._top(condition)
        if self._leaves > MOST_LEAVES:
            self.sql, self.residual, self.columns = UNKNOWN, dict(condition), {}

    def key(self, field: Field) -> str:
        """Return the name under which a field's key stands in the expression."""
        return self._column("k", field.path, field.key)

    def _column(self, kind: str, path: str, sql: str) -> str:
        name = f'"{kind}:{path}"'
        self.columns[name] = sql
        return name

    def _top(self, condition: Mapping[str, Any]) -> str:
        parts = []
        for key, value in condition.items():
            self._undecided = False
            parts.append(self._part(key, value))
            if self._undecided:
                self.residual[key] = value
        return _all(parts)

    def _filter(self, condition: Mapping[str, Any]) -> str:
        return _all([self._part(key, value) for key, value in condition.items()])

    def _part(self, key: str, value: Any) -> str:
        self._leaves += 1
        if key == "$comment":
            return "1"
        if key in {"$and", "$or", "$nor"}:
            parts = [self._filter(part) for part in value]
            if key == "$and":
                return _all(parts)
            either = "(" + " OR ".join(parts) + ")"
            return either if key == "$or" else f"(NOT {either})"
        field = None if key.startswith("$") else self._fields[key]
        return self._unknown() if field is None else self._meets(field, value)

    def _unknown(self) -> str:
        self._undecided = True
        return UNKNOWN

    def _meets(self, field: Field, wanted: Any) -> str:
        if not has_operators(wanted):
            return (
                self._regex(field, wanted, "")
                if isinstance(wanted, re.Pattern)
                else self._equals(field, wanted)
            )
        parts = []
        for operator, operand in wanted.items():
            self._leaves += 1
            if operator == "$regex":
                parts.append(self._regex(field, operand, wanted.get("$options", "")))
            elif operator != "$options":
                parts.append(self._operator(field, operator, operand))
        return _all(parts)

    def _operator(self, field: Field, operator: str, operand: Any) -> str:
        key = self.key(field)
        if operator in _ORDER:
            return self._compares(field, operator, operand)
        if operator == "$eq":
            return self._equals(field, operand)
        if operator == "$ne":
            return f"(NOT {self._equals(field, operand)})"
        if operator == "$in":
            return self._any(field, operand)
        if operator == "$nin":
            return f"(NOT {self._any(field, operand)})"
        if operator == "$not":
            return f"(NOT {self._meets(field, operand)})"
        if operator == "$exists":
            there = self._column("e", field.path, field.exists)
            return there if operand else f"(NOT {there})"
        if operator == "$all":
            self._leaves += len(operand)
            return _all([self._meets(field, item) for item in operand]) if operand else "0"
        if operator in {"$size", "$elemMatch"}:  # only arrays have elements
            return f"CASE {key} WHEN {ODD} THEN NULL ELSE 0 END"
        if operator == "$type":
            return self._type(key, operand)
        if operator == "$mod":
            return self._modulo(key, operand)
        return self._unknown()

    # Equality ----------------------------------------------------------------------------------------------------------

    def _equals(self, field: Field, wanted: Any) -> str:
        key = self.key(field)
        if is_id(wanted):
            wanted = str(wanted)  # ids are kept as texts, which the language takes for the same
        if wanted is None:
            return f"CASE WHEN {key} IS NULL THEN 1 WHEN {key} = {ODD} THEN NULL ELSE 0 END"
        if isinstance(wanted, bool):
            return f"CASE {key} WHEN {TRUE if wanted else FALSE} THEN 1 WHEN {ODD} THEN NULL ELSE 0 END"
        if isinstance(wanted, (int, float)):
            return self._number(field, "=", wanted)
        if isinstance(wanted, str):
            if not is_text(wanted):
                return _one_of(key, text=UNKNOWN)
            return f"CASE {key} WHEN {self._parameters.bind(wanted)} THEN 1 WHEN {ODD} THEN NULL ELSE 0 END"
        if isinstance(wanted, dict):
            self._undecided = True
            return f"CASE WHEN {key} IN ({ODD}, {OBJECT}) THEN NULL ELSE 0 END"
        if isinstance(wanted, (list, bytes, datetime)):  # these are odd where they are
            return f"CASE {key} WHEN {ODD} THEN NULL ELSE 0 END"
        return self._unknown()

    def _any(self, field: Field, wanted: Sequence[Any]) -> str:
        simple = [value for value in wanted if is_simple(value)] if len(wanted) > _MANY else []
        others = [value for value in wanted if not is_simple(value)] if simple else wanted
        self._leaves += len(others)
        parts = [self._meets(field, value) for value in others]
        if simple:
            key, values = self.key(field), self._parameters.bind(json.dumps(simple))
            parts.append(
                f"CASE WHEN typeof({key}) IN ('text', 'integer') THEN {key} IN (SELECT value FROM json_each({values})) "
                f"WHEN typeof({key}) = 'real' OR {key} = {ODD} THEN NULL ELSE 0 END"
            )
        return "(" + " OR ".join(parts) + ")" if parts else "0"

    # Order -------------------------------------------------------------------------------------------------------------

    def _compares(self, field: Field, operator: str, operand: Any) -> str:
        key, sign = self.key(field), _ORDER[operator]
        if operand is None:  # only equality is left
            return self._equals(field, None) if "=" in sign else "0"
        if isinstance(operand, bool):
            bound = TRUE if operand else FALSE
            return f"CASE WHEN {key} IN ({FALSE}, {TRUE}) THEN {key} {sign} {bound} WHEN {key} = {ODD} THEN NULL ELSE 0 END"
        if isinstance(operand, (int, float)):
            if is_nan(operand) and "=" not in sign:
                return "0"
            return self._number(field, sign, operand)
        if isinstance(operand, str):
            return _one_of(
                key, text=f"{key} {sign} {self._parameters.bind(operand)}" if is_text(operand) else UNKNOWN
            )
        if is_id(operand):
            return _one_of(key, text=UNKNOWN)
        if isinstance(operand, (list, bytes, datetime)):
            return f"CASE {key} WHEN {ODD} THEN NULL ELSE 0 END"
        self._undecided = True
        return f"CASE WHEN {key} IN ({ODD}, {OBJECT}) THEN NULL ELSE 0 END"

    def _number(self, field: Field, sign: str, operand: float) -> str:
        """Compare with a number, and look closely at the fractions that SQLite may have read as their neighbours."""
        key = self.key(field)
        if is_nan(operand):  # odd where it is
            return f"CASE {key} WHEN {ODD} THEN NULL ELSE 0 END"
        low, high = zone(operand)
        below, above = int("<" in sign), int(">" in sign)
        if -(2**63) <= operand < 2**63 or isinstance(operand, float):
            near = f"{key} {sign} {self._parameters.bind(operand)}"
        else:
            near = UNKNOWN
        return (
            f"CASE WHEN {key} < {self._parameters.bind(low)} THEN {below} "
            f"WHEN {key} <= {self._parameters.bind(high)} "
            f"THEN CASE typeof({key}) WHEN 'integer' THEN {near} ELSE {self._same_digits(field, sign, operand)} END "
            f"WHEN {key} < '' THEN {above} WHEN {key} = {ODD} THEN NULL ELSE 0 END"
        )

    def _same_digits(self, field: Field, sign: str, operand: float) -> str:
        """Tell by the digits whether a fraction is the number asked for; another one so near is for the matcher."""
        try:
            same = float(operand)
        except OverflowError:
            return UNKNOWN
        if not self.with_documents or same != operand or math.isinf(same):
            return UNKNOWN
        digits = self._parameters.bind(msgspec.json.encode(same).decode())
        return f"CASE {field.text} WHEN {digits} THEN {int('=' in sign)} END"

    # The rest ----------------------------------------------------------------------------------------------------------

    def _regex(self, field: Field, pattern: Any, options: str) -> str:
        key = self.key(field)
        if isinstance(pattern, re.Pattern):
            options += "".join(letter for letter in "imsx" if pattern.flags & getattr(re, letter.upper()))
            pattern = pattern.pattern
        compile_pattern(pattern, options, "$regex")  # a mistake is one here, and not in the middle of the SQL
        prefix, whole = literal_prefix(pattern, options)
        inside = "1"
        if not whole:
            if not is_text(pattern):
                return _one_of(key, text=self._unknown())
            self.has_patterns = True
            inside = (
                f"matches_pattern({self._parameters.bind(pattern)}, {self._parameters.bind(options)}, {key})"
            )
        after = next_text(prefix)
        if after is None:
            return _one_of(key, text=inside)
        low, high = self._parameters.bind(prefix), self._parameters.bind(after)
        return _one_of(key, text=f"CASE WHEN {key} >= {low} AND {key} < {high} THEN {inside} ELSE 0 END")

    def _type(self, key: str, names: Any) -> str:
        tests = {
            "number": f"typeof({key}) IN ('integer', 'real')",
            "double": f"typeof({key}) = 'real'",
            "string": f"typeof({key}) = 'text'",
            "bool": f"{key} IN ({FALSE}, {TRUE})",
            "object": f"{key} = {OBJECT}",
            "int": f"typeof({key}) = 'integer'",
            "long": f"typeof({key}) = 'integer'",
            **dict.fromkeys(("array", "binData", "date", "objectId", "regex"), "0"),  # odd where they are
        }
        if not isinstance(names, list) or not all(name in tests for name in names):
            return self._unknown()
        either = " OR ".join(tests[name] for name in names) or "0"
        return f"CASE WHEN {key} = {ODD} THEN NULL WHEN {either} THEN 1 ELSE 0 END"

    def _modulo(self, key: str, operand: Sequence[Any]) -> str:
        if not all(isinstance(number, int) and abs(number) < 2**63 for number in operand):
            return self._unknown()
        divisor, remainder = (self._parameters.bind(number) for number in operand)
        return (
            f"CASE typeof({key}) WHEN 'integer' THEN {key} % {divisor} = {remainder} WHEN 'real' THEN NULL "
            f"WHEN 'blob' THEN CASE {key} WHEN {ODD} THEN NULL ELSE 0 END ELSE 0 END"
        )


def _all(parts: list[str]) -> str:
    return "(" + " AND ".join(parts) + ")" if len(parts) > 1 else parts[0] if parts else "1"


def _one_of(key: str, *, text: str) -> str:
    """Say what holds for texts; nothing else can meet the condition."""
    return f"CASE WHEN typeof({key}) = 'text' THEN {text} WHEN {key} = {ODD} THEN NULL ELSE 0 END"


def zone(number: float) -> tuple[float, float]:
    """Return the bounds between which SQLite's reading of a fraction may be this number."""
    try:
        middle = float(number)
    except OverflowError:
        middle = math.inf if number > 0 else -math.inf
    if math.isinf(middle):
        return middle, middle
    slack = max(abs(middle) * _ROUNDING, _SMALLEST)
    return middle - slack, middle + slack


def is_text(value: str) -> bool:
    """Tell whether SQLite can hold a text: no NUL, no halves of surrogate pairs."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_simple(value: Any) -> bool:
    """Tell whether a value is a text or an integer that stands in the key of a field as it is."""
    if isinstance(value, str):
        return is_text(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def literal_prefix(pattern: Any, options: str = "") -> tuple[str, bool]:
    """Return the text with which all matches of a regular expression begin, and whether that is all it asks for."""
    if isinstance(pattern, re.Pattern):
        if pattern.flags & ~re.UNICODE:
            return "", False
        pattern = pattern.pattern
    if options or not pattern.startswith("^") or "|" in pattern:
        return "", False
    prefix, place = "", 1
    while place < len(pattern):
        letter = pattern[place]
        step = 1
        if letter == "\\" and pattern[place + 1 : place + 2] in _SPECIAL | {"-", "_", "/"}:
            letter, step = pattern[place + 1], 2
        elif letter in _SPECIAL:
            break
        if pattern[place + step : place + step + 1] in {
            "*",
            "?",
            "{",
            "+",
        }:  # the letter may be missing, or come again
            break
        prefix, place = prefix + letter, place + step
    return (prefix, place == len(pattern)) if is_text(prefix) else ("", False)


def next_text(prefix: str) -> str | None:
    """Return the first text after all those with a prefix, or None if there is none."""
    last = ord(prefix[-1]) + 1 if prefix else 0x110000
    if last > 0x10FFFF or 0xD800 <= last <= 0xDFFF:
        return None
    return prefix[:-1] + chr(last)
