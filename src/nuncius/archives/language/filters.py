"""Filters: which documents are wanted.

A filter is checked when it is given, so that a misspelt operator is an error that points at the place, and not an
empty answer. `matches` is the meaning of a filter; whatever an archive does with an index must agree with it.

Source: the MongoDB manual, "Query and Projection Operators", and its comparison order of types.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nuncius.archives.language.values import (
    MISSING,
    TYPE_ORDER,
    Alone,
    check_depth,
    check_path,
    comparable,
    compare,
    each,
    equal,
    found,
    has_operators,
    is_nan,
    is_number,
    kind_of,
    plain,
    type_of,
    unknown,
)
from nuncius.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPE_ALIASES = {"double": float, "int": int, "long": int}


# Checking ------------------------------------------------------------------------------------------------------------


def check_filter(condition: Any, place: str = "filter") -> dict[str, Any]:
    """Check a filter and return it with plain Python values in it.

    Raises
    ------
    FilterError
        If it is no filter; `position` is the place in it.
    """
    check_depth(condition, place)
    return _check_filter(condition, place)


def _check_filter(condition: Any, place: str) -> dict[str, Any]:
    if condition is None:
        return {}
    if not isinstance(condition, Mapping):
        raise FilterError(
            f"{place} is a mapping such as {{'objectId': 'ZTF18abc'}}, not {kind_of(condition)}",
            position=place,
        )
    checked: dict[str, Any] = {}
    for key, value in condition.items():
        where = f"{place}[{key!r}]"
        if not isinstance(key, str):
            raise FilterError(f"{where}: a field name is a text", position=where)
        if key in _LOGICAL:
            if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
                raise FilterError(f"{where}: {key} takes a list of at least one filter", position=where)
            if any(part is None for part in value):
                raise FilterError(f"{where}: {key} takes a list of filters, not None", position=where)
            checked[key] = [_check_filter(part, f"{where}[{index}]") for index, part in enumerate(value)]
        elif key.startswith("$"):
            raise unknown(key, where, [*_LOGICAL], "stands where a field name belongs")
        else:
            checked[check_path(key, where)] = _check_condition(value, where)
    return checked


def _check_condition(value: Any, place: str) -> Any:
    if not has_operators(value):
        return plain(value, place)
    checked = {}
    for operator, operand in value.items():
        where = f"{place}[{operator!r}]"
        if operator not in _OPERATORS:
            raise unknown(str(operator), where, [*_OPERATORS], "is no operator")
        checked[operator] = _CHECKS.get(operator, plain)(operand, where)
    if "$options" in checked and "$regex" not in checked:
        raise FilterError(f"{place}: $options belongs to $regex, which is missing", position=place)
    if "$regex" in checked:
        _compile(checked["$regex"], checked.get("$options", ""), place)
    return checked


def _check_list(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not isinstance(value, list):
        name = place.rpartition("['")[2].removesuffix("']")
        raise FilterError(f"{place}: {name} takes a list, not {kind_of(value)}", position=place)
    return value


def _check_values(value: Any, place: str) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if has_operators(item):
            where = f"{place}[{index}]"
            raise FilterError(f"{where}: operators can't stand in this list", position=where)
    return values


def _check_all(value: Any, place: str) -> list[Any]:
    values = _check_list(value, place)
    for index, item in enumerate(values):
        if has_operators(item):
            where = f"{place}[{index}]"
            if list(item) != ["$elemMatch"]:
                raise FilterError(f"{where}: the only operator in this list is $elemMatch", position=where)
            values[index] = _check_condition(item, where)
    return values


def _check_count(value: Any, place: str) -> int:
    value = plain(value, place)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FilterError(f"{place} takes a whole number, not {value!r}", position=place)
    return value


def _check_mod(value: Any, place: str) -> list[Any]:
    value = plain(value, place)
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(is_number(v) and math.isfinite(v) for v in value)
        and math.trunc(value[0])
    ):
        raise FilterError(f"{place} takes [divisor, remainder] with a divisor other than 0", position=place)
    return [math.trunc(v) for v in value]


def _check_text(value: Any, place: str) -> Any:
    if not isinstance(value, str):
        raise FilterError(f"{place} takes a text, not {kind_of(value)}", position=place)
    return value


def _check_expression(value: Any, place: str) -> Any:
    return plain(value, place) if isinstance(value, re.Pattern) else _check_text(value, place)


def _check_types(value: Any, place: str) -> list[str]:
    names = list(value) if isinstance(value, (list, tuple)) else [value]
    known = {*TYPE_ORDER, *_TYPE_ALIASES}
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise unknown(str(name), place, sorted(known), "is no type")
    return names


def _check_element(value: Any, place: str) -> Any:
    if not isinstance(value, Mapping) or not value:
        raise FilterError(f"{place} takes a filter, not {kind_of(value)}", position=place)
    if all(str(key).startswith("$") and key not in _LOGICAL for key in value):
        return _check_condition(value, place)
    return _check_filter(value, place)


def _check_not(value: Any, place: str) -> Any:
    if isinstance(value, re.Pattern):
        return value
    if not isinstance(value, Mapping) or not value or not all(str(key).startswith("$") for key in value):
        raise FilterError(
            f"{place} takes operators such as {{'$gt': 5}}; for a value use $ne", position=place
        )
    return _check_condition(value, place)


# Meaning -------------------------------------------------------------------------------------------------------------


def matches(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Tell whether a document meets a checked filter."""
    for key, value in condition.items():
        if key in _LOGICAL:
            if not _LOGICAL[key](document, value):
                return False
        elif value.__class__ is str and document.get(key) == value:
            pass  # the commonest of all questions, without the detours of the others
        elif not _meets(found(document, key.split(".")), value):
            return False
    return True


