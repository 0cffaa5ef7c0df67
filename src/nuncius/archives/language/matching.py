"""What filters mean: whether a document meets one.

Source: the MongoDB manual, "Query and Projection Operators".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from nuncius.archives.language.expressions import evaluate
from nuncius.archives.language.functions.arithmetic import whole_remainder
from nuncius.archives.language.functions.base import truthy
from nuncius.archives.language.geo import RegionCondition, geo_region, lies_within
from nuncius.archives.language.patterns import compile_pattern
from nuncius.archives.language.values import (
    MISSING,
    Alone,
    OneOf,
    comparable,
    compare,
    each,
    equal,
    found,
    is_nan,
    is_number,
    order_key,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# What stands at the path, the operand, and the condition that it is part of.
Test: TypeAlias = "Callable[[list[Any], Any, Mapping[str, Any]], bool]"

EXACT_TYPES: dict[str, type] = {"double": float, "int": int, "long": int}
LOGICAL = frozenset({"$and", "$or", "$nor"})
_NUMBERS = frozenset({int, float})
_SIMPLE = frozenset({int, float, str})


def matches(
    document: Mapping[str, Any], condition: Mapping[str, Any], variables: Mapping[str, Any] | None = None
) -> bool:
    """Tell whether a document meets a checked filter.

    Parameters
    ----------
    document : mapping
        The document.
    condition : mapping
        A filter that `check_filter` returned.
    variables : mapping, optional
        Values of variables for `$expr`.

    Raises
    ------
    FilterError
        If an expression in `$expr` can't work on a value of the document.

    Examples
    --------
    >>> matches({"a": [1, 9]}, {"a": {"$gt": 5}})
    True
    """
    for key, value in condition.items():
        if key == "$and":
            if not all(matches(document, part, variables) for part in value):
                return False
        elif key in LOGICAL:
            if any(matches(document, part, variables) for part in value) is (key == "$nor"):
                return False
        elif key == "$expr":
            if not truthy(evaluate(value, document, variables)):
                return False
        elif value.__class__ is str and "." not in key and document.get(key) == value:
            pass  # the commonest of all questions, without the detours of the others
        elif not meets(found(document, _names(key)), value):
            return False
    return True


@lru_cache(maxsize=1024)
def _names(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def meets(values: list[Any], condition: Any) -> bool:
    """Tell whether what stands at a path meets a condition."""
    # What is checked has either operators alone or none.
    if isinstance(condition, Mapping) and next(iter(condition), "").startswith("$"):
        return all(TESTS[operator](values, operand, condition) for operator, operand in condition.items())
    if isinstance(condition, re.Pattern):
        return _regex(values, condition, {})
    return _equals_any(values, condition)


def _equals_any(values: list[Any], wanted: Any) -> bool:
    if wanted is None:
        return any(value is MISSING or value is None for value in each(values))
    return any(equal(value, wanted) for value in each(values))


def _is_one_of(values: list[Any], wanted: list[Any]) -> bool:
    wanted = wanted if isinstance(wanted, OneOf) else OneOf(wanted)
    return any(order_key(value) in wanted.keys for value in each(values)) or any(
        _regex(values, pattern, {}) for pattern in wanted.patterns
    )


def _compares(test: Callable[[int], bool]) -> Test:
    def check(values: list[Any], operand: Any, _: Mapping[str, Any]) -> bool:
        if operand is None:  # only equality is left of a comparison with null
            return test(0) and _equals_any(values, None)
        if is_nan(operand):
            return test(0) and _equals_any(values, operand)
        orders = (_order(value, operand) for value in each(values))
        return any(order is not None and test(order) for order in orders)

    return check


def _order(value: Any, operand: Any) -> int | None:
    """Compare two values of one type; None where there is nothing to compare."""
    kind = value.__class__
    if (kind is operand.__class__ and kind in _SIMPLE) or (
        kind in _NUMBERS and operand.__class__ in _NUMBERS
    ):
        return None if value != value else (value > operand) - (value < operand)  # noqa: PLR0124 - NaN
    left, right = comparable(value, operand)
    return None if is_nan(value) or type_of(left) != type_of(right) else compare(left, right)


def _regex(values: list[Any], pattern: Any, condition: Mapping[str, Any]) -> bool:
    compiled = compile_pattern(pattern, condition.get("$options", ""), "$regex")
    return any(isinstance(value, str) and compiled.search(value) is not None for value in each(values))


def _has_type(values: list[Any], names: list[str], _: Mapping[str, Any]) -> bool:
    def is_a(value: Any, name: str) -> bool:
        exact = EXACT_TYPES.get(name)
        if exact is not None:
            return isinstance(value, exact) and not isinstance(value, bool)
        return value is not MISSING and type_of(value) == name

    return any(is_a(value, name) for value in each(values) for name in names)


def _has_all(values: list[Any], wanted: list[Any], _: Mapping[str, Any]) -> bool:
    return bool(wanted) and all(meets(values, item) for item in wanted)


def meets_element(item: Any, condition: Mapping[str, Any]) -> bool:
    """Tell whether an element of an array meets a condition of `$elemMatch`."""
    if all(key.startswith("$") and key not in LOGICAL for key in condition):
        return meets(Alone([item]), condition)
    return isinstance(item, Mapping) and matches(item, condition)


def _element(values: list[Any], condition: Any, _: Mapping[str, Any]) -> bool:
    return any(
        meets_element(item, condition) for value in values if isinstance(value, list) for item in value
    )


def _modulo(values: list[Any], operand: list[Any], _: Mapping[str, Any]) -> bool:
    divisor, remainder = operand
    return any(
        is_number(value) and math.isfinite(value) and whole_remainder(math.trunc(value), divisor) == remainder
        for value in each(values)
    )


def _bits(test: Callable[[int, int], bool]) -> Test:
    def check(values: list[Any], mask: int, _: Mapping[str, Any]) -> bool:
        numbers = (_bits_of(value) for value in each(values))
        return any(bits is not None and test(bits, mask) for bits in numbers)

    return check


def _bits_of(value: Any) -> int | None:
    """Return a value as bits: a negative number has all the higher ones set."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little")
    if is_number(value) and math.isfinite(value) and value == int(value) and -(2**63) <= value < 2**63:
        return int(value)
    return None


