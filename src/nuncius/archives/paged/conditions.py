"""What a checked filter asks of a field in any case: the values and the bounds that a server can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def equalities(condition: Mapping[str, Any], path: str) -> list[Any] | None:
    """Return the values of which a document must have one at a path to meet a checked filter; None if it may have any.

    Examples
    --------
    >>> equalities({"$and": [{"a": {"$in": [1, 2]}}], "b": 3}, "a")
    [1, 2]
    """
    for wanted in _conditions(condition, path):
        if isinstance(wanted, (str, int, float)):
            return [wanted]
        if isinstance(wanted, dict):
            if isinstance(wanted.get("$eq"), (str, int, float)):
                return [wanted["$eq"]]
            values = wanted.get("$in")
            if isinstance(values, list) and all(isinstance(value, (str, int, float)) for value in values):
                return list(values)
    return None


def interval(condition: Mapping[str, Any], path: str) -> tuple[float | None, float | None]:
    """Return the bounds, both inclusive, of the numbers that a document may have at a path to meet a checked filter.

    Examples
    --------
    >>> interval({"a": {"$gt": 1, "$lte": 5}, "$and": [{"a": {"$lt": 4}}]}, "a")
    (1, 4)
    """
    lows: list[float] = []
    highs: list[float] = []
    for wanted in _conditions(condition, path):
        operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
        for names, bounds in ((("$gt", "$gte", "$eq"), lows), (("$lt", "$lte", "$eq"), highs)):
            bounds += [operators[name] for name in names if is_finite_number(operators.get(name))]
    return max(lows, default=None), min(highs, default=None)


def is_finite_number(value: Any) -> bool:
    """Tell whether a value is a number that JSON can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _conditions(condition: Mapping[str, Any], path: str) -> Iterable[Any]:
    """Give what a filter asks of a path in any case."""
    for key, wanted in condition.items():
        if key == path:
            yield wanted
        elif key == "$and":
            for inner in wanted:
                yield from _conditions(inner, path)
