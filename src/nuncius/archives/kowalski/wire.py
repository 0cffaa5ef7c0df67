"""Filters and values as Kowalski's interface takes them: plain JSON, which has neither dates nor ids.

A comparison with a date or an id is therefore written as an expression that makes one on the server:
``{"$expr": {"$gt": ["$created", {"$toDate": "2026-11-21T00:00:00+00:00"}]}}``.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGICAL = frozenset({"$and", "$or", "$nor"})
_COMPARISONS = frozenset({"$eq", "$gt", "$gte", "$lt", "$lte"})
_MADE_OF = {"objectId": "$toObjectId", "date": "$toDate"}


def to_body(value: Any) -> bytes:
    """Write a request body. NaN stays NaN: null would be another question."""
    return json.dumps(value, separators=(",", ":")).encode()


def plain_filter(condition: Mapping[str, Any], place: str = "filter") -> dict[str, Any]:
    """Turn a checked filter into plain JSON values.

    Raises
    ------
    FilterError
        If it holds what can't be written so, with the place.
    """
    result: dict[str, Any] = {}
    expressions: list[dict[str, Any]] = []
    for name, value in condition.items():
        where = f"{place}[{name!r}]"
        if name in _LOGICAL:
            result[name] = [plain_filter(part, f"{where}[{i}]") for i, part in enumerate(value)]
        elif name == "$expr":
            result[name] = plain_expression(value, where)
        else:
            rest = _field(name, value, where, expressions)
            if rest is not None:
                result[name] = rest
    if expressions:
        result["$and"] = [*result.get("$and", []), *expressions]
    return result


def _field(name: str, value: Any, place: str, expressions: list[dict[str, Any]]) -> Any:
    """Return the plain condition of a field, and put into `expressions` what has to be said otherwise."""
    if _kind(value) is not None:
        expressions.append(_compared(name, "$eq", value))
        return None
    if isinstance(value, re.Pattern):
        return {"$regex": value.pattern, "$options": _options(value)}
    if not (isinstance(value, dict) and any(key.startswith("$") for key in value)):
        return _plain(value, place)
    rest: dict[str, Any] = {}
    for operator, operand in value.items():
        if operator in _COMPARISONS and _kind(operand) is not None:
            expressions.append(_compared(name, operator, operand))
        elif operator == "$in" and any(_kind(item) is not None for item in operand):
            if not all(_kind(item) is not None for item in operand):
                raise FilterError(
                    f"{place}['$in']: a list with ids or dates holds nothing else", position=place
                )
            expressions.append({"$or": [_compared(name, "$eq", item) for item in operand]})
        elif operator == "$regex" and isinstance(operand, re.Pattern):
            rest |= {"$regex": operand.pattern, "$options": value.get("$options", _options(operand))}
        else:
            rest.setdefault(operator, _plain(operand, f"{place}[{operator!r}]"))
    return rest or None


def _compared(name: str, operator: str, value: Any) -> dict[str, Any]:
    kind = _kind(value)
    assert kind is not None
    made = {_MADE_OF[kind]: value.isoformat() if kind == "date" else str(value)}
    # An expression compares across types, a filter doesn't: the type is asked for as well.
    return {name: {"$type": kind}, "$expr": {operator: [f"${name}", made]}}


def plain_expression(value: Any, place: str = "pipeline") -> Any:
    """Turn an expression, or the stages of a pipeline, into plain JSON values."""
    kind = _kind(value)
    if kind is not None:
        return {_MADE_OF[kind]: value.isoformat() if kind == "date" else str(value)}
    if isinstance(value, dict):
        return {
            name: plain_filter(item, f"{place}['$match']")
            if name == "$match" and isinstance(item, dict)
            else plain_expression(item, f"{place}[{name!r}]")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [plain_expression(item, f"{place}[{index}]") for index, item in enumerate(value)]
    return _plain(value, place)


def _plain(value: Any, place: str) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item, f"{place}[{name!r}]") for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, re.Pattern):
        return {"$regex": value.pattern, "$options": _options(value)}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise FilterError(
        f"{place}: a {type(value).__name__} can't be asked for here: Kowalski takes plain JSON, and dates and ids only "
        "in comparisons of a field ($eq, $in, $gt, $gte, $lt, $lte)",
        position=place,
    )


def _kind(value: Any) -> str | None:
    if isinstance(value, datetime):
        return "date"
    return "objectId" if type(value).__name__ == "ObjectId" else None


def _options(pattern: re.Pattern[str]) -> str:
    return "".join(letter for letter in "imsx" if pattern.flags & getattr(re, letter.upper()))