_LOGICAL: dict[str, Callable[[Any, Any], bool]] = {
    "$and": lambda document, parts: all(matches(document, part) for part in parts),
    "$or": lambda document, parts: any(matches(document, part) for part in parts),
    "$nor": lambda document, parts: not any(matches(document, part) for part in parts),
}


def _meets(values: list[Any], condition: Any) -> bool:
    if has_operators(condition):
        return all(
            _OPERATORS[operator](values, operand) if operator != "$regex"
            else _regex(values, operand, condition.get("$options", ""))
            for operator, operand in condition.items()
        )  # fmt: skip
    if isinstance(condition, re.Pattern):
        return _regex(values, condition, "")
    return _equals_any(values, condition)


def _equals_any(values: list[Any], wanted: Any) -> bool:
    if wanted is None:
        return any(value is MISSING or value is None for value in each(values))
    return any(equal(value, wanted) for value in each(values))


def _compares(test: Callable[[int], bool]) -> Callable[[list[Any], Any], bool]:
    def check(values: list[Any], operand: Any) -> bool:
        if operand is None:  # only equality is left of a comparison with null
            return test(0) and _equals_any(values, None)
        if is_nan(operand):
            return test(0) and _equals_any(values, operand)
        return any(
            not is_nan(value) and _of_one_type(value, operand) and test(compare(value, operand))
            for value in each(values)
        )

    return check


def _of_one_type(value: Any, operand: Any) -> bool:
    left, right = comparable(value, operand)
    return type_of(left) == type_of(right)


def _regex(values: list[Any], pattern: Any, options: str) -> bool:
    compiled = _compile(pattern, options, "$regex")
    return any(isinstance(value, str) and compiled.search(value) is not None for value in each(values))


def _compile(pattern: Any, options: str, place: str) -> re.Pattern[str]:
    flags = 0
    for letter in options:
        if letter not in "imsx":
            raise FilterError(
                f"{place}: the $options of $regex are i, m, s and x, not {letter!r}", position=place
            )
        flags |= getattr(re, letter.upper())
    if isinstance(pattern, re.Pattern):
        return re.compile(pattern.pattern, pattern.flags | flags) if flags else pattern
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise FilterError(
            f"{place}: {pattern!r} is no regular expression: {error}", position=place
        ) from error


def _has_type(values: list[Any], names: list[str]) -> bool:
    def is_a(value: Any, name: str) -> bool:
        if value is MISSING:
            return False
        exact = _TYPE_ALIASES.get(name)
        return type(value) is exact if exact else type_of(value) == name

    return any(is_a(value, name) for value in each(values) for name in names)


def _has_all(values: list[Any], wanted: list[Any]) -> bool:
    return bool(wanted) and all(_meets(values, item) for item in wanted)


def _element(values: list[Any], condition: Any) -> bool:
    bare = all(key.startswith("$") and key not in _LOGICAL for key in condition)
    return any(
        _meets(Alone([item]), condition) if bare else isinstance(item, Mapping) and matches(item, condition)
        for value in values
        if isinstance(value, list)
        for item in value
    )


def _modulo(values: list[Any], operand: list[Any]) -> bool:
    divisor, remainder = operand
    return any(
        is_number(value) and math.isfinite(value) and whole_remainder(math.trunc(value), divisor) == remainder
        for value in each(values)
    )


def whole_remainder(value: int, divisor: int) -> int:
    """Return the remainder with the sign of the value; math.fmod would round an id with 19 digits."""
    rest = abs(value) % abs(divisor)
    return -rest if value < 0 else rest


_OPERATORS: dict[str, Callable[[list[Any], Any], bool]] = {
    "$eq": _equals_any,
    "$ne": lambda values, operand: not _equals_any(values, operand),
    "$gt": _compares(lambda order: order > 0),
    "$gte": _compares(lambda order: order >= 0),
    "$lt": _compares(lambda order: order < 0),
    "$lte": _compares(lambda order: order <= 0),
    "$in": lambda values, operand: any(_meets(values, item) for item in operand),
    "$nin": lambda values, operand: not any(_meets(values, item) for item in operand),
    "$exists": lambda values, operand: any(value is not MISSING for value in values) == bool(operand),
    "$type": _has_type,
    "$regex": lambda values, operand: _regex(values, operand, ""),
    "$options": lambda values, operand: True,  # noqa: ARG005 - read together with $regex
    "$size": lambda values, operand: any(
        isinstance(value, list) and len(value) == operand for value in values
    ),
    "$all": _has_all,
    "$elemMatch": _element,
    "$mod": _modulo,
    "$not": lambda values, operand: not _meets(values, operand),
}
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "$in": _check_values,
    "$nin": _check_values,
    "$all": _check_all,
    "$size": _check_count,
    "$mod": _check_mod,
    "$regex": _check_expression,
    "$options": _check_text,
    "$type": _check_types,
    "$elemMatch": _check_element,
    "$not": _check_not,
}