def _region(operator: str) -> Test:
    def check(values: list[Any], operand: Any, condition: Mapping[str, Any]) -> bool:
        made = (
            condition.region(operator)
            if isinstance(condition, RegionCondition)
            else geo_region(operator, operand)
        )
        return lies_within(values, made)

    return check


TESTS: dict[str, Test] = {
    "$eq": lambda values, operand, _: _equals_any(values, operand),
    "$ne": lambda values, operand, _: not _equals_any(values, operand),
    "$gt": _compares(lambda order: order > 0),
    "$gte": _compares(lambda order: order >= 0),
    "$lt": _compares(lambda order: order < 0),
    "$lte": _compares(lambda order: order <= 0),
    "$in": lambda values, operand, _: _is_one_of(values, operand),
    "$nin": lambda values, operand, _: not _is_one_of(values, operand),
    "$not": lambda values, operand, _: not meets(values, operand),
    "$exists": lambda values, operand, _: any(value is not MISSING for value in values) == bool(operand),
    "$type": _has_type,
    "$regex": _regex,
    "$options": lambda values, operand, _: True,  # noqa: ARG005 - read together with $regex
    "$mod": _modulo,
    "$bitsAllSet": _bits(lambda bits, mask: bits & mask == mask),
    "$bitsAllClear": _bits(lambda bits, mask: bits & mask == 0),
    "$bitsAnySet": _bits(lambda bits, mask: bits & mask != 0),
    "$bitsAnyClear": _bits(lambda bits, mask: bits & mask != mask),
    "$size": lambda values, operand, _: any(
        isinstance(value, list) and len(value) == operand for value in values
    ),
    "$all": _has_all,
    "$elemMatch": _element,
    "$geoWithin": _region("$geoWithin"),
    "$geoIntersects": _region("$geoIntersects"),
    "$nearSphere": _region("$nearSphere"),
    "$near": _region("$near"),
}
